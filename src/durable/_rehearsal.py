"""A run replayed without its file: how far code and journal agree, with no step run and nothing written.

The body is executed as on any replay, by the same drivers. Only the end is another: where a decision wants to do what
the journal does not have, the operation stops for good. A thread of a sync run ends there. In an async run only that
task does: the others go on, until all outcomes were delivered and every task waits. Then it is known whether the code
has called everything that the journal has.
"""

import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, NoReturn

from ._active import ENGINE, Declaration
from ._clock import SYSTEM_CLOCK
from ._effects import Append, Call, Conclude, Cut, Decision, Deliver, End, Slot
from ._execution import SCOPE, Execution
from ._helpers import run_in_helper
from ._identity import Registry
from ._limits import Limits
from ._model import RunRecord, StepRecord
from ._outcome import raised, returned
from ._replay import describe, place
from .errors import DurableError, EngineClosedError, Halt, JournalError, RunBlockedError, SerializationError

if TYPE_CHECKING:
    import asyncio

    from ._journal import Journal

_QUIET_TURNS: Final = 8
"""Loop turns in which every task waits, after which nothing is on its way any more."""
_LATER_SECONDS: Final = 0.02
"""When a run is looked at again whose tasks wait for what is not known here."""


class Verdict(NamedTuple):
    """What would become of a run. `why` says it for all but those that go on."""

    is_what: Literal["goes on", "would block", "unclear"]
    why: str = ""


GOES_ON: Final = Verdict("goes on")


class JournalEndsError(DurableError):
    """Takes a rehearsal down: the journal has nothing more."""


class _ThreadEnds(BaseException):
    """The journal has nothing more for a step that would run beside the body, which goes on."""


def rehearse(
    journal: "Journal", registry: Registry, workflow: Declaration, record: RunRecord, timeout_seconds: float
) -> Verdict:
    """What would become of a run if it went on with the code that is declared now. Reads the journal, and no more.

    The body runs, in a thread of its own, and so does whatever it does besides calling operations. After
    `timeout_seconds` it is given up.
    """
    past = journal.steps(record.seq)
    found: list[Verdict] = []
    over = threading.Event()
    rehearsal = _Rehearsal(journal, registry, workflow, record, past)

    def body() -> None:
        try:
            found.append(rehearsal.verdict())
        except BaseException as error:
            found.append(Verdict("unclear", f"the rehearsal itself failed: {type(error).__name__}: {error}"))
        finally:
            over.set()

    run_in_helper(body)
    if over.wait(timeout_seconds):
        return found[0]
    return rehearsal.give_up(timeout_seconds)


class _Rehearsal:
    """One run, replayed once."""

    def __init__(
        self, journal: "Journal", registry: Registry, workflow: Declaration, record: RunRecord, past: list[StepRecord]
    ) -> None:
        self._workflow = workflow
        self._engine: Any = _Engine(self, journal, registry)
        sealed: Any = _Sealed(journal)
        pool: Any = _Here(self)
        self.execution = Execution(sealed, SYSTEM_CLOCK, registry, record, past, 0, frozenset(), Limits(), pool)
        self.execution.rehearse = self._rehearse
        self.is_submitted = False
        """Whether what runs now would run on another thread."""
        self._parked: list[asyncio.Future[None]] = []
        self._look: Any = None

    def verdict(self) -> Verdict:
        """Replay the run, in this thread."""
        execution, signature = self.execution, self._workflow.signature
        execution.thread = threading.get_ident()
        try:
            inputs = signature.load_inputs(execution.record.input, f"workflow {self._workflow.name!r}")
            args, kwargs = signature.unbind(inputs)
        except SerializationError as error:
            return Verdict("would block", str(error))
        run = self._run_async if self._workflow.is_async else self._run
        scope, engine = SCOPE.set(execution.root), ENGINE.set(self._engine)
        try:
            value = run(args, kwargs)
        except _ThreadEnds:
            return self._at_the_end()
        except BaseException as error:
            ending = None if execution.halted else raised(execution, error)
        else:
            ending = None if execution.halted else returned(execution, value, signature.result)
        finally:
            SCOPE.reset(scope)
            ENGINE.reset(engine)
        if execution.halted is not None:
            return self._judged(execution.halted.error)
        return self._judged(ending.error) if ending is not None and ending.error is not None else GOES_ON

    def _judged(self, error: BaseException) -> Verdict:
        if isinstance(error, JournalEndsError):
            return self._at_the_end()
        if isinstance(error, RunBlockedError):
            return Verdict("would block", str(error))
        if isinstance(error, JournalError):
            return Verdict("unclear", str(error))
        return GOES_ON  # it completes, or fails, or was interrupted by its own code

    def _at_the_end(self) -> Verdict:
        """Code that has come to the end of the journal has called everything that is in it."""
        left = list(self.execution.past.values())
        if not left and not self._is_owed():
            return GOES_ON
        what = f"has not called {describe(left[0])} at {place(left[0])}" if left else "has not got all its outcomes"
        return Verdict("unclear", f"the code wants to go on with something else, and {what}, which the journal has")

    def give_up(self, seconds: float) -> Verdict:
        """The body does not come to an end: in a loop, or waiting for something outside."""
        if not self.execution.past and not self._is_owed():
            return GOES_ON  # it is beyond the journal
        verdict = self._at_the_end()
        self.execution.halt(JournalEndsError("it took too long"))
        return verdict._replace(why=f"the workflow's own code takes longer than {seconds:g} s: --timeout gives it more")

    def _is_owed(self) -> bool:
        branches = self.execution.branches
        return branches is not None and bool(branches.past)

    # -- at an operation ----------------------------------------------------------------------------------------------

    def _rehearse(self, call: Call, decision: Decision) -> Decision:
        self.execution.replaying = True  # `durable.logger` is silent to the end
        return self._rehearsed(call, decision)

    def _rehearsed(self, call: Call, decision: Decision) -> Decision:
        """A decision, of which only what the journal has is performed, and what is written is not."""
        try:
            effect = next(decision)
            while isinstance(effect, (Append, Deliver, Slot)):
                effect = decision.send((yield effect) if isinstance(effect, Deliver) else None)
            branch = call.branch
            cut: Cut = yield End(lambda: self._stop(branch), self._park)
            yield effect if isinstance(effect, Conclude) else decision.send(cut)
        except StopIteration as done:
            return done.value
        finally:
            decision.close()

    def _stop(self, branch: str) -> NoReturn:
        """The end, for an operation that blocks."""
        branches = self.execution.branches
        if branches is not None and not branches.is_here():
            branches.threads.wait(branch, self._park, goes_on=False)
        elif self.is_submitted:
            raise _ThreadEnds
        raise self.end()

    def end(self) -> Halt:
        """Take the run down: nothing more is to be learned."""
        return self.execution.halt(JournalEndsError("the journal has nothing more"))

    # -- tasks --------------------------------------------------------------------------------------------------------

    async def _park(self) -> None:
        """The end, for an operation that is awaited: its task waits for ever, and the others go on."""
        branches = self.execution.branches
        assert branches is not None
        await branches.past.end()
        future = branches.loop.create_future()
        self._parked.append(future)
        if self._look is None:
            self._look = branches.loop.call_soon(self._look_again, 0)
        await future

    def _look_again(self, quiet_turns: int) -> None:
        """End the run when every task of it waits, and what the journal has was called; or can be called no more."""
        from ._waiting import waits, waits_on_known

        branches = self.execution.branches
        assert branches is not None
        if self.execution.halted is not None:
            self._release()
            return
        tasks = [*branches.tasks, *([branches.root] if branches.root is not None else [])]
        quiet_turns = quiet_turns + 1 if all(map(waits, tasks)) else 0
        soon = True
        if quiet_turns >= _QUIET_TURNS:
            called_all = not self.execution.past and not self._is_owed()
            known = {id(future) for future in self._parked if not future.done()}
            if called_all or all(waits_on_known(task, known, branches.tasks) for task in tasks):
                self.end()
                self._release()
                return
            soon = False
        again = branches.loop.call_soon if soon else (lambda *args: branches.loop.call_later(_LATER_SECONDS, *args))
        self._look = again(self._look_again, quiet_turns)

    def _release(self) -> None:
        """Threads of the run wait for a future here: they look whether the run was taken down."""
        for future in self._parked:
            if not future.done():
                future.set_result(None)

    # -- the body -----------------------------------------------------------------------------------------------------

    def _run(self, args: Any, kwargs: Any) -> Any:
        return self._workflow.function(*args, **kwargs)

    def _run_async(self, args: Any, kwargs: Any) -> Any:
        import asyncio

        from ._drive_async import run_body
        from ._port import LoopPort

        async def main() -> Any:
            port = LoopPort(asyncio.get_running_loop(), self.execution.journal.commits)
            return await run_body(self.execution, self._workflow.function, args, kwargs, port)

        return asyncio.run(main())


# -- what stands in for the engine ------------------------------------------------------------------------------------


class _Sealed:
    """A journal that takes nothing."""

    epoch = 0
    synced = 0

    def __init__(self, journal: "Journal") -> None:
        self.path = journal.path
        self.steps = journal.steps
        self.commits = self

    def submit(self, *_: Any) -> NoReturn:
        """Refuse to write."""
        msg = f"{self.path} is only read by a rehearsal"
        raise EngineClosedError(msg)

    write = write_if_idle = submit


class _Here:
    """The threads for steps that are submitted: each is replayed at once, in this one."""

    def __init__(self, rehearsal: _Rehearsal) -> None:
        self._rehearsal = rehearsal

    def submit(self, job: Callable[[], None], **_: Any) -> None:
        """Replay a step."""
        self._rehearsal.is_submitted = True
        try:
            job()
        finally:
            self._rehearsal.is_submitted = False


class _Engine:
    """The engine of the body, its runtime and its scheduler: runs can be read. Whatever else is wanted is the end."""

    def __init__(self, rehearsal: _Rehearsal, journal: "Journal", registry: Registry) -> None:
        self._rehearsal = rehearsal
        self._runtime = self._scheduler = self.runtime = self.watchers = self
        self.journal = journal
        self.path = journal.path
        self.registry = registry
        self.clock = SYSTEM_CLOCK
        self.active: dict[str, Any] = {}

    def waiting(self, *_: Any) -> Any:
        """While a result is looked for, which is there or is not."""
        return nullcontext()

    watching = waiting

    def get(self, run_id: str) -> Any:
        """The run of an id."""
        from .run import Run, not_found

        if self.journal.run(run_id) is None:
            raise not_found(run_id, self.path)
        return Run(self, run_id)  # type: ignore[arg-type]

    def __getattr__(self, _: str) -> Any:
        raise self._rehearsal.end()

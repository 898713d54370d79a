"""Runs replayed without their file: how far code and journal agree, with no step run and nothing written.

The body is executed as on any replay, by the same drivers. Only the end is another: where a decision wants to do what
the journal does not have, the operation stops for good. A thread of a sync run ends there. In an async run only that
task does: the others go on, until all outcomes were delivered and every task waits. Then it is known whether the code
has called everything that the journal has.
"""

import threading
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, NoReturn

from ._active import ENGINE, Declaration
from ._clock import SYSTEM_CLOCK
from ._codec import load_error
from ._effects import CUT, Append, Call, Conclude, Cut, Decision, Deliver, End, Slot
from ._execution import Execution
from ._identity import Registry
from ._limits import Limits
from ._model import FINISHED, MAXIMUM_CRASHES, RunRecord, StepRecord
from ._outcome import raised, returned
from ._replay import describe, place
from ._scopes import SCOPE
from ._stand_ins import EngineStandIn, Here, Sealed, ThreadEnds
from ._thread_pool import run_in_helper
from ._watching import Watchers
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


class Rehearsals:
    """The unfinished runs of a journal, each replayed with the code that is declared now; see `of`."""

    def __init__(self, journal: "Journal", registry: Registry, timeout_seconds: float) -> None:
        self.journal = journal
        self.registry = registry
        self._timeout_seconds = timeout_seconds
        self._known: dict[str, Verdict] = {}

    def of(self, record: RunRecord) -> Verdict:
        """What would become of a run if it went on. Reads the journal, and no more.

        The body runs, in a thread of its own, and so does whatever it does besides calling operations. After
        `timeout_seconds` it is given up.
        """
        if record.id in self._known:
            return self._known[record.id]
        rehearsal = _Rehearsal(self, self.registry.workflows[record.workflow], record, frozenset())
        over = threading.Event()
        found: list[Verdict] = []

        def body() -> None:
            try:
                found.append(rehearsal.verdict())
            except BaseException as error:
                found.append(Verdict("unclear", f"the rehearsal itself failed: {type(error).__name__}: {error}"))
            finally:
                over.set()

        run_in_helper(body)
        verdict = found[0] if over.wait(self._timeout_seconds) else rehearsal.give_up(self._timeout_seconds)
        return self._known.setdefault(record.id, verdict)

    def what_stops(self, run_id: str, ancestors: frozenset[str]) -> str | None:
        """Why a run would not come to its end, for another one that may wait for it; `None` where it would."""
        record = self.journal.run(run_id)
        if record is None or record.status in FINISHED or run_id in ancestors:
            return None
        workflow = self.registry.workflows.get(record.workflow)
        if workflow is None:
            return "is of a workflow that is not declared"
        verdict = self._known.get(run_id)
        if verdict is None:
            verdict = self._known[run_id] = _Rehearsal(self, workflow, record, ancestors).verdict()
        return None if verdict.is_what == "goes on" else f"{verdict.is_what}: {verdict.why}"


class _Awaited(NamedTuple):
    """A run that another one waits for."""

    run_id: str
    task: "asyncio.Task[Any] | None"
    """What waits, in an async run."""
    cancels: int
    """How often that had been cancelled before."""


class _Rehearsal:
    """One run, replayed once."""

    def __init__(
        self, rehearsals: Rehearsals, workflow: Declaration, record: RunRecord, ancestors: frozenset[str]
    ) -> None:
        self._rehearsals = rehearsals
        self._workflow = workflow
        journal, registry = rehearsals.journal, rehearsals.registry
        sealed: Any = Sealed(journal)
        pool: Any = Here(self)
        past = journal.steps(record.seq)
        self.execution = Execution(sealed, SYSTEM_CLOCK, registry, record, past, 0, Watchers(), Limits(), pool)
        self.execution.rehearse = self._rehearse
        self.ancestors = ancestors | {record.id}
        """The runs that are rehearsed since one waits for the next, up to this one."""
        self._cuts = [step for step in past if step.error == CUT]
        self._engine = EngineStandIn(self, journal)
        self._is_cancelled = bool(journal.messages(record.seq, "cancel", ""))
        is_late = record.deadline is not None and record.deadline <= SYSTEM_CLOCK.now()
        self._is_to_be_told = self._is_cancelled or is_late
        if not workflow.is_async:  # it is told at the first operation that has no outcome, which is its end here
            self.execution.cancel.requested = self._is_to_be_told
        self.is_submitted = False
        """Whether what runs now would run on another thread."""
        self._awaited: list[_Awaited] = []
        """The runs that this one waits for."""
        self.stopped_at = ""
        """The run whose end was waited for where this one stopped."""
        self._ends: dict[asyncio.Task[Any], str] = {}
        """What waits for the end of another run, and for nothing else: with the run's id."""
        self._parked: list[asyncio.Future[None]] = []
        self._look: Any = None

    def verdict(self) -> Verdict:
        """Replay the run, in this thread."""
        execution, signature = self.execution, self._workflow.signature
        record = execution.record
        if record.status == "queued" and self._is_cancelled:
            return GOES_ON  # to its end, without its body
        if record.status == "blocked" and record.crashes >= MAXIMUM_CRASHES:
            return Verdict("would block", str(load_error(record.error or "null")))
        execution.thread = threading.get_ident()
        try:
            inputs = signature.load_inputs(record.input, f"workflow {self._workflow.name!r}")
            args, kwargs = signature.unbind(inputs)
        except SerializationError as error:
            return Verdict("would block", str(error))
        run = self._run_async if self._workflow.is_async else self._run
        scope, engine = SCOPE.set(execution.root), ENGINE.set(self._engine)
        try:
            value = run(args, kwargs)
        except ThreadEnds:
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
        if isinstance(error, (JournalEndsError, EngineClosedError)):
            return self._at_the_end()
        if isinstance(error, RunBlockedError) and self.stopped_at:
            return Verdict("unclear", f"unless run {self.stopped_at!r} ends first: {error}")
        if isinstance(error, (RunBlockedError, JournalError)):
            return Verdict("would block", str(error))
        return GOES_ON  # it completes, or fails, or was interrupted by its own code

    def _at_the_end(self) -> Verdict:
        """Code that has come to the end of the journal has called everything that is in it."""
        left = list(self.execution.past.values()) or [cut for cut in self._cuts if self._owes(cut)]
        if not left:
            return self._with_others()
        what = f"{describe(left[0])} at {place(left[0])}"
        what = f"has not cut {what} again" if left[0] in self._cuts else f"has not called {what}"
        awaited = next(iter(self._ends.values()), self.stopped_at)
        then = f"waits for run {awaited!r}" if awaited else "wants to go on with something else"
        return Verdict("unclear", f"the code {then}, and {what}, which the journal has")

    def _with_others(self) -> Verdict:
        """What stops a run that this one waits for stops this one too."""
        for run_id in [awaited.run_id for awaited in self._awaited]:
            if why := self._rehearsals.what_stops(run_id, self.ancestors):
                return Verdict("would block", f"it waits for run {run_id!r}, which {why}")
        for child in self._rehearsals.journal.children(self.execution.record.seq) if not self._is_cancelled else ():
            if why := self._rehearsals.what_stops(child.id, self.ancestors):
                return Verdict("unclear", f"if it waits for run {child.id!r}, it stops with that one, which {why}")
        return GOES_ON

    def _is_given_up(self, awaited: _Awaited) -> bool:
        """Whether its task was, or is to be, cancelled while it waits."""
        is_untold = self._is_to_be_told and not self.execution.cancel.delivered
        return awaited.task is not None and (is_untold or awaited.task.cancelling() > awaited.cancels)

    def give_up(self, seconds: float) -> Verdict:
        """The body does not come to an end: in a loop, or waiting for something outside."""
        if not self.execution.past and not self._is_owed():
            return GOES_ON  # it is beyond the journal
        self.execution.halt(JournalEndsError("it took too long"))
        return Verdict("unclear", f"the workflow's own code takes longer than {seconds:g} s: --timeout gives it more")

    def _owes(self, step: StepRecord) -> bool:
        """Whether what has begun to wait for the turn of this has not got it."""
        branches = self.execution.branches
        return branches is not None and branches.past.owes(step)

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
                if isinstance(effect, Append) and effect.record.turn is not None:
                    self._require_called(call)
                effect = decision.send((yield effect) if isinstance(effect, Deliver) else None)
            if call.callee.kind == "child" and not isinstance(effect, Conclude):
                self._await(call.args[0].run_id)
            cut: Cut = yield End(lambda: self._stop(call), self._park)
            yield effect if isinstance(effect, Conclude) else decision.send(cut)
        except StopIteration as done:
            return done.value
        finally:
            decision.close()

    def _stop(self, call: Call) -> NoReturn:
        """The end, for an operation that blocks."""
        branches = self.execution.branches
        if branches is not None and not branches.is_here():
            branches.threads.wait(call.branch, self._park, goes_on=False)  # raises
        elif self.is_submitted:
            raise ThreadEnds
        self._require_called(call)
        raise self.end()

    def _require_called(self, call: Call) -> None:
        """What blocks the loop of an async run, and is new, comes after all outcomes that the journal has."""
        branches = self.execution.branches
        if branches is not None and branches.is_here():
            branches.past.require_called(call)

    def end(self) -> Halt:
        """Take the run down: nothing more is to be learned."""
        if self.execution.halted is None:  # after that all tasks are cancelled
            self._awaited = [awaited for awaited in self._awaited if not self._is_given_up(awaited)]
        return self.execution.halt(JournalEndsError("the journal has nothing more"))

    # -- tasks --------------------------------------------------------------------------------------------------------

    async def _park(self) -> NoReturn:
        """The end, for an operation that is awaited: its task waits for ever, and the others go on."""
        branches = self.execution.branches
        assert branches is not None
        await branches.past.end()
        future = branches.loop.create_future()
        self._parked.append(future)
        self._look_soon()
        await future
        raise self.end()  # released

    def wait_for(self, run_id: str) -> None:
        """The code waits for another run, which does not end here: its task waits for ever."""
        self._await(run_id)
        task = self._awaited[-1].task
        if task is None:
            raise self.end()
        self._ends[task] = run_id
        self._look_soon()

    def _await(self, run_id: str) -> None:
        branches = self.execution.branches
        task = None
        if branches is not None and branches.is_here():
            import asyncio

            task = asyncio.current_task()
        self._awaited.append(_Awaited(run_id, task, task.cancelling() if task is not None else 0))

    def _look_soon(self) -> None:
        branches = self.execution.branches
        if self._look is None and branches is not None:
            self._look = branches.loop.call_soon(self._look_again, 0)

    def _look_again(self, quiet_turns: int) -> None:
        """End the run when every task of it waits, and what the journal has was called; or can be called no more.

        One that is to be cancelled is told so then, since what it waits for no longer stops whom that cuts.
        """
        from ._task_inspection import awaited_by, waits

        branches = self.execution.branches
        assert branches is not None
        if self.execution.halted is not None:
            self._release()
            return
        tasks = [*branches.tasks, *([branches.root] if branches.root is not None else [])]
        quiet_turns = quiet_turns + 1 if all(map(waits, tasks)) else 0
        soon = True
        if quiet_turns >= _QUIET_TURNS:
            is_through = not self.execution.past and not self._is_owed()
            is_untold = self._is_to_be_told and not self.execution.cancel.delivered and branches.root is not None
            if is_through and is_untold:
                branches.telling.tell_now()
            elif (
                is_through
                or (self._ends and branches.is_stuck([awaited_by(task) for task in self._ends]))
                or branches.past.gives_way
            ):
                self.end()  # what follows when that run has ended, or is done again, is beyond the journal
                self._release()
                return
            soon, quiet_turns = False, 0  # that nothing can follow is found out as always
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

        from ._port import LoopPort
        from ._run_task import run_body

        async def main() -> Any:
            port = LoopPort(asyncio.get_running_loop(), self.execution.journal.commits)
            return await run_body(self.execution, self._workflow.function, args, kwargs, port)

        return asyncio.run(main())

"""The tasks of an async run: how each is named, and in which order outcomes reach them.

Journal order: outcomes are committed in groups, and each group has a number, its turn. Live and on replay alike, the
outcomes of a turn are delivered together, and the next turn only when every task of the run waits again. So code that
asks who came first takes the same path again. A run of one task pays nothing for it.

A task "waits" when what it awaits (`_fut_waiter`) is not done; wake-ups travel through callbacks, so that only several
quiet turns of the loop in a row count. A run that is never quiet for long counts as unordered, and is delivered to at
once: the order of such a run is not promised, but no value reaches the wrong call, since positions do not depend on it.
"""

import asyncio
import concurrent.futures
import contextlib
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final

from ._effects import CUT
from ._entries import Entry
from ._execution import SCOPE, Branch, Execution
from ._model import AttemptRecord, MessageRecord, StepRecord
from ._port import LoopPort, Outcome, settle
from ._replay import describe, place
from ._waiting import waits, waits_on_known
from .errors import DurableError, EngineClosedError, JournalError, NonDeterminismError, SerializationError

if TYPE_CHECKING:
    from ._rests import Rest

CANCEL_POSITION: Final = -1
"""Where the cancellation of an async run is journaled: it is called by nobody."""
_QUIET_TURNS: Final = 4
"""Loop turns without a runnable task, after which all wait: one more than the longest chain of asyncio's own callbacks
between a task that ends and the task that it wakes (task, gather, wait)."""
_RESTLESS_TURNS: Final = 10_000
"""Loop turns that outcomes wait for a run to become quiet before it counts as unordered."""


class Branches:
    """The tasks of one execution on its loop, and the outcomes that wait for them."""

    def __init__(self, execution: Execution, port: LoopPort) -> None:
        self.execution = execution
        self.port = port
        self.loop = port.loop
        self.root: asyncio.Task[Any] | None = None
        self.tasks: dict[asyncio.Task[Any], Branch] = {}
        """The live tasks that the run created, without its root."""
        self._outbox: list[Outcome] = []
        self._committing = False
        self._turn = max((step.turn or 0 for step in execution.past.values()), default=0)
        self._last_delivered = 0
        self._cuts_owed = _cuts(execution)
        """By the turn that had been delivered last: operations that the code has to cut again before the next turn."""
        self._ready: deque[list[Outcome]] = deque()
        self._owed = _owed_turns(execution)
        self._order = deque(sorted(self._owed))
        self._called: dict[int, list[tuple[str, int, asyncio.Future[None]]]] = {}  # by turn: what is awaited, and where
        self._gates: list[asyncio.Future[None]] = []
        self._cut_waits: set[asyncio.Future[None]] = set()
        self.resting: dict[asyncio.Future[None], Rest] = {}  # timers, signals, children
        self.look: asyncio.Handle | None = None  # whether the run can be suspended
        self._thread = threading.get_ident()
        self._in_thread: dict[str, asyncio.Future[Any]] = {}
        """Branches whose thread goes on, and what the task of each awaits: it only looks as if it waited."""
        self._ticking = False
        self._quiet_turns = 0
        self._restless_turns = 0

    # -- tasks --------------------------------------------------------------------------------------------------------

    def add(self, task: "asyncio.Task[Any]", branch: Branch) -> None:
        """A task of the run was created."""
        if not task.done():  # an eager one may be
            self.tasks[task] = branch
            task.add_done_callback(self._task_done)

    def _task_done(self, task: "asyncio.Task[Any]") -> None:
        self.tasks.pop(task, None)
        self._tick_soon()

    async def end_all(self) -> None:
        """Cancel and await what outlives the body, so that nothing of the run happens after its outcome."""
        while left := [task for task in self.tasks if not task.done()]:
            for task in left:
                task.cancel()
            await asyncio.wait(left)

    # -- outcomes that are new ----------------------------------------------------------------------------------------

    def conclude(
        self, record: StepRecord, attempt: AttemptRecord | None, message: MessageRecord | None = None
    ) -> "asyncio.Future[None]":
        """Commit an outcome; what this returns is done when it is on disk and it is its turn."""
        future = self.loop.create_future()
        self._outbox.append(Outcome(record, attempt, future, message))
        self._flush()
        return future

    def conclude_cut(self, record: StepRecord, unread: MessageRecord | None = None) -> None:
        """Journal that the workflow itself ended an operation. Nobody waits: the cancellation is already under way.

        It goes to the file before the next record of the run, or with its end, and not earlier: where nothing follows,
        a crash leaves no trace of it, nor does an interrupt that cancelled the tasks of a group on its way out.
        """
        cut = Outcome(record, None, None, unread)
        cut.turn = self._last_delivered
        self._outbox.append(cut)

    def flush_cuts(self) -> None:
        """Something of the run goes to the file by another way, now: what was cut before it goes first."""
        cuts = [outcome for outcome in self._outbox if outcome.future is None] if self._outbox else []
        if cuts:
            self._outbox = [outcome for outcome in self._outbox if outcome.future is not None]
            works = [cut.work(cut.turn) for cut in cuts]
            with contextlib.suppress(JournalError, EngineClosedError):  # then nothing follows either
                self.execution.journal.commits.submit(
                    Entry(lambda transaction: [each(transaction) for each in works], False, self.port, lambda _: None)
                )

    def _flush(self) -> None:
        """One group of a run is under way at a time, so that the order of commits is the order of turns."""
        if self._committing or all(outcome.future is None for outcome in self._outbox):
            return
        group, self._outbox = self._outbox, []
        if len(group) > 1 and self.execution.cancel.requested:  # a cancellation has a turn for itself
            size = next((place or 1 for place, each in enumerate(group) if each.record.kind == "cancel"), len(group))
            group, self._outbox = group[:size], group[size:]
        self._submit(group)

    def _submit(self, group: list[Outcome]) -> None:
        self._turn += 1
        turn = self._turn
        work: Callable[[Any], Any]
        for outcome in group:
            if outcome.future is not None:
                outcome.turn = turn
        if len(group) == 1:
            work = group[0].work(turn)
        else:
            works = [each.work(each.turn) for each in group]
            work = lambda transaction: [each(transaction) for each in works]  # noqa: E731 - short, and used once
        self._committing = True
        try:
            self.execution.journal.commits.submit(
                Entry(work, True, self.port, lambda entry: self._on_disk(entry, group))
            )
        except (JournalError, EngineClosedError) as error:
            self._committing = False
            self._fail(group, error)

    def _on_disk(self, entry: Entry, group: list[Outcome]) -> None:
        self._committing = False
        error = entry.error
        if error is None:
            self._deliver_or_queue(group)
        elif isinstance(error, SerializationError) and len(group) > 1:
            for outcome in group:  # one of them is too large for the file: each by itself
                self._submit([outcome])
        elif isinstance(error, SerializationError):
            group[0].settle(error)
        else:
            self._fail(group, error)
        self._flush()

    def _deliver_or_queue(self, group: list[Outcome]) -> None:
        if self.tasks or self._ready or group[0].record.kind == "cancel":
            self._ready.append(group)
            self._tick_soon()
        else:
            self._deliver(group)

    def _deliver(self, group: list[Outcome]) -> None:
        """In one order, live and on replay: that of branches and positions."""
        self._last_delivered = max(outcome.turn for outcome in group)
        for outcome in sorted(group, key=lambda outcome: outcome.record[1:3]):
            outcome.settle()

    def _fail(self, group: list[Outcome], error: BaseException) -> None:
        """The journal takes nothing more: nobody is to go on."""
        halt = self.execution.halt(error if isinstance(error, DurableError) else JournalError(str(error)))
        for outcome in group:
            outcome.settle(halt)

    def cancel_run(self, tell: Callable[[], None]) -> None:
        """Journal that the run is cancelled, and tell its body when it is the turn of that."""
        now, why = self.execution.now(), "timeout" if self.execution.cancel.timed_out else "cancel"
        record = StepRecord(
            self.execution.record.seq, "", CANCEL_POSITION, "cancel", why, "durable", "completed", 0, 0,
            None, None, None, now, now, None, None,
        )  # fmt: skip
        self._outbox.append(Outcome(record, None, self._cancellation(tell)))
        self._flush()

    def replay_cancel(self, tell: Callable[[], None]) -> bool:
        """Tell the body again, in its turn, where the journal has it that the run was cancelled; say whether it has."""
        record = self.execution.past.pop(("", CANCEL_POSITION), None)
        if record is None or record.turn is None:
            return False
        turn = record.turn
        self.execution.cancel.timed_out = record.name == "timeout"
        future = self._cancellation(tell)
        future.add_done_callback(lambda _: self._delivered(turn))
        self._called[turn] = [("", CANCEL_POSITION, future)]
        self._tick_soon()
        return True

    def _cancellation(self, tell: Callable[[], None]) -> "asyncio.Future[None]":
        """Done when the body is to be told."""

        def told(done: "asyncio.Future[None]") -> None:
            if not done.cancelled() and done.exception() is None:
                self.execution.cancel.delivered = True
                tell()

        future: asyncio.Future[None] = self.loop.create_future()
        future.add_done_callback(told)
        return future

    # -- outcomes from the journal ------------------------------------------------------------------------------------

    async def deliver(self, record: StepRecord) -> None:
        """Returns when it is the turn of a journaled outcome; a `cut` waits for the code's own cancellation."""
        if record.error == CUT:
            await self._wait_for_cancellation(record.turn or 0)
        if record.turn not in self._owed:
            return
        try:
            if self.tasks or self._called or record.branch:
                future = self.loop.create_future()
                self._called.setdefault(record.turn, []).append((record.branch, record.position, future))
                self._tick_soon()
                await future
        finally:
            self._delivered(record.turn)

    async def _wait_for_cancellation(self, turn: int) -> None:
        future = self.loop.create_future()
        self._cut_waits.add(future)
        try:
            await future
        finally:
            self._cut_waits.discard(future)
            self._cuts_owed[turn] -= 1
            self._tick_soon()

    def _delivered(self, turn: int) -> None:
        self._owed[turn] -= 1
        while self._order and not self._owed[self._order[0]]:
            self._last_delivered = self._order.popleft()
            del self._owed[self._last_delivered]
        if not self._order:
            gates, self._gates = self._gates, []
            for gate in gates:
                settle(gate)
        if self.tasks or self._called:
            self._tick_soon()

    def is_replaying(self, branch: str) -> bool:
        """Whether an attempt has to wait for journaled outcomes that were not delivered yet.

        One in a branch has to even where no task is known: an eager one begins before it is there.
        """
        return bool(self._order) and bool(self.tasks or branch)

    async def replayed(self, branch: str) -> None:
        """Returns when every journaled outcome was delivered: only then may a new attempt begin."""
        if self.is_replaying(branch):
            gate = self.loop.create_future()
            self._gates.append(gate)
            self._tick_soon()
            await gate

    # -- threads ------------------------------------------------------------------------------------------------------

    def is_here(self) -> bool:
        """Whether this is the thread of the loop."""
        return threading.get_ident() == self._thread

    def from_thread(self, branch: str, make: Callable[[], Awaitable[None]]) -> None:
        """Await something of this class in a thread of the run; then that thread goes on, and its task with it."""

        async def step() -> None:
            self._in_thread.pop(branch, None)
            try:
                await make()
            finally:
                self._thread_goes_on(branch)

        context = copy_context()
        context.run(SCOPE.set, None)  # the helper is no task of the run
        try:
            context.run(asyncio.run_coroutine_threadsafe, step(), self.loop).result()
        except (concurrent.futures.CancelledError, RuntimeError) as error:
            halt = self.execution.interrupt("its event loop ended")
            raise halt from error

    def _thread_goes_on(self, branch: str) -> None:
        task = self.root if not branch else next((t for t, b in self.tasks.items() if b.name == branch), None)
        awaited = getattr(task, "_fut_waiter", None)
        if awaited is not None:
            self._in_thread[branch] = awaited
            awaited.add_done_callback(lambda _: self._thread_ended(branch, awaited))

    def _thread_ended(self, branch: str, awaited: "asyncio.Future[Any]") -> None:
        if self._in_thread.get(branch) is awaited:
            del self._in_thread[branch]
        self._tick_soon()

    def has_news(self) -> bool:
        """Whether something is on its way to the tasks, though all may be waiting for something else."""
        cancel = self.execution.cancel
        return bool(self._committing or self._ready or self._order) or (cancel.requested and not cancel.delivered)

    # -- turns --------------------------------------------------------------------------------------------------------

    def _tick_soon(self) -> None:
        if not self._ticking:
            self._ticking = True
            self._quiet_turns = self._restless_turns = 0
            self.loop.call_soon(self._tick)

    def _tick(self) -> None:
        """Once a turn of the loop while outcomes wait: deliver the next group when the run is quiet."""
        if not (self._ready or self._order):
            self._ticking = False
            return
        if self._in_thread:
            self._ticking = False  # a thread of the run is at work: looked at again when its task goes on
            return
        self._quiet_turns = self._quiet_turns + 1 if self._is_quiet() else 0
        self._restless_turns += 1
        if self._quiet_turns < _QUIET_TURNS and self._restless_turns < _RESTLESS_TURNS:
            self.loop.call_soon(self._tick)
            return
        self._ticking = False
        if self._order:
            self._deliver_journaled()
        else:
            self._deliver(self._ready.popleft())
            if self._ready:
                self._tick_soon()

    def _deliver_journaled(self) -> None:
        turn = self._order[0]
        called = self._called.get(turn, [])
        if any(count and before < turn for before, count in self._cuts_owed.items()):
            return  # the code has yet to cut something: a timer of its own, most often
        if len(called) == self._owed[turn]:
            del self._called[turn]
            for *_, future in sorted(called, key=lambda waiting: waiting[:2]):
                settle(future)
            if self._order and self._order[0] == turn:  # all of it cancelled before it came
                self._tick_soon()
        elif self._is_stuck():
            self.execution.halt(self._nothing_can_follow(turn))
        # else: a task waits on what the library cannot see; when it calls, or ends, this is looked at again

    def _is_quiet(self) -> bool:
        return all(map(waits, self.tasks)) and (self.root is None or waits(self.root))

    def _is_stuck(self) -> bool:
        """Whether every task waits on journaled outcomes or on other tasks: then the next can never be called."""
        if self._cut_waits or self._restless_turns >= _RESTLESS_TURNS:
            return False
        known = {id(future) for called in self._called.values() for *_, future in called}
        known.update(id(gate) for gate in self._gates)
        tasks = [*self.tasks, *([self.root] if self.root else [])]
        return all(waits_on_known(task, known, self.tasks) for task in tasks)

    def _nothing_can_follow(self, turn: int) -> NonDeterminismError:
        missing = next((s for s in self.execution.past.values() if s.turn == turn), None)
        what = f"{describe(missing)}, which the journal has at {place(missing)}" if missing else "a journaled operation"
        return NonDeterminismError(
            f"every task of the workflow waits, and none has called {what}. The workflow was changed under this run, "
            "or its order depends on what is not journaled (a socket read in the body, tasks started in random order): "
            "put its code back, or start a new run; completed steps are kept"
        )


def _cuts(execution: Execution) -> dict[int, int]:
    """How many operations the code cut, by the turn that had been delivered last."""
    cuts: dict[int, int] = {}
    for step in execution.past.values():
        if step.error == CUT:
            cuts[step.turn or 0] = cuts.get(step.turn or 0, 0) + 1
    return cuts


def _owed_turns(execution: Execution) -> dict[int, int]:
    """How many outcomes of each turn the journal has for this run; those that are cut come from the code itself."""
    owed: dict[int, int] = {}
    for step in execution.past.values():
        if step.turn and step.error != CUT:
            owed[step.turn] = owed.get(step.turn, 0) + 1
    return owed

"""The state of a run while it executes here: one `Execution` belongs to one call of a workflow function.

How its effects are performed, blocking or awaiting, is in `_drive.py` and `_drive_async.py`; its tasks, when it has
several, in `_branches.py`; its threads in `_parallel.py`.
"""

import sys
import threading
from typing import TYPE_CHECKING, Any

from ._clock import Clock
from ._effects import Call, Decision
from ._identity import Registry
from ._journal import Journal
from ._model import MessageRecord, RunRecord, StepRecord
from ._replay import describe, place, refuse_to_wait
from ._scopes import EXITS, SCOPE, Branch
from .errors import Cancelled, DurableError, Halt, RunInterruptedError, TimedOut

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._branches import Branches
    from ._limits import Limits
    from ._parallel import Parallel
    from ._rests import Rest, SyncThreads
    from ._thread_pool import ThreadPool
    from ._watching import Watchers


class Execution:
    """One run being executed. Everything that its operations share."""

    __slots__ = (
        "__weakref__",
        "attempts_in_flight",
        "branches",
        "called_in",
        "cancel",
        "chance",
        "clock",
        "exit",
        "halted",
        "handled",
        "journal",
        "limits",
        "may_suspend",
        "now",
        "on_give_up",
        "on_halt",
        "over",
        "parallel",
        "parent",
        "past",
        "record",
        "registry",
        "rehearse",
        "replaying",
        "reserved",
        "rests",
        "root",
        "step_pool",
        "sync_threads",
        "thread",
        "unsynced",
        "waits",
        "watchers",
    )

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        registry: Registry,
        record: RunRecord,
        past: list[StepRecord],
        unsynced: int,
        watchers: "Watchers",
        limits: "Limits",
        step_pool: "ThreadPool",
        parent: "Execution | None" = None,
        *,
        may_suspend: bool = False,
    ) -> None:
        self.journal = journal
        self.limits, self.step_pool = limits, step_pool
        self.clock = clock
        self.now: Callable[[], float] = clock.now
        self.chance: Callable[[], float] = clock.random
        self.registry = registry
        self.record = record
        self.past = {(step.branch, step.position): step for step in past}
        """What the journal has and the code has not called yet in this execution."""
        self.replaying = any(step.finished_at is not None for step in past)
        """Until the first operation without an outcome in the journal: `durable.logger` is silent."""
        self.parent = parent
        """The execution that called this one as a child, and waits for it."""
        self.watchers = watchers
        """Who waits here for runs of its journal."""
        self.unsynced = unsynced
        """The transaction of the last record that others may have seen and that may not be on disk yet."""
        self.halted: Halt | None = None
        """Set once, by whatever takes the execution down; every later operation raises it, whatever the body caught."""
        self.exit: BaseException | None = None
        """The first `KeyboardInterrupt` or `SystemExit` in its code: for its caller, whatever the body made of it."""
        self.called_in = SCOPE.get()
        """The attempt that waits for this execution: of a step that called the run, or of the child that it is."""
        self.handled = sys.exception()
        """What the code around its body is handling."""
        self.on_halt: Callable[[], None] | None = None
        self.on_give_up: Callable[[], None] | None = None
        """Ends attempts in flight, where that can be done: those of async steps."""
        self.over = False
        """Whether the run has been given up here: what its threads still write is refused."""
        self.thread = threading.get_ident()
        """Where its body runs, or the loop of its tasks."""
        self.attempts_in_flight = 0
        self.cancel = Cancellation()
        self.waits: dict[threading.Event, None] = {}
        """What threads of this execution wait on; set when it is taken down. No set, as nowhere here: an empty one is
        something for the garbage collector to look at, which a busy loop has thousands of."""
        self.may_suspend = may_suspend
        """Whether somebody will set it going again when what it waits for has come: a background run."""
        self.rests: dict[Rest, None] = {}
        """Its waits for timers, signals and children."""
        self.reserved: dict[int, object] = {}
        """Signals that its branches have taken, by key, each with a mark of who took it."""
        self.sync_threads: SyncThreads | None = None
        """Of a sync run that may be suspended: its threads, and those of the runs around it and in it."""
        self.branches: Branches | None = None
        self.parallel: Parallel | None = None
        """Steps that were submitted to the engine's threads; made when the first is."""
        self.rehearse: Callable[[Call, Decision], Decision] | None = None
        """What becomes of each decision where the run is only rehearsed."""
        self.root = Branch(self, "")

    def has_step(self, module: str, name: str) -> bool:
        """Whether `module` declares a step of this name."""
        return self.registry.has_step(module, name)

    def is_other_step(self, module: str, step: Any) -> bool:
        """Whether another step of this name is declared in `module`."""
        return self.registry.is_other_step(module, step)

    def trusts_journal(self) -> bool:
        """Whether this execution takes the journal's word for the inputs of its steps."""
        return bool(self.record.trusting)

    def halt(self, error: DurableError) -> Halt:
        """Take the execution down: what raises `error` for callers. The first reason stays."""
        if self.halted is None:
            self.halted = Halt(error)
            self.wake()
            if self.on_halt is not None:
                self.on_halt()
        return self.halted

    def is_taken_down(self) -> bool:
        """Whether it was, or a run that waits for it: then it will be too, though it may hear of it a moment later."""
        return self.halted is not None or (self.parent is not None and self.parent.is_taken_down())

    def interrupt(self, why: str) -> Halt:
        """Stop without an outcome: the run stays interrupted, and goes on at the next call or `resume()`."""
        run = f"run {self.record.id} of {self.record.workflow!r}"
        msg = f"{run} was interrupted ({why}); durable.resume() goes on with it"
        return self.halt(RunInterruptedError(msg))

    def interrupt_by(self, error: BaseException, where: str = "") -> Halt:
        """The same, because of what was raised in its code."""
        if self.exit is None and isinstance(error, EXITS):
            self.exit = error
        return self.interrupt(type(error).__name__ + where)

    def cancellation(self) -> Cancelled:
        """What is raised in the body of a run that is cancelled."""
        return TimedOut() if self.cancel.timed_out else Cancelled()

    def request_cancel(self, *, timed_out: bool = False) -> None:
        """The run is to be cancelled: ends what waits, and is raised at the next operation, or in the run's tasks."""
        if self.cancel.requested or self.over:
            return
        self.cancel.timed_out = timed_out
        self.cancel.requested = True
        self.wake()
        if self.cancel.deliver is not None:
            self.cancel.deliver()

    def is_being_cancelled(self) -> bool:
        """Whether the run was cancelled, and its body is yet to be told of that. Here where only the file knows so far.

        Asked where another run turns out to be cancelled: what is asked of one and of its children is one transaction,
        and a child that had not begun may have ended by that before its parent hears of anything.
        """
        if not self.cancel.requested and self.journal.messages(self.record.seq, "cancel", ""):
            self.request_cancel()
        return self.cancel.requested and not self.cancel.delivered

    def wake(self) -> None:
        """Have all threads that wait look whether they still have to."""
        for wait in list(self.waits):
            wait.set()

    def is_cut(self, thread: int | None = None) -> bool:
        """Whether a cancellation ends the wait of a thread, or this one: the body's own or that of a submitted step."""
        if self.branches is not None:
            return self._hears_at_operation()
        return self.cancel.is_due() if self.parallel is None else self.parallel.is_cut(thread or threading.get_ident())

    def _hears_at_operation(self) -> bool:
        """Whether the own task of an async run, which blocks its loop in an operation, hears of its cancellation there.

        Not before all that the journal has was called again: what other tasks have there would be left.
        """
        cancel, branches = self.cancel, self.branches
        is_news = cancel.requested and not cancel.delivered and not self.past
        return is_news and branches is not None and branches.is_here() and SCOPE.get() is self.root

    def told_here(self) -> None:
        """The body hears of its cancellation by what this thread does."""
        if self.parallel is not None:
            self.parallel.tell()  # first: who finds that it was told asks by whom
        self.cancel.delivered = True

    def wait(self, event: threading.Event, seconds: float | None, patience: float | None = None) -> None:
        """Wait for the event, as `Clock.wait` does; raises the `Halt` of an execution that is taken down meanwhile."""
        self.waits[event] = None
        try:
            if self.halted is None and not self.is_cut():
                self.clock.wait(event, seconds, patience)
        finally:
            self.waits.pop(event, None)
        if self.halted is not None:
            raise self.halted

    def rest(self, event: threading.Event, seconds: float | None) -> None:
        """The same for a wait that is in `rests`: while all of a background run rests, it is suspended."""
        if self.sync_threads is None:
            self.wait(event, seconds)
            return
        me = threading.get_ident()
        with self.sync_threads.resting(lambda: event.is_set() or self.is_cut(me)):
            if self.halted is None:
                self.wait(event, seconds)
        if self.halted is not None:
            raise self.halted

    def next_signal(self, name: str) -> MessageRecord | None:
        """The oldest signal of a name that no branch has taken, which is reserved for the one that asks."""
        mine = object()
        message = self.journal.next_message(self.record.seq, "signal", name, after=0)
        while message is not None:
            if self.reserved.setdefault(message.seq, mine) is mine:  # in one go: threads ask at the same time
                return message
            message = self.journal.next_message(self.record.seq, "signal", name, after=message.seq)
        return None

    def free_signal(self, message: MessageRecord) -> None:
        """Nobody got a signal that was taken, and the file has it: whoever waits for one of its name looks."""
        self.reserved.pop(message.seq, None)
        self.tell_of_signal(message.name)

    def tell_of_signal(self, name: str) -> None:
        """A signal has come: whoever waits for one of this name looks. From any thread."""
        for rest in list(self.rests):
            if rest.signal == name:
                rest.wake()

    def tell_of_child(self, run_id: str) -> None:
        """A child has ended, or was taken down: whoever waits for it looks."""
        for rest in list(self.rests):
            if rest.child == run_id:
                rest.wake()

    def require_all_called(self, awaited: Call | str) -> None:
        """Before a sync run waits for what the journal has no outcome of: `Halt` where the code is another."""
        left = list(self.past.values())
        if not left:
            return
        what = awaited if isinstance(awaited, str) else f"{describe(awaited)} at {place(awaited)}"
        try:
            refuse_to_wait(what, left[0])
        except Halt as halt:
            raise self.halt(halt.error) from None

    def require_going_on(self, branch: str = "") -> None:
        """For work of a write transaction: nothing is written of a run that somebody else may be executing by now.

        Nor of a thread that was given up: `branch` is that of the caller.
        """
        if self.over:
            why = "it was given up"
            raise self.interrupt(why).error  # an `Exception`: it is the work that fails, not the one who carries it out
        if self.branches is not None:
            self.branches.threads.require_wanted(branch)

    def needs_sync(self) -> bool:
        """Whether something that a step is about to show to the outside could still be lost with the power."""
        return self.unsynced > self.journal.synced


class Cancellation:
    """Whether a run is to be cancelled, and whether its body was told. It is told once."""

    __slots__ = ("deliver", "delivered", "requested", "timed_out", "timeout_seconds")

    def __init__(self) -> None:
        self.requested = False
        self.timed_out = False
        """Whether it was the run's timeout, and not `cancel()`."""
        self.timeout_seconds: float | None = None
        """That timeout, as the workflow declares it."""
        self.delivered = False
        self.deliver: Callable[[], None] | None = None
        """How an async run is told; a sync one finds out at its next operation."""

    def is_due(self) -> bool:
        """Whether the next operation of a sync run is to raise it."""
        return self.requested and not self.delivered and self.deliver is None

"""What passes between those who ask for runs and those who execute them: requests, admissions, active runs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

from ._clock import wait_for
from ._execution import Execution
from ._limits import Limit, Loan
from ._model import LAST_DAY, RunRecord
from ._rests import Suspended
from ._scopes import Branch, StepScope
from ._signature import Signature
from .errors import DurableError, RunConflictError, RunInterruptedError

ENGINE: ContextVar[Any] = ContextVar("durable_engine", default=None)
"""The engine of this context, as `Runtime.engine` has it: of a `with engine:`, or of the run that executes here."""


class Declaration(Protocol):
    """What the runtime needs of a workflow: see `Workflow` in `_workflows.py`."""

    name: str
    module: str
    function: Callable[..., Any]
    signature: Signature
    is_async: bool
    concurrency: int
    """How many runs of it execute at a time in one engine, 0 for any number."""
    timeout_seconds: float | None
    """How long a run of it may take from its creation on."""


class Wait(Protocol):
    """What somebody waits for, as a `threading.Event` is."""

    def set(self) -> None:
        """Have who waits look whether that is over, from any thread."""


class Active:
    """A run that this engine has set going: queued here, or executing, until it ends or stops."""

    def __init__(
        self,
        run_id: str,
        workflow: Declaration,
        origin: str,
        parent: Execution | None = None,
        begun_by: "Active | None" = None,
    ) -> None:
        self.run_id = run_id
        self.workflow = workflow
        self.origin = origin
        """"call", "start" or "resume"."""
        self.parent = parent
        """The execution that waits for this run in its own thread or task; `None` for a run that was started."""
        self.caller = parent
        """The execution of its parent, once a task of that has called the run: the first that did may give it up."""
        self._begun_by = begun_by
        self.claim: str | None = None
        """What a plain call without an id looks for, so that the next such call finds it where this is interrupted."""
        self.has_claimed = False
        """Whether such a call has found the run, and claimed it: to execute it, or to wait for it."""
        self.cancelling = False
        self.waits: dict[Wait, None] = {}
        """For a slot, to begin it; told when it is cancelled, and when it is over."""
        self.execution: Execution | None = None
        self.thread: int | None = None
        self.loop: Any = None
        """The event loop that a background run is to execute on, where it is one of an async workflow."""
        self.release_slot: Callable[[], None] | None = None
        """Gives back the slot of the workflow's `concurrency` that it holds."""
        self.error: BaseException | None = None
        """What the execution raised for its caller, once it is over."""
        self.is_written = False
        """Whether its end is in the file, once it is over. A run that goes on was suspended, or retried since."""
        self._begun = self._ended = False
        self._over = False
        self._guard = threading.Lock()
        self._watchers: dict[Callable[[], None], None] = {}
        self._loan: Loan | None = None

    def begin(self) -> bool:
        """Whether it is for the caller to set it going, in the background: the first who asks does."""
        with self._guard:
            begun, self._begun = self._begun, True
        return not begun

    def end(self) -> bool:
        """Whether it is for the caller to say that it is over: the first who asks does."""
        with self._guard:
            ended, self._ended = self._ended, True
        return not ended

    def finish(self, error: BaseException | None, *, is_written: bool = False) -> None:
        """The execution is over, and the journal has what there is to have."""
        self.error, self.is_written = error, is_written
        with self._guard:
            self._over = True
            watchers, self._watchers = self._watchers, {}
        self._begun_by = None  # each run of a chain may start the next, for years
        self.give_slot_back()
        self._wake()
        for watcher in watchers:
            watcher()

    def not_begun(self) -> RunInterruptedError:
        """What its caller is told where the engine was closed before it began."""
        return RunInterruptedError(f"run {self.run_id} had not begun when the engine was closed")

    def depth(self) -> int:
        """How many runs that execute here may be waiting for it."""
        depth, before = 0, self._begun_by
        while before is not None and not before.is_over():
            depth, before = depth + 1, before._begun_by
        return depth

    def give_slot_back(self) -> None:
        """Hold no slot of the workflow's `concurrency`."""
        with self._guard:
            release, self.release_slot = self.release_slot, None
        if release is not None:
            release()

    def lend_slot(self, limit: Limit) -> Loan:
        """One of its tasks or threads begins to wait for another run; it asks the loan for the slot when it goes on."""
        with self._guard:
            loan = self._loan = self._loan or Loan(self, limit)
        loan.begin()
        return loan

    def cancel(self) -> None:
        """The run is to be cancelled, from now on, or from when it begins."""
        self.cancelling = True
        self._wake()
        if self.execution is not None:
            self.execution.request_cancel()

    def needs_slot(self) -> bool:
        """Whether it is to have a slot before it goes on: not only to be told that it is cancelled, or taken down."""
        if self.execution is None:
            return not self.cancelling and not self._over
        return not self.execution.cancel.requested and not self.execution.is_taken_down()

    @contextmanager
    def waiting_for_slot(self, wait: "Wait") -> Iterator[None]:
        """While somebody waits for a slot for it, who is told when it may need none any more: see `needs_slot`."""
        waits: dict[Any, None] = self.waits if self.execution is None else self.execution.waits
        waits[wait] = None
        try:
            yield
        finally:
            waits.pop(wait, None)

    def _wake(self) -> None:
        for wait in list(self.waits):
            wait.set()

    def is_going_on(self) -> bool:
        """Whether it is queued or executing, and was not taken down; one that is about to be suspended goes on."""
        halted = None if self.execution is None else self.execution.halted
        return (halted is None or isinstance(halted.error, Suspended)) and not self.is_stranded()

    def is_stranded(self) -> bool:
        """Whether the event loop that it executes on, or was to, was closed under it: nothing moves it any more."""
        branches = None if self.execution is None else self.execution.branches
        loop = self.loop if branches is None else branches.loop
        return loop is not None and loop.is_closed()

    def drop(self) -> None:
        """It is over: end its code, where its event loop was closed in the middle of it, and will not do so."""
        if self.execution is not None and self.execution.branches is not None and self.is_stranded():
            self.execution.branches.drop()

    def give_up(self) -> bool:
        """End attempts in flight without an outcome, where that can be done; say whether it was asked for."""
        ends = None if self.execution is None or self._over else self.execution.on_give_up
        if ends is not None:
            ends()
        return ends is not None

    def is_over(self) -> bool:
        """Whether the execution is over."""
        return self._over

    def require_not_interrupted(self) -> None:
        """For who waits for the run, once the execution is over: raise what kept it from ending, if anything did."""
        if self.is_written or self.error is None:
            return
        if isinstance(self.error, DurableError):
            raise self.error
        msg = f"run {self.run_id} of {self.workflow.name!r} was interrupted by {type(self.error).__name__}"
        raise RunInterruptedError(msg) from self.error

    def wait(self, seconds: float | None) -> bool:
        """Wait until it is over; say whether it is."""
        over = threading.Event()  # only here: most runs have nobody who waits for them in a thread
        with self.watching(over.set):
            return wait_for(over, seconds)

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call `watcher` when it is over, once and from any thread, or now if it is."""
        with self._guard:
            if not self._over:
                self._watchers[watcher] = None
                return
        watcher()

    @contextmanager
    def watching(self, watcher: Callable[[], None]) -> Iterator[None]:
        """The same for who may wait no longer: a run may execute for weeks, and be asked for its result each second."""
        self.watch(watcher)
        try:
            yield
        finally:
            with self._guard:
                self._watchers.pop(watcher, None)


class Admission(NamedTuple):
    """Which run a call means, and what there is to do about it."""

    record: RunRecord
    active: Active | None
    """The run in this process; `None` when it has ended."""
    is_mine: bool
    """Whether the caller is the one to execute it."""
    is_new: bool
    unsynced: int
    """The transaction that wrote it."""
    is_cancelled: bool = False
    """Whether it was asked to be cancelled."""


class Request(NamedTuple):
    """A call or a start of a workflow."""

    workflow: Declaration
    inputs: str
    run_id: str | None
    origin: str
    parent: Execution | None
    scope: Branch | StepScope | None
    """The code that waits for the call, or that starts a child; `None` where it is in no run."""

    def is_child(self, found: RunRecord) -> bool:
        """Whether a run that was found is a child of the run that asks for it."""
        return self.parent is not None and found.parent == self.parent.record.seq

    def joins(self, found: RunRecord) -> bool:
        """Whether a run calls one that is there and that it did not begin: it waits for it, and does not execute it.

        The end of a run is told to the run that began it, so that only that one may be suspended meanwhile; and only
        that one is cancelled together with it.
        """
        return self.origin == "call" and self.parent is not None and not self.is_child(found)


def new_run(
    request: Request, run_id: str, now: float, *, status: str = "queued", claim: str | None = None, epoch: int = 0
) -> RunRecord:
    """The record of a run that begins with a request; its key is given to it when it is written."""
    workflow = request.workflow
    return RunRecord(
        seq=0,
        id=run_id,
        workflow=workflow.name,
        module=workflow.module,
        status=status,
        input=request.inputs,
        output=None,
        error=None,
        created_at=now,
        finished_at=None,
        wake_at=None,
        claim=claim,
        parent=request.parent.record.seq if request.parent else None,
        epoch=epoch,
        crashes=0,
        progress=0,
        trusting=0,
        deadline=deadline_of(workflow, now),
    )


def deadline_of(workflow: Declaration, now: float) -> float | None:
    """When the timeout of a run of the workflow passes, counted from now."""
    return None if workflow.timeout_seconds is None else min(now + workflow.timeout_seconds, LAST_DAY)


def require_same_call(found: RunRecord, request: Request) -> None:
    """An id means one run: one workflow, and one set of inputs."""
    workflow = request.workflow
    if found.workflow != workflow.name:
        msg = (
            f"id {found.id!r} belongs to a run of workflow {found.workflow!r}, and was called for "
            f"{workflow.name!r}: use another id"
        )
        raise RunConflictError(msg)
    differing = workflow.signature.differences(found.input, request.inputs)
    if differing:
        changes = "; ".join(f"{name}: that run {old}, this call {new}" for name, old, new in differing)
        msg = (
            f"id {found.id!r} belongs to a run of workflow {found.workflow!r} with other inputs ({changes}): "
            "use another id, or the same inputs"
        )
        raise RunConflictError(msg)

"""Waiting for the result of a run, blocking or on an event loop: what `Run.result()` and `await run` do."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Final

from ._codec import codec_for
from ._drive import known_rest
from ._execution import current_branch, require_all_called, require_not_halted
from ._model import FINISHED, RunRecord
from ._outcome import recorded, recorded_error
from ._rests import Rest, Suspended
from .errors import (
    DurableError,
    EngineClosedError,
    JournalError,
    JournalLockedError,
    RunBlockedError,
    RunConflictError,
    RunInterruptedError,
    RunNotFoundError,
)

HALTS: Final = (RunInterruptedError, RunBlockedError, JournalError, EngineClosedError)
"""What keeps a run from ending keeps one that waits for it from ending too: that is taken down, and has no outcome."""

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._active import Active
    from ._execution import Execution
    from ._runtime import Runtime
    from ._scheduler import Scheduler
    from ._timers import EndOfRun


def _be_cancelled_with_it(record: RunRecord) -> None:
    """A sync run that was cancelled together with the one that it waits for is told so, and not of that.

    Not where the journal has what it did next: it heard of that, and was cancelled later.
    """
    branch = current_branch()
    execution = None if branch is None else branch.execution
    if execution is None or execution.branches is not None or execution.past:
        return
    if execution.is_being_cancelled():
        execution.cancel.delivered = True
        raise execution.cancellation() from recorded_error(record)


class Result:
    """The result of one run, for whoever waits for it. One that is interrupted is set going."""

    __slots__ = ("_id", "_runtime", "_scheduler")

    def __init__(self, scheduler: Scheduler, run_id: str) -> None:
        self._scheduler = scheduler
        self._runtime = scheduler.runtime
        self._id = run_id

    def wait(self, timeout: float | None) -> Any:
        """Return it, or raise the error of the run, blocking this thread for at most so many seconds."""
        with self._halting_who_waits(), self._scheduler.waiting():
            record = self._wait(timeout)
            if record.status == "cancelled":
                _be_cancelled_with_it(record)
        return self._of(record)

    async def wait_async(self) -> Any:
        """The same without blocking the loop, for as long as it takes."""
        with self._halting_who_waits():
            record = await self._wait_async()
        return self._of(record)

    def _of(self, record: RunRecord) -> Any:
        return recorded(record, self._codec(record)).result()

    def _codec(self, record: RunRecord) -> Any:
        workflow = self._runtime.registry.workflows.get(record.workflow)
        return codec_for(Any) if workflow is None else workflow.signature.result

    @contextlib.contextmanager
    def _halting_who_waits(self) -> Iterator[None]:
        """A run that waits for one that cannot end now cannot go on either; what that one failed with is its result.

        Nor does one go on that was taken down itself, though its body may have caught that.
        """
        branch, was_open = current_branch(), not self._runtime.is_closed()
        try:
            require_not_halted(branch)
            yield
            require_not_halted(branch)
        except HALTS as error:
            if branch is not None:
                raise branch.execution.halt(error) from error
            if not was_open or not isinstance(error, EngineClosedError):
                raise
            msg = f"run {self._id} was interrupted: the engine was closed; the run goes on at the next resume()"
            raise RunInterruptedError(msg) from error

    # -- until it has ended -------------------------------------------------------------------------------------------

    def _wait(self, timeout: float | None) -> RunRecord:
        clock = self._runtime.clock
        deadline = None if timeout is None else clock.monotonic() + timeout
        changed, ended = threading.Event(), Ended()
        with self._runtime.watchers.watching(self._id, ended.then(changed.set)):
            while True:
                changed.clear()
                if (since := ended.take()) is not None:
                    self._require_progress(since)
                record = record_of(self._runtime, self._id)
                if record.status in FINISHED:
                    return record
                require_all_called(f"the end of run {self._id!r}", timeout)
                active = self._going(record)
                left = None if deadline is None else max(0.0, deadline - clock.monotonic())
                if active is None:
                    self._wait_for_suspended(record, changed, left)
                else:
                    self._refuse_waiting_on_own_loop(active)
                    active.watch(changed.set)  # suspended, it is over too
                    clock.wait(changed, None, left)
                if not changed.is_set():
                    msg = f"run {self._id} of {record.workflow!r} did not end within {timeout:g} s; it goes on"
                    raise TimeoutError(msg)
                self._require_progress(active)

    def _wait_for_suspended(self, record: RunRecord, changed: threading.Event, seconds: float | None) -> None:
        """A parent that waits for a suspended child may be suspended too."""
        parent = _parent_of(record)
        if parent is not None and parent.threads is not None and seconds is None:
            with known_rest(parent, Rest(changed.set, child=self._id)):
                parent.rest(changed, None)
        self._runtime.clock.wait(changed, None, seconds)

    async def _wait_async(self) -> RunRecord:
        from ._running_async import Change, waiting

        change, end, ended = Change(), _turn_of_end(), Ended()
        with self._runtime.watchers.watching(self._id, ended.then(change.tell), change):
            async with waiting(self._runtime):
                while True:
                    change.clear()
                    if (since := ended.take()) is not None:
                        self._require_progress(since)
                    record = record_of(self._runtime, self._id)
                    if record.status in FINISHED:
                        if end is not None:
                            await end.come(cancelled=record.status == "cancelled")
                        return record
                    active = self._going(record)
                    await (change.of(active) if active else change.of_suspended(_parent_of(record), self._id))
                    self._require_progress(active)

    def _going(self, record: RunRecord) -> Active | None:
        """The run in this process, set going if it was not; `None` where it waits, and will be woken."""
        runtime = self._runtime
        if (active := runtime.active.get(self._id)) is not None:
            return active
        runtime.require_open()
        if record.status == "blocked":
            raise recorded_error(record)
        self._refuse_where_another_owns(record)
        if record.workflow not in runtime.registry.workflows:
            msg = (
                f"run {self._id} is interrupted, and this program does not declare its workflow {record.workflow!r}: "
                "import the module that does"
            )
            raise RunInterruptedError(msg)
        if record.status == "waiting":
            runtime.own()
            runtime.journal.commits.require_open()  # else nobody can wake it
            self._scheduler.go_on_with_children(record)
            return None
        return self._scheduler.set_going(record) or runtime.active.get(self._id)

    def _refuse_where_another_owns(self, record: RunRecord) -> None:
        journal = self._runtime.journal
        if not journal.epoch and (pid := journal.owner_pid()) is not None:
            msg = (
                f"run {record.id} of {record.workflow!r} is for process {pid} to execute, which owns the journal: its "
                "result can be had here when it has ended; until then ask for its status"
            )
            raise JournalLockedError(msg, pid)

    def _require_progress(self, active: Active | None) -> None:
        """After an execution is over: it ended, or this raises why it did not."""
        record = record_of(self._runtime, self._id)
        if record.status in FINISHED:
            return
        if record.status == "blocked":
            raise recorded_error(record)
        if active is None or isinstance(active.error, Suspended):
            self._runtime.require_open()
            return
        if active.is_written:
            return  # it failed, and was retried meanwhile
        if isinstance(active.error, DurableError):
            raise active.error
        self._runtime.require_open()
        if active.error is not None:
            msg = f"run {self._id} of {record.workflow!r} was interrupted by {type(active.error).__name__}"
            raise RunInterruptedError(msg) from active.error

    def _refuse_waiting_on_own_loop(self, active: Active) -> None:
        execution = active.execution
        here = execution is not None and active.thread == threading.get_ident()
        if here and execution is not None and execution.branches is None:
            msg = f"run {self._id} executes in this thread, and cannot wait for its own result"
            raise RunConflictError(msg)
        if here or self._is_on_this_loop(active):
            msg = f"run {self._id} executes on this thread's event loop, which result() would block: use 'await run'"
            raise RunConflictError(msg)

    def _is_on_this_loop(self, active: Active) -> bool:
        if not active.workflow.is_async:
            return False
        import asyncio

        try:
            return self._scheduler.runs_on(asyncio.get_running_loop())
        except RuntimeError:
            return False


class Ended:
    """The execution that ended while somebody waited for a run of which none was there: one that was woken since."""

    _active: Active | None = None

    def then(self, tell: Callable[[], None]) -> Callable[[Active | None], None]:
        """A watcher, which keeps the execution and tells."""

        def watcher(ended: Active | None) -> None:
            self._active = ended
            tell()

        return watcher

    def take(self) -> Active | None:
        """What ended since this was asked last."""
        ended, self._active = self._active, None
        return ended


def _turn_of_end() -> EndOfRun | None:
    """What orders the end of a run that a task of an async run awaits; `None` where nothing is to be ordered."""
    branch = current_branch()
    if branch is None or branch.execution.branches is None or not branch.execution.branches.is_here():
        return None
    from ._timers import EndOfRun

    return EndOfRun(branch, branch.execution.branches)


def _parent_of(record: RunRecord) -> Execution | None:
    """The execution of this context, where it has called or started that run: it may wait for it suspended."""
    branch = current_branch()
    if branch is None or branch.execution.record.seq != record.parent:
        return None
    return branch.execution


def record_of(runtime: Runtime, run_id: str) -> RunRecord:
    """What the journal says of a run now; `RunNotFoundError` where it has none of this id."""
    record = runtime.journal.run(run_id)
    if record is None:
        raise not_found(run_id, runtime.journal.path)
    return record


def not_found(run_id: str, path: str) -> RunNotFoundError:
    """The error for an id that the journal does not have."""
    return RunNotFoundError(
        f"no run {run_id!r} in {path}: durable.runs() and the command 'durable ls' list what it has"
    )

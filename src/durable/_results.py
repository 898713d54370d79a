"""Waiting for the result of a run, blocking or on an event loop: what `Run.result()` and `await run` do."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from ._codec import codec_for
from ._drive import drive
from ._effects import Call, Callee
from ._model import FINISHED, RunRecord
from ._operations import take_place
from ._outcome import Ending, recorded, recorded_error
from ._replay import decide_told
from ._rests import Rest, Suspended, known_rest
from ._scopes import current_branch, require_all_called, require_not_halted
from .errors import (
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

RESULT: Final = "result"
"""The kind of the operation that says that a sync run was told of its cancellation while it waited for another one."""

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._active import Active, Request
    from ._execution import Execution
    from ._runtime import Runtime
    from ._scheduler import Scheduler
    from ._scopes import Branch
    from ._timeouts import EndOfRun


def _may_be_told(execution: Execution) -> bool:
    """Whether a cancellation is raised where this run waits for another one, which is no operation otherwise.

    So it is for a sync run, but not where the journal has what it did next: then it was cancelled later.
    """
    return execution.branches is None and not execution.past


def _was_told(branch: Branch, awaited: str) -> bool:
    """Whether the journal has that this run was told of its cancellation here, where it waits for another one.

    What it awaited before, and got, has no place of its own.
    """
    past = branch.execution.past.get((branch.name, branch.position))
    return past is not None and (past.kind, past.name) == (RESULT, awaited)


def _tell(branch: Branch, awaited: str) -> None:
    """Tell a sync run here of its cancellation: as the outcome of an operation, so that it replays."""
    told = Call(Callee(RESULT, awaited, codec_for(Any)), record_of)
    drive(branch.execution, take_place(branch, told, decide_told))


class Result:
    """The result of one run, for whoever waits for it. One that is interrupted is set going."""

    __slots__ = ("_id", "_runtime", "_scheduler")

    def __init__(self, scheduler: Scheduler, run_id: str) -> None:
        self._scheduler = scheduler
        self._runtime = scheduler.runtime
        self._id = run_id

    def wait(self, timeout: float | None) -> Any:
        """Return it, or raise the error of the run, blocking this thread for at most so many seconds."""
        branch = current_branch()
        with self._halting_who_waits(), self._scheduler.waiting():
            if branch is not None and _was_told(branch, self._id):
                _tell(branch, self._id)
            record = self._wait(timeout, None if branch is None else branch.execution)
            if branch is not None and (record is None or self._is_cancelled_with_it(record, branch.execution)):
                _tell(branch, self._id)
        assert record is not None  # without a run it is not cut
        self._hear(record)
        return self._ending(record).result()

    async def wait_async(self) -> Any:
        """The same without blocking the loop, for as long as it takes."""
        from ._running_async import waiting

        with self._halting_who_waits():
            async with waiting(self._runtime):
                record = await self._wait_async()
        self._hear(record)
        return self._ending(record).result()

    def _hear(self, record: RunRecord) -> None:
        """The failure of a run reaches the code that started it, which may go on."""
        if record.status == "failed" and self._parent_of(record) is not None:
            branch = current_branch()
            assert branch is not None
            branch.aftermath.hear(branch.name, record.id)

    def join(self, execution: Execution | None) -> Ending:
        """How it ended, for a run that calls it and did not begin it; `Cancelled` where that one is told meanwhile."""
        record = self._wait(None, execution)
        if record is None:
            assert execution is not None
            raise execution.cancellation()
        return self._ending(record)

    async def join_async(self) -> Ending:
        """The same without blocking the loop."""
        return self._ending(await self._wait_async())

    def _ending(self, record: RunRecord) -> Ending:
        workflow = self._runtime.registry.workflows.get(record.workflow)
        return recorded(record, codec_for(Any) if workflow is None else workflow.signature.result)

    def _who_is_cut(self, execution: Execution | None, awaited: RunRecord) -> Execution | None:
        """The run that waits, where its cancellation ends that. A child is cancelled too, and ends before that."""
        if execution is None or not _may_be_told(execution) or self._is_child_of(execution, awaited):
            return None
        return execution

    def _parent_of(self, record: RunRecord) -> Execution | None:
        """The execution of this context, where it has called or started that run: it may wait for it suspended."""
        branch = current_branch()
        return None if branch is None or not self._is_child_of(branch.execution, record) else branch.execution

    def _is_child_of(self, execution: Execution, record: RunRecord) -> bool:
        """Whether that run has called or started this one: their keys mean something in one journal only."""
        return record.parent == execution.record.seq and execution.journal.path == self._runtime.journal.path

    def _is_cancelled_with_it(self, record: RunRecord, execution: Execution) -> bool:
        """Whether a run was cancelled together with the one that it waits for: it is told so, and not of that."""
        return record.status == "cancelled" and _may_be_told(execution) and execution.is_being_cancelled()

    def require_not_cut(self, record: RunRecord, event: str) -> None:
        """Raise what ends the wait of the run, if any, that looks here again and again for an event of this one.

        That is what took it down, or its cancellation, which it is told of.
        """
        branch, awaited = current_branch(), f"{self._id}, event {event!r}"
        require_not_halted(branch)
        if branch is None:
            return
        waiter = self._who_is_cut(branch.execution, record)
        is_cut = (waiter is not None and waiter.is_cut()) or self._is_cancelled_with_it(record, branch.execution)
        if is_cut or _was_told(branch, awaited):
            _tell(branch, awaited)

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

    def _wait(self, timeout: float | None, execution: Execution | None) -> RunRecord | None:
        """The record of the run when it has ended; `None` where the cancellation of the run that waits cut that."""
        clock = self._runtime.clock
        deadline = None if timeout is None else clock.monotonic() + timeout
        changed, ended, active = threading.Event(), Ended(), None
        self._runtime.living(self._id)  # else it is noticed in the wait that its event loop was closed before
        awaiting = self._runtime.awaiting(self._id, for_ever=timeout is None)
        with awaiting, self._runtime.watchers.watching(self._id, ended.then(changed.set)):
            while True:
                changed.clear()
                record = record_of(self._runtime, self._id)
                if record.status in FINISHED:
                    return record
                require_all_called(f"the end of run {self._id!r}", timeout)
                active, waiter = active or self._going(record), self._who_is_cut(execution, record)
                left = None if deadline is None else max(0.0, deadline - clock.monotonic())
                if active is None:
                    self._rest_for_suspended(record, changed, left)
                else:
                    self._refuse_waiting_on_own_loop(active)
                # What is suspended is over too.
                with contextlib.nullcontext() if active is None else active.watching(changed.set):
                    (clock if waiter is None else waiter).wait(changed, None, left)
                if waiter is not None and waiter.is_cut():
                    return None
                if not changed.is_set():
                    msg = f"run {self._id} of {record.workflow!r} did not end within {timeout:g} s; it goes on"
                    raise TimeoutError(msg)
                active = self._when_over(active, ended)

    def _rest_for_suspended(self, record: RunRecord, changed: threading.Event, seconds: float | None) -> None:
        """A parent that waits for a suspended child may be suspended too, since the end of that makes it due."""
        parent = self._parent_of(record)
        if parent is not None and parent.sync_threads is not None and seconds is None:
            with known_rest(parent, Rest(changed.set, child=self._id)):
                parent.rest(changed, None)

    async def _wait_async(self) -> RunRecord:
        from ._running_async import Change

        change, end, ended, active = Change(), _turn_of_end(), Ended(), None
        self._runtime.living(self._id)  # as above
        watching = self._runtime.watchers.watching(self._id, ended.then(change.tell), change.outside_of_runs())
        with self._runtime.awaiting(self._id), watching:
            while True:
                change.clear()
                record = record_of(self._runtime, self._id)
                if record.status in FINISHED:
                    if end is not None:
                        await end.come(cancelled=record.status == "cancelled")
                    return record
                active = active or self._going(record)
                await (change.of(active) if active else change.of_suspended(self._parent_of(record), self._id))
                active = self._when_over(active, ended)

    def _going(self, record: RunRecord) -> Active | None:
        """The run in this process, set going if it was not; `None` where it waits, and will be woken."""
        runtime = self._runtime
        runtime.journal.commits.require_not_held_here()
        if (active := runtime.living(self._id)) is not None:
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

    def _when_over(self, active: Active | None, ended: Ended) -> Active | None:
        """The execution to wait for still, if any: news may be of the one before. Raises what kept it from ending."""
        if active is not None and not active.is_over():
            return active
        self._require_progress(active or ended.take())
        return None

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
        active.require_not_interrupted()  # else it failed, and was retried meanwhile

    def _refuse_waiting_on_own_loop(self, active: Active) -> None:
        execution = active.execution
        here = execution is not None and active.thread == threading.get_ident()
        if here and execution is not None and execution.branches is None:
            msg = f"run {self._id} executes in this thread, and cannot wait for its own result"
            raise RunConflictError(msg)
        if here or (active.workflow.is_async and run_here(self._scheduler)):
            msg = f"run {self._id} executes on this thread's event loop, which result() would block: use 'await run'"
            raise RunConflictError(msg)


def joined(scheduler: Scheduler, request: Request) -> Ending:
    """How a run ended that is called by one that did not begin it: see `Request.joins`. Set going if it was not."""
    run_id = scheduler.start(request._replace(origin="start"))
    return Result(scheduler, run_id).join(request.parent)


async def joined_async(scheduler: Scheduler, request: Request) -> Ending:
    """The same without blocking the loop."""
    run_id = scheduler.start(request._replace(origin="start"))
    return await Result(scheduler, run_id).join_async()


def run_here(scheduler: Scheduler) -> bool:
    """Whether background async runs execute on the event loop of this thread: whoever blocks it keeps them from it."""
    if "asyncio" not in sys.modules:  # which is slow to import, and without which there is no loop
        return False
    import asyncio

    try:
        return scheduler.runs_on(asyncio.get_running_loop())
    except RuntimeError:
        return False


def executes_here(scheduler: Scheduler, record: RunRecord) -> bool:
    """Whether a run that is not finished executes on the event loop of this thread, or will when it is woken."""
    runtime = scheduler.runtime
    active = runtime.living(record.id)
    if active is not None and active.thread is not None:
        return active.workflow.is_async and active.thread == threading.get_ident()
    workflow = runtime.registry.workflows.get(record.workflow)
    return bool(runtime.journal.epoch and workflow is not None and workflow.is_async and run_here(scheduler))


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
    from ._timeouts import EndOfRun

    return EndOfRun(branch, branch.execution.branches)


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

"""The handle of a run: what the journal says of it now, its result, and the means to steer it."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Generic, cast

from ._arguments import waiting_time, yes_or_no
from ._codec import codec_for, dump_error, load_error
from ._drive import known_rest
from ._execution import current_branch, require_all_called
from ._identity import require_name
from ._model import FINISHED, HIDDEN_KINDS, RunRecord, RunStatus, seen_status
from ._outcome import raise_recorded, recorded_result
from ._rests import Rest, Suspended
from .errors import (
    DurableError,
    EngineClosedError,
    JournalError,
    JournalLockedError,
    RunBlockedError,
    RunCancelledError,
    RunConflictError,
    RunFinishedError,
    RunInterruptedError,
    RunNotFoundError,
    SerializationError,
)

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Generator, Iterator

    from typing_extensions import TypeVar

    from ._active import Active
    from ._execution import Execution
    from ._listing import StepInfo
    from ._scheduler import Scheduler
    from ._timers import EndOfRun

    R = TypeVar("R", default=Any)
else:
    from typing import TypeVar

    R = TypeVar("R")  # typing_extensions is slow to import, and only type checkers need the default


class Run(Generic[R]):
    """A run in a journal. Properties are live: each reads the journal when asked, and works without owning it."""

    def __init__(self, scheduler: Scheduler, run_id: str) -> None:
        self._scheduler = scheduler
        self._runtime = scheduler.runtime
        self._id = run_id

    # -- what the journal says ----------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The id of the run."""
        return self._id

    @property
    def workflow(self) -> str:
        """The name of the workflow."""
        return self._record().workflow

    @property
    def status(self) -> RunStatus:
        """Where the run is: see the table of statuses in the reference."""
        before = self._runtime.active.get(self._id)
        record = self._record()
        active = before or self._runtime.active.get(self._id)  # it may have begun, or ended, meanwhile
        if record.status == "running" and active is not None and active.is_going_on():
            return "running"
        mine = self._runtime.journal.epoch
        live = None if mine else self._runtime.journal.live_epoch()
        return cast("RunStatus", seen_status(record, live))

    @property
    def input(self) -> dict[str, Any]:
        """The arguments by name, decoded by the workflow's annotations where this program declares it."""
        record = self._record()
        workflow = self._runtime.registry.workflows.get(record.workflow)
        if workflow is None:
            return cast("dict[str, Any]", codec_for(Any).load(record.input))
        return cast("dict[str, Any]", workflow.signature.load_inputs(record.input, f"workflow {record.workflow!r}"))

    @property
    def error(self) -> BaseException | None:
        """Why the run failed or is blocked; `None` where it did neither."""
        record = self._record()
        return None if record.error is None else load_error(record.error)

    @property
    def created_at(self) -> dt.datetime:
        """When the run was called or started."""
        from ._listing import utc

        return utc(self._record().created_at)

    @property
    def finished_at(self) -> dt.datetime | None:
        """When the run ended; `None` while it has not."""
        from ._listing import utc_or_none

        return utc_or_none(self._record().finished_at)

    def steps(self) -> list[StepInfo]:
        """Every journaled operation in the order of its place; of a `map` its items."""
        from ._listing import step_info

        steps = self._runtime.journal.steps(self._record().seq)
        return [step_info(step) for step in steps if step.kind not in HIDDEN_KINDS]

    def __repr__(self) -> str:
        return f"<durable.Run {self._id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and other._runtime is self._runtime and other._id == self._id

    def __hash__(self) -> int:
        return hash(self._id)

    # -- its result ---------------------------------------------------------------------------------------------------

    def result(self, timeout: float | None = None) -> R:
        """Wait for the run to end, and return its result or raise its error; an interrupted one is set going.

        `timeout` is in seconds; `TimeoutError` when it passes. `RunInterruptedError` when the engine closes meanwhile,
        or when nobody here can execute the run.
        """
        with _waiting_for(self), self._scheduler.waiting():
            return self._wait(waiting_time(timeout, "timeout of result()"))

    def _wait(self, timeout: float | None) -> R:
        clock = self._runtime.clock
        deadline = None if timeout is None else clock.monotonic() + timeout
        changed = threading.Event()
        with self._runtime.watchers.watching(self._id, changed.set):
            while True:
                changed.clear()
                record = self._record()
                if record.status in FINISHED:
                    return cast("R", recorded_result(record, self._result_codec(record)))
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

    def __await__(self) -> Generator[Any, None, R]:
        return self._result_async().__await__()

    async def _result_async(self) -> R:
        from ._running_async import Change, waiting

        change, end = Change(), _turn_of_end()
        with _waiting_for(self), self._runtime.watchers.watching(self._id, change.tell):
            async with waiting(self._runtime):
                while True:
                    change.clear()
                    record = self._record()
                    if record.status in FINISHED:
                        if end is not None:
                            await end.come()
                        return cast("R", recorded_result(record, self._result_codec(record)))
                    active = self._going(record)
                    await (change.of(active) if active else change.of_suspended(_parent_of(record), self._id))
                    self._require_progress(active)

    def _result_codec(self, record: RunRecord) -> Any:
        workflow = self._runtime.registry.workflows.get(record.workflow)
        return codec_for(Any) if workflow is None else workflow.signature.result

    def _going(self, record: RunRecord) -> Active | None:
        """The run in this process, set going if it was not; `None` where it waits, and will be woken."""
        runtime = self._runtime
        if (active := runtime.active.get(self._id)) is not None:
            return active
        runtime.require_open()
        if record.status == "blocked":
            raise_recorded(record)
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
        record = self._record()
        if record.status in FINISHED:
            return
        if record.status == "blocked":
            raise_recorded(record)
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

    def _record(self) -> RunRecord:
        record = self._runtime.journal.run(self._id)
        if record is None:
            raise not_found(self._id, self._runtime.journal.path)
        return record

    # -- messages -----------------------------------------------------------------------------------------------------

    def signal(self, name: str, value: Any = None, *, error: BaseException | None = None) -> None:
        """Send the run a value, or an error, that its next `durable.wait_for_signal(name, ...)` returns, or raises.

        On disk when this returns; kept until it is read, also when nobody waits yet. May be called in any process: the
        owner notices within half a second. `RunFinishedError` where the run has ended, `SerializationError` where the
        value cannot be written.
        """
        from ._steering import signal

        require_name(name, "the name of a signal")
        if error is not None and (value is not None or not isinstance(error, BaseException)):
            msg = f"a signal has a value or an error=, which is an exception, not {value!r} and {error!r}"
            raise TypeError(msg)
        try:
            text = codec_for(Any).dump(value) if error is None else None
        except SerializationError as unfit:
            msg = f"the value of signal {name!r} cannot be written: {unfit}"
            raise SerializationError(msg) from unfit
        signal(self._scheduler, self._record(), name, text, None if error is None else dump_error(error))

    def event(self, key: str, timeout: float | None = None) -> Any:
        """What the run has shown last under this key, with `durable.set_event`; `None` where it has shown nothing.

        With a `timeout`, in seconds: waits for it; `TimeoutError` where nothing was shown by then, `RunFinishedError`
        where the run ended without.
        """
        timeout = waiting_time(timeout, "timeout of event()")
        runtime = self._runtime
        journal, clock = runtime.journal, runtime.clock
        deadline = None if timeout is None else clock.monotonic() + timeout
        pause = 0.002
        while True:
            record = self._record()
            found = journal.event(record.seq, key)
            if found is not None:
                return codec_for(Any).load(found.output or "null")
            if deadline is None:
                return None
            if record.status in FINISHED:
                msg = f"run {self._id} of {record.workflow!r} is {record.status}, and has never set event {key!r}"
                raise RunFinishedError(msg)
            if clock.monotonic() >= deadline:
                msg = (
                    f"run {self._id} of {record.workflow!r} did not set event {key!r} within {timeout:g} s; it goes on"
                )
                raise TimeoutError(msg)
            clock.sleep(pause)
            pause = min(2 * pause, 0.1)

    # -- steering -----------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Cancel the run, and the runs that it called or started. On disk when this returns; the run ends soon after.

        Waits, back-offs and async attempts are cut; a sync attempt in flight ends and is journaled. In the body it is
        `durable.Cancelled`, or `asyncio.CancelledError`, raised once; clean-up may call steps. An interrupted run is
        set going for that. `RunFinishedError` where the run has completed or failed.
        """
        from ._steering import cancel

        cancel(self._scheduler, self._record())

    def fork(self, from_step: int) -> Run[R]:
        """Start a new run of the same inputs that takes over operations 1 to `from_step - 1`, as `steps()` lists them.

        They are not run again; the new run goes on from there, in the background, with the code of today. Of branches
        nothing is taken over that began after an operation that is not. The old run stays as it is. May be called in
        any process: where another one owns the journal, that one goes on with it. `ValueError` where there is no such
        operation, or one before it has no outcome.
        """
        from ._steering import fork

        return Run(self._scheduler, fork(self._scheduler, self._record(), from_step))

    def retry(self, *, trust_journal: bool = False) -> None:
        """Go on with a failed or blocked run, in the background, from what failed and with fresh attempts.

        `trust_journal=True` takes the journal's word where the inputs of steps differ, for this run from now on. May be
        called in any process: where another one owns the journal, that one goes on with it. `RunConflictError` where
        there is nothing to retry, or where operations were journaled after the failure.
        """
        from ._steering import retry

        retry(self._scheduler, self._record(), self.status, yes_or_no(trust_journal, "trust_journal"))


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


@contextlib.contextmanager
def _waiting_for(run: Run[Any]) -> Iterator[None]:
    """A run that waits for one that cannot end now cannot go on either; and it is cancelled together with it."""
    branch, was_open = current_branch(), not run._runtime.is_closed()
    try:
        yield
    except (RunInterruptedError, RunBlockedError, JournalError, EngineClosedError) as error:
        if branch is not None:
            raise branch.execution.halt(error) from error
        if not was_open or not isinstance(error, EngineClosedError):
            raise
        msg = f"run {run.id} was interrupted: the engine was closed; the run goes on at the next resume()"
        raise RunInterruptedError(msg) from error
    except RunCancelledError as error:
        if branch is None or not branch.execution.cancel.is_due():
            raise
        branch.execution.cancel.delivered = True
        raise branch.execution.cancellation() from error


def not_found(run_id: str, path: str) -> RunNotFoundError:
    """The error for an id that the journal does not have."""
    return RunNotFoundError(
        f"no run {run_id!r} in {path}: durable.runs() and the command 'durable ls' list what it has"
    )

"""The handle of a run: what the journal says of it now, its result, and the means to steer it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NoReturn, cast
from zlib import crc32

from ._arguments import waiting_time, yes_or_no
from ._codec import codec_for, dump_error, load_error
from ._identity import require_name
from ._model import FINISHED, RunRecord, RunStatus, seen_status
from ._results import Result, executes_here, record_of
from .errors import RunConflictError, RunFinishedError, SerializationError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Generator

    from typing_extensions import TypeVar

    from ._listing import StepInfo
    from ._scheduler import Scheduler

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

    def _record(self) -> RunRecord:
        return record_of(self._runtime, self._id)

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
        journal = self._runtime.journal
        # What this engine set going and does not execute, nobody does. Another one may have taken over since.
        live = None if record.epoch == journal.epoch else journal.live_epoch()
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
        from ._listing import step_infos

        return step_infos(self._runtime.journal, self._runtime.registry, self._record().seq)

    def __repr__(self) -> str:
        return f"<durable.Run {self._id}>"

    def __copy__(self) -> Run[R]:
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> Run[R]:
        """Itself: it holds nothing but an id and an engine, and there is no second one of either."""
        return self

    def __reduce__(self) -> NoReturn:
        """It is no use in another process, which has an engine of its own."""
        msg = f"cannot pickle {self!r}: hand its id over, and call durable.get({self._id!r}) in the other process"
        raise TypeError(msg)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and other._runtime is self._runtime and other._id == self._id

    def __hash__(self) -> int:
        """Of a text it would be another one in each process, and a set of runs in another order on replay."""
        return crc32(self._id.encode())

    # -- its result ---------------------------------------------------------------------------------------------------

    def result(self, timeout: float | None = None) -> R:
        """Wait for the run to end, and return its result or raise its error; an interrupted one is set going.

        `timeout` is in seconds; `TimeoutError` when it passes. `RunInterruptedError` when the engine closes meanwhile,
        or when nobody here can execute the run.
        """
        return cast("R", Result(self._scheduler, self._id).wait(waiting_time(timeout, "timeout of result()")))

    def __await__(self) -> Generator[Any, None, R]:
        return Result(self._scheduler, self._id).wait_async().__await__()

    # -- messages -----------------------------------------------------------------------------------------------------

    def signal(self, name: str, value: Any = None, *, error: Exception | None = None) -> None:
        """Send the run a value, or an error, that its next `durable.wait_for_signal(name, ...)` returns, or raises.

        On disk when this returns; kept until it is read, also when nobody waits yet. May be called in any process: the
        owner notices within half a second. `RunFinishedError` where the run has ended, `SerializationError` where the
        value cannot be written. In the body of a workflow this, like what is below, is journaled as a step is.
        """
        from ._operations import as_step
        from ._steering import signal

        require_name(name, "the name of a signal")
        if error is not None and (value is not None or not isinstance(error, Exception)):  # no interrupt is an outcome
            msg = f"a signal has a value or an error=, which is an Exception, not {value!r} and {error!r}"
            raise TypeError(msg)
        try:
            text = codec_for(Any).dump(value) if error is None else None
        except SerializationError as unfit:
            msg = f"the value of signal {name!r} cannot be written: {unfit}"
            raise SerializationError(msg) from unfit
        error_text = None if error is None else dump_error(error)

        # What is sent is written by now. It is an argument for the journal, which compares it on replay.
        def send(run: str, name: str, value: Any = None, error: Any = None) -> None:  # noqa: ARG001
            signal(self._scheduler, record_of(self._runtime, run), name, text, error_text)

        as_step("run.signal", send, self._id, name, value, error)

    def event(self, key: str, timeout: float | None = None) -> Any:
        """What the run has shown last under this key, with `durable.set_event`; `None` where it has shown nothing.

        With a `timeout`, in seconds: waits for it; `TimeoutError` where nothing was shown by then, `RunFinishedError`
        where the run ended without. In the body of a sync workflow its cancellation cuts the wait. On the event loop
        that executes the run that is a `RunConflictError`: there, use `await asyncio.to_thread(run.event, key,
        timeout)`.
        """
        timeout = waiting_time(timeout, "timeout of event()")
        runtime = self._runtime
        journal, clock = runtime.journal, runtime.clock
        deadline = None if timeout is None else clock.monotonic() + timeout
        pause = 0.002
        while True:
            record = self._record()
            if timeout is not None:
                Result(self._scheduler, self._id).require_not_cut(record, key)
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
            if executes_here(self._scheduler, record):
                msg = (
                    f"run {self._id} executes on this thread's event loop, which event() would block while it waits: "
                    "use 'await asyncio.to_thread(run.event, key, timeout)'"
                )
                raise RunConflictError(msg)
            journal.commits.require_not_held_here()
            clock.sleep(pause)
            pause = min(2 * pause, 0.1)

    # -- steering -----------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Cancel the run, and the runs that it called or started. On disk when this returns; the run ends soon after.

        Waits, back-offs and async attempts are cut; a sync attempt in flight ends and is journaled. In the body it is
        `durable.Cancelled`, or `asyncio.CancelledError`, raised once; clean-up may call steps. An interrupted run is
        set going for that. `RunFinishedError` where the run has completed or failed.
        """
        from ._operations import as_step
        from ._steering import cancel

        as_step("run.cancel", lambda run: cancel(self._scheduler, record_of(self._runtime, run)), self._id)

    def fork(self, from_step: int) -> Run[R]:
        """Start a new run of the same inputs that takes over operations 1 to `from_step - 1`, as `steps()` lists them.

        They are not run again; the new run goes on from there, in the background, with the code of today. Of branches
        nothing is taken over that began after an operation that is not. The old run stays as it is. May be called in
        any process: where another one owns the journal, that one goes on with it. `ValueError` where there is no such
        operation, or one before it has no outcome.
        """
        from ._operations import as_step
        from ._steering import fork

        def begin(run: str, from_step: int) -> str:
            return fork(self._scheduler, record_of(self._runtime, run), from_step)

        return Run(self._scheduler, as_step("run.fork", begin, self._id, from_step))

    def retry(self, *, trust_journal: bool = False) -> None:
        """Go on with a failed or blocked run, in the background, from what failed and with fresh attempts.

        `trust_journal=True` takes the journal's word where the inputs of steps, or the ids of the runs that it calls,
        differ, for this run from now on. May be called in any process: where another one owns the journal, that one
        goes on with it. `RunConflictError` where there is nothing to retry, or where operations were journaled after
        the failure. Children that failed, and the run with them, are queued again too.
        """
        from ._operations import as_step
        from ._steering import retry

        trusting = yes_or_no(trust_journal, "trust_journal")

        def go_on(run: str) -> None:
            retry(self._scheduler, record_of(self._runtime, run), self.status, trusting)

        as_step("run.retry", go_on, self._id)

"""How an execution ended, and what the journal is to say of it: the caller writes the record and raises.

Nothing is read, but for the message of a run that is blocked.
"""

import contextlib
import json
from typing import Any, NamedTuple

from ._codec import TypeCodec, dump_error, load_error
from ._codec.classes import is_here
from ._execution import Execution
from ._identity import listed, set_aside
from ._model import RAISED_AT, RunRecord, StepRecord
from ._replay import require_nothing_left
from ._rests import Suspended
from ._scopes import EXITS
from .errors import (
    DurableError,
    Halt,
    JournalError,
    NonDeterminismError,
    RunBlockedError,
    RunCancelledError,
    RunInterruptedError,
    SerializationError,
    StepError,
)


class Ending(NamedTuple):
    """The end of one execution: what to write (`None`: the run stays interrupted), and what the caller gets."""

    record: RunRecord | None
    value: Any
    error: BaseException | None
    """Raised for the caller, as it is."""

    def result(self) -> Any:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value


def returned(execution: Execution, value: Any, result: TypeCodec) -> Ending:
    """The body returned: the run completes with the decoded value, unless code and journal disagree."""
    if execution.halted is not None:
        return halted(execution, execution.halted)
    try:
        _require_nothing_left(execution, "returned")
    except Halt as halt:
        return halted(execution, halt)
    if execution.cancel.delivered:
        return _cancelled(execution)
    try:
        text, value = result.dump_load(value)
    except SerializationError as unfit:
        msg = f"the result of workflow {execution.record.workflow!r} cannot be journaled: {unfit}"
        return failed(execution, SerializationError(msg))
    return Ending(_finished(execution.record, execution.now(), "completed", output=text), value, None)


def raised(execution: Execution, error: BaseException) -> Ending:
    """The body raised: the run failed, unless it was taken down or interrupted."""
    if isinstance(error, (*EXITS, GeneratorExit)):
        execution.interrupt_by(error)
        return Ending(None, None, error)
    if execution.halted is not None:
        return halted(execution, execution.halted)
    if isinstance(error, Halt):  # of a run around this one
        return Ending(None, None, error)
    try:
        _require_nothing_left(execution, f"raised {type(error).__name__}")
    except Halt as halt:
        halt.error.__cause__ = error
        return halted(execution, halt)
    if execution.cancel.delivered:
        return _cancelled(execution)
    return failed(execution, error)


def _require_nothing_left(execution: Execution, ending: str) -> None:
    """One that was cancelled while it did again what a retry was for does not come to what had followed that."""
    branches = execution.branches
    if not execution.cancel.delivered or branches is None or not branches.past.has_room():
        require_nothing_left(list(execution.past.values()), ending)


def halted(execution: Execution, halt: Halt) -> Ending:
    """The execution was taken down: `blocked` where code and journal disagree, `waiting`, or still interrupted."""
    error = halt.error
    if isinstance(error, Suspended):
        return Ending(execution.record._replace(status="waiting", wake_at=error.wake_at), None, error)
    if isinstance(error, RunInterruptedError):  # caught or not, Ctrl-C and `sys.exit()` are more than an `Exception`
        return Ending(None, None, execution.exit or error)
    if not isinstance(error, RunBlockedError):
        return Ending(None, None, error)
    if isinstance(error, NonDeterminismError) and (gone := _classes_that_are_gone(execution)):
        hint = f"The journal has an exception of class {listed(gone)}, which this program has not: a StepError stood in"
        error.args = (f"{error}. {hint} for it. Import its module where the workflow is declared, or keep its name",)
    error.of_run(execution.record.id, execution.record.workflow)
    record = execution.record._replace(status="blocked", error=dump_error(error))
    return Ending(record, None, error)


def _classes_that_are_gone(execution: Execution) -> list[str]:
    """Of the exceptions that the journal has of the run: what catches one by its class takes another path."""
    steps: list[StepRecord] = []
    with contextlib.suppress(JournalError):
        steps = execution.journal.steps(execution.record.seq)
    names = {json.loads(step.error)["type"] for step in steps if step.error and step.error.startswith("{")}
    return [name for name in sorted(names) if not is_here(name)]


def _cancelled(execution: Execution) -> Ending:
    """Whatever the body made of its cancellation, the run ends cancelled, or failed where its time was up."""
    if execution.cancel.timed_out:
        return failed(execution, time_is_up(execution.record, execution.cancel.timeout_seconds))
    return cancelled(execution.record, execution.now())


def cancelled(record: RunRecord, now: float) -> Ending:
    """The run ends cancelled; its body was told, or was never called."""
    return Ending(_finished(record, now, "cancelled"), None, cancelled_error(record))


def time_is_up(record: RunRecord, timeout_seconds: float | None) -> TimeoutError:
    """Why a run failed whose timeout passed. `timeout_seconds`: what its workflow declares today, if anything."""
    seconds = round((record.deadline or record.created_at) - record.created_at, 6)  # as exactly as times are kept
    if timeout_seconds is not None:
        seconds = min(seconds, timeout_seconds)  # in a retry it was counted from when the run went on
    return TimeoutError(f"run {record.id} of {record.workflow!r} took longer than its timeout of {seconds:g} s")


def failed(execution: Execution, error: BaseException) -> Ending:
    """The run ends with this error, which its callers get in its decoded form."""
    text, said = dump_error(error), execution.root.aftermath.said()
    if execution.root.ended_at is not None:
        said[RAISED_AT] = execution.root.ended_at
    if said:  # for a retry, which is to know what was done because of that
        text = f"{text[:-1]},{json.dumps(said)[1:]}"
    decoded = load_error(text)
    if isinstance(decoded, StepError) and not isinstance(error, StepError):
        decoded.__cause__ = error
    else:
        decoded = BaseException.with_traceback(decoded, error.__traceback__)  # its class may be a frozen one
    return Ending(_finished(execution.record, execution.now(), "failed", error=text), None, decoded)


def _finished(
    record: RunRecord, now: float, status: str, output: str | None = None, error: str | None = None
) -> RunRecord:
    claim = set_aside(record.claim) if status == "failed" else None  # for a retry: no other end goes on
    return record._replace(status=status, output=output, error=error, finished_at=now, wake_at=None, claim=claim)


def recorded(record: RunRecord, result: TypeCodec) -> Ending:
    """How a run ended, as the journal has it."""
    if record.status != "completed":
        return Ending(record, None, recorded_error(record))
    try:
        return Ending(record, result.load(record.output or "null"), None)
    except SerializationError as error:
        msg = f"the result of run {record.id} of {record.workflow!r} in the journal no longer fits: {error}"
        raise SerializationError(msg) from error


def cancelled_error(record: RunRecord) -> RunCancelledError:
    """What callers of a cancelled run get."""
    return RunCancelledError(f"run {record.id} of {record.workflow!r} was cancelled")


def recorded_error(record: RunRecord) -> BaseException:
    """The recorded error of a failed, cancelled or blocked run."""
    if record.status == "cancelled":
        return cancelled_error(record)
    if record.error is None:
        return DurableError(f"run {record.id} of {record.workflow!r} is {record.status}, and has no error")
    return load_error(record.error)

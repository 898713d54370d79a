"""What `run.steps()` lists: the journaled operations of a run, as users see them."""

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

from ._codec import codec_for, load_error
from ._effects import CANCELLED, CUT, TIMED_OUT
from ._model import in_order
from .errors import Cancelled, JournalError, SerializationError

if TYPE_CHECKING:
    import datetime as dt

    from ._identity import Registry
    from ._journal import Journal
    from ._model import StepRecord
    from ._signature import Signature


class StepInfo(NamedTuple):
    """One journaled operation of a run, as `run.steps()` lists it. Times are aware and in UTC."""

    kind: str
    """"step", "child", "now", "uuid4", "random", …"""
    branch: str
    """Which task of the run called it: "" is the workflow's own."""
    position: int
    name: str
    status: str
    """"running", "retrying", "completed" or "failed"."""
    attempt: int
    input: Any
    output: Any
    error: BaseException | None
    started_at: "dt.datetime"
    finished_at: "dt.datetime | None"
    retry_at: "dt.datetime | None"


def step_infos(journal: "Journal", registry: "Registry", run: int) -> list[StepInfo]:
    """Every journaled operation of a run. One in its back-off has the error of its last attempt.

    Values are decoded by the annotations of what was called, where this program declares it and they fit,
    else they are as the file has them: a value that nobody can make here hides no operation.
    """
    steps = in_order(journal.steps(run))
    errors = {}
    if any(step.status == "retrying" for step in steps):
        errors = {(each.branch, each.position, each.attempt): each.error for each in journal.attempts(run)}
    return [
        _step_info(
            step,
            step.error or errors.get((step.branch, step.position, step.attempt)),
            registry.signature_of(step.kind, step.module, step.name),
        )
        for step in steps
    ]


def _step_info(step: "StepRecord", error: str | None, signature: "Signature | None") -> StepInfo:
    return StepInfo(
        kind=step.kind,
        branch=step.branch,
        position=step.position,
        name=step.name,
        status=step.status,
        attempt=step.attempt,
        input=None if step.input is None else _inputs(step.input, signature),
        output=None if step.status != "completed" or step.output is None else _output(step, step.output, signature),
        error=_step_error(error),
        started_at=utc(step.started_at),
        finished_at=utc_or_none(step.finished_at if step.turn is not None else None),
        retry_at=utc_or_none(step.retry_at),
    )


def _output(step: "StepRecord", text: str, signature: "Signature | None") -> Any:
    declared = [] if signature is None or step.kind == "start" else [signature.result]  # a start has the run's id
    for codec in (*declared, codec_for(Any)):
        with contextlib.suppress(SerializationError):  # its class may be none of this program
            return codec.load(text)
    return _readable(text)


def _inputs(text: str, signature: "Signature | None") -> Any:
    return _readable(text) if signature is None else signature.shown_inputs(text)


def _readable(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        msg = f"a value in the journal is no JSON, so durable did not write it ({error}): {text[:80]}"
        raise SerializationError(msg) from error


def _step_error(text: str | None) -> BaseException | None:
    if text is None:
        return None
    if text == CANCELLED:
        return Cancelled("the run was cancelled here")
    if text == TIMED_OUT:
        return Cancelled("the run's timeout passed here")
    if text == CUT:
        from asyncio import CancelledError

        return CancelledError("cut by the workflow's own cancellation or timeout")
    return load_error(text)


def utc(seconds: float) -> "dt.datetime":
    import datetime as dt

    try:
        return dt.datetime.fromtimestamp(seconds, dt.UTC)
    except (OverflowError, OSError, ValueError) as error:
        msg = f"a time in the journal is no date ({seconds!r}): durable did not write it"
        raise JournalError(msg) from error


def utc_or_none(seconds: float | None) -> "dt.datetime | None":
    return None if seconds is None else utc(seconds)

"""What happens at one operation of a run: the decision, pure, as a generator.

A generator here is given what the code calls and what the journal has at that place. It yields effects and is sent what
came of them; at the end it returns the value for the workflow or raises the error for it. Whoever drives it performs
the effects, blocking (`_drive.py`) or awaiting (`_drive_async.py`), so that sync and async have one brain.

The laws of this file: nothing here waits, reads a clock or touches a file. A step that has an outcome is never
attempted again. An attempt is written down before it begins, an outcome before it is returned. Where code and journal
disagree, nothing is returned at all: a `Halt` takes the execution down.
"""

import json
from typing import Any, Final, NoReturn

from ._codec import add_note, dump_error, load_error
from ._effects import (
    CANCELLED,
    CUT,
    OWN_MODULE,
    TIMED_OUT,
    TOLD,
    Append,
    Attempt,
    Call,
    Completed,
    Conclude,
    Cut,
    Decision,
    Deliver,
    Effect,
    Failed,
    Sleep,
    Slot,
    Transact,
    World,
    as_raised_in_generator,
)
from ._model import LAST_DAY, AttemptRecord, StepRecord, new_tuple
from ._retry import next_delay
from ._signature import NOT_GIVEN
from .errors import (
    Cancelled,
    Halt,
    NonDeterminismError,
    RunBlockedError,
    SerializationError,
    StepError,
    StepInterruptedError,
    StepTimeoutError,
    TimedOut,
)

_MOST_LETTERS: Final = 200
"""Of an argument in a message."""

# -- the decision -----------------------------------------------------------------------------------------------------


def decide_step(call: Call, past: StepRecord | None, world: World) -> Decision:
    """The whole life of a step: taken from the journal where it is there, attempted until an outcome where not."""
    if past is None:
        return _attempts(call, 0, 0, world)
    require_same_operation(call, past, world)  # now, where it is called, and not when somebody waits for it
    require_same_inputs(call, past, world)
    if past.finished_at is not None and past.status in {"completed", "failed"}:
        return from_journal(call, past)
    require_same_child(call, past)
    return _decide_again(call, past, world)


def _decide_again(call: Call, past: StepRecord, world: World) -> Decision:
    """The same, where the journal has attempts of it and no outcome."""
    if past.status == "retrying":
        if cut := (yield Sleep(remaining_delay(past, world.now()))):
            return (yield from journal_cut(cut, past, world))
        return (yield from _attempts(call, past.attempt, past.failures, world))
    return (yield from _after_death(call, past, world))


def _after_death(call: Call, past: StepRecord, world: World) -> Decision:
    """The journal has an attempt that the end of the process cut: it has its number, but is no failure."""
    lost = AttemptRecord(past.run, past.branch, past.position, past.attempt, past.started_at, None, None)
    if not call.callee.at_most_once:
        return (yield from _attempts(call, past.attempt, past.failures, world, lost))
    error = StepInterruptedError(
        f"the process ended during attempt {past.attempt} of step {past.name!r} of run {world.record.id}, which is "
        "at_most_once: whether its effect happened is unknown, and it is not repeated. Find out, and catch this error "
        f"in the workflow to go on; or, if it may be repeated after all, durable.get({world.record.id!r}).retry()"
    )
    failed = with_outcome(past, "failed", None, dump_error(error), world.now(), past.failures)
    yield Conclude(failed, lost)
    _raise_as_journaled(call, failed, error)


def _attempts(call: Call, attempt: int, failures: int, world: World, lost: AttemptRecord | None = None) -> Decision:
    """Attempt after attempt, until one completes or the policy gives up."""
    callee = call.callee
    while True:
        attempt += 1
        call.release_slot = nothing_to_release
        cut = (yield Slot(call)) if callee.concurrency else None
        begun = new_tuple(StepRecord, (
            call.run, call.branch, call.position, callee.kind, callee.name, callee.module, "running", attempt, failures,
            call.inputs, call.child, None, world.now(), None, None, None,
        ))  # fmt: skip
        try:
            cut = cut or (yield new_tuple(Append, (begun, lost, callee.at_most_once)))
            outcome = cut or (yield _body(call, begun, world))
        finally:
            call.release_slot()
        lost = None
        if type(outcome) is Completed and callee.transaction:
            return outcome.value
        if type(outcome) is Completed:
            try:
                completed, value = _completed(call, begun, outcome.value, world)
                yield new_tuple(Conclude, (completed, None, None))
            except SerializationError as unfit:
                outcome = Failed(SerializationError(f"the result of step {callee.name!r} cannot be journaled: {unfit}"))
            else:
                return value
        if type(outcome) is Cut:
            return (yield from journal_cut(outcome, begun, world))
        failures += 1
        error = outcome.error
        now, text = world.now(), dump_error(error)
        written = AttemptRecord(call.run, call.branch, call.position, attempt, begun.started_at, now, text)
        delay = delay_after(call, failures, error, world)
        if delay is None:
            failed = with_outcome(begun, "failed", None, text, now, failures)
            yield Conclude(failed, written)
            _raise_as_journaled(call, failed, error)
        delay = min(delay, LAST_DAY - now)
        waiting = begun._replace(status="retrying", failures=failures, finished_at=now, retry_at=now + delay)
        if cut := (yield Append(waiting, written, True)) or (yield Sleep(delay)):
            return (yield from journal_cut(cut, waiting, world))


def _body(call: Call, begun: StepRecord, world: World) -> Effect:
    if not call.callee.transaction:
        return new_tuple(Attempt, (call, begun))
    return Transact(call, begun, lambda value: _completed(call, begun, value, world))


def _completed(call: Call, begun: StepRecord, value: Any, world: World) -> tuple[StepRecord, Any]:
    """The record of an attempt that returned, and the value that the workflow gets: the decoded one."""
    text, decoded = call.callee.result.dump_load(value)
    return with_outcome(begun, "completed", text, None, world.now(), begun.failures), decoded


def nothing_to_release() -> None:
    """No slot is held."""


def journal_cut(cut: Cut, record: StepRecord, world: World) -> Decision:
    """The operation was ended from outside: journaled as such, and raised again by whoever drives this."""
    error = _CANCELLATIONS.get(type(cut.error), CUT)
    yield Conclude(with_outcome(record, "failed", None, error, world.now(), record.failures), None)
    raise cut.error


def decide_cancelled(call: Call, world: World) -> Decision:
    """The run was cancelled, and this is the first operation since: journaled in its place, so that it replays."""
    now, error, callee = world.now(), world.cancellation(), call.callee
    record = StepRecord(
        call.run, call.branch, call.position, callee.kind, callee.name, callee.module, "failed", 0, 0,
        call.inputs or None, None, _CANCELLATIONS[type(error)], now, now, None, 0,
    )  # fmt: skip
    yield Conclude(record, None)
    raise error


def decide_told(call: Call, past: StepRecord | None, world: World) -> Decision:
    """The body is told of its cancellation in a wait that is no operation otherwise: the journal has one for that."""
    if past is None:
        return decide_cancelled(call, world)
    require_same_operation(call, past, world)
    return from_journal(call, past)


def was_told_at(past: StepRecord) -> bool:
    """Whether the cancellation of the run was raised in its body at this operation, which did not begin."""
    return past.attempt == 0 and past.error in TOLD


_CANCELLATIONS: Final[dict[type[BaseException], str]] = {Cancelled: CANCELLED, TimedOut: TIMED_OUT}


def delay_after(call: Call, failures: int, error: BaseException, world: World) -> float | None:
    """Seconds until the next attempt, `None` to give up. A timed-out `at_most_once` attempt may have had its effect."""
    if call.callee.at_most_once and isinstance(error, StepTimeoutError):
        return None
    return next_delay(call.callee.policy, failures, error, world.chance())


def remaining_delay(past: StepRecord, now: float) -> float:
    """What is left of a back-off in the journal; never more than the whole of it, however the clock was set."""
    if past.retry_at is None or past.finished_at is None:
        return 0.0
    return max(0.0, min(past.retry_at - now, past.retry_at - past.finished_at))


def with_outcome(
    begun: StepRecord, status: str, output: str | None, error: str | None, now: float, failures: int
) -> StepRecord:
    """The record of an operation that has begun, with its outcome."""
    return new_tuple(StepRecord, (
        *begun[:6], status, begun.attempt, failures, begun.input, output, error, begun.started_at, now, None, 0,
    ))  # fmt: skip


# -- outcomes from the journal ----------------------------------------------------------------------------------------


def from_journal(call: Call, past: StepRecord) -> Decision:
    """The outcome that the journal has of an operation, when it is its turn.

    Whether it fits what the code says today is found out before that: what is new begins when all had their turns.
    """
    value = _load(call, past) if past.status == "completed" else None
    yield Deliver(past)
    return value if past.status == "completed" else raise_again(call, past)


def _load(call: Call, past: StepRecord) -> Any:
    try:
        return call.callee.result.load(past.output or "null")
    except SerializationError as error:
        msg = (
            f"the journaled result of {describe(past)} no longer fits what the code says it returns: {error}. "
            "Nothing was lost: with code that fits, the run goes on"
        )
        raise Halt(RunBlockedError(msg)) from error


def raise_again(call: Call, past: StepRecord) -> NoReturn:
    """Raise the error of a failed operation, as on the first run."""
    if past.error == CANCELLED:
        raise Cancelled
    if past.error == TIMED_OUT:
        raise TimedOut
    _raise_as_journaled(call, past, None)


def _raise_as_journaled(call: Call, past: StepRecord, original: BaseException | None) -> NoReturn:
    """Raise a failed step's error in its decoded form, on the first run with the traceback of the original."""
    error = load_error(past.error or "null")
    if past.failures and call.callee.kind == "step":
        plural = "s" if past.attempt != 1 else ""
        add_note(error, f"durable: step {call.callee.name!r} failed after {past.attempt} attempt{plural}")
    if original is None:
        raise as_raised_in_generator(error)
    if isinstance(error, StepError) and not isinstance(original, StepError):
        raise error from original
    raise as_raised_in_generator(BaseException.with_traceback(error, original.__traceback__))


# -- rules of determinism ---------------------------------------------------------------------------------------------


def require_same_operation(call: Call, past: StepRecord, world: World) -> None:
    """At a place of the journal, the code calls what the journal has there."""
    callee = call.callee
    if past.name != callee.name or past.kind != callee.kind:
        msg = (
            f"at {place(past)} the journal has {describe(past)}, but the code called {describe(call)}. "
            "The workflow was changed under this run: put its code back, or start a new run; completed steps are kept"
        )
        if past.kind == callee.kind == "step" and past.module and not world.has_step(past.module, past.name):
            msg += (
                f". If the step was only renamed, let the journal know it as before: @durable.step(name={past.name!r})"
            )
        raise Halt(NonDeterminismError(msg))
    if past.module != callee.module and world.is_other_step(past.module, callee):
        msg = (
            f"at {place(past)} the journal has step {past.name!r} of module {past.module!r}, but the code called the "
            f"step of that name of module {callee.module!r}, and both exist. Call the one that the journal has, or "
            "give them different names"
        )
        raise Halt(NonDeterminismError(msg))


def require_same_inputs(call: Call, past: StepRecord, world: World) -> None:
    """Each argument that can be compared is what it was, unless the step or the run says to take the journal's word."""
    recorded = past.input or "{}"
    signature = call.callee.signature
    if recorded == call.inputs or signature is None or not call.callee.match_inputs or world.trusts_journal():
        return
    differing = signature.differences(recorded, call.inputs)
    if not differing:
        return
    changes = "; ".join(f"{name}: journal {_short(old)}, code {_short(new)}" for name, old, new in differing)
    is_gone = any(new == NOT_GIVEN for _, _, new in differing)
    is_own = call.callee.module == OWN_MODULE  # run.signal() and its like, which no decorator declares
    accept = "" if is_own else "or accept other inputs for this step with @durable.step(match_inputs=False); "
    msg = (
        f"at {place(past)} step {past.name!r} was called with other inputs than the journal has ({changes}). "
        + ("If a parameter was renamed, give it its name back. " if is_gone else "")
        + "If the value is a time, random or read from outside in the workflow body, take it from durable.now(), "
        "durable.uuid4(), durable.random() or from a step that reads it; "
        f"{accept}or, for this one run, take the journal's word with run.retry(trust_journal=True)"
    )
    raise Halt(NonDeterminismError(msg))


def require_same_child(call: Call, past: StepRecord) -> None:
    """A child that has begun is called by its id: under another one it would be another run, and do all of it again."""
    if past.output is None or past.output == call.child:
        return
    begun, called = json.loads(past.output), json.loads(call.child or "null")
    msg = (
        f"at {place(past)} the journal has {describe(past)} with the id {begun!r}, which has begun, but the code gives "
        f"it the id {called!r}: that would be another run, which does again what the first one has done. If the code "
        "was changed, put the id back. If the id is a time, random or read from outside in the workflow body, make it "
        "of the inputs of the workflow, of durable.now() or durable.uuid4(), or of what a step returns; or, for this "
        "one run, take the journal's word with run.retry(trust_journal=True)"
    )
    raise Halt(NonDeterminismError(msg))


def refuse_to_wait(awaited: str, left: StepRecord) -> NoReturn:
    """Before a sync workflow waits for what has no outcome yet, it has called everything that the journal has."""
    msg = (
        f"the code waits for {awaited}, whose outcome the journal does not have, and has not called {describe(left)}, "
        f"which the journal has at {place(left)}. The workflow was changed under this run: put its code back, or start "
        "a new run; completed steps are kept"
    )
    raise Halt(NonDeterminismError(msg))


def require_nothing_left(left: list[StepRecord], ending: str) -> None:
    """When the workflow ends, it has called everything that the journal has."""
    if left:
        first = left[0]
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        msg = (
            f"the workflow {ending} without calling {describe(first)}, which the journal has at {place(first)}{more}. "
            "The workflow was changed under this run, or depends on what is not journaled: put its code back, or "
            "start a new run; completed steps are kept"
        )
        raise Halt(NonDeterminismError(msg))


def describe(operation: StepRecord | Call) -> str:
    """An operation for a message, as the code has it: step 'fulfill_order', workflow 'refund', durable.now()."""
    found = operation.callee if isinstance(operation, Call) else operation
    kind, name = found.kind, found.name
    if kind in _OWN:
        return f"durable.{name}()"
    return f"{_SPOKEN.get(kind, kind)} {name!r}"


_OWN: Final = frozenset({"now", "uuid4", "random", "sleep"})
_SPOKEN: Final = {
    "child": "workflow",
    "start": "the start of workflow",
    "result": "the result of run",
    "map": "a map of step",
}


def place(record: StepRecord | Call) -> str:
    """Where an operation stands in its run: position 3, or position 0 of branch '/fetch:1'."""
    return f"position {record.position}" + (f" of branch {record.branch!r}" if record.branch else "")


def _short(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}…"

"""What happens at a timer or a signal: decisions like those of `_replay.py`, of operations that have no body.

Due times are absolute and written down before the wait, so that a crash resumes a wait and does not restart it. A
signal is dropped from the file in the transaction that has what was made of it, so that it is read exactly once. Where
a signal and a timeout race, whichever outcome is written has won.
"""

from typing import Any

from ._codec import annotation_name, dump_again, dump_error, load_lenient
from ._effects import Append, Call, Conclude, Cut, Decision, Receive, Sleep, World
from ._model import LAST_DAY, MessageRecord, StepRecord
from ._replay import from_journal, journal_cut, raise_again, require_same_operation, with_outcome
from .errors import SerializationError


def decide_sleep(call: Call, past: StepRecord | None, world: World) -> Decision:
    """A timer, of `call.callee.timeout_seconds` or until the time in `call.args`."""
    return _replayed(call, past, world) or _sleep(call, past, world)


def _sleep(call: Call, past: StepRecord | None, world: World) -> Decision:
    cut: Cut | None = None
    if past is None:
        now = world.now()
        due = call.args[0] if call.args else now + (call.callee.timeout_seconds or 0.0)
        past = _begun(call, now, due)
        cut = yield Append(past, None, full=True)
    is_fixed = bool(call.args)
    while cut is None and (remaining := _remaining(past, world.now(), is_fixed=is_fixed)):
        cut = yield Sleep(remaining)
        if not is_fixed:  # else the clock may have been set meanwhile
            break
    if cut is not None:
        return (yield from journal_cut(cut, past, world))
    yield Conclude(with_outcome(past, "completed", None, None, world.now(), 0), None)
    return None


def decide_signal(call: Call, past: StepRecord | None, world: World) -> Decision:
    """The next signal of a name, decoded as the type that its reader wants; `TimeoutError` where none came in time."""
    return _replayed(call, past, world) or _signal(call, past, world)


def _signal(call: Call, past: StepRecord | None, world: World) -> Decision:
    message: MessageRecord | Cut | None = None
    if past is None:
        now = world.now()
        past = _begun(call, now, None if call.callee.timeout_seconds is None else now + call.callee.timeout_seconds)
        message = yield Append(past, None, full=call.callee.timeout_seconds is not None)
    if message is None:
        remaining = None if past.retry_at is None else _remaining(past, world.now())
        message = yield Receive(call.callee.name, remaining)
    if isinstance(message, Cut):
        return (yield from journal_cut(message, past, world))
    if message is None:
        late = TimeoutError(f"no signal {call.callee.name!r} came within {call.callee.timeout_seconds:g} s")
        error = dump_error(late)
    elif message.error is not None:
        error = dump_again(message.error)
    else:
        try:
            text, value = call.callee.result.dump_load(load_lenient(message.value or "null", call.args[0]))
        except SerializationError as unfit:
            wanted = f"{annotation_name(call.args[0])}, the type that it is read as"
            error = dump_error(SerializationError(f"signal {call.callee.name!r} does not fit {wanted}: {unfit}"))
        else:
            yield Conclude(with_outcome(past, "completed", text, None, world.now(), 0), None, message)
            return value
    failed = with_outcome(past, "failed", None, error, world.now(), 0)
    yield Conclude(failed, None, message)
    raise_again(call, failed)


def taken_by(past: StepRecord) -> MessageRecord | None:
    """The signal that a journaled wait has taken, where a replay gives the wait up before it gets that: it is put back.

    As it was read, and behind those that have come since: the key that it had went with it. One that was an error does
    not look other than that none came in time, and is not known.
    """
    if past.kind != "signal" or past.status != "completed":
        return None
    return MessageRecord(0, past.run, "signal", past.name, past.output, None, past.finished_at or past.started_at)


def _replayed(call: Call, past: StepRecord | None, world: World) -> Decision | None:
    """What is decided where the journal has the outcome; `None` where it has at most that the wait has begun."""
    if past is not None:
        require_same_operation(call, past, world)
    return None if past is None or past.turn is None else from_journal(call, past)


def _begun(call: Call, now: float, due: float | None) -> StepRecord:
    return StepRecord(
        call.run, call.branch, call.position, call.callee.kind, call.callee.name, call.callee.module, "running", 0, 0,
        None, None, None, now, None, None if due is None else min(due, LAST_DAY), None,
    )  # fmt: skip


def _remaining(begun: StepRecord, now: float, *, is_fixed: bool = False) -> float:
    """Seconds until it is due: never more than the whole wait, however the clock was set, unless for a fixed time."""
    due: Any = begun.retry_at
    left: float = due - now
    return max(0.0, left if is_fixed else min(left, float(due - begun.started_at)))

"""What a workflow body calls: a step, a child run, a value of the library's own such as `now`.

Each takes its place in the run at the moment when it is called, and is then decided by a generator of `_replay.py`.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._clock import SYSTEM_CLOCK, Clock
from ._codec import codec_for
from ._drive import drive
from ._effects import TIMED_OUT, TOLD, Append, Call, Callee, Decision, World
from ._execution import Execution
from ._identity import idempotency_key
from ._lost import require_not_lost
from ._model import StepRecord
from ._replay import (
    decide_cancelled,
    decide_step,
    describe,
    from_journal,
    journal_cut,
    place,
    require_same_operation,
)
from ._scopes import SCOPE, Branch, StepScope, current_branch
from ._signature import Signature
from .errors import DurableError, Halt, JournalError, NonDeterminismError

if TYPE_CHECKING:
    import datetime as dt
    import uuid as uuids

    import apsw

Decide = Callable[[Call, StepRecord | None, World], Decision]


def take_place(branch: Branch, call: Call, decide: Decide, *, beside: bool = False) -> Decision:
    """Give the call its place in the run, now, and return the decision that is to be driven.

    `beside`: the code does not wait for it before it calls the next.
    """
    execution = branch.execution
    if execution.halted is not None:
        raise execution.halted
    if branch.interrupt is not None or sys.exception() is not None:
        _require_not_interrupted(branch)
    if execution.branches is not None:
        execution.branches.require_own_task()
    call.run = execution.record.seq
    call.branch = branch.name
    call.position = branch.position
    branch.position += 1
    past = execution.past.get((call.branch, call.position)) if execution.past else None
    if execution.replaying and (past is None or past.finished_at is None or past.status == "retrying"):
        execution.replaying = False
    cancel = execution.cancel
    if past is not None and past.error in TOLD:
        cancel.delivered = True
        cancel.timed_out = past.error == TIMED_OUT
    elif cancel.requested and cancel.is_due() and _is_news(execution, past):
        cancel.delivered = True
        decide = _decide_cancelled
    try:
        decision = decide(call, past, execution)
    except Halt as halt:  # code and journal disagree
        raise execution.halt(halt.error) from halt.__cause__
    if execution.past:
        _has_called(execution, call, past, beside=beside)
    return decision if execution.rehearse is None else execution.rehearse(call, decision)


def _is_news(execution: Execution, past: StepRecord | None) -> bool:
    """Whether nothing but this operation is left of what the journal has, and it has no outcome of that.

    A submitted step may be without one, and what the body called after it is there: the body comes as far again before
    it is told anything new. And a child that it has called is cancelled with it, and ends first, as one does that is
    still executing.
    """
    if past is None:
        return not execution.past
    return past.turn is None and past.kind != "child" and len(execution.past) == 1


def _require_not_interrupted(branch: Branch) -> None:
    """Raise the interrupt that the body handles (`finally`, `except`), here or where it created this task."""
    execution = branch.execution
    if (interrupt := branch.handled_interrupt()) is not None:
        if interrupt is not branch.interrupt:  # else it is being handled in another task, which goes on to its end
            execution.interrupt_by(interrupt)
        raise interrupt
    if execution.branches is not None and _handles_cancellation(execution):
        execution.branches.look_for_interrupt()
    if execution.halted is not None:
        raise execution.halted


def _handles_cancellation(execution: Execution) -> bool:
    error = sys.exception()
    while error is not None and error is not execution.handled:
        if type(error).__name__ == "CancelledError":  # asyncio is not imported here
            return True
        error = error.__context__
    return False


def _has_called(execution: Execution, call: Call, past: StepRecord | None, *, beside: bool) -> None:
    """The code has called what the journal has at this place.

    Told only now that it is known to be the same: a thread calls while the loop goes on, which lets begin what is new
    as soon as all was called.
    """
    branches = execution.branches
    if past is not None and branches is not None and not branches.is_here():
        # The loop takes it, where the task of this thread may give it up before: see `_threads.py`.
        if past.turn is None:
            branches.past.begun_again(past)
        return
    if past is not None:
        del execution.past[call.branch, call.position]
    if past is None or past.turn is None:
        _has_no_outcome(execution, call, past, beside=beside)


def _has_no_outcome(execution: Execution, call: Call, past: StepRecord | None, *, beside: bool) -> None:
    """Here the journal ends for whoever calls: what else it has was called before, or is called by others."""
    if execution.branches is not None:
        if past is not None:
            execution.branches.past.delivered(None)
    elif not beside:
        if past is None:
            _require_not_lost(execution, call)
        execution.require_all_called(call)


def _require_not_lost(execution: Execution, call: Call) -> None:
    try:
        called, steps_of = f"{describe(call)} at {place(call)}", execution.journal.steps
        require_not_lost(call.branch, call.position, execution.past, execution.record, steps_of, called=called)
    except (JournalError, NonDeterminismError) as error:
        raise execution.halt(error) from error


def _decide_cancelled(call: Call, _: StepRecord | None, world: World) -> Decision:
    return decide_cancelled(call, world)


def take_place_beside(branch: Branch, call: Call, decide: Decide) -> tuple[Decision, StepRecord | None]:
    """The same for what runs beside other operations, with what the journal has at that place."""
    past = branch.execution.past.get((branch.name, branch.position))
    return take_place(branch, call, decide, beside=True), past


def as_step(name: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of the library's own that others see: in the body of a workflow as a step of one attempt.

    So a replay does not do it again, and takes the way that its outcome led to. Where a crash cuts it, it is done anew.
    """
    branch = current_branch()
    if branch is None:
        return function(*args)
    signature = Signature(function)
    inputs = signature.dump_step_inputs(args, {}, name)
    call = Call(Callee("step", name, signature.result, signature=signature), function, args, inputs=inputs)
    return drive(branch.execution, take_place(branch, call, decide_step))


# -- values of the library's own --------------------------------------------------------------------------------------


def decide_value(call: Call, past: StepRecord | None, world: World, *, full: bool = False) -> Decision:
    """A value that the library itself makes: written down at once (`full`: on disk), and so the same on replay."""
    if past is None:
        return _make_value(call, world, full)
    require_same_operation(call, past, world)
    return from_journal(call, past)


def _make_value(call: Call, world: World, full: bool) -> Decision:
    callee = call.callee
    text, value = callee.result.dump_load(call.function())
    now = world.now()
    record = StepRecord(
        call.run, call.branch, call.position, callee.kind, callee.name, callee.module, "completed", 1, 0,
        None, text, None, now, now, None, 0,
    )  # fmt: skip
    if cut := (yield Append(record, None, full=full)):
        return (yield from journal_cut(cut, record, world))
    return value


def _own_value(kind: str, make: Callable[[Clock], Any], annotation: Any) -> Any:
    branch = current_branch()
    if branch is None:
        scope = SCOPE.get()
        return make(SYSTEM_CLOCK if scope is None else scope.execution.clock)
    execution = branch.execution
    call = Call(Callee(kind, kind, codec_for(annotation)), lambda: make(execution.clock))
    return drive(execution, take_place(branch, call, decide_value))


def mark_map(branch: Branch, step: Any, size: int) -> None:
    """The place of a map in its branch: another call there, or another number of items, is noticed before any runs."""
    call = Call(Callee("map", step.name, codec_for(int), step.module, step.source), lambda: size)
    position = branch.position
    before = drive(branch.execution, take_place(branch, call, decide_value))
    if before != size:
        msg = (
            f"at position {position} the journal has a map of step {step.name!r} over {before} items, but the code "
            f"maps it over {size}. Take the items from a step or from the inputs of the workflow, so that they are the "
            "same on replay"
        )
        raise branch.execution.halt(NonDeterminismError(msg))


def now() -> "dt.datetime":
    """The current time, aware and in UTC. In a workflow it is journaled, and so the same on replay."""
    import datetime as dt

    return _own_value("now", lambda clock: dt.datetime.fromtimestamp(clock.now(), dt.UTC), dt.datetime)  # type: ignore[no-any-return]


def uuid4() -> "uuids.UUID":
    """A random UUID. In a workflow it is journaled, and so the same on replay."""
    import uuid as uuids

    return _own_value("uuid4", lambda clock: uuids.UUID(bytes=clock.random_bytes(16), version=4), uuids.UUID)  # type: ignore[no-any-return]


def random() -> float:
    """A random number, at least 0 and below 1. In a workflow it is journaled, and so the same on replay."""
    return _own_value("random", lambda clock: clock.random(), float)  # type: ignore[no-any-return]


# -- where am I -------------------------------------------------------------------------------------------------------


class Info:
    """Where the running code is: run, step and attempt. Attempts count from 1; outside of a step `attempt` is 0."""

    __slots__ = ("_key_of", "attempt", "run_id", "step", "workflow")

    def __init__(self, run_id: str, workflow: str, step: str, attempt: int, key_of: tuple[str, str, int]) -> None:
        self.run_id = run_id
        self.workflow = workflow
        self.step = step
        self.attempt = attempt
        self._key_of = key_of

    @property
    def idempotency_key(self) -> str:
        """The same for all attempts of this step, and for nothing else: hand it to the services that the step calls."""
        return idempotency_key(*self._key_of)

    def __repr__(self) -> str:
        return (
            f"Info(run_id={self.run_id!r}, workflow={self.workflow!r}, step={self.step!r}, "
            f"attempt={self.attempt}, idempotency_key={self.idempotency_key!r})"
        )


def connection() -> "apsw.Connection":
    """The journal's own connection, inside a step with `transaction=True`: what it writes commits with the outcome.

    Statements that end the transaction, and writes to the tables of durable, are refused. Not to be kept: it belongs
    to the step only while its body runs. `DurableError` anywhere else.
    """
    scope = SCOPE.get()
    if not isinstance(scope, StepScope) or scope.connection is None:
        msg = "durable.connection() is for the body of a step with @durable.step(transaction=True)"
        raise DurableError(msg)
    return scope.connection  # type: ignore[no-any-return]


def info() -> Info:
    """Where the running code is. Outside of any run: an empty run id, and a fresh key."""
    scope = SCOPE.get()
    if scope is None:
        return Info("", "", "", 0, (SYSTEM_CLOCK.new_id(), "", 0))
    record = scope.execution.record
    if isinstance(scope, StepScope):
        call = scope.call
        return Info(
            record.id, record.workflow, call.callee.name, scope.attempt, (record.id, call.branch, call.position)
        )
    return Info(record.id, record.workflow, "", 0, (record.id, scope.name, -1))

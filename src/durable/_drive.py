"""Performs the effects of a decision: the driver that blocks. The one that awaits is in `_drive_async.py`.

A driver adds nothing to what `_replay.py` decided. It knows how to write, wait and run a body in its world, and which
exceptions are news for the decision and which take the execution down.
"""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ._attempts import INTERRUPTS, attempt, attempt_in_transaction
from ._clock import TimeLeft
from ._effects import (
    Append,
    Attempt,
    CarriedStopError,
    Conclude,
    Cut,
    Decision,
    Deliver,
    Effect,
    End,
    Receive,
    Sleep,
    Slot,
    Transact,
)
from ._entries import Work, do_all
from ._execution import Execution
from ._model import AttemptRecord, MessageRecord, StepRecord
from ._records import step_row
from ._rests import Rest, known_rest
from ._scopes import operation_completed
from ._thread_pool import seat_here
from ._transaction import Transaction, work_of
from .errors import (
    Cancelled,
    DurableError,
    EngineClosedError,
    Halt,
    JournalError,
    RunInterruptedError,
    SerializationError,
)

if TYPE_CHECKING:
    from ._branches import Branches


def drive(execution: Execution, decision: Decision) -> Any:
    """Carry out one operation, blocking this thread; return its value or raise its error."""
    stop: BaseException | None = None
    branches = execution.branches
    elsewhere = None if branches is None else perform if branches.is_here() else branches.threads.perform
    try:
        effect = next(decision)
        while True:
            try:
                answer = (elsewhere or _PERFORM[type(effect)])(execution, effect)
            except SerializationError as error:
                effect = decision.throw(error)
            except (JournalError, EngineClosedError) as error:  # of the file, and not of the code
                raise _taken_down(execution, error)  # noqa: B904 - its cause is the error, or it is that
            else:
                effect = decision.send(answer)
    except StopIteration as done:
        operation_completed()
        return done.value
    except (CarriedStopError, Cancelled) as ended:
        stop = _unpacked(ended, branches)
    except Halt as halt:
        raise execution.halt(halt.error) from halt.__cause__
    except INTERRUPTS as interrupt:  # wherever it struck: the body may catch it, but it calls nothing more
        execution.interrupt_by(interrupt)
        raise
    finally:
        decision.close()
        if branches is not None:
            branches.end_if_held_up()
    assert stop is not None  # every other way out returns or raises
    raise stop


def _taken_down(execution: Execution, error: DurableError) -> BaseException:
    """What the journal raises ends the execution; but not in a child of `fork`, which is no part of the run."""
    if not execution.journal.epoch:
        return error
    halt = execution.halt(error)
    halt.__cause__ = error
    return halt


def _unpacked(ended: CarriedStopError | Cancelled, branches: "Branches | None") -> BaseException:
    """What the body gets. A thread of an async run hands over to a future, which takes no `StopIteration`."""
    if isinstance(ended, Cancelled):
        return ended if branches is None else branches.telling.at_operation(ended)
    if branches is not None and not branches.is_here():
        raise RuntimeError(str(ended)) from ended.stop
    return ended.stop


def perform(execution: Execution, effect: Effect) -> Any:
    """Carry out one effect of an async run here, in the thread that this is called in."""
    assert execution.branches is not None
    _flush(execution.branches, effect)
    if type(effect) is Append and effect.record.status != "retrying" and (cut := _cut_by_cancel(execution)):
        return cut
    return _PERFORM[type(effect)](execution, effect)


def _append(execution: Execution, effect: Append) -> None:
    record = effect.record
    if execution.parallel is not None:
        execution.parallel.require_wanted()
    full = effect.full or (record.turn is None and execution.needs_sync())
    transaction = _write(execution, record, effect.attempt, full)
    if record.turn is not None:  # an outcome without an fsync: a later step may show it to the outside
        execution.unsynced = transaction


def _conclude(execution: Execution, effect: Conclude) -> None:
    _write(execution, effect.record, effect.attempt, True, effect.message)
    if execution.halted is not None:
        raise execution.halted


def _end(_: Execution, effect: End) -> None:
    effect.stop()


def _deliver(execution: Execution, effect: Deliver) -> None:
    if execution.branches is not None:  # blocks the loop: has no turn
        execution.branches.past.delivered(effect.record.turn)


def _flush(branches: "Branches", effect: Effect) -> None:
    if isinstance(effect, (Append, Conclude)) and branches.is_here():
        if isinstance(effect, Append):
            branches.past.require_called(effect.record)
        branches.flush()


def _write(
    execution: Execution,
    record: StepRecord,
    attempt: AttemptRecord | None,
    full: bool,
    message: MessageRecord | None = None,
) -> int:
    work = work_of(step_row(record), attempt, message)
    if threading.get_ident() != execution.thread:
        work = _fenced(execution, work, record.branch)
    try:
        return execution.journal.commits.write(work, full)  # type: ignore[no-any-return]
    except RunInterruptedError as error:
        raise execution.halt(error) from error


def _fenced(execution: Execution, work: Work, branch: str) -> Work:
    """In a thread beside the run's own, which may outlive it: whether it goes on is asked inside the transaction."""

    def fenced(transaction: Transaction) -> Any:
        execution.require_going_on(branch)
        return do_all([work], transaction)[0]

    return fenced


def _pause(execution: Execution, effect: Sleep) -> Cut | None:
    """Wait, unless the run is taken down, suspended or cancelled meanwhile."""
    left = TimeLeft(execution.clock, effect.seconds)
    while True:
        event = threading.Event()
        with known_rest(execution, Rest(event.set, left)):
            execution.rest(event, left.seconds())
        cut = _cut_by_cancel(execution)
        if cut is not None or left.seconds() <= 0 or not event.is_set():  # else woken for a cancellation of others
            return cut


def _receive(execution: Execution, effect: Receive) -> MessageRecord | Cut | None:
    """Wait for a signal, unless the run is taken down, suspended or cancelled meanwhile."""
    event, branches = threading.Event(), execution.branches
    next_signal = execution.next_signal if branches is None else branches.threads.next_signal
    left = None if effect.seconds is None else TimeLeft(execution.clock, effect.seconds)
    with known_rest(execution, Rest(event.set, left, effect.name)):
        while True:
            event.clear()
            message, seconds = next_signal(effect.name), None if left is None else left.seconds()
            if message is not None or (seconds is not None and seconds <= 0):
                return message
            execution.rest(event, seconds)
            if cut := _cut_by_cancel(execution):
                return cut


def _cut_by_cancel(execution: Execution) -> Cut | None:
    if not execution.is_cut():
        return None
    execution.told_here()
    return Cut(execution.cancellation())


def _take_slot(execution: Execution, effect: Slot) -> Cut | None:
    call = effect.call
    limit = execution.limits.of("step", call.callee.name, call.callee.concurrency)
    woken, slots = threading.Event(), []

    def granted() -> None:
        slots.append(limit)
        woken.set()

    limit.request(granted)
    if not slots and (seat := seat_here()) is not None:
        seat.has_waited = True
    try:
        while True:
            execution.wait(woken, None)
            woken.clear()  # before it looks: it may have been for a cancellation that is for others
            cut = _cut_by_cancel(execution)
            if slots or cut is not None:
                break
    except BaseException:
        if not limit.withdraw(granted):
            limit.release()
        raise
    if cut is None:
        call.release_slot = limit.release
    elif not limit.withdraw(granted):
        limit.release()
    return cut


_PERFORM: Final[dict[type[Effect], Callable[[Execution, Any], Any]]] = {
    Append: _append,
    Attempt: attempt,
    Conclude: _conclude,
    Deliver: _deliver,
    End: _end,
    Receive: _receive,
    Sleep: _pause,
    Slot: _take_slot,
    Transact: attempt_in_transaction,
}

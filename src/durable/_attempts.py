"""Runs the body of a step once: in this thread, in another one that a timeout may leave behind, or in a transaction.

And says what of its errors is an outcome, and what ends the attempt without being one. The body of an async step is
awaited in `_drive_async.py`.
"""

import threading
from contextvars import copy_context
from typing import Any, Final

from ._clock import wait_for
from ._effects import Attempt, Call, Completed, Cut, Failed, Transact
from ._execution import Execution
from ._model import StepRecord, new_tuple
from ._records import step_row
from ._scopes import EXITS, SCOPE, StepScope, needing_thread
from ._thread_pool import run_in_helper
from ._transaction import Transaction
from .errors import (
    Cancelled,
    EngineClosedError,
    Halt,
    RunInterruptedError,
    StepTimeoutError,
)

INTERRUPTS: Final = (*EXITS, GeneratorExit, Halt)
"""What ends an attempt without being its outcome."""


def attempt(execution: Execution, effect: Attempt) -> Completed | Failed | Cut:
    """Run the body of a sync step once, in this thread, or in another one when it has a timeout."""
    call = effect.call
    scope = StepScope(execution, call, effect.record.attempt)
    token = SCOPE.set(scope)
    execution.attempts_in_flight += 1
    try:
        if call.callee.timeout_seconds is None:
            return new_tuple(Completed, (call.function(*call.args, **call.kwargs),))
        scope.may_be_left = True
        return _run_with_timeout(call, call.callee.timeout_seconds)
    except Cancelled as cancelled:  # of a child, which was cancelled with this run
        if not execution.cancel.requested:
            return Failed(cancelled)
        execution.told_here()
        return Cut(cancelled)
    except Halt:  # of a child: what stopped it stops this run too
        raise
    except INTERRUPTS as interrupt:
        execution.interrupt_by(interrupt, f" in step {call.callee.name!r}")
        raise
    except BaseException as error:
        return failed(execution, error)
    finally:
        execution.attempts_in_flight -= 1
        scope.over = True
        SCOPE.reset(token)


def failed(execution: Execution, error: BaseException) -> Failed:
    """What a body raised. What the end of the engine made of its calls is no failure: it cut the attempt."""
    if execution.halted is not None and _is_of_the_end(error):
        raise execution.halted from error
    return Failed(error)


def _is_of_the_end(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):  # of a `TaskGroup` in the body
        return any(map(_is_of_the_end, error.exceptions))
    return isinstance(error, (EngineClosedError, RunInterruptedError, Halt))


class _RolledBackError(Exception):
    """Takes the error of a body out of the transaction, which it rolls back."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def attempt_in_transaction(execution: Execution, effect: Transact) -> Completed | Failed:
    """Run the body with the journal's own connection; its writes and its outcome are committed together."""
    call = effect.call

    def work(transaction: Transaction) -> Any:
        execution.require_going_on(call.branch)
        scope = StepScope(execution, call, effect.record.attempt)
        token = SCOPE.set(scope)
        try:
            with transaction.lent() as scope.connection:
                record, decoded = _concluded(effect)
        finally:
            scope.connection, scope.over = None, True
            SCOPE.reset(token)
        execution.require_going_on()
        transaction.put(step_row(record))
        return decoded

    execution.attempts_in_flight += 1
    try:
        return Completed(execution.journal.write_alone(work))
    except _RolledBackError as rolled_back:
        return failed(execution, rolled_back.error)
    except RunInterruptedError as error:
        raise execution.halt(error) from error
    finally:
        execution.attempts_in_flight -= 1


def _concluded(effect: Transact) -> tuple[StepRecord, Any]:
    """The outcome of the body. No `with` sees its error: it would write on it, and a frozen one refuses."""
    call = effect.call
    try:
        return effect.conclude(call.function(*call.args, **call.kwargs))
    except INTERRUPTS:
        raise
    except BaseException as error:
        raise _RolledBackError(error) from error


def _run_with_timeout(call: Call, timeout_seconds: float) -> Completed:
    """A thread cannot be killed: at the timeout the attempt is abandoned, and what it still returns is discarded.

    One that has not begun by then never does: it might run the step again when the next attempt has completed it.
    """
    context = copy_context()
    values: list[Any] = []
    errors: list[BaseException] = []
    ended, begins = threading.Event(), threading.Lock()  # of whoever comes first: the body, or its timeout

    def body() -> None:
        if not begins.acquire(blocking=False):
            return
        try:
            values.append(context.run(call.function, *call.args, **call.kwargs))
        except BaseException as error:
            errors.append(error)
        finally:
            ended.set()

    with needing_thread():
        run_in_helper(body)
    if not wait_for(ended, min(timeout_seconds, threading.TIMEOUT_MAX)):
        begins.acquire(blocking=False)
        raise timed_out(call, timeout_seconds)
    if errors:
        raise errors[0]
    return Completed(values[0])


def timed_out(call: Call, timeout_seconds: float) -> StepTimeoutError:
    """The error of an attempt that took too long."""
    return StepTimeoutError(f"step {call.callee.name!r} took longer than its timeout of {timeout_seconds:g} s")

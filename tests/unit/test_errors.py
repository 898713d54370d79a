"""The tree of exceptions, and what the few with fields of their own say."""

import copy
import pickle
from concurrent.futures import TimeoutError as FutureTimeoutError

import pytest

from durable import errors
from durable.errors import (
    Cancelled,
    DurableError,
    Halt,
    JournalError,
    JournalLockedError,
    NonDeterminismError,
    RetryAfter,
    RunBlockedError,
    StepError,
    StepTimeoutError,
    TimedOut,
)

CLASSES = [value for value in vars(errors).values() if isinstance(value, type)]
SIGNALS = {Cancelled, TimedOut, Halt}


def test_everything_but_the_signals_is_a_durable_error():
    assert {cls for cls in CLASSES if not issubclass(cls, DurableError)} == SIGNALS


@pytest.mark.parametrize("cls", sorted(SIGNALS, key=lambda cls: cls.__name__))
def test_a_signal_passes_by_every_except_exception(cls):
    assert issubclass(cls, BaseException)
    assert not issubclass(cls, Exception)


@pytest.mark.parametrize("cls", CLASSES)
def test_each_says_what_it_means(cls):
    assert cls.__doc__
    assert cls.__doc__ not in [base.__doc__ for base in cls.__bases__]


def test_who_stands_under_whom():
    assert issubclass(JournalLockedError, JournalError)
    assert issubclass(NonDeterminismError, RunBlockedError)
    assert issubclass(StepTimeoutError, TimeoutError)
    assert issubclass(StepTimeoutError, FutureTimeoutError)


def test_a_locked_journal_knows_the_pid():
    assert JournalLockedError("taken", 42).pid == 42
    assert JournalLockedError("taken").pid is None
    assert str(JournalLockedError("taken", 42)) == "taken"


def test_a_step_error_reads_like_the_one_it_stands_for():
    assert str(StepError("shop:PaymentFailed", "card 42", "Traceback …")) == "shop:PaymentFailed: card 42"
    assert str(StepError("shop:PaymentFailed", "")) == "shop:PaymentFailed"
    assert StepError("a:B", "c").traceback == ""
    error = StepError("a:B", "c", "d")
    assert (error.type_name, error.message, error.traceback) == ("a:B", "c", "d")


def test_retry_after_says_when():
    assert str(RetryAfter(3)) == "retry after 3 s"
    assert str(RetryAfter(3, "rate limited")) == "rate limited"
    assert RetryAfter(0).seconds == 0


def test_halt_carries_what_callers_get():
    error = NonDeterminismError("other")
    halt = Halt(error)
    assert halt.error is error
    assert str(halt) == "other", "where it is seen all the same, it says why"


def test_a_blocked_run_is_named_once_also_by_the_run_that_called_it():
    error = NonDeterminismError("other")
    assert error.run_id == ""
    error.of_run("child-1", "refund")
    error.of_run("order-42", "order")
    assert error.run_id == "child-1"
    assert str(error) == "other (run child-1 of 'refund')"


@pytest.mark.parametrize("error", [StepError("a:B", "c", "d"), RetryAfter(2.5, "x"), DurableError("m")])
def test_errors_can_be_copied_and_sent_to_other_processes(error):
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(other) is type(error)
        assert other.args == error.args
        assert str(other) == str(error)


def test_a_locked_journal_error_keeps_its_pid_in_a_copy():
    assert pickle.loads(pickle.dumps(JournalLockedError("taken", 42))).pid == 42

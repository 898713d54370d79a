"""The decision of one operation, driven by hand: every sequence of effects, every rule, every kind of past record."""

import traceback
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable import NonRetryableError, RetryAfter, RetryPolicy
from durable._codec import dump_error, load_error
from durable._effects import Callee, CarriedStopError
from durable._model import AttemptRecord, StepRecord
from durable._replay import (
    CANCELLED,
    CUT,
    TIMED_OUT,
    Append,
    Attempt,
    Call,
    Completed,
    Conclude,
    Cut,
    Deliver,
    Failed,
    Sleep,
    Slot,
    Transact,
    decide_cancelled,
    decide_step,
    decide_told,
    describe,
    place,
    refuse_to_wait,
    remaining_delay,
    require_nothing_left,
    was_told_at,
)
from durable._signature import Signature
from durable.errors import (
    Cancelled,
    Halt,
    JournalError,
    NonDeterminismError,
    RunBlockedError,
    SerializationError,
    StepError,
    StepInterruptedError,
    StepTimeoutError,
)

POLICY = RetryPolicy(initial_interval=10, backoff_coefficient=2, maximum_attempts=3, jitter=0)


@dataclass
class World:
    """A clock that goes on a second each time it is read, and no dice."""

    time: float = 1000.0
    dice: float = 0.5
    others: tuple[str, ...] = ()
    declared: tuple[str, ...] = ("charge",)
    trusting: bool = False
    cancelled: BaseException = field(default_factory=Cancelled)

    @property
    def record(self):
        return SimpleNamespace(id="order-42", workflow="order")

    def now(self):
        self.time += 1
        return self.time

    def chance(self):
        return self.dice

    def has_step(self, module, name):
        return name in self.declared

    def is_other_step(self, module, step):
        return module in self.others and step.name == "charge"

    def trusts_journal(self):
        return self.trusting

    def cancellation(self):
        return self.cancelled


@dataclass
class Order:
    id: str


def charge(order: str, cents: int = 5) -> int: ...


SIGNATURE = Signature(charge)


def call(**changes):
    callee = Callee("step", "charge", SIGNATURE.result, "shop", "/shop.py", signature=SIGNATURE, policy=POLICY)
    made = Call(callee, charge, ("o", 1), inputs='{"order":"o","cents":1}')
    made.run, made.branch, made.position = 7, "", 3
    for name, value in changes.items():
        setattr(made if hasattr(made, name) else callee, name, value)
    return made


def record(**changes):
    made = StepRecord(
        7,
        "",
        3,
        "step",
        "charge",
        "shop",
        "running",
        1,
        0,
        '{"order":"o","cents":1}',
        None,
        None,
        900.0,
        None,
        None,
        None,
    )
    return made._replace(**changes)


completed = record(status="completed", output="42", finished_at=905.0, turn=0)


class Throw:
    """An answer that is an error of performing the effect."""

    def __init__(self, error):
        self.error = error


class Driver:
    """Answers effects one by one, keeping them; at the end has `value` or `error`."""

    def __init__(self, made=None, past=None, world=None):
        self.world = world or World()
        self.effects = []
        self.value = self.error = None
        self.over = False
        self._go(lambda: self._begin(made or call(), past))

    def _begin(self, made, past):
        self.decision = decide_step(made, past, self.world)
        return next(self.decision)

    def answer(self, *answers):
        for answer in answers:
            assert not self.over, "the decision is over"
            if isinstance(answer, Throw):
                self._go(lambda answer=answer: self.decision.throw(answer.error))
            else:
                self._go(lambda answer=answer: self.decision.send(answer))
        return self

    def _go(self, step):
        try:
            self.effects.append(step())
        except StopIteration as done:
            self.value, self.over = done.value, True
        except BaseException as error:
            self.error, self.over = error, True

    @property
    def last(self):
        return self.effects[-1]

    def kinds(self):
        return [type(effect) for effect in self.effects]


ASYNCIO_CUT = TimeoutError("cut by asyncio")


class PaymentFailed(Exception):
    pass


def failing(error):
    """`error` as a body raises it, with a traceback."""
    try:
        raise error
    except BaseException as raised:
        return Failed(raised)


# -- what is called ---------------------------------------------------------------------------------------------------


def test_a_callee_is_what_it_was_declared_as():
    bare = Callee("now", "now", SIGNATURE.result)
    assert (bare.module, bare.source, bare.transaction, bare.concurrency) == ("durable", "", False, 0)
    declared = Callee("step", "charge", SIGNATURE.result, "shop", "/shop.py", transaction=True, concurrency=4)
    assert (declared.module, declared.source, declared.transaction, declared.concurrency) == (
        "shop",
        "/shop.py",
        True,
        4,
    )


def test_a_call_has_what_its_body_is_called_with():
    bare = Call(call().callee, charge)
    assert (bare.function, bare.args, bare.kwargs, bare.inputs) == (charge, (), {}, "")
    named = {"order": "o"}
    full = Call(call().callee, charge, (1,), named, "{}")
    assert (full.args, full.kwargs, full.inputs) == ((1,), named, "{}")
    assert full.kwargs is named


# -- the first run ----------------------------------------------------------------------------------------------------


def test_an_attempt_is_written_down_before_it_begins_and_an_outcome_before_it_is_returned():
    play = Driver()
    begun = record(attempt=1, started_at=1001.0)
    assert play.effects == [Append(begun, None, full=False)]
    play.answer(None)
    assert play.last.record == begun
    assert play.last.call.callee.name == "charge"
    play.answer(Completed(42))
    assert play.last == Conclude(begun._replace(status="completed", output="42", finished_at=1002.0, turn=0), None)
    assert not play.over
    play.answer(None)
    assert play.value == 42
    assert play.kinds() == [Append, Attempt, Conclude]


def test_what_is_returned_is_the_decoded_value():
    made = call(result=Signature(dict).result)
    given_value = {"a": [1, (2, 3)]}
    play = Driver(made).answer(None, Completed(given_value), None)
    assert play.value == given_value
    assert play.value is not given_value
    assert play.value["a"] is not given_value["a"]


@pytest.mark.parametrize("value", [None, 0, False, "", [], ()])
def test_a_value_that_is_false_is_an_outcome_too(value):
    made = call(result=Signature(lambda: None).result)
    play = Driver(made).answer(None, Completed(value), None)
    assert play.over
    assert play.error is None
    assert play.value == value
    assert type(play.value) is type(value)


def test_the_start_of_an_at_most_once_attempt_is_on_disk_before_its_body_runs():
    assert Driver(call(at_most_once=True)).last.full is True
    assert Driver(call(at_most_once=False)).last.full is False


def test_failures_are_tried_again_with_growing_delays_until_they_run_out():
    play = Driver().answer(None, failing(PaymentFailed("a")))
    first = play.last
    assert first == Append(
        record(status="retrying", attempt=1, failures=1, started_at=1001.0, finished_at=1002.0, retry_at=1012.0),
        AttemptRecord(7, "", 3, 1, 1001.0, 1002.0, first.attempt.error),
        full=True,
    )
    assert load_error(first.attempt.error).args == ("a",)
    play.answer(None)
    assert play.last == Sleep(10.0)
    play.answer(None)
    assert play.last == Append(record(attempt=2, failures=1, started_at=1003.0), None, full=False)
    play.answer(None, failing(PaymentFailed("b")), None)
    assert play.last == Sleep(20.0)
    play.answer(None, None, failing(PaymentFailed("c")))
    assert type(play.last) is Conclude
    assert play.last.record[6:9] == ("failed", 3, 3)
    assert play.last.record.retry_at is None
    assert play.last.attempt.attempt == 3
    assert play.last.attempt.error == play.last.record.error
    play.answer(None)
    assert type(play.error) is PaymentFailed
    assert play.error.args == ("c",)
    assert play.kinds() == [Append, Attempt, Append, Sleep] * 2 + [Append, Attempt, Conclude]


def test_a_success_after_failures_keeps_their_number():
    play = Driver().answer(None, failing(PaymentFailed()), None, None, None, Completed(1))
    assert play.last.record[6:9] == ("completed", 2, 1)
    assert play.last.attempt is None
    assert play.last.record.error is None
    play.answer(None)
    assert play.value == 1


def test_the_error_raised_at_the_end_is_the_decoded_one_with_the_original_traceback_and_a_note():
    original = PaymentFailed("x")
    play = Driver(call(policy=RetryPolicy(maximum_attempts=1))).answer(None, failing(original), None)
    assert type(play.error) is PaymentFailed
    assert play.error is not original
    assert "failing" in [frame.name for frame in traceback.extract_tb(play.error.__traceback__)]
    assert play.error.__notes__ == ["durable: step 'charge' failed after 1 attempt"]


def test_the_note_counts_attempts():
    failed = record(
        status="failed", attempt=4, failures=3, error=dump_error(PaymentFailed("x")), finished_at=950.0, turn=0
    )
    assert Driver(past=failed).answer(None).error.__notes__ == ["durable: step 'charge' failed after 4 attempts"]


def test_an_error_that_cannot_be_rebuilt_is_a_step_error_from_the_original(monkeypatch):
    monkeypatch.setattr("durable._replay.load_error", lambda text: StepError("shop:PaymentFailed", "x"))
    original = PaymentFailed("x")
    play = Driver(call(policy=RetryPolicy(maximum_attempts=1))).answer(None, failing(original), None)
    assert type(play.error) is StepError
    assert play.error.__cause__ is original
    assert play.error.type_name.endswith(":PaymentFailed")


def test_a_step_error_of_the_body_itself_is_raised_as_any_other():
    original = StepError("a:B", "c")
    play = Driver(call(policy=RetryPolicy(maximum_attempts=1))).answer(None, failing(original), None)
    assert type(play.error) is StepError
    assert play.error.__cause__ is None
    assert play.error.args == original.args


def test_a_stop_iteration_is_carried_out_of_the_generator_with_its_traceback():
    once = call(policy=RetryPolicy(maximum_attempts=1))
    original = failing(StopIteration("x"))
    first = Driver(once).answer(None, original)
    written = first.last.record
    first.answer(None)
    again = Driver(once, written).answer(None)
    for carried in (first.error, again.error):
        assert type(carried) is CarriedStopError
        assert str(carried) == "a coroutine cannot raise StopIteration"
        assert type(carried.stop) is StopIteration
        assert carried.stop.args == ("x",)
        assert carried.__cause__ is carried.stop
    assert traceback.extract_tb(first.error.stop.__traceback__)[-1].name == "failing"


def test_an_error_that_is_not_to_be_retried_ends_the_step():
    play = Driver().answer(None, failing(NonRetryableError("no")))
    assert type(play.last) is Conclude
    assert play.last.record.status == "failed"
    assert play.answer(None).error.args == ("no",)


def test_retry_after_is_the_next_delay():
    play = Driver().answer(None, failing(RetryAfter(3600)), None)
    assert play.last == Sleep(3600)
    assert play.effects[-2].record.retry_at == play.effects[-2].record.finished_at + 3600


def test_jitter_comes_from_the_world():
    made = call(policy=RetryPolicy(initial_interval=10, jitter=0.5))
    assert Driver(made, world=World(dice=0.0)).answer(None, failing(ValueError()), None).last == Sleep(5)
    assert Driver(made, world=World(dice=1.0)).answer(None, failing(ValueError()), None).last == Sleep(15)


def test_no_sleep_after_the_last_attempt():
    play = Driver(call(policy=RetryPolicy(maximum_attempts=1))).answer(None, failing(ValueError()), None)
    assert Sleep not in play.kinds()
    assert play.over


@pytest.mark.parametrize("at_most_once", [False, True])
def test_an_at_most_once_attempt_that_timed_out_is_not_repeated(at_most_once):
    play = Driver(call(at_most_once=at_most_once)).answer(None, failing(StepTimeoutError("slow")))
    assert type(play.last) is (Conclude if at_most_once else Append)


def test_an_at_most_once_attempt_that_raised_is_tried_again():
    play = Driver(call(at_most_once=True)).answer(None, failing(ValueError()), None, None)
    assert play.kinds() == [Append, Attempt, Append, Sleep, Append]
    assert play.last.full is True
    assert play.last.record.attempt == 2


# -- results that cannot be held --------------------------------------------------------------------------------------


def test_a_result_that_cannot_be_held_is_the_failure_of_its_step_and_not_retried():
    made = call(result=Signature(lambda: None).result)
    play = Driver(made).answer(None, Completed({"a": [lambda: None]}))
    assert type(play.last) is Conclude
    assert play.last.record[6:9] == ("failed", 1, 1)
    assert play.last.attempt.error == play.last.record.error
    play.answer(None)
    assert type(play.error) is SerializationError
    assert "the result of step 'charge' cannot be journaled: $.a[0]" in str(play.error)


def test_a_result_that_the_file_refuses_is_the_failure_of_its_step_too():
    play = Driver().answer(None, Completed(42), Throw(SerializationError("$: larger than SQLite holds")))
    assert type(play.last) is Conclude
    assert play.last.record.status == "failed"
    assert play.last.record.output is None
    assert "larger than SQLite holds" in str(play.answer(None).error)


def test_a_journal_that_fails_is_no_outcome():
    error = JournalError("disk full")
    for answers in ((), (None, Completed(42))):
        play = Driver().answer(*answers, Throw(error))
        assert play.over
        assert play.error is error


# -- a limit on how many at a time ------------------------------------------------------------------------------------


def limited(released, **changes):
    made = call(concurrency=2, **changes)
    made.release_slot = lambda: released.append("too early")
    return made


def taking_slot(play, released):
    """Answer a `Slot` as a driver does: leave the way to give it back with the call."""
    assert type(play.last) is Slot
    play.last.call.release_slot = lambda: released.append(len(play.effects))
    return play.answer(None)


def test_a_limited_step_takes_a_slot_for_each_attempt_and_gives_it_back_before_its_back_off():
    released = []
    play = taking_slot(Driver(limited(released)), released)
    assert type(play.last) is Append
    play.answer(None)
    assert released == []
    play.answer(failing(PaymentFailed()))
    assert released == [3], "after slot, start and attempt"
    play.answer(None, None)
    taking_slot(play, released).answer(None, Completed(1), None)
    assert play.value == 1
    assert play.kinds() == [Slot, Append, Attempt, Append, Sleep, Slot, Append, Attempt, Conclude]
    assert released == [3, 8]


def test_a_start_is_written_when_there_is_room_for_it():
    play = Driver(limited([]))
    play.world.time = 5000.0
    play.answer(None)
    assert play.last.record.started_at == 5001.0


@pytest.mark.parametrize("answers", [(Throw(JournalError("disk")),), (None, Throw(KeyboardInterrupt()))])
def test_a_slot_is_given_back_whatever_happens(answers):
    released = []
    taking_slot(Driver(limited(released)), released).answer(*answers)
    assert len(released) == 1


def test_a_cut_while_waiting_for_a_slot_is_journaled_as_cut():
    play = Driver(limited([])).answer(Cut(ASYNCIO_CUT))
    assert play.kinds() == [Slot, Conclude]
    assert play.last.record.error == CUT


# -- a body that writes into the journal's own file -------------------------------------------------------------------


def test_a_transactional_attempt_makes_its_outcome_in_the_transaction_of_its_body():
    play = Driver(call(transaction=True)).answer(None)
    effect = play.last
    assert type(effect) is Transact
    completed_now, value = effect.conclude(42)
    assert value == 42
    assert completed_now == effect.record._replace(status="completed", output="42", finished_at=1002.0, turn=0)
    play.answer(Completed(value))
    assert play.value == 42
    assert play.kinds() == [Append, Transact], "the outcome is on disk already"


def test_a_transactional_result_that_cannot_be_held_is_refused_before_the_commit():
    made = call(transaction=True, result=Signature(lambda: None).result)
    play = Driver(made).answer(None)
    with pytest.raises(SerializationError):
        play.last.conclude(lambda: None)


def test_a_transactional_attempt_that_failed_is_tried_again():
    play = Driver(call(transaction=True)).answer(None, failing(PaymentFailed()), None, None, None)
    assert play.kinds() == [Append, Transact, Append, Sleep, Append, Transact]


# -- replay -----------------------------------------------------------------------------------------------------------


def test_a_completed_step_is_taken_from_the_journal():
    play = Driver(past=completed)
    assert play.effects == [Deliver(completed)]
    play.answer(None)
    assert play.value == 42
    assert play.world.time == 1000.0, "replay asks for no time"


def test_a_completed_step_without_text_is_none():
    made = call(result=Signature(lambda: None).result)
    play = Driver(made, completed._replace(output=None)).answer(None)
    assert play.value is None
    assert play.error is None


def test_a_failed_step_raises_its_error_again():
    failed = record(
        status="failed", attempt=1, failures=1, error=dump_error(PaymentFailed("x")), finished_at=905.0, turn=0
    )
    play = Driver(past=failed)
    assert play.effects == [Deliver(failed)]
    play.answer(None)
    assert type(play.error) is PaymentFailed
    assert play.error.args == ("x",)
    assert play.error.__notes__ == ["durable: step 'charge' failed after 1 attempt"]


def test_first_run_and_replay_raise_the_same():
    first = Driver(call(policy=RetryPolicy(maximum_attempts=1))).answer(None, failing(PaymentFailed("x", {"a": 1})))
    written = first.last.record
    first.answer(None)
    again = Driver(past=written).answer(None)
    assert type(again.error) is type(first.error)
    assert again.error.args == first.error.args
    assert again.error.__notes__ == first.error.__notes__


def test_an_attempt_that_a_crash_cut_has_its_number_but_is_no_failure():
    play = Driver(past=record(attempt=2, failures=1))
    assert play.effects == [
        Append(
            record(attempt=3, failures=1, started_at=1001.0),
            AttemptRecord(7, "", 3, 2, 900.0, None, None),
            full=False,
        )
    ]
    play.answer(None, failing(PaymentFailed()))
    assert play.last.record.failures == 2, "one failure before the crash and one after it"
    assert play.last.attempt.attempt == 3


def test_a_lost_attempt_is_written_down_once():
    play = Driver(past=record(attempt=1)).answer(None, failing(PaymentFailed()), None, None)
    assert type(play.last) is Append
    assert play.last.attempt is None


def test_a_crash_is_tried_again_even_without_a_policy():
    one = RetryPolicy(maximum_attempts=1)
    play = Driver(call(policy=one), record(attempt=1)).answer(None, Completed(1), None)
    assert play.value == 1
    assert play.effects[0].record.attempt == 2


def test_an_at_most_once_attempt_that_a_crash_cut_is_never_repeated():
    play = Driver(call(at_most_once=True), record(attempt=1))
    assert type(play.last) is Conclude
    assert play.last.attempt == AttemptRecord(7, "", 3, 1, 900.0, None, None)
    assert play.last.record[6:9] == ("failed", 1, 0)
    play.answer(None)
    assert type(play.error) is StepInterruptedError
    assert str(play.error) == (
        "the process ended during attempt 1 of step 'charge' of run order-42, which is at_most_once: whether its effect "
        "happened is unknown, and it is not repeated. Find out, and catch this error in the workflow to go on; or, if it "
        "may be repeated after all, durable.get('order-42').retry()"
    )
    assert play.effects[0].record.finished_at == play.world.time
    assert "durable.get('order-42').retry()" in str(play.error)
    assert not hasattr(play.error, "__notes__"), "an interrupt is no failure after attempts"
    again = Driver(call(at_most_once=True), play.effects[0].record).answer(None)
    assert type(again.error) is StepInterruptedError
    assert Attempt not in play.kinds() + again.kinds()


def test_an_interrupt_after_failures_is_told_with_them_and_raised_from_where_it_was_found():
    play = Driver(call(at_most_once=True), record(attempt=3, failures=2)).answer(None)
    assert type(play.error) is StepInterruptedError
    assert play.error.__notes__ == ["durable: step 'charge' failed after 3 attempts"]


def test_a_crash_in_a_back_off_goes_on_with_the_rest_of_it():
    waiting = record(status="retrying", attempt=2, failures=2, finished_at=1000.0, retry_at=1030.0)
    play = Driver(past=waiting, world=World(time=1009.0))
    assert play.effects == [Sleep(20.0)]
    play.answer(None)
    assert play.last.record[6:9] == ("running", 3, 2)
    assert play.last.attempt is None
    play.answer(None, failing(PaymentFailed()))
    assert type(play.last) is Conclude, "two failures before the crash, and three allowed"


@pytest.mark.parametrize(
    ("now", "rest"),
    [
        (1000.0, 30.0),
        (1010.0, 20.0),
        (1030.0, 0.0),
        (1031.0, 0.0),
        (9e9, 0.0),  # the clock jumped years ahead
        (999.0, 30.0),  # and back by a second
        (0.0, 30.0),  # and back to 1970
        (-1e12, 30.0),
    ],
)
def test_a_back_off_never_lasts_longer_than_the_whole_of_it_however_the_clock_jumped(now, rest):
    waiting = record(status="retrying", attempt=1, failures=1, finished_at=1000.0, retry_at=1030.0)
    assert remaining_delay(waiting, now) == rest


@given(st.floats(0, 4e9), st.floats(0, 1e7), st.floats(allow_nan=False, allow_infinity=False))
def test_the_rest_of_a_back_off_is_within_it(failed_at, delay, now):
    waiting = record(status="retrying", finished_at=failed_at, retry_at=failed_at + delay)
    assert 0 <= remaining_delay(waiting, now) <= (failed_at + delay) - failed_at


def test_a_back_off_without_times_is_over():
    assert remaining_delay(record(status="retrying", finished_at=1.0, retry_at=None), 0.0) == 0
    assert remaining_delay(record(status="retrying", finished_at=None, retry_at=1.0), 0.0) == 0


# -- cut by the workflow itself ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("past", "answers", "attempt", "failures"),
    [
        (None, (Cut(ASYNCIO_CUT),), 1, 0),  # while its start is written
        (None, (None, Cut(ASYNCIO_CUT)), 1, 0),  # in the attempt
        (None, (None, failing(PaymentFailed()), Cut(ASYNCIO_CUT)), 1, 1),  # while its failure is written
        (None, (None, failing(PaymentFailed()), None, Cut(ASYNCIO_CUT)), 1, 1),  # in the back-off
        (record(attempt=2, failures=1), (None, Cut(ASYNCIO_CUT)), 3, 1),
        (
            record(status="retrying", attempt=2, failures=2, finished_at=1.0, retry_at=2.0),
            (Cut(ASYNCIO_CUT),),
            2,
            2,
        ),
    ],
)
def test_a_cut_operation_is_journaled_as_cut(past, answers, attempt, failures):
    play = Driver(past=past).answer(*answers)
    assert type(play.last) is Conclude
    assert play.last.attempt is None
    assert play.last.record[6:9] == ("failed", attempt, failures)
    assert play.last.record.error == CUT
    assert play.last.record.output is None
    assert play.last.record.retry_at is None
    assert play.last.record.turn == 0
    assert play.last.record.finished_at is not None


def test_a_cut_operation_that_is_driven_on_raises_the_cancellation():
    play = Driver().answer(None, Cut(ASYNCIO_CUT), None)
    assert play.error is ASYNCIO_CUT


# -- the run is cancelled ---------------------------------------------------------------------------------------------


def test_a_cancellation_that_cut_an_operation_is_journaled_as_that_and_raised():
    signal = Cancelled()
    play = Driver().answer(None, Cut(signal))
    assert play.last.record[6:9] == ("failed", 1, 0)
    assert play.last.record.error == CANCELLED != CUT
    assert play.answer(None).error is signal


def test_the_first_operation_after_a_cancellation_is_journaled_in_its_place_and_not_begun():
    play = Driver.__new__(Driver)
    play.effects, play.value, play.error, play.over, play.world = [], None, None, False, World()
    play.decision = decide_cancelled(call(), play.world)
    play._go(lambda: next(play.decision))
    [conclude] = play.effects
    assert conclude == Conclude(
        record(status="failed", attempt=0, error=CANCELLED, started_at=1001.0, finished_at=1001.0, turn=0), None
    )
    assert type(play.answer(None).error) is Cancelled


def test_who_is_told_where_there_is_no_operation_has_one_for_that():
    decision = decide_told(call(), None, World())
    assert type(next(decision)) is Conclude
    with pytest.raises(Cancelled):
        decision.send(None)


@pytest.mark.parametrize(
    ("error", "attempt", "told"),
    [(CANCELLED, 0, True), (TIMED_OUT, 0, True), (CANCELLED, 1, False), (CUT, 0, False), (None, 0, False)],
)
def test_where_the_body_was_told_of_its_cancellation(error, attempt, told):
    assert was_told_at(record(status="failed", error=error, attempt=attempt)) is told


def test_a_cancelled_operation_replays_as_cancelled():
    past = record(status="failed", attempt=0, error=CANCELLED, finished_at=905.0, turn=0)
    play = Driver(past=past)
    assert play.effects == [Deliver(past)]
    assert type(play.answer(None).error) is Cancelled


# -- rules of determinism ---------------------------------------------------------------------------------------------


def halted(*args, **kwargs):
    play = Driver(*args, **kwargs)
    assert play.effects == [], "nothing is done where code and journal disagree"
    assert type(play.error) is Halt
    assert isinstance(play.error.error, RunBlockedError)
    return play.error.error


@pytest.mark.parametrize(
    "past",
    [
        completed,
        record(),
        record(status="retrying", finished_at=1.0, retry_at=2.0),
        completed._replace(status="failed"),
    ],
)
def test_another_name_stops_the_run(past):
    error = halted(call(name="refund"), past)
    assert type(error) is NonDeterminismError
    assert "at position 3 the journal has step 'charge', but the code called step 'refund'" in str(error)
    assert str(error).endswith(
        "step 'refund'. The workflow was changed under this run: put its code back, or start a new run; completed steps "
        "are kept"
    )


def test_where_the_step_is_declared_no_more_the_refusal_tells_how_to_rename_one():
    error = halted(call(name="refund"), completed, World(declared=("refund",)))
    assert str(error).endswith(
        "completed steps are kept. If the step was only renamed, let the journal know it as before: "
        "@durable.step(name='charge')"
    )
    assert "renamed" not in str(halted(call(name="refund"), record(kind="child"), World(declared=("refund",))))


def test_another_kind_stops_the_run():
    error = halted(call(), record(kind="child", name="charge"))
    assert "the journal has workflow 'charge', but the code called step 'charge'" in str(error)


def test_the_same_name_of_another_module_stops_the_run_while_both_exist():
    error = halted(call(module="paypal"), completed, World(others=("shop",)))
    assert type(error) is NonDeterminismError
    assert "step 'charge' of module 'shop', but the code called the step of that name of module 'paypal'" in str(error)
    assert str(error).endswith("both exist. Call the one that the journal has, or give them different names")


def test_a_step_that_moved_to_another_module_is_the_same():
    assert Driver(call(module="payments"), completed).answer(None).value == 42


def test_the_branch_is_named_in_the_message():
    error = halted(call(name="x", branch="/fetch:1"), completed._replace(branch="/fetch:1", position=0))
    assert "at position 0 of branch '/fetch:1'" in str(error)


def test_other_inputs_stop_the_run_and_the_message_names_them_and_the_remedies():
    error = halted(call(inputs='{"order":"o","cents":2}'), completed)
    assert type(error) is NonDeterminismError
    message = str(error)
    assert message == (
        "at position 3 step 'charge' was called with other inputs than the journal has (cents: journal 1, code 2). "
        "If the value is a time, random or read from outside in the workflow body, take it from durable.now(), "
        "durable.uuid4(), durable.random() or from a step that reads it; or accept other inputs for this step with "
        "@durable.step(match_inputs=False); or, for this one run, take the journal's word with "
        "run.retry(trust_journal=True)"
    )


def test_a_parameter_that_is_gone_may_have_been_renamed():
    renamed = str(halted(call(inputs='{"purchase":"o","cents":1}'), completed))
    hint = (
        '(order: journal "o", code (not given); purchase: journal (not given), code "o"). If a parameter was renamed, '
    )
    assert hint + "give it its name back. If the value is a time" in renamed


def test_every_differing_argument_is_named_and_long_values_are_cut():
    long = "x" * 1000
    error = halted(call(inputs=f'{{"order":"{long}","cents":2}}'), completed)
    assert 'order: journal "o", code "xxx' in str(error)
    assert "; cents: journal 1, code 2" in str(error)
    assert "…" in str(error)
    assert len(str(error)) < 1000


@pytest.mark.parametrize(("length", "is_cut"), [(200, False), (201, True)])
def test_a_value_in_a_message_has_200_characters_at_most(length, is_cut):
    text = '"' + "x" * (length - 2) + '"'
    message = str(halted(call(inputs=f'{{"order":{text},"cents":1}}'), completed))
    assert ("…" in message) == is_cut
    assert f"code {text[:200]}" in message


@pytest.mark.parametrize("status", ["running", "retrying"])
def test_other_inputs_stop_a_step_without_outcome_too(status):
    halted(call(inputs='{"order":"o","cents":2}'), record(status=status, finished_at=1.0, retry_at=2.0))


@pytest.mark.parametrize("kind", ["child", "start"])
def test_a_run_that_has_begun_is_called_by_its_id(kind):
    made = call(kind=kind, child='"ship-1"')
    begun = Driver(made).last.record
    assert (begun.status, begun.output) == ("running", '"ship-1"')
    message = str(halted(call(kind=kind, child='"ship-2"'), begun))
    assert "with the id 'ship-1', which has begun, but the code gives it the id 'ship-2'" in message
    assert type(Driver(made, begun).last) is Append
    assert Driver(made, begun).answer(None, Completed(42)).last.record.output == "42"


def test_other_inputs_are_fine_where_the_step_says_so():
    made = call(inputs='{"order":"o","cents":2}', match_inputs=False)
    assert Driver(made, completed).answer(None).value == 42


def test_other_inputs_are_fine_where_the_run_says_so():
    made = call(inputs='{"order":"o","cents":2}')
    assert Driver(made, completed, World(trusting=True)).answer(None).value == 42


def test_trusting_the_journal_never_gives_one_step_the_value_of_another():
    halted(call(name="refund"), completed, World(trusting=True))


def test_default_values_and_spelling_are_no_difference():
    made = call(inputs='{"order": "o", "cents": 5}')
    assert Driver(made, completed._replace(input='{"order":"o"}')).answer(None).value == 42


def test_no_recorded_inputs_are_none():
    made = call(inputs="{}")
    assert Driver(made, completed._replace(input=None)).answer(None).value == 42
    halted(call(inputs='{"order":"o","cents":2}'), completed._replace(input=None))


def test_inputs_that_were_not_recorded_are_compared_by_their_fingerprint():
    recorded = completed._replace(input=SIGNATURE.as_fingerprint('{"order":"o","cents":1}'))
    assert Driver(call(), recorded).answer(None).value == 42
    assert Driver(call(inputs=recorded.input), recorded).answer(None).value == 42
    assert "inputs" in str(halted(call(inputs='{"order":"o","cents":2}'), recorded))
    now_hidden = call(inputs=SIGNATURE.as_fingerprint('{"order":"o","cents":1}'))
    assert Driver(now_hidden, completed).answer(None).value == 42


def test_a_result_that_no_longer_fits_blocks_the_run_and_loses_nothing():
    def find() -> Order: ...

    past = completed._replace(output='{"number":42}')
    play = Driver(call(result=Signature(find).result), past)
    assert type(play.error) is Halt
    assert type(play.error.error) is RunBlockedError
    assert "the journaled result of step 'charge' no longer fits what the code says it returns: $" in str(
        play.error.error
    )
    assert str(play.error.error).endswith(". Nothing was lost: with code that fits, the run goes on")


def test_nothing_may_be_left_when_the_workflow_ends():
    require_nothing_left([], "returned")
    with pytest.raises(Halt) as one:
        require_nothing_left([completed], "returned")
    assert type(one.value.error) is NonDeterminismError
    assert str(one.value.error) == (
        "the workflow returned without calling step 'charge', which the journal has at position 3. The workflow was "
        "changed under this run, or depends on what is not journaled: put its code back, or start a new run; "
        "completed steps are kept"
    )
    with pytest.raises(Halt) as several:
        require_nothing_left([completed, completed, completed], "raised ValueError")
    assert "the workflow raised ValueError without calling" in str(several.value.error)
    assert "at position 3 and 2 more." in str(several.value.error)
    with pytest.raises(Halt) as two:
        require_nothing_left([completed, completed], "returned")
    assert "at position 3 and 1 more." in str(two.value.error)


def test_before_a_wait_nothing_may_be_left():
    with pytest.raises(Halt) as halt:
        refuse_to_wait("step 'pay' at position 9", completed)
    assert type(halt.value.error) is NonDeterminismError
    assert str(halt.value.error) == (
        "the code waits for step 'pay' at position 9, whose outcome the journal does not have, and has not called step "
        "'charge', which the journal has at position 3. The workflow was changed under this run: put its code back, or "
        "start a new run; completed steps are kept"
    )


def test_words_for_messages():
    assert describe(record(kind="now", name="now")) == "durable.now()"
    assert describe(call()) == "step 'charge'"
    assert describe(call(kind="child", name="refund")) == "workflow 'refund'"
    assert describe(record(kind="start", name="refund")) == "the start of workflow 'refund'"
    assert describe(record(kind="signal", name="paid")) == "signal 'paid'"
    assert place(record()) == "position 3"
    assert place(record(branch="/a:0", position=1)) == "position 1 of branch '/a:0'"


# -- any history ------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["fail", "die", "die in back-off"]), max_size=8), st.integers(1, 4))
def test_failures_are_counted_through_any_crashes(history, most):
    """A body that fails or dies as told, and a process that starts again after each death: failures are `most` at most."""
    world = World()
    made = call(policy=RetryPolicy(initial_interval=1, maximum_attempts=most))
    written, failures, play = None, 0, Driver(made, world=world)
    numbers = []
    for event in [*history, "succeed"]:
        while type(play.last) is not Attempt:  # to the next attempt
            if type(play.last) is Append:
                written = play.last.record
            play.answer(None)
            if play.over:
                break
        if play.over:
            break
        numbers.append(written.attempt)
        if event == "die":
            play = Driver(made, written, world)
            continue
        play.answer(Completed(1) if event == "succeed" else failing(PaymentFailed()))
        failures += event != "succeed"
        if type(play.last) is Append:
            written = play.last.record
            if event == "die in back-off":
                play = Driver(made, written, world)
    while not play.over:
        play.answer(None)
    assert failures <= most
    assert (play.error is not None) == (failures == most)
    assert numbers == list(range(1, len(numbers) + 1))

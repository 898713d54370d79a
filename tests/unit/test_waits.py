"""The decisions at a timer and at a signal, driven by hand: every sequence of effects, live and from the journal."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from durable._codec import codec_for, dump_error, load_error
from durable._effects import CANCELLED, CUT, TIMED_OUT, Append, Call, Callee, Conclude, Cut, Deliver, Receive, Sleep
from durable._model import MessageRecord, StepRecord
from durable._waits import decide_signal, decide_sleep
from durable.errors import Cancelled, Halt, NonDeterminismError, SerializationError, TimedOut


class World:
    """A clock that goes on a second each time it is read."""

    record = SimpleNamespace(id="order-42", workflow="order")

    def __init__(self, time=1000.0):
        self.time = time

    def now(self):
        self.time += 1
        return self.time

    def has_step(self, module, name):
        return True

    def is_other_step(self, module, step):
        return module == "other"


@dataclass
class Order:
    id: str


def call(kind, name, seconds=None, args=(), result=None):
    made = Call(Callee(kind, name, codec_for(result), timeout_seconds=seconds), lambda: None, args)
    made.run, made.branch, made.position = 7, "/fetch:0", 3
    return made


def sleep(seconds=None, until=None):
    return call("sleep", "sleep", seconds, () if until is None else (until,))


def signal(seconds=None, type_=Order):
    return call("signal", "paid", seconds, (type_,), type_)


def begun(kind, name, due, at=1001.0):
    return StepRecord(7, "/fetch:0", 3, kind, name, "durable", "running", 0, 0, *[None] * 3, at, None, due, None)


def ended(begun, at, status="completed", output=None, error=None, turn=0):
    return begun._replace(status=status, output=output, error=error, finished_at=at, retry_at=None, turn=turn)


def message(value=None, error=None):
    return MessageRecord(5, 7, "signal", "paid", value, error, 900.0)


def play(decision, *answers):
    """The effects, the value, and the error, once the answers were given; what has not ended has `...` for a value."""
    effects = [next(decision)]
    for answer in answers:
        try:
            effects.append(decision.send(answer))
        except StopIteration as done:
            return effects, done.value, None
        except BaseException as error:
            return effects, ..., error
    return effects, ..., None


# -- timers -----------------------------------------------------------------------------------------------------------


def test_a_timer_is_on_disk_before_the_wait_and_its_end_before_it_returns():
    effects, value, error = play(decide_sleep(sleep(10.0), None, World()), None, None, None)
    first = begun("sleep", "sleep", 1011.0)
    assert effects == [Append(first, None, full=True), Sleep(9.0), Conclude(ended(first, 1003.0), None)]
    assert (value, error) == (None, None)


def test_a_timer_until_a_time_is_due_then():
    effects, *_ = play(decide_sleep(sleep(until=1500.0), None, World()), None, None)
    first = begun("sleep", "sleep", 1500.0)
    assert effects[:2] == [Append(first, None, full=True), Sleep(498.0)]


def test_no_wait_is_no_sleep():
    for made, due in (sleep(0.0), 1001.0), (sleep(), 1001.0), (sleep(until=5.0), 5.0):
        effects, *_ = play(decide_sleep(made, None, World()), None)
        first = begun("sleep", "sleep", due)
        assert effects == [Append(first, None, full=True), Conclude(ended(first, 1003.0), None)]


@pytest.mark.parametrize(
    ("now", "until", "left"),
    [
        (1005.0, None, 5.0),  # what is left of it
        (500.0, None, 10.0),  # the clock was set back: never more than the whole
        (1010.5, None, None),  # due
        (1010.0, None, None),
        (9999.0, None, None),
        (9999.0, 1011.0, None),
    ],
)
def test_a_crash_resumes_a_timer_and_does_not_restart_it(now, until, left):
    past = begun("sleep", "sleep", 1011.0)
    effects, *_ = play(decide_sleep(sleep(10.0, until), past, World(now)), None)
    if left is None:
        assert effects == [Conclude(ended(past, now + 2), None)]
    else:
        assert effects == [Sleep(left), Conclude(ended(past, now + 2), None)]


def test_a_time_that_is_waited_for_is_waited_for_whatever_the_clock_says_meanwhile():
    past, world = begun("sleep", "sleep", 1011.0), World(500.0)
    decision = decide_sleep(sleep(until=1011.0), past, world)
    assert next(decision) == Sleep(510.0)  # more than there was when it began: the clock was set back
    world.time = 1001.0
    assert decision.send(None) == Sleep(9.0)  # and once more
    world.time = 1010.0
    assert decision.send(None) == Conclude(ended(past, 1012.0), None)


@pytest.mark.parametrize(
    ("error", "written"), [(Cancelled(), CANCELLED), (TimedOut(), TIMED_OUT), (TimeoutError("cut"), CUT)]
)
def test_what_cuts_a_timer_or_a_signal_is_written_and_raised(error, written):
    for decide, past in (
        (lambda past, world: decide_sleep(sleep(10.0), past, world), begun("sleep", "sleep", 1011.0)),
        (lambda past, world: decide_signal(signal(10.0), past, world), begun("signal", "paid", 1011.0)),
    ):
        effects, value, raised = play(decide(past, World(1002.0)), Cut(error), None)
        assert effects[1:] == [Conclude(ended(past, 1004.0, "failed", error=written), None)]
        assert value is ...
        assert raised is error


@pytest.mark.parametrize(
    ("error", "written"), [(Cancelled(), CANCELLED), (TimedOut(), TIMED_OUT), (TimeoutError("cut"), CUT)]
)
def test_what_cuts_a_wait_that_is_only_being_written_down_is_written_and_raised(error, written):
    for decide, first in (
        (lambda world: decide_sleep(sleep(10.0), None, world), begun("sleep", "sleep", 1011.0)),
        (lambda world: decide_signal(signal(10.0), None, world), begun("signal", "paid", 1011.0)),
    ):
        effects, value, raised = play(decide(World()), Cut(error), None)
        assert effects[0] == Append(first, None, full=True)
        assert [effect._replace(record=effect.record._replace(finished_at=0.0)) for effect in effects[1:]] == [
            Conclude(ended(first, 0.0, "failed", error=written), None)
        ]
        assert value is ...
        assert raised is error


def test_a_timer_that_the_journal_has_waits_for_nothing_but_its_turn():
    past = ended(begun("sleep", "sleep", 1011.0), 1011.5, turn=4)
    assert play(decide_sleep(sleep(10.0), past, World()), None) == ([Deliver(past)], None, None)


@pytest.mark.parametrize("turn", [None, 0, 4])
def test_another_operation_at_this_place_is_told_when_it_is_called(turn):
    past = begun("step", "charge", None)._replace(turn=turn)
    for decide in (
        lambda past: decide_sleep(sleep(10.0), past, World()),
        lambda past: decide_signal(signal(), past, World()),
    ):
        with pytest.raises(Halt) as halt:
            decide(past)
        assert isinstance(halt.value.error, NonDeterminismError)
    for kind, name, decide, made in (
        ("sleep", "sleep", decide_sleep, sleep(10.0)),
        ("signal", "paid", decide_signal, signal()),
    ):
        elsewhere = begun(kind, name, 1011.0)._replace(module="other", turn=turn)
        with pytest.raises(Halt, match="of module 'other'"):
            decide(made, elsewhere, World())


# -- signals ----------------------------------------------------------------------------------------------------------


def test_a_signal_is_dropped_with_what_was_made_of_it():
    effects, value, error = play(decide_signal(signal(), None, World()), None, message('{"id":"a"}'), None)
    first = begun("signal", "paid", None)
    done = ended(first, 1002.0, output='{"id":"a"}')
    assert effects == [
        Append(first, None, full=False),
        Receive("paid", None),
        Conclude(done, None, message('{"id":"a"}')),
    ]
    assert (value, error) == (Order("a"), None)


def test_a_signal_without_a_value_is_none():
    effects, value, error = play(decide_signal(signal(type_=type(None)), None, World()), None, message(), None)
    assert (effects[2].record.output, value, error) == ("null", None, None)


def test_the_end_of_the_patience_is_on_disk_before_the_wait():
    effects, value, error = play(decide_signal(signal(30.0), None, World()), None, None, None)
    first = begun("signal", "paid", 1031.0)
    assert effects[:2] == [Append(first, None, full=True), Receive("paid", 29.0)]
    wanted = TimeoutError("no signal 'paid' came within 30 s")
    failed = ended(first, 1003.0, "failed", error=dump_error(wanted))
    assert effects[2:] == [Conclude(failed, None, None)]
    assert value is ...
    assert type(error) is TimeoutError
    assert str(error) == "no signal 'paid' came within 30 s"


@pytest.mark.parametrize(("now", "left"), [(1005.0, 25.0), (500.0, 30.0), (2000.0, 0.0)])
def test_a_crash_resumes_the_patience(now, left):
    past = begun("signal", "paid", 1031.0)
    effects, *_ = play(decide_signal(signal(30.0), past, World(now)))
    assert effects == [Receive("paid", left)]


def test_a_signal_may_be_an_error():
    sent = message(error=dump_error(ValueError("declined")))
    effects, value, error = play(decide_signal(signal(), None, World()), None, sent, None)
    failed = ended(begun("signal", "paid", None), 1002.0, "failed", error=dump_error(ValueError("declined")))
    assert effects[2:] == [Conclude(failed, None, sent)]
    assert value is ...
    assert (type(error), str(error)) == (ValueError, "declined")


def test_a_signal_that_is_an_error_keeps_the_traceback_of_its_sender():
    try:
        raise ValueError("declined")
    except ValueError as declined:
        text = dump_error(declined)
    effects, *_ = play(decide_signal(signal(), None, World()), None, message(error=text), None)
    assert effects[2].record.error == text
    assert "keeps_the_traceback" in text


def test_a_signal_that_does_not_fit_is_read_and_raises():
    sent = message('{"name":"a"}')
    effects, value, error = play(decide_signal(signal(), None, World()), None, sent, None)
    conclude = effects[2]
    assert (conclude.record.status, conclude.record.output, conclude.message) == ("failed", None, sent)
    assert value is ...
    assert type(error) is SerializationError
    assert str(error).startswith("signal 'paid' does not fit Order, the type that it is read as: ")
    assert str(load_error(conclude.record.error)) == str(error)


def test_a_signal_that_the_journal_has_is_not_waited_for():
    first = begun("signal", "paid", None)
    past = ended(first, 1002.0, output='{"id":"a"}', turn=2)
    assert play(decide_signal(signal(), past, World()), None) == ([Deliver(past)], Order("a"), None)
    past = ended(first, 1002.0, "failed", error=dump_error(TimeoutError("none came")), turn=2)
    effects, value, error = play(decide_signal(signal(), past, World()), None)
    assert (effects, value) == ([Deliver(past)], ...)
    assert (type(error), str(error)) == (TimeoutError, "none came")


def test_the_timeout_of_a_workflow_that_ended_a_wait_is_raised_again():
    past = ended(begun("signal", "paid", None), 1002.0, "failed", error=TIMED_OUT)
    _, _, error = play(decide_signal(signal(), past, World()), None)
    assert type(error) is TimedOut

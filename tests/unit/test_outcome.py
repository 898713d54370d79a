"""How an execution ended: what is written, and what the caller gets."""

import json
import traceback
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from durable._aftermath import Aftermath
from durable._codec import codec_for, dump_error, load_error
from durable._model import RunRecord, StepRecord
from durable._outcome import halted, raised, recorded, recorded_error, returned, time_is_up
from durable.errors import (
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

ANY = codec_for(Any)


class Execution:
    """Stands in for one: what an ending asks of it."""

    def __init__(self, left):
        self.record = run_record()
        self.past = {(step.branch, step.position): step for step in left}
        self.halted = self.exit = self.branches = None
        self.cancel = SimpleNamespace(delivered=False, timed_out=False)
        self.root = SimpleNamespace(ended_at=None, aftermath=Aftermath())
        self.journal = SimpleNamespace(steps=lambda _: [])

    def now(self):
        return 43200.0

    def halt(self, error):
        self.halted = Halt(error)
        return self.halted

    def interrupt_by(self, error):
        return self.halt(RunInterruptedError(type(error).__name__))


@dataclass
class Receipt:
    id: str


class PaymentFailed(Exception):
    pass


def run_record(**changes):
    record = RunRecord(
        1, "r-1", "order", "shop", "running", "{}", None, None, 1.0, None, None, "c" * 32, None, epoch=3, crashes=0,
        progress=0, trusting=0,
    )  # fmt: skip
    return record._replace(**changes)


LEFT = StepRecord(1, "", 2, "step", "charge", "shop", "completed", 1, 0, "{}", "1", None, 1.0, 2.0, None, 0)


def execution(*left):
    return Execution(left)


def test_a_run_that_returned_is_completed_with_the_decoded_value():
    value = {"receipts": [Receipt("a")]}
    ending = returned(execution(), value, ANY)
    assert ending.error is None
    assert ending.value == value
    assert ending.value is not value
    written = ending.record
    assert written.status == "completed"
    assert written.error is None
    assert written.finished_at == 43200.0
    assert written.claim is None
    assert written.wake_at is None
    assert ANY.load(written.output) == value
    assert written[:4] == run_record()[:4]


@pytest.mark.parametrize("value", [None, False, 0, ""])
def test_a_result_that_is_false_is_a_result(value):
    ending = returned(execution(), value, ANY)
    assert ending.record.output is not None
    assert recorded(ending.record, ANY).result() == value


def test_a_result_that_cannot_be_held_fails_the_run_and_names_the_path():
    ending = returned(execution(), {"a": [lambda: None]}, ANY)
    assert ending.record.status == "failed"
    assert type(ending.error) is SerializationError
    assert str(ending.error).startswith("the result of workflow 'order' cannot be journaled: $.a[0]")
    assert type(load_error(ending.record.error)) is SerializationError


def test_a_run_that_raised_is_failed_with_the_decoded_error_and_its_traceback():
    original = PaymentFailed("card")
    try:
        raise original
    except PaymentFailed as error:
        ending = raised(execution(), error)
    assert ending.record.status == "failed"
    assert ending.record.output is None
    assert ending.record.finished_at == 43200.0
    assert ending.record.claim == "failed:" + "c" * 32  # set aside, for a retry
    assert type(ending.error) is PaymentFailed
    assert ending.error is not original
    assert ending.error.args == ("card",)
    here = "test_a_run_that_raised_is_failed_with_the_decoded_error_and_its_traceback"
    assert here in [frame.name for frame in traceback.extract_tb(ending.error.__traceback__)]


def test_an_error_that_cannot_be_rebuilt_stands_as_a_step_error_with_the_original_as_its_cause(monkeypatch):
    monkeypatch.setattr("durable._outcome.load_error", lambda text: StepError("shop:PaymentFailed", "card"))
    original = PaymentFailed("card")
    ending = raised(execution(), original)
    assert type(ending.error) is StepError
    assert ending.error.__cause__ is original
    again = StepError("a:B", "c")
    assert raised(execution(), again).error.__cause__ is None


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt("^C"), SystemExit(3), GeneratorExit()])
def test_an_interrupt_leaves_the_run_interrupted(interrupt):
    it = execution()
    ending = raised(it, interrupt)
    assert ending.record is None
    assert ending.error is interrupt
    assert isinstance(it.halted.error, RunInterruptedError)
    assert type(interrupt).__name__ in str(it.halted.error)


@pytest.mark.parametrize("ending", [lambda it: returned(it, 1, ANY), lambda it: raised(it, ValueError("swallowed"))])
def test_an_operation_left_over_blocks_the_run_whether_it_returned_or_raised(ending):
    found = ending(execution(LEFT))
    assert found.record.status == "blocked"
    assert found.record.finished_at is None
    assert found.record.claim == "c" * 32
    assert type(found.error) is NonDeterminismError
    assert "without calling step 'charge', which the journal has at position 2" in str(found.error)
    assert type(load_error(found.record.error)) is NonDeterminismError


def test_the_message_says_how_the_workflow_ended():
    assert "the workflow returned without calling" in str(returned(execution(LEFT), 1, ANY).error)
    assert "the workflow raised ValueError without calling" in str(raised(execution(LEFT), ValueError("x")).error)


def test_a_blocked_run_that_raised_tells_of_its_error_too():
    error = ValueError("x")
    assert raised(execution(LEFT), error).error.__cause__ is error


@pytest.mark.parametrize("ending", [lambda it: returned(it, 1, ANY), lambda it: raised(it, ValueError("swallowed"))])
def test_a_disagreement_that_the_body_swallowed_blocks_the_run_all_the_same(ending):
    it = execution()
    it.halt(NonDeterminismError("other inputs"))
    found = ending(it)
    assert found.record.status == "blocked"
    assert found.error is it.halted.error
    assert (str(found.error), found.error.run_id) == ("other inputs (run r-1 of 'order')", "r-1")
    recorded = load_error(found.record.error)
    assert (str(recorded), recorded.run_id, type(recorded)) == (str(found.error), "r-1", NonDeterminismError)


@pytest.mark.parametrize("ending", [lambda it: returned(it, 1, ANY), lambda it: raised(it, ValueError("swallowed"))])
@pytest.mark.parametrize("error", [JournalError("disk"), RunInterruptedError("closed")])
def test_an_execution_taken_down_by_the_outside_stays_interrupted(ending, error):
    it = execution()
    it.halt(error)
    found = ending(it)
    assert found.record is None
    assert found.error is error


@pytest.mark.parametrize("ending", [lambda it: returned(it, 1, ANY), lambda it: raised(it, ValueError("swallowed"))])
def test_an_interrupt_that_the_body_swallowed_is_raised_where_it_is_why_the_run_did_not_end(ending):
    it, of_blocked = execution(), execution()
    it.exit = of_blocked.exit = SystemExit(7)
    it.halt(RunInterruptedError("SystemExit in step 'charge'"))
    assert ending(it)[::2] == (None, it.exit)
    of_blocked.halt(NonDeterminismError("other inputs"))
    assert ending(of_blocked).record.status == "blocked"
    assert ending(of_blocked).error is of_blocked.halted.error


def test_a_blocked_run_is_named_once_and_a_child_as_itself():
    it = execution()
    halt = it.halt(RunBlockedError("x"))
    for _ in range(3):
        found = halted(it, halt)
    assert str(found.error) == "x (run r-1 of 'order')"
    of_child = RunBlockedError("y")
    of_child.of_run("r-2", "refund")
    it = execution()
    assert str(halted(it, it.halt(of_child)).error) == "y (run r-2 of 'refund')"


def test_a_halt_of_a_run_around_this_one_passes():
    halt = Halt(NonDeterminismError("the parent's"))
    it = execution()
    found = raised(it, halt)
    assert found.record is None
    assert found.error is halt
    assert it.halted is None


# -- recorded results -------------------------------------------------------------------------------------------------


def test_a_completed_run_has_its_value():
    assert recorded(run_record(status="completed", output='{"id":"a"}'), codec_for(Receipt)).result() == Receipt("a")
    assert recorded(run_record(status="completed", output=None), ANY).result() is None


@pytest.mark.parametrize("status", ["failed", "blocked"])
def test_a_failed_or_blocked_run_raises_its_error(status):
    record = run_record(status=status, error=dump_error(PaymentFailed("card")))
    with pytest.raises(PaymentFailed, match="card"):
        recorded(record, ANY).result()


def test_a_cancelled_run_says_so():
    with pytest.raises(RunCancelledError, match="run r-1 of 'order' was cancelled"):
        raise recorded_error(run_record(status="cancelled"))


def test_a_record_without_the_error_that_it_should_have_says_so():
    with pytest.raises(DurableError, match="run r-1 of 'order' is failed, and has no error"):
        raise recorded_error(run_record(status="failed"))


@pytest.mark.parametrize("end", [lambda run: returned(run, 1, ANY), lambda run: raised(run, ValueError("in clean-up"))])
def test_a_run_whose_body_was_told_of_its_cancellation_ends_cancelled_whatever_it_makes_of_it(end):
    run = execution()
    run.cancel.delivered = True
    ending = end(run)
    assert ending.record.status == "cancelled"
    assert ending.record.finished_at == 43200.0
    assert type(ending.error) is RunCancelledError


def test_when_the_body_of_an_async_run_raised_is_in_its_error():
    run = execution()
    run.root.ended_at = 43199.5
    ending = raised(run, ValueError("broken"))
    assert json.loads(ending.record.error)["raised_at"] == 43199.5
    assert (type(ending.error), ending.error.args) == (ValueError, ("broken",))


def test_what_an_async_run_went_on_to_do_after_a_failure_is_in_its_error():
    run = execution()
    run.root.aftermath.fail(3)
    run.root.aftermath.create("/clean_up:0")
    run.root.aftermath.complete("/clean_up:0")
    ending = raised(run, ValueError("broken"))
    assert json.loads(ending.record.error)["went_on"] == {"": 3}
    assert (type(ending.error), ending.error.args) == (ValueError, ("broken",))


@pytest.mark.parametrize(
    ("counted", "declared", "told"),
    [(0.01, 0.01, "0.01"), (0.01, None, "0.01"), (60, 3600.0, "60"), (3660, 60.0, "60")],  # the last one was retried
)
def test_a_timeout_is_told_as_it_was_given(counted, declared, told):
    """Its end is kept as a time since 1970, whose last digit is a fraction of a microsecond."""
    now = 1_764_446_280.123456
    record = run_record()._replace(created_at=now, deadline=now + counted)
    assert str(time_is_up(record, declared)).endswith(f"took longer than its timeout of {told} s")

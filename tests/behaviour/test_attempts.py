"""DESIGN, "Attempts" and "Sync timeouts": retries, at_most_once, timeouts, and what a step is outside of a run."""

import asyncio
import dataclasses
import datetime as dt
import itertools
import sys
import threading
import time
import traceback
import types
import urllib.error

import pytest

import durable
from durable import (
    NonRetryableError,
    RetryAfter,
    RetryPolicy,
    StepError,
    StepInterruptedError,
    StepTimeoutError,
    _attempts,
)
from tests.behaviour.patience import wait_until

QUICK = RetryPolicy(initial_interval=0.001, maximum_attempts=5)
PATIENT = RetryPolicy(initial_interval=0.001, backoff_coefficient=1, maximum_attempts=0)


class Declined(Exception):
    pass


class DeclinedForGood(Declined):
    pass


def failing_times(count, error=None, **options):
    """A step that fails so many times, and the list of its attempts."""
    attempts = []

    @durable.step(name="flaky", **options)
    def flaky():
        attempts.append(durable.info().attempt)
        if len(attempts) <= count:
            raise error or Declined(len(attempts))
        return len(attempts)

    @durable.workflow(name="flow")
    def flow():
        return flaky()

    return flow, attempts


# -- the policy --------------------------------------------------------------------------------------------------------


def test_step_is_tried_until_it_completes(journal):
    flow, attempts = failing_times(3, retry=QUICK)
    assert flow() == 4
    assert attempts == [1, 2, 3, 4]
    (step,) = durable.runs()[0].steps()
    assert (step.status, step.attempt, step.output) == ("completed", 4, 4)


def test_maximum_attempts_counts_failures(journal):
    flow, attempts = failing_times(99, retry=QUICK)
    with pytest.raises(Declined) as caught:
        flow()
    assert attempts == [1, 2, 3, 4, 5]
    assert caught.value.args == (5,)
    (run,) = durable.runs()
    assert run.status == "failed"
    assert type(run.error) is Declined
    assert (run.steps()[0].status, run.steps()[0].attempt) == ("failed", 5)


def test_default_policy_is_five_attempts_from_one_second(journal):
    assert RetryPolicy() == RetryPolicy(
        initial_interval=1.0, backoff_coefficient=2.0, maximum_interval=100.0, maximum_attempts=5,
        non_retryable=(), jitter=0.1,
    )  # fmt: skip
    flow, attempts = failing_times(1)
    run = flow.start()
    wait_until(lambda: run.steps() and run.steps()[0].status == "retrying")
    (step,) = run.steps()
    assert 0.9 <= (step.retry_at - step.started_at).total_seconds() < 30  # started_at is from before the failure
    assert run.status in {"running", "waiting"}  # a wait of more than a second is a suspension
    journal.restart()
    assert attempts == [1]


def test_a_step_in_its_back_off_shows_the_error_of_its_last_attempt(journal):
    @durable.step(retry=RetryPolicy(initial_interval=0.001, backoff_coefficient=100_000, maximum_interval=100))
    def step():
        raise Declined(durable.info().attempt)

    @durable.workflow
    def flow():
        step()

    run = flow.start()
    wait_until(lambda: run.steps() and run.steps()[0].attempt == 2 and run.steps()[0].status == "retrying")
    [info] = run.steps()
    assert isinstance(info.error, Declined)
    assert info.error.args == (2,)
    assert info.finished_at is None
    run.cancel()


def test_maximum_attempts_zero_is_unlimited(journal):
    flow, _ = failing_times(30, retry=RetryPolicy(initial_interval=0, maximum_attempts=0))
    assert flow() == 31


def test_retry_none_is_one_attempt(journal):
    flow, attempts = failing_times(1, retry=None)
    with pytest.raises(Declined):
        flow()
    assert attempts == [1]


def test_no_sleep_after_the_last_attempt(journal):
    flow, _ = failing_times(9, retry=RetryPolicy(initial_interval=60, maximum_attempts=1))
    before = time.monotonic()
    with pytest.raises(Declined):
        flow()
    assert time.monotonic() - before < 30


def test_delays_grow_up_to_the_maximum_interval(journal):
    times = []

    @durable.step(
        retry=RetryPolicy(
            initial_interval=0.02, backoff_coefficient=2000, maximum_interval=0.05, maximum_attempts=4, jitter=0
        )
    )
    def flaky():
        times.append(time.monotonic())
        raise Declined

    @durable.workflow
    def flow():
        flaky()

    with pytest.raises(Declined):
        flow()
    gaps = [after - before for before, after in itertools.pairwise(times)]
    for gap, least in zip(gaps, [0.02, 0.05, 0.05], strict=True):
        assert least <= gap < 30


def test_retry_after_sets_the_next_delay_beyond_the_maximum_interval_too(journal):
    @durable.step(retry=RetryPolicy(initial_interval=0.001, maximum_interval=0.001, jitter=1))
    def limited():
        raise RetryAfter(3600, "slow down")

    @durable.workflow
    def flow():
        limited()

    run = flow.start()
    wait_until(lambda: run.steps() and run.steps()[0].status == "retrying")
    (step,) = run.steps()
    assert 3500 < (step.retry_at - dt.datetime.now(dt.UTC)).total_seconds() <= 3600


def test_retry_after_zero_is_at_once_and_counts_as_a_failure(journal):
    flow, attempts = failing_times(99, RetryAfter(0), retry=RetryPolicy(initial_interval=60, maximum_attempts=3))
    with pytest.raises(RetryAfter):
        flow()
    assert attempts == [1, 2, 3]


@pytest.mark.parametrize("seconds", [-1, float("inf"), float("nan")])
def test_bad_retry_after_is_a_value_error_where_it_is_written(seconds):
    with pytest.raises(ValueError):
        RetryAfter(seconds)


def test_non_retryable_error_stops(journal):
    flow, attempts = failing_times(9, NonRetryableError("never"), retry=QUICK)
    with pytest.raises(NonRetryableError, match="never"):
        flow()
    assert attempts == [1]


@pytest.mark.parametrize("kind", [Declined, "Declined", f"{__name__}.Declined"], ids=["type", "name", "full name"])
def test_non_retryable_takes_types_and_names_and_subclasses_count(journal, kind):
    policy = RetryPolicy(initial_interval=0.001, non_retryable=[kind])
    flow, attempts = failing_times(9, DeclinedForGood(), retry=policy)
    with pytest.raises(DeclinedForGood):
        flow()
    assert attempts == [1]


def test_other_errors_than_the_non_retryable_are_retried(journal):
    policy = RetryPolicy(initial_interval=0.001, maximum_attempts=3, non_retryable=[DeclinedForGood, "KeyError"])
    flow, attempts = failing_times(9, Declined(), retry=policy)
    with pytest.raises(Declined):
        flow()
    assert attempts == [1, 2, 3]


@pytest.mark.parametrize(
    "bad",
    [
        {"initial_interval": -1}, {"backoff_coefficient": 0.5}, {"maximum_interval": -0.1}, {"maximum_attempts": -1},
        {"jitter": 1.5}, {"jitter": -0.1}, {"initial_interval": float("nan")}, {"maximum_interval": float("inf")},
    ],
    ids=str,
)  # fmt: skip
def test_bad_policy_is_a_value_error_where_it_is_written(bad):
    with pytest.raises(ValueError):
        RetryPolicy(**bad)


@pytest.mark.parametrize("timeout", [0, -1, dt.timedelta(0), float("nan"), float("inf")])
def test_bad_timeout_is_a_value_error_where_it_is_written(timeout):
    with pytest.raises(ValueError, match="timeout"):

        @durable.step(timeout=timeout)
        def step(): ...


# -- across restarts ---------------------------------------------------------------------------------------------------


def test_failures_before_a_restart_count(journal):
    attempts = []

    @durable.step(retry=QUICK)
    def flaky():
        attempts.append(durable.info().attempt)
        if len(attempts) == 4:
            journal.crash()
        raise Declined

    @durable.workflow
    def flow():
        flaky()

    with pytest.raises(KeyboardInterrupt):
        flow()
    journal.restart()
    with pytest.raises(Declined) as caught:
        flow()
    # three failures, one attempt that the crash cut (it has its number, but is no failure), and the two that were left
    assert attempts == [1, 2, 3, 4, 5, 6]
    assert "6 attempts" in caught.value.__notes__[0]


def test_attempt_that_a_crash_cut_is_tried_again_even_with_retry_none(journal):
    attempts = []

    @durable.step(retry=None)
    def once():
        attempts.append(durable.info().attempt)
        journal.crash()
        return 5

    @durable.workflow
    def flow():
        return once()

    with pytest.raises(KeyboardInterrupt):
        flow()
    assert durable.runs()[0].steps()[0].status == "running"
    journal.restart()
    assert flow() == 5
    assert attempts == [1, 2]


def test_restart_in_a_back_off_resumes_the_wait(journal):
    flow, attempts = failing_times(1, retry=RetryPolicy(initial_interval=2.0, jitter=0))
    run = flow.start()
    wait_until(lambda: run.steps() and run.steps()[0].status == "retrying")
    due = run.steps()[0].retry_at
    time.sleep(1)
    journal.restart()
    run = durable.get(run.id)
    assert run.steps()[0].retry_at == due
    before = time.monotonic()
    assert run.result() == 2
    assert time.monotonic() - before < 2.0
    assert attempts == [1, 2]
    assert run.steps()[0].started_at >= due


def test_restart_after_the_due_time_does_not_wait(journal):
    flow, _ = failing_times(1, retry=RetryPolicy(initial_interval=0.9, jitter=0))
    run = flow.start()
    wait_until(lambda: run.steps() and run.steps()[0].status == "retrying")
    due = run.steps()[0].retry_at
    journal.engine.close()
    time.sleep(max(0.0, (due - dt.datetime.now(dt.UTC)).total_seconds()) + 0.01)
    journal.restart()
    before = time.monotonic()
    assert flow() == 2
    assert time.monotonic() - before < 0.9


# -- what the workflow gets --------------------------------------------------------------------------------------------


def test_error_has_a_note_that_names_step_and_attempts_on_the_first_run_and_on_replay(journal):
    caught = []

    @durable.step(retry=RetryPolicy(initial_interval=0.001, maximum_attempts=3))
    def flaky():
        raise Declined("no", {"code": 7})

    @durable.workflow(name="flow")
    def flow():
        try:
            flaky()
        except Declined as error:
            caught.append(error)
        journal.crash()

    with pytest.raises(KeyboardInterrupt):
        flow()
    journal.restart()
    flow()
    first, second = caught
    assert type(first) is type(second) is Declined
    assert first.args == second.args == ("no", {"code": 7})
    assert first.__notes__ == second.__notes__
    (note,) = first.__notes__
    assert "flaky" in note
    assert "3 attempts" in note


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


class Delegating(Exception):
    """Asks its answer for what it has not itself, and the answer cannot be journaled."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code
        self.answer = object()

    def __getattr__(self, name):
        return getattr(self.answer, name)


def no_answer(code):
    return urllib.error.HTTPError("http://here", code, "busy", None, None)


@pytest.mark.parametrize("transaction", [False, True])
@pytest.mark.parametrize("make", [Frozen, Delegating, no_answer])
def test_an_error_that_cannot_be_written_on_or_asked_arrives_with_its_note(journal, run_async, make, transaction):
    kind = type(make(503))

    @durable.step(retry=None, transaction=transaction)
    def step():
        raise make(503)

    @durable.workflow(id="one")
    def flow():
        try:
            step()
        except kind as error:
            assert vars(error)["__notes__"] == [f"durable: step {step.name!r} failed after 1 attempt"]
            assert error.code == 503
            raise

    async def awaited(run):
        await run

    for _ in range(2):
        with pytest.raises(kind):
            flow()
    run = flow.with_options(id="two").start()
    with pytest.raises(kind):
        run.result()
    with pytest.raises(kind):
        run_async(awaited(run))


@pytest.mark.parametrize("how", ["call", "timeout", "map", "submit", "child", "started", "body"])
def test_stop_iteration_is_an_error_like_others(journal, how):
    """A generator cannot raise it, and what decides is one."""

    @durable.step(retry=None, timeout=30 if how == "timeout" else None)
    def step(number=0):
        return next(iter(()))

    @durable.workflow
    def child():
        step()

    ways = {
        "map": lambda: step.map([1]),
        "submit": lambda: step.submit(1).result(),
        "child": child,
        "started": lambda: child.start().result(),
        "body": lambda: next(iter(())),
    }

    @durable.workflow(id="one")
    def flow():
        try:
            ways.get(how, step)()
        except StopIteration:
            durable.uuid4()  # the same way on replay
            raise

    for _ in range(2):
        with pytest.raises(StopIteration):
            flow()
    with pytest.raises(StopIteration):
        flow.start().result()
    assert len(durable.get("one").steps()) == (1 if how == "body" else 2)


def test_stop_iteration_in_an_async_run(journal, run_async):
    """In the body it is one; a thread hands over what a coroutine can raise, as Python 3.12 has it."""

    @durable.step(retry=None)
    def step():
        return next(iter(()))

    @durable.workflow(id="one")
    async def flow():
        with pytest.raises(StopIteration):
            step()
        with pytest.raises(RuntimeError) as caught:
            await asyncio.to_thread(step)
        assert isinstance(caught.value.__cause__, StopIteration)
        raise caught.value

    for _ in range(2):
        with pytest.raises(RuntimeError) as raised:
            run_async(flow())
        assert type(raised.value) is RuntimeError


def test_stop_iteration_of_a_step_that_is_async_now(journal, run_async):
    def stop():
        return next(iter(()))

    async def stop_async(): ...

    directly, awaited = (durable.step(name="stop", retry=None)(function) for function in (stop, stop_async))

    @durable.workflow(id="one")
    async def flow():
        with pytest.raises((StopIteration, RuntimeError)) as caught:
            await awaited() if again else directly()
        journal.crash()
        return repr(caught.value.__cause__)

    again = False
    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    again = True
    assert run_async(flow()) == "StopIteration()"


def test_original_traceback_on_the_first_run(journal):
    @durable.step(retry=None)
    def flaky():
        inner_function_of_the_step()

    def inner_function_of_the_step():
        raise Declined("deep")

    @durable.workflow
    def flow():
        try:
            flaky()
        except Declined as error:
            return "".join(traceback.format_exception(error))

    text = flow()
    assert "inner_function_of_the_step" in text


def test_error_whose_class_cannot_be_rebuilt_is_a_step_error(journal, monkeypatch):
    module = types.ModuleType("plugin")
    exec("class Refused(Exception):\n    pass", module.__dict__)
    monkeypatch.setitem(sys.modules, "plugin", module)
    caught = []

    @durable.step(retry=None)
    def flaky():
        raise module.Refused("1 and 2")

    @durable.workflow
    def flow():
        try:
            flaky()
        except Exception as error:
            caught.append(error)
        journal.crash()
        return "caught"

    with pytest.raises(KeyboardInterrupt):
        flow()
    journal.restart()
    monkeypatch.delitem(sys.modules, "plugin")
    assert flow() == "caught"
    first, second = caught
    assert type(first) is module.Refused
    assert type(second) is StepError
    assert second.type_name == "plugin:Refused"
    assert second.message == "1 and 2"
    assert "flaky" in second.traceback
    assert str(second) == "plugin:Refused: 1 and 2"
    assert first.__notes__ == second.__notes__


def test_error_whose_class_is_made_on_demand_is_a_step_error_on_the_first_run_too(journal):
    """As those of a client of boto3: whether the class is there on replay, is not for the journal to know."""
    refused = type("Refused", (Exception,), {"__module__": __name__})
    caught = []

    @durable.step(retry=None)
    def flaky():
        raise refused("1 and 2")

    @durable.workflow
    def flow():
        try:
            flaky()
        except Exception as error:
            caught.append(error)
        journal.crash()
        return "caught"

    with pytest.raises(KeyboardInterrupt):
        flow()
    journal.restart()
    assert flow() == "caught"
    assert [type(error) for error in caught] == [StepError, StepError]
    assert str(caught[0]) == str(caught[1]) == f"{__name__}:Refused: 1 and 2"
    assert type(caught[0].__cause__) is refused


def test_result_that_cannot_be_held_is_the_failure_of_its_step_and_is_not_retried(journal):
    calls = []

    @durable.step(retry=QUICK)
    def make():
        calls.append(1)
        return {"items": [1, {"when": threading.Lock()}]}

    @durable.workflow
    def flow():
        with pytest.raises(durable.SerializationError) as caught:
            make()
        return str(caught.value)

    message = flow()
    assert "make" in message
    assert "$['items'][1]['when']" in message or "$.items[1].when" in message
    assert calls == [1]
    assert durable.runs()[0].steps()[0].status == "failed"


def test_caught_failure_replays_as_a_failure(journal):
    calls = []

    @durable.step(retry=None)
    def bad():
        calls.append("bad")
        raise Declined("no")

    @durable.step
    def good():
        calls.append("good")
        return 5

    @durable.workflow
    def flow():
        try:
            bad()
        except Declined as error:
            value = good()
            journal.crash()
            return value, error.args
        raise AssertionError

    with pytest.raises(KeyboardInterrupt):
        flow()
    journal.restart()
    assert flow() == (5, ("no",))
    assert calls == ["bad", "good"]


def test_step_that_returned_none_does_not_run_again(journal):
    calls = []

    @durable.step
    def nothing():
        calls.append(1)

    @durable.workflow
    def flow():
        assert nothing() is None
        journal.crash()

    with pytest.raises(KeyboardInterrupt):
        flow()
    journal.restart()
    flow()
    assert calls == [1]


# -- at_most_once ------------------------------------------------------------------------------------------------------


def test_at_most_once_attempt_that_a_crash_cut_is_never_repeated(journal):
    calls = []

    @durable.step(at_most_once=True, retry=RetryPolicy(maximum_attempts=0))
    def pay():
        calls.append(1)
        journal.crash()

    @durable.workflow
    def flow():
        try:
            pay()
        except StepInterruptedError as error:
            return str(error)

    with pytest.raises(KeyboardInterrupt):
        flow()
    journal.restart()
    message = flow()
    assert "pay" in message
    assert "at_most_once" in message
    assert calls == [1]


def test_at_most_once_attempt_that_failed_is_retried(journal):
    flow, _ = failing_times(2, retry=QUICK, at_most_once=True)
    assert flow() == 3


def test_at_most_once_attempt_that_timed_out_is_not_repeated(journal):
    calls, end = [], threading.Event()

    @durable.step(at_most_once=True, timeout=0.02, retry=QUICK)
    def pay():
        calls.append(1)
        end.wait(60)

    @durable.workflow
    def flow():
        pay()

    with pytest.raises(StepTimeoutError):
        flow()
    end.set()
    assert calls == [1]


def test_async_at_most_once(journal, run_async):
    calls = []

    @durable.step(at_most_once=True)
    async def pay():
        calls.append(1)
        journal.crash()

    @durable.workflow
    async def flow():
        try:
            await pay()
        except StepInterruptedError:
            return "unknown"

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    assert run_async(flow()) == "unknown"
    assert calls == [1]


# -- timeouts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0.03, dt.timedelta(milliseconds=30)])
def test_sync_attempt_is_abandoned_at_its_timeout_and_its_late_result_is_discarded(journal, timeout):
    attempts, release = [], threading.Event()

    @durable.step(timeout=timeout, retry=PATIENT)
    def slow():
        attempt = durable.info().attempt
        attempts.append(attempt)
        if attempt == 1:
            release.wait(60)
            return "late"
        return "in time"

    @durable.workflow
    def flow():
        return slow()

    assert flow() == "in time"
    release.set()
    time.sleep(0.02)
    assert attempts[:2] == [1, 2]  # on a busy machine the second may be late too
    assert durable.runs()[0].steps()[0].output == "in time"


def test_timeout_error_is_a_timeout_error_and_names_the_step_and_its_timeout(journal, run_async):
    @durable.step(timeout=0.02, retry=None)
    async def slow():
        await asyncio.sleep(60)

    @durable.workflow
    async def flow():
        await slow()

    with pytest.raises(TimeoutError) as caught:
        run_async(flow())
    assert type(caught.value) is StepTimeoutError
    assert "slow" in str(caught.value)
    assert "0.02" in str(caught.value)


def test_timeout_holds_for_one_attempt_and_async_attempts_are_cancelled(journal, run_async):
    log = []

    @durable.step(timeout=0.03, retry=PATIENT)
    async def slow():
        attempt = durable.info().attempt
        try:
            await asyncio.sleep(60 if attempt < 3 else 0.01)
        except asyncio.CancelledError:
            log.append(f"cancelled {attempt}")
            raise
        return attempt

    @durable.workflow
    async def flow():
        return await slow()

    last = run_async(flow())
    assert last >= 3  # on a busy machine the third may be late too
    assert log == [f"cancelled {attempt}" for attempt in range(1, last)]


def test_timeout_error_of_the_bodys_own_is_not_taken_for_the_steps_timeout(journal, run_async):
    @durable.step(timeout=60, retry=None)
    async def own():
        async with asyncio.timeout(0.01):
            await asyncio.sleep(60)

    @durable.workflow
    async def flow():
        await own()

    with pytest.raises(TimeoutError) as caught:
        run_async(flow())
    assert type(caught.value) is TimeoutError


def test_sync_body_with_a_timeout_knows_where_it_is(journal):
    @durable.step(timeout=60)
    def where():
        return durable.info().run_id, durable.info().step

    @durable.workflow(id="one")
    def flow():
        return where()

    assert flow()[0] == "one"


# -- options for one call ----------------------------------------------------------------------------------------------


def test_with_options_of_a_step(journal):
    attempts = []

    @durable.step(retry=None)
    def flaky(value=0):
        attempts.append(durable.info().step)
        raise Declined

    @durable.workflow
    def flow():
        with pytest.raises(Declined):
            flaky.with_options(retry=RetryPolicy(initial_interval=0.001, maximum_attempts=3), name="special")(7)
        with pytest.raises(Declined):
            flaky()

    flow()
    assert attempts == ["special"] * 3 + [flaky.name]
    assert [step.name for step in durable.runs()[0].steps()] == ["special", flaky.name]


def test_with_options_timeout(journal, run_async):
    @durable.step(retry=None)
    async def slow():
        await asyncio.sleep(60)

    @durable.workflow
    async def flow():
        await slow.with_options(timeout=dt.timedelta(milliseconds=10))()

    with pytest.raises(StepTimeoutError):
        run_async(flow())
    with pytest.raises(ValueError):
        slow.with_options(timeout=0)
    with pytest.raises(TypeError):
        slow.with_options(retry=3)


# -- where a step is just the function ---------------------------------------------------------------------------------


def test_step_outside_of_a_run_is_just_the_function(no_engine, run_async):
    marker = object()

    @durable.step
    def plain(value):
        return value

    @durable.step(retry=RetryPolicy(initial_interval=9), timeout=9)
    async def plain_async(value):
        return value

    @durable.step
    def failing():
        raise Declined

    assert plain(marker) is marker
    assert run_async(plain_async(marker)) is marker
    with pytest.raises(Declined):
        failing()
    assert list(no_engine.iterdir()) == []


def test_step_called_inside_a_step_is_just_the_function(journal):
    inner_calls = []

    @durable.step
    def inner(value):
        inner_calls.append(durable.info().step)
        return value

    @durable.step
    def outer():
        lock = threading.Lock()
        return inner(lock) is lock

    @durable.workflow
    def flow():
        return outer()

    assert flow() is True
    (step,) = durable.runs()[0].steps()
    assert step.name == outer.name
    assert inner_calls == [outer.name]


def test_idempotency_key_is_the_same_for_all_attempts_and_for_no_other_step(journal):
    keys = []

    @durable.step(retry=QUICK)
    def flaky():
        keys.append(durable.info().idempotency_key)
        if len(keys) == 2:
            journal.crash()
        if len(keys) < 4:
            raise Declined

    @durable.workflow
    def flow():
        flaky()
        flaky()

    with pytest.raises(KeyboardInterrupt):
        flow()
    journal.restart()
    flow()
    assert len(keys) == 5
    assert len(set(keys[:4])) == 1
    assert keys[4] != keys[0]


def test_info_in_workflow_and_step(journal):
    @durable.step
    def step():
        info = durable.info()
        return info.run_id, info.workflow, info.step, info.attempt

    @durable.workflow(name="flow", id="one")
    def flow():
        info = durable.info()
        return [(info.run_id, info.workflow, info.step, info.attempt), step()]

    assert flow() == [("one", "flow", "", 0), ("one", "flow", step.name, 1)]


def test_info_outside_of_a_run_has_an_empty_run_id_and_a_fresh_key():
    one, other = durable.info(), durable.info()
    assert (one.run_id, one.workflow, one.step, one.attempt) == ("", "", "", 0)
    assert one.idempotency_key
    assert one.idempotency_key == one.idempotency_key
    assert one.idempotency_key != other.idempotency_key


def test_info_in_a_step_called_outside_of_a_run(journal):
    @durable.step
    def step():
        return durable.info().run_id, durable.info().idempotency_key

    assert step()[0] == ""
    assert step()[1] != step()[1]


def test_an_attempt_that_had_not_begun_at_its_timeout_does_not_begin_when_another_has_completed_the_step(
    journal, monkeypatch
):
    """No thread was free for it in time: on a busy machine, or one that was put to sleep."""
    held, attempts, helper = [], [], _attempts.run_in_helper
    monkeypatch.setattr(_attempts, "run_in_helper", lambda body: helper(body) if held else held.append(body))

    @durable.step(retry=QUICK, timeout=0.2)
    def work():
        attempts.append(durable.info().attempt)
        return "done"

    @durable.workflow
    def flow():
        return work()

    assert flow() == "done"
    held[0]()
    assert attempts == [2]

"""What `cancel()` and a timeout of the run make of steps side by side: what waits is cut, and cut together."""

import contextlib
import threading

import pytest

import durable
from durable import RetryPolicy
from durable._parallel import Parallel
from tests.behaviour.patience import PATIENCE, wait_until

SLOW = RetryPolicy(initial_interval=3600, jitter=0)


@pytest.fixture
def log():
    """What ran, in order."""
    return []


@pytest.fixture
def cleanup(log):
    @durable.step(name="cleanup")
    def cleanup():
        log.append("clean-up")

    return cleanup


@pytest.fixture
def flaky(log):
    @durable.step(name="flaky", retry=SLOW)
    def flaky(number):
        log.append(number)
        raise ConnectionError

    return flaky


@pytest.fixture
def mapping(log, cleanup, flaky):
    @durable.workflow(name="mapping", id="run")
    def mapping(return_exceptions: bool = False) -> list:
        try:
            return flaky.map([1, 2, 3], return_exceptions=return_exceptions)
        except durable.Cancelled:
            log.append("told")
            raise
        finally:
            cleanup()

    return mapping


def begin(workflow, how, *args):
    """Start it in the background, or call it in a thread, which is returned."""
    if how == "start":
        workflow.start(*args)
        return None

    def call():
        with contextlib.suppress(durable.DurableError):
            workflow(*args)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def statuses():
    return [step.status for step in durable.get("run").steps()]


def wait_for(*wanted):
    wait_until(lambda: durable.runs() and statuses() == list(wanted))


def require_cancelled(how_items_ended):
    run = durable.get("run")
    with pytest.raises(durable.RunCancelledError):
        run.result(PATIENCE)
    assert [type(step.error).__name__ for step in run.steps()] == [*how_items_ended, "NoneType"]


@pytest.mark.parametrize("return_exceptions", [False, True])
@pytest.mark.parametrize("how", ["start", "call"])
def test_all_items_that_back_off_are_cut_and_the_body_is_told_once(journal, log, mapping, how, return_exceptions):
    begin(mapping, how, return_exceptions)
    wait_for("retrying", "retrying", "retrying")
    durable.get("run").cancel()
    require_cancelled(["Cancelled"] * 3)
    assert sorted(log[:3]) == [1, 2, 3]
    assert log[3:] == ["told", "clean-up"]


def test_all_items_that_wait_for_a_slot_are_cut(journal, cleanup):
    is_held, done = threading.Event(), threading.Event()

    @durable.step(concurrency=1)
    def limited(number):
        is_held.set()
        done.wait(PATIENCE)

    @durable.workflow
    def holder():
        limited(0)

    @durable.workflow(id="run")
    def work():
        try:
            limited.map([1, 2, 3])
        finally:
            cleanup()

    held = holder.start()
    is_held.wait(PATIENCE)
    run = work.start()
    wait_until(
        lambda: (
            run.status == "running" and len(journal.engine._runtime.limits._limits["step", limited.name]._waiting) == 3
        )
    )
    run.cancel()
    require_cancelled(["Cancelled"] * 3)
    done.set()
    held.result(PATIENCE)


@pytest.mark.parametrize("how", ["start", "call"])
def test_an_attempt_in_flight_ends_and_is_journaled_and_is_not_tried_again(journal, log, cleanup, how):
    began, goes_on = threading.Semaphore(0), threading.Event()

    @durable.step(retry=SLOW)
    def item(number):
        log.append(number)
        if number > 1:
            began.release()
            goes_on.wait(PATIENCE)
        if number < 3:
            raise ConnectionError
        return number

    @durable.workflow(id="run")
    def work():
        try:
            item.map([1, 2, 3, 4], concurrency=3)
        finally:
            cleanup()

    begin(work, how)
    began.acquire(timeout=PATIENCE)
    began.acquire(timeout=PATIENCE)
    wait_until(lambda: sorted(statuses()) == ["retrying", "running", "running"])
    run = durable.get("run")
    run.cancel()
    wait_until(lambda: "failed" in statuses())
    assert run.status == "running"
    goes_on.set()
    require_cancelled(["Cancelled", "Cancelled", "NoneType"])
    assert sorted(log[:3]) == [1, 2, 3]
    assert log[3:] == ["clean-up"]


def test_a_crash_between_the_first_of_them_and_the_last_changes_nothing(journal, log, mapping, monkeypatch):
    caller = begin(mapping, "call")  # which is not suspended
    wait_for("retrying", "retrying", "retrying")
    is_cut, first, guard = Parallel.is_cut, set(), threading.Lock()

    def is_first_and_cut(self, thread):
        with guard:
            if is_cut(self, thread) and not first - {thread}:
                first.add(thread)
        return thread in first

    with monkeypatch.context() as patch:
        patch.setattr(Parallel, "is_cut", is_first_and_cut)
        durable.get("run").cancel()
        wait_until(lambda: "failed" in statuses())
        journal.restart()
    caller.join(PATIENCE)
    assert sorted(log[:3]) == [1, 2, 3]
    log.clear()  # the body may have heard of it while its engine was closed
    durable.resume()
    require_cancelled(["Cancelled"] * 3)
    assert log == ["told", "clean-up"]


@pytest.mark.parametrize("how", ["start", "call"])
def test_a_run_that_is_interrupted_and_then_cancelled_tries_none_of_them_again(journal, log, mapping, how):
    begin(mapping, how)
    wait_for("retrying", "retrying", "retrying")
    journal.restart()
    log.clear()
    durable.get("run").cancel()
    durable.resume()
    require_cancelled(["Cancelled"] * 3)
    assert log == ["told", "clean-up"]


def test_a_map_of_the_clean_up_backs_off_and_is_tried_again(journal, log, flaky):
    @durable.step(retry=RetryPolicy(initial_interval=0.001, jitter=0))
    def undo(number):
        log.append(number)
        if log.count(number) < 3:
            raise ConnectionError

    @durable.workflow(id="run")
    def work():
        try:
            flaky.map([1, 2])
        finally:
            undo.map([11, 12])

    run = work.start()
    wait_for("retrying", "retrying")
    run.cancel()
    with pytest.raises(durable.RunCancelledError):
        run.result(PATIENCE)
    assert statuses() == ["failed", "failed", "completed", "completed"]
    assert sorted(log) == [1, 2, 11, 11, 11, 12, 12, 12]


def test_a_run_whose_time_was_up_in_a_map_is_retried_from_there(journal, log):
    goes_well = threading.Event()

    @durable.step(retry=SLOW)
    def item(number):
        log.append(number)
        if number == 2 or goes_well.is_set():
            return number
        raise ConnectionError

    @durable.workflow(id="run", timeout=0.3)
    def work():
        return item.map([1, 2, 3])

    run = work.start()
    with pytest.raises(TimeoutError):
        run.result(PATIENCE)
    assert statuses() == ["failed", "completed", "failed"]
    goes_well.set()
    run.retry()
    assert run.result(PATIENCE) == [1, 2, 3]
    assert sorted(log) == [1, 1, 2, 3, 3]


@pytest.mark.parametrize("how", ["start", "call"])
def test_a_submitted_step_that_fails_when_the_body_has_ended_is_not_tried_again(journal, log, cleanup, flaky, how):
    began, goes_on = threading.Event(), threading.Event()

    @durable.step(retry=SLOW)
    def beside():
        log.append("beside")
        began.set()
        goes_on.wait(PATIENCE)
        raise ConnectionError

    @durable.workflow(id="run")
    def work():
        beside.submit()
        try:
            flaky(1)
        finally:
            cleanup()

    begin(work, how)
    began.wait(PATIENCE)
    wait_for("running", "retrying")
    run = durable.get("run")
    run.cancel()
    wait_for("running", "failed", "completed")
    goes_on.set()
    require_cancelled(["Cancelled", "Cancelled"])
    assert sorted(map(str, log)) == ["1", "beside", "clean-up"]


def test_a_map_that_failed_before_a_crash_tells_of_a_cancellation_that_came_after_it(journal, log, cleanup):
    """At an item that did not begin because of that failure: nothing else of what the journal has is without outcome."""

    @durable.step(name="picky", retry=None)
    def picky(number):
        log.append(number)
        raise ValueError(number)

    @durable.workflow(name="mapping", id="run")
    def mapping():
        with contextlib.suppress(ValueError):
            picky.map([1, 2, 3], 1)
        journal.crash()
        cleanup()
        return "went on"

    with pytest.raises(KeyboardInterrupt):
        mapping()
    journal.restart()
    durable.get("run").cancel()
    with pytest.raises(durable.RunCancelledError):
        durable.get("run").result(PATIENCE)
    assert log == [1]
    for _ in range(2):
        with pytest.raises(durable.RunCancelledError):
            mapping()

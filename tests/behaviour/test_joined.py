"""A run that waits for a run which it did not begin: one that it calls and that is there, or whose result it asks for."""

import asyncio
import threading
import time

import pytest

import durable
from durable import RetryPolicy
from tests.behaviour.patience import PATIENCE, wait_until


def declare(kind, waits_for, joins):
    """A workflow `check` of one id, and `order`, whose runs all wait for the one run of it."""
    failures = [True]

    @durable.step(retry=RetryPolicy(initial_interval=1.3, jitter=0))
    def inspect():
        if failures:
            failures.pop()
            raise ConnectionError

    @durable.step(name="inspect", retry=RetryPolicy(initial_interval=1.3, jitter=0))
    async def inspect_async():
        inspect.function()

    if kind == "sync":

        @durable.workflow(id="check")
        def check():
            if waits_for == "sleep":
                durable.sleep(1.3)
            elif waits_for == "signal":
                durable.wait_for_signal("go")
            else:
                inspect()
            return "ok"

        @durable.workflow(id="order-{number}")
        def order(number):
            return check() if joins == "call" or number == 1 else durable.get("check").result()
    else:

        @durable.workflow(id="check")
        async def check():
            if waits_for == "sleep":
                await durable.aio.sleep(1.3)
            elif waits_for == "signal":
                await durable.aio.wait_for_signal("go")
            else:
                await inspect_async()
            return "ok"

        @durable.workflow(id="order-{number}")
        async def order(number):
            return await check() if joins == "call" or number == 1 else await durable.get("check")

    return order


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("joins", ["call", "result"])
@pytest.mark.parametrize("waits_for", ["sleep", "signal", "back-off"])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_all_who_wait_for_a_suspended_run_go_on_when_it_has_ended(journal, kind, waits_for, joins, is_restarted):
    order = declare(kind, waits_for, joins)
    runs = [order.start(1)]
    wait_until(lambda: [run.status for run in durable.runs()] == ["waiting", "waiting"])
    runs += [order.start(number) for number in (2, 3)]
    wait_until(lambda: [run.status for run in runs[1:]] == ["running", "running"])
    if is_restarted:
        journal.restart()
        runs = [durable.get(run.id) for run in runs]
        durable.resume()
    if waits_for == "signal":
        durable.get("check").signal("go")
    assert [run.result(PATIENCE) for run in runs] == ["ok", "ok", "ok"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_who_waits_for_a_run_that_ended_before_the_restart_goes_on(journal, kind):
    order = declare(kind, "signal", "call")
    runs = [order.start(1)]
    wait_until(lambda: runs[0].status == "waiting")
    runs.append(order.start(2))
    wait_until(lambda: runs[1].status == "running")
    journal.restart()
    durable.get("check").signal("go")
    assert durable.get("check").result(PATIENCE) == "ok"
    journal.restart()
    durable.resume()
    assert [durable.get(run.id).result(PATIENCE) for run in runs] == ["ok", "ok"]


def test_a_run_that_somebody_else_left_is_set_going_by_who_calls_it(journal):
    """Interrupted or blocked, and in the background: who began it may be waiting for it as well."""
    threads = []

    @durable.workflow(id="check")
    def check():
        threads.append(threading.get_ident())
        journal.crash()
        return "ok"

    @durable.workflow(id="order-{number}")
    def order(number):
        return check(), threading.get_ident()

    with pytest.raises(KeyboardInterrupt):
        order(1)
    journal.restart()
    found, mine = order(2)
    assert (found, mine in threads[1:], len(threads)) == ("ok", False, 2)
    assert order(1)[0] == "ok"


def test_a_child_that_ends_while_its_parent_is_being_suspended_makes_it_due(journal):
    @durable.workflow(id="child")
    def child():
        return durable.wait_for_signal("go", str)

    @durable.workflow
    def parent():
        try:
            return child()
        finally:
            wait_until(lambda: durable.get("child").status == "completed")

    run = parent.start()
    wait_until(lambda: len(durable.runs(status="waiting")) == 1)
    durable.get("child").signal("go", "on")
    assert run.result(PATIENCE) == "on"


# -- cancelled meanwhile -----------------------------------------------------------------------------------------------


@pytest.fixture
def check():
    """A run of the id `check`, which somebody has begun, and which ends when it gets its signal."""

    @durable.workflow(id="check", name="check")
    def check():
        return durable.wait_for_signal("go", str)

    @durable.workflow
    def begin():
        check.start()

    begin.start().result(PATIENCE)
    return check


def ways(check):
    return {
        "call": check,
        "result": lambda: durable.get("check").result(),
        "result in time": lambda: durable.get("check").result(PATIENCE),
        "result of start": lambda: check.start().result(),
        "event": lambda: durable.get("check").event("never", PATIENCE),
    }


@pytest.mark.parametrize("why", ["cancelled", "timed out"])
@pytest.mark.parametrize("way", ["call", "result", "result in time", "result of start", "event"])
def test_the_wait_for_a_run_of_somebody_else_is_cut_and_that_replays(journal, check, way, why):
    """Killed in the clean-up, the run goes on with it, though the one that it waited for has ended by then."""
    told, cleaned = [], []

    @durable.step(name="clean")
    def clean(number):
        cleaned.append(number)

    @durable.workflow(id="order", timeout=0.5 if why == "timed out" else None)
    def order():
        try:
            return ways(check)[way]()
        except durable.Cancelled as error:
            told.append(type(error).__name__)
            clean(1)
            journal.crash()
            clean(2)

    run = order.start()
    if why == "cancelled":
        time.sleep(0.2)
        assert run.status == "running"
        run.cancel()
    wait_until(lambda: run.status == "interrupted")
    durable.get("check").signal("go", "ok")
    assert durable.get("check").result(PATIENCE) == "ok"
    journal.restart()
    durable.resume()
    with pytest.raises(durable.RunCancelledError if why == "cancelled" else TimeoutError):
        durable.get("order").result(PATIENCE)
    assert cleaned == [1, 2]
    assert len(told) >= 2, "a run that was interrupted before it ended may be set going once more, to be cancelled"
    assert set(told) == {"Cancelled" if why == "cancelled" else "TimedOut"}
    kinds = [(step.kind, step.name, step.status) for step in durable.get("order").steps() if step.kind != "start"]
    awaited = "check, event 'never'" if way == "event" else "check"
    expected = ("child" if way == "call" else "result", awaited, "failed")
    assert kinds == [expected, ("step", "clean", "completed"), ("step", "clean", "completed")]


def test_a_result_that_came_is_no_operation_and_who_is_cancelled_later_is_told_later(journal, check):
    @durable.workflow
    def order():
        found = durable.get("check").result()
        durable.set_event("found", found)
        durable.wait_for_signal("never")

    run = order.start()
    durable.get("check").signal("go", "ok")
    assert run.event("found", timeout=PATIENCE) == "ok"
    run.cancel()
    with pytest.raises(durable.RunCancelledError):
        run.result(PATIENCE)
    assert [step.kind for step in run.steps()] == ["event", "signal"]


def test_a_run_that_timed_out_while_it_waited_is_retried_from_there(journal, check):
    @durable.workflow(timeout=0.3)
    def order():
        return durable.get("check").result()

    run = order.start()
    with pytest.raises(TimeoutError):
        run.result(PATIENCE)
    durable.get("check").signal("go", "ok")
    run.retry()
    assert run.result(PATIENCE) == "ok"


def test_another_call_where_a_run_was_told_is_stopped(journal, check):
    @durable.workflow(id="order")
    def order():
        try:
            durable.get("check").result()
        finally:
            journal.crash()

    run = order.start()
    time.sleep(0.2)
    run.cancel()
    wait_until(lambda: run.status == "interrupted")
    journal.restart()

    @durable.workflow(id="order", name=order.name)
    def changed():
        durable.now()

    durable.resume(wait=True)
    assert durable.get("order").status == "blocked"
    assert "the result of run 'check'" in str(durable.get("order").error)


def test_who_started_a_run_is_told_of_its_cancellation_and_that_replays(journal):
    """Told where it waits for its own child, which was cancelled with it."""
    told = []

    @durable.step
    def clean(): ...

    @durable.workflow
    def child():
        durable.wait_for_signal("never")

    @durable.workflow(id="parent")
    def parent():
        try:
            child.start().result()
        except BaseException as error:
            told.append(type(error).__name__)
            if isinstance(error, durable.Cancelled):
                clean()
                journal.crash()

    run = parent.start()
    wait_until(lambda: len(durable.runs(status="waiting")) == 2)
    told.clear()
    run.cancel()
    wait_until(lambda: run.status == "interrupted")
    journal.restart()
    durable.resume(wait=True)
    assert durable.get("parent").status == "cancelled"
    assert told.count("Cancelled") >= 2
    assert "RunCancelledError" not in told


def test_what_a_run_had_got_before_it_was_told_is_not_what_it_was_told_at(journal, check):
    """What is awaited and comes has no place of its own: the next has the same."""
    got, waits = [], threading.Event()

    @durable.workflow(id="other")
    def other():
        durable.set_event("first", 1)
        durable.wait_for_signal("go")

    @durable.workflow(id="order")
    def order():
        got.append([ended.result(), durable.get("other").event("first", PATIENCE)])
        waits.set()
        try:
            durable.get("other").event("second", PATIENCE)
        except durable.Cancelled:
            got.append("told")
            journal.crash()

    ended = durable.runs("completed")[0]
    other.start()
    run = order.start()
    assert waits.wait(PATIENCE)
    run.cancel()
    wait_until(lambda: run.status == "interrupted")
    journal.restart()
    ended = durable.runs("completed")[0]
    durable.resume(wait=True)
    assert durable.get("order").status == "cancelled"
    assert got[:2] == [[None, 1], "told"]
    assert "told" in got[2:]
    assert all(each in ("told", [None, 1]) for each in got)


@pytest.mark.parametrize("ends", ["cancelled", "interrupted"])
def test_who_waits_for_an_event_of_its_child_is_told_of_what_happens_to_itself(journal, ends):
    began, told = threading.Event(), []

    @durable.workflow
    def child():
        began.set()
        durable.wait_for_signal("never")

    @durable.workflow(id="parent")
    def parent():
        try:
            child.start().event("never", PATIENCE)
        except BaseException as error:
            told.append(type(error).__name__)
            raise

    run = parent.start()
    assert began.wait(PATIENCE)
    if ends == "cancelled":
        run.cancel()
        with pytest.raises(durable.RunCancelledError):
            run.result(PATIENCE)
    else:
        journal.restart()
        assert durable.get("parent").status == "interrupted"
    assert told == ["Cancelled" if ends == "cancelled" else "Halt"]


def test_an_async_run_that_gives_up_its_wait_leaves_the_run_of_somebody_else_alone(journal):
    @durable.workflow(id="check")
    async def check():
        return await durable.aio.wait_for_signal("go", str)

    @durable.workflow
    async def begin():
        check.start()

    @durable.workflow
    async def order():
        async with asyncio.timeout(0.3):
            return await check()

    begin.start().result(PATIENCE)
    wait_until(lambda: durable.get("check").status == "waiting")
    with pytest.raises(TimeoutError):
        order.start().result(PATIENCE)
    durable.get("check").signal("go", "ok")
    assert durable.get("check").result(PATIENCE) == "ok"

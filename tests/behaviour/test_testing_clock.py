"""`durable.testing`: the engine of an environment, and its clock, which tests move."""

import asyncio
import datetime as dt
import itertools
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import durable
from durable import RetryPolicy, _engine, testing
from durable._threads import RunThreads
from durable.testing._clock import HandClock

WEEK = 7 * 24 * 3600
PATIENCE = 60.0
FOR_EVER = RetryPolicy(maximum_attempts=0)
ASYNC = pytest.mark.parametrize("asynchronous", [False, True])


@pytest.fixture
def env():
    with testing.engine() as environment:
        yield environment


@pytest.fixture
def by_hand():
    with testing.engine(auto_advance=False) as environment:
        yield environment


async def until(condition):
    while not condition():  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.001)


def sleeper(asynchronous):
    """A week of sleep, then a step that fails for an hour; the result says how much time the workflow saw pass."""
    attempts = []

    @durable.step(retry=FOR_EVER)
    def flaky(since):
        attempts.append(durable.now())
        if durable.now() < since + dt.timedelta(hours=1):
            raise ConnectionError
        return len(attempts)

    if asynchronous:

        @durable.workflow
        async def flow():
            begun = durable.now()
            await durable.aio.sleep(WEEK)
            since = durable.now()
            await asyncio.to_thread(flaky, since)
            return durable.now() - begun
    else:

        @durable.workflow
        def flow():
            begun = durable.now()
            durable.sleep(WEEK)
            flaky(durable.now())
            return durable.now() - begun

    return flow, attempts


# -- moved by hand -----------------------------------------------------------------------------------------------------


@ASYNC
def test_a_week_of_sleep_and_an_hour_of_retries(by_hand, asynchronous):
    flow, attempts = sleeper(asynchronous)
    run = flow.start()
    by_hand.clock.advance(days=6, hours=23)
    assert (run.status, attempts) == ("waiting", [])
    by_hand.clock.advance(hours=1)
    assert len(attempts) == 1
    by_hand.clock.advance(hours=1, minutes=2)
    assert run.status == "completed"
    assert dt.timedelta(days=7, hours=1) <= run.result() <= dt.timedelta(days=7, hours=1, minutes=2)
    delays = [(after - before).total_seconds() for before, after in itertools.pairwise(attempts)]
    policy = [min(100.0, 2.0**n) for n in range(len(delays))]
    assert all(0.9 * wanted <= delay <= 1.1 * wanted for wanted, delay in zip(policy, delays, strict=True))


def test_a_week_of_sleep_and_an_hour_of_retries_takes_no_time():
    """Or else this test does not end, either."""
    flow, attempts = sleeper(asynchronous=False)
    with testing.engine() as env:
        run = flow.start()
        env.clock.advance(days=7, hours=2)
        assert run.status == "completed"
    assert len(attempts) > 40


@pytest.mark.parametrize(("whose", "method"), [(RunThreads, "_on_loop"), (HandClock, "_begin")])
def test_time_stands_still_for_a_thread_that_is_about_to_wait(by_hand, monkeypatch, whose, method):
    """However long the machine takes it away from a thread of an async run: for its loop, or for the clock."""
    do, times = getattr(whose, method), []

    def do_late(self, *args):
        if "to_thread" in threading.current_thread().name:
            time.sleep(0.1)
        return do(self, *args)

    @durable.step(retry=RetryPolicy(initial_interval=10, jitter=0))
    def flaky():
        threading.current_thread().name = "to_thread"
        times.append((by_hand.clock.time - start).total_seconds())
        if len(times) < 3:
            raise ConnectionError

    @durable.workflow
    async def flow():
        await asyncio.to_thread(flaky)

    monkeypatch.setattr(whose, method, do_late)
    start = by_hand.clock.time
    run = flow.start()
    by_hand.clock.advance(seconds=100)
    assert (times, run.status) == ([0, 10, 30], "completed")


@ASYNC
def test_a_plain_call_in_another_thread_waits_in_memory_for_the_clock(by_hand, asynchronous):
    flow, _ = sleeper(asynchronous)
    results = []
    caller = threading.Thread(target=lambda: results.append(asyncio.run(flow()) if asynchronous else flow()))
    caller.start()
    while not any(step.kind == "sleep" for run in by_hand.engine.runs() for step in run.steps()):
        time.sleep(0.001)
    by_hand.clock.advance(days=6)
    assert (results, by_hand.engine.runs()[0].status) == ([], "running")
    by_hand.clock.advance(days=1, hours=2)
    caller.join(PATIENCE)
    assert results[0] >= dt.timedelta(days=7, hours=1)


def test_each_due_moment_is_a_stop(by_hand):
    seen = []

    @durable.step
    def note():
        seen.append((by_hand.clock.time - start).total_seconds())

    @durable.workflow
    def flow(seconds):
        for _ in range(3):
            durable.sleep(seconds)
            note()

    start = by_hand.clock.time
    flow.start(10)
    flow.start(15)
    flow.start(0.4)
    by_hand.clock.advance(seconds=30)
    assert seen == [0.4, 0.8, pytest.approx(1.2), 10, 15, 20, 30, 30]
    assert by_hand.clock.time == start + dt.timedelta(seconds=30)
    by_hand.clock.advance_to(start + dt.timedelta(seconds=45))
    assert seen[8:] == [45]


def test_time_stands_still_while_a_step_executes(by_hand):
    begun, gate, times = threading.Event(), threading.Event(), []

    @durable.step
    def slow():
        begun.set()
        assert gate.wait(PATIENCE)
        times.append(durable.now())

    @durable.workflow
    def flow():
        durable.sleep(10)
        slow()

    @durable.workflow
    def other():
        durable.sleep(20)

    start = by_hand.clock.time
    flow.start()
    waits = other.start()
    mover = threading.Thread(target=lambda: by_hand.clock.advance(minutes=1))
    mover.start()
    assert begun.wait(PATIENCE)
    time.sleep(0.05)
    assert (by_hand.clock.time, waits.status) == (start + dt.timedelta(seconds=10), "waiting")
    gate.set()
    mover.join(PATIENCE)
    assert times == [start + dt.timedelta(seconds=10)]
    assert by_hand.clock.time == start + dt.timedelta(minutes=1)


@pytest.mark.parametrize("what", ["before", "a child", "a sleep"])
def test_a_thread_of_a_run_is_at_work_from_the_moment_at_which_it_is_handed_over(env, what):
    @durable.step(name="work")
    def work() -> str:
        return "done"

    @durable.workflow(name="child")
    def child() -> str:
        durable.sleep(60)
        return work()

    def in_thread() -> str:
        time.sleep(0.1)  # real time, in which nothing of the library is called
        if what == "a child":
            return child()
        if what == "a sleep":
            durable.sleep(60)
        return work()

    @durable.workflow(name="flow", timeout=3600)
    async def flow() -> str:
        return await asyncio.to_thread(in_thread)

    assert flow.start().result(PATIENCE) == "done"
    assert asyncio.run(flow()) == "done"


def test_a_step_that_does_not_end_is_named():
    begun, gate = threading.Event(), threading.Event()

    @durable.workflow
    def flow():
        hold()

    @durable.step
    def hold():
        begun.set()
        gate.wait(PATIENCE)

    with testing.engine(patience=0.05) as env:
        run = flow.start()
        assert begun.wait(PATIENCE)
        with pytest.raises(TimeoutError, match=rf"for 0\.05 s of real time run {run.id} of .*flow' has been at work"):
            env.clock.advance(seconds=1)
        gate.set()


@ASYNC
def test_steps_side_by_side_back_off_by_the_clock(env, asynchronous):
    tries = []

    @durable.step(retry=RetryPolicy(initial_interval=60, jitter=0))
    def flaky(n):
        tries.append(n)
        if tries.count(n) < 3:
            raise ValueError
        return n

    if asynchronous:

        @durable.workflow
        async def flow():
            return await asyncio.gather(*(asyncio.to_thread(flaky, n) for n in range(3)))

        assert asyncio.run(flow()) == [0, 1, 2]
    else:

        @durable.workflow
        def flow():
            future = flaky.submit(9)
            return [*flaky.map(range(5), concurrency=2), future.result()]

        assert flow() == [0, 1, 2, 3, 4, 9]
    assert all(tries.count(n) == 3 for n in tries)


def test_a_step_that_was_cut_is_at_rest():
    """That it was cut is written with what follows, which here is the next attempt of another one."""

    @durable.step
    async def slow():
        await asyncio.sleep(1000)

    @durable.step(retry=RetryPolicy(initial_interval=1, jitter=0))
    async def flaky():
        if durable.info().attempt == 1:
            raise ConnectionError

    @durable.workflow
    async def flow():
        task = asyncio.create_task(slow())
        await asyncio.sleep(0)  # in which it begins
        task.cancel()
        await flaky()

    with testing.engine(auto_advance=False, patience=2) as environment:
        run = flow.start()
        environment.clock.advance(seconds=1)
        assert run.result(PATIENCE) is None


def test_signals_with_a_timeout(by_hand):
    @durable.workflow
    def flow():
        try:
            return durable.wait_for_signal("go", str, timeout=dt.timedelta(days=2))
        except TimeoutError:
            return "nobody"

    first, second = flow.start(), flow.start()
    by_hand.clock.advance(days=1)
    first.signal("go", "ann")
    assert first.result() == "ann"
    by_hand.clock.advance(days=1)
    assert second.result() == "nobody"


@ASYNC
def test_the_timeout_of_a_workflow(by_hand, asynchronous):
    if asynchronous:

        @durable.workflow(timeout=dt.timedelta(days=1))
        async def flow():
            await durable.aio.sleep(WEEK)
    else:

        @durable.workflow(timeout=dt.timedelta(days=1))
        def flow():
            durable.sleep(WEEK)

    run = flow.start()
    by_hand.clock.advance(hours=23)
    assert run.status == "waiting"
    by_hand.clock.advance(hours=1)
    assert run.status == "failed"


@ASYNC
def test_children_and_their_parents(by_hand, asynchronous):
    if asynchronous:

        @durable.workflow
        async def child(seconds):
            await durable.aio.sleep(seconds)
            return seconds

        @durable.workflow
        async def parent():
            started = child.start(0.5)
            return await child(100) + await started
    else:

        @durable.workflow
        def child(seconds):
            durable.sleep(seconds)
            return seconds

        @durable.workflow
        def parent():
            started = child.start(0.5)
            return started.result() + child(100)

    run = parent.start()
    by_hand.clock.advance(minutes=2)
    assert run.status == "completed"
    assert run.result() == 100.5


def test_time_passes_for_a_child_that_was_set_going_by_itself_after_a_crash_and_that_its_parent_waits_for(env):
    @durable.step(name="pay", retry=RetryPolicy(initial_interval=0.5))
    async def pay():
        if durable.info().attempt < 3:
            raise ConnectionError("down")
        return "paid"

    @durable.workflow(id="child")
    async def child():
        return await pay()

    @durable.workflow(id="parent")
    async def parent():
        return await asyncio.gather(child())

    with env.crash_in("pay"):
        parent.start()
    env.engine.resume()
    assert durable.get("parent").result(PATIENCE) == ["paid"]


@ASYNC
def test_time_passes_for_a_run_that_a_step_awaits(env, asynchronous):
    if asynchronous:

        @durable.workflow(id="other")
        async def other():
            await durable.aio.sleep(0.5)
            return "done"

        @durable.step
        async def wait():
            return await durable.get("other")

        @durable.workflow
        async def flow():
            return await wait()
    else:

        @durable.workflow(id="other")
        def other():
            durable.sleep(0.5)
            return "done"

        @durable.step
        def wait():
            return durable.get("other").result()

        @durable.workflow
        def flow():
            return wait()

    other.start()
    assert flow.start().result(PATIENCE) == "done"


@pytest.mark.parametrize("calls", [False, True])
def test_time_passes_for_a_run_that_a_thread_of_an_async_run_waits_for(env, calls):
    @durable.workflow(id="other")
    def other():
        durable.sleep(0.5)
        return "done"

    @durable.step
    def begin():
        other.start()

    @durable.workflow
    async def flow():
        begin()
        return await asyncio.to_thread(other if calls else durable.get("other").result)

    assert flow.start().result(PATIENCE) == "done"


def test_a_run_that_sleeps_beside_a_child_that_waits_is_suspended_with_it(by_hand):
    @durable.workflow(id="child")
    async def child() -> str:
        return await durable.aio.wait_for_signal("go", str)

    @durable.workflow
    async def flow() -> str:
        task = asyncio.create_task(child())
        await durable.aio.sleep(600)
        return await task

    run = flow.start()
    by_hand.clock.advance(seconds=60)
    assert (run.status, durable.get("child").status) == ("waiting", "waiting")
    durable.get("child").signal("go", "gone")
    by_hand.clock.advance(seconds=600)
    assert run.result(PATIENCE) == "gone"


def test_a_workflow_that_is_called_in_a_step(env):
    @durable.workflow
    def inner():
        durable.sleep(100)
        return 5

    @durable.step
    def step():
        return inner()

    @durable.workflow
    def outer():
        return step()

    assert outer() == 5
    run = outer.start()
    env.clock.advance(minutes=5)
    assert run.status == "completed"


def test_a_workflow_with_a_limit_waits_for_those_that_sleep(by_hand):
    @durable.workflow(concurrency=1)
    def flow():
        durable.sleep(0.5)

    runs = [flow.start() for _ in range(3)]
    by_hand.clock.advance(seconds=1)
    assert [run.status for run in runs] == ["completed", "completed", "running"]
    by_hand.clock.advance(seconds=1)
    assert runs[2].status == "completed"


def test_more_sleepers_than_threads():
    @durable.workflow
    def flow():
        durable.sleep(0.5)
        durable.sleep(100)

    with testing.engine(auto_advance=False, threads=2) as env:
        runs = [flow.start() for _ in range(20)]
        env.clock.advance(minutes=5)
        assert {run.status for run in runs} == {"completed"}


def test_bad_times(env):
    with pytest.raises(ValueError, match="0 or more"):
        env.clock.advance(seconds=-1)
    with pytest.raises(ValueError, match="aware datetime"):
        env.clock.advance_to(dt.datetime(2999, 1, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="not before"):
        env.clock.advance_to(dt.datetime(2000, 1, 1, tzinfo=dt.UTC))
    with pytest.raises(ValueError, match="no time zone"):
        testing.engine(start=dt.datetime(2999, 1, 1))  # noqa: DTZ001
    with pytest.raises(TypeError, match="auto_advance"):
        testing.engine(auto_advance="yes")


# -- moved by itself ---------------------------------------------------------------------------------------------------


@ASYNC
@pytest.mark.parametrize("how", ["called", "result", "resume"])
def test_time_passes_by_itself_while_the_test_waits(env, asynchronous, how):
    flow, _ = sleeper(asynchronous)
    start = env.clock.time
    if how == "called":
        passed = asyncio.run(flow()) if asynchronous else flow()
    elif how == "result":
        passed = flow.start().result()
    else:
        run = flow.start()
        env.restart()
        env.engine.resume(wait=True)
        passed = env.engine.get(run.id).result()
    assert dt.timedelta(days=7, hours=1) <= passed <= env.clock.time - start


def test_time_does_not_pass_while_the_test_does_something_else(env):
    @durable.workflow
    def flow():
        durable.sleep(10)

    run = flow.start()
    while run.status != "waiting":
        time.sleep(0.001)
    time.sleep(0.05)
    assert run.status == "waiting"
    run.result()


def test_in_a_coroutine_the_clock_is_advanced_beside_the_loop():
    @durable.workflow
    async def flow():
        await durable.aio.sleep(WEEK)
        return durable.now()

    async def test():
        async with testing.engine(auto_advance=False) as env:
            start = env.clock.time
            run = flow.start()
            task = asyncio.create_task(flow())
            await until(lambda: len(durable.runs()) == 2 and all(run.steps() for run in durable.runs()))
            await env.clock.advance_async(days=7)
            assert await task == await run == start + dt.timedelta(days=7)

    asyncio.run(test())


def test_in_a_coroutine_the_clock_is_advanced_while_all_threads_of_the_loop_are_at_work():
    """What they do may wait for it."""
    free = threading.Event()

    async def test():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        async with testing.engine(auto_advance=False) as env:
            start = env.clock.time
            at_work = loop.run_in_executor(None, free.wait, PATIENCE)
            await env.clock.advance_async(days=7)
            assert env.clock.time == start + dt.timedelta(days=7)
            assert not at_work.done()
            free.set()
            assert await at_work

    asyncio.run(test())


def test_in_a_coroutine_time_passes_while_it_awaits():
    flow, _ = sleeper(asynchronous=True)

    async def test():
        async with testing.engine():
            assert await flow() >= dt.timedelta(days=7)
            assert await flow.start() >= dt.timedelta(days=7)

    asyncio.run(test())


def test_to_advance_on_the_loop_of_a_run_is_an_error():
    @durable.workflow
    async def flow():
        await durable.aio.sleep(WEEK)

    async def test():
        async with testing.engine(auto_advance=False) as env:
            flow.start()
            with pytest.raises(TypeError, match=r"await clock\.advance_async"):
                env.clock.advance(days=7)

    asyncio.run(test())


# -- the environment ---------------------------------------------------------------------------------------------------


def test_the_engine_is_the_current_and_the_default_one_and_is_gone_afterwards():
    @durable.workflow
    def flow():
        return durable.now()

    before = _engine._default
    with testing.engine(start=dt.datetime(2030, 1, 1, tzinfo=dt.UTC)) as env:
        assert flow() == dt.datetime(2030, 1, 1, tzinfo=dt.UTC) == env.clock.time
        thread = threading.Thread(target=flow)
        thread.start()
        thread.join()
        assert len(durable.runs()) == 2
        assert os.path.exists(env.path)
        with testing.engine():
            assert durable.runs() == []
        assert len(durable.runs()) == 2
    assert not os.path.exists(os.path.dirname(env.path))
    assert _engine._default is before
    with pytest.raises(durable.EngineClosedError):
        env.engine.runs()


def test_now_in_a_step_is_the_time_of_the_engine(env):
    @durable.step
    def step():
        return durable.now()

    @durable.workflow
    def flow():
        return step()

    assert flow() == env.clock.time


def test_it_is_not_imported_with_the_library():
    code = "import sys, durable; print([name for name in sys.modules if name.startswith('durable.testing')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_no_time_passes_between_the_end_of_a_run_and_what_the_test_does_next():
    """Though the timeout of that run is the next moment at which something would be due."""

    @durable.workflow(timeout=3600)
    def background() -> None:
        pass

    @durable.workflow(timeout=3600)
    async def background_async() -> None:
        pass

    async def wait_for(run):
        await run

    with testing.engine() as env:
        began = env.clock.time
        for _ in range(20):
            background.start().result()
            asyncio.run(wait_for(background.start()))
            background_async.start().result()
        assert env.clock.time == began

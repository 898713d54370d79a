"""Async workflows: branches, gather, TaskGroup, cuts, order of completion, threads."""

import asyncio
import threading
import time

import pytest

import durable
from durable import RetryPolicy

QUICK = RetryPolicy(initial_interval=0.001, maximum_attempts=3)


class Declined(Exception):
    pass


@pytest.fixture
def fetch():
    """An async step that takes as long as it is told, and the list of what it did."""

    @durable.step(name="fetch", match_inputs=False, retry=None)
    async def fetch(item, seconds=0.0):
        fetch.calls.append(item)
        await asyncio.sleep(seconds)
        if isinstance(item, str) and item.startswith("bad"):
            raise Declined(item)
        return f"got {item}"

    fetch.calls = []
    return fetch


async def until(condition):
    while not condition():  # noqa: ASYNC110 - steps set no events
        await asyncio.sleep(0.001)


def test_same_results_as_the_plain_functions(journal, run_async, fetch):
    @durable.workflow
    async def flow(count: int) -> list[str]:
        return [await fetch(item) for item in range(count)]

    assert run_async(flow(3)) == ["got 0", "got 1", "got 2"]
    assert fetch.calls == [0, 1, 2]


@pytest.mark.parametrize("second_order", [[3, 2, 1], [1, 2, 3], [2, 3, 1]])
def test_gather_replays_right_with_other_finishing_orders(journal, run_async, fetch, second_order):
    delays = dict(zip("abc", [1, 3, 2], strict=True))

    async def branch(name):
        await asyncio.sleep(delays[name] * 0.003)
        first = await fetch(f"{name}1", delays[name] * 0.003)
        await asyncio.sleep(delays[name] * 0.002)
        second = await fetch(f"{name}2")
        if name == "b":
            journal.crash()
        return first, second, await fetch(f"{name}3")

    @durable.workflow
    async def flow():
        return await asyncio.gather(*map(branch, "abc"))

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    delays.update(zip("abc", second_order, strict=True))
    before = journaled_outputs()
    journal.restart()
    expected = [tuple(f"got {name}{n}" for n in (1, 2, 3)) for name in "abc"]
    assert run_async(flow()) == expected
    assert all(fetch.calls.count(item.removeprefix("got ")) == 1 for item in before)
    assert all(fetch.calls.count(f"{name}{n}") <= 2 for name in "abc" for n in (1, 2, 3))


def journaled_outputs():
    return [step.output for step in durable.runs()[0].steps() if step.status == "completed"]


def test_gather_of_bare_step_calls(journal, run_async, fetch):
    @durable.workflow
    async def flow():
        values = await asyncio.gather(*(fetch(n, 0.001 * (5 - n)) for n in range(5)))
        journal.crash()
        return values

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    assert run_async(flow()) == [f"got {n}" for n in range(5)]
    assert fetch.calls == [0, 1, 2, 3, 4]


def test_task_group_with_a_failing_branch_fails_the_run_and_is_no_interrupt(journal, run_async, fetch):
    @durable.workflow(id="run")
    async def flow():
        async with asyncio.TaskGroup() as group:
            group.create_task(fetch("slow", 30))
            group.create_task(fetch("bad", 0.01))

    with pytest.raises(ExceptionGroup) as caught:
        run_async(flow())
    (error,) = caught.value.exceptions
    assert type(error) is Declined
    run = durable.get("run")
    assert run.status == "failed"
    assert {step.input["item"]: step.status for step in run.steps()} == {"slow": "failed", "bad": "failed"}


def test_task_group_whose_failure_is_caught_replays_the_same(journal, run_async, fetch):
    @durable.workflow
    async def flow():
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fetch("slow", 30))
                group.create_task(fetch("bad", 0.01))
        except* Declined:
            value = await fetch("instead")
        journal.crash()
        return value, await fetch("after")

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    assert run_async(flow()) == ("got instead", "got after")
    assert fetch.calls == ["slow", "bad", "instead", "after"]


def test_asyncio_timeout_in_the_workflow_cuts_a_step_and_replays_as_cut(journal, run_async, fetch):
    seconds = 0.2  # for the step to begin, however busy the machine

    @durable.workflow
    async def flow():
        try:
            async with asyncio.timeout(seconds):
                value = await fetch("slow", 30)
        except TimeoutError:
            value = await fetch("instead")
        journal.crash()
        return value

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    cut = durable.runs()[0].steps()[0]
    assert cut.status == "failed"
    assert isinstance(cut.error, asyncio.CancelledError)
    journal.restart()
    assert run_async(flow()) == "got instead"
    assert fetch.calls == ["slow", "instead"]


@pytest.mark.parametrize("kind", ["sleep", "signal", "step"])
def test_what_is_cut_while_it_is_written_down_that_it_begins_replays_as_cut(journal, run_async, fetch, kind):
    waits = {
        "sleep": lambda: durable.aio.sleep(30),
        "signal": lambda: durable.aio.wait_for_signal("paid", str, timeout=30),
        "step": lambda: fetch("slow", 30),
    }
    ends = []

    @durable.workflow
    async def flow():
        async with asyncio.TaskGroup() as group:  # crowded: the write is awaited
            group.create_task(fetch("beside"))
            try:
                async with asyncio.timeout(0):
                    await waits[kind]()
            except TimeoutError:
                ends.append("cut")
        value = await fetch("after")
        journal.crash()
        return value

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    cut = next(step for step in durable.runs()[0].steps() if step.name in {"sleep", "paid", "fetch"} and step.error)
    assert (cut.status, type(cut.error)) == ("failed", asyncio.CancelledError)
    journal.restart()
    assert run_async(flow()) == "got after"
    assert ends == ["cut", "cut"]


def test_cancelled_loser_of_a_race_replays_as_cut(journal, run_async, fetch):
    @durable.workflow
    async def flow():
        fast = asyncio.create_task(fetch("fast", 0.005))
        slow = asyncio.create_task(fetch("slow", 30))
        done, pending = await asyncio.wait([fast, slow], return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        journal.crash()
        return [task.result() for task in done], await fetch("after")

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    assert run_async(flow()) == (["got fast"], "got after")
    assert fetch.calls == ["fast", "slow", "after"]


def test_first_completed_takes_the_same_path_on_replay(journal, run_async, fetch):
    slow = {"a": 0.02, "b": 0.001}

    @durable.workflow
    async def flow():
        tasks = [asyncio.create_task(fetch(name, slow[name])) for name in "ab"]
        order = []
        for each in asyncio.as_completed(tasks):
            value = await each
            order.append(value)
            order.append(await fetch(f"after {value}"))
        journal.crash()
        return order

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    slow.update(a=0.001, b=0.02)
    journal.restart()
    assert run_async(flow()) == ["got b", "got after got b", "got a", "got after got a"]
    assert len(fetch.calls) == 4


def test_gather_return_exceptions_replays(journal, run_async, fetch):
    @durable.workflow
    async def flow():
        values = await asyncio.gather(fetch("bad 1"), fetch("good"), fetch("bad 2"), return_exceptions=True)
        journal.crash()
        return [value if isinstance(value, str) else value.args for value in values]

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    assert run_async(flow()) == [("bad 1",), "got good", ("bad 2",)]
    assert len(fetch.calls) == 3


def test_tasks_that_outlive_the_body_are_cancelled_and_awaited(journal, run_async, fetch):
    ended = []

    async def background():
        try:
            await asyncio.sleep(30)
        finally:
            ended.append(durable.get("run").status)

    @durable.workflow(id="run")
    async def flow():
        task = asyncio.create_task(background())
        await fetch("x")
        assert not task.done()
        return 5

    assert run_async(flow()) == 5
    assert ended == ["running"]


def test_retries_in_branches_do_not_hold_each_other_up(journal, run_async):
    attempts = []

    @durable.step(retry=RetryPolicy(initial_interval=1, maximum_attempts=2, jitter=0))
    async def flaky(name):
        attempts.append(name)
        if attempts.count(name) < 2:
            raise Declined
        return name

    @durable.workflow
    async def flow():
        return await asyncio.gather(*map(flaky, "abcd"))

    before = time.monotonic()
    assert run_async(flow()) == list("abcd")
    assert time.monotonic() - before < 3.5  # one after the other they would wait for 4 s
    assert len(attempts) == 8


# -- sync steps --------------------------------------------------------------------------------------------------------


def test_sync_step_in_an_async_workflow(journal, run_async):
    calls = []

    @durable.step(retry=QUICK)
    def plain(value):
        calls.append(value)
        if len(calls) == 1:
            raise Declined
        return value

    @durable.workflow
    async def flow():
        value = plain(1), plain(2)
        journal.crash()
        return value

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    assert run_async(flow()) == (1, 2)
    assert calls == [1, 1, 2]


def test_sync_step_in_to_thread_is_journaled_alike_and_does_not_block_the_loop(journal, run_async):
    calls, ticks = [], []

    @durable.step
    def plain(value):
        calls.append(value)
        before = len(ticks)
        while len(ticks) <= before:  # for ever, if the loop were blocked
            time.sleep(0.001)
        return value

    async def tick():
        while True:
            ticks.append(1)
            await asyncio.sleep(0.001)

    @durable.workflow
    async def flow():
        ticking = asyncio.create_task(tick())
        value = await asyncio.to_thread(plain, 1)
        values = await asyncio.gather(*(asyncio.to_thread(plain, n) for n in (2, 3)))
        ticking.cancel()
        journal.crash()
        return value, values

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    assert len(durable.runs()[0].steps()) == 3
    journal.restart()
    assert run_async(flow()) == (1, [2, 3])
    assert sorted(calls) == [1, 2, 3]


def test_async_step_in_a_sync_workflow_is_a_clear_type_error(journal, fetch):
    @durable.workflow(name="flow")
    def flow():
        fetch(1)

    with pytest.raises(TypeError, match=r"(?s)fetch.*async.*sync workflow 'flow'.*async def"):
        flow()
    assert fetch.calls == []


def test_async_workflow_in_a_sync_workflow_is_a_clear_type_error(journal):
    @durable.workflow
    async def child(): ...

    @durable.workflow
    def parent():
        child()

    with pytest.raises(TypeError, match="async"):
        parent()


# -- children ----------------------------------------------------------------------------------------------------------


def test_child_of_an_async_run(journal, run_async, fetch):
    @durable.workflow
    async def child(n):
        value = await fetch(n)
        if n == 1:
            journal.crash()
        elif journal.crashing:
            await asyncio.sleep(30)  # interrupted by the end of the loop, while its sibling dies
        return value

    @durable.workflow
    async def parent():
        return await asyncio.gather(child(1), child(2))

    with pytest.raises(KeyboardInterrupt):
        run_async(parent())
    assert {run.status for run in durable.runs()} == {"interrupted"}
    journal.restart()
    assert run_async(parent()) == ["got 1", "got 2"]
    assert sorted(fetch.calls)[:2] in ([1, 2], [1, 1])
    assert {run.status for run in durable.runs()} == {"completed"}
    assert len(durable.runs()) == 3


def test_sync_child_of_an_async_run(journal, run_async):
    @durable.step
    def plain(n):
        return n + 1

    @durable.workflow
    def child(n):
        return plain(n)

    @durable.workflow
    async def parent():
        return child(1), await asyncio.to_thread(child, 2)

    assert run_async(parent()) == (2, 3)


def test_failing_child_fails_its_parent_and_the_failure_can_be_caught(journal, run_async, fetch):
    @durable.workflow
    async def child():
        await fetch("bad")

    @durable.workflow
    async def parent(catch):
        try:
            await child()
        except Declined:
            if not catch:
                raise
            return "caught"

    assert run_async(parent(True)) == "caught"
    with pytest.raises(Declined):
        run_async(parent(False))
    assert [run.status for run in durable.runs()] == ["failed", "failed", "failed", "completed"]


def test_started_child_is_the_same_run_again_after_a_crash(journal):
    calls = []

    @durable.step
    def work():
        calls.append(1)
        return 5

    @durable.workflow(name="child")
    def child():
        return work()

    @durable.workflow(name="parent")
    def parent():
        run = child.start()
        journal.crash()
        return run.result()

    with pytest.raises(KeyboardInterrupt):
        parent()
    journal.restart()
    assert parent() == 5
    assert calls == [1]
    assert [run.workflow for run in durable.runs()] == ["child", "parent"]


# -- interrupts --------------------------------------------------------------------------------------------------------


def test_cancellation_of_the_caller_leaves_the_run_interrupted(journal, run_async, fetch):
    @durable.workflow(id="run")
    async def flow():
        await fetch("first")
        try:
            return await fetch("second", 30 if fetch.calls.count("second") == 0 else 0)
        except asyncio.CancelledError:
            await fetch("never")
            raise

    async def main():
        task = asyncio.create_task(flow())
        await until(lambda: "second" in fetch.calls)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert durable.get("run").status == "interrupted"
        return await flow()

    assert run_async(main()) == "got second"
    assert fetch.calls == ["first", "second", "second"]


def test_timeout_of_the_caller_leaves_the_run_interrupted(journal, run_async):
    @durable.step
    async def fetch(timeout):
        if timeout is None:
            return "got it"
        timeout.reschedule(asyncio.get_running_loop().time())
        return await asyncio.sleep(30)

    timeouts = []

    @durable.workflow(id="run")
    async def flow():
        return await fetch(timeouts.pop() if timeouts else None)

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30) as timeout:
                timeouts.append(timeout)
                with pytest.warns(RuntimeWarning, match="timeout"):
                    await flow()
        assert durable.get("run").status == "interrupted"
        assert [step.status for step in durable.get("run").steps()] == ["running"]
        return await flow()

    assert run_async(main()) == "got it"


def test_cancellation_of_the_caller_leaves_parent_and_child_interrupted(journal, run_async, fetch):
    @durable.workflow
    async def child():
        return await fetch("x", 30 if not fetch.calls else 0)

    @durable.workflow
    async def parent():
        return await child()

    async def main():
        task = asyncio.create_task(parent())
        await until(lambda: fetch.calls)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [run.status for run in durable.runs()] == ["interrupted"] * 2
        return await parent()

    assert run_async(main()) == "got x"
    assert [run.status for run in durable.runs()] == ["completed"] * 2


def test_cancellation_of_a_caller_that_only_waits_does_not_touch_the_run(journal, run_async):
    async def main():
        end = asyncio.Event()

        @durable.workflow(id="run")
        async def flow():
            await end.wait()
            return 5

        executing = asyncio.create_task(flow())
        await asyncio.sleep(0.02)
        waiting = asyncio.create_task(flow())
        await asyncio.sleep(0.02)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        end.set()
        return await executing

    assert run_async(main()) == 5


def test_cancelling_a_branch_in_the_workflow_is_no_interrupt(journal, run_async, fetch):
    @durable.workflow(id="run")
    async def flow():
        task = asyncio.create_task(fetch("x", 30))
        await fetch("y", 0.005)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return "cut"

    assert run_async(flow()) == "cut"
    assert durable.get("run").status == "completed"


def test_step_that_raises_cancelled_error_by_itself_fails(journal, run_async):
    @durable.step(retry=None)
    async def odd():
        raise asyncio.CancelledError

    @durable.workflow(id="run")
    async def flow():
        try:
            await odd()
        except asyncio.CancelledError:
            journal.crash()
            return "caught"

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    assert run_async(flow()) == "caught"


# -- many runs on one loop ---------------------------------------------------------------------------------------------


def test_many_runs_on_one_loop(journal, run_async, fetch):
    @durable.workflow(id="run-{n}")
    async def flow(n):
        return [await fetch(f"{n}.{k}") for k in range(3)]

    async def main():
        return await asyncio.gather(*map(flow, range(50)))

    assert run_async(main())[7] == ["got 7.0", "got 7.1", "got 7.2"]
    assert len(fetch.calls) == 150
    assert len(set(fetch.calls)) == 150


def test_tasks_of_the_host_program_are_left_alone(journal, run_async, fetch):
    @durable.workflow
    async def flow():
        return await fetch("x", 0.01)

    async def host():
        return durable.info().run_id

    async def main():
        loop = asyncio.get_running_loop()
        factory = loop.get_task_factory()
        result, other = await asyncio.gather(flow(), host())
        assert loop.get_task_factory() is factory
        return result, other

    assert run_async(main()) == ("got x", "")


# -- replay of what was under way --------------------------------------------------------------------------------------


def test_bodies_begin_on_replay_when_every_journaled_outcome_has_been_delivered(journal, run_async, fetch):
    order, pause = [], 0

    @durable.step
    async def work():
        order.append("body")
        if journal.crashing:
            await until(lambda: "delivered" in order)
            journal.crash()

    async def slow_branch():
        await asyncio.sleep(pause)
        await fetch("x")
        order.append("delivered")

    @durable.workflow
    async def flow():
        await asyncio.gather(slow_branch(), work())

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    assert order == ["body", "delivered"]
    journal.restart()
    order.clear()
    pause = 0.02
    run_async(flow())
    assert order == ["delivered", "body"]
    assert fetch.calls == ["x"]


def test_step_cancelled_while_its_outcome_is_on_its_way_to_the_disk_replays_as_cut(journal, run_async, fetch):
    ended, cut, cancelled_at = [], threading.Event(), []
    put_alone = journal.engine._runtime.journal.put_alone

    def slow_disk(*args):
        if ended:
            cut.wait(60)
        return put_alone(*args)

    journal.engine._runtime.journal.put_alone = slow_disk

    @durable.step
    async def quick():
        ended.append(1)
        return "value"

    @durable.workflow
    async def flow():
        task = asyncio.create_task(quick())
        while not ended:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        cancelled_at.append(time.time())
        task.cancel()
        cut.set()
        try:
            result = await task
        except asyncio.CancelledError:
            result = "cut"
        result = await fetch(result)
        journal.crash()
        return result

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    assert run_async(flow()) == "got cut"
    assert fetch.calls == ["cut"]
    quick_step, fetch_step = durable.runs()[0].steps()
    assert (quick_step.status, fetch_step.status) == ("failed", "completed")
    assert quick_step.finished_at.timestamp() > cancelled_at[0]  # and not when its body returned

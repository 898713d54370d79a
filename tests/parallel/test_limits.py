"""`concurrency=` of steps and workflows: how many execute at a time in one engine."""

import asyncio
import threading
import time

import pytest

import durable
from durable import RetryPolicy
from durable._active import ENGINE
from durable._drive_async import take_slot
from durable._limits import Limit
from tests.behaviour.patience import wait_until

SOON = 60.0


# -- steps -------------------------------------------------------------------------------------------------------------


def test_attempts_of_a_sync_step_across_runs(journal, peak):
    journal.open(threads=8)

    @durable.step(concurrency=2)
    def limited(number: int) -> int:
        with peak:
            time.sleep(0.005)
        return number

    @durable.workflow
    def w(number: int) -> int:
        return limited(number)

    assert [run.result(SOON) for run in w.start_many(range(16))] == list(range(16))
    assert peak.most == 2


def test_a_body_waits_for_a_slot_beside_what_it_has_submitted(journal):
    has_slot, goes_on = threading.Event(), threading.Event()

    @durable.step(concurrency=1)
    def limited(number: int) -> int:
        has_slot.set()
        goes_on.wait(SOON)
        return number

    @durable.step
    def other() -> int:
        return 3

    @durable.workflow
    def holder() -> int:
        return limited(1)

    @durable.workflow
    def flow() -> list[int]:
        future = other.submit()
        return [limited(2), future.result()]

    held = holder.start()
    assert has_slot.wait(SOON)
    run = flow.start()
    limit = journal.engine._runtime.limits._limits["step", limited.name]
    wait_until(lambda: limit._waiting)
    goes_on.set()
    assert [held.result(SOON), run.result(SOON)] == [1, [2, 3]]


def test_attempts_of_an_async_step_across_runs_and_branches(journal, peak, run_async):
    @durable.step(concurrency=3)
    async def limited(number: int) -> int:
        with peak:
            await asyncio.sleep(0.003)
        return number

    @durable.workflow
    async def w(number: int) -> list[int]:
        return await asyncio.gather(limited(number), limited(number))

    async def main() -> list[list[int]]:
        return await asyncio.gather(*map(w, range(8)))

    assert run_async(main()) == [[number, number] for number in range(8)]
    assert peak.most == 3


def test_map_submit_and_threads_of_async_runs_share_one_limit(journal, peak, run_async):
    @durable.step(name="limited", concurrency=2)
    def limited(number: int) -> int:
        with peak:
            time.sleep(0.004)
        return number

    @durable.workflow(name="sync_one")
    def sync_one() -> list[int]:
        return [limited.submit(0).result(), *limited.map(range(1, 8))]

    @durable.workflow(name="async_one")
    async def async_one() -> list[int]:
        return await asyncio.gather(*(asyncio.to_thread(limited, number) for number in range(8)))

    runs = [sync_one.start(), async_one.start()]
    assert [run.result(SOON) for run in runs] == [list(range(8))] * 2
    assert peak.most == 2


def test_waiters_are_served_in_order(journal, run_async):
    begun = []

    @durable.step(concurrency=1)
    async def limited(number: int) -> None:
        begun.append(number)
        await asyncio.sleep(0.001)

    @durable.workflow
    async def w(number: int) -> None:
        await limited(number)

    async def main() -> None:
        await asyncio.gather(*map(w, range(20)))

    run_async(main())
    assert begun == list(range(20))


def test_a_step_that_backs_off_holds_no_slot(journal):
    order = []

    @durable.step(concurrency=1, retry=RetryPolicy(initial_interval=1, maximum_attempts=2, jitter=0))
    def limited(name: str) -> None:
        order.append(name)
        if order.count(name) == 1 and name == "flaky":
            raise ConnectionError

    @durable.workflow
    def w() -> None:
        futures = [limited.submit("flaky"), limited.submit("other")]
        [future.result() for future in futures]

    w()
    assert order == ["flaky", "other", "flaky"]


def test_an_attempt_that_is_cut_gives_its_slot_back_and_one_that_waits_leaves_the_line(journal, run_async):
    @durable.step(concurrency=1, retry=None, match_inputs=False)
    async def limited(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"

    @durable.workflow
    async def w() -> str:
        holder = asyncio.create_task(limited(30))
        await asyncio.sleep(0.01)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(limited(0), 0.02)  # cut in line
        holder.cancel()  # cut with the slot
        value = await limited(0)
        journal.crash()
        return value

    with pytest.raises(KeyboardInterrupt):
        run_async(w())
    journal.restart()
    assert run_async(w()) == "done"


def test_a_slot_that_has_come_is_given_back_by_who_is_cancelled_in_that_turn(run_async):
    async def main() -> None:
        limit = Limit(1)
        task = asyncio.ensure_future(take_slot(limit))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(task.cancel)  # the slot comes just before
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(take_slot(limit), 10)

    run_async(main())


def test_an_attempt_that_is_made_again_takes_no_slot_before_everything_journaled_was_delivered(journal, run_async):
    @durable.step(name="limited", concurrency=1, retry=None)
    async def limited(name: str) -> str:
        if journal.crashing:
            await asyncio.sleep(SOON)
        return name

    @durable.step(name="fetch")
    async def fetch() -> None: ...

    @durable.workflow(id="{name}")
    async def w(name: str) -> str:
        task = asyncio.create_task(limited(name))
        if name == "first" and not journal.crashing:
            replaying.set()
            await goes_on.wait()
        await fetch()
        journal.crash()
        return await task

    with pytest.raises(KeyboardInterrupt):
        run_async(w("first"))
    journal.restart()
    replaying, goes_on = asyncio.Event(), asyncio.Event()

    async def main() -> list[str]:
        first = asyncio.create_task(w("first"))
        await replaying.wait()
        names = [await asyncio.wait_for(w("second"), SOON)]
        goes_on.set()
        return [*names, await first]

    assert run_async(main()) == ["second", "first"]


def test_a_failing_attempt_gives_its_slot_back(journal):
    @durable.step(concurrency=1, retry=None)
    def limited() -> None:
        raise ConnectionError

    @durable.workflow
    def w() -> None:
        for _ in range(3):
            with pytest.raises(ConnectionError):
                limited()

    w()


def test_a_limited_step_outside_of_a_run_is_just_the_function(peak):
    @durable.step(concurrency=1)
    def limited() -> int:
        return 5

    assert limited() == 5


@pytest.mark.parametrize("concurrency", [0, -1, True, 1.5, "2"])
@pytest.mark.parametrize("declare", [durable.step, durable.workflow])
def test_bad_limits_are_errors_where_they_are_written(concurrency, declare):
    with pytest.raises(ValueError, match="concurrency"):
        declare(concurrency=concurrency)(lambda: None)


# -- workflows ---------------------------------------------------------------------------------------------------------


def test_sync_runs_started_and_called(journal, peak):
    journal.open(threads=8)

    @durable.workflow(name="limited", concurrency=2)
    def limited(number: int) -> int:
        with peak:
            time.sleep(0.005)
        return number

    runs = limited.start_many(range(12))
    called = []
    threads = [threading.Thread(target=lambda n=n: called.append(limited(n))) for n in range(100, 104)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert [run.result(SOON) for run in runs] == list(range(12))
    assert sorted(called) == [100, 101, 102, 103]
    assert peak.most == 2


def test_async_runs_started_and_called(journal, peak, run_async):
    @durable.workflow(name="limited", concurrency=2)
    async def limited(number: int) -> int:
        with peak:
            await asyncio.sleep(0.003)
        return number

    async def main() -> list[int]:
        async with durable.Engine(journal.path):
            runs = limited.start_many(range(10))
            called = await asyncio.gather(*map(limited, range(10, 20)))
            return [*[await run for run in runs], *called]

    assert run_async(main()) == list(range(20))
    assert peak.most == 2


def test_runs_begin_in_the_order_of_their_start(journal):
    begun = []

    @durable.workflow(name="limited", concurrency=1)
    def limited(number: int) -> None:
        begun.append(number)
        time.sleep(0.001)

    for run in limited.start_many(range(20)):
        run.result(SOON)
    assert begun == list(range(20))


def test_runs_that_wait_for_a_slot_hold_no_thread(journal):
    journal.open(threads=2)
    gate = threading.Event()

    @durable.workflow(name="limited", concurrency=1)
    def limited() -> None:
        gate.wait(SOON)

    @durable.workflow(name="other")
    def other() -> int:
        return 5

    runs = [limited.start() for _ in range(5)]
    assert other.start().result(SOON) == 5
    gate.set()
    for run in runs:
        run.result(SOON)


def test_sync_recursion_under_one_slot(journal):
    @durable.workflow(name="factorial", concurrency=1)
    def factorial(number: int) -> int:
        return 1 if number == 0 else number * factorial(number - 1)

    assert factorial(6) == 720
    assert factorial.start(5).result(SOON) == 120


def test_async_recursion_under_one_slot(journal, run_async):
    @durable.workflow(name="factorial", concurrency=1)
    async def factorial(number: int) -> int:
        return 1 if number == 0 else number * await factorial(number - 1)

    async def main() -> int:
        return await asyncio.wait_for(factorial(6), SOON)

    assert run_async(main()) == 720
    assert factorial.start(5).result(SOON) == 120


def test_recursion_by_starting_under_one_slot_and_on_one_thread(journal):
    journal.open(threads=1)

    @durable.workflow(name="factorial", concurrency=1)
    def factorial(number: int) -> int:
        return 1 if number == 0 else number * factorial.start(number - 1).result(SOON)

    assert factorial.start(6).result(SOON) == 720


def test_async_recursion_by_starting_under_one_slot(journal):
    @durable.workflow(name="factorial", concurrency=1)
    async def factorial(number: int) -> int:
        return 1 if number == 0 else number * await factorial.start(number - 1)

    assert factorial.start(6).result(SOON) == 720


def test_a_parent_that_waits_for_a_child_has_its_slot_again_afterwards(journal, peak):
    journal.open(threads=8)

    @durable.workflow(name="child")
    def child() -> None:
        time.sleep(0.003)

    @durable.workflow(name="parent", concurrency=2)
    def parent(number: int) -> int:
        with peak:
            time.sleep(0.002)
        child()
        with peak:
            time.sleep(0.002)
        return number

    assert [run.result(SOON) for run in parent.start_many(range(12))] == list(range(12))
    assert peak.most == 2


def test_a_parent_whose_child_cannot_be_called_has_its_slot_again(journal):
    free = []

    @durable.workflow(id="child")
    def child(number: int) -> int:
        return number

    @durable.workflow(concurrency=1)
    def parent() -> None:
        with pytest.raises(durable.RunConflictError):
            child(2)
        free.append(limit._free)

    limit = journal.engine._runtime.limit_of(parent)
    child(1)
    parent()
    assert free == [0]
    assert limit._free == 1


def test_a_failing_run_gives_its_slot_back(journal):
    @durable.workflow(name="limited", concurrency=1)
    def limited(number: int) -> int:
        if number % 2:
            raise ValueError(number)
        return number

    runs = limited.start_many(range(6))
    for number, run in enumerate(runs):
        if number % 2:
            with pytest.raises(ValueError, match=str(number)):
                run.result(SOON)
        else:
            assert run.result(SOON) == number


def test_resumed_runs_keep_to_the_limit(journal, peak):
    @durable.workflow(name="limited", id="run-{number}", concurrency=2)
    def limited(number: int) -> int:
        journal.crash()
        with peak:
            time.sleep(0.003)
        return number

    for number in range(8):
        with pytest.raises(KeyboardInterrupt):
            limited(number)
    journal.restart(threads=8)
    assert len(durable.resume(wait=True)) == 8
    assert {run.status for run in durable.runs()} == {"completed"}
    assert peak.most == 2


def test_engines_have_limits_of_their_own(tmp_path):
    together = threading.Barrier(2, timeout=SOON)

    @durable.workflow(name="limited", concurrency=1)
    def limited() -> int:
        return together.wait()

    with durable.Engine(tmp_path / "one.db"):
        one = limited.start()
        with durable.Engine(tmp_path / "two.db"):
            other = limited.start()
            assert {one.result(SOON), other.result(SOON)} == {0, 1}


@pytest.mark.parametrize("how", ["called", "started", "in threads"])
def test_a_run_whose_tasks_wait_for_several_others_has_one_slot_again(journal, peak, how):
    @durable.workflow(name="child")
    def child(number: int) -> int:
        time.sleep(0.01 * number)
        return number

    @durable.workflow(name="async_child")
    async def async_child(number: int) -> int:
        await durable.aio.sleep(0.01 * number)
        return number

    async def wait_for(number: int) -> int:
        if how == "started":
            return await child.start(number)
        if how == "in threads":
            return await asyncio.to_thread(child, number)
        return await async_child(number)

    @durable.workflow(name="parent", concurrency=1)
    async def parent(number: int) -> list[int]:
        found = await asyncio.gather(*map(wait_for, range(3)))
        with peak:
            await asyncio.sleep(0.002)
        return found

    runs = parent.start_many(range(3))
    assert [run.result(SOON) for run in runs] == [[0, 1, 2]] * 3
    assert peak.most == 1
    wait_until(lambda: journal.engine._runtime.limit_of(parent)._free == 1)  # its end is in the file before that


def test_a_run_that_executes_one_at_a_time_may_call_itself_twice_at_once(journal):
    @durable.workflow(name="tree", concurrency=1)
    async def tree(depth: int) -> int:
        if not depth:
            return 1
        return sum(await asyncio.gather(tree(depth - 1), tree(depth - 1)))

    assert tree.start(3).result(SOON) == 8
    wait_until(lambda: journal.engine._runtime.limit_of(tree)._free == 1)  # its end is in the file before that


@pytest.mark.parametrize("how", ["called", "started", "called in a helper"])
def test_a_run_that_blocks_its_loop_for_another_keeps_its_slot(journal, how):
    """Else the next on that loop has the slot, and waits for the loop."""

    @durable.step(name="in_helper", timeout=SOON, retry=None)
    def in_helper(number: int) -> int:
        return child(number)

    @durable.workflow(name="child")
    def child(number: int) -> int:
        time.sleep(0.01)
        return number

    @durable.workflow(name="parent", concurrency=1)
    async def parent(number: int) -> int:
        if how == "called in a helper":
            return in_helper(number)
        return child(number) if how == "called" else child.start(number).result()

    assert [run.result(SOON) for run in parent.start_many(range(3))] == [0, 1, 2]
    wait_until(lambda: journal.engine._runtime.limit_of(parent)._free == 1)  # its end is in the file before that


@pytest.mark.parametrize("begun", ["called", "started"])
@pytest.mark.parametrize("how", ["plainly", "submitted"])
def test_sync_recursion_in_a_step_under_one_slot(journal, begun, how):
    @durable.step(name="one_less")
    def one_less(number: int) -> int:
        return factorial(number - 1) if begun == "called" else factorial.start(number - 1).result()

    @durable.workflow(name="factorial", concurrency=1)
    def factorial(number: int) -> int:
        if number == 0:
            return 1
        return number * (one_less.submit(number).result() if how == "submitted" else one_less(number))

    found, limit = [], journal.engine._runtime.limit_of(factorial)
    assert factorial.start(4).result(SOON) == 24
    wait_until(lambda: limit._free == 1)  # its end is in the file before that
    threading.Thread(target=lambda: found.append(factorial(4)), daemon=True).start()
    wait_until(lambda: (found, limit._free) == ([24], 1))


@pytest.mark.parametrize("begun", ["called", "started"])
def test_async_recursion_in_a_step_under_one_slot(journal, run_async, begun):
    @durable.step(name="one_less", timeout=SOON)
    async def one_less(number: int) -> int:
        return await (factorial(number - 1) if begun == "called" else factorial.start(number - 1))

    @durable.workflow(name="factorial", concurrency=1)
    async def factorial(number: int) -> int:
        return 1 if number == 0 else number * await one_less(number)

    async def main() -> int:
        return await asyncio.wait_for(factorial(4), SOON)

    limit = journal.engine._runtime.limit_of(factorial)
    assert run_async(main()) == 24
    assert factorial.start(4).result(SOON) == 24
    wait_until(lambda: limit._free == 1)  # its end is in the file before that


def test_a_run_whose_step_waits_in_another_journal_for_a_run_of_its_own_holds_no_slot(journal, tmp_path):
    @durable.step(name="here")
    def here(number: int) -> int:
        token = ENGINE.set(journal.engine)  # a `with` would close it
        try:
            return limited(number)
        finally:
            ENGINE.reset(token)

    @durable.step(name="elsewhere", retry=None)
    def elsewhere(number: int) -> int:
        with durable.Engine(tmp_path / f"{number}.db"):
            return there(number)

    @durable.workflow(name="there")
    def there(number: int) -> int:
        return here(number)

    @durable.workflow(name="limited", concurrency=1)
    def limited(number: int) -> int:
        return 1 if number == 0 else 1 + elsewhere(number - 1)

    assert limited.start(2).result(SOON) == 3


@pytest.mark.parametrize("how", ["called", "started", "called by a run of another journal"])
def test_a_run_has_its_slot_when_a_thread_that_a_timeout_left_behind_waits_for_another(journal, tmp_path, how):
    gate, returned, free = threading.Event(), threading.Event(), []

    @durable.workflow(name="slow")
    def slow() -> None:
        gate.wait(SOON)

    @durable.step(name="impatient", retry=None, timeout=0.2)
    def impatient() -> None:
        ENGINE.set(journal.engine)  # of this helper's context: the run may be of the other journal
        try:
            slow.start().result() if how == "started" else slow()
        finally:
            returned.set()

    @durable.workflow(name="there")
    def there() -> None:
        with pytest.raises(durable.StepTimeoutError):
            impatient()

    @durable.step(name="elsewhere", retry=None)
    def elsewhere() -> None:
        with durable.Engine(tmp_path / "other.db"):
            there()

    @durable.workflow(name="limited", concurrency=1)
    def limited() -> None:
        if how == "called by a run of another journal":
            elsewhere()
        else:
            with pytest.raises(durable.StepTimeoutError):
                impatient()
        free.append(limit._free)

    limit = journal.engine._runtime.limit_of(limited)
    limited()
    gate.set()
    assert returned.wait(SOON)
    assert (free, limit._free) == ([0], 1)


def test_a_run_that_ended_while_an_attempt_it_had_given_up_waits_takes_no_slot_any_more(journal):
    gate, returned = threading.Event(), threading.Event()

    @durable.workflow(name="slow")
    def slow() -> None:
        gate.wait(SOON)

    @durable.step(name="impatient", retry=None, timeout=0.2)
    def impatient() -> None:
        try:
            slow()
        finally:
            returned.set()

    @durable.workflow(name="limited", concurrency=1)
    def limited() -> None:
        with pytest.raises(durable.StepTimeoutError):
            impatient()

    limited()
    gate.set()
    assert returned.wait(SOON)
    assert journal.engine._runtime.limit_of(limited)._free == 1

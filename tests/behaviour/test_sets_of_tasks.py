"""Sets of tasks, in which asyncio keeps what it waits for, have the same order in each life of a run.

And `asyncio.as_completed` starts what it is given in the order in which it was given, and not in that of a set.
"""

import asyncio
import os
import random
import subprocess
import sys

import pytest

import durable
from tests.behaviour.patience import PATIENCE

COUNT = 8  # by chance a set has so many in order once in 40,320 times


@pytest.fixture
def fetch(journal):
    @durable.step(name="fetch")
    async def fetch(number):
        await asyncio.sleep(random.random() / 1000)
        return number

    return fetch


@pytest.fixture
def child(fetch):
    @durable.workflow(name="child")
    async def child(number):
        return await fetch(number)

    return child


def fetched_in_order(run_id):
    """The inputs of the first steps of the tasks, in the order of their numbers."""
    steps = {step.branch: step.input["number"] for step in durable.get(run_id).steps() if step.kind == "step"}
    return [steps[branch] for branch in sorted(steps, key=lambda name: int(name.rpartition(":")[2]))]


@pytest.mark.parametrize("as_given", [list, tuple, dict.fromkeys, lambda given: dict.fromkeys(given).keys()])
def test_coroutines_are_numbered_as_they_were_given(journal, fetch, run_async, as_given):
    async def one(number):
        return await fetch(number)

    @durable.workflow(id="run")
    async def flow():
        return sorted([await ended for ended in asyncio.as_completed(as_given(map(one, range(COUNT))))])

    assert run_async(flow()) == list(range(COUNT))
    assert fetched_in_order("run") == list(range(COUNT))


def test_who_comes_first_to_a_semaphore_does_so_again(journal, fetch, child, run_async):
    slots, came = asyncio.Semaphore(2), []

    async def one(number):
        async with slots:
            came.append(number)
            return await child(number)

    @durable.workflow(id="run")
    async def flow():
        found = [await ended for ended in asyncio.as_completed([one(number) for number in range(COUNT)])]
        journal.crash()
        return found

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    first, slots = came[:], asyncio.Semaphore(2)
    came.clear()
    journal.restart()
    assert sorted(run_async(flow())) == list(range(COUNT))
    assert came == first == list(range(COUNT))


def test_runs_are_awaited_in_the_order_in_which_they_were_given(journal, child, run_async):
    @durable.workflow(id="run")
    async def flow():
        runs = [child.with_options(id=f"child-{number}").start(number) for number in range(COUNT)]
        found = [await ended for ended in asyncio.as_completed(runs)]
        journal.crash()
        return found

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    assert sorted(run_async(flow())) == list(range(COUNT))


def test_tasks_and_coroutines_may_be_given_together(journal, fetch, run_async):
    async def one(number):
        return await fetch(number)

    @durable.workflow(id="run")
    async def flow():
        first = asyncio.create_task(one(0))
        given = [first, *map(one, range(1, COUNT)), first]
        return sorted([await ended for ended in asyncio.as_completed(given)])

    assert run_async(flow()) == list(range(COUNT))
    assert fetched_in_order("run") == list(range(COUNT))


@pytest.mark.parametrize("without_order", [set, iter])
def test_what_has_no_order_is_refused_unless_it_has_its_places_already(journal, fetch, run_async, without_order):
    async def one(number):
        return await fetch(number)

    @durable.workflow
    async def flow(work):
        coroutines = [(one if work == "one" else fetch)(number) for number in range(COUNT)]
        try:
            return sorted([await ended for ended in asyncio.as_completed(without_order(coroutines))])
        finally:
            for each in coroutines:
                each.close()

    assert run_async(flow("fetch")) == list(range(COUNT))
    with pytest.raises(TypeError, match="give it a list of coroutines, or tasks, and no generator or set"):
        run_async(flow("one"))


def test_what_cannot_be_awaited_is_told_by_asyncio(journal, fetch, run_async):
    async def one():
        return await fetch(1)

    @durable.workflow
    async def flow():
        coroutine = one()
        try:
            return [await ended for ended in asyncio.as_completed([5, coroutine])]
        finally:
            coroutine.close()

    with pytest.raises(TypeError, match="awaitable"):
        run_async(flow())


def test_outside_of_a_run_it_is_as_ever(journal, fetch, run_async):
    async def one(number):
        return number

    @durable.workflow
    async def flow():
        return await fetch(1)

    async def main():
        under_way = asyncio.ensure_future(flow())
        found = [await ended for ended in asyncio.as_completed({one(number) for number in range(COUNT)})]
        return sorted(found), await under_way

    assert run_async(main()) == (list(range(COUNT)), 1)


# -- the same order in each life ---------------------------------------------------------------------------------------


async def those_that_are_done(work):
    """`asyncio.wait` returns sets."""
    left, order = {asyncio.create_task(work(number)) for number in range(COUNT)}, []
    while left:
        done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        order += [task.result() for task in done]
    return order


async def those_that_are_left(work):
    left, order = [asyncio.create_task(asyncio.Event().wait()) for _ in range(COUNT)], []
    numbers = {task: number for number, task in enumerate(left)}
    await asyncio.wait([*left, asyncio.create_task(work(0))], return_when=asyncio.FIRST_COMPLETED)
    _, pending = await asyncio.wait(left, timeout=0)
    for task in pending:
        order.append(numbers[task])
        task.cancel()
    return order


async def those_that_a_group_cancels(work):
    order = []

    async def wait(number):
        try:
            await asyncio.Event().wait()
        finally:
            order.append(number)

    async def fail():
        await work(0)
        raise ValueError

    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            for number in range(COUNT):
                group.create_task(wait(number))
            group.create_task(fail())
    return order


async def those_that_are_kept(work):
    kept = set()
    for number in range(COUNT):
        task = asyncio.create_task(work(number))
        kept.add(task)
    return [await task for task in kept]


ORDERS = pytest.mark.parametrize(
    "order", [those_that_are_done, those_that_are_left, those_that_a_group_cancels, those_that_are_kept]
)
FACTORIES = [None, *([asyncio.eager_task_factory] if sys.version_info >= (3, 12) else [])]


@ORDERS
@pytest.mark.parametrize("factory", FACTORIES)
def test_sets_of_tasks_have_the_same_order_in_each_life_and_in_a_fork(journal, run_async, order, factory):
    @durable.step(name="work")
    async def work(number):
        return number

    @durable.workflow(id="run")
    async def flow():
        found = await order(work)
        for number in found:
            await work(number)
        journal.crash()
        return found

    async def life(call):
        asyncio.get_running_loop().set_task_factory(factory)
        return await call()

    with pytest.raises(KeyboardInterrupt):
        run_async(life(flow))
    taken = [object() for _ in range(1000)]  # what is made now has other addresses
    journal.restart()
    assert sorted(found := run_async(life(flow))) == list(range(COUNT))
    run = durable.get("run")
    fork = run.fork(from_step=len(run.steps()))
    assert fork.result(PATIENCE) == found
    assert taken


SET_OF_RUNS = """
import durable

@durable.workflow
def flow(number): ...

print([run.id for run in {flow.with_options(id=f"run-{number}").start(number) for number in range(8)}])
"""


def test_a_set_of_runs_has_the_same_order_in_each_process(tmp_path):
    orders = {
        subprocess.run(
            [sys.executable, "-c", SET_OF_RUNS],
            cwd=tmp_path, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(orders) == 1

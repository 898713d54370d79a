"""A task that the run did not see being created has no place of its own: the run stops, before a value gets lost."""

import asyncio
import sys

import pytest

import durable
from durable.errors import RunBlockedError

older = pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks start at once since 3.12")


@pytest.fixture
def drawn():
    return []


@pytest.fixture
def draw(drawn):
    @durable.step
    async def draw():
        drawn.append(len(drawn))
        return drawn[-1]

    return draw


def own_factory(loop):
    loop.set_task_factory(lambda loop, coro, **options: asyncio.Task(coro, loop=loop, **options))


def eager_factory(loop):
    loop.set_task_factory(asyncio.eager_task_factory)


@pytest.mark.parametrize(
    ("set_factory", "make"),
    [
        (lambda _: None, asyncio.Task),
        (own_factory, asyncio.create_task),
        pytest.param(eager_factory, asyncio.create_task, marks=older),
    ],
    ids=["a task", "a factory", "an eager factory"],
)
def test_the_run_is_blocked_at_its_first_call(journal, drawn, draw, set_factory, make):
    @durable.workflow(id="run")
    async def draws():
        if not mended:
            set_factory(asyncio.get_running_loop())

        async def twice():
            return [await draw(), await draw()]

        first = await draw()
        create = asyncio.create_task if mended else make
        tasks = [create(twice()) for _ in range(3)]
        return [first, *await asyncio.gather(*tasks)]

    mended = []
    with pytest.raises(RunBlockedError, match=r"asyncio\.create_task\(\).*run run of"):
        asyncio.run(draws())
    assert durable.get("run").status == "blocked"
    assert drawn == [0]
    mended.append(True)
    first, *others = asyncio.run(draws())
    assert first == 0
    assert sorted(number for two in others for number in two) == [1, 2, 3, 4, 5, 6]


def test_a_sync_step_of_such_a_task_has_no_place_either(journal):
    @durable.step
    def plain():
        return 1

    @durable.workflow(id="run")
    async def calls():
        async def body():
            return plain()

        return await asyncio.Task(body())

    with pytest.raises(RunBlockedError, match="no places of their own"):
        asyncio.run(calls())


def test_such_a_task_may_do_all_else(journal):
    @durable.workflow(id="run")
    async def calls():
        async def body():
            await asyncio.sleep(0)
            return 7

        return await asyncio.Task(body())

    assert asyncio.run(calls()) == 7


@pytest.mark.parametrize("set_factory", [own_factory, pytest.param(eager_factory, marks=older)])
def test_a_factory_that_the_loop_had_before_is_kept(journal, draw, set_factory):
    @durable.workflow(id="run")
    async def draws():
        return await asyncio.gather(*(asyncio.create_task(draw()) for _ in range(3)))

    async def main():
        set_factory(asyncio.get_running_loop())
        return await draws()

    assert sorted(asyncio.run(main())) == [0, 1, 2]

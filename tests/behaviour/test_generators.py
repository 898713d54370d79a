"""An async generator that the code leaves is closed by a task of the run, which ends before the run does."""

import asyncio
import sys

import pytest

import durable

EAGER = pytest.param("eager", marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks since 3.12"))


@pytest.fixture(params=["lazy", EAGER])
def run_there(request):
    """Runs a coroutine on a loop whose tasks start at once, or when it is their turn."""

    def run(coroutine):
        with asyncio.Runner() as runner:
            if request.param == "eager":
                runner.get_loop().set_task_factory(asyncio.eager_task_factory)
            return runner.run(coroutine)

    return run


@pytest.fixture
def pages(journal):
    @durable.step(name="fetch", retry=None)
    async def fetch(number):
        return number

    @durable.step(name="close", retry=None)
    async def close():
        await asyncio.sleep(0)
        journal.crash()

    @durable.step(name="after", retry=None)
    async def after():
        await asyncio.sleep(0)

    async def pages():
        try:
            for number in range(4):
                yield await fetch(number)
        finally:
            await close()

    pages.after = after
    return pages


@pytest.mark.parametrize("leaves_by", ["return", "break"])
def test_a_crash_while_a_generator_is_closed_closes_it_again(journal, pages, run_there, leaves_by):
    @durable.workflow(id="run")
    async def flow():
        async for page in pages():
            if page == 1 and leaves_by == "return":
                return page
            if page == 1:
                break
        await pages.after()
        return page

    with pytest.raises((KeyboardInterrupt, durable.RunInterruptedError)):
        run_there(flow())
    assert durable.get("run").status == "interrupted"
    journal.restart()
    assert run_there(flow()) == 1
    run = durable.get("run")
    names = ["fetch", "fetch", *["after"] * (leaves_by == "break"), "close"]
    assert sorted((step.name, step.status) for step in run.steps()) == sorted((name, "completed") for name in names)
    assert run_there(flow()) == 1


def test_a_run_that_is_interrupted_while_a_generator_is_closed_does_not_wait_for_that(journal, run_there):
    is_left = asyncio.Event()

    async def endless():
        try:
            yield 1
        finally:
            is_left.set()
            await asyncio.sleep(3600)

    @durable.workflow(id="run")
    async def flow():
        async for _ in endless():
            break
        return 1

    async def main():
        task = asyncio.create_task(flow())
        await is_left.wait()
        assert durable.get("run").status == "running"
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        run_there(main())
    assert durable.get("run").status == "interrupted"


def test_a_generator_that_a_thread_of_the_run_drops_is_closed(journal, run_there):
    closed = asyncio.Event()

    async def pages():
        try:
            yield 1
        finally:
            closed.set()

    @durable.workflow
    async def flow():
        held = [pages()]
        await anext(held[0])
        await asyncio.to_thread(held.clear)
        await closed.wait()
        return 1

    assert run_there(flow()) == 1

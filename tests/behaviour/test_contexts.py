"""A task of a run has its place in its context, also in one that the code gives."""

import asyncio
import contextvars
import sys

import pytest

import durable

colour = contextvars.ContextVar("colour", default="none")


@durable.step(name="look")
async def look():
    return colour.get()


def places(run_id):
    return [(step.branch, step.name) for step in durable.get(run_id).steps()]


@pytest.mark.parametrize("seen", ["none", "green"])
def test_a_task_of_a_given_context_is_a_branch_of_the_run(journal, run_async, seen):
    """One that is empty as well."""

    async def part():
        return await look()

    @durable.workflow(id="run")
    async def flow():
        context = contextvars.Context()
        if seen == "green":
            context.run(colour.set, "green")
        return await asyncio.create_task(part(), context=context)

    assert run_async(flow()) == seen
    assert places("run") == [("/part:0", "look")]


def test_a_timeout_in_an_empty_context_fires_there(journal, run_async):
    async def part():
        async with asyncio.timeout(0.01):
            await asyncio.sleep(60)

    @durable.workflow(id="run")
    async def flow():
        with pytest.raises(TimeoutError):
            await asyncio.create_task(part(), context=contextvars.Context())
        return "late"

    assert run_async(flow()) == "late"


def test_two_tasks_at_a_time_in_one_context_are_refused(journal, run_async):
    async def part():
        return await look()

    @durable.workflow(id="run")
    async def flow():
        context = contextvars.copy_context()
        first = asyncio.create_task(part(), context=context)
        with pytest.raises(durable.DurableError, match="leave context= out, or pass contextvars.copy_context"):
            await asyncio.create_task(part(), context=context)
        return [await first, await asyncio.create_task(part(), context=context)]

    assert run_async(flow()) == ["none", "none"]
    assert places("run") == [("/part:0", "look"), ("/part:1", "look")]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks show their contexts since 3.12")
def test_the_context_of_a_task_is_for_no_other_task(journal, run_async):
    async def part():
        return await look()

    @durable.workflow(id="run")
    async def flow():
        first = asyncio.create_task(part())
        for task in (first, asyncio.current_task()):
            with pytest.raises(durable.DurableError, match="leave context= out"):
                await asyncio.create_task(part(), context=task.get_context())
        return await first

    assert run_async(flow()) == "none"

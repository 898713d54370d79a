"""Retrying an async run whose tasks went one after the other: what is done again comes before what the journal has."""

import asyncio
import threading
from collections import Counter

import pytest

import durable
from durable import testing
from durable._engine import REGISTRY
from durable._rehearsal import Rehearsals
from durable._requests import retry
from durable.cli._reader import Reader

PATIENCE = 60


class World:
    """What the steps reach: down at first."""

    def __init__(self):
        self.make_new()

    def make_new(self):
        self.is_down = True
        self.done = Counter()

    def reach(self, text, fails):
        if fails and self.is_down:
            raise ConnectionError(text)
        self.done[text] += 1
        return text


@pytest.fixture
def world():
    return World()


@pytest.fixture
def fetch(world):
    @durable.step(name="fetch", retry=None)
    async def fetch(text, fails=False):
        await asyncio.sleep(0)
        return world.reach(text, fails)

    return fetch


@pytest.fixture
def blocking(world):
    @durable.step(name="blocking", retry=None)
    def blocking(text, fails=False):
        return world.reach(text, fails)

    return blocking


@pytest.fixture
def retried(world):
    """Have the run of a flow end, however often it takes to retry it when the world is up again."""

    def retried(flow):
        run = flow.start()
        while True:
            try:
                return run.result(PATIENCE)
            except ConnectionError:
                world.is_down = False
                run.retry()

    return retried


async def all_of(coroutines):
    """As programs do that have each try, and fail in the end."""
    found = await asyncio.gather(*coroutines, return_exceptions=True)
    for each in found:
        if isinstance(each, BaseException):
            raise each
    return found


def one_at_a_time(fetch, after=None):
    """Three tasks that pass a lock, of which the first fails in it; `after` comes in the lock too."""

    @durable.workflow(id="one")
    async def flow():
        lock = asyncio.Lock()

        async def task(number):
            async with lock:
                found = await fetch(f"page {number}", fails=number == 0)
                return found if after is None else await after(number)

        return await all_of(map(task, range(3)))

    return flow


PAGES = [f"page {number}" for number in range(3)]
SAVED = [f"saved {number}" for number in range(3)]


def test_a_task_that_fails_while_the_others_wait_for_its_lock_is_retried(journal, world, fetch, retried):
    assert retried(one_at_a_time(fetch)) == PAGES
    assert world.done == Counter(PAGES)


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_as_many_as_there_are_slots_fail_and_are_retried(journal, world, fetch, retried, slots):
    @durable.workflow(id="one")
    async def flow():
        free = asyncio.Semaphore(slots)

        async def task(number):
            async with free:
                return await fetch(f"page {number}", fails=number < slots)

        found = await asyncio.gather(*map(task, range(8)), return_exceptions=True)
        if failed := [each for each in found if isinstance(each, Exception)]:
            raise ExceptionGroup("pages", failed)
        return found

    run = flow.start()
    with pytest.raises(ExceptionGroup):
        run.result(PATIENCE)
    world.is_down = False
    run.retry()
    assert run.result(PATIENCE) == [f"page {number}" for number in range(8)]
    assert set(world.done.values()) == {1}


async def in_branches(number, fetch):
    return (await asyncio.gather(fetch(f"saved {number}"), fetch(f"told {number}")))[0]


async def within_a_timeout(number, fetch):
    async with asyncio.timeout(PATIENCE):
        return await fetch(f"saved {number}")


async def after_a_rest(number, fetch):
    await durable.aio.sleep(0.01)
    return await fetch(f"saved {number}")


async def in_a_thread(number, fetch):
    return await asyncio.to_thread(fetch, f"saved {number}")


AFTER = {
    "step": lambda number, fetch: fetch(f"saved {number}"),
    "branches": in_branches,
    "timeout": within_a_timeout,
    "rest": after_a_rest,
}


@pytest.mark.parametrize("after", AFTER.values(), ids=AFTER)
def test_what_follows_in_the_lock_comes_before_what_the_journal_has(journal, world, fetch, retried, after):
    assert retried(one_at_a_time(fetch, lambda number: after(number, fetch))) == SAVED
    assert set(world.done.values()) == {1}


@pytest.mark.parametrize("in_thread", [False, True])
def test_so_does_a_step_that_blocks(journal, world, fetch, blocking, retried, in_thread):
    async def here(number):
        return blocking(f"saved {number}")

    after = (lambda number: in_a_thread(number, blocking)) if in_thread else here
    assert retried(one_at_a_time(fetch, after)) == SAVED
    assert set(world.done.values()) == {1}


def everywhere(flow, world, retried):
    report = testing.crash_everywhere(lambda: retried(flow), setup=world.make_new)
    assert len(report.points) > 10


@pytest.mark.parametrize("after", [None, *AFTER.values()], ids=["nothing", *AFTER])
def test_a_crash_anywhere_in_the_retry_comes_to_the_same_end(journal, world, fetch, retried, after):
    everywhere(one_at_a_time(fetch, after and (lambda number: after(number, fetch))), world, retried)


def test_so_it_does_with_steps_that_block(journal, world, fetch, blocking, retried):
    async def here(number):
        return blocking(f"saved {number}")

    everywhere(one_at_a_time(fetch, here), world, retried)


def test_code_that_asks_who_came_first_takes_the_same_path_after_each_crash(journal, world, fetch, retried):
    """What came in between the turns of the journal stays there."""

    @durable.workflow(id="one")
    async def flow():
        lock = asyncio.Lock()

        async def task(number):
            async with lock:
                await fetch(f"page {number}", fails=number in {0, 3})
                return await fetch(f"saved {number}")

        tasks = [asyncio.create_task(task(number), name=str(number)) for number in range(6)]
        left, path = {task for task in tasks if task.get_name() not in "03"}, []
        while left:
            done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            path += [await fetch(f"{each.get_name()} is there") for each in done]
        await all_of(tasks)
        return path

    everywhere(flow, world, retried)


def test_a_run_that_is_cancelled_while_it_does_something_again_is_told(journal, world, fetch):
    reached, told = threading.Event(), []

    @durable.step(name="slow", retry=None)
    async def slow(text):
        if world.is_down:
            raise ConnectionError(text)
        reached.set()
        await asyncio.sleep(PATIENCE)

    @durable.workflow(id="one")
    async def flow():
        lock = asyncio.Lock()

        async def task(number):
            async with lock:
                return await (slow if number == 0 else fetch)(f"page {number}")

        try:
            return await all_of(map(task, range(3)))
        except asyncio.CancelledError:
            told.append(True)
            raise

    run = flow.start()
    with pytest.raises(ConnectionError):
        run.result(PATIENCE)
    world.is_down = False
    run.retry()
    assert reached.wait(PATIENCE)
    run.cancel()
    with pytest.raises(durable.RunCancelledError):
        run.result(PATIENCE)
    assert (told, run.status) == ([True], "cancelled")


def test_code_that_was_changed_under_a_retried_run_blocks_it_and_nothing_is_lost(journal, world, fetch, retried):
    is_changed = False

    @durable.workflow(id="one")
    async def flow():
        lock = asyncio.Lock()

        async def task(number):
            async with lock:
                return await fetch(f"page {number}", fails=number == 0)

        return await all_of(map(task, range(1 if is_changed else 3)))

    run = flow.start()
    with pytest.raises(ConnectionError):
        run.result(PATIENCE)
    world.is_down, is_changed = False, True
    run.retry()
    with pytest.raises(durable.NonDeterminismError, match="which the journal has at position 0 of branch '/task:1'"):
        run.result(PATIENCE)
    assert run.status == "blocked"
    is_changed = False
    run.retry()
    assert run.result(PATIENCE) == PAGES
    assert world.done == Counter(PAGES)


def test_what_a_retried_run_would_come_to_is_not_said_to_be_blocked(journal, world, fetch):
    run = one_at_a_time(fetch).start()
    with pytest.raises(ConnectionError):
        run.result(PATIENCE)
    journal.engine.close()
    journal.engine = durable.open(journal.path)
    with journal.engine._runtime.journal.visiting() as write:  # as another process asks for it
        write(retry("one", 0.0, trust_journal=False))
    reader = Reader(str(journal.path))
    try:
        verdict = Rehearsals(reader, REGISTRY, PATIENCE).of(reader.run("one"))
    finally:
        reader.close(None)
    assert (verdict.is_what, "wants to go on with something else" in verdict.why) == ("unclear", True)

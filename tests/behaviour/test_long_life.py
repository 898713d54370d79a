"""A program that lives for weeks: nothing is kept of what is over."""

import asyncio
import gc
import threading
import weakref
from contextlib import suppress
from dataclasses import dataclass

import pytest

import durable
from durable import _engine
from durable._reading import ReadableJournal
from tests.behaviour.patience import PATIENCE, wait_until

TIMES = 100


@dataclass(eq=False)
class Given:
    number: int


@pytest.fixture
def hanging(journal):
    """A run that executes for as long as the test."""
    begun, end = threading.Event(), threading.Event()

    @durable.workflow
    def hang():
        begun.set()
        end.wait(PATIENCE)

    run = hang.start()
    assert begun.wait(PATIENCE)
    yield run
    end.set()
    run.result(PATIENCE)


def events():
    gc.collect()
    return sum(isinstance(each, threading.Event) for each in gc.get_objects())


def test_who_waited_in_vain_for_a_run_that_still_executes_is_forgotten(hanging):
    before = events()
    for _ in range(TIMES):
        with pytest.raises(TimeoutError):
            hanging.result(timeout=0)
    assert events() < before + TIMES / 2


def loops_left(main):
    """How many loops there are still of those on which `main` was run."""
    loops = weakref.WeakSet()

    async def noting_its_loop():
        loops.add(asyncio.get_running_loop())
        await main()

    for _ in range(TIMES):
        asyncio.run(noting_its_loop())
    gc.collect()
    return len(loops)


def test_a_loop_on_which_a_run_was_awaited_in_vain_is_forgotten(hanging):
    async def result():
        return await hanging

    async def main():
        with suppress(TimeoutError):
            await asyncio.wait_for(result(), 0.001)

    assert loops_left(main) < TIMES / 2


def test_a_loop_on_which_runs_were_executed_is_forgotten(journal):
    @durable.step
    async def double(number):
        return 2 * number

    @durable.workflow
    async def flow(number):
        return await double(number)

    async def main():
        assert await asyncio.gather(flow(1), flow(2)) == [2, 4]

    assert loops_left(main) < TIMES / 2


def test_runs_of_a_workflow_that_is_no_longer_declared_are_not_asked_for_again_and_again(journal, monkeypatch):
    @durable.workflow(name="gone")
    def gone(_):
        durable.wait_for_signal("go")

    runs = gone.start_many(range(5))
    wait_until(lambda: all(run.status == "waiting" for run in runs))
    journal.restart()
    for run in runs:
        durable.get(run.id).signal("go", None)  # due, from now on
    del _engine.REGISTRY.workflows["gone"]
    read, looks = [], []

    def due_runs(*args, **options):
        looks.append(1)
        read.extend(found := due(*args, **options))
        return found

    due = ReadableJournal.due_runs
    monkeypatch.setattr(ReadableJournal, "due_runs", due_runs)

    @durable.workflow
    def flow():
        return "done"

    def after_another_run(condition):
        """That has the timer look for what is due."""
        return lambda: flow() == "done" and condition()

    wait_until(after_another_run(lambda: len(looks) > 10))
    assert len(read) == len(runs)
    _engine.REGISTRY.declare_workflow(gone)  # by a module that is imported late
    wait_until(after_another_run(lambda: all(run.status == "completed" for run in runs)))


def test_a_run_keeps_nothing_of_the_steps_beside_it_that_have_ended(journal):
    @durable.step
    def use(given):
        return given.number

    kept = weakref.WeakSet()

    def given():
        kept.add(made := Given(1))
        return made

    @durable.workflow
    def flow():
        for _ in range(TIMES):
            use.submit(given()).result()
            use.map([given(), given()])
        gc.collect()
        return len(kept)

    assert flow() < TIMES


def test_what_calls_have_claimed_is_forgotten_when_the_runs_have_ended(journal):
    @durable.workflow
    def flow(number):
        journal.crash()
        return number

    def interrupted(number):
        with pytest.raises(KeyboardInterrupt):
            flow(number)

    interrupted("claimed by the next call")
    interrupted("left to an owner, and claimed then")
    journal.restart()
    assert flow("left to an owner, and claimed then")
    claims = journal.engine._runtime._claims
    assert flow("claimed by the next call")
    journal.crashing = True
    interrupted("called again")
    interrupted("gone on with")
    journal.crashing = False
    assert flow("called again")
    for run in durable.runs(status="interrupted"):
        assert run.result(PATIENCE) == "gone on with"
    assert [kept for kept in vars(claims).values() if isinstance(kept, (dict, set)) and kept] == []


def test_a_closed_engine_leaves_no_thread(tmp_path):
    @durable.step
    def double(number):
        return 2 * number

    @durable.workflow
    def flow():
        return double.map([1, 2])

    @durable.workflow
    async def aflow():
        return await asyncio.to_thread(double, 3)

    async def main():
        async with durable.open(tmp_path / "journal.db"):
            assert await flow.start() == [2, 4]
            assert await aflow.start() == 6

    before, times = set(threading.enumerate()), 5
    for _ in range(times):
        asyncio.run(main())
        with durable.open(tmp_path / "journal.db"):
            assert flow.start().result(PATIENCE) == [2, 4]
            assert aflow.start().result(PATIENCE) == 6
    ours = [each for each in set(threading.enumerate()) - before if each.name.startswith("durable-")]
    assert len(ours) < times, ours

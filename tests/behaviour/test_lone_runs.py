"""An async run that is alone on its loop: its commits are made in the loop's own thread, where the disk is quick."""

import asyncio
import contextlib
import threading
import time

import pytest

import durable
from durable import _port
from durable._new_outcomes import NewOutcomes
from tests.behaviour.patience import PATIENCE


@durable.step(name="add")
async def add(number):
    return number + 1


@pytest.fixture
def commits(journal):
    """The thread of each commit with an fsync; `pause`: what each of them takes longer."""
    file = journal.engine._runtime.journal
    put_alone = file.put_alone

    def noted(row, full):
        if full:
            noted.threads.append(threading.get_ident())
            time.sleep(noted.pause)
        if row[-2] is not None:  # TURN
            noted.then()
        return put_alone(row, full)

    noted.threads, noted.pause, noted.then = [], 0.0, lambda: None
    file.put_alone = noted
    return noted


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """The disk of this machine counts as quick, however busy it is."""
    monkeypatch.setattr(_port, "_QUICK_SECONDS", PATIENCE)


@pytest.fixture
def declared():
    """A workflow of so many steps."""

    @durable.workflow(name="count")
    async def count(steps):
        number = 0
        while number < steps:
            number = await add(number)
        return number

    return count


def test_its_outcomes_are_committed_in_the_thread_of_its_loop(declared, commits, run_async):
    assert run_async(declared(10)) == 10
    assert commits.threads == [threading.get_ident()] * 11  # with the start of the first attempt


def test_so_they_are_on_the_loop_of_the_engine(declared, commits):
    assert declared.start(10).result(PATIENCE) == 10
    (loop,) = set(commits.threads)
    assert loop != threading.get_ident()


def test_others_on_its_loop_have_their_turn_between_any_two_steps(declared, journal, run_async):
    """Nothing of such a run need ever wait: it must not keep the loop to itself."""
    turns = []

    async def other():
        while True:
            turns.append(len(done))
            await asyncio.sleep(0)

    done = []

    @durable.workflow(name="alone")
    async def alone():
        while len(done) < 100:
            done.append(await add(len(done)))

    async def main():
        beside = asyncio.create_task(other())
        await alone()
        beside.cancel()

    run_async(main())
    assert set(range(100)) <= set(turns)


def test_where_the_disk_is_slow_another_thread_waits_for_it(declared, commits, run_async, monkeypatch):
    monkeypatch.setattr(_port, "_QUICK_SECONDS", 0.05)
    commits.pause = 0.06
    assert run_async(declared(5)) == 5
    mine = [thread == threading.get_ident() for thread in commits.threads]
    assert mine == [True, False, False, False, False, False]


def test_two_runs_on_a_loop_are_committed_together_by_another_thread(commits, run_async):
    begun, both = [], asyncio.Event()

    @durable.workflow(name="one of two")
    async def one_of_two(steps):
        begun.append(steps)
        if len(begun) == 2:
            both.set()
        await both.wait()  # else the first may be alone at its first steps
        number = 0
        while number < steps:
            number = await add(number)
        return number

    async def main():
        return await asyncio.gather(one_of_two(15), one_of_two(16))

    assert run_async(main()) == [15, 16]  # so many that neither is alone at the first eight, however few both share
    assert threading.get_ident() not in commits.threads[:8]


def test_a_cancellation_between_a_commit_and_the_news_of_it_replays_as_it_was(declared, commits, journal, run_async):
    """The outcome is on disk, and the body has not heard of it: what it was told instead is what the journal has."""
    ran = []

    @durable.step(name="work")
    async def work():
        ran.append(1)
        return "value"

    @durable.workflow(id="run")
    async def flow():
        def cancel():
            commits.then = lambda: None
            asyncio.get_running_loop().call_soon(task.cancel)

        task = asyncio.current_task()
        if journal.crashing:
            commits.then = cancel
        else:  # nothing is committed by then
            cancel()
        try:
            found = await work()
        except asyncio.CancelledError:
            task.uncancel()
            found = "cut"
        await add(1)
        journal.crash()
        return found

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    assert run_async(flow()) == "cut"
    assert ran == [1]
    assert [(step.name, step.status) for step in durable.get("run").steps()] == [
        ("work", "failed"),
        ("add", "completed"),
    ]


def test_an_error_of_its_commit_takes_it_down(declared, commits, journal, run_async):
    file = journal.engine._runtime.journal
    put_alone = file.put_alone

    def broken(rows, full):
        if full:
            raise durable.JournalError("input/output error")
        return put_alone(rows, full)

    file.put_alone = broken
    with pytest.raises(durable.JournalError, match="unknown whether its records are in the file"):
        run_async(declared(1))
    journal.restart()
    assert [run.status for run in durable.runs()] == ["interrupted"]
    assert run_async(declared(1)) == 1


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["a commit", "an operation"])
def test_an_interrupt_is_raised_whatever_its_body_makes_of_it(
    commits, journal, run_async, monkeypatch, where, interrupt
):
    """And it leaves nothing behind that the body would wait for."""

    conclude = NewOutcomes.conclude

    def strike(*_):
        commits.then = lambda: None
        monkeypatch.setattr(NewOutcomes, "conclude", conclude)
        raise interrupt

    @durable.workflow(id="run")
    async def flow():
        await add(1)
        if journal.crashing and where == "a commit":
            commits.then = strike
        elif journal.crashing:
            monkeypatch.setattr(NewOutcomes, "conclude", strike)
        with contextlib.suppress(interrupt):
            await add(2)
        return await add(3)

    with pytest.raises(interrupt):
        run_async(flow())
    journal.restart()
    assert durable.get("run").status == "interrupted"
    assert run_async(flow()) == 4

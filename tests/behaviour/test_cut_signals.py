"""A signal that was taken by a wait which is cut: it is there for whoever waits, once and in its order."""

import asyncio
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass

import pytest

import durable
from durable._new_outcomes import Outcome
from durable._scopes import current_branch
from tests.behaviour.patience import PATIENCE


async def until(condition):
    """While other tasks go on; but none of the run is ever seen to wait, so that no outcome has its turn."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)


async def cut(task):
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def unread(journal):
    """What is left in the file of what was sent."""
    return journal.engine._runtime.journal.messages(1, "signal", "go")


async def in_thread(function, *args):
    """Outside of the run."""
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)


@pytest.mark.parametrize("line", [1, 2, 3, 4])
def test_two_threads_do_not_take_the_same_signal(journal, line):
    """Whichever line of the one it is before which the other asks too."""
    taken, lines = [], []

    @durable.workflow(id="one")
    def flow():
        execution = current_branch().execution
        durable.get("one").signal("go", 1)

        def ask_too(frame, event, _):
            if frame.f_code is not type(execution).next_signal.__code__:
                return None
            if event == "line":
                lines.append(frame.f_lineno)
                if len(lines) == line:
                    taken.append(execution.next_signal("go"))
            return ask_too

        before = sys.gettrace()
        sys.settrace(ask_too)
        try:
            taken.append(execution.next_signal("go"))
        finally:
            sys.settrace(before)

    flow()
    assert len(taken) == 2
    assert sum(message is not None for message in taken) == 1


def test_a_thread_that_is_given_up_takes_no_signal(journal, run_async):
    ended, taken = threading.Event(), []

    def read():
        try:
            taken.append(durable.wait_for_signal("go", int))
        finally:
            ended.set()

    @durable.workflow(id="one")
    async def flow():
        execution = current_branch().execution
        task = asyncio.create_task(asyncio.to_thread(read))
        await until(lambda: execution.rests)
        await cut(task)
        assert await in_thread(ended.wait, PATIENCE)  # which needs no signal for that
        await in_thread(durable.get("one").signal, "go", 1)
        return await durable.aio.wait_for_signal("go", int)

    assert run_async(asyncio.wait_for(flow(), PATIENCE)) == 1
    assert taken == []


@pytest.mark.parametrize("replayed", [False, True])
def test_a_signal_that_a_thread_reads_when_it_is_given_up_reaches_who_waits_already(journal, run_async, replayed):
    """Where its wait was begun in an earlier process, too."""
    reading, go_on = threading.Event(), threading.Event()

    @dataclass
    class Read:
        number: int

        def __post_init__(self):
            reading.set()
            assert go_on.wait(PATIENCE)

    @durable.workflow(id="one")
    async def flow():
        execution = current_branch().execution
        task = asyncio.create_task(asyncio.to_thread(durable.wait_for_signal, "go", Read))
        if replayed and journal.crashing:
            await until(lambda: execution.rests)
            journal.crash()
        await in_thread(durable.get("one").signal, "go", {"number": 1})
        assert await in_thread(reading.wait, PATIENCE)
        other = asyncio.create_task(durable.aio.wait_for_signal("go", dict))
        await until(lambda: execution.rests)
        await cut(task)
        go_on.set()
        return await other

    if replayed:
        with pytest.raises(KeyboardInterrupt):
            run_async(flow())
        journal.restart()
    assert run_async(asyncio.wait_for(flow(), PATIENCE)) == {"number": 1}


@pytest.mark.parametrize("in_a_thread", [False, True])
def test_a_signal_that_the_journal_has_as_taken_is_there_again_where_a_replay_gives_its_wait_up(
    journal, run_async, in_a_thread
):
    """As it does where the process died after the signal was taken, and before that its wait was cut was written."""

    @dataclass
    class Order:
        number: int

    @durable.workflow(id="one")
    async def flow():
        wait = durable.aio.wait_for_signal
        task = asyncio.create_task(
            asyncio.to_thread(durable.wait_for_signal, "go", Order) if in_a_thread else wait("go", Order)
        )
        if journal.crashing:
            await in_thread(durable.get("one").signal, "go", Order(1))
            assert await task == Order(1)
            journal.crash()
        await asyncio.sleep(0)
        await cut(task)
        return await wait("go", Order)

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    assert run_async(asyncio.wait_for(flow(), PATIENCE)) == Order(1)
    assert not unread(journal)


def test_a_signal_whose_wait_is_cut_reaches_who_waits_already(journal, run_async):
    @durable.workflow(id="one")
    async def flow():
        execution = current_branch().execution
        await in_thread(durable.get("one").signal, "go", 1)
        first = asyncio.create_task(durable.aio.wait_for_signal("go", int))
        await until(execution.branches.new.has_ready)  # the file has its outcome
        other = asyncio.create_task(durable.aio.wait_for_signal("go", int))
        await until(lambda: execution.rests)
        await cut(first)
        return await other

    assert run_async(asyncio.wait_for(flow(), PATIENCE)) == 1
    steps = [(step.kind, step.status) for step in durable.get("one").steps() if step.kind == "signal"]
    assert steps == [("signal", "failed"), ("signal", "completed")]


def test_a_signal_that_is_put_back_is_before_those_that_were_sent_after_it(journal, run_async):
    @durable.workflow(id="one")
    async def flow():
        for number in 1, 2:
            await in_thread(durable.get("one").signal, "go", number)
        first = asyncio.create_task(durable.aio.wait_for_signal("go", int))
        await until(current_branch().execution.branches.new.has_ready)
        await cut(first)
        return [await durable.aio.wait_for_signal("go", int) for _ in range(2)]

    assert run_async(asyncio.wait_for(flow(), PATIENCE)) == [1, 2]


@pytest.fixture
def hold_groups():
    """What keeps outcomes of the run from the file until what this returns is called; and those that it keeps."""

    def hold(branches):
        held, write = [], branches.write

        def release():
            branches.write = write
            for each in held:
                write(*each)

        branches.write = lambda letter, full: (
            held.append((letter, full)) if isinstance(letter, Outcome) else write(letter, full)
        )
        return held, release

    return hold


def test_a_signal_whose_wait_is_cut_while_it_is_written_is_read_once(journal, run_async, hold_groups):
    @durable.workflow(id="one")
    async def flow():
        execution = current_branch().execution
        held, release = hold_groups(execution.branches)
        await in_thread(durable.get("one").signal, "go", 1)
        first = asyncio.create_task(durable.aio.wait_for_signal("go", int))
        await until(lambda: held)
        other = asyncio.create_task(durable.aio.wait_for_signal("go", int))
        await until(lambda: execution.rests)
        cutting = asyncio.create_task(cut(first))
        for _ in range(10):
            await asyncio.sleep(0)
        await in_thread(durable.get("one").signal, "go", 2)  # wakes the other
        await until(lambda: not execution.rests)
        release()
        await cutting
        values = [await other, await durable.aio.wait_for_signal("go", int)]
        return values, len(execution.journal.messages(execution.record.seq, "signal", "go"))

    assert run_async(asyncio.wait_for(flow(), PATIENCE)) == ([2, 1], 0)


def test_an_outcome_of_a_thread_that_is_given_up_before_it_is_written_is_not_written_later(
    journal, run_async, hold_groups
):
    @durable.step
    async def work():
        return "worked"

    @durable.workflow(id="one")
    async def flow():
        branches = current_branch().execution.branches
        held, release = hold_groups(branches)
        working = asyncio.create_task(work())
        await until(lambda: held)
        await in_thread(durable.get("one").signal, "go", 1)
        task = asyncio.create_task(asyncio.to_thread(durable.wait_for_signal, "go", int))
        await until(lambda: branches.new._outbox)
        await cut(task)
        other = asyncio.create_task(durable.aio.wait_for_signal("go", int))
        await until(lambda: len(durable.get("one").steps()) == 3)
        release()
        return [await working, await other]

    assert run_async(asyncio.wait_for(flow(), PATIENCE)) == ["worked", 1]
    steps = [step.status for step in durable.get("one").steps() if step.kind == "signal"]
    assert sorted(steps) == ["completed", "failed"]

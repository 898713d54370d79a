"""A run that was interrupted and goes on in the same process: what the first execution had still to write is in time.

Each commit waits for the one before it. An outcome that waits so while its execution ends would come into the file when
the next execution has read what is there.
"""

import asyncio
import threading
import time

import pytest

import durable

PATIENCE = 60.0
TURNS = 50


@pytest.fixture
def disk(journal):
    """A disk that can be held up, in the writer's own thread."""
    return Disk(journal.engine._runtime.journal)


class Disk:
    def __init__(self, file):
        self.is_slow = False
        self.reached, self.free = threading.Event(), threading.Event()
        self._put_alone, self._commit = file.put_alone, file.commit
        file.put_alone, file.commit = self.put_alone, self.commit

    def put_alone(self, *args):
        self._hold()
        return self._put_alone(*args)

    def commit(self, *args):
        self._hold()
        return self._commit(*args)

    def _hold(self):
        if self.is_slow and threading.current_thread() is not threading.main_thread():
            self.reached.set()
            self.free.wait(PATIENCE)
            time.sleep(0.1)  # long enough for the loop to read the file meanwhile


async def turns(count=TURNS):
    for _ in range(count):
        await asyncio.sleep(0)


async def interrupted_and_called_again(workflow, disk):
    """The result of the second call. The first one is cancelled while the commit of an outcome is under way."""
    first = asyncio.create_task(workflow())
    while not disk.reached.is_set():  # noqa: ASYNC110 - a thread sets it
        await asyncio.sleep(0.001)
    await turns()  # what came meanwhile waits for that commit
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = asyncio.create_task(workflow())
    await turns()
    disk.free.set()
    return await asyncio.wait_for(second, PATIENCE)


def test_a_signal_that_was_taken_is_not_lost(journal, disk):
    @durable.step
    async def before():
        pass

    @durable.step
    async def sends():
        durable.get("run").signal("go", 7)
        disk.is_slow = True

    @durable.workflow(id="run")
    async def receives():
        received = asyncio.create_task(durable.aio.wait_for_signal("go", int))
        await before()
        await sends()
        return await received

    assert asyncio.run(interrupted_and_called_again(receives, disk)) == 7


@pytest.mark.parametrize("at_most_once", [False, True])
def test_a_step_that_has_ended_does_not_run_again(journal, disk, at_most_once):
    ran = []

    @durable.step
    async def fills_the_disk():
        disk.is_slow = True

    @durable.step(at_most_once=at_most_once)
    async def charge():
        while not disk.reached.is_set():  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0)
        ran.append(1)
        return 7

    @durable.workflow(id="run")
    async def pays():
        charged = asyncio.create_task(charge())
        await asyncio.sleep(0.05)
        await fills_the_disk()
        return await charged

    assert asyncio.run(interrupted_and_called_again(pays, disk)) == 7
    assert ran == [1]
    turns_of = [step.turn for step in journal.engine._runtime.journal.steps(1) if step.turn]
    assert len(turns_of) == len(set(turns_of))

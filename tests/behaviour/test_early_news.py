"""A cancellation or an interrupt that comes to an async run in the moment in which its task is made."""

import asyncio
import threading

import pytest

import durable
from durable import _run_task
from durable._execution import Execution
from tests.behaviour.patience import PATIENCE, wait_until


@pytest.fixture
def as_it_begins(journal, monkeypatch):
    """Have something called, with the execution, when a run is about to have its task."""

    def call(function):
        enter_loop = _run_task.enter_loop

        def enter(loop):
            function(journal.engine._runtime.active["one"].execution)
            enter_loop(loop)

        monkeypatch.setattr(_run_task, "enter_loop", enter)

    return call


def test_a_run_is_told_once_of_a_cancellation_that_comes_as_it_begins(as_it_begins, monkeypatch):
    began, told, wake = threading.Event(), [], Execution.wake

    def wake_late(execution):
        if threading.current_thread().name == "canceller":
            assert began.wait(PATIENCE)
        wake(execution)

    def cancel(execution):
        threading.Thread(target=durable.get("one").cancel, name="canceller").start()
        wait_until(lambda: execution.cancel.requested)

    monkeypatch.setattr(Execution, "wake", wake_late)
    as_it_begins(cancel)

    @durable.step
    async def clean_up(number):
        return number

    @durable.workflow(id="one")
    async def flow():
        began.set()
        left = [asyncio.sleep(3600), *map(clean_up, range(5))]
        while left:
            try:
                await left.pop(0)
            except asyncio.CancelledError:
                told.append(len(left))

    with pytest.raises(durable.RunCancelledError):
        flow.start().result(PATIENCE)
    assert told == [5]


def test_a_run_that_is_interrupted_as_it_begins_waits_for_nothing(as_it_begins, run_async):
    as_it_begins(lambda execution: execution.interrupt("as it begins"))

    @durable.workflow(id="one")
    async def flow():
        await asyncio.get_running_loop().create_future()

    async def call():
        await asyncio.wait_for(flow(), PATIENCE)

    with pytest.raises(durable.RunInterruptedError, match="as it begins"):
        run_async(call())

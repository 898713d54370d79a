"""A run and those that it waits for are cancelled together: each hears of its own cancellation."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import durable
from durable import _steering
from tests.behaviour.patience import wait_until


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_child_that_ends_by_the_cancellation_of_its_parent_is_not_what_the_parent_hears_of(
    journal, monkeypatch, asynchronous
):
    """What is asked of both is one transaction. A child that was queued ends by it at once, and the parent is told later."""
    waits, is_free, heard = threading.Event(), threading.Event(), []

    @durable.workflow(name="child", concurrency=1)
    def child(first):
        if first:
            is_free.wait()

    def hears(error):
        heard.append(type(error).__name__)
        raise error

    if asynchronous:

        @durable.workflow(id="parent")
        async def parent():
            try:
                run = child.start(False)
                waits.set()
                await run
            except BaseException as error:
                hears(error)

    else:

        @durable.workflow(id="parent")
        def parent():
            try:
                run = child.start(False)
                waits.set()
                run.result()
            except BaseException as error:
                hears(error)

    def ended():
        return [run for run in durable.runs(workflow="child") if run.status == "cancelled"]

    tell = _steering._tell_cancelled

    def late(*args):
        is_free.set()
        wait_until(ended)
        time.sleep(0.1)
        tell(*args)

    monkeypatch.setattr(_steering, "_tell_cancelled", late)
    child.start(True)
    run = parent.start()
    waits.wait()
    wait_until(lambda: len(durable.runs(workflow="child")) == 2)
    run.cancel()
    with pytest.raises(durable.RunCancelledError, match="run parent"):
        run.result()
    assert run.status == "cancelled"
    assert heard == ["CancelledError" if asynchronous else "Cancelled"]


def test_a_child_that_is_started_when_the_cancellation_is_not_told_yet_is_cancelled_too(journal):
    asked, is_cancelled = threading.Event(), threading.Event()

    @durable.workflow(name="child")
    async def child():
        await durable.aio.sleep(3600)

    async def part():
        asked.set()
        is_cancelled.wait()  # its loop: it cannot be told
        first = child.start()
        try:
            await first
        finally:
            child.start()  # it knows now: what it starts to clean up is wanted

    @durable.workflow(id="parent")
    async def parent():
        await asyncio.create_task(part())

    run = parent.start()
    asked.wait()
    run.cancel()
    is_cancelled.set()
    with pytest.raises(durable.RunCancelledError):
        run.result()
    wait_until(lambda: sorted(child.status for child in durable.runs(workflow="child")) == ["cancelled", "waiting"])


def test_a_run_that_was_cancelled_after_it_heard_of_a_cancelled_child_hears_of_that_again(journal):
    @durable.workflow(name="child")
    def child():
        durable.sleep(3600)

    @durable.step(name="after")
    def after():
        pass

    @durable.step(name="dies")
    def dies():
        journal.crash()

    @durable.step(name="late")
    def late():
        pass

    @durable.workflow(id="parent")
    def parent():
        run = child.start()
        run.cancel()
        with pytest.raises(durable.RunCancelledError):
            run.result()
        after()
        dies()
        late()

    with pytest.raises(KeyboardInterrupt):
        parent()
    journal.restart()
    run = durable.get("parent")
    run.cancel()
    with pytest.raises(durable.RunCancelledError, match="run parent"):
        run.result()
    assert [(step.name, step.status) for step in run.steps()][2:] == [("after", "completed"), ("dies", "failed")]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_children_that_a_crash_left_are_cancelled_when_their_parent_hears_of_it(journal, run_async, asynchronous):
    """Asked by a process that executes nothing. One was at work, one in line for a slot, or just begun when that came free."""
    at_work = threading.Event()

    @durable.workflow(name="child", concurrency=1)
    async def child(_):
        at_work.set()
        await asyncio.sleep(3600)

    @durable.step(name="dies")
    def dies():
        at_work.wait()
        journal.crash()

    def parent():
        child.start_many([1, 2])
        dies()

    async def parent_async():
        child.start_many([1, 2])
        await asyncio.to_thread(dies)

    flow = durable.workflow(name="parent", id="parent")(parent_async if asynchronous else parent)
    with pytest.raises(KeyboardInterrupt):
        run_async(flow()) if asynchronous else flow()
    journal.restart()
    durable.get("parent").cancel()
    assert {run.status for run in durable.runs(workflow="child")} <= {"queued", "interrupted"}
    with pytest.raises(durable.RunCancelledError):
        run_async(flow()) if asynchronous else flow()
    wait_until(lambda: {run.status for run in durable.runs()} == {"cancelled"})


class Family:
    """A parent and the child that it called when a crash left both; the child cleans up when it is cancelled."""

    def __init__(self, journal, asynchronous, *, strikes=False):
        self.journal, self.strikes, self.said = journal, strikes, []
        self.at_work, self.goes_on = threading.Event(), threading.Event()

        @durable.step(name="works", retry=None)
        def works():
            self.at_work.set()
            journal.crash()
            assert self.goes_on.wait(60)

        @durable.step(name="works", retry=None)
        async def works_async():
            self.at_work.set()
            journal.crash()
            await asyncio.sleep(3600)

        @durable.step(name="cleans up", retry=None)
        def cleans_up():
            if self.strikes:
                self.said.append("struck")
                raise KeyboardInterrupt
            time.sleep(0.2)  # in which a parent that does not wait for this ends
            self.said.append("child")

        def child():
            works()
            try:
                durable.sleep(0.0)
            finally:
                cleans_up()

        async def child_async():
            try:
                await works_async()
            finally:
                if not journal.crashing:
                    await asyncio.to_thread(cleans_up)

        self.child = durable.workflow(name="child", id="child")(child_async if asynchronous else child)

        def parent():
            try:
                self.child()
            finally:
                self.said.append("parent")

        async def parent_async():
            try:
                await self.child()
            finally:
                self.said.append("parent")

        self.parent = durable.workflow(name="parent", id="parent")(parent_async if asynchronous else parent)

    def crash_and_go_on(self, how):
        """A process dies in both; the next one sets the child going before its parent calls it again."""
        with pytest.raises((KeyboardInterrupt, durable.RunInterruptedError)):
            self.parent.start().result(60)
        self.journal.restart()
        self.said.clear()
        self.at_work.clear()
        if how == "resumed":
            durable.resume()
        else:
            self.child.start()
        assert self.at_work.wait(60)
        run = self.parent.start()
        child = self.journal.engine._runtime.active["child"]
        wait_until(lambda: child._watchers)
        return run


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("how", ["resumed", "started"])
def test_a_cancelled_parent_ends_after_the_child_that_somebody_else_set_going(journal, asynchronous, how):
    family = Family(journal, asynchronous)
    run = family.crash_and_go_on(how)
    run.cancel()
    family.goes_on.set()
    with pytest.raises(durable.RunCancelledError):
        run.result(60)
    assert family.said == ["child", "parent"]
    assert {run.status for run in durable.runs()} == {"cancelled"}


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("how", ["resumed", "started"])
def test_an_interrupt_in_the_clean_up_of_such_a_child_interrupts_its_cancelled_parent_too(journal, asynchronous, how):
    family = Family(journal, asynchronous, strikes=True)
    run = family.crash_and_go_on(how)
    parent = journal.engine._runtime.active["parent"]
    watchers = len(parent._watchers)
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(run.result, 60)
        wait_until(lambda: len(parent._watchers) > watchers)  # asked for later, it would set the run going again
        run.cancel()
        family.goes_on.set()
        with pytest.raises(durable.RunInterruptedError, match="interrupted by KeyboardInterrupt"):
            result.result()
    assert {run.status for run in durable.runs()} == {"interrupted"}
    assert family.said.count("struck") == 1
    family.strikes = False
    journal.restart()
    assert {run.id for run in durable.resume()} == {"parent", "child"}
    wait_until(lambda: {run.status for run in durable.runs()} == {"cancelled"})
    assert family.said.count("child") == 1


def test_the_task_that_called_such_a_child_first_is_the_one_that_may_give_it_up(journal):
    """As in the life in which that one executed it: the other tasks only wait for it."""
    gave_up = threading.Event()

    @durable.step(name="works", retry=None)
    async def works():
        journal.crash()
        return await asyncio.to_thread(gave_up.wait, 60)

    @durable.workflow(id="child")
    async def child():
        return await works()

    async def waits():
        return await child()

    async def gives_up():
        try:
            await asyncio.wait_for(asyncio.create_task(child()), 3600 if journal.crashing else 0.05)
        except TimeoutError:
            gave_up.set()

    @durable.workflow(id="parent")
    async def parent():
        return await asyncio.gather(waits(), gives_up())

    with pytest.raises((KeyboardInterrupt, durable.RunInterruptedError)):
        parent.start().result(60)
    journal.restart()
    durable.resume()
    assert durable.get("parent").result(60) == [True, None]
    assert durable.get("child").status == "completed"

"""Runs that wait for a slot of their workflow's `concurrency` when they are cancelled, or when a task gives that up."""

import asyncio
import threading
import time
import types

import pytest

import durable
from tests.behaviour.patience import wait_until

SOON = 60


@durable.step(name="note")
def note(what):
    return what


class Line:
    """A workflow of which one run at a time executes; what a run of it does is found by its name."""

    def __init__(self, journal, asynchronous):
        self.journal, self.asynchronous = journal, asynchronous
        self.began, self.free = [], threading.Event()
        self.bodies = {"first": self.hold_async if asynchronous else self.hold}

        def limited(name):
            self.began.append(name)
            self.bodies[name]()

        async def limited_async(name):
            self.began.append(name)
            await self.bodies[name]()

        workflow = durable.workflow(name="limited", id="{name}", concurrency=1)
        self.workflow = workflow(limited_async if asynchronous else limited)

    def hold(self):
        assert self.free.wait(SOON)

    async def hold_async(self):
        assert await asyncio.to_thread(self.free.wait, SOON)

    def occupy(self):
        """Have a run take the slot, and keep it to the end of the test."""
        self.workflow.start("first")
        wait_until(lambda: "first" in self.began)

    @property
    def waiting(self):
        """How many wait for the slot."""
        return len(self.journal.engine._runtime.limit_of(self.workflow)._waiting)


@pytest.fixture(params=["sync", "async"])
def asynchronous(request):
    return request.param == "async"


@pytest.fixture
def line(journal, asynchronous):
    line = Line(journal, asynchronous)
    yield line
    line.free.set()
    if "first" in line.began:
        durable.get("first").result(SOON)


def test_a_child_that_waits_for_a_slot_ends_at_once_when_its_parent_is_cancelled(line, asynchronous):
    heard = []

    def parent():
        try:
            line.workflow("child")
        except durable.Cancelled as error:
            heard.append(error)
            raise

    async def parent_async():
        try:
            await line.workflow("child")
        except asyncio.CancelledError as error:
            heard.append(error)
            raise

    line.occupy()
    run = durable.workflow(name="parent", id="parent")(parent_async if asynchronous else parent).start()
    wait_until(lambda: line.waiting)
    run.cancel()
    with pytest.raises(durable.RunCancelledError):
        run.result(SOON)
    assert (len(heard), durable.get("child").status, line.began) == (1, "cancelled", ["first"])
    assert ("limited", "failed") in [(step.name, step.status) for step in run.steps()]


def test_a_plain_call_that_waits_for_a_slot_ends_at_once_when_its_run_is_cancelled(line, asynchronous, run_async):
    heard = []

    def call():
        try:
            run_async(line.workflow("called")) if asynchronous else line.workflow("called")
        except durable.DurableError as error:
            heard.append(error)

    line.occupy()
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    wait_until(lambda: line.waiting)
    durable.get("called").cancel()
    thread.join(SOON)
    assert [type(error) for error in heard] == [durable.RunCancelledError]
    assert (durable.get("called").status, line.began, line.waiting) == ("cancelled", ["first"], 0)


def test_a_plain_call_that_waits_for_a_slot_is_interrupted_when_the_engine_closes(line, asynchronous, run_async):
    heard = []

    def call():
        try:
            run_async(line.workflow("called")) if asynchronous else line.workflow("called")
        except durable.DurableError as error:
            heard.append(error)

    line.occupy()
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    wait_until(lambda: line.waiting)
    limit = line.journal.engine._runtime.limit_of(line.workflow)
    limit.request(lambda: None, first=True)  # and has it when the first run has ended
    closing = threading.Thread(target=line.journal.engine.close)
    closing.start()
    thread.join(SOON)
    line.free.set()
    closing.join(SOON)
    assert [type(error) for error in heard] == [durable.RunInterruptedError]
    assert "had not begun when the engine was closed" in str(heard[0])
    line.journal.restart()
    assert durable.get("called").status == "interrupted"


@pytest.mark.parametrize("how", ["called by its parent", "resumed", "interrupted", "resumed after that"])
def test_a_run_that_had_begun_cleans_up_without_a_slot_when_it_is_cancelled(line, asynchronous, run_async, how):
    def begun():
        note("began")
        line.journal.crash()
        try:
            note("goes on")
        finally:
            note("cleans up")

    async def begun_async():
        note("began")
        line.journal.crash()
        try:
            await durable.aio.sleep(0.0)
        finally:
            note("cleans up")

    def parent():
        return line.workflow("child")

    async def parent_async():
        await line.workflow("child")

    line.bodies["child"] = begun_async if asynchronous else begun
    called = durable.workflow(name="parent", id="parent")(parent_async if asynchronous else parent)
    with pytest.raises(KeyboardInterrupt):
        run_async(called()) if asynchronous else called()
    line.journal.restart()
    run = durable.get("child")
    if how == "resumed after that":
        run.cancel()  # by a process that owns nothing
    line.occupy()
    if how == "called by its parent":
        run = called.start()
        wait_until(lambda: line.waiting)
    elif how == "resumed":
        durable.resume()
        wait_until(lambda: line.waiting)
    elif how == "resumed after that":
        durable.resume()
    if how != "resumed after that":
        run.cancel()
    with pytest.raises(durable.RunCancelledError):
        run.result(SOON)
    steps = [(step.input, step.status) for step in durable.get("child").steps() if step.name == "note"]
    assert steps[0] == ({"what": "began"}, "completed")
    assert steps[-1] == ({"what": "cleans up"}, "completed")
    assert (durable.get("child").status, durable.get("first").status) == ("cancelled", "running")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("how", ["called", "started"])
def test_who_waits_to_take_its_slot_back_is_told_of_its_cancellation_without(line, asynchronous, how, when):
    """The run that it waited for ended before it was cancelled, or after."""
    at_work, gate = threading.Event(), threading.Event()

    @durable.step(name="works")
    def works():
        at_work.set()
        assert gate.wait(SOON)

    def child():
        works()
        if when == "after":
            note("is cut")

    async def child_async():
        await asyncio.to_thread(works)

    other = durable.workflow(name="other")(child_async if asynchronous else child)

    def parent():
        try:
            other() if how == "called" else other.start().result()
            note("is cut")
        finally:
            note("cleans up")

    async def parent_async():
        try:
            await (other() if how == "called" else other.start())
        finally:
            note("cleans up")

    line.bodies["parent"] = parent_async if asynchronous else parent
    run = line.workflow.start("parent")
    assert at_work.wait(SOON)
    line.occupy()
    if when == "after":
        run.cancel()
        gate.set()
    else:
        gate.set()
        wait_until(lambda: line.waiting)
        run.cancel()
    with pytest.raises(durable.RunCancelledError):
        run.result(SOON)
    assert (run.steps()[-1].input, run.steps()[-1].status) == ({"what": "cleans up"}, "completed")
    assert durable.get("first").status == "running"


@pytest.fixture(params=["called", "started"])
def other(request, line):
    """An async run, how a task `waits` for it, and what starts a parent that gives its slot away meanwhile."""
    at_work, gate = threading.Event(), threading.Event()

    @durable.step(name="works")
    def works():
        at_work.set()
        assert gate.wait(SOON)

    @durable.workflow(name="other")
    async def other():
        await asyncio.to_thread(works)

    async def waits():
        await (other() if request.param == "called" else other.start())

    def start_parent():
        """Of a body that waits for it; returned when it has to wait for its slot, which another run has taken."""
        run = line.workflow.start("parent")
        assert at_work.wait(SOON)
        line.occupy()
        gate.set()
        wait_until(lambda: line.waiting)
        return run

    return types.SimpleNamespace(waits=waits, start_parent=start_parent)


@pytest.mark.parametrize("asynchronous", [True], ids=["async"])
def test_a_task_of_a_cancelled_run_goes_on_without_the_slot_where_the_clean_up_waits_for_it(line, other):
    async def parent():
        task = asyncio.create_task(other.waits())
        try:
            await asyncio.Event().wait()
        finally:
            await task
            note("cleans up")

    line.bodies["parent"] = parent
    run = other.start_parent()
    run.cancel()
    with pytest.raises(durable.RunCancelledError):
        run.result(SOON)
    assert (run.steps()[-1].input, run.steps()[-1].status) == ({"what": "cleans up"}, "completed")
    assert durable.get("first").status == "running"


@pytest.mark.parametrize("asynchronous", [True], ids=["async"])
def test_a_task_that_is_cut_when_it_takes_the_slot_back_goes_on_when_the_run_has_it(line, other, peak):
    taking, cut = threading.Event(), threading.Event()

    async def parent():
        task = asyncio.create_task(other.waits())
        assert await asyncio.to_thread(taking.wait, SOON)
        task.cancel()
        cut.set()
        await asyncio.wait([task])
        assert task.cancelled()
        with peak:
            note("goes on")

    async def first():
        with peak:
            await line.hold_async()

    line.bodies.update(parent=parent, first=first)
    run = other.start_parent()
    taking.set()
    assert cut.wait(SOON)
    time.sleep(0.2)  # in which a run that does not wait for its slot goes on
    line.free.set()
    run.result(SOON)
    assert peak.most == 1
    wait_until(
        lambda: line.journal.engine._runtime.limit_of(line.workflow)._free == 1
    )  # its end is in the file before that


@pytest.mark.parametrize("times", [1, 2])
def test_a_call_that_is_cancelled_while_it_waits_for_a_slot_keeps_none(journal, run_async, times):
    """Twice in a row too: by a timeout and by the group of its task, for example."""
    began, free = [], threading.Event()

    @durable.workflow(concurrency=1)
    async def limited(name):
        began.append(name)
        assert await asyncio.to_thread(free.wait, SOON)

    async def calls():
        first = asyncio.create_task(limited("first"))
        second = asyncio.create_task(limited("second"))
        limit = journal.engine._runtime.limit_of(limited)
        await asyncio.to_thread(wait_until, lambda: began and limit._waiting)
        for _ in range(times):
            second.cancel()
            await asyncio.sleep(0)
        await asyncio.wait([second])
        assert second.cancelled()
        free.set()
        await first
        await asyncio.wait_for(limited("third"), SOON)

    run_async(calls())
    assert began == ["first", "third"]


@pytest.mark.parametrize("times", [1, 2])
def test_a_child_that_somebody_else_set_going_has_ended_when_its_parent_gave_it_up(journal, run_async, times):
    began = threading.Event()

    @durable.workflow(id="child")
    async def child():
        began.set()
        await asyncio.sleep(SOON)

    @durable.workflow
    async def parent():
        child.start()
        await asyncio.to_thread(began.wait, SOON)
        call = asyncio.create_task(child())
        active = journal.engine._runtime.active["child"]
        await asyncio.to_thread(wait_until, lambda: active.caller)  # it has called the run
        for _ in range(times):
            call.cancel()
            await asyncio.sleep(0)
        await asyncio.wait([call])
        assert call.cancelled()
        return durable.get("child").status

    assert run_async(parent()) == "cancelled"

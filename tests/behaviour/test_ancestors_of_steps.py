"""DESIGN: "An id of an ancestor of the calling run is an error", wherever a step calls it, and whoever set it going."""

import asyncio
import threading

import pytest

import durable
from durable import RunConflictError
from tests.behaviour.patience import wait_until

SOON = 20.0
WAITS = "is waiting for this call"
CANNOT_END = "is waiting for this: nothing can wait for the result of a run that waits for it"


def called(step):
    """The ways in which the step of a sync run is called."""
    timed = step.with_options(timeout=600)
    return {
        "directly": step,
        "with a timeout": timed,
        "submitted": lambda: step.submit().result(),
        "submitted with a timeout": lambda: timed.submit().result(),
        "mapped": lambda: step.map([None])[0],
    }


WAYS = ["directly", "with a timeout", "submitted", "submitted with a timeout", "mapped"]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("what", ["call", "wait"])
def test_a_step_can_neither_call_the_run_that_waits_for_it_nor_wait_for_its_result(journal, how, what):
    @durable.step(retry=None)
    def step(_=None):
        return flow() if what == "call" else durable.get("a").result(SOON)

    @durable.workflow(id="a")
    def flow():
        return called(step)[how]()

    with pytest.raises(RunConflictError, match=WAITS if what == "call" else CANNOT_END):
        flow.start().result(SOON)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("then", ["calls", "waits", "waits in a step", "calls in a step", "has a child"])
def test_nor_does_a_run_that_is_called_in_a_step(journal, how, then):
    """Through several levels: a step calls a workflow, which calls or whose step does."""

    @durable.step(retry=None)
    def calls_inner(_=None):
        return inner()

    @durable.step(retry=None)
    def calls_flow(_=None):
        return flow()

    @durable.step(retry=None)
    def waits(_=None):
        return durable.get("a").result(SOON)

    @durable.workflow
    def child():
        return called(calls_flow)[how]()

    @durable.workflow
    def inner():
        match then:
            case "calls":
                return flow()
            case "waits":
                return durable.get("a").result(SOON)
            case "waits in a step":
                return called(waits)[how]()
            case "calls in a step":
                return called(calls_flow)[how]()
        return child()

    @durable.workflow(id="a")
    def flow():
        return called(calls_inner)[how]()

    with pytest.raises(RunConflictError, match=CANNOT_END if "waits" in then else WAITS):
        flow.start().result(SOON)
    ended = {run.workflow.rpartition(".")[2]: run.status for run in durable.runs()}
    assert set(ended.values()) == {"failed"}
    assert set(ended) == {"flow", "inner", "child"} - ({"child"} if then != "has a child" else set())


@pytest.mark.parametrize(
    "how", ["directly", "in a task", "with a timeout", "through a run", "in a run", "in a task of a run"]
)
@pytest.mark.parametrize("what", ["call", "wait"])
def test_an_async_step_neither(journal, how, what):
    @durable.step(retry=None)
    async def step():
        return await (flow() if what == "call" else durable.get("a"))

    @durable.workflow
    async def inner():
        match how:
            case "in a run":
                return await step.function()
            case "in a task of a run":
                return await asyncio.create_task(step())
        return await step()

    @durable.step(retry=None)
    async def calls_inner():
        return await inner()

    @durable.workflow(id="a")
    async def flow():
        match how:
            case "directly":
                return await step()
            case "in a task":
                return await asyncio.create_task(step())
            case "with a timeout":
                return await step.with_options(timeout=600)()
        return await calls_inner()

    with pytest.raises(RunConflictError, match=WAITS if what == "call" else CANNOT_END):
        flow.start().result(SOON)


@pytest.mark.parametrize("what", ["call", "wait"])
def test_a_step_in_a_thread_of_an_async_run_neither(journal, what):
    @durable.step(retry=None)
    def step():
        return asyncio.run(flow()) if what == "call" else durable.get("a").result(SOON)

    @durable.workflow(id="a")
    async def flow():
        return await asyncio.to_thread(step)

    with pytest.raises(RunConflictError, match=WAITS if what == "call" else CANNOT_END):
        flow.start().result(SOON)


def test_start_in_a_step_returns_the_handle_of_the_run_that_waits_for_it(journal):
    @durable.step(retry=None)
    def step():
        return flow.start().status

    @durable.workflow(id="a")
    def flow():
        return step.submit().result()

    assert flow.start().result(SOON) == "running"


def test_what_is_called_in_a_step_is_a_run_of_its_own(journal):
    """It is no child in the file, and not cancelled with the run whose step calls it."""

    @durable.workflow(id="own")
    def own():
        begun.set()
        assert may_end.wait(SOON)
        return 7

    @durable.step(retry=None)
    def step():
        return own()

    @durable.workflow(id="a")
    def flow():
        step.submit().result()
        step()

    begun, may_end = threading.Event(), threading.Event()
    run = flow.start()
    assert begun.wait(SOON)
    run.cancel()
    may_end.set()
    with pytest.raises(durable.RunCancelledError):
        run.result(SOON)
    own_run = durable.get("own")
    assert own_run.result(SOON) == 7
    assert own_run._record().parent is None


def test_a_run_that_a_step_has_started_may_wait_for_the_run_of_that_step(journal):
    @durable.workflow(id="later")
    def later():
        return reads.submit().result() + flow()

    @durable.step(retry=None)
    def reads():
        return durable.get("a").result(SOON)

    @durable.step(retry=None)
    def starts():
        later.start()
        return 3

    @durable.workflow(id="a")
    def flow():
        return starts()

    assert flow.start().result(SOON) == 3
    assert durable.get("later").result(SOON) == 6


def test_a_run_that_was_started_in_a_run_may_wait_for_it_in_a_step(journal):
    @durable.step(retry=None)
    def reads():
        return durable.get("a").result(SOON)

    @durable.workflow(id="watcher")
    def watcher():
        return reads()

    @durable.workflow(id="a")
    def flow():
        watcher.start()
        return 3

    assert flow.start().result(SOON) == 3
    assert durable.get("watcher").result(SOON) == 3


def test_what_a_step_leaves_behind_may_wait_for_its_run(journal, run_async):
    left = []

    async def watch():
        await has_ended.wait()
        return await durable.get("a"), await flow()

    @durable.step(retry=None)
    async def leaves():
        left.append(asyncio.create_task(watch()))

    @durable.workflow(id="a")
    async def flow():
        await leaves()
        has_ended.set()
        await asyncio.sleep(0.05)
        return 3

    async def main():
        nonlocal has_ended
        has_ended = asyncio.Event()
        return await flow(), await left[0]

    has_ended = None
    assert run_async(main()) == (3, (3, 3))


def test_so_may_a_thread_that_a_timeout_has_given_up(journal):
    values = []

    @durable.step(retry=None, timeout=0.05)
    def late():
        assert given_up.wait(SOON)
        values.append((durable.get("a").result(SOON), flow()))
        has_ended.set()

    @durable.workflow(id="a")
    def flow():
        with pytest.raises(durable.StepTimeoutError):
            late()
        given_up.set()
        return 3

    given_up, has_ended = threading.Event(), threading.Event()
    assert flow() == 3
    assert has_ended.wait(SOON)
    assert values == [(3, 3)]


def test_without_an_id_such_a_call_is_a_new_run(journal):
    """Though the run that waits for it has the same inputs, and was set going by `resume()`."""

    @durable.step(retry=None)
    def calls(number: int):
        return flow(number)

    @durable.workflow
    def flow(number: int):
        runs.append(durable.info().run_id)
        if len(set(runs)) > 1:
            return number
        journal.crash()
        return calls.submit(number).result() + 1

    runs = []
    with pytest.raises(KeyboardInterrupt):
        flow(5)
    journal.restart()
    (resumed,) = durable.resume()
    assert resumed.result(SOON) == 6
    assert flow(5) == 6, "the next call of the program claims the run that resume() has set going"
    assert len(set(runs)) == 2


def test_an_id_in_another_journal_is_another_run(journal, tmp_path):
    """But who waits is known across journals too."""

    @durable.step(retry=None)
    def elsewhere():
        with durable.Engine(tmp_path / "other.db"):
            return flow("ends"), flow.with_options(id="b")("goes back")

    @durable.step(retry=None)
    def back():
        with pytest.raises(RunConflictError, match=CANNOT_END):
            journal.engine.get("a").result(SOON)
        return "refused"

    @durable.workflow(id="a")
    def flow(how):
        match how:
            case "goes elsewhere":
                return elsewhere.submit().result()
            case "goes back":
                return back.submit().result()
        return "ended"

    assert flow.start("goes elsewhere").result(SOON) == ("ended", "refused")


@pytest.mark.parametrize("ends_by", ["a crash", "a suspension"])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_child_that_was_set_going_anew_cannot_call_who_waits_for_it(journal, is_async, ends_by):
    """The oldest goes first at `resume()`, and is suspended by the time that its child goes on."""
    names = ("parent", "child")

    def stops():
        if ends_by == "a crash":
            journal.crash()

    @durable.step(retry=None)
    def nap():
        stops()

    if is_async:

        @durable.workflow(name="child", id="child")
        async def child():
            nap()
            await durable.aio.sleep(1.2)
            return await parent()

        @durable.workflow(name="parent", id="parent")
        async def parent():
            return await child.start()
    else:

        @durable.workflow(name="child", id="child")
        def child():
            nap()
            durable.sleep(1.2)
            return parent()

        @durable.workflow(name="parent", id="parent")
        def parent():
            return child.start().result()

    parent.start()
    if ends_by == "a crash":
        wait_until(lambda: any(run.id == "child" and run.steps() for run in durable.runs()))
        journal.restart()
        durable.resume()
    for name in names:
        with pytest.raises(RunConflictError, match=WAITS):
            durable.get(name).result(SOON)

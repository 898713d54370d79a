"""DESIGN, "Interrupts", and errors that are not interrupts: what a run is after each."""

import asyncio
import contextlib
import contextvars
import gc
import signal
import threading
import time

import pytest

import durable
from durable import RetryPolicy, RunInterruptedError, _threads
from tests.behaviour.patience import PATIENCE, wait_until


def is_being_closed(engine):
    """Whether all that executes has been told to begin nothing more."""
    return all(active.execution.halted is not None for active in engine._runtime.active.values())


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["body", "step", "child", "step with a timeout"])
def test_interrupt_leaves_the_run_interrupted_never_failed(journal, interrupt, where):
    armed, calls = True, []

    def strike(place):
        if armed and where == place:
            raise interrupt

    @durable.step
    def first():
        calls.append("first")

    @durable.step(retry=None)
    def second():
        calls.append("second")
        strike("step")
        return 5

    @durable.step(retry=None, timeout=5)
    def third():
        strike("step with a timeout")

    @durable.workflow
    def child():
        strike("child")

    @durable.workflow(id="run")
    def flow():
        first()
        value = second()
        third()
        child()
        strike("body")
        return value

    with pytest.raises(interrupt):
        flow()
    assert durable.get("run").status == "interrupted"
    assert durable.get("run").error is None
    if where == "child":
        assert [run.status for run in durable.runs()] == ["interrupted"] * 2
    journal.restart()
    armed = False
    assert durable.get("run").status == "interrupted"
    assert flow() == 5
    assert calls.count("first") == 1
    assert calls.count("second") == (2 if where == "step" else 1)


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["body", "step", "branch"])
def test_interrupt_leaves_an_async_run_interrupted(journal, run_async, interrupt, where):
    import asyncio

    armed, calls = True, []

    def strike(place):
        if armed and where == place:
            raise interrupt

    @durable.step
    async def first():
        calls.append("first")

    @durable.step(retry=None)
    async def second():
        strike("step")
        return 5

    async def branch():
        await first()
        strike("branch")

    @durable.workflow(id="run")
    async def flow():
        await first()
        value = await second()
        await asyncio.gather(branch(), branch())
        strike("body")
        return value

    with pytest.raises(interrupt):
        run_async(flow())
    assert durable.get("run").status == "interrupted"
    journal.restart()
    armed = False
    assert run_async(flow()) == 5
    assert durable.get("run").status == "completed"


def test_body_that_swallows_an_interrupt_calls_nothing_more_and_stays_interrupted(journal):
    calls = []

    @durable.step
    def interrupted():
        journal.crash()

    @durable.step
    def later():
        calls.append(1)

    @durable.workflow(id="run")
    def flow():
        try:
            interrupted()
        except KeyboardInterrupt:
            later()
        return "odd"

    with pytest.raises(KeyboardInterrupt):
        flow()
    assert calls == []
    assert durable.get("run").status == "interrupted"


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_operations_called_while_the_body_handles_an_interrupt_do_not_run(journal, run_async, interrupt, asynchronous):
    calls, armed = [], True

    def strike():
        if armed:
            raise interrupt

    def note(text):
        calls.append(text)

    async def note_async(text):
        calls.append(text)

    step = durable.step(name="note")(note_async if asynchronous else note)

    def flow():
        step("first")
        try:
            strike()
        finally:
            try:
                raise ValueError  # whatever the code does in between
            except ValueError:
                step("clean up")
        step("last")

    async def flow_async():
        await step("first")
        try:
            strike()
        finally:
            try:
                raise ValueError
            except ValueError:
                await step("clean up")
        await step("last")

    run = durable.workflow(id="run", name="flow")(flow_async if asynchronous else flow)

    with pytest.raises(interrupt):
        run_async(run()) if asynchronous else run()
    assert durable.get("run").status == "interrupted"
    assert calls == ["first"]
    journal.restart()
    armed = False
    run_async(run()) if asynchronous else run()
    assert calls == ["first", "clean up", "last"]


@pytest.mark.parametrize("where", ["thread", "executor", "task", "task in a task"])
def test_nor_do_those_in_threads_and_tasks_that_it_creates_meanwhile(journal, run_async, where):
    calls, armed = [], True

    @durable.step(name="note", retry=None)
    def note(text):
        calls.append(text)

    async def in_task(text, depth=1):
        await asyncio.gather(in_task(text, depth - 1)) if depth else note(text)

    async def elsewhere(text):
        if where == "thread":
            await asyncio.to_thread(note, text)
        elif where == "executor":
            await asyncio.get_running_loop().run_in_executor(None, contextvars.copy_context().run, note, text)
        else:
            await asyncio.gather(in_task(text, depth=0 if where == "task" else 1))

    @durable.workflow(id="run", name="flow")
    async def flow():
        note("first")
        try:
            if armed:
                raise KeyboardInterrupt
        finally:
            await elsewhere("clean up")
        await elsewhere("last")

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    assert durable.get("run").status == "interrupted"
    assert calls == ["first"]
    journal.restart()
    armed = False
    run_async(flow())
    assert calls == ["first", "clean up", "last"]


def test_a_body_that_was_taken_down_and_caught_that_gets_no_result(journal, run_async):
    heard = []

    @durable.step(name="strike", retry=None)
    def strike():
        raise KeyboardInterrupt

    @durable.step(name="step", retry=None)
    def step(text):
        if text == "a":
            raise ValueError

    @durable.workflow(name="child")
    def child():
        return "result"

    @durable.workflow(name="sync")
    def flow():
        run = child.start()
        run.result()
        with contextlib.suppress(KeyboardInterrupt):
            strike()
        heard.append(run.result())

    @durable.workflow(name="submitted")
    def flow_submitted():
        futures = [step.submit("a"), step.submit("b")]
        for future in futures:
            with contextlib.suppress(ValueError):
                future.result()
        with contextlib.suppress(KeyboardInterrupt):
            strike()
        for future in futures:
            with contextlib.suppress(ValueError):
                heard.append(future.result())
            heard.append("went on")

    @durable.workflow(name="async")
    async def flow_async():
        run = child.start()
        await run
        with contextlib.suppress(KeyboardInterrupt):
            strike()
        heard.append(await run)

    with pytest.raises(KeyboardInterrupt):
        flow()
    with pytest.raises(KeyboardInterrupt):
        flow_submitted()
    with pytest.raises(KeyboardInterrupt):
        run_async(flow_async())
    assert not heard


HANDLED = [
    (KeyboardInterrupt, "calls a step"),
    (SystemExit, "calls a step"),
    (SystemExit, "raises another error"),
    (KeyboardInterrupt, "returns"),
]


def handled(then, note):
    """What a body does with an interrupt: called where it handles it."""
    if then == "calls a step":
        note("clean up")
        raise AssertionError
    if then == "raises another error":
        raise ValueError
    return then


@pytest.mark.parametrize("where", ["body", "step", "child", "submitted", "submitted and forgotten"])
@pytest.mark.parametrize(("interrupt", "then"), HANDLED)
def test_the_caller_gets_the_interrupt_itself_whatever_the_body_made_of_it(journal, interrupt, where, then):
    strikes, armed, calls = interrupt(7), True, []

    @durable.step(name="note", retry=None)
    def note(text):
        calls.append(text)

    @durable.step(name="step", retry=None)
    def step():
        if armed:
            raise strikes

    @durable.workflow(name="child")
    def child():
        with contextlib.suppress(BaseException):
            step()
        note("child")

    def strike():
        if where == "submitted":
            step.submit().result()
        elif where == "submitted and forgotten":
            step.submit()
        elif where == "body" and armed:
            try:
                raise strikes
            except interrupt:
                note("here")
        else:
            (child if where == "child" else step)()

    @durable.workflow(id="run", name="flow")
    def flow():
        note("first")
        try:
            strike()
        except BaseException:
            return handled(then, note)
        note("last")
        return "done"

    with pytest.raises(interrupt) as caught:
        flow()
    assert caught.value is strikes
    assert {run.status for run in durable.runs()} == {"interrupted"}
    assert set(calls) <= {"first", "last"}
    journal.restart()
    armed = False
    assert flow() == "done"


@pytest.mark.parametrize("where", ["body", "step", "step that blocks", "child", "thread", "thread in a task"])
@pytest.mark.parametrize(("interrupt", "then"), HANDLED)
def test_so_does_the_caller_of_an_async_run(journal, interrupt, where, then):
    strikes, armed, calls = interrupt(7), True, []

    @durable.step(name="note", retry=None)
    def note(text):
        calls.append(text)

    @durable.step(name="step", retry=None)
    def step():
        if armed:
            raise strikes

    @durable.step(name="async step", retry=None)
    async def step_async():
        if armed:
            raise strikes

    @durable.workflow(name="child")
    async def child():
        with contextlib.suppress(BaseException):
            await step_async()
        note("child")

    async def in_task():
        try:
            await asyncio.to_thread(step)
        except BaseException:
            return
        note("task")

    async def strike():
        if where == "step that blocks":
            step()
        elif where == "thread":
            await asyncio.to_thread(step)
        elif where == "thread in a task":
            await asyncio.gather(in_task())
            note("gathered")
        elif where == "body" and armed:
            try:
                raise strikes
            except interrupt:
                note("here")
        else:
            await (child if where == "child" else step_async)()

    @durable.workflow(id="run", name="flow")
    async def flow():
        note("first")
        try:
            await strike()
        except BaseException:
            return handled(then, note)
        return "done"

    async def main():
        for _ in range(2):
            with contextlib.suppress(Exception):
                await flow()

    with pytest.raises(interrupt) as caught:
        asyncio.run(main())
    assert caught.value is strikes
    assert {run.status for run in durable.runs()} == {"interrupted"}
    assert calls == ["first"]
    journal.restart()
    armed = False
    assert asyncio.run(flow()) == "done"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_whoever_waits_elsewhere_for_a_run_that_handled_an_interrupt_hears_that_it_was_interrupted(
    journal, run_async, asynchronous
):
    @durable.step(name="step", retry=None)
    def step():
        raise SystemExit(7)

    def body():
        try:
            step()
        finally:
            step()

    async def body_async():
        body()

    flow = durable.workflow(name="flow")(body_async if asynchronous else body)

    @durable.workflow(name="reader")
    def reader():
        return flow.start().result()

    with pytest.raises(RunInterruptedError):
        flow.start().result(60)
    with pytest.raises(RunInterruptedError):
        reader()
    assert {run.status for run in durable.runs()} == {"interrupted"}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_run_that_begins_while_its_caller_handles_an_interrupt_is_as_any_other(journal, run_async, asynchronous):
    @durable.step
    def plain():
        return 5

    @durable.step
    async def awaited():
        return 5

    @durable.workflow
    def flow():
        return plain()

    @durable.workflow
    async def flow_async():
        return (await asyncio.gather(awaited(), asyncio.to_thread(plain)))[0]

    try:
        raise SystemExit
    except SystemExit:
        assert (run_async(flow_async()) if asynchronous else flow()) == 5


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["group", "task", "task in the background"])
def test_what_a_group_cancels_because_of_an_interrupt_is_not_cut_and_cleans_nothing_up(
    journal, run_async, interrupt, where, monkeypatch
):
    monkeypatch.setattr(_threads, "_LOOK_SECONDS", 0.01)
    calls, armed = [], True

    @durable.step(retry=None)
    async def quick(text):
        calls.append(text)

    @durable.step(retry=None)
    async def slow(text):
        await asyncio.sleep(60 if armed else 0)

    @durable.step(retry=None)
    def in_thread():
        if armed:
            struck.wait(10)

    async def waits(awaited, text):
        try:
            await awaited
        except asyncio.CancelledError:
            struck.set()
            await quick(f"clean up {text}")
            raise
        await quick(text)

    async def strikes():
        await quick("first")
        if armed:
            raise interrupt
        event.set()

    @durable.workflow(id="run")
    async def flow():
        async with asyncio.TaskGroup() as group:
            group.create_task(waits(slow("a"), "a"))
            group.create_task(waits(event.wait(), "b"))
            group.create_task(waits(asyncio.to_thread(in_thread), "c"))
            if where == "group":
                await strikes()
            else:
                group.create_task(strikes())
        return sorted(calls)

    struck, event = threading.Event(), asyncio.Event()
    if where == "task in the background":
        with pytest.raises(RunInterruptedError):
            flow.start().result(30)
    else:
        with pytest.raises(interrupt):
            run_async(flow())
    assert durable.get("run").status == "interrupted"
    assert calls == ["first"]
    assert not [step for step in durable.get("run").steps() if step.status == "failed"]
    journal.restart()
    armed, event = False, asyncio.Event()
    assert run_async(flow()) == ["a", "b", "c", "first"]


def test_waiting_parent_of_an_interrupted_child_is_interrupted(journal):
    @durable.step
    def step():
        journal.crash()

    @durable.workflow
    def child():
        step()

    @durable.workflow
    def parent():
        try:
            child()
        except Exception:
            return "not caught like this"
        return "done"

    with pytest.raises(KeyboardInterrupt):
        parent()
    assert [run.status for run in durable.runs()] == ["interrupted"] * 2
    journal.restart()
    assert parent() == "done"


def test_interrupt_in_a_background_run_leaves_it_interrupted(journal):
    calls = []

    @durable.workflow
    def flow():
        calls.append(1)
        raise SystemExit

    run = flow.start()
    with pytest.raises(RunInterruptedError):
        run.result(60)
    assert run.status == "interrupted"
    assert len(calls) <= 2


def test_interrupt_in_an_async_background_run_leaves_it_interrupted_and_the_others_going(journal):
    import asyncio

    @durable.workflow
    async def exits():
        raise SystemExit

    @durable.workflow
    async def lives():
        await asyncio.sleep(0.05)
        return 5

    other, run = lives.start(), exits.start()
    with pytest.raises(RunInterruptedError):
        run.result(60)
    assert other.result(60) == 5
    assert run.status == "interrupted"


@pytest.mark.parametrize("holds", ["nothing", "a lock"])
@pytest.mark.parametrize("loop", ["the engine's", "the caller's"])
def test_interrupt_in_a_task_lets_no_other_task_of_the_run_call_anything(journal, run_async, loop, holds):
    calls = []

    @durable.step
    async def step(task: str):
        calls.append(task)

    async def first(lock: asyncio.Lock):
        if holds == "a lock":
            async with lock:
                await step("first")
                raise SystemExit
        raise SystemExit

    async def second(lock: asyncio.Lock):
        async with lock:
            await step("second")

    @durable.workflow(id="flow")
    async def flow():
        lock = asyncio.Lock()
        await asyncio.gather(first(lock), second(lock))

    if loop == "the engine's":
        with pytest.raises(RunInterruptedError):
            flow.start().result(60)
    else:
        with pytest.raises(SystemExit):
            run_async(flow())
    assert "second" not in calls
    assert durable.get("flow").status == "interrupted"
    assert [info.branch for info in durable.get("flow").steps()] == ["/first:0"] * (holds == "a lock")


def test_interrupt_in_a_run_just_when_the_loop_is_told_to_stop_leaves_what_the_loop_has_yet_to_do(journal, monkeypatch):
    begun, broken, ended = threading.Event(), [], []
    monkeypatch.setattr(threading, "excepthook", broken.append)

    @durable.workflow
    async def other():
        await asyncio.sleep(0.2)
        ended.append("other")

    @durable.workflow
    async def flow():
        begun.set()
        while not loop_thread._stopping:
            time.sleep(0.001)  # noqa: ASYNC251 - the loop is not to hear of it
        time.sleep(0.05)  # noqa: ASYNC251 - by now it is told
        raise SystemExit

    other.start()
    scheduler = journal.engine._scheduler
    loop_thread, scheduler._loop_thread = scheduler._loop_thread, None  # it is stopped here, and not by the engine
    flow.start()
    assert begun.wait(60)
    loop_thread.stop()
    loop_thread._thread.join(60)
    assert (broken, ended) == ([], ["other"])


# -- close -------------------------------------------------------------------------------------------------------------


def test_close_lets_the_step_in_flight_end_and_be_journaled(journal):
    begun, calls = threading.Event(), []

    @durable.step
    def slow():
        calls.append("slow")
        begun.set()
        wait_until(lambda: is_being_closed(journal.engine))
        return 5

    @durable.step
    def later():
        calls.append("later")
        return 6

    @durable.workflow
    def flow():
        return slow(), later()

    run = flow.start()
    assert begun.wait(60)
    durable.close()
    assert calls == ["slow"]
    journal.restart()
    run = durable.get(run.id)
    assert run.status == "interrupted"
    assert [(step.name, step.output) for step in run.steps()] == [(slow.name, 5)]
    assert run.result() == (5, 6)
    assert calls == ["slow", "later"]


def test_close_lets_the_async_step_in_flight_end_and_be_journaled(journal):
    import asyncio

    begun, calls = threading.Event(), []

    @durable.step
    async def slow():
        calls.append("slow")
        begun.set()
        while not is_being_closed(journal.engine):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.001)
        return 5

    @durable.step
    async def later():
        calls.append("later")
        return 6

    @durable.workflow
    async def flow():
        return await slow(), await later()

    run = flow.start()
    assert begun.wait(60)
    durable.close()
    assert calls == ["slow"]
    journal.restart()
    run = durable.get(run.id)
    assert [(step.name, step.output) for step in run.steps()] == [(slow.name, 5)]
    assert run.result() == (5, 6)


@pytest.mark.parametrize("how", ["submit", "map"])
def test_close_lets_steps_in_flight_of_an_interrupted_call_end_and_be_journaled(journal, how):
    """Ctrl-C in the main thread, while steps are at work on threads of the engine."""
    begun, heard = threading.Barrier(3), threading.Event()
    calls = []

    @durable.step
    def slow(n):
        calls.append(n)
        if journal.crashing:
            begun.wait(60)
            wait_until(lambda: journal.engine._closed)
        return n

    @durable.workflow(id="run")
    def flow():
        if how == "map":
            return slow.map([1, 2])
        first, second = slow.submit(1), slow.submit(2)
        if journal.crashing:
            begun.wait(60)
            raise KeyboardInterrupt
        return [first.result(), second.result()]

    def strike():
        begun.wait(60)
        while not heard.wait(1.0):  # Python notices one that comes just before a wait with the next
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    if how == "map":
        threading.Thread(target=strike).start()
    with pytest.raises(KeyboardInterrupt):
        flow()
    heard.set()
    journal.restart()
    run = durable.get("run")
    assert run.status == "interrupted"
    assert [step.output for step in run.steps() if step.name == slow.name] == [1, 2]
    assert flow() == [1, 2]
    assert sorted(calls) == [1, 2]


@pytest.mark.parametrize("waits_for", ["a map", "a time", "a step with a timeout"])
def test_ctrl_c_in_the_moment_in_which_a_run_begins_to_wait_is_what_its_caller_gets(journal, monkeypatch, waits_for):
    """`threading.Event` has let go of its lock then, and fails of that."""
    release, armed, struck = threading.Condition._release_save, [], threading.Event()

    def release_and_strike(condition):
        state = release(condition)
        if armed and threading.current_thread() is threading.main_thread():
            armed.clear()
            struck.set()
            raise KeyboardInterrupt
        return state

    @durable.step(retry=None, timeout=PATIENCE if waits_for == "a step with a timeout" else None)
    def work(item):
        assert struck.wait(PATIENCE)

    @durable.workflow(id="run")
    def flow():
        armed.append(True)
        if waits_for == "a map":
            work.map([1, 2])
        elif waits_for == "a time":
            durable.sleep(PATIENCE)
        else:
            work(1)

    monkeypatch.setattr(threading.Condition, "_release_save", release_and_strike)
    with pytest.raises(KeyboardInterrupt):
        flow()
    assert durable.get("run").status == "interrupted"


def test_what_they_still_do_is_refused_when_the_run_goes_on(journal):
    begun, go_on = threading.Event(), threading.Event()
    calls, futures = [], []

    @durable.step
    def slow():
        calls.append(len(calls) + 1)
        if calls[-1] > 1:
            return calls[-1]
        begun.set()
        go_on.wait(60)
        return 1

    @durable.workflow(id="run")
    def flow():
        future = slow.submit()
        if journal.crashing:
            futures.append(future)
            assert begun.wait(60)
            journal.crash()
        return future.result()

    with pytest.raises(KeyboardInterrupt):
        flow()
    journal.crashing = False
    assert flow() == 2
    go_on.set()
    wait_until(futures[0]._ended.is_set)
    journal.restart()
    assert flow() == 2
    assert calls == [1, 2]


def test_close_in_a_step_of_an_interrupted_run_waits_for_the_others_and_not_for_itself(journal):
    begun, engine = threading.Barrier(3), journal.engine

    @durable.step(retry=None)
    def closes():
        begun.wait(PATIENCE)
        wait_until(lambda: "run" not in engine._runtime.active)
        before = time.monotonic()
        engine._scheduler.stop(PATIENCE)
        took.append(time.monotonic() - before)
        engine.close()

    @durable.step(retry=None)
    def other():
        begun.wait(PATIENCE)
        wait_until(engine._runtime.is_closed)
        return "ended"

    @durable.workflow(id="run")
    def flow():
        submitted.extend([closes.submit(), other.submit()])
        begun.wait(PATIENCE)
        journal.crash()

    took, submitted = [], []
    with pytest.raises(KeyboardInterrupt):
        flow()
    for future in submitted:
        assert future._ended.wait(PATIENCE)
    journal.restart()
    run = durable.get("run")
    assert run.status == "interrupted"
    assert [(step.status, step.output) for step in run.steps()] == [("running", None), ("completed", "ended")]
    assert took[0] < PATIENCE / 2


def test_close_lets_no_submitted_step_begin_that_waits_for_a_thread(tmp_path):
    begun, calls = threading.Event(), []
    engine = durable.open(tmp_path / "one.db", threads=1)

    @durable.step
    def slow(n):
        calls.append(n)
        begun.set()
        wait_until(lambda: is_being_closed(engine))
        return n

    @durable.workflow(id="run")
    def flow():
        return slow.map([1, 2, 3])

    with engine:
        flow.start()
        assert begun.wait(60)
    with durable.open(tmp_path / "one.db"):
        assert [step.output for step in durable.get("run").steps() if step.name == slow.name] == [1]
        assert durable.get("run").status == "interrupted"
    assert calls == [1]


def test_ctrl_c_while_close_waits_for_a_step_in_flight_ends_the_wait_and_all_else(journal, monkeypatch):
    begun, go_on, heard = threading.Event(), threading.Event(), []
    engine, stop = journal.engine, journal.engine._scheduler.stop
    monkeypatch.setattr(engine._scheduler, "stop", lambda seconds=PATIENCE: stop(seconds))

    @durable.step(retry=None)
    def slow():
        begun.set()
        go_on.wait(PATIENCE)

    @durable.workflow(id="run")
    def flow():
        slow()

    def wait():
        try:
            durable.get("run").result()
        except BaseException as error:
            heard.append(type(error))

    def strike():
        wait_until(engine._runtime.is_closed)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    flow.start()
    assert begun.wait(PATIENCE)
    waiting = threading.Thread(target=wait)
    waiting.start()
    wait_until(engine._runtime.watchers.are_there)
    threading.Thread(target=strike).start()
    with pytest.raises(KeyboardInterrupt):
        engine.close()
    waiting.join(PATIENCE)
    assert heard == [RunInterruptedError]
    journal.restart()
    assert durable.get("run").status == "interrupted"
    go_on.set()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_close_does_not_wait_for_a_back_off(journal, asynchronous):
    failed = threading.Event()

    if asynchronous:

        @durable.step(retry=RetryPolicy(initial_interval=60))
        async def flaky():
            failed.set()
            raise ValueError

        @durable.workflow
        async def flow():
            await flaky()
    else:

        @durable.step(retry=RetryPolicy(initial_interval=60))
        def flaky():
            failed.set()
            raise ValueError

        @durable.workflow
        def flow():
            flaky()

    run = flow.start()
    assert failed.wait(60)
    wait_until(lambda: run.steps()[0].status == "retrying")
    before = time.monotonic()
    durable.close()
    assert time.monotonic() - before < 30  # and not for the minute of the back-off
    journal.restart()
    assert durable.get(run.id).status in {"waiting", "interrupted"}  # suspended already, or not yet


def test_result_raises_run_interrupted_error_when_the_engine_closes_meanwhile(journal):
    begun = threading.Event()

    @durable.step(retry=RetryPolicy(initial_interval=60))
    def flaky():
        begun.set()
        raise ValueError

    @durable.workflow
    def flow():
        flaky()

    run = flow.start()
    assert begun.wait(60)
    watchers = journal.engine._runtime.watchers

    def close_once_somebody_waits():
        wait_until(watchers.are_there)
        journal.engine.close()

    threading.Thread(target=close_once_somebody_waits).start()
    with pytest.raises(RunInterruptedError, match=run.id):
        run.result(60)


def test_caller_on_another_thread_is_interrupted_by_close(journal):
    begun, caught = threading.Event(), []

    @durable.step(retry=RetryPolicy(initial_interval=60))
    def flaky():
        begun.set()
        raise ValueError

    @durable.workflow
    def flow():
        flaky()

    def target():
        try:
            flow()
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    assert begun.wait(60)
    time.sleep(0.02)
    durable.close()
    thread.join(60)
    assert [type(error) for error in caught] == [RunInterruptedError]
    journal.restart()
    assert durable.runs()[0].status == "interrupted"


def test_async_run_that_was_just_set_going_is_not_left_on_the_loop_that_close_ends(journal):
    @durable.workflow
    async def flow():
        pass

    flow.start().result()
    loop = journal.engine._scheduler._loop_thread.loop
    gate = threading.Event()
    loop.call_soon_threadsafe(gate.wait)
    flow.start()
    closer = threading.Thread(target=journal.engine.close)
    closer.start()
    while len(loop._ready) < 2:  # the run, and the end of the loop
        time.sleep(0.001)
    gate.set()
    closer.join()
    gc.collect()  # warns of a coroutine that was never awaited, which is an error here


def test_queued_runs_that_close_finds_stay_queued(journal):
    journal.engine.close()
    engine = durable.open(journal.path, threads=1)
    begun, end = threading.Event(), threading.Event()

    @durable.workflow
    def flow(n):
        begun.set()
        if n == 0:
            end.wait(60)
        return n

    first = flow.start(0)
    assert begun.wait(60)
    others = [flow.start(n) for n in (1, 2)]
    assert [run.status for run in others] == ["queued"] * 2
    threading.Timer(0.05, end.set).start()
    engine.close()
    journal.restart()
    assert durable.get(first.id).status in {"completed", "interrupted"}
    assert [durable.get(run.id).status for run in others] == ["queued"] * 2
    assert {run.id for run in durable.resume(wait=True)} >= {run.id for run in others}
    assert [durable.get(run.id).result() for run in others] == [1, 2]


@pytest.mark.parametrize(
    "asks", ["in a sync step", "in a sync step with a timeout", "in an async step", "in a group in an async step"]
)
def test_step_that_finds_the_engine_closed_is_interrupted_by_that_and_has_not_failed(journal, asks):
    begun = threading.Event()
    found = []

    def ask():
        """As long as it is open, in a life that is going to be closed."""
        begun.set()
        while True:
            found.append(durable.get(durable.info().run_id).status)
            if not journal.crashing:
                return "asked"
            time.sleep(0.001)

    async def ask_in_group():
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(asyncio.to_thread(ask))
        return asked.result()

    if "async" in asks:

        @durable.step(retry=None)
        async def step():
            return await (ask_in_group() if "group" in asks else asyncio.to_thread(ask))

        @durable.workflow(id="flow")
        async def flow():
            return await step()

    else:
        step = durable.step(retry=None, timeout=60 if "timeout" in asks else None)(ask)

        @durable.workflow(id="flow")
        def flow():
            return step()

    flow.start()
    assert begun.wait(60)
    journal.restart()
    run = durable.get("flow")
    assert (run.status, [(step.status, step.attempt) for step in run.steps()]) == ("interrupted", [("running", 1)])
    durable.resume(wait=True)
    assert run.result(60) == "asked"
    assert [(step.status, step.attempt) for step in run.steps()] == [("completed", 2)]


def test_step_that_waits_for_a_run_which_close_interrupts_is_interrupted_too(journal):
    begun = threading.Event()

    @durable.step(retry=RetryPolicy(initial_interval=0.01, backoff_coefficient=1, maximum_attempts=0))
    def flaky():
        begun.set()
        if journal.crashing:
            raise ValueError

    @durable.workflow(id="other")
    def other():
        flaky()
        return "done"

    @durable.step(retry=None)
    def step():
        return durable.get("other").result()

    @durable.workflow(id="flow")
    def flow():
        return step()

    other.start()
    flow.start()
    assert begun.wait(60)
    wait_until(lambda: durable.get("flow").steps())
    journal.restart()
    assert [step.status for step in durable.get("flow").steps()] == ["running"]
    durable.resume(wait=True)
    assert durable.get("flow").result(60) == "done"


# -- BaseExceptions that are outcomes ----------------------------------------------------------------------------------


def test_error_of_the_body_fails_the_run_as_itself(journal):
    class Odd(Exception):
        pass

    @durable.workflow(id="run")
    def flow():
        raise Odd("a", 1) from KeyError("k")

    with pytest.raises(Odd) as caught:
        flow()
    assert caught.value.args == ("a", 1)
    assert type(caught.value.__cause__) is KeyError
    run = durable.get("run")
    assert run.status == "failed"
    assert run.error.args == ("a", 1)
    assert run.finished_at >= run.created_at


def test_whoever_waits_for_a_run_whose_loop_stands_still_hears_that_the_engine_was_closed(journal):
    """Ctrl-C came out of a loop that nobody runs again, so that the run there never comes to its end."""
    waits, heard = threading.Event(), []

    @durable.step
    async def work():
        await asyncio.to_thread(waits.wait, PATIENCE)
        raise KeyboardInterrupt

    @durable.workflow(id="run")
    async def flow():
        await asyncio.gather(work(), work())

    def other():
        try:
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(flow())
        except durable.RunInterruptedError as error:
            heard.append(str(error))

    thread, loop = threading.Thread(target=other), asyncio.new_event_loop()
    loop.call_later(0.05, thread.start)
    loop.call_later(0.25, waits.set)
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(flow())
    journal.engine.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    loop.close()
    assert heard == ["run run was interrupted: the engine was closed"]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_tasks_of_a_run_that_close_interrupts_are_no_errors_that_nobody_looked_at(
    journal, run_async, caplog, asynchronous
):
    gc.collect()
    caplog.clear()  # asyncio says of what other tests have dropped that it was pending
    begun = threading.Semaphore(0)

    @durable.workflow
    async def child():
        begun.release()
        await asyncio.Event().wait()  # held in memory, and not suspended

    @durable.workflow
    async def flow():
        tasks = [asyncio.create_task(child()) for _ in range(3)]
        for first in asyncio.as_completed(tasks):
            await first

    async def on_this_loop():
        async with durable.open(journal.path):
            run = flow.start()
            for _ in range(3):
                assert await asyncio.to_thread(begun.acquire, timeout=PATIENCE)
        return run

    if asynchronous:
        run = run_async(on_this_loop())
    else:
        run = flow.start()
        for _ in range(3):
            assert begun.acquire(timeout=PATIENCE)
        durable.close()
    gc.collect()
    assert run.status == "interrupted"
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


# -- whose event loop was closed in the middle -------------------------------------------------------------------------


def begun_on_a_loop_that_is_closed(flow, begun):
    loop = asyncio.new_event_loop()
    task = loop.create_task(flow())
    loop.run_until_complete(asyncio.wait_for(begun(), PATIENCE))
    assert not task.done()
    loop.close()
    return task


LEAVES = {
    "task": lambda wait: wait(),
    "child_task": lambda wait: asyncio.gather(wait(), asyncio.sleep(0)),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("leave", LEAVES)
@pytest.mark.parametrize("awaits", [False, True])
@pytest.mark.parametrize("where", ["in a run", "outside"])
def test_what_is_left_of_a_run_whose_loop_was_closed_calls_nothing_when_it_is_collected(
    journal, run_async, leave, awaits, where
):
    """Neither for the run in which that happens, nor as a plain function."""
    ran, begun = [], asyncio.Event()

    @durable.step(name="note")
    async def note(what: str) -> None:
        ran.append(what)

    @durable.workflow(name="left", id="left")
    async def left() -> None:
        async def wait() -> None:
            try:
                begun.set()
                await asyncio.Event().wait()
            finally:
                try:
                    if awaits:
                        await asyncio.Event().wait()
                finally:
                    await note("clean-up")

        await LEAVES[leave](wait)

    @durable.workflow(name="other", id="other")
    async def other() -> None:
        await note("before")
        gc.collect()
        await note("after")

    begun_on_a_loop_that_is_closed(left, begun.wait)
    journal.restart()
    if where == "outside":
        gc.collect()
        assert ran == []
    else:
        run_async(other())
        assert ran == ["before", "after"]
        assert [step.name for step in durable.get("other").steps()] == ["note", "note"]
    assert durable.get("left").steps() == []
    assert durable.get("left").status == "interrupted"


def test_what_is_left_of_a_run_on_the_loop_of_a_closed_engine_calls_nothing_when_it_is_collected(journal):
    ran, begun = [], threading.Event()

    @durable.step(name="note")
    async def note() -> None:
        ran.append("clean-up")

    @durable.workflow(name="left", id="left")
    async def left() -> None:
        try:
            begun.set()
            while True:  # whoever cancels it
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
        finally:
            await note()

    left.start()
    assert begun.wait(PATIENCE)
    thread = journal.engine._scheduler._loop_thread._thread
    journal.engine._scheduler.stop(0.01)
    thread.join(PATIENCE)
    journal.restart()
    gc.collect()
    assert ran == durable.get("left").steps() == []


def test_close_waits_for_no_clean_up_without_end_of_a_run_whose_loop_was_closed(journal):
    begun, waits, most = asyncio.Event(), [], 100_000

    async def without_end() -> None:
        begun.set()
        while len(waits) < most:
            with contextlib.suppress(BaseException):
                waits.append(1)
                await asyncio.sleep(0)

    @durable.workflow(id="left")
    async def left() -> None:
        await asyncio.create_task(without_end())

    begun_on_a_loop_that_is_closed(left, begun.wait)
    waits.clear()
    journal.engine.close()
    most, waited = 0, len(waits)
    gc.collect()  # here, where it ends
    assert 1 < waited < 1_000
    journal.restart()
    assert durable.get("left").status == "interrupted"


def test_ctrl_c_in_the_clean_up_of_a_run_whose_loop_was_closed_gets_out_of_close(journal):
    begun = asyncio.Event()

    @durable.workflow(id="left")
    async def left() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            journal.crash()

    begun_on_a_loop_that_is_closed(left, begun.wait)
    with pytest.raises(KeyboardInterrupt):
        journal.engine.close()
    journal.restart()
    assert durable.get("left").status == "interrupted"


@pytest.mark.parametrize("waits", ["result", "await", "event"])
def test_a_run_whose_loop_was_closed_is_set_going_by_who_waits_for_it(journal, run_async, waits):
    """In the thread of that loop too, which no longer executes it, and may wait for an event as well."""
    begun, is_there = asyncio.Event(), [False]

    @durable.workflow(id="left")
    async def left() -> str:
        begun.set()
        if not is_there[0]:
            await asyncio.Event().wait()
        return "done"

    async def result() -> str:
        return await durable.get("left")

    begun_on_a_loop_that_is_closed(left, begun.wait)
    is_there[0] = True
    assert durable.get("left").status == "interrupted"
    if waits == "event":
        with pytest.raises(TimeoutError, match="did not set event 'shown' within"):
            durable.get("left").event("shown", timeout=0.01)
    assert (run_async(result()) if waits == "await" else durable.get("left").result(PATIENCE)) == "done"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_who_waits_for_a_run_that_goes_on_hears_nothing_of_what_is_collected_of_its_closed_loop(journal):
    begun, goes_on, end, results = asyncio.Event(), threading.Event(), threading.Event(), []

    @durable.workflow(id="left")
    async def left() -> str:
        if begun.is_set():
            goes_on.set()
            await asyncio.to_thread(end.wait, PATIENCE)
            return "done"
        begun.set()
        return await asyncio.Event().wait()

    def wait() -> None:
        results.append(durable.get("left").result(PATIENCE))

    kept = [begun_on_a_loop_that_is_closed(left, begun.wait)]
    thread = threading.Thread(target=wait)
    thread.start()
    assert goes_on.wait(PATIENCE)
    kept.clear()
    gc.collect()
    end.set()
    thread.join(PATIENCE)
    assert results == ["done"]


def test_a_run_that_was_to_begin_on_a_loop_that_is_closed_begins_on_another(journal):
    left, has_entered = threading.Event(), threading.Event()

    @durable.workflow(id="late")
    async def late() -> str:
        return "done"

    def stay() -> None:
        with journal.engine:
            has_entered.set()
            left.wait(PATIENCE)

    async def enter() -> None:
        async with journal.engine:
            other.start()
            await asyncio.to_thread(has_entered.wait, PATIENCE)
            late.start()

    other = threading.Thread(target=stay)
    asyncio.run(enter())
    try:
        assert durable.get("late").result(PATIENCE) == "done"
    finally:
        left.set()
        other.join(PATIENCE)


def test_what_a_body_leaves_behind_is_awaited_before_its_interrupt_is_raised(journal):
    ended = []

    @durable.workflow
    async def flow():
        async def beside():
            try:
                await asyncio.sleep(3600)
            finally:
                for _ in range(10):
                    await asyncio.sleep(0)
                ended.append("beside")

        task = asyncio.create_task(beside())
        await asyncio.sleep(0)
        journal.crash()
        await task

    with asyncio.Runner() as runner:
        with pytest.raises(KeyboardInterrupt):
            runner.get_loop().run_until_complete(flow())
        assert ended == ["beside"]

"""A run whose code was changed, and that waits for what never comes: it is blocked, and not left to wait for ever.

Whether something may still come is known by who can get at what a task waits for: its run alone, or somebody else too.
"""

import asyncio
import contextlib
import threading
import time
import weakref

import pytest

import durable
from durable import NonDeterminismError, RunInterruptedError, _branches, _past_order
from durable._task_inspection import awaited_by, held_by_these_only

KEPT = []


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(_branches, "_LATER_SECONDS", 0.05)
    yield
    KEPT.clear()


# -- what a run may wait in --------------------------------------------------------------------------------------------

WAITS = {}


def wait_in(function):
    WAITS[function.__name__] = function
    return function


@wait_in
async def gather(work):
    await asyncio.gather(work("a"), work("b"))


@wait_in
async def as_completed(work):
    tasks = [asyncio.create_task(work(name)) for name in "ab"]
    for ended in asyncio.as_completed(tasks):
        await ended


@wait_in
async def as_completed_in_time(work):
    for ended in asyncio.as_completed([asyncio.create_task(work("a"))], timeout=60):
        await ended


@wait_in
async def wait(work):
    await asyncio.wait([asyncio.create_task(work(name)) for name in "ab"], timeout=60)


@wait_in
async def wait_for(work):
    await asyncio.wait_for(asyncio.gather(work("a"), work("b")), 60)


@wait_in
async def task_group(work):
    async with asyncio.TaskGroup() as group:
        group.create_task(work("a"))


@wait_in
async def shield(work):
    await asyncio.shield(asyncio.create_task(work("a")))


@wait_in
async def event(work):
    event = asyncio.Event()

    async def sets():
        await work("a")
        event.set()

    await asyncio.gather(sets(), event.wait())


@wait_in
async def future(work):
    future = asyncio.get_running_loop().create_future()

    async def sets():
        future.set_result(await work("a"))

    task = asyncio.create_task(sets())
    await future
    await task


@wait_in
async def queue(work):
    queue = asyncio.Queue(1)

    async def puts():
        for name in "abc":
            await queue.put(await work(name))

    async def gets():
        for _ in range(3):
            await queue.get()
            queue.task_done()

    async with asyncio.timeout(60):
        await asyncio.gather(puts(), gets())
        await queue.join()


@wait_in
async def condition(work):
    condition = asyncio.Condition()
    done = []

    async def notifies():
        done.append(await work("a"))
        async with condition:
            condition.notify_all()

    async def waits():
        async with condition:
            await condition.wait_for(lambda: done)

    await asyncio.gather(notifies(), waits())


@wait_in
async def lock(work):
    lock = asyncio.Lock()

    async def locked(name):
        async with lock:
            await work(name)

    await asyncio.gather(locked("a"), locked("b"))


@wait_in
async def semaphore(work):
    class Pool:
        def __init__(self):
            self.slots = asyncio.Semaphore(1)

        async def work(self, name):
            async with self.slots:
                await work(name)

    await asyncio.gather(*map(Pool().work, "abc"))


@wait_in
async def barrier(work):
    barrier = asyncio.Barrier(2)

    async def passes(name):
        await work(name)
        await barrier.wait()

    await asyncio.gather(passes("a"), barrier.wait())


@wait_in
async def stream(work):
    ready = asyncio.Event()

    async def stream():
        yield 1
        await ready.wait()
        yield 2

    async def sets():
        await work("a")
        ready.set()

    task = asyncio.create_task(sets())
    async with contextlib.aclosing(stream()) as values:
        async for _ in values:
            pass
    await task


@wait_in
async def thread(work):
    event = asyncio.Event()

    async def sets():
        await asyncio.to_thread(blocking, "a")
        event.set()

    await asyncio.gather(sets(), event.wait())


@durable.step(name="blocking", retry=None)
def blocking(name: str) -> str:
    return name


@pytest.mark.parametrize("kind", WAITS)
def test_changed_code_that_waits_for_what_never_comes_is_blocked(journal, run_async, kind):
    ran = []

    @durable.step(name="first", retry=None)
    async def first() -> None: ...

    @durable.step(name="work", retry=None)
    async def work(name: str) -> str:
        ran.append(name)
        return name

    async def part(name):
        return await work(name)

    @durable.workflow(name="flow", id="run")
    async def flow() -> str:
        if not changed:
            await first()
        await WAITS[kind](part)
        journal.crash()
        return await work("last")

    changed = False
    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    before, ran[:] = len(durable.get("run").steps()), []
    journal.restart()
    changed = True
    with pytest.raises(NonDeterminismError, match="no task of the workflow has called step 'first'"):
        run_async(flow())
    assert len(durable.get("run").steps()) == before
    changed = False
    assert run_async(flow()) == "last"
    assert ran == ["last"]


@pytest.mark.parametrize("position", [0, 1])
def test_a_new_wait_before_anything_was_called_is_blocked(journal, run_async, position):
    @durable.step(name="work", retry=None)
    async def work() -> None: ...

    @durable.workflow(name="flow", id="run")
    async def flow() -> str:
        for number in range(2):
            if changed and number == position:
                await asyncio.Event().wait()
            await work()
        journal.crash()
        return "done"

    changed = False
    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    changed = True
    with pytest.raises(NonDeterminismError, match=f"step 'work', which the journal has at position {position}"):
        run_async(flow())
    changed = False
    assert run_async(flow()) == "done"


def test_changed_code_that_hands_no_cancellation_on_to_its_tasks_is_blocked(journal, run_async):
    @durable.step(name="first", retry=None)
    async def first() -> None: ...

    @durable.step(name="work", retry=None)
    async def work(name: str) -> str:
        return name

    async def part(name):
        return await work(name)

    @durable.workflow(name="flow", id="run")
    async def flow() -> str:
        if not changed:
            await first()
        for task in [asyncio.create_task(part(name)) for name in "abc"]:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        journal.crash()
        return "done"

    changed = False
    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    changed = True
    with pytest.raises(NonDeterminismError, match="has called step 'first'"):
        run_async(flow())
    changed = False
    assert run_async(flow()) == "done"


@pytest.mark.parametrize("kind", ["at most once", "in a thread", "timer", "signal"])
def test_what_had_begun_has_no_outcome_before_all_that_had_begun_was_called(journal, run_async, monkeypatch, kind):
    monkeypatch.setattr(_branches, "_LATER_SECONDS", 2.5 if kind == "timer" else 0.4)

    @durable.step(name="begun", retry=None)
    async def begun() -> str:
        for _ in range(1000):
            if len(durable.get("run").steps()) == 2:
                break
            await asyncio.sleep(0.01)
        threading.Timer(0.5, over.set).start()  # a thread that is let go on now would still be journaled
        journal.crash()
        return "begun"

    @durable.step(name="once", at_most_once=True)
    async def once() -> None:
        await begun.function()

    @durable.step(name="once", at_most_once=True)
    def once_in_thread() -> None:
        over.wait(30)

    async def part():
        if kind == "at most once":
            await once()
        elif kind == "in a thread":
            await asyncio.to_thread(once_in_thread)
        elif kind == "timer":
            await durable.aio.sleep(2)
        else:
            await durable.aio.wait_for_signal("word", str)

    async def beside():
        await (asyncio.Event().wait() if changed else begun())

    @durable.workflow(name="flow", id="run")
    async def flow() -> str:
        await asyncio.gather(part(), beside(), return_exceptions=True)
        return "done"

    changed, over = False, threading.Event()
    with pytest.raises((KeyboardInterrupt, RunInterruptedError)):
        run_async(flow())
    journal.restart()
    durable.get("run").signal("word", "came")
    changed = True
    with pytest.raises(NonDeterminismError, match="has called step 'begun'"):
        run_async(flow())
    assert {step.finished_at for step in durable.get("run").steps()} == {None}
    changed = False
    assert run_async(flow()) == "done"


def test_a_thread_that_is_given_up_again_does_not_count_for_a_value_that_nobody_called(journal, run_async):
    began, over, ran = threading.Event(), threading.Event(), []

    @durable.step(name="blocks", retry=None)
    def blocks() -> None:
        began.set()
        over.wait(30)

    @durable.step(name="work", retry=None)
    async def work(name: str) -> str:
        ran.append(name)
        await asyncio.to_thread(began.wait, 30)
        return name

    async def thread():
        await asyncio.to_thread(blocks)

    async def value():
        if not changed:
            durable.random()

    @durable.workflow(name="flow", id="run")
    async def flow() -> str:
        task = asyncio.create_task(thread())
        await work("a")
        task.cancel()
        await asyncio.wait([task])
        over.set()
        await asyncio.gather(value())
        await work("b")
        journal.crash()
        return await work("new")

    changed = False
    with pytest.raises((KeyboardInterrupt, RunInterruptedError)):
        run_async(flow())
    journal.restart()
    changed = True
    with pytest.raises(NonDeterminismError, match="has called durable.random"):
        run_async(flow())
    changed = False
    assert ran == ["a", "b"]
    assert run_async(flow()) == "new"


@pytest.mark.parametrize("from_outside", ["timer", "callback", "thread", "future"])
def test_a_replay_that_waits_for_somebody_outside_goes_on_when_that_comes(journal, run_async, from_outside):
    ran = []

    @durable.step(name="work", retry=None)
    async def work(name: str) -> str:
        ran.append(name)
        return name

    @durable.workflow(name="flow", id="run")
    async def flow() -> list[str]:
        loop, came = asyncio.get_running_loop(), asyncio.Event()
        seconds = 0.0 if journal.crashing else 0.4
        if from_outside == "timer":
            loop.call_later(seconds, came.set)
        elif from_outside == "callback":

            def on_message():
                came.set()

            KEPT.append(on_message)
            loop.call_later(seconds, on_message)
        else:
            threading.Timer(seconds, loop.call_soon_threadsafe, [came.set]).start()

        async def after():
            if from_outside == "future":
                await asyncio.wait([loop.run_in_executor(None, time.sleep, seconds)])
            await came.wait()
            return await work("a")

        found = await asyncio.gather(after(), beside())
        journal.crash()
        return found

    async def beside():
        await asyncio.sleep(0.02 if journal.crashing else 0)
        return await work("b")

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    assert run_async(flow()) == ["a", "b"]
    assert ran == ["a", "b"]


def test_runs_that_stand_still_leave_their_loop_to_others(journal, run_async, monkeypatch):
    """However many they are: it takes long to find out whether one of them can go on."""
    looks, worked = [], []

    @durable.step(name="work")
    async def work(number: int) -> None:
        worked.append(number)

    @durable.workflow(name="flow", id="run-{number}")
    async def flow(number: int) -> None:
        if not journal.crashing:
            await goes_on.wait()
        await work(number)
        if len(worked) == 10:
            journal.crash()
        await goes_on.wait()

    def look(roots):
        looks.append(roots)
        time.sleep(0.03)
        return held_by_these_only(roots)

    async def main(seconds: float) -> float:
        nonlocal goes_on
        goes_on, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.call_later(seconds, goes_on.set)
        began = loop.time()
        await asyncio.gather(*map(flow, range(10)))
        return loop.time() - began

    goes_on = asyncio.Event()
    with pytest.raises(KeyboardInterrupt):
        run_async(main(60))
    journal.restart()
    monkeypatch.setattr(_branches, "held_by_these_only", look)
    took = run_async(main(1.5))
    assert 1 <= len(looks) <= 1 + took * _branches._SHARE / 0.03
    assert sorted(worked) == list(range(10))


@pytest.mark.parametrize("where", ["outside", "thread"])
def test_a_replay_that_waits_for_long_says_for_what(journal, run_async, monkeypatch, caplog, where):
    monkeypatch.setattr(_past_order, "_PATIENT_LOOKS", 3)

    @durable.step(name="work", retry=None)
    async def work() -> None: ...

    @durable.step(name="in_thread", retry=None)
    def in_thread() -> None: ...

    def waits():
        in_thread()
        if not journal.crashing:
            over.wait(30)

    @durable.workflow(name="flow", id="run")
    async def flow() -> None:
        if where == "thread":
            await asyncio.to_thread(waits)
        elif not journal.crashing:
            await asyncio.get_running_loop().run_in_executor(None, over.wait, 30)
        await work()
        journal.crash()

    over = threading.Event()
    with pytest.raises((KeyboardInterrupt, RunInterruptedError)):
        run_async(flow())
    journal.restart()
    threading.Timer(0.5, over.set).start()
    run_async(flow())
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "run run of 'flow' goes on only when something comes that is not journaled" in said
    assert "has called step 'work', which the journal has at position 0" in said


def test_an_outcome_is_not_written_over_by_changed_code_that_gives_its_thread_up(journal, run_async):
    ran = []

    @durable.step(name="first", retry=None)
    async def first() -> None: ...

    @durable.step(name="in_thread", retry=None)
    def in_thread(name: str) -> str:
        ran.append(name)
        return name

    @durable.workflow(name="flow", id="run")
    async def flow() -> str:
        if changed:
            given_up = asyncio.create_task(asyncio.to_thread(in_thread, "a"))
            await asyncio.sleep(0.2)
            given_up.cancel()
            await asyncio.wait([given_up])
            return await asyncio.to_thread(in_thread, "b")
        await first()
        value = await asyncio.create_task(asyncio.to_thread(in_thread, "a"))
        journal.crash()
        return value

    changed = False
    with pytest.raises((KeyboardInterrupt, RunInterruptedError)):
        run_async(flow())
    before = [(step.name, step.status, step.output) for step in durable.get("run").steps()]
    journal.restart()
    changed = True
    with pytest.raises(NonDeterminismError, match="step 'first'"):
        run_async(flow())
    assert [(step.name, step.status, step.output) for step in durable.get("run").steps()] == before
    changed = False
    assert run_async(flow()) == "a"
    assert ran == ["a"]


# -- who can get at what a task waits for ------------------------------------------------------------------------------


def is_alone(body):
    """Whether nobody but a task can get at what it waits for in this body."""

    async def look():
        task = asyncio.ensure_future(body())
        for _ in range(10):
            await asyncio.sleep(0)
        try:
            return id(awaited_by(task)) in held_by_these_only([task])
        finally:
            task.cancel()
            await asyncio.wait([task])

    return asyncio.run(look())


def test_what_a_task_waits_in_alone_is_its_own():
    async def waits():
        await asyncio.Event().wait()

    assert is_alone(waits)


@pytest.mark.parametrize("holder", ["module", "bound method", "closure", "running frame", "handle"])
def test_what_somebody_else_has_too_is_not(holder):
    over = threading.Event()

    async def waits():
        event = asyncio.Event()
        if holder == "module":
            KEPT.append(event)
        elif holder == "bound method":
            KEPT.append(event.set)
        elif holder == "closure":

            def on_message():
                event.set()

            KEPT.append(on_message)
        elif holder == "running frame":
            handed_over, taken = [event], threading.Event()

            def holds():
                mine = handed_over.pop()
                taken.set()
                over.wait(30)
                del mine

            threading.Thread(target=holds).start()
            taken.wait(30)
        else:
            asyncio.get_running_loop().call_later(60, event.set)
        await event.wait()

    assert not is_alone(waits)
    over.set()


def test_what_is_found_by_a_weak_reference_is_not():
    """A transport finds its reader so."""

    async def waits():
        event = asyncio.Event()
        KEPT.append(weakref.ref(event))
        await event.wait()

    assert not is_alone(waits)


# -- when nobody asks ---------------------------------------------------------------------------------------------------


def test_a_run_that_was_taken_down_is_not_looked_at(journal, run_async, monkeypatch):
    """With a few hundred of them the loop would not come to anything else."""
    come, begun, is_left, looked_at = asyncio.Event(), threading.Event(), [], []

    @durable.step
    async def last():
        pass

    @durable.workflow
    async def flow():
        begun.set()
        try:
            await come.wait()
        except asyncio.CancelledError:
            is_left.append(True)
            monkeypatch.setattr(_branches, "held_by_these_only", lambda roots: looked_at.append(roots) or set())
            await asyncio.sleep(1.0)  # of asyncio: its clean-up takes a while
            raise
        await last()
        raise KeyboardInterrupt

    async def begin():
        come.set()
        async with journal.engine:
            await flow()

    async def go_on():
        async with journal.restart():
            [run] = durable.resume()
            assert await asyncio.to_thread(begun.wait, 60)
        return run

    with contextlib.suppress(KeyboardInterrupt):
        run_async(begin())
    come = asyncio.Event()
    begun.clear()
    run = run_async(go_on())
    assert is_left
    assert run.status == "interrupted"
    assert looked_at == []

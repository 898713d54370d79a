"""Ways that an async run hardly ever takes: what is cut in the middle, loops that are dropped, and late news."""

import asyncio
import contextvars
import gc
import sqlite3
import sys
import threading
import time
from contextlib import closing, suppress
from functools import partial

import pytest

import durable
from durable import RetryPolicy, _branches, _operations
from durable._drive_async import take_slot
from durable._entries import Entry
from durable._limits import Limit
from durable._running_async import LoopThread, _Write, port_of
from durable._scopes import current_branch
from durable._threads import RunThreads
from tests.behaviour.patience import PATIENCE, wait_until


@pytest.fixture
def unraisable(monkeypatch):
    said = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: said.append(unraisable.exc_value))
    return said


# -- cut in the middle --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_thread", [False, True])
@pytest.mark.parametrize("moment", ["while it is written", "before its turn"])
def test_a_signal_whose_wait_is_cut_before_its_outcome_was_delivered_is_there_for_the_next(journal, moment, in_thread):
    cut = []

    @durable.workflow(id="one")
    async def flow():
        execution = current_branch().execution
        branches = execution.branches
        if in_thread:
            task = asyncio.create_task(asyncio.to_thread(durable.wait_for_signal, "go", str))
        else:
            task = asyncio.create_task(durable.aio.wait_for_signal("go", str))
        news = (lambda: branches.new._ready) if moment == "before its turn" else (lambda: execution.reserved)
        while not news():  # noqa: ASYNC110 - the loop never rests meanwhile, so that no outcome has its turn
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        cut.append(task.cancelled())
        return await durable.aio.wait_for_signal("go", str)

    run = flow.start()
    run.signal("go", "now")
    assert run.result(PATIENCE) == "now"
    assert cut[-1]
    assert [step.status for step in run.steps()].count("completed") == 1


@pytest.mark.parametrize("waits_for", ["time", "signal"])
def test_a_wait_that_ends_in_the_turn_in_which_its_run_is_interrupted_has_no_outcome(journal, run_async, waits_for):
    def interrupt_when_it_is_over(execution):
        if any(future.done() for future in execution.branches.resting):
            execution.interrupt("in the same turn")
        elif not execution.over:
            execution.branches.loop.call_soon(interrupt_when_it_is_over, execution)

    async def wait():
        if waits_for == "time":
            await durable.aio.sleep(0.5)  # on a slow machine too it has begun to wait by then
        else:
            await durable.aio.wait_for_signal("go", str)

    @durable.workflow(id="one")
    async def flow():
        branches = current_branch().execution.branches
        waiting = asyncio.create_task(wait())
        if journal.crashing:
            interrupt_when_it_is_over(branches.execution)
            while not branches.resting and not waiting.done():  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0)
            if waits_for == "signal":
                threading.Thread(target=durable.get("one").signal, args=("go", "now")).start()  # as somebody else would
        await waiting
        return 1

    with pytest.raises(durable.RunInterruptedError):
        run_async(flow())
    assert [step.status for step in durable.get("one").steps()] == ["running"]
    journal.restart()
    assert run_async(flow()) == 1


def test_a_task_that_is_cut_by_an_interrupt_in_the_body_of_its_group_calls_nothing_more(journal, run_async):
    called = []

    @durable.step
    async def step():
        called.append("step")

    async def cut():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await step()
            raise

    @durable.workflow(id="one")
    async def flow():
        async with asyncio.TaskGroup() as group:
            task = group.create_task(cut())
            await asyncio.sleep(0)
            journal.crash()
            task.cancel()
        return 1

    with pytest.raises((KeyboardInterrupt, durable.RunInterruptedError)):
        run_async(flow())
    assert called == []
    journal.restart()
    assert durable.get("one").steps() == []


def test_a_cancellation_that_cannot_be_written_down_is_not_told(journal, run_async):
    executions = []

    @durable.workflow(id="one")
    async def flow():
        runtime, execution = journal.engine._runtime, current_branch().execution
        executions.append(execution)
        if journal.crashing:
            runtime.journal.commits.refuse(durable.JournalError("the disk failed"))
            runtime.active["one"].cancel()
            await asyncio.Event().wait()
        return 1

    with pytest.raises(durable.JournalError, match="the disk failed"):
        run_async(flow())
    assert executions[0].cancel.requested
    assert not executions[0].cancel.delivered
    journal.restart()
    assert run_async(flow()) == 1


def test_a_thread_whose_step_ends_after_the_engine_began_to_close_has_its_outcome_and_does_not_go_on(journal):
    began, go_on, bodies, went_on = threading.Event(), threading.Event(), [], []

    @durable.step(retry=None)
    def slow(number):
        bodies.append(number)
        began.set()
        assert go_on.wait(PATIENCE)
        return number

    def both():
        first = slow(1)
        went_on.append(first)
        return [first, slow(2)]

    @durable.workflow(id="one")
    async def flow():
        return await asyncio.to_thread(both)

    run = flow.start()
    assert began.wait(PATIENCE)
    engine = journal.engine
    closing = threading.Thread(target=engine.close)
    closing.start()
    wait_until(lambda: engine._runtime.is_closed() and engine._runtime.active["one"].execution.branches.is_held_up)
    go_on.set()
    closing.join(PATIENCE)
    assert bodies == [1]
    assert went_on == []
    journal.restart()
    assert durable.get("one").result(PATIENCE) == [1, 2]
    assert bodies == [1, 2]
    assert run.id == "one"


def test_a_transaction_in_a_thread_that_fails_raises_its_error(journal, run_async):
    @durable.step(transaction=True, retry=None)
    def fails():
        raise ValueError("declined")

    @durable.workflow
    async def flow():
        try:
            await asyncio.to_thread(fails)
        except ValueError as error:
            return str(error)

    assert run_async(flow()) == "declined"


def test_a_thread_that_nobody_awaits_and_that_waits_for_the_disk_is_told_that_the_run_is_over(journal, run_async):
    told, is_writing, ended = [], threading.Event(), threading.Event()

    def write_for_long(_):
        is_writing.set()
        assert ended.wait(PATIENCE)

    @durable.step(retry=None)
    def step():
        commits = journal.engine._runtime.journal.commits
        threading.Thread(target=commits.write, args=(write_for_long, False)).start()
        assert is_writing.wait(PATIENCE)

    def thread():
        try:
            step()
        except BaseException as error:
            told.append(error)
        ended.set()

    @durable.workflow(id="one")
    async def flow():
        threads = current_branch().execution.branches.threads
        asyncio.get_running_loop().run_in_executor(None, contextvars.copy_context().run, thread)
        while not (is_writing.is_set() and threads._blocked):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.001)
        return 1

    assert run_async(flow()) == 1
    assert ended.is_set()
    assert [type(error.error) for error in told] == [durable.RunInterruptedError]
    assert durable.get("one").status == "completed"


@pytest.mark.parametrize("kept", [True, False])
def test_a_task_that_was_cut_while_it_waited_for_the_end_of_a_run_holds_nobody_up_on_replay(journal, run_async, kept):
    """Whether the journal has when that end came, or was left by a version that did not write it down."""
    go_on = threading.Event()

    @durable.step
    async def step(number):
        return number

    @durable.workflow(id="child")
    def child():
        assert go_on.wait(PATIENCE)
        return 1

    @durable.workflow(id="one")
    async def flow():
        run = child.start()

        async def end():
            return await run

        task = asyncio.create_task(end())
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        go_on.set()
        number = await step(await run)
        journal.crash()
        return number

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.engine.close()
    if not kept:
        with closing(sqlite3.connect(journal.path)) as db, db:
            db.execute("DELETE FROM durable_step WHERE kind = 'timer'")
    journal.restart()
    assert run_async(flow()) == 1


@pytest.mark.parametrize("has", ["a cut", "an attempt"])
def test_a_thread_that_its_task_gives_up_while_it_calls_is_told_so(journal, run_async, monkeypatch, has):
    """On replay: between its look at what the journal has and the note that it has called it."""
    reached, given_up, told = threading.Event(), threading.Event(), []

    @durable.step
    async def after():
        pass

    @durable.step(retry=None)
    def step():
        reached.set()
        assert given_up.wait(PATIENCE)

    def thread():
        try:
            step()
        except BaseException as error:
            told.append(type(error))

    @durable.workflow
    async def flow():
        task = asyncio.create_task(asyncio.to_thread(thread))
        while not reached.is_set():  # noqa: ASYNC110 - of a thread
            await asyncio.sleep(0.001)
        if has == "an attempt" and journal.crashing:
            given_up.set()  # its outcome comes too late for this loop
            journal.crash()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        given_up.set()
        await after()  # with this it is written that the other was cut
        journal.crash()
        return 1

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    wait_until(lambda: told)
    journal.restart()
    reached.clear()
    given_up.clear()
    told.clear()
    hold_up(monkeypatch, (_operations, "_has_called"), reached, given_up)
    assert run_async(flow()) == 1
    wait_until(lambda: told)
    assert told == [asyncio.CancelledError]


def test_a_transaction_that_a_thread_calls_as_its_task_gives_it_up_is_counted_once(journal, run_async, monkeypatch):
    """What else the journal has from before is still missed, where the code was changed and does not call it."""
    reached, given_up = threading.Event(), threading.Event()

    @durable.step(retry=None, transaction=True)
    def in_thread():
        pass

    @durable.step
    def on_loop():
        pass

    @durable.step
    async def after():
        pass

    async def another():
        await after()

    @durable.workflow(id="one")
    async def flow():
        task = asyncio.create_task(asyncio.to_thread(in_thread))
        while not reached.is_set():  # noqa: ASYNC110 - of a thread
            await asyncio.sleep(0.001)
        if journal.crashing:
            on_loop()
            given_up.set()
            journal.crash()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        given_up.set()
        await asyncio.create_task(another())

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        hold_up(patch, (RunThreads, "_conclude"), reached, given_up)  # it is written, and has no turn yet
        run_async(flow())
    journal.restart()
    reached.clear()
    given_up.clear()
    hold_up(monkeypatch, (RunThreads, "_deliver"), reached, given_up)
    with pytest.raises(durable.RunBlockedError, match="has called step .*on_loop"):
        run_async(flow())


def test_an_outcome_that_a_thread_asks_for_as_its_task_gives_it_up_holds_nobody_up(journal, run_async, monkeypatch):
    """On replay: the loop has taken the call, and ends the thread's wait before it has begun."""
    other_has_ended, given_up = threading.Event(), threading.Event()

    @durable.step
    def in_thread():
        assert other_has_ended.wait(PATIENCE)

    @durable.step
    async def other():
        pass

    @durable.step
    async def after():
        journal.crash()

    @durable.workflow(id="one")
    async def flow():
        task = asyncio.create_task(asyncio.to_thread(in_thread))
        await other()
        other_has_ended.set()
        if journal.crashing:  # the first process dies when the other outcome is in the file, and goes no further
            await task
        task.cancel()
        given_up.set()
        with suppress(asyncio.CancelledError):
            await task
        await after()

    def later(threads, *call):
        if given_up.is_set():
            block(threads, *call)
        else:
            threads._branches.loop.call_soon(later, threads, *call)

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    given_up.clear()
    block = RunThreads._block
    monkeypatch.setattr(RunThreads, "_block", later)
    run_async(flow())


def hold_up(monkeypatch, function, reached, go_on):
    """Whoever calls this function says so, and goes on later."""
    original = getattr(*function)

    def later(*args, **options):
        reached.set()
        assert go_on.wait(PATIENCE)
        return original(*args, **options)

    monkeypatch.setattr(*function, later)


def test_a_timeout_that_waited_for_a_thread_fires_when_that_has_called_something(journal, run_async, monkeypatch):
    monkeypatch.setattr(_branches, "_PATIENCE_SECONDS", 0.05)
    looked = []
    lose_patience = _branches.Branches._lose_patience

    def look(self):
        lose_patience(self)
        looked.append(1)

    monkeypatch.setattr(_branches.Branches, "_lose_patience", look)

    @durable.step(retry=None)
    def step(text):
        return text

    def thread(goes_on, fired):
        step("first")
        goes_on()
        wait_until(fired)
        step("second")
        wait_until(lambda: looked)
        return "third"

    @durable.workflow
    async def flow():
        branches, at_work = current_branch().execution.branches, asyncio.Event()
        goes_on = partial(branches.loop.call_soon_threadsafe, at_work.set)
        fired = lambda: branches.new._ready or branches.new._waiting
        task = asyncio.create_task(asyncio.to_thread(thread, goes_on, fired))
        await at_work.wait()  # else the timeout may fire before the thread is at work between two steps
        try:
            async with asyncio.timeout(0.05):
                await asyncio.Event().wait()
        except TimeoutError:
            return [await task, "timed out"]

    assert run_async(flow()) == ["third", "timed out"]


# -- loops --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arrives_first", [True, False])
def test_a_slot_that_is_on_its_way_to_a_task_that_is_cancelled_is_given_back(run_async, arrives_first):
    async def main():
        limit, granted = Limit(1), []
        limit.request(lambda: None)
        task = asyncio.create_task(take_slot(limit))
        await asyncio.sleep(0)
        for each in (limit.release, task.cancel) if arrives_first else (task.cancel, limit.release):
            each()  # is heard of in the next turn of the loop
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        limit.request(lambda: granted.append(1))
        assert granted == [1]

    run_async(main())


def test_a_slot_that_comes_when_the_loop_of_who_waited_for_it_is_closed_is_given_back():
    limit, granted = Limit(1), []
    limit.request(lambda: None)
    loop = asyncio.new_event_loop()
    waiting = take_slot(limit)
    task = loop.create_task(waiting)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    limit.release()
    limit.request(lambda: granted.append(1))
    assert granted == [1]
    task._log_destroy_pending = False
    waiting.close()


def test_a_step_whose_coroutine_is_collected_says_nothing(journal, run_async, unraisable):
    loop = asyncio.new_event_loop()

    @durable.step
    async def step():
        if journal.crashing:
            loop.stop()
            await asyncio.Event().wait()
        return 1

    @durable.workflow
    async def flow():
        return await step()

    task = loop.create_task(flow())
    loop.run_forever()
    for each in asyncio.all_tasks(loop):
        each._log_destroy_pending = False
    loop.close()
    del task, each
    gc.collect()
    assert unraisable == []
    journal.restart()
    assert run_async(flow()) == 1


def test_a_write_that_is_acknowledged_twice_is_heard_of_once(journal, run_async):
    """As it is where an interrupt strikes the writer in the middle of its acknowledgements."""
    journal.engine._runtime.own()
    errors = []

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: errors.append(context))
        port = port_of(journal.engine._runtime, loop)
        future = loop.create_future()
        entry = Entry(lambda transaction: 5, False, port)
        entry.then = _Write(entry, future)
        port.commits.submit(entry)
        assert await future == 5
        port.post([entry])
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    run_async(main())
    assert errors == []


def test_an_engine_that_is_closed_by_its_own_background_run_ends_its_loop(journal):
    @durable.workflow(id="one")
    async def flow():
        if journal.crashing:
            durable.close()
        return 1

    flow.start()
    wait_until(lambda: journal.engine._closed)
    loop_thread = journal.engine._scheduler._loop_thread
    loop_thread._thread.join(PATIENCE)
    assert loop_thread.loop.is_closed()
    journal.restart()
    assert durable.get("one").result(PATIENCE) == 1


def test_a_loop_that_is_blocked_when_its_engine_closes_is_closed_by_its_own_thread():
    gate = threading.Event()
    loop_thread = LoopThread()
    loop_thread.loop.call_soon_threadsafe(gate.wait)
    loop_thread.stop()
    assert not loop_thread.loop.is_closed()
    gate.set()
    loop_thread._thread.join(PATIENCE)
    assert loop_thread.loop.is_closed()


def test_a_loop_may_have_been_stopped_by_what_ran_on_it():
    loop_thread = LoopThread()
    loop_thread._stopping = True
    loop_thread.loop.call_soon_threadsafe(loop_thread.loop.stop)
    loop_thread._thread.join(PATIENCE)
    assert loop_thread.loop.is_closed()
    loop_thread.stop()


def test_a_back_off_that_is_over_when_the_run_goes_on_is_not_waited_for(journal, run_async):
    tried = []

    @durable.step(name="flaky", retry=RetryPolicy(initial_interval=0.05, maximum_attempts=2, jitter=0))
    async def flaky():
        tried.append(1)
        if len(tried) == 1:
            raise ConnectionError
        return "at last"

    @durable.step(name="dies", retry=None)
    async def dies():
        await asyncio.sleep(0.02)
        journal.crash()

    @durable.workflow(id="run")
    async def flow():
        return await asyncio.gather(flaky(), dies())

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    time.sleep(0.06)
    journal.restart()
    assert run_async(flow()) == ["at last", None]
    assert len(tried) == 2


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12 and newer")
def test_a_task_that_has_ended_when_it_is_created_is_no_task_of_the_run(journal):
    @durable.step(name="work")
    async def work():
        return 2

    async def at_once():
        return 1

    @durable.workflow(id="run")
    async def flow():
        return await asyncio.create_task(at_once()), await asyncio.create_task(work())

    with asyncio.Runner() as runner:
        runner.get_loop().set_task_factory(asyncio.eager_task_factory)
        assert runner.run(flow()) == (1, 2)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12 and newer")
def test_what_ends_at_once_as_its_run_is_taken_down_is_no_task_that_nobody_asked_after(journal):
    tried = []

    @durable.step
    async def work():
        await asyncio.sleep(0)

    async def clean_up():
        await work()

    @durable.workflow(id="run")
    async def flow():
        try:
            await asyncio.sleep(60)
        finally:
            tried.append(asyncio.create_task(clean_up()))

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        async with journal.engine:
            task = asyncio.create_task(flow())
            await asyncio.sleep(0.05)
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert [task.done() for task in tried] == [True]
    assert not tried[0]._log_traceback  # else asyncio complains when it is collected

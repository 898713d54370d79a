"""What happens in between: a cancellation, an end or a failing disk that strikes where it is least expected."""

import asyncio
import contextlib
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
import time
from functools import partial

import pytest

import durable
from durable import _drive, _journal, _requests, _thread_pool, testing
from durable._active import Active
from durable._limits import Limit
from durable._outcome import Ending
from durable._scheduler import Scheduler
from tests.behaviour import patience

PATIENCE = 10.0
wait_until = partial(patience.wait_until, seconds=PATIENCE)


# -- a slot ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def limited(journal):
    """A step that one run at a time may execute, and that goes on when it is told; the workflow that calls it."""

    class Limited:
        def __init__(self):
            self.began, self.go_on = [], threading.Event()

            @durable.step(concurrency=1, retry=None)
            def work(name):
                self.began.append(name)
                self.go_on.wait(PATIENCE)
                return name

            @durable.workflow(id="{name}")
            def flow(name):
                return work(name)

            self.flow = flow

        def holder_and_waiter(self):
            holder = self.flow.start("holder")
            wait_until(lambda: self.began == ["holder"])
            waiter = self.flow.start("waiter")
            wait_until(lambda: waiter.status == "running")
            return holder, waiter

    return Limited()


def test_a_run_that_is_cancelled_while_it_waits_for_a_slot_leaves_the_line(limited):
    holder, waiter = limited.holder_and_waiter()
    time.sleep(0.05)
    waiter.cancel()
    with pytest.raises(durable.RunCancelledError):
        waiter.result(PATIENCE)
    limited.go_on.set()
    assert holder.result(PATIENCE) == "holder"
    assert limited.flow("third") == "third"
    assert limited.began == ["holder", "third"]


def test_a_slot_that_comes_with_the_cancellation_is_given_back(limited, monkeypatch):
    request = Limit.request

    def cancel_then_request(self, granted, *, first=False):
        if [run.id for run in durable.runs()] == ["late"]:
            durable.get("late").cancel()
        request(self, granted, first=first)

    monkeypatch.setattr(Limit, "request", cancel_then_request)
    with pytest.raises(durable.RunCancelledError):
        limited.flow("late")
    limited.go_on.set()
    assert limited.flow("next") == "next"
    assert limited.began == ["next"]


def test_who_waits_for_a_slot_when_the_engine_closes_is_interrupted(limited, journal):
    limited.holder_and_waiter()
    time.sleep(0.05)
    threading.Timer(0.05, limited.go_on.set).start()
    journal.engine.close()
    journal.restart()
    assert durable.get("holder").result(PATIENCE) == "holder"
    assert durable.get("waiter").result(PATIENCE) == "waiter"
    assert limited.began.count("waiter") == 1


@pytest.mark.parametrize("has_slot", [False, True])
def test_an_interrupt_while_it_waits_for_a_slot_keeps_none(limited, journal, monkeypatch, has_slot):
    wait = _drive.Execution.wait

    def strike(self, event, seconds):
        monkeypatch.setattr(_drive.Execution, "wait", wait)
        raise KeyboardInterrupt

    if not has_slot:
        limited.flow.start("holder")
        wait_until(lambda: limited.began == ["holder"])
    monkeypatch.setattr(_drive.Execution, "wait", strike)
    with pytest.raises(KeyboardInterrupt):
        limited.flow("struck")
    limited.go_on.set()
    assert limited.flow("next") == "next"
    assert limited.flow("struck") == "struck"
    assert limited.began.count("struck") == 1


# -- a disk that fails ---------------------------------------------------------------------------------------------------


def fail_every_write(journal):
    journal.engine._runtime.journal.commits.refuse(durable.JournalError("the disk failed"))


@pytest.mark.parametrize("size", [1, 2])
def test_an_async_step_that_cannot_be_written_down_does_not_begin(journal, run_async, size):
    began = []

    @durable.step
    async def fetch(number):
        began.append(number)
        return number

    @durable.workflow
    async def flow():
        await fetch(0)
        if journal.crashing:
            fail_every_write(journal)
        if size == 1:
            return [await fetch(1)]
        return await asyncio.gather(*(fetch(number) for number in range(1, 1 + size)))

    with pytest.raises(durable.JournalError, match="the disk failed"):
        run_async(flow())
    assert began == [0]
    journal.restart()
    assert run_async(flow()) == list(range(1, 1 + size))
    assert began == list(range(1 + size))


def test_who_waits_for_a_run_of_another_thread_is_told_that_its_disk_failed(journal):
    began, go_on = threading.Event(), threading.Event()

    @durable.step(retry=None)
    def work():
        began.set()
        go_on.wait(PATIENCE)

    @durable.workflow(id="one")
    def flow():
        work()

    run = flow.start()
    assert began.wait(PATIENCE)
    told = []

    def call():
        with contextlib.suppress(BaseException):
            try:
                flow()
            except BaseException as error:
                told.append(error)
                raise

    waiting = threading.Thread(target=call)
    waiting.start()
    wait_until(lambda: len(journal.engine._runtime.active["one"]._watchers) >= 1)
    fail_every_write(journal)
    go_on.set()
    waiting.join(PATIENCE)
    assert [type(error) for error in told] == [durable.JournalError]
    assert run.status in {"running", "interrupted"}


@durable.step
def step_of_a_pool(number):
    return number


# -- a child of fork -----------------------------------------------------------------------------------------------------


def raised_in_child(function):
    """What a call raises in a child of `fork`, as text."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            function()
        except BaseException as error:
            os.write(write, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        told = file.read().decode()
    assert os.waitpid(pid, 0)[1] == 0
    return told


def test_in_a_child_of_fork_the_engine_is_gone(journal):
    @durable.workflow
    def flow():
        return 1

    flow()
    told = raised_in_child(flow)
    assert told.startswith("EngineClosedError: the engine on ")
    assert "belongs to the parent of this forked process" in told
    assert flow() == 1
    assert len(durable.runs()) == 2


@pytest.mark.parametrize("kind", ["alone", "transaction"])
def test_a_step_that_is_called_in_a_child_of_fork_says_that_the_engine_is_the_parent_s(journal, kind):
    @durable.step(transaction=kind == "transaction")
    def step():
        return 1

    @durable.workflow
    def flow():
        told = raised_in_child(step)
        assert step() == 1
        return told

    told = flow()
    assert told.startswith("EngineClosedError: the engine on ")
    assert "belongs to the parent of this forked process" in told


def test_a_run_whose_body_goes_on_in_a_child_of_fork_too_ends_in_the_parent(journal):
    """In the child its call raises what any other call there would."""
    parent = os.getpid()
    read, write = os.pipe()

    @durable.workflow(id="run")
    def flow():
        child = os.fork()
        if child:
            os.waitpid(child, 0)
        return os.getpid()

    try:
        value = flow()
    except BaseException as error:
        value = f"{type(error).__name__}: {error}"
    if os.getpid() != parent:
        os.write(write, str(value).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        told = file.read()
    assert told.startswith("EngineClosedError: the engine on ")
    assert "belongs to the parent of this forked process" in told
    assert value == durable.get("run").result() == parent


def test_a_step_in_a_pool_of_forked_processes_is_an_error_of_its_task(journal):
    """What is no `Exception` ends the process of the pool, which waits for it ever after."""

    @durable.workflow
    def flow():
        with multiprocessing.get_context("fork").Pool(1) as pool:
            return pool.map_async(step_of_a_pool, [1]).get(60)

    with pytest.raises(durable.EngineClosedError, match="belongs to the parent of this forked process"):
        flow()


# -- a thread -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def thread_that_fails(monkeypatch):
    """Have threads for runs raise this in the thread that makes them: now, until it is called with `None`."""
    start = threading.Thread.start
    failing = {}

    def fail_with(error, name="durable-run"):
        failing.clear()
        if error is not None:
            failing[name] = error

    def start_or_fail(thread):
        for name, error in failing.items():
            if thread.name.startswith(name):
                raise error
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_fail)
    return fail_with


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), KeyboardInterrupt()])
def test_a_run_that_was_started_and_could_not_be_set_going_goes_on_when_it_is_asked_for(
    journal, thread_that_fails, error
):
    @durable.workflow(id="{number}")
    def flow(number: str):
        return number

    thread_that_fails(error)
    with pytest.raises(type(error)):
        flow.start_many(["1", "2"])
    with pytest.raises(type(error)):
        durable.resume()
    thread_that_fails(None)
    assert durable.get("1").result(PATIENCE) == "1"
    assert [run.id for run in durable.resume()] == ["2"]
    assert durable.get("2").result(PATIENCE) == "2"


@pytest.mark.parametrize("name", ["durable-timer", "durable-keep", "durable-commits"])
def test_a_thread_of_the_engine_that_could_not_be_made_is_made_at_the_next_call(tmp_path, thread_that_fails, name):
    @durable.workflow(id="sleeper")
    async def flow():
        await durable.aio.sleep(1.1)
        return "woken"

    with durable.open(tmp_path / "journal.db", keep="1d"):
        thread_that_fails(RuntimeError("can't start new thread"), name)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            flow.start()
        thread_that_fails(None)
        assert flow.start().result(PATIENCE) == "woken"


@pytest.mark.parametrize("name", ["durable-timer", "durable-keep"])
@pytest.mark.parametrize("is_there", [True, False])
def test_ctrl_c_while_a_thread_of_the_engine_is_made(tmp_path, monkeypatch, name, is_there):
    start = threading.Thread.start
    made = []

    def start_and_strike(thread):
        made.append(thread.name)
        if is_there or thread.name != name:
            start(thread)
        if thread.name == name:
            raise KeyboardInterrupt

    @durable.workflow(id="sleeper")
    def flow():
        durable.sleep(1.1)
        return "woken"

    with durable.open(tmp_path / "journal.db", keep="1d"):
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start_and_strike)
            with pytest.raises(KeyboardInterrupt):
                flow.start()
        if is_there:
            assert flow.start().result(PATIENCE) == "woken"
    assert made.count(name) == 1


def test_ctrl_c_between_runs_that_are_started_together_leaves_the_one_that_has_begun_going(journal, monkeypatch):
    began, has_begun, go_on = [], threading.Event(), threading.Event()

    @durable.workflow(id="{number}")
    def flow(number: str):
        began.append(number)
        has_begun.set()
        go_on.wait(PATIENCE)
        return number

    submit = Scheduler._submit

    def submit_or_strike(self, active):
        if active.run_id == "2":
            assert has_begun.wait(PATIENCE)
            raise KeyboardInterrupt
        submit(self, active)

    with monkeypatch.context() as patch:
        patch.setattr(Scheduler, "_submit", submit_or_strike)
        with pytest.raises(KeyboardInterrupt):
            flow.start_many(["1", "2"])
    assert durable.get("1").status == "running"
    assert [run.id for run in durable.resume()] == ["2"]
    go_on.set()
    assert [durable.get(number).result(PATIENCE) for number in "12"] == ["1", "2"]
    assert began == ["1", "2"]


def test_a_suspended_run_goes_on_when_a_thread_can_be_made_again(journal, thread_that_fails, caplog):
    over = threading.Event()

    @durable.workflow(id="{name}")
    def flow(name: str):
        if name == "sleeper":
            durable.sleep(1.5)
        else:
            over.wait(PATIENCE)
        return name

    run = flow.start("sleeper")
    wait_until(lambda: run.status == "waiting")
    busy = flow.start("busy")  # in the thread that is there
    wait_until(lambda: busy.status == "running")
    thread_that_fails(RuntimeError("can't start new thread"))
    wait_until(lambda: "waiting runs are not woken: can't start new thread" in caplog.text)
    thread_that_fails(None)
    assert run.result(PATIENCE) == "sleeper"
    over.set()
    assert busy.result(PATIENCE) == "busy"


def test_what_another_process_asks_is_done_when_a_thread_can_be_made_again(journal, thread_that_fails, caplog):
    over = threading.Event()

    @durable.workflow(id="{name}")
    def flow(name: str):
        if name == "busy":
            over.wait(PATIENCE)
        return name

    assert flow("ended") == "ended"
    busy = flow.start("busy")
    wait_until(lambda: busy.status == "running")
    thread_that_fails(RuntimeError("can't start new thread"))
    command = [sys.executable, "-m", "durable", "--db", journal.path, "fork", "ended", "--from-step", "1"]
    subprocess.run(command, check=True, capture_output=True)
    wait_until(lambda: "can't start new thread" in caplog.text)
    thread_that_fails(None)
    wait_until(lambda: not durable.runs(status="queued"))
    over.set()
    assert [run.result(PATIENCE) for run in durable.runs()] == ["ended", "busy", "ended"]


@pytest.fixture
def end_of_program(monkeypatch):
    """While it lasts, none of the threads that code needs can be made, as when the main thread has ended."""
    start = threading.Thread.start

    def start_or_fail(thread):
        if thread.name.startswith(("durable-step", "durable-body", "durable-thread")):
            raise RuntimeError("can't create new thread at interpreter shutdown")
        start(thread)

    @contextlib.contextmanager
    def lasts():
        with monkeypatch.context() as patch:
            patch.setattr(threading.main_thread(), "is_alive", lambda: False)
            patch.setattr(threading.Thread, "start", start_or_fail)
            patch.setattr(_thread_pool, "_bodies", _thread_pool.ThreadPool("durable-body", None))
            yield

    return lasts


@pytest.mark.parametrize("how", ["submit", "map", "timeout", "thread"])
def test_a_run_that_needs_a_thread_when_the_program_makes_none_any_more_is_interrupted(journal, end_of_program, how):
    caught, called = [], []

    @durable.step(name="step", retry=None, timeout=PATIENCE if how == "timeout" else None)
    def step(number: int):
        called.append(number)
        return number

    @contextlib.contextmanager
    def catching():
        try:
            yield
        except Exception as error:
            caught.append(error)

    def body():
        with catching():
            return step.map([1])[0] if how == "map" else step.submit(1).result() if how == "submit" else step(1)

    async def body_async():
        with catching():
            return await asyncio.to_thread(step, 1)

    flow = durable.workflow(id="run", name="flow")(body_async if how == "thread" else body)
    with end_of_program(), pytest.raises(durable.RunInterruptedError, match="the program ends"):
        flow.start().result(PATIENCE)
    assert durable.get("run").status == "interrupted"
    assert caught == called == []
    assert durable.get("run").result(PATIENCE) == 1


def test_an_engine_that_is_closed_while_a_thread_becomes_the_owner_lets_the_lock_go(journal, monkeypatch):
    """As one that is left at once, with a call in a task that nobody awaits."""
    begun, go_on = threading.Event(), threading.Event()

    def look_at_a_slow_disk(_path):
        begun.set()
        go_on.wait(PATIENCE)

    @durable.workflow(id="run")
    def flow():
        return 1

    def call():
        with contextlib.suppress(durable.EngineClosedError, durable.RunInterruptedError):  # whichever is first
            flow()

    with monkeypatch.context() as patch:
        patch.setattr(_journal, "refuse_network_file_system", look_at_a_slow_disk)
        calling, closing = threading.Thread(target=call), threading.Thread(target=journal.engine.close)
        calling.start()
        assert begun.wait(PATIENCE)
        closing.start()
        closing.join(0.3)
        go_on.set()
        calling.join(PATIENCE)
        closing.join(PATIENCE)
    journal.restart()
    assert flow() == 1


def test_an_engine_that_is_left_on_a_loop_when_the_program_makes_no_thread_any_more_says_so(
    journal, run_async, end_of_program
):
    @durable.workflow
    async def flow():
        return 1

    async def main():
        async with journal.engine:
            assert await flow() == 1
            ended.enter_context(end_of_program())

    with contextlib.ExitStack() as ended, pytest.raises(durable.EngineClosedError, match="the program ends"):
        run_async(main())


def test_what_a_task_gives_up_before_a_thread_is_free_is_not_called_later(journal):
    holding, go_on, called = threading.Semaphore(0), threading.Event(), []

    def hold():
        holding.release()
        go_on.wait(PATIENCE)

    @durable.step
    def step(text: str):
        called.append(text)
        return text

    @durable.workflow(id="run")
    async def flow():
        held = [asyncio.create_task(asyncio.to_thread(hold)) for _ in range(min(32, (os.cpu_count() or 1) + 4))]
        await asyncio.sleep(0)
        for _ in held:
            assert holding.acquire(timeout=PATIENCE)
        given_up = [asyncio.create_task(asyncio.to_thread(each, "given up")) for each in (called.append, step)]
        await asyncio.sleep(0)
        for each in given_up:
            each.cancel()
        await asyncio.wait(given_up)
        go_on.set()
        await asyncio.gather(*held)
        return await asyncio.to_thread(step, "next")

    assert flow.start().result(PATIENCE) == "next"
    assert called == ["next"]
    assert [step.output for step in durable.get("run").steps()] == ["next"]


# -- loops ---------------------------------------------------------------------------------------------------------------


def test_a_task_of_a_run_may_have_a_context_of_its_own(journal, run_async):
    import contextvars

    colour = contextvars.ContextVar("colour", default="red")

    @durable.step
    async def paint(number):
        return f"{number} {colour.get()}"

    async def painted(number):
        return await paint(number)

    @durable.workflow
    async def flow():
        green = contextvars.copy_context()
        green.run(colour.set, "green")
        tasks = [asyncio.create_task(painted(1), context=green), asyncio.create_task(painted(2))]
        return [await task for task in tasks]

    assert run_async(flow()) == ["1 green", "2 red"]
    (run,) = durable.runs()
    assert [step.position for step in run.steps()] == [0, 0], "each is a branch of its own"


def test_a_loop_has_the_hooks_of_its_user_back(journal):
    seen = []

    @durable.workflow
    async def flow():
        await asyncio.sleep(0.001)
        return 1

    loop = asyncio.new_event_loop()
    call_later = loop.call_later

    def watched(delay, callback, *args, **options):
        seen.append(delay)
        return call_later(delay, callback, *args, **options)

    loop.call_later = watched
    try:
        assert loop.run_until_complete(flow()) == 1
        assert loop.call_later is watched
        assert loop.get_task_factory() is None
        assert 0.001 in seen
    finally:
        loop.close()


def test_a_task_factory_that_the_code_sets_in_a_run_stays(journal):
    def factory(loop, coro, **options):
        return asyncio.Task(coro, loop=loop, **options)

    @durable.workflow
    async def flow():
        asyncio.get_running_loop().set_task_factory(factory)
        return 1

    loop = asyncio.new_event_loop()
    try:
        assert loop.run_until_complete(flow()) == 1
        assert loop.get_task_factory() is factory
    finally:
        loop.close()


# -- code that is another ------------------------------------------------------------------------------------------------


def test_a_sync_step_that_is_new_in_an_async_run_does_not_begin_before_what_the_journal_has(journal, run_async):
    began = []

    @durable.step
    async def fetch():
        return 1

    async def fetched():
        return await fetch()

    @durable.step
    def check():
        began.append("check")

    @durable.workflow
    async def flow():
        if not journal.crashing:
            check()
        value = await asyncio.create_task(fetched())
        journal.crash()
        return value

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    with pytest.raises(durable.NonDeterminismError, match="the code called step '.*check' at position 0"):
        run_async(flow())
    assert began == []


@pytest.mark.parametrize("grouped", [True, False])
def test_a_cancelled_run_whose_code_no_longer_calls_what_had_begun_is_blocked_and_leaves_no_task(grouped):
    changed, begun = [], []

    @durable.step
    async def forever(name):
        begun.append(name)
        await asyncio.sleep(1000)

    async def task(name):
        if changed and name == "first":
            raise ValueError(name)
        await forever(name)

    @durable.workflow(id="run")
    async def work():
        if grouped:
            async with asyncio.TaskGroup() as group:
                for name in ("first", "second"):
                    group.create_task(task(name))
        else:
            await asyncio.gather(task("first"), task("second"))

    def again():
        with pytest.raises(durable.NonDeterminismError):
            asyncio.run(work())
        changed.append("blocked")

    with testing.engine() as env:
        with env.crash_after("cancel"):
            run = work.start()
            wait_until(lambda: len(begun) == 2)
            run.cancel()
        changed.append("code")
        thread = threading.Thread(target=again, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        assert changed == ["code", "blocked"]


# -- ends ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waits", ["time", "signal"])
def test_a_wait_of_an_async_run_ends_when_the_engine_closes(journal, waits):
    @durable.workflow(id="one")
    async def flow():
        if waits == "time":
            await durable.aio.sleep(0.9)
        else:
            await durable.aio.wait_for_signal("go", str, timeout=0.9)
        return 1

    run = flow.start()
    wait_until(lambda: run.status == "running" and run.steps())
    journal.engine.close()
    journal.restart()
    if waits == "signal":
        durable.get("one").signal("go", "now")
    assert durable.get("one").result(PATIENCE) == 1


def test_the_state_of_a_future_is_shown(journal):
    go_on, shown = threading.Event(), []

    @durable.step(name="work", retry=None)
    def work(fails):
        go_on.wait(PATIENCE)
        if fails:
            raise ValueError

    @durable.workflow
    def flow():
        futures = [work.submit(False), work.submit(True)]
        shown.extend(map(repr, futures))
        go_on.set()
        for future in futures:
            with contextlib.suppress(ValueError):
                future.result()
        shown.extend(map(repr, futures))

    flow()
    assert shown == [
        "<durable.StepFuture work pending>", "<durable.StepFuture work pending>",
        "<durable.StepFuture work completed>", "<durable.StepFuture work failed>",
    ]  # fmt: skip


def test_an_interrupt_in_a_map_interrupts_the_run(journal, monkeypatch):
    began = []

    @durable.step(retry=None)
    def work(number):
        began.append(number)
        return number

    @durable.workflow
    def flow():
        def numbers():
            yield 1
            journal.crash()
            yield 2

        return work.map(numbers())

    with pytest.raises(KeyboardInterrupt):
        flow()
    journal.restart()
    assert flow() == [1, 2]


def test_a_run_that_was_deleted_meanwhile_cannot_be_cancelled(journal):
    @durable.workflow
    def flow(): ...

    flow()
    (run,) = durable.runs()
    own = journal.engine._runtime.journal
    own.write(lambda transaction: transaction.drop_run(1))
    with pytest.raises(durable.RunNotFoundError, match=run.id):
        run.cancel()
    with pytest.raises(durable.RunNotFoundError, match=run.id):  # and where it goes right before the cancellation
        own.write(_requests.cancel(run.id, 1.0))


def test_a_start_whose_batch_failed_is_written_again_by_itself(journal):
    """What waits while somebody writes is committed together; one of these is refused."""
    writing, go_on = threading.Event(), threading.Event()

    @durable.workflow(id="{name}")
    def flow(name, number):
        return number

    flow("one", 1)
    commits = journal.engine._runtime.journal.commits

    def hold(_):
        writing.set()
        go_on.wait(PATIENCE)

    found = {}

    def call(name, number):
        try:
            found[name, number] = flow(name, number)
        except durable.RunConflictError as error:
            found[name, number] = type(error)

    threads = [threading.Thread(target=commits.write, args=(hold, False))]
    threads += [threading.Thread(target=call, args=each) for each in (("two", 2), ("one", 5), ("three", 3))]
    threads[0].start()
    assert writing.wait(PATIENCE)
    for thread in threads[1:]:
        thread.start()
    wait_until(lambda: len(commits._queue) == 3)
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert found == {("two", 2): 2, ("one", 5): durable.RunConflictError, ("three", 3): 3}
    assert sorted(run.id for run in durable.runs()) == ["one", "three", "two"]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_run_that_was_called_gets_the_signal_that_it_waits_for(journal, run_async, asynchronous):
    waits = threading.Event()

    @durable.workflow(id="one")
    def flow():
        waits.set()
        return durable.wait_for_signal("go", str)

    @durable.workflow(id="one")
    async def flow_async():
        waits.set()
        return await durable.aio.wait_for_signal("go", str)

    def send():
        waits.wait(PATIENCE)
        run = durable.get("one")
        wait_until(lambda: journal.engine._runtime.active["one"].execution.rests)
        run.signal("other", "not this")
        run.signal("go", "now")

    sending = threading.Thread(target=send)
    sending.start()
    assert (run_async(flow_async()) if asynchronous else flow()) == "now"
    sending.join(PATIENCE)


def test_two_tasks_that_wait_for_one_signal_get_one_each(journal, run_async):
    @durable.workflow(id="one")
    async def flow():
        async def wait():
            return await durable.aio.wait_for_signal("go", int)

        tasks = [asyncio.create_task(wait()) for _ in range(2)]
        return sorted([await task for task in tasks])

    run = flow.start()
    wait_until(lambda: run.status == "waiting")
    run.signal("go", 1)
    run.signal("go", 2)
    assert run.result(PATIENCE) == [1, 2]


def test_an_async_run_that_was_called_waits_for_a_child_that_is_suspended(journal, run_async):
    @durable.workflow(id="child")
    async def child():
        return await durable.aio.wait_for_signal("go", str)

    @durable.workflow(id="parent")
    async def parent():
        async def beside():
            return await child.start()

        return await asyncio.gather(beside(), beside(), durable.aio.wait_for_signal("also", str))

    def send():
        while not durable.runs(status="waiting", workflow=child.name):
            time.sleep(0.005)
        time.sleep(0.05)
        durable.get("child").signal("go", "now")
        durable.get("parent").signal("also", "then")

    journal.engine._runtime.own()  # there is a journal before it is read
    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    assert run_async(parent()) == ["now", "now", "then"]
    sending.join(PATIENCE)


def test_a_call_that_is_cancelled_while_its_start_is_written_is_no_second_run(journal, run_async):
    writing, go_on = threading.Event(), threading.Event()

    @durable.workflow
    async def flow():
        return 1

    def hold(_):
        writing.set()
        go_on.wait(PATIENCE)

    async def main():
        journal.engine._runtime.own()
        holder = threading.Thread(target=journal.engine._runtime.journal.commits.write, args=(hold, False))
        holder.start()
        writing.wait(PATIENCE)
        task = asyncio.create_task(flow())
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        holder.join(PATIENCE)
        return await flow()

    assert run_async(main()) == 1
    assert len(durable.runs()) == 1


def test_a_step_that_raises_the_cancellation_itself_fails_with_it(journal):
    @durable.step(retry=None)
    def give_up():
        raise durable.Cancelled("by itself")

    @durable.workflow
    def flow():
        give_up()

    with pytest.raises(durable.Cancelled, match="by itself"):
        flow()
    (run,) = durable.runs()
    assert run.status == "failed"
    assert [(step.status, str(step.error)) for step in run.steps()] == [("failed", "by itself")]


def test_a_step_that_raises_it_when_its_run_was_cancelled_is_where_that_is_told(journal):
    told = []

    @durable.step
    def give_up():
        durable.get(durable.info().run_id).cancel()
        raise durable.Cancelled("by itself")

    @durable.step
    def clean_up():
        told.append("cleaned up")

    @durable.workflow
    def flow():
        try:
            give_up()
        finally:
            clean_up()

    with pytest.raises(durable.RunCancelledError):
        flow()
    (run,) = durable.runs()
    assert run.status == "cancelled"
    assert [step.status for step in run.steps()] == ["failed", "completed"]
    assert told == ["cleaned up"]


# -- the end of a run that the only task awaits ------------------------------------------------------------------------


@pytest.fixture
def awaiting():
    """A program that awaits a run, and is cancelled in the step after that."""

    @durable.workflow
    async def child() -> int:
        return 1

    @durable.step
    async def cancelling(number: int) -> None:
        with contextlib.suppress(durable.RunFinishedError):
            durable.get("run").cancel()
        for _ in range(5):  # it has its turn before the outcome of this step has
            await asyncio.sleep(0)

    @durable.step
    async def undo() -> None: ...

    @durable.workflow(id="run")
    async def work() -> None:
        number = await child.start()
        try:
            await cancelling(number)
        finally:
            await undo()

    def program():
        with contextlib.suppress(durable.RunCancelledError):
            asyncio.run(work())

    return program


def test_a_cancellation_after_the_end_of_a_run_is_after_it_again(awaiting):
    report = testing.crash_everywhere(awaiting)
    assert report.problems == [], str(report)


@pytest.mark.parametrize("kept", [True, False])
def test_the_end_of_a_run_is_in_the_journal_where_something_followed_and_need_not_be(journal, run_async, kept):
    @durable.workflow
    async def child() -> int:
        return 1

    @durable.step
    async def after(number: int) -> int:
        return number + 1

    @durable.workflow(id="run")
    async def work() -> int:
        number = await after(await child.start())
        journal.crash()
        return await after(number)

    with pytest.raises(KeyboardInterrupt):
        run_async(work())
    journal.engine.close()
    with contextlib.closing(sqlite3.connect(journal.path)) as db, db:
        assert db.execute("SELECT count(*) FROM durable_step WHERE kind = 'timer'").fetchone() == (1,)
        if not kept:  # as older versions left it
            db.execute("DELETE FROM durable_step WHERE kind = 'timer'")
    journal.restart()
    assert run_async(work()) == 3


def test_of_two_threads_that_say_at_once_that_a_run_is_over_the_first_is_heard(journal):
    """The one that executed it, and the one that closes the engine."""
    runtime, first, others = journal.engine._runtime, durable.RunInterruptedError("first"), []

    @durable.workflow
    def flow(): ...

    class Between(dict):
        def get(self, *args):
            found = super().get(*args)
            if not others:
                second = Ending(None, None, durable.RunInterruptedError("second"))
                others.append(threading.Thread(target=runtime.over, args=(active, second)))
                others[0].start()
                others[0].join()
            return found

    active = Active("one", flow, "start")
    runtime.active = Between(one=active)
    runtime.over(active, Ending(None, None, first))
    assert others
    assert active.error is first
    assert not runtime.active


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("has_loop", [False, True])
def test_a_run_that_is_acknowledged_just_when_the_engine_closes_is_there_for_the_next(
    journal, monkeypatch, has_loop, kind
):
    @durable.workflow(name="flow")
    async def flow_async():
        return 1

    @durable.workflow(name="flow")
    def flow():
        return 1

    async def other():
        return 0

    if has_loop:
        assert durable.workflow(other).start().result(PATIENCE) == 0
    engine, file = journal.engine, journal.engine._runtime.journal
    write, threads = file.write, set(threading.enumerate())

    def write_and_close(*args, **options):
        result = write(*args, **options)
        closing = threading.Thread(target=engine.close)
        closing.start()
        closing.join()
        return result

    monkeypatch.setattr(file, "write", write_and_close)
    started = (flow_async if kind == "async" else flow).start()
    assert not engine._runtime.active
    assert not [thread for thread in set(threading.enumerate()) - threads if thread.name == "durable-loop"]
    journal.restart()
    assert [run.id for run in durable.resume(wait=True)] == [started.id]
    assert durable.get(started.id).result(PATIENCE) == 1


def test_an_engine_that_is_being_closed_owns_its_journal_no_more(journal):
    @durable.workflow
    def flow():
        return 1

    journal.engine._runtime.own_no_more()
    with pytest.raises(durable.EngineClosedError, match="was closed"):
        flow()

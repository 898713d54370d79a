"""Tasks that are cancelled: what they call then, what they were at, and what that does to Python."""

import asyncio
import contextvars
import gc
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

import durable
from durable import RunBlockedError
from durable._model import TIMER
from durable._scopes import current_branch
from tests.behaviour.patience import PATIENCE, wait_until

PROGRAM = """
import asyncio
import durable

ended = []

@durable.step
async def work(name):
    return name

@durable.workflow
async def flow():
    async def one():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(await work("clean up"))

    tasks = [asyncio.create_task(one()) for _ in range(2)]
    await work("begin")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

async def main():
    for _ in range(300):
        await flow()

asyncio.run(main())
print(len(ended))
"""


def test_hundreds_of_steps_of_cancelled_tasks_do_not_crash_python(tmp_path):
    """Before 3.13 it may read what is no object when it is asked what a running coroutine awaits."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100
    )
    assert (done.returncode, done.stdout) == (0, "600\n"), done.stderr


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_replay_is_not_told_of_its_cancellation_before_it_is_where_it_was_told(journal, is_cut):
    waits, crashes, goes_on = [], [], asyncio.Event()

    @durable.step(name="work")
    async def work():
        waits.append(1)
        await asyncio.Event().wait()

    async def something_that_is_not_journaled():
        if len(waits) == 1:
            loops.append(asyncio.get_running_loop())
            await goes_on.wait()

    @durable.workflow(id="run")
    async def flow():
        await something_that_is_not_journaled()
        try:
            await work()
        finally:
            if is_cut:
                await asyncio.sleep(0.05)
            crashes.append(1)
            journal.crash()

    loops = []
    run = flow.start()
    wait_until(lambda: waits)
    run.cancel()
    wait_until(lambda: crashes)  # not by `result`, which sets it going again where it has crashed already
    journal.restart()
    durable.resume()
    wait_until(lambda: loops)
    loops[0].call_soon_threadsafe(loops[0].call_later, 0.3, goes_on.set)
    with pytest.raises(durable.RunCancelledError):
        durable.get("run").result(PATIENCE)


def goes_on_after_the_crash(journal, flow):
    """Its steps crash the first process, and the next one brings it to its end."""
    run = flow.start()
    with pytest.raises(durable.RunInterruptedError):
        run.result(PATIENCE)
    journal.restart()
    run = flow.start()
    assert run.result(PATIENCE) == "after"
    return run


@pytest.mark.parametrize("waits_already", [False, True])
def test_an_executor_that_ends_does_not_wait_for_a_thread_that_waits_for_the_loop(journal, waits_already):
    """Its `with` blocks the loop until its threads have ended, and one that was given up has yet to be told so."""
    begun, given_up = threading.Event(), threading.Event()

    @durable.step(name="work")
    def work():
        begun.set()
        if not waits_already:
            assert given_up.wait(PATIENCE)

    @durable.step(name="after")
    async def after():
        journal.crash()
        return "after"

    @durable.workflow(id="one")
    async def flow():
        threads = current_branch().execution.branches.threads
        with ThreadPoolExecutor(1) as pool:
            awaited = asyncio.get_running_loop().run_in_executor(pool, contextvars.copy_context().run, work)
            wait_until(lambda: threads._waits if waits_already else begun.is_set())
            awaited.cancel()
            await asyncio.sleep(0)  # the loop hears of it, and has no time to tell the thread
            given_up.set()
        return await after()

    run = goes_on_after_the_crash(journal, flow)
    assert [(step.name, step.status) for step in run.steps()] == [("work", "failed"), ("after", "completed")]


def test_what_made_a_parent_give_its_child_up_is_in_the_file_before_the_child_is_told(journal, run_async):
    seen = []

    @durable.step
    async def endless():
        await asyncio.sleep(3600)

    @durable.workflow
    async def child():
        try:
            await endless()
        except asyncio.CancelledError:
            execution = current_branch().execution
            parent = execution.parent.record.seq
            seen.extend(step.kind for step in execution.journal.steps(parent) if step.position < 0)
            raise

    @durable.workflow
    async def flow():
        try:
            async with asyncio.timeout(0.05):
                await child()
        except TimeoutError:
            return "late"

    assert run_async(flow()) == "late"
    assert seen == [TIMER]


def test_a_run_that_was_told_of_its_cancellation_hears_that_another_one_is_blocked(journal, run_async):
    numbers = iter([1, 2])
    begun = []

    @durable.step
    def note(number): ...

    @durable.workflow(id="other")
    def other():
        note(next(numbers))
        journal.crash()

    @durable.workflow(id="one")
    async def flow():
        begun.append(1)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await durable.get("other")
            raise

    with pytest.raises(KeyboardInterrupt):
        other()
    journal.restart()
    with pytest.raises(RunBlockedError):
        other()
    run = flow.start()
    wait_until(lambda: begun)
    run.cancel()
    with pytest.raises(RunBlockedError):
        run.result(PATIENCE)


def test_an_executor_that_ends_since_one_step_failed_does_not_wait_for_another_that_waits_for_the_loop(journal):
    """Nobody has cancelled that one: `gather` lets it go on."""
    has_failed = threading.Event()

    @durable.step(name="fail", retry=None)
    def fail():
        raise LookupError

    @durable.step(name="work")
    def work():
        assert has_failed.wait(PATIENCE)

    @durable.step(name="after")
    async def after():
        return "after"

    @durable.step(name="last")
    async def last(said):
        journal.crash()
        return said

    @durable.workflow(id="one")
    async def flow():
        loop = asyncio.get_running_loop()
        try:
            with ThreadPoolExecutor(2) as pool:
                both = [loop.run_in_executor(pool, contextvars.copy_context().run, step) for step in (fail, work)]
                try:
                    await asyncio.gather(*both)
                finally:
                    has_failed.set()
        except LookupError:
            return await last(await after())

    run = goes_on_after_the_crash(journal, flow)
    steps = {step.name: (step.status, step.attempt) for step in run.steps()}
    assert steps == {"fail": ("failed", 1), "work": ("failed", 1), "after": ("completed", 1), "last": ("completed", 2)}


def work_in(pool):
    """Have a step done in a thread of an executor of the code's own."""
    return asyncio.get_running_loop().run_in_executor(pool, contextvars.copy_context().run, worked, "worked")


@durable.step
def worked(text):
    return text


async def ended_by_a_thread(pool):
    """The loop goes on meanwhile, so that both come to their end."""
    await asyncio.to_thread(pool.shutdown)


async def not_waited_for(pool):
    pool.shutdown(wait=False, cancel_futures=False)


@pytest.mark.parametrize("end", [ended_by_a_thread, not_waited_for])
def test_an_executor_whose_end_does_not_block_the_loop_gives_up_nothing(journal, end):
    @durable.workflow(id="one")
    async def flow():
        pool = ThreadPoolExecutor(1)
        in_pool = work_in(pool)
        await end(pool)
        return await in_pool

    run = flow.start()
    assert run.result(PATIENCE) == "worked"
    assert [step.status for step in run.steps()] == ["completed"]


def test_an_executor_that_was_dropped_ends_its_threads(journal):
    """What a run leaves at it does not keep it."""
    dropped = []

    @durable.workflow(id="one")
    async def flow():
        pool = ThreadPoolExecutor(1)
        dropped.append(weakref.ref(pool))
        return await work_in(pool)

    gc.disable()
    try:
        assert flow.start().result(PATIENCE) == "worked"
        wait_until(lambda: dropped[0]() is None)
    finally:
        gc.enable()


def test_an_executor_that_ends_gives_up_its_threads_that_wait_for_the_loop_and_no_others(journal):
    @durable.workflow(id="one")
    async def flow():
        threads = current_branch().execution.branches.threads
        other = asyncio.create_task(asyncio.to_thread(worked, "other"))
        with ThreadPoolExecutor(1) as pool:
            given_up = work_in(pool)
            await asyncio.sleep(0)
            wait_until(lambda: len(threads._waits) == 2)  # blocks the loop, which both wait for
        with pytest.raises(asyncio.CancelledError):
            await given_up
        return await other

    run = flow.start()
    assert run.result(PATIENCE) == "other"
    assert sorted(step.status for step in run.steps()) == ["completed", "failed"]

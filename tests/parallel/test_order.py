"""What happens to the tasks of an async run from outside happens in the same order on replay, with whatever timings."""

import asyncio
import contextlib
import contextvars
import sys
import threading
import time

import pytest

import durable
from durable import JournalError, RunInterruptedError, _branches, _threads
from durable._effects import Slot
from durable._new_outcomes import Outcome
from durable._scopes import current_branch
from durable._task_inspection import queue_of
from durable._threads import RunThreads
from tests.parallel import trials

LONG_SECONDS = 60.0


@pytest.fixture(autouse=True)
def what_cannot_be_seen_is_looked_at_soon(monkeypatch):
    monkeypatch.setattr(_branches, "_LATER_SECONDS", 0.05)
    monkeypatch.setattr(_branches, "_PATIENCE_SECONDS", 0.05)


@durable.step(retry=None)
async def label(text: str) -> str:
    return text


@durable.step(retry=None)
async def endless(text: str) -> str:
    await asyncio.sleep(LONG_SECONDS)
    return text


def kinds(path_of_run):
    return [(step.name, step.status) for step in path_of_run.steps()]


@pytest.mark.parametrize("replayed_seconds", [0.0005, LONG_SECONDS])
def test_a_timeout_that_fired_fires_again_in_its_turn_and_one_that_did_not_does_not(
    journal, run_async, replayed_seconds
):
    seconds = {"fires": 0.5, "holds": LONG_SECONDS}
    seen = []

    async def fires():
        await label("a")
        try:
            async with asyncio.timeout(seconds["fires"]):
                await label("b")
                await endless("c")
        except TimeoutError:
            return await label("d")

    async def holds():
        async with asyncio.timeout(seconds["holds"]):
            return [await label(text) for text in "efghij"]

    @durable.workflow
    async def flow():
        seen.append(await asyncio.gather(fires(), holds()))
        journal.crash()
        return seen[-1]

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    steps = kinds(durable.runs()[0])
    assert ("endless", "failed") in steps
    assert {name for name, _ in steps} == {"label", "endless"}  # the timeout itself is shown to nobody
    journal.restart()
    seconds = dict.fromkeys(seconds, replayed_seconds)
    assert run_async(flow()) == ["d", list("efghij")]
    assert seen[0] == seen[1]
    assert kinds(durable.runs()[0]) == steps


@pytest.mark.parametrize(
    "limited",
    [
        lambda awaitable: asyncio.wait_for(awaitable, 0.02),
        lambda awaitable: asyncio.wait({asyncio.ensure_future(awaitable)}, timeout=0.02),
        lambda awaitable: asyncio.gather(*asyncio.as_completed([asyncio.ensure_future(awaitable)], timeout=0.02)),
    ],
    ids=["wait_for", "wait", "as_completed"],
)
def test_each_of_the_timeouts_of_asyncio_takes_its_turn(journal, run_async, limited):
    seen = []

    async def others(order):
        for text in "abc":
            order.append(await label(text))

    @durable.workflow
    async def flow():
        order = []
        beside = asyncio.create_task(others(order))
        await beside
        try:
            await limited(endless("x"))
        except TimeoutError:
            order.append("late")
        await label(f"after {order}")
        seen.append(order)
        journal.crash()
        return order

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    run_async(flow())
    assert seen[0] == seen[1]


def test_a_run_that_failed_by_a_timeout_has_all_of_its_time_again_when_it_is_retried(journal, run_async):
    seconds = 0.02

    @durable.step(retry=None)
    async def slow():
        if seconds < LONG_SECONDS:
            await asyncio.sleep(LONG_SECONDS)
        return "made it"

    @durable.workflow
    async def flow():
        await label("a")
        async with asyncio.timeout(seconds):
            return await slow()

    with pytest.raises(TimeoutError):
        run_async(flow())
    seconds = LONG_SECONDS
    run = durable.runs()[0]
    run.retry()
    assert run.result(60) == "made it"


def test_a_run_whose_own_timeout_passed_goes_on_with_what_it_cut_when_it_is_retried(journal, run_async):
    begun, may_end = [], []

    @durable.step(name="slow", retry=None)
    async def slow(text):
        begun.append(text)
        if not may_end:
            await asyncio.sleep(LONG_SECONDS)
        return text

    @durable.workflow(id="flow", timeout=2.0)
    async def flow():
        return [await slow("a"), *await asyncio.gather(slow("b"), slow("c"))]

    with pytest.raises(TimeoutError):
        run_async(flow())
    may_end.append(True)
    run = durable.get("flow")
    run.retry()
    assert run.result(60) == ["a", "b", "c"]
    assert begun[:2] == ["a", "a"]
    assert kinds(run) == [("slow", "completed")] * 3


def test_a_failure_that_blocked_the_loop_and_was_caught_stays_when_the_run_is_retried(journal, run_async):
    """Done again, it would be called before what other tasks had done since."""
    declined, broken = [], [True]

    @durable.step(name="declines", retry=None)
    def declines():
        declined.append(1)
        raise ValueError("caught")

    @durable.step(name="moody", retry=None)
    async def moody():
        if broken:
            raise ValueError("at last")
        return "done"

    async def catches():
        await label("a")
        try:
            declines()
        except ValueError:
            return

    async def goes_on():
        for text in "bcd":
            await label(text)
        return await moody()

    @durable.workflow(id="flow")
    async def flow():
        return (await asyncio.gather(catches(), goes_on()))[1]

    with pytest.raises(ValueError, match="at last"):
        run_async(flow())
    broken.clear()
    durable.get("flow").retry()
    assert durable.get("flow").result(60) == "done"
    assert len(declined) == 1


def test_a_run_that_cleaned_up_in_a_thread_after_its_failure_is_not_retried(journal, run_async):
    @durable.step(name="fails", retry=None)
    async def fails():
        raise ValueError

    @durable.step(name="clean up", retry=None)
    def clean_up(): ...

    @durable.workflow(id="flow")
    async def flow():
        try:
            await fails()
        finally:
            await asyncio.to_thread(clean_up)

    with pytest.raises(ValueError):
        run_async(flow())
    with pytest.raises(durable.RunConflictError, match="went on after step 'fails' failed"):
        durable.get("flow").retry()


def test_a_run_that_cleaned_up_after_its_timeout_is_not_retried(journal, run_async):
    @durable.workflow(id="flow", timeout=2.0)
    async def flow():
        await label("before")
        try:
            await endless("a")
        finally:
            await label("clean up")

    with pytest.raises(TimeoutError):
        run_async(flow())
    with pytest.raises(
        durable.RunConflictError, match=r"went on after its timeout had passed, with step 'label'.*fork"
    ):
        durable.get("flow").retry()


def test_a_thread_whose_task_gave_it_up_is_cut_and_what_it_returns_is_discarded(journal, run_async):
    started, go_on, after = threading.Event(), threading.Event(), []

    @durable.step(name="slow", retry=None)
    def slow(text: str) -> str:
        after.append(text)
        started.set()
        go_on.wait(60)
        return text

    def two_steps():
        slow("first")
        slow("second")

    @durable.workflow
    async def flow():
        thread = asyncio.create_task(asyncio.to_thread(two_steps))
        await asyncio.get_running_loop().run_in_executor(None, started.wait)
        thread.cancel()
        await asyncio.wait([thread])
        go_on.set()
        await label("a")
        await label("b")
        journal.crash()
        return "done"

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    assert sorted(kinds(durable.runs()[0])) == [("label", "completed"), ("label", "completed"), ("slow", "failed")]
    journal.restart()
    assert run_async(flow()) == "done"
    assert after == ["first"]


def test_a_timeout_fires_although_a_thread_of_the_run_hangs_between_two_steps(journal, run_async):
    hang = threading.Event()

    @durable.step
    def plain(text: str) -> str:
        return text

    def hangs():
        plain("a")
        hang.wait(60)

    @durable.workflow
    async def flow():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await asyncio.to_thread(hangs)
        hang.set()
        return await label("b")

    assert run_async(flow()) == "b"


def crash_after_a_cut(journal, run_async, flow):
    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    assert "failed" in {status for _, status in kinds(durable.runs()[0])}
    journal.restart()


@pytest.mark.parametrize("first_seconds", [None, 0.05], ids=["at once", "after a sleep that nobody sees"])
def test_a_run_whose_code_no_longer_cancels_what_it_did_is_blocked(journal, run_async, first_seconds):
    cancels = True

    @durable.workflow
    async def flow():
        loser = asyncio.create_task(endless("loser"))
        await label("a")
        if cancels:
            loser.cancel()
        elif first_seconds is not None:
            await asyncio.sleep(first_seconds)
        await asyncio.wait([loser])
        await label("b")
        journal.crash()

    crash_after_a_cut(journal, run_async, flow)
    cancels = False
    with pytest.raises(durable.NonDeterminismError, match="no task of the workflow cancels step 'endless'"):
        run_async(asyncio.wait_for(flow(), 30))
    assert durable.runs()[0].status == "blocked"


def test_a_run_whose_code_no_longer_gives_up_its_thread_is_blocked(journal, run_async):
    gives_up, started, go_on = True, threading.Event(), threading.Event()

    @durable.step(name="slow", retry=None)
    def slow(text: str) -> str:
        started.set()
        go_on.wait(60)
        return text

    @durable.workflow
    async def flow():
        thread = asyncio.create_task(asyncio.to_thread(slow, "loser"))
        if gives_up:
            await asyncio.get_running_loop().run_in_executor(None, started.wait)
            thread.cancel()
        else:
            await label("a")
        await asyncio.wait([thread])
        go_on.set()
        await label("a")
        journal.crash()

    crash_after_a_cut(journal, run_async, flow)
    gives_up = False
    with pytest.raises(durable.NonDeterminismError, match="no task of the workflow cancels step 'slow'"):
        run_async(asyncio.wait_for(flow(), 30))
    assert durable.runs()[0].status == "blocked"


def test_a_run_whose_code_fails_before_it_has_called_what_the_journal_has_is_blocked(journal, run_async):
    """The group cancels the other task, which is to be cut after the replay: that never ends."""
    fails = False

    async def one():
        if fails:
            raise ValueError
        for text in "ab":
            await label(text)

    async def other():
        for text in "cd":
            await label(text)

    @durable.workflow
    async def flow():
        async with asyncio.TaskGroup() as group:
            group.create_task(other())
            group.create_task(one())
        await label("e")
        journal.crash()

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    fails = True
    with pytest.raises(durable.NonDeterminismError, match="no task of the workflow has called step 'label'"):
        run_async(asyncio.wait_for(flow(), 30))
    assert durable.runs()[0].status == "blocked"


def test_a_thread_is_cut_again_although_its_code_waits_for_a_timeout_that_is_new(journal, run_async):
    """What waits for a cut is not given up while something may still lead to it."""
    started, go_on = threading.Event(), threading.Event()

    @durable.step(name="slow", retry=None)
    def slow(text: str) -> str:
        started.set()
        go_on.wait(60)
        return text

    @durable.step
    async def dies() -> str:
        journal.crash()
        return "done"

    @durable.workflow
    async def flow():
        thread = asyncio.create_task(asyncio.to_thread(slow, "loser"))
        if not journal.crashing:
            await asyncio.wait([thread], timeout=0.3)
        else:
            await asyncio.get_running_loop().run_in_executor(None, started.wait)
        thread.cancel()
        await asyncio.wait([thread])
        go_on.set()
        return await dies()

    crash_after_a_cut(journal, run_async, flow)
    assert run_async(asyncio.wait_for(flow(), 30)) == "done"


def test_a_transaction_in_a_thread_has_its_turn(journal, run_async):
    other, seen = threading.Event(), []

    @durable.step(transaction=True)
    def paid(text: str) -> str:
        return text

    def pays():
        other.wait(60)  # in the first life alone
        return paid("paid")

    @durable.workflow
    async def flow():
        order = []

        async def thread():
            order.append(await asyncio.to_thread(pays))

        async def task():
            order.extend([await label(text) for text in "abcdefgh"])
            other.set()

        await asyncio.gather(thread(), task())
        seen.append(order)
        await label(str(order))
        journal.crash()
        return order

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    run_async(flow())
    assert seen[0] == seen[1] == [*"abcdefgh", "paid"]


def test_a_transaction_that_a_crash_kept_from_its_turn_is_called_whenever_its_thread_comes_to_it(
    journal, run_async, monkeypatch
):
    beside = threading.Event()
    conclude = RunThreads._conclude

    def die(self, *outcome):
        journal.crash()
        conclude(self, *outcome)

    monkeypatch.setattr(RunThreads, "_conclude", die)

    @durable.step(transaction=True)
    def paid(text: str) -> str:
        return text

    @durable.step
    def blocks_the_loop(text: str) -> str:
        return text

    def pays():
        if not journal.crashing:
            beside.wait(10)
        return paid("paid")

    @durable.workflow
    async def flow():
        thread = asyncio.create_task(asyncio.to_thread(pays))
        if not journal.crashing:
            await asyncio.sleep(0)
            blocks_the_loop("b")
            beside.set()
        return await thread

    with pytest.raises((KeyboardInterrupt, RunInterruptedError)):
        run_async(flow())
    journal.restart()
    assert run_async(flow()) == "paid"


def test_what_blocks_the_loop_may_come_before_a_thread_calls_what_the_journal_has_of_it(journal, run_async):
    """It was called first in the life before; how soon a thread comes to its first call is not journaled."""
    beside = threading.Event()

    @durable.step
    def blocks_the_loop(text: str) -> str:
        return text

    @durable.step
    def done(text: str) -> str:
        return text

    def works():
        if not journal.crashing:
            beside.wait(10)
        return done("thread")

    @durable.workflow
    async def flow():
        thread = asyncio.create_task(asyncio.to_thread(works))
        if journal.crashing:
            await thread
            journal.crash()
        await asyncio.sleep(0)
        blocks_the_loop("b")
        beside.set()
        return await thread

    with pytest.raises((KeyboardInterrupt, RunInterruptedError)):
        run_async(flow())
    journal.restart()
    assert run_async(flow()) == "thread"


def test_a_thread_that_is_about_to_wait_for_its_turn_is_not_taken_for_stuck(journal, run_async, monkeypatch):
    monkeypatch.setattr(_branches, "_QUIET_TURNS", 0)

    @durable.step
    def blocking(number: int) -> int:
        return number

    @durable.workflow
    async def flow():
        numbers = await asyncio.to_thread(lambda: [blocking(number) for number in range(5)])
        journal.crash()
        return numbers

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    assert run_async(flow()) == [0, 1, 2, 3, 4]


def test_an_outcome_on_disk_that_the_code_cancelled_before_its_turn_is_cut_on_replay_too(journal, run_async):
    """A group fails in one turn while the next one, which it cancels, is in the file already; then the process dies."""
    durable.runs()
    file, commits, go, calls = journal.file, [], asyncio.Event(), []
    journal.engine._runtime.own()

    def dying(function):
        def wrapper(*args):
            if commits and len(commits) > 2:
                raise JournalError("dead")
            if commits and args[-1]:
                commits.append(args)
            return function(*args)

        return wrapper

    @durable.step(retry=None)
    async def bad():
        await go.wait()
        commits.append("armed")
        raise ValueError

    @durable.step(retry=None)
    async def good(text: str) -> str:
        calls.append(text)
        go.set()
        await asyncio.sleep(0)
        return text

    async def cancelled():
        try:
            await good("good")
        except asyncio.CancelledError:
            await label("clean-up")
            raise

    async def cancelled_too():
        await good("good too")
        await label("not called")

    @durable.workflow
    async def flow():
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(bad())
                group.create_task(cancelled())
                group.create_task(cancelled_too())
        except* ValueError:
            pass
        return await label("declined")

    file.commit, file.put_alone = dying(file.commit), dying(file.put_alone)
    with pytest.raises(JournalError):
        run_async(flow())
    journal.restart()
    go.set()
    assert run_async(flow()) == "declined"
    assert sorted(calls) == ["good", "good too"]


def test_no_slot_is_held_while_what_is_journaled_is_delivered(journal, run_async):
    """A sync step in the body blocks the loop until it has one."""

    @durable.step(name="limited", retry=None, concurrency=1)
    def limited(text: str) -> str:
        if text == "thread":
            crash.wait(60)
            journal.crash()
        return text

    crash = threading.Event()

    @durable.workflow
    async def flow():
        async def inline():
            for text in "abc":
                await label(text)
            crash.set()
            await label("d")
            limited("inline")

        await asyncio.gather(asyncio.to_thread(limited, "thread"), inline())
        return "done"

    with pytest.raises((KeyboardInterrupt, durable.RunInterruptedError)):
        run_async(flow())
    journal.restart()
    assert run_async(flow()) == "done"


def test_outcomes_of_threads_that_are_committed_together_have_a_turn_each(journal, run_async):
    """Threads go on at once: which of two is back first would be another one on replay."""
    durable.runs()
    journal.engine._runtime.own()
    file, other, both, seen = journal.file, threading.Event(), threading.Barrier(2), []

    def slowly(function):
        def wrapper(*args):
            if args[-1] and journal.crashing:
                time.sleep(0.1)  # what comes meanwhile is committed together
            return function(*args)

        return wrapper

    @durable.step(name="plain", retry=None)
    def plain(text: str) -> str:
        both.wait(60)
        return text

    def first():
        plain("first")
        if journal.crashing:
            other.wait(0.3)

    def second():
        plain("second")
        other.set()

    @durable.workflow
    async def flow():
        order = []

        async def thread(function):
            await asyncio.to_thread(function)
            order.append(function.__name__)

        await asyncio.gather(thread(first), thread(second), *map(label, "abc"))
        await label(str(order))
        seen.append(order)
        journal.crash()
        return order

    file.commit, file.put_alone = slowly(file.commit), slowly(file.put_alone)
    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    run_async(flow())
    assert seen[0] == seen[1]


@pytest.mark.parametrize("options", [{}, {"transaction": True}], ids=["step", "transaction"])
def test_a_thread_that_holds_a_slot_needs_the_loop_for_nothing(journal, run_async, options, monkeypatch):
    """A sync step in the body blocks the loop until it has the slot."""
    holds = threading.Event()

    @durable.step(name="limited", retry=None, concurrency=1, **options)
    def limited(text: str) -> str:
        return text

    perform = RunThreads.perform

    def slowly(threads, execution, effect):
        answer = perform(threads, execution, effect)
        if isinstance(effect, Slot):
            holds.set()
            limit, deadline = execution.limits.of("step", "limited", 1), time.monotonic() + 30
            while not limit._waiting and time.monotonic() < deadline:
                time.sleep(0.001)
        return answer

    monkeypatch.setattr(RunThreads, "perform", slowly)

    @durable.workflow
    async def flow():
        thread = asyncio.create_task(asyncio.to_thread(limited, "thread"))
        await asyncio.get_running_loop().run_in_executor(None, holds.wait)
        return [limited("inline"), await thread]

    assert run_async(flow()) == ["inline", "thread"]


def test_a_loop_that_is_closed_in_the_middle_leaves_no_thread_waiting(journal, monkeypatch):
    monkeypatch.setattr(_threads, "_LOOK_SECONDS", 0.01)
    began, interrupted = threading.Event(), threading.Event()

    @durable.step(retry=None)
    def slow(text: str) -> str:
        began.set()
        interrupted.wait(60)
        return text

    @durable.step(retry=None)
    def strikes() -> None:
        began.wait(60)
        raise KeyboardInterrupt

    @durable.workflow
    async def flow():
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(slow, "a"))
            group.create_task(asyncio.to_thread(strikes))

    loop = asyncio.new_event_loop()
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(flow())
    loop.call_soon(interrupted.set)
    with pytest.raises(KeyboardInterrupt):  # the group raises it again
        loop.run_until_complete(asyncio.sleep(LONG_SECONDS))
    loop.close()
    for thread in threading.enumerate():
        if thread.name.startswith("asyncio_"):
            thread.join(60)
            assert not thread.is_alive()


def test_a_loop_that_is_closed_under_a_thread_that_waits_for_its_turn(journal, caplog, monkeypatch):
    monkeypatch.setattr(_threads, "_LOOK_SECONDS", 0.01)
    running = []

    @durable.step(retry=None)
    def quick() -> None:
        pass

    def stop_when_it_waits():
        if running and running[0].execution.branches.threads._blocked:
            loop.stop()
        else:
            loop.call_soon(stop_when_it_waits)

    @durable.workflow
    async def flow():
        running.append(current_branch())
        await asyncio.to_thread(quick)

    loop = asyncio.new_event_loop()
    call = loop.create_task(flow())
    loop.call_soon(stop_when_it_waits)
    loop.run_forever()
    loop.close()
    for thread in threading.enumerate():
        if thread.name.startswith("asyncio_"):
            thread.join(30)
            assert not thread.is_alive()
    assert not call.done()
    call.get_coro().close()  # asyncio need not say that it is dropped
    assert not [record for record in caplog.records if record.name == "concurrent.futures"]


def test_a_thread_in_a_step_holds_up_nothing_that_came_while_it_was_between_two(journal, run_async):
    delivered = threading.Event()

    @durable.step(retry=None)
    def blocking(text: str) -> bool:
        return text == "first" or delivered.wait(10)

    def thread(branches, is_between):
        blocking("first")
        branches.loop.call_soon_threadsafe(is_between.set)
        while not branches.new._ready or branches._ticking:  # the outcome that came is held up
            time.sleep(0.001)
        return blocking("second")

    async def beside(is_between):
        await is_between.wait()
        await label("a")
        delivered.set()

    @durable.workflow
    async def flow():
        branches, is_between = current_branch().execution.branches, asyncio.Event()
        return (await asyncio.gather(asyncio.to_thread(thread, branches, is_between), beside(is_between)))[0]

    assert run_async(flow())


@pytest.mark.parametrize("seed", [1, 2])
def test_a_sample_of_random_programs(seed):
    """Many more: `python -m tests.parallel.trials --trials 10000`."""
    modes = ["abandon", "abandon", "interrupt", "cancel", "close"]
    seen = trials.trials(seed, range(8), frozenset(), modes, loud=False)
    assert not any(seen[fault] for fault in trials.FAULTS)


@durable.step(retry=None)
def mark(text: str) -> str:
    """Blocks the loop."""
    return text


def beside_the_only_task(function):
    """On a thread of the run that no task of it awaits."""
    return asyncio.get_running_loop().run_in_executor(None, contextvars.copy_context().run, function)


@pytest.mark.parametrize("ends_first", [True, False])
def test_the_only_task_of_a_run_and_a_thread_beside_it_are_two(journal, run_async, ends_first):
    thread, task_is_on = None, threading.Event()

    @durable.step(retry=None)
    async def patient() -> None:
        if journal.crashing and ends_first:
            await asyncio.wait([thread])

    def works():
        if not ends_first:
            task_is_on.wait(10)
        elif not journal.crashing:
            time.sleep(0.05)  # on replay it comes to it later than it did
        return mark("a thread")

    @durable.workflow(id="run")
    async def flow():
        nonlocal thread
        thread = beside_the_only_task(works)
        await patient()
        found = await label("the thread was first" if thread.done() else "the task was first")
        task_is_on.set()
        await thread
        journal.crash()
        return found

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    assert run_async(flow()) == ("the thread was first" if ends_first else "the task was first")


@pytest.mark.parametrize("looks_at_the_clock", [False, True])
def test_two_threads_that_no_task_awaits_have_their_outcomes_in_turn(journal, run_async, looks_at_the_clock):
    first, second_came = threading.Event(), threading.Event()

    def slow():
        mark("slow")
        if looks_at_the_clock:  # that waits for nothing: it goes on working
            durable.now()
        first.set()
        if journal.crashing:
            second_came.wait(0.2)
        return "slow"

    def quick():
        first.wait(10)
        mark("quick")
        return "quick"

    @durable.workflow(id="run")
    async def flow():
        threads = [beside_the_only_task(slow), beside_the_only_task(quick)]
        done, _ = await asyncio.wait(threads, return_when=asyncio.FIRST_COMPLETED)
        second_came.set()
        found = await label(min(thread.result() for thread in done))
        await asyncio.wait(threads)
        journal.crash()
        return found

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    first.clear()
    journal.restart()
    assert run_async(flow()) == "slow"


@pytest.mark.parametrize("dies_before", [False, True])
def test_the_end_of_a_run_that_a_task_awaits_comes_in_its_turn(journal, run_async, dies_before):
    """On replay that run has ended long before, and the other tasks have yet to come to where they were."""
    may_end = threading.Event()
    seen = []

    @durable.step(retry=None)
    async def wait():
        while not may_end.is_set():  # noqa: ASYNC110 - another loop sets it
            await asyncio.sleep(0.001)
        return "child"

    @durable.workflow
    async def child():
        return await wait()

    async def awaits(order):
        order.append(await child.start())
        order.append(mark("after"))

    async def beside(order):
        for text in "abcdef":
            order += [await label(text), mark(text.upper())]
            if text == "c" and dies_before:
                journal.crash()
            elif text == "c":
                may_end.set()

    @durable.workflow
    async def flow():
        seen.append([])
        await asyncio.gather(awaits(seen[-1]), beside(seen[-1]))
        journal.crash()
        return len(seen)

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    may_end.set()
    durable.runs(workflow="test_the_end_of_a_run_that_a_task_awaits_comes_in_its_turn.child")[0].result()
    assert run_async(flow()) == 2
    assert seen[1].index("child") > seen[1].index("C")
    assert dies_before or seen[0] == seen[1]


def test_runs_that_are_awaited_together_take_few_turns(journal, run_async):
    @durable.workflow
    async def child(number: int):
        return number

    @durable.workflow
    async def flow():
        return await asyncio.gather(*child.start_many(range(200)))

    assert run_async(flow()) == list(range(200))


def test_a_thread_may_be_given_up_just_before_it_waits_for_the_turn_that_the_journal_has(
    journal, run_async, monkeypatch
):
    """As where its outcome is in the file, its task gave it up before the turn of that, and then the process died."""
    given_up, comes_second = threading.Event(), threading.Event()
    wait = RunThreads.wait

    def late(self, branch, *args, **options):
        if not journal.crashing:
            given_up.wait(LONG_SECONDS)
        wait(self, branch, *args, **options)

    monkeypatch.setattr(RunThreads, "wait", late)

    @durable.step(name="waits", retry=None)
    def waits() -> None:
        comes_second.wait(LONG_SECONDS)

    @durable.workflow(id="run")
    async def flow() -> str:
        await label("first")
        thread = asyncio.create_task(asyncio.to_thread(waits))
        await label("second")
        comes_second.set()
        if journal.crashing:
            await thread
            journal.crash()
        thread.cancel()
        await asyncio.sleep(0)
        given_up.set()
        await asyncio.gather(thread, return_exceptions=True)
        return await label("last")

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    turns = {s.name: s.turn for s in journal.file.steps(1)}
    assert turns["waits"] == 3, turns
    journal.restart()
    assert run_async(flow()) == "last"


def test_outcomes_of_threads_that_the_end_of_the_engine_gave_up_have_turns_of_their_own(journal, run_async):
    """In the next life they go on at their own pace, and so one after the other."""
    may_end, turns = threading.Event(), []

    @durable.step(retry=None)
    def waits():
        may_end.wait(LONG_SECONDS)

    @durable.workflow
    async def flow():
        branches = current_branch().execution.branches
        tasks = [asyncio.create_task(asyncio.to_thread(waits)) for _ in range(2)]
        while len(branches.threads._records) < 2:  # noqa: ASYNC110 - threads put them there
            await asyncio.sleep(0.001)
        records = list(branches.threads._records.values())
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        may_end.set()
        group = [Outcome(None, record, None, None) for record in records]
        branches.new._give_turns(group)
        turns.extend(outcome.turn for outcome in group)

    run_async(flow())
    assert len(set(turns)) == 2


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks start at once since 3.12")
def test_a_step_that_is_an_eager_task_by_itself_has_its_outcome_in_its_turn(journal):
    seen = []

    @durable.workflow(id="flow")
    async def flow():
        tasks = [asyncio.create_task(label("a")), asyncio.create_task(label("b"))]
        seen.append([task.done() for task in tasks])
        await asyncio.gather(*tasks)
        journal.crash()

    def live():
        with asyncio.Runner() as runner:
            runner.get_loop().set_task_factory(asyncio.eager_task_factory)
            runner.run(flow())

    with pytest.raises(KeyboardInterrupt):
        live()
    journal.restart()
    live()
    assert seen == [[False, False], [False, False]]


def test_the_tasks_of_a_run_are_not_looked_at_for_each_turn_while_the_loop_has_nothing_to_do(
    journal, run_async, monkeypatch
):
    tasks, looked = 50, []

    def waits(task):
        looked.append(task)
        return real(task)

    real = _branches.waits
    monkeypatch.setattr(_branches, "waits", waits)

    async def limited():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await asyncio.get_running_loop().create_future()

    @durable.workflow(id="run")
    async def flow():
        await asyncio.gather(*(limited() for _ in range(tasks)))
        return await label("end")

    assert run_async(flow()) == "end"
    turns = {step.turn for step in journal.engine._runtime.journal.steps(1)}
    assert len(turns) > tasks
    assert len(looked) < tasks * tasks


def test_a_loop_that_keeps_what_it_is_to_call_elsewhere_is_not_asked_for_it():
    class Elsewhere(asyncio.SelectorEventLoop):
        def call_soon(self, callback, *args, context=None):
            return self.call_later(0, callback, *args, context=context)

    for make, is_asked in ((asyncio.SelectorEventLoop, True), (Elsewhere, False)):
        with contextlib.closing(make()) as loop:
            assert (queue_of(loop) is not None) is is_asked

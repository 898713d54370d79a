"""Cancelling a run with all that it waits for, forking one, and changed code around parallel steps."""

import asyncio
import contextlib
import subprocess
import sys
import threading
import time

import pytest

import durable
import durable.testing
from durable import RetryPolicy, _timer
from tests.behaviour.patience import PATIENCE, wait_until


def errors(run):
    return [(step.name.rpartition(".")[2], type(step.error).__name__) for step in run.steps() if step.error is not None]


# -- cancel ------------------------------------------------------------------------------------------------------------


def test_a_back_off_is_cut_and_clean_up_is_journaled(journal):
    cleaned = []

    @durable.step(retry=RetryPolicy(initial_interval=60))
    def charge():
        raise ValueError

    @durable.step
    def refund():
        cleaned.append(1)

    @durable.workflow
    def pay():
        try:
            charge()
        finally:
            refund()

    run = pay.start()
    wait_until(lambda: run.steps() and run.steps()[0].status == "retrying")
    run.cancel()
    with pytest.raises(durable.RunCancelledError, match=run.id):
        run.result(PATIENCE)
    assert run.status == "cancelled"
    assert cleaned == [1]
    assert errors(run) == [("charge", "Cancelled")]


def test_a_sync_attempt_in_flight_ends_and_is_journaled_and_the_next_operation_raises(journal):
    began, told, cancelled = [], [], threading.Event()

    @durable.step
    def slow(number):
        began.append(number)
        cancelled.wait(PATIENCE)
        return number

    @durable.workflow
    def work():
        try:
            slow(1)
            slow(2)
        except durable.Cancelled:
            told.append("once")
        return "whatever the body makes of it"

    run = work.start()
    wait_until(lambda: began)
    run.cancel()
    cancelled.set()
    with pytest.raises(durable.RunCancelledError):
        run.result(PATIENCE)
    assert began == [1]
    assert told == ["once"]
    assert [step.status for step in run.steps()] == ["completed", "failed"]


def test_async_attempts_are_cut_in_every_branch_and_clean_up_runs(journal):
    cleaned = []

    @durable.step
    async def slow():
        await asyncio.sleep(60)

    @durable.step
    async def clean():
        cleaned.append(1)

    @durable.workflow
    async def work():
        try:
            await asyncio.gather(slow(), slow())
        finally:
            await clean()

    run = work.start()
    wait_until(lambda: len(run.steps()) == 2)
    run.cancel()
    with pytest.raises(durable.RunCancelledError):
        run.result(PATIENCE)
    assert cleaned == [1]


@pytest.mark.parametrize("how", ["called", "started"])
def test_cancelling_a_parent_cancels_its_children(journal, how):
    @durable.step(retry=RetryPolicy(initial_interval=60))
    def stuck():
        raise ValueError

    @durable.workflow
    def child():
        stuck()

    @durable.workflow
    def parent():
        return child() if how == "called" else child.start().result()

    run = parent.start()
    wait_until(lambda: any(r.workflow.endswith("child") and r.steps() for r in durable.runs()))
    run.cancel()
    with pytest.raises(durable.RunCancelledError):
        run.result(PATIENCE)
    wait_until(lambda: {r.status for r in durable.runs()} == {"cancelled"})


def test_cancelling_an_async_parent_cancels_the_child_that_it_awaits(journal):
    @durable.step
    async def slow():
        await asyncio.sleep(60)

    @durable.workflow
    async def child():
        await slow()

    @durable.workflow
    async def parent():
        await child()

    run = parent.start()
    wait_until(lambda: any(r.workflow.endswith("child") and r.steps() for r in durable.runs()))
    run.cancel()
    with pytest.raises(durable.RunCancelledError):
        run.result(PATIENCE)
    wait_until(lambda: {r.status for r in durable.runs()} == {"cancelled"})


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_cancellation_replays_in_its_place(journal, kind):
    """Killed in the clean-up, the run goes on with the clean-up, and ends cancelled."""
    cleaned = []

    @durable.step(retry=RetryPolicy(initial_interval=60))
    def stuck():
        raise ValueError

    @durable.step
    def clean(number):
        cleaned.append(number)

    @durable.workflow(id="run")
    def sync_work():
        try:
            stuck()
        finally:
            clean(1)
            journal.crash()
            clean(2)

    @durable.step
    async def slow():
        await asyncio.sleep(60)

    @durable.workflow(id="run")
    async def async_work():
        try:
            await slow()
        finally:
            clean(1)
            journal.crash()
            clean(2)

    run = (sync_work if kind == "sync" else async_work).start()
    wait_until(run.steps)
    run.cancel()
    wait_until(lambda: run.status == "interrupted")
    journal.restart()
    durable.resume(wait=True)
    assert durable.get("run").status == "cancelled"
    assert cleaned == [1, 2]


def test_an_interrupted_run_is_cancelled_with_its_clean_up(journal):
    cleaned = []

    @durable.step
    def step(number):
        cleaned.append(number)

    @durable.workflow(id="run")
    def work():
        try:
            step(1)
            journal.crash()
            step(2)
        except durable.Cancelled:
            step(3)
            raise

    with pytest.raises(KeyboardInterrupt):
        work()
    journal.restart()
    durable.get("run").cancel()
    durable.resume(wait=True)
    assert durable.get("run").status == "cancelled"
    assert cleaned == [1, 3]


def test_a_queued_run_that_was_cancelled_never_begins(journal):
    ran, cancelled = [], threading.Event()

    @durable.workflow(concurrency=1)
    def work(number):
        ran.append(number)
        cancelled.wait(PATIENCE)

    first, second = work.start(1), work.start(2)
    second.cancel()
    cancelled.set()
    first.result(PATIENCE)
    with pytest.raises(durable.RunCancelledError):
        second.result(PATIENCE)
    assert ran == [1]


@pytest.mark.parametrize("asked_by", ["itself", "another process"])
@pytest.mark.parametrize(("full", "kind"), [("concurrency", "sync"), ("concurrency", "async"), ("threads", "sync")])
def test_a_run_that_is_cancelled_while_it_is_queued_ends_at_once(journal, full, kind, asked_by):
    """And not only when another one makes room for it. Who waits for it is told, and those behind it are served."""
    journal.engine.close()
    journal.engine = durable.open(journal.path, threads=1 if full == "threads" else 8)
    goes_on, began, told = threading.Event(), [], []

    @durable.workflow(name="work", concurrency=1 if full == "concurrency" else None)
    def sync_work(number):
        began.append(number)
        goes_on.wait(PATIENCE)
        return number

    @durable.workflow(name="work", concurrency=1)
    async def async_work(number):
        began.append(number)
        await asyncio.to_thread(goes_on.wait, PATIENCE)
        return number

    work = sync_work if kind == "sync" else async_work
    first, second, third = [work.start(number) for number in range(3)]
    wait_until(lambda: began == [0])

    def wait_for_second():
        with pytest.raises(durable.RunCancelledError):
            second.result(PATIENCE)
        told.append(1)

    waiter = threading.Thread(target=wait_for_second)
    waiter.start()
    if asked_by == "itself":
        second.cancel()
        assert second.status == "cancelled"
    else:
        command = [sys.executable, "-m", "durable", "--db", str(journal.path), "cancel", second.id]
        subprocess.run(command, check=True, capture_output=True)
        wait_until(lambda: second.status == "cancelled")
    waiter.join(PATIENCE)
    assert told == [1]
    assert not goes_on.is_set()
    goes_on.set()
    assert [first.result(PATIENCE), third.result(PATIENCE)] == [0, 2]
    assert began == [0, 2]


def test_a_map_that_is_cancelled_starts_no_further_item(journal):
    began, cancelled = [], threading.Event()

    @durable.step
    def item(number):
        began.append(number)
        cancelled.wait(PATIENCE)

    @durable.workflow
    def work():
        item.map(range(20), concurrency=2)

    run = work.start()
    wait_until(lambda: began)
    run.cancel()
    cancelled.set()
    with pytest.raises(durable.RunCancelledError):
        run.result(PATIENCE)
    assert len(began) <= 2


def test_a_finished_run_cannot_be_cancelled(journal):
    @durable.workflow(id="run")
    def work():
        return 1

    work()
    with pytest.raises(durable.RunFinishedError, match="completed"):
        durable.get("run").cancel()


def test_a_blocked_run_is_cancelled_at_once(journal):
    @durable.workflow(id="run")
    def work():
        durable.now()
        journal.crash()

    with pytest.raises(KeyboardInterrupt):
        work()
    journal.restart()

    @durable.workflow(id="run", name=work.name)
    def changed():
        durable.random()

    with pytest.raises(durable.NonDeterminismError):
        changed()
    durable.get("run").cancel()
    assert durable.get("run").status == "cancelled"


# -- fork --------------------------------------------------------------------------------------------------------------


def test_a_fork_takes_over_the_first_operations_and_goes_on_with_the_code_of_today(journal):
    ran = []

    @durable.step(retry=None)
    def step(number):
        ran.append(number)
        if number == 3 and journal.crashing:
            raise ValueError
        return number

    @durable.workflow(id="run")
    def work():
        step(1)
        step(2)
        try:
            step(3)
        except ValueError:
            step(99)
            raise
        return "done"

    with pytest.raises(ValueError):
        work()
    with pytest.raises(durable.RunConflictError, match="fork"):
        durable.get("run").retry()
    journal.crashing = False
    forked = durable.get("run").fork(from_step=3)
    assert forked.result(PATIENCE) == "done"
    assert ran == [1, 2, 3, 99, 3]
    assert durable.get("run").status == "failed"


@pytest.fixture
def undone_map(journal):
    """A run that undid what a map did after one item of it had failed; and what its steps did."""
    did = []

    @durable.step
    def load(number):
        if number == 2 and journal.crashing:
            raise durable.NonRetryableError
        did.append(f"load {number}")

    @durable.step
    def unload(number):
        did.append(f"unload {number}")

    @durable.workflow(id="run")
    def work():
        durable.now()
        found = load.map([0, 1, 2, 3], concurrency=1, return_exceptions=True)
        if any(found):
            for number, error in enumerate(found):
                if error is None:
                    unload(number)
            raise ValueError
        return "done"

    with pytest.raises(ValueError):
        work()
    journal.crashing = False
    did.clear()
    return durable.get("run"), did


def test_a_fork_from_an_item_of_a_map_takes_nothing_over_that_came_after_it(undone_map):
    run, did = undone_map
    assert [step.name.rpartition(".")[2] for step in run.steps()] == ["now", *4 * ["load"], *3 * ["unload"]]
    with pytest.raises(durable.RunConflictError, match=r"run\.fork\(from_step=4\)"):
        run.retry()
    assert run.fork(from_step=4).result(PATIENCE) == "done"
    assert did == ["load 2", "load 3"]


def test_a_fork_from_what_came_before_a_map_takes_over_nothing_that_came_after_it(undone_map):
    run, did = undone_map
    assert run.fork(from_step=2).result(PATIENCE) == "done"
    assert did == [f"load {number}" for number in range(4)], "the undoing is no part of the new run"


def test_a_fork_from_what_came_after_a_map_does_not_do_the_map_again(undone_map):
    run, did = undone_map
    with pytest.raises(ValueError):
        run.fork(from_step=7).result(PATIENCE)
    assert did == ["unload 1", "unload 3"]


def test_a_fork_from_what_came_after_tasks_does_not_do_them_again(journal, run_async):
    did = []

    @durable.step
    async def fetch(name):
        did.append(name)
        return name

    @durable.workflow(id="run")
    async def work():
        async def page(name):
            return await fetch(name) + await fetch(f"{name}, more")

        return await fetch("; ".join(await asyncio.gather(page("a"), page("b"))))

    run_async(work())
    run, first = durable.get("run"), list(did)
    assert [step.output for step in run.steps()] == first
    did.clear()
    assert run.fork(from_step=5).result(PATIENCE) == first[-1]
    assert did == first[-1:]


def test_a_fork_does_not_take_over_that_the_code_cut_an_operation_after_one_that_is_not_taken_over(journal, run_async):
    did = []

    @durable.step(name="work")
    async def work(name, seconds):
        did.append(name)
        await asyncio.sleep(seconds)
        return name

    async def a(first):
        return await work("a", 3600 if first else 0)

    async def b():
        return await work("b", 0)

    @durable.workflow(id="run")
    async def race():
        tasks = [asyncio.create_task(each) for each in (a(not did), b())]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.wait(tasks)
        return sorted(task.result() for task in done)

    assert run_async(race()) == ["b"]
    run = durable.get("run")
    assert [(step.branch, step.status) for step in run.steps()] == [("/a:0", "failed"), ("/b:0", "completed")]
    did.clear()
    assert "b" in run.fork(from_step=2).result(PATIENCE)
    assert sorted(did) == ["a", "b"]


def test_a_fork_from_where_a_run_was_cancelled_is_not_cancelled(journal):
    hangs = threading.Event()

    @durable.step(name="quick")
    async def quick():
        return 1

    @durable.step(name="slow")
    async def slow():
        if not hangs.is_set():
            hangs.set()
            await asyncio.sleep(3600)
        return 2

    @durable.step(name="tidy")
    async def tidy():
        pass

    @durable.workflow(id="run")
    async def work():
        try:
            return await quick() + await slow()
        except asyncio.CancelledError:
            await tidy()
            raise

    run = work.start()
    hangs.wait()
    run.cancel()
    with pytest.raises(durable.RunCancelledError):
        run.result(PATIENCE)
    assert [step.name for step in run.steps()] == ["quick", "slow", "cancel", "tidy"]
    assert run.fork(from_step=2).result(PATIENCE) == 3
    with pytest.raises(durable.RunCancelledError):  # with what it did when it was told
        run.fork(from_step=5).result(PATIENCE)


def test_a_run_that_cleaned_up_in_a_task_beside_the_failure_cannot_be_retried(journal, run_async):
    """Without the failure, nothing would cut the other task again."""
    begun = asyncio.Event()

    @durable.step(name="work", retry=None)
    async def work(fails):
        if fails:
            await begun.wait()
            raise ValueError("broken")
        begun.set()
        await asyncio.sleep(3600)

    @durable.step(name="tidy")
    async def tidy():
        pass

    async def failing():
        await work(True)

    async def other():
        try:
            await work(False)
        finally:
            await tidy()

    @durable.workflow(id="run")
    async def flow():
        async with asyncio.TaskGroup() as group:
            group.create_task(failing())
            group.create_task(other())

    with pytest.raises(ExceptionGroup):
        run_async(flow())
    run = durable.get("run")
    assert [(step.name, step.status) for step in run.steps()] == [
        ("work", "failed"),
        ("work", "failed"),
        ("tidy", "completed"),
    ]
    with pytest.raises(durable.RunConflictError, match=r"run\.fork\(from_step=1\)"):
        run.retry()
    assert run.status == "failed"


def test_a_run_whose_child_was_cancelled_because_of_a_failure_beside_it_cannot_be_retried(journal, run_async):
    """The child has ended for good."""
    begun, is_broken = asyncio.Event(), [True]

    @durable.step(name="work", retry=None)
    async def work():
        if is_broken:
            await begun.wait()
            raise ValueError("broken")
        return 1

    @durable.workflow(name="child")
    async def child():
        begun.set()
        if is_broken:
            await durable.aio.sleep(3600)
        return 2

    @durable.workflow(id="run")
    async def flow():
        return await asyncio.gather(work(), child())

    with pytest.raises(ValueError, match="broken"):
        run_async(flow())
    run = durable.get("run")
    assert [run.status for run in durable.runs(workflow="child")] == ["cancelled"]
    with pytest.raises(durable.RunConflictError, match=r"was cancelled.*run\.fork\(from_step=1\)"):
        run.retry()
    assert run.status == "failed"
    is_broken.clear()
    assert run.fork(from_step=1).result(PATIENCE) == [1, 2]


@pytest.mark.parametrize("place", [0, -1, 3])
def test_a_fork_from_where_nothing_is_says_so(journal, place):
    @durable.workflow(id="run")
    def work():
        durable.now()

    work()
    with pytest.raises(ValueError, match="from 1 to 2"):
        durable.get("run").fork(from_step=place)


# -- changed code around parallel steps --------------------------------------------------------------------------------


@pytest.mark.parametrize("changed", ["sequential", "submitted", "more items", "other step"])
def test_changed_code_at_a_map_is_stopped_before_any_body_runs_and_put_back_it_goes_on(journal, changed):
    ran = []

    @durable.step
    def charge(number):
        ran.append(number)
        return number

    @durable.step
    def other(number):
        ran.append(number)

    def declare(how):
        @durable.workflow(name="work", id="run")
        def work():
            if how == "sequential":
                charge(1), charge(2)
            elif how == "submitted":
                [future.result() for future in (charge.submit(1), charge.submit(2))]
            elif how == "more items":
                charge.map([1, 2, 3])
            elif how == "other step":
                other.map([1, 2])
            else:
                charge.map([1, 2])
            journal.crash()
            return "done"

        return work

    with pytest.raises(KeyboardInterrupt):
        declare("as it was")()
    journal.restart()
    assert sorted(ran) == [1, 2]
    with pytest.raises(durable.NonDeterminismError, match="position 0"):
        declare(changed)()
    assert sorted(ran) == [1, 2]
    assert declare("as it was")() == "done"
    assert sorted(ran) == [1, 2]


def test_a_renamed_submitted_step_is_stopped_where_it_is_called(journal):
    ran = []

    def declare(name):
        @durable.step(name=name)
        def charge(number):
            ran.append(number)
            return number

        @durable.workflow(name="work", id="run")
        def work():
            first, second = charge.submit(1), charge.submit(2)
            results = [first.result(), second.result()]
            journal.crash()
            return results

        return work

    with pytest.raises(KeyboardInterrupt):
        declare("charge")()
    journal.restart()
    with pytest.raises(durable.NonDeterminismError, match="position 0"):
        declare("renamed")()
    assert sorted(ran) == [1, 2]
    assert declare("charge")() == [1, 2]


# -- retry -------------------------------------------------------------------------------------------------------------


def test_a_retried_run_waits_until_its_last_execution_is_out_of_the_way(journal, monkeypatch):
    """Its failure is in the file a moment before this process has let go of it."""
    from durable._runtime import Runtime

    tries = []

    @durable.step(retry=None)
    def fails_once():
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError

    @durable.workflow(id="run")
    def flow():
        fails_once()
        return "done"

    over, written, retried = Runtime.over, threading.Event(), threading.Event()

    def held_up(self, active, ending):
        written.set()
        retried.wait(60)
        over(self, active, ending)

    monkeypatch.setattr(Runtime, "over", held_up)
    run = flow.start()
    assert written.wait(60)
    assert run.status == "failed"
    run.retry()
    retried.set()
    assert run.result(PATIENCE) == "done"


def test_a_run_that_its_timeout_ended_is_retried_from_there(journal):
    """What was ended from outside has no duration, and did not come after itself."""
    allowed = []

    @durable.step
    def is_allowed():
        time.sleep(0.01)
        return bool(allowed)

    @durable.workflow(id="run", timeout=0.5)
    def flow():
        while not is_allowed():
            pass
        return "done"

    with pytest.raises(TimeoutError, match="timeout"):
        flow()
    allowed.append(1)
    run = durable.get("run")
    run.retry()
    assert run.result(PATIENCE) == "done"


def test_a_run_that_failed_while_the_clock_stood_still_is_retried():
    with durable.testing.engine(auto_advance=False):
        allowed = []

        @durable.step
        def first(): ...

        @durable.step(retry=None)
        def second():
            if not allowed:
                raise ConnectionError

        @durable.workflow(id="run")
        def flow():
            first()
            second()
            return "done"

        with pytest.raises(ConnectionError):
            flow()
        allowed.append(1)
        durable.get("run").retry()
        assert durable.get("run").result() == "done"


@pytest.mark.parametrize("error", [ConnectionError, durable.NonRetryableError])
@pytest.mark.parametrize("is_awaited", [False, True])
def test_who_waits_for_a_run_that_is_retried_gets_the_outcome_of_the_retry(journal, monkeypatch, error, is_awaited):
    """It waited for an execution that failed, and another one executes already when it hears of that."""
    from durable._runtime import Runtime
    from durable._scheduler import Scheduler

    tries, written, retried, again, heard = [], *(threading.Event() for _ in range(4))

    @durable.step(retry=None)
    def fails_once():
        tries.append(1)
        if len(tries) == 1:
            raise error("first")
        again.set()
        heard.wait(PATIENCE)

    @durable.workflow(id="run")
    def flow():
        fails_once()
        return "done"

    over, begin_after, results = Runtime.over, Scheduler._begin_after, []

    def held_up(self, active, ending):
        written.set()
        retried.wait(PATIENCE)
        over(self, active, ending)

    def before_others_hear(self, run_id):
        begin_after(self, run_id)
        again.wait(PATIENCE)

    async def awaited():
        return await run

    def wait():
        results.append(asyncio.run(awaited()) if is_awaited else run.result(PATIENCE))

    monkeypatch.setattr(Runtime, "over", held_up)
    monkeypatch.setattr(Scheduler, "_begin_after", before_others_hear)
    run = flow.start()
    assert written.wait(PATIENCE)
    active = journal.engine._runtime.active["run"]
    run.retry()
    waiter = threading.Thread(target=wait)
    waiter.start()
    wait_until(lambda: len(active._watchers) == 2)
    retried.set()
    waiter.join(0.1)
    heard.set()
    waiter.join(PATIENCE)
    assert results == ["done"]


def test_a_timeout_is_counted_anew_for_a_retry_and_for_a_fork(journal):
    @durable.step(retry=None)
    def hangs():
        if not allowed.is_set():
            time.sleep(1.6)
            raise ConnectionError

    allowed = threading.Event()

    @durable.workflow(id="run", timeout=1.5)
    def flow():
        hangs()
        durable.now()
        return "done"

    run = flow.start()
    with pytest.raises((TimeoutError, ConnectionError)):
        run.result(PATIENCE)
    allowed.set()
    assert run.fork(from_step=1).result(PATIENCE) == "done"
    run.retry()
    assert run.result(PATIENCE) == "done"


def test_each_retry_and_a_fork_of_a_retried_run_have_the_time_that_the_workflow_declares():
    with durable.testing.engine(auto_advance=False) as env:

        @durable.workflow(id="run", timeout=60)
        def flow() -> None:
            durable.wait_for_signal("never")

        def take_too_long(run: durable.Run[None]) -> None:
            env.clock.advance(seconds=59)
            assert run.status == "waiting"
            env.clock.advance(seconds=1)
            with pytest.raises(TimeoutError, match=r"took longer than its timeout of 60 s$"):
                run.result(PATIENCE)

        run = flow.start()
        take_too_long(run)
        for _ in range(2):
            env.clock.advance(hours=1)
            run.retry()
            take_too_long(run)
        take_too_long(run.fork(from_step=1))


def test_a_retried_run_has_its_time_from_when_it_goes_on():
    with durable.testing.engine(auto_advance=False) as env:

        @durable.workflow(id="run", timeout=60)
        def flow() -> None:
            durable.wait_for_signal("never")

        run = flow.start()
        env.clock.advance(seconds=60)
        with pytest.raises(TimeoutError):
            run.result(PATIENCE)
        env.engine.close()
        command = [sys.executable, "-m", "durable", "--db", env.path, "retry", "run"]  # which executes nothing
        subprocess.run(command, check=True, capture_output=True)
        env.clock.advance(hours=1)
        env.restart()
        env.engine.resume()
        env.clock.advance(seconds=59)
        assert env.engine.get("run").status == "waiting"
        env.clock.advance(seconds=1)
        assert env.engine.get("run").status == "failed"


def test_a_timeout_that_passes_when_its_run_was_interrupted_ends_nothing_before_the_run_goes_on():
    """The run is taken down, and waits for a step in flight. Its children would hear of a timeout that it has not."""
    begun, goes_on = threading.Event(), threading.Event()

    @durable.workflow(id="child")
    def child() -> None:
        durable.wait_for_signal("never")

    @durable.step(retry=None)
    async def in_flight() -> str:
        begun.set()
        while not goes_on.is_set():  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0.001)
        return "ended"

    @durable.step(retry=None)
    def strike() -> None:
        assert begun.wait(PATIENCE)
        if not goes_on.is_set():
            raise SystemExit

    @durable.workflow(id="run", timeout=60)
    async def flow() -> None:
        child.start()
        struck = asyncio.create_task(asyncio.to_thread(strike))
        await in_flight()
        await struck

    with durable.testing.engine(auto_advance=False) as env:
        run, runtime = flow.start(), env.engine._runtime
        wait_until(lambda: durable.runs(workflow=child) and durable.get("child").status == "waiting")
        wait_until(lambda: runtime.active["run"].execution.halted)
        env.clock.jump(env.clock.now() + 60)
        has_fired = threading.Event()
        runtime.timer.call_at(env.clock.now(), has_fired.set)  # after that of the run
        assert has_fired.wait(PATIENCE)
        goes_on.set()
        wait_until(lambda: "run" not in runtime.active)
        assert (run.status, durable.get("child").status) == ("interrupted", "waiting")
        assert "ended" in [step.output for step in run.steps()]
        env.restart()
        durable.resume()
        with pytest.raises(TimeoutError):
            durable.get("run").result(PATIENCE)
        with pytest.raises(durable.RunCancelledError):
            durable.get("child").result(PATIENCE)


def test_the_timeouts_of_runs_that_have_ended_are_not_kept_until_they_would_have_passed(journal, monkeypatch):
    """There may be millions of them by then. So many are forgotten together."""
    monkeypatch.setattr(_timer, "_AT_A_TIME", 100)

    @durable.workflow(timeout=86_400)
    def flow():
        return len(journal.engine._runtime.timer._calls)

    assert flow() == 1
    assert max(flow() for _ in range(150)) == 101


def test_a_body_that_submits_a_step_is_told_there_and_not_by_a_result_that_it_does_not_ask_for(journal):
    begun, cancelled, told = threading.Event(), threading.Event(), []

    @durable.step
    def step(): ...

    @durable.step
    def clean_up():
        told.append("cleaned up")

    @durable.workflow(id="flow")
    def flow():
        begun.set()
        cancelled.wait(PATIENCE)
        try:
            step.submit()
            durable.wait_for_signal("never")
        except durable.Cancelled:
            told.append("told")
            clean_up()
            journal.crash()
            raise

    run = flow.start()
    assert begun.wait(PATIENCE)
    run.cancel()
    cancelled.set()
    wait_until(lambda: run.status == "interrupted")  # who asks for its result afterwards sets it going again
    journal.restart()
    durable.resume(wait=True)
    assert durable.get("flow").status == "cancelled"
    assert told == ["told", "cleaned up", "told"]


def test_a_body_that_waits_for_a_while_is_told_when_it_has_called_all_that_the_journal_has(journal):
    waited, patience = [], [0.5, 0.5, 1.0, PATIENCE]

    @durable.step(retry=RetryPolicy(initial_interval=60))
    def fails():
        raise ValueError

    @durable.workflow(id="flow")
    def flow():
        for _ in range(2):
            future = fails.submit()
            with contextlib.suppress(TimeoutError):
                future.result(patience.pop(0))
            waited.append(1)
        journal.crash()

    with pytest.raises(KeyboardInterrupt):
        flow()
    journal.restart()
    durable.get("flow").cancel()  # by a visitor
    with pytest.raises(durable.RunCancelledError):
        flow()
    assert len(waited) == 3


@pytest.mark.parametrize("held_up_by", ["a back-off", "a slot"])
@pytest.mark.parametrize("waits_for", ["a signal", "that step", "that step, when it was cancelled", "another step"])
def test_the_body_is_told_where_it_waits_whatever_its_submitted_steps_wait_for(journal, held_up_by, waits_for):
    begun, end, cancelled = threading.Event(), threading.Event(), threading.Event()
    executed, told = [], []

    @durable.step(retry=RetryPolicy(initial_interval=0.9, backoff_coefficient=1, maximum_attempts=0), concurrency=1)
    def step():
        begun.set()
        if held_up_by == "a slot":
            end.wait(PATIENCE)
        raise ValueError

    @durable.step
    def other():
        cancelled.wait(PATIENCE)

    @durable.workflow
    def holder():
        step()

    @durable.workflow(id="flow")
    def flow():
        executed.append("executed")
        future, beside = step.submit(), other.submit()
        try:
            if waits_for == "a signal":
                durable.wait_for_signal("never")
            elif waits_for == "that step, when it was cancelled":
                cancelled.wait(PATIENCE)
            elif waits_for == "another step":
                beside.result()
                durable.now()
            future.result()
        except durable.Cancelled:
            told.append("told")
            journal.crash()
            raise

    if held_up_by == "a slot":
        holding = holder.start()
        assert begun.wait(PATIENCE)
    run = flow.start()
    assert begun.wait(PATIENCE)
    wait_until(lambda: len(run.steps()) >= (1 if held_up_by == "a slot" else 2))
    wait_until(lambda: held_up_by == "a slot" or run.steps()[0].status == "retrying")
    run.cancel()
    cancelled.set()
    with pytest.raises(durable.RunInterruptedError):
        run.result(PATIENCE)
    if held_up_by == "a slot":
        holding.cancel()
    end.set()
    journal.restart()
    durable.resume(wait=True)
    assert durable.get("flow").status == "cancelled"
    assert 2 <= len(told) <= len(executed)  # one that was interrupted may be set going, and interrupted, again


# -- in the body of a workflow -----------------------------------------------------------------------------------------


results = []
"""What bodies of the workflows of these tests end with."""


@pytest.fixture(params=["sync", "async"])
def declare(request):
    """Makes a body, which yields the runs that it waits for, a workflow of either kind."""

    def declare(body):
        if request.param == "sync":

            @durable.workflow(id="parent")
            def parent():
                steps = body()
                with contextlib.suppress(StopIteration):
                    run = next(steps)
                    while True:
                        run = steps.send(run.result())
                return results[-1]

        else:

            @durable.workflow(id="parent")
            async def parent():
                steps = body()
                with contextlib.suppress(StopIteration):
                    run = next(steps)
                    while True:
                        run = steps.send(await run)
                return results[-1]

        return parent

    return declare


def test_a_signal_of_a_workflow_is_sent_once_however_often_its_body_is_replayed(journal, declare):
    @durable.workflow(id="reader")
    def reader():
        return [durable.wait_for_signal("go", str), durable.wait_for_signal("go", str)]

    def body():
        run = reader.start()
        run.signal("go", "first")
        journal.crash()
        run.signal("go", "second")
        results.append((yield run))

    parent = declare(body)
    with pytest.raises(durable.RunInterruptedError):
        parent.start().result(PATIENCE)
    journal.restart()
    durable.resume(wait=True)
    run = durable.get("parent")
    assert run.result(PATIENCE) == ["first", "second"]
    sent = [step for step in run.steps() if step.name == "run.signal"]
    assert [(step.kind, step.status, step.input) for step in sent] == [
        ("step", "completed", {"run": "reader", "name": "go", "value": value, "error": None})
        for value in ("first", "second")
    ]


@pytest.mark.parametrize("sent", [{"value": 2}, {"error": ValueError("no")}, {}], ids=["value", "error", "nothing"])
def test_another_value_of_a_signal_than_the_one_that_was_sent_is_changed_code(journal, declare, sent):
    @durable.workflow(id="reader")
    def reader():
        return durable.wait_for_signal("go", int)

    signals = {"value": 1}

    def body():
        run = reader.start()
        run.signal("go", **signals)
        journal.crash()
        results.append((yield run))

    parent = declare(body)
    with pytest.raises(durable.RunInterruptedError):
        parent.start().result(PATIENCE)
    journal.restart()
    signals, before = sent, signals
    durable.resume(wait=True)
    run = durable.get("parent")
    assert run.status == "blocked"
    assert "step 'run.signal' was called with other inputs than the journal has (value: journal 1" in str(run.error)
    assert "match_inputs" not in str(run.error)  # it is an option of steps that a decorator declares
    signals = before
    durable.resume(wait=True)
    assert run.result(PATIENCE) == 1


def test_a_run_that_ended_before_a_workflow_cancelled_it_ended_before_it_on_replay_too(journal, declare):
    late = threading.Event()

    @durable.workflow(id="child")
    def child(n):
        late.wait(PATIENCE if n else 0)
        return n

    def body():
        run = child.with_options(id="first").start(1)
        run.cancel()  # in time
        late.set()
        ended = child.with_options(id="second").start(0)
        yield ended
        try:
            ended.cancel()
        except durable.RunFinishedError as error:
            found = str(error)
        journal.crash()
        results.append(found)

    parent = declare(body)
    with pytest.raises(durable.RunInterruptedError):
        parent.start().result(PATIENCE)
    journal.restart()
    durable.resume(wait=True)
    run = durable.get("parent")
    assert "second" in run.result(PATIENCE)
    assert [step.status for step in run.steps() if step.name == "run.cancel"] == ["completed", "failed"]


def test_a_workflow_may_fork_and_retry_a_run_and_cancel_itself(journal, declare):
    works = []

    @durable.step(retry=None)
    def fails_at_first():
        works.append(1)
        if len(works) == 1:
            raise ValueError

    @durable.workflow(id="child")
    def child():
        fails_at_first()
        return durable.info().run_id

    def body():
        run = durable.get("child")
        run.retry()
        before = yield run
        after = yield run.fork(2)
        durable.get("parent").cancel()
        journal.crash()
        yield run  # where an async run is told
        durable.now()  # where a sync one is
        results.append((before, after))

    with pytest.raises(ValueError):
        child.start().result(PATIENCE)
    parent = declare(body)
    with pytest.raises(durable.RunInterruptedError):
        parent.start().result(PATIENCE)
    runs = len(durable.runs())
    journal.restart()
    durable.resume(wait=True)
    run = durable.get("parent")
    with pytest.raises(durable.RunCancelledError):
        run.result(PATIENCE)
    assert len(durable.runs()) == runs == 3
    assert [step.name for step in run.steps() if step.name.startswith("run.")] == [
        "run.retry",
        "run.fork",
        "run.cancel",
    ]
    assert len(works) == 2


def test_a_run_that_was_cancelled_may_be_cancelled_again_and_nothing_is_left_in_the_file(journal):
    @durable.workflow
    def flow():
        durable.sleep(3600)

    run = flow.start()
    run.cancel()
    with pytest.raises(durable.RunCancelledError):
        run.result(PATIENCE)
    run.cancel()
    assert run.status == "cancelled"
    assert journal.engine._runtime.journal.messages(1, "cancel", "") == []

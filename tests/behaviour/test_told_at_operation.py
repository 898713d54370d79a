"""An async run whose own task blocks its loop, in a sync step, hears of its cancellation at an operation, as a sync one."""

import asyncio
import threading

import pytest

import durable
from durable import RetryPolicy

SOON = 10.0


@pytest.fixture
def ran():
    return []


@pytest.fixture
def clean_up(ran, journal):
    @durable.step(name="release")
    async def release():
        await asyncio.sleep(0)
        ran.append("release")

    @durable.step(name="dies")
    def dies():
        journal.crash()
        ran.append("lived")

    async def clean_up(*, may_die):
        await release()
        if may_die:
            dies()

    return clean_up


def cancelled_while_at_work(flow, at_work, is_asked=None):
    run = flow.start()
    assert at_work.wait(SOON)
    run.cancel()
    if is_asked is not None:
        is_asked.set()
    with pytest.raises(durable.RunCancelledError):
        run.result(SOON)
    return run


@pytest.mark.parametrize("next_one", ["step", "now", "child", "start"])
def test_the_next_operation_after_a_sync_step_raises(journal, ran, clean_up, next_one):
    at_work, is_asked = threading.Event(), threading.Event()

    @durable.step(name="slow")
    def slow():
        at_work.set()
        is_asked.wait(SOON)
        ran.append("slow")

    @durable.step(name="more")
    def more():
        ran.append("more")

    @durable.workflow(name="child")
    def child():
        ran.append("child")

    @durable.workflow(id="run")
    async def flow():
        try:
            slow()
            for call in ({"step": more, "now": durable.now, "child": child, "start": child.start}[next_one], more):
                call()
        except asyncio.CancelledError:
            ran.append("told")
            await clean_up(may_die=False)
            raise

    run = cancelled_while_at_work(flow, at_work, is_asked)
    assert ran == ["slow", "told", "release"]
    assert [step.status for step in run.steps()] == ["completed", "failed", "completed"]


def test_a_back_off_that_blocks_the_loop_is_cut(journal, ran, clean_up):
    at_work = threading.Event()

    @durable.step(name="fails", retry=RetryPolicy(initial_interval=60))
    def fails():
        at_work.set()
        raise ValueError

    @durable.workflow(id="run")
    async def flow():
        try:
            fails()
        finally:
            await clean_up(may_die=False)

    cancelled_while_at_work(flow, at_work)
    assert ran == ["release"]


def test_a_child_that_blocks_the_loop_is_cancelled_with_its_parent_which_is_told_once(journal, ran, clean_up):
    at_work = threading.Event()

    @durable.workflow(name="child")
    def child():
        at_work.set()
        durable.sleep(60)

    @durable.workflow(id="run")
    async def flow():
        try:
            child()
        finally:
            await clean_up(may_die=False)

    cancelled_while_at_work(flow, at_work)
    assert ran == ["release"]
    assert {run.status for run in durable.runs()} == {"cancelled"}


@pytest.mark.parametrize("is_asked_by", ["cancel", "timeout"])
def test_a_crash_in_the_clean_up_replays_it(journal, run_async, ran, clean_up, is_asked_by):
    """It is told at the same operation again, and no second time."""
    at_work = threading.Event()

    @durable.step(name="fails", retry=RetryPolicy(initial_interval=60))
    def fails():
        ran.append("fails")
        at_work.set()
        raise ValueError

    @durable.workflow(id="run", timeout=0.3 if is_asked_by == "timeout" else None)
    async def flow():
        try:
            fails()
        except asyncio.CancelledError:
            ran.append("told")
            await clean_up(may_die=True)
            await clean_up(may_die=False)

    with pytest.raises((KeyboardInterrupt, durable.RunInterruptedError)):
        run = flow.start()
        assert at_work.wait(SOON)
        if is_asked_by == "cancel":
            run.cancel()
        run.result(SOON)
    journal.restart()
    with pytest.raises(durable.RunCancelledError if is_asked_by == "cancel" else TimeoutError):
        run_async(flow())
    assert ran == ["fails", "told", "release", "told", "lived", "release"]


def test_who_blocks_the_loop_in_another_task_goes_on_and_the_run_is_told_where_it_awaits(journal, ran, clean_up):
    at_work, is_asked = threading.Event(), threading.Event()

    @durable.step(name="slow")
    def slow(number):
        at_work.set()
        is_asked.wait(SOON)
        ran.append(number)

    async def part():
        slow(1)
        slow(2)

    @durable.workflow(id="run")
    async def flow():
        try:
            await asyncio.create_task(part())
            await asyncio.sleep(60)
        finally:
            await clean_up(may_die=False)

    cancelled_while_at_work(flow, at_work, is_asked)
    assert ran == [1, 2, "release"]


def test_who_is_cancelled_while_it_is_being_suspended_is_told_when_it_goes_on(journal, ran, clean_up):
    leaves, asked = threading.Event(), threading.Event()

    @durable.workflow(id="run")
    async def flow():
        try:
            try:
                await durable.aio.wait_for_signal("never", int)
            finally:
                leaves.set()
                asked.wait(SOON)
                await asyncio.sleep(0.1)  # the loop takes its turns, and hears of the cancellation
        except asyncio.CancelledError:
            await clean_up(may_die=False)

    cancelled_while_at_work(flow, leaves, asked)
    assert ran == ["release"]

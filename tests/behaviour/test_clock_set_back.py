"""A clock that is set back while runs wait: none waits for longer than it was to, and none for less."""

import asyncio
import contextlib
import datetime as dt
import sqlite3
import threading
import time

import apsw
import pytest

import durable
from durable import _timer
from durable._set_back import SetBack, move_back
from tests.behaviour.clocks import SetClock
from tests.behaviour.patience import PATIENCE, wait_until

SECONDS = 1.5
"""Long enough for a run in the background to be suspended."""
HOURS = 7200.0


POLICY = durable.RetryPolicy(
    initial_interval=SECONDS, backoff_coefficient=1, maximum_interval=SECONDS, maximum_attempts=2, jitter=0
)


@durable.step(retry=POLICY)
def fails_once():
    if durable.info().attempt == 1:
        raise ConnectionError


@durable.step(retry=POLICY)
async def fails_once_async():
    if durable.info().attempt == 1:
        raise ConnectionError


@durable.workflow(name="set back backs_off")
def backs_off():
    fails_once()


@durable.workflow(name="set back backs_off_async")
async def backs_off_async():
    await fails_once_async()


@durable.workflow(name="set back sleeps")
def sleeps():
    durable.sleep(SECONDS)


@durable.workflow(name="set back sleeps_async")
async def sleeps_async():
    await durable.aio.sleep(SECONDS)


@durable.workflow(name="set back waits")
def waits():
    with pytest.raises(TimeoutError):
        durable.wait_for_signal("never", timeout=SECONDS)


@durable.workflow(name="set back waits_async")
async def waits_async():
    with pytest.raises(TimeoutError):
        await durable.aio.wait_for_signal("never", timeout=SECONDS)


KINDS = [backs_off, backs_off_async, sleeps, sleeps_async, waits, waits_async]
kinds = pytest.mark.parametrize("workflow", KINDS, ids=lambda workflow: workflow.name)


def suspended(run):
    wait_until(lambda: run.status == "waiting")
    return run


@kinds
def test_within_a_life_a_suspended_run_waits_for_as_long_as_it_was_to(tmp_path, workflow):
    clock = SetClock()
    with durable.Engine(tmp_path / "durable.db", clock=clock):
        begun = time.monotonic()
        run = suspended(workflow.start())
        clock.ahead = -HOURS
        run.result(PATIENCE)
        assert time.monotonic() - begun > SECONDS


@kinds
def test_between_two_lives_it_waits_for_no_longer_than_the_whole_wait(tmp_path, workflow):
    with durable.Engine(tmp_path / "durable.db"):
        run_id = suspended(workflow.start()).id
    with durable.Engine(tmp_path / "durable.db", clock=SetClock(-HOURS)):
        begun = time.monotonic()
        durable.resume()
        durable.get(run_id).result(PATIENCE)
        assert time.monotonic() - begun > SECONDS


def interrupted(engine, workflow):
    with engine, pytest.raises(durable.RunInterruptedError):
        asyncio.run(workflow()) if workflow.name.endswith("async") else workflow()


def is_due(runs):
    return any(step.retry_at for run in runs for step in run.steps())


@kinds
def test_one_that_was_interrupted_and_is_suspended_in_the_next_life_waits_no_longer(tmp_path, workflow):
    with durable.Engine(tmp_path / "durable.db") as engine:
        call = threading.Thread(target=interrupted, args=[engine, workflow])
        call.start()
        wait_until(lambda: is_due(engine.runs()))
        engine.close()
    call.join()
    with durable.Engine(tmp_path / "durable.db", clock=SetClock(-HOURS)):
        (run,) = durable.resume()
        suspended(run)
        run.result(PATIENCE)


def test_one_that_is_suspended_only_when_the_clock_was_set_back_waits_no_longer(tmp_path):
    """A step is at work beside the wait, which so is held in memory meanwhile."""
    clock, begun, goes_on = SetClock(), threading.Event(), threading.Event()

    @durable.step
    def works():
        begun.set()
        goes_on.wait(PATIENCE)

    @durable.workflow
    def both():
        work = works.submit()
        durable.sleep(SECONDS + 1)
        work.result()

    with durable.Engine(tmp_path / "durable.db", clock=clock):
        run = both.start()
        assert begun.wait(PATIENCE)
        wait_until(lambda: is_due([run]))
        clock.ahead = -HOURS
        time.sleep(0.6)  # the timer looks four times a second
        goes_on.set()
        suspended(run).result(PATIENCE)


def test_a_wait_for_a_time_is_over_at_that_time(tmp_path):
    clock = SetClock(HOURS)
    due = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=HOURS + 3)

    @durable.workflow
    def sleeps_until():
        durable.sleep_until(due)
        return durable.now()

    with durable.Engine(tmp_path / "durable.db", clock=clock):
        run = suspended(sleeps_until.start())
        clock.ahead = HOURS - 3
        assert run.result(PATIENCE) >= due


@pytest.mark.parametrize("to_async", [False, True])
def test_a_plain_call_waits_until_a_time_by_whatever_the_clock_says_now(tmp_path, to_async):
    clock = SetClock()
    due = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)

    @durable.workflow
    def sleeps_until():
        durable.sleep_until(due)
        return durable.now()

    @durable.workflow
    async def sleeps_until_async():
        await durable.aio.sleep_until(due)
        return durable.now()

    def set_back():
        wait_until(lambda: is_due(engine.runs()))
        clock.ahead = -1.5

    with durable.Engine(tmp_path / "durable.db", clock=clock) as engine:
        setter = threading.Thread(target=set_back)
        setter.start()
        woken = asyncio.run(sleeps_until_async()) if to_async else sleeps_until()
        setter.join()
        assert woken >= due


def test_a_damaged_run_keeps_no_other_from_being_moved(tmp_path):
    path = tmp_path / "durable.db"
    with durable.Engine(path):
        damaged, whole = [suspended(sleeps.start()) for _ in range(2)]
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE durable_step SET name = 'doze' WHERE run = 1")
    with durable.Engine(path, clock=SetClock(-HOURS)):
        durable.resume()
        durable.get(whole.id).result(PATIENCE)
        with pytest.raises(durable.JournalError, match="checksum"):
            durable.get(damaged.id).steps()


def test_what_cannot_be_written_just_now_is_moved_when_it_can(tmp_path):
    path, clock = tmp_path / "durable.db", SetClock()
    with durable.Engine(path, clock=clock):
        run = suspended(sleeps.start())
        with contextlib.closing(apsw.Connection(str(path))) as other:
            other.execute("BEGIN IMMEDIATE")
            clock.ahead = -HOURS
            time.sleep(SECONDS)
            other.execute("ROLLBACK")
        run.result(PATIENCE)


def test_an_engine_is_closed_quietly_while_that_cannot_be_written(tmp_path, monkeypatch):
    path, clock, died = tmp_path / "durable.db", SetClock(), []
    monkeypatch.setattr(threading, "excepthook", died.append)
    with contextlib.closing(apsw.Connection(str(path))) as other:
        with durable.Engine(path, clock=clock):
            run_id = suspended(sleeps.start()).id
            other.execute("BEGIN IMMEDIATE")
            clock.ahead = -HOURS
            time.sleep(SECONDS)
        other.execute("ROLLBACK")
    wait_until(lambda: not any(thread.name == "durable-timer" for thread in threading.enumerate()))
    assert died == []
    with durable.Engine(path, clock=clock):
        durable.resume()
        durable.get(run_id).result(PATIENCE)


def test_many_are_moved_part_by_part(tmp_path, monkeypatch):
    monkeypatch.setattr(_timer, "_MOVED_AT_ONCE", 1)
    clock = SetClock()
    with durable.Engine(tmp_path / "durable.db", clock=clock):
        runs = [suspended(sleeps.start()) for _ in range(3)]
        clock.ahead = -HOURS
        for run in runs:
            run.result(PATIENCE)


def test_a_run_that_has_ended_meanwhile_or_is_gone_is_left_as_it_is(tmp_path):
    @durable.workflow
    def ends():
        durable.sleep(0)

    with durable.Engine(tmp_path / "durable.db") as engine:
        ends()
        journal = engine._runtime.journal
        before = journal.steps(1)
        journal.write(lambda transaction: move_back(transaction, [1, 2], SetBack(HOURS, time.time()), time.time()))
        assert journal.steps(1) == before


@pytest.mark.parametrize(
    ("began", "seconds"),
    [
        (880.0, 100.0),  # long before
        (1050.0, 100.0),  # just before: ahead of the clock now
        (1101.0, 101.0),  # the clock was set back by more than it was seen to be
        (999.9, 0.0),  # since then, or so long before that it cannot be told
        (1000.0, 0.0),
    ],
)
def test_what_began_before_the_clock_was_set_back_is_moved(began, seconds):
    assert SetBack(100.0, since=999.5).of(began, now=1000.0) == seconds


@pytest.mark.parametrize(("began", "seconds"), [(0.0, 0.0), (999.0, 0.0), (1000.0, 0.0), (1007.0, 7.0)])
def test_between_two_lives_what_began_says_by_how_much(began, seconds):
    assert SetBack(0.0, since=0.0).of(began, now=1000.0) == seconds

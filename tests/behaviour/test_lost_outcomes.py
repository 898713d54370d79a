"""An outcome that is no longer found, as a flipped bit in its key makes it, is missed before anything runs again."""

import asyncio
import time

import apsw
import pytest

import durable
from durable.errors import JournalError

PATIENCE = 60.0
DEATH = -1  # among what fails: the process, between a failure and the end of the run
CHANGES = {"run": "run + 1000", "branch": "'~nowhere'", "position": "position + 1000"}


@durable.step(retry=None)
def charge(number: int) -> int:
    calls.append(number)
    if number in failing:
        raise failing[number]
    return number


@durable.workflow(id="sync")
def sync_run() -> int:
    return sum(charge(number) for number in range(first, 4))


@durable.workflow(id="async")
async def async_run() -> int:
    numbers = await asyncio.gather(*(asyncio.to_thread(charge, number) for number in range(2)))
    return sum(numbers) + await asyncio.to_thread(charge, 3)


@durable.workflow(id="dies")
def dies_at_a_failure() -> int:
    charge(0)
    try:
        return charge(3)
    except ValueError:
        if failing.pop(DEATH, None) is not None:
            raise KeyboardInterrupt from None
        raise


calls: list[int] = []
first = 0
failing: dict[int, BaseException] = {}


@pytest.fixture(autouse=True)
def nothing_done():
    calls.clear()
    failing.clear()
    yield
    failing.clear()


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "journal.db")


def interrupt_twice(path):
    """A run of three outcomes that has been set going since the third."""
    failing[3] = KeyboardInterrupt()
    for _ in range(2):
        with durable.Engine(path), pytest.raises(KeyboardInterrupt):
            sync_run()
    calls.clear()


def lose(path, column, position):
    connection = apsw.Connection(path)
    connection.execute(f"UPDATE durable_step SET {column} = {CHANGES[column]} WHERE position = {position}")
    connection.close()


@pytest.mark.parametrize("position", [0, 2], ids=["first", "last"])
@pytest.mark.parametrize("column", CHANGES)
def test_an_outcome_that_is_not_found_is_missed(path, column, position):
    interrupt_twice(path)
    lose(path, column, position)
    failing.clear()
    with durable.Engine(path), pytest.raises(JournalError, match="damaged|missing"):
        sync_run()
    assert calls == []


def test_the_run_says_how_many_are_missing(path):
    interrupt_twice(path)
    lose(path, "run", 2)
    with (
        durable.Engine(path),
        pytest.raises(JournalError, match="1 of the 3 outcomes that run 'sync' of 'sync_run' had"),
    ):
        sync_run()


def test_one_such_run_keeps_no_other_from_being_resumed_and_is_told_of(path, caplog):
    interrupt_twice(path)
    lose(path, "run", 2)
    failing.clear()
    with durable.Engine(path) as engine:
        other = sync_run.with_options(id="other").start()
        assert other.result() == 6
        calls.clear()
        engine.resume(wait=True)
        for _ in range(2):  # a refusal leaves nothing behind in the engine
            with pytest.raises(JournalError, match="missing"):
                sync_run()
        assert calls == []
        assert durable.get("sync").status == "interrupted"
    deadline = time.monotonic() + PATIENCE
    while "run sync stopped: 1 of the 3 outcomes" not in caplog.text:  # said when everybody was told that it is over
        assert time.monotonic() < deadline, caplog.text
        time.sleep(0.005)


def test_a_blocked_run_is_not_retried_without_what_it_had(path, monkeypatch):
    interrupt_twice(path)
    monkeypatch.setitem(globals(), "first", 1)
    with durable.Engine(path), pytest.raises(durable.NonDeterminismError):
        sync_run()
    lose(path, "run", 2)
    with durable.Engine(path), pytest.raises(JournalError, match="missing"):
        durable.get("sync").retry(trust_journal=True)


@pytest.mark.parametrize("trusts", [False, True])
def test_a_blocked_run_is_retried_with_what_it_had(path, monkeypatch, trusts):
    interrupt_twice(path)
    with monkeypatch.context() as changed, durable.Engine(path), pytest.raises(durable.NonDeterminismError):
        changed.setitem(globals(), "first", 1)
        sync_run()
    failing.clear()
    with durable.Engine(path):
        durable.get("sync").retry(trust_journal=trusts)
        assert durable.get("sync").result() == 6
    assert calls == [3]


def test_what_a_retry_drops_is_not_missed(path):
    failing.update({3: ValueError("no"), DEATH: KeyboardInterrupt()})
    with durable.Engine(path), pytest.raises(KeyboardInterrupt):
        dies_at_a_failure()
    with durable.Engine(path), pytest.raises(ValueError, match="no"):
        dies_at_a_failure()  # set going with two outcomes, one of them the failure, which the retry drops
    failing.clear()
    with durable.Engine(path):
        durable.get("dies").retry()
        assert durable.get("dies").result() == 3


def test_a_retry_drops_nothing_where_something_is_missing(path):
    failing[3] = ValueError("no")
    with durable.Engine(path):
        with pytest.raises(ValueError, match="no"):
            sync_run()
        durable.get("sync").retry()
        with pytest.raises(ValueError, match="no"):
            durable.get("sync").result()
    lose(path, "run", "position AND position < 2")  # one would not be: the outcome since the last claim stands for it
    with durable.Engine(path), pytest.raises(JournalError, match="missing"):
        durable.get("sync").retry()


def test_a_fork_has_its_own_count(path):
    interrupt_twice(path)
    failing.clear()
    with durable.Engine(path):
        assert durable.get("sync").fork(from_step=2).result() == 6
        assert calls == [1, 2, 3]


def test_outcomes_of_an_async_run_are_missed_too(path):
    failing[3] = KeyboardInterrupt()
    for _ in range(2):
        with durable.Engine(path), pytest.raises((KeyboardInterrupt, durable.RunInterruptedError)):
            asyncio.run(async_run())
    with apsw.Connection(path) as connection:
        connection.execute("UPDATE durable_step SET run = run + 1000 WHERE input = '{\"number\":0}'")
    connection.close()
    calls.clear()
    failing.clear()
    with durable.Engine(path), pytest.raises(JournalError, match="missing"):
        asyncio.run(async_run())
    assert calls == []

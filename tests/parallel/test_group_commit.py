"""Many outcomes, one fsync; and what fails, fails alone."""

import asyncio
import threading
import time

import apsw
import pytest

import durable
from durable import SerializationError

SOON = 60.0
LARGEST = 10_000


@pytest.fixture
def small_records(journal):
    """SQLite itself refuses rows of more than ten thousand bytes."""
    journal.engine._runtime.own()
    journal.file._writer.limit(apsw.SQLITE_LIMIT_LENGTH, LARGEST)


def test_a_lone_run_pays_one_fsync_a_step(journal):
    @durable.step
    def step(number: int) -> int:
        return number

    @durable.workflow(id="run")
    def flow() -> None:
        for number in range(10):
            step(number)

    commits = journal.count_commits()
    flow()
    assert commits["full"] <= 10 + 2  # the outcome of the run, and one because the row of a plain call has none
    assert commits["all"] <= 2 * 10 + 3


def test_outcomes_of_async_runs_share_their_fsyncs(journal, run_async):
    runs, steps = 200, 5

    @durable.step
    async def step(number: int) -> int:
        return number

    @durable.workflow
    async def flow(number: int) -> None:
        for _ in range(steps):
            await step(number)

    async def main() -> None:
        await asyncio.gather(*map(flow, range(runs)))

    commits = journal.count_commits()
    journal.be_as_slow_as_a_disk()
    run_async(main())
    print(f"{commits['full']} fsyncs for {runs * (steps + 1)} outcomes")
    assert commits["full"] <= runs * (steps + 1) / 20


def test_outcomes_of_the_branches_of_one_run_share_their_fsyncs(journal, run_async):
    @durable.step
    async def step(number: int) -> int:
        return number

    @durable.workflow
    async def flow() -> list[int]:
        return await asyncio.gather(*map(step, range(200)))

    commits = journal.count_commits()
    journal.be_as_slow_as_a_disk()
    assert run_async(flow()) == list(range(200))
    assert commits["full"] <= 20


def test_outcomes_of_threads_share_their_fsyncs(journal):
    journal.open(threads=16)
    runs, steps = 64, 10

    @durable.step
    def step(number: int) -> int:
        return number

    @durable.workflow
    def flow(number: int) -> None:
        for _ in range(steps):
            step(number)

    commits = journal.count_commits()
    journal.be_as_slow_as_a_disk()
    for run in flow.start_many(range(runs)):
        run.result(SOON)
    print(f"{commits['full']} fsyncs for {runs * (steps + 1)} outcomes")
    assert commits["full"] <= runs * (steps + 1) / 2


def test_a_result_that_is_too_large_fails_its_own_sync_run_only(journal, small_records):
    @durable.step(retry=None)
    def step(size: int) -> str:
        return "x" * size

    @durable.workflow(name="flow", id="run-{number}")
    def flow(number: int) -> int:
        return sum(len(step(2 * LARGEST if number == 7 else 10)) for _ in range(4))

    runs = flow.start_many(range(16))
    for number, run in enumerate(runs):
        if number == 7:
            with pytest.raises(SerializationError, match="step"):
                run.result(SOON)
        else:
            assert run.result(SOON) == 40
    assert [run.id for run in durable.runs("failed")] == ["run-7"]


def test_a_result_that_is_too_large_fails_its_own_async_run_only(journal, small_records, run_async):
    @durable.step(retry=None)
    async def step(size: int) -> str:
        return "x" * size

    @durable.workflow(name="flow", id="run-{number}")
    async def flow(number: int) -> int:
        return sum([len(await step(2 * LARGEST if number == 7 else 10)) for _ in range(4)])

    async def main() -> list[object]:
        return await asyncio.gather(*map(flow, range(16)), return_exceptions=True)

    results = run_async(main())
    assert isinstance(results[7], SerializationError)
    assert [result for number, result in enumerate(results) if number != 7] == [40] * 15
    assert [run.id for run in durable.runs("failed")] == ["run-7"]


def test_a_too_large_outcome_among_the_branches_of_one_run_fails_its_own_step_only(journal, small_records, run_async):
    @durable.step(retry=None)
    async def step(size: int) -> int:
        step.calls.append(size)
        return "x" * size

    step.calls = []

    @durable.workflow(id="run")
    async def flow() -> list[str]:
        sizes = [10, 2 * LARGEST, 20, 3 * LARGEST, 30]
        results = await asyncio.gather(*map(step, sizes), return_exceptions=True)
        journal.crash()
        return [type(result).__name__ if isinstance(result, Exception) else str(len(result)) for result in results]

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    expected = ["10", "SerializationError", "20", "SerializationError", "30"]
    assert run_async(flow()) == expected
    assert len(step.calls) == 5


def test_inputs_that_are_too_large_fail_the_start_only(journal, small_records):
    @durable.workflow(name="flow")
    def flow(text: str) -> int:
        return len(text)

    with pytest.raises(SerializationError):
        flow.start("x" * 2 * LARGEST)
    with pytest.raises(SerializationError):
        flow("x" * 2 * LARGEST)
    with pytest.raises(SerializationError):
        flow.start_many(["a", "x" * 2 * LARGEST])
    assert flow.start("abc").result(SOON) == 3
    assert len(durable.runs()) == 1


def test_a_result_of_a_run_that_is_too_large_fails_it(journal, small_records):
    @durable.workflow(id="run")
    def flow() -> str:
        return "x" * 2 * LARGEST

    with pytest.raises(SerializationError):
        flow()
    assert durable.get("run").status == "failed"


def test_a_step_that_blocks_the_loop_does_not_delay_the_commits_of_others(journal):
    blocked, go_on = threading.Event(), threading.Event()

    @durable.step
    def block() -> None:
        blocked.set()
        go_on.wait(SOON)

    @durable.workflow(name="blocks")
    async def blocks() -> None:
        block()

    @durable.step
    def quick(number: int) -> int:
        return number

    @durable.workflow(name="runs_beside")
    def runs_beside() -> None:
        for number in range(50):
            quick(number)

    run = blocks.start()
    assert blocked.wait(SOON)
    runs_beside()
    assert run.status == "running"
    go_on.set()
    run.result(SOON)


def test_a_step_in_a_transaction_that_takes_long_delays_the_others_and_no_more(journal):
    """The price that the docs name: the writer is held while the body runs."""

    @durable.step(transaction=True)
    def long() -> None:
        time.sleep(0.2)

    @durable.step
    def quick(number: int) -> int:
        return number

    @durable.workflow(name="one")
    def one() -> None:
        long()

    @durable.workflow(name="other")
    def other() -> list[int]:
        return [quick(number) for number in range(5)]

    runs = [one.start(), other.start(), one.start()]
    assert [run.result(SOON) for run in runs] == [None, list(range(5)), None]

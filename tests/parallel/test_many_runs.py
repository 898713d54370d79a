"""Thousands of runs at once: all complete, on a bounded number of threads, with few fsyncs."""

import asyncio
import resource
import threading
import time
from typing import Self

import durable


class Watch:
    """Samples the number of threads while the block runs, and prints figures at its end."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.most_threads = 0
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self.before = threading.active_count()
        self.begun = time.monotonic()
        threading.Thread(target=self._sample).start()
        return self

    def _sample(self) -> None:
        while not self._over.wait(0.005):
            self.most_threads = max(self.most_threads, threading.active_count() - self.before)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        seconds = time.monotonic() - self.begun
        print(f"{self.what}: {seconds:.1f} s, at most {self.most_threads} threads more, peak memory {megabytes:.0f} MB")


def test_sync_runs_at_once(journal, size):
    count, steps = size(100, 2000), 5
    journal.open(threads=16)

    @durable.step
    def add(number: int) -> int:
        return number + 1

    @durable.workflow(name="w", id="run-{number}")
    def w(number: int) -> int:
        for _ in range(steps):
            number = add(number)
        return number

    commits = journal.count_commits()
    journal.be_as_slow_as_a_disk()
    with Watch(f"{count} sync runs of {steps} steps") as watch:
        runs = w.start_many(range(count))
        assert [run.result(100) for run in runs] == [number + steps for number in range(count)]
    print(f"{commits['full']} fsyncs for {count * (steps + 1)} outcomes, {commits['all']} transactions")
    assert watch.most_threads <= 16 + 3
    assert len(durable.runs("completed", limit=count + 1)) == count
    assert commits["full"] < count * (steps + 1) / 2


def test_async_runs_at_once_on_the_engines_loop(journal, size):
    count, steps = size(300, 10_000), 5

    @durable.step
    async def add(number: int) -> int:
        await asyncio.sleep(0)
        return number + 1

    @durable.workflow(name="w", id="run-{number}")
    async def w(number: int) -> int:
        for _ in range(steps):
            number = await add(number)
        return number

    commits = journal.count_commits()
    journal.be_as_slow_as_a_disk()
    with Watch(f"{count} async runs of {steps} steps") as watch:
        runs = w.start_many(range(count))
        assert [run.result(100) for run in runs] == [number + steps for number in range(count)]
    print(f"{commits['full']} fsyncs for {count * (steps + 1)} outcomes, {commits['all']} transactions")
    assert watch.most_threads <= 4
    assert len(durable.runs("completed", limit=count + 1)) == count
    assert commits["full"] <= count * (steps + 1) / 20


def test_async_runs_at_once_on_the_callers_loop(journal, run_async, size):
    count = size(150, 5000)

    @durable.step
    async def double(number: int) -> int:
        return number * 2

    @durable.workflow(name="w")
    async def w(number: int) -> int:
        one, other = await asyncio.gather(double(number), double(number + 1))
        return one + other

    async def main() -> list[int]:
        async with durable.Engine(journal.path):
            called = await asyncio.gather(*map(w, range(count)))
            started = [await run for run in w.start_many(range(count))]
            assert called == started
            return called

    assert run_async(main()) == [number * 4 + 2 for number in range(count)]


def test_sync_and_async_runs_that_wait_for_each_other(journal):
    journal.open(threads=2)

    @durable.step
    async def double(number: int) -> int:
        return number * 2

    @durable.workflow(name="inner")
    async def inner(number: int) -> int:
        return await double(number)

    @durable.workflow(name="outer")
    def outer(number: int) -> int:
        return inner.start(number).result() + 1

    runs = outer.start_many(range(40))
    assert [run.result(60) for run in runs] == [number * 2 + 1 for number in range(40)]

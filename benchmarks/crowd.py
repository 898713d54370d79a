"""Many runs at once: one writer, one fsync for all that wait at a time."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import durable

from .disk import counted_syncs
from .report import Row, in_time, spread
from .steps import trivial, trivial_async

STEPS = 20


@durable.workflow
def sync_run(number: int) -> int:
    return sum(trivial(number + step) for step in range(STEPS))


@durable.workflow
async def async_run(number: int) -> int:
    total = 0
    for step in range(STEPS):
        total += await trivial_async(number + step)
    return total


class Round(NamedTuple):
    """From the first start to the last result, by the wall clock and by the processor's."""

    steps_per_second: float
    cpu_seconds_per_step: float


class _Stopwatch:
    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._began = time.perf_counter(), time.process_time()

    def read(self) -> Round:
        wall, cpu = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
        return Round(self._steps / wall, cpu / self._steps)


def _sync_round(path: Path, runs: int, vfs: str | None = None) -> Round:
    with durable.open(path, vfs=vfs):
        sync_run(-1)  # the engine is open, the codecs are made
        watch = _Stopwatch(runs * STEPS)
        started = (
            sync_run.start_many(range(runs))
            if hasattr(sync_run, "start_many")
            else [sync_run.start(number) for number in range(runs)]
        )
        for run in started:
            run.result()
        return watch.read()


def _async_round(path: Path, runs: int, vfs: str | None = None) -> Round:
    async def main() -> Round:
        async with durable.open(path, vfs=vfs):
            await async_run(-1)
            watch = _Stopwatch(runs * STEPS)
            await asyncio.gather(*(async_run(number) for number in range(runs)))
            return watch.read()

    return asyncio.run(main())


def _measure(work: Callable[[Path, int, str | None], Round], folder: Path, runs: int, repeat: int) -> dict[str, Any]:
    """Several rounds, and one more, which counts fsyncs and is not timed."""
    path = folder / "crowd.db"
    work(path, runs, None)
    rates, cpu = zip(*(work(path, runs, None) for _ in range(repeat)), strict=True)
    with counted_syncs() as (vfs, syncs):
        work(folder / "counted.db", runs, vfs)
        per_20_steps = syncs() * 20 / (runs * STEPS)
    return {"steps_per_second": rates, "cpu_seconds_per_step": cpu, "fsyncs_per_20_steps": per_20_steps}


def _text(found: dict[str, Any]) -> str:
    rate = spread(found["steps_per_second"], "{:,.0f}".format)
    cpu = in_time(statistics.median(found["cpu_seconds_per_step"]))
    return f"{rate} steps/s, {found['fsyncs_per_20_steps']:.2f} fsyncs per 20, {cpu} of CPU a step"


def async_crowd(folder: Path, repeat: int) -> Row:
    runs = 1000
    found = _measure(_async_round, folder, runs, min(repeat, 7))
    return Row(
        "async-crowd",
        f"{runs:,} concurrent async runs × {STEPS} steps, FULL",
        _text(found),
        "at least 20,000 steps/s, at most 1 fsync per 20",
        met=statistics.median(found["steps_per_second"]) >= 20_000 and found["fsyncs_per_20_steps"] <= 1,
        figures=found,
    )


def sync_crowd(folder: Path, repeat: int) -> Row:
    runs, grouped = 200, hasattr(sync_run, "start_many")
    found = _measure(_sync_round, folder, runs, min(repeat, 7))
    return Row(
        "sync-crowd",
        f"{runs} sync runs × {STEPS} steps, FULL, by {'start_many' if grouped else 'start, one at a time'}",
        _text(found),
        "at least 6,000 steps/s",
        met=statistics.median(found["steps_per_second"]) >= 6_000,
        note="" if grouped else "there is no start_many yet: each start was a commit and an fsync of its own",
        figures=found,
    )

"""Many runs at once: one writer, one fsync for all that wait at a time."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import durable

from .disk import counted_syncs
from .report import Row, in_time, is_noisy, spread
from .steps import trivial, trivial_async
from .stopwatch import Lap, Stopwatch

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


def _sync_laps(path: Path, runs: int, rounds: int, vfs: str | None = None) -> list[Lap]:
    """From the first start to the last result, for each step; several rounds in one engine."""
    with durable.open(path, vfs=vfs):
        return [_sync_lap(runs) for _ in range(rounds)]


def _sync_lap(runs: int) -> Lap:
    watch = Stopwatch()
    if hasattr(sync_run, "start_many"):
        started = sync_run.start_many(range(runs))
    else:
        started = [sync_run.start(number) for number in range(runs)]
    for run in started:
        run.result()
    return watch.lap(runs * STEPS)


def _async_laps(path: Path, runs: int, rounds: int, vfs: str | None = None) -> list[Lap]:
    async def main() -> list[Lap]:
        async with durable.open(path, vfs=vfs):
            return [await _async_lap(runs) for _ in range(rounds)]

    return asyncio.run(main())


async def _async_lap(runs: int) -> Lap:
    watch = Stopwatch()
    await asyncio.gather(*(async_run(number) for number in range(runs)))
    return watch.lap(runs * STEPS)


def _measure(work: Callable[[Path, int, int, str | None], list[Lap]], folder: Path, runs: int, repeat: int) -> Any:
    """A round to warm up and several that count; then two that are not timed, to count their fsyncs."""
    laps = work(folder / "crowd.db", runs, repeat + 1, None)[1:]
    with counted_syncs() as (vfs, syncs):
        work(folder / "counted.db", runs, 2, vfs)
        per_20_steps = syncs() * 20 / (2 * runs * STEPS)
    return {
        "steps_per_second": [1 / lap.wall for lap in laps],
        "cpu_seconds_per_step": [lap.cpu for lap in laps],
        "fsyncs_per_20_steps": per_20_steps,
    }


def _text(found: dict[str, Any]) -> str:
    rate = spread(found["steps_per_second"], "{:,.0f}".format)
    cpu = in_time(statistics.median(found["cpu_seconds_per_step"]))
    return f"{rate} steps/s, {found['fsyncs_per_20_steps']:.2f} fsyncs per 20, {cpu} of CPU a step"


def async_crowd(folder: Path, repeat: int) -> Row:
    runs = 1000
    found = _measure(_async_laps, folder, runs, min(repeat, 7))
    return Row(
        "async-crowd",
        f"{runs:,} concurrent async runs × {STEPS} steps, FULL",
        _text(found),
        "at least 20,000 steps/s, at most 1 fsync per 20",
        met=statistics.median(found["steps_per_second"]) >= 20_000 and found["fsyncs_per_20_steps"] <= 1,
        figures=found,
        is_noisy=is_noisy(found["steps_per_second"]),
    )


def sync_crowd(folder: Path, repeat: int) -> Row:
    runs, grouped = 200, hasattr(sync_run, "start_many")
    found = _measure(_sync_laps, folder, runs, min(repeat, 7))
    return Row(
        "sync-crowd",
        f"{runs} sync runs × {STEPS} steps, FULL, by {'start_many' if grouped else 'start, one at a time'}",
        _text(found),
        "at least 6,000 steps/s",
        met=statistics.median(found["steps_per_second"]) >= 6_000,
        note="" if grouped else "there is no start_many yet: each start was a commit and an fsync of its own",
        figures=found,
        is_noisy=is_noisy(found["steps_per_second"]),
    )

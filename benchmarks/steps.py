"""One run, one step after the other: what a step costs above the one commit that it cannot do without."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

import durable

from .disk import Bare, cold
from .report import Row, ratio_row
from .stopwatch import Lap, Stopwatch


@durable.step
def trivial(number: int) -> int:
    return number


@durable.workflow
def sequence(steps: int) -> None:
    for number in range(steps):
        trivial(number)


@durable.step
async def trivial_async(number: int) -> int:
    return number


@durable.workflow
async def sequence_async(steps: int) -> None:
    for number in range(steps):
        await trivial_async(number)


def _lap(steps: int) -> Lap:
    """One run, from the call to its result: its own two records are in it."""
    watch = Stopwatch()
    sequence(steps)
    return watch.lap(steps)


async def _lap_async(steps: int) -> Lap:
    watch = Stopwatch()
    await sequence_async(steps)
    return watch.lap(steps)


def sync_full(folder: Path, repeat: int) -> Row:
    pairs = _sync_pairs(folder, repeat, "full", 400)
    return ratio_row("sync-full", "sync step, FULL, to a bare FULL commit", pairs, 1.5)


def sync_process(folder: Path, repeat: int) -> Row:
    pairs = _sync_pairs(folder, repeat, "process", 2000)
    return ratio_row("sync-process", 'sync step, durability="process", to a bare NORMAL commit', pairs, 4.5)


def _sync_pairs(folder: Path, repeat: int, durability: Literal["full", "process"], steps: int) -> list[tuple[Lap, Lap]]:
    bare = Bare(folder / f"bare-{durability}.db", "FULL" if durability == "full" else "NORMAL")
    path = folder / f"sync-{durability}.db"
    with durable.open(path, durability=durability):
        for _ in cold(path):
            sequence(300)
        pairs = [(_lap(steps), bare.commits(steps)) for _ in range(repeat)]
    bare.close()
    return pairs


def async_full(folder: Path, repeat: int) -> Row:
    bare = Bare(folder / "bare-async.db", "FULL")
    path = folder / "async-full.db"

    async def main() -> list[tuple[Lap, Lap]]:
        async with durable.open(path):
            for _ in cold(path):
                await sequence_async(300)
            return [(await _lap_async(400), bare.commits(400)) for _ in range(repeat)]

    pairs = asyncio.run(main())
    bare.close()
    return ratio_row("async-full", "async step, FULL, to a bare FULL commit", pairs, 2.5)


def size(folder: Path, repeat: int) -> Row:  # noqa: ARG001 - bytes do not vary
    """How much a closed journal grows by a step: its WAL is empty then."""
    steps, path = 20_000, folder / "size.db"
    sizes = []
    for count in (100, steps):
        with durable.open(path, durability="process"):
            sequence(count)
        sizes.append(path.stat().st_size)
    each = (sizes[1] - sizes[0]) / steps
    return Row(
        "size",
        "a trivial step in the file",
        f"{each:.0f} bytes",
        "under 200 bytes",
        met=each < 200,
        figures={"bytes": each},
    )

"""durable itself, async, by the same rules as its peers."""

from __future__ import annotations

import asyncio
import sys

from worker import serve, settings

import durable


@durable.step
async def trivial(number: int) -> int:
    return number


@durable.workflow
async def run(number: int, steps: int) -> int:
    total = 0
    for step in range(steps):
        total += await trivial(number + step)
    return total


async def crowd(runs: int, steps: int) -> None:
    await asyncio.gather(*(run(number, steps) for number in range(runs)))


durable.open(f"{sys.argv[1]}/durable.db")
with asyncio.Runner() as runner:
    serve(
        "durable-functions",
        settings("wal", 2),
        lambda steps: runner.run(run(0, steps)),
        lambda runs, steps: runner.run(crowd(runs, steps)),
    )

"""stitch-durable with its default settings: items of a batch, asynchronous."""

from __future__ import annotations

import asyncio
import itertools
import sys
from typing import Any

from stitch_durable import CheckpointStore, Workflow, step
from worker import serve, settings

store = CheckpointStore(f"{sys.argv[1]}/stitch.db")
batches = itertools.count()


@step
async def trivial(number: int) -> int:
    return number


async def run(item: dict[str, int]) -> int:
    total = 0
    for number in range(item["steps"]):
        total += await trivial(number)
    return total


workflow = Workflow(run, name="bench")


async def crowd(runs: int, steps: int) -> None:
    items = [{"id": number, "steps": steps} for number in range(runs)]
    statistics: Any = await workflow.run_many(items, store, batch_label=str(next(batches)), concurrency=runs)
    assert statistics.steps_run == runs * steps


def pragmas() -> list[Any]:
    connection = store.database.connection
    return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]


with asyncio.Runner() as runner:
    serve(
        "stitch-durable",
        settings(*pragmas()),
        lambda steps: runner.run(crowd(1, steps)),
        lambda runs, steps: runner.run(crowd(runs, steps)),
    )

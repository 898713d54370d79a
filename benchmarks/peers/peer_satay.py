"""satay with its default settings: asynchronous."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import satay
from worker import serve, settings


@satay.task()
async def trivial(number: int) -> int:
    return number


@satay.workflow
async def run(steps: int) -> int:
    total = 0
    for number in range(steps):
        total += await trivial(number)
    return total


async def crowd(store: Any, runs: int, steps: int) -> None:
    handles = [satay.start(run, steps, store=store) for _ in range(runs)]
    results = await asyncio.gather(*(handle.result() for handle in handles))
    assert results == [sum(range(steps))] * runs


with asyncio.Runner() as runner:
    app = satay.run_app(data_dir=sys.argv[1])
    opened: Any = runner.run(app.__aenter__())
    pragmas = [opened._conn.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    serve(
        "satay",
        settings(*pragmas),
        lambda steps: runner.run(crowd(opened, 1, steps)),
        lambda runs, steps: runner.run(crowd(opened, runs, steps)),
    )
    runner.run(app.__aexit__(None, None, None))

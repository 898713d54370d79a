"""unhinged with its default settings; the sequence on this thread, the crowd on its asynchronous worker."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from unhinged import Unhinged
from unhinged.aio import AsyncUnhinged
from worker import serve, settings

app = Unhinged(f"{sys.argv[1]}/unhinged.db", queue_name="sync")
async_app = AsyncUnhinged(f"{sys.argv[1]}/unhinged.db", queue_name="async")


@app.register_task("run")
def run(params: Any, ctx: Any) -> int:
    return sum(ctx.step("trivial", lambda step=step: step) for step in range(params))


@async_app.register_task("run_async")
async def run_async(params: Any, ctx: Any) -> int:
    total = 0
    for step in range(params):
        total += await ctx.step("trivial", lambda step=step: step)
    return total


def sequence(steps: int) -> None:
    task = app.spawn("run", steps)
    app.run_until_idle()
    assert app.fetch_task_result(task["task_id"]).state == "completed"


def crowd(runs: int, steps: int) -> None:
    tasks = [async_app.spawn("run_async", steps) for _ in range(runs)]
    asyncio.run(async_app.start_worker(concurrency=runs, poll_interval=0.01, stop_when_idle=True))
    assert all(async_app.fetch_task_result(task["task_id"]).state == "completed" for task in tasks)


pragmas = [app.engine.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
serve("unhinged", settings(*pragmas), sequence, crowd)

"""A run whose process is killed in its third step; started again, tells how soon that step runs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time

import durable

began: list[float] = []


@durable.step
def quick(number: int) -> int:
    return number


def third() -> None:
    now = time.perf_counter()
    if began:
        print(json.dumps({"seconds": now - began[0]}), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    print("in the third step", flush=True)


@durable.step
def slow() -> None:
    third()
    time.sleep(60)


@durable.step
async def slow_async() -> None:
    third()
    await asyncio.sleep(60)


@durable.workflow
def sync_run() -> None:
    quick(1)
    quick(2)
    slow()


@durable.workflow
async def async_run() -> None:
    quick(1)
    quick(2)
    await slow_async()


if __name__ == "__main__":
    path, kind, action = sys.argv[1:]
    durable.open(path)
    if action == "resume":
        began.append(time.perf_counter())
        durable.resume()
        time.sleep(60)
    elif kind == "sync":
        sync_run()
    else:
        asyncio.run(async_run())

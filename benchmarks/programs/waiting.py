"""Runs that wait: `make FILE N` makes N of them, `wake FILE` tells in JSON what a process pays that resumes them.

They wait on a timer that is a year away. `wake` also starts 1,000 runs that are due at one moment, and tells how long
after that moment the last of them had completed.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import resource
import sys
import time
from pathlib import Path

import durable

DUE_AT_ONCE = 1_000
BATCH = 10_000


@durable.workflow
async def waits(number: int) -> int:
    await durable.aio.sleep(dt.timedelta(days=365))
    return number


@durable.workflow
def waits_until(when: float) -> float:
    durable.sleep_until(dt.datetime.fromtimestamp(when, dt.UTC))
    return when


def make(path: str, count: int) -> None:
    """Make the runs through the public API, some thousands at a time."""
    began = time.perf_counter()
    with durable.open(path):
        for first in range(0, count, BATCH):
            waits.start_many(range(first, min(first + BATCH, count)))
            while durable.runs(status="queued", limit=1) or durable.runs(status="running", limit=1):
                time.sleep(0.01)
            if sys.stderr.isatty():
                print(f"\r{first + BATCH:,} runs wait", end="", file=sys.stderr, flush=True)
    print(json.dumps({"seconds": time.perf_counter() - began}))


def wake(path: str) -> None:
    """What the next process pays, and how soon runs that are due at one moment have run."""
    memory = _memory()
    began = time.perf_counter()
    engine = durable.open(path)
    opened = time.perf_counter()
    durable.resume()
    resumed = time.perf_counter()
    time.sleep(0.5)  # whatever it does in the background
    figures = {"open": opened - began, "resume": resumed - opened, "memory": _memory() - memory}
    when = time.time() + 5.0
    runs = waits_until.start_many([when] * DUE_AT_ONCE)
    while durable.runs(status="running", limit=1) or durable.runs(status="queued", limit=1):
        time.sleep(0.01)
    figures["ready"] = when - time.time()
    for run in runs:
        run.result(60)
    figures["late"] = time.time() - when
    figures["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    engine.close()
    print(json.dumps(figures))


def _memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2], int(sys.argv[3]))
    else:
        wake(sys.argv[2])

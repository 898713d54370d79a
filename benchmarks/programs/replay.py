"""A run of many steps whose process dies in the last one, each time; tells how long it took to get there."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

import durable

began: dict[str, float] = {}


@durable.step
def trivial(number: int) -> int:
    return number


@durable.step
def last() -> None:
    now = time.perf_counter()
    print(json.dumps({"call_seconds": now - began["call"], "body_seconds": now - began["body"]}), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


@durable.workflow
def long(steps: int) -> None:
    began["body"] = time.perf_counter()
    for number in range(steps):
        trivial(number)
    last()


if __name__ == "__main__":
    durable.open(sys.argv[1], durability="process")
    began["call"] = time.perf_counter()
    long(int(sys.argv[2]))

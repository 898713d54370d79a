"""durable itself, sync, by the same rules as its peers; a second argument is the durability."""

from __future__ import annotations

import sys
from typing import Any

from worker import serve, settings

import durable


@durable.step
def trivial(number: int) -> int:
    return number


@durable.workflow
def run(number: int, steps: int) -> int:
    return sum(trivial(number + step) for step in range(steps))


def crowd(runs: int, steps: int) -> None:
    for started in [run.start(number, steps) for number in range(runs)]:
        started.result()


durability: Any = sys.argv[2] if len(sys.argv) > 2 else "full"
durable.open(f"{sys.argv[1]}/durable.db", durability=durability)
serve("durable-functions", settings("wal", 2 if durability == "full" else 1), lambda steps: run(0, steps), crowd)

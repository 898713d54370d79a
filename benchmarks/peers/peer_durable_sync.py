"""durable itself, sync, by the same rules as its peers."""

from __future__ import annotations

import sys

from worker import serve

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


durable.open(f"{sys.argv[1]}/durable.db")
serve("durable-functions", "SQLite: journal_mode=wal, synchronous=FULL", lambda steps: run(0, steps), crowd)

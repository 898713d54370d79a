"""LangGraph's functional API with its SQLite saver and durability="sync"; the crowd on its own pool, by `batch`."""

from __future__ import annotations

import itertools
import sqlite3
import sys
from typing import Any

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.func import entrypoint, task
from worker import serve, settings

connection = sqlite3.connect(f"{sys.argv[1]}/langgraph.db", check_same_thread=False)
saver = SqliteSaver(connection)
saver.setup()
threads = itertools.count()


@task
def trivial(number: int) -> int:
    return number


@entrypoint(checkpointer=saver)
def run(steps: int) -> int:
    return sum(trivial(number).result() for number in range(steps))


def config() -> Any:
    return {"configurable": {"thread_id": str(next(threads))}}


def sequence(steps: int) -> None:
    assert run.invoke(steps, config(), durability="sync") == sum(range(steps))


def crowd(runs: int, steps: int) -> None:
    run.batch([steps] * runs, [config() for _ in range(runs)], durability="sync")


pragmas = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
serve(
    "langgraph",
    settings(*pragmas) + '; durability="sync", yet the outcome of a task is written in the background',
    sequence,
    crowd,
)

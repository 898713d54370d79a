"""Writes random programs, as the text of a Python module that uses the words of `vocabulary.py`.

Its `main` is a workflow with branches in branches: races, groups, timeouts, queues, children, whatever asyncio has. What
the library cannot order is left out: a plain `asyncio.sleep`, a socket.
"""

import random

from tests.parallel.writer import MAIN_SECONDS, Writer
from tests.parallel.writer_async import AsyncWriter
from tests.parallel.writer_sync import SyncWriter


def write_program(dice: random.Random, *, is_async: bool, without: frozenset[str] = frozenset()) -> str:
    """The text of a program, whose `main` is the workflow."""
    program = Writer(dice, without)
    program.blocks_loop = is_async
    program.emit("import asyncio", "import contextlib", "import contextvars", "import threading", "import durable", "")
    for _ in range(dice.randrange(4)):
        child = program.new_child(is_async=dice.random() < (0.7 if is_async else 0.2))
        program.left = dice.randint(1, 5)
        with program.body_of(child):
            program.written_as(AsyncWriter if child.is_async else SyncWriter).body(1, fails=child.fails)
    program.left = dice.randint(3, 16)
    limit = f", timeout={MAIN_SECONDS}" if dice.random() < 0.1 else ""
    program.emit("", f'@durable.workflow(name="main", id="trial"{limit})')
    with program.block(f"{'async ' * is_async}def main() -> str:"):
        program.emit('who = "r"', "begin(who)")
        program.written_as(AsyncWriter if is_async else SyncWriter).body(0)
    return "\n".join(program.lines) + "\n"

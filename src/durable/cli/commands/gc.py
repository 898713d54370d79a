"""`durable gc --older-than AGE`: delete runs that ended long ago, and make the file smaller."""

import argparse

from durable._clock import SYSTEM_CLOCK
from durable._model import FINISHED
from durable._retention import remove
from durable.cli._args import age
from durable.cli._deleting import delete
from durable.cli._facts import json_line
from durable.cli._reader import Reader
from durable.cli._screen import Cell, Screen
from durable.cli._text import counted


def add_options(parser: argparse.ArgumentParser) -> None:
    """What may follow `durable gc`."""
    parser.add_argument(
        "--older-than", metavar="AGE", type=age, required=True, help="ended longer ago than this: 12h, 30d"
    )
    parser.add_argument(
        "--status", metavar="STATUS", nargs="+", action="extend", default=[], choices=sorted(FINISHED),
        help="only these: " + ", ".join(sorted(FINISHED)),
    )  # fmt: skip


def run(options: argparse.Namespace, screen: Screen, reader: Reader) -> int:
    """The command; returns its exit code."""
    now = SYSTEM_CLOCK.now()
    before = now - options.older_than
    statuses = tuple(dict.fromkeys(options.status or sorted(FINISHED)))
    deleted, freed = delete(reader, lambda write: remove(reader, write, before, statuses, now=now))
    if options.json:
        screen.write(json_line({"kind": "gc", "count": deleted, "pages": freed}))
    else:
        screen.line(Cell(f"{counted(deleted, 'run')} deleted, {counted(freed, 'page')} of the file given back"))
    return 0

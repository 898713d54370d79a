"""`durable cancel ID`: cancel a run, and the runs that it called or started."""

import argparse

from durable import _requests
from durable._clock import SYSTEM_CLOCK
from durable.cli._args import add_id
from durable.cli._asking import tell
from durable.cli._find import find
from durable.cli._reader import Reader
from durable.cli._screen import Screen


def add_options(parser: argparse.ArgumentParser) -> None:
    """What may follow `durable cancel`."""
    add_id(parser)


def run(options: argparse.Namespace, screen: Screen, reader: Reader) -> int:
    """The command; returns its exit code."""
    found = find(reader, options.id, options.db)
    asked, *children = reader.visit(_requests.cancel(found.id, SYSTEM_CLOCK.now()))
    what = "is cancelled" if asked.status == "cancelled" else "is to be cancelled"
    others = f", and {len(children)} that it called or started" if children else ""
    return tell("cancel", asked, f"run {asked.id} of {asked.workflow} {what}{others}", options, screen, reader)

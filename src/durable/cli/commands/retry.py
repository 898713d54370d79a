"""`durable retry ID`: go on with a failed or blocked run, from what failed."""

import argparse

from durable import _requests
from durable._clock import SYSTEM_CLOCK
from durable.cli._args import add_id
from durable.cli._asking import tell
from durable.cli._facts import Owners, status_of
from durable.cli._find import find
from durable.cli._reader import Reader
from durable.cli._screen import Screen


def add_options(parser: argparse.ArgumentParser) -> None:
    """What may follow `durable retry`."""
    add_id(parser)
    parser.add_argument(
        "--trust-journal",
        action="store_true",
        help="take the journal's word where the inputs of steps differ, for this run from now on",
    )


def run(options: argparse.Namespace, screen: Screen, reader: Reader) -> int:
    """The command; returns its exit code."""
    found = find(reader, options.id, options.db)
    seen = status_of(found, Owners(reader))
    work = _requests.retry(found.id, SYSTEM_CLOCK.now(), trust_journal=options.trust_journal, seen=seen)
    *children, queued = reader.visit(work)
    others = f", and {len(children)} that it called" if children else ""
    what = f"run {queued.id} of {queued.workflow} is queued again, from what failed{others}"
    return tell("retry", queued, what, options, screen, reader)

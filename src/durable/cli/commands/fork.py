"""`durable fork ID --from-step N`: a new run that takes over the first steps of another one."""

import argparse

from durable import _requests
from durable._clock import SYSTEM_CLOCK
from durable.cli._args import add_id
from durable.cli._asking import tell
from durable.cli._find import find
from durable.cli._reader import Reader
from durable.cli._screen import Screen
from durable.errors import DurableError


def add_options(parser: argparse.ArgumentParser) -> None:
    """What may follow `durable fork`."""
    add_id(parser)
    parser.add_argument(
        "--from-step", metavar="N", type=int, required=True,
        help="the first step that is done anew, counted from 1 in the order in which durable show lists them",
    )  # fmt: skip


def run(options: argparse.Namespace, screen: Screen, reader: Reader) -> int:
    """The command; returns its exit code."""
    found = find(reader, options.id, options.db)
    new_id = SYSTEM_CLOCK.new_id()
    try:
        new = reader.ask(_requests.fork(found.id, new_id, options.from_step, SYSTEM_CLOCK.now()))
    except ValueError as error:
        raise DurableError(str(error).replace("from_step", "--from-step")) from error
    what = f"run {new.id} of {new.workflow} is queued: run {found.id} anew from step {options.from_step} on"
    return tell("fork", new, what, options, screen, reader)

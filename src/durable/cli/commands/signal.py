"""`durable signal ID NAME JSON`: send a run a value, or an error."""

import argparse
from typing import Any

from durable import _requests
from durable._clock import SYSTEM_CLOCK
from durable._codec import codec_for, dump_error
from durable._identity import require_name
from durable.cli._args import add_id, json_value
from durable.cli._asking import tell
from durable.cli._find import find
from durable.cli._reader import Reader
from durable.cli._screen import Screen


def add_options(parser: argparse.ArgumentParser) -> None:
    """What may follow `durable signal`."""
    add_id(parser)
    parser.add_argument("name", metavar="NAME", type=_name, help="the name that the run waits for")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("value", metavar="JSON", type=json_value, nargs="?", help="the value; default: null")
    either.add_argument("--error", metavar="TEXT", help="instead: a RuntimeError with this text, raised in the run")


def run(options: argparse.Namespace, screen: Screen, reader: Reader) -> int:
    """The command; returns its exit code."""
    found = find(reader, options.id, options.db)
    value = codec_for(Any).dump(options.value) if options.error is None else None
    error = None if options.error is None else dump_error(RuntimeError(options.error))
    sent = reader.visit(_requests.signal(found.id, options.name, value, error, SYSTEM_CLOCK.now()))
    what = f"signal {options.name!r} is sent to run {sent.id} of {sent.workflow}, and kept until it reads it"
    return tell("signal", sent, what, options, screen, reader)


def _name(text: str) -> str:
    try:
        return require_name(text, "the name of a signal")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error

"""`durable fork ID --from-step N`: a new run that takes over the first steps of another one."""

import argparse
import re

from durable import _requests
from durable._clock import SYSTEM_CLOCK
from durable._model import RunRecord, StepRecord, in_order
from durable._transaction import Transaction
from durable.cli._args import add_id
from durable.cli._asking import tell
from durable.cli._find import find, find_step, number_of
from durable.cli._reader import Reader
from durable.cli._screen import Screen
from durable.errors import DurableError


def add_options(parser: argparse.ArgumentParser) -> None:
    """What may follow `durable fork`."""
    add_id(parser)
    parser.add_argument(
        "--from-step", metavar="N", required=True,
        help="the first step that is done anew: its name where no other step has it; or its number, as durable show "
        "counts from 1; or its place on a branch, as '/fetch:1 0'",
    )  # fmt: skip


def run(options: argparse.Namespace, screen: Screen, reader: Reader) -> int:
    """The command; returns its exit code."""
    found = find(reader, options.id, options.db)
    new_id = SYSTEM_CLOCK.new_id()

    def work(transaction: Transaction) -> tuple[RunRecord, int, str]:
        steps = in_order(transaction.steps(found.seq))  # here: what executes has other numbers a moment later
        number, name = _first_step(options.from_step, found, steps, options.db)
        return _requests.fork(found.id, new_id, number, SYSTEM_CLOCK.now())(transaction), number, name

    try:
        new, number, name = reader.visit(work)
    except ValueError as error:
        raise DurableError(str(error).replace("from_step", "--from-step")) from error
    what = f"run {new.id} of {new.workflow} is queued: run {found.id} anew from step {number}{name} on"
    return tell("fork", new, what, options, screen, reader)


def _first_step(wanted: str, found: RunRecord, every: list[StepRecord], path: str) -> tuple[int, str]:
    """Its number, and its name for people."""
    if re.fullmatch(r"-?[0-9]{1,18}", wanted):  # the one after the last too
        named = every[int(wanted) - 1 : int(wanted)] if int(wanted) > 0 else []
        return int(wanted), "".join(f" ({step.name})" for step in named)
    step = find_step(every, found, wanted, path)
    return number_of(step, every), f" ({step.name})"

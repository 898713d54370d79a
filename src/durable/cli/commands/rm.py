"""`durable rm ID ...`: delete runs that have ended, with the runs that they called or started."""

import argparse

from durable._model import FINISHED, RunRecord
from durable._retention import family, remove_all
from durable.cli._args import run_id
from durable.cli._deleting import delete
from durable.cli._facts import json_line
from durable.cli._find import find
from durable.cli._reader import Reader
from durable.cli._screen import Cell, Screen
from durable.cli._text import counted
from durable.errors import DurableError


def add_options(parser: argparse.ArgumentParser) -> None:
    """What may follow `durable rm`."""
    parser.add_argument(
        "id", metavar="ID", type=run_id, nargs="+", help="the id of a run, or a beginning that no other id has"
    )


def run(options: argparse.Namespace, screen: Screen, reader: Reader) -> int:
    """The command; returns its exit code."""
    going: dict[str, RunRecord] = {}
    for wanted in options.id:
        found = find(reader, wanted, options.db)
        _require_ended(reader, found)
        going |= {each.id: each for each in family(reader, found)[::-1]}
    deleted, _ = delete(reader, lambda write: remove_all(write, sorted(going.values(), reverse=True)))
    if options.json:
        screen.write(json_line({"kind": "rm", "count": deleted}))
    else:
        screen.line(Cell(f"{counted(deleted, 'run')} deleted"))
    if deleted < len(going):
        _require_gone(reader, list(going.values()))
    return 0


def _require_gone(reader: Reader, wanted: list[RunRecord]) -> None:
    """Others may have deleted some of them; what was retried meanwhile stays, with what belongs to it."""
    found = [(each, reader.run(each.id)) for each in wanted]
    left = [(each, now) for each, now in found if now is not None and now.seq == each.seq]
    if left:
        went_on = next((each for each, now in left if now.finished_at != each.finished_at), left[0][0])
        others = f", and so are {len(left) - 1} more" if left[1:] else ""
        msg = (
            f"run {went_on.id} of {went_on.workflow!r} went on meanwhile, and is left as it is{others}; only what has "
            f"ended is deleted; durable cancel {went_on.id} ends it"
        )
        raise DurableError(msg)


def _require_ended(reader: Reader, found: RunRecord) -> None:
    parent = None if found.parent is None else reader.run_of_seq(found.parent)
    for other, who in [(parent, "the run that called it, "), *((each, "") for each in family(reader, found))]:
        if other is None or other.status in FINISHED:
            continue
        which = who or ("" if other is found or other.id == found.id else "a run that it called, ")
        msg = (
            f"run {found.id} of {found.workflow!r} is not deleted: {which}{other.id} is {other.status}, and only "
            f"what has ended is; durable cancel {other.id} ends it"
        )
        raise DurableError(msg)

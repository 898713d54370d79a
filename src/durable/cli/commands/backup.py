"""`durable backup FILE`: a copy of the journal as it is at one moment."""

import argparse
import os

from durable._database import copy_journal, mapped
from durable._progress import Progress
from durable.cli._args import path
from durable.cli._facts import json_line
from durable.cli._files import footprint, require_readable
from durable.cli._reader import Reader
from durable.cli._screen import Screen
from durable.cli._text import size
from durable.cli._writing import new_file


def add_options(parser: argparse.ArgumentParser) -> None:
    """What may follow `durable backup`."""
    parser.add_argument("file", metavar="FILE", type=path, help="the copy: a new file, for this user only")


def run(options: argparse.Namespace, screen: Screen, reader: Reader) -> int:
    """The command; returns its exit code."""
    require_readable(reader.path)
    with new_file(options.file) as draft, mapped(what := f"copying {options.db} to {options.file}"):
        _copy(reader.path, draft, what)
    found = os.path.getsize(options.file)
    if options.json:
        screen.write(json_line({"kind": "backup", "path": options.file, "bytes": found}))
    else:
        screen.say(f"{options.db} copied to {options.file}, {size(found)}")
    return 0


def _copy(source: str, target: str, what: str) -> None:
    """Where nobody has the file open it is copied as it is, unless somebody opened it meanwhile."""
    before = footprint(source)
    with Progress("copying", "pages") as progress:

        def reached(done: int, total: int) -> None:
            progress.total = total
            progress.reach(done)

        copy_journal(source, target, None, what, still=before is not None, reached=reached)
        if before is not None and before != footprint(source):
            copy_journal(source, target, None, what, still=False, reached=reached)

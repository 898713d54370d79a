"""`durable export`: runs with all that the journal has about them, as lines of JSON."""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from durable._clock import SYSTEM_CLOCK
from durable._progress import Progress
from durable.cli._args import add_filters, path
from durable.cli._facts import Owners, damaged_object, json_line, status_of
from durable.cli._reader import Reader
from durable.cli._screen import Screen
from durable.cli._selection import Selection
from durable.cli._story import Story
from durable.cli._text import counted, size
from durable.cli._writing import new_file
from durable.errors import DurableError, JournalError, RunNotFoundError


def add_options(parser: argparse.ArgumentParser) -> None:
    """What may follow `durable export`."""
    add_filters(parser)
    parser.add_argument(
        "--output", metavar="FILE", type=path, default="-",
        help="a new file, for this user only; default: -, which is standard output",
    )  # fmt: skip


def run(options: argparse.Namespace, screen: Screen, reader: Reader) -> int:
    """The command; returns its exit code."""
    if options.output == "-":
        runs, damaged = _export(options, screen, reader)
    else:
        runs, damaged = _export_to_file(options, reader)
        _say_what_was_written(options, screen, runs)
    if damaged:
        screen.flush()
        print(f"durable: damage in {damaged:,} of {counted(runs, 'run')}: durable doctor tells more", file=sys.stderr)
    return int(damaged > 0)


def _export_to_file(options: argparse.Namespace, reader: Reader) -> tuple[int, int]:
    with new_file(options.output) as draft, open(draft, "w", encoding="ascii") as file:
        try:
            found = _export(options, Screen(file), reader)
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            msg = f"{options.output} cannot be written: {error.strerror}"
            raise DurableError(msg) from error
    return found


def _say_what_was_written(options: argparse.Namespace, screen: Screen, runs: int) -> None:
    found = os.path.getsize(options.output)
    if options.json:
        screen.write(json_line({"kind": "export", "path": options.output, "runs": runs, "bytes": found}))
    else:
        screen.say(f"{counted(runs, 'run')} written to {options.output}, {size(found)}")


def _export(options: argparse.Namespace, screen: Screen, reader: Reader) -> tuple[int, int]:
    """Write the runs; how many there are, and how many of them are damaged."""
    selection = Selection(options, reader, SYSTEM_CLOCK.now())
    keys = sorted(reader.newest(selection.wanted()))
    runs = damaged = 0
    with Progress("exporting", "runs", len(keys)) as progress:
        for key in keys:
            for tree in _objects(key, reader, selection):
                runs += tree["kind"] == "run"
                damaged += bool(tree.get("damaged")) or tree.get("status") == "damaged"
                screen.write(json_line(tree))
            if screen.width is None or not sys.stderr.isatty():  # else the line would stand among the others
                progress.advance()
    return runs, damaged


def _objects(key: int, reader: Reader, selection: Selection) -> Iterator[dict[str, Any]]:
    try:
        run = reader.run_of_seq(key)
    except JournalError as error:
        yield damaged_object(str(error))
        return
    if run is not None and selection.fits(run, status_of(run, Owners(reader))):
        with contextlib.suppress(RunNotFoundError):  # deleted meanwhile
            yield from Story(reader, run).objects()

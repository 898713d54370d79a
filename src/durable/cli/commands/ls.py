"""`durable ls`: the runs of a journal, newest first, a line each."""

import argparse
import sys
from collections.abc import Iterator
from typing import Final, NamedTuple

from durable._clock import SYSTEM_CLOCK
from durable.cli._args import add_filters, limit
from durable.cli._facts import (
    Facts,
    Owners,
    damaged_object,
    elapsed,
    facts_of,
    json_line,
    run_object,
    status_of,
    why,
)
from durable.cli._reader import Reader
from durable.cli._screen import Cell, Column, Screen
from durable.cli._selection import Selection
from durable.cli._text import age, iso, span, visible
from durable.errors import JournalError

_SHAPE: Final = (
    Column("STATUS"),
    Column("WORKFLOW", 8),
    Column("ID"),
    Column("DONE", right=True),
    Column("STEP", 8),
    Column("TRY", right=True),
    Column("ELAPSED", right=True),
    Column("AGE", right=True),
    Column("WHY", 18),
)
_ATTEMPT, _ELAPSED, _AGE = 5, 6, 7
_WIDE: Final = 90
"""Columns of a terminal that has room for everything."""
_MADE_BY_US: Final = 32
"""Hexadecimal digits of an id that the library chose."""
_SHORTEST_ID: Final = 8
_LONGEST_ID: Final = 24
_DEFAULT_LIMIT: Final = 50
_MOST_COUNTED: Final = 1_000
"""Runs beyond the limit that are counted."""
_AT_ONCE: Final = 200
"""Rows that are put together before they are shown."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What may follow `durable ls`."""
    add_filters(parser)
    parser.add_argument(
        "--limit", metavar="N", type=limit, default=_DEFAULT_LIMIT,
        help=f"at most so many, 0 for all; default: {_DEFAULT_LIMIT}",
    )  # fmt: skip


def run(options: argparse.Namespace, screen: Screen, reader: Reader) -> int:
    """The command; returns its exit code."""
    listing = Listing(options, screen, reader)
    listing.print()
    return 1 if listing.damaged else 0


class Damaged(NamedTuple):
    """Stands for a run whose record cannot be read."""

    message: str


class Listing:
    """One list of runs."""

    def __init__(self, options: argparse.Namespace, screen: Screen, reader: Reader) -> None:
        self._options = options
        self._screen = screen
        self._reader = reader
        self._owners = Owners(reader)
        self._now = SYSTEM_CLOCK.now()
        self._selection = Selection(options, reader, self._now)
        width = screen.width
        left_out = set() if width is None else {_ATTEMPT} if width >= _WIDE else {_ATTEMPT, _ELAPSED}
        self._columns = [index for index in range(len(_SHAPE)) if index not in left_out]
        self._shape = [*_SHAPE]
        if options.utc:
            self._shape[_AGE] = Column("CREATED")
        self.damaged = False

    def print(self) -> None:
        """All lines, and a word about what was cut."""
        keys = self.keys()
        limit = self._options.limit
        shown = 0
        shape, widths = [self._shape[index] for index in self._columns], list[int]()
        rows = []
        for entry in self.entries(keys):
            shown += 1
            self.damaged |= isinstance(entry, Damaged) or bool(entry.damage)
            if self._options.json:
                self._screen.write(json_line(self.object(entry)))
            else:
                row = self.row(entry)
                rows.append([row[index] for index in self._columns])
            if len(rows) == _AT_ONCE:
                self._screen.table(shape, rows, widths)
                rows = []
            if shown == limit:
                break
        if rows:
            self._screen.table(shape, rows, widths)
        if not shown:
            self._say(self._nothing())
        elif shown == limit:
            self._say_what_was_cut(keys)

    # -- which ---------------------------------------------------------------------------------------------------------

    def keys(self) -> Iterator[int]:
        """Keys of runs that may be wanted, newest first."""
        return self._reader.newest(self._selection.wanted())

    def entries(self, keys: Iterator[int]) -> Iterator[Facts | Damaged]:
        """The runs of these keys that are still wanted."""
        for key in keys:
            try:
                entry = self._entry(key)
            except JournalError as error:
                entry = Damaged(str(error))
            if entry is not None:
                yield entry

    def _entry(self, key: int) -> Facts | Damaged | None:
        run = self._reader.run_of_seq(key)
        if run is None:
            return None
        status = status_of(run, self._owners)
        return facts_of(self._reader, run, status, self._owners) if self._selection.fits(run, status) else None

    # -- how -----------------------------------------------------------------------------------------------------------

    def row(self, entry: Facts | Damaged) -> list[Cell]:
        """A run as all columns have it."""
        if isinstance(entry, Damaged):
            nothing = [Cell("")] * (len(_SHAPE) - 2)
            return [self._screen.status("damaged"), *nothing, Cell(entry.message, "red")]
        run, step, tally = entry.run, entry.step, entry.tally
        took = elapsed(entry, self._now)
        return [
            self._screen.status(entry.status),
            Cell(run.workflow),
            Cell(self._short_id(run.id), "bold"),
            Cell(f"{tally.done}{'+' if tally.capped else ''}"),
            Cell(self._named(entry)),
            Cell("" if step is None else str(step.attempt)),
            Cell("" if took is None else span(took)),
            Cell((iso(run.created_at) or "") if self._options.utc else age(self._now - run.created_at), "dim"),
            Cell(self._why(entry), "red" if entry.damage else "dim"),
        ]

    def _named(self, entry: Facts) -> str:
        """The step that a run is at; for people also which attempt, and how many others run beside it."""
        if entry.step is None:
            return ""
        name, others = entry.step.name, entry.tally.under_way - 1
        if self._screen.width is not None:
            name += f" #{entry.step.attempt}" if entry.step.attempt > 1 else ""
            name += f" +{others}" if others > 0 and entry.status != "failed" else ""
        return name

    def _why(self, entry: Facts) -> str:
        return why(entry, self._now, utc=self._options.utc)

    def _short_id(self, run_id: str) -> str:
        """As many letters as tell it from all other ids; the whole id in a pipe, and where it is short."""
        made_by_us = len(run_id) == _MADE_BY_US and not run_id.strip("0123456789abcdef")
        if self._screen.width is None or (not made_by_us and len(visible(run_id)) <= _LONGEST_ID):
            return run_id
        least = _SHORTEST_ID if made_by_us else _LONGEST_ID
        return run_id[: max(least, self._reader.shortest_prefix(run_id))]

    def object(self, entry: Facts | Damaged) -> dict[str, object]:
        """A run for programs."""
        if isinstance(entry, Damaged):
            return damaged_object(entry.message)
        step = entry.step
        return {
            **run_object(entry.run, entry.status),
            "steps_done": entry.tally.done,
            "step": None if step is None else step.name,
            "attempt": None if step is None else step.attempt,
            "why": self._why(entry),
        }

    # -- the last line -------------------------------------------------------------------------------------------------

    def _nothing(self) -> str:
        path = self._options.db
        return f"no runs in {path} yet" if self._selection.is_everything() else f"no run in {path} is like that"

    def _say_what_was_cut(self, keys: Iterator[int]) -> None:
        """How many more there are, where a look at the index tells."""
        if {"running", "interrupted"} & set(self._options.status):
            left = sum(1 for _ in zip(self.entries(keys), range(1), strict=False))
            count = "more" if left else ""
        else:
            left = sum(1 for _ in zip(keys, range(_MOST_COUNTED + 1), strict=False))
            count = f"{left:,} more" if left <= _MOST_COUNTED else f"more than {_MOST_COUNTED:,} more"
        if left:
            command = "" if self._options.command == "ls" else "durable ls "
            self._say(f"… and {count}: {command}--limit 0 shows all")

    def _say(self, text: str) -> None:
        if self._screen.width is None or self._options.json:
            print(f"durable: {visible(text)}", file=sys.stderr)
        else:
            self._screen.line(Cell(text, "dim"))

"""The journal as the page reads it: a page of runs at a time, counts, and whether anything has changed.

Nothing here takes long, however many runs there are: a search stops after `_PATIENCE_SECONDS` with what it found and
the key at which the next one goes on.
"""

import json
import os
import threading
from itertools import islice
from typing import Final, NamedTuple

from durable._clock import SYSTEM_CLOCK
from durable._codec.json_text import encode
from durable._model import RunRecord
from durable.cli._facts import Facts, Owners, facts_of, status_of
from durable.cli._reader import Reader, Wanted
from durable.cli._survey import Survey
from durable.errors import JournalError

_PATIENCE_SECONDS: Final = 0.08
_FIRST_BATCH: Final = 128
_LARGEST_BATCH: Final = 1_024
_NO_END: Final = 2**63 - 1


class Filters(NamedTuple):
    """Which runs are looked for. `since` and `before` are seconds since the Unix epoch."""

    status: str = ""
    workflow: str = ""
    text: str = ""
    since: float | None = None
    before: float | None = None


class Damaged(NamedTuple):
    """Stands for a run whose record cannot be read."""

    seq: int
    message: str


class Page(NamedTuple):
    """Runs, newest first. All those with a key of `end` and above were looked at; `None`: all there are."""

    entries: list[Facts | Damaged]
    end: int | None


class Browser(Reader):
    """A journal that is read for as long as somebody looks at the page, while it is written, replaced or removed."""

    def __init__(self, path: str, *, beside_writer: bool = False) -> None:
        """`beside_writer`: this process also writes to the journal."""
        super().__init__(path, leaves_trace=beside_writer)
        self._file: tuple[int, int] | None = None

    def refresh(self) -> None:
        """Notice that another file is at the path now: the one that is open would never tell."""
        file = self._look()
        if file != self._file:
            self._file = file
            self.leave()

    def leave(self) -> None:
        """Close the file; the next question opens it again."""
        with self._reading:
            self._close_reader()

    def _look(self) -> tuple[int, int] | None:
        try:
            seen = os.stat(self.path)
        except OSError:
            return None
        return seen.st_dev, seen.st_ino

    # -- lists ---------------------------------------------------------------------------------------------------------

    def page(self, filters: Filters, below: int | None, limit: int) -> Page:
        """At most `limit` runs with a key below that; fewer where the search takes too long."""
        give_up_at = SYSTEM_CLOCK.monotonic() + _PATIENCE_SECONDS
        entries: list[Facts | Damaged] = []
        owners, live = Owners(self), self.live_epoch()
        keys, size = self.newest(self._wanted(filters, below)), _FIRST_BATCH
        while batch := list(islice(keys, size)):
            for key in self._matching(batch, filters, live):
                entry = self._entry(key, filters, owners)
                if entry is not None:
                    entries.append(entry)
                if len(entries) == limit or SYSTEM_CLOCK.monotonic() > give_up_at:
                    return Page(entries, key)
            if SYSTEM_CLOCK.monotonic() > give_up_at:
                return Page(entries, batch[-1])
            size = min(size * 4, _LARGEST_BATCH)
        return Page(entries, None)

    def _wanted(self, filters: Filters, below: int | None) -> Wanted:
        first, end = self.range_of(filters.since, filters.before)
        stored = _stored(filters.status)
        return Wanted((stored,) if stored else (), filters.workflow or None, first, min(end, below or _NO_END))

    def _matching(self, keys: list[int], filters: Filters, live: int | None) -> list[int]:
        """Those of the keys whose run may fit; the records tell."""
        is_live = {"running": 1, "interrupted": 0}.get(filters.status)
        if not filters.text and is_live is None:
            return keys
        plain = f"%{_escaped(filters.text)}%" if filters.text else None
        in_json = f"%{_escaped(encode(filters.text)[1:-1])}%" if filters.text else None
        return [row[0] for row in self.ask("matching", json.dumps(keys), live, is_live, plain, in_json)]

    def _entry(self, key: int, filters: Filters, owners: Owners) -> Facts | Damaged | None:
        try:
            run = self.run_of_seq(key)
            if run is None:
                return None
            status = status_of(run, owners)
            return facts_of(self, run, status, owners) if _fits(run, status, filters) else None
        except JournalError as error:
            return Damaged(key, str(error))

    def counts(self, filters: Filters) -> dict[str, dict[str, int]]:
        """How many runs of these times each workflow has of each status that people see."""
        return Survey(self, *self.range_of(filters.since, filters.before)).counts()

    # -- one file, one run ---------------------------------------------------------------------------------------------

    def parent(self, run: RunRecord) -> RunRecord | None:
        """The run that called this one."""
        return None if run.parent is None else self.run_of_seq(run.parent)


class Watch:
    """Tells whether a journal has changed: asked by all pages, it looks through one connection of its own."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._asking = threading.Lock()
        self._seen: tuple[object, ...] = ()
        self._changes = 0

    def changes(self) -> int:
        """A number that grows whenever something was written, or an owner came or went, since it was asked last."""
        with self._asking:
            seen = self._look()
            if seen != self._seen:
                self._seen = seen
                self._changes += 1
            return self._changes

    def _look(self) -> tuple[object, ...]:
        browser = self._browser
        browser.refresh()
        try:
            return browser.version(), browser.openings, browser.live_epoch()
        except JournalError as error:
            return (str(error),)


def _stored(status: str) -> str | None:
    """The status in the file of runs that people see with this one."""
    return "running" if status == "interrupted" else status or None


def _fits(run: RunRecord, status: str, filters: Filters) -> bool:
    """The journal may have changed since the key was found, and the key is only close to the times."""
    return (
        (not filters.status or status == filters.status)
        and (not filters.workflow or run.workflow == filters.workflow)
        and (filters.since is None or run.created_at >= filters.since)
        and (filters.before is None or run.created_at < filters.before)
    )


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")

"""The journal as the command line reads it: without a trace in the folder, past damaged records, and never whole.

The newest runs are found as keys, by indexes, and each record is then read by itself: a damaged one costs its own line
and no other.
"""

import contextlib
import heapq
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from durable._database import mapped, open_reader
from durable._format import named_statements
from durable._journal import Journal
from durable._model import FINISHED, RUN_TRANSITIONS, AttemptRecord, MessageRecord, OwnerRecord, StepRecord
from durable._records import attempt_from, message_from, naming_the_run, step_from
from durable._transaction import Transaction
from durable.cli._files import footprint, require_readable
from durable.errors import JournalError

_SQL: Final = named_statements("reading.sql")
_FIRST_PAGE: Final = 64
_FIRST_SORTED_PAGE: Final = 4_096
"""Where the keys have to be sorted for each page, rather one page too large than two."""
_LARGEST_PAGE: Final = 65_536
_MOST_COUNTED: Final = 10_000
"""Operations of one run that are counted for a list."""
_MOST_CHILDREN: Final = 1_000
"""Runs that one run has called or started, which are looked through for those that it may wait for."""
_NO_END: Final = 2**63 - 1


class Tally(NamedTuple):
    """How far a run is: completed steps, and operations under way. `capped`: there are more than were counted."""

    done: int
    under_way: int
    capped: bool


class Wanted(NamedTuple):
    """Which runs to list: of any of these stored statuses, of a workflow, with a key of `first` up to `end`."""

    statuses: tuple[str, ...]
    workflow: str | None
    first: int
    end: int


class Reader(Journal):
    """A journal that is only read, for the time of one command."""

    def __init__(self, path: str, *, leaves_trace: bool = False) -> None:
        """`leaves_trace`: the files of a WAL may stay behind, as they must where this process also writes."""
        super().__init__(path)
        self.openings = 0
        """How often the file was opened: what one opening says of changes means nothing to the next."""
        self._leaves_trace = leaves_trace
        self._still: tuple[int, ...] | None = None
        """What the file looked like when it was opened as one that nobody writes."""

    # -- without a trace ----------------------------------------------------------------------------------------------

    def _query(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """As always, but where nobody has the file open SQLite is told so: else it makes a WAL that stays behind.

        Should an owner come meanwhile, then its WAL is there when the rows are: they are read again, this time in the
        usual way.
        """
        with self._reading, mapped(self.path):
            while True:
                try:
                    rows: list[tuple[Any, ...]] = self._opened().execute(sql, values).fetchall()
                except Exception:
                    if self._still is None or self._still == footprint(self.path):
                        raise
                else:
                    if self._still is None or self._still == footprint(self.path):
                        return rows
                self._close_reader()

    def _opened(self) -> Any:
        if self._reader is None:
            self._still = None
            require_readable(self.path)
            if not self._leaves_trace:
                self._still = footprint(self.path)
            self._reader = open_reader(self.path, self._vfs, still=self._still is not None)
            self.openings += 1
        return self._reader

    @contextlib.contextmanager
    def visiting(self) -> Iterator[Callable[[Callable[[Transaction], Any]], Any]]:
        """As always, but what reads is closed before: closed later, it would drop the locks of what writes.

        And before what writes is closed: the last to close the file is to move the WAL into it, and that one may.
        """
        self.stop_reading()
        with super().visiting() as write:
            try:
                yield write
            finally:
                self.stop_reading()

    def ask(self, name: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a named statement of `sql/reading.sql`."""
        return self._query(_SQL[name], values)

    # -- the newest runs ----------------------------------------------------------------------------------------------

    def newest(self, wanted: Wanted) -> Iterator[int]:
        """Keys of runs, newest first, as they are asked for. More than `wanted` may come: the records tell."""
        if wanted.workflow is not None:
            statuses = wanted.statuses or tuple(RUN_TRANSITIONS)
            pages = [self._pages(wanted, "newest_of_workflow", wanted.workflow, status) for status in statuses]
            yield from heapq.merge(*pages, reverse=True)
        elif wanted.statuses:
            untimed = [self._pages(wanted, "newest_of_status", status) for status in wanted.statuses]
            timed = [
                self._pages(wanted, "newest_timed_of_status", status, size=_FIRST_SORTED_PAGE)
                for status in wanted.statuses
            ]
            yield from heapq.merge(*untimed, *timed, reverse=True)
        else:
            yield from self._pages(wanted, "newest")

    def _pages(self, wanted: Wanted, statement: str, *values: str, size: int = _FIRST_PAGE) -> Iterator[int]:
        end = wanted.end
        while True:
            page = [row[0] for row in self.ask(statement, *values, wanted.first, end, size)]
            yield from page
            if len(page) < size:
                return
            end, size = page[-1], min(size * 4, _LARGEST_PAGE)

    def range_of(self, since: float | None, before: float | None) -> tuple[int, int]:
        """Keys of the runs created at or after `since` and before `before`: the first, and the end.

        Keys count in the order of creation, so that a few looks find the place; the caller compares the times again,
        since a clock may have been set back.
        """
        low, high = self.ask("ends")[0]
        if low is None:
            return 0, 0
        first = low if since is None else self._first_key_at(since, low, high)
        return first, _NO_END if before is None else self._first_key_at(before, low, high)

    def _first_key_at(self, moment: float, low: int, high: int) -> int:
        high += 1
        while low < high:
            middle = (low + high) // 2
            row = self.ask("created_at", middle)
            if not row or row[0][1] >= moment:
                high = middle
            else:
                low = row[0][0] + 1
        return low

    def shortest_prefix(self, run_id: str) -> int:
        """How many letters of an id no other id begins with."""
        neighbours = self.ask("neighbours", run_id)[0]
        return 1 + max(_shared(run_id, other) for other in neighbours)

    # -- one run ------------------------------------------------------------------------------------------------------

    def tally(self, seq: int) -> Tally:
        """How far a run is."""
        done, under_way = self.ask("tally", seq, _MOST_COUNTED + 1)[0]
        return Tally(done, under_way, done + under_way > _MOST_COUNTED)

    def latest_step(self, seq: int, *statuses: str) -> StepRecord | None:
        """The operation of a run that began last among those of two statuses."""
        rows = self.ask("latest_of_status", seq, *statuses)
        return step_from(rows[0]) if rows else None

    def last_failure(self, step: StepRecord) -> str | None:
        """The error of the latest attempt of a step that waits for the next one."""
        rows = self.ask("attempt", step.run, step.branch, step.position, step.attempt)
        return attempt_from(rows[0]).error if rows else None

    def unfinished_children(self, seq: int) -> list[str]:
        """Ids of the runs that a run has called or started and that have not ended; none where it has too many."""
        rows = self.ask("some_children", seq, _MOST_CHILDREN + 1)
        return [run_id for run_id, status in rows if status not in FINISHED and len(rows) <= _MOST_CHILDREN]

    def unread(self, seq: int, damaged: Callable[[str], None]) -> list[MessageRecord]:
        """What was sent to a run and it has not read yet, less what is damaged, of which `damaged` is told."""
        return list(self._sound(message_from, self.ask("unread", seq), damaged))

    def owner(self, epoch: int) -> OwnerRecord | None:
        """The process that owned the journal in an epoch."""
        rows = self.ask("owner", epoch)
        return OwnerRecord._make(rows[0]) if rows else None

    def sound_steps(self, seq: int, damaged: Callable[[str], None]) -> list[StepRecord]:
        """The operations of a run less those whose record is damaged, of which `damaged` is told."""
        return list(self._sound(step_from, self._read("steps", seq), damaged))

    def sound_attempts(self, seq: int, damaged: Callable[[str], None]) -> list[AttemptRecord]:
        """The attempts of a run that did not complete their step, in the same way."""
        return list(self._sound(attempt_from, self._read("attempts", seq), damaged))

    def _sound(
        self, make: Callable[[tuple[Any, ...]], Any], rows: list[tuple[Any, ...]], damaged: Callable[[str], None]
    ) -> Iterator[Any]:
        for row in rows:
            try:
                with naming_the_run(self.run_of_seq):
                    record = make(row)
            except JournalError as error:
                damaged(str(error))
            else:
                yield record


def _shared(one: str, other: str | None) -> int:
    """With how many of the same letters two ids begin."""
    pairs = enumerate(zip(one, other or "", strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other or "")))

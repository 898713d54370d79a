"""The journal as anybody reads it: one method for each named statement of `sql/journal.sql` that only reads.

The connection is opened when something is read first. A row whose checksum does not fit its columns is never handed
out: SQLite's own check does not notice a flipped bit inside a value.
"""

import heapq
import os
import threading
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ._database import has_journal, mapped, open_reader, require_vfs
from ._model import AttemptRecord, MessageRecord, OwnerRecord, RunRecord, StepRecord
from ._owner import is_owned, owner_pid
from ._records import attempt_from, message_from, naming_the_run, owner_from, run_from, step_from
from ._transaction import SQL

if TYPE_CHECKING:
    import apsw

_PAGE: Final = 100
_LARGEST_PAGE: Final = 10_000
_NO_END: Final = 2**63 - 1
"""After the keys of all runs."""


class ReadableJournal:
    """One journal file, read. Safe to use from several threads."""

    def __init__(self, path: str, vfs: str | None = None) -> None:
        """Nothing is opened before it is needed."""
        require_vfs(vfs)
        self.path = os.path.realpath(path)  # one file, one lock, by whatever name
        self.epoch = 0
        """Which owner of the journal this process is; 0 while it is none."""
        self._vfs = vfs
        self._reader: apsw.Connection | None = None
        self._is_over = False
        self._reading = threading.RLock()  # a signal handler may close the engine while its thread reads

    def stop_reading(self) -> None:
        """Close the connection, until something is read again."""
        with self._reading:
            self._close_reader()

    def read_no_more(self) -> None:
        """Keep the file open no longer: what is read yet, by whoever comes late, has a connection for itself."""
        with self._reading:
            self._is_over = True
            self._close_reader()

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def has_tables(self) -> bool:
        """Whether the file is there, and holds a journal. `JournalError` for anything but SQLite, or a newer one."""
        with self._reading, mapped(self.path):
            return has_journal(self.path, self._vfs)

    def live_epoch(self) -> int | None:
        """The epoch of the living owner of the journal, `None` where nobody owns it."""
        if not self.is_owned():
            return None
        owners = self.owners(1)
        return owners[0].epoch if owners else None

    def owner_pid(self) -> int | None:
        """The pid of the living owner, `None` where there is none."""
        return owner_pid(self.path + "-owner") if self.is_owned() else None

    def is_owned(self) -> bool:
        """Whether an owner of the journal lives."""
        with mapped(f"{self.path}-owner cannot be read, which tells whether the owner lives"):
            return is_owned(self.path)

    def owners(self, limit: int) -> list[OwnerRecord]:
        """The processes that have owned the journal, newest first."""
        return list(map(owner_from, self._read("owners", limit)))

    def run(self, run_id: str) -> RunRecord | None:
        """The run of an id."""
        return next(map(run_from, self._read("run_by_id", run_id)), None)

    def run_of_seq(self, seq: int) -> RunRecord | None:
        """The run of a key."""
        return next(map(run_from, self._read("run_by_seq", seq)), None)

    def runs_by_prefix(self, prefix: str, limit: int) -> list[RunRecord]:
        """Runs whose id starts with `prefix`, at most `limit`."""
        return list(map(run_from, self._read("runs_by_prefix", prefix, prefix + "\U0010ffff", limit)))

    def runs(
        self,
        *,
        statuses: tuple[str, ...] = (),
        workflow: str | None = None,
        limit: int | None = None,
        wanted: Callable[[RunRecord], bool] | None = None,
    ) -> list[RunRecord]:
        """Runs, newest first, of any of these stored statuses: at most `limit` for which `wanted` is true."""
        streams = [self._newest(status, workflow) for status in statuses or (None,)]
        newest = heapq.merge(*streams, key=lambda record: record.seq, reverse=True)
        return list(islice(filter(wanted, newest), limit))

    def _newest(self, status: str | None, workflow: str | None) -> Iterator[RunRecord]:
        """Page after page, as they are asked for: a journal may hold a million runs of a status."""
        end, size = _NO_END, _PAGE
        while True:
            if status is not None:
                page = self._read("newest_of_status", status, workflow, end, size)
            elif workflow is not None:
                page = self._read("newest_of_workflow", workflow, end, size)
            else:
                page = self._read("newest", end, size)
            yield from map(run_from, page)
            if len(page) < size:
                return
            end, size = page[-1][0], min(size * 4, _LARGEST_PAGE)

    def runs_of_status(self, status: str) -> list[RunRecord]:
        """All runs of one stored status, oldest first."""
        return list(map(run_from, self._read("runs_of_status", status)))

    def ended(self, status: str, after: int, limit: int) -> list[tuple[int, float, float | None, int | None]]:
        """Key, times of creation and end, and key of the caller, of runs of a status that ended; oldest first."""
        return self._read("ended", status, after, limit)

    def runs_that_go_on(self) -> list[int]:
        """The keys of all runs that execute, were interrupted, or wait for a time."""
        return [seq for (seq,) in self._read("runs_that_go_on")]

    def children(self, seq: int) -> list[RunRecord]:
        """The runs that a run has called, oldest first."""
        return list(map(run_from, self._read("children", seq)))

    def steps(self, seq: int) -> list[StepRecord]:
        """The operations of a run, in the order of their positions."""
        rows = self._read("steps", seq)
        with naming_the_run(self.run_of_seq):
            return list(map(step_from, rows))

    def event(self, seq: int, name: str) -> StepRecord | None:
        """What a run showed last under a name."""
        return next(map(step_from, self._read("event", seq, name)), None)

    def due_runs(
        self, now: float, after: tuple[float, int], limit: int, *, without: Collection[str] = ()
    ) -> list[tuple[int, str, float]]:
        """Key, id and time of waiting runs that are due, in the order of their times, from behind a time and a key.

        `without`: none of these workflows.
        """
        import json

        return self._read("due_runs", now, *after, json.dumps([*without]), limit)

    def next_wake(self, now: float) -> float | None:
        """When the next waiting run is due that is not due yet."""
        return self._read("next_wake", now)[0][0]  # type: ignore[no-any-return]

    def messages(self, seq: int, kind: str, name: str) -> list[MessageRecord]:
        """What a run has not read yet, in the order of arrival."""
        return list(map(message_from, self._read("messages", seq, kind, name)))

    def next_message(self, seq: int, kind: str, name: str, *, after: int) -> MessageRecord | None:
        """The first of those after a key: a thousand that wait are not read to take one."""
        return next(map(message_from, self._read("next_message", seq, kind, name, after)), None)

    def last_message(self) -> int:
        """The key of the newest message that there ever was."""
        return int(self._read("last_message")[0][0])

    def new_messages(self, after: int) -> list[MessageRecord]:
        """What arrived after a message."""
        return list(map(message_from, self._read("new_messages", after)))

    def version(self) -> int:
        """A number that changes with every commit, of any process; of one opening of the file. Costs microseconds."""
        return int(self._query("PRAGMA data_version", ())[0][0])

    def attempts(self, seq: int) -> list[AttemptRecord]:
        """The attempts of a run that did not complete their step, in order."""
        rows = self._read("attempts", seq)
        with naming_the_run(self.run_of_seq):
            return [attempt_from(row) for row in rows]

    def _read(self, name: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._query(SQL[name], values)

    def _query(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with self._reading, mapped(self.path):
            reader = self._reader
            if reader is None:
                reader = self._reader = open_reader(self.path, self._vfs)
            try:
                return reader.execute(sql, values).fetchall()
            finally:
                if self._is_over:
                    self._close_reader()

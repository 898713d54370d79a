"""What may be done inside a write transaction of the journal: one method for each named statement that writes."""

import contextlib
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Final

from ._database import authorize_user
from ._entries import MOST_ROWS, Row, Work, in_statements
from ._format import named_statements
from ._model import FINISHED, AttemptRecord, MessageRecord, RunRecord, StepRecord
from ._records import (
    attempt_row,
    message_from,
    message_row,
    naming_the_run,
    owner_from,
    run_from,
    run_row,
    step_from,
)

SQL: Final = named_statements("journal.sql")
PUT_STEP: Final = SQL["put_step"]
_INTO, _, _ROW = PUT_STEP.rstrip(";").partition(" VALUES ")
_PUT_STEPS: Final = {1: PUT_STEP} | {
    size: f"{_INTO} VALUES" + ",".join([_ROW.replace(" ", "")] * size) + ";"
    for size in (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 320, 384, MOST_ROWS)
}
"""The same for many rows, by how many: few enough, and short enough, to be kept prepared."""


def in_one_statement(rows: list[Row]) -> tuple[str, Row]:
    """What writes up to `MOST_ROWS` operations, and its parameters.

    SQLite lets go of the interpreter lock at each call, and a busy event loop gives it back late: under load that is
    what a batch costs most. To write the last row again, where there is no statement of that size, costs less.
    """
    size = next(size for size in _PUT_STEPS if size >= len(rows))
    again = rows[-1] * (size - len(rows))
    return _PUT_STEPS[size], (*chain.from_iterable(rows), *again)


class Transaction:
    """What the work of an entry may do, inside the write transaction that it shares with others."""

    __slots__ = ("_connection", "checkpoint_after", "execute", "number")

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.execute: Callable[..., Any] = connection.cursor().execute
        """Of one cursor that is kept: to make one for each statement costs as much as a short statement."""
        self.checkpoint_after: Callable[[int], None] = connection.wal_autocheckpoint
        """How many pages of WAL a commit moves into the database, 0 for any number."""
        self.number = 0
        """Counts the transactions of this engine: `Journal.synced` tells up to which they are safe on disk."""

    def put(self, row: Row) -> int:
        """Write an operation; return the number of this transaction."""
        self.execute(PUT_STEP, row)
        return self.number

    def put_all(self, rows: list[Row]) -> None:
        """Write operations, many at a time."""
        for some in in_statements(rows):
            self.execute(*in_one_statement(some))

    def begin(self) -> None:
        """Open the transaction for writing at once: one that only reads first may find it taken."""
        self.execute("BEGIN IMMEDIATE")

    @contextlib.contextmanager
    def lent(self) -> Iterator[Any]:
        """The connection for the user's own statements: they can neither end the transaction nor touch the journal."""
        self._connection.authorizer = authorize_user
        try:
            yield self._connection
        finally:
            self._connection.authorizer = None

    def put_attempt(self, record: AttemptRecord) -> None:
        """Write down an attempt that did not complete its step."""
        self.execute(SQL["put_attempt"], attempt_row(record))

    def add_run(self, record: RunRecord) -> RunRecord:
        """Write a new run, whose `seq` is given here; return it."""
        seq: Any = self.execute(SQL["next_seq"]).fetchall()[0][0]
        record = record._replace(seq=seq)
        self.execute(SQL["add_run"], run_row(record))
        return record

    def put_run(self, record: RunRecord) -> int:
        """Write a run over what was there; return the number of this transaction."""
        r, checksum = record, run_row(record)[-1]
        changing = (r.status, r.output, r.error, r.finished_at, r.wake_at, r.claim)
        counters = (r.epoch, r.crashes, r.progress, r.trusting, r.deadline)
        self.execute(SQL["put_run"], (*changing, *counters, checksum, r.seq))
        return self.number

    def finish_run(self, record: RunRecord) -> int:
        """Write the end of a run, or that it is blocked; what was asked of one that has ended is dropped with it.

        But a failed one keeps its signals, which a retry reads. A parent that is suspended while it waits for this run
        is due then.
        """
        if record.finished_at is not None:
            self.execute(SQL["drop_requests" if record.status == "failed" else "drop_messages"], (record.seq,))
            if record.parent is not None:
                self._wake(record.parent, record.finished_at)
        return self.put_run(record)

    def _wake(self, seq: int, now: float) -> None:
        """A waiting run is due now: something came that it may be waiting for."""
        record = self.run_of_seq(seq)
        if record is not None and record.status == "waiting" and (record.wake_at is None or record.wake_at > now):
            self.put_run(record._replace(wake_at=now))

    def add_message(self, record: MessageRecord) -> None:
        """Leave a message for a run, which is due then if it waits. Its `seq` is given here."""
        seq: Any = self.execute(SQL["last_message"]).fetchall()[0][0] + 1
        self.execute(SQL["put_last_message"], (seq,))
        self.put_message(record._replace(seq=seq))
        self._wake(record.run, record.sent_at)

    def put_message(self, record: MessageRecord) -> None:
        """Write a message in its place among the others."""
        self.execute(SQL["put_message"], message_row(record))

    def drop_message(self, record: MessageRecord) -> None:
        """A message was read."""
        self.execute(SQL["drop_message"], (record.seq,))

    def drop_messages(self, seq: int, kind: str) -> None:
        """The messages of one kind to a run were read."""
        self.execute(SQL["drop_messages_of_kind"], (seq, kind))

    def messages(self, seq: int, kind: str, name: str = "") -> list[MessageRecord]:
        """What a run has not read yet, in the order of arrival."""
        return list(map(message_from, self.execute(SQL["messages"], (seq, kind, name)).fetchall()))

    def drop_step(self, record: StepRecord) -> None:
        """Forget an operation and its attempts, so that it runs again: `retry` of a failed run."""
        self.execute(SQL["drop_step"], record[:3])
        self.execute(SQL["drop_attempts"], record[:3])

    def drop_run(self, seq: int) -> int:
        """Delete a run with all that is known of it; how many rows that were."""
        before = self._connection.total_changes()
        for name in ("delete_steps", "delete_attempts", "drop_messages", "delete_run"):
            self.execute(SQL[name], (seq,))
        return int(self._connection.total_changes() - before)

    def pages(self) -> tuple[int, int]:
        """How many pages the file has, and how many of them are free."""
        total: Any = self.execute("PRAGMA page_count").fetchall()[0][0]
        free: Any = self.execute("PRAGMA freelist_count").fetchall()[0][0]
        return total, free

    def give_back(self, count: int) -> None:
        """Make the file smaller by so many free pages."""
        self.execute(f"PRAGMA incremental_vacuum({count})").fetchall()

    def run_of_seq(self, seq: int) -> RunRecord | None:
        """The run of a key, as this transaction sees it."""
        return next(map(run_from, self.execute(SQL["run_by_seq"], (seq,)).fetchall()), None)

    def run_of_id(self, run_id: str) -> RunRecord | None:
        """The run of an id, as this transaction sees it."""
        return next(map(run_from, self.execute(SQL["run_by_id"], (run_id,)).fetchall()), None)

    def children(self, seq: int) -> list[RunRecord]:
        """The runs that a run has called or started, oldest first."""
        return list(map(run_from, self.execute(SQL["children"], (seq,)).fetchall()))

    def has_finished(self, run_id: str) -> bool:
        """Whether the run of an id has ended."""
        record = self.run_of_id(run_id)
        return record is not None and record.status in FINISHED

    def outcomes(self, seq: int) -> int:
        """How many outcomes a run has."""
        found: Any = self.execute(SQL["outcomes"], (seq,)).fetchall()[0][0]
        return int(found)

    def closed_cleanly(self, epoch: int) -> bool:
        """Whether that owner stopped by itself, and was not killed."""
        rows = self.execute(SQL["owner"], (epoch,)).fetchall()
        return any(owner_from(row).closed_at is not None for row in rows)

    def steps(self, seq: int) -> list[StepRecord]:
        """The operations of a run, as this transaction sees them."""
        rows = self.execute(SQL["steps"], (seq,)).fetchall()
        with naming_the_run(self.run_of_seq):
            return list(map(step_from, rows))

    def oldest_left(self, claim: str, epoch: int, *, after: int, before: int) -> RunRecord | None:
        """The oldest unfinished run between two keys which a call may go on with: an owner before `epoch` left it."""
        rows = self.execute(SQL["oldest_left"], (claim, epoch, after, before)).fetchall()
        return next(map(run_from, rows), None)


def work_of(row: Row, attempt: AttemptRecord | None, message: MessageRecord | None = None) -> Work:
    """What writes an operation, with an attempt that did not complete it, or the message that it was made of."""
    return row if attempt is None and message is None else _work_of_more(row, attempt, message)


def _work_of_more(row: Row, attempt: AttemptRecord | None, message: MessageRecord | None) -> Work:
    def work(transaction: Transaction) -> int:
        if attempt is not None:
            transaction.put_attempt(attempt)
        if message is not None:
            transaction.drop_message(message)
        return transaction.put(row)

    return work

"""Deleting runs that have ended, in small transactions between which others write, and giving the space back.

A run goes together with the runs that it called or started: when all of them have ended, children first. So nothing is
left behind that an unfinished run may ask for, and a crash in the middle leaves whole runs. One that failed goes in one
transaction with its children: left behind alone, a retry would execute those anew from their first step.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from ._clock import Clock
from ._journal import Journal
from ._model import FINISHED, RunRecord
from ._thread_pool import LastingThread
from ._transaction import Transaction
from .errors import DurableError, JournalError

_ROWS_AT_ONCE: Final = 1_000
"""Deleted in one transaction, unless one run alone has more, or a failed one with its children: 2 ms."""
_PAGE: Final = 500
_PAGES_AT_ONCE: Final = 200
_NOT_SO_OFTEN_SECONDS: Final = 3_600.0
_SHARE_OF_TIME: Final = 5
"""How many times longer than it worked the keeper rests, so that it holds nobody up."""
_SPARE: Final = 10
"""One of so many pages may stay free in a journal that is in use: they are soon filled again."""

Write = Callable[[Callable[[Transaction], Any]], Any]


def family(journal: Journal, record: RunRecord) -> list[RunRecord]:
    """A run and all that it called or started, and so on: each before its children.

    Not by recursion: a run may start the next of its kind when it ends, for years.
    """
    found: list[RunRecord] = []
    left = [record]
    while left:
        found.append(left.pop())
        left += reversed(journal.children(found[-1].seq))
    return found


def remove(journal: Journal, write: Write, before: float, statuses: tuple[str, ...], *, now: float) -> Iterator[int]:
    """Delete runs of these statuses that ended before a time; yields after each transaction how many it deleted.

    They are found without an index of their own, which each run would pay for: the one by status has those that ended
    in the order of their creation, and what was created after that time has not ended before it. A run that was created
    while the clock was ahead tells nothing of those behind it, and would keep them until its time comes.
    """
    for status in statuses:
        batch: list[RunRecord] = []
        for root in _roots(journal, status, before, now):
            batch += root
            if len(batch) >= _PAGE:
                yield from remove_all(write, batch)
                batch = []
        yield from remove_all(write, batch)


def _roots(journal: Journal, status: str, before: float, now: float) -> Iterator[list[RunRecord]]:
    """Families that may go, children first."""
    after = 0
    while page := journal.ended(status, after, _PAGE):
        for seq, created_at, finished_at, parent in page:
            after = seq
            if before <= created_at <= now:
                return
            if parent is None and finished_at is not None and finished_at < before:
                try:
                    found = _whole_family(journal, seq)
                except JournalError:  # a record in it is damaged: durable doctor tells
                    continue
                if all(each.status in FINISHED and (each.finished_at or before) < before for each in found):
                    yield found[::-1]


def _whole_family(journal: Journal, seq: int) -> list[RunRecord]:
    root = journal.run_of_seq(seq)
    return [] if root is None else family(journal, root)


def remove_all(write: Write, runs: list[RunRecord]) -> Iterator[int]:
    """Delete these runs, children first; yields after each transaction how many it deleted."""
    left, going = runs, {record.seq: record for record in runs}
    while left:
        tried, deleted = write(_removal(left, going))
        left = left[tried:]
        yield deleted


def _removal(runs: list[RunRecord], going: dict[int, RunRecord]) -> Callable[[Transaction], tuple[int, int]]:
    """Delete as many as make a small transaction; how many were looked at, and how many of them deleted.

    `going`: these and those before them, by key.
    """

    def work(transaction: Transaction) -> tuple[int, int]:
        tried = deleted = rows = 0
        bereft: set[int] = set()  # those that failed, and whose children are deleted: they go with them
        for record in runs:
            if rows >= _ROWS_AT_ONCE and not bereft:
                break
            tried += 1
            caller = None if record.parent is None else going.get(record.parent)
            if _may_go(transaction, record, caller):
                rows += transaction.drop_run(record.seq)
                deleted += 1
                bereft.discard(record.seq)
                if caller is not None and caller.status == "failed":
                    bereft.add(caller.seq)
        return tried, deleted

    return work


def _may_go(transaction: Transaction, record: RunRecord, caller: RunRecord | None) -> bool:
    """It has ended, as it had when it was looked for; so has who called it, and is to go; and whom it called is gone.

    `caller`: who called it, as it was found, where that is to be deleted too.
    """
    found = transaction.run_of_id(record.id)
    if found is None or found.seq != record.seq or found.status not in FINISHED:
        return False
    parent = None if found.parent is None else transaction.run_of_seq(found.parent)
    return (
        found.finished_at == record.finished_at
        and (parent is None or (parent.status in FINISHED and parent.finished_at == (caller or parent).finished_at))
        and not transaction.children(found.seq)
    )


def give_back(write: Write, *, all_of_it: bool) -> Iterator[int]:
    """Give free pages back to the file system, some in each transaction; yields how many are left after each.

    Works where the file was made for it, as all journals are but those inside a file that was there before.
    """
    before = -1
    while True:
        total, free = write(lambda transaction: transaction.pages())
        if not free or free == before or (not all_of_it and free * _SPARE < total):
            return
        before = free
        write(lambda transaction: transaction.give_back(_PAGES_AT_ONCE))
        yield free


class Keeper:
    """Deletes what ended longer ago than that, while this process owns the journal: a thread that mostly sleeps."""

    def __init__(self, journal: Journal, clock: Clock, keep_seconds: float) -> None:
        self._journal = journal
        self._clock = clock
        self._keep_seconds = keep_seconds
        self._stopped = threading.Event()
        self._thread = LastingThread(self._run, "durable-keep")

    def start(self) -> None:
        """Begin, unless it has."""
        self._thread.begin()

    def stop(self) -> None:
        """Delete nothing more."""
        self._stopped.set()
        self._thread.wait(1.0)

    def _run(self) -> None:
        pause = min(_NOT_SO_OFTEN_SECONDS, max(1.0, self._keep_seconds / 10))
        while not self._stopped.is_set():
            try:
                self._delete()
            except DurableError as error:
                if self._stopped.is_set():
                    return
                import logging

                logging.getLogger("durable").error("old runs are not deleted: %s", error)  # noqa: TRY400 - says enough
            self._clock.wait(self._stopped, None, pause)

    def _delete(self) -> None:
        now = self._clock.now()
        before = now - self._keep_seconds
        began = self._clock.monotonic()
        for work in (
            remove(self._journal, self._write, before, tuple(sorted(FINISHED)), now=now),
            give_back(self._write, all_of_it=False),
        ):
            for _ in work:
                seconds = self._clock.monotonic() - began
                self._clock.wait(self._stopped, None, max(0.01, _SHARE_OF_TIME * seconds))
                if self._stopped.is_set():
                    return
                began = self._clock.monotonic()

    def _write(self, work: Callable[[Transaction], Any]) -> Any:
        """Without an fsync: what comes back after a power cut is deleted again."""
        return self._journal.write(work, full=False, gives_up=True)

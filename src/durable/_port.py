"""Between the writer's threads and an event loop: what goes to the disk, and the news that it is there."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from ._commits import Commits, do_all
from ._entries import Entry, Work
from ._execution import write_step
from ._model import AttemptRecord, MessageRecord, StepRecord
from ._transaction import Transaction
from .errors import DurableError

Told = Callable[[BaseException | None], None]
"""Hears that something is in the file, or why not."""
_MOST_AT_ONCE: Final = 64
"""Then a part is written while the loop goes on."""


class LoopPort:
    """One loop and one writer: tells the loop, from any thread, that its entries are on disk."""

    def __init__(self, loop: asyncio.AbstractEventLoop, commits: Commits) -> None:
        self.loop = loop
        self.users = 0
        """Runs that execute on the loop."""
        self._commits = commits
        self._pending: list[tuple[Work, Told]] = []
        self._full = False
        """Whether any of these is to be on disk."""

    def put(self, work: Work, full: bool, told: Told) -> None:
        """Write it with all else that goes to the file in this turn of the loop; `told` hears of it on the loop.

        An entry of its own for each costs a busy loop more than all else that a step does.
        """
        if not self._pending:
            self.loop.call_soon(self.flush)
        self._pending.append((work, told))
        if full:
            self._full = True
        if len(self._pending) == _MOST_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write what was put: at the end of the turn, and before anything of the same runs that goes another way."""
        if not self._pending:
            return
        (pending, full), self._pending, self._full = (self._pending, self._full), [], False
        if len(pending) == 1:
            self.write(pending[0][0], full, pending[0][1])
            return
        works = [work for work, _ in pending]

        def told_all(error: BaseException | None) -> None:
            if error is not None and not self._commits.is_broken():  # one of them is at fault: each by itself
                for work, told in pending:
                    self.write(work, full, told)
                return
            for _, told in pending:
                told(error)

        self.write(lambda transaction: do_all(works, transaction), full, told_all)

    def write(self, work: Work, full: bool, told: Told) -> None:
        """Write it now; at once where nobody else writes and no fsync is needed."""
        entry = Entry(work, full, self, lambda entry: told(entry.error))
        try:
            if not full and self._commits.write_if_idle(work):
                told(None)
            else:
                self._commits.submit(entry)
        except DurableError as error:
            told(error)

    def post(self, entries: list[Entry]) -> None:
        """Called by the writer, once a commit."""
        with contextlib.suppress(RuntimeError):  # the loop was closed: its runs are interrupted
            self.loop.call_soon_threadsafe(_acknowledge, entries)


def _acknowledge(entries: list[Entry]) -> None:
    for entry in entries:
        entry.then(entry)


class Outcome:
    """An outcome on its way: to the disk, and then to the task that awaits it."""

    __slots__ = ("attempt", "future", "is_late", "message", "record", "turn")

    def __init__(
        self,
        record: StepRecord,
        attempt: AttemptRecord | None,
        future: "asyncio.Future[None]",
        message: MessageRecord | None = None,
        *,
        is_late: bool = False,
    ) -> None:
        self.record = record
        self.attempt = attempt
        self.turn = 0
        """Its place in the order of delivery."""
        self.future = future
        """What the task awaits."""
        self.message = message
        """What it was made of, and is dropped with it; of a cut, what nobody got and is put back."""
        self.is_late = is_late
        """Whether it is journaled after it was delivered, with what follows."""

    def work(self) -> Callable[[Transaction], int]:
        """What writes it."""
        record = (*self.record[:-1], self.turn)
        if not self.is_late or self.message is None:
            return write_step(record, self.attempt, self.message)
        put, message = write_step(record, None), self.message

        def put_back(transaction: Transaction) -> int:
            transaction.put_message(message)
            return put(transaction)

        return put_back

    def settle(self, error: BaseException | None = None) -> None:
        """Let the task go on."""
        settle(self.future, error)


def settle(future: "asyncio.Future[None]", error: BaseException | None = None) -> None:
    """Let the task that awaits the future go on, unless it has gone."""
    if not future.done():
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

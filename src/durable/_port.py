"""Between the writer's threads and an event loop: what goes to the disk, and the news that it is there."""

import asyncio
import contextlib
from collections.abc import Callable

from ._commits import Commits
from ._entries import Entry, Statement
from ._execution import write_step
from ._model import AttemptRecord, MessageRecord, StepRecord
from ._transaction import Transaction
from .errors import DurableError, SerializationError


class LoopPort:
    """One loop and one writer: tells the loop, from any thread, that its entries are on disk."""

    def __init__(self, loop: asyncio.AbstractEventLoop, commits: Commits) -> None:
        self.loop = loop
        self.users = 0
        """Runs that execute on the loop."""
        self._commits = commits
        self._begun: list[tuple[Statement, asyncio.Future[None]]] = []

    def begin(self, start: Statement) -> "asyncio.Future[None]":
        """Write down that an attempt begins, without an fsync, with all that begin in this turn of the loop.

        A commit for each costs a busy loop more than all else that a step does.
        """
        future = self.loop.create_future()
        if not self._begun:
            self.loop.call_soon(self.flush)
        self._begun.append((start, future))
        return future

    def flush(self) -> None:
        """Write what has begun: before anything of the same runs that comes later, and at the end of the turn."""
        if not self._begun:
            return
        begun, self._begun = self._begun, []
        starts = [start for start, _ in begun]

        def told(entry: Entry) -> None:
            if isinstance(entry.error, SerializationError) and len(begun) > 1:  # one is too large: each by itself
                for start, future in begun:
                    self._submit(Entry(start, False, self, lambda each, future=future: settle(future, each.error)))
                return
            for _, future in begun:
                settle(future, entry.error)

        self._submit(Entry(lambda transaction: transaction.run_all(starts), False, self, told))

    def _submit(self, entry: Entry) -> None:
        try:
            if self._commits.write_if_idle(entry.work):
                entry.then(entry)
            else:
                self._commits.submit(entry)
        except DurableError as error:
            entry.error = error
            entry.then(entry)

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
        record = StepRecord(*self.record[:-1], self.turn)
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

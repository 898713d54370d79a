"""Between the writer's threads and an event loop: what goes to the disk, and the news that it is there."""

import asyncio
import contextlib

from ._entries import Entry
from ._model import AttemptRecord, StepRecord


class LoopPort:
    """Tells an event loop, from any thread, that its entries are on disk."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop

    def post(self, entries: list[Entry]) -> None:
        """Called by the writer, once a commit."""
        with contextlib.suppress(RuntimeError):  # the loop was closed: its runs are interrupted
            self.loop.call_soon_threadsafe(_acknowledge, entries)


def _acknowledge(entries: list[Entry]) -> None:
    for entry in entries:
        entry.then(entry)


class Outcome:
    """An outcome on its way: to the disk, and then to the task that awaits it."""

    __slots__ = ("attempt", "future", "record", "turn")

    def __init__(
        self, record: StepRecord, attempt: AttemptRecord | None, future: "asyncio.Future[None] | None"
    ) -> None:
        self.record = record
        self.attempt = attempt
        self.turn = 0
        """Its place in the order of delivery; of a cut, the turn that had been delivered last when it happened."""
        self.future = future
        """What the task awaits; `None` for a cut, which nobody awaits."""

    def settle(self, error: BaseException | None = None) -> None:
        """Let the task go on."""
        if self.future is not None:
            settle(self.future, error)


def settle(future: "asyncio.Future[None]", error: BaseException | None = None) -> None:
    """Let the task that awaits the future go on, unless it has gone."""
    if not future.done():
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

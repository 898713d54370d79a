"""Between the writer's threads and an event loop: what goes to the disk, and the news that it is there."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, Protocol

from ._clock import SYSTEM_CLOCK
from ._commits import Commits
from ._entries import Entry, Work, all_of
from .errors import DurableError

_MOST_AT_ONCE: Final = 64
"""Then a part is written while the loop goes on."""
_QUICK_SECONDS: Final = 0.001
"""For so long a lone run may hold up its loop in a commit."""
_SHARE: Final = 0.01
"""Of the time of a loop, which commits that take longer may hold it up."""


class Letter(Protocol):
    """Something to be written for a loop, and who hears on the loop that it is in the file, or why not.

    An object and no function: a busy loop has thousands under way, and what a closure is made of costs it as much in
    the collection of garbage as the write itself.
    """

    @property
    def work(self) -> Work: ...
    def told(self, error: BaseException | None) -> None: ...


class LoopPort:
    """One loop and one writer: tells the loop, from any thread, that its entries are on disk."""

    def __init__(self, loop: asyncio.AbstractEventLoop, commits: Commits) -> None:
        self.loop = loop
        self.users = 0
        """Runs that execute on the loop."""
        self.rests_until = 0.0
        """By the loop's time: for so long it is not found out, which takes a while, whether a run can go on."""
        self._slow_until = 0.0
        """By the monotonic clock: till then the disk counts as slow."""
        self.commits = commits
        commits.have_helper()
        self._pending: list[Letter] = []
        self._full = self._is_alone = False
        """Whether any of these is to be on disk, and whether the last one is of a run with nobody beside it."""

    def put(self, letter: Letter, full: bool, *, alone: bool = False) -> None:
        """Write it with all else that goes to the file in this turn of the loop; `alone`: nothing else is likely to.

        An entry of its own for each costs a busy loop more than all else that a step does.
        """
        if not self._pending:
            self.loop.call_soon(self._end_turn)
        self._pending.append(letter)
        self._is_alone = alone
        if full:
            self._full = True
        if len(self._pending) == _MOST_AT_ONCE:
            self.flush()

    def _end_turn(self) -> None:
        if self._is_alone and len(self._pending) == 1 and SYSTEM_CLOCK.monotonic() >= self._slow_until:
            self._full = False
            self._commit_here(self._pending.pop())
        else:
            self.flush()

    def _commit_here(self, letter: Letter) -> None:
        """Commit in the loop's own thread, if nobody else writes.

        To another thread and back takes a lone run longer than the commit itself. A slow disk is not to hold up what
        else the loop does: after a commit that did, another thread waits for the disk for a hundred times as long.
        Called by the loop and not in a body, so that Ctrl-C strikes in no operation that may yet be told of its end.
        """
        work, began = letter.work, SYSTEM_CLOCK.monotonic()
        try:
            is_done = type(work) is tuple and self.commits.write_if_idle(work, full=True)
        except DurableError as error:
            letter.told(error)
            return
        except BaseException:
            self._submit(letter, work, full=True)  # the loop may go on, and a row may be written twice
            raise
        took = SYSTEM_CLOCK.monotonic() - began
        if took > _QUICK_SECONDS:
            self._slow_until = began + took + took / _SHARE
        if is_done:
            letter.told(None)
        else:
            self._submit(letter, work, full=True)

    def flush(self) -> None:
        """Write what was put: at the end of the turn, and before anything of the same runs that goes another way."""
        if not self._pending:
            return
        (pending, full), self._pending, self._full = (self._pending, self._full), [], False
        self.write(pending[0] if len(pending) == 1 else _Bundle(self, pending, full), full)

    def write(self, letter: Letter, full: bool) -> None:
        """Write it now; at once where nobody else writes and no fsync is needed."""
        work = letter.work
        try:
            is_done = not full and self.commits.write_if_idle(work)
        except DurableError as error:
            letter.told(error)
            return
        if is_done:
            letter.told(None)
        else:
            self._submit(letter, work, full=full)

    def _submit(self, letter: Letter, work: Work, *, full: bool) -> None:
        try:
            self.commits.submit(Entry(work, full, self, letter))
        except DurableError as error:
            letter.told(error)

    def post(self, entries: list[Entry]) -> None:
        """Called by the writer, once a commit."""
        soon(self.loop, _acknowledge, entries)


class _Bundle:
    """Letters of one turn of a loop, in one entry."""

    __slots__ = ("_full", "_letters", "_port", "work")

    def __init__(self, port: LoopPort, letters: list[Letter], full: bool) -> None:
        self.work = all_of([letter.work for letter in letters])
        self._port = port
        self._letters = letters
        self._full = full

    def told(self, error: BaseException | None) -> None:
        if error is not None and not self._port.commits.is_broken():  # one of them is at fault: each by itself
            for letter in self._letters:
                self._port.write(letter, self._full)
            return
        for letter in self._letters:
            letter.told(error)


def _acknowledge(entries: list[Entry]) -> None:
    for entry in entries:
        entry.then.told(entry.error)


def settle(future: "asyncio.Future[None]", error: BaseException | None = None) -> None:
    """Let the task that awaits the future go on, unless it has gone."""
    if not future.done():
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


def soon(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: object) -> None:
    """Have it called on a loop, from any thread. Where the loop was closed, nobody waits there any more."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback, *args)

"""Wakes what waits: one thread that sleeps until the next waiting run is due, and sees what other processes wrote.

A waiting run is a row with a time, and nothing in memory. A number that SQLite changes with every commit is looked at
four times a second: only when it has changed is anything read.
"""

import heapq
import threading
from collections.abc import Callable, Collection
from functools import partial
from typing import Final, Protocol

from ._clock import BACK_SECONDS, Clock
from ._journal import Journal
from ._model import MessageRecord, RunRecord
from ._set_back import SetBack, move_back
from ._thread_pool import LastingThread
from .errors import EngineClosedError, JournalError

_LOOK_SECONDS: Final = 0.25
_AGAIN_SECONDS: Final = 1.0
_MOVED_AT_ONCE: Final = 100
"""How many runs are moved back with the clock in one transaction."""
_AT_A_TIME: Final = 1_000
"""How many of the runs that are due are set going before the others: each holds some memory."""
_FEW: Final = _AT_A_TIME // 2
"""How many of them are left when the next are looked for."""


class Waker(Protocol):
    """What the timer tells: see `Scheduler`."""

    def wake(self, seq: int, run_id: str, over: Callable[[], None]) -> bool: ...
    def receive(self, message: MessageRecord) -> None: ...
    def go_on_with_children(self, record: RunRecord) -> None: ...
    def ask(self, run_id: str) -> None: ...
    def undeclared(self) -> Collection[str]: ...


class TimedCall:
    """What is called at a time, unless it is forgotten before."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def __lt__(self, other: "TimedCall") -> bool:
        return self.when < other.when


class Timer:
    """The thread, from when this process owns the journal until the engine closes."""

    def __init__(self, journal: Journal, clock: Clock, waker: Waker) -> None:
        self._journal = journal
        self._clock = clock
        self._waker = waker
        self._told = threading.Event()
        self._stopped = False
        self._look = True
        self._version = 0
        self._last_message = journal.last_message()
        self._next: float | None = None
        self._going = 0
        self._left_over = False
        """Whether more runs are due than were set going."""
        self._calls: list[TimedCall] = []
        """A heap."""
        self._forgotten = 0
        """How many of them."""
        self._seen: tuple[float, float] | None = None
        """What the clock showed last, and when that was, by the clock that nobody sets."""
        self._late: list[tuple[SetBack, list[int]]] = []
        """Runs that may be due too late, since the clock was set back."""
        self._complaint = ""
        """What was said last of why nothing can be set going, until it can."""
        self._guard = threading.Lock()
        self._thread = LastingThread(self._run, "durable-timer")

    def start(self) -> None:
        """Begin, unless it has: by now it is known to those whom it tells."""
        self._thread.begin()

    def look(self) -> None:
        """A run that waits may be due now. From any thread."""
        self._look = True
        self._told.set()

    def look_again(self) -> None:
        """A run could not be set going, or not written; it may be due still. Not at once, since that may come again."""
        if not self._journal.commits.is_broken():
            self.call_at(self._clock.now() + _AGAIN_SECONDS, self.look)

    def look_at(self, when: float) -> None:
        """A run waits, and is due then. From any thread."""
        if when <= self._clock.now():
            self.look()
            return
        with self._guard:
            is_next = self._next is None or when < self._next
            if is_next:
                self._next = when
        if is_next:
            self._told.set()

    def call_at(self, when: float, callback: Callable[[], None]) -> TimedCall:
        """Call `callback`, which must not raise or wait, in the timer's thread at a time."""
        call = TimedCall(when, callback)
        with self._guard:
            heapq.heappush(self._calls, call)
        self._told.set()
        return call

    def forget(self, call: TimedCall) -> None:
        """Do not call it. From any thread; what was called is forgotten already."""
        with self._guard:
            if call.callback is None:
                return
            call.callback = None
            self._forgotten += 1
            if self._forgotten > max(_AT_A_TIME, len(self._calls) // 2):  # else they would be kept to their time
                self._calls = [each for each in self._calls if each.callback is not None]
                heapq.heapify(self._calls)
                self._forgotten = 0

    def stop(self) -> None:
        """End the thread."""
        self._stopped = True
        self._told.set()
        self._thread.wait(1.0)

    def _run(self) -> None:
        while not self._stopped:
            self._told.clear()
            try:
                self._call_what_is_due()
                self._see_clock()
                self._see_others()
                now = self._clock.now()
                if self._look or (self._next is not None and self._next <= now):
                    self._wake_due(now)
                seconds = 0.0 if self._late else self._seconds_to_next()
                self._complaint = ""
            except (JournalError, EngineClosedError, RuntimeError) as error:  # or no thread can be made just now
                self._complain(error)
                self._look, seconds = True, None  # what was due is so still
            self._clock.wait(self._told, seconds, _LOOK_SECONDS)

    def _seconds_to_next(self) -> float | None:
        with self._guard:
            due = [when for when in (self._next, self._calls[0].when if self._calls else None) if when is not None]
        now = self._clock.now()
        return max(0.0, min(due) - now) if due else None

    def _call_what_is_due(self) -> None:
        while True:
            with self._guard:
                if not self._calls or self._calls[0].when > self._clock.now():
                    return
                call = heapq.heappop(self._calls)
                callback, call.callback = call.callback, None
                self._forgotten -= callback is None
            if callback is not None:
                callback()

    def _see_clock(self) -> None:
        """Where it was set back, move back what waits: a part at a time, since others may be due."""
        now, steady = self._clock.now(), self._clock.steady()
        back = self._set_back(now, steady)
        if back is not None:
            self._late.append((back, self._journal.runs_that_go_on()))
        self._seen = now, steady
        if self._late:
            back, runs = self._late[0]
            work = partial(move_back, runs=runs[:_MOVED_AT_ONCE], back=back, now=now)
            self._journal.write(work, full=False, gives_up=True)  # what has a time is called meanwhile
            del runs[:_MOVED_AT_ONCE]
            if not runs:
                del self._late[0]
            self._look = True

    def _set_back(self, now: float, steady: float) -> SetBack | None:
        """Whether it was since the last look, or before the first one since the file was written; then not how far."""
        if self._seen is None:
            return SetBack(0.0, 0.0) if self._journal.last_written - now >= BACK_SECONDS else None
        last, looked = self._seen
        passed = steady - looked
        return SetBack(last + passed - now, now - passed) if last - now >= BACK_SECONDS else None

    def _see_others(self) -> None:
        version = self._journal.version()
        if version == self._version:
            return
        self._version = version
        self._look = True
        for message in self._journal.new_messages(self._last_message):
            self._last_message = message.seq
            try:
                self._waker.receive(message)
            except (JournalError, RuntimeError) as error:
                self._version = 0  # those behind it are looked for again, and it too where no thread can be made now
                self._last_message -= isinstance(error, RuntimeError)
                raise

    def _wake_due(self, now: float) -> None:
        """Set going what is due, the earliest first, as far as there is room."""
        self._look = self._left_over = False
        self._next = None  # what is told from now on counts
        after = (float("-inf"), 0)
        while found := self._journal.due_runs(now, after, _AT_A_TIME, without=self._waker.undeclared()):
            for seq, run_id, wake_at in found:
                if self._going >= _AT_A_TIME:
                    self._left_over = True
                    self._look = self._going <= _FEW  # they may have ended meanwhile
                    return
                if self._waker.wake(seq, run_id, self._over):
                    with self._guard:
                        self._going += 1
                after = (wake_at, seq)
        following = self._journal.next_wake(now)
        if following is not None:
            self.look_at(following)

    def _over(self) -> None:
        with self._guard:
            self._going -= 1
            is_few = self._left_over and self._going <= _FEW
        if is_few:
            self.look()

    def _complain(self, error: Exception) -> None:
        if self._stopped or str(error) == self._complaint:
            return
        self._complaint = str(error)
        import logging

        logging.getLogger("durable").error("waiting runs are not woken: %s", error)

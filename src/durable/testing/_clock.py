"""A clock that stands still until a test moves it, and knows who waits for it."""

from __future__ import annotations

import datetime as dt
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from durable._clock import Clock, wait_for
from durable._scopes import SCOPE

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable._execution import Execution

_ROUNDING: Final = 1e-6
"""Seconds by which a due time may lie beyond the target: it is a sum of other times."""


class Wait:
    """A thread that stands still, or a callback of an event loop that is due at a time."""

    __slots__ = ("due", "event", "execution", "thread", "wake")

    def __init__(self, due: float | None, thread: int | None, event: threading.Event, wake: Callable[[], Any]) -> None:
        self.due = due
        """Seconds since the Unix epoch; `None` where it waits for somebody, and not for a time."""
        self.thread = thread
        self.event = event
        """Set when it is about to go on."""
        self.wake = wake
        scope = SCOPE.get()
        self.execution = None if scope is None else scope.execution
        """That of the run whose code waits."""

    def woken(self) -> bool:
        """Whether it is about to go on."""
        return self.event.is_set()


class HandClock(Clock):
    """Stands still until it is advanced. Each due moment on the way is a stop: what it wakes comes to rest first.

    Only the time of the library is meant: `durable.sleep`, back-offs, timeouts of signals and of workflows, and
    `durable.now()`. The timeout of a step, and all of `time` and `asyncio`, stays in real time.
    """

    def __init__(self, start: float) -> None:
        self._now = start
        self._waits: set[Wait] = set()
        self._guard = threading.Lock()
        self.moving = threading.RLock()
        """Held by whoever moves the clock."""
        self.settle: Callable[[], None] = lambda: None
        """Returns when everything waits: see `Quiet`."""
        self.changes = 0
        """Counts the waits that began or ended."""
        self.changed = threading.Event()

    # -- for tests ----------------------------------------------------------------------------------------------------

    @property
    def time(self) -> dt.datetime:
        """What time it is: aware, in UTC."""
        return dt.datetime.fromtimestamp(self._now, dt.UTC)

    def advance(
        self, *, weeks: float = 0, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0
    ) -> None:
        """Let so much time pass, from one due moment to the next.

        At each of them, and at the end, it waits (in real time) until every run has ended, is suspended, or waits for
        this clock again: what is due within this time has happened when this returns, and time never moves while a
        step executes. `TimeoutError` where something executes for longer than the `patience` of the environment.
        """
        self._advance_to(self._now + dt.timedelta(0, seconds, 0, 0, minutes, hours + 24 * days, weeks).total_seconds())

    def advance_to(self, when: dt.datetime) -> None:
        """The same, until an aware `datetime`. `ValueError` where it has passed."""
        if when.utcoffset() is None or when.timestamp() < self._now:
            msg = f"a clock is advanced to an aware datetime that is not before {self.time}, not to {when!r}"
            raise ValueError(msg)
        self._advance_to(when.timestamp())

    async def advance_async(
        self, *, weeks: float = 0, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0
    ) -> None:
        """The same as `advance`, in a test that is a coroutine: its event loop goes on meanwhile."""
        from durable._running_async import beside_the_loop

        step = {"weeks": weeks, "days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
        await beside_the_loop(partial(self.advance, **step))

    def _advance_to(self, target: float) -> None:
        if target < self._now:
            msg = "a clock is advanced by 0 or more"
            raise ValueError(msg)
        with self.moving:
            self.settle()
            while (due := self.next_due()) is not None and due <= target + _ROUNDING:
                self.jump(due)
                self.settle()
            self.jump(target)

    # -- for the library ----------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return self._now

    def steady(self) -> float:
        """The same: nobody sets this clock back."""
        return self._now

    def wait(  # type: ignore[override]  # that of the machine has no self
        self, event: threading.Event, seconds: float | None, patience: float | None = None
    ) -> None:
        """As `Clock.wait`. When the time has come the event is set."""
        if seconds is not None and seconds <= 0:
            return
        due = None if seconds is None else self._now + seconds
        wait = self._begin(Wait(due, threading.get_ident(), event, event.set))
        try:
            wait_for(event, patience)
        finally:
            self._end(wait)

    def call_later(self, loop: Any, seconds: float, callback: Callable[[], None]) -> Any:  # type: ignore[override]
        """As `Clock.call_later`."""
        called = threading.Event()

        def wake() -> None:
            called.set()
            self._end(wait)
            if not loop.is_closed():
                loop.call_soon_threadsafe(callback)

        wait = self._begin(Wait(self._now + seconds, None, called, wake))
        return _Timer(lambda: self._end(wait))

    # -- for those who move it ----------------------------------------------------------------------------------------

    def resting_threads(self) -> set[int]:
        """The threads that stand still, and that nothing has woken."""
        with self._guard:
            return {wait.thread for wait in self._waits if wait.thread is not None and not wait.woken()}

    def resting_in(self, execution: Execution) -> set[int]:
        """Those of them that execute code of this run, whatever they wait for: a time, another run, a slot."""
        with self._guard:
            mine = [wait for wait in self._waits if wait.execution is execution and not wait.woken()]
            return {wait.thread for wait in mine if wait.thread is not None}

    def has_woken(self) -> bool:
        """Whether any of those that stood still is about to go on."""
        with self._guard:
            return any(wait.woken() for wait in self._waits)

    def next_due(self) -> float | None:
        """The next moment at which something is due."""
        with self._guard:
            return min((wait.due for wait in self._waits if wait.due is not None and not wait.woken()), default=None)

    def forget(self) -> None:
        """Those that waited are gone, though their threads may take a moment to find out."""
        with self._guard:
            self._waits.clear()

    def jump(self, when: float) -> None:
        """Be there at once, and wake what is due."""
        with self._guard:
            self._now = max(self._now, when)
            due = [wait for wait in self._waits if wait.due is not None and wait.due <= self._now]
        for wait in sorted(due, key=lambda wait: wait.due or 0.0):
            wait.wake()

    def _begin(self, wait: Wait) -> Wait:
        with self._guard:
            self._waits.add(wait)
            self.changes += 1
        self.changed.set()
        return wait

    def _end(self, wait: Wait) -> None:
        with self._guard:
            self._waits.discard(wait)
            self.changes += 1
        self.changed.set()


class _Timer:
    """What `call_later` returns."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        self.cancel = cancel

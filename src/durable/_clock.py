"""The only time and chance in the library: whatever decides is handed what it needs from here.

A `Clock` is replaced as a whole by `durable.testing`; nothing else reads the machine's clock or its dice.
"""

import os
import threading
import time
from _random import Random  # the core of `random`, whose other needs are slow to import
from collections.abc import Callable
from typing import Any, Final

BACK_SECONDS: Final = 1.0
"""A clock that is set back by less than this may make a wait as much longer."""
_dice = Random(int.from_bytes(os.urandom(32), "big"))
"""Of our own: a program that seeds the global one would get the same ids again. Asking the kernel each time lets go
of the interpreter lock, and under load that is a wait of its own."""
os.register_at_fork(after_in_child=lambda: _dice.seed(int.from_bytes(os.urandom(32), "big")))


def wait_for(event: threading.Event, seconds: float | None) -> bool:
    """Wait until `event` is set, at most so many seconds; say whether it is. Ctrl-C gets out as what it is."""
    try:
        return event.wait(seconds)
    except RuntimeError as error:
        raise interrupt_in(error) or error from None


def interrupt_in(error: RuntimeError) -> BaseException | None:
    """The Ctrl-C that made a wait of `threading` fail, if any.

    Where it strikes in the moment in which an event has let go of its lock, the end of a `with` in there fails of that.
    """
    return error.__context__ if isinstance(error.__context__, (KeyboardInterrupt, SystemExit)) else None


class Clock:
    """The machine's clock and dice. Times are seconds since the Unix epoch, as `time.time()` gives them."""

    __slots__ = ()

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
    steady = staticmethod(time.monotonic)
    """The same, where `now` is that of the machine: what no setting of the clock changes."""
    sleep = staticmethod(time.sleep)
    random = staticmethod(_dice.random)

    @staticmethod
    def wait(event: threading.Event, seconds: float | None, patience: float | None = None) -> None:
        """Wait until `event` is set, at most `seconds` of this clock and `patience` of real time, both `None` for ever.

        Every thread that stands still for a run does so here, whatever it waits for: then it is known who is at work.
        """
        wait_for(event, min(limit for limit in (seconds, patience, threading.TIMEOUT_MAX) if limit is not None))

    @staticmethod
    def call_later(loop: Any, seconds: float, callback: Callable[[], None]) -> Any:
        """Call `callback` on the event loop, in whose thread this is called; returns what `cancel()`s it."""
        return loop.call_later(seconds, callback)

    @staticmethod
    def new_id() -> str:
        """128 random bits as 32 hexadecimal digits: ids of runs, which also go into idempotency keys."""
        return f"{_dice.getrandbits(128):032x}"

    @staticmethod
    def random_bytes(count: int) -> bytes:
        """So many random bytes."""
        return _dice.getrandbits(8 * count).to_bytes(count, "big")

    @staticmethod
    def secret() -> str:
        """32 hexadecimal digits that nobody can guess, whatever other numbers of this clock they have seen."""
        return os.urandom(16).hex()


class TimeLeft:
    """Counts so many seconds down.

    By the time of day, which goes on while the machine sleeps; and by the steady clock, since that may be set back.
    """

    __slots__ = ("_clock", "_due", "_end")

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._due, self._end = clock.now() + seconds, clock.steady() + seconds

    def seconds(self) -> float:
        """How many are left."""
        return min(self._due - self._clock.now(), self._end - self._clock.steady())

    def until(self) -> float:
        """The time of day at which they are over: the same at any time, unless the clock is set back."""
        over = self._clock.now() + self._end - self._clock.steady()
        return self._due if self._due < over + BACK_SECONDS else over


SYSTEM_CLOCK = Clock()

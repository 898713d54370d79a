"""How long a write is tried again while another process keeps the file locked, and what is said of that in the log."""

from typing import Final

from ._clock import SYSTEM_CLOCK
from ._entries import Entry, NotWrittenError

TRY_MILLISECONDS: Final = 100
"""How long SQLite waits for the lock in one try: between two an interrupt, or the end of the engine, gets through."""
SECONDS: Final = 5.0
"""Whoever asks from outside is told then that the file is locked; the log says so when it was for as long."""
_SAME_LOCK_SECONDS: Final = 2.0
"""From one try that found the file locked to the next: after more than that it is another time that it is."""


def deadline() -> float:
    """Until when a write is tried that somebody asked for from outside."""
    return SYSTEM_CLOCK.monotonic() + SECONDS


class Patience:
    """Ends the waiting of those whose time is over, and says once in the log that the others wait."""

    def __init__(self) -> None:
        self._since = self._last = float("-inf")
        self._is_said = False

    def is_locked_out(self) -> bool:
        """Whether the file was found locked just now."""
        return SYSTEM_CLOCK.monotonic() - self._last <= _SAME_LOCK_SECONDS

    def end(self, batch: list[Entry], error: NotWrittenError) -> None:
        """The file was found locked with these in hand: those whose time is over fail."""
        if not self.is_locked_out():
            self._since, self._is_said = SYSTEM_CLOCK.monotonic(), False
        self._last = now = SYSTEM_CLOCK.monotonic()
        for entry in batch:
            if not entry.done and entry.until <= now:
                entry.fail(error)
        if now - self._since > SECONDS and not self._is_said and not all(entry.done for entry in batch):
            self._is_said = True
            import logging

            logging.getLogger("durable").warning("%s; runs go on when it is free", error)

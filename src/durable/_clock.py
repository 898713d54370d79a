"""The only time and chance in the library: whatever decides is handed what it needs from here.

A `Clock` is replaced as a whole by `durable.testing`; nothing else reads the machine's clock or its dice.
"""

import os
import random
import threading
import time


class Clock:
    """The machine's clock and dice. Times are seconds since the Unix epoch, as `time.time()` gives them."""

    __slots__ = ()

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)
    random = staticmethod(random.random)

    @staticmethod
    def wait(event: threading.Event, seconds: float | None) -> bool:
        """Wait until `event` is set, at most `seconds`; say whether it is."""
        return event.wait(seconds)

    @staticmethod
    def new_id() -> str:
        """128 random bits as 32 hexadecimal digits: ids of runs, which also go into idempotency keys."""
        return os.urandom(16).hex()

    @staticmethod
    def random_bytes(count: int) -> bytes:
        """So many random bytes."""
        return os.urandom(count)


SYSTEM_CLOCK = Clock()

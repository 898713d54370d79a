"""Waiting for what other threads do: long enough for a slow machine, and not for ever."""

import time
from collections.abc import Callable

PATIENCE = 60.0


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)

"""Time for each of many operations, by two clocks."""

from __future__ import annotations

import time
from typing import NamedTuple


class Lap(NamedTuple):
    """Seconds for one operation: by the wall clock, and by the processor's, which other programs disturb less."""

    wall: float
    cpu: float


class Stopwatch:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def lap(self, operations: int) -> Lap:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return Lap(wall / operations, cpu / operations)

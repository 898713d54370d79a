"""Clocks that jump while a program waits or is down, by seconds to years, both ways.

A trial is a step that fails and waits, or a timer. The process ends in the wait; the next one finds another time. It may
never wait longer than the wait was to be, and where the clock stood still or ran right, not shorter.
"""

import random
import threading
from pathlib import Path
from typing import Any

import durable
from durable._clock import Clock

from .tally import Tally

JUMPS = (0.0, 1.0, 60.0, 3600.0, 86400.0, 3e7, 3e8)


class Hands(Clock):
    """A clock whose waits take no time: they move it. It notes what was waited for, and ends the process in a wait."""

    __slots__ = ("stops", "time", "waited")

    def __init__(self, time: float) -> None:
        self.time = time
        self.waited = 0.0
        self.stops = -1.0
        """How far into a wait the process ends; negative: it does not."""

    def now(self) -> float:  # type: ignore[override]
        return self.time

    def monotonic(self) -> float:  # type: ignore[override]
        return self.waited

    def steady(self) -> float:  # type: ignore[override]
        return self.waited

    def sleep(self, seconds: float) -> None:  # type: ignore[override]
        self._pass(seconds)

    def wait(  # type: ignore[override]
        self, event: threading.Event, seconds: float | None, patience: float | None = None
    ) -> bool:
        if event.is_set() or seconds is None or threading.current_thread() is not threading.main_thread():
            return event.wait(patience if seconds is None else seconds)  # the engine's own threads, with nothing to do
        self._pass(seconds)
        return event.is_set()

    def _pass(self, seconds: float) -> None:
        if 0 <= self.stops < seconds:
            self.time += self.stops
            self.waited += self.stops
            raise KeyboardInterrupt
        self.time += max(0.0, seconds)
        self.waited += max(0.0, seconds)


def run(trials: int, seed: int, base: Path) -> Tally:
    tally = Tally()
    for number in range(trials):
        dice = random.Random(f"clocks {seed}/{number}")
        tally.begin()
        path = base / f"{number}.db"
        for fault in _try(path, dice, tally):
            tally.fault(fault, f"trial {number}")
        for each in base.glob(f"{number}.db*"):
            each.unlink()
    return tally


def _try(path: Path, dice: random.Random, tally: Tally) -> list[str]:
    delay = dice.choice([1.0, 10.0, 600.0, 86400.0])
    timer = dice.random() < 0.5
    policy = durable.RetryPolicy(
        initial_interval=delay, backoff_coefficient=1.0, maximum_interval=delay, maximum_attempts=2, jitter=0
    )

    @durable.step(name="fails once", retry=policy)
    def fails_once() -> int:
        if durable.info().attempt == 1:
            raise ConnectionError
        return 1

    @durable.workflow(name="waits", id="waits")
    def waits() -> Any:
        if timer:
            durable.sleep(delay)
            return 1
        return fails_once()

    first = Hands(1_700_000_000.0)
    before_the_end = first.stops = dice.choice([0.0, delay * dice.random()])
    with durable.Engine(path, clock=first) as engine:
        try:
            waits()
        except KeyboardInterrupt:
            pass
        else:
            return ["the process did not end in the wait"]
        del engine
    jump = dice.choice([-1, 1]) * dice.choice(JUMPS) * dice.random()
    second = Hands(first.time + jump)
    tally.facts["back" if jump < 0 else "on"] += 1
    with durable.Engine(path, clock=second):
        result = waits()
    left = delay - before_the_end - jump
    faults = [] if result == 1 else ["wrong result"]
    if second.waited > delay + 1e-6:
        faults.append("longer than the delay itself")
    if second.waited < min(max(0.0, left), delay) - 1e-6:
        faults.append("early")
    return faults

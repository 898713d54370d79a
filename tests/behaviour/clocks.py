"""Clocks that somebody sets."""

import time

from durable._clock import Clock


class SetClock(Clock):
    """The machine's clock, set so many seconds ahead: `ahead` may be changed at any time, and be less than 0."""

    def __init__(self, ahead=0.0):
        self.ahead = ahead

    def now(self):
        return time.time() + self.ahead

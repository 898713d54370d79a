"""Helpers for tests of programs that use `durable`: engines on temporary journals, a clock moved by hand, crashes.

Not imported by `import durable`. The pytest fixture `durable_env` is an environment made by `engine()`.
"""

from ._clock import HandClock
from ._death import SimulatedCrash
from ._environment import Environment, engine
from ._everywhere import CrashPoint, CrashReport, crash_everywhere

__all__ = [
    "CrashPoint",
    "CrashReport",
    "Environment",
    "HandClock",
    "SimulatedCrash",
    "crash_everywhere",
    "engine",
]

"""Durable functions for Python: a crashed function goes on where it stopped. See https://pypi.org/project/durable-functions.

Decorate plain functions with `workflow` and `step`; every step's inputs and outcome are journaled to one SQLite file.
Importing declares; nothing is opened, started or written. This module is a table of contents, and loads what stands
behind a name when the name is first used: a program that imports `durable`, and has no use for it today, pays nothing.
"""

TYPE_CHECKING = False
"""True for type checkers, which know it by its name: `typing`, where it comes from, is slow to import."""

if TYPE_CHECKING:
    import logging

    import cattrs

    from . import aio
    from . import errors as errors
    from . import testing as testing
    from ._engine import Engine, close, get, open, resume, runs  # noqa: A004 - reads as `durable.open(path)`
    from ._listing import StepInfo
    from ._operations import Info, connection, info, now, random, uuid4
    from ._parallel import StepFuture
    from ._pauses import set_event, sleep, sleep_until, wait_for_signal
    from ._retry import RetryPolicy
    from ._steps import Step, step
    from ._workflows import Workflow, workflow
    from .errors import (
        Cancelled,
        DurableError,
        EngineClosedError,
        JournalError,
        JournalLockedError,
        NonDeterminismError,
        NonRetryableError,
        RetryAfter,
        RunBlockedError,
        RunCancelledError,
        RunConflictError,
        RunFinishedError,
        RunInterruptedError,
        RunNotFoundError,
        SerializationError,
        StepError,
        StepInterruptedError,
        StepTimeoutError,
    )
    from .run import Run

    converter: cattrs.Converter
    logger: logging.Logger

__all__ = [
    "Cancelled",
    "DurableError",
    "Engine",
    "EngineClosedError",
    "Info",
    "JournalError",
    "JournalLockedError",
    "NonDeterminismError",
    "NonRetryableError",
    "RetryAfter",
    "RetryPolicy",
    "Run",
    "RunBlockedError",
    "RunCancelledError",
    "RunConflictError",
    "RunFinishedError",
    "RunInterruptedError",
    "RunNotFoundError",
    "SerializationError",
    "Step",
    "StepError",
    "StepFuture",
    "StepInfo",
    "StepInterruptedError",
    "StepTimeoutError",
    "Workflow",
    "aio",
    "close",
    "connection",
    "converter",
    "get",
    "info",
    "logger",
    "now",
    "open",
    "random",
    "resume",
    "runs",
    "set_event",
    "sleep",
    "sleep_until",
    "step",
    "uuid4",
    "wait_for_signal",
    "workflow",
]

_HOMES = {
    "_codec.conversion": ("converter",),
    "_engine": ("Engine", "close", "get", "open", "resume", "runs"),
    "_listing": ("StepInfo",),
    "_logger": ("logger",),
    "_operations": ("Info", "connection", "info", "now", "random", "uuid4"),
    "_parallel": ("StepFuture",),
    "_pauses": ("set_event", "sleep", "sleep_until", "wait_for_signal"),
    "_retry": ("RetryPolicy",),
    "_steps": ("Step", "step"),
    "_workflows": ("Workflow", "workflow"),
    "run": ("Run",),
}
"""Which module has which of the names; the others are in `errors`."""


if not TYPE_CHECKING:  # a misspelt name is an error for type checkers too

    def __getattr__(name: str) -> object:
        """What stands behind a name, when it is first used."""
        from importlib import import_module

        if name in ("aio", "errors", "testing"):
            return import_module(f"{__name__}.{name}")
        if name in __all__:
            home = next((home for home, names in _HOMES.items() if name in names), "errors")
            globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
            return globals()[name]
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})

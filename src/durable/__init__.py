"""Durable functions for Python: a crashed function goes on where it stopped. See https://pypi.org/project/durable-functions.

Decorate plain functions with `workflow` and `step`; every step's inputs and outcome are journaled to one SQLite file.
Importing declares; nothing is opened, started or written.
"""

from typing import TYPE_CHECKING, Any

from . import aio
from ._engine import Engine, close, get, open, resume, runs  # noqa: A004 - reads as `durable.open(path)`
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

if TYPE_CHECKING:
    import logging

    import cattrs

    from ._listing import StepInfo

    converter: cattrs.Converter
    logger: logging.LoggerAdapter[logging.Logger]

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


if not TYPE_CHECKING:  # a misspelt name is an error for type checkers too

    def __getattr__(name: str) -> Any:
        """What is slow to import, on first use: `converter` (cattrs), `logger` (logging), `StepInfo`."""
        if name == "converter":
            from ._codec import converter

            value: Any = converter()
        elif name == "StepInfo":
            from ._listing import StepInfo

            value = StepInfo
        elif name == "logger":
            from ._logger import logger

            value = logger
        else:
            msg = f"module 'durable' has no attribute {name!r}"
            raise AttributeError(msg)
        globals()[name] = value
        return value

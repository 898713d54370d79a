"""The exception tree, as users catch it: checked by pyright and mypy, never run."""

from typing import assert_type

import durable
from durable import DurableError


def is_an_error(
    kind: type[DurableError] = durable.JournalError,
) -> list[type[DurableError]]:
    return [
        kind,
        durable.JournalLockedError,
        durable.SerializationError,
        durable.EngineClosedError,
        durable.RunConflictError,
        durable.RunNotFoundError,
        durable.RunFinishedError,
        durable.RunInterruptedError,
        durable.RunCancelledError,
        durable.RunBlockedError,
        durable.NonDeterminismError,
        durable.StepTimeoutError,
        durable.StepInterruptedError,
        durable.StepError,
    ]


BLOCKED: type[durable.RunBlockedError] = durable.NonDeterminismError
TIMEOUT: type[TimeoutError] = durable.StepTimeoutError
SIGNAL: type[BaseException] = durable.Cancelled
NO_ERROR: type[Exception] = durable.Cancelled  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


@durable.step
def flaky(number: int) -> int:
    if number == 1:
        raise durable.NonRetryableError("no use in trying again")
    if number == 2:
        raise durable.RetryAfter(30)
    if number == 3:
        raise durable.RetryAfter("30")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return number


def caught() -> str:
    try:
        flaky(5)
    except durable.StepError as error:
        assert_type(error.message, str)
        return error.type_name + error.traceback
    except durable.StepTimeoutError as timeout:
        return str(timeout)
    return ""


def misspelt() -> None:
    durable.wrokflow()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]

"""Everything that `durable` raises, and the three signals that travel through a workflow body.

The docstring of a class is its meaning; messages are written where they are raised and say what was found, what was
expected, and what to do next. This module imports nothing, so that every other may import it.
"""


class DurableError(Exception):
    """The root of all errors of this library."""


class JournalError(DurableError):
    """The journal cannot be read or written: I/O, corruption, not a journal, a newer format.

    After an error from COMMIT the outcome is unknown: the engine acknowledges nothing more, and only the reopened
    file tells whether the last record is there.
    """


class JournalLockedError(JournalError):
    """Another live process owns the journal; `pid` is the one it wrote beside the file, or `None`."""

    def __init__(self, message: str, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid


class SerializationError(DurableError):
    """A value cannot be written to the journal, or a journaled one no longer fits; names the path inside the value."""


class EngineClosedError(DurableError):
    """The engine was closed, or belongs to the parent of this forked process."""


class RunConflictError(DurableError):
    """The id belongs to a run of another workflow or of other inputs, or what is asked cannot be done here."""


class RunNotFoundError(DurableError):
    """The journal has no run of this id."""


class RunFinishedError(DurableError):
    """The run has ended, so nothing can be sent to it any more."""


class RunInterruptedError(DurableError):
    """The engine stopped before the run ended; the run goes on at the next call or `durable.resume()`."""


class RunCancelledError(DurableError):
    """The run was cancelled."""


class RunBlockedError(DurableError):
    """The run cannot go on with what the journal holds; the message says why and what to do. `run_id` is its id."""

    run_id = ""

    def of_run(self, run_id: str, workflow: str) -> None:
        """Have the message say which run it is, unless it says so of another one, which this one called."""
        if not self.run_id:
            self.run_id = run_id
            self.args = (f"{self} (run {run_id} of {workflow!r})",)


class NonDeterminismError(RunBlockedError):
    """Code and journal disagree: the workflow does something else than the journal says it did."""


class StepTimeoutError(DurableError, TimeoutError):
    """One attempt of a step took longer than its `timeout`."""


class StepInterruptedError(DurableError):
    """The process ended during an attempt of an `at_most_once` step; whether its effect happened is unknown."""


class StepError(DurableError):
    """Stands in for an exception whose class cannot be rebuilt in this process.

    `type_name` is the class as `module:qualname`, `message` its text, `traceback` the traceback as text or "".
    """

    def __init__(self, type_name: str, message: str, traceback: str = "") -> None:
        super().__init__(type_name, message, traceback)
        self.type_name = type_name
        self.message = message
        self.traceback = traceback

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}" if self.message else self.type_name


class NonRetryableError(DurableError):
    """Raised in a step: fail now, whatever the retry policy."""


class InTransactionError(NonRetryableError, RunConflictError):
    """Asked for in the body of a step with `transaction=True`, which holds the writer that this needs."""


class RetryAfterArgumentError(NonRetryableError, TypeError, ValueError):
    """`RetryAfter` was made of something else than a number of seconds: no further attempt would mend that."""


class RetryAfter(DurableError):  # noqa: N818 - reads as the order that it is: `raise RetryAfter(30)`
    """Raised in a step: fail this attempt, and make `seconds` the delay before the next one."""

    def __init__(self, seconds: float, message: str = "") -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            msg = f"RetryAfter takes a number of seconds, not {seconds!r}"
            raise RetryAfterArgumentError(msg)
        if not 0 <= seconds < float("inf"):
            msg = f"RetryAfter takes a finite number of seconds that is not negative, not {seconds!r}"
            raise RetryAfterArgumentError(msg)
        super().__init__(seconds, message)
        self.seconds = seconds

    def __str__(self) -> str:
        return str(self.args[1]) or f"retry after {self.seconds} s"


class Cancelled(BaseException):
    """Raised once in the body of a sync workflow whose run was cancelled. In async: `asyncio.CancelledError`."""


class TimedOut(Cancelled):
    """The same where the `timeout` of the workflow passed."""


class Halt(BaseException):
    """Internal: takes an execution down from inside the user's code, past every `except Exception`.

    A `BaseException`, since user code must not swallow it by accident; the execution also remembers it, so that
    swallowing it on purpose changes nothing. `error` is what callers outside the run get.
    """

    def __init__(self, error: DurableError) -> None:
        super().__init__(error)
        self.error = error

"""When a failed attempt is tried again: the policy, and one function of plain values.

Field names and their meaning are those of Temporal's RetryPolicy
(https://docs.temporal.io/encyclopedia/retry-policies).
"""

from collections.abc import Iterable
from typing import Any

from .errors import NonRetryableError, RetryAfter, SerializationError, StepInterruptedError


class RetryPolicy:
    """How often, and after which delays, a failing step is tried again. Immutable; intervals are in seconds.

    The delay after failure *n* is ``initial_interval * backoff_coefficient ** (n - 1)``, at most `maximum_interval`,
    stretched or shrunk by up to the share `jitter` of itself, but never beyond the maximum. `maximum_attempts` counts
    failures, 0 is without limit. `non_retryable` takes exception types (subclasses count) or names of types, with or
    without their module.
    """

    __slots__ = (
        "backoff_coefficient",
        "initial_interval",
        "jitter",
        "maximum_attempts",
        "maximum_interval",
        "non_retryable",
    )

    initial_interval: float
    backoff_coefficient: float
    maximum_interval: float
    maximum_attempts: int
    non_retryable: tuple[type[BaseException] | str, ...]
    jitter: float

    def __init__(
        self,
        initial_interval: float = 1.0,
        backoff_coefficient: float = 2.0,
        maximum_interval: float = 100.0,
        maximum_attempts: int = 5,
        non_retryable: Iterable[type[BaseException] | str] = (),
        jitter: float = 0.1,
    ) -> None:
        _require_number("initial_interval", initial_interval, 0.0)
        _require_number("backoff_coefficient", backoff_coefficient, 1.0)
        _require_number("maximum_interval", maximum_interval, 0.0)
        _require_number("jitter", jitter, 0.0, 1.0)
        if isinstance(maximum_attempts, bool) or not isinstance(maximum_attempts, int):
            msg = f"maximum_attempts is a whole number, not {maximum_attempts!r}"
            raise TypeError(msg)
        if maximum_attempts < 0:
            msg = f"maximum_attempts is 0 (without limit) or more, not {maximum_attempts}"
            raise ValueError(msg)
        put = object.__setattr__
        put(self, "initial_interval", float(initial_interval))
        put(self, "backoff_coefficient", float(backoff_coefficient))
        put(self, "maximum_interval", float(maximum_interval))
        put(self, "maximum_attempts", maximum_attempts)
        put(self, "non_retryable", _exception_kinds(non_retryable))
        put(self, "jitter", float(jitter))

    def __setattr__(self, name: str, value: object) -> None:
        msg = f"a RetryPolicy is immutable; make a new one instead of setting {name!r}"
        raise AttributeError(msg)

    def __delattr__(self, name: str) -> None:
        msg = f"a RetryPolicy is immutable; {name!r} cannot be deleted"
        raise AttributeError(msg)

    def __reduce__(self) -> tuple[type["RetryPolicy"], tuple[object, ...]]:
        fields = ("initial_interval", "backoff_coefficient", "maximum_interval", "maximum_attempts")
        values = (*(getattr(self, field) for field in fields), self.non_retryable, self.jitter)
        return RetryPolicy, values

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RetryPolicy) and self.__reduce__() == other.__reduce__()

    def __hash__(self) -> int:
        return hash(self.__reduce__())

    def __repr__(self) -> str:
        return (
            f"RetryPolicy(initial_interval={self.initial_interval}, backoff_coefficient={self.backoff_coefficient}, "
            f"maximum_interval={self.maximum_interval}, maximum_attempts={self.maximum_attempts}, "
            f"non_retryable={self.non_retryable}, jitter={self.jitter})"
        )


def next_delay(policy: RetryPolicy, failures: int, error: BaseException, chance: float) -> float | None:
    """Seconds to wait before the next attempt after `failures` failures (at least 1), or `None` to give up.

    `chance` is a number from 0 to 1 that places the delay inside the jitter. `RetryAfter` is taken as it is.
    """
    if is_final(policy, error) or 0 < policy.maximum_attempts <= failures:
        return None
    if isinstance(error, RetryAfter):
        return error.seconds
    stretch = 1.0 + policy.jitter * (2.0 * chance - 1.0)
    return min(longest_delay(policy, failures) * stretch, policy.maximum_interval)


def longest_delay(policy: RetryPolicy, failures: int) -> float:
    """The delay after `failures` failures before jitter, in seconds."""
    if not policy.initial_interval:
        return 0.0
    try:
        delay = policy.initial_interval * policy.backoff_coefficient ** (failures - 1)
    except OverflowError:
        return policy.maximum_interval
    return min(delay, policy.maximum_interval)


def is_final(policy: RetryPolicy, error: BaseException) -> bool:
    """Whether the error is of a kind that no further attempt can mend."""
    if isinstance(error, (NonRetryableError, SerializationError, StepInterruptedError)):
        return True
    for kind in policy.non_retryable:
        if isinstance(kind, str):
            if any(
                kind in {cls.__name__, cls.__qualname__, f"{cls.__module__}.{cls.__qualname__}"}
                for cls in type(error).__mro__
            ):
                return True
        elif isinstance(error, kind):
            return True
    return False


def _exception_kinds(kinds: Any) -> tuple[type[BaseException] | str, ...]:
    if isinstance(kinds, (str, type)) or not hasattr(kinds, "__iter__"):
        msg = f"non_retryable takes a list of exception types or names: write non_retryable=[{kinds!r}]"
        raise TypeError(msg)
    found = tuple(kinds)
    for kind in found:
        if not (isinstance(kind, str) or (isinstance(kind, type) and issubclass(kind, BaseException))):
            msg = f"non_retryable takes exception types or their names, not {kind!r}"
            raise TypeError(msg)
    return found


def _require_number(name: str, value: Any, lowest: float, highest: float = float("inf")) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        msg = f"{name} is a number, not {value!r}"
        raise TypeError(msg)
    if not lowest <= value <= highest or value == float("inf"):
        limit = f"from {lowest:g} to {highest:g}" if highest != float("inf") else f"{lowest:g} or more, and finite"
        msg = f"{name} must be {limit}, not {value!r}"
        raise ValueError(msg)


ONE_ATTEMPT = RetryPolicy(maximum_attempts=1)
"""What `retry=None` means."""

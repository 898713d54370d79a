"""What a workflow body calls to wait, and to show something: `sleep`, `wait_for_signal`, `set_event`.

Outside of a run and inside a step `sleep` is the plain one, and the others raise. The awaitable forms, which are public
in `durable.aio`, take their place when they are called, like any operation.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_origin, overload

from ._arguments import pause_seconds
from ._clock import SYSTEM_CLOCK
from ._codec import codec_for, names_in
from ._decorated import awaiting, require_async_run
from ._drive import drive
from ._effects import Call, Callee
from ._identity import require_name
from ._model import SLEEP_UNTIL
from ._operations import decide_value, take_place
from ._scopes import Branch, current_branch
from ._waits import decide_signal, decide_sleep
from .errors import DurableError, SerializationError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Coroutine

    from ._effects import Decision

T = TypeVar("T")

_OF_TYPES: Final = frozenset({"types", "typing", "typing_extensions"})
"""Modules of types that are no classes, such as those of `NewType`."""


# -- blocking ---------------------------------------------------------------------------------------------------------


def sleep(seconds: float | dt.timedelta) -> None:
    """Wait for so many seconds, or a `timedelta`. In a workflow it is a durable timer.

    Its due time is written down first, so that a crash does not begin the wait anew; a background run that waits for
    longer than a second gives its thread back meanwhile.
    """
    pause = pause_seconds(seconds, "the duration of a sleep")
    branch = current_branch()
    if branch is None:
        SYSTEM_CLOCK.sleep(pause)
    else:
        _require_blocking(branch, "sleep")
        drive(branch.execution, _sleep(branch, "sleep", pause))


def sleep_until(when: dt.datetime) -> None:
    """Wait until a time, an aware `datetime`; one that has passed is no wait. In a workflow it is a durable timer."""
    due = _timestamp(when)
    branch = current_branch()
    if branch is None:
        SYSTEM_CLOCK.sleep(max(0.0, due - SYSTEM_CLOCK.now()))
    else:
        _require_blocking(branch, "sleep_until")
        drive(branch.execution, _sleep(branch, SLEEP_UNTIL, 0.0, due))


@overload
def wait_for_signal(name: str, type: type[T], timeout: float | dt.timedelta | None = None) -> T: ...
@overload
def wait_for_signal(name: str, type: Any = Any, timeout: float | dt.timedelta | None = None) -> Any: ...
def wait_for_signal(name: str, type: Any = Any, timeout: float | dt.timedelta | None = None) -> Any:
    """Wait for the next signal of a name, and return its value as `type`; an error that was sent is raised.

    Each signal is read once, in the order of arrival, also one that came before anybody waited. `TimeoutError` where
    none came within `timeout`, in seconds or as a `timedelta`. A signal that does not fit the type is read all the
    same, and raises `SerializationError`. Only in a workflow.
    """
    branch = _branch("wait_for_signal")
    _require_blocking(branch, "wait_for_signal")
    return drive(branch.execution, _signal(branch, name, type, timeout))


def set_event(key: str, value: Any) -> None:
    """Show a value to the outside under a name: `run.event(key)` reads what was set last. Only in a workflow.

    On disk when this returns; journaled, so that a replay does not set it again. In an async workflow too, where it
    takes the loop as long as a commit.
    """
    branch = _branch("set_event")
    call = Call(Callee("event", require_name(key, "the name of an event"), codec_for(Any)), lambda: value)
    try:
        drive(branch.execution, take_place(branch, call, partial(decide_value, full=True)))
    except SerializationError as error:
        msg = f"the value of event {key!r} cannot be journaled: {error}"
        raise SerializationError(msg) from error


# -- awaitable --------------------------------------------------------------------------------------------------------


def sleep_async(seconds: float | dt.timedelta) -> Coroutine[Any, Any, None]:
    """The same as `durable.sleep`, to be awaited; its task gives way meanwhile."""
    pause = pause_seconds(seconds, "the duration of a sleep")
    branch = current_branch()
    if branch is None:
        return _plain_sleep(pause)
    require_async_run(branch.execution, "durable.aio.sleep()")
    return awaiting(branch.execution, _sleep(branch, "sleep", pause), "sleep")


def sleep_until_async(when: dt.datetime) -> Coroutine[Any, Any, None]:
    """The same as `durable.sleep_until`, to be awaited."""
    due = _timestamp(when)
    branch = current_branch()
    if branch is None:
        return _plain_sleep(max(0.0, due - SYSTEM_CLOCK.now()))
    require_async_run(branch.execution, "durable.aio.sleep_until()")
    return awaiting(branch.execution, _sleep(branch, SLEEP_UNTIL, 0.0, due), "sleep_until")


@overload
def wait_for_signal_async(
    name: str, type: type[T], timeout: float | dt.timedelta | None = None
) -> Coroutine[Any, Any, T]: ...
@overload
def wait_for_signal_async(
    name: str, type: Any = Any, timeout: float | dt.timedelta | None = None
) -> Coroutine[Any, Any, Any]: ...
def wait_for_signal_async(
    name: str, type: Any = Any, timeout: float | dt.timedelta | None = None
) -> Coroutine[Any, Any, Any]:
    """The same as `durable.wait_for_signal`, to be awaited."""
    branch = _branch("aio.wait_for_signal")
    require_async_run(branch.execution, "durable.aio.wait_for_signal()")
    return awaiting(branch.execution, _signal(branch, name, type, timeout), "wait_for_signal")


async def _plain_sleep(seconds: float) -> None:
    import asyncio

    await asyncio.sleep(seconds)


# -- what both have in common -----------------------------------------------------------------------------------------


def _sleep(branch: Branch, name: str, seconds: float, due: float | None = None) -> Decision:
    callee = Callee("sleep", name, codec_for(Any), timeout_seconds=seconds)
    return take_place(branch, Call(callee, _no_body, () if due is None else (due,)), decide_sleep)


def _signal(branch: Branch, name: str, type: Any, timeout: Any) -> Decision:
    name = require_name(name, "the name of a signal")
    seconds = None if timeout is None else pause_seconds(timeout, "the timeout of wait_for_signal")
    wanted = _signal_type(type)
    callee = Callee("signal", name, codec_for(wanted), timeout_seconds=seconds)
    return take_place(branch, Call(callee, _no_body, (wanted,)), decide_signal)


def _signal_type(value: Any) -> Any:
    """What a signal is read as. Not the name of a type, which would be looked for when the signal is there and gone."""
    name = next(names_in(value), None)
    if name is not None:
        msg = f"the type of wait_for_signal is a type, and {name!r} is its name: write it without quotes"
        raise TypeError(msg)
    if not (value is None or isinstance(value, type) or get_origin(value) or value.__class__.__module__ in _OF_TYPES):
        msg = (
            f"the type of wait_for_signal is a type, such as dict or a dataclass, not {value!r}; "
            "how long to wait is given as timeout=..."
        )
        raise TypeError(msg)
    return value


def _no_body() -> None:
    """A wait has none."""


def _branch(what: str) -> Branch:
    branch = current_branch()
    if branch is None:
        msg = f"durable.{what}() is for the body of a workflow, and was called outside of one, or inside a step"
        raise DurableError(msg)
    return branch


def _require_blocking(branch: Branch, what: str) -> None:
    branches = branch.execution.branches
    if branches is not None and branches.is_here():
        msg = (
            f"durable.{what}() would block the event loop of the async workflow {branch.execution.record.workflow!r}: "
            f"use 'await durable.aio.{what}(...)'"
        )
        raise TypeError(msg)


def _timestamp(when: Any) -> float:
    if not hasattr(when, "utcoffset") or not hasattr(when, "timestamp"):
        msg = f"sleep_until takes a datetime, not {when!r}"
        raise TypeError(msg)
    if when.utcoffset() is None:
        msg = f"sleep_until takes an aware datetime, and {when!r} has no time zone: give it one, such as tzinfo=UTC"
        raise ValueError(msg)
    return float(when.timestamp())

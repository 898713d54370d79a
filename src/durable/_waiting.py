"""What a task of asyncio waits for, as far as it can be seen from outside."""

import asyncio
from collections.abc import Container
from typing import Any, Final

from ._execution import EXITS


def waits(task: "asyncio.Task[Any]") -> bool:
    """Whether what the task awaits is not done."""
    awaited = awaited_by(task)
    return awaited is not None and not awaited.done()


def awaited_by(task: "asyncio.Task[Any]") -> Any:
    """What the task awaits: a future, or `None`."""
    return getattr(task, "_fut_waiter", None)


def waits_on_known(task: "asyncio.Task[Any]", known: set[int], tasks: Container["asyncio.Task[Any]"]) -> bool:
    """Whether it awaits one of these futures, or other tasks of the run, and nothing else."""
    awaited = awaited_by(task)
    if id(awaited) in known or awaited in tasks:
        return True
    children = getattr(awaited, "_children", None)  # asyncio.gather
    if children:
        return all(child in tasks or child.done() for child in children)
    return getattr(_innermost(task), "cr_code", None) in _COMBINATORS


def interrupt_of(task: "asyncio.Task[Any]") -> BaseException | None:
    """The `KeyboardInterrupt` or `SystemExit` that ended the task, or a `TaskGroup` that it is in."""
    if task.done():
        error = getattr(task, "_exception", None)  # asked so, it still counts as not seen
        return error if isinstance(error, EXITS) else None
    coroutine = _innermost(task)
    if getattr(coroutine, "cr_code", None) is not _END_OF_GROUP or coroutine.cr_frame is None:
        return None
    return getattr(coroutine.cr_frame.f_locals["self"], "_base_error", None)


def _innermost(task: "asyncio.Task[Any]") -> Any:
    """The innermost coroutine that a task is in."""
    coroutine: Any = task.get_coro()
    while (inner := getattr(coroutine, "cr_await", None)) is not None and hasattr(inner, "cr_code"):
        coroutine = inner
    return coroutine


def _code_of_as_completed() -> Any:
    """What an iteration of `as_completed` awaits: since 3.13 a method, before that a function in the function."""
    iterator = getattr(asyncio.tasks, "_AsCompletedIterator", None)
    if iterator is not None:
        return iterator._wait_for_one.__code__
    return next(
        code for code in asyncio.as_completed.__code__.co_consts if getattr(code, "co_name", "") == "_wait_for_one"
    )


_END_OF_GROUP: Final = asyncio.TaskGroup.__aexit__.__code__
_COMBINATORS: Final = {
    _END_OF_GROUP,
    _code_of_as_completed(),
    asyncio.wait.__code__,
    asyncio.tasks._wait.__code__,  # type: ignore[attr-defined]
}
"""Where a task of the run waits for other tasks, and for nothing else."""

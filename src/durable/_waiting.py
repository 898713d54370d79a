"""What a task of asyncio waits for, as far as it can be seen from outside."""

import asyncio
import gc
from collections.abc import Container
from typing import Any, Final


def waits(task: "asyncio.Task[Any]") -> bool:
    """Whether what the task awaits is not done."""
    awaited = getattr(task, "_fut_waiter", None)
    return awaited is not None and not awaited.done()


def waits_on_known(task: "asyncio.Task[Any]", known: set[int], tasks: Container["asyncio.Task[Any]"]) -> bool:
    """Whether it awaits one of these futures, or other tasks of the run, and nothing else."""
    awaited = getattr(task, "_fut_waiter", None)
    if id(awaited) in known or awaited in tasks:
        return True
    children = getattr(awaited, "_children", None)  # asyncio.gather
    if children:
        return all(child in tasks or child.done() for child in children)
    innermost = coroutines(task)[-1]
    if getattr(innermost, "cr_code", None) not in _COMBINATORS:
        return False
    frame = innermost.cr_frame
    return frame is None or frame.f_locals.get("timeout_handle") is None  # of asyncio.wait with a timeout


def is_in_timeout(task: "asyncio.Task[Any]") -> bool:
    """Whether the task is inside an `asyncio.timeout`, or a `wait_for`: what it has on its stack shows it."""
    return any(
        isinstance(getattr(held, "__self__", None), asyncio.Timeout)
        for coroutine in coroutines(task)
        for held in gc.get_referents(coroutine)
    )


def coroutines(task: "asyncio.Task[Any]") -> list[Any]:
    """The coroutines that a task is in, the innermost last."""
    found: list[Any] = [task.get_coro()]
    while (inner := getattr(found[-1], "cr_await", None)) is not None and hasattr(inner, "cr_code"):
        found.append(inner)
    return found


_COMBINATORS: Final = {
    asyncio.TaskGroup.__aexit__.__code__,
    asyncio.wait.__code__,
    asyncio.tasks._wait.__code__,  # type: ignore[attr-defined]
}
"""Where a task of the run waits for other tasks, and for nothing else."""

"""What can be seen of a task of asyncio from outside: what it waits for, who else could wake it, what ended it."""

import asyncio
import contextvars
import gc
import sys
import types
import weakref
from collections import Counter, deque
from collections.abc import Collection, Container, Iterable
from typing import Any, Final

from ._scopes import EXITS
from ._sets_of_tasks import BranchTask


def waits(task: "asyncio.Task[Any]") -> bool:
    """Whether what the task awaits is not done."""
    awaited = awaited_by(task)
    return awaited is not None and not awaited.done()


def queue_of(loop: asyncio.AbstractEventLoop) -> Collection[Any] | None:
    """What a loop is still to call in this turn: while there is nothing, each of its tasks waits, be they thousands.

    `None` where it is not asyncio's own, or was changed: such a loop may have what it is to call elsewhere.
    """
    methods = (getattr(type(loop), name, None) for name in ("call_soon", "_run_once"))
    if any(getattr(method, "__module__", None) != asyncio.base_events.__name__ for method in methods):
        return None
    queue: Collection[Any] | None = getattr(loop, "_ready", None)
    return queue


def awaited_by(task: "asyncio.Task[Any]") -> Any:
    """What the task awaits: a future, or `None`."""
    return getattr(task, "_fut_waiter", None)


def waits_on_known(task: "asyncio.Task[Any]", known: set[int], tasks: Container["asyncio.Task[Any]"]) -> bool:
    """Whether it awaits one of these futures, or other tasks of the run, and nothing else."""
    return _is_known(awaited_by(task), known, tasks) or _all_known(_awaited_together(task), known, tasks)


def _is_known(awaited: Any, known: set[int], tasks: Container["asyncio.Task[Any]"]) -> bool:
    return (
        id(awaited) in known
        or awaited in tasks
        or _all_known(getattr(awaited, "_children", ()), known, tasks)  # asyncio.gather
    )


def _all_known(awaited: Collection[Any], known: set[int], tasks: Container["asyncio.Task[Any]"]) -> bool:
    return bool(awaited) and all(each.done() or _is_known(each, known, tasks) for each in awaited)


def _awaited_together(task: "asyncio.Task[Any]") -> Collection[Any]:
    """What a task waits for by `asyncio.wait`, or at the end of a `TaskGroup`."""
    frame = getattr(_innermost(task), "cr_frame", None)
    if frame is not None and frame.f_code is _WAIT:
        return frame.f_locals["fs"]  # type: ignore[no-any-return]
    if frame is not None and frame.f_code is _END_OF_GROUP:
        return frame.f_locals["self"]._tasks  # type: ignore[no-any-return]
    return ()


def held_by_these_only(roots: Collection[Any]) -> set[int]:
    """The ids of what nothing but these refers to, directly or not: what would be garbage without them.

    So no one else can wake a task that waits for it. Found as the garbage collector finds it: a reference which is
    counted in an object, and comes from nothing that was looked at, is somebody else's. It may be in a running frame, a
    handle of the loop, a module. What is not looked at only makes more seem to be somebody else's.
    """
    found: dict[int, Any] = {id(root): root for root in roots}
    referents: dict[int, list[int]] = {}
    todo = deque(found)
    while todo and len(referents) < _MOST_OBJECTS:
        key = todo.popleft()
        mine = [(id(other), other) for other in _referents(found[key])]
        referents[key] = [other for other, _ in mine]
        fresh = {other: each for other, each in mine if other not in found and _is_followed(each)}
        found.update(fresh)
        todo.extend(fresh)
        del mine, fresh
    references = Counter(other for others in referents.values() for other in others)
    roots = {id(root) for root in roots}
    elsewhere = {
        key
        for key in found.keys() - roots
        if sys.getrefcount(found[key]) - _OWN_REFERENCES > references[key] or _is_found_weakly(found[key])
    }
    todo = deque(elsewhere)
    while todo:
        others = set(referents.get(todo.popleft(), ())) - elsewhere - roots
        elsewhere |= others
        todo.extend(others)
    return found.keys() - elsewhere


def _referents(each: Any) -> Iterable[Any]:
    """What an object refers to. The names around a function are everybody's."""
    return [each.__closure__] if isinstance(each, types.FunctionType) else gc.get_referents(each)


def _is_followed(each: Any) -> bool:
    return (
        gc.is_tracked(each)
        and not isinstance(each, (type, types.ModuleType, contextvars.Context, asyncio.AbstractEventLoop))
        and (type(each) is BranchTask or not type(each).__module__.startswith("durable"))
    )


def _is_found_weakly(each: Any) -> bool:
    """Whether somebody may come to it by a weak reference, as a transport does to its reader.

    asyncio has such ones of all tasks and asynchronous generators, to end them with the loop.
    """
    return not isinstance(each, (asyncio.Task, types.AsyncGeneratorType)) and weakref.getweakrefcount(each) > 0


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
    """The innermost coroutine that a task is in; of one that runs, the outermost.

    Python before 3.13 must not be asked what a running coroutine awaits: it may take the code that runs for a wait, and
    crash.
    """
    coroutine: Any = task.get_coro()
    while not getattr(coroutine, "cr_running", True) and hasattr(inner := coroutine.cr_await, "cr_code"):
        coroutine = inner
    return coroutine


_MOST_OBJECTS: Final = 20_000
"""So many are looked at: those that are nearest."""
_OWN_REFERENCES: Final = 2
"""Of `found`, and of the call that counts."""
_END_OF_GROUP: Final = getattr(asyncio.TaskGroup, "_aexit", asyncio.TaskGroup.__aexit__).__code__
"""Since Python 3.13.1 it waits in a method of its own."""
_WAIT: Final = asyncio.tasks._wait.__code__  # type: ignore[attr-defined]


def closes_generator(coro: object) -> bool:
    """Whether this is what closes an async generator that was left: its `aclose()`."""
    return type(coro).__name__ == "async_generator_athrow"

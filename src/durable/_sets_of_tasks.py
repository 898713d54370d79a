"""asyncio keeps tasks in sets, which are in no order: in a run they are in one, and in the same in each of its lives.

`asyncio.as_completed` puts what it is given into a set before it makes tasks of it, and so starts it in random order.
The order decides which task is which, and who comes first to a semaphore. So when the first of the tasks is asked for,
all are made, in the order in which they were given, and each that is asked for after it is there.
"""

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any, Final
from zlib import crc32

from ._scopes import Branch

_TASKS: Final = vars(asyncio.tasks)
_ITERATOR: Final = _TASKS.get("_AsCompletedIterator")
_MAKES_TASKS: Final = asyncio.as_completed.__code__ if _ITERATOR is None else _ITERATOR.__init__.__code__
"""Since Python 3.13 in a class, before that in a generator."""
_GIVEN: Final = _MAKES_TASKS.co_varnames[0 if _ITERATOR is None else 1]
_NOTHING: Final = object()
_RUNS: Final = 1 << 28


class BranchTask(asyncio.Task[Any]):
    """A task that the code of a run has created.

    `asyncio.wait` and `TaskGroup` keep tasks in sets, and code goes through these: so it has the same place in a set in
    each life of the run, and not one by its address. Its name in the run says where, so that it is the same in a fork;
    above that stands the run, since a loop has all tasks of all runs in one set.
    """

    __slots__ = ("_place",)

    def __init__(self, coro: Any, *, branch: Branch, **options: Any) -> None:
        run = branch.execution.record.seq % _RUNS
        self._place = run << 32 | crc32(branch.name.encode(errors="replace"))
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._place


class TasksInOrder:
    """The tasks of one loop that `as_completed` has not asked for yet."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[Any, asyncio.Future[Any]]] = {}
        """By the identity of what they are made of, which is kept with it."""

    def take(self, coro: Any, asks: Any) -> Any:
        """The task of a coroutine, where `as_completed` asks for it, else `None`; `asks` is the frame that does.

        `TypeError` where it was given what has no order, or none that could be asked for.
        """
        if (given := _given(asks)) is _NOTHING:
            return None
        wanted = _awaited_in(coro)
        if id(wanted) not in self._made and not self._make_all(given, coro):
            return None
        if wanted is not coro:
            coro.close()  # asyncio has wrapped it once more
        return self._made.pop(id(wanted))[1]

    def _make_all(self, given: Any, coro: Any) -> bool:
        if isinstance(given, (Iterator, set, frozenset)):
            _require_place(coro)
            return False
        left = [each for each in given if not asyncio.isfuture(each)]
        if not all(map(inspect.isawaitable, left)):  # asyncio says so
            return False
        for each in left:
            if id(each) not in self._made:
                self._made[id(each)] = (each, asyncio.ensure_future(each))
        return True


def _given(frame: Any) -> Any:
    """What `as_completed` was given, where it asks for a task in this frame, through the loop and `ensure_future`."""
    if frame.f_globals is not _TASKS:
        frame = frame.f_back
    while frame is not None and frame.f_globals is _TASKS:
        if frame.f_code is _MAKES_TASKS:
            return frame.f_locals[_GIVEN]
        frame = frame.f_back
    return _NOTHING


def _awaited_in(coro: Any) -> Any:
    """What asyncio has made this coroutine of, where that is no coroutine itself: a run, say."""
    frame = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None)
    if frame is None or frame.f_globals is not _TASKS or frame.f_code.co_name != "_wrap_awaitable":
        return coro
    return frame.f_locals["awaitable"]


def _require_place(coro: Any) -> None:
    """What the library itself has made got its place when it was called, whichever task it is in."""
    frame = getattr(coro, "cr_frame", None)
    if frame is None or not frame.f_globals["__name__"].startswith("durable."):
        msg = (
            "asyncio.as_completed starts what it is given in random order, which a replay would not repeat: in a "
            "workflow, give it a list of coroutines, or tasks, and no generator or set"
        )
        raise TypeError(msg)

"""When an async run is suspended: every task of it, and of the runs that it calls, waits on a timer or a signal.

What a task awaits is seen from outside, so whatever cannot be recognised (a socket, a lock, a thread) keeps the run in
memory, and so does a timeout of asyncio's around a wait, which a suspension would forget.
"""

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ._branches import Branches
from ._clock import TimeLeft
from ._execution import Execution
from ._port import settle, soon
from ._rests import Rest, is_long, suspend
from ._task_inspection import waits, waits_on_known

if TYPE_CHECKING:
    import asyncio

_SETTLING_TURNS: Final = 4
"""Loop turns after which the tasks that a new wait may have woken wait again."""
_LATER_SECONDS: Final = 1.0
"""When a run that waits is looked at again: nothing tells that a task has begun to wait for another one."""


async def rest(
    execution: Execution, branches: Branches, seconds: float | None, signal: str | None = None, child: str | None = None
) -> None:
    """Wait for a time, a signal or the end of a child, whichever the caller looks for when this returns."""
    loop = branches.loop
    future: asyncio.Future[None] = loop.create_future()

    left = None if seconds is None else TimeLeft(execution.clock, seconds)
    mine = Rest(partial(soon, loop, settle, future), left, signal, child)
    timer: Any = None if seconds is None else execution.clock.call_later(loop, seconds, partial(settle, future))
    execution.rests[mine] = None
    branches.resting[future] = mine
    if branches.past:
        branches.tick_soon()  # it may be that nothing can follow
    if execution.may_suspend:
        _look_soon(execution, branches)
    try:
        await future
    finally:
        execution.rests.pop(mine, None)
        branches.resting.pop(future, None)
        if timer is not None:
            timer.cancel()


def _look_soon(execution: Execution, branches: Branches) -> None:
    if branches.look is not None:
        branches.look.cancel()
    branches.look = branches.loop.call_soon(_look, execution, branches, _SETTLING_TURNS)


def _look(execution: Execution, branches: Branches, turns: int) -> None:
    branches.look = None
    if turns:
        branches.look = branches.loop.call_soon(_look, execution, branches, turns - 1)
    elif execution.halted is None and execution.rests and not _suspend_if_all_wait(_outermost(execution)):
        branches.look = branches.loop.call_later(_LATER_SECONDS, _look, execution, branches, 0)


def _outermost(execution: Execution) -> Execution:
    while execution.parent is not None:
        execution = execution.parent
    return execution


def _suspend_if_all_wait(outermost: Execution) -> bool:
    """Suspend a run, and those that it calls, if all of them wait; say whether they do."""
    found: list[Execution] = []
    if not _all_wait(outermost, found) or not is_long(found):
        return False
    suspend(found)
    return True


def _all_wait(execution: Execution, found: list[Execution]) -> bool:
    """Whether every task of a run waits for what would wake a suspended one; the runs are added to `found`."""
    found.append(execution)
    branches = execution.branches
    if branches is None or execution.halted is not None or branches.has_news() or branches.timers:
        return False
    if branches.has_threads():  # no task need await them
        return False
    tasks = [*branches.tasks, *([branches.root] if branches.root is not None else [])]
    known = {id(future) for future in branches.resting if not future.done()}
    children = 0
    for task in tasks:
        awaited: Any = getattr(task, "_fut_waiter", None)
        child = getattr(awaited, "execution", None)
        if isinstance(child, Execution) and child.parent is execution and _all_wait(child, found):
            known.add(id(awaited))
            children += 1
    if execution.attempts_in_flight > children:  # of a step, or of a child that begins or ends just now
        return False
    return all(waits(task) and waits_on_known(task, known, branches.tasks) for task in tasks)

"""The task that an async run executes in: its body, who may cancel it, and what follows when the run is halted."""

import asyncio
import sys
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from ._attempts import INTERRUPTS
from ._branches import Branches
from ._execution import Execution
from ._loop_hooks import enter_loop, leave_loop
from ._port import LoopPort, soon
from ._scopes import SCOPE
from .errors import Halt


class RunTask(asyncio.Task[Any]):
    """The root task of a run. It knows who cancels it: the workflow itself, or somebody outside.

    A `TaskGroup` and an `asyncio.timeout` in the body cancel it too, and take that back: they run in the run's own
    context. Any other cancellation interrupts the run as a whole. Asking the context alone is not enough: the caller
    may be cancelled by a signal handler that runs in the middle of the body, but then the caller's own count has gone
    up.
    """

    execution: Execution
    caller: "asyncio.Task[Any] | None" = None

    def take_down_soon(self) -> None:
        """The execution was halted. Called from any thread."""
        soon(self.get_loop(), self._take_down)

    def cancel_soon(self) -> None:
        """Nothing waits for its attempts in flight any more. Called from any thread."""
        soon(self.get_loop(), self.cancel)

    def _take_down(self) -> None:
        """End what waits. Attempts in flight may end first, and the next operation raises."""
        branches = self.execution.branches
        if self.done() or branches is None:
            return
        branches.telling.let_go()  # a child in flight may wait for that
        if self.execution.attempts_in_flight:
            branches.is_held_up = True
            return
        for task in list(branches.tasks):  # each: code may not hand a cancellation on, and a `TaskGroup` does it once
            task.cancel()
        self.cancel()

    def cancel_run(self) -> None:
        """The run was cancelled, which is journaled: its body gets `CancelledError`, and is not interrupted."""
        super().cancel()

    def _given_up(self, parent: Execution) -> None:
        """The parent no longer waits for this run: cancelled by its code, or interrupted itself."""
        if not parent.is_taken_down():
            assert parent.branches is not None
            parent.branches.flush()  # else a crash may leave a child that is cancelled, and nobody who did that
            self.execution.request_cancel()  # the parent goes on when it has ended
        else:
            self.execution.interrupt("its parent was interrupted")
            super().cancel()

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the task; from outside of the run, it is interrupted."""
        scope = SCOPE.get()
        inside = scope is not None and scope.execution is self.execution
        parent = self.execution.parent
        if not inside and parent is not None and self.execution.halted is None:
            # At the end of a loop all tasks are cancelled in one go, in any order: the parent tells a moment later.
            self.get_loop().call_soon(self._given_up, parent)
            return True
        is_free = parent is None or parent.is_taken_down()  # else it is the parent that gives it up, and tells
        if not inside or (is_free and self.caller is not None and self.caller.cancelling()):
            self.execution.interrupt("its task was cancelled")
        return super().cancel(msg)


async def run_body(execution: Execution, function: Callable[..., Any], args: Any, kwargs: Any, port: LoopPort) -> Any:
    """Execute an async workflow's body in a task of its own; return its value or raise what it raised."""
    loop = port.loop
    branches = execution.branches = Branches(execution, port)
    port.users += 1
    context = copy_context()
    context.run(SCOPE.set, execution.root)
    enter_loop(loop)
    try:
        root = RunTask(_body(branches, function, args, kwargs), loop=loop, context=context)
        root.execution = execution
        root.caller = asyncio.current_task()
        root.set_name(f"durable run {execution.record.id}")
        branches.root = root
        execution.on_halt = root.take_down_soon
        branches.telling.tell = root.cancel_run
        execution.cancel.deliver = branches.telling.begin_soon
        if not branches.telling.replay() and execution.cancel.requested:
            branches.telling.begin()
        execution.on_give_up = root.cancel_soon
        if execution.halted is not None:  # by another thread, before it could be told here
            execution.on_halt()
        if branches.past:
            branches.tick_soon()  # it may be that the code calls nothing at all
        return await root
    finally:
        execution.on_halt = execution.on_give_up = execution.cancel.deliver = None
        branches.close()
        if branches.root is not None and branches.root.done() and not branches.root.cancelled():
            branches.root.exception()  # seen: asyncio need not say that nobody looked
        port.users -= 1
        port.flush()
        leave_loop(loop)


async def _body(branches: Branches, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    branches.execution.handled = sys.exception()  # what is around the loop
    try:
        value = await function(*args, **kwargs)
    except GeneratorExit:  # its loop was dropped: nothing more can be awaited
        raise
    except INTERRUPTS as interrupt:
        branches.execution.on_halt = None  # this is its end already
        if not isinstance(interrupt, Halt):
            branches.execution.interrupt_by(interrupt)  # the other tasks are to journal nothing more
        await branches.end_all()
        raise
    except BaseException:
        branches.execution.root.ended_at = branches.execution.now()
        await _end(branches)
        raise
    await _end(branches)
    return value


async def _end(branches: Branches) -> None:
    branches.root = None
    branches.telling.end()  # told of a cancellation now, it would leave tasks behind
    await branches.end_all()
    branches.flush()

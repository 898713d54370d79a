"""The driver that awaits: the twin of `drive` in `_drive.py`, and the task that an async run executes in."""

import asyncio
import contextlib
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from ._branches import Branches, LoopPort
from ._commits import Entry
from ._drive import INTERRUPTS, timed_out
from ._effects import (
    CUT,
    Append,
    Attempt,
    Call,
    Completed,
    Conclude,
    Cut,
    Decision,
    Deliver,
    Effect,
    Failed,
    Sleep,
    Slot,
)
from ._execution import SCOPE, Execution, StepScope, write_step
from ._limits import Limit
from ._task_factory import enter_loop, leave_loop
from .errors import EngineClosedError, Halt, JournalError, SerializationError


async def drive_async(execution: Execution, decision: Decision) -> Any:
    """Carry out one operation; return its value or raise its error."""
    try:
        effect = next(decision)
        while True:
            answer = None
            try:
                answer = await _perform(execution, effect)
            except SerializationError as error:
                effect = decision.throw(error)
            else:
                effect = decision.send(answer)
            if isinstance(answer, Cut):
                assert isinstance(effect, Conclude)
                _branches(execution).conclude_cut(effect.record)
                raise answer.error
    except StopIteration as done:
        return done.value
    except Halt as halt:
        raise execution.halt(halt.error) from halt.__cause__
    finally:
        decision.close()


async def _perform(execution: Execution, effect: Effect) -> Any:
    if isinstance(effect, Conclude):
        return await _conclude(execution, effect)
    if isinstance(effect, Deliver):
        return await _branches(execution).deliver(effect.record)
    try:
        if isinstance(effect, Append):
            work = write_step(effect.record, effect.attempt)
            await write_async(execution, work, full=effect.full or execution.needs_sync())
        elif isinstance(effect, Attempt):
            await _branches(execution).replayed()
            return await _attempt(execution, effect.call, effect.record.attempt)
        elif isinstance(effect, Slot):
            await _take_slot(execution, effect.call)
        elif isinstance(effect, Sleep):
            await _pause(execution, effect.seconds)
    except asyncio.CancelledError as error:
        if execution.halted is not None:
            raise
        return Cut(error)
    return None


def _branches(execution: Execution) -> Branches:
    assert execution.branches is not None
    return execution.branches


async def _conclude(execution: Execution, effect: Conclude) -> None:
    branches = _branches(execution)
    try:
        await branches.conclude(effect.record, effect.attempt)
    except asyncio.CancelledError:
        if execution.halted is None:  # cancelled before it was delivered: as such it has to replay
            branches.conclude_cut(effect.record._replace(status="failed", error=CUT))
        raise
    if execution.halted is not None:
        raise execution.halted


async def write_async(execution: Execution, work: Callable[[Any], Any], *, full: bool) -> Any:
    """Do `work` in a write transaction without blocking the loop for an fsync; returns when it is there."""
    commits = execution.journal.commits
    try:
        if not full and commits.write_if_idle(work):
            return None
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        commits.submit(Entry(work, full, _branches(execution).port, lambda entry: settle_write(future, entry)))
        return await future
    except (JournalError, EngineClosedError) as error:
        raise execution.halt(error) from error


def settle_write(future: "asyncio.Future[Any]", entry: Entry) -> None:
    """Hand the result of an entry to whoever awaits it."""
    if future.done():
        return
    if entry.error is None:
        future.set_result(entry.result)
    else:
        future.set_exception(entry.error)


async def _pause(execution: Execution, seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)
    if execution.halted is not None:
        raise execution.halted


async def _take_slot(execution: Execution, call: Call) -> None:
    """Wait for a slot without blocking the loop. It may be given from any thread."""
    limit = execution.limits.of("step", call.name, call.concurrency)
    call.release_slot = await take_slot(limit)


async def take_slot(limit: Limit) -> Callable[[], None]:
    """Wait for a slot of a limit; returns what gives it back."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def arrive() -> None:
        if future.cancelled():
            limit.release()
        else:
            future.set_result(None)

    def granted() -> None:
        try:
            loop.call_soon_threadsafe(arrive)
        except RuntimeError:  # the loop was closed: nobody takes it
            limit.release()

    limit.request(granted)
    try:
        await future
    except asyncio.CancelledError:
        limit.withdraw(granted)  # too late where it is on its way: `arrive` gives it back
        raise
    return limit.release


async def _attempt(execution: Execution, call: Call, attempt: int) -> Completed | Failed | Cut:
    """Run the body of an async step once, in this task."""
    task = asyncio.current_task()
    assert task is not None
    cancels_before = 0 if getattr(task, "_must_cancel", False) else task.cancelling()
    token = SCOPE.set(StepScope(execution, call, attempt))
    execution.attempts_in_flight += 1
    timeout: asyncio.Timeout | None = None
    try:
        if call.timeout_seconds is None:
            return Completed(await call.function(*call.args, **call.kwargs))
        async with asyncio.timeout(call.timeout_seconds) as timeout:
            return Completed(await call.function(*call.args, **call.kwargs))
    except asyncio.CancelledError as error:
        if execution.halted is not None or task.cancelling() > cancels_before:
            raise
        return Failed(error)
    except INTERRUPTS as interrupt:
        execution.interrupt(f"{type(interrupt).__name__} in step {call.name!r}")
        raise
    except BaseException as error:
        if timeout is not None and timeout.expired() and call.timeout_seconds and type(error) is TimeoutError:
            return Failed(timed_out(call, call.timeout_seconds))
        return Failed(error)
    finally:
        execution.attempts_in_flight -= 1
        with contextlib.suppress(ValueError):  # a coroutine that is collected is ended in whatever context
            SCOPE.reset(token)


# -- the task of a run ------------------------------------------------------------------------------------------------


class RunTask(asyncio.Task[Any]):
    """The root task of a run. It knows who cancels it: the workflow itself, or somebody outside.

    A `TaskGroup` and an `asyncio.timeout` in the body cancel it too, and take that back: they run in the run's own
    context. Any other cancellation interrupts the run as a whole. Asking the context alone is not enough: the caller
    may be cancelled by a signal handler that runs in the middle of the body, but then the caller's own count has gone
    up.
    """

    execution: Execution
    caller: "asyncio.Task[Any] | None" = None

    def cancel_run(self) -> None:
        """The run was cancelled, which is journaled: its body gets `CancelledError`, and is not interrupted."""
        super().cancel()

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the task; from outside of the run, it is interrupted."""
        scope = SCOPE.get()
        inside = scope is not None and scope.execution is self.execution
        parent = self.execution.parent
        if not inside and parent is not None and parent.halted is None:
            self.execution.request_cancel()  # its parent gave it up, and goes on when it has ended
            return True
        if not inside or (self.caller is not None and self.caller.cancelling()):
            self.execution.interrupt("its task was cancelled")
        return super().cancel(msg)


async def run_body(execution: Execution, function: Callable[..., Any], args: Any, kwargs: Any, port: LoopPort) -> Any:
    """Execute an async workflow's body in a task of its own; return its value or raise what it raised."""
    loop = port.loop
    branches = execution.branches = Branches(execution, port)
    context = copy_context()
    context.run(SCOPE.set, execution.root)
    enter_loop(loop)
    try:
        root = RunTask(_body(branches, function, args, kwargs), loop=loop, context=context)
        root.execution = execution
        root.caller = asyncio.current_task()
        root.set_name(f"durable run {execution.record.id}")
        branches.root = root
        execution.on_halt = lambda: _soon(loop, lambda: _take_down(execution, root))
        execution.cancel.deliver = lambda: _soon(loop, lambda: branches.cancel_run(root.cancel_run))
        if not branches.replay_cancel(root.cancel_run) and execution.cancel.requested:
            branches.cancel_run(root.cancel_run)
        execution.on_give_up = lambda: _soon(loop, root.cancel)
        return await root
    finally:
        execution.on_halt = execution.on_give_up = execution.cancel.deliver = None
        if branches.root is not None and branches.root.done() and not branches.root.cancelled():
            branches.root.exception()  # seen: asyncio need not say that nobody looked
        leave_loop(loop)


async def _body(branches: Branches, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    try:
        return await function(*args, **kwargs)
    finally:
        branches.root = None
        await branches.end_all()


def _soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], Any]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop was closed, and the run with it
        loop.call_soon_threadsafe(callback)


def _take_down(execution: Execution, root: RunTask) -> None:
    """The execution was halted: end what waits. Attempts in flight may end first, and the next operation raises."""
    if not root.done() and not execution.attempts_in_flight:
        root.cancel()

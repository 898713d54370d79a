"""The driver that awaits: the twin of `drive` in `_drive.py`."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final

from ._attempts import INTERRUPTS, failed, timed_out
from ._branches import Branches
from ._clock import TimeLeft
from ._effects import (
    CUT,
    Append,
    Attempt,
    CarriedStopError,
    Completed,
    Conclude,
    Cut,
    Decision,
    Deliver,
    Effect,
    End,
    Failed,
    Receive,
    Sleep,
    Slot,
)
from ._entries import Work
from ._execution import Execution
from ._limits import Slots
from ._model import MessageRecord, new_tuple
from ._port import settle, soon
from ._records import step_row
from ._scopes import EXITS, SCOPE, StepScope, operation_completed
from ._suspension import rest
from ._transaction import work_of
from ._waits import taken_by
from .errors import EngineClosedError, Halt, JournalError, SerializationError


async def drive_async(execution: Execution, decision: Decision) -> Any:
    """Carry out one operation; return its value or raise its error."""
    branches = execution.branches
    assert branches is not None
    try:
        effect = next(decision)
        while True:
            try:
                answer = await _PERFORM[type(effect)](execution, branches, effect)
            except SerializationError as error:
                effect = decision.throw(error)
                continue
            except (JournalError, EngineClosedError) as error:  # of the file, and not of the code
                raise execution.halt(error) from error
            except asyncio.CancelledError as error:
                branches.look_for_interrupt()
                if execution.halted is None:
                    await _cut(branches, decision, effect, error)
                raise
            if execution.halted is not None and isinstance(effect, Conclude):
                raise execution.halted
            effect = decision.send(answer)
    except StopIteration as done:
        operation_completed()
        return done.value
    except CarriedStopError as carried:
        raise RuntimeError(str(carried)) from carried.stop
    except (Halt, *EXITS) as stop:
        raise _stopped(execution, stop) from stop.__cause__
    finally:
        decision.close()
        branches.end_if_held_up()


def _stopped(execution: Execution, stop: BaseException) -> BaseException:
    """What ends the run: the body may catch an interrupt, wherever it struck, but it calls nothing more."""
    if isinstance(stop, Halt):
        return execution.halt(stop.error)
    execution.interrupt_by(stop)
    return stop


async def _cut(branches: Branches, decision: Decision, effect: Effect, error: asyncio.CancelledError) -> None:
    """The task was cancelled while it waited for an effect: that has to replay."""
    if isinstance(effect, (Conclude, Deliver)):  # before its outcome was delivered
        if effect.record.error != CUT:
            unread = effect.message if isinstance(effect, Conclude) else taken_by(effect.record)
            await branches.new.conclude_cut(effect.record, unread)
    else:
        cut = decision.send(Cut(error))
        assert isinstance(cut, Conclude)
        await branches.new.conclude_cut(cut.record)


def _conclude(_: Execution, branches: Branches, effect: Conclude) -> Awaitable[None]:
    if not branches.past.is_over:
        return _conclude_after_replay(branches, effect)
    return branches.new.conclude(effect.record, effect.attempt, effect.message)


async def _conclude_after_replay(branches: Branches, effect: Conclude) -> None:
    """So for the end of what had begun: a timer, a wait for a signal, an attempt that is not repeated."""
    await branches.past.end()
    await branches.new.conclude(effect.record, effect.attempt, effect.message)


def _deliver(_: Execution, branches: Branches, effect: Deliver) -> Awaitable[None]:
    return branches.deliver(effect.record)


def _park(_: Execution, __: Branches, effect: End) -> Awaitable[None]:
    return effect.park()


def _append(execution: Execution, branches: Branches, effect: Append) -> Awaitable[None]:
    """Written at once where nobody else writes and no fsync is needed; what is to be awaited otherwise."""
    if effect.attempt is not None and effect.record.kind == "child":
        return _set_child_going_again(execution, branches, effect)
    if not branches.past.is_over:
        return _append_after_replay(execution, branches, effect)
    return _append_now(execution, branches, effect)


def _append_now(execution: Execution, branches: Branches, effect: Append) -> Awaitable[None]:
    work = work_of(step_row(effect.record), effect.attempt)
    full = effect.full or execution.needs_sync()
    branches.new.put_owed()
    if not full and not branches.is_crowded():
        branches.port.flush()
        if execution.journal.commits.write_if_idle(work):
            return NOTHING
    appended = _Appended(execution, work, branches.loop.create_future())
    branches.write(appended, full)
    return appended.future


async def _append_after_replay(execution: Execution, branches: Branches, effect: Append) -> None:
    """Nothing new goes to the file before all that it has was delivered: till then the code may be another."""
    await branches.past.end()
    await _append_now(execution, branches, effect)


async def _set_child_going_again(execution: Execution, branches: Branches, effect: Append) -> None:
    """Whoever gives up, meanwhile, a child that a crash left: it begins, so that it is told, and has ended then.

    Else it would stay interrupted, and go on some day without its parent. The cancellation comes again when it waits.
    """
    cancelled = False
    while True:
        try:
            await _append_after_replay(execution, branches, effect)
        except asyncio.CancelledError:
            branches.look_for_interrupt()
            if execution.halted is not None:
                raise
            cancelled = True
        else:
            break
    if cancelled:
        cancel_again()


def cancel_again() -> None:
    """A cancellation that came too early comes again at the next wait of this task."""
    task = asyncio.current_task()
    assert task is not None
    task.uncancel()
    task.get_loop().call_soon(task.cancel)


class _Appended:
    """A record without an outcome on its way to the file: what it is awaited by."""

    __slots__ = ("_execution", "future", "work")

    def __init__(self, execution: Execution, work: Work, future: "asyncio.Future[None]") -> None:
        self._execution = execution
        self.work = work
        self.future = future

    def told(self, error: BaseException | None) -> None:
        if isinstance(error, (JournalError, EngineClosedError)):
            error = self._execution.halt(error)
        settle(self.future, error)


class _Nothing:
    """Awaiting it takes no turn of the loop."""

    def __await__(self) -> Generator[Any, Any, None]:
        return
        yield


NOTHING = _Nothing()


async def _pause(execution: Execution, branches: Branches, effect: Sleep) -> None:
    """Wait, unless the run is taken down or suspended meanwhile."""
    if effect.seconds > 0:
        await rest(execution, branches, effect.seconds)
    if execution.halted is not None:
        raise execution.halted


async def _receive(execution: Execution, branches: Branches, effect: Receive) -> MessageRecord | None:
    """Wait for a signal, unless the run is taken down or suspended meanwhile."""
    left = None if effect.seconds is None else TimeLeft(execution.clock, effect.seconds)
    while True:
        message, seconds = execution.next_signal(effect.name), None if left is None else left.seconds()
        if message is not None or (seconds is not None and seconds <= 0):
            return message
        await rest(execution, branches, seconds, effect.name)
        if execution.halted is not None:
            raise execution.halted


async def _take_slot(execution: Execution, branches: Branches, effect: Slot) -> None:
    """Wait for a slot without blocking the loop. It may be given from any thread.

    Not before everything journaled was delivered: a sync step of the body may block the loop until it has the slot.
    """
    if branches.past:
        await branches.past.end()
    call = effect.call
    call.release_slot = await take_slot(execution.limits.of("step", call.callee.name, call.callee.concurrency))


async def take_slot(slots: Slots) -> Callable[[], None]:
    """Wait for a slot; returns what gives it back."""
    asked = AskedFor(slots)
    try:
        while not asked.is_given:
            await asked.change()
    except asyncio.CancelledError:
        asked.leave()
        raise
    return slots.release


class AskedFor:
    """A slot that code on a loop waits for. It may be given from any thread."""

    __slots__ = ("_change", "_is_left", "_loop", "_slots", "is_given")

    def __init__(self, slots: Slots, *, first: bool = False) -> None:
        self._slots = slots
        self._loop = asyncio.get_running_loop()
        self._change: asyncio.Future[None] = self._loop.create_future()
        self._is_left = False
        self.is_given = False
        slots.request(self._granted, first=first)

    async def change(self) -> None:
        """Wait until it is given, or something else has come up."""
        self._change = self._loop.create_future()
        await self._change

    def set(self) -> None:
        """Something else has come up. From any thread."""
        soon(self._loop, self._has_changed)

    def leave(self) -> None:
        """Wait no longer; where it was given, or is on its way, it is given back."""
        self._is_left = True
        if not self._slots.withdraw(self._granted) and self.is_given:
            self._slots.release()

    def _granted(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._arrive)
        except RuntimeError:  # the loop was closed: nobody takes it
            self._slots.release()

    def _arrive(self) -> None:
        if self._is_left:
            self._slots.release()
        else:
            self.is_given = True
            settle(self._change)

    def _has_changed(self) -> None:
        settle(self._change)


async def _attempt(execution: Execution, _: Branches, effect: Attempt) -> Completed | Failed | Cut:
    """Run the body of an async step once, in this task."""
    call = effect.call
    scope = StepScope(execution, call, effect.record.attempt)
    token = SCOPE.set(scope)
    execution.attempts_in_flight += 1
    timeout: asyncio.Timeout | None = None
    try:
        if call.callee.timeout_seconds is None:
            return new_tuple(Completed, (await call.function(*call.args, **call.kwargs),))
        async with asyncio.timeout(call.callee.timeout_seconds) as timeout:
            return Completed(await call.function(*call.args, **call.kwargs))
    except asyncio.CancelledError as error:
        task = asyncio.current_task()  # asked only now: it costs a system call in some versions of Python
        if execution.halted is not None or task is None or task.cancelling():
            raise
        return Failed(error)
    except Halt:  # of a child: what stopped it stops this run too
        raise
    except INTERRUPTS as interrupt:
        execution.interrupt_by(interrupt, f" in step {call.callee.name!r}")
        raise
    except BaseException as error:
        if timeout is not None and timeout.expired() and call.callee.timeout_seconds and type(error) is TimeoutError:
            return Failed(timed_out(call, call.callee.timeout_seconds))
        return failed(execution, error)
    finally:
        execution.attempts_in_flight -= 1
        scope.over = True
        try:  # noqa: SIM105 - what it suggests takes a microsecond
            SCOPE.reset(token)
        except ValueError:  # a coroutine that is collected is ended in whatever context
            pass


_PERFORM: Final[dict[type[Effect], Callable[[Execution, Branches, Any], Awaitable[Any]]]] = {
    Append: _append,
    Attempt: _attempt,
    Conclude: _conclude,
    Deliver: _deliver,
    End: _park,
    Receive: _receive,
    Sleep: _pause,
    Slot: _take_slot,
}
"""What is to be awaited for each effect: a future where that does, and a coroutine only where it takes one."""

"""What comes to a run's own code from outside, and takes turns: timeouts of asyncio, the ends of runs that it awaits.

That a timeout (`asyncio.timeout`, `wait_for` and the like) fired is journaled, with its turn among the outcomes,
and on replay it fires in that turn: not sooner, although everything goes faster, and not later. One that did not fire
leaves no trace.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._execution import Execution
from ._model import END, FIRST_TIMEOUT, TIMER, StepRecord
from ._scopes import Branch

if TYPE_CHECKING:
    from contextvars import Context

    from ._branches import Branches


class RunTimer:
    """Stands in for a handle of the loop, and fires when it is its turn."""

    __slots__ = ("_branches", "_call", "_cancelled", "_handle", "_place", "_turn", "_when")

    def __init__(self, branches: "Branches", place: tuple[str, int], when: float, call: tuple[Any, ...]) -> None:
        self._branches = branches
        self._place = place
        self._when = when
        self._call = call
        self._handle: asyncio.TimerHandle | None = None
        self._turn: asyncio.Future[None] | None = None
        self._cancelled = False

    def cancel(self) -> None:
        """It is not to fire."""
        self._cancelled = True
        self._branches.timers.pop(self, None)
        for each in (self._handle, self._turn):
            if each is not None:
                with contextlib.suppress(RuntimeError):  # the loop was closed, and the task is dropped with it
                    each.cancel()

    def cancelled(self) -> bool:
        return self._cancelled

    def when(self) -> float:
        return self._when

    def set(self, call_at: Callable[..., asyncio.TimerHandle]) -> None:
        """Fire in the turn that the journal has, or else when it is time and the next turn is free."""
        self._branches.timers[self] = None
        past = self._branches.execution.past.pop(self._place, None)
        if past is not None and past.turn:
            self._fire_in(self._branches.past.turn_of(past))
        else:
            self._handle = call_at(self._when, self._due)

    def _due(self) -> None:
        execution = self._branches.execution
        if execution.halted is not None:
            self._fire()
            return
        self._fire_in(self._branches.new.take_turn(_came(execution, self._place, "timeout")))

    def _fire_in(self, turn: "asyncio.Future[None]") -> None:
        self._turn = turn
        turn.add_done_callback(lambda _: self._fire())

    def _fire(self) -> None:
        self._branches.timers.pop(self, None)
        if not self._cancelled:
            context: Context = self._call[0]
            context.run(*self._call[1:])


def arm(branch: Branch, when: float, call_at: Callable[..., asyncio.TimerHandle], call: tuple[Any, ...]) -> Any:
    """Set a timeout: `call` is a context, and what to call in it. Returns a handle."""
    branches = branch.execution.branches
    if branches is None:
        return call_at(when, *call[1:], context=call[0])
    timer = RunTimer(branches, _take_place(branch), when, call)
    timer.set(call_at)
    return timer


class EndOfRun:
    """That a run ended which a task awaits: else a replay, for which it ended long ago, would go on with it sooner."""

    __slots__ = ("_branches", "_past", "_place")

    def __init__(self, branch: Branch, branches: "Branches") -> None:
        self._branches = branches
        self._place = _take_place(branch)
        self._past = branch.execution.past.pop(self._place, None)

    async def come(self, *, cancelled: bool) -> None:
        """The run has ended: returns when it is the turn of that.

        A task whose run is cancelled together with that one hears of its own cancellation instead. A turn is taken also
        where the only task awaits it: a cancellation that came later comes later again. Journals of versions that
        did not write this down have what followed it all the same.
        """
        branches, past = self._branches, self._branches.past
        if self._past is not None and self._past.turn:
            await past.turn_of(self._past)
            return
        await past.last()
        if cancelled and branches.execution.is_being_cancelled():
            await branches.telling.come_first()
        if branches.execution.halted is None and (not past or not branches.is_single()):
            await branches.new.take_turn(_came(branches.execution, self._place, END))


def _take_place(branch: Branch) -> tuple[str, int]:
    branch.timeouts += 1
    return branch.name, FIRST_TIMEOUT + 1 - branch.timeouts


def _came(execution: Execution, place: tuple[str, int], name: str) -> StepRecord:
    now = execution.now()
    return StepRecord(
        execution.record.seq, *place, TIMER, name, "durable", "completed", 0, 0,
        None, None, None, now, now, None, 0,
    )  # fmt: skip

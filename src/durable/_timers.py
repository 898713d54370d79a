"""The timeouts of a run's own code (`asyncio.timeout`, `wait_for`, `wait` and the like), which take turns.

That a timeout fired is journaled, with its turn among the outcomes, and on replay it fires in that turn: not sooner,
although everything goes faster, and not later. One that did not fire leaves no trace.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._execution import Branch
from ._model import FIRST_TIMEOUT, TIMER, StepRecord

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
        self._branches.timers.discard(self)
        for each in (self._handle, self._turn):
            if each is not None:
                each.cancel()

    def cancelled(self) -> bool:
        return self._cancelled

    def when(self) -> float:
        return self._when

    def set(self, call_at: Callable[..., asyncio.TimerHandle]) -> None:
        """Fire in the turn that the journal has, or else when it is time and the next turn is free."""
        self._branches.timers.add(self)
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
        now = execution.now()
        record = StepRecord(
            execution.record.seq, *self._place, TIMER, "timeout", "durable", "completed", 0, 0,
            None, None, None, now, now, None, 0,
        )  # fmt: skip
        self._fire_in(self._branches.take_turn(record))

    def _fire_in(self, turn: "asyncio.Future[None]") -> None:
        self._turn = turn
        turn.add_done_callback(lambda _: self._fire())

    def _fire(self) -> None:
        self._branches.timers.discard(self)
        if not self._cancelled:
            context: Context = self._call[0]
            context.run(*self._call[1:])


def arm(branch: Branch, when: float, call_at: Callable[..., asyncio.TimerHandle], call: tuple[Any, ...]) -> Any:
    """Set a timeout: `call` is a context, and what to call in it. Returns a handle."""
    branches = branch.execution.branches
    if branches is None:
        return call_at(when, *call[1:], context=call[0])
    timer = RunTimer(branches, (branch.name, FIRST_TIMEOUT - branch.timeouts), when, call)
    branch.timeouts += 1
    timer.set(call_at)
    return timer

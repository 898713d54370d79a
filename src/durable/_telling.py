"""How an async run is told that it was cancelled, or that its time is up: as an operation of its own, called by nobody.

It has a turn among the outcomes, and its task is cancelled in that turn, live and on replay. While that task blocks the
loop in sync steps there are no turns: then it is told at one of these, as a sync run is. That a run which it waits for
is blocked takes it down only after that, and only if it still waits: which of the two comes first is chance.
"""

import asyncio
from typing import TYPE_CHECKING

from ._effects import TOLD
from ._model import CANCEL_POSITION, StepRecord
from ._port import settle, soon
from ._scopes import SCOPE
from .errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._branches import Branches


class Telling:
    """The cancellation of one execution."""

    __slots__ = ("_branches", "_cancel", "_has_begun", "_was_told_at_operation", "awaited", "tell")

    def __init__(self, branches: "Branches") -> None:
        self._branches = branches
        self._cancel = branches.execution.cancel
        self._has_begun = False
        self._was_told_at_operation = False
        self.tell: Callable[[], object] = _nobody
        """Cancels the task of the run."""
        self.awaited: list[asyncio.Future[None]] = []
        """By tasks that have to know first whether they are cut."""

    def begin(self) -> None:
        """Journal that the run is cancelled, and tell its body when it is the turn of that.

        Asked for twice where the cancellation comes from another thread just as the task of the run is made.
        """
        execution = self._branches.execution
        if self._has_begun or self._was_told_at_operation or any(map(_is_where_told, execution.past.values())):
            return
        self._has_begun = True
        now, why = execution.now(), "timeout" if self._cancel.timed_out else "cancel"
        record = StepRecord(
            execution.record.seq, "", CANCEL_POSITION, "cancel", why, "durable", "completed", 0, 0,
            None, None, None, now, now, None, None,
        )  # fmt: skip
        self._branches.new.conclude(record, None).add_done_callback(lambda turn: self._in_turn(turn, record))

    def begin_soon(self) -> None:
        """The same, from any thread."""
        soon(self._branches.loop, self.begin)

    def replay(self) -> bool:
        """Tell the body again, in its turn, where the journal has it that the run was cancelled; say whether it has."""
        record = self._branches.execution.past.pop(("", CANCEL_POSITION), None)
        if record is None:
            return False
        self._has_begun = True
        self._cancel.requested, self._cancel.timed_out = True, record.name == "timeout"
        self._branches.past.turn_of(record).add_done_callback(lambda turn: self._in_turn(turn, record))
        return True

    def _in_turn(self, turn: "asyncio.Future[None]", record: StepRecord) -> None:
        if turn.cancelled() or turn.exception() is not None:
            return
        if self._branches.execution.halted is not None:  # it ends before it is told, and is told when it goes on
            return
        if not self._was_told_at_operation:
            self.tell_now()
        for future in self.awaited:  # when all wait again: those that are cut by it are cut by then
            self._branches.new.deliver_unwritten(record, future)
        self.awaited = []

    def tell_now(self) -> None:
        """Have the body know."""
        self._cancel.delivered = True
        self.tell()

    def at_operation(self, told: Cancelled) -> BaseException:
        """What the code gets that hears of its cancellation at an operation which blocks."""
        if not self._branches.is_here():
            return told
        self._was_told_at_operation |= SCOPE.get() is self._branches.execution.root
        return asyncio.CancelledError()

    def end(self) -> None:
        """The run has ended: neither its task nor what that returned is kept any longer."""
        self.tell = _nobody

    def let_go(self) -> None:
        """The run was taken down: nobody is told any more, and who would have to know first ends too."""
        for future in self.awaited:
            settle(future, self._branches.execution.halted)
        self.awaited = []

    async def come_first(self) -> None:
        """Before a task hears that what it waits for is blocked, or cancelled: its own cancellation is told first.

        Returns when that does not cut it. Raises what took the run down, where something did.
        """
        if (halted := self._branches.execution.halted) is not None:
            raise halted
        if self._cancel.requested and not self._cancel.delivered and self._branches.is_here():
            future = self._branches.loop.create_future()
            self.awaited.append(future)
            await future


def _is_where_told(past: StepRecord) -> bool:
    """Whether the run's own task was told at this operation, and is again when it calls it."""
    return not past.branch and past.error in TOLD


def _nobody() -> None:
    """There is no task to tell."""

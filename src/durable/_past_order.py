"""The order of what the journal has of an async run: on replay, each outcome reaches its task in its turn."""

import asyncio
import contextvars
import logging
from collections.abc import Callable, Collection, Iterable
from math import inf
from typing import Any, Final

from ._effects import CUT, Call
from ._execution import Execution
from ._model import CANCEL_POSITION, FIRST_TIMEOUT, ROOM, StepRecord
from ._port import settle, soon
from ._replay import describe, place
from ._task_inspection import waits_on_known
from .errors import NonDeterminismError

_PATIENT_LOOKS: Final = 10
"""So often a run that stands still is looked at before that is said, which is about once a second."""


class PastOrder:
    """Outcomes, cuts and timeouts that the journal has, until all were delivered; true while there are any.

    What had only begun counts until it is called again. When it was called first, the run had got no more than the
    outcomes that the journal has: code that waits with all of these, and has not called it, is other code.
    """

    def __init__(self, execution: Execution, loop: asyncio.AbstractEventLoop, on_news: Callable[[], None]) -> None:
        self._execution = execution
        self._loop = loop
        self._on_news = on_news
        """Called when something may now be deliverable that was not."""
        self._owed: dict[int, int] = {}
        """How many of each turn were not delivered yet."""
        for step in execution.past.values():
            if step.turn:
                self._owed[step.turn] = self._owed.get(step.turn, 0) + 1
        self._inline = sum(step.turn == 0 and step.error != CUT for step in execution.past.values())
        """How many that blocked the loop, and so have no turn, were not called yet."""
        self._begun = sum(step.turn is None for step in execution.past.values())
        """How many that had begun, and have no outcome, were not called yet."""
        self._turns = sorted(self._owed, reverse=True)
        """The next one last."""
        self.is_over = not self._turns and not self._inline and not self._begun
        """Whether all were delivered, and what had begun was called."""
        self.last_turn = self._turns[0] if self._turns else 0
        self.reached = 0
        """The last turn that was delivered."""
        self.gives_way = False
        """Whether what is new goes on beside it: see `give_way`."""
        self._cancelled_in, self._before_cancel = _cancellation(execution.past)
        """The turn in which the run was cancelled, and what it cut: nobody calls it, so that it waits for these."""
        self._called: dict[int, list[tuple[str, int, asyncio.Future[None]]]] = {}
        """By turn: what the code has called of it and waits for, by branch and position."""
        self._gates: dict[asyncio.Future[None], None] = {}
        """In order: what has waited at them for the end of the replay goes on as it came."""
        self._last: dict[asyncio.Future[None], None] = {}
        """What has no turn, and waits until nothing that has one can be delivered without it."""
        self._looks_left = _PATIENT_LOOKS
        self._cuts: dict[asyncio.Future[None], StepRecord] = {}
        """Operations that the code is to cut again."""

    def __bool__(self) -> bool:
        return not self.is_over

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for a turn."""
        return bool(self._called)

    def owes(self, record: StepRecord) -> bool:
        """Whether the turn of this has not come."""
        return record.turn in self._owed

    @property
    def waits_for_cut(self) -> bool:
        """Whether some operation waits for the code to cut it again."""
        return bool(self._cuts)

    @property
    def holds_back(self) -> bool:
        """Whether what is new waits for this. It does not where a thread waits to be given up again, as that may do."""
        is_done = self.is_over or self.gives_way or (self._cuts and not self._turns and not self._inline)
        return not is_done

    @property
    def next_turn(self) -> float:
        """The next one to be delivered."""
        return self._turns[-1] if self._turns else inf

    def turn_of(self, record: StepRecord) -> "asyncio.Future[None]":
        """Done when it is the turn of this record; may be cancelled before."""
        turn = record.turn or 0
        future = self._loop.create_future()
        if turn not in self._owed:
            future.set_result(None)
            self.delivered(turn)
            return future
        self._called.setdefault(turn, []).append((record.branch, record.position, future))
        future.add_done_callback(lambda _: self.delivered(turn))
        self._on_news()
        return future

    async def cut(self, record: StepRecord) -> None:
        """Wait until the code cuts this operation again, then for the turn in which that was seen; always raises."""
        cut = self._loop.create_future()
        self._cuts[cut] = record
        self._on_news()
        try:
            await cut
        except asyncio.CancelledError:
            if self._execution.halted is None and record.turn:  # that of a thread has none
                await despite_cancellation(self._execution, self.turn_of(record))
            raise
        finally:
            del self._cuts[cut]

    async def end(self) -> None:
        """Returns when everything was delivered, and what had begun was called, or when it gives way."""
        while self and not self.gives_way:
            gate = self._loop.create_future()
            self._gates[gate] = None
            self._on_news()
            try:
                await gate
            finally:
                self._gates.pop(gate, None)

    async def last(self) -> None:
        """Returns when everything was delivered, or nothing more can be before the caller goes on."""
        if self:
            gate = self._loop.create_future()
            self._last[gate] = None
            self._on_news()
            await gate

    def has_room(self) -> bool:
        """Whether something that a retry did again, or is to, comes before the next turn."""
        return ROOM // 2 < self.next_turn - self.reached < inf

    def give_way(self) -> bool:
        """Let what is new go on although not all was delivered, if there is room before the next turn; say whether.

        For where the next turn cannot follow in a run that was retried: what it does again may hold what the rest waits
        for (a semaphore) until it has ended, as when it failed before.
        """
        if self.gives_way or not self.has_room():
            return False
        self.gives_way = True
        for gate in self._gates:
            settle(gate)
        self._on_news()
        return True

    def let_go_on(self) -> bool:
        """Let one go on of those that wait until nothing else can be delivered; say whether there was one."""
        while self._last:
            del self._last[gate := next(iter(self._last))]
            if not gate.done():
                settle(gate)
                self._on_news()
                return True
        return False

    def delivered(self, turn: int | None) -> None:
        """One of this turn is where it belongs; `None`: what had begun was called."""
        if turn in self._owed:
            self._owed[turn] -= 1
        elif turn == 0 and self._inline:
            self._inline -= 1
        elif turn is None and self._begun:
            self._begun -= 1
        else:
            return
        while self._turns and not self._owed[self._turns[-1]]:
            turn = self.reached = self._turns.pop()
            del self._owed[turn]
            self._called.pop(turn, None)
        self.is_over = not self._turns and not self._inline and not self._begun
        if self.is_over:
            for gate in (*self._gates, *self._last):
                settle(gate)
            self._last.clear()
        self._on_news()

    def begun_again(self, record: StepRecord) -> None:
        """A thread has called something that the journal has as begun: the loop takes it, unless it was dropped before.

        Taken by the thread, it would be nowhere until the loop hears of it: a run that looks in between seems stuck.
        """
        soon(self._loop, self._take_begun, record)

    def _take_begun(self, record: StepRecord) -> None:
        if self._execution.past.pop((record.branch, record.position), None) is not None:
            self.delivered(None)

    def next_is_timeout(self) -> bool:
        """Whether the next turn is that of a timeout which the code has set."""
        called = self._called.get(self._turns[-1], ()) if self._turns else ()
        return any(position <= FIRST_TIMEOUT for _, position, _ in called)

    def deliver_next(self) -> bool:
        """Deliver the next turn, if the code has called all of it; say whether."""
        if not self._turns:
            return False
        turn = self._turns[-1]
        if turn == self._cancelled_in and any(map(self._execution.past.__contains__, self._before_cancel)):
            return False
        called = [waiting for waiting in self._called.get(turn, ()) if not waiting[2].done()]
        if len(called) != self._owed[turn]:
            return False
        for *_, future in sorted(called, key=lambda waiting: waiting[:2]):
            settle(future)
        return True

    def drop(self, branch: str) -> list[StepRecord]:
        """What this branch, or one in it, had under way no longer counts; returns that."""
        past = self._execution.past
        mine = [past.pop(key) for key in list(past) if key[0] == branch or key[0].startswith(branch + "/")]
        for dropped in mine:
            if dropped.turn != 0 or dropped.error != CUT:
                self.delivered(dropped.turn)
        return mine

    def is_stuck(
        self,
        tasks: Collection["asyncio.Task[Any]"],
        known: Iterable["asyncio.Future[Any]"],
        own: Iterable[int],
    ) -> bool:
        """Whether every task waits on the journal, on other tasks, or on what is theirs alone, of which `own` are ids.

        Then the next turn can never be called.
        """
        ids = {id(future) for called in self._called.values() for *_, future in called}
        ids.update(map(id, (*self._gates, *self._cuts, *known)), own)
        return all(waits_on_known(task, ids, tasks) for task in tasks)

    def stands_still(self) -> None:
        """Nothing has come for a while: look again, and say so in the log, once. It may be that nothing ever comes."""
        self._looks_left -= 1
        if self and not self.gives_way and not self._looks_left:
            record = self._execution.record
            contextvars.Context().run(  # in that of the run its log is silent
                logging.getLogger("durable").warning,
                "run %s of %r goes on only when something comes that is not journaled: %s",
                record.id, record.workflow, self.nothing_can_follow(),
            )  # fmt: skip
        self._on_news()

    def require_called(self, record: StepRecord | Call) -> None:
        """Before what blocks the loop is journaled: `Halt` where the journal has an outcome that nobody has called yet.

        It blocked the loop before too, if it was there, so that nothing was called after it. And nothing new goes to
        the file while the code may turn out to be another. What a thread did that is there now may be called later: how
        soon it comes to that is not journaled.
        """
        branches, past = self._execution.branches, list(self._execution.past.values())
        assert branches is not None
        if not self or all(step.turn is None or branches.threads.has(step.branch) for step in past):
            return
        if not self.gives_way and not self.give_way():
            error = self.nothing_can_follow()
            msg = f"the code called {describe(record)} at {place(record)}, which the journal does not have, and {error}"
            raise self._execution.halt(NonDeterminismError(msg))

    def nothing_can_follow(self) -> NonDeterminismError:
        """The error of a run that is stuck."""
        turn = self._turns[-1] if self._turns else None
        left = list(self._execution.past.values())
        missing = next((s for s in left if s.turn == (turn or 0)), left[0] if left and turn is None else None)
        cut = next((s for s in self._cuts.values() if turn is None or s.turn == turn), None)
        if cut is not None:
            what = f"cancels {describe(cut)} at {place(cut)}, as the journal has it"
        elif missing is not None:
            what = f"has called {describe(missing)}, which the journal has at {place(missing)}"
        else:
            what = "has called a journaled operation"
        return NonDeterminismError(
            f"no task of the workflow {what}. The workflow was changed under this run, "
            "or its order depends on what is not journaled (a socket read in the body, tasks started in random order): "
            "put its code back, or start a new run; completed steps are kept"
        )


def _cancellation(past: dict[tuple[str, int], StepRecord]) -> tuple[int, list[tuple[str, int]]]:
    """The turn in which the code was told that it is cancelled, 0 where it was not, and where it surely was by then.

    What began at the same time may have begun after it: a clock that is moved by hand stands still.
    """
    told = past.get(("", CANCEL_POSITION))
    if told is None:
        return 0, []
    under_way = [step for step in past.values() if step.error == CUT or step.turn is None]
    return told.turn or 0, [
        (step.branch, step.position) for step in under_way if step.position >= 0 and step.started_at < told.started_at
    ]


async def despite_cancellation(execution: Execution, future: "asyncio.Future[None]") -> None:
    """Await it to its end, whoever cancels meanwhile: the task is being cancelled already."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            if execution.halted is not None:
                future.cancel()
                raise

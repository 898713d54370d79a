"""The tasks of an async run: how each is named, and in which order outcomes reach them.

Journal order: outcomes are committed in groups, and each group has a number, its turn. Live and on replay alike, the
outcomes of a turn are delivered together, and the next turn only when every task of the run waits again. So code that
asks who came first takes the same path again. A run of one task pays nothing for it.

What else happens to a task from outside has a turn of its own, as has each outcome of a thread: that a timeout fires or
a run ends which it awaits (`_timers.py`), that an operation which the code has cut lets go. These cost no fsync. They
are journaled when they are delivered, with the next record of the run: where nothing follows, a crash leaves no trace.

A task "waits" when what it awaits (`_fut_waiter`) is not done; wake-ups travel through callbacks, so that only several
quiet turns of the loop in a row count. A run that is never quiet for long counts as unordered, and is delivered to at
once: the order of such a run is not promised, but no value reaches the wrong call, since positions do not depend on it.
"""

import asyncio
import threading
from collections import deque
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from ._effects import CUT
from ._execution import Execution
from ._model import END, TIMER, AttemptRecord, MessageRecord, StepRecord
from ._past_order import PastOrder, despite_cancellation
from ._port import Group, Letter, LoopPort, Outcome, Unawaited
from ._scopes import Branch
from ._telling import Telling
from ._threads import RunThreads
from ._waiting import closes_generator, held_by_these_only, interrupt_of, waits
from .errors import DurableError, JournalError, SerializationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._rests import Rest
    from ._timers import RunTimer

_QUIET_TURNS: Final = 4
"""Loop turns without a runnable task, after which all wait: one more than the longest chain of asyncio's own callbacks
between a task that ends and the task that it wakes (task, gather, wait)."""
_RESTLESS_TURNS: Final = 10_000
"""Loop turns that outcomes wait for a run to become quiet before it counts as unordered."""
_LATER_SECONDS: Final = 1.0
"""When a run that cannot go on yet is looked at again: nothing tells that a task has begun to wait for another one."""
_PATIENCE_SECONDS: Final = 1.0
"""How long a timeout waits for a thread that is at work between two steps."""


class Branches:
    """The tasks of one execution on its loop, and the outcomes that wait for them."""

    def __init__(self, execution: Execution, port: LoopPort) -> None:
        self.execution = execution
        self.port = port
        self.loop = port.loop
        self.root: asyncio.Task[Any] | None = None
        self.tasks: dict[asyncio.Task[Any], Branch] = {}
        """The live tasks that the run created, without its root."""
        self.starting = 0
        """Tasks that are being created: an eager one runs before it is among them."""
        self.past = PastOrder(execution, self.loop, self.tick_soon)
        self.telling = Telling(self)
        self.timers: set[RunTimer] = set()
        """The timeouts of asyncio that its code has set, and that may still fire."""
        self.resting: dict[asyncio.Future[None], Rest] = {}
        """Waits for timers, signals and children."""
        self.look: asyncio.Handle | None = None
        """Looks whether the run can be suspended."""
        self.is_held_up = False
        """Whether the run was halted while attempts were in flight, which may end first."""
        self._has_looked = False
        self._thread = threading.get_ident()
        self._turn = self.past.last_turn
        self._outbox: list[Outcome] = []
        self._committing = False
        self._waiting: list[Outcome] = []
        """What takes a turn of its own after the commit that is under way, or after the replay."""
        self._ready: deque[list[Outcome]] = deque()
        self._ticking = False
        self._quiet_turns = self._restless_turns = 0
        self._later: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """The run has ended on this loop."""
        self.telling.end()
        if "_threads" in vars(self):
            self.threads.close()
        if self._later is not None:
            self._later.cancel()

    @property
    def threads(self) -> RunThreads:
        """The threads of the run; made when first asked for, by whichever thread, since most runs have none."""
        made: RunThreads | None = vars(self).get("_threads")
        return vars(self).setdefault("_threads", RunThreads(self)) if made is None else made

    def is_here(self) -> bool:
        """Whether this is the thread of the loop."""
        return threading.get_ident() == self._thread

    def is_crowded(self) -> bool:
        """Whether others are likely to write in the same turn of the loop."""
        return bool(self.tasks) or self.port.users > 1

    # -- tasks --------------------------------------------------------------------------------------------------------

    def add(self, task: "asyncio.Task[Any]", branch: Branch) -> None:
        """A task of the run was created."""
        if not task.done():  # an eager one may be
            self.tasks[task] = branch
            task.add_done_callback(self._task_done)

    def _task_done(self, task: "asyncio.Task[Any]") -> None:
        self.tasks.pop(task, None)
        self._look_at(task)  # before a group hears of it
        self.tick_soon()

    def look_for_interrupt(self) -> None:
        """A task was cancelled: where that is because of an interrupt, it is the run that is interrupted.

        All that one `TaskGroup` cancels gets to know in the same turn of the loop: it is looked for once a turn.
        """
        if self._has_looked or not self.is_here() or self.loop.is_closed():
            return
        self._has_looked = True
        self.loop.call_soon(self._forget_look)
        self.look_at_all()

    def look_at_all(self) -> None:
        """Interrupt the run if one of its tasks is ended by an interrupt, before any other task goes on."""
        for task in [*self.tasks, *([self.root] if self.root is not None else [])]:
            self._look_at(task)

    def _look_at(self, task: "asyncio.Task[Any]") -> None:
        if (interrupt := interrupt_of(task)) is not None:
            self.execution.interrupt_by(interrupt)

    def _forget_look(self) -> None:
        self._has_looked = False

    def end_if_held_up(self) -> None:
        """An operation is over: where it was the last attempt that a halted run was spared for, the rest is ended."""
        execution = self.execution
        if self.is_held_up and not execution.attempts_in_flight and execution.on_halt is not None:
            self.is_held_up = False
            execution.on_halt()

    async def end_all(self) -> None:
        """Cancel and await what outlives the body, so that nothing of the run happens after its outcome."""
        while left := [task for task in self.tasks if not task.done()]:
            for task in left:
                if self.execution.halted is not None or not closes_generator(task.get_coro()):
                    task.cancel()
            await asyncio.wait(left)

    # -- outcomes that are new ----------------------------------------------------------------------------------------

    def conclude(
        self, record: StepRecord, attempt: AttemptRecord | None, message: MessageRecord | None = None
    ) -> "asyncio.Future[None]":
        """Commit an outcome; what this returns is done when it is on disk and it is its turn."""
        future = self.loop.create_future()
        self._outbox.append(Outcome(record, attempt, future, message))
        self._submit_next()
        return future

    def take_turn(self, record: StepRecord, unread: MessageRecord | None = None) -> "asyncio.Future[None]":
        """Done in a turn that this has for itself. It is journaled then, unless it was cancelled before."""
        outcome = Outcome(record, None, self.loop.create_future(), unread, is_late=True)
        self._waiting.append(outcome)
        self._admit()
        self.tick_soon()
        return outcome.future

    async def conclude_cut(self, record: StepRecord, unread: MessageRecord | None = None) -> None:
        """Journal that the workflow itself ended an operation; returns in the turn of that."""
        cut = record._replace(status="failed", output=None, error=CUT, finished_at=self.execution.now())
        await despite_cancellation(self.execution, self.take_turn(cut, unread))

    def journal_late(self, record: StepRecord, unread: MessageRecord | None = None) -> None:
        """Journal something that nobody waits for, with what follows."""
        if unread is not None:
            self.execution.reserved.discard(unread.seq)
        self._outbox.append(Outcome(record, None, self.loop.create_future(), unread, is_late=True))

    def _admit(self) -> None:
        """Give those that wait for a turn theirs."""
        if self._committing or self._is_held():
            return
        for outcome in self._waiting:
            last = self._ready[-1] if self._ready else []
            if _is_end(outcome) and last and _is_end(last[0]):
                outcome.turn = last[0].turn  # a thousand runs that are awaited take few turns
                last.append(outcome)
                continue
            self._turn += 1
            outcome.turn = self._turn
            self._ready.append([outcome])
        if self._waiting:
            self._waiting = []
            self.tick_soon()

    def flush(self) -> None:
        """Something of the run goes to the file by another way, now: what was put before goes first."""
        self.put_owed()
        self.port.flush()

    def put_owed(self) -> None:
        """Have it journaled before what is put next; not while the code may be another than that of the journal."""
        late = [outcome for outcome in self._outbox if outcome.is_late] if self._outbox and not self._is_held() else []
        if late:
            self._outbox = [outcome for outcome in self._outbox if not outcome.is_late]
            self.port.put(Unawaited([outcome.work() for outcome in late]), False)

    def _submit_next(self) -> None:
        """One group of a run is under way at a time, so that the order of commits is the order of turns."""
        if self._committing or not self._outbox:
            return
        if self._outbox[-1].is_late and all(outcome.is_late for outcome in self._outbox):
            return
        group, self._outbox = self._outbox, []
        self._submit(group)

    def _give_turns(self, group: list[Outcome]) -> None:
        """They share a turn, but for what has one for itself: a cancellation, and an outcome of a thread.

        Two threads go on at once, and what one of them makes of its outcome may be before or after the other.
        """
        if len(group) == 1 and not group[0].is_late:
            self._turn = group[0].turn = self._turn + 1
            return
        shared = False
        for outcome in group:
            if not outcome.is_late:
                alone = outcome.record.kind == "cancel" or self.threads.is_one(outcome.record.branch)
                if alone or not shared:
                    self._turn += 1
                outcome.turn = self._turn
                shared = not alone

    def _submit(self, group: list[Outcome]) -> None:
        self._give_turns(group)
        self._committing = True
        self.write(Group(self, group), True)

    def write(self, letter: Letter, full: bool) -> None:
        """With what others write in this turn of the loop, or else now."""
        if self.is_crowded():
            self.port.put(letter, full)
        else:
            self.port.flush()
            self.port.write(letter, full)

    def on_disk(self, group: list[Outcome], error: BaseException | None) -> None:
        """A group is in the file, or not, and why."""
        self._committing = False
        if error is None:
            if len(group) == 1:
                self._deliver_or_queue(group)
            else:
                turns = groupby((each for each in group if not each.is_late), lambda outcome: outcome.turn)
                for _, outcomes in turns:
                    self._deliver_or_queue(list(outcomes))
        elif isinstance(error, SerializationError) and len(group) > 1:
            for outcome in group:  # one of them is too large for the file: each by itself
                self._submit([outcome])
        elif isinstance(error, SerializationError):
            group[0].settle(error)
        else:
            self._fail(group, error)
        if self._waiting:
            self._admit()
        self._submit_next()

    def _deliver_or_queue(self, group: list[Outcome]) -> None:
        if self.tasks or self._ready or not self.past.is_over or group[0].record.kind == "cancel":  # alone in its turn
            self._ready.append(group)
            self.tick_soon()
        else:
            self._deliver(group)

    def _deliver(self, group: list[Outcome]) -> None:
        """In one order, live and on replay: that of branches and positions."""
        for outcome in sorted(group, key=lambda outcome: outcome.record[1:3]) if len(group) > 1 else group:
            if outcome.is_late and not outcome.future.done():
                self._outbox.append(outcome)
            outcome.settle()

    def deliver_unwritten(self, outcome: Outcome) -> None:
        """Deliver what the journal is not to have, when all tasks wait again."""
        self._ready.append([outcome])
        self.tick_soon()

    def _fail(self, group: list[Outcome], error: BaseException) -> None:
        """The journal takes nothing more: nobody is to go on."""
        halt = self.execution.halt(error if isinstance(error, DurableError) else JournalError(str(error)))
        for outcome in group:
            outcome.settle(halt)

    # -- outcomes from the journal ------------------------------------------------------------------------------------

    async def deliver(self, record: StepRecord) -> None:
        """Returns when it is the turn of a journaled outcome; one that was cut waits to be cut again."""
        if record.error == CUT:
            await self.past.cut(record)
        elif self.tasks or self.starting or self.past.is_awaited or record.branch:
            await self.past.turn_of(record)
        else:
            self.past.delivered(record.turn)

    def has_news(self) -> bool:
        """Whether something is on its way to the tasks, though all may be waiting for something else."""
        cancel = self.execution.cancel
        on_its_way = self._committing or self._waiting or self._ready or self.past
        return bool(on_its_way) or (cancel.requested and not cancel.delivered)

    # -- turns --------------------------------------------------------------------------------------------------------

    def tick_soon(self) -> None:
        if not self._ticking:
            self._ticking = True
            self._quiet_turns = self._restless_turns = 0
            self.loop.call_soon(self._tick)

    def _tick(self) -> None:
        """Once a turn of the loop while outcomes wait: deliver the next group when the run is quiet."""
        if not self._is_held():
            self._admit()
            if not self._ready and not self.past.waits_for_cut:
                self._ticking = False
                return
        if self.threads.at_work:
            self._ticking = False  # looked at again when the thread calls something, or ends
            self._look_later()
            if self._next_is_timeout():
                self.loop.call_later(_PATIENCE_SECONDS, self._lose_patience)
            return
        self._quiet_turns = self._quiet_turns + 1 if self._is_quiet() else 0
        self._restless_turns += 1
        if self._quiet_turns < _QUIET_TURNS and self._restless_turns < _RESTLESS_TURNS:
            self.loop.call_soon(self._tick)
            return
        self._ticking = False
        self._deliver_next()

    def _deliver_next(self) -> None:
        if self.past and (self.past.deliver_next() or self.past.let_go_on()):
            if self._waiting:  # for the end of the replay, which may never come
                self.tick_soon()
            return
        if not self._is_held() and self._ready:
            self._deliver(self._ready.popleft())
            if self._ready or self.past.waits_for_cut:
                self.tick_soon()
        elif self.is_stuck():
            self.execution.halt(self.past.nothing_can_follow())
        else:  # a task waits on what the library does not know
            self._look_later()

    def _look_later(self) -> None:
        if self._later is not None:
            self._later.cancel()
        self._later = self.loop.call_later(_LATER_SECONDS, self.past.stands_still)

    def _next_is_timeout(self) -> bool:
        if self.past:
            return self.past.next_is_timeout()
        return bool(self._ready) and any(outcome.record.kind == TIMER for outcome in self._ready[0])

    def _lose_patience(self) -> None:
        """A thread must not keep a timeout from firing for long."""
        if self.threads.at_work and (self.past or self._ready) and self._next_is_timeout():
            self._deliver_next()

    def _is_held(self) -> bool:
        """Whether what is new waits for what the journal has."""
        return bool(self.past) and not self.past.may_be_cut

    def _is_quiet(self) -> bool:
        return all(map(waits, self.tasks)) and (self.root is None or waits(self.root))

    def is_stuck(self, also: "Iterable[asyncio.Future[Any]]" = ()) -> bool:
        """Whether nothing of the run can go on any more; `also`: what does not come either."""
        if not self._is_held() and (self.timers or self.has_news()):  # what may yet lead to a cut
            return False
        if self._restless_turns >= _RESTLESS_TURNS:
            return False
        tasks = {*self.tasks, *([self.root] if self.root else [])}
        queued = [outcome.future for group in [*self._ready, self._waiting] for outcome in group]
        known = [*self.threads.waiting(), *self.resting, *self.telling.awaited, *queued, *also]
        stands_still = self._later is not None and self._later.when() <= self.loop.time()
        # It takes a while to find out. And timeouts do not fire before all that the journal has came again.
        own = held_by_these_only([*tasks, *self.timers]) if stands_still else ()
        return self.past.is_stuck(tasks, known, own)


def _is_end(outcome: Outcome) -> bool:
    return outcome.record.kind == TIMER and outcome.record.name == END

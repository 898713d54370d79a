"""The tasks of an async run, and when an outcome reaches one of them.

Journal order: outcomes are committed in groups, and each group has a number, its turn. Live and on replay alike, the
outcomes of a turn are delivered together, and the next turn only when every task of the run waits again. So code that
asks who came first takes the same path again. A run of one task pays nothing for it. Those that the journal has are
kept in `_past_order.py`, those that are new in `_new_outcomes.py`; the turns of both are given here.

A task "waits" when what it awaits (`_fut_waiter`) is not done; wake-ups travel through callbacks, so that only several
quiet turns of the loop in a row count. A run that is never quiet for long counts as unordered, and is delivered to at
once: the order of such a run is not promised, but no value reaches the wrong call, since positions do not depend on it.
"""

import asyncio
import threading
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final

from ._effects import CUT
from ._execution import Execution
from ._model import StepRecord
from ._new_outcomes import NewOutcomes
from ._past_order import PastOrder
from ._port import Letter, LoopPort
from ._scopes import SCOPE, Branch
from ._task_inspection import closes_generator, held_by_these_only, interrupt_of, queue_of, waits
from ._telling import Telling
from ._threads import RunThreads
from .errors import RunBlockedError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from ._rests import Rest
    from ._timeouts import RunTimer

_QUIET_TURNS: Final = 4
"""Loop turns without a runnable task, after which all wait: one more than the longest chain of asyncio's own callbacks
between a task that ends and the task that it wakes (task, gather, wait)."""
_RESTLESS_TURNS: Final = 10_000
"""Loop turns that outcomes wait for a run to become quiet before it counts as unordered."""
_LATER_SECONDS: Final = 1.0
"""When a run that cannot go on yet is looked at again: nothing tells that a task has begun to wait for another one."""
_MOST_WAITS_OF_A_CLEAN_UP: Final = 100
_SHARE: Final = 0.05
"""Of the time of a loop, which it may take to find out whether runs that stand still can ever go on."""
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
        """The outcomes that the journal has."""
        self.new = NewOutcomes(self, self.past)
        """Those that it has not."""
        self.telling = Telling(self)
        self.timers: dict[RunTimer, None] = {}
        """The timeouts of asyncio that its code has set, and that may still fire."""
        self.resting: dict[asyncio.Future[None], Rest] = {}
        """Waits for timers, signals and children."""
        self.look: asyncio.Handle | None = None
        """Looks whether the run can be suspended."""
        self.is_held_up = False
        """Whether the run was halted while attempts were in flight, which may end first."""
        self._has_looked = False
        self._thread = threading.get_ident()
        self._queue = queue_of(port.loop)
        self._ticking = False
        self._quiet_turns = self._restless_turns = 0
        self._later: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """The run has ended on this loop."""
        self.telling.end()
        self.new.end()
        if "_threads" in vars(self):
            self.threads.close()
        if self._later is not None:
            self._later.cancel()

    def drop(self) -> None:
        """The loop was closed in the middle of the run: end what is left of its code here and now.

        Else the garbage collector does, in the middle of any other code: an operation in a `finally` would be taken for
        one of that code's run, and where that is in no run, the body of a step would be called. Here it raises.
        """
        self.execution.interrupt("its event loop was closed")
        for task, branch in [*self.tasks.items(), (self.root, self.execution.root)]:
            if task is not None and not task.done():
                context = getattr(task, "get_context", Context)()  # since Python 3.12
                context.copy().run(_end, branch, task.get_coro())

    @property
    def threads(self) -> RunThreads:
        """The threads of the run; made when first asked for, by whichever thread, since most runs have none."""
        made: RunThreads | None = vars(self).get("_threads")
        return vars(self).setdefault("_threads", RunThreads(self)) if made is None else made

    def is_here(self) -> bool:
        """Whether this is the thread of the loop."""
        return threading.get_ident() == self._thread

    def require_own_task(self) -> None:
        """Stop the run where a task calls that nobody saw being created: it has no place of its own.

        It would count with the task that created it, in whatever order the two happen to call.
        """
        if not self.is_here() or self.starting:
            return
        task = asyncio.current_task(self.loop)
        if task is None or task is self.root or task in self.tasks:
            return
        what = getattr(task.get_coro(), "__qualname__", "?")
        msg = (
            f"task {task.get_name()!r} ({what}) was not created by the loop as it was when the workflow was called, so "
            "that its steps have no places of their own: create it with asyncio.create_task(), gather() or a TaskGroup "
            "and not asyncio.Task(), and set a task factory before the workflow is called, not in it"
        )
        raise self.execution.halt(RunBlockedError(msg))

    def is_single(self) -> bool:
        """Whether there is nothing of the run but its own task, which needs no turns to find the same order again."""
        return not (self.tasks or self.starting or self.has_threads())

    def has_threads(self) -> bool:
        """Whether any thread of the run is wanted."""
        return "_threads" in vars(self) and self.threads.are_there()

    def is_crowded(self) -> bool:
        """Whether others are likely to write in the same turn of the loop."""
        return bool(self.tasks) or self.port.users > 1

    # -- tasks --------------------------------------------------------------------------------------------------------

    def add(self, task: "asyncio.Task[Any]", branch: Branch) -> None:
        """A task of the run was created."""
        if task.done():  # an eager one may be
            self._see(task)
        else:
            self.tasks[task] = branch
            task.add_done_callback(self._task_done)

    def _task_done(self, task: "asyncio.Task[Any]") -> None:
        self.tasks.pop(task, None)
        self._look_at(task)  # before a group hears of it
        self._see(task)
        self.tick_soon()

    def _see(self, task: "asyncio.Task[Any]") -> None:
        """Asyncio need not say that nobody asked how it ended: the body that might have asked is taken down."""
        if self.execution.halted is not None and not task.cancelled():
            task.exception()

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

    # -- to the file --------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Something of the run goes to the file by another way, now: what was put before goes first."""
        self.new.put_owed()
        self.port.flush()

    def write(self, letter: Letter, full: bool) -> None:
        """With what others write in this turn of the loop; what needs no fsync now, where there are none."""
        alone = not self.is_crowded()
        if full or not alone:
            self.port.put(letter, full, alone=alone)
        else:
            self.port.flush()
            self.port.write(letter, full)

    # -- outcomes from the journal ------------------------------------------------------------------------------------

    async def deliver(self, record: StepRecord) -> None:
        """Returns when it is the turn of a journaled outcome; one that was cut waits to be cut again."""
        if record.error == CUT:
            await self.past.cut(record)
        elif self.past.is_awaited or record.branch or not self.is_single():
            await self.past.turn_of(record)
        else:
            self.past.delivered(record.turn)
        if record.status == "failed":
            self.execution.root.aftermath.fail(record.turn)

    def has_news(self) -> bool:
        """Whether something is on its way to the tasks, though all may be waiting for something else."""
        return bool(self.past) or self._has_something_new()

    def _has_something_new(self) -> bool:
        cancel = self.execution.cancel
        return bool(self.new) or (cancel.requested and not cancel.delivered)

    # -- turns --------------------------------------------------------------------------------------------------------

    def tick_soon(self) -> None:
        if not self._ticking:
            self._ticking = True
            self._quiet_turns = self._restless_turns = 0
            self.loop.call_soon(self._tick)

    def _tick(self) -> None:
        """Once a turn of the loop while outcomes wait: deliver the next group when the run is quiet."""
        if not self.past.holds_back:
            self.new.admit()
            if not self.new.has_ready() and not self.past.waits_for_cut and not self._is_replaying_beside():
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

    def _is_replaying_beside(self) -> bool:
        """Whether there is something left of the journal, and what is new goes on beside it."""
        return self.past.gives_way and bool(self.past)

    def _deliver_next(self) -> None:
        if self._is_replaying_beside():
            if self.new.is_committing():  # it has the next turn, and is to be delivered when it is on disk
                return
            if self.new.comes_first():
                self.new.deliver_next()
                self.tick_soon()
                return
        if self.past and (self.past.deliver_next() or self.past.let_go_on()):
            if self.new.has_waiting():  # for the end of the replay, which may never come
                self.tick_soon()
            return
        if self.past.give_way():
            return
        if not self.past.holds_back and self.new.comes_first():
            self.new.deliver_next()
            if self.new.has_ready() or self.past.waits_for_cut:
                self.tick_soon()
        elif self.execution.halted is None and self.is_stuck():  # it takes a while, and is over for one taken down
            self.execution.halt(self.past.nothing_can_follow())
        else:  # a task waits on what the library does not know
            self._look_later()

    def _look_later(self) -> None:
        if self._later is not None:
            self._later.cancel()
        self._later = self.loop.call_later(_LATER_SECONDS, self.past.stands_still)

    def _next_is_timeout(self) -> bool:
        return self.past.next_is_timeout() if self.past and not self.new.comes_first() else self.new.next_is_timeout()

    def _lose_patience(self) -> None:
        """A thread must not keep a timeout from firing for long."""
        if self.threads.at_work and (self.past or self.new.has_ready()) and self._next_is_timeout():
            self._deliver_next()

    def _is_quiet(self) -> bool:
        if self._queue is not None and not self._queue:
            return True
        return all(map(waits, self.tasks)) and (self.root is None or waits(self.root))

    def is_stuck(self, also: "Iterable[asyncio.Future[Any]]" = ()) -> bool:
        """Whether nothing of the run can go on any more; `also`: what does not come either."""
        beside = self.past.gives_way
        is_news = self._has_something_new() if beside else self.has_news()
        if not self.past.holds_back and (self.timers or is_news):  # what may yet lead to a cut
            return False
        if self._restless_turns >= _RESTLESS_TURNS or self.threads.are_moving():
            return False
        tasks = {*self.tasks, *([self.root] if self.root else [])}
        resting = () if beside else self.resting  # beside the replay these may end
        known = [*self.threads.waiting(), *resting, *self.telling.awaited, *self.new.awaited(), *also]
        stands_still = self._later is not None and self._later.when() <= self.loop.time()
        # Timeouts do not fire before all that the journal has came again.
        own = self._held_by_these_only([*tasks, *self.timers]) if stands_still else ()
        return self.past.is_stuck(tasks, known, own)

    def _held_by_these_only(self, roots: "Collection[Any]") -> "Collection[int]":
        """It takes a while to find out, and hundreds of runs of a loop may stand still: sometimes it is not asked."""
        began = self.loop.time()
        if began < self.port.rests_until:
            return ()
        found = held_by_these_only(roots)
        ended = self.loop.time()
        self.port.rests_until = ended + (ended - began) / _SHARE
        return found


def _end(branch: Branch, code: Any) -> None:
    """Close a coroutine as code of this branch; again where it waits in its clean-up, for what does not come."""
    SCOPE.set(branch)
    for _ in range(_MOST_WAITS_OF_A_CLEAN_UP):
        try:
            code.close()
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: S112 - it has failed of that, or else it waits
            continue
        return

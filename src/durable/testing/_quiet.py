"""Whether anything of an engine is at work: then time stands still.

Nothing tells when everything waits, so it is looked at: twice, and nobody may have begun or ended a wait meanwhile,
since a thread that was at work may have woken one that was looked at before it.
"""

from __future__ import annotations

import contextlib
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from durable._clock import SYSTEM_CLOCK
from durable._scopes import StepScope
from durable._task_inspection import waits

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from durable._active import Active
    from durable._engine import Engine
    from durable._execution import Execution
    from durable._scheduler import Scheduler

    from ._clock import HandClock

_TURNS: Final = 6
"""Loop turns for which nothing of a run may move: outcomes are delivered after four, and suspensions decided."""
_ANSWER_SECONDS: Final = 0.001
_ANSWERS: Final = 50
_SHORTEST_PAUSE_SECONDS: Final = 0.0001
_LONGEST_PAUSE_SECONDS: Final = 0.001
_LOOK_SECONDS: Final = 0.002


class Quiet:
    """Looks at the runs of an environment's engine, which may be another one each time."""

    def __init__(self, engine: Callable[[], Engine], clock: HandClock, patience: float) -> None:
        self._engine = engine
        self._clock = clock
        self._patience = patience

    def settle(self) -> None:
        """Wait, in real time, until nothing is at work. `TimeoutError` after the patience, which names what is."""
        self._refuse_on_own_loop()
        give_up_at = SYSTEM_CLOCK.monotonic() + self._patience
        pause = _SHORTEST_PAUSE_SECONDS
        while what := self.at_work():
            if SYSTEM_CLOCK.monotonic() > give_up_at:
                msg = f"the clock cannot move: for {self._patience:g} s of real time {what} has been at work"
                raise TimeoutError(msg)
            SYSTEM_CLOCK.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_PAUSE_SECONDS)

    def at_work(self) -> str | None:
        """What is at work, `None` where everything waits."""
        changes = self._clock.changes
        found = self._look() or self._look()
        return found or (None if self._clock.changes == changes else "something that woke just now")

    def everybody_waits(self) -> bool:
        """Whether nothing is at work, and the test itself waits: also after that look, in which it may be woken.

        Else time would pass, to the timeout of a run that has ended, before what the test does next.
        """
        return self.somebody_waits() and not self.at_work() and self.somebody_waits()

    def somebody_waits(self) -> bool:
        """Whether the test itself waits for a run, in a thread or on an event loop of its own.

        It is about to hear of it where the process has died: no time passes between that and the next one.
        """
        scheduler = self._engine()._scheduler
        runtime = scheduler.runtime
        if runtime.journal.commits.is_broken():
            return False
        threads = [holder._thread for holder in (runtime.timer, scheduler._loop_thread) if holder is not None]
        own = {*scheduler._pool.at_work, *runtime.step_pool.at_work, *(thread.ident for thread in threads)}
        if self._clock.resting_threads() - own or runtime.watchers.wait_on_loops():
            return True
        actives = list(runtime.active.values())
        return any(a.origin == "call" and a.parent is None and a.workflow.is_async for a in actives)

    def _look(self) -> str | None:
        scheduler = self._engine()._scheduler
        runtime = scheduler.runtime
        if runtime.is_closed():
            return None
        if self._clock.has_woken():
            return "something that woke just now"
        resting = self._clock.resting_threads()
        timer = runtime.timer
        if timer is not None and (timer._look or timer._thread.ident not in resting):
            return "the timer"
        actives = list(runtime.active.values())
        for active in actives:
            if not active.workflow.is_async and active.thread not in resting and not _cannot_begin(active, scheduler):
                return _name(active)
        if moving := self._moving_on_loops(scheduler, actives, resting):
            return _name(moving)
        in_background = sum(a.workflow.is_async and a.origin != "call" for a in actives)
        if scheduler.tasks_left() > in_background:  # one has ended, and has yet to say so
            return "the event loop"
        if not runtime.journal.commits.is_idle():
            return "a commit"
        if scheduler._pool.is_busy(resting) or runtime.step_pool.is_busy(resting):
            return "a thread of the engine"
        return None

    def _moving_on_loops(self, scheduler: Scheduler, actives: list[Active], resting: set[int]) -> Active | None:
        by_loop: dict[Any, list[Active]] = {}
        for active in actives:
            if active.workflow.is_async and not active.is_stranded():
                execution = active.execution
                if execution is None or execution.branches is None:
                    if not _cannot_begin(active, scheduler):
                        return active
                elif execution.branches._thread not in resting:  # else the whole loop stands still
                    by_loop.setdefault(execution.branches.loop, []).append(active)
        for loop, here in by_loop.items():
            if moving := self._ask(loop, partial(_moving, here, actives, self._clock)):
                return here[0] if moving is True else moving
        return None

    def _ask(self, loop: asyncio.AbstractEventLoop, moving: Callable[[], Any]) -> Any:
        """What moves on a loop within some turns; `True` where the loop itself does not answer."""
        answered = threading.Event()
        found: list[Any] = []

        def turn(left: int) -> None:
            if what := moving():
                found.append(what)
            elif left:
                loop.call_soon(turn, left - 1)
                return
            answered.set()

        try:
            loop.call_soon_threadsafe(turn, _TURNS)
        except RuntimeError:  # it was closed
            return None
        changes = self._clock.changes
        for _ in range(_ANSWERS):
            if answered.wait(_ANSWER_SECONDS):
                return found[0] if found else None
            if self._clock.changes != changes:  # it may have begun to wait itself
                break
        return True

    def _refuse_on_own_loop(self) -> None:
        """Runs on the event loop of this thread cannot go on while it waits for them."""
        import asyncio

        with contextlib.suppress(RuntimeError):  # there is none
            loop = asyncio.get_running_loop()
            scheduler = self._engine()._scheduler
            actives = list(scheduler.runtime.active.values())
            branches = [each.execution.branches for each in actives if each.execution is not None]
            if not scheduler.runs_on(loop) and not any(each is not None and each.loop is loop for each in branches):
                return
            msg = "runs execute on the event loop of this thread: use 'await clock.advance_async(...)'"
            raise TypeError(msg)


class AutoAdvance:
    """A thread that moves the clock to the next due moment whenever everything waits, the test itself included."""

    def __init__(self, quiet: Quiet, clock: HandClock) -> None:
        self._quiet = quiet
        self._clock = clock
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="durable-testing-clock", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped = True
        self._clock.changed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped:
            self._clock.changed.wait(_LOOK_SECONDS)
            self._clock.changed.clear()
            with self._clock.moving:
                if self._clock.next_due() is None or not self._quiet.everybody_waits():
                    continue
                if (due := self._clock.next_due()) is not None:  # another one, where a wait has begun or ended since
                    self._clock.jump(due)


def _cannot_begin(active: Active, scheduler: Scheduler) -> bool:
    """Whether it has not begun, and waits for the slot, or the thread, of another run."""
    if active.execution is not None:
        return False
    waits_for_slot = bool(active.workflow.concurrency) and active.release_slot is None
    return waits_for_slot or (active.origin != "call" and not active.workflow.is_async and scheduler._pool.is_full())


def _moving(here: list[Active], actives: list[Active], clock: HandClock) -> Active | None:
    return next((active for active in here if not _is_still(active, actives, clock)), None)


def _is_still(active: Active, actives: list[Active], clock: HandClock) -> bool:
    """On its loop: every task of the run waits, nothing of it is under way, and no step executes."""
    import asyncio

    execution = active.execution
    branches = execution.branches if execution is not None else None
    if execution is None or branches is None or execution.halted is not None:
        return False
    children = sum(_attempts_that_wait(execution, other) for other in actives)
    threads = branches.threads  # of `asyncio.to_thread(step)`: one that is about to wait is still at work
    waiting = len(clock.resting_in(execution)) + len(threads.waiting())
    # Sync children execute in threads too, and are looked at as runs of their own.
    in_threads = sum(other.parent is execution and not other.workflow.is_async for other in actives)
    if execution.attempts_in_flight > children or len(threads._awaited) > waiting + in_threads:
        return False
    if branches._ticking or branches.new.is_being_written():
        return False
    if branches.look is not None and not isinstance(branches.look, asyncio.TimerHandle):
        return False
    return branches.root is not None and waits(branches.root) and all(map(waits, branches.tasks))


def _attempts_that_wait(execution: Execution, other: Active) -> int:
    """How many of its attempts only wait for another run: that it executes, or that was set going by itself."""
    scopes = execution.watchers.who_await(other.run_id)
    waiting = sum(isinstance(scope, StepScope) and scope.execution is execution for scope in scopes)
    return (other.parent is execution) + waiting


def _name(active: Active) -> str:
    return f"run {active.run_id} of {active.workflow.name!r}"

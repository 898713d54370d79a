"""Steps side by side in a sync workflow: `step.submit(...)` and `step.map(items)`.

A submitted step has its place like any call; a map has one too, and a branch with a position an item. All are given
when they are called, so that any finishing order replays right. The bodies run on a bounded pool of threads of the
engine. One that waits for a run, or that calls one whose own steps are on the pool, lends its thread meanwhile.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import copy_context
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from ._clock import wait_for
from ._drive import drive
from ._effects import TOLD, Call, Decision
from ._execution import Execution
from ._model import StepRecord
from ._replay import decide_cancelled
from ._scopes import EXITS, current_branch, needing_thread, require_not_halted
from ._thread_pool import ThreadPool, seat_here
from .errors import Cancelled, Halt

R = TypeVar("R")


class StepFuture(Generic[R]):
    """A step that was submitted: its result comes when it has one."""

    def __init__(self, name: str, execution: Execution | None = None, unknown: Call | None = None) -> None:
        self._name = name
        self._execution = execution
        self._unknown = unknown
        """What was called, where the journal had no outcome of it."""
        self._reader: Execution | None = None
        """Who read its outcome in the journal."""
        self._ended = threading.Event()
        self.siblings: Siblings | None = None
        """The items of its map, which waits for all of them; `None` for a step that was submitted by itself."""
        self.place = 0
        """Which of these it is."""
        self.is_new = False
        """Whether the journal has nothing of it yet."""
        self._value: Any = None
        self.error: BaseException | None = None
        """What the step raised, once it has ended."""

    def run(self, body: Callable[[], Any]) -> "StepFuture[R]":
        """Carry out the step in this thread."""
        try:
            self._value = body()
        except BaseException as error:  # raised by `result`, in the thread that asks
            self.error = error
        finally:
            self._ended.set()
        return self

    def result(self, timeout: float | None = None) -> R:
        """Wait for the step, and return its value or raise its error; it is on disk then.

        `timeout` is in seconds; `TimeoutError` when it passes, and the step goes on.
        """
        if self._execution is not None and not self._ended.is_set():
            self._execution.journal.commits.require_not_held_here()
        try:
            if self._unknown is not None and self._execution is not None and timeout is None:
                self._execution.require_all_called(self._unknown)
            self._wait(timeout)
        except BaseException as interrupt:
            if self._execution is not None:  # the body may catch it, but it calls nothing more
                self._execution.interrupt_by(interrupt)
            raise
        if not self._ended.is_set() or (timeout is not None and self._was_cut_later()):
            msg = f"step {self._name!r} did not end within {timeout} s; it goes on"
            raise TimeoutError(msg)
        if self.error is None or isinstance(self.error, Exception):
            require_not_halted(current_branch())
        if self.error is not None:
            raise self.error
        return self._value  # type: ignore[no-any-return]

    def _was_cut_later(self) -> bool:
        """Whether the journal has it as cut with its run, and the body was told of that later, at another operation."""
        past = {} if self._reader is None else self._reader.past
        return isinstance(self.error, Cancelled) and any(step.error in TOLD for step in past.values())

    def _wait(self, patience: float | None = None) -> None:
        """While this thread of the run waits for the others without end, all of them may be waiting."""
        execution = self._execution
        if execution is None or execution.parallel is None:  # it ran in the thread that asks
            return
        threads = execution.sync_threads
        with (
            execution.parallel.awaiting(self),
            execution.step_pool.lending(),
            nullcontext() if threads is None or patience is not None else threads.resting(self._ended.is_set),
        ):
            execution.clock.wait(self._ended, None, patience)

    def __repr__(self) -> str:
        state = "pending" if not self._ended.is_set() else "failed" if self.error else "completed"
        return f"<durable.StepFuture {self._name} {state}>"


class NotWantedError(BaseException):
    """An item of a map does not begin, since another one has failed: it has no outcome, and no record."""


class Siblings:
    """The items of one map, of which each is cut where one is, and none starts after one has failed."""

    def __init__(self, are_told: bool, *, owe: bool = False) -> None:
        self.are_told = are_told
        """Whether one of them was cut by the cancellation of the run, so that the map tells the body of that."""
        self.owe = owe
        """Whether one of them has yet to be cut for that, although another one has failed before."""
        self.has_failed = False
        """Whether one of them has ended in a way that keeps others from starting."""
        self._last = -1
        self._guard = threading.Lock()

    def fail(self) -> None:
        """One of them has ended in such a way. Whatever was set going, was so before this."""
        with self._guard:
            self.has_failed = True

    def set_going(self, go: Callable[[], StepFuture[Any]]) -> StepFuture[Any] | None:
        """Set a new item going, unless one has failed."""
        with self._guard:
            return None if self.has_failed else go()

    def require_wanted(self, place: int, *, has_waited: bool) -> None:
        """An item is about to begin: raise where it had to wait for that, and another one has failed meanwhile.

        But it begins if a later one has, so that those that do are the first ones, however the threads take turns; and
        the first failure by index is the same as if all had begun.
        """
        with self._guard:
            if has_waited and self.has_failed and place > self._last:
                raise NotWantedError
            self._last = max(self._last, place)


class MapSlots:
    """How many items of a map may be set going, taken by the thread of the map and given back by any."""

    def __init__(self, free: int) -> None:
        self._free = free
        self._guard = threading.Lock()
        self.is_free = threading.Event()
        """Set when one was given back since the last that could not be taken."""

    def put(self) -> None:
        """Give one back."""
        with self._guard:
            self._free += 1
            self.is_free.set()

    def take(self) -> bool:
        """Take one, unless there is none; say whether it was taken."""
        with self._guard:
            if not self._free:
                self.is_free.clear()
                return False
            self._free -= 1
            return True


class Item(NamedTuple):
    """One item of a map: its place among them, what is decided for it, and what the journal has of it."""

    place: int
    call: Call
    decision: Decision
    past: StepRecord | None

    @property
    def has_outcome(self) -> bool:
        """Whether it is read from the journal, and needs no thread."""
        return self.past is not None and self.past.turn is not None

    @property
    def was_told(self) -> bool:
        """Whether the journal has that the cancellation of the run cut it."""
        return self.past is not None and self.past.error in TOLD


class Parallel:
    """The steps of one execution that were set going on the pool."""

    def __init__(self, execution: Execution, pool: ThreadPool) -> None:
        self._execution = execution
        self._pool = pool
        self._in_flight: dict[StepFuture[Any], None] = {}
        """In order: what has not ended. A run may call millions, of which each has what was given to it."""
        self._of_thread: dict[int, StepFuture[Any]] = {}
        """Which one each thread of the pool carries out."""
        self._awaited: StepFuture[Any] | None = None
        """Which one the body waits for."""
        self._is_body_over = False

    @contextmanager
    def awaiting(self, future: StepFuture[Any]) -> Iterator[None]:
        """While the body waits for a step."""
        self._awaited = future
        if self._execution.cancel.is_due():
            self._execution.wake()  # it may be told by this one now
        try:
            yield
        finally:
            self._awaited = None

    def is_cut(self, thread: int) -> bool:
        """Whether the cancellation of the run ends what a thread waits for.

        The body is told once: by what it waits for itself, and by a submitted step only where it waits for that one and
        has called all that the journal has; it may wait for a while, and go on to that. The items of a map tell it
        together. What is left when it has ended is cut too.
        """
        cancel, its = self._execution.cancel, self._of_thread.get(thread)
        is_due = cancel.is_due()  # first: whoever tells the body has marked its siblings before: see `told_here`
        if its is None:
            return is_due
        if its.siblings is not None and its.siblings.are_told:
            return True
        is_awaited = its.siblings is not None or its is self._awaited
        return (is_due and not self._execution.past and is_awaited) or (cancel.requested and self._is_body_over)

    def tell(self) -> None:
        """What this thread waits for tells the body, and so does what is to be cut with it."""
        mine = self._of_thread.get(threading.get_ident())
        if mine is not None and mine.siblings is not None:
            mine.siblings.are_told = True

    def require_wanted(self) -> None:
        """What this thread carries out is to be journaled: see `Siblings.require_wanted`."""
        mine = self._of_thread.get(threading.get_ident())
        if mine is not None and mine.siblings is not None and mine.is_new:
            mine.is_new, seat = False, seat_here()
            mine.siblings.require_wanted(mine.place, has_waited=seat is not None and seat.has_waited)

    def submit(self, call: Call, decision: Decision, past: StepRecord | None) -> StepFuture[Any]:
        """Set a decided step going on the pool.

        An outcome that the journal has is read at once: what is new begins when it is known to fit.
        """
        if past is not None and past.turn is not None:
            return self._read(call.callee.name, decision)
        return self._go(StepFuture(call.callee.name, self._execution, unknown=call), decision)

    def _go(
        self, future: StepFuture[Any], decision: Decision, then: Callable[[StepFuture[Any]], None] | None = None
    ) -> StepFuture[Any]:
        """Carry it out on the pool, and call `then` when it has ended."""
        context = copy_context()

        threads = self._execution.sync_threads

        def job() -> None:
            me = threading.get_ident()
            with nullcontext() if threads is None else threads.working():
                self._of_thread[me] = future
                future.run(lambda: context.run(self._begin, decision))
                if then is not None:
                    then(future)
                del self._of_thread[me]
                self._in_flight.pop(future, None)

        if threads is not None:
            threads.queue()
        self._in_flight[future] = None
        try:
            with needing_thread():
                self._pool.submit(job, under=seat_here())
        except BaseException:  # nobody carries it out
            self._in_flight.pop(future, None)
            raise
        return future

    def _begin(self, decision: Decision) -> Any:
        """Carry out a step that waited for its thread: no body begins where the run was taken down meanwhile."""
        if self._execution.halted is not None:
            raise self._execution.halted
        return drive(self._execution, decision)

    def map(self, name: str, items: list[Item], limit: int, *, return_exceptions: bool, is_told: bool) -> list[Any]:
        """Carry out the items, at most `limit` at a time; results in the order of the items.

        After a failure (unless `return_exceptions`) no item starts that the journal has not begun; those in flight, and
        those that a crash cut, end and are journaled. Then the first failure by index is raised.

        Where the cancellation of the run cuts one, it cuts all that wait, and those that the journal has begun.
        `is_told`: the run had been cancelled when one of them was called.
        """
        futures: dict[int, StepFuture[Any]] = {}
        siblings = Siblings(is_told or any(item.was_told for item in items), owe=is_told)
        slots = MapSlots(min(limit, len(items)))

        def ended(future: StepFuture[Any]) -> None:
            if future.error is not None and not (return_exceptions and isinstance(future.error, Exception)):
                siblings.fail()
            slots.put()

        try:
            for item in sorted(items, key=_how_far_from_done):
                self._take_slot(slots)
                future = self._carry_out(name, item, siblings, ended)
                if future is None:
                    slots.put()
                else:
                    futures[item.place] = future
        except BaseException as interrupt:
            self._execution.interrupt_by(interrupt)
            raise
        return _results([futures[index] for index in sorted(futures)], return_exceptions)

    def _carry_out(
        self, name: str, item: Item, siblings: Siblings, then: Callable[[StepFuture[Any]], None]
    ) -> StepFuture[Any] | None:
        """Read an item of a map, or set it going, and call `then` when it has ended; `None` where it is not wanted."""
        if item.has_outcome:
            return self._read(name, item.decision, then)
        if item.past is None and siblings.has_failed and not siblings.owe:
            return None
        self._execution.require_all_called(item.call)
        cancel = self._execution.cancel
        if cancel.is_due() or siblings.are_told:  # in this order: see `is_cut`
            siblings.are_told = cancel.delivered = True
            siblings.owe = False
            siblings.fail()
            return self._read(name, decide_cancelled(item.call, self._execution), then)
        go = partial(self._go, self._item(item, siblings), item.decision, then)
        return siblings.set_going(go) if item.past is None else go()

    def _item(self, item: Item, siblings: Siblings) -> StepFuture[Any]:
        future = StepFuture[Any](item.call.callee.name, self._execution, unknown=item.call)
        future.siblings, future.place, future.is_new = siblings, item.place, item.past is None
        return future

    def _take_slot(self, slots: "MapSlots") -> None:
        threads = self._execution.sync_threads
        while not slots.take():
            with self._pool.lending(), nullcontext() if threads is None else threads.resting(slots.is_free.is_set):
                self._execution.clock.wait(slots.is_free, None)

    def _read(
        self, name: str, decision: Decision, then: Callable[[StepFuture[Any]], None] = lambda _: None
    ) -> StepFuture[Any]:
        future = StepFuture[Any](name)
        future._reader = self._execution
        future.run(lambda: drive(self._execution, decision))
        then(future)
        return future

    def wait_for_all(self) -> None:
        """Nothing of a run happens after its outcome: wait for what the body did not wait for."""
        self._is_body_over = True
        if self._execution.cancel.requested:
            self._execution.wake()
        for future in list(self._in_flight):
            future._wait()

    def wait_for_attempts(self, deadline: float) -> None:
        """Where the run was interrupted: wait for the steps that are in flight, until a time of the monotonic clock."""
        for thread, future in list(self._of_thread.items()):
            if thread != threading.get_ident():
                wait_for(future._ended, max(0.0, deadline - self._execution.clock.monotonic()))


def _how_far_from_done(item: Item) -> int:
    """First what has an outcome, then what was begun, then the rest in order."""
    return 0 if item.has_outcome else 1 if item.past is not None else 2


def _results(futures: list[StepFuture[Any]], return_exceptions: bool) -> list[Any]:
    """All are waited for before anything is raised: those in flight end first."""
    results: list[Any] = []
    first: BaseException | None = None
    for future in futures:
        try:
            results.append(future.result())
        except NotWantedError:
            pass  # there is a failure, which is raised
        except Exception as error:
            results.append(error)
            first = first or error
        except BaseException as error:  # `Cancelled` or a `Halt`, which are no results
            if isinstance(error, EXITS) and error is not future.error:  # Ctrl-C, which struck this wait
                raise
            if not isinstance(first, Halt):  # it took the run down, and whoever catches it hears of it again
                first = error
            return_exceptions = False
    if first is not None and not return_exceptions:
        raise first
    return results

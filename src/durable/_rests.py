"""Whether all of a run waits, on timers and on signals: then a background run is suspended, and holds no thread.

A `Rest` is one wait of one run. It is known to the run while it lasts, so that a signal can end it, and so that the
record of a suspended run says when it is due. `SyncThreads` counts the threads of a sync run, and of those that it
calls; those of an async run are its tasks, and `_suspension.py` looks at them.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from ._clock import TimeLeft
from .errors import RunInterruptedError

if TYPE_CHECKING:
    from ._execution import Execution
    from ._transaction import Transaction

LONG_SECONDS: Final = 1.0
"""A wait that is longer is not held in memory, in a background run."""


class Rest:
    """One wait: until a time, for a signal, or for the end of a child; `wake` ends it early, from any thread.

    `left` is the time that it waits still, `None` where it does so for any time.
    """

    __slots__ = ("child", "left", "signal", "wake")

    def __init__(
        self,
        wake: Callable[[], None],
        left: TimeLeft | None = None,
        signal: str | None = None,
        child: str | None = None,
    ) -> None:
        self.wake = wake
        self.left = left
        self.signal = signal
        self.child = child


@contextmanager
def known_rest(execution: "Execution", rest: Rest) -> Iterator[None]:
    """A wait that others can end, and that is written down when the run is suspended."""
    execution.rests[rest] = None
    try:
        yield
    finally:
        execution.rests.pop(rest, None)


class Suspended(RunInterruptedError):  # noqa: N818 - a state, and nothing that went wrong
    """Takes an execution down that waits for long: it goes on when it is due, or when what it waits for has come.

    `wake_at` is seconds since the Unix epoch, `None` where no timer runs.
    """

    def __init__(self, message: str, wake_at: float | None, signals: frozenset[str], children: frozenset[str]) -> None:
        super().__init__(message)
        self.wake_at = wake_at
        self.signals = signals
        self.children = children

    def are_over(self, transaction: "Transaction", execution: "Execution") -> bool:
        """Whether something came that the run waits for before the file had it that it waits."""
        seq = execution.record.seq
        return (
            any(transaction.messages(seq, "signal", name) for name in self.signals)
            or any(map(transaction.has_finished, self.children))
            or (not execution.cancel.delivered and bool(transaction.messages(seq, "cancel")))
        )


def suspend(executions: "list[Execution]") -> None:
    """Take executions down whose every thread or task rests: a run and those that it calls, these before it."""
    for execution in reversed(executions):
        _suspend(execution, [each.record.id for each in executions if each.parent is execution])


def _suspend(execution: "Execution", called: list[str]) -> None:
    rests = list(execution.rests)
    due = [rest.left.until() for rest in rests if rest.left is not None]
    if execution.record.deadline is not None and not execution.cancel.delivered:
        due.append(execution.record.deadline)
    execution.halt(
        Suspended(
            f"run {execution.record.id} of {execution.record.workflow!r} waits, and is suspended",
            min(due, default=None),
            frozenset(rest.signal for rest in rests if rest.signal is not None),
            frozenset([*called, *(rest.child for rest in rests if rest.child is not None)]),
        )
    )


def is_long(executions: "list[Execution]") -> bool:
    """Whether these wait for something, and for nothing that is due soon."""
    rests = [rest for execution in executions for rest in list(execution.rests)]
    return bool(rests) and all(rest.left is None or rest.left.seconds() > LONG_SECONDS for rest in rests)


class SyncThreads:
    """The threads of a sync background run, and of the runs that it calls in them."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._at_work = {threading.get_ident()}
        self._queued = 0
        self._waiting: dict[int, Callable[[], bool]] = {}
        """By thread: whether what it waits for has come, and it is about to go on."""
        self.executions: list[Execution] = []
        """The run and those that it has called and that have not ended, in this order."""

    @contextmanager
    def resting(self, has_come: Callable[[], bool]) -> Iterator[None]:
        """While this thread waits. The last one suspends the run. Only threads that are known here count.

        Whoever goes on looks afterwards whether the run was suspended: it was so before, or is not.
        """
        me = threading.get_ident()
        with self._guard:
            known = me in self._at_work
            if known:
                self._at_work.remove(me)
                self._waiting[me] = has_come
                self._suspend_if_all_wait()
        try:
            yield
        finally:
            if known:
                with self._guard:
                    del self._waiting[me]
                    self._at_work.add(me)

    def queue(self) -> None:
        """A step was submitted: until a thread takes it, something of the run is at work."""
        with self._guard:
            self._queued += 1

    @contextmanager
    def working(self) -> Iterator[None]:
        """While a thread of the pool carries out a step that was submitted."""
        me = threading.get_ident()
        with self._guard:
            self._queued -= 1
            self._at_work.add(me)
        try:
            yield
        finally:
            with self._guard:
                self._at_work.discard(me)
                self._suspend_if_all_wait()

    def _suspend_if_all_wait(self) -> None:
        if self._at_work or self._queued or any(has_come() for has_come in self._waiting.values()):
            return
        if is_long(self.executions):
            suspend(self.executions)

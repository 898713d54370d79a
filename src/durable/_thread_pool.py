"""Daemon threads that are used again: bodies with a timeout, and background runs on a bounded number of them.

And those that an engine has as long as it is open. Not `concurrent.futures`: its exit hook waits for ever for a body
that hangs.
"""

import contextlib
import heapq
import itertools
import os
import threading
from collections.abc import Callable, Iterator

from ._clock import interrupt_in
from .errors import EngineClosedError

_IDLE_SECONDS = 10.0
_here = threading.local()
"""The seat of the job that the current thread carries out."""


class Seat:
    """The place of a job in its pool. It is lent, once, while the job or what it has submitted waits for a run."""

    __slots__ = ("_guard", "_pool", "_waiting", "depth", "has_waited", "under")

    def __init__(self, pool: "ThreadPool", under: "Seat | None" = None) -> None:
        self._pool = pool
        self._waiting = 0
        self._guard = threading.Lock()
        self.under = under
        """That of the job which has submitted this one, and waits for it in the end."""
        self.depth: int = 0 if under is None else under.depth + (under.is_of(pool))
        """How many jobs of the same pool wait for this one."""
        self.has_waited = False
        """Whether all threads had a job when this one came, or its step had no slot at once."""

    def is_of(self, pool: "ThreadPool") -> bool:
        """Whether it is one of this pool's."""
        return self._pool is pool

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """While the job, or one under which it is the seat, waits."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, waiting: int) -> None:
        with self._guard:
            was_lent = self._waiting > 0
            self._waiting += waiting
            if was_lent != (self._waiting > 0):
                self._pool._grow(waiting)


def seat_here() -> Seat | None:
    """The seat that is held up while this thread waits; `None` in a thread that no engine has made."""
    return getattr(_here, "seat", None)


@contextlib.contextmanager
def lending() -> Iterator[None]:
    """While this thread waits for a run, which may need a thread: its pool may have one more.

    So may that of the job which has submitted what runs here, and will wait for it, or does so already.
    """
    with contextlib.ExitStack() as lent:
        seat = seat_here()
        while seat is not None:
            lent.enter_context(seat.lent())
            seat = seat.under
        yield


class ThreadPool:
    """At most `size` daemon threads (`None`: as many as there is work), which end when idle for a while."""

    def __init__(self, name: str, size: int | None) -> None:
        self._name = name
        self._size = size
        self._jobs: list[tuple[int, int, Callable[[], None], Seat]] = []
        """A heap: the deepest first, and of these the first that came."""
        self._number = itertools.count()
        self._change = threading.Condition()
        self._threads = 0
        self._idle = 0
        self._idle_seconds = _IDLE_SECONDS
        self.at_work: set[int] = set()
        """The threads that have a job."""

    def submit(self, job: Callable[[], None], *, depth: int = 0, under: Seat | None = None) -> None:
        """Run `job`, which must not raise, as soon as a thread is free: in order, but the deepest before all others.

        `depth`: how many others may be waiting for it. `under`: who has submitted it, and waits for it in the end.
        Where it takes a thread that cannot be made it is forgotten; raises `EngineClosedError` if the program ends.
        """
        seat = Seat(self, under)
        with self._change:
            if self._idle > len(self._jobs):
                self._change.notify()
            elif self._size is None or self._threads < self._size:
                self._spawn()
            else:
                seat.has_waited = True
            heapq.heappush(self._jobs, (-depth - seat.depth, next(self._number), job, seat))

    @contextlib.contextmanager
    def lending(self) -> Iterator[None]:
        """While a thread of this pool waits for another job of it: the pool may have one more."""
        seat = seat_here()
        with contextlib.nullcontext() if seat is None or not seat.is_of(self) else seat.lent():
            yield

    def _grow(self, threads: int) -> None:
        with self._change:
            if self._size is not None:
                self._size += threads
                if self._jobs and threads > 0:
                    with contextlib.suppress(EngineClosedError):  # the program ends: they wait for what threads it has
                        self._spawn()

    def _spawn(self) -> None:
        self._threads += 1
        try:
            threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()
        except RuntimeError as error:
            if (interrupt := interrupt_in(error)) is not None:  # in the wait for the thread, which is there
                raise interrupt from None
            self._threads -= 1
            if threading.main_thread().is_alive():
                raise
            msg = "the program ends, and no thread can be made any more"
            raise EngineClosedError(msg) from error

    def is_busy(self, idle: set[int]) -> bool:
        """Whether a thread is at work, or about to be, when those in `idle` only wait."""
        with self._change:
            return not self.at_work <= idle or bool(self._jobs and not self.is_full())

    def is_full(self) -> bool:
        """Whether all the threads that it may have are at work."""
        return self._size is not None and len(self.at_work) >= self._size

    def clear(self) -> None:
        """Forget the jobs that no thread has begun."""
        with self._change:
            self._jobs.clear()

    def end(self) -> None:
        """Keep no thread that has nothing to do."""
        with self._change:
            self._idle_seconds = 0.0
            self._change.notify_all()

    def _work(self) -> None:
        while True:
            with self._change:
                if self._size is not None and self._threads > self._size:  # it was lent one, which is no longer needed
                    self._threads -= 1
                    return
                while not self._jobs:
                    self._idle += 1
                    notified = self._change.wait(self._idle_seconds)
                    self._idle -= 1
                    if not notified and not self._jobs:
                        self._threads -= 1
                        return
                *_, job, _here.seat = heapq.heappop(self._jobs)
                self.at_work.add(threading.get_ident())
            job()
            self.at_work.discard(threading.get_ident())
            del job, _here.seat  # else an idle thread keeps the last run alive


class LastingThread(threading.Thread):
    """A daemon thread that an engine has from when it needs it until it is closed."""

    def __init__(self, target: Callable[[], None], name: str) -> None:
        super().__init__(target=target, name=name, daemon=True)
        self._has_begun = False

    def begin(self) -> None:
        """Begin, unless it has. Where no thread can be made just now that is a `RuntimeError`, and no end of it."""
        if self._has_begun:
            return
        self._has_begun = True  # first: where Ctrl-C strikes in the wait for the thread, it is there
        try:
            self.start()
        except RuntimeError as error:
            if (interrupt := interrupt_in(error)) is not None:
                raise interrupt from None
            self._has_begun = False
            raise

    def wait(self, seconds: float) -> None:
        """Wait until it has ended, as it was told to: at most so long, and not in itself."""
        if self.is_alive() and threading.current_thread() is not self:
            self.join(seconds)


_bodies = ThreadPool("durable-body", None)


def _begin_anew() -> None:
    global _bodies  # noqa: PLW0603 - the threads of the parent are not there in a child of `fork`
    _bodies = ThreadPool("durable-body", None)


os.register_at_fork(after_in_child=_begin_anew)


def run_in_helper(body: Callable[[], None]) -> None:
    """Run `body`, which must not raise, in a thread of its own: this one waits for it, and is lent where it waits."""
    _bodies.submit(body, under=seat_here())

"""Daemon threads that are used again: bodies with a timeout, and background runs on a bounded number of them.

Not `concurrent.futures`: its exit hook waits for ever for a body that hangs.
"""

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator

_IDLE_SECONDS = 10.0
_here = threading.local()
"""Which pool the current thread is of."""


class ThreadPool:
    """At most `size` daemon threads (`None`: as many as there is work), which end when idle for a while."""

    def __init__(self, name: str, size: int | None) -> None:
        self._name = name
        self._size = size
        self._jobs: deque[Callable[[], None]] = deque()
        self._change = threading.Condition()
        self._threads = 0
        self._idle = 0
        self.at_work: set[int] = set()
        """The threads that have a job."""

    def submit(self, job: Callable[[], None], *, first: bool = False) -> None:
        """Run `job`, which must not raise, as soon as a thread is free: in order, or before all others."""
        with self._change:
            if first:
                self._jobs.appendleft(job)
            else:
                self._jobs.append(job)
            if self._idle >= len(self._jobs):
                self._change.notify()
            elif self._size is None or self._threads < self._size:
                self._spawn()

    @contextlib.contextmanager
    def lending(self) -> Iterator[None]:
        """While a thread of this pool waits for what may need one: the pool may have one more."""
        mine = getattr(_here, "pool", None) is self
        if mine:
            self._grow(1)
        try:
            yield
        finally:
            if mine:
                self._grow(-1)

    def _grow(self, threads: int) -> None:
        with self._change:
            if self._size is not None:
                self._size += threads
                if self._jobs and threads > 0:
                    self._spawn()

    def _spawn(self) -> None:
        self._threads += 1
        threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()

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

    def _work(self) -> None:
        _here.pool = self
        while True:
            with self._change:
                if self._size is not None and self._threads > self._size:  # it was lent one, which is no longer needed
                    self._threads -= 1
                    return
                while not self._jobs:
                    self._idle += 1
                    notified = self._change.wait(_IDLE_SECONDS)
                    self._idle -= 1
                    if not notified and not self._jobs:
                        self._threads -= 1
                        return
                job = self._jobs.popleft()
                self.at_work.add(threading.get_ident())
            job()
            self.at_work.discard(threading.get_ident())
            del job  # else an idle thread keeps the last run alive


_bodies = ThreadPool("durable-body", None)


def _begin_anew() -> None:
    global _bodies  # noqa: PLW0603 - the threads of the parent are not there in a child of `fork`
    _bodies = ThreadPool("durable-body", None)


os.register_at_fork(after_in_child=_begin_anew)


def run_in_helper(body: Callable[[], None]) -> None:
    """Run `body`, which must not raise, in a thread of its own."""
    _bodies.submit(body)

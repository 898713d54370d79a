"""Daemon threads that are used again: bodies with a timeout, and background runs on a bounded number of them.

Not `concurrent.futures`: its exit hook waits for ever for a body that hangs.
"""

import os
import threading
from collections import deque
from collections.abc import Callable

_IDLE_SECONDS = 10.0


class ThreadPool:
    """At most `size` daemon threads (`None`: as many as there is work), which end when idle for a while."""

    def __init__(self, name: str, size: int | None) -> None:
        self._name = name
        self._size = size
        self._jobs: deque[Callable[[], None]] = deque()
        self._change = threading.Condition()
        self._threads = 0
        self._idle = 0

    def submit(self, job: Callable[[], None]) -> None:
        """Run `job`, which must not raise, as soon as a thread is free; in the order of submission."""
        with self._change:
            self._jobs.append(job)
            if self._idle >= len(self._jobs):
                self._change.notify()
            elif self._size is None or self._threads < self._size:
                self._threads += 1
                threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()

    def clear(self) -> None:
        """Forget the jobs that no thread has begun."""
        with self._change:
            self._jobs.clear()

    def _work(self) -> None:
        while True:
            with self._change:
                while not self._jobs:
                    self._idle += 1
                    notified = self._change.wait(_IDLE_SECONDS)
                    self._idle -= 1
                    if not notified and not self._jobs:
                        self._threads -= 1
                        return
                job = self._jobs.popleft()
            job()
            del job  # else an idle thread keeps the last run alive


_bodies = ThreadPool("durable-body", None)


def _begin_anew() -> None:
    global _bodies  # noqa: PLW0603 - the threads of the parent are not there in a child of `fork`
    _bodies = ThreadPool("durable-body", None)


os.register_at_fork(after_in_child=_begin_anew)


def run_in_helper(body: Callable[[], None]) -> None:
    """Run `body`, which must not raise, in a thread of its own."""
    _bodies.submit(body)

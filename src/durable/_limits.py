"""How many executions of a step or a workflow run at a time in one engine: `concurrency=4`. Served in order."""

import threading
from collections import deque
from collections.abc import Callable

Granted = Callable[[], None]


class Limit:
    """So many slots. A slot is given to the one who has waited longest."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: deque[Granted] = deque()
        self._guard = threading.Lock()

    def request(self, granted: Granted, *, first: bool = False) -> None:
        """Call `granted`, from any thread, once there is a slot; at once where one is free.

        `first`: before all others, for one who had a slot and lent it.
        """
        with self._guard:
            if not self._free:
                (self._waiting.appendleft if first else self._waiting.append)(granted)
                return
            self._free -= 1
        granted()

    def withdraw(self, granted: Granted) -> bool:
        """Wait no longer; `False` where the slot has been given already, and is to be released."""
        with self._guard:
            if granted not in self._waiting:
                return False
            self._waiting.remove(granted)
            return True

    def release(self) -> None:
        """Give a slot back."""
        with self._guard:
            if not self._waiting:
                self._free += 1
                return
            granted = self._waiting.popleft()
        granted()


class Limits:
    """The limits of one engine, by kind and name of what is limited."""

    def __init__(self) -> None:
        self._limits: dict[tuple[str, str], Limit] = {}
        self._guard = threading.Lock()

    def of(self, kind: str, name: str, size: int) -> Limit:
        """The limit of a step or a workflow; the first who asks sets its size."""
        with self._guard:
            return self._limits.setdefault((kind, name), Limit(size))

"""How many executions of a step or a workflow run at a time in one engine: `concurrency=4`. Served in order."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

Granted = Callable[[], None]


class Slots(Protocol):
    """What gives slots."""

    def request(self, granted: Granted, *, first: bool = False) -> None: ...
    def withdraw(self, granted: Granted) -> bool: ...
    def release(self) -> None: ...


class Limit:
    """So many slots. A slot is given to the one who has waited longest."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: OrderedDict[Granted, None] = OrderedDict()
        self._guard = threading.Lock()

    def request(self, granted: Granted, *, first: bool = False) -> None:
        """Call `granted`, from any thread, once there is a slot; at once where one is free.

        `first`: before all others, for one who had a slot and lent it.
        """
        with self._guard:
            if not self._free:
                self._waiting[granted] = None
                self._waiting.move_to_end(granted, last=not first)
                return
            self._free -= 1
        granted()

    def withdraw(self, granted: Granted) -> bool:
        """Wait no longer; `False` where the slot has been given already, and is to be released."""
        with self._guard:
            found = granted in self._waiting
            self._waiting.pop(granted, None)
            return found

    def release(self) -> None:
        """Give a slot back."""
        with self._guard:
            if not self._waiting:
                self._free += 1
                return
            granted, _ = self._waiting.popitem(last=False)
        granted()


class Holder(Protocol):
    """Who has a slot, or none."""

    release_slot: Callable[[], None] | None

    def give_slot_back(self) -> None: ...
    def is_over(self) -> bool: ...


class Loan:
    """The slot of a run, lent while any of its tasks or threads waits for another run, which may need it.

    The last of them asks for it again, for all. To those who come back it gives slots, as a `Limit` does; what they get
    belongs to the run.
    """

    __slots__ = ("_guard", "_holder", "_is_asked_for", "_limit", "_returning", "_waiting")

    def __init__(self, holder: Holder, limit: Limit) -> None:
        self._holder = holder
        self._limit = limit
        self._waiting = 0
        self._returning: list[Granted] = []
        self._is_asked_for = False
        self._guard = threading.Lock()

    def begin(self) -> None:
        """One more begins to wait."""
        with self._guard:
            self._waiting += 1
        self._holder.give_slot_back()

    def request(self, granted: Granted, *, first: bool = True) -> None:
        """One has waited, and goes on: once the run has its slot again, or at once where others wait still."""
        with self._guard:
            self._waiting -= 1
            goes_on = self._waiting > 0 or self._holder.release_slot is not None
            asks = not goes_on and not self._is_asked_for
            if not goes_on:
                self._returning.append(granted)
                self._is_asked_for = True
        if goes_on:
            granted()
        elif asks:
            self._limit.request(self._arrived, first=first)

    def withdraw(self, granted: Granted) -> bool:
        """Go on without it; `False` where that has been granted already."""
        with self._guard:
            if granted not in self._returning:
                return False
            self._returning.remove(granted)
            return True

    def release(self) -> None:
        """The slot stays with the run."""

    def _arrived(self) -> None:
        with self._guard:
            returning, self._returning, self._is_asked_for = self._returning, [], False
            is_kept = bool(returning) and not self._waiting
            if is_kept:
                self._holder.release_slot = self._limit.release
        if not is_kept:
            self._limit.release()
        elif self._holder.is_over():  # who comes back was left behind by an attempt or a task that was given up
            self._holder.give_slot_back()
        for granted in returning:
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

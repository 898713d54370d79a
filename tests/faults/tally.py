"""What the trials of a row have seen."""

import time
from collections import Counter
from typing import Any


class EnoughError(Exception):
    """A fault was found, and one is enough; or there is no time for another trial."""


class Tally:
    """Counts trials, facts and faults; keeps how to repeat the first few faults."""

    one_is_enough = False
    """Whether to stop at the first fault: where a guard is switched off."""

    def __init__(self) -> None:
        self.trials = 0
        self.facts: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.how: list[str] = []

    deadline = float("inf")
    """When no further trial is begun, by the monotonic clock."""

    def begin(self) -> None:
        """Count a trial."""
        if time.monotonic() > self.deadline:
            raise EnoughError(self)
        self.trials += 1

    def fault(self, kind: str, how: object) -> None:
        self.faults[kind] += 1
        if self.faults[kind] <= 2 and len(self.how) < 12:
            self.how.append(f"{kind}: {how}")
        if self.one_is_enough:
            raise EnoughError(self)

    def as_json(self) -> dict[str, Any]:
        return {"trials": self.trials, "facts": dict(self.facts), "faults": dict(self.faults), "how": self.how}

"""What the trials of a row have seen."""

from collections import Counter
from typing import Any


class FirstFaultError(Exception):
    """A fault was found, and one is enough."""


class Tally:
    """Counts trials, facts and faults; keeps how to repeat the first few faults."""

    one_is_enough = False
    """Whether to stop at the first fault: where a guard is switched off."""

    def __init__(self) -> None:
        self.trials = 0
        self.facts: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.how: list[str] = []

    def fault(self, kind: str, how: object) -> None:
        self.faults[kind] += 1
        if self.faults[kind] <= 2 and len(self.how) < 12:
            self.how.append(f"{kind}: {how}")
        if self.one_is_enough:
            raise FirstFaultError(self)

    def as_json(self) -> dict[str, Any]:
        return {"trials": self.trials, "facts": dict(self.facts), "faults": dict(self.faults), "how": self.how}

"""Failed attempts that were acknowledged, and whether the journal has them. Declares no workflows, so that tests may import it."""

import json
from collections import Counter
from typing import Any


def lost_failures(steps: list[Any], notes: list[Any]) -> list[str]:
    """A failure is acknowledged when the next attempt begins, unless the run was stopped in between, and set going anew."""
    failed: set[str] = set()
    acknowledged: Counter[str] = Counter()
    for word, *rest in notes:
        if word in {"life", "resumed"}:
            failed.clear()
        elif word == "fail":
            failed.add(rest[0])
        elif word == "start" and rest[0] in failed:
            failed.discard(rest[0])
            acknowledged[rest[0]] += 1
    there: Counter[str] = Counter()
    for step in steps:
        there[label_of(step.input)] = max(step.failures, there[label_of(step.input)])
    return ["failed attempts lost"] * any(count > there[label] for label, count in acknowledged.items())


def label_of(text: str | None) -> str:
    found = json.loads(text or "{}")
    label = found.get("label") or found.get("item", [""])
    return label if isinstance(label, str) else str(label[0])

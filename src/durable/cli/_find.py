"""Which run an id, or the beginning of one, means; which of its operations a place or a name."""

import re
from typing import Final

from durable._model import RunRecord, StepRecord, in_order, operation_number
from durable.cli._reader import Reader
from durable.errors import RunNotFoundError

_MOST_CANDIDATES: Final = 10


class AmbiguousIdError(RunNotFoundError):
    """Several ids begin like this."""


def find(reader: Reader, wanted: str, path: str) -> RunRecord:
    """The run of an id, or the only one whose id begins so. `RunNotFoundError` says what to try."""
    if not _can_be_an_id(wanted):
        raise _not_found(wanted, path)
    exact = reader.run(wanted)
    if exact is not None:
        return exact
    candidates = reader.runs_by_prefix(wanted, _MOST_CANDIDATES + 1)
    if not candidates:
        raise _not_found(wanted, path)
    if len(candidates) > 1:
        raise _ambiguous(wanted, candidates, path)
    return candidates[0]


def _can_be_an_id(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8, typed by accident
        return False
    return True


def _not_found(wanted: str, path: str) -> RunNotFoundError:
    msg = f"no run in {path} has the id {wanted!r}, or one that begins so: durable ls lists them"
    return RunNotFoundError(msg)


def _ambiguous(wanted: str, candidates: list[RunRecord], path: str) -> AmbiguousIdError:
    lines = [f"  {run.id}  {run.workflow}" for run in candidates[:_MOST_CANDIDATES]]
    if len(candidates) > _MOST_CANDIDATES:
        lines.append("  … and more")
    first = f"several runs in {path} have an id that begins with {wanted!r}: give more letters"
    return AmbiguousIdError("\n".join([first, *lines]))


# -- of one run -------------------------------------------------------------------------------------------------------


def find_step(every: list[StepRecord], run: RunRecord, wanted: str, path: str) -> StepRecord:
    """The operation of a number, which counts from 1 as `durable show` does; at a place; or the only one of a name."""
    place = re.fullmatch(r"(?:(.+) )?(-?[0-9]+)", wanted)
    if place is None:
        found = [step for step in every if step.name == wanted]
    elif place[1]:
        found = [step for step in every if (step.branch, step.position) == (place[1], int(place[2]))]
    else:
        found = in_order(every)[int(place[2]) - 1 : int(place[2])] if int(place[2]) > 0 else []
    if len(found) == 1:
        return found[0]
    if found:
        which = ", ".join(str(number_of(step, every)) for step in found[:_MOST_CANDIDATES])
        msg = f"run {run.id} in {path} has {len(found)} steps called {wanted!r}: say which, by its number: {which}"
    else:
        msg = f"run {run.id} in {path} has no step {wanted!r}: durable show {run.id} lists them, with their numbers"
    raise RunNotFoundError(msg)


def number_of(step: StepRecord, every: list[StepRecord]) -> int:
    """Which one it is of those that `durable show` numbers."""
    return operation_number(every, (step.branch, step.position))

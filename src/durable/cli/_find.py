"""Which run an id, or the beginning of one, means; which of its operations a place or a name."""

import re
from collections.abc import Callable
from typing import Final

from durable._model import RunRecord, StepRecord
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


def place_of(step: StepRecord) -> str:
    """Where an operation stands, as `durable show` has it: `2`, or `/fetch:1 0`."""
    return f"{step.branch} {step.position}".lstrip()


def find_step(
    steps: list[StepRecord],
    run: RunRecord,
    wanted: str,
    path: str,
    *,
    by: str = "place",
    written: Callable[[StepRecord], str] = place_of,
) -> StepRecord:
    """The operation at a place, or the only one of a name. `by`, `written`: how several of a name are told apart."""
    place = re.fullmatch(r"(?:(.+) )?(-?[0-9]+)", wanted)
    if place is not None:
        branch, position = place[1] or "", int(place[2])
        found = [step for step in steps if (step.branch, step.position) == (branch, position)]
    else:
        found = [step for step in steps if step.name == wanted]
    if len(found) == 1:
        return found[0]
    if found:
        which = ", ".join(map(written, found[:_MOST_CANDIDATES]))
        msg = f"run {run.id} in {path} has {len(found)} steps called {wanted!r}: say which, by its {by}: {which}"
    else:
        msg = f"run {run.id} in {path} has no step {wanted!r}: durable show {run.id} lists them, with their places"
    raise RunNotFoundError(msg)

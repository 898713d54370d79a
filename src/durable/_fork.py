"""What a fork of a run takes over from it: what it did before an operation, less what came of others. Pure.

As in `_going_back.py`, what came of what is told by when each was called.
"""

from math import inf

from ._effects import CUT
from ._going_back import came_at
from ._model import HIDDEN_KINDS, TIMER, RunRecord, StepRecord, as_called


def taken_over(record: RunRecord, every: list[StepRecord], from_step: int) -> list[StepRecord]:
    """The operations before `from_step`, counted from 1, less what came of others; with what is hidden around them.

    One that has no outcome is done anew, wherever it stands. `ValueError` where there is no such operation, or none
    before it has an outcome.
    """
    by_place = {(step.branch, step.position): step for step in every}
    every = as_called(every)
    steps = [step for step in every if step.kind not in HIDDEN_KINDS]
    done = [number for number, step in enumerate(steps, 1) if step.turn is not None]
    most = done[-1] + 1 if done else 1
    if not 1 <= from_step <= most:
        msg = f"from_step is from 1 to {most} for run {record.id}, which has {len(done)} finished operations"
        raise ValueError(msg)
    before, first = steps[: from_step - 1], steps[from_step - 1 : from_step]
    taken = [step for step in before if step.turn is not None]
    left = steps[from_step - 1 :] + [step for step in before if step.turn is None]
    taken = _without_needless_cancellation(_without_what_came_after(left, taken))
    newest = max((step.started_at for step in taken), default=0.0)
    last = max((step.finished_at or 0.0 for step in taken), default=0.0)
    until = min(last, _first_end(left))
    called = every[: every.index(first[0])] if first else every
    marks = [step for step in called if step.kind == "map" and step.started_at <= newest]
    timers = [step for step in every if step.kind == TIMER and step.started_at <= until]
    return [by_place[step.branch, step.position] for step in marks + timers + taken]


def _without_what_came_after(left: list[StepRecord], taken: list[StepRecord]) -> list[StepRecord]:
    """What is taken over, but what came of those that are `left`: it began, or was cut, when one of them had ended."""
    if not left:
        return taken
    part = left[0].branch  # the one that is taken over in part: what is called first in it stands first
    in_others = _first_end([step for step in left if step.branch != part])
    in_any = _first_end(left)
    return [
        step for step in taken if came_at(step) < (in_others if step.branch == part and step.error != CUT else in_any)
    ]


def _without_needless_cancellation(taken: list[StepRecord]) -> list[StepRecord]:
    """That a run was cancelled is taken over with what it did because of that, and not alone."""
    told = next((step for step in taken if step.kind == "cancel"), None)
    if told is None or any(came_at(step) > told.started_at for step in taken if step is not told):
        return taken
    return [step for step in taken if step is not told]


def _first_end(steps: list[StepRecord]) -> float:
    return min((step.finished_at or inf for step in steps if step.turn is not None), default=inf)

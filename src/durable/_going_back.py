"""Going back: what of a run is done again when it is retried. Pure.

A journal says where each operation was called, and when, and not why. So this asks what came after what: on the same
branch, on one that this branch is a part of, in a branch that began later. Where the code seems to have gone on after a
failure, a retry is refused and names `fork`: to go on with what does not fit would block the run.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from heapq import nlargest
from itertools import chain
from math import inf
from typing import Any, Final, NamedTuple

from ._effects import CUT
from ._identity import runs_called
from ._model import END, PASSED, RAISED_AT, TIMER, WENT_ON, RunRecord, StepRecord, around, as_called, operation_number
from ._replay import describe, place
from .errors import RunConflictError

_IS_MAP: Final = re.compile(r"\[\]:\d+$")
_NEVER: Final = (0.0, 0)


class Again(NamedTuple):
    """What a retry does again."""

    steps: list[StepRecord]
    """Operations of the run itself."""
    children: list[RunRecord]
    """Runs that failed, and it with them."""


def to_repeat(record: RunRecord, steps: list[StepRecord], children: list[RunRecord]) -> Again:
    """The failed operations after which nothing else was journaled on their branch, or on one that it is a part of.

    And what the code cut because of them, and those of `children` that failed, and the run with them: it called them,
    or started them and heard of it. Where the run failed with what it went on after (it caught or compensated that), or
    nothing else failed, going on would undo what came later: `RunConflictError`. So it is where a child would be called
    again and was cancelled, which is an end for good.
    """
    steps = as_called(steps)
    told = next((step for step in steps if step.kind == "cancel"), None)
    if told is not None:  # an async run whose time was up: one that was cancelled has ended for good
        cut = _cut_when_told(record, told, steps)
        return Again([told, *cut], _failed_children(record, cut, children, steps))
    others = [step for step in steps if step.kind != TIMER or step.name == END]
    fired = _Timeouts(_fired([step for step in steps if step.kind == TIMER and step.name != END], others))
    failed = [step for step in others if step.status == "failed"]
    went_on = _went_on_in(record)
    last = [step for step in _last(failed, others) if not _is_passed(step, went_on)]
    raised = _raised(record, failed)
    started = _failed_starts(record, others, children, raised.intersection(last))
    raised.update(started)
    passed = _passed_by(record)
    beside = [step for step in started if _started(step) not in passed]
    last += _last(beside, [step for step in others if step.kind not in {"start", TIMER}])  # runs start side by side
    outlived = _outlived(record, others)
    caught = _caught(raised, others, outlived)
    causes = [step for step in last if step.error != CUT and not caught(step)]
    since = min(map(_ended, causes), default=inf)
    cut = [step for step in last if step.error == CUT and (not causes or _ended(step) >= since)]
    repeated = [*causes, *cut]
    dropped = fired.that_may_have_cut(cut)
    places = {(step.branch, step.position) for step in repeated}
    kept = [step for step in others if (step.branch, step.position) not in places]
    timers = [timeout.timer for timeout in fired.timeouts]
    heard = _heard_last(since, [*kept, *timers]) if any(map(_started, causes)) else set()
    kept = [step for step in kept if step not in heard]
    is_passed = bool(raised) and raised.isdisjoint(last)
    is_undone = any(map(outlived, causes)) or _is_compensated(record, since, dropped, kept, others, fired)
    if (failed or started) and (not repeated or is_passed or is_undone):
        first = max(raised, key=_came_to_end) if is_passed else (causes or failed)[0]
        what = f"{_subject(first)} failed at {place(first)} (it caught or compensated the failure)"
        raise _went_on(record, what, operation_number(steps, (first.branch, first.position)))
    failed_children = _failed_children(record, repeated, children, steps)
    own = [step for step in repeated if not _started(step)]
    return Again([*own, *(timeout.timer for timeout in dropped), *heard], failed_children)


def _last(failed: list[StepRecord], steps: list[StepRecord]) -> list[StepRecord]:
    """Those that none of `steps` came after."""
    latest, begun = _latest(steps), _begun(steps)
    return [step for step in failed if not _went_on_after(step, latest) and begun.get(step.branch, 0.0) <= _ended(step)]


def _raised(record: RunRecord, failed: list[StepRecord]) -> set[StepRecord]:
    """The operations with whose failure the run failed: by itself, as a cause, or in a group."""
    of_run = set(_errors_in(record.error))
    return {step for step in failed if step.error != CUT and not of_run.isdisjoint(_errors_in(step.error))}


def _failed_starts(
    record: RunRecord, steps: list[StepRecord], children: list[RunRecord], raised: set[StepRecord]
) -> list[StepRecord]:
    """Where it started a run that failed, and failed with that and with none that it `raised`: as if the start had.

    When it heard of it, the journal does not say: when that one had ended, or later.
    """
    left = set(_errors_in(record.error)).difference(*(_errors_in(step.error) for step in raised))
    failed = {
        child.id: child
        for child in children
        if child.status == "failed" and not left.isdisjoint(_errors_in(child.error))
    }
    found = ((step, failed.get(_started(step))) for step in steps)
    return [
        step._replace(status="failed", error=child.error, finished_at=child.finished_at, turn=None)
        for step, child in found
        if child is not None
    ]


def _started(step: StepRecord) -> str:
    """The id of the run that it started, "" where it is nothing of this kind."""
    return json.loads(step.output) if step.kind == "start" and step.output else ""


def _failed_children(
    record: RunRecord, repeated: list[StepRecord], children: list[RunRecord], steps: list[StepRecord]
) -> list[RunRecord]:
    """The runs that failed and took this one with them: called by what is attempted again, or started.

    `RunConflictError` where one was cancelled.
    """
    called = {child.id: child for child in runs_called(record, repeated, children).values()}
    for child in called.values():
        if child.status == "cancelled":
            number = min(operation_number(steps, (each.branch, each.position)) for each in repeated)
            msg = (
                f"run {record.id} of {record.workflow!r} called run {child.id} of {child.workflow!r}, which was "
                f"cancelled, and would get that again: run.fork(from_step={number}), or durable fork {record.id} "
                f"--from-step {number}, starts a new run, with children of its own"
            )
            raise RunConflictError(msg)
    return [child for child in children if child.id in called and child.status == "failed"]


def _heard_last(since: float, steps: list[StepRecord]) -> set[StepRecord]:
    """That runs ended, where no outcome that stays came after it: to be heard of anew when they have ended anew."""
    newest = max((step.turn or 0 for step in steps if step.name != END or step.kind != TIMER), default=0)
    ends = (step for step in steps if step.name == END and step.kind == TIMER)
    return {step for step in ends if (step.turn or 0) > newest and step.started_at >= since}


def _subject(failed: StepRecord) -> str:
    return f"the run of workflow {failed.name!r} that it started" if _started(failed) else describe(failed)


def _cut_when_told(record: RunRecord, told: StepRecord, steps: list[StepRecord]) -> list[StepRecord]:
    """What was under way when the run was told that its time is up; `RunConflictError` where it did more after that."""
    after = [
        step for step in steps if came_at(step) >= told.started_at and (not step.turn or step.turn > (told.turn or 0))
    ]
    cut = [step for step in after if step.error == CUT and step.started_at <= told.started_at]
    if len(cut) < len(after):
        first = min((step for step in after if step not in cut), key=came_at)
        what = f"its timeout had passed, with {describe(first)} at {place(first)}"
        raise _went_on(record, what, operation_number(steps, (first.branch, first.position)))
    return cut


def _went_on(record: RunRecord, what: str, number: int) -> RunConflictError:
    return RunConflictError(
        f"run {record.id} of {record.workflow!r} went on after {what}, so it cannot be retried from there: "
        f"run.fork(from_step={number}), or durable fork {record.id} --from-step {number}, "
        "starts a new run from any step"
    )


def _latest(steps: list[StepRecord]) -> dict[str, tuple[float, int]]:
    """When and where each branch called last. What a thread did that it awaits, a branch did itself."""
    latest: dict[str, tuple[float, int]] = {}
    for step in steps:
        latest[step.branch] = max(latest.get(step.branch, _NEVER), (step.started_at, step.position))
        if _in_thread(step):
            awaiting = step.branch.rpartition("/")[0]
            latest[awaiting] = max(latest.get(awaiting, _NEVER), (step.started_at, 0))
    return latest


def _begun(steps: list[StepRecord]) -> dict[str, float]:
    """When each branch created the last of the branches that came to something: what it failed at before was over."""
    begun: dict[str, float] = {}
    for step in steps:
        if step.position == 0 and step.branch and step.status == "completed" and not _IS_MAP.search(step.branch):
            creator = step.branch.rpartition("/")[0]
            begun[creator] = max(begun.get(creator, 0.0), step.started_at)
    return begun


def _went_on_after(failed: StepRecord, latest: dict[str, tuple[float, int]]) -> bool:
    """Whether something was called after it, on its branch or one around it; `latest`: what was called last on each.

    By time and not by position: steps side by side have positions in a row, and none came after another. By position
    where the times are the same: a clock that is moved by hand stands still, and what is ended from outside has no
    duration. The items of a map are siblings, whenever they start.
    """
    ended = _ended(failed)
    if not _IS_MAP.search(failed.branch) and latest.get(failed.branch, _NEVER) > (ended, failed.position):
        return True
    return any(outside in latest and latest[outside][0] >= ended for outside in around(failed.branch))


def _ended(step: StepRecord) -> float:
    return step.finished_at or 0.0


def _came_to_end(step: StepRecord) -> tuple[float, int]:
    return _ended(step), step.position


def _outlived(record: RunRecord, steps: list[StepRecord]) -> Callable[[StepRecord], bool]:
    """Whether a step blocked the loop of an async run, and other tasks called more after it, and have that.

    It has no turn, so that a replay comes to it before they have: too soon to do it again.
    """
    is_async = _raised_at(record) < inf or any(step.turn for step in steps)
    latest = max(
        (step.started_at for step in steps if step.status == "completed" and not _in_thread(step)), default=0.0
    )
    return lambda step: is_async and step.turn == 0 and not _in_thread(step) and latest > _ended(step)


def _in_thread(step: StepRecord) -> bool:
    return step.branch.rpartition("/")[2].startswith("thread:")


def _caught(
    raised: set[StepRecord], steps: list[StepRecord], outlived: Callable[[StepRecord], bool]
) -> Callable[[StepRecord], bool]:
    """Whether the run failed with another failure than a given one, after which others went on."""
    begun: dict[str, list[tuple[float, str]]] = {}
    for step in steps:
        if step.position == 0 and step.branch and step.error != CUT:
            begun.setdefault(step.branch.rpartition("/")[0], []).append((step.started_at, step.branch))
    latest = {creator: nlargest(2, branches) for creator, branches in begun.items()}  # one of them may be its own

    def is_caught(step: StepRecord) -> bool:
        if not raised or step in raised:
            return False
        if outlived(step):
            return True
        ended, creators = _ended(step), (step.branch, *around(step.branch))
        branches = (found for creator in creators for found in latest.get(creator, ()))
        return any(at >= ended and branch != step.branch for at, branch in branches)

    return is_caught


def _errors_in(text: str | None) -> Iterator[tuple[str, str]]:
    """Class and message of a journaled error, of its cause, and of the members of a group."""
    left: list[Any] = [json.loads(text or "null")]
    while left:
        error = left.pop()
        if isinstance(error, dict):
            yield str(error.get("type")), str(error.get("message"))
            left += [error.get("cause"), *error.get("members", ())]


class _Fired(NamedTuple):
    """A timeout that passed in the code."""

    timer: StepRecord
    until: float
    """When its branch called the next operation: it had cut by then what it cut."""

    def may_have_cut(self, step: StepRecord) -> bool:
        """Whether it was what cut an operation, which then goes without it."""
        timer, branch = self.timer, self.timer.branch
        within = f"{step.branch}/".startswith(f"{branch}/") or branch.startswith(f"{step.branch}/")
        in_turn = not step.turn or (timer.turn or 0) <= step.turn  # what is cut in a thread has none
        return within and in_turn and step.started_at <= timer.started_at and _ended(step) <= self.until


class _Timeouts:
    """Timeouts that passed, by branch: a thousand tasks may each have one of their own, that cut a step of theirs."""

    def __init__(self, timeouts: list[_Fired]) -> None:
        self.timeouts = timeouts
        self._on: dict[str, list[_Fired]] = {}
        self._within: dict[str, list[_Fired]] = {}
        """On the branch, or on one that is a part of it."""
        for timeout in timeouts:
            self._on.setdefault(timeout.timer.branch, []).append(timeout)
            for branch in (timeout.timer.branch, *around(timeout.timer.branch)):
                self._within.setdefault(branch, []).append(timeout)

    def of(self, step: StepRecord) -> Iterator[_Fired]:
        """Those that may have cut a step."""
        outside = (self._on.get(branch, ()) for branch in around(step.branch))
        near = chain(self._within.get(step.branch, ()), *outside)
        return (timeout for timeout in near if timeout.may_have_cut(step))

    def that_may_have_cut(self, steps: Iterable[StepRecord]) -> list[_Fired]:
        """Those that may have cut any of these."""
        found = {timeout.timer for step in steps for timeout in self.of(step)}
        return [timeout for timeout in self.timeouts if timeout.timer in found]


def _fired(timers: list[StepRecord], steps: list[StepRecord]) -> list[_Fired]:
    begun: dict[str, list[float]] = {timer.branch: [] for timer in timers}
    for step in steps:
        if step.branch in begun:
            begun[step.branch].append(step.started_at)
    for times in begun.values():
        times.sort()
        times.append(inf)
    return [_Fired(timer, _next(timer.started_at, begun[timer.branch])) for timer in timers]


def _next(after: float, times: list[float]) -> float:
    return times[bisect_right(times, after)]


def _is_compensated(
    record: RunRecord,
    since: float,
    dropped: list[_Fired],
    kept: list[StepRecord],
    every: list[StepRecord],
    fired: _Timeouts,
) -> bool:
    """Whether something that is `kept` was cut, or done in a clean-up, because of what is not.

    Because of a failure, as by a `TaskGroup` (the first ended at `since`) or by the end of the body, that it led to; or
    of a timeout that is `dropped`. What another timeout cut stays cut.
    """
    raised_at = _raised_at(record)
    if any(came_at(step) > raised_at for step in kept):  # whatever was cut by that may not have begun
        return True
    if _Timeouts(dropped).that_may_have_cut(step for step in kept if step.error == CUT):
        return True
    torn_down = (step for step in every if step.error == CUT and _ended(step) >= since)
    is_torn_down = any(not any(fired.of(step)) for step in torn_down)
    return is_torn_down and any(came_at(step) >= since for step in kept)


def _said(record: RunRecord, what: str) -> Any:
    """What the run says in its error for a retry, beside the error itself; `None` where it does not."""
    error = json.loads(record.error or "null")
    return error.get(what) if isinstance(error, dict) else None


def _raised_at(record: RunRecord) -> float:
    """When the body raised what the run failed with, where the journal says so."""
    found = _said(record, RAISED_AT)
    return inf if found is None else float(found)


def _passed_by(record: RunRecord) -> frozenset[str]:
    """The runs that it started and heard the failure of before it started another one."""
    found = _said(record, PASSED)
    return frozenset(map(str, found)) if isinstance(found, list) else frozenset()


def _went_on_in(record: RunRecord) -> dict[str, int]:
    """By branch: the turn of the last failure after which it created tasks that came to something."""
    found = _said(record, WENT_ON)
    return {branch: turn for branch, turn in found.items() if isinstance(turn, int)} if isinstance(found, dict) else {}


def _is_passed(failed: StepRecord, went_on: dict[str, int]) -> bool:
    """Whether its branch, or one around it, had got it when it created tasks that came to something."""
    return any(went_on.get(branch, 0) >= (failed.turn or inf) for branch in (failed.branch, *around(failed.branch)))


def came_at(step: StepRecord) -> float:
    """When the code did what is journaled here: called it, or cut it."""
    return step.started_at if step.error != CUT else step.finished_at or inf

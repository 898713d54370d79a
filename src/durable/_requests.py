"""What is asked of a run, as transactions that anybody may write: the owner of the journal, or a visitor.

Each function here returns the work of one transaction. Where a visitor writes a run that is to go on, it is left
`queued` with a message of kind "begin", by which the owner notices it.
"""

import re
from collections.abc import Callable, Iterator
from math import inf
from typing import Final, TypeVar

from ._effects import CUT
from ._journal import Journal
from ._model import FINISHED, HIDDEN_KINDS, TIMER, MessageRecord, RunRecord, StepRecord, operation_number
from ._records import require_outcomes, step_row
from ._replay import describe, place
from ._transaction import Transaction
from .errors import RunConflictError, RunFinishedError, RunNotFoundError

T = TypeVar("T")
Work = Callable[[Transaction], T]

NOBODY: Final = 0
"""The epoch of a run that no owner has set going yet."""
_IS_MAP: Final = re.compile(r"\[\]:\d+$")


def ask(journal: Journal, work: Work[T]) -> T:
    """Write to the journal, as its owner or as a visitor: the owner, if there is one, sees it soon."""
    return journal.write(work) if journal.epoch else journal.visit(work)


def begin(record: RunRecord, now: float, epoch: int = NOBODY) -> Work[RunRecord]:
    """Write a new run; where no owner does, the one that there is or will be is told to begin it."""

    def work(transaction: Transaction) -> RunRecord:
        new = transaction.add_run(record._replace(status="queued", epoch=epoch))
        _tell_owner(transaction, new, now)
        return new

    return work


def _tell_owner(transaction: Transaction, queued: RunRecord, now: float) -> None:
    if queued.epoch == NOBODY:
        transaction.add_message(MessageRecord(0, queued.seq, "begin", "", None, None, now))


# -- cancel -----------------------------------------------------------------------------------------------------------


def cancel(run_id: str, now: float) -> Work[list[RunRecord]]:
    """Leave word for a run, and for those that it called or started; returns those that were told, it first.

    One that is blocked cannot go on to read it, and ends at once.
    """

    def work(transaction: Transaction) -> list[RunRecord]:
        record = _run(transaction, run_id)
        if record.status in FINISHED and record.status != "cancelled":
            msg = f"run {run_id} of {record.workflow!r} is {record.status}, and cannot be cancelled any more"
            raise RunFinishedError(msg)
        return [_cancel(transaction, each, now) for each in _unfinished_family(transaction, record)]

    return work


def cancel_children(seq: int, now: float) -> Work[list[RunRecord]]:
    """The same for the runs that a run called or started, and not for itself."""

    def work(transaction: Transaction) -> list[RunRecord]:
        family = (each for child in _unfinished_children(transaction, seq)
                  for each in _unfinished_family(transaction, child))  # fmt: skip
        return [_cancel(transaction, each, now) for each in family]

    return work


def _unfinished_family(transaction: Transaction, record: RunRecord) -> Iterator[RunRecord]:
    left = [record]
    while left:  # by no recursion: a chain of runs may be longer than that goes
        found = left.pop()
        yield found
        left += reversed([*_unfinished_children(transaction, found.seq)])


def _unfinished_children(transaction: Transaction, seq: int) -> Iterator[RunRecord]:
    return (child for child in transaction.children(seq) if child.status not in FINISHED)


def _cancel(transaction: Transaction, record: RunRecord, now: float) -> RunRecord:
    if record.status == "blocked":
        record = record._replace(status="cancelled", error=None, finished_at=now, claim=None)
        transaction.finish_run(record)
    elif record.status not in FINISHED and not transaction.messages(record.seq, "cancel"):
        transaction.add_message(MessageRecord(0, record.seq, "cancel", "", None, None, now))
    return record


# -- signal -----------------------------------------------------------------------------------------------------------


def signal(run_id: str, name: str, value: str | None, error: str | None, now: float) -> Work[RunRecord]:
    """Leave a signal for a run that has not ended: the JSON of a value, or that of an error."""

    def work(transaction: Transaction) -> RunRecord:
        record = _run(transaction, run_id)
        if record.status in FINISHED:
            msg = f"run {run_id} of {record.workflow!r} is {record.status}: nobody reads signals"
            raise RunFinishedError(msg)
        transaction.add_message(MessageRecord(0, record.seq, "signal", name, value, error, now))
        return record

    return work


# -- retry ------------------------------------------------------------------------------------------------------------


def retry(
    run_id: str, now: float, *, trust_journal: bool, by_owner: bool = False, seen: str = ""
) -> Work[list[RunRecord]]:
    """Queue a failed or blocked run again, after the children that failed and took it with them; returns them all.

    An owner who writes this sets them going by itself. `seen` is the status that readers see.
    """

    def work(transaction: Transaction) -> list[RunRecord]:
        record = _run(transaction, run_id)
        if record.status not in {"failed", "blocked"}:
            found = seen if record.status == "running" and seen else record.status
            msg = f"run {run_id} of {record.workflow!r} is {found}: only a failed or a blocked run can be retried"
            raise RunConflictError(msg)
        return list(_reopen(transaction, record))

    def _reopen(transaction: Transaction, record: RunRecord) -> Iterator[RunRecord]:
        require_outcomes(transaction.outcomes(record.seq), record)
        if record.status == "failed":
            repeated = to_repeat(record, transaction.steps(record.seq))
            for child in _failed_children(transaction, record, repeated):
                yield from _reopen(transaction, child)
            for step in repeated:
                transaction.drop_step(step)
        queued = record._replace(
            status="queued",
            error=None,
            finished_at=None,
            crashes=0,
            progress=min(record.progress, transaction.outcomes(record.seq)),
            trusting=1 if trust_journal else record.trusting,
            epoch=record.epoch if by_owner else NOBODY,
            deadline=_deadline_anew(record, now) if record.status == "failed" else record.deadline,
        )
        transaction.put_run(queued)
        _tell_owner(transaction, queued, now)
        yield queued

    return work


def _deadline_anew(record: RunRecord, now: float) -> float | None:
    """The run's timeout, counted from now."""
    return None if record.deadline is None else now + record.deadline - record.created_at


def _failed_children(transaction: Transaction, record: RunRecord, repeated: list[StepRecord]) -> list[RunRecord]:
    """The runs that failed and took this one with them: called by an operation that is attempted again."""
    again = {step.name for step in repeated if step.kind == "child"}
    if not again:
        return []
    children = transaction.children(record.seq)
    return [child for child in children if child.status == "failed" and child.workflow in again]


def to_repeat(record: RunRecord, steps: list[StepRecord]) -> list[StepRecord]:
    """The failed operations after which nothing else was journaled on their branch, or on one that it is a part of.

    Where there is none of these, but failures that the workflow went on after (it caught or compensated them), going on
    would undo what came later: `RunConflictError`.
    """
    failed = [step for step in steps if step.status == "failed"]
    timers = [step for step in steps if step.kind == TIMER]
    others = [step for step in steps if step.kind != TIMER]
    repeated = [step for step in failed if not any(_came_after(other, step) for other in others)]
    if failed and (not repeated or _is_compensated(repeated, others, timers)):
        first = (repeated or failed)[0]
        number = operation_number(steps, (first.branch, first.position))
        msg = (
            f"run {record.id} of {record.workflow!r} went on after {describe(first)} failed at {place(first)} (it "
            "caught or compensated the failure), so it cannot be retried from there: "
            f"run.fork(from_step={number}), or durable fork {record.id} --from-step {number}, "
            "starts a new run from any step"
        )
        raise RunConflictError(msg)
    return repeated + [timer for timer in timers if any(_fired_around(timer, step) for step in repeated)]


def _is_compensated(repeated: list[StepRecord], steps: list[StepRecord], timers: list[StepRecord]) -> bool:
    """Whether the code cut something else because of the failure, as a `TaskGroup` does, which then cleaned up.

    Without the failure nothing would cut it again. What a timeout cut needs none.
    """
    since = min((step.finished_at or 0.0 for step in repeated if step.error != CUT), default=inf)
    cut = [step for step in steps if step.error == CUT and step not in repeated and (step.finished_at or 0.0) >= since]
    return any(not any(_fired_around(timer, step) for timer in timers) for step in cut)


def _fired_around(timer: StepRecord, failed: StepRecord) -> bool:
    """Whether the timeout may have cut the operation, which then goes without it."""
    within = f"{failed.branch}/".startswith(f"{timer.branch}/") or timer.branch.startswith(f"{failed.branch}/")
    return within and timer.started_at >= failed.started_at


def _came_after(other: StepRecord, failed: StepRecord) -> bool:
    """By time and not by position: steps side by side have positions in a row, and none came after another.

    By position where the times are the same: a clock that is moved by hand stands still, and what is ended from outside
    has no duration.
    """
    if failed.branch == other.branch:
        around = not _IS_MAP.search(failed.branch)  # the items of a map are siblings, whenever they start
        moments = (other.started_at, other.position), (failed.finished_at or 0.0, failed.position)
        return around and moments[0] > moments[1]
    return failed.branch.startswith(other.branch + "/") and other.started_at >= (failed.finished_at or 0.0)


# -- fork -------------------------------------------------------------------------------------------------------------


def fork(run_id: str, new_id: str, from_step: int, now: float, epoch: int = NOBODY) -> Work[RunRecord]:
    """Write a new run that takes over the operations of another one before `from_step`, counted from 1.

    Not those of them that began after one that is not taken over: the new run has yet to come to where it called them.
    """

    def work(transaction: Transaction) -> RunRecord:
        record = _run(transaction, run_id)
        every = transaction.steps(record.seq)
        steps = [step for step in every if step.kind not in HIDDEN_KINDS]
        taken = steps[: from_step - 1]
        if not 1 <= from_step <= len(steps) + 1 or any(step.turn is None for step in taken):
            done = sum(step.turn is not None for step in steps)
            msg = f"from_step is from 1 to {done + 1} for run {record.id}, which has {done} finished operations"
            raise ValueError(msg)
        left = steps[from_step - 1 :]
        taken = _without_needless_cancellation(_without_what_came_after(left, taken))
        newest = max((step.started_at for step in taken), default=0.0)
        last = max((step.finished_at or 0.0 for step in taken), default=0.0)
        until = {"map": newest, TIMER: min(last, _first_end(left))}
        hidden = [step for step in every if step.started_at <= until.get(step.kind, -1.0)]
        fresh = record._replace(
            id=new_id,
            output=None,
            error=None,
            created_at=now,
            finished_at=None,
            wake_at=None,
            claim=None,
            parent=None,
            crashes=0,
            progress=0,
            deadline=_deadline_anew(record, now),
        )
        new = begin(fresh, now, epoch)(transaction)
        for step in (*hidden, *taken):
            transaction.put(step_row(step._replace(run=new.seq)))
        return new

    return work


def _without_what_came_after(left: list[StepRecord], taken: list[StepRecord]) -> list[StepRecord]:
    """What is taken over, but what came of those that are `left`: it began, or was cut, when one of them had ended.

    A list has branch after branch: what the workflow called after a `map` stands before the items of the map.
    """
    if not left:
        return taken
    cut = left[0].branch  # the one that is taken over in part: what comes first in it stands first
    in_others = _first_end([step for step in left if step.branch != cut])
    in_any = _first_end(left)
    return [step for step in taken if _came_at(step) < (in_others if step.branch == cut else in_any)]


def _without_needless_cancellation(taken: list[StepRecord]) -> list[StepRecord]:
    """That a run was cancelled is taken over with what it did because of that, and not alone."""
    told = next((step for step in taken if step.kind == "cancel"), None)
    if told is None or any(_came_at(step) > told.started_at for step in taken if step is not told):
        return taken
    return [step for step in taken if step is not told]


def _came_at(step: StepRecord) -> float:
    """When the code did what is journaled here: called it, or cut it."""
    return step.started_at if step.error != CUT else step.finished_at or inf


def _first_end(steps: list[StepRecord]) -> float:
    return min((step.finished_at or inf for step in steps if step.turn is not None), default=inf)


def _run(transaction: Transaction, run_id: str) -> RunRecord:
    record = transaction.run_of_id(run_id)
    if record is None:
        msg = f"no run {run_id!r} in the journal"
        raise RunNotFoundError(msg)
    return record

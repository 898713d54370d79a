"""What is asked of a run, as transactions that anybody may write: the owner of the journal, or a visitor.

Each function here returns the work of one transaction. Where a visitor writes a run that is to go on, it is left
`queued` with a message of kind "begin", by which the owner notices it.
"""

from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from ._fork import taken_over
from ._going_back import to_repeat
from ._identity import take_up
from ._journal import Journal
from ._lost import require_outcomes
from ._model import FINISHED, HAS_RUN, NOT_COUNTED_YET, MessageRecord, RunRecord, spaced
from ._records import step_row
from ._transaction import Transaction
from .errors import RunConflictError, RunFinishedError, RunNotFoundError

T = TypeVar("T")
Work = Callable[[Transaction], T]

NOBODY: Final = 0
"""The epoch of a run that no owner has set going yet."""


def ask(journal: Journal, work: Work[T], *, gives_up: bool = True) -> T:
    """Write to the journal, as its owner or as a visitor: the owner, if there is one, sees it soon."""
    return journal.write(work, gives_up=gives_up) if journal.epoch else journal.visit(work)


def begin(record: RunRecord, now: float, epoch: int = NOBODY) -> Work[RunRecord]:
    """Write a new run; where no owner does, the one that there is or will be is told to begin it."""

    def work(transaction: Transaction) -> RunRecord:
        new = transaction.add_run(record._replace(status="queued", epoch=epoch))
        if epoch == NOBODY:
            _tell_owner(transaction, new, now)
        return new

    return work


def _tell_owner(transaction: Transaction, queued: RunRecord, now: float) -> None:
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
        require_ended_badly(record, seen)
        return list(_reopen(transaction, record))

    def _reopen(transaction: Transaction, record: RunRecord) -> Iterator[RunRecord]:
        require_outcomes(transaction.outcomes(record.seq), record)
        if record.status == "failed":
            steps = transaction.steps(record.seq)
            children = transaction.children(record.seq) if any(step.kind in HAS_RUN for step in steps) else []
            again = to_repeat(record, steps, children)
            for child in again.children:
                yield from _reopen(transaction, child)
            for step in again.steps:
                transaction.drop_step(step)
            for step in spaced(steps, again.steps):
                transaction.put(step_row(step))
        queued = record._replace(
            status="queued",
            error=None,
            finished_at=None,
            claim=take_up(record.claim),
            crashes=0,
            progress=min(record.progress, transaction.outcomes(record.seq)),
            trusting=1 if trust_journal else record.trusting,
            deadline=_deadline_anew(record),
        )
        transaction.put_run(queued)
        if not by_owner:
            _tell_owner(transaction, queued, now)
        yield queued

    return work


def require_ended_badly(record: RunRecord, seen: str) -> None:
    """Raises `RunConflictError` for a run that is neither failed nor blocked."""
    if record.status not in {"failed", "blocked"}:
        found = seen if record.status == "running" and seen else record.status
        msg = f"run {record.id} of {record.workflow!r} is {found}: only a failed or a blocked run can be retried"
        raise RunConflictError(msg)


def _deadline_anew(record: RunRecord) -> float | None:
    """The run's timeout is counted anew, from when it goes on."""
    return None if record.deadline is None else NOT_COUNTED_YET


# -- fork -------------------------------------------------------------------------------------------------------------


def fork(run_id: str, new_id: str, from_step: int, now: float, epoch: int = NOBODY) -> Work[RunRecord]:
    """Write a new run that takes over the operations of another one before `from_step`, counted from 1.

    Not those of them that began after one that is not taken over: the new run has yet to come to where it called them.
    """

    def work(transaction: Transaction) -> RunRecord:
        record = _run(transaction, run_id)
        taken = taken_over(record, transaction.steps(record.seq), from_step)
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
            deadline=_deadline_anew(record),
        )
        new = begin(fresh, now, epoch)(transaction)
        for step in taken:
            transaction.put(step_row(step._replace(run=new.seq)))
        return new

    return work


def _run(transaction: Transaction, run_id: str) -> RunRecord:
    record = transaction.run_of_id(run_id)
    if record is None:
        msg = (
            f"no run {run_id!r} in the journal any more: keep=, 'durable gc' or 'durable rm' deleted it; "
            "a call with its id begins it anew"
        )
        raise RunNotFoundError(msg)
    return record

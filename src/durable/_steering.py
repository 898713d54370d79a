"""What others do with a run: cancel it, or go on with a failed or blocked one; and what is forgotten then."""

import contextlib
import re
from collections.abc import Callable
from typing import Final, TypeVar

from ._journal import Journal
from ._model import FINISHED, MessageRecord, RunRecord, StepRecord
from ._replay import describe, place
from ._scheduler import Scheduler
from ._transaction import Transaction, put_step
from .errors import RunConflictError, RunFinishedError, RunNotFoundError

T = TypeVar("T")

_IS_MAP: Final = re.compile(r"\[\]:\d+$")


def cancel(scheduler: Scheduler, record: RunRecord) -> None:
    """Cancel a run that has not ended, and the runs that it called or started; see `Run.cancel`."""
    runtime = scheduler.runtime
    runtime.require_open()
    journal = runtime.journal
    asked = ask(journal, _cancel_work(record.id, runtime.clock.now()))
    cancel_children(scheduler, record)
    active = runtime.active.get(record.id)
    if active is not None:
        active.cancel()
    elif journal.epoch and asked.status == "waiting":
        runtime.look_for_due_runs()
    elif journal.epoch and asked.status not in FINISHED:
        scheduler.set_going(asked)


def cancel_children(scheduler: Scheduler, record: RunRecord) -> None:
    """Cancel the runs that a run called or started and that have not ended."""
    for child in scheduler.runtime.journal.children(record.seq):
        if child.status not in FINISHED:
            with contextlib.suppress(RunFinishedError):  # it ended meanwhile
                cancel(scheduler, child)


def ask(journal: Journal, work: Callable[[Transaction], T]) -> T:
    """Write to the journal, as its owner or as a visitor: the owner, if there is one, sees it soon."""
    return journal.write(work) if journal.epoch else journal.visit(work)


def signal(scheduler: Scheduler, record: RunRecord, name: str, value: str | None, error: str | None) -> None:
    """Leave a signal for a run that has not ended, and wake it; see `Run.signal`."""
    runtime = scheduler.runtime
    runtime.require_open()
    message = MessageRecord(0, record.seq, "signal", name, value, error, runtime.clock.now())

    def work(transaction: Transaction) -> None:
        found = transaction.run_of_id(record.id)
        if found is None or found.status in FINISHED:
            msg = f"run {record.id} of {record.workflow!r} is {found.status if found else 'gone'}: nobody reads signals"
            raise RunFinishedError(msg)
        transaction.add_message(message)

    ask(runtime.journal, work)
    active = runtime.active.get(record.id)
    if active is None:
        runtime.look_for_due_runs()
    elif active.execution is not None:
        active.execution.tell_of_signal(name)


def _cancel_work(run_id: str, now: float) -> Callable[[Transaction], RunRecord]:
    """Leave word for the run; one that is blocked cannot go on to read it, and ends at once."""

    def work(transaction: Transaction) -> RunRecord:
        record = transaction.run_of_id(run_id)
        if record is None:
            msg = f"no run {run_id!r} in the journal"
            raise RunNotFoundError(msg)
        if record.status == "cancelled":
            return record
        if record.status in FINISHED:
            msg = f"run {run_id} of {record.workflow!r} is {record.status}, and cannot be cancelled any more"
            raise RunFinishedError(msg)
        if record.status == "blocked":
            record = record._replace(status="cancelled", error=None, finished_at=now, claim=None)
            transaction.finish_run(record)
        elif not transaction.messages(record.seq, "cancel"):
            transaction.add_message(MessageRecord(0, record.seq, "cancel", "", None, None, now))
        return record

    return work


def retry(scheduler: Scheduler, record: RunRecord, status: str, trust_journal: bool) -> None:
    """Set a failed or blocked run going again; see `Run.retry`."""
    scheduler.runtime.own()
    for child in failed_children(scheduler, record):
        retry(scheduler, child, child.status, trust_journal)
    queued = scheduler.runtime.journal.write(lambda transaction: _reopen(transaction, record.id, status, trust_journal))
    scheduler.set_going(queued)


def failed_children(scheduler: Scheduler, record: RunRecord) -> list[RunRecord]:
    """The runs that failed and took this one with them: called by an operation that is attempted again."""
    journal = scheduler.runtime.journal
    if record.status != "failed":
        return []
    again = {step.name for step in to_repeat(record, journal.steps(record.seq)) if step.kind == "child"}
    return [child for child in journal.children(record.seq) if child.status == "failed" and child.workflow in again]


def fork(scheduler: Scheduler, record: RunRecord, from_step: int) -> str:
    """Start a run that takes over the first operations of another one; see `Run.fork`."""
    if isinstance(from_step, bool) or not isinstance(from_step, int):
        msg = f"from_step is a whole number, as run.steps() counts from 1, not {from_step!r}"
        raise TypeError(msg)
    runtime = scheduler.runtime
    runtime.own()
    run_id = runtime.clock.new_id()

    def work(transaction: Transaction) -> RunRecord:
        steps = [step for step in transaction.steps(record.seq) if step.kind != "map"]
        taken = steps[: from_step - 1]
        newest = max((step.started_at for step in taken), default=0.0)
        maps = [s for s in transaction.steps(record.seq) if s.kind == "map" and s.started_at <= newest]
        if not 1 <= from_step <= len(steps) + 1 or any(step.turn is None for step in taken):
            done = sum(step.turn is not None for step in steps)
            msg = f"from_step is from 1 to {done + 1} for run {record.id}, which has {done} finished operations"
            raise ValueError(msg)
        new = transaction.add_run(
            record._replace(
                id=run_id,
                status="queued",
                output=None,
                error=None,
                created_at=runtime.clock.now(),
                finished_at=None,
                wake_at=None,
                claim=None,
                parent=None,
                epoch=runtime.journal.epoch,
                crashes=0,
                progress=0,
            )
        )
        for step in (*maps, *taken):
            transaction.run(put_step(step._replace(run=new.seq)))
        return new

    scheduler.set_going(runtime.journal.write(work))
    return run_id


def _reopen(transaction: Transaction, run_id: str, status: str, trust_journal: bool) -> RunRecord:
    record = transaction.run_of_id(run_id)
    if record is None:
        msg = f"no run {run_id!r} in the journal"
        raise RunNotFoundError(msg)
    if record.status not in {"failed", "blocked"}:
        msg = f"run {run_id} of {record.workflow!r} is {status}: only a failed or a blocked run can be retried"
        raise RunConflictError(msg)
    if record.status == "failed":
        for step in to_repeat(record, transaction.steps(record.seq)):
            transaction.drop_step(step)
    queued = record._replace(
        status="queued",
        error=None,
        finished_at=None,
        crashes=0,
        trusting=1 if trust_journal else record.trusting,
    )
    transaction.put_run(queued)
    return queued


def to_repeat(record: RunRecord, steps: list[StepRecord]) -> list[StepRecord]:
    """The failed operations after which nothing else was journaled on their branch, or on one that it is a part of.

    Where there is none of these, but failures that the workflow went on after (it caught or compensated them), going on
    would undo what came later: `RunConflictError`.
    """
    failed = [step for step in steps if step.status == "failed"]
    repeated = [step for step in failed if not any(_came_after(other, step) for other in steps)]
    if failed and not repeated:
        first = failed[0]
        msg = (
            f"run {record.id} of {record.workflow!r} went on after {describe(first)} failed at {place(first)} (it "
            "caught or compensated the failure), so it cannot be retried from there: "
            f"run.fork(from_step={first.position + 1}) starts a new run from any step"
        )
        raise RunConflictError(msg)
    return repeated


def _came_after(other: StepRecord, failed: StepRecord) -> bool:
    """By time and not by position: steps side by side have positions in a row, and none came after another."""
    if failed.branch == other.branch:
        around = not _IS_MAP.search(failed.branch)  # the items of a map are siblings, whenever they start
    else:
        around = failed.branch.startswith(other.branch + "/")
    return around and other.started_at >= (failed.finished_at or 0.0)

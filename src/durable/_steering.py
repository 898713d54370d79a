"""What this process does with a run for others: cancels it, sends it a signal, goes on with it, forks it.

What is written is in `_requests.py`; here is what follows from it where this process owns the journal, or may.
"""

from typing import TypeVar

from . import _requests
from ._fork import taken_over
from ._going_back import to_repeat
from ._model import FINISHED, RunRecord
from ._requests import NOBODY, Work, ask
from ._runtime import Runtime
from ._scheduler import Scheduler
from ._scopes import SCOPE
from .errors import JournalLockedError

T = TypeVar("T")


def _ask(runtime: Runtime, work: Work[T]) -> T:
    """What a run asks is tried for as long as what it writes of itself."""
    return ask(runtime.journal, work, gives_up=SCOPE.get() is None)


def cancel(scheduler: Scheduler, record: RunRecord) -> None:
    """Cancel a run that has not ended, and the runs that it called or started; see `Run.cancel`."""
    runtime = scheduler.runtime
    runtime.require_open()
    _tell_cancelled(scheduler, _ask(runtime, _requests.cancel(record.id, runtime.clock.now())))


def cancel_children(scheduler: Scheduler, record: RunRecord) -> None:
    """Cancel the runs that a run called or started and that have not ended."""
    runtime = scheduler.runtime
    _tell_cancelled(scheduler, _ask(runtime, _requests.cancel_children(record.seq, runtime.clock.now())))


def _tell_cancelled(scheduler: Scheduler, asked: list[RunRecord]) -> None:
    """Where this process executes them, or may: the owner elsewhere finds out by itself."""
    runtime = scheduler.runtime
    for record in asked:
        active = runtime.active.get(record.id)
        if active is not None:
            scheduler.cancel(active, record)
        elif runtime.journal.epoch and record.status == "waiting":
            runtime.look_for_due_runs()
        elif runtime.journal.epoch and record.status not in FINISHED:
            scheduler.set_going(record)


def signal(scheduler: Scheduler, record: RunRecord, name: str, value: str | None, error: str | None) -> None:
    """Leave a signal for a run that has not ended, and wake it; see `Run.signal`."""
    runtime = scheduler.runtime
    runtime.require_open()
    _ask(runtime, _requests.signal(record.id, name, value, error, runtime.clock.now()))
    active = runtime.active.get(record.id)
    if active is None:
        runtime.look_for_due_runs()
    elif active.execution is not None:
        active.execution.tell_of_signal(name)


def retry(scheduler: Scheduler, record: RunRecord, seen: str, trust_journal: bool) -> None:
    """Set a failed or blocked run going again, here or where the owner is; see `Run.retry`."""
    runtime = scheduler.runtime
    if not runtime.journal.epoch:  # what is refused is refused before the journal is owned for it
        _requests.require_ended_badly(record, seen)
        if record.status == "failed":
            to_repeat(record, runtime.journal.steps(record.seq), runtime.journal.children(record.seq))
    by_owner = _own_if_free(runtime)
    work = _requests.retry(record.id, runtime.clock.now(), trust_journal=trust_journal, by_owner=by_owner, seen=seen)
    for queued in _ask(runtime, work):
        if by_owner:
            scheduler.begin(queued)


def fork(scheduler: Scheduler, record: RunRecord, from_step: int) -> str:
    """Start a run that takes over the first operations of another one; see `Run.fork`."""
    if isinstance(from_step, bool) or not isinstance(from_step, int):
        msg = f"from_step is a whole number, as run.steps() counts from 1, not {from_step!r}"
        raise TypeError(msg)
    runtime = scheduler.runtime
    if not runtime.journal.epoch:
        taken_over(record, runtime.journal.steps(record.seq), from_step)
    epoch = runtime.journal.epoch if _own_if_free(runtime) else NOBODY
    new_id = runtime.clock.new_id()
    new = _ask(runtime, _requests.fork(record.id, new_id, from_step, runtime.clock.now(), epoch))
    if epoch:
        scheduler.begin(new)
    return new_id


def _own_if_free(runtime: Runtime) -> bool:
    """Whether this process owns the journal, as it does from now on if nobody did."""
    runtime.require_open()
    journal = runtime.journal
    if not journal.epoch and journal.owner_pid() is None:
        try:
            runtime.own()
        except JournalLockedError:  # somebody else was faster
            return False
    return journal.epoch != NOBODY

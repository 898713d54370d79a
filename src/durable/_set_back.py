"""When the clock is set back, what waits is moved back with it, so that nothing waits for longer than it was to.

Due times are absolute, and a run that is suspended is a row with such a time: nobody counts the seconds that are left.
So each wait of the runs that go on, and that began before the clock was set back, is written anew with its times as the
clock would have shown them. What waits for a fixed time (`sleep_until`) stays. So does the timeout of a workflow.
"""

import contextlib
from typing import Final, NamedTuple

from ._model import SLEEP_UNTIL, WAITS, StepRecord
from ._records import step_row
from ._transaction import Transaction
from .errors import JournalError

_GOING_ON: Final = frozenset({"running", "waiting"})


class SetBack(NamedTuple):
    """The clock was set back by `seconds` or more, and shows its new time since `since`, which is such a time."""

    seconds: float
    since: float

    def of(self, began: float, now: float) -> float:
        """By how much what waits since `began` is due too late. What began in the future says itself how far back."""
        if began > now:
            return max(self.seconds, began - now)
        return self.seconds if began < self.since else 0.0


def move_back(transaction: Transaction, runs: list[int], back: SetBack, now: float) -> None:
    """Move back what the runs of these keys wait for; one that is damaged is left as it is."""
    for seq in runs:
        with contextlib.suppress(JournalError):
            _move_back(transaction, seq, back, now)


def _move_back(transaction: Transaction, seq: int, back: SetBack, now: float) -> None:
    record = transaction.run_of_seq(seq)
    if record is None or record.status not in _GOING_ON:
        return
    farthest = 0.0
    for step in filter(_waits, transaction.steps(seq)):
        if seconds := back.of(_began(step), now):
            transaction.put(step_row(_moved(step, seconds)))
            farthest = max(farthest, seconds)
    if record.status == "waiting" and record.wake_at is not None and farthest:
        transaction.put_run(record._replace(wake_at=record.wake_at - farthest))  # too early is soon found out


def _waits(step: StepRecord) -> bool:
    """Whether it waits for a time that is counted from when the wait began."""
    is_pause = step.kind in WAITS and step.status == "running" and step.name != SLEEP_UNTIL
    return step.retry_at is not None and (is_pause or step.status == "retrying")


def _began(step: StepRecord) -> float:
    return step.started_at if step.finished_at is None else step.finished_at


def _moved(step: StepRecord, seconds: float) -> StepRecord:
    assert step.retry_at is not None
    ended = None if step.finished_at is None else step.finished_at - seconds
    return step._replace(started_at=step.started_at - seconds, finished_at=ended, retry_at=step.retry_at - seconds)

"""Which runs a plain call without an id may go on with: see DESIGN, "Which run does a call mean?".

The file has the claims of the runs that have not ended; here is what calls and `resume` of this process have made of
them. Asked and claimed inside the write transaction, so that two calls never claim one run; a call whose transaction
is rolled back gives its claim back before it asks again.
"""

from collections.abc import Collection

from ._model import RunRecord
from ._transaction import Transaction


class Claims:
    """What the calls of one engine have claimed, and what they may."""

    def __init__(self) -> None:
        self._is_free: dict[str, bool] = {}
        """By id: whether the call that has claimed it was interrupted, and has given its claim back."""
        self._resumed: dict[str, dict[str, None]] = {}
        """By claim: what `resume` has set going of an earlier owner's, which may be claimed when it has ended too."""

    def resume(self, claim: str, run_id: str) -> None:
        """A run of an earlier owner is set going in the background."""
        self._resumed.setdefault(claim, {}).setdefault(run_id)

    def oldest(self, transaction: Transaction, claim: str, epoch: int, waiting: Collection[str]) -> RunRecord | None:
        """The oldest run of this claim that an owner before this `epoch` left, and that no call has claimed.

        Those that are `waiting` for the call are none that it may wait for.
        """
        resumed = dict(self._resumed.get(claim, {}))
        found = [
            record
            for record in transaction.claimable_runs(claim)
            if record.id not in waiting and self._is_free.get(record.id, record.epoch < epoch or record.id in resumed)
        ]
        for run_id in (*waiting, *(record.id for record in found)):
            resumed.pop(run_id, None)
        ended = (transaction.run_of_id(run_id) for run_id in resumed if self._is_free.get(run_id, True))
        found += [record for record in ended if record is not None]
        return min(found, key=lambda record: record.seq, default=None)

    def take(self, run_id: str) -> None:
        """A call goes on with it, waits for it or returns its result: no other one does."""
        self._is_free[run_id] = False

    def give_back(self, run_id: str) -> None:
        """The call was interrupted: the next one may claim the run."""
        self._is_free[run_id] = True

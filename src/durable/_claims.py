"""Which runs a plain call without an id may go on with: see DESIGN, "Which run does a call mean?".

The file has the claims of the runs that have not ended; here is what calls and `resume` of this process have made of
them. Asked and claimed inside the write transaction, so that two calls never claim one run; a call whose transaction
is rolled back gives its claim back before it asks again. A call looks at a few runs, however many of its like there
are: a thousand equal calls at once would look at a million else.
"""

import threading
from collections.abc import Collection, Iterator

from ._model import RunRecord
from ._transaction import Transaction


class Claims:
    """What the calls of one engine have claimed, and what they may."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._given_back: dict[str, dict[str, None]] = {}
        """By claim: the runs whose call was interrupted, and that have not been claimed since."""
        self._resumed: dict[str, dict[str, int]] = {}
        """By claim, with its key: what `resume` has set going of an earlier owner's. It may be claimed when it has
        ended too."""
        self._guard = threading.Lock()

    def resume(self, claim: str, record: RunRecord) -> None:
        """A run of an earlier owner is set going in the background."""
        self._resumed.setdefault(claim, {})[record.id] = record.seq

    def oldest(
        self, transaction: Transaction, claim: str, epoch: int, waiting: Collection[str], *, before: int
    ) -> RunRecord | None:
        """The oldest run of this claim that an owner before this `epoch` left, and that no call has claimed.

        Those that are `waiting` for the call are none that it may wait for. None that was left has a key from `before`
        on.
        """
        excluded = self._taken.union(waiting) if waiting else self._taken
        candidates = [
            *_left(transaction, claim, epoch, before, excluded),
            *self._set_going(transaction, claim, excluded),
            *self._interrupted(transaction, claim, excluded),
        ]
        return min(candidates, key=lambda record: record.seq, default=None)

    def _set_going(self, transaction: Transaction, claim: str, excluded: Collection[str]) -> Iterator[RunRecord]:
        resumed = self._resumed.get(claim, {})
        left = [run_id for run_id in tuple(resumed) if run_id not in excluded]
        for run_id in sorted(left, key=resumed.__getitem__):
            if (record := transaction.run_of_id(run_id)) is not None:  # deleted since
                yield record
                return

    def _interrupted(self, transaction: Transaction, claim: str, excluded: Collection[str]) -> Iterator[RunRecord]:
        for run_id in list(self._given_back.get(claim, ())):
            record = None if run_id in excluded else transaction.run_of_id(run_id)
            if record is not None and record.claim == claim:  # it has not ended since
                yield record

    def take(self, claim: str, run_id: str) -> None:
        """A call goes on with it, waits for it or returns its result: no other one does."""
        with self._guard:
            self._taken.add(run_id)
            self._keep(claim, run_id)

    def give_back(self, claim: str, run_id: str) -> None:
        """The call was interrupted: the next one may claim the run."""
        with self._guard:
            self._taken.discard(run_id)
            self._given_back.setdefault(claim, {})[run_id] = None

    def forget(self, claim: str, run_id: str) -> None:
        """The run has ended for good: it is for no call, unless `resume` has set it going. Runs end so for years."""
        with self._guard:
            if run_id not in self._resumed.get(claim, ()):
                self._taken.discard(run_id)
            self._keep(claim, run_id)

    def _keep(self, claim: str, run_id: str) -> None:
        """No call is to claim it because another one was interrupted."""
        given_back = self._given_back.get(claim, {})
        given_back.pop(run_id, None)
        if not given_back:
            self._given_back.pop(claim, None)


def _left(
    transaction: Transaction, claim: str, epoch: int, before: int, excluded: Collection[str]
) -> Iterator[RunRecord]:
    after = 0
    while after < before and (record := transaction.oldest_left(claim, epoch, after=after, before=before)) is not None:
        if record.id not in excluded:
            yield record
            return
        after = record.seq

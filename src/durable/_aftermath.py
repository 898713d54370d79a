"""What the code of a run went on to do after a failure had reached it: in tasks that it created, and by other runs.

A journal says when a task called its first operation, and not when it was created: one that was there before the
failure may have waited for a semaphore. For a retry the difference is that between what a replay comes to without that
failure and what it does not. Nor does it say when the code heard that a run had failed which it had started: it may
start others because of that, or beside it. So the run keeps count while it executes, and says it in its own error when
it fails.
"""

from typing import Any, Final

from ._model import PASSED, WENT_ON, around


class Aftermath:
    """Of one execution. Counted in turns, which a replay goes through as the first run did."""

    def __init__(self) -> None:
        self._failed_in = 0
        """The turn of the last failure that has reached the code."""
        self.created: Final[dict[str, int]] = {}
        """By branch: the same of when it was created, where there was one."""
        self.went_on: Final[dict[str, int]] = {}
        """By branch: the highest of these among the tasks that it created and that came to something."""
        self._heard_on: Final[dict[str, set[str]]] = {}
        """By branch: the runs that it started, and has heard the failure of."""
        self._heard_within: Final[dict[str, set[str]]] = {}
        """The same of a branch and those that are a part of it."""
        self.passed: Final[set[str]] = set()
        """Of these runs, those after whose failure it started another one."""

    def fail(self, turn: int | None) -> None:
        """A failure reaches the code in this turn; one that blocked the loop has none."""
        self._failed_in = max(self._failed_in, turn or 0)

    def create(self, branch: str) -> None:
        """The code creates a task."""
        if self._failed_in:
            self.created[branch] = self._failed_in

    def complete(self, branch: str) -> None:
        """An operation of this branch has completed: the branch has come to something, and those that it is part of."""
        while branch:
            creator = branch.rpartition("/")[0]
            if (turn := self.created.get(branch, 0)) > self.went_on.get(creator, 0):
                self.went_on[creator] = turn
            branch = creator

    def hear(self, branch: str, run_id: str) -> None:
        """The failure of a run that the code has started reaches it on this branch."""
        self._heard_on.setdefault(branch, set()).add(run_id)
        for each in (branch, *around(branch)):
            self._heard_within.setdefault(each, set()).add(run_id)

    def start(self, branch: str) -> None:
        """The code starts a run on this branch: after what it has heard there, in a part of it, or around it."""
        self.passed.update(self._heard_within.pop(branch, ()))
        for each in (branch, *around(branch)):
            self.passed.update(self._heard_on.pop(each, ()))

    def said(self) -> dict[str, Any]:
        """What a retry is to know of all this."""
        found = {WENT_ON: self.went_on, PASSED: sorted(self.passed)}
        return {what: each for what, each in found.items() if each}

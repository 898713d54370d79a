"""What the code of an async run went on to do after a failure had reached it, in tasks that it created then.

A journal says when a task called its first operation, and not when it was created: one that was there before the
failure may have waited for a semaphore. For a retry the difference is that between what a replay comes to without that
failure and what it does not. So the run keeps count while it executes, and says it in its own error when it fails.
"""

from typing import Final


class Aftermath:
    """Of one execution. Counted in turns, which a replay goes through as the first run did."""

    def __init__(self) -> None:
        self._failed_in = 0
        """The turn of the last failure that has reached the code."""
        self.created: Final[dict[str, int]] = {}
        """By branch: the same of when it was created, where there was one."""
        self.went_on: Final[dict[str, int]] = {}
        """By branch: the highest of these among the tasks that it created and that came to something."""

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

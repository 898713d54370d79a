"""Which runs `--status`, `--workflow`, `--since` and `--before` mean."""

import argparse

from durable._model import RUN_STATUSES, RunRecord
from durable.cli._reader import Reader, Wanted


class Selection:
    """The runs that a command is about: found by index as far as that goes, and then looked at one by one."""

    def __init__(self, options: argparse.Namespace, reader: Reader, now: float) -> None:
        self._reader = reader
        self._statuses: list[str] = options.status
        self._workflow: str | None = options.workflow
        self._since = None if options.since is None else now - options.since
        self._before = None if options.before is None else now - options.before

    def is_everything(self) -> bool:
        """Whether nothing was said of them."""
        return not self._statuses and self._workflow is None and self._since is None and self._before is None

    def wanted(self) -> Wanted:
        """What the indexes are asked for."""
        first, end = self._reader.range_of(self._since, self._before)
        statuses = self._statuses if set(self._statuses) != set(RUN_STATUSES) else []
        stored = ("running" if status == "interrupted" else status for status in statuses)
        return Wanted(tuple(dict.fromkeys(stored)), self._workflow, first, end)

    def fits(self, run: RunRecord, status: str) -> bool:
        """The journal may have changed since the key was found, and the key is only close to the times."""
        return (
            (not self._statuses or status in self._statuses)
            and (self._workflow is None or run.workflow == self._workflow)
            and (self._since is None or run.created_at >= self._since)
            and (self._before is None or run.created_at < self._before)
        )

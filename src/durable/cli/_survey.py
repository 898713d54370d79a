"""What can be told of many runs at once: counts by index, times from a sample, and the latest failures.

A journal of millions of steps is not read as a whole for that, and has no index for it, which each step would pay for.
"""

from typing import Final, NamedTuple

from durable._clock import SYSTEM_CLOCK
from durable._model import HIDDEN_KINDS, RunRecord, StepRecord
from durable._records import attempt_from, step_from
from durable.cli._errors import error_object
from durable.cli._reader import Reader, Wanted
from durable.errors import JournalError

_SAMPLED_RUNS: Final = 3_000
_SAMPLED_STEPS: Final = 50_000
LATEST: Final = 2_000
"""Failed attempts, and failed runs, that are looked at."""


class Times(NamedTuple):
    """Of one step: how often it ended, how long its last attempts took in seconds, in order, and what went wrong."""

    kind: str
    name: str
    seconds: list[float]
    retries: list[int]
    """Attempts beyond the first, of each operation that had some."""
    failed: list[int]
    """A 1 for each that has failed."""

    def percentile(self, share: float) -> float | None:
        """The time that so many did not exceed, `None` where none has ended."""
        if not self.seconds:
            return None
        return self.seconds[min(len(self.seconds) - 1, int(share * len(self.seconds)))]


class Sample(NamedTuple):
    """Runs that were drawn, and their steps. `whole`: there are no others."""

    runs: int
    steps: int
    whole: bool
    times: list[Times]


class Failures(NamedTuple):
    """One kind of failure: how many attempts or runs, how many were given up then, and when it was seen last."""

    error: str | None
    """The latest one, as the journal has it; `None` where the process died."""
    where: str
    times: int
    given_up: int
    last_at: float


class Survey:
    """The runs within a range of keys. `damage` tells of the records that cannot be read."""

    def __init__(self, reader: Reader, first: int, end: int) -> None:
        self._reader = reader
        self._range = (first, end)
        self.damage: list[str] = []

    def counts(self) -> dict[str, dict[str, int]]:
        """How many runs each workflow has of each status as people see it."""
        found: dict[str, dict[str, int]] = {}
        for workflow, status, count in self._reader.ask("counts", *self._range):
            found.setdefault(workflow, {})[status] = count
        live = self._reader.live_epoch()
        executing = dict(self._reader.ask("counts_of_live", live, *self._range)) if live else {}
        for workflow, counts in found.items():
            running = counts.pop("running", 0)
            here = min(running, executing.get(workflow, 0))
            counts.update({status: n for status, n in (("running", here), ("interrupted", running - here)) if n})
        return found

    # -- times --------------------------------------------------------------------------------------------------------

    def sample(self, runs: int) -> Sample:
        """The times of the steps of all `runs`, or of as many of them, drawn evenly, as can be read quickly."""
        keys = self._all_keys() if runs <= _SAMPLED_RUNS else self._drawn_keys()
        times: dict[tuple[str, str], Times] = {}
        drawn = steps = 0
        for key in keys:
            rows = self._reader.ask("some_steps", key, _SAMPLED_STEPS - steps + 1)
            drawn += 1
            steps += len(rows)
            if steps > _SAMPLED_STEPS:
                break
            for row in rows:
                try:
                    _add(times, step_from(row))
                except JournalError as error:
                    self.damage.append(str(error))
        for each in times.values():
            each.seconds.sort()
        whole = runs <= _SAMPLED_RUNS and steps <= _SAMPLED_STEPS
        return Sample(drawn, steps, whole, sorted(times.values(), key=lambda each: (each.kind, each.name)))

    def _all_keys(self) -> list[int]:
        return list(self._reader.newest(Wanted((), None, *self._range)))

    def _drawn_keys(self) -> list[int]:
        """One key out of each of as many stretches of equal length, in random order, should there be too many steps."""
        low, high = self._reader.ask("ends")[0]
        first, end = max(low, self._range[0]), min(high + 1, self._range[1])
        length = (end - first) / _SAMPLED_RUNS
        chance = SYSTEM_CLOCK.random
        drawn = {first + int((stretch + chance()) * length): chance() for stretch in range(_SAMPLED_RUNS)}
        return sorted(drawn, key=drawn.__getitem__)

    # -- failures -----------------------------------------------------------------------------------------------------

    def failed_attempts(self) -> list[Failures]:
        """The latest failed attempts by error and step, the most frequent first."""
        found: dict[tuple[str, str], Failures] = {}
        for *row, name, status, last in self._reader.ask("latest_attempts", *self._range, LATEST):
            try:
                attempt = attempt_from(tuple(row))
            except JournalError as error:
                self.damage.append(str(error))
                continue
            given_up = status == "failed" and attempt.attempt == last
            at = attempt.finished_at or attempt.started_at
            _count(found, attempt.error, name or "", given_up=given_up, at=at)
        return _most_frequent(found)

    def failed_runs(self) -> list[Failures]:
        """The latest failed runs by error and workflow, the most frequent first."""
        found: dict[tuple[str, str], Failures] = {}
        for key, _ in zip(self._reader.newest(Wanted(("failed",), None, *self._range)), range(LATEST), strict=False):
            try:
                run: RunRecord | None = self._reader.run_of_seq(key)
            except JournalError as error:
                self.damage.append(str(error))
                continue
            if run is not None and run.status == "failed":
                at = run.finished_at or run.created_at
                _count(found, run.error, run.workflow, given_up=True, at=at)
        return _most_frequent(found)


def _add(times: dict[tuple[str, str], Times], step: StepRecord) -> None:
    if step.kind in HIDDEN_KINDS:
        return
    found = times.setdefault((step.kind, step.name), Times(step.kind, step.name, [], [], []))
    if step.attempt > 1:
        found.retries.append(step.attempt - 1)
    if step.status == "failed":
        found.failed.append(1)
    if step.finished_at is not None and step.status in {"completed", "failed"}:
        found.seconds.append(max(0.0, step.finished_at - step.started_at))


def _count(found: dict[tuple[str, str], Failures], error: str | None, where: str, *, given_up: bool, at: float) -> None:
    """The newest comes first, and stands for all of its class."""
    described = error_object(error)
    kind = "" if described is None else f"{described['module']}:{described['type']}"
    before = found.get((kind, where)) or Failures(error, where, 0, 0, at)
    found[kind, where] = before._replace(
        times=before.times + 1, given_up=before.given_up + given_up, last_at=max(before.last_at, at)
    )


def _most_frequent(found: dict[tuple[str, str], Failures]) -> list[Failures]:
    return sorted(found.values(), key=lambda each: (-each.times, -each.last_at))

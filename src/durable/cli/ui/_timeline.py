"""The time of a run as bars: an attempt each, waits, and where its process died and the next one went on.

When a process died is not in the journal, only what it did last and when the next one came: a mark of a death has both.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final, NamedTuple

from durable._identity import Place
from durable._model import FINISHED, WAITS, OwnerRecord, StepRecord
from durable.cli._errors import end_of, first_line
from durable.cli._facts import step_status
from durable.cli._story import Story, Trial
from durable.cli.ui._nodes import preview_of

_MAP: Final = re.compile(r"\[\]:\d+$")
"""The branch of a map: the items are its positions."""
_MOST_ROWS: Final = 1_000
"""Operations that are drawn at once: the first and the last of them, half each."""


class Life(NamedTuple):
    """What one process did for a run. `end`: `died`, `stopped`, `lives`, or `left` where it had done its part."""

    pid: int
    began_at: float
    last_sign_at: float
    """The last thing that the journal has of it in this run."""
    ended_at: float | None
    """When it stopped cleanly, else `None`."""
    next_at: float | None
    """When the next process came, `None` for none yet."""
    end: str


def lives_of(story: Story, owners: list[OwnerRecord]) -> list[Life]:
    """The processes that executed the run, in order; those that left it alone are not among them."""
    run, live = story.run, story.facts.live
    moments = sorted(_moments(story))
    lives: list[Life] = []
    ordered = sorted(owners)
    for owner, after in pairwise([*ordered, None]):
        assert owner is not None
        until = float("inf") if after is None else after.started_at
        own = [at for at in moments if owner.started_at <= at < until]
        if not own and owner.epoch != run.epoch:
            continue
        ended = run.status in FINISHED and run.finished_at is not None and run.finished_at < until
        left = ended or (run.status == "blocked" and owner.epoch == run.epoch)
        is_live = live is not None and owner.epoch == live.epoch
        closed = owner.closed_at is not None
        end = "left" if left else "lives" if is_live else "stopped" if closed else "died"
        last = max(own, default=owner.started_at)
        lives.append(Life(owner.pid, owner.started_at, last, owner.closed_at, None if after is None else until, end))
    return lives


def _moments(story: Story) -> Iterator[float]:
    """Every time at which a process wrote something about the run."""
    spans = [(story.run.created_at, story.run.finished_at)]
    for step, attempts, _ in story.trials:
        spans.append((step.started_at, step.finished_at))
        spans += [(attempt.started_at, attempt.finished_at) for attempt in attempts]
    return (moment for span in spans for moment in span if moment is not None)


# -- rows -------------------------------------------------------------------------------------------------------------


def rows_of(story: Story, lives: list[Life], children: dict[Place, Any]) -> list[dict[str, Any]]:
    """A row an operation, and one a branch above its operations, in the order in which people read them."""
    arranged = list(_arranged(story.trials))
    hidden = len(arranged) - _MOST_ROWS
    if hidden > 0:
        half = _MOST_ROWS // 2
        arranged = [*arranged[:half], {"kind": "hidden", "count": hidden, "depth": 0}, *arranged[-half:]]
    return [
        row if isinstance(row, dict) else _operation(row, _depth(row.step.branch), story, lives, children)
        for row in arranged
    ]


def _arranged(trials: list[Trial]) -> Iterator[Trial | dict[str, Any]]:
    """Operations by position; a branch where it began, under what was called before it."""
    own: dict[str, list[Trial]] = {}
    began: dict[str, float] = {}
    for trial in trials:
        branch = trial.step.branch
        own.setdefault(branch, []).append(trial)
        while branch:  # those around it may have no operations of their own
            began[branch] = min(trial.began_at, began.get(branch, trial.began_at))
            branch = _around(branch)
    inner: dict[str, list[str]] = {}
    for branch in sorted(began, key=began.__getitem__):
        inner.setdefault(_around(branch), []).append(branch)

    def of(branch: str) -> Iterator[Trial | dict[str, Any]]:
        left = list(inner.get(branch, []))
        for trial in sorted(own.get(branch, []), key=lambda trial: trial.step.position):
            while left and began[left[0]] < trial.began_at:
                yield from under(left.pop(0))
            if trial.step.kind != "map":  # the mark of a map is the head of its branch
                yield trial
        for other in left:
            yield from under(other)

    def under(branch: str) -> Iterator[Trial | dict[str, Any]]:
        yield {"kind": "branch", "branch": branch, "name": _branch_name(branch), "depth": _depth(branch) - 1}
        yield from of(branch)

    yield from of("")


def _around(branch: str) -> str:
    """The branch that this one is a part of."""
    return branch.rpartition("/")[0]


def _depth(branch: str) -> int:
    return branch.count("/")


def _branch_name(branch: str) -> str:
    """`/fetch_page[]:0` is a map over `fetch_page`; `/page:1` the second task of `page`."""
    name, _, ordinal = branch.rpartition("/")[2].rpartition(":")
    if name.endswith("[]"):
        return f"map {name.removesuffix('[]')}"
    return f"task {name} {int(ordinal) + 1}" if ordinal.isdecimal() else f"task {name or ordinal}"


def _operation(trial: Trial, depth: int, story: Story, lives: list[Life], children: dict[Place, Any]) -> dict[str, Any]:
    step = trial.step
    status = _status(step, story)
    return {
        "kind": step.kind,
        "branch": step.branch,
        "position": step.position,
        "depth": depth,
        "item": bool(_MAP.search(step.branch)),
        "name": step.name,
        "status": status,
        "attempt": step.attempt,
        "result": _result(step, status),
        "retry_at": step.retry_at,
        "bars": list(_bars(trial, status, story, lives)),
        "child": children.get((step.branch, step.position)),
    }


def _status(step: StepRecord, story: Story) -> str:
    """`interrupted` where the process died in it, `cut` and `cancelled` where that ended it."""
    if step.status == "failed":
        end = end_of(step.error)
        return "failed" if end is None else end.status
    return step_status(step, story.facts.status)


def _result(step: StepRecord, status: str) -> str:
    if status == "completed":
        return "" if step.kind == "sleep" else preview_of(step.output or "null")
    return first_line(step.error) if step.error else ""


def _bars(trial: Trial, status: str, story: Story, lives: list[Life]) -> Iterator[dict[str, Any]]:
    """A bar an attempt: `from`, `to` (`None`: it goes on), and how it ended.

    One in which the process died has `until` beside its last sign: when the next one went on, `None` for not yet.
    """
    step, last = trial.step, 0
    for attempt in trial.attempts:
        last, bar = attempt.attempt, {"attempt": attempt.attempt, "from": attempt.started_at}
        if attempt.error is None:
            yield {**bar, **_death(lives, attempt.started_at)}
        else:
            yield {**bar, "to": attempt.finished_at, "state": "failed"}
    if last == step.attempt and step.status in {"failed", "retrying"}:  # its last attempt is among those above
        return
    bar = {"attempt": step.attempt, "from": step.started_at}
    if status == "interrupted":
        yield {**bar, **_death(lives, step.started_at)}
    else:
        ended = step.finished_at if step.status != "running" else story.run.finished_at
        waited = step.kind in WAITS and status == "completed"
        yield {**bar, "to": ended, "state": "waited" if waited else status}


def _death(lives: list[Life], at: float) -> dict[str, Any]:
    """How an attempt ended that was under way when its process did: not before the last sign of that."""
    after = next((life for life in lives if life.began_at > at), None)
    before = [life for life in lives if life.began_at <= at]
    last_sign = max(at, before[-1].last_sign_at) if before else at
    return {"to": last_sign, "until": None if after is None else after.began_at, "state": "died"}

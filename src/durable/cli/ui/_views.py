"""What the page asks for, as trees of JSON. Times are seconds since the Unix epoch, values are nodes (`_nodes.py`)."""

from typing import Any, Final

from durable._clock import SYSTEM_CLOCK
from durable._identity import Place, idempotency_key, runs_called
from durable._model import HAS_RUN, RUN_STATUSES, AttemptRecord, OwnerRecord, RunRecord
from durable.cli._errors import error_object
from durable.cli._facts import Facts, Owners, status_of, step_status, why
from durable.cli._find import find
from durable.cli._story import Story, Trial
from durable.cli._values import users_frames
from durable.cli.ui._browser import Browser, Damaged, Filters
from durable.cli.ui._nodes import node_of
from durable.cli.ui._timeline import lives_of, rows_of
from durable.cli.ui._words import sentences_of
from durable.errors import RunNotFoundError

_MOST_OWNERS: Final = 500
_MOST_CHILDREN: Final = 1_000

Tree = dict[str, Any]


# -- the list ---------------------------------------------------------------------------------------------------------


def list_view(browser: Browser, filters: Filters, below: int | None, limit: int) -> Tree:
    """A page of runs, and the key from which the next page goes on (`None`: there is none)."""
    now = SYSTEM_CLOCK.now()
    page = browser.page(filters, below, limit)
    return {"runs": [_row(entry, now) for entry in page.entries], "end": page.end, "now": now}


def _row(entry: Facts | Damaged, now: float) -> Tree:
    if isinstance(entry, Damaged):
        return {"seq": entry.seq, "id": None, "status": "damaged", "why": entry.message}
    run, step = entry.run, entry.step
    return {
        "seq": run.seq,
        "id": run.id,
        "workflow": run.workflow,
        "status": entry.status,
        "created_at": run.created_at,
        "finished_at": run.finished_at,
        "done": entry.tally.done,
        "under_way": entry.tally.under_way,
        "step": None if step is None else step.name,
        "attempt": None if step is None else step.attempt,
        "why": why(entry, now),
    }


def counts_view(browser: Browser, filters: Filters) -> Tree:
    """How many runs there are of each workflow and status; a text and these two are not minded."""
    live = next(iter(browser.owners(1)), None) if browser.live_epoch() else None
    return {
        "path": browser.path,
        "live_pid": None if live is None else live.pid,
        "statuses": RUN_STATUSES,
        "counts": browser.counts(filters),
    }


# -- one run ----------------------------------------------------------------------------------------------------------


def run_view(browser: Browser, run_id: str) -> Tree:
    """All about one run but the values of its steps."""
    run = find(browser, run_id, browser.path)
    story = Story(browser, run)
    lives = lives_of(story, _owners(browser, run))
    facts, parent = story.facts, browser.parent(run)
    return {
        "now": story.now,
        "id": run.id,
        "workflow": run.workflow,
        "module": run.module,
        "status": facts.status,
        "created_at": run.created_at,
        "finished_at": run.finished_at,
        "wake_at": run.wake_at,
        "pid": None if facts.owner is None else facts.owner.pid,
        "live_pid": None if facts.live is None else facts.live.pid,
        "parent": None if parent is None else {"id": parent.id, "workflow": parent.workflow},
        "may_retry": facts.status == "blocked" or (facts.status == "failed" and not story.refusal_of_retry()),
        "sentences": sentences_of(story, lives),
        "input": node_of(run.input),
        "output": node_of(run.output) if run.status == "completed" else None,
        "error": _error(run.error),
        "rows": rows_of(story, lives, _children(browser, story)),
        "lives": [life._asdict() for life in lives],
        "damage": story.damage,
    }


def _owners(browser: Browser, run: RunRecord) -> list[OwnerRecord]:
    """The processes that owned the journal since the run was created, the one before that included."""
    owners: list[OwnerRecord] = []
    for owner in browser.owners(_MOST_OWNERS):
        owners.append(owner)
        if owner.started_at <= run.created_at:
            break
    return owners


def _children(browser: Browser, story: Story) -> dict[Place, Tree]:
    """Of each operation that called or started a workflow: its run."""
    calls = [trial.step for trial in story.trials if trial.step.kind in HAS_RUN]
    if not calls:
        return {}
    owners, children = Owners(browser), browser.children(story.run.seq)[:_MOST_CHILDREN]
    called = runs_called(story.run, calls, children)
    return {place: {"id": child.id, "status": status_of(child, owners)} for place, child in called.items()}


# -- one step ---------------------------------------------------------------------------------------------------------


def step_view(browser: Browser, run_id: str, branch: str, position: int) -> Tree:
    """One operation: what went in and came out, its attempts, and its idempotency key."""
    run = find(browser, run_id, browser.path)
    story = Story(browser, run)
    trial = next((t for t in story.trials if (t.step.branch, t.step.position) == (branch, position)), None)
    if trial is None:
        msg = f"run {run.id!r} has no operation {position}" + (f" on branch {branch!r}" if branch else "")
        raise RunNotFoundError(msg)
    step = trial.step
    return {
        "now": story.now,
        "kind": step.kind,
        "name": step.name,
        "module": step.module,
        "branch": step.branch,
        "position": step.position,
        "input": node_of(step.input or None),
        "output": node_of(step.output) if step.status == "completed" and step.kind != "sleep" else None,
        "error": _error(step.error) if step.status == "failed" else None,
        "retry_at": step.retry_at if step.status != "completed" else None,
        "started_at": step.started_at,
        "finished_at": step.finished_at,
        "attempts": [*map(_attempt, trial.attempts), *_last_attempt(trial, story)],
        "idempotency_key": idempotency_key(run.id, step.branch, step.position) if step.kind == "step" else None,
    }


def _attempt(attempt: AttemptRecord) -> Tree:
    return {
        "attempt": attempt.attempt,
        "status": "interrupted" if attempt.error is None else "failed",
        "started_at": attempt.started_at,
        "finished_at": attempt.finished_at,
        "error": _error(attempt.error),
    }


def _last_attempt(trial: Trial, story: Story) -> list[Tree]:
    """The attempt that the record of the operation itself tells of, where no other record does."""
    step = trial.step
    if step.attempt == 0 or any(attempt.attempt == step.attempt for attempt in trial.attempts):
        return []
    return [
        {
            "attempt": step.attempt,
            "status": step_status(step, story.facts.status),
            "started_at": step.started_at,
            "finished_at": step.finished_at,
            "error": None,
        }
    ]


def _error(text: str | None) -> Tree | None:
    """Class, module, message and traceback of a journaled error, the traceback without the frames of this library."""
    tree = error_object(text, traceback=True)
    return None if tree is None else {**tree, "traceback": users_frames(tree["traceback"])}

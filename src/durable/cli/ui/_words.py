"""What happened to a run, in sentences that need no knowledge of this library."""

from collections.abc import Iterator

from durable._model import WAITS, StepRecord
from durable.cli._errors import first_line
from durable.cli._facts import unread_of
from durable.cli._story import Story
from durable.cli._text import age, counted, span
from durable.cli.ui._timeline import Life


def sentences_of(story: Story, lives: list[Life]) -> list[str]:
    """How the run stands, then what befell it on the way."""
    return [_standing(story), *_left_alone(story), *_deaths(story, lives), *_retries(story)]


def _standing(story: Story) -> str:
    run, status, now = story.run, story.facts.status, story.now
    took = span((run.finished_at or now) - run.created_at)
    if status == "completed":
        return f"Completed in {took}."
    if status == "failed":
        failed = [trial.step for trial in story.trials if trial.step.status == "failed"]
        where = f", in {failed[-1].name}{_attempt(failed[-1])}" if failed else ""
        return _sentence(f"Failed after {took}{where}: {first_line(run.error)}")
    if status == "cancelled":
        return f"Cancelled after {took}."
    if status == "blocked":
        return "Blocked: the code and the journal do not agree, so it was stopped before anything wrong was done."
    if status == "queued":
        return "Queued: " + (
            "it has not begun yet." if story.facts.live else "nobody executes runs of this journal now."
        )
    if status == "interrupted":
        return _interrupted(story)
    return _under_way(story)


def _interrupted(story: Story) -> str:
    done = sum(trial.step.status == "completed" for trial in story.trials)
    kept = "nothing had been completed" if not done else f"{counted(done, 'completed step')} will not run again"
    owner, open_step = story.facts.owner, _open_step(story)
    stopped = owner is not None and owner.closed_at is not None
    who = "Its process" if owner is None else f"Process {owner.pid}"
    where = f" while {open_step.name} ran" if open_step is not None and open_step.status == "running" else ""
    goes_on = f"It goes on when {story.run.workflow} is called again, or at durable.resume(): {kept}."
    return f"{who} {'stopped' if stopped else 'died'}{where}. {goes_on}"


def _under_way(story: Story) -> str:
    step, now = _open_step(story), story.now
    if step is None:
        return "Running: the workflow is between two steps."
    if step.status == "retrying":
        due = (step.retry_at or now) - now
        when = f"in {span(due)}" if due > 0 else "now"
        return f"{step.name} failed {_times(step.failures)} and is tried again {when}."
    if step.kind == "sleep":
        left = (step.retry_at or now) - now
        return f"Sleeping for {span(left)} more." if left > 0 else "Its sleep is over."
    if step.kind == "signal":
        if there := unread_of(step, story.facts.unread):
            return f"{there[0].upper()}{there[1:]}."
        until = f", for {span(step.retry_at - now)} more at most" if step.retry_at and step.retry_at > now else ""
        return f"Waiting for the signal {step.name!r}{until}."
    return f"{step.name} is running{_attempt(step)}, for {age(now - step.started_at)} so far."


def _attempt(step: StepRecord) -> str:
    return f", attempt {step.attempt}" if step.attempt > 1 else ""


def _sentence(text: str) -> str:
    """A text that somebody else wrote the end of, with a full stop where it has no end."""
    return text if text.endswith((".", "!", "?", "…", "。")) else f"{text}."


def _open_step(story: Story) -> StepRecord | None:
    """The operation under way that began last; one that works before one that waits."""
    steps = [trial.step for trial in story.trials if trial.step.status in {"running", "retrying"}]
    return max(steps, key=lambda step: (step.kind not in WAITS, step.started_at), default=None)


def _left_alone(story: Story) -> Iterator[str]:
    """That the run waits for a program, or for somebody."""
    facts = story.facts
    if any(message.kind == "cancel" for message in facts.unread):
        yield "It is to be cancelled."
    if facts.status == "waiting" and facts.live is None:
        workflow = story.run.workflow
        yield f"Nobody executes runs of this journal now: it goes on at durable.resume() where {workflow} is declared."
    if facts.status == "failed" and story.refusal_of_retry():
        yield "It cannot be retried from there: a fork starts a new run from any step."


def _deaths(story: Story, lives: list[Life]) -> Iterator[str]:
    """What became of the processes before the last one, which is told of already."""
    past = [life for life in lives[:-1] if life.end in {"died", "stopped"}]
    died = sum(life.end == "died" for life in past)
    where = {trial.step.name for trial in story.trials for attempt in trial.attempts if attempt.error is None}
    inside = f", in {', '.join(sorted(where))}" if where else ""
    if past:
        what = f"its process died {_times(died)}{inside}" if died else f"its process was stopped {_times(len(past))}"
        yield f"On the way {what}; the next one went on from there."


def _retries(story: Story) -> Iterator[str]:
    tried = [
        (trial.step.name, trial.step.failures)
        for trial in story.trials
        if trial.step.failures and trial.step.status == "completed"
    ]
    if len(tried) == 1:
        yield f"{tried[0][0]} failed {_times(tried[0][1])} before it worked."
    elif tried:
        yield f"{len(tried)} steps failed at first and worked when they were tried again."


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number:,} times")

"""`durable show ID`: one run, its steps with their attempts, and how it ended or what it needs."""

import argparse
from typing import Final

from durable._model import FINISHED, AttemptRecord, MessageRecord, StepRecord
from durable.cli._args import add_id
from durable.cli._errors import end_of, first_line, parts_of
from durable.cli._facts import (
    elapsed,
    gone,
    json_line,
    next_retry,
    step_status,
    to_be_resumed,
    unread_of,
    until,
    waits_for,
)
from durable.cli._find import find
from durable.cli._reader import Reader
from durable.cli._screen import Cell, Column, Screen
from durable.cli._story import Story, Trial
from durable.cli._text import ago, ahead, moment, span
from durable.cli._values import arguments, shortened, show_error

_SHAPE: Final = (
    Column("#"),
    Column("STATUS"),
    Column("STEP", 12),
    Column("TRIES", right=True),
    Column("TIME", right=True),
    Column("RESULT", 12),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What may follow `durable show`."""
    add_id(parser)


def run(options: argparse.Namespace, screen: Screen, reader: Reader) -> int:
    """The command; returns its exit code."""
    story = Story(reader, find(reader, options.id, options.db), utc=options.utc)
    if options.json:
        for tree in story.objects():
            screen.write(json_line(tree))
    else:
        show_story(story, screen)
    return 1 if story.damage else 0


def show_story(story: Story, screen: Screen) -> None:
    """All about a run, for people."""
    _show_head(story, screen)
    _show_steps(story, screen)
    _show_end(story, screen)
    for message in story.damage:
        screen.entry("damaged", message, "red")


# -- the head ---------------------------------------------------------------------------------------------------------


def _show_head(story: Story, screen: Screen) -> None:
    run, facts, now = story.run, story.facts, story.now
    if screen.width is None:
        screen.entry("id", run.id)
        screen.entry("workflow", run.workflow)
        screen.entry("status", facts.status)
    else:
        screen.line(screen.status(facts.status), Cell(f"  {run.workflow}  "), Cell(run.id, "bold"))
        screen.line()
    if facts.status == "interrupted":
        screen.entry("owner", gone(facts, now, utc=story.utc), "yellow")
    elif facts.live is not None and run.status not in FINISHED:
        screen.entry("owner", f"process {facts.live.pid}")
    elif facts.status == "waiting":
        screen.entry("owner", f"nobody: {gone(facts, now, utc=story.utc)}", "yellow")
    screen.entry("created", moment(run.created_at, now, utc=story.utc))
    if run.finished_at is not None:
        screen.entry("finished", moment(run.finished_at, now, utc=story.utc))
    took = elapsed(facts, now)
    if took is not None:
        screen.entry("elapsed", span(took))
    if facts.status == "waiting" and run.wake_at is not None:
        screen.entry("due", ahead(run.wake_at, now, utc=story.utc) if run.wake_at > now else "now")
    if facts.awaited:
        screen.entry("now", waits_for(facts.awaited))
    screen.entry("input", arguments(run.input, screen))


# -- the steps --------------------------------------------------------------------------------------------------------


def _show_steps(story: Story, screen: Screen) -> None:
    rows = []
    for trial in story.trials:
        rows.append(_step_row(trial, story, screen))
        if len(trial.attempts) > 1 or trial.step.status != "failed":
            rows += [_attempt_row(attempt, screen) for attempt in trial.attempts]
    if rows:
        if screen.width is not None:
            screen.line()
        screen.table(_SHAPE, rows, [])
    if screen.width is not None:
        screen.line()


def _step_row(trial: Trial, story: Story, screen: Screen) -> list[Cell]:
    step = trial.step
    status = step_status(step, story.facts.status)
    goes_on = status == "waiting" or story.facts.status in {"running", "waiting"}
    end = trial.ended_at or (story.now if goes_on else None)
    where = ([trial.number] if trial.number else []) + ([step.branch, step.position] if step.branch else [])
    return [
        Cell(" ".join(map(str, where)), "dim"),
        screen.status(status),
        Cell(step.name if step.kind in {"step", step.name} else f"{step.kind} {step.name}"),
        Cell(str(step.attempt or "")),
        Cell("" if end is None else span(end - trial.began_at)),
        _result(step, status, story),
    ]


def _result(step: StepRecord, status: str, story: Story) -> Cell:
    if status == "completed":
        return Cell(step.output or "null")
    if status == "failed":
        return Cell(first_line(step.error), "" if end_of(step.error) else "red")
    if status == "retrying":
        return Cell(next_retry(step, story.now, utc=story.utc), "yellow")
    if status == "waiting":
        there = unread_of(step, story.facts.unread)
        return Cell(there, "yellow") if there else Cell(until(step.retry_at, story.now, utc=story.utc))
    return Cell("the process died in it", "yellow") if status == "interrupted" else Cell("")


def _attempt_row(attempt: AttemptRecord, screen: Screen) -> list[Cell]:
    end = attempt.finished_at
    return [
        Cell(""),
        screen.status("interrupted" if attempt.error is None else "failed"),
        Cell(f"  attempt {attempt.attempt}", "dim"),
        Cell(""),
        Cell("" if end is None else span(end - attempt.started_at)),
        Cell(first_line(attempt.error), "dim"),
    ]


# -- the end ----------------------------------------------------------------------------------------------------------


def _show_end(story: Story, screen: Screen) -> None:
    run, facts = story.run, story.facts
    if facts.status == "completed":
        screen.entry("result", shortened(run.output or "null", screen))
    elif facts.status == "blocked" and run.error is not None:
        screen.entry("blocked", parts_of(run.error)[1], "magenta")
    elif run.error is not None:
        show_error(run.error, screen)
    if facts.unread:
        screen.entry("unread", "\n".join(_sent(message, story, screen) for message in facts.unread))
    next_ = _what_next(story)
    if next_:
        screen.entry("next", next_)


def _sent(message: MessageRecord, story: Story, screen: Screen) -> str:
    """What was asked of the run, and when."""
    what = "to be cancelled"
    if message.kind == "signal":
        value = shortened(message.value or "null", screen) if message.error is None else first_line(message.error)
        what = f"signal {message.name!r} = {value}"
    return f"{what}, sent {ago(message.sent_at, story.now, utc=story.utc)}"


def _what_next(story: Story) -> str:
    """What somebody can do for the run, "" where there is nothing to do, or nothing to say of it."""
    facts, run = story.facts, story.run
    if facts.status == "failed":
        retry = f"run.retry(), or durable retry {run.id}, goes on from what failed, with fresh attempts"
        return story.refusal_of_retry() or retry
    if facts.status == "interrupted":
        return _after_death(story)
    if facts.live is None and facts.status in {"queued", "waiting"}:
        return to_be_resumed(facts)
    steps = (trial.step for trial in story.trials)
    awaited = next((step.name for step in steps if step.kind == "signal" and step.status == "running"), None)
    if facts.status in {"running", "waiting"} and awaited is not None:
        return f"run.signal({awaited!r}, …), or durable signal {run.id} {awaited} JSON, sends what it waits for"
    return ""


def _after_death(story: Story) -> str:
    live, name = story.facts.live, story.run.workflow
    if live is not None:
        return (
            f"process {live.pid} owns the journal now and has not gone on with it: there {name} is called again with "
            f"the same input, or declared before durable.resume()"
        )
    return f"call {name} again with the same input, or durable.resume() in a program that declares it"

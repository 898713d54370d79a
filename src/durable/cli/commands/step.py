"""`durable step ID PLACE`: one step of a run, with everything that the journal has about it."""

import argparse
from typing import Final

from durable._identity import idempotency_key
from durable._model import AttemptRecord, StepRecord
from durable._replay import place
from durable.cli._args import add_id
from durable.cli._errors import end_of
from durable.cli._facts import json_line, next_retry, step_status, waiting
from durable.cli._find import find, find_step
from durable.cli._reader import Reader
from durable.cli._screen import Cell, Screen
from durable.cli._story import Story, Trial
from durable.cli._text import moment, span
from durable.cli._values import arguments, shortened, show_error

_WHICH: Final = (
    "the number of the step, as durable show counts from 1; or its place on a branch, as /fetch:1 0; or its name"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What may follow `durable step`."""
    add_id(parser)
    parser.add_argument("place", metavar="N", nargs="+", help=_WHICH)


def run(options: argparse.Namespace, screen: Screen, reader: Reader) -> int:
    """The command; returns its exit code."""
    story = Story(reader, find(reader, options.id, options.db), utc=options.utc)
    steps = [trial.step for trial in story.trials]
    found = find_step(steps, story.run, " ".join(options.place), options.db)
    trial = story.trials[steps.index(found)]
    if options.json:
        screen.write(json_line(_object(trial, story)))
        return 0
    _show_head(trial, story, screen)
    for attempt in trial.attempts:
        if attempt.attempt != trial.step.attempt or trial.step.status != "failed":
            _show_attempt(attempt, story, screen)
    _show_end(trial, story, screen)
    return 0


def _key(trial: Trial, story: Story) -> str:
    return idempotency_key(story.run.id, trial.step.branch, trial.step.position)


def _object(trial: Trial, story: Story) -> dict[str, object]:
    return {
        **trial.object(story.run, traceback=True),
        "workflow": story.run.workflow,
        "module": trial.step.module,
        "idempotency_key": _key(trial, story),
    }


def _show_head(trial: Trial, story: Story, screen: Screen) -> None:
    step, now = trial.step, story.now
    status = step_status(step, story.facts.status)
    if screen.width is None:
        screen.entry("step", step.name)
        screen.entry("status", status)
    else:
        screen.line(screen.status(status), Cell(f"  {step.name}", "bold"))
        screen.line()
    screen.entry("run", f"{story.run.id}  ({story.run.workflow}, {story.facts.status})")
    if trial.number is not None:
        screen.entry("number", str(trial.number))
    screen.entry("place", place(step))
    if step.kind != "step":
        screen.entry("kind", step.kind)
    screen.entry("module", step.module)
    screen.entry("began", moment(trial.began_at, now, utc=story.utc))
    if trial.ended_at is not None:
        screen.entry("ended", moment(trial.ended_at, now, utc=story.utc))
        screen.entry("elapsed", span(trial.ended_at - trial.began_at))
    screen.entry("key", _key(trial, story))
    if step.input:
        screen.entry("input", arguments(step.input, screen))


def _show_attempt(attempt: AttemptRecord, story: Story, screen: Screen) -> None:
    """One that did not complete the step, and was not its last."""
    if screen.width is not None:
        screen.line()
    took = "" if attempt.finished_at is None else f", after {span(attempt.finished_at - attempt.started_at)}"
    screen.entry("attempt", f"{attempt.attempt}  {moment(attempt.started_at, story.now, utc=story.utc)}{took}")
    if attempt.error is None:
        screen.entry("died", "the process ended in it", "yellow")
    else:
        show_error(attempt.error, screen)


def _show_end(trial: Trial, story: Story, screen: Screen) -> None:
    """The last attempt, and what came of the step."""
    step = trial.step
    if screen.width is not None:
        screen.line()
    if step.status != "retrying" and step.attempt:
        screen.entry("attempt", f"{step.attempt}  {moment(step.started_at, story.now, utc=story.utc)}")
    if step.status == "completed":
        screen.entry("result", shortened(step.output or "null", screen))
    elif step.status == "retrying":
        screen.entry("next", next_retry(step, story.now, utc=story.utc), "yellow")
    elif end := end_of(step.error):
        screen.entry("ended", end.message)
    elif step.error is not None:
        show_error(step.error, screen)
    else:
        _show_under_way(step, story, screen)


def _show_under_way(step: StepRecord, story: Story, screen: Screen) -> None:
    status = step_status(step, story.facts.status)
    if status == "interrupted":
        screen.entry("died", "the process ended in it", "yellow")
    elif status == "waiting":
        screen.entry("now", ", ".join(waiting(step, story.facts.unread, story.now, utc=story.utc)))
    else:
        screen.entry("now", "it is running")

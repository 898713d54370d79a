"""`durable step ID PLACE`: one step of a run, with everything that the journal has about it."""

import argparse
import re
from typing import Final

from durable._effects import CANCELLED, CUT
from durable._identity import idempotency_key
from durable._model import AttemptRecord
from durable.cli._args import add_id
from durable.cli._facts import first_line, json_line, next_retry
from durable.cli._find import find
from durable.cli._reader import Reader
from durable.cli._screen import Cell, Screen
from durable.cli._story import Story, Trial
from durable.cli._text import moment, span
from durable.cli._values import arguments, shortened, show_error
from durable.errors import RunNotFoundError

_PLACE: Final = "the place of the step, as durable show has it in its first column: 2, or /fetch:1 0; or its name"


def add_options(parser: argparse.ArgumentParser) -> None:
    """What may follow `durable step`."""
    add_id(parser)
    parser.add_argument("place", metavar="N", nargs="+", help=_PLACE)


def run(options: argparse.Namespace, screen: Screen, reader: Reader) -> int:
    """The command; returns its exit code."""
    story = Story(reader, find(reader, options.id, options.db), utc=options.utc)
    trial = _find(story, " ".join(options.place), options.db)
    if options.json:
        screen.write(json_line(_object(trial, story)))
        return 0
    _show_head(trial, story, screen)
    for attempt in trial.attempts:
        if attempt.attempt != trial.step.attempt or trial.step.status != "failed":
            _show_attempt(attempt, story, screen)
    _show_end(trial, story, screen)
    return 0


def _find(story: Story, wanted: str, path: str) -> Trial:
    """The operation at a place, or the only one of a name."""
    place = re.fullmatch(r"(?:(.+) )?(-?[0-9]+)", wanted)
    if place is not None:
        branch, position = place[1] or "", int(place[2])
        found = [trial for trial in story.trials if (trial.step.branch, trial.step.position) == (branch, position)]
    else:
        found = [trial for trial in story.trials if trial.step.name == wanted]
    if len(found) == 1:
        return found[0]
    run = f"run {story.run.id} in {path}"
    if found:
        places = ", ".join(_place(trial) for trial in found[:10])
        msg = f"{run} has {len(found)} steps called {wanted!r}: say which, by its place: {places}"
    else:
        msg = f"{run} has no step {wanted!r}: durable show {story.run.id} lists them, with their places"
    raise RunNotFoundError(msg)


def _place(trial: Trial) -> str:
    return f"{trial.step.branch} {trial.step.position}".lstrip()


def _key(trial: Trial, story: Story) -> str:
    return idempotency_key(story.run.id, trial.step.branch, trial.step.position)


def _object(trial: Trial, story: Story) -> dict[str, object]:
    return {
        **trial.object(story.run, traceback=True),
        "workflow": story.run.workflow,
        "module": trial.step.module,
        "idempotency_key": _key(trial, story),
    }


def _died(trial: Trial, story: Story) -> bool:
    return trial.step.status == "running" and story.facts.status not in {"running", "waiting"}


def _show_head(trial: Trial, story: Story, screen: Screen) -> None:
    step, now = trial.step, story.now
    status = "interrupted" if _died(trial, story) else step.status
    if screen.width is None:
        screen.entry("step", step.name)
        screen.entry("status", status)
    else:
        screen.line(screen.status(status), Cell(f"  {step.name}", "bold"))
        screen.line()
    screen.entry("run", f"{story.run.id}  ({story.run.workflow}, {story.facts.status})")
    screen.entry("place", _place(trial))
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
    elif step.error in {CUT, CANCELLED}:
        screen.entry("ended", first_line(step.error))
    elif step.error is not None:
        show_error(step.error, screen)
    elif _died(trial, story):
        screen.entry("died", "the process ended in it", "yellow")
    else:
        screen.entry("now", "it is running")

"""`durable stats`: runs by workflow and status, how long steps take, and what fails."""

import argparse
from collections.abc import Iterator
from typing import Any, Final

from durable._clock import SYSTEM_CLOCK
from durable._model import RUN_STATUSES
from durable.cli._args import add_ages
from durable.cli._errors import error_object, first_line
from durable.cli._facts import json_line
from durable.cli._reader import Reader
from durable.cli._screen import Cell, Column, Screen
from durable.cli._survey import LATEST, Failures, Sample, Survey, Times
from durable.cli._text import ago, counted, iso, span

_TIMES_SHAPE: Final = (
    Column("STEP", 8),
    Column("ENDED", right=True),
    Column("P50", right=True),
    Column("P95", right=True),
    Column("P99", right=True),
    Column("RETRIES", right=True),
    Column("FAILED", right=True),
)
_MOST_FAILURES: Final = 10
"""Lines of failures that a person is shown."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What may follow `durable stats`."""
    add_ages(parser)


def run(options: argparse.Namespace, screen: Screen, reader: Reader) -> int:
    """The command; returns its exit code."""
    now = SYSTEM_CLOCK.now()
    since = None if options.since is None else now - options.since
    before = None if options.before is None else now - options.before
    survey = Survey(reader, *reader.range_of(since, before))
    counts = survey.counts()
    sample = survey.sample(sum(sum(each.values()) for each in counts.values()))
    attempts, runs = survey.failed_attempts(), survey.failed_runs()
    if options.json:
        for tree in _objects(counts, sample, attempts, runs):
            screen.write(json_line(tree))
    else:
        _show_counts(counts, screen)
        _show_times(sample, screen)
        _show_failures("attempts", attempts, now, screen, utc=options.utc)
        _show_failures("runs", runs, now, screen, utc=options.utc)
        for message in survey.damage[:_MOST_FAILURES]:
            screen.entry("damaged", message, "red")
    return 1 if survey.damage else 0


def _objects(
    counts: dict[str, dict[str, int]], sample: Sample, attempts: list[Failures], runs: list[Failures]
) -> Iterator[dict[str, Any]]:
    for workflow, each in counts.items():
        for status, count in each.items():
            yield {"kind": "runs", "workflow": workflow, "status": status, "count": count}
    for times in sample.times:
        yield {
            "kind": "times",
            "step_kind": times.kind,
            "step": times.name,
            "count": len(times.seconds),
            "p50_seconds": times.percentile(0.50),
            "p95_seconds": times.percentile(0.95),
            "p99_seconds": times.percentile(0.99),
            "retries": sum(times.retries),
            "failed": len(times.failed),
            "sampled": not sample.whole,
        }
    for kind, where, found in (("failed_attempts", "step", attempts), ("failed_runs", "workflow", runs)):
        for failures in found:
            yield {
                "kind": kind,
                where: failures.where,
                "error": error_object(failures.error),
                "count": failures.times,
                "given_up": failures.given_up,
                "last_at": iso(failures.last_at),
            }


def _show_counts(counts: dict[str, dict[str, int]], screen: Screen) -> None:
    if screen.width is None:
        for workflow, each in counts.items():
            for status, count in each.items():
                screen.table((), [[Cell("runs"), Cell(workflow), Cell(status), Cell(str(count))]], [])
        return
    statuses = [status for status in RUN_STATUSES if any(status in each for each in counts.values())]
    shape = [Column("WORKFLOW", 8), Column("RUNS", right=True), *(Column(s.upper(), right=True) for s in statuses)]
    rows = [_count_row(workflow, each, statuses, screen) for workflow, each in counts.items()]
    if len(rows) != 1:
        total = {status: sum(each.get(status, 0) for each in counts.values()) for status in statuses}
        rows.append(_count_row("all", total, statuses, screen))
    screen.table(shape, rows, [])


def _count_row(name: str, counts: dict[str, int], statuses: list[str], screen: Screen) -> list[Cell]:
    cells = [Cell(f"{counts[s]:,}", screen.status(s).style) if counts.get(s) else Cell("") for s in statuses]
    return [Cell(name), Cell(f"{sum(counts.values()):,}", "bold"), *cells]


def _show_times(sample: Sample, screen: Screen) -> None:
    if screen.width is None:
        for times in sample.times:
            screen.table((), [[Cell("times"), *_times_row(times, "")]], [])
        return
    if sample.times:
        screen.line()
        screen.table(_TIMES_SHAPE, [_times_row(times, ",") for times in sample.times], [])
    if not sample.whole:
        text = f"from {counted(sample.steps, 'step')} of {counted(sample.runs, 'run')}, drawn at random"
        screen.line(Cell(text, "dim"))


def _times_row(times: Times, thousands: str) -> list[Cell]:
    seconds = [times.percentile(share) for share in (0.50, 0.95, 0.99)]
    name = times.name if times.kind in {"step", times.name} else f"{times.kind} {times.name}"
    retries, failed = sum(times.retries), len(times.failed)
    return [
        Cell(name),
        Cell(f"{len(times.seconds):{thousands}}"),
        *(Cell("" if each is None else span(each)) for each in seconds),
        Cell(f"{retries:{thousands}}" if retries else "", "yellow"),
        Cell(f"{failed:{thousands}}" if failed else "", "red"),
    ]


def _show_failures(what: str, found: list[Failures], now: float, screen: Screen, *, utc: bool) -> None:
    """What fails, most frequent first: attempts by step, or runs by workflow."""
    rows = [
        [
            Cell(first_line(failures.error), "red"),
            Cell(failures.where),
            Cell(f"{failures.times:,}" if screen.width else str(failures.times)),
            *([Cell(f"{failures.given_up:,}" if screen.width else str(failures.given_up))] * (what == "attempts")),
            Cell(ago(failures.last_at, now, utc=utc), "dim"),
        ]
        for failures in found
    ]
    if screen.width is None:
        screen.table((), [[Cell(f"failed {what}"), *row] for row in rows], [])
    elif rows:
        where = "STEP" if what == "attempts" else "WORKFLOW"
        last = [Column("GAVE UP", right=True)] if what == "attempts" else []
        title = f"FAILED {what.upper()}"
        screen.line()
        shape = (Column(title, 20), Column(where, 8), Column("COUNT", right=True), *last, Column("LAST", right=True))
        screen.table(shape, rows[:_MOST_FAILURES], [])
        if len(rows) > _MOST_FAILURES:
            screen.line(Cell(f"… and {len(rows) - _MOST_FAILURES:,} more kinds: --json shows them", "dim"))
        if sum(failures.times for failures in found) >= LATEST:
            screen.line(Cell(f"of the latest {LATEST:,}", "dim"))

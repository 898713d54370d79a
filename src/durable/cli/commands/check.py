"""`durable check MODULE`: whether the unfinished runs of a journal would go on with the code of a module."""

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Final, NamedTuple

from durable._progress import Progress
from durable.cli._args import seconds
from durable.cli._facts import json_line
from durable.cli._reader import Reader, Wanted
from durable.cli._screen import Cell, Column, Screen
from durable.cli._text import visible
from durable.errors import JournalError

_UNFINISHED: Final = ("queued", "running", "waiting", "blocked")
_SHAPE: Final = (Column("VERDICT"), Column("WORKFLOW", 8), Column("ID", 12), Column("WHY", 20))
_LOOKS: Final = {"goes on": "ok", "would block": "blocked", "unclear": "note", "not declared": "problem"}
_TIMEOUT_SECONDS: Final = 10.0


class Checked(NamedTuple):
    """An unfinished run, and what would become of it."""

    workflow: str
    id: str
    verdict: str
    why: str


def add_options(parser: argparse.ArgumentParser) -> None:
    """What may follow `durable check`."""
    parser.add_argument("module", metavar="MODULE", help="the program as it is to be deployed, by its name or file")
    parser.add_argument("--workflow", metavar="NAME", help="only runs of this workflow")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=seconds, default=_TIMEOUT_SECONDS,
        help=f"give a run up whose own code takes longer; default: {_TIMEOUT_SECONDS:g}",
    )  # fmt: skip


def run(options: argparse.Namespace, screen: Screen, reader: Reader) -> int:
    """The command; returns its exit code."""
    from durable.cli._program import load

    reader.range_of(None, None)  # a file that is no journal is refused first
    load(options.module)
    counts: dict[str, int] = {}
    bad = []
    with _quiet():
        for checked in _checked(options, reader):
            counts[checked.verdict] = counts.get(checked.verdict, 0) + 1
            if options.json:
                screen.write(json_line({**checked._asdict(), "kind": "checked"}))
            elif checked.verdict != "goes on":
                bad.append(checked)
    if bad:
        _show(bad, screen)
    if not options.json:
        _say(_summary(counts, options), screen)
    return int(any(verdict != "goes on" for verdict in counts))


def _checked(options: argparse.Namespace, reader: Reader) -> Iterator[Checked]:
    from durable._engine import REGISTRY
    from durable._rehearsal import Rehearsals

    rehearsals = Rehearsals(reader, REGISTRY, options.timeout)
    keys = sorted(reader.newest(Wanted(_UNFINISHED, options.workflow, 0, 2**63 - 1)))
    with Progress("checking", "runs", len(keys), stream=sys.__stderr__) as progress:
        for key in keys:
            try:
                record = reader.run_of_seq(key)
                if record is None or record.status not in _UNFINISHED:
                    continue  # it has ended meanwhile
                if record.workflow not in REGISTRY.workflows:
                    verdict, why = "not declared", f"{options.module} has no workflow of this name: it would be left"
                else:
                    verdict, why = rehearsals.of(record)
                yield Checked(record.workflow, record.id, verdict, why)
            except JournalError as error:
                yield Checked("", "", "unclear", str(error))
            progress.advance()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What the workflows print is not for whoever reads this."""
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def _show(checked: list[Checked], screen: Screen) -> None:
    rows = []
    for each in checked:
        glyph = screen.status(_LOOKS[each.verdict])
        mark = f"{glyph.text[0]} " if screen.width is not None else ""
        row = [Cell(mark + each.verdict, glyph.style), Cell(each.workflow), Cell(each.id, "bold"), Cell(each.why)]
        rows.append(row)
    if screen.width is None:
        screen.table(_SHAPE, rows, [])
        return
    for row in rows:  # the reasons are long, and all of each is wanted
        screen.line(row[0], Cell("  "), row[1], Cell("  "), row[2])
        screen.entry("", row[3].text)


def _summary(counts: dict[str, int], options: argparse.Namespace) -> str:
    total = sum(counts.values())
    if not total:
        return f"no unfinished runs{f' of {options.workflow!r}' if options.workflow else ''} in {options.db}"
    parts = [f"{counts[verdict]:,} {_WORDS[verdict]}" for verdict in _WORDS if verdict in counts]
    return f"{total:,} unfinished run{'s' * (total > 1)} with {options.module}: {', '.join(parts)}"


_WORDS: Final = {
    "goes on": "would go on",
    "would block": "would block",
    "unclear": "unclear",
    "not declared": "of workflows that it does not declare",
}


def _say(text: str, screen: Screen) -> None:
    if screen.width is None:
        print(f"durable: {visible(text)}", file=sys.stderr)
    else:
        screen.say(text, "dim")

"""`durable doctor`: whether the journal is whole and its runs can go on, and what to do where not."""

import argparse
import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from durable._clock import SYSTEM_CLOCK
from durable._format import FORMAT
from durable._progress import Progress
from durable.cli._errors import parts_of
from durable.cli._facts import json_line
from durable.cli._reader import Reader, Wanted
from durable.cli._screen import Cell, Screen
from durable.cli._soundness import TABLES, damage_of_file, damage_of_records
from durable.cli._survey import Survey
from durable.cli._text import ago, size
from durable.errors import DurableError, JournalError

_LARGE_WAL_BYTES: Final = 64 * 2**20
_MOST_SHOWN: Final = 20
_UNFINISHED: Final = ("queued", "running", "interrupted", "waiting", "blocked")


class Finding(NamedTuple):
    """One thing that was looked at: "ok", a "note", or a "problem", which makes the exit code 1."""

    name: str
    level: str
    text: str
    todo: str = ""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What may follow `durable doctor`."""
    parser.add_argument(
        "--module", metavar="MODULE",
        help="the program: which unfinished runs are of workflows that it does not declare",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="do not read the whole file to find damage")


def run(options: argparse.Namespace, screen: Screen, reader: Reader) -> int:
    """The command; returns its exit code."""
    worst = 0
    for finding in _findings(options, reader):
        worst |= finding.level == "problem"
        if options.json:
            screen.write(json_line({"kind": "check", **finding._asdict()}))
        else:
            _show(finding, screen)
        screen.flush()
    return int(worst)


def _show(finding: Finding, screen: Screen) -> None:
    if screen.width is None:
        row = [Cell(finding.name), Cell(finding.level), Cell(finding.text), Cell(finding.todo)]
        screen.table((), [row], [])
        return
    mark = screen.status(finding.level)
    screen.line(Cell(mark.text[0], mark.style), Cell(f" {finding.name:10} "), Cell(finding.text))
    if finding.todo:
        screen.entry("", finding.todo, "dim")


def _findings(options: argparse.Namespace, reader: Reader) -> Iterator[Finding]:
    try:
        yield _file(reader, options.db)
    except JournalError as error:
        yield Finding("file", "problem", str(error))
        return
    yield from _permissions(reader.path)
    yield _wal(reader.path)
    if not options.quick:
        yield _integrity(reader)
        yield from _records(reader)
    yield _owner(reader, utc=options.utc)
    survey = Survey(reader, *reader.range_of(None, None))
    counts = survey.counts()
    yield from _unfinished(reader, counts)
    yield from _blocked(reader)
    if options.module is not None:
        yield from _declared(options.module, counts)


# -- the file ---------------------------------------------------------------------------------------------------------


def _file(reader: Reader, path: str) -> Finding:
    found = reader._query("SELECT value FROM durable_meta WHERE key = 'format'", ())[0][0]
    length = os.path.getsize(reader.path)
    text = f"{path}, {size(length)}, format {found}"
    if found < FORMAT:
        return Finding("file", "note", text, f"the next program that executes its runs brings it to format {FORMAT}")
    return Finding("file", "ok", text)


def _permissions(path: str) -> Iterator[Finding]:
    mode = os.stat(path).st_mode & 0o777
    if mode & 0o077:
        text = f"other users may open it (mode {mode:04o}), and it holds inputs and results of all steps"
        yield Finding("mode", "note", text, f"chmod 600 {path}")


def _wal(path: str) -> Finding:
    length = os.path.getsize(path + "-wal") if os.path.exists(path + "-wal") else 0
    if length <= _LARGE_WAL_BYTES:
        return Finding("wal", "ok", size(length))
    todo = (
        "something keeps SQLite from using it again from its start, and commits become slower: a process that reads "
        "the journal for a long time, such as a backup, or one that was stopped (Ctrl-Z)"
    )
    return Finding("wal", "note", f"{size(length)}, which is large", todo)


def _integrity(reader: Reader) -> Finding:
    with Progress("checking the file") as progress:
        progress.reach(0)
        damage = damage_of_file(reader)
    if not damage:
        return Finding("integrity", "ok", "SQLite finds nothing wrong with the file")
    text = f"SQLite finds the file damaged: {damage[0]}" + (f" and {len(damage) - 1} more" if damage[1:] else "")
    return Finding("integrity", "problem", text, "restore it from a backup; copy it before anything else")


def _records(reader: Reader) -> Iterator[Finding]:
    for table in TABLES:
        with Progress(f"checking {table.name}", table.name) as progress:
            damage = list(damage_of_records(reader, table, progress))
        if not damage:
            yield Finding(table.name, "ok", f"{progress.done:,}, all as they were written")
            continue
        for message in damage[:_MOST_SHOWN]:
            yield Finding(table.name, "problem", message)
        if len(damage) > _MOST_SHOWN:
            yield Finding(table.name, "problem", f"{len(damage) - _MOST_SHOWN:,} more are damaged")


# -- the owner --------------------------------------------------------------------------------------------------------


def _owner(reader: Reader, *, utc: bool) -> Finding:
    now = SYSTEM_CLOCK.now()
    owners = reader.owners(1)
    if not owners:
        return Finding("owner", "ok", "no process has owned the journal yet")
    owner = owners[0]
    if reader.live_epoch() == owner.epoch:
        text = f"process {owner.pid} is alive; it took the journal {ago(owner.started_at, now, utc=utc)}"
        return Finding("owner", "ok", text)
    if owner.closed_at is not None:
        text = f"nobody; process {owner.pid} stopped {ago(owner.closed_at, now, utc=utc)}"
    else:
        text = f"nobody; process {owner.pid} died; it had taken the journal {ago(owner.started_at, now, utc=utc)}"
    return Finding("owner", "ok", text)


# -- the runs ---------------------------------------------------------------------------------------------------------


def _unfinished(reader: Reader, counts: dict[str, dict[str, int]]) -> Iterator[Finding]:
    live = reader.owner_pid()
    total = {status: sum(each.get(status, 0) for each in counts.values()) for status in _UNFINISHED}
    total["overdue"] = reader.ask("overdue", SYSTEM_CLOCK.now())[0][0]
    there = f"process {live} owns the journal: there " if live else "start the program: "
    go_on = f"{there}durable.resume() goes on with them, once their workflows are declared"
    if total["interrupted"]:
        yield Finding("unfinished", "note", f"{total['interrupted']:,} interrupted, nobody executes them", go_on)
    for status, what in (("queued", "queued, not begun yet"), ("overdue", "waiting, and due")):
        if total[status] and not live:
            yield Finding("unfinished", "note", f"{total[status]:,} {what}, and nobody owns the journal", go_on)
    if not total["interrupted"] and (live or not (total["queued"] or total["overdue"])):
        yield Finding("unfinished", "ok", "none of them is left behind")


def _blocked(reader: Reader) -> Iterator[Finding]:
    shown = 0
    for key in reader.newest(Wanted(("blocked",), None, 0, 2**63 - 1)):
        try:
            found = reader.run_of_seq(key)
        except JournalError:  # told of already
            continue
        if found is None or found.status != "blocked":
            continue
        if shown == _MOST_SHOWN:
            yield Finding("blocked", "problem", "and more: durable ls --status blocked --limit 0 lists them all")
            return
        shown += 1
        why = parts_of(found.error)[1] if found.error else "nothing says why"
        yield Finding("blocked", "problem", f"{found.id}  {found.workflow}", why)


def _declared(module: str, counts: dict[str, dict[str, int]]) -> Iterator[Finding]:
    from durable.cli._program import load

    try:
        workflows = load(module)
    except DurableError as error:
        yield Finding("module", "problem", str(error))
        return
    missing = [name for name in counts if name not in workflows and _left(counts[name])]
    for name in missing:
        todo = "import the module that declares it, or give a workflow that was renamed its old name: name=..."
        yield Finding("module", "problem", f"{_left(counts[name]):,} unfinished of {name}, which {module} lacks", todo)
    if not missing:
        yield Finding("module", "ok", f"{module} declares the workflows of all unfinished runs")


def _left(counts: dict[str, int]) -> int:
    return sum(counts.get(status, 0) for status in _UNFINISHED)

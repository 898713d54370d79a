"""Power loss: programs on a recording VFS, and what the library makes of disks on which only part of it arrived.

A trial is one image: of a random moment of a random program, with a random part of what was not synced. Each is opened
by the library, checked by SQLite, and compared with what the program had been told by then; some go on to the end.
"""

import contextlib
import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import apsw

import durable
from durable import _database, _journal
from durable._journal import Journal

from . import programs
from .disk import Disk, Op, Recorder, put
from .failures import label_of, lost_failures
from .programs import Judge, Plan
from .tally import Tally

IMAGES = 400
"""Of each recording."""
FEWER_IMAGES = 50
COMPLETED_EVERY = 10
"""One image of so many is completed: its run goes on to the end."""


class Recording(NamedTuple):
    plan: Plan
    log: list[Any]
    durability: Any


def record(seed: str, folder: Path, durability: Any, *, size: int = 6, fails: bool = True) -> Recording:
    """Execute a program; the log has its notes and what happened to its files, in order."""
    dice = random.Random(f"record {seed}")
    plan = Plan(seed, size=size, sequential=durability == "process")
    log = programs.begin_world().notes
    recorder = Recorder(log, dice.randint(5, 60) if fails and dice.random() < 0.25 else 0)
    pages = dice.choice([8, 20, 60, 1000])  # checkpoints in the middle of the program, too
    usual = _journal.CHECKPOINT_PAGES
    _database.CHECKPOINT_PAGES = _journal.CHECKPOINT_PAGES = pages  # type: ignore[misc]
    try:
        engine = durable.Engine(folder / "journal.db", durability=durability, vfs=recorder.name)
        with engine, contextlib.suppress(durable.JournalError):
            try:
                programs.call_within(engine, plan)
                if durability == "full":
                    _cancel_one(engine, seed, recorder.name)
            except durable.JournalError:  # where a sync failed: whatever else is tried, nothing is acknowledged
                if engine._runtime.journal.epoch:
                    programs.call_within(engine, Plan(f"{seed}+"))
    finally:
        _database.CHECKPOINT_PAGES = _journal.CHECKPOINT_PAGES = usual  # type: ignore[misc]
        recorder.unregister()
    return Recording(plan, log, durability)


def _cancel_one(engine: durable.Engine, seed: str, vfs: str) -> None:
    """Sometimes: a run that is cancelled by its owner, or by a visitor of the journal."""
    dice = random.Random(f"cancel {seed}")
    if dice.random() < 0.2:
        programs.begin_and_cancel(seed, engine)
    elif dice.random() < 0.25:
        with contextlib.closing(durable.Engine(engine.path, vfs=vfs)) as visitor:
            programs.begin_and_cancel(seed, visitor)


def run(trials: int, seed: int, base: Path, *, durability: str = "full") -> Tally:
    tally = Tally()
    folder = base / "image"
    folder.mkdir()
    number = 0
    while tally.trials < trials:
        made = base / f"recording-{number}"
        made.mkdir()
        recording = record(f"{seed}/{number}", made, durability)
        tally.facts["programs"] += 1
        tally.facts["with a failed sync"] += any(
            type(entry) is Op and entry.kind == "failed sync" for entry in recording.log
        )
        _images(recording, folder, min(IMAGES, trials - tally.trials), tally)
        number += 1
    return tally


def run_failed_syncs(trials: int, seed: int, base: Path) -> Tally:
    """Images of what comes after a sync that failed: the end of the engine or of the process, and the next life."""
    tally = Tally()
    folder = base / "image"
    folder.mkdir()
    number = 0
    while tally.trials < trials:
        made = base / f"recording-{number}"
        made.mkdir()
        recording = _record_failed_sync(f"{seed}/{number}", made, tally)
        if (at := _failed_sync(recording.log)) is not None:
            tally.facts["programs"] += 1
            _images(recording, folder, min(FEWER_IMAGES, trials - tally.trials), tally, first=at + 1)
        number += 1
    return tally


def _record_failed_sync(seed: str, folder: Path, tally: Tally) -> Recording:
    dice = random.Random(f"failed sync {seed}")
    plan = Plan(seed, size=6, sequential=dice.random() < 0.5)
    log = programs.begin_world().notes
    recorder = Recorder(log, dice.randint(4, 25))
    try:
        engine = durable.Engine(folder / "journal.db", vfs=recorder.name)
        with engine, contextlib.suppress(durable.JournalError):
            programs.call_within(engine, plan)
        recorder.syncs_left = 0  # the disk is well again, as far as it says
        at = _failed_sync(log)
        if at is None:
            return Recording(plan, log, "full")
        if dice.random() < 0.5:
            tally.facts["deaths"] += 1
            del log[at + 1 :]
            put(folder, _as_read(log))
        programs.begin_world().notes = log
        programs.world.note("life")
        programs.call(durable.Engine(folder / "journal.db", vfs=recorder.name), plan, resumes=plan.in_background)
    finally:
        recorder.unregister()
    return Recording(plan, log, "full")


def _failed_sync(log: list[Any]) -> int | None:
    return next((place for place, entry in enumerate(log) if type(entry) is Op and entry.kind == "failed sync"), None)


def _as_read(log: list[Any]) -> dict[str, bytes]:
    """The files as the next process reads them, whatever arrived."""
    disk = Disk()
    for entry in log:
        if isinstance(entry, Op) and entry.kind != "failed sync":
            disk.do(entry)
    return disk.everything()


def run_process(trials: int, seed: int, base: Path) -> Tally:
    return run(trials, seed, base, durability="process")


def _images(recording: Recording, folder: Path, count: int, tally: Tally, *, first: int = 0) -> None:
    log = recording.log
    dice = random.Random(f"images {recording.plan.name}")
    told = [place for place, entry in enumerate(log) if place >= first and not isinstance(entry, Op)]
    # Half of the moments are just after a note: what was acknowledged there has had the least time to arrive.
    places = [
        dice.randint(first, len(log)) if dice.random() < 0.5 else dice.choice(told or [first]) + 1 for _ in range(count)
    ]
    disk, at = Disk(), 0
    for number, place in enumerate(sorted(places)):
        for entry in log[at:place]:
            if isinstance(entry, Op):
                disk.do(entry)
        at = place
        put(folder, disk.image(random.Random(f"image {recording.plan.name} {number}")))
        tally.begin()
        tally.facts["with unsynced writes"] += disk.pending() > 0
        notes = [entry for entry in log[:place] if not isinstance(entry, Op)]
        completes = None if number % COMPLETED_EVERY else dice.choice(["call", "resume"])
        for fault in _look(recording, folder, notes, completes, tally):
            tally.fault(fault, f"image {number} of program {recording.plan.name}")


def _look(recording: Recording, folder: Path, notes: list[Any], completes: str | None, tally: Tally) -> list[str]:
    """What is wrong with an image."""
    try:
        faults = compare(recording.plan, folder, notes, recording.durability)
        if completes:
            tally.facts["gone on with"] += 1
            faults += complete(recording, folder, notes, resumes=completes == "resume")
    except (durable.DurableError, apsw.Error, OSError) as error:
        return [f"not opened: {type(error).__name__}: {str(error)[:200]}"]
    return faults


def compare(plan: Plan, folder: Path, notes: list[Any], durability: str = "full") -> list[str]:
    """What is wrong with a journal, after these notes of a program. Raises what the library does of a damaged one."""
    faults = []
    journal = Journal(str(folder / "journal.db"))
    journal.own(os.getpid(), 1.0)
    try:
        assert journal._writer is not None
        if journal._writer.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            faults.append("damaged")
        runs = journal.runs()
        steps = [step for run in runs for step in journal.steps(run.seq)]
        for run in runs:
            journal.attempts(run.seq)
        asked = {(message.kind, message.name, message.run) for message in journal.new_messages(0)}
    finally:
        journal.close(2.0)
    there = {label_of(step.input) for step in steps if step.status in {"completed", "failed"}}
    told = [rest[0] for word, *rest in notes if word == "got" and not rest[0].endswith("c")]
    if durability == "process":
        return faults + _require_prefix(there, told)
    if not set(told) <= there:
        faults.append("acknowledged outcomes lost")
    for word, *rest in notes:
        if word == "run" and rest[0] not in {run.id for run in runs}:
            faults.append("acknowledged starts lost")
        if word == "result" and "completed" not in {run.status for run in runs if run.workflow.startswith("main")}:
            faults.append("acknowledged results lost")
    if not {rest[1] for word, *rest in notes if word == "start"} <= {run.id for run in runs}:
        faults.append("ids that a step has seen lost")
    once = {label for kind, label in plan.operations() if kind == "once"}
    begun = {rest[0] for word, *rest in notes if word == "start" and rest[0] in once}
    if not begun <= {label_of(step.input) for step in steps}:
        faults.append("starts of at-most-once steps lost")
    return faults + lost_failures(steps, notes) + lost_messages(runs, steps, asked, notes)


def lost_messages(runs: list[Any], steps: list[Any], asked: set[Any], notes: list[Any]) -> list[str]:
    """What was sent is there until it is read: what a run made of it is there then."""
    signals = {name for kind, name, _ in asked if kind == "signal"}
    signals |= {step.name for step in steps if step.kind == "signal" and step.turn is not None}
    told = {run.seq for run in runs if run.status == "cancelled"} | {seq for kind, _, seq in asked if kind == "cancel"}
    cancelled = {run.id for run in runs if run.seq in told}
    faults = ["signals lost"] * (not {rest[0] for word, *rest in notes if word == "sent"} <= signals)
    return faults + ["cancellations lost"] * (
        not {rest[0] for word, *rest in notes if word == "cancelled"} <= cancelled
    )


def _require_prefix(there: set[Any], told: list[str]) -> list[str]:
    """Without a sync a commit: what is there is the beginning of what was, nothing from the middle is missing."""
    survived = [label in there for label in told]
    return ["not a prefix"] if survived != sorted(survived, reverse=True) else []


def complete(recording: Recording, folder: Path, notes: list[Any], *, resumes: bool) -> list[str]:
    """Go on with the image until the run has completed."""
    plan = recording.plan
    judge = Judge(plan)
    if recording.durability == "full":
        judge.look(notes)  # by power loss nothing of it may be undone
    world = programs.begin_world()
    result = programs.call(durable.Engine(folder / "journal.db"), plan, resumes=resumes)
    judge.look([*world.notes, ("result", result)])
    judge.look_at_end()
    rows = _rows(folder / "journal.db")
    return judge.faults + (["payments"] if rows != sorted(plan.payments.elements()) else [])


def _rows(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        try:
            return sorted(label for (label,) in connection.execute("SELECT label FROM paid"))
        except sqlite3.OperationalError:
            return []

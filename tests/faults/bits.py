"""Flipped bits: each trial changes one bit of a journal's files, and reads everything by the library.

A value that changed must be noticed. A row may also be out of reach, which SQLite notices if it is asked to check the
whole file; and the end of a WAL that its owner left dead may be cut off, since SQLite takes it for one that was not
finished. Both are counted, and told apart.
"""

import contextlib
import random
from pathlib import Path
from typing import Any

import apsw

import durable
from durable._journal import Journal

from . import programs
from .disk import Disk, Op, put
from .power import record
from .programs import Plan
from .tally import Tally

FLIPS = 500
"""In each journal."""
WAL_HEADER, WAL_FRAME = 32, 24 + 4096


def run(trials: int, seed: int, base: Path) -> Tally:
    tally = Tally()
    number = 0
    while tally.trials < trials:
        dice = random.Random(f"bits {seed}/{number}")
        folder = base / str(number)
        folder.mkdir()
        files = (
            _closed(f"{seed}/{number}", folder) if dice.random() < 0.7 else _left_dead(f"{seed}/{number}", folder, dice)
        )
        put(folder, files)
        good = everything(folder)
        for _ in range(min(FLIPS, trials - tally.trials)):
            tally.begin()
            _flip(dice, folder, files, good, tally, f"{seed}/{number}")
        number += 1
    return tally


def _closed(seed: str, folder: Path) -> dict[str, bytes]:
    """A journal with the runs of several programs, closed."""
    for number in range(3):
        programs.begin_world()
        programs.call(durable.Engine(folder / "journal.db"), Plan(f"{seed}/{number}"))
    return {"journal.db": (folder / "journal.db").read_bytes()}


def _left_dead(seed: str, folder: Path, dice: random.Random) -> dict[str, bytes]:
    """What the death of an owner left, with its WAL."""
    log = record(seed, folder, "full", fails=False).log
    disk = Disk()
    for entry in log[: dice.randint(len(log) // 2, len(log))]:
        if type(entry) is Op:
            disk.do(entry)
    return disk.everything()


def everything(folder: Path) -> dict[Any, Any]:
    """All records of a journal, by their keys."""
    journal = Journal(str(folder / "journal.db"))
    try:
        runs = journal.runs()
        found: dict[Any, Any] = {("run", run.seq): run for run in runs}
        found |= {("owner", owner.epoch): owner for owner in journal.owners(99)}
        for run in runs:
            found |= {("step", *step[:3]): step for step in journal.steps(run.seq)}
            found |= {("attempt", *attempt[:4]): attempt for attempt in journal.attempts(run.seq)}
            by_id = journal.run(run.id)
            found |= {("run by id", run.id): by_id} if by_id else {}
    finally:
        journal.close(0.0)
    return found


def _flip(
    dice: random.Random, folder: Path, files: dict[str, bytes], good: dict[Any, Any], tally: Tally, seed: str
) -> None:
    name = dice.choice(sorted(name for name, data in files.items() if data))
    data = bytearray(files[name])
    place, bit = dice.randrange(len(data)), dice.randrange(8)
    data[place] ^= 1 << bit
    put(folder, {**files, name: bytes(data)})
    try:
        found = everything(folder)
    except durable.DurableError:
        tally.facts["noticed"] += 1
        return
    except BaseException as error:
        tally.fault(
            f"not an error of the library: {type(error).__name__}", f"bit {bit} of {name}[{place}], journal {seed}"
        )
        return
    if found == good:
        tally.facts["without effect"] += 1
    elif name.endswith("-wal") and found == _before(folder, files, name, place):
        tally.facts["end of a dead owner's WAL cut off"] += 1
    elif any(good.get(key) != value for key, value in found.items()):
        tally.fault("changed values not noticed", f"bit {bit} of {name}[{place}], journal {seed}")
    else:
        tally.facts["rows out of reach"] += 1
        tally.facts["of these seen by SQLite's integrity check"] += not _is_sound(folder / "journal.db")


def _before(folder: Path, files: dict[str, bytes], name: str, place: int) -> dict[Any, Any]:
    """What there is to read with the WAL up to the frame that was hit."""
    frames = max(0, place - WAL_HEADER) // WAL_FRAME
    size = 0 if place < WAL_HEADER else WAL_HEADER + frames * WAL_FRAME
    put(folder, {**files, name: files[name][:size]})
    return everything(folder)


def _is_sound(path: Path) -> bool:
    with contextlib.closing(apsw.Connection(str(path))) as connection, contextlib.suppress(apsw.CorruptError):
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return False

"""The journal, its WAL or its folder moved, removed or replaced by a copy at a random moment of a program.

A change strikes in the body of a step, as seen from the workflow: that step's outcome is the next to be acknowledged,
and must not be.
"""

import contextlib
import os
import random
import shutil
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import durable

from . import programs
from .programs import Plan
from .tally import Tally


def _move(path: Path) -> None:
    path.rename(f"{path}.moved")


def _remove(path: Path) -> None:
    path.unlink()


def _replace_by_copy(path: Path) -> None:
    shutil.copy2(path, f"{path}.copy")
    Path(f"{path}.copy").rename(path)


def _replace_by_nothing(path: Path) -> None:
    path.unlink()
    path.touch()


def _move_folder(path: Path) -> None:
    path.parent.rename(f"{path.parent}.moved")


def _replace_folder(path: Path) -> None:
    """As a restored backup: all names and times as they were."""
    folder, moved = path.parent, Path(f"{path.parent}.moved")
    folder.rename(moved)
    shutil.copytree(moved, folder)
    status = moved.stat()
    os.utime(folder, ns=(status.st_atime_ns, status.st_mtime_ns))


CHANGES: list[Callable[[Path], None]] = [_move, _remove, _replace_by_copy, _replace_by_nothing]
FOLDER_CHANGES: list[Callable[[Path], None]] = [_move_folder, _replace_folder]


def run(trials: int, seed: int, base: Path) -> Tally:
    tally = Tally()
    for number in count():
        if tally.trials >= trials:
            break
        dice = random.Random(f"moved {seed}/{number}")
        folder = base / str(number) / "data"
        folder.mkdir(parents=True)
        change = dice.choice(CHANGES + FOLDER_CHANGES)
        suffix = dice.choice(["", "", "-wal", "-wal", "-owner"]) if change in CHANGES else ""
        _try(Plan(f"{seed}/{number}", size=8, sequential=True), folder, change, suffix, dice, tally)
        shutil.rmtree(base / str(number))
    return tally


def _try(
    plan: Plan, folder: Path, change: Callable[[Path], None], suffix: str, dice: random.Random, tally: Tally
) -> None:
    bodies = sum(kind != "declined" for kind, _ in plan.operations())
    strikes_at = dice.randint(1, max(1, bodies))
    waits = dice.random() < 0.3
    world = programs.begin_world()
    struck_at = -1

    def moment() -> None:
        nonlocal struck_at
        ended = [note[0] for note in world.notes].count("end")
        if struck_at < 0 and world.notes[-1][0] == "end" and ended == strikes_at:
            if waits:  # the folder's time is old enough to be relied on
                time.sleep(0.11)
            change(Path(f"{folder / 'journal.db'}{suffix}"))
            struck_at = len(world.notes)

    world.moment = moment
    name = f"{change.__name__.strip('_')} {suffix or ('.db' if change in CHANGES else '')}".strip()
    stopped = False
    try:
        programs.call(durable.Engine(folder / "journal.db"), plan)
    except durable.JournalError:
        stopped = True
    except BaseException as error:
        tally.fault(f"not a JournalError: {type(error).__name__}", f"{name}, program {plan.name}")
    finally:
        world.moment = lambda: None
        with contextlib.suppress(OSError):
            shutil.rmtree(f"{folder}.moved")
    if struck_at < 0:
        tally.facts["programs too short"] += 1
        return
    tally.begin()
    tally.facts[name] += 1
    if any(word in {"got", "result"} for word, *_ in world.notes[struck_at:]) or not stopped:
        tally.fault("acknowledged into nowhere", f"{name}, program {plan.name}")

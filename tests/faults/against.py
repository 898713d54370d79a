"""Rows of the table on another library too, with the same program and the same seeds: a column each.

The program has eight steps (`kills.py`, and the same for DBOS in `peers/`), which keep their state in SQLite. For power
loss the writes and syncs of both are recorded in one way, below Python and SQLite: see `peers/recorder.py`.
"""

import base64
import json
import random
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from durable._database import open_writer

from . import kills
from .disk import Disk, Op, put
from .kills import PROGRAMS, Library
from .peers import recorder
from .tally import Tally

ROOT = Path(__file__).resolve().parents[2]
EIGHT_DBOS = Path(__file__).parent / "peers" / "eight_dbos.py"
DURABLE_ONCE = (
    "import sys; from pathlib import Path; from tests.faults import kills; "
    "kills.execute(sys.argv[1], Path(sys.argv[2]), False)"
)
IMAGES = 400
"""Of each recording."""
KEEPS_NAMES = " *"
"""Behind the name of a column: on a disk that makes and removes files at once."""


class Kept(NamedTuple):
    """How a library keeps the program's state."""

    file: str
    once: list[str]
    """The command that executes the program; a kind and a folder come after it."""
    outcomes: Callable[[sqlite3.Connection], set[str]]
    """What the steps returned, as its file has it."""
    status: str
    """The query for what its file says of the run."""
    completed: str


Found = dict[str, Tally]
"""The counts of each column, by its name."""


def compare(row: str, trials: int, seed: int, base: Path) -> Found:
    """Try a row on durable and on DBOS; prints the settings of both."""
    from benchmarks.peers.environments import PEERS, python_of

    dbos = python_of(next(peer for peer in PEERS if peer.name == "dbos"), ROOT / ".bench" / "peers", None)
    print("durable:", _settings_of_durable(base))
    print("dbos:   ", _settings_of_dbos(dbos, base / "settings"))
    return {"kills": _kills, "power": _power}[row](dbos, trials, seed, base)


def _settings_of_durable(folder: Path) -> str:
    connection = open_writer(str(folder / "settings.db"), None)
    journal, level = connection.pragma("journal_mode"), connection.pragma("synchronous")
    connection.close()
    synchronous = ("OFF", "NORMAL", "FULL", "EXTRA")[level]
    return f"SQLite {apsw.sqlite_lib_version()}, journal_mode={journal}, synchronous={synchronous}"


def _settings_of_dbos(python: str, folder: Path) -> str:
    folder.mkdir()
    command = [python, str(EIGHT_DBOS), "settings", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


# -- kill -9 -----------------------------------------------------------------------------------------------------------


def _kills(dbos: str, trials: int, seed: int, base: Path) -> Found:
    for name in ("durable", "dbos"):
        (base / name).mkdir()
    found = {"durable": kills.run(trials, seed, base / "durable")}
    with subprocess.Popen(
        [dbos, str(EIGHT_DBOS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as server:
        library = Library(_live_in(server), lambda _: False, _faults_of_dbos)  # it writes a step when that has ended
        found["dbos"] = kills.try_out(library, trials, seed, base / "dbos")
        assert server.stdin is not None
        server.stdin.close()
    return found


def _live_in(server: "subprocess.Popen[str]") -> Callable[[str, Path, bool, float], bool]:
    def live(kind: str, folder: Path, _resume: bool, seconds: float) -> bool:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(f"{kind} {folder} {seconds}\n")
        return int(server.stdout.readline()) < 0

    return live


def _faults_of_dbos(folder: Path) -> Counter[str]:
    wrong: Counter[str] = Counter()
    with closing(sqlite3.connect(folder / "dbos.db")) as connection:
        statuses = connection.execute("SELECT status FROM workflow_status").fetchall()
        wrong["runs not completed"] += statuses != [("SUCCESS",)]
        wrong["damaged journals"] += connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]
    return wrong


# -- power loss --------------------------------------------------------------------------------------------------------

DURABLE = Kept(
    "journal.db",
    [sys.executable, "-c", DURABLE_ONCE],
    lambda connection: {
        json.loads(output)
        for (output,) in connection.execute("SELECT output FROM durable_step WHERE status = 'completed'")
    },
    "SELECT status FROM durable_run",
    "completed",
)


def _kept_by_dbos(python: str) -> Kept:
    return Kept(
        "dbos.db",
        [python, str(EIGHT_DBOS), "once"],
        lambda connection: {
            token
            for (output,) in connection.execute("SELECT output FROM operation_outputs WHERE output IS NOT NULL")
            for token in _texts(base64.b64decode(output))
        },
        "SELECT status FROM workflow_status",
        "SUCCESS",
    )


def _texts(pickled: bytes) -> list[str]:
    """The tokens in a pickle, which is not loaded: what is in a damaged file is not to be executed."""
    return [found.decode() for found in re.findall(rb"\d+\.\d+\.\d+", pickled)]


def _power(dbos: str, trials: int, seed: int, base: Path) -> Found:
    found: Found = {}
    library = recorder.compiled(base)
    for name, kept in (("durable", DURABLE), ("dbos", _kept_by_dbos(dbos))):
        found[name], found[name + KEEPS_NAMES] = Tally(), Tally()
        number = 0
        while (left := trials - found[name].trials) > 0:
            kind = list(PROGRAMS)[number % 2]
            log = recorded(kept, library, kind, base / f"{name}-{number}")
            for column, keeps_names in ((name, False), (name + KEEPS_NAMES, True)):
                tally = found[column]
                tally.facts["programs"] += 1
                look_at_images(kept, log, f"{seed}/{number}", min(IMAGES, left), tally, base, keeps_names=keeps_names)
            number += 1
    return found


def recorded(kept: Kept, library: Path, kind: str, folder: Path) -> list[Any]:
    """What the program does to its files, and its notes, in order."""
    folder.mkdir()
    return recorder.record([*kept.once, kind, str(folder)], library, folder, kept.file)


def look_at_images(
    kept: Kept, log: list[Any], seed: str, count: int, tally: Tally, base: Path, *, keeps_names: bool = False
) -> None:
    """Try images of random moments; half of these are just after a note, when what it says had the least time."""
    folder = base / "image"
    folder.mkdir(exist_ok=True)
    dice = random.Random(f"images {seed}")
    told = [place for place, entry in enumerate(log) if not isinstance(entry, Op)]
    places = [dice.randint(0, len(log)) if dice.random() < 0.5 else dice.choice(told) + 1 for _ in range(count)]
    disk, at = Disk(keeps_names=keeps_names), 0
    for number, place in enumerate(sorted(places)):
        for entry in log[at:place]:
            if isinstance(entry, Op):
                disk.do(entry)
        at = place
        tally.begin()
        put(folder, disk.image(random.Random(f"image {seed} {number}")))
        tally.facts["with unsynced writes"] += disk.pending() > 0
        for fault in _look(kept, folder, [entry for entry in log[:place] if not isinstance(entry, Op)]):
            tally.fault(fault, f"image {number} of recording {seed}")


def _look(kept: Kept, folder: Path, notes: list[Any]) -> list[str]:
    """What is wrong with an image, when the program had noted so much."""
    told = {note[2] for note in notes if note[0] == "got"}
    if not (folder / kept.file).exists():
        return ["acknowledged outcomes lost"] if told else []
    faults = []
    try:
        with closing(sqlite3.connect(folder / kept.file)) as connection:
            if connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
                faults.append("damaged")
            if told and not told <= kept.outcomes(connection):
                faults.append("acknowledged outcomes lost")
            if ["result"] in notes and connection.execute(kept.status).fetchall() != [(kept.completed,)]:
                faults.append("acknowledged results lost")
    except (sqlite3.Error, ValueError) as error:
        faults.append(f"not opened: {type(error).__name__}: {str(error)[:200]}")
    return faults


# -- the table ---------------------------------------------------------------------------------------------------------


def table(found: Found) -> list[str]:
    """The columns side by side: trials, what was counted, and each kind of fault that any of them has."""
    lines = [["", *found], ["trials", *(f"{tally.trials:,}" for tally in found.values())]]
    for what in ("facts", "faults"):
        counts = [getattr(tally, what) for tally in found.values()]
        for name in dict.fromkeys(name for count in counts for name in count):
            label = f"FAULT {name}" if what == "faults" else name
            lines.append([label, *(f"{count[name]:,}" for count in counts)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(map(str.rjust, line, widths)) for line in lines]
    return text + (["* on a disk that makes and removes files at once"] if "dbos" + KEEPS_NAMES in found else [])

"""Runs of eight steps, killed with SIGKILL at random times until they complete: half of them sync, half async."""

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import durable
from durable import RetryPolicy
from tests.crash import server

from .tally import Tally

STEPS = 8
BODY_SECONDS = 0.001
QUICK = RetryPolicy(initial_interval=0.002, maximum_attempts=0, jitter=0)

file = -1


def note(*words: object) -> None:
    os.write(file, (" ".join(map(str, words)) + "\n").encode())


def begun(number: int) -> str:
    """A body begins: the token tells this attempt from all others."""
    token = f"{number}.{durable.info().attempt}.{os.getpid()}"
    note("start", number, token)
    return token


@durable.step(retry=QUICK)
def work(number: int) -> str:
    token = begun(number)
    time.sleep(BODY_SECONDS)
    if number == 3 and durable.info().attempt % 2:
        note("fail", number, token)
        raise ConnectionError(number)
    note("end", number, token)
    return token


@durable.step(retry=QUICK)
async def work_async(number: int) -> str:
    token = begun(number)
    await asyncio.sleep(BODY_SECONDS)
    if number == 3 and durable.info().attempt % 2:
        note("fail", number, token)
        raise ConnectionError(number)
    note("end", number, token)
    return token


def got(token: str) -> str:
    note("got", token.partition(".")[0], token)
    return token


@durable.workflow(id="trial")
def eight() -> list[str]:
    return [got(work(number)) for number in range(STEPS)]


async def branch(first: int) -> list[str]:
    return [got(await work_async(first)), got(await work_async(first + 1))]


@durable.workflow(id="trial")
async def eight_async() -> list[str]:
    alone = [got(await work_async(number)) for number in range(4)]
    first, second = await asyncio.gather(branch(4), branch(6))
    return alone + first + second


PROGRAMS = {"sync": eight, "async": lambda: asyncio.run(call_async())}


async def call_async() -> Any:
    return await eight_async()


def execute(kind: str, folder: Path, resume: bool) -> None:
    global file
    file = os.open(folder / "effects.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    durable.open(folder / "journal.db")
    if resume:
        durable.resume(wait=True)
    result = PROGRAMS[kind]()
    note("result")
    durable.close()
    (folder / "result").write_text(" ".join(result))
    (folder / "result").rename(folder / "result.txt")  # all of it or nothing


class Library(NamedTuple):
    """What the trials ask of a library that executes the program."""

    live: Callable[[str, Path, bool, float], bool]
    """Execute a kind of program in a folder, in a process that is killed after so many seconds; whether it was.

    `True` where `resume` is to be asked for before the call.
    """
    has_step_under_way: Callable[[Path], bool]
    """Whether its file has a step without an outcome."""
    faults_of_file: Callable[[Path], Counter[str]]
    """What is wrong with its file when the program has completed."""


def live(kind: str, folder: Path, resume: bool, seconds: float) -> bool:
    pid = server.fork(lambda: execute(kind, folder, resume), folder)
    if seconds < inf:
        time.sleep(seconds)
    if os.waitpid(pid, os.WNOHANG if seconds < inf else 0) != (0, 0):
        return False
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0


def one_trial(library: Library, kind: str, folder: Path, dice: random.Random, longest: float) -> Counter[str]:
    """Kill and run again until it completes; count what happened."""
    seen: Counter[str] = Counter()
    while True:
        killed = library.live(kind, folder, dice.random() < 0.5, dice.uniform(0, longest))
        seen["kills"] += killed
        if (folder / "result.txt").exists():
            break
        assert killed, (folder / "output.txt").read_text()
        seen["kills in a body"] += in_a_body(folder)
        seen["kills with a step under way"] += library.has_step_under_way(folder)
        longest *= 1.1  # so that each trial ends
    seen.update(judge(folder))
    seen.update(library.faults_of_file(folder))
    return seen


def in_a_body(folder: Path) -> bool:
    """Whether the last line of the dead process says that a body had begun, and had not ended."""
    lines = (folder / "effects.txt").read_text().splitlines() if (folder / "effects.txt").exists() else []
    return bool(lines) and lines[-1].startswith("start")


def step_under_way(folder: Path) -> bool:
    """Whether the journal has a step without an outcome."""
    try:
        with closing(sqlite3.connect(f"file:{folder / 'journal.db'}?mode=ro", uri=True)) as connection:
            return bool(connection.execute("SELECT 1 FROM durable_step WHERE turn IS NULL").fetchall())
    except sqlite3.OperationalError:  # killed before the tables were there
        return False


def judge(folder: Path) -> Counter[str]:
    """What went wrong in a trial that completed."""
    lines = [line.split() for line in (folder / "effects.txt").read_text().splitlines() if line != "result"]
    tokens = (folder / "result.txt").read_text().split()
    wrong: Counter[str] = Counter()
    wrong["wrong results"] += [token.partition(".")[0] for token in tokens] != [str(n) for n in range(STEPS)]
    acknowledged: set[str] = set()
    for word, number, token in lines:
        if word == "got":
            acknowledged.add(number)
            wrong["acknowledged outcomes lost"] += token not in tokens
        if word == "start":
            wrong["acknowledged steps run again"] += number in acknowledged
    wrong["steps run"] += sum(line[0] == "start" for line in lines)
    wrong["results that no body returned"] += sum(
        ["end", token.partition(".")[0], token] not in lines for token in tokens
    )
    return wrong


def faults_of_file(folder: Path) -> Counter[str]:
    """What is wrong with the journal of a trial that completed."""
    wrong: Counter[str] = Counter()
    with closing(sqlite3.connect(f"file:{folder / 'journal.db'}?mode=ro", uri=True)) as connection:
        wrong["runs not completed"] += connection.execute("SELECT status FROM durable_run").fetchall() != [
            ("completed",)
        ]
        wrong["damaged journals"] += connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]
    return wrong


FAULTS = (
    "acknowledged steps run again",
    "acknowledged outcomes lost",
    "wrong results",
    "results that no body returned",
    "runs not completed",
    "damaged journals",
)


DURABLE = Library(live, step_under_way, faults_of_file)


def run(trials: int, seed: int, base: Path) -> Tally:
    server.warm_up()
    return try_out(DURABLE, trials, seed, base)


def try_out(library: Library, trials: int, seed: int, base: Path) -> Tally:
    tally = Tally()
    dice = random.Random(seed)
    longest = {kind: _undisturbed_seconds(library, kind, base / kind) for kind in PROGRAMS}
    for number in range(trials):
        kind = list(PROGRAMS)[number % 2]
        folder = base / str(number)
        folder.mkdir()
        seen = one_trial(library, kind, folder, dice, longest[kind])
        tally.begin()
        for name, count in seen.items():
            if name in FAULTS and count:
                tally.fault(name, f"{kind} trial {number}")
            elif name not in FAULTS:
                tally.facts[name] += count
        shutil.rmtree(folder)
    return tally


def _undisturbed_seconds(library: Library, kind: str, folder: Path) -> float:
    """How long a run takes that is not killed, its process included."""
    folder.mkdir()
    before = time.monotonic()
    library.live(kind, folder, False, inf)
    return time.monotonic() - before

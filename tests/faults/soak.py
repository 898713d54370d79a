"""Mixed load on one journal, life after life, each killed at a random time, with readers beside it.

A trial is a life. Every tenth is a long one, and every hundredth one of a minute: in these memory and handles must stay as
they are, and in all of them the WAL. What any life was told is looked for in the end.
"""

import asyncio
import contextlib
import io
import os
import random
import signal
import time
from itertools import count
from pathlib import Path
from typing import Any

import durable
from durable import RetryPolicy, cli
from durable._journal import Journal

from .children import warm_up
from .tally import EnoughError, Tally

LONG_SECONDS = 8.0
LONGEST_SECONDS = 60.0
MOST_BYTES_OF_WAL = 16_000_000
MOST_BYTES_MORE = 16_000_000
MOST_HANDLES_MORE = 3
QUICK = RetryPolicy(initial_interval=0.001, maximum_attempts=0, jitter=0)


@durable.step(name="soak_step", retry=QUICK)
def step(number: int) -> int:
    if number % 7 == 0 and durable.info().attempt == 1:
        raise ConnectionError(number)
    return number + 1


@durable.step(name="soak_fetch", retry=QUICK)
async def fetch(number: int) -> int:
    await asyncio.sleep(0)
    return number + 1


@durable.workflow(name="soak_sync", id="sync-{number}")
def flow(number: int) -> int:
    durable.sleep(0.001)
    return sum([step(number), *step.map([1, 2, 3])])


@durable.workflow(name="soak_async", id="async-{number}")
async def flow_async(number: int) -> int:
    return sum(await asyncio.gather(*(fetch(number + each) for each in range(4))))


def run(trials: int, seed: int, base: Path) -> Tally:
    tally = Tally()
    warm_up()
    dice = random.Random(f"soak {seed}")
    path, told = base / "journal.db", base / "told.txt"
    told.touch()
    with contextlib.suppress(EnoughError):
        for life in range(trials):
            tally.begin()
            for fault in _life(life, dice, path, told, tally):
                tally.fault(fault, f"life {life}")
            tally.facts["bytes of the journal"] = path.stat().st_size if path.exists() else 0
    for fault in _look(path, told, tally):
        tally.fault(fault, "at the end")
    return tally


def _life(number: int, dice: random.Random, path: Path, told: Path, tally: Tally) -> list[str]:
    seconds = LONGEST_SECONDS if number % 100 == 99 else LONG_SECONDS if number % 10 == 9 else dice.uniform(0.05, 2.0)
    pid = os.fork()
    if pid == 0:
        _live(path, told)
    faults = _beside(path, pid, time.monotonic() + seconds, tally)
    os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status != -signal.SIGKILL:
        return [*faults, f"a life ended by itself with {status}"]
    tally.facts["kills"] += 1
    return faults


def _live(path: Path, told: Path) -> None:
    """Load without an end: sync and async runs, called, started, and many at a time."""
    status = 3
    with contextlib.suppress(BaseException):
        file = os.open(told, os.O_WRONLY | os.O_APPEND)
        durable.open(path)
        durable.resume()
        begin = int(time.monotonic() * 1e6)
        for number in count(begin):
            if number % 3 == 0:
                runs: list[Any] = flow_async.start_many(range(number * 50, number * 50 + 20))
            elif number % 3 == 1:
                runs = flow.start_many(range(number * 50, number * 50 + 10))
            else:
                flow(number * 50)
                runs = [durable.get(f"sync-{number * 50}")]
            for each in runs:
                each.result()
            os.write(file, "".join(f"{each.id}\n" for each in runs).encode())
    os._exit(status)


def _beside(path: Path, pid: int, until: float, tally: Tally) -> list[str]:
    """Read while it lives; look at its memory, handles and WAL, from half its time on."""
    faults, sizes, handles = [], [], []
    half = (time.monotonic() + until) / 2
    while time.monotonic() < until:
        time.sleep(0.05)
        with contextlib.suppress(durable.JournalError), contextlib.closing(durable.Engine(path)) as engine:
            _ = [(found.status, found.input) for found in engine.runs(limit=5)]
            tally.facts["readings"] += 1
        silent = io.TextIOWrapper(io.BytesIO())
        with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent), contextlib.suppress(SystemExit):
            cli.main(["--db", str(path), "ls"])
        if time.monotonic() > half and Path(f"/proc/{pid}/statm").exists():
            sizes.append(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
            handles.append(len(os.listdir(f"/proc/{pid}/fd")))
            wal = Path(f"{path}-wal")
            if wal.exists():
                _most(tally, "most bytes of a WAL", wal.stat().st_size)
                if wal.stat().st_size > MOST_BYTES_OF_WAL:
                    faults.append("the WAL grows")
    if until - half > LONG_SECONDS / 3 and sizes:
        more_bytes, more_handles = sizes[-1] - sizes[0], handles[-1] - handles[0]
        faults += ["memory grows"] * (more_bytes > MOST_BYTES_MORE)
        faults += ["handles grow"] * (more_handles > MOST_HANDLES_MORE)
        tally.facts["long lives"] += 1
        _most(tally, "most bytes of memory more in half of a long life", more_bytes)
        _most(tally, "most handles more", more_handles)
    return faults


def _most(tally: Tally, what: str, size: int) -> None:
    tally.facts[what] = max(tally.facts[what], size)


def _look(path: Path, told: Path, tally: Tally) -> list[str]:
    """All that any life was told is in the journal, as it was told."""
    ids = {line for line in told.read_text().splitlines() if line}
    tally.facts["runs told of"] = len(ids)
    journal = Journal(str(path))
    completed = {run.id for run in journal.runs(statuses=("completed",))}
    journal.close(None)
    return ["acknowledged runs lost"] if ids - completed else []

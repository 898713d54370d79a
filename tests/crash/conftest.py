"""Real processes that are really killed: programs run by a fork server, and what they left behind."""

import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durable._identity import idempotency_key

ROOT = Path(__file__).resolve().parents[2]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DURABLE_")}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1"}


class Server:
    """Runs a program in a process of its own, forked from one that has imported durable."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.crash.server"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdin=pipe, stdout=pipe, text=True)

    def run(self, program: str, folder: Path, die_at: int = 0, *, resume: bool = False) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"program": program, "folder": str(folder), "die_at": die_at, "resume": resume}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def fresh() -> Any:
    """As `Server.run`, in a Python that was started for it."""

    def run(program: str, folder: Path, die_at: int = 0, *, resume: bool = False) -> int:
        command = [sys.executable, "-m", "tests.crash.programs", program, str(folder), f"--die-at={die_at}"]
        command += ["--resume"] * resume
        with (folder / "output.txt").open("a") as output:
            return subprocess.run(command, cwd=ROOT, env=environment(), stdout=output, stderr=output, timeout=60).returncode

    return run


class Remains:
    """What processes left in a folder: the journal, read without owning it, and the file that step bodies wrote."""

    def __init__(self, folder: Path) -> None:
        self.lines = []
        if (folder / "effects.txt").exists():
            self.lines = [line.split() for line in (folder / "effects.txt").read_text().splitlines()]
        self.steps: list[tuple[Any, ...]]
        try:
            with closing(sqlite3.connect(f"file:{folder / 'journal.db'}?mode=ro", uri=True)) as connection:
                self.steps = connection.execute(
                    "SELECT durable_run.id, branch, position, name, durable_step.status, durable_step.kind"
                    " FROM durable_step JOIN durable_run ON run = seq"
                ).fetchall()
        except sqlite3.OperationalError:  # killed before the tables were there
            self.steps = []

    def with_outcome(self) -> set[str]:
        """Keys of the operations that must never run again."""
        return {
            idempotency_key(run, branch, position)
            for run, branch, position, name, status, _ in self.steps
            if status in {"completed", "failed"} or (status == "running" and name.startswith("pay"))
        }

    def starts(self) -> Counter[str]:
        """How often each step body began, by key."""
        return Counter(line[1] for line in self.lines if line[0] == "start")

    def got_by_last_process(self) -> int:
        """How many outcomes the last process's workflows had, replayed ones included."""
        pids = [line[-1] for line in self.lines if line[0] == "got"]
        return pids.count(pids[-1]) if pids else 0


@pytest.fixture
def remains() -> Any:
    return Remains

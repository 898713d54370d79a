"""Real processes that are really killed: programs run by a fork server, and what they left behind."""

import functools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import durable
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
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where that is possible: a kill is no power failure, and thousands of fsyncs take their time."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="durable-") as path:
        yield Path(path)


@pytest.fixture
def fresh() -> Any:
    """As `Server.run`, in a Python that was started for it."""

    def run(program: str, folder: Path, die_at: int = 0, *, resume: bool = False) -> int:
        command = [sys.executable, "-m", "tests.crash.programs", program, str(folder), f"--die-at={die_at}"]
        command += ["--resume"] * resume
        with (folder / "output.txt").open("a") as output:
            return subprocess.run(
                command, cwd=ROOT, env=environment(), stdout=output, stderr=output, timeout=60
            ).returncode

    return run


class Script:
    """A program of its own in a folder, with a journal beside it that this process only reads."""

    def __init__(self, folder: Path, source: str) -> None:
        self.folder = folder
        self.path = folder / "program.py"
        self.path.write_text(PROLOGUE + textwrap.dedent(source))
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        command = [sys.executable, str(self.path), *arguments]
        process = subprocess.Popen(command, cwd=self.folder, env=environment(), stdout=pipe, stderr=pipe, text=True)
        self.started.append(process)
        return process

    def run(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start it, wait for its end, and give its output as attributes."""
        process = self.start(*arguments)
        process.output, process.errors = process.communicate(timeout=60)  # type: ignore[attr-defined]
        return process

    def lines(self) -> list[str]:
        """What the bodies of steps have noted."""
        path = self.folder / "notes.txt"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for(self, condition: Callable[[], object], seconds: float = 60.0) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            for process in self.started:
                if process.poll() not in {None, 0, -signal.SIGKILL}:
                    raise AssertionError(process.communicate())
            assert time.monotonic() < deadline, self.lines()
            time.sleep(0.002)
        return found

    def kill(self, process: "subprocess.Popen[str]") -> None:
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL

    def run_handle(self, run_id: str) -> Any:
        """The run, read by this process; `None` when it is not there yet."""
        try:
            return self.engine.get(run_id)
        except (durable.RunNotFoundError, durable.JournalError):
            return None

    @functools.cached_property
    def engine(self) -> durable.Engine:
        return durable.Engine(self.folder / "journal.db")

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()
        if "engine" in self.__dict__:
            self.engine.close()


PROLOGUE = """
import asyncio, os, signal, sys, time
import durable
from durable import RetryPolicy

def note(*words):
    fd = os.open("notes.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, (" ".join(map(str, words)) + "\\n").encode())
    os.close(fd)

durable.open("journal.db")
"""


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Any]:
    scripts: list[Script] = []

    def make(source: str) -> Script:
        scripts.append(Script(tmp_path, source))
        return scripts[-1]

    yield make
    for each in scripts:
        each.close()


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

    def starts(self, step: str = "") -> Counter[str]:
        """How often each step body began, by key; of steps whose name begins so."""
        return Counter(line[1] for line in self.lines if line[0] == "start" and line[2].startswith(step))

    def got_by_last_process(self) -> int:
        """How many outcomes the last process's workflows had, replayed ones included."""
        pids = [line[-1] for line in self.lines if line[0] == "got"]
        return pids.count(pids[-1]) if pids else 0


@pytest.fixture
def remains() -> Any:
    return Remains

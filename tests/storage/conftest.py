"""Journals on real files, records to put into them, and other processes that own or read them."""

import os
import select
import signal
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest

from durable._journal import Journal
from durable._model import AttemptRecord, RunRecord, StepRecord
from durable._records import step_row

_RUN = {"seq": 0, "id": "run-1", "workflow": "order", "module": "shop", "status": "running", "input": '{"order":"1"}',
        "created_at": 1700000000.25, "epoch": 1, "crashes": 0, "progress": 0, "trusting": 0}  # fmt: skip
_STEP = {"run": 1, "branch": "", "position": 0, "kind": "step", "name": "charge", "module": "shop", "status": "completed",
         "attempt": 1, "failures": 0, "input": '{"cents":5}', "output": '"ok"', "started_at": 1700000001.5,
         "finished_at": 1700000002.75, "turn": 0}  # fmt: skip
_ATTEMPT = {"run": 1, "branch": "", "position": 0, "attempt": 1, "started_at": 1700000001.5, "finished_at": 1700000001.75,
            "error": '{"type":"builtins:ValueError","message":"x","args":["x"]}'}  # fmt: skip


def _make(record, defaults, changes):
    values = {**defaults, **changes}
    assert not values.keys() - set(record._fields)
    return record(**{name: values.get(name) for name in record._fields})


@pytest.fixture(scope="session")
def make():
    """Records with sensible columns: `make.run(id="a")`, `make.step(...)`, `make.attempt(...)`."""
    return SimpleNamespace(
        run=lambda **changes: _make(RunRecord, _RUN, changes),
        step=lambda **changes: _make(StepRecord, _STEP, changes),
        attempt=lambda **changes: _make(AttemptRecord, _ATTEMPT, changes),
        row=step_row,
    )


@pytest.fixture
def path(tmp_path):
    """Where a journal may be made; a folder of its own, so that one can look at all that is in it."""
    folder = tmp_path / "data"
    folder.mkdir()
    return str(folder / "journal.db")


@pytest.fixture
def open_journal(path):
    """`open_journal()`: a journal that this process owns, closed at the end of the test."""
    opened = []

    def open_journal(where=path, **options):
        journal = Journal(where, **options)
        opened.append(journal)
        journal.own(os.getpid(), 1700000000.0)
        return journal

    yield open_journal
    for journal in opened:
        journal.close(1700000099.0)


@pytest.fixture
def read_journal(path):
    """`read_journal()`: a journal that is only read."""
    opened = []

    def read_journal(where=path, **options):
        opened.append(Journal(where, **options))
        return opened[-1]

    yield read_journal
    for journal in opened:
        journal.close(0.0)


class Program:
    """Another process that runs `source` and talks by lines; it ends with the test."""

    def __init__(self, source, *args):
        command = [sys.executable, "-c", textwrap.dedent(source), *args]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.pid = self._process.pid

    def line(self, seconds=60):
        """The next line that it printed."""
        line = b""
        while not line.endswith(b"\n"):
            assert select.select([self._process.stdout], [], [], seconds)[0], f"nothing came, after {line!r}"
            part = self._process.stdout.read(1)
            assert part, f"it ended after {line!r}, with {self._process.wait()}"
            line += part
        return line.decode().strip()

    def say(self, line=""):
        """Write a line to it, which `input()` there waits for."""
        self._process.stdin.write(line.encode() + b"\n")

    def kill(self):
        """End it as the operating system does, without a word to it."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def end(self):
        """Wait until it ends by itself; its exit code."""
        return self._process.wait(60)

    def close(self):
        if self._process.poll() is None:
            self.kill()
        self._process.stdin.close()
        self._process.stdout.close()


@pytest.fixture
def start():
    """`start(source, *args)`: a `Program`."""
    programs = []

    def start(source, *args):
        programs.append(Program(source, *args))
        return programs[-1]

    yield start
    for program in programs:
        program.close()


@pytest.fixture
def folder_bytes():
    """`folder_bytes(path)`: names and contents of everything beside a file, to compare before and after."""

    def folder_bytes(path):
        folder = os.path.dirname(path)
        found = {}
        for name in sorted(os.listdir(folder)):
            full = os.path.join(folder, name)
            if os.path.isfile(full):
                with open(full, "rb") as file:
                    found[name] = file.read()
        return found

    return folder_bytes

"""Lives of a program in children of `fork` that die: by SIGKILL at a moment that they choose themselves."""

import gc
import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import apsw

import durable

from . import programs
from .programs import Judge, Plan

STUCK_SECONDS = 40.0


class Life(NamedTuple):
    """What came of a child: its notes, and how it ended: 0, or the negative number of a signal."""

    notes: list[Any]
    status: int
    output: str


def live(plan: Plan, folder: Path, prepare: Callable[[], str | None] = lambda: None, *, resumes: bool = False) -> Life:
    """Execute a program in a child, or go on with it. `prepare` arranges its death; it may return the VFS to use."""
    notes, output = folder / "notes.txt", folder / "output.txt"
    notes.write_text("")
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, 1)
            os.dup2(file, 2)
            programs.begin_world(os.open(notes, os.O_WRONLY | os.O_APPEND))
            vfs = prepare()
            programs.call(durable.Engine(folder / "journal.db", vfs=vfs), plan, resumes=resumes)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.settrace(None)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    status = _wait(pid)
    lines = notes.read_text().splitlines(keepends=True)
    return Life([json.loads(line) for line in lines if line.endswith("\n")], status, output.read_text())


def _wait(pid: int) -> int:
    deadline = time.monotonic() + STUCK_SECONDS
    pause = 0.0005
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGABRT)
            os.waitpid(pid, 0)
            return -signal.SIGABRT
        time.sleep(pause)
        pause = min(0.01, pause * 1.3)


def complete(plan: Plan, folder: Path, judge: Judge, *, resumes: bool) -> list[str]:
    """The last life, in which nobody dies; what is wrong with all of them."""
    life = live(plan, folder, resumes=resumes)
    judge.look(life.notes)
    judge.look_at_end()
    faults = list(judge.faults)
    if life.status:
        faults.append(f"does not complete: {(life.output.splitlines() or [str(life.status)])[-1][:150]}")
    elif ["result", plan.expected] not in life.notes and not _is_recorded(plan, folder):
        faults.append("no result")
    return faults


def _is_recorded(plan: Plan, folder: Path) -> bool:
    """Whether a run that had completed before, and is not called again, has the right result."""
    engine = durable.Engine(folder / "journal.db")
    try:
        mains = [run for run in engine.runs(status="completed") if run.workflow.startswith("main")]
        return [run.result() for run in mains] == [plan.expected]
    finally:
        engine.close()


# -- deaths ------------------------------------------------------------------------------------------------------------


class Killer(apsw.VFS):
    """The real file system; the process dies before or after the event of a number. Counts them where it is 0."""

    def __init__(self, at: int, tell: Callable[[int], None]) -> None:
        self.at = at
        self.events = 0
        self.tell = tell
        self._guard = threading.Lock()
        super().__init__("durable-killer", "")

    def event(self) -> None:
        with self._guard:
            self.events += 1
            if self.events == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
        self.tell(self.events)

    def xOpen(self, name: Any, flags: list[int]) -> "KillerFile":
        self.event()
        return KillerFile(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self.event()
        super().xDelete(filename, syncdir)
        self.event()


class KillerFile(apsw.VFSFile):
    def __init__(self, vfs: Killer, name: Any, flags: list[int]) -> None:
        self._vfs = vfs
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._vfs.event()
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:
        self._vfs.event()
        super().xTruncate(size)
        self._vfs.event()

    def xSync(self, flags: int) -> bool:
        self._vfs.event()
        done = super().xSync(flags)
        self._vfs.event()
        return done


def warm_up() -> None:
    """Import what each child would have to import by itself."""
    import asyncio  # noqa: F401
    import pkgutil

    assert durable.converter
    for module in pkgutil.iter_modules(durable.__path__, "durable."):
        if module.name != "durable.__main__":
            importlib.import_module(module.name)
    gc.freeze()

"""Errors of the disk at every call: no space, short writes, and I/O errors of write, sync, read, truncate and the rest.

The system calls of SQLite's own VFS are replaced, so that it sees what the operating system would say; only fsync is not
in its table, and is replaced in a VFS. A trial is one call that fails, once or from then on, in a program that starts
anew or on what a death of the process left. Then the disk is well again, and the program goes on to its end.
"""

import ctypes
import errno
import faulthandler
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apsw

import durable
from durable import JournalError

from . import programs
from .disk import Disk, Op, put
from .power import compare, record
from .programs import Judge, Plan
from .tally import Tally

STUCK_SECONDS = 30.0
LASTING_SECONDS = 3.0
"""After so long a fault that lasts is over."""


class Fault(NamedTuple):
    """A call that fails: the `number`th to `call`, with an error number; 0 is a short write or read."""

    call: str
    error: int
    number: int
    lasts: bool

    def __str__(self) -> str:
        how = errno.errorcode.get(self.error, "short")
        return f"{how} at {self.call} {self.number}{' and ever after' * self.lasts}"


KINDS = (
    ("pwrite64", errno.ENOSPC),
    ("pwrite64", errno.EIO),
    ("pwrite64", 0),
    ("sync", errno.EIO),
    ("pread64", errno.EIO),
    ("pread64", 0),
    ("ftruncate", errno.EIO),
    ("open", errno.EIO),
    ("open", errno.EMFILE),
    ("unlink", errno.EIO),
    ("fstat", errno.EIO),
    ("mmap", errno.ENOMEM),
)

_SIGNATURES: dict[str, Any] = {
    "pwrite64": (ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64),
    "pread64": (ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64),
    "ftruncate": (ctypes.c_int, ctypes.c_int, ctypes.c_int64),
    "open": (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_int),
    "unlink": (ctypes.c_int, ctypes.c_char_p),
    "fstat": (ctypes.c_int, ctypes.c_int, ctypes.c_void_p),
    "mmap": (
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int64,
    ),
}
_FAILED = {"mmap": ctypes.c_void_p(-1).value}


class FailingDisk(apsw.VFS):
    """SQLite's own VFS, whose system calls are counted, and fail as they are told to."""

    def __init__(self) -> None:
        self.fault: Fault | None = None
        self.counts: Counter[str] = Counter()
        self.failed = 0
        self.name = "durable-failing"
        super().__init__(self.name, "")
        self._kept: list[Any] = []
        self._originals: dict[str, int] = {}
        for name, signature in _SIGNATURES.items():
            self._originals[name] = self.xGetSystemCall(name)
            prototype = ctypes.CFUNCTYPE(*signature, use_errno=True)
            replaced = prototype(self._replacement(name, prototype(self._originals[name])))
            self._kept.append(replaced)
            self.xSetSystemCall(name, ctypes.cast(replaced, ctypes.c_void_p).value)

    def _replacement(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            if (fault := self.fails(name)) is not None:
                if fault.error:
                    ctypes.set_errno(fault.error)
                    return _FAILED.get(name, -1)
                if args[2] > 1:
                    return original(args[0], args[1], args[2] // 2, args[3])
            return original(*args)

        return call

    def fails(self, name: str) -> Fault | None:
        """Count a call; the fault, if it is to fail."""
        self.counts[name] += 1
        fault = self.fault
        if fault is None or fault.call != name:
            return None
        number = self.counts[name]
        fails = number >= fault.number if fault.lasts else number == fault.number
        self.failed += fails
        return fault if fails else None

    def begin(self, fault: Fault | None) -> None:
        self.fault, self.failed, self.counts = fault, 0, Counter()

    def mend(self) -> None:
        """It fails no more. From any thread."""
        self.fault = None

    def restore(self) -> None:
        for name, original in self._originals.items():
            self.xSetSystemCall(name, original)
        self.unregister()

    def xOpen(self, name: Any, flags: list[int]) -> "FailingFile":
        return FailingFile(self, name, flags)


class FailingFile(apsw.VFSFile):
    """For the sync alone: the engine uses this VFS only where that is to fail."""

    def __init__(self, vfs: FailingDisk, name: Any, flags: list[int]) -> None:
        self._vfs = vfs
        super().__init__("", name, flags)

    def xSync(self, flags: int) -> bool:
        if self._vfs.fails("sync"):
            raise apsw.IOError("the sync failed")
        return super().xSync(flags)


def run(trials: int, seed: int, base: Path) -> Tally:
    tally = Tally()
    number = 0
    disk = FailingDisk()
    try:
        while tally.trials < trials:
            folder = base / str(number)
            folder.mkdir()
            _try_program(f"{seed}/{number}", folder, disk, trials, tally)
            number += 1
    finally:
        disk.restore()
    return tally


def _try_program(seed: str, base: Path, disk: FailingDisk, trials: int, tally: Tally) -> None:
    """All calls of one program, in random order, until there were enough trials."""
    dice = random.Random(f"io errors {seed}")
    start = _start(seed, base, dice)
    folder = base / "trial"
    folder.mkdir()
    faults = list(_faults(start, folder, disk))
    dice.shuffle(faults)
    tally.facts["programs"] += 1
    for fault in faults:
        if tally.trials >= trials:
            return
        tally.begin()
        for kind in _try(start, folder, disk, fault, tally):
            tally.fault(kind, f"{fault}, program {seed}")


class Start(NamedTuple):
    """A program and what is there when it starts: nothing, or what a death left, with the notes until then."""

    plan: Plan
    files: dict[str, bytes]
    notes: list[Any]


def _start(seed: str, base: Path, dice: random.Random) -> Start:
    (base / "recording").mkdir()
    plan, log, _ = record(seed, base / "recording", "full", size=4, fails=False)
    place = 0 if dice.random() < 0.5 else dice.randint(1, len(log))
    disk = Disk()
    for entry in log[:place]:
        if isinstance(entry, Op):
            disk.do(entry)
    return Start(plan, disk.everything(), [entry for entry in log[:place] if not isinstance(entry, Op)])


def _faults(start: Start, folder: Path, disk: FailingDisk) -> Iterator[Fault]:
    put(folder, start.files)
    programs.begin_world()
    disk.begin(None)
    programs.call(durable.Engine(folder / "journal.db", vfs=disk.name), start.plan)
    for call, error in KINDS:
        for number in range(1, disk.counts[call] + 1):
            yield Fault(call, error, number, lasts=False)
            yield Fault(call, error, number, lasts=True)


def _try(start: Start, folder: Path, disk: FailingDisk, fault: Fault, tally: Tally) -> list[str]:
    put(folder, start.files)
    judge = Judge(start.plan)
    judge.look(start.notes)
    faulthandler.dump_traceback_later(STUCK_SECONDS, exit=True)
    try:
        faults = _live(start.plan, folder, disk, fault, judge)
        tally.facts["calls that failed"] += disk.failed
        if disk.failed:
            tally.facts["runs stopped" if "stopped" in faults else "runs not stopped"] += 1
        disk.begin(None)
        faults += compare(start.plan, folder, [*start.notes, ("life",), *programs.world.notes])
        faults += _live(start.plan, folder, disk, None, judge)
    finally:
        faulthandler.cancel_dump_traceback_later()
    judge.look_at_end()
    return [each for each in faults + judge.faults if each != "stopped"]


def _live(plan: Plan, folder: Path, disk: FailingDisk, fault: Fault | None, judge: Judge) -> list[str]:
    """One life of the program; with a fault it may be stopped by it, without it must end well."""
    world = programs.begin_world()
    disk.begin(fault)
    vfs = disk.name if fault is not None and fault.call == "sync" else None
    found = []
    mended = threading.Timer(LASTING_SECONDS, disk.mend)  # else a step that needs it would be tried for ever
    mended.start()
    try:
        result = programs.call(durable.Engine(folder / "journal.db", vfs=vfs), plan, resumes=plan.in_background)
        world.note("result", result)
    except JournalError as error:
        found.append("stopped" if fault is not None and disk.failed else f"does not go on: {_in_short(error)}")
    except BaseException as error:
        found.append(f"not a JournalError: {_in_short(error)}")
    finally:
        mended.cancel()
    judge.look(world.notes)
    return found


def _in_short(error: BaseException) -> str:
    """Without paths and ids, so that like errors count as one."""
    return re.sub(r"/\S+|[0-9a-f]{32}", "…", f"{type(error).__name__}: {error}")[:150]

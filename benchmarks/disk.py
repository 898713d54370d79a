"""The disk, and the bare commits on it that everything else is compared with."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import apsw

from .stopwatch import Lap, Stopwatch

WAL_FRAMES = 1000
"""SQLite checkpoints a WAL of this length, and writes it from its start again: the file is warm then."""
WAL_WRAP_BYTES = WAL_FRAMES * (4096 + 24)
ROW_TEXT = "x" * 100
"""With its key about what a trivial step takes in a journal."""
NOT_A_DISK = {"tmpfs", "ramfs", "devtmpfs"}


@contextmanager
def data_folder(given: Path | None) -> Iterator[Path]:
    """A folder for one run of the benchmarks, removed afterwards: in the repository's own file system unless given."""
    parent = given or Path(__file__).parent.parent / ".bench"
    parent.mkdir(parents=True, exist_ok=True)
    if given is None:
        (parent / ".gitignore").write_text("*\n")
    with tempfile.TemporaryDirectory(prefix="data-", dir=parent) as name:
        yield Path(name)


def file_system(folder: Path) -> str:
    """The kind of the file system that holds `folder`: ext4, xfs, tmpfs, ..."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return "unknown"
    real = f"{folder.resolve()}/"
    best, kind = "", "unknown"
    for line in mounts.read_text().splitlines():
        _, point, found, *_ = line.split()
        if real.startswith(point.rstrip("/") + "/") and len(point) >= len(best):
            best, kind = point, found
    return kind


class Bare:
    """The price of durability without a library: one row, one commit, one file in WAL mode."""

    def __init__(self, path: Path, synchronous: Literal["FULL", "NORMAL"]) -> None:
        self.path = path
        self._connection = apsw.Connection(str(path))
        self._connection.pragma("journal_mode", "wal")
        self._connection.pragma("synchronous", synchronous)
        self._connection.pragma("wal_autocheckpoint", WAL_FRAMES)
        self._connection.execute("CREATE TABLE bare (key INTEGER PRIMARY KEY, text TEXT NOT NULL)")
        self._key = 0
        for _ in cold(path):
            self.commits(500)

    def commits(self, count: int) -> Lap:
        """Commit so many rows, one at a time."""
        execute = self._connection.execute
        first = self._key
        self._key += count
        watch = Stopwatch()
        for key in range(first, self._key):
            execute("INSERT INTO bare VALUES (?, ?)", (key, ROW_TEXT))
        return watch.lap(count)

    def close(self) -> None:
        self._connection.close()


def cold(path: Path, most_seconds: float = 20.0) -> Iterator[None]:
    """Loop over it with some writing until the WAL of the file has wrapped: one that still grows is dearer to write."""
    wal = path.with_name(path.name + "-wal")
    deadline = time.monotonic() + most_seconds
    while time.monotonic() < deadline and not (wal.exists() and wal.stat().st_size >= WAL_WRAP_BYTES):
        yield
    yield


class Calibration(NamedTuple):
    """Seconds for one bare commit with and without fsync, one fdatasync, and one call in Python, of several turns."""

    full: list[float]
    normal: list[float]
    fdatasync: list[float]
    call: list[float]
    """Of the interpreter: one that was built without PGO and LTO takes half as long again, or twice as long."""


def calibrate(folder: Path, repeat: int) -> Calibration:
    full, normal = Bare(folder / "full.db", "FULL"), Bare(folder / "normal.db", "NORMAL")
    found = Calibration([], [], [], [])
    for _ in range(repeat):
        found.full.append(full.commits(200).wall)
        found.normal.append(normal.commits(2000).wall)
        found.fdatasync.append(_fdatasync(folder / "sync", 200).wall)
        found.call.append(_calls(100_000).wall)
    full.close()
    normal.close()
    return found


def _fdatasync(path: Path, count: int) -> Lap:
    """Overwrite a page of a file, and see it on disk."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.pwrite(descriptor, bytes(4096), 0)
        os.fsync(descriptor)
        watch = Stopwatch()
        for number in range(count):
            os.pwrite(descriptor, number.to_bytes(4, "big") * 1024, 0)
            os.fdatasync(descriptor)
        return watch.lap(count)
    finally:
        os.close(descriptor)


def _calls(count: int) -> Lap:
    """Call a function that makes a tuple."""

    def pair(number: int) -> tuple[int, int]:
        return number, count

    watch = Stopwatch()
    for number in range(count):
        pair(number)
    return watch.lap(count)


class _SyncCounter(apsw.VFS):
    """A VFS that counts what SQLite asks the disk to make safe: commits and checkpoints alike."""

    def __init__(self) -> None:
        self.syncs = 0
        super().__init__("bench-sync-counter", "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's own name
        return _CountedFile(self, name, flags)


class _CountedFile(apsw.VFSFile):
    def __init__(self, counter: _SyncCounter, name: Any, flags: list[int]) -> None:
        self._counter = counter
        super().__init__("", name, flags)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's own name
        self._counter.syncs += 1
        super().xSync(flags)


@contextmanager
def counted_syncs() -> Iterator[tuple[str, Callable[[], int]]]:
    """The name of a VFS to open a journal with, and a function that tells how many fsyncs it has seen."""
    counter = _SyncCounter()
    try:
        yield "bench-sync-counter", lambda: counter.syncs
    finally:
        counter.unregister()

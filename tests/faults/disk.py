"""A VFS that records what happens to files, and the disk that power loss leaves of it.

The model is the harsh one. Until a file is synced, any subset of what was written to it since its last sync may be on
the disk, each write in sectors of 512 bytes of which any subset may be, and one of them torn at any byte; a truncation
is one such write. What was synced is there. A sync that fails loses for good what it was to bring to the disk, while
the program still reads it, as Linux does. Names (files made and removed) come in order, as file systems with a
journal keep them, and any number of the last ones may be missing until a file of the folder is synced.
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apsw

SECTOR = 512


class Op(NamedTuple):
    """What happened to a file. Kinds: "make", "remove", "write", "truncate", "sync", "failed sync"."""

    kind: str
    name: str
    offset: int = 0
    data: bytes = b""


class Recorder(apsw.VFS):
    """The real file system; each `Op` goes into a log, in the order in which they happened."""

    def __init__(self, log: list[Any], failing_sync: int = 0) -> None:
        """`failing_sync`: the number of a sync that fails, 0 for none."""
        self.log = log
        self.syncs_left = failing_sync
        self.name = f"durable-recorder-{id(self)}"
        super().__init__(self.name, "")

    def xOpen(self, name: Any, flags: list[int]) -> "RecordedFile":
        return RecordedFile(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self.log.append(Op("remove", os.path.basename(filename)))
        if syncdir:
            self.log.append(Op("sync", ""))


class RecordedFile(apsw.VFSFile):
    def __init__(self, vfs: Recorder, name: Any, flags: list[int]) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._vfs, self._log = vfs, vfs.log
        self._name = os.path.basename(path or "temporary")
        self._is_main = bool(flags[0] & apsw.SQLITE_OPEN_MAIN_DB)
        made = path is not None and not os.path.exists(path)
        super().__init__("", name, flags)
        if made or self._is_main:
            self._log.append(Op("make", self._name))

    def xWrite(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        self._log.append(Op("write", self._name, offset, bytes(data)))

    def xTruncate(self, size: int) -> None:
        super().xTruncate(size)
        self._log.append(Op("truncate", self._name, size))

    def xSync(self, flags: int) -> bool:
        self._vfs.syncs_left -= 1
        if self._vfs.syncs_left == 0:
            self._log.append(Op("failed sync", self._name))
            raise apsw.IOError("the sync failed")
        self._log.append(Op("sync", self._name))
        return True  # what is on the real disk does not matter here


class Inode:
    """What is in a file for certain, and what was done to it since."""

    def __init__(self, data: bytes = b"") -> None:
        self.synced = bytearray(data)
        self.pending: list[Op] = []

    def sync(self) -> None:
        for op in self.pending:
            apply(self.synced, op)
        self.pending = []


def apply(data: bytearray, op: Op) -> None:
    if op.kind == "truncate":
        if len(data) > op.offset:
            del data[op.offset :]
        return
    if len(data) < op.offset:
        data.extend(bytes(op.offset - len(data)))
    data[op.offset : op.offset + len(op.data)] = op.data


class Disk:
    """What is on the disk after so many operations of a log."""

    def __init__(self, *, keeps_names: bool = False) -> None:
        """`keeps_names`: files are made and removed on the disk at once, which is kinder than the rest of the model."""
        self.keeps_names = keeps_names
        self.names: dict[str, Inode] = {}
        """As a running program sees them."""
        self.synced_names: dict[str, Inode] = {}
        self.pending_names: list[tuple[str, Inode | None]] = []

    def do(self, op: Op) -> None:
        if op.kind == "make":
            if op.name not in self.names:
                self._name(op.name, Inode())
        elif op.kind == "remove":
            self._name(op.name, None)
        elif op.kind == "failed sync":
            self.names[op.name].pending = []  # the program reads on what it wrote, and it never arrives
        elif op.kind == "sync":
            for name, inode in self.pending_names:
                self._settle(self.synced_names, name, inode)
            self.pending_names = []
            if op.name:
                self.names[op.name].sync()
        else:
            self.names[op.name].pending.append(op)

    def _name(self, name: str, inode: Inode | None) -> None:
        self._settle(self.names, name, inode)
        if self.keeps_names:
            self._settle(self.synced_names, name, inode)
        else:
            self.pending_names.append((name, inode))

    @staticmethod
    def _settle(names: dict[str, Inode], name: str, inode: Inode | None) -> None:
        if inode is None:
            names.pop(name, None)
        else:
            names[name] = inode

    def pending(self) -> int:
        return sum(len(inode.pending) for inode in self.names.values())

    def everything(self) -> dict[str, bytes]:
        """The files as a death of the process leaves them."""
        found = {}
        for name, inode in self.names.items():
            data = bytearray(inode.synced)
            for op in inode.pending:
                apply(data, op)
            found[name] = bytes(data)
        return found

    def image(self, dice: random.Random) -> dict[str, bytes]:
        """The files as power loss may leave them."""
        names = dict(self.synced_names)
        for name, inode in self.pending_names[: dice.randint(0, len(self.pending_names))]:
            self._settle(names, name, inode)
        how = dice.choice(HOW)
        found = {}
        for name, inode in names.items():
            data = bytearray(inode.synced)
            for op in how(dice, inode.pending):
                apply(data, op)
            found[name] = bytes(data)
        return found


# -- which of the unsynced operations are there ------------------------------------------------------------------------


def _nothing(_dice: random.Random, _pending: list[Op]) -> list[Op]:
    return []


def _beginning(dice: random.Random, pending: list[Op]) -> list[Op]:
    return pending[: dice.randint(0, len(pending))]


def _subset(dice: random.Random, pending: list[Op]) -> list[Op]:
    share = dice.choice([0.1, 0.5, 0.9])
    return [op for op in pending if dice.random() < share]


def _last_alone(_dice: random.Random, pending: list[Op]) -> list[Op]:
    return pending[-1:]


def _torn(dice: random.Random, pending: list[Op]) -> Iterator[Op]:
    """Sectors of each write by themselves, and one sector torn at any byte."""
    share = dice.choice([0.2, 0.5, 0.8, 0.95])
    for op in pending:
        if op.kind == "truncate":
            if dice.random() < share:
                yield op
            continue
        for start, end in _sectors(op):
            if dice.random() < share:
                cut = dice.randint(start, end) if dice.random() < 0.05 else end
                yield op._replace(offset=start, data=op.data[start - op.offset : cut - op.offset])


def _sectors(op: Op) -> Iterator[tuple[int, int]]:
    start, end = op.offset, op.offset + len(op.data)
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        yield start, stop
        start = stop


HOW: list[Any] = [_nothing, _beginning, _subset, _last_alone, _torn, _torn, _torn]


def put(folder: Path, files: dict[str, bytes]) -> None:
    """Make the folder hold these files, and no other."""
    for name in os.listdir(folder):
        if name not in files:
            os.unlink(folder / name)
    for name, data in files.items():
        (folder / name).write_bytes(data)

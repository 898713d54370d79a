"""Who may execute the runs of a journal: the owner's lock, and the file systems whose locks can be relied on."""

import contextlib
import fcntl
import os
import re
import threading
import weakref
from collections.abc import Iterator
from typing import Final

from ._clock import SYSTEM_CLOCK
from .errors import JournalError, JournalLockedError

_LOCK_PATIENCE_SECONDS: Final = 0.25
_NETWORK_FILE_SYSTEMS: Final = (  # compiled when it is needed
    r"(nfs\d?|cifs|smb\w*|afs|ncpfs|lustre|beegfs|gluster\w*|ceph|fuse\.\w*sshfs|9p)$"
)


class OwnerLock:
    """The right of one process to execute the runs of a journal: a `flock` on the file beside it, which holds the pid.

    The operating system drops it when the process ends, however it ends. A `flock` and no record lock, since reading
    the sidecar in the owner would drop the latter; the fork hook closes the descriptor in children, since a child
    would keep the former alive.
    """

    def __init__(self, path: str) -> None:
        """Take the lock of the journal at `path`, or raise `JournalLockedError` after 250 ms."""
        self._path = path + "-owner"
        self._fd = -1
        _held.add(self)
        self._acquire()
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except OSError:  # a full disk
            self.abandon()
            raise

    def _acquire(self) -> None:
        deadline = SYSTEM_CLOCK.monotonic() + _LOCK_PATIENCE_SECONDS  # a reader may probe it for an instant
        while not self._acquire_now():
            if SYSTEM_CLOCK.monotonic() > deadline:
                pid = owner_pid(self._path)
                who = "another engine of this process" if pid == os.getpid() else f"process {pid or 'unknown'}"
                msg = (
                    f"{self._path.removesuffix('-owner')} is owned by {who}; one process at a time executes the runs "
                    "of a journal: stop that one, or give this one a journal of its own (durable.open)"
                )
                raise JournalLockedError(msg, pid)
            SYSTEM_CLOCK.sleep(0.005)

    def _acquire_now(self) -> bool:
        with _no_fork:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _same_file(fd, self._path):
                    self._fd = fd
            except (BlockingIOError, FileNotFoundError):  # taken; or removed between the two
                pass
            finally:
                if self._fd != fd:
                    os.close(fd)
            return self._fd == fd

    def release(self) -> None:
        """Give the lock back; the sidecar stays, empty, since unlinking it would race with the next owner."""
        with contextlib.suppress(OSError):  # of a failing disk: the pid of nobody stays in it
            os.ftruncate(self._fd, 0)
        self.abandon()

    def __del__(self) -> None:
        """An engine that was dropped without `close` keeps nobody out."""
        self.abandon()

    def abandon(self) -> None:
        """Close the descriptor only: in a child of `fork`, the lock stays with the parent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


_held: weakref.WeakSet[OwnerLock] = weakref.WeakSet()
_no_fork: Final = threading.RLock()
"""Held while a thread takes or probes a lock: a child that another thread forks just then would keep it for life."""


def _abandon_all() -> None:
    for lock in list(_held):
        lock.abandon()
    _no_fork.release()


os.register_at_fork(before=_no_fork.acquire, after_in_parent=_no_fork.release, after_in_child=_abandon_all)


def is_owned(path: str) -> bool:
    """Whether a live process owns the journal; asks the operating system, for an instant."""
    with _no_fork:
        try:
            fd = os.open(path + "-owner", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # should it be a pipe
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(fd)
        return False


def owner_pid(sidecar: str) -> int | None:
    """The pid in a sidecar file, `None` where there is none to read."""
    with contextlib.suppress(OSError, ValueError), open(sidecar, "rb") as file:
        return int(file.read(32))
    return None


def _same_file(fd: int, path: str) -> bool:
    mine, named = os.fstat(fd), os.stat(path)
    return (mine.st_dev, mine.st_ino) == (named.st_dev, named.st_ino)


def refuse_network_file_system(path: str) -> None:
    """SQLite's locks cannot be relied on there, so neither can the journal; `DURABLE_NETWORK_FS=1` allows it."""
    if os.environ.get("DURABLE_NETWORK_FS") == "1" or not os.path.exists("/proc/self/mounts"):
        return
    folder = os.path.dirname(os.path.realpath(path))
    with open("/proc/self/mounts", encoding="utf-8", errors="replace") as file:
        for kind in _kinds_of_longest_mount(file, folder):
            if re.match(_NETWORK_FILE_SYSTEMS, kind):
                msg = (
                    f"{path} is on a network file system ({kind}), whose locks SQLite cannot rely on: "
                    "put the journal on a local disk, or set DURABLE_NETWORK_FS=1 to take the risk"
                )
                raise JournalError(msg)


def _kinds_of_longest_mount(mounts: Iterator[str], folder: str) -> list[str]:
    best, kinds = "", [""]
    for line in mounts:
        _, point, kind, *_ = line.split()
        point = re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), point)  # a space is written as \040
        if (folder + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
            best, kinds = point, [kind]
    return kinds

"""Where the files of a journal are: that they may be there, and that they still are."""

import contextlib
import os
import stat
from typing import Final

from ._clock import SYSTEM_CLOCK
from .errors import JournalError

_FOLDER_TICK_SECONDS: Final = 0.1


def require_place(path: str) -> None:
    """A journal is a plain file in a folder that is there: SQLite says of anything else that it cannot open it."""
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        msg = f"{path} cannot be a journal: there is no folder {folder}; make it first"
        raise JournalError(msg)
    if os.path.isdir(path):
        msg = f"{path} is a folder: give the path of a file in it, such as {os.path.join(path, 'durable.db')}"
        raise JournalError(msg)
    for each in (path, path + "-wal", path + "-shm", path + "-journal", path + "-owner"):
        try:
            mode = os.stat(each).st_mode  # asked once: it may go away at any moment, when its owner closes it
        except PermissionError:  # to enter the folder: not that there is no journal
            raise
        except OSError:
            continue
        if not stat.S_ISREG(mode):  # opening a pipe would wait for whoever writes to it
            msg = f"{each} is no plain file: give another path for the journal"
            raise JournalError(msg)


def require_one_name(path: str) -> None:
    """Whoever opens a file by another name (a hard link) has another lock and another WAL: he sees nothing of ours."""
    names = os.stat(path).st_nlink
    if names > 1:
        msg = (
            f"{path} has {names} names (hard links), and by each of them another process could write to the journal, "
            "and lose what this one writes: remove all of them but the one that is in use, or copy the file"
        )
        raise JournalError(msg)


def has_content(path: str) -> bool:
    """Whether there is something in a file; its owner may take it away at any moment, by closing the journal."""
    try:
        return os.access(path, os.F_OK) and os.path.getsize(path) > 0  # `access` first: most often it is not there
    except FileNotFoundError:
        return False


def last_written(path: str) -> float:
    """When a journal or its WAL was written last, by the clock of then; 0 where there is none."""
    times = [0.0]
    for each in (path, path + "-wal"):
        with contextlib.suppress(FileNotFoundError):
            times.append(os.stat(each).st_mtime)
    return max(times)


class Files:
    """The journal, its WAL and the owner's lock file, as they were when this process became the owner."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._folder = os.path.dirname(path)
        self._identity: tuple[int, ...] = ()
        self._folder_seen = (0, 0)

    def remember(self) -> None:
        """These are the files."""
        self._identity = self._found()

    def are_same(self) -> bool:
        """Whether they are still there, and no others."""
        return self._found() == self._identity

    def require_same(self) -> None:
        """Notice that a file was moved, removed or replaced: SQLite would go on writing into nowhere without a word.

        Looked at right before a commit: after its fsync the processor's caches are cold, and the same look costs four
        times as much. A file that goes away in the middle of the commit might as well have gone right after it.

        Any of these changes the folder's time, so that one look at the folder does for as long as it stays. (Looking at
        the WAL each time doubles the price of a commit: `stat` makes the next write touch the inode, which the fsync
        then has to write too.) A time as young as the clock's tick may hide a second change, and is not relied on.
        """
        folder = os.stat(self._folder)
        seen = (folder.st_ino, folder.st_mtime_ns)
        if seen == self._folder_seen:
            return
        if not self.are_same():
            msg = f"{self._path}, or its -wal or -owner file, was moved, removed or replaced while it was open"
            raise JournalError(msg)
        old = SYSTEM_CLOCK.now() - folder.st_mtime > _FOLDER_TICK_SECONDS
        self._folder_seen = seen if old else (0, 0)

    def _found(self) -> tuple[int, ...]:
        try:
            found = [os.stat(self._path + suffix) for suffix in ("", "-wal", "-owner")]
        except FileNotFoundError:
            return ()
        return tuple(number for each in found for number in (each.st_ino, each.st_dev))

"""The files of a journal, looked at from outside: whether they can be read, and whether anybody has them open."""

import os

from durable._place import has_content
from durable.errors import JournalError


def require_readable(path: str) -> None:
    """What SQLite would say of these is true and helps nobody."""
    msg = ""
    if os.path.isdir(path):
        msg = f"{path} is a directory, no journal: name the file"
    elif os.path.exists(path) and not os.access(path, os.R_OK):
        msg = f"{path} may not be read by this user: ask its owner, or be that user"
    elif _lacks_index_of_wal(path) and not os.access(os.path.dirname(path), os.W_OK):
        msg = f"{path} can only be read where its folder can be written: copy it and its -wal to such a one"
    if msg:
        raise JournalError(msg)


def _lacks_index_of_wal(path: str) -> bool:
    """Whether there is a WAL with something in it, and not the file by which SQLite finds its way in it."""
    return has_content(path + "-wal") and not os.path.exists(path + "-shm")


def footprint(path: str) -> tuple[int, ...] | None:
    """What tells that a file has changed; `None` where somebody has it open, or left something to recover."""
    there = os.access  # asked for each query; `os.path.exists` takes four times as long where there is nothing
    try:
        if there(path + "-shm", os.F_OK) or there(path + "-journal", os.F_OK) or has_content(path + "-wal"):
            return None
        seen = os.stat(path)
    except FileNotFoundError:
        return None
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns

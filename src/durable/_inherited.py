"""What SQLite had open when this process was forked off, which has to go before one of these files is opened here.

SQLite keeps account of the locks that it holds, by process and file, and takes none twice. A child of `fork` has its
parent's account without the locks: the system gives them to no child. Whatever it opened of that file would believe
itself to be protected, the last one to close the file elsewhere would remove the WAL under it, and what it commits then
is lost (https://www.sqlite.org/howtocorrupt.html, section 2.6). The account of a file ends with the last connection to
it; closing one that was at rest asks nothing of the file: what is mapped and open in this process is given back.

It is done when the file is opened here, and not at the fork, where another thread of the parent may have been in the
middle of SQLite: a child that never uses it waits for nobody.
"""

import os
import threading
from collections.abc import Collection
from typing import Any

import apsw

from ._wal import keep_wal
from .errors import JournalError

_Identity = tuple[int, int]
"""The device and the inode of a file."""
_inherited: dict[_Identity, list[apsw.Connection]] = {}
"""The connections of a parent, by file: never closed but by `let_go`, as this refers to them."""
_at_rest: set[int] = set()
"""The `id` of those of them that nobody was using at the fork."""
_letting_go = threading.Lock()


def inherit(at_rest: Collection[Any]) -> None:
    """In a child of `fork`: whatever is open is the parent's. `at_rest`: what nobody was using just then."""
    global _letting_go  # noqa: PLW0603 - a thread of the parent may have it
    _letting_go = threading.Lock()
    for connection in apsw.connections():
        try:
            identity = _identity(connection.filename)
        except (apsw.Error, OSError):  # closed; or there is no such file any more, so that nobody opens it
            continue
        of_file = _inherited.setdefault(identity, [])
        if connection not in of_file:
            of_file.append(connection)
    _at_rest.update(map(id, at_rest))


def let_go(path: str) -> None:
    """Before a file is opened: have SQLite take locks for this process. `JournalError` where it cannot any more."""
    if not _inherited or not os.path.exists(path):
        return
    with _letting_go:
        identity = _identity(path)
        of_file = _inherited.get(identity, [])
        if any(id(connection) not in _at_rest for connection in of_file):
            msg = (
                f"{path} cannot be opened in this process, which was forked off while its parent was in the middle of "
                "using that file: SQLite's locks are not inherited. Start such a process with 'spawn' or 'forkserver'"
            )
            raise JournalError(msg)
        for connection in of_file:
            keep_wal(connection)
            connection.close()
        _inherited.pop(identity, None)


def _identity(path: str) -> _Identity:
    found = os.stat(path)
    return found.st_dev, found.st_ino

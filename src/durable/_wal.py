"""Mends the WAL after a failed sync.

Linux forgets what it could not write: after a failed fsync the page cache still shows the bytes, the disk does not have
them, and the next fsync succeeds. What is appended behind such a hole is found as long as the machine runs, and lost
with power: the WAL ends at the hole. To write the same bytes again and sync them closes it.
"""

import os
from typing import Final

import apsw

_PIECE_BYTES: Final = 1 << 16
"""SQLite writes less than 128 KiB at a time: of the rest of a larger piece it says that the disk is full."""


def keep_wal(connection: apsw.Connection) -> None:
    """From now on closing the connection leaves the WAL as it is, for the next owner to mend.

    Else it would move what it reads into the database and remove the WAL: if power is lost before the removal is on
    the disk, the beginning of the WAL, up to the hole, is played over the newer database, which is then damaged.
    """
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)


def mend_wal(connection: apsw.Connection, vfs: str | None) -> None:
    """Write the WAL over itself and sync it, through the connection's own VFS; then closing may checkpoint again.

    Takes as long as the disk needs for the WAL: some megabytes, unless a reader held it for long. Where there is none
    or it is empty, as a clean stop leaves it, nothing is done. Raises `apsw.Error`, and the WAL is as it was.
    """
    path = connection.filename_wal
    if os.path.exists(path) and os.path.getsize(path):
        connection.execute("BEGIN IMMEDIATE")  # nobody else writes to it meanwhile
        try:
            flags = [apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_WAL, 0]
            file = apsw.VFSFile(vfs or "", path, flags)
            try:
                if flags[1] & apsw.SQLITE_OPEN_READONLY:  # it opens what it may not write all the same, to be read
                    msg = "attempt to write a readonly WAL"
                    raise apsw.ReadOnlyError(msg)
                _write_again(file)
            finally:
                file.xClose()
        finally:
            connection.execute("ROLLBACK")
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)


def _write_again(file: apsw.VFSFile) -> None:
    size = file.xFileSize()
    for start in range(0, size, _PIECE_BYTES):
        file.xWrite(file.xRead(min(_PIECE_BYTES, size - start), start), start)
    file.xSync(apsw.SQLITE_SYNC_FULL)

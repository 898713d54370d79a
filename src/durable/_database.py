"""Opens the journal's file: connections and their settings with the reasons, and SQLite's errors as our own.

What was measured about SQLite and stands behind the settings is told in docs/architecture.md.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from typing import Any, Final

import apsw

from ._clock import SYSTEM_CLOCK
from ._entries import NotWrittenError
from ._format import format_of, migrate, refuse_changed_schema, refuse_older_format, refuse_other_format
from ._inherited import let_go
from ._owner import is_owned, owner_pid
from ._place import has_content, require_one_name, require_place
from ._wal import keep_wal, mend_wal
from .errors import JournalError, SerializationError

CHECKPOINT_PAGES: Final = 1000
BUSY_MILLISECONDS: Final = 5_000
_CREATION_SECONDS: Final = 5.0  # a reader waits so long for the tables of a journal that has an owner already
_LOOK_SECONDS: Final = 0.005
_PAGES_AT_ONCE: Final = 2_000
"""Copied before somebody is told of it."""


# -- connections --------------------------------------------------------------------------------------------------


def open_writer(path: str, vfs: str | None) -> apsw.Connection:
    """The owner's connection: creates the file (mode 0600) and the tables where there are none, migrates old ones."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    return _open_for_writing(path, vfs, mends=True)


def open_visitor(path: str, vfs: str | None, *, mends: bool) -> apsw.Connection:
    """A connection to write to a journal without owning it: makes none, and leaves an older format to its owner.

    Waits, as a reader does, while the owner makes it.
    `mends`: nobody owns the journal, so that the WAL may be what one left who died after a failed sync.
    """
    connection = open_reader(path, vfs)
    try:
        refuse_older_format(path, format_of(connection))
    finally:
        connection.close()
    return _open_for_writing(path, vfs, mends=mends)


def _open_for_writing(path: str, vfs: str | None, *, mends: bool) -> apsw.Connection:
    require_one_name(path)
    let_go(path)
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    try:
        keep_wal(connection)
        _harden(connection)
        refuse_other_format(path, format_of(connection))  # before anything is changed
        if format_of(connection) is None:
            connection.pragma("auto_vacuum", 2)  # so that space can be given back in small pieces; only for a new file
        _wait_for_other_writers(connection)
        if mends:
            mend_wal(connection, vfs)  # before anything is added to it
        _set(connection, "journal_mode", "wal")  # one sequential write a commit, and readers that never block it
        _set(connection, "synchronous", 2)
        _set(connection, "wal_autocheckpoint", CHECKPOINT_PAGES)  # a longer WAL makes every commit dearer
        _set(connection, "fullfsync", 1)  # macOS: fsync alone leaves data in the drive's cache
        migrate(connection, path)
    except BaseException as error:
        explained = as_journal_error(error, path, connection) if isinstance(error, apsw.Error) else error
        keep_wal(connection)
        connection.close()  # else the traceback keeps the file open, and locked
        if explained is error:
            raise
        raise explained from error
    return connection


def open_reader(path: str, vfs: str | None, *, still: bool = False) -> apsw.Connection:
    """A read-only connection to a journal; works while the owner runs or on a full disk, and waits while it makes it.

    `still`: nobody has the file open, so that not even the files of a WAL are made. It sees no change from then on,
    and a process that will own the journal must not use it: closing it would drop the locks of the owner's connection.
    """
    if not os.path.exists(path):
        msg = f"no journal in {path}: there is no such file"
        raise JournalError(msg)
    require_place(path)
    deadline, is_taken = SYSTEM_CLOCK.monotonic() + _CREATION_SECONDS, True
    while (connection := _open_journal(path, vfs, still=still, checks=True)) is None:
        if not is_taken:
            msg = f"no journal in {path}: it is an SQLite file without the tables of durable"
            raise JournalError(msg)
        if SYSTEM_CLOCK.monotonic() > deadline:
            msg = f"no journal in {path} yet: process {owner_pid(path + '-owner') or 'unknown'} is making it"
            raise JournalError(msg)
        is_taken = is_owned(path)
        if is_taken:
            still = False
            SYSTEM_CLOCK.sleep(_LOOK_SECONDS)
    return connection


def require_vfs(name: Any) -> None:
    """`ValueError` or `TypeError` unless SQLite knows a VFS of this name."""
    known = apsw.vfs_names()
    if name is not None and name not in known:
        msg = f"SQLite has no VFS {name!r}: it has {', '.join(map(repr, known))}"
        raise ValueError(msg) if isinstance(name, str) else TypeError(msg)


def copy_journal(
    path: str, target: str, vfs: str | None, what: str, *, still: bool, reached: Callable[[int, int], None]
) -> None:
    """Copy the journal as it is now to the empty file `target`, on disk then; others may write to it meanwhile.

    `reached` is told how many pages of how many are done. `still`: as in `open_reader`. `what` is done, for an error.
    """
    source = open_reader(path, vfs, still=still)
    try:
        copy = apsw.Connection(target, flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            copy.pragma("journal_mode", "off")  # a copy that fails is thrown away; its journal would be left behind
            source.execute("BEGIN; SELECT 1 FROM sqlite_schema").fetchall()  # one moment, however long it takes
            backup = copy.backup("main", source, "main")
            try:
                while not backup.done:
                    backup.step(_PAGES_AT_ONCE)
                    reached(backup.page_count - backup.remaining, backup.page_count)
            finally:
                backup.finish()  # raises what a step failed with once more, and only then SQLite says what that was
        except apsw.Error as error:
            raise as_journal_error(error, what, copy) from error
        finally:
            copy.close()
    finally:
        source.close()
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def has_journal(path: str, vfs: str | None) -> bool:
    """Whether there is a journal in the file; `False` where there is no file, or nothing in it yet."""
    require_place(path)
    connection = _open_journal(path, vfs) if has_content(path) else None
    if connection is not None:
        connection.close()
    return connection is not None


def _open_journal(path: str, vfs: str | None, *, still: bool = False, checks: bool = False) -> apsw.Connection | None:
    """A read-only connection, `None` where the file holds no journal. `checks`: whether it is as we made it."""
    try:
        connection = _open_immutable(path, vfs) if still else _open_read_only(path, vfs)
    except apsw.ReadOnlyError:
        if os.path.exists(path + "-journal"):
            return None  # somebody died while making it: the owner's connection rolls that back
        raise
    try:
        found = format_of(connection)
        refuse_other_format(path, found)
        if found is not None and checks:
            refuse_changed_schema(connection, path)
    except BaseException:
        connection.close()
        raise
    if found is None:
        connection.close()
    return None if found is None else connection


def _open_read_only(path: str, vfs: str | None) -> apsw.Connection:
    let_go(path)
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs)
    try:
        _harden(connection)
        # It could not checkpoint when it closes, and a VFS in Python has the vain try of it raised as an error.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
    except (apsw.CantOpenError, apsw.ReadOnlyError, apsw.IOError) as error:
        explained = as_journal_error(error, path, connection)
        connection.close()
        if has_content(path + "-wal") or os.path.exists(path + "-journal"):
            if isinstance(error, apsw.ReadOnlyError):  # which who opens it looks at
                raise
            raise explained from error
        # No WAL means that nobody has it open, and here not even its index can be made: a full or read-only disk.
        connection = _open_immutable(path, vfs)
    except BaseException:
        connection.close()
        raise
    return connection


def _open_immutable(path: str, vfs: str | None) -> apsw.Connection:
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    connection = apsw.Connection(f"file:{_quoted(path)}?immutable=1", flags=flags, vfs=vfs)
    _harden(connection)
    return connection


def _quoted(path: str) -> str:
    return "".join(c if c.isalnum() or c in "/._-" else "".join(f"%{b:02X}" for b in c.encode()) for c in path)


def _harden(connection: apsw.Connection) -> None:
    connection.set_busy_timeout(BUSY_MILLISECONDS)  # first: switching to WAL needs the lock for a moment
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)  # a crafted schema may call no function with effects
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)


def _wait_for_other_writers(connection: apsw.Connection) -> None:
    """Switching to WAL gives up at once where another process writes; beginning a transaction waits for its end."""
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("ROLLBACK")


def _set(connection: apsw.Connection, pragma: str, value: object) -> None:
    """Set a pragma and read it back: SQLite ignores what it cannot do without a word."""
    connection.pragma(pragma, value)
    found: Any = connection.pragma(pragma)
    if found != value:
        msg = f"SQLite does not take {pragma}={value} for {connection.filename}: it says {found!r}"
        raise JournalError(msg)


_WRITES: Final = {
    apsw.SQLITE_INSERT,
    apsw.SQLITE_UPDATE,
    apsw.SQLITE_DELETE,
    apsw.SQLITE_DROP_TABLE,
    apsw.SQLITE_DROP_INDEX,
}
_CHANGES_OF_SCHEMA: Final = {apsw.SQLITE_ALTER_TABLE, apsw.SQLITE_CREATE_TRIGGER, apsw.SQLITE_CREATE_INDEX}


def authorize_user(action: int, name: str | None, other: str | None, *_: str | None) -> int:
    """What the statements of a transactional step may do: neither end the transaction nor touch the journal.

    Raises `apsw.AuthError`, which comes out of the statement; SQLite's own says nothing but "not authorized".
    """
    why = _refusal(action, name, other)
    if why:
        msg = f"not authorized in a step with transaction=True: {why}"
        raise apsw.AuthError(msg)
    return apsw.SQLITE_OK


def _refusal(action: int, name: str | None, other: str | None) -> str:
    """Why an action is refused, "" where it is not."""
    if action == apsw.SQLITE_TRANSACTION:
        return f"{name} of the transaction, which is the library's: the library commits when the step has returned"
    if action in {apsw.SQLITE_ATTACH, apsw.SQLITE_DETACH}:
        return "attaching another file, which would not be committed together with the journal"
    if action in _WRITES and _is_ours(name):
        return f"writing to {name}, a table of the journal"
    if action in _CHANGES_OF_SCHEMA and _is_ours(other):
        return f"changing {other}, a table of the journal"
    if action == apsw.SQLITE_PRAGMA and other is not None:  # to set one, such as synchronous=OFF
        return f"PRAGMA {name}: settings of the connection are the library's"
    return ""


def _is_ours(table: str | None) -> bool:
    return (table or "").lower().startswith("durable_")


# -- errors -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def mapped(path: str) -> Iterator[None]:
    """Errors of SQLite and of the operating system come out as the library's own."""
    try:
        yield
    except (apsw.Error, OSError, UnicodeError, OverflowError) as error:
        raise as_journal_error(error, path) from error


def as_journal_error(error: BaseException, path: str, connection: apsw.Connection | None = None) -> Exception:
    """What to raise for an error of SQLite or of the operating system: it says which file, and what to do.

    `connection` is where it happened: it knows what the operating system said behind a "disk I/O error".
    """
    if isinstance(error, apsw.TooBigError):
        return SerializationError(
            "$: larger than SQLite holds in one value (1 GB); store it elsewhere, and its name here"
        )
    if isinstance(error, apsw.NotADBError):
        return JournalError(f"{path} is no journal, or it is damaged ({error}): restore it from a backup")
    if isinstance(error, apsw.CorruptError):  # so says SQLite of a page that the disk did not give, too
        todo = "open it again, and restore it from a backup where `durable doctor` finds it damaged"
        return JournalError(f"{path} is damaged, or a read of it failed ({error}): {todo}")
    if isinstance(error, apsw.BusyError):
        return _locked_out(error, path).public()
    if isinstance(error, apsw.FullError):
        return JournalError(f"{path}: the disk is full ({error}); {_REMEDIES[errno.ENOSPC]}")
    number = _system_errno(error, path, connection)
    said = f"{error} ({os.strerror(number)})" if number and isinstance(error, _SILENT) else error
    remedy = _REMEDIES.get(number)
    return JournalError(f"{path}: {said}; {remedy}" if remedy else f"{path}: {said}")


_SILENT: Final = (apsw.IOError, apsw.CantOpenError)
"""These do not say what the operating system said."""


def _system_errno(error: BaseException, path: str, connection: apsw.Connection | None) -> int:
    """The number of the operating system's error behind this one, 0 where there is none, or it is not known."""
    if isinstance(error, OSError):
        return error.errno or 0
    if isinstance(error, apsw.ReadOnlyError):
        return errno.EACCES
    if not isinstance(error, _SILENT):
        return 0
    seen = _why_not_opened(path) if isinstance(error, apsw.CantOpenError) else 0
    return seen or (0 if connection is None else connection.system_errno)


def _why_not_opened(path: str) -> int:
    """The same for files that cannot be opened: there may be no connection, and the last that it tried is another one.

    Looked for without opening them: who closes one again drops SQLite's locks.
    """
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:  # no file can be opened just now
        return error.errno or 0
    files = [each for each in (path, path + "-wal", path + "-shm", path + "-journal") if os.path.exists(each)]
    may_write = all(os.access(each, os.R_OK | os.W_OK) for each in (*files, os.path.dirname(path)))
    return 0 if may_write else errno.EACCES


def why_not_begun(error: BaseException, path: str, connection: apsw.Connection | None) -> Exception:
    """The same for a write that could not begin: `NotWrittenError` where the file is locked."""
    is_locked = isinstance(error, apsw.BusyError)
    return _locked_out(error, path) if is_locked else as_journal_error(error, path, connection)


def _locked_out(error: BaseException, path: str) -> NotWrittenError:
    return NotWrittenError(f"{path} is busy ({error}): another process keeps it locked for longer than 5 s")


_MAY_NOT_WRITE: Final = "this process has to be allowed to write the file, and to make files in its folder"
_REMEDIES: Final = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.EACCES: _MAY_NOT_WRITE,
    errno.EPERM: _MAY_NOT_WRITE,
    errno.EROFS: _MAY_NOT_WRITE,
}
"""What to do, by the number of the operating system's error."""

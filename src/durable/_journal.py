"""The journal as its owner has it, who writes to it, and as a visitor does, who asks something of a run.

Reading and writing have a connection each: what is read is in `_reading.py`. All writing goes through `Commits`; what
the work of an entry may do is a method of `Transaction`.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import apsw

from ._commits import Commits
from ._database import (
    BUSY_MILLISECONDS,
    CHECKPOINT_PAGES,
    as_journal_error,
    mapped,
    open_visitor,
    open_writer,
    why_not_begun,
)
from ._entries import Row, closed
from ._model import OwnerRecord
from ._owner import OwnerLock, refuse_network_file_system
from ._patience import TRY_MILLISECONDS
from ._place import Files, last_written, require_place
from ._reading import ReadableJournal
from ._records import owner_from, owner_row
from ._transaction import PUT_STEP, SQL, Transaction, in_one_statement
from ._wal import keep_wal, mend_wal
from .errors import DurableError, JournalError

T = TypeVar("T")

_FULL: Final = 2
_SYNCHRONOUS: Final = {1: "PRAGMA synchronous=NORMAL", 2: "PRAGMA synchronous=FULL"}


class Journal(ReadableJournal):
    """One journal file: read by anybody, written by its owner. Safe to use from several threads."""

    def __init__(self, path: str, *, full: bool = True, vfs: str | None = None) -> None:
        """Nothing is opened before it is needed. `full=False` leaves out the fsync of every commit."""
        super().__init__(path, vfs)
        self.synced = 0
        """The number of the last transaction that is known to be safe against power loss."""
        self.left_before = 0
        """No run that earlier owners left, and that a plain call may go on with, has a key from here on."""
        self.last_written = 0.0
        """When the file was written last by an earlier owner or a visitor, as the clock was set then."""
        self._full = full
        self._opening = threading.RLock()
        """Held while a connection that writes is opened or closed, and as long as a visitor has one."""
        self._lock: OwnerLock | None = None
        self._owner: OwnerRecord | None = None
        self._writer: apsw.Connection | None = None
        self._transaction: Transaction | None = None
        self._synchronous = 2
        self._files = Files(self.path)
        self.commits = Commits(self)

    # -- owning -------------------------------------------------------------------------------------------------------

    def own(self, pid: int, now: float) -> None:
        """Become the owner: lock, create or migrate the file, and count a new epoch. `JournalLockedError` if taken."""
        with self._opening, mapped(self.path):
            require_place(self.path)
            refuse_network_file_system(self.path)
            self._lock = OwnerLock(self.path)
            try:
                self.last_written = last_written(self.path)
                self._writer = open_writer(self.path, self._vfs)
                self._writer.set_busy_timeout(TRY_MILLISECONDS)  # whether it is tried again is for `Commits` to say
                self._transaction = Transaction(self._writer)
                newest = self._writer.execute(SQL["owners"], (1,)).fetchall()
                self._owner = OwnerRecord(owner_from(newest[0]).epoch + 1 if newest else 1, pid, now, None)
                self._writer.execute(SQL["open_owner"], owner_row(self._owner))
                left_before: Any = self._writer.execute(SQL["left_before"]).fetchall()[0][0]
                self.left_before = left_before
                self._files.remember()
            except BaseException:
                if self._writer is not None:
                    keep_wal(self._writer)
                self._release()
                raise
            self.epoch = self._owner.epoch

    def close(self, now: float | None) -> None:
        """Finish what was accepted, note that this owner stopped cleanly (`None`: do not), and let the lock go."""
        self.commits.close()
        self.read_no_more()
        with self._opening:
            if self._writer is not None and self._owner is not None:
                try:
                    if self.commits.is_broken():
                        keep_wal(self._writer)
                        self.rollback()
                        if self._files.are_same():  # else the WAL that is there is another one since
                            mend_wal(self._writer, self._vfs)
                    if not self.commits.patience.is_locked_out():  # else it was waited for long enough
                        self._writer.set_busy_timeout(BUSY_MILLISECONDS)
                    if now is not None:
                        closed = owner_row(self._owner._replace(closed_at=now))
                        self._writer.execute(SQL["close_owner"], (now, closed[-1], self.epoch))
                except apsw.Error:  # the run of an owner that could not say so counts as a crash
                    keep_wal(self._writer)
            self._release()

    def _release(self) -> None:
        writer, lock, self._writer, self._lock = self._writer, self._lock, None, None
        try:
            if writer is not None:
                with contextlib.suppress(apsw.Error):  # of its checkpoint: what it was to move is safe in the WAL
                    writer.close()
        finally:
            if lock is not None:
                lock.release()

    def hold(self, seconds: float) -> Callable[[], None] | None:
        """Before a fork: have nobody use the connections until what is returned is called.

        `None` where they are in use for longer, or their VFS is another one than SQLite's, which may mind being closed
        in a child.
        """
        held = self.commits.hold(seconds) if self._vfs in {None, "unix"} else None
        if held is None:
            return None
        with contextlib.ExitStack() as stack:
            stack.callback(self.commits.leave, held)
            for lock in (self._opening, self._reading):
                if not lock.acquire(timeout=seconds):
                    return None
                stack.callback(lock.release)
            return stack.pop_all().close

    def forget(self, why: DurableError) -> list[Any]:
        """In a child of `fork`: hand out the parent's handles, which must be neither used nor closed there."""
        self.commits.forget(why)
        handles: list[Any] = [each for each in (self._writer, self._reader) if each is not None]
        self.epoch = 0
        self._writer = self._reader = self._lock = None
        self._reading, self._opening = threading.RLock(), threading.RLock()
        return handles

    # -- writing ------------------------------------------------------------------------------------------------------

    def write(self, work: Callable[[Transaction], T], *, full: bool = True, gives_up: bool = False) -> T:
        """Do `work` in a write transaction; when this returns it is on disk (`full`), or else survives the process."""
        return self.commits.write(work, full, gives_up=gives_up)  # type: ignore[no-any-return]

    def put_alone(self, rows: Row | list[Row], full: bool) -> int:
        """For `Commits`: operations, in a transaction by itself. Written flat: a lone step passes here twice."""
        transaction = self._transaction
        statement, row = (PUT_STEP, rows) if type(rows) is tuple else in_one_statement(rows)  # type: ignore[arg-type]
        if self._writer is None or transaction is None:
            raise self._not_owned()
        try:
            synchronous = 2 if full and self._full else 1
            if self._writer.in_transaction:
                self._prepare(full)
            elif self._synchronous != synchronous:
                self._switch(transaction, synchronous)
            if full:
                self._files.require_same()
            transaction.number += 1
            transaction.execute(statement, row)
        except (apsw.Error, OSError) as error:
            raise why_not_begun(error, self.path, self._writer) from error
        if full or not self._full:
            self.synced = transaction.number
        return transaction.number

    def write_alone(self, work: Callable[[Transaction], T]) -> T:
        """Do `work`, which runs the user's code, in a transaction of its own and in this thread; on disk afterwards."""
        return self.commits.write(work, True, alone=True)  # type: ignore[no-any-return]

    def visit(self, work: Callable[[Transaction], T]) -> T:
        """Do `work` in a journal without owning it: for what others ask of a run."""
        with self.visiting() as write:
            return write(work)  # type: ignore[no-any-return]

    @contextlib.contextmanager
    def visiting(self) -> Iterator[Callable[[Callable[[Transaction], Any]], Any]]:
        """The same for several transactions: what is yielded does the work of one."""
        with self._opening, mapped(self.path):
            connection = open_visitor(self.path, self._vfs, mends=not self.is_owned())
            try:
                transaction = Transaction(connection)

                def write(work: Callable[[Transaction], Any]) -> Any:
                    transaction.begin()
                    result = work(transaction)
                    connection.execute("COMMIT")
                    return result

                yield write
            except apsw.Error:
                keep_wal(connection)
                raise
            finally:
                connection.close()

    def begin(self, full: bool) -> Transaction:
        """For `Commits`: open a transaction that ends with an fsync, or without."""
        try:
            transaction = self._prepare(full)
            transaction.begin()
        except apsw.Error as error:
            raise why_not_begun(error, self.path, self._writer) from error
        transaction.number += 1
        return transaction

    def _not_owned(self) -> JournalError:
        return JournalError(f"{self.path} is not owned by this engine")

    def _prepare(self, full: bool) -> Transaction:
        """Have the next commit end with an fsync, or without: a switch between commits costs a microsecond."""
        if self._writer is None or self._transaction is None:
            raise self._not_owned()
        if self._writer.in_transaction:  # an interrupt struck between its begin and its end: nobody was told of it
            self._transaction.execute("ROLLBACK")
        synchronous = 2 if full and self._full else 1
        if synchronous != self._synchronous:
            self._switch(self._transaction, synchronous)
        return self._transaction

    def _switch(self, transaction: Transaction, synchronous: int) -> None:
        """Only a commit with an fsync checkpoints: the checkpoint's own sync of the WAL then has nothing to lose.

        SQLite tells nobody where that one fails: what it was to bring to the disk would be a hole in the WAL.
        """
        transaction.execute(_SYNCHRONOUS[synchronous])
        if self._full:
            transaction.checkpoint_after(CHECKPOINT_PAGES if synchronous == _FULL else 0)
        self._synchronous = synchronous

    def commit(self, full: bool) -> None:
        """For `Commits`: end the transaction."""
        assert self._writer is not None
        assert self._transaction is not None
        try:
            if self._writer.in_transaction:  # not so where an interrupt came right after it
                if full:
                    self._files.require_same()
                self._transaction.execute("COMMIT")
        except JournalError:
            self.rollback()  # else it would keep other processes from writing until the engine is closed
            raise
        except (apsw.Error, OSError) as error:
            explained = as_journal_error(error, self.path, self._writer)
            self.rollback()
            raise explained from error
        if full or not self._full:
            self.synced = self._transaction.number

    def rollback(self) -> None:
        """For `Commits`: undo a transaction in which some work failed, unless SQLite has done so by itself."""
        if self._writer is not None and self._writer.in_transaction:
            with contextlib.suppress(apsw.Error):
                self._writer.execute("ROLLBACK")

    def explain(self, error: BaseException) -> BaseException:
        """For `Commits`: what to raise for an error of the work."""
        if not isinstance(error, apsw.Error):
            return error
        # Closed in the middle of the work, by a signal handler that struck there.
        return closed() if self._writer is None else as_journal_error(error, self.path, self._writer)

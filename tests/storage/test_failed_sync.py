"""After a failed sync the WAL has a hole on the disk, which the page cache hides: it is written anew before it grows."""

import os
import subprocess
import sys

import apsw
import pytest

from durable._journal import Journal
from durable.errors import JournalError
from tests.faults.disk import Op, Recorder

KILLED = """
import os, signal, sys
from durable._journal import Journal
from durable._model import AttemptRecord
journal = Journal(sys.argv[1])
journal.own(os.getpid(), 1.0)
journal.write(lambda transaction: transaction.put_attempt(AttemptRecord(1, "", 0, 1, 1.0, 2.0, "x" * 200_000)))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def disk():
    recorder = Recorder([])
    yield recorder
    recorder.unregister()


@pytest.fixture
def recorded(path, disk):
    """The journal at `path` on the recording VFS, not owned yet."""
    journal = Journal(path, vfs=disk.name)
    yield journal
    journal.close(9.0)


def of_the_wal(disk):
    return [entry for entry in disk.log if isinstance(entry, Op) and entry.name.endswith("-wal")]


def kill_an_owner(path):
    subprocess.run([sys.executable, "-c", KILLED, path], timeout=30)
    with open(path + "-wal", "rb") as file:
        return file.read()


def is_rewritten(ops, wal):
    """Whether the first that happens to the WAL is that it is written over itself, whole, and synced."""
    end = next((place for place, op in enumerate(ops) if op.kind == "sync"), 0)
    return end > 0 and {op.kind for op in ops[:end]} == {"write"} and b"".join(op.data for op in ops[:end]) == wal


def test_the_wal_of_an_owner_that_died_is_written_anew_before_it_grows(path, recorded, disk):
    wal = kill_an_owner(path)
    recorded.own(os.getpid(), 2.0)
    assert is_rewritten(of_the_wal(disk), wal)
    assert len(recorded.attempts(1)) == 1


def test_a_visitor_does_the_same_where_nobody_owns_the_journal(path, recorded, disk):
    wal = kill_an_owner(path)
    recorded.visit(lambda transaction: transaction.drop_messages(1, "signal"))
    assert is_rewritten(of_the_wal(disk), wal)


def test_a_visitor_leaves_the_wal_to_an_owner_that_lives(path, recorded, disk, open_journal):
    owner = open_journal(path)
    owner.write(lambda transaction: transaction.run_of_seq(1))
    recorded.visit(lambda transaction: transaction.run_of_seq(1))
    assert of_the_wal(disk) == []


def test_after_a_clean_stop_there_is_nothing_to_write_anew(path, recorded, disk, open_journal):
    open_journal(path).close(1.0)
    recorded.own(os.getpid(), 2.0)
    assert [op.kind for op in of_the_wal(disk)][:1] == ["make"]


def fail_a_commit(journal, disk, make):
    journal.own(os.getpid(), 1.0)
    journal.write(lambda transaction: transaction.add_run(make.run()))
    disk.syncs_left = 1
    with pytest.raises(JournalError, match="unknown whether its records"):
        journal.write(make.row(make.step(position=0)))
    del disk.log[:]


def test_an_engine_whose_commit_failed_writes_the_wal_anew_before_it_closes(path, recorded, disk, make):
    fail_a_commit(recorded, disk, make)
    with open(path + "-wal", "rb") as file:
        wal = file.read()
    recorded.close(2.0)
    assert is_rewritten(of_the_wal(disk), wal)
    assert not os.path.exists(path + "-wal")


def test_where_that_fails_too_the_wal_is_left_to_the_next_owner(path, recorded, disk, make, open_journal):
    fail_a_commit(recorded, disk, make)
    disk.syncs_left = 1
    recorded.close(2.0)
    *kinds, last = [entry.kind for entry in disk.log]
    assert set(kinds) == {"write"}
    assert last == "failed sync"
    assert os.path.getsize(path + "-wal")
    assert open_journal(path).run("run-1") is not None


def test_an_owner_that_cannot_write_the_wal_anew_does_not_open_the_journal(path, recorded, disk):
    wal = kill_an_owner(path)
    disk.syncs_left = 1
    with pytest.raises(JournalError, match="disk I/O error|the sync failed"):
        recorded.own(os.getpid(), 2.0)
    with open(path + "-wal", "rb") as file:
        assert file.read() == wal


def test_an_owner_that_may_only_read_the_wal_is_told_so(path):
    """As a file system has it that lets it be opened to be read, where it was to be written."""
    wal = kill_an_owner(path)
    vfs = ReadsTheWal()
    journal = Journal(path, vfs=vfs.name)
    with pytest.raises(JournalError, match="attempt to write a readonly"):
        journal.own(os.getpid(), 2.0)
    journal.close(2.0)
    vfs.unregister()
    with open(path + "-wal", "rb") as file:
        assert file.read() == wal


class ReadsTheWal(apsw.VFS):
    """Opens the WAL to be read when the library is to write it again, and else as it is asked to."""

    name = "reads-the-wal"

    def __init__(self):
        super().__init__(self.name, "")

    def xOpen(self, name, flags):
        file = super().xOpen(name, flags)
        if not isinstance(name, apsw.URIFilename) and flags[0] & apsw.SQLITE_OPEN_WAL:
            flags[1] = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_WAL
        return file


def test_the_wal_of_another_journal_is_not_touched(path, recorded, disk, make):
    """The commit failed since the files were replaced: those that are there now are somebody else's."""
    recorded.own(os.getpid(), 1.0)
    recorded.write(lambda transaction: transaction.add_run(make.run()))
    for suffix in ("", "-wal", "-shm"):
        os.rename(path + suffix, path + suffix + ".moved")
        with open(path + suffix, "wb") as file:
            file.write(b"somebody else's")
    with pytest.raises(JournalError, match="moved, removed or replaced"):
        recorded.write(make.row(make.step(position=0)))
    recorded.close(2.0)
    with open(path + "-wal", "rb") as file:
        assert file.read() == b"somebody else's"


def test_a_visitor_whose_commit_failed_leaves_the_wal_as_it_is(path, recorded, disk, make, open_journal):
    open_journal(path).close(1.0)
    with pytest.raises(JournalError), recorded.visiting() as write:
        disk.syncs_left = 1
        write(lambda transaction: transaction.add_run(make.run()))
    assert os.path.getsize(path + "-wal")


def test_only_a_commit_with_an_fsync_checkpoints(path, recorded, disk, make):
    """SQLite tells nobody of a sync that fails in a checkpoint: so there must be nothing that it could lose."""
    recorded.own(os.getpid(), 1.0)
    recorded.write(lambda transaction: transaction.add_run(make.run()))
    del disk.log[:]
    long = "x" * 5_000_000  # more than the WAL may hold before it is checkpointed
    recorded.write(make.row(make.step(position=0, input=long)), full=False)
    recorded.write(lambda transaction: transaction.put_attempt(make.attempt()), full=False)
    assert {(op.kind, op.name) for op in disk.log} == {("write", "journal.db-wal")}
    recorded.write(make.row(make.step(position=2)))
    ops = [(op.kind, op.name) for op in disk.log]
    assert ops.index(("sync", "journal.db-wal")) < ops.index(("write", "journal.db"))


def test_without_any_fsync_a_commit_checkpoints_too(path, disk, make):
    journal = Journal(path, full=False, vfs=disk.name)
    journal.own(os.getpid(), 1.0)
    journal.write(lambda transaction: transaction.add_run(make.run(input="x" * 5_000_000)))
    journal.write(make.row(make.step(position=0)), full=False)
    assert os.path.getsize(path) > 5_000_000
    journal.close(2.0)

"""What a child of `fork` does before it opens a file that its parent had open, done in one process: here, as if it were one.

That the locks are there afterwards is tested with real children, in tests/crash/test_forks.py.
"""

import os
import threading

import apsw
import pytest

import durable
from durable import _engine, _inherited
from durable._journal import Journal
from durable.errors import JournalError


@pytest.fixture(autouse=True)
def nothing_inherited(monkeypatch):
    monkeypatch.setattr(_inherited, "_inherited", {})
    monkeypatch.setattr(_inherited, "_at_rest", set())


def test_connections_that_were_at_rest_are_closed_when_the_file_is_opened(path, open_journal):
    of_parent = [apsw.Connection(path), apsw.Connection(path)]
    open_journal().close(1.0)
    _inherited.inherit([*of_parent])
    _inherited.let_go(path + "-other")
    assert of_parent[0].filename == path
    Journal(path).has_tables()
    for connection in of_parent:
        with pytest.raises(apsw.ConnectionClosedError):
            connection.execute("SELECT 1")
    opened = apsw.Connection(path)
    _inherited.let_go(path)  # nothing of the parent's is left
    assert opened.execute("SELECT count(*) FROM durable_run").fetchall() == [(0,)]
    opened.close()


def test_the_file_is_refused_where_somebody_was_using_it(path, open_journal, tmp_path):
    journal = open_journal()
    other = apsw.Connection(str(tmp_path / "other.db"))
    other.execute("CREATE TABLE mine (x)")
    gone = apsw.Connection(str(tmp_path / "gone.db"))
    gone.execute("CREATE TABLE mine (x)")
    os.remove(tmp_path / "gone.db")
    _inherited.inherit([])
    _inherited.inherit([])  # a child of the child
    with pytest.raises(JournalError, match=r"journal\.db cannot be opened in this process, which was forked off while"):
        Journal(path).runs()
    with pytest.raises(JournalError, match="forked off while"):
        _inherited.let_go(other.filename)
    assert journal.commits.is_idle()
    other.close()
    gone.close()


def test_a_child_waits_for_no_thread_of_its_parent(path, open_journal):
    open_journal().close(1.0)
    with _inherited._letting_go:  # by another thread, which the child does not have
        _inherited.inherit([apsw.Connection(path)])
        assert not _inherited._letting_go.locked()
        assert Journal(path).runs() == []


def test_a_journal_that_is_held_is_neither_read_nor_written(path, open_journal, make):
    journal = open_journal()
    go_on = journal.hold(1.0)
    done = []
    reads = threading.Thread(target=lambda: done.append(journal.runs()))
    writes = threading.Thread(target=lambda: done.append(journal.write(lambda transaction: transaction.number)))
    reads.start()
    writes.start()
    reads.join(0.05)
    assert not done
    go_on()
    reads.join()
    writes.join()
    assert len(done) == 2


def test_a_journal_that_is_being_read_is_not_held(path, open_journal):
    journal = open_journal()
    with journal._reading:
        found = []
        other = threading.Thread(target=lambda: found.append(journal.hold(0.01)))
        other.start()
        other.join()
    assert found == [None]
    assert journal.commits.is_idle()


def test_of_an_engine_that_was_being_read_at_the_fork_nothing_is_at_rest_in_the_child(path, monkeypatch):
    monkeypatch.setattr(_engine, "_FORK_SECONDS", 0.01)
    forked, reading = threading.Event(), threading.Event()

    def read(journal):
        with journal._reading:
            reading.set()
            forked.wait()

    with durable.Engine(path) as engine:
        durable.workflow(name="owns the journal")(lambda: None)()
        other = threading.Thread(target=read, args=[engine._runtime.journal])
        other.start()
        reading.wait()
        if (child := os.fork()) == 0:
            is_refused = False
            try:
                durable.Engine(path).runs()
            except JournalError as error:
                is_refused = "forked off while" in str(error)
            finally:
                os._exit(0 if is_refused else 1)
        forked.set()
        other.join()
        assert os.waitpid(child, 0)[1] == 0
        assert len(engine.runs()) == 1


def test_a_journal_of_another_vfs_is_not_held(path):
    assert Journal(path, vfs="unix-excl").hold(1.0) is None


def test_what_is_read_after_the_end_keeps_the_file_open_no_longer(path, open_journal):
    journal = open_journal()
    journal.close(1.0)
    assert journal.runs() == []
    assert journal._reader is None

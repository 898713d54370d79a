"""Another process writes into the same file: an application's own transaction, a tool, a backup."""

import contextlib
import sqlite3
import threading
from contextlib import closing

import apsw
import pytest

from durable import _database, _patience
from durable._journal import Journal
from durable.errors import JournalError

HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(sys.argv[2])
print("holding", flush=True)
input()
connection.execute("COMMIT")
print("let go", flush=True)
input()
"""


@pytest.fixture
def holding(start, path):
    def holding(begin="BEGIN IMMEDIATE"):
        program = start(HOLD, path, begin)
        assert program.line() == "holding"
        return program

    return holding


def works(make):
    put = make.row(make.step())
    return {
        "statement alone": put,
        "transaction": lambda transaction: transaction.put(put),
    }


def say_soon(program):
    """Let go in a fifth of a second; tells whether that has come."""
    said = threading.Event()

    def say():
        said.set()
        with contextlib.suppress(OSError, ValueError):  # the test may have ended
            program.say()

    threading.Timer(0.2, say).start()
    return said


@pytest.mark.parametrize("kind", ["statement alone", "transaction"])
def test_a_write_waits_for_another_process(open_journal, holding, make, kind):
    journal = open_journal()
    other = holding()
    said = say_soon(other)
    journal.write(works(make)[kind])
    assert said.is_set()
    assert len(journal.steps(1)) == 1


@pytest.mark.parametrize("kind", ["statement alone", "transaction"])
def test_a_write_that_gives_up_fails_and_the_next_goes_on(open_journal, holding, make, monkeypatch, kind):
    monkeypatch.setattr(_patience, "SECONDS", 0.3)
    journal = open_journal()
    other = holding()
    with pytest.raises(JournalError, match="locked.*; end that one, and try again") as raised:
        journal.write(works(make)[kind], gives_up=True)
    assert type(raised.value) is JournalError
    assert journal.steps(1) == []
    other.say()
    assert other.line() == "let go"
    journal.write(works(make)[kind])
    assert len(journal.steps(1)) == 1


def test_who_does_not_own_the_journal_gives_up_too(open_journal, holding, monkeypatch, path):
    monkeypatch.setattr(_database, "BUSY_MILLISECONDS", 100)
    open_journal().close(None)
    holding()
    with pytest.raises(JournalError, match="another process keeps it locked"):
        Journal(path).visit(lambda transaction: transaction.run_of_id("run"))


def test_a_transaction_is_for_writing_from_its_first_statement_on(open_journal, make, path):
    """One that reads first and then writes may find that another has written meanwhile, and must begin anew."""
    journal = open_journal()

    def work(transaction):
        assert transaction.run_of_id("run-1") is None
        with closing(apsw.Connection(path)) as other, pytest.raises(apsw.BusyError):
            other.execute("BEGIN IMMEDIATE")
        return transaction.add_run(make.run())

    assert journal.write(work).seq == 1


def test_the_first_start_waits_for_another_process(open_journal, holding, path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (a)")
    other = holding()
    say_soon(other)
    assert open_journal().epoch == 1


def test_readers_are_not_held_up_by_a_writer(open_journal, read_journal, holding, make):
    journal = open_journal()
    journal.write(lambda transaction: transaction.add_run(make.run()))
    holding("BEGIN EXCLUSIVE")
    assert read_journal().run("run-1") is not None  # who waits for it is an error in the end: it does not let go
    assert journal.run("run-1") is not None


def test_a_reader_s_open_transaction_does_not_hold_up_writing(open_journal, holding, make, path):
    journal = open_journal()
    journal.write(lambda transaction: transaction.add_run(make.run()))
    with closing(apsw.Connection(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM durable_run").fetchall()
        for position in range(50):
            journal.write(make.row(make.step(position=position)), full=False)
        assert reader.execute("SELECT count(*) FROM durable_step").fetchall() == [(0,)]
    assert len(journal.steps(1)) == 50


def test_reading_leaves_no_transaction_open(open_journal, read_journal, make, path):
    """One that is left open pins the WAL, which then grows for ever."""
    journal = open_journal()
    journal.write(lambda transaction: transaction.add_run(make.run()))
    for reader in (journal, read_journal()):
        reader.runs()
        reader.run("run-1")
        reader.steps(1)
        reader.children(1)
        reader.owners(1)
    for position in range(5):
        journal.write(make.row(make.step(position=position)), full=False)
    with closing(apsw.Connection(path)) as connection:
        [(busy, pages, moved)] = connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    assert busy == 0
    assert pages == moved


def test_a_reader_sees_what_was_committed_since(open_journal, read_journal, make):
    journal, reader = open_journal(), read_journal()
    for number in range(5):
        journal.write(lambda transaction, number=number: transaction.add_run(make.run(id=f"run-{number}")), full=False)
        assert len(reader.runs()) == len(journal.runs()) == number + 1

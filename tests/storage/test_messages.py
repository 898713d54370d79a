"""What others ask of a run: kept in order until it is read, also while nobody owns the journal."""

import sqlite3
from contextlib import closing

import pytest

from durable._model import MessageRecord
from durable._owner import is_owned
from durable.errors import JournalError


def message(run, name="go", kind="signal", value='"x"'):
    return MessageRecord(0, run, kind, name, value, None, 1700000007.5)


@pytest.fixture
def journal(open_journal, make):
    made = open_journal()
    for name in ("run-1", "run-2"):
        made.write(lambda transaction, name=name: transaction.add_run(make.run(id=name)), full=False)
    return made


def send(*messages):
    def work(transaction):
        for each in messages:
            transaction.add_message(each)

    return work


def test_messages_are_read_by_run_kind_and_name_in_the_order_of_arrival(journal):
    journal.write(send(message(1, value="1"), message(2, value="2"), message(1, "stop", value="3")), full=False)
    journal.write(send(message(1, value="4"), message(1, "", "cancel", None)), full=False)

    def values(*where):
        return [each.value for each in journal.write(lambda transaction: transaction.messages(*where), full=False)]

    assert values(1, "signal", "go") == ["1", "4"]
    assert values(1, "signal", "stop") == ["3"]
    assert values(2, "signal", "go") == ["2"]
    assert values(1, "cancel") == [None]
    assert values(2, "cancel") == []


def test_the_next_message_is_the_first_after_a_key(journal):
    journal.write(send(message(1, value="1"), message(2, value="2"), message(1, "stop"), message(1, value="4")))
    first = journal.next_message(1, "signal", "go", after=0)
    second = journal.next_message(1, "signal", "go", after=first.seq)
    assert (first.value, second.value) == ("1", "4")
    assert journal.next_message(1, "signal", "go", after=second.seq) is None


def test_what_was_asked_of_a_run_goes_with_its_end(journal, make):
    journal.write(send(message(1), message(2)), full=False)
    ended = journal.run("run-1")._replace(status="completed", finished_at=5.0)
    journal.write(lambda transaction: transaction.finish_run(ended), full=False)
    assert journal.write(lambda t: (t.messages(1, "signal", "go"), len(t.messages(2, "signal", "go")))) == ([], 1)


def test_a_blocked_run_keeps_them(journal):
    journal.write(send(message(1)), full=False)
    blocked = journal.run("run-1")._replace(status="blocked")
    journal.write(lambda transaction: transaction.finish_run(blocked), full=False)
    assert len(journal.write(lambda transaction: transaction.messages(1, "signal", "go"))) == 1


@pytest.mark.parametrize("column", MessageRecord._fields)
def test_a_message_that_is_damaged_is_noticed(journal, path, open_journal, column):
    journal.write(send(message(1, "go")), full=False)
    journal.close(1.0)
    value = {"run": 2, "kind": "cancel", "name": "stop"}.get(column, 17)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"UPDATE durable_message SET {column} = ?", (value,))
    again = open_journal()
    with pytest.raises(JournalError, match="record of message .* is damaged"):
        again.write(
            lambda transaction: [
                transaction.messages(run, kind, name)
                for run in (1, 2)
                for kind in ("signal", "cancel")
                for name in ("go", "stop")
            ]
        )


# -- by those who do not own it ---------------------------------------------------------------------------------------


def test_a_message_is_left_in_a_journal_that_nobody_owns(journal, path, open_journal, read_journal):
    journal.close(1.0)
    visitor = read_journal()
    assert visitor.visit(lambda transaction: transaction.run_of_id("run-1").seq) == 1
    visitor.visit(send(message(1)))
    assert not is_owned(path)
    assert [owner.epoch for owner in visitor.owners(9)] == [1], "a visitor is no owner"
    again = open_journal()
    assert len(again.write(lambda transaction: transaction.messages(1, "signal", "go"))) == 1


def test_a_visit_that_fails_leaves_nothing(journal, read_journal, open_journal):
    journal.close(1.0)

    def work(transaction):
        transaction.add_message(message(1))
        raise ValueError

    with pytest.raises(ValueError):
        read_journal().visit(work)
    assert open_journal().write(lambda transaction: transaction.messages(1, "signal", "go")) == []


def test_a_visit_beside_a_living_owner_is_seen_by_it(journal, read_journal):
    read_journal().visit(send(message(1)))
    assert len(journal.write(lambda transaction: transaction.messages(1, "signal", "go"))) == 1


@pytest.mark.parametrize("there", ["nothing", "an application's file"])
def test_a_visitor_makes_no_journal(path, read_journal, folder_bytes, there):
    if there != "nothing":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE mine (a)")
    before = folder_bytes(path)
    with pytest.raises(JournalError, match="no journal in"):
        read_journal().visit(lambda transaction: None)
    assert folder_bytes(path) == before


def test_a_visitor_migrates_nothing(journal, read_journal, path, monkeypatch):
    from durable import _format

    journal.close(1.0)
    real = _format.read_sql
    number = _format.FORMAT + 1
    more = "CREATE TABLE durable_more (\n    a INTEGER\n);\n"
    monkeypatch.setattr(_format, "FORMAT", number)
    monkeypatch.setattr(_format, "read_sql", lambda file: more if file == f"migrations/{number:04}.sql" else real(file))
    with pytest.raises(JournalError):
        read_journal().visit(lambda transaction: None)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT value FROM durable_meta").fetchall() == [(number - 1,)]

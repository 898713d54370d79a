"""What a step's own statements may do in the journal's transaction, and what becomes of them."""

import sqlite3
import threading
from contextlib import closing

import apsw
import pytest

from durable.errors import JournalError


@pytest.fixture
def journal(open_journal):
    made = open_journal()
    made.write(lambda transaction: transaction.execute("CREATE TABLE orders (id)"))
    return made


def orders(path):
    with closing(sqlite3.connect(path)) as connection:
        return [number for (number,) in connection.execute("SELECT id FROM orders")]


def with_outcome(make, user):
    """A step's work: what the user does with the connection, and the outcome beside it."""

    def work(transaction):
        with transaction.lent() as connection:
            user(connection)
        return transaction.put(make.row(make.step()))

    return work


def test_what_the_user_writes_is_in_the_file_with_the_outcome(journal, path, make):
    journal.write_alone(with_outcome(make, lambda connection: connection.execute("INSERT INTO orders VALUES (1)")))
    assert journal.steps(1) == [make.step()]
    journal.close(1.0)
    assert orders(path) == [1]


def test_what_the_user_wrote_is_gone_with_an_error(journal, path, make):
    def user(connection):
        connection.execute("INSERT INTO orders VALUES (1)")
        raise ValueError

    with pytest.raises(ValueError):
        journal.write_alone(with_outcome(make, user))
    assert journal.steps(1) == []
    journal.write_alone(with_outcome(make, lambda connection: connection.execute("INSERT INTO orders VALUES (2)")))
    journal.close(1.0)
    assert orders(path) == [2]


@pytest.mark.parametrize(
    "sql",
    [
        "COMMIT",
        "END",
        "ROLLBACK",
        "BEGIN",
        "ATTACH ':memory:' AS other",
        "INSERT INTO durable_meta VALUES ('a', 1)",
        "INSERT INTO main.durable_step SELECT * FROM durable_step",
        "UPDATE durable_run SET status = 'completed'",
        "UPDATE DURABLE_RUN SET status = 'completed'",
        "DELETE FROM durable_attempt",
        "DROP TABLE durable_step",
        "REPLACE INTO durable_meta VALUES ('format', 99)",
    ],
)
def test_the_journal_and_its_transaction_are_out_of_reach(journal, make, sql):
    with pytest.raises(JournalError, match="not authorized|authoriz"):
        journal.write_alone(with_outcome(make, lambda connection: connection.execute(sql)))
    assert journal.steps(1) == []
    journal.write_alone(with_outcome(make, lambda connection: None))
    assert journal.steps(1) == [make.step()]


def test_reading_the_journal_and_parts_of_a_transaction_are_the_user_s_own(journal, path, make):
    def user(connection):
        assert connection.execute("SELECT count(*) FROM durable_step").fetchall() == [(0,)]
        connection.execute("SAVEPOINT mine")
        connection.execute("INSERT INTO orders VALUES (1)")
        connection.execute("ROLLBACK TO mine")
        with connection:
            connection.execute("INSERT INTO orders VALUES (2)")

    journal.write_alone(with_outcome(make, user))
    journal.close(1.0)
    assert orders(path) == [2]


def test_a_connection_that_was_kept_is_the_journal_s_again(journal, make):
    kept = []
    journal.write_alone(with_outcome(make, kept.append))
    assert kept[0].authorizer is None
    assert isinstance(kept[0], apsw.Connection)
    journal.write(make.row(make.step(position=1)))
    assert len(journal.steps(1)) == 2


def test_others_wait_for_a_transaction_of_its_own_and_do_not_join_it(journal, make):
    """The user's code runs in it, and may take its time or fail: nobody else's record hangs on that."""
    inside, go_on = threading.Event(), threading.Event()
    written = []

    def user(connection):
        inside.set()
        assert go_on.wait(60)
        raise ValueError

    def alone():
        with pytest.raises(ValueError):
            journal.write_alone(with_outcome(make, user))

    threads = [threading.Thread(target=alone)]
    threads[0].start()
    assert inside.wait(60)
    for position in range(1, 4):
        work = make.row(make.step(position=position))
        threads.append(threading.Thread(target=lambda work=work: written.append(journal.write(work))))
        threads[-1].start()
    assert journal.steps(1) == []
    go_on.set()
    for thread in threads:
        thread.join()
    assert [step.position for step in journal.steps(1)] == [1, 2, 3]

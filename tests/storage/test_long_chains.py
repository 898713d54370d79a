"""Runs of which each started the next, as one may do for years: they are followed to the end, however many they are."""

import pytest

from durable import _requests
from durable._retention import remove

LENGTH = 1_500


@pytest.fixture
def chain(open_journal, make):
    """The journal with such runs, of a status."""

    def chain(status, **values):
        def add(transaction):
            parent = None
            for number in range(LENGTH):
                record = make.run(id=f"run-{number}", status=status, parent=parent, **values)
                parent = transaction.add_run(record).seq

        journal = open_journal()
        journal.write(add)
        return journal

    return chain


def test_it_is_deleted_as_a_whole(chain):
    journal = chain("completed", created_at=1.0, finished_at=1.0)
    assert sum(remove(journal, journal.write, 2.0, ("completed",), now=3.0)) == LENGTH
    assert journal.runs() == []


def test_it_is_cancelled_as_a_whole(chain):
    journal = chain("waiting")
    assert len(journal.write(_requests.cancel("run-0", 1.0))) == LENGTH
    assert len(journal.new_messages(0)) == LENGTH

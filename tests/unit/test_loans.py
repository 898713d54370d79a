"""The slot of a run, lent while any of its tasks or threads waits for another run."""

from types import SimpleNamespace

import pytest

from durable._limits import Limit, Loan


@pytest.fixture
def limit():
    return Limit(1)


@pytest.fixture
def holder(limit):
    limit.request(lambda: None)

    def give_slot_back():
        release, holder.release_slot = holder.release_slot, None
        if release is not None:
            release()

    holder = SimpleNamespace(release_slot=limit.release, give_slot_back=give_slot_back, is_over=lambda: False)
    return holder


@pytest.fixture
def loan(holder, limit):
    return Loan(holder, limit)


def test_the_last_that_goes_on_has_the_slot_again(loan, holder, limit):
    went_on = []
    loan.begin()
    loan.begin()
    assert (holder.release_slot, limit._free) == (None, 1)
    loan.request(lambda: went_on.append("first"))
    assert (went_on, holder.release_slot, limit._free) == (["first"], None, 1)
    loan.request(lambda: went_on.append("last"))
    assert went_on == ["first", "last"]
    assert (holder.release_slot, limit._free) == (limit.release, 0)
    holder.give_slot_back()
    assert limit._free == 1


def test_one_who_goes_on_where_the_run_has_its_slot_takes_no_other(loan, holder, limit):
    went_on = []
    loan.begin()
    holder.release_slot = limit.release
    loan.request(lambda: went_on.append(1))
    assert (went_on, limit._free) == ([1], 1)


def test_several_who_wait_for_the_slot_ask_for_it_once(loan, holder, limit):
    went_on = []
    loan.begin()
    limit.request(lambda: None)  # somebody else has it
    loan.request(lambda: went_on.append("first"))
    loan.begin()
    loan.request(lambda: went_on.append("second"))
    assert (went_on, len(limit._waiting)) == ([], 1)
    limit.release()
    assert (went_on, holder.release_slot, limit._free) == (["first", "second"], limit.release, 0)


def test_a_slot_that_comes_while_another_one_waits_is_given_back(loan, holder, limit):
    went_on = []
    loan.begin()
    limit.request(lambda: None)
    loan.request(lambda: went_on.append(1))
    loan.begin()
    limit.release()
    assert (went_on, holder.release_slot, limit._free) == ([1], None, 1)


def test_a_slot_that_nobody_wants_any_more_is_given_back(loan, holder, limit):
    def granted():
        raise AssertionError

    loan.begin()
    limit.request(lambda: None)
    loan.request(granted)
    assert loan.withdraw(granted)
    assert not loan.withdraw(granted)
    limit.release()
    assert (holder.release_slot, limit._free) == (None, 1)


def test_a_slot_that_was_granted_stays_with_the_run(loan, holder, limit):
    loan.begin()
    loan.request(lambda: None)
    loan.release()
    assert (holder.release_slot, limit._free) == (limit.release, 0)


def test_one_who_goes_on_when_the_run_is_over_takes_no_slot(loan, holder, limit):
    went_on = []
    loan.begin()
    holder.is_over = lambda: True
    loan.request(lambda: went_on.append(1))
    assert (went_on, holder.release_slot, limit._free) == ([1], None, 1)

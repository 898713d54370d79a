"""`start_many`: many runs, acknowledged in one commit."""

import threading
import time

import pytest

import durable
from durable import RunConflictError, SerializationError
from durable._transaction import Transaction


@pytest.fixture
def transactions(monkeypatch):
    """The numbers of the transactions that added a run, one for each run."""
    seen = []
    add_run = Transaction.add_run

    def counting(transaction, record):
        seen.append(transaction.number)
        return add_run(transaction, record)

    monkeypatch.setattr(Transaction, "add_run", counting)
    return seen


@pytest.fixture
def double():
    @durable.workflow(name="double", id="double-{number}")
    def double(number: int) -> int:
        double.begun.append(number)
        return number * 2

    double.begun = []
    return double


def test_all_are_acknowledged_in_one_commit(journal, transactions, double, size):
    count = size(1000, 10_000)
    runs = double.start_many(range(count))
    assert len(transactions) == count
    assert len(set(transactions)) == 1
    assert [run.result() for run in runs] == [number * 2 for number in range(count)]


def test_handles_and_beginnings_come_in_the_order_of_the_items(journal, double):
    journal.open(threads=1)
    runs = double.start_many([5, 3, 9, 1])
    assert [run.id for run in runs] == ["double-5", "double-3", "double-9", "double-1"]
    assert [run.result() for run in runs] == [10, 6, 18, 2]
    assert double.begun == [5, 3, 9, 1]
    assert [run.id for run in durable.runs()] == ["double-1", "double-9", "double-3", "double-5"]


def test_runs_without_an_id_get_one_each(journal):
    @durable.workflow
    def same(number: int) -> int:
        return number

    runs = same.start_many([1, 1, 1])
    assert len({run.id for run in runs}) == 3
    assert [run.result() for run in runs] == [1, 1, 1]


def test_an_id_that_comes_twice_is_one_run(journal, double):
    runs = double.start_many([1, 2, 1])
    assert [run.result() for run in runs] == [2, 4, 2]
    assert runs[0] == runs[2]
    assert sorted(double.begun) == [1, 2]


def test_an_id_that_exists_gives_its_handle(journal, double):
    assert double(2) == 4
    assert [run.result() for run in double.start_many([1, 2])] == [2, 4]
    assert double.begun == [2, 1]


def test_nothing(journal, double):
    assert double.start_many([]) == []


def test_a_conflict_starts_none_of_them(journal):
    @durable.workflow(name="w", id=lambda item: f"id-{item % 10}")
    def w(item: int) -> int:
        return item

    with pytest.raises(RunConflictError):
        w.start_many([1, 2, 11])
    assert durable.runs() == []
    assert [run.result() for run in w.start_many([1, 2])] == [1, 2]


def test_an_item_that_cannot_be_journaled_starts_none_of_them(journal):
    @durable.workflow(name="w")
    def w(item):
        return 1

    with pytest.raises(SerializationError):
        w.start_many([1, threading.Lock(), 2])
    assert durable.runs() == []


def test_async_ones(journal):
    @durable.step
    async def triple(number: int) -> int:
        return number * 3

    @durable.workflow(name="w")
    async def w(number: int) -> int:
        return await triple(number)

    assert [run.result() for run in w.start_many(range(50))] == [number * 3 for number in range(50)]


def test_in_a_workflow_they_are_children_and_the_same_ones_after_a_crash(journal):
    begun = []

    @durable.workflow(name="child")
    def child(number: int) -> int:
        begun.append(number)
        return number

    @durable.workflow(name="parent", id="parent")
    def parent() -> list[int]:
        runs = child.start_many([1, 2, 3])
        values = [run.result() for run in runs]
        journal.crash()
        return values

    with pytest.raises(KeyboardInterrupt):
        parent()
    before = {run.id for run in durable.runs(workflow="child")}
    journal.restart()
    assert parent() == [1, 2, 3]
    assert {run.id for run in durable.runs(workflow="child")} == before
    assert sorted(begun) == [1, 2, 3]


def test_those_that_had_not_begun_are_resumed_in_order(journal):
    journal.open(threads=1)
    gate, begun = threading.Event(), []

    @durable.step(retry=None)
    def wait() -> None:
        begun.append("first")
        gate.wait(60)

    @durable.workflow(name="w", id="w-{number}")
    def w(number: int) -> int:
        if number == 0:
            wait()
        begun.append(number)
        return number

    w.start_many(range(6))
    while not begun:
        time.sleep(0.001)
    engine = journal.engine
    closing = threading.Thread(target=engine.close)
    closing.start()
    while "closed" not in repr(engine):
        time.sleep(0.001)
    gate.set()
    closing.join()
    first, *_, last = reversed(journal.open(threads=1).runs())
    assert first.status in {"interrupted", "completed"}  # its step ended while the engine closed
    assert last.status == "queued"
    durable.resume(wait=True)
    assert [run.status for run in durable.runs()] == ["completed"] * 6
    assert begun[-6:] == list(range(6))

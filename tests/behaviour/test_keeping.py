"""Old runs are deleted while others go on, and the engine may be closed in the middle of it."""

import threading
import time
from contextlib import closing, suppress

import apsw
import pytest

import durable
from durable import _patience, _requests, _retention
from durable._model import FINISHED
from durable._retention import Keeper, family, remove, remove_all
from tests.behaviour.clocks import SetClock
from tests.behaviour.patience import PATIENCE, wait_until

DAY = 86_400.0


@pytest.fixture
def old_runs(journal):
    """Five that have failed, and fail again when they are told to go on."""
    go_on = threading.Event()

    @durable.workflow(id="run-{number}")
    def flow(number):
        if go_on.is_set():
            raise ValueError(number)
        wait_until(go_on.is_set)

    go_on.set()
    for number in range(5):
        with pytest.raises(ValueError):
            flow(number)
    go_on.clear()
    yield
    go_on.set()


def ids():
    return sorted(run.id for run in durable.runs())


def test_an_engine_that_deletes_old_runs_stops_doing_so_when_it_closes(tmp_path):
    @durable.workflow
    def flow():
        return 1

    with durable.Engine(tmp_path / "kept.db", keep="1h") as engine:
        assert flow() == 1
        assert len(engine.runs()) == 1


def test_what_went_on_since_it_was_looked_for_is_left(journal, old_runs, monkeypatch):
    monkeypatch.setattr(_retention, "_PAGE", 2)
    writes = []

    def write(work):
        if not writes:
            durable.get("run-1").retry()
        writes.append(work)
        return file.write(work)

    file = journal.engine._runtime.journal
    assert list(remove(file, write, time.time() + DAY, tuple(FINISHED), now=time.time())) == [1, 2, 1]
    assert ids() == ["run-1"]


def test_a_child_stays_whose_parent_has_failed_again_since_it_was_looked_for(journal):
    @durable.workflow(id="child")
    def child():
        return 1

    @durable.workflow(id="parent")
    def parent():
        raise ValueError(child.start().result())

    with pytest.raises(ValueError):
        parent()
    file, run = journal.engine._runtime.journal, durable.get("parent")
    found = family(file, file.run(run.id))[::-1]
    run.retry()
    with pytest.raises(ValueError):
        run.result(PATIENCE)
    assert list(remove_all(file.write, found)) == [0]
    assert ids() == ["child", "parent"]


def test_a_run_stays_that_has_failed_again_since_it_was_looked_for(journal):
    @durable.workflow(id="fails")
    def fails():
        raise ValueError

    with pytest.raises(ValueError):
        fails()
    file, run = journal.engine._runtime.journal, durable.get("fails")
    found = [file.run(run.id)]
    run.retry()
    with pytest.raises(ValueError):
        run.result(PATIENCE)
    assert list(remove_all(file.write, found)) == [0]
    assert "fails" in ids()


def test_a_run_stays_whose_child_goes_on_again_since_it_was_looked_for(journal):
    ends = threading.Event()

    @durable.workflow(id="child")
    def child():
        if not again:
            raise ValueError
        ends.wait(PATIENCE)

    @durable.workflow(id="parent")
    def parent():
        with suppress(ValueError):
            child()

    again = False
    parent()
    file = journal.engine._runtime.journal
    found = family(file, file.run("parent"))[::-1]
    again = True
    durable.get("child").retry()
    assert list(remove_all(file.write, found)) == [0]
    assert ids() == ["child", "parent"]
    ends.set()
    durable.get("child").result(PATIENCE)


@pytest.mark.parametrize("ends_last", ["parent", "child"])
def test_a_run_and_those_that_it_called_stay_until_all_of_them_ended_long_ago(journal, ends_last):
    goes_on, moments = threading.Event(), []

    @durable.workflow(id="child")
    def child():
        assert goes_on.wait(PATIENCE)

    @durable.workflow(id="parent")
    def parent():
        run = child.start()
        if ends_last == "parent":
            goes_on.set()
            run.result()
            moments.append(time.time())

    parent()
    if ends_last == "child":
        moments.append(time.time())
        goes_on.set()
    durable.get("child").result(PATIENCE)
    file = journal.engine._runtime.journal
    assert list(remove(file, file.write, moments[0], tuple(FINISHED), now=time.time())) == []
    assert ids() == ["child", "parent"]
    assert sum(remove(file, file.write, time.time() + DAY, tuple(FINISHED), now=time.time())) == 2


def test_a_failed_run_goes_in_one_transaction_with_its_children(journal, monkeypatch):
    monkeypatch.setattr(_retention, "_ROWS_AT_ONCE", 1)

    @durable.workflow(id="child-{number}")
    def child(number):
        if number == 2:
            raise ValueError(number)

    @durable.workflow(id="parent-{last}")
    def parent(last):
        for number in range(last - 1, last + 1):
            child(number)

    parent(1)
    with pytest.raises(ValueError):
        parent(3)
    parent(11)
    file = journal.engine._runtime.journal
    every = [each for last in (1, 3, 11) for each in family(file, file.run(f"parent-{last}"))[::-1]]
    assert list(remove_all(file.write, every)) == [1, 1, 1, 2, 1, 1, 1]
    assert ids() == []


def test_a_run_of_a_clock_that_was_ahead_keeps_none_of_those_behind_it(tmp_path):
    clock = SetClock(365 * DAY)

    @durable.workflow(id="{when}")
    def flow(when):
        return when

    with durable.Engine(tmp_path / "kept.db", clock=clock) as engine:
        flow("next year")
        clock.ahead = 0.0
        flow("today")
        keeper = Keeper(engine._runtime.journal, SetClock(DAY), 1.0)
        keeper.start()
        wait_until(lambda: ids() == ["next year"])
        keeper.stop()


def test_what_is_asked_of_a_run_that_is_deleted_just_then_tells_so(journal, old_runs):
    file = journal.engine._runtime.journal
    asked = _requests.signal("run-1", "go", None, None, time.time())  # which has just been there
    assert sum(remove(file, file.write, time.time() + DAY, tuple(FINISHED), now=time.time())) == 5
    with pytest.raises(durable.RunNotFoundError, match=r"no run 'run-1' in the journal any more: keep=.* deleted it"):
        _requests.ask(file, asked)


def test_an_engine_that_closes_between_two_transactions_deletes_no_more(journal, old_runs, monkeypatch):
    monkeypatch.setattr(_retention, "_ROWS_AT_ONCE", 1)
    write, stopping = Keeper._write, []

    def write_and_stop(self, work):
        result = write(self, work)
        self._stopped.set()
        stopping.append(self)
        return result

    monkeypatch.setattr(Keeper, "_write", write_and_stop)
    keeper = Keeper(journal.engine._runtime.journal, SetClock(DAY), 1.0)
    keeper.start()
    keeper._thread.join(PATIENCE)
    keeper.stop()
    assert stopping == [keeper]
    assert ids() == ["run-1", "run-2", "run-3", "run-4"]


def test_what_cannot_be_deleted_is_told_and_tried_again(journal, old_runs, caplog, monkeypatch):
    monkeypatch.setattr(_patience, "SECONDS", 0.1)
    file = journal.engine._runtime.journal
    file._writer.set_busy_timeout(10)
    with closing(apsw.Connection(str(journal.path))) as another:  # of the same SQLite: locks are per process
        another.execute("BEGIN IMMEDIATE")
        keeper = Keeper(file, SetClock(DAY), 1.0)
        keeper.start()
        wait_until(lambda: "old runs are not deleted: " in caplog.text)
        another.execute("ROLLBACK")
    wait_until(lambda: ids() == [])
    keeper.stop()
    assert "is busy" in caplog.text


def test_what_cannot_be_deleted_since_the_engine_was_closed_is_not_told(journal, old_runs, caplog, monkeypatch):
    write, reached, go_on, errors = Keeper._write, threading.Event(), threading.Event(), []

    def write_late(self, work):
        reached.set()
        assert go_on.wait(PATIENCE)
        try:
            return write(self, work)
        except durable.EngineClosedError as error:
            errors.append(error)
            raise

    monkeypatch.setattr(Keeper, "_write", write_late)
    keeper = Keeper(journal.engine._runtime.journal, SetClock(DAY), 1.0)
    keeper.start()
    assert reached.wait(PATIENCE)
    keeper.stop()
    journal.engine.close()
    go_on.set()
    keeper._thread.join(PATIENCE)
    assert len(errors) == 1
    assert not caplog.records
    journal.restart()
    assert len(ids()) == 5

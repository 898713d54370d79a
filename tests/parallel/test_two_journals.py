"""Runs of one journal that have to do with runs of another one, in one process."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import durable
from durable import RunConflictError
from tests.behaviour.patience import wait_until

SOON = 60.0


@pytest.fixture
def other(tmp_path: Path) -> Iterator[durable.Engine]:
    """An engine on another journal, which is not the default one."""
    with_it = durable.Engine(tmp_path / "other.db")
    yield with_it
    with_it.close()


def declare_family(other):
    """A run of the other journal whose child waits; and runs, of both kinds, that wait for that child."""

    @durable.workflow(name="child", id="child")
    def child() -> int:
        return durable.wait_for_signal("go", int)

    @durable.workflow(name="parent", id="parent")
    def parent() -> int:
        return child.start().result()

    @durable.workflow(name="outer", id="outer")
    def outer() -> int:
        return other.get("child").result()

    @durable.workflow(name="outer async", id="outer")
    async def outer_async() -> int:
        return await other.get("child")

    return parent, outer, outer_async


@pytest.mark.parametrize("is_async", [False, True])
def test_a_run_of_another_journal_is_no_child_though_its_parent_has_the_same_key(journal, other, is_async):
    parent, outer, outer_async = declare_family(other)
    with other_current(other):
        parent.start()
    wait_until(lambda: other.runs("waiting", "child"))
    waits = (outer_async if is_async else outer).start()
    wait_until(other._runtime.watchers.are_there)
    record = journal.file.run("outer")
    assert record.seq == other._runtime.journal.run("child").parent
    assert not waits_suspended(waits)
    other.get("child").signal("go", 7)
    assert waits.result(timeout=SOON) == 7


def test_a_run_that_waits_for_one_of_another_journal_is_told_of_its_cancellation(journal, other):
    parent, outer, _ = declare_family(other)
    with other_current(other):
        parent.start()
    wait_until(lambda: other.runs("waiting", "child"))
    waits = outer.start()
    wait_until(other._runtime.watchers.are_there)
    waits.cancel()
    with pytest.raises(durable.RunCancelledError):
        waits.result(timeout=SOON)
    assert other.get("child").status == "waiting"


class other_current:
    """Make an engine the current one without closing it in the end."""

    def __init__(self, engine):
        self.engine = engine

    def __enter__(self):
        self.token = durable._engine.ENGINE.set(self.engine)

    def __exit__(self, *_):
        durable._engine.ENGINE.reset(self.token)


def waits_suspended(run) -> bool:
    """Whether a run is suspended within the two seconds in which it would be."""
    try:
        wait_until(lambda: run.status == "waiting", 2.0)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("how", ["call", "start", "start_many"])
def test_a_workflow_under_another_engine_in_a_body_is_refused_before_anything_is_written(journal, tmp_path, how):
    @durable.workflow(name="child")
    def child(number: int) -> int:
        return number

    @durable.workflow(name="parent", id="parent")
    def parent() -> int:
        with durable.Engine(tmp_path / "other.db"):
            if how == "call":
                return child(1)
            return child.start(1).result() if how == "start" else len(child.start_many([1]))

    with pytest.raises(RunConflictError, match=r"'child'.*other\.db.*run 'parent'.*journal\.db.*in a step"):
        parent()
    assert durable.get("parent").steps() == []
    assert not (tmp_path / "other.db").exists()


def test_an_async_workflow_under_another_engine_in_a_body_is_refused(journal, tmp_path):
    @durable.workflow(name="child")
    async def child() -> int:
        return 1

    @durable.workflow(name="parent", id="parent")
    async def parent() -> int:
        async with durable.Engine(tmp_path / "other.db"):
            return await child()

    with pytest.raises(RunConflictError, match="in a step"):
        asyncio.run(parent())
    assert durable.get("parent").steps() == []


def test_in_a_step_a_workflow_may_be_called_under_another_engine(journal, tmp_path):
    @durable.workflow(name="child", id="child")
    def child() -> int:
        return 3

    @durable.step
    def elsewhere() -> int:
        with durable.Engine(tmp_path / "other.db"):
            return child()

    @durable.workflow(name="parent")
    def parent() -> int:
        return elsewhere()

    assert parent() == 3
    with durable.Engine(tmp_path / "other.db") as engine:
        assert [run.id for run in engine.runs()] == ["child"]


def test_a_slot_of_a_run_with_the_same_id_in_another_journal_is_not_lent(journal, other, peak):
    gate = threading.Event()

    @durable.workflow(name="limited", id="same", concurrency=1)
    def limited() -> int:
        with peak:
            return 0 if gate.wait(SOON) else 1

    @durable.workflow(name="waits", id="same")
    def waits() -> int:
        return other.get("slow").result()

    @durable.workflow(name="slow", id="slow")
    def slow() -> int:
        return durable.wait_for_signal("go", int)

    with other_current(other):
        both = [limited.start(), limited.with_options(id="second").start()]
        slow.start()
    wait_until(lambda: both[0].status == "running")
    waiting = waits.start()
    wait_until(other._runtime.watchers.are_there)
    other.get("slow").signal("go", 1)
    assert waiting.result(timeout=SOON) == 1
    gate.set()
    assert [run.result(timeout=SOON) for run in both] == [0, 0]
    assert peak.most == 1

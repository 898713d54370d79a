"""A sync run that is cancelled while it calls another one hears of it when that one has ended, in every life alike."""

import threading

import pytest

import durable
from durable import _runtime
from tests.behaviour.patience import PATIENCE, wait_until


@pytest.fixture
def said():
    return []


@pytest.fixture
def cleans_up(said):
    @durable.step(name="cleans up")
    def cleans_up(who):
        said.append(who)

    return cleans_up


@pytest.fixture
def child(cleans_up):
    @durable.workflow(name="child", id="child")
    def child():
        try:
            durable.sleep(3600.0)
        except durable.Cancelled:
            cleans_up("child")
            cleans_up("child again")
            raise

    return child


def declare_parent(child, cleans_up, timeout=None):
    @durable.workflow(name="parent", id="parent", timeout=timeout)
    def parent():
        try:
            child()
        except durable.Cancelled:
            cleans_up("parent")
            raise

    return parent


@pytest.fixture
def parent(child, cleans_up):
    return declare_parent(child, cleans_up)


def statuses():
    return {run.id: run.status for run in durable.runs()}


@pytest.mark.parametrize("crashes", [False, True])
def test_after_a_suspension(journal, parent, said, crashes):
    run = parent.start()
    wait_until(lambda: statuses() == {"parent": "waiting", "child": "waiting"})
    if crashes:
        journal.restart()
    run = durable.get("parent")
    run.cancel()
    with pytest.raises(durable.RunCancelledError):
        run.result(PATIENCE)
    assert said == ["child", "child again", "parent"]
    assert statuses() == {"parent": "cancelled", "child": "cancelled"}
    assert [(step.name, step.status, step.attempt) for step in run.steps()] == [
        ("child", "failed", 2),
        ("cleans up", "completed", 1),
    ]


def test_after_a_suspension_when_the_time_is_up(journal, child, cleans_up, said):
    run = declare_parent(child, cleans_up, timeout=1.0).start()
    with pytest.raises(TimeoutError, match="took longer than its timeout of 1 s"):
        run.result(PATIENCE)
    assert said == ["child", "child again", "parent"]
    assert statuses() == {"parent": "failed", "child": "cancelled"}


def test_a_child_that_had_ended_before_gives_its_result(journal, cleans_up, said):
    """The crash came between its end and the moment when its parent knew."""
    at_work, goes_on = threading.Event(), threading.Event()

    @durable.workflow(name="child", id="child")
    def child():
        if not journal.crashing:
            return "done"
        at_work.set()
        assert goes_on.wait(PATIENCE)
        raise KeyboardInterrupt

    @durable.workflow(name="parent", id="parent")
    def parent():
        said.append(child())
        cleans_up("never")

    run = parent.start()
    assert at_work.wait(PATIENCE)
    goes_on.set()
    with pytest.raises(durable.RunInterruptedError):
        run.result(PATIENCE)
    journal.restart()
    assert durable.get("child").result(PATIENCE) == "done"
    run = durable.get("parent")
    run.cancel()
    with pytest.raises(durable.RunCancelledError):
        run.result(PATIENCE)
    assert said == ["done"]


def test_a_child_that_begins_after_its_parent_was_cancelled_ends_at_once(journal, cleans_up, said, monkeypatch):
    """Asked between the moment when the call is in the file and that when its run is."""
    prepare = _runtime.Runtime.prepare

    def prepare_late(runtime, request):
        if request.workflow.name == "child":
            durable.get("parent").cancel()
        return prepare(runtime, request)

    @durable.workflow(name="child", id="child")
    def child():
        cleans_up("never")

    parent = declare_parent(child, cleans_up)
    monkeypatch.setattr(_runtime.Runtime, "prepare", prepare_late)
    with pytest.raises(durable.RunCancelledError):
        parent()
    assert said == ["parent"]
    assert statuses() == {"parent": "cancelled", "child": "cancelled"}


def test_a_child_that_is_blocked_meanwhile_is_waited_for_no_longer(journal, cleans_up, said):
    """As it is by changed code that is met on the way to where it is told."""

    @durable.workflow(name="child", id="child")
    def child():
        cleans_up("child" if journal.crashing else "other")
        journal.crash()

    parent = declare_parent(child, cleans_up)
    with pytest.raises(KeyboardInterrupt):
        parent()
    journal.restart()
    run = durable.get("parent")
    run.cancel()
    with pytest.raises(durable.RunCancelledError):
        run.result(PATIENCE)
    assert said == ["child", "parent"]
    assert statuses() == {"parent": "cancelled", "child": "blocked"}

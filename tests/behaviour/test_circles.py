"""Runs that wait for each other: none waits for ever, and nobody is refused who waits for one that can end."""

import asyncio
import contextvars
import threading

import pytest

import durable
from durable import RunConflictError
from tests.behaviour.patience import PATIENCE, wait_until

KINDS = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


def declare(is_async, wait):
    """`wait`, which waits with the function given, as the body of a step: sync, or awaited."""
    if not is_async:
        return durable.step(name="wait", retry=None)(wait)

    async def wait_async(number):
        return await wait(number)

    return durable.step(name="wait", retry=None)(wait_async)


def all_conflict(ids):
    for run_id in ids:
        with pytest.raises(RunConflictError):
            durable.get(run_id).result(PATIENCE)
    assert {durable.get(run_id).status for run_id in ids} == {"failed"}


@KINDS
@pytest.mark.parametrize("how", ["call", "result"])
@pytest.mark.parametrize("place", ["body", "step", "both"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_runs_that_all_wait_for_the_next_fail(journal, is_async, how, place, size):
    """Each was started by itself. In a circle of one, it is its own result that it waits for."""

    def next_of(number):
        after = (number + 1) % size
        if how == "call":
            return flow(after)
        return durable.get(f"w-{after}") if is_async else durable.get(f"w-{after}").result()

    step = declare(is_async, next_of)

    def wait(number):
        assert are_started.wait(PATIENCE)
        return step(number) if place == "step" or (place == "both" and number) else next_of(number)

    if is_async:

        @durable.workflow(id="w-{number}")
        async def flow(number):
            return await wait(number)
    else:

        @durable.workflow(id="w-{number}")
        def flow(number):
            return wait(number)

    are_started = threading.Event()
    runs = flow.start_many(range(size))
    are_started.set()
    all_conflict([run.id for run in runs])


@KINDS
@pytest.mark.parametrize("goes_back", ["call", "result", "in a step"])
@pytest.mark.parametrize("ends_by", ["nothing", "a crash"])
def test_a_run_that_is_called_in_a_step_cannot_wait_for_that_of_the_step(
    journal, run_async, is_async, goes_back, ends_by
):
    """Neither live nor after a crash, when `resume()` has set both going."""
    journal.crashing = ends_by == "a crash"

    @durable.step(retry=None)
    def stops():
        journal.crash()

    def back(_=None):
        if goes_back != "result":
            return a()
        return durable.get("a") if is_async else durable.get("a").result()

    step = declare(is_async, back)
    call_b = declare(is_async, lambda _: b()).with_options(name="call_b")

    if is_async:

        @durable.workflow(id="b")
        async def b():
            stops()
            return await (step(0) if goes_back == "in a step" else back())

        @durable.workflow(id="a")
        async def a():
            return await call_b(0)
    else:

        @durable.workflow(id="b")
        def b():
            stops()
            return step(0) if goes_back == "in a step" else back()

        @durable.workflow(id="a")
        def a():
            return call_b(0)

    with pytest.raises(KeyboardInterrupt if journal.crashing else RunConflictError):
        run_async(a()) if is_async else a()
    journal.restart()
    durable.resume()
    all_conflict("ab")


@KINDS
@pytest.mark.parametrize("is_restarted", [False, True], ids=["", "restarted"])
@pytest.mark.parametrize("begins", ["called", "started"])
@pytest.mark.parametrize("awaits", ["parent", "top"])
def test_a_child_that_goes_on_cannot_wait_for_a_suspended_run_that_waits_for_it(
    journal, is_async, is_restarted, begins, awaits
):
    """The file does not say that they do."""
    if is_async:

        @durable.workflow(id="child")
        async def child():
            await durable.aio.wait_for_signal("go")
            return await durable.get(awaits)

        @durable.workflow(id="parent")
        async def parent():
            return await (child.start() if begins == "started" else child())

        @durable.workflow(id="top")
        async def top():
            return await (parent.start() if begins == "started" else parent())
    else:

        @durable.workflow(id="child")
        def child():
            durable.wait_for_signal("go")
            return durable.get(awaits).result()

        @durable.workflow(id="parent")
        def parent():
            return child.start().result() if begins == "started" else child()

        @durable.workflow(id="top")
        def top():
            return parent.start().result() if begins == "started" else parent()

    top.start()
    wait_until(lambda: len(durable.runs(status="waiting")) == 3)
    if is_restarted:
        journal.restart()
        assert durable.resume() == []
    durable.get("child").signal("go")
    all_conflict(["child", "parent", "top"])


@KINDS
def test_a_child_may_wait_for_its_suspended_parent_that_does_not_wait_for_it(journal, is_async):
    if is_async:

        @durable.workflow(id="child")
        async def child():
            await durable.aio.wait_for_signal("go")
            waits.set()
            return await durable.get("parent")

        @durable.workflow(id="parent")
        async def parent():
            child.start()
            return await durable.aio.wait_for_signal("end", int)
    else:

        @durable.workflow(id="child")
        def child():
            durable.wait_for_signal("go")
            waits.set()
            return durable.get("parent").result()

        @durable.workflow(id="parent")
        def parent():
            child.start()
            return durable.wait_for_signal("end", int)

    waits = threading.Event()
    parent.start()
    wait_until(lambda: len(durable.runs(status="waiting")) == 2)
    durable.get("child").signal("go")
    assert waits.wait(PATIENCE)
    durable.get("parent").signal("end", 3)
    assert durable.get("child").result(PATIENCE) == 3


def test_who_waits_with_a_timeout_holds_up_nobody(journal):
    @durable.workflow(id="a")
    def a():
        assert are_started.wait(PATIENCE)
        return durable.get("b").result()

    @durable.workflow(id="b")
    def b():
        assert are_started.wait(PATIENCE)
        with pytest.raises(TimeoutError):
            durable.get("a").result(0.2)
        return 5

    are_started = threading.Event()
    runs = [b.start(), a.start()]
    are_started.set()
    assert [run.result(PATIENCE) for run in runs] == [5, 5]


def test_a_call_without_an_id_does_not_mean_a_run_that_waits_for_it(journal):
    @durable.workflow
    def flow(number):
        runs.add(durable.info().run_id)
        if len(runs) > 1:
            return number
        journal.crash()
        return durable.get("other").result()

    @durable.step(retry=None)
    def calls():
        wait_until(lambda: journal.engine._runtime.watchers.who_await("other"))
        return flow(5)

    @durable.workflow(id="other")
    def other():
        return calls() + 1

    runs = set()
    with pytest.raises(KeyboardInterrupt):
        flow(5)
    journal.restart()
    other.start()
    (resumed,) = durable.resume()
    assert resumed.result(PATIENCE) == 6


def test_who_waits_is_known_across_journals(journal, tmp_path):
    @durable.workflow(id="a")
    def a():
        assert are_started.wait(PATIENCE)
        return other.get("b").result()

    @durable.workflow(id="b")
    def b():
        assert are_started.wait(PATIENCE)
        return journal.engine.get("a").result()

    are_started = threading.Event()
    with durable.Engine(tmp_path / "other.db") as other:
        runs = [b.start()]
        with journal.engine:
            runs += [a.start()]
            are_started.set()
            for run in runs:
                with pytest.raises(RunConflictError):
                    run.result(PATIENCE)


@pytest.mark.parametrize("is_over", [False, True])
def test_what_a_run_has_left_behind_may_wait_for_it(journal, is_over):
    """A thread that has taken the context of the body along, when the run has ended, or has just written that."""

    def late():
        assert has_ended.wait(PATIENCE)
        values.append(durable.get("a").result())

    def after_the_thread(*args):
        has_ended.set()
        threads[0].join(PATIENCE)
        return over(*args)

    over = journal.engine._runtime.over
    if not is_over:
        journal.engine._runtime.over = after_the_thread

    @durable.workflow(id="a")
    def a():
        threads.append(threading.Thread(target=contextvars.copy_context().run, args=(late,)))
        threads[0].start()
        return 3

    has_ended, threads, values = threading.Event(), [], []
    assert a() == 3
    has_ended.set()
    threads[0].join(PATIENCE)
    assert values == [3]


def test_a_run_that_is_just_being_suspended_is_asked_after_that(journal):
    @durable.workflow
    def flow(ends):
        entered.append(ends)
        assert may_go_on.wait(PATIENCE)
        return ends or durable.wait_for_signal("go")

    may_go_on, entered = threading.Event(), []
    runs = flow.start_many([True, False])
    wait_until(lambda: len(entered) == 2)
    for run in runs:
        journal.engine._scheduler.ask(run.id)
    may_go_on.set()
    wait_until(lambda: len(entered) == 3)
    assert runs[0].result(PATIENCE) is True
    runs[1].signal("go", 7)
    assert runs[1].result(PATIENCE) == 7


def test_a_run_that_many_children_of_another_wait_for_reads_that_one_once_when_it_waits(journal, monkeypatch):
    """And not once for each of them."""
    are_waiting, read = threading.Event(), []
    engine = journal.engine

    @durable.workflow(id="other")
    def other():
        return "other"

    @durable.workflow(id="awaited")
    async def awaited():
        assert await asyncio.to_thread(are_waiting.wait, PATIENCE)
        return await durable.get("other")

    @durable.workflow(id="child-{number}")
    async def child(number):
        return await durable.get("awaited")

    @durable.workflow(id="parent")
    async def parent():
        return await asyncio.gather(*[child.start(number) for number in range(20)])

    other()
    awaited.start()
    run = parent.start()
    wait_until(lambda: len(engine._runtime.watchers.who_await("awaited")) == 20)
    run_of_seq = engine._runtime.journal.run_of_seq
    monkeypatch.setattr(
        engine._runtime.journal, "run_of_seq", lambda seq: read.append(threading.get_ident()) or run_of_seq(seq)
    )
    are_waiting.set()
    assert run.result(PATIENCE) == ["other"] * 20
    loop_thread = engine._scheduler._loop_thread._thread.ident
    assert read.count(loop_thread) == 1

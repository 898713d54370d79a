"""The `Run` handle, `retry()`, `resume()`, `runs()` and `get()`, and the life of engines."""

import asyncio
import contextlib
import contextvars
import dataclasses
import datetime as dt
import gc
import os
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

import durable
from durable import (
    EngineClosedError,
    JournalLockedError,
    RunConflictError,
    RunInterruptedError,
    RunNotFoundError,
    testing,
)
from durable._engine import current_engine
from tests.behaviour.patience import PATIENCE, wait_until

# -- a run -------------------------------------------------------------------------------------------------------------


def test_properties_of_a_run_are_live(journal):
    go_on, begun = threading.Event(), threading.Event()

    @durable.step(name="wait")
    def wait(n: int) -> str:
        begun.set()
        go_on.wait(60)
        return f"waited {n}"

    @durable.workflow(name="flow", id="run-{n}")
    def flow(n: int, when: dt.date) -> str:
        return wait(n)

    before = dt.datetime.now(dt.UTC)
    run = flow.start(1, dt.date(2024, 2, 29))
    assert begun.wait(60)
    assert (run.id, run.workflow, run.status) == ("run-1", "flow", "running")
    assert run.input == {"n": 1, "when": dt.date(2024, 2, 29)}
    assert run.error is None
    assert run.finished_at is None
    assert before <= run.created_at <= dt.datetime.now(dt.UTC)
    assert run.created_at.tzinfo is dt.UTC
    (step,) = run.steps()
    assert (step.kind, step.position, step.name, step.status, step.attempt) == ("step", 0, "wait", "running", 1)
    assert step.input == {"n": 1}
    assert (step.output, step.error, step.finished_at, step.retry_at) == (None, None, None, None)
    go_on.set()
    assert run.result(60) == "waited 1"
    assert run.status == "completed"
    assert run.created_at <= run.finished_at <= dt.datetime.now(dt.UTC)
    (step,) = run.steps()
    assert (step.status, step.output) == ("completed", "waited 1")
    assert run.created_at <= step.started_at <= step.finished_at <= run.finished_at
    assert run == durable.get("run-1")
    assert repr(run) == "<durable.Run run-1>"


def test_error_of_a_run_is_the_exception(journal):
    @durable.workflow
    def flow():
        raise LookupError("gone", 5)

    run = flow.start()
    for _ in range(2):
        with pytest.raises(LookupError) as caught:
            run.result(60)
        assert caught.value.args == ("gone", 5)
    assert run.status == "failed"
    assert type(run.error) is LookupError
    assert run.error.args == ("gone", 5)


def test_result_with_a_timeout_raises_timeout_error_and_the_run_goes_on(journal):
    go_on = threading.Event()

    @durable.workflow
    def flow():
        go_on.wait(60)
        return 5

    run = flow.start()
    with pytest.raises(TimeoutError, match=run.id):
        run.result(0.02)
    go_on.set()
    assert run.result(60) == 5


def test_result_of_an_interrupted_run_sets_it_going(journal):
    @durable.workflow(id="run")
    def flow():
        journal.crash()
        return 5

    with pytest.raises(KeyboardInterrupt):
        flow()
    journal.restart()
    run = durable.get("run")
    assert run.status == "interrupted"
    assert run.result(60) == 5


def test_who_waits_for_a_suspended_run_when_the_engine_closes_is_told_that_it_goes_on(journal):
    @durable.workflow(id="run")
    def flow() -> str:
        return durable.wait_for_signal("go", str)

    told = []

    def wait() -> None:
        with pytest.raises(
            RunInterruptedError, match="the engine was closed; the run goes on at the next resume"
        ) as it:
            durable.get("run").result()
        told.append(it.value)

    run = flow.start()
    wait_until(lambda: run.status == "waiting")
    waiting = threading.Thread(target=wait)
    waiting.start()
    wait_until(journal.engine._runtime.watchers.are_there)
    journal.engine.close()
    waiting.join(60)
    assert len(told) == 1


def test_await_of_a_run(journal, run_async):
    @durable.workflow
    async def flow(n):
        await asyncio.sleep(0.01)
        if n == 2:
            raise LookupError("gone")
        return n

    @durable.workflow
    def sync_flow(n):
        return n

    async def main():
        runs = [flow.start(1), sync_flow.start(3)]
        assert [await run for run in runs] == [1, 3]
        with pytest.raises(LookupError):
            await flow.start(2)
        return await asyncio.gather(*runs)

    assert run_async(main()) == [1, 3]


def test_await_of_an_interrupted_run_sets_it_going(journal, run_async):
    @durable.workflow(id="run")
    async def flow():
        journal.crash()
        return 5

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()

    async def main():
        return await durable.get("run")

    assert run_async(main()) == 5


def test_result_on_the_loop_that_executes_the_run_names_await_run(journal, run_async):
    @durable.workflow
    async def flow():
        await asyncio.sleep(0.01)
        return 5

    async def main():
        async with journal.engine:
            run = flow.start()
            with pytest.raises(Exception, match="await run"):
                run.result()
            return await run

    assert run_async(main()) == 5


def test_result_of_an_undeclared_workflows_run_says_so(journal):
    @durable.workflow(name="gone", id="run")
    def gone(day: dt.date):
        journal.crash()

    with pytest.raises(KeyboardInterrupt):
        gone(dt.date(2024, 2, 29))
    journal.restart()
    del durable._engine.REGISTRY.workflows["gone"]
    run = durable.get("run")
    assert run.status == "interrupted"
    assert run.input == {"day": "2024-02-29"}, "as the file has it"
    with pytest.raises(RunInterruptedError, match="gone"):
        run.result(60)


def test_run_that_was_started_is_there_when_start_returns(journal):
    go_on = threading.Event()

    @durable.workflow
    def flow():
        go_on.wait(60)

    run = flow.start()
    assert run.status in {"queued", "running"}
    assert durable.get(run.id) == run
    go_on.set()
    run.result(60)


def test_steps_lists_every_journaled_operation_in_order(journal, run_async):
    @durable.step(name="one")
    def one(): ...

    @durable.workflow(name="child")
    def child():
        return 7

    @durable.workflow(name="flow", id="run")
    def flow():
        durable.now()
        one()
        child()
        durable.random()
        child.start().result()

    flow()
    steps = durable.get("run").steps()
    assert [step.position for step in steps] == [0, 1, 2, 3, 4]
    assert [step.kind for step in steps][:4] == ["now", "step", "child", "random"]
    assert all(step.status == "completed" for step in steps)


# -- runs() and get() --------------------------------------------------------------------------------------------------


@dataclass
class Parcel:
    day: dt.date
    sizes: tuple[int, ...]


def test_steps_have_their_values_as_the_code_has_them(journal):
    parcel = Parcel(dt.date(2024, 2, 29), (1, 2))

    @durable.step(name="pack")
    def pack(parcel: Parcel, *days: dt.date) -> dict[int, Parcel]:
        return {7: parcel}

    @durable.step(name="secret", record_input=False)
    def secret(parcel: Parcel) -> Parcel:
        return parcel

    @durable.workflow(name="child")
    def child(parcel: Parcel) -> tuple[Parcel, int]:
        return parcel, 1

    @durable.workflow(id="run")
    def flow(parcel: Parcel) -> None:
        pack(parcel, parcel.day)
        secret(parcel)
        child(parcel)
        child.with_options(id="started").start(parcel)

    flow(parcel)
    packed, hidden, called, started = durable.get("run").steps()
    assert (packed.input, packed.output) == ({"parcel": parcel, "days": (parcel.day,)}, {7: parcel})
    assert (list(hidden.input), hidden.output) == (["$fingerprint"], parcel)
    assert (called.input, called.output) == ({"parcel": parcel}, (parcel, 1))
    assert (started.input, started.output) == ({"parcel": parcel}, "started")


def test_arguments_that_could_not_be_journaled_are_told_from_text(journal):
    @durable.step
    def ask(client: threading.Event) -> None: ...

    @durable.workflow(id="run")
    def flow() -> None:
        ask(threading.Event())

    with pytest.warns(RuntimeWarning, match="cannot be journaled"):
        flow()
    (asked,) = durable.get("run").steps()
    assert list(asked.input["client"]) == ["$opaque"]


def test_values_of_steps_that_fit_the_code_no_longer_are_as_the_file_has_them(journal):
    def pack(day: dt.date, client: object) -> dt.date:
        return day

    def changed(day: int, count: int) -> int:
        return day

    step = durable.step(name="pack")(pack)

    @durable.workflow(id="run")
    def flow() -> None:
        step(dt.date(2024, 2, 29), "client")

    flow()
    step = durable.step(name="pack")(changed)
    as_in_file = {"day": "2024-02-29", "client": "client"}
    (packed,) = durable.get("run").steps()
    assert (packed.input, packed.output) == (as_in_file, "2024-02-29")
    step = None
    gc.collect()
    (packed,) = durable.get("run").steps()
    assert (packed.input, packed.output) == (as_in_file, "2024-02-29")


@pytest.mark.parametrize("declared", [True, False])
def test_results_of_a_class_that_is_gone_are_as_the_file_has_them(journal, monkeypatch, declared):
    receipts = types.ModuleType("receipts")
    receipts.Receipt = dataclasses.make_dataclass("Receipt", ["total"])
    receipts.Receipt.__module__ = "receipts"

    @durable.step(name="pay")
    def pay(total):
        return receipts.Receipt(total)

    @durable.workflow(name="child")
    def child():
        return [receipts.Receipt(2)]

    @durable.workflow(id="run")
    def flow() -> None:
        pay(1)
        child()
        durable.set_event("paid", receipts.Receipt(3))
        durable.random()

    with monkeypatch.context() as imported:
        imported.setitem(sys.modules, "receipts", receipts)
        flow()
    if not declared:
        del pay, child
        gc.collect()
    paid, called, event, chance = (step.output for step in durable.get("run").steps())
    as_in_file = [{"$type": "receipts:Receipt", "total": total} for total in (1, 2, 3)]
    assert [paid, *called, event] == as_in_file
    assert isinstance(chance, float)


def test_runs_newest_first_filtered_and_limited(journal):
    @durable.workflow(name="good", id="good-{n}")
    def good(n): ...

    @durable.workflow(name="bad", id="bad-{n}")
    def bad(n):
        raise ValueError

    @durable.workflow(name="stuck", id="stuck")
    def stuck():
        journal.crash()

    for n in range(3):
        good(n)
        with pytest.raises(ValueError):
            bad(n)
    with pytest.raises(KeyboardInterrupt):
        stuck()
    journal.restart()

    def ids(*args, **kwargs):
        return [run.id for run in durable.runs(*args, **kwargs)]

    assert ids() == ["stuck", "bad-2", "good-2", "bad-1", "good-1", "bad-0", "good-0"]
    assert ids(status="failed") == ["bad-2", "bad-1", "bad-0"]
    assert ids(status=["failed", "interrupted"]) == ["stuck", "bad-2", "bad-1", "bad-0"]
    assert ids(workflow="good") == ids(workflow=good) == ["good-2", "good-1", "good-0"]
    assert ids("completed", good, 2) == ["good-2", "good-1"]
    assert ids(limit=2) == ["stuck", "bad-2"]
    assert ids(status="running") == []
    assert ids(status=[]) == []
    assert ids(status="interrupted") == ["stuck"]
    with pytest.raises(ValueError, match="interupted"):
        durable.runs(status="interupted")


def test_unknown_id_is_run_not_found(journal):
    with pytest.raises(RunNotFoundError, match="nothing"):
        durable.get("nothing")

    @durable.workflow
    def flow(): ...

    flow()
    with pytest.raises(RunNotFoundError, match="nothing"):
        durable.get("nothing")


def test_reading_creates_nothing_and_takes_no_lock(journal):
    assert durable.runs() == []
    with pytest.raises(RunNotFoundError):
        durable.get("x")
    assert list(journal.path.parent.iterdir()) == []

    @durable.workflow
    def flow(): ...

    flow()
    journal.restart()
    assert len(durable.runs()) == 1
    other = durable.Engine(journal.path)
    other.resume()  # the lock is free
    with pytest.raises(JournalLockedError):
        flow()
    assert len(durable.runs()) == 1
    other.close()
    flow()


# -- retry -------------------------------------------------------------------------------------------------------------


class Flaky(Exception):
    pass


def test_retry_runs_a_failed_run_again_from_what_failed_with_fresh_attempts(journal):
    calls, broken = [], True

    @durable.step
    def one():
        calls.append("one")
        return 1

    @durable.step(retry=durable.RetryPolicy(initial_interval=0.001, maximum_attempts=2))
    def two():
        calls.append(f"two {durable.info().attempt}")
        if broken:
            raise Flaky
        return 2

    @durable.workflow(id="run")
    def flow():
        return one(), two()

    with pytest.raises(Flaky):
        flow()
    assert calls == ["one", "two 1", "two 2"]
    run = durable.get("run")
    run.retry()
    with pytest.raises(Flaky):
        run.result(60)
    assert calls == ["one", "two 1", "two 2", "two 1", "two 2"]
    broken = False
    journal.restart()
    run = durable.get("run")
    assert run.status == "failed"
    run.retry()
    assert run.result(60) == (1, 2)
    assert run.status == "completed"
    assert run.error is None
    assert calls[5:] == ["two 1"]


def test_retry_of_a_run_that_failed_by_itself_runs_its_body_again(journal):
    calls, broken = [], True

    @durable.step
    def one():
        calls.append("one")
        return 1

    @durable.workflow(id="run")
    def flow():
        value = one()
        if broken:
            raise Flaky
        return value

    with pytest.raises(Flaky):
        flow()
    broken = False
    run = durable.get("run")
    run.retry()
    assert run.result(60) == 1
    assert calls == ["one"]


def test_retry_repeats_what_failed_in_each_branch(journal, run_async):
    calls, broken = [], {"b", "c"}

    @durable.step(retry=None)
    async def work(name):
        calls.append(name)
        await asyncio.sleep(0.001)
        if name in broken:
            raise Flaky(name)
        return name

    @durable.workflow(id="run")
    async def flow():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work(name)) for name in "abc"]
        return [task.result() for task in tasks]

    with pytest.raises(ExceptionGroup):
        run_async(flow())
    broken.clear()
    run = durable.get("run")
    run.retry()
    assert run.result(60) == ["a", "b", "c"]
    assert calls.count("a") <= 2  # it may have been cut
    assert run.status == "completed"


def test_retry_refuses_where_later_operations_were_journaled_and_names_fork(journal):
    @durable.step(retry=None)
    def bad():
        raise Flaky

    @durable.step
    def compensate(): ...

    @durable.workflow(id="run")
    def flow():
        try:
            bad()
        except Flaky:
            compensate()
            raise

    with pytest.raises(Flaky):
        flow()
    run = durable.get("run")
    with pytest.raises(RunConflictError, match=r"(?s)bad.*fork"):
        run.retry()
    assert run.status == "failed"
    assert len(run.steps()) == 2


def test_retry_of_a_failed_child_and_its_parent(journal):
    calls, broken = [], True

    @durable.step(retry=None)
    def work():
        calls.append(1)
        if broken:
            raise Flaky
        return 5

    @durable.workflow(name="child")
    def child():
        return work()

    @durable.workflow(name="parent", id="run")
    def parent():
        return child()

    with pytest.raises(Flaky):
        parent()
    assert [run.status for run in durable.runs()] == ["failed"] * 2
    broken = False
    run = durable.get("run")
    run.retry()
    assert run.result(60) == 5
    assert [run.status for run in durable.runs()] == ["completed"] * 2
    assert calls == [1, 1]


@pytest.mark.parametrize("status", ["completed", "running", "interrupted"])
def test_retry_of_a_run_that_is_not_failed_or_blocked_is_a_clear_error(journal, status):
    begun, go_on = threading.Event(), threading.Event()

    @durable.workflow(id="run")
    def flow():
        begun.set()
        if status == "running":
            go_on.wait(60)
        if status == "interrupted":
            journal.crash()

    if status == "interrupted":
        with pytest.raises(KeyboardInterrupt):
            flow()
        journal.restart()
    else:
        flow.start()
        assert begun.wait(60)
        if status == "completed":
            durable.get("run").result(60)
    run = durable.get("run")
    assert run.status == status
    with pytest.raises(RunConflictError, match=status):
        run.retry()
    go_on.set()


def test_what_is_refused_does_not_make_this_process_the_owner(journal):
    @durable.step(retry=None)
    def fail():
        raise LookupError

    @durable.workflow(id="run-{caught}")
    def flow(caught):
        try:
            fail()
        except LookupError:
            durable.now()
            if caught == "not":
                raise
        if caught == "raised":
            raise ValueError

    flow.start("so").result(60)
    with pytest.raises(ValueError):
        flow.start("raised").result(60)
    journal.restart()
    done, failed = durable.get("run-so"), durable.get("run-raised")
    for ask in done.retry, failed.retry, partial(done.fork, 99), partial(failed.fork, 0):
        with pytest.raises((RunConflictError, ValueError)):
            ask()
        assert not current_engine()._runtime.journal.is_owned()
    again = done.fork(2)
    assert current_engine()._runtime.journal.is_owned()
    again.result(60)


def test_a_handle_of_a_closed_engine_tells_what_the_next_one_makes_of_the_run(journal):
    begun, go_on = threading.Event(), threading.Event()

    @durable.workflow(id="run")
    def flow():
        journal.crash()
        begun.set()
        assert go_on.wait(60)

    with pytest.raises(KeyboardInterrupt):
        flow()
    old = durable.get("run")
    assert old.status == "interrupted"
    journal.restart()
    assert old.status == "interrupted"
    durable.resume()
    assert begun.wait(60)
    assert old.status == "running"
    go_on.set()
    durable.get("run").result(60)
    assert old.status == "completed"


# -- resume ------------------------------------------------------------------------------------------------------------


def test_resume_goes_on_with_every_interrupted_queued_and_blocked_run_oldest_first(journal):
    order = []

    @durable.workflow(id="run-{n}")
    def flow(n):
        journal.crash()
        order.append(n)
        return n

    for n in range(3):
        with pytest.raises(KeyboardInterrupt):
            flow(n)
    journal.engine.close()
    engine = durable.open(journal.path, threads=1)
    journal.engine, journal.crashing = engine, False
    runs = durable.resume(wait=True)
    assert [run.id for run in runs] == ["run-0", "run-1", "run-2"]
    assert order == [0, 1, 2]
    assert [run.result() for run in runs] == [0, 1, 2]
    assert durable.resume() == []


def test_resume_returns_at_once_and_goes_on_in_the_background(journal):
    go_on = threading.Event()

    @durable.workflow(id="run")
    def flow():
        journal.crash()
        go_on.wait(60)
        return 5

    with pytest.raises(KeyboardInterrupt):
        flow()
    journal.restart()
    (run,) = durable.resume()
    assert run.status in {"running", "interrupted"}
    assert durable.resume() == []  # it is going already
    go_on.set()
    assert run.result(60) == 5


def test_resume_with_wait_raises_nothing_each_run_tells(journal):
    fail = False

    @durable.workflow(id="run-{n}")
    def flow(n):
        journal.crash()
        if n == 1:
            raise ValueError("no")
        return n

    for n in range(3):
        with pytest.raises(KeyboardInterrupt):
            flow(n)
    journal.restart()
    assert not fail
    runs = durable.resume(wait=True)
    assert [run.status for run in runs] == ["completed", "failed", "completed"]


def test_resume_of_sync_and_async_runs_together(journal, run_async):
    @durable.workflow(id="sync")
    def sync_flow():
        journal.crash()
        return "sync"

    @durable.workflow(id="async")
    async def async_flow():
        journal.crash()
        await asyncio.sleep(0.001)
        return "async"

    with pytest.raises(KeyboardInterrupt):
        sync_flow()
    with pytest.raises(KeyboardInterrupt):
        run_async(async_flow())
    journal.restart()
    assert [run.result() for run in durable.resume(wait=True)] == ["sync", "async"]


def test_resume_leaves_runs_of_undeclared_workflows_with_one_warning_that_names_them(journal):
    @durable.workflow(name="first gone", id="a-{n}")
    def first(n):
        journal.crash()

    @durable.workflow(name="second gone", id="b")
    def second():
        journal.crash()

    @durable.workflow(name="here", id="c")
    def here():
        journal.crash()

    for call in (lambda: first(1), lambda: first(2), second, here):
        with pytest.raises(KeyboardInterrupt):
            call()
    journal.restart()
    del durable._engine.REGISTRY.workflows["first gone"], durable._engine.REGISTRY.workflows["second gone"]
    with pytest.warns(RuntimeWarning, match=r"(?s)'first gone'.*'second gone'") as warned:
        runs = durable.resume(wait=True)
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert [run.id for run in runs] == ["c"]
    assert [run.status for run in durable.runs()] == ["completed", "interrupted", "interrupted", "interrupted"]


def test_resume_on_an_empty_journal(journal):
    assert durable.resume() == []
    assert durable.resume(wait=True) == []


# -- values ------------------------------------------------------------------------------------------------------------


def test_what_a_step_returns_is_the_decoded_journal_value_on_the_first_run_too(journal):
    class Money(int):
        pass

    made = []

    @durable.step
    def make():
        value = {"items": [1, (2, 3)], "set": {4}}
        made.append(value)
        return value

    @durable.workflow
    def flow():
        first = make()
        assert first is not made[0]
        assert first == made[0]
        first["items"].append("mine")
        made[0]["items"].append("the step's")
        journal.crash()
        return first

    with pytest.raises(KeyboardInterrupt):
        flow()
    journal.restart()
    made.append(None)

    @durable.workflow(name=flow.name)
    def again():
        return make()

    assert again() == {"items": [1, (2, 3)], "set": {4}}


def test_the_body_receives_the_decoded_arguments_on_the_first_run_too(journal):
    given = {"a": [1]}

    @durable.workflow
    def flow(value):
        assert value == given
        assert value is not given
        value["a"].append(2)
        return value

    assert flow(given) == {"a": [1, 2]}
    assert given == {"a": [1]}
    assert durable.runs()[0].input == {"value": {"a": [1]}}


def test_the_caller_gets_the_decoded_result(journal):
    made = []

    @durable.workflow(id="run")
    def flow():
        made.append([1, (2,)])
        return made[0]

    result = flow()
    assert result == [1, (2,)]
    assert result is not made[0]
    assert flow() == durable.get("run").result() == result


def test_result_of_a_workflow_that_cannot_be_held_fails_the_run(journal):
    @durable.workflow(name="flow", id="run")
    def flow():
        return {"a": object()}

    with pytest.raises(durable.SerializationError, match="flow"):
        flow()
    assert durable.get("run").status == "failed"


# -- engines -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def flow():
    @durable.workflow(name="simple flow", id="run")
    def flow():
        return 5

    return flow


def test_closed_engine_is_gone_and_never_another_file(no_engine, flow):
    engine = durable.open("one.db")
    assert flow() == 5
    durable.close()
    durable.close()  # again does no harm
    for use in (flow, flow.start, durable.runs, durable.resume, partial(durable.get, "run")):
        with pytest.raises(EngineClosedError, match=r"one\.db"):
            use()
    with pytest.raises(EngineClosedError):
        engine.runs()
    assert not Path("durable.db").exists()
    durable.open("two.db")
    assert flow() == 5
    assert Path("two.db").exists()


def test_async_call_on_a_closed_engine(no_engine, run_async):
    @durable.workflow
    async def flow():
        return 5

    durable.open("one.db")
    assert run_async(flow()) == 5
    durable.close()
    with pytest.raises(EngineClosedError):
        run_async(flow())


def test_default_engine_is_durable_db_in_the_working_directory(no_engine, flow):
    assert flow() == 5
    assert (no_engine / "durable.db").exists()
    assert durable.get("run").result() == 5


def test_default_engine_from_the_environment(no_engine, monkeypatch, flow):
    monkeypatch.setenv("DURABLE_DB", str(no_engine / "from environment.db"))
    assert flow() == 5
    assert (no_engine / "from environment.db").exists()
    assert not (no_engine / "durable.db").exists()


def test_relative_path_stays_where_it_was_when_the_program_changes_directory(no_engine, monkeypatch, flow):
    (no_engine / "elsewhere").mkdir()
    engine = durable.open("one.db")
    assert engine.path == str(no_engine / "one.db")
    monkeypatch.chdir(no_engine / "elsewhere")
    flow()
    assert (no_engine / "one.db").exists()
    assert list((no_engine / "elsewhere").iterdir()) == []


def test_journal_is_readable_by_its_owner_only(journal, flow):
    flow()
    assert journal.path.stat().st_mode & 0o777 == 0o600


def test_engine_as_a_context_manager(journal, tmp_path, flow):
    flow()
    with durable.Engine(tmp_path / "other.db") as engine:
        assert flow() == 5
        assert [run.id for run in durable.runs()] == [run.id for run in engine.runs()] == ["run"]
        with durable.Engine(tmp_path / "third.db"):
            assert durable.runs() == []
        assert len(durable.runs()) == 1
    with pytest.raises(EngineClosedError):
        engine.runs()
    assert (tmp_path / "other.db").exists()
    assert len(durable.runs()) == 1  # the default engine again


def test_open_as_a_context_manager(no_engine, flow):
    with durable.open("one.db"):
        assert flow() == 5
    with pytest.raises(EngineClosedError):
        flow()


def test_background_runs_started_in_a_context_stay_on_its_engine(journal, tmp_path):
    @durable.workflow(name="inner")
    def inner():
        return 5

    @durable.workflow(name="outer")
    def outer():
        return inner(), inner.start().result()

    with durable.Engine(tmp_path / "other.db") as engine:
        assert outer.start().result(60) == (5, 5)
        assert len(engine.runs()) == 3
    assert durable.runs() == []


def test_async_background_runs_of_with_execute_on_a_loop_of_the_engines_own(journal):
    @durable.workflow
    async def flow():
        return threading.current_thread().name

    with journal.engine:
        assert flow.start().result(60) != threading.current_thread().name


def test_async_with_executes_background_runs_on_the_callers_loop(journal, run_async):
    @durable.workflow
    async def flow():
        await asyncio.sleep(0.001)
        return id(asyncio.get_running_loop())

    async def main():
        async with journal.engine as engine:
            assert engine is journal.engine
            run = flow.start()
            return await run == id(asyncio.get_running_loop())

    assert run_async(main()) is True
    with pytest.raises(EngineClosedError):
        durable.runs()


def test_resume_does_not_wait_on_the_loop_that_executes_background_runs(journal, run_async):
    @durable.workflow(id="run")
    async def flow():
        journal.crash()
        await asyncio.sleep(0.001)
        return "on"

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    closing = threading.Timer(60, journal.engine.close)  # a loop that is blocked is blocked for good otherwise

    async def main():
        async with journal.engine:
            with pytest.raises(
                RunConflictError, match=r"resume\(wait=True\) would block: use 'for run in durable.resume"
            ):
                durable.resume(wait=True)
            assert durable.get("run").status == "interrupted"  # nothing was set going
            return [await run for run in durable.resume()]

    closing.start()
    assert run_async(main()) == ["on"]
    closing.cancel()


def test_resume_waits_beside_the_loop_that_executes_background_runs(journal, run_async):
    @durable.workflow(id="run")
    async def flow():
        journal.crash()
        await asyncio.sleep(0.001)

    async def beside():
        async with journal.engine:
            return [run.status for run in await asyncio.to_thread(durable.resume, wait=True)]

    async def on_another_loop():
        with journal.engine:
            return [run.status for run in durable.resume(wait=True)]

    for main in (beside, on_another_loop):
        journal.crashing = True
        flow_of_this = flow.with_options(id=main.__name__)
        with pytest.raises(KeyboardInterrupt):
            run_async(flow_of_this())
        journal.restart()
        assert run_async(main()) == ["completed"]
        journal.restart()


def test_leaving_async_with_lets_steps_in_flight_end(journal, run_async):
    ended, begun = [], asyncio.Event()

    @durable.step
    async def slow():
        begun.set()
        await asyncio.sleep(0.05)
        ended.append(1)

    @durable.workflow(id="run")
    async def flow():
        await slow()

    async def main():
        async with journal.engine:
            flow.start()
            await begun.wait()

    run_async(main())
    assert ended == [1]
    journal.restart()
    assert [step.status for step in durable.get("run").steps()] == ["completed"]


@pytest.fixture(params=["engine", "testing"])
def an_engine(journal, request):
    """What goes into `async with`, and what tells whether it was closed."""
    if request.param == "engine":
        return journal.engine, lambda: journal.engine._closed
    env = testing.engine()
    return env, lambda: env.engine._closed and not os.path.exists(env.path)


@pytest.mark.parametrize("is_loop_closed", [False, True])
def test_an_engine_in_a_coroutine_that_is_collected_is_closed_without_a_word(an_engine, monkeypatch, is_loop_closed):
    engine, is_closed = an_engine
    said = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: said.append(unraisable.exc_value))

    @durable.workflow
    async def flow():
        asyncio.get_running_loop().stop()
        await asyncio.Event().wait()

    async def main():
        async with engine:
            flow.start()
            await asyncio.Event().wait()

    loop = asyncio.new_event_loop()
    task = loop.create_task(main())
    loop.run_forever()
    if is_loop_closed:
        loop.close()
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # asyncio need not say it
    del task
    gc.collect()
    loop.close()
    assert said == []
    assert is_closed()


def test_an_engine_in_a_coroutine_that_is_closed_by_hand_is_closed(an_engine, run_async):
    engine, is_closed = an_engine

    async def dropped():
        async with engine:
            await asyncio.Event().wait()

    async def main():
        coroutine = dropped()
        coroutine.send(None)
        coroutine.close()
        assert is_closed()

    run_async(main())


def test_an_engine_is_left_while_all_threads_of_the_loop_are_at_work(an_engine, run_async):
    """It is what ends their work, where it is a step that waits."""
    engine, is_closed = an_engine
    free = threading.Event()

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        async with engine:
            at_work = loop.run_in_executor(None, free.wait, PATIENCE)
        assert is_closed()
        assert not at_work.done()
        free.set()
        assert await at_work

    run_async(main())


def test_an_engine_that_another_task_leaves_is_closed(an_engine, run_async):
    """As a fixture does that is set up in one task and torn down in another."""
    engine, is_closed = an_engine

    async def main():
        stack = contextlib.AsyncExitStack()
        await asyncio.create_task(stack.enter_async_context(engine))
        await asyncio.create_task(stack.aclose())

    run_async(main())
    assert is_closed()


@pytest.mark.parametrize("is_async", [False, True])
def test_an_engine_is_not_the_current_one_any_more_in_the_task_that_leaves_it(journal, run_async, is_async):
    async def main():
        stack = contextlib.AsyncExitStack()
        if is_async:
            await stack.enter_async_context(journal.engine)
        else:
            stack.enter_context(journal.engine)

        async def leave():
            assert current_engine() is journal.engine
            await stack.aclose()
            return current_engine()

        other = durable.open(f"{journal.path}-2")
        assert await asyncio.create_task(leave()) is other

    run_async(main())


def test_second_engine_on_the_journal_is_refused_with_the_pid(journal, flow):
    flow()
    before = time.monotonic()
    with pytest.raises(JournalLockedError) as caught:
        durable.Engine(journal.path).resume()
    assert time.monotonic() - before < 10
    assert caught.value.pid == os.getpid()


def test_methods_of_the_engine_are_those_functions(journal, flow):
    flow()
    engine = journal.engine
    assert [run.id for run in engine.runs("completed")] == ["run"]
    assert engine.get("run").result() == 5
    assert engine.resume() == []


@pytest.mark.parametrize(
    "options",
    [{"durability": "none"}, {"threads": 0}, {"threads": -1}, {"threads": True}, {"threads": 1.5}],
    ids=str,
)
def test_bad_options_are_a_value_error_where_they_are_written(tmp_path, options):
    with pytest.raises((ValueError, TypeError)):
        durable.Engine(tmp_path / "x.db", **options)
    with pytest.raises(ValueError):
        durable.Engine("")


def test_durability_process(no_engine, flow):
    with durable.open("one.db", durability="process"):
        assert flow() == 5


def test_no_journal_is_refused_when_it_is_opened(no_engine):
    Path("text.db").write_text("this is a text of some length, and surely no database\n" * 50)
    with pytest.raises(durable.JournalError, match=r"text\.db"):
        durable.open("text.db")
    assert Path("text.db").read_text().startswith("this is a text")


def test_threads_bounds_how_many_background_sync_runs_execute_at_a_time(no_engine):
    active, most, guard, together = [0], [0], threading.Lock(), threading.Barrier(2, timeout=60)

    @durable.workflow
    def flow(n):
        with guard:
            active[0] += 1
            most[0] = max(most[0], active[0])
        together.wait()
        with guard:
            active[0] -= 1

    with durable.open("one.db", threads=2):
        for run in [flow.start(n) for n in range(6)]:
            run.result(60)
    assert most[0] == 2


def test_runs_in_plain_threads_are_not_journaled_and_copy_context_is_the_remedy(journal):
    @durable.step(name="step")
    def step(n):
        return n

    def in_thread(run):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()

    @durable.workflow(id="run")
    def flow():
        in_thread(lambda: step(1))
        context = contextvars.copy_context()
        in_thread(lambda: context.run(step, 2))

    flow()
    assert [each.input for each in durable.get("run").steps()] == [{"n": 2}]

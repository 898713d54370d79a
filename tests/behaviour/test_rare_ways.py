"""What few programs do: calls outside of a run, wrong arguments, and ways that a run seldom takes."""

import asyncio
import contextlib
import contextvars
import threading
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

import durable
from durable import _engine
from tests.behaviour import patience

PATIENCE = 10.0
wait_until = partial(patience.wait_until, seconds=PATIENCE)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


# -- waits and events ---------------------------------------------------------------------------------------------------


def test_outside_of_a_run_a_time_that_has_passed_is_no_wait(no_engine, run_async):
    durable.sleep_until(LONG_AGO)
    run_async(durable.aio.sleep_until(LONG_AGO))
    run_async(durable.aio.sleep(0))


def test_an_async_run_waits_until_a_time(journal, run_async):
    @durable.workflow
    async def flow():
        await durable.aio.sleep_until(datetime.now(UTC) + timedelta(milliseconds=5))
        await durable.aio.sleep_until(LONG_AGO)

    run_async(flow())
    (run,) = durable.runs()
    assert [(step.kind, step.name, step.status) for step in run.steps()] == [("sleep", "sleep_until", "completed")] * 2


@pytest.mark.parametrize(
    ("when", "error", "words"),
    [
        (5.0, TypeError, "sleep_until takes a datetime, not 5.0"),
        (LONG_AGO.replace(tzinfo=None), ValueError, "has no time zone"),
    ],
)
def test_a_time_to_wait_for_is_an_aware_datetime(when, error, words):
    for wait in durable.sleep_until, durable.aio.sleep_until:
        with pytest.raises(error, match=words):
            wait(when)


def test_nobody_waits_for_less_than_nothing():
    for seconds in -1, float("inf"), timedelta(seconds=-1):
        with pytest.raises(ValueError, match="the duration of a sleep must be 0 or more, and finite"):
            durable.sleep(seconds)


def test_an_event_that_cannot_be_journaled_is_named(journal):
    @durable.workflow
    def flow():
        durable.set_event("progress", threading.Lock())

    with pytest.raises(durable.SerializationError, match="the value of event 'progress' cannot be journaled: "):
        flow()


def test_who_waits_for_an_event_gets_it_or_is_told_why_not(journal):
    @durable.workflow
    def flow(key):
        durable.set_event(key, 1)

    run = flow.start("shown")
    assert run.event("shown", timeout=PATIENCE) == 1
    run.result(PATIENCE)
    assert run.event("other") is None
    with pytest.raises(durable.RunFinishedError, match="is completed, and has never set event 'other'"):
        run.event("other", timeout=PATIENCE)


def test_a_wait_for_an_event_ends(journal):
    @durable.workflow
    def flow():
        durable.wait_for_signal("go", str)
        durable.set_event("late", 1)

    run = flow.start()
    with pytest.raises(TimeoutError, match=r"did not set event 'late' within 0.01 s; it goes on"):
        run.event("late", timeout=0.01)
    run.signal("go", "now")
    assert run.event("late", timeout=PATIENCE) == 1


def test_what_cannot_be_a_signal(journal):
    @durable.workflow
    def flow():
        durable.wait_for_signal("go", str)

    run = flow.start()
    with pytest.raises(TypeError, match="a signal has a value or an error="):
        run.signal("go", "now", error=ValueError())
    with pytest.raises(TypeError, match="a signal has a value or an error="):
        run.signal("go", error="no exception")
    for interrupt in (KeyboardInterrupt(), SystemExit(7), durable.Cancelled(), asyncio.CancelledError()):
        with pytest.raises(TypeError, match="which is an Exception"):  # the run could never get past it
            run.signal("go", error=interrupt)
    with pytest.raises(durable.SerializationError, match="the value of signal 'go' cannot be written: "):
        run.signal("go", threading.Lock())
    run.signal("go", "now")
    run.result(PATIENCE)


def test_info_shows_what_it_knows(journal):
    @durable.step
    def look():
        return repr(durable.info())

    @durable.workflow(id="one")
    def flow():
        return look()

    assert flow().startswith("Info(run_id='one', workflow='")
    assert "attempt=1, idempotency_key='" in flow()


# -- engines ------------------------------------------------------------------------------------------------------------


def test_a_journal_that_is_open_here_is_opened_again_with_the_same_options_only(journal):
    @durable.workflow
    def flow(): ...

    flow()
    assert durable.open(journal.path) is journal.engine
    with pytest.raises(ValueError, match="is open in this process with other options"):
        durable.open(journal.path, durability="process")
    assert repr(journal.engine) == f"<durable.Engine {journal.engine.path}>"
    durable.close()
    assert repr(journal.engine) == f"<durable.Engine {journal.engine.path} (closed)>"


def test_a_journal_that_is_open_here_is_opened_again_before_anything_is_executed(journal):
    @durable.workflow
    def flow():
        return 5

    assert durable.open(str(journal.path)) is journal.engine
    assert durable.runs() == []
    assert durable.open(journal.path) is journal.engine
    other = durable.open(journal.path, threads=3)  # the first has executed nothing, and stands in nobody's way
    assert other is not journal.engine
    assert flow() == 5
    with pytest.raises(ValueError, match="is open in this process with other options"):
        durable.open(journal.path)
    assert durable.open(journal.path, threads=3) is other


def test_the_default_engine_that_nobody_opened_is_opened_again(no_engine):
    engine = _engine.current_engine()
    assert durable.open("durable.db") is engine
    engine.resume()
    assert durable.open("durable.db") is engine


def test_an_engine_that_is_entered_twice_is_closed_when_both_have_left_it(journal):
    @durable.workflow
    def flow(n):
        return n

    with durable.open(journal.path) as engine:
        with durable.open(journal.path) as same:
            assert same is engine
            assert flow(1) == 1
        assert flow(2) == 2
    with pytest.raises(durable.EngineClosedError):
        flow(3)


def test_engines_that_are_left_in_the_order_in_which_they_were_entered_leave_none_behind(journal, tmp_path):
    @durable.workflow(id="run")
    def flow():
        return 1

    first, second = durable.Engine(tmp_path / "first.db"), durable.Engine(tmp_path / "second.db")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert flow() == 1
    assert [run.id for run in second.runs()] == ["run"]
    second.__exit__(None, None, None)
    assert not durable.runs()
    assert flow() == 1
    assert [run.id for run in journal.engine.runs()] == ["run"]


def test_an_engine_that_is_entered_again_on_another_loop_keeps_that_of_its_runs(journal, run_async):
    @durable.workflow
    async def flow(n):
        return n

    async def main():
        async with durable.open(journal.path):
            return await flow.start(1)

    with durable.open(journal.path):
        assert flow.start(0).result(PATIENCE) == 0
        assert run_async(main()) == 1
        assert flow.start(2).result(PATIENCE) == 2


def test_an_engine_whose_loop_has_ended_before_the_last_leaves_it_has_one_of_its_own(journal, run_async):
    @durable.workflow
    async def flow(n):
        return n

    async def main(also):
        async with durable.open(journal.path) as engine:
            also.enter_context(engine)
            return await flow.start(1)

    with contextlib.ExitStack() as also:
        assert run_async(main(also)) == 1
        assert flow.start(2).result(PATIENCE) == 2
        assert flow.start(3).result(PATIENCE) == 3
    assert repr(journal.engine).endswith("(closed)>")


def test_close_without_an_engine_does_nothing(no_engine):
    durable.close()
    assert _engine._default is None


def test_two_threads_that_need_the_default_engine_first_get_the_same(no_engine, monkeypatch):
    faster = _engine.Engine("durable.db")

    class Lock:
        """Another thread was faster between the look and the lock."""

        def __enter__(self):
            monkeypatch.setattr(_engine, "_default", faster)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(_engine, "_choosing", Lock())
    assert _engine.current_engine() is faster
    faster.close()


def test_a_run_that_was_deleted_meanwhile_is_not_found(journal):
    @durable.workflow
    def flow(): ...

    flow()
    (run,) = durable.runs()
    run._id = "gone"
    with pytest.raises(durable.RunNotFoundError):
        run.result()


# -- declared -----------------------------------------------------------------------------------------------------------


def test_an_id_is_a_template_or_a_callable():
    with pytest.raises(TypeError, match="is a format string or a callable of its arguments, not 5"):
        durable.workflow(id=5)(lambda: None)
    with pytest.raises(ValueError, match=r"id='order-\{' of workflow .* is not a format string"):
        durable.workflow(id="order-{", name="broken")(lambda: None)


# -- who waits for whom -------------------------------------------------------------------------------------------------


def test_a_sync_run_cannot_wait_for_its_own_result(journal):
    @durable.workflow(id="self")
    def flow():
        with pytest.raises(durable.RunConflictError, match="run self is waiting for this"):
            durable.get("self").result()
        with pytest.raises(durable.RunConflictError, match="executes in this thread, and cannot wait for its own"):
            contextvars.Context().run(lambda: durable.get("self").result())
        return 3

    assert flow() == 3


def test_a_sync_run_cannot_call_itself(journal):
    @durable.workflow(id="self")
    def flow():
        return flow()

    with pytest.raises(durable.RunConflictError, match="a run cannot call itself or a run that waits for it"):
        flow()


def test_a_child_that_fails_gives_the_slot_of_its_parent_back(journal, run_async):
    @durable.workflow
    def child():
        raise ValueError("declined")

    @durable.workflow(concurrency=1)
    def parent():
        try:
            child()
        except ValueError as error:
            return str(error)

    @durable.workflow
    async def async_child():
        raise ValueError("declined")

    @durable.workflow(concurrency=1)
    async def async_parent():
        try:
            await async_child()
        except ValueError as error:
            return str(error)

    async def twice():
        return [await async_parent.with_options(id=str(n))() for n in range(2)]

    assert [parent.with_options(id=f"sync-{n}")() for n in range(2)] == ["declined"] * 2
    assert run_async(twice()) == ["declined"] * 2


def test_a_run_in_which_the_process_died_too_often_is_blocked(journal, monkeypatch):
    from durable import _runtime

    monkeypatch.setattr(_runtime, "MAXIMUM_CRASHES", 1)
    begun = []

    @durable.workflow(id="deadly")
    def flow():
        begun.append(1)
        journal.crash()

    with pytest.raises(KeyboardInterrupt):
        flow()
    monkeypatch.setattr(_runtime.Transaction, "closed_cleanly", lambda *_: False)
    journal.restart()
    with pytest.raises(durable.RunBlockedError, match="the process died 1 times in a row"):
        flow()
    assert durable.get("deadly").status == "blocked"
    assert begun == [1]


def test_two_who_wait_for_one_run(journal):
    granted, entered = threading.Event(), threading.Barrier(3)

    @durable.workflow(id="slow")
    def slow():
        granted.wait(PATIENCE)
        return 42

    run = slow.start()
    results = []

    def wait():
        entered.wait(PATIENCE)
        results.append(run.result(PATIENCE))

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    entered.wait(PATIENCE)
    granted.set()
    for thread in threads:
        thread.join()
    assert results == [42, 42]


def test_a_signal_wait_that_is_cancelled_in_memory(journal):
    @durable.workflow(id="waits")
    def flow():
        durable.wait_for_signal("never", str)

    errors = []

    def call():
        try:
            flow()
        except durable.RunCancelledError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    wait_until(lambda: durable.runs() and durable.get("waits").steps())
    durable.get("waits").cancel()
    thread.join(PATIENCE)
    assert len(errors) == 1


def test_the_id_of_what_has_no_code_is_not_checked_before_it_is_called(journal):
    class Flow:
        def __call__(self, order):
            return order

    flow = durable.workflow(id="order-{order}", name="flow")(Flow())
    assert flow("42") == "42"
    assert [run.id for run in durable.runs()] == ["order-42"]


def test_where_a_task_group_waits_is_found_in_every_version_of_python(monkeypatch):
    """The newer ones have a method of its own for that."""
    import asyncio
    from importlib.util import module_from_spec, spec_from_file_location

    from durable import _task_inspection

    class Group(asyncio.TaskGroup):
        async def __aexit__(self, *raised):
            return await self._aexit(*raised)

    if not hasattr(asyncio.TaskGroup, "_aexit"):
        monkeypatch.setattr(asyncio.TaskGroup, "_aexit", asyncio.TaskGroup.__aexit__, raising=False)
    else:
        Group = asyncio.TaskGroup
    spec = spec_from_file_location("durable._anew", _task_inspection.__file__)
    anew = module_from_spec(spec)
    spec.loader.exec_module(anew)

    async def looks():
        group, never = Group(), asyncio.Event()

        async def waits():
            async with group:
                group.create_task(never.wait())

        task = asyncio.create_task(waits())
        await asyncio.sleep(0)
        assert anew.waits_on_known(task, set(), group._tasks)
        assert not anew.waits_on_known(task, set(), set())
        group._base_error = KeyboardInterrupt()
        assert anew.interrupt_of(task) is group._base_error
        group._base_error = None
        never.set()
        await task

    asyncio.run(looks())

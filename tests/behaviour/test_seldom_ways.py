"""Ways that a run hardly ever takes, each with a small program that takes it."""

import asyncio
import gc
import threading
import time
from contextlib import closing, suppress

import apsw
import pytest

import durable
from durable._parallel import Parallel, StepFuture

PATIENCE = 60.0


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while True:
        with suppress(KeyError, AttributeError):  # a run that has not begun
            if condition():
                return
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


# -- which run, and who executes it -------------------------------------------------------------------------------------


def test_a_run_whose_loop_was_closed_under_it_goes_on_at_the_next_call(journal, run_async):
    loop = asyncio.new_event_loop()

    @durable.step
    async def step():
        return 1

    @durable.workflow(id="one")
    async def flow():
        value = await step()
        if journal.crashing:
            asyncio.get_running_loop().stop()
            await asyncio.Event().wait()
        return value

    task = loop.create_task(flow())
    loop.run_forever()
    for each in asyncio.all_tasks(loop):
        each._log_destroy_pending = False  # asyncio need not say it
    loop.close()
    journal.crashing = False
    assert run_async(flow()) == 1
    assert [step.attempt for step in durable.get("one").steps()] == [1]
    del task, each
    gc.collect()


def test_a_run_that_is_cancelled_before_it_has_its_slot_is_told_at_its_first_operation(journal):
    stepped, errors, go_on = [], [], threading.Event()

    @durable.step
    def step(name):
        stepped.append(name)

    @durable.workflow(id="{name}", concurrency=1)
    def flow(name):
        if name == "holder":
            assert go_on.wait(PATIENCE)
        step(name)

    def call():
        try:
            flow("second")
        except durable.RunCancelledError as error:
            errors.append(error)

    holder = flow.start("holder")
    wait_until(lambda: holder.status == "running")
    calling = threading.Thread(target=call)
    calling.start()
    wait_until(lambda: len(durable.runs("running")) == 2)
    durable.get("second").cancel()
    go_on.set()
    calling.join(PATIENCE)
    holder.result(PATIENCE)
    assert len(errors) == 1
    assert stepped == ["holder"]


def test_a_run_that_executes_is_not_set_going_again(journal):
    go_on = threading.Event()

    @durable.workflow(id="one")
    def flow():
        assert go_on.wait(PATIENCE)
        return 1

    run = flow.start()
    wait_until(lambda: run.status == "running")
    scheduler = journal.engine._scheduler
    assert scheduler.set_going(scheduler.runtime.journal.run("one")) is None
    go_on.set()
    assert run.result(PATIENCE) == 1


def test_a_fork_that_another_engine_asks_for_is_executed_by_the_owner(journal):
    @durable.step
    def step(number):
        return number

    @durable.workflow(id="one")
    def flow():
        return step(1) + step(2)

    assert flow() == 3
    other = durable.Engine(journal.path)
    fork = other.get("one").fork(2)
    assert durable.get(fork.id).result(PATIENCE) == 3
    other.close()


def test_a_timer_that_finds_a_damaged_message_says_so_and_goes_on(journal, caplog):
    @durable.workflow(id="one")
    def flow():
        return durable.wait_for_signal("go", int)

    run = flow.start()
    wait_until(lambda: run.status == "waiting")
    with closing(apsw.Connection(str(journal.path))) as connection:
        connection.set_busy_timeout(10_000)
        connection.execute("INSERT INTO durable_message VALUES (99, 1, 'signal', 'other', '0', NULL, 1.0, 0)")
    wait_until(lambda: "waiting runs are not woken: " in caplog.text)
    with closing(apsw.Connection(str(journal.path))) as connection:
        connection.set_busy_timeout(10_000)
        connection.execute("DELETE FROM durable_message")
    run.signal("go", 5)
    assert run.result(PATIENCE) == 5


def test_a_parent_whose_child_is_cancelled_with_it_is_told_of_its_own_cancellation(journal):
    told = []

    @durable.workflow(id="child")
    def child():
        durable.wait_for_signal("go", str)

    @durable.workflow(id="parent")
    def parent():
        try:
            child()
        except BaseException as error:
            told.append(type(error))
            raise

    def cancel():
        wait_until(lambda: journal.engine._runtime.active["child"].execution.rests)
        durable.get("parent").cancel()

    journal.engine._runtime.own()
    cancelling = threading.Thread(target=cancel)
    cancelling.start()
    with pytest.raises(durable.RunCancelledError, match="parent"):
        parent()
    cancelling.join(PATIENCE)
    assert told == [durable.Cancelled]


def test_of_two_children_the_one_that_ends_wakes_its_own_task_only(journal, run_async):
    @durable.workflow(id="{name}")
    async def child(name):
        return await durable.aio.wait_for_signal("go", str)

    @durable.workflow(id="parent")
    async def parent():
        async def end_of(name):
            return await child.start(name)

        return await asyncio.gather(end_of("first"), end_of("second"))

    def send():
        wait_until(lambda: len(journal.engine._runtime.active["parent"].execution.rests) == 2)
        durable.get("first").signal("go", "a")
        wait_until(lambda: durable.get("first").status == "completed")
        durable.get("second").signal("go", "b")

    journal.engine._runtime.own()
    sending = threading.Thread(target=send)
    sending.start()
    assert run_async(parent()) == ["a", "b"]
    sending.join(PATIENCE)


# -- steps side by side -------------------------------------------------------------------------------------------------


def test_an_interrupt_while_a_step_is_awaited_outside_of_a_run_is_raised_and_that_is_all(journal, monkeypatch):
    @durable.step
    def step():
        return 1

    future = step.submit()
    with monkeypatch.context() as struck:

        def strike(self, patience=None):
            raise KeyboardInterrupt

        struck.setattr(StepFuture, "_wait", strike)
        with pytest.raises(KeyboardInterrupt):
            future.result()
    assert future.result() == 1


def test_a_body_that_catches_the_interrupt_of_its_map_calls_nothing_more(journal, monkeypatch):
    began, caught = [], []

    @durable.step(retry=None)
    def step(number):
        began.append(number)
        return number

    @durable.workflow(id="one")
    def flow():
        try:
            step.map([1, 2], concurrency=1)
        except KeyboardInterrupt:
            caught.append(1)
        return step(3)

    def strike(self, slots):
        raise KeyboardInterrupt

    with monkeypatch.context() as struck:
        struck.setattr(Parallel, "_take_slot", strike)
        with pytest.raises(KeyboardInterrupt):
            flow()
    assert caught == [1]
    assert began == []
    journal.restart()
    assert flow() == 3

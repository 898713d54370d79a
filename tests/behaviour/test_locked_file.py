"""Another process keeps the file locked for longer than 5 s: runs go on when it is free."""

import asyncio
import logging
import threading
import time

import apsw
import pytest

import durable
from durable import _patience

PATIENCE = 60.0


@pytest.fixture
def other(journal, monkeypatch):
    """Another one's write transaction on the same file: what begins and what ends it."""
    monkeypatch.setattr(_patience, "SECONDS", 0.3)
    journal.engine._runtime.own()
    connection = apsw.Connection(str(journal.path))
    connection.set_busy_timeout(10_000)  # the engine may be writing just now
    yield connection
    connection.close()


@pytest.fixture
def steps():
    """How often each body ran, and what lets the second one go on when it has begun."""
    done: list[int] = []
    begun, free = threading.Event(), threading.Event()

    def body(number):
        done.append(number)
        if number == 1:
            begun.set()
            free.wait(PATIENCE)

    return done, begun, free, body


def declare(kind, body):
    if kind == "sync":

        @durable.step
        def send(number):
            body(number)

        @durable.workflow(id="bulk")
        def bulk():
            for number in range(4):
                send(number)
            return "sent"

    else:

        @durable.step
        async def send(number):
            if kind == "together":
                await asyncio.sleep(0)
            await asyncio.to_thread(body, number)

        @durable.workflow(id="bulk")
        async def bulk():
            if kind == "together":
                await asyncio.gather(*map(send, range(4)))
            else:
                for number in range(4):
                    await send(number)
            return "sent"

    return bulk


def hold(other):
    other.execute("BEGIN IMMEDIATE")


def let_go(other):
    other.execute("ROLLBACK")


@pytest.mark.parametrize("kind", ["sync", "async", "together"])
def test_a_run_goes_on_when_the_file_is_free_and_no_step_runs_twice(journal, other, steps, kind, caplog):
    done, begun, free, body = steps
    run = declare(kind, body).start()
    assert begun.wait(PATIENCE)
    hold(other)
    free.set()
    time.sleep(1.0)
    assert run.status == "running"
    let_go(other)
    assert run.result(PATIENCE) == "sent"
    assert sorted(done) == [0, 1, 2, 3]
    [said] = [record for record in caplog.records if record.name == "durable"]
    assert said.levelno == logging.WARNING
    assert str(journal.path) in said.getMessage()
    assert "another process keeps it locked" in said.getMessage()
    assert "runs go on when it is free" in said.getMessage()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_call_whose_start_or_end_finds_the_file_locked_waits_for_it(journal, other, kind, run_async):
    hold(other)
    threading.Timer(0.8, lambda: other.execute("ROLLBACK; BEGIN IMMEDIATE")).start()
    timer = threading.Timer(1.6, lambda: let_go(other))
    timer.start()
    bulk = declare(kind, lambda _: None)
    assert (bulk() if kind == "sync" else run_async(bulk())) == "sent"
    timer.join()


def test_a_loop_goes_on_while_its_runs_wait_for_the_file(journal, other, run_async):
    async def main():
        hold(other)
        call = asyncio.create_task(declare("together", lambda _: None)())
        longest = 0.0
        for _ in range(40):
            before = time.monotonic()
            await asyncio.sleep(0.02)
            longest = max(longest, time.monotonic() - before)
        let_go(other)
        return await call, longest

    result, longest = run_async(main())
    assert result == "sent"
    assert longest < 0.6, "the loop stood still"


@pytest.mark.parametrize("ask", ["start", "signal", "cancel"])
def test_what_is_asked_from_outside_fails_with_a_public_error(journal, other, ask):
    @durable.workflow
    def flow():
        durable.wait_for_signal("go")

    run = flow.start()
    hold(other)
    asked = {"start": flow.start, "signal": lambda: run.signal("go"), "cancel": run.cancel}[ask]
    with pytest.raises(durable.JournalError, match="is busy .*locked.*and try again") as raised:
        asked()
    assert type(raised.value) is durable.JournalError
    let_go(other)
    asked()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_a_run_starts_waits_for_the_file(journal, other, kind):
    begun, free = threading.Event(), threading.Event()

    @durable.workflow
    def child():
        return "child"

    def start():
        begun.set()
        free.wait(PATIENCE)
        return child.start().result(PATIENCE)

    @durable.workflow(id="parent")
    def sync():
        return start()

    @durable.workflow(id="parent")
    async def asynchronous():
        begun.set()
        await asyncio.to_thread(free.wait, PATIENCE)
        return await child.start()

    run = (sync if kind == "sync" else asynchronous).start()
    assert begun.wait(PATIENCE)
    hold(other)
    free.set()
    time.sleep(0.8)
    let_go(other)
    assert run.result(PATIENCE) == "child"


@pytest.mark.parametrize("kind", ["sync", "async", "together"])
def test_the_engine_is_closed_in_time_and_the_run_goes_on_later(journal, other, steps, kind):
    _, begun, free, body = steps
    bulk = declare(kind, body)
    run = bulk.start()
    assert begun.wait(PATIENCE)
    hold(other)
    free.set()
    time.sleep(0.2)
    began = time.monotonic()
    journal.engine.close()
    assert time.monotonic() - began < 7  # 5 s for what executes, and a moment for the rest
    let_go(other)
    journal.restart()
    assert durable.get(run.id).status == "interrupted"
    durable.resume(wait=True)
    assert durable.get(run.id).result(PATIENCE) == "sent"

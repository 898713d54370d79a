"""Timers, signals and events; background runs that are suspended while they wait."""

import asyncio
import json
import threading
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, NewType, Optional

import apsw
import pytest

import durable
from durable import RetryPolicy, _engine, _reading, _records, _suspension, cli, testing
from durable._clock import Clock
from durable._transaction import Transaction
from tests.behaviour.patience import PATIENCE, wait_until

LONG = 3600


@pytest.fixture
def env():
    """An engine whose clock moves on by itself while the test waits for a run."""
    with testing.engine() as environment:
        yield environment


@dataclass
class Approval:
    by: str
    amount: int = 0


# -- sleep -------------------------------------------------------------------------------------------------------------


def test_a_background_run_that_sleeps_is_suspended_and_goes_on_when_it_is_due(env):
    bodies = []

    @durable.workflow
    def flow():
        bodies.append(1)
        begun = durable.now()
        durable.sleep(2.5)
        return durable.now() - begun

    run = flow.start()
    wait_until(lambda: run.status == "waiting")
    assert run.result(PATIENCE) == timedelta(seconds=2.5)
    assert len(bodies) == 2
    assert [(step.kind, step.name, step.status) for step in run.steps()][1:2] == [("sleep", "sleep", "completed")]


def test_a_short_sleep_and_one_of_a_plain_call_are_held_in_memory(env):
    bodies = []

    @durable.workflow
    def flow(seconds):
        bodies.append(seconds)
        durable.sleep(seconds)

    flow.start(0.1).result(PATIENCE)
    flow(1.2)
    assert bodies == [0.1, 1.2]


def test_sleep_until_a_time_that_has_passed_is_no_wait(journal):
    @durable.workflow
    def flow():
        durable.sleep_until(datetime(2020, 1, 1, tzinfo=UTC))
        durable.sleep(timedelta(milliseconds=5))
        return "on"

    assert flow() == "on"


@durable.step
def fail_and_wait() -> None:
    raise durable.RetryAfter(1e300)


FAR = datetime.max.replace(tzinfo=UTC)
FOREVER = {
    "sleep_until": lambda: durable.sleep_until(FAR),
    "sleep": lambda: durable.sleep(timedelta.max),
    "signal": lambda: durable.wait_for_signal("go", int, timeout=1e300),
    "back-off": fail_and_wait,
}


@pytest.mark.parametrize("how", FOREVER)
@pytest.mark.parametrize("called", [False, True])
def test_a_wait_of_ten_thousand_years_is_held_shown_and_cut(journal, capsys, how, called):
    @durable.workflow(id="far")
    def flow():
        FOREVER[how]()

    def call():
        with pytest.raises(durable.RunCancelledError):
            flow()

    if called:
        calling = threading.Thread(target=call)
        calling.start()
        wait_until(durable.runs)
        run = durable.get("far")
    else:
        run = flow.start()
    wait_until(lambda: [step for step in run.steps() if step.retry_at])
    assert [step.retry_at.year for step in run.steps()] == [9999]
    if not called:
        wait_until(lambda: run.status == "waiting")
    assert cli.main(["--db", str(journal.path), "ls", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == "far"
    run.cancel()
    if called:
        calling.join(PATIENCE)
    with pytest.raises(durable.RunCancelledError):
        run.result(PATIENCE)


@pytest.mark.parametrize("timeout", [1e300, float("inf"), 10**400])
def test_a_timeout_of_centuries_is_no_error(journal, timeout):
    @durable.step
    def one():
        return 1

    @durable.workflow
    def flow():
        return one.submit().result(timeout=timeout)

    assert flow() == flow.start().result(timeout) == 1


def test_an_attempt_and_a_run_may_have_a_timeout_of_centuries(journal, run_async):
    @durable.step(timeout=1e300)
    def one():
        return 1

    @durable.step(timeout=timedelta.max)
    async def two():
        return 2

    @durable.workflow(timeout=1e300)
    def flow():
        return one()

    @durable.workflow(timeout=timedelta.max)
    async def async_flow():
        return await two()

    assert flow() == 1
    assert run_async(async_flow()) == 2
    with pytest.raises(ValueError, match="must be more than 0 and finite"):
        durable.step(timeout=10**400)(lambda: None)


def test_a_suspended_run_waits_for_the_rest_of_its_time_after_a_restart(env):
    @durable.workflow
    def flow():
        begun = durable.now()
        durable.sleep(3)
        return durable.now() - begun

    run = flow.start()
    wait_until(lambda: run.status == "waiting")
    env.clock.advance(seconds=2)
    env.restart()
    assert durable.get(run.id).status == "waiting"
    assert durable.resume() == []
    assert durable.get(run.id).result(PATIENCE) == timedelta(seconds=3)


def test_finally_runs_at_each_suspension_and_the_operations_in_it_do_not(journal):
    entered, cleaned = [], []

    @durable.step
    def clean():
        cleaned.append(1)

    @durable.workflow
    def flow():
        try:
            durable.wait_for_signal("go")
        except Exception:  # a suspension passes by it
            entered.append("except")
        finally:
            entered.append("finally")
            clean()

    run = flow.start()
    wait_until(lambda: run.status == "waiting")
    assert (entered, cleaned) == (["finally"], [])
    run.signal("go")
    run.result(PATIENCE)
    assert (entered, cleaned) == (["finally", "finally"], [1])


def test_a_long_back_off_of_a_background_run_is_a_suspension(env):
    attempts = []

    @durable.step(retry=RetryPolicy(initial_interval=2.5, jitter=0))
    def flaky():
        attempts.append(1)
        if len(attempts) < 2:
            raise ValueError

    @durable.workflow
    def flow():
        begun = durable.now()
        flaky()
        return durable.now() - begun

    run = flow.start()
    wait_until(lambda: run.status == "waiting")
    assert run.result(PATIENCE) == timedelta(seconds=2.5)


@pytest.mark.parametrize("what", ["sleep", "sleep_until", "wait_for_signal"])
def test_blocking_forms_in_an_async_workflow_name_the_awaitable_ones(journal, run_async, what):
    arguments = {"sleep": 1, "sleep_until": datetime.now(UTC), "wait_for_signal": "go"}

    @durable.workflow
    async def flow():
        getattr(durable, what)(arguments[what])

    with pytest.raises(TypeError, match=rf"await durable\.aio\.{what}"):
        run_async(flow())


def test_a_run_that_is_about_to_be_suspended_is_running(journal, monkeypatch):
    seen = []
    put_run = Transaction.put_run

    def look(self, record):
        if record.status == "waiting":
            seen.append(run.status)
        put_run(self, record)

    monkeypatch.setattr(Transaction, "put_run", look)

    @durable.workflow
    def flow():
        durable.sleep(LONG)

    run = flow.start()
    wait_until(lambda: run.status == "waiting")
    assert seen == ["running"]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_call_that_waits_for_a_run_which_is_suspended_goes_on_with_it(env, run_async, asynchronous):
    if asynchronous:

        @durable.workflow
        async def flow():
            await durable.aio.sleep(1.3)
            return "done"
    else:

        @durable.workflow
        def flow():
            durable.sleep(1.3)
            return "done"

    run = flow.with_options(id="a").start()
    result = run_async(flow.with_options(id="a")()) if asynchronous else flow.with_options(id="a")()
    assert (result, run.status, len(durable.runs())) == ("done", "completed", 1)


# -- signals -----------------------------------------------------------------------------------------------------------


def test_a_signal_is_read_as_the_type_that_its_reader_wants_once_and_in_order(journal):
    @durable.workflow
    def flow():
        first = durable.wait_for_signal("approve", Approval)
        second = durable.wait_for_signal("approve", Approval)
        return first, second

    run = flow.start()
    wait_until(lambda: run.status == "waiting")
    run.signal("approve", {"by": "ann"})
    run.signal("approve", Approval("bob", 5))
    assert run.result(PATIENCE) == (Approval("ann"), Approval("bob", 5))
    with pytest.raises(durable.RunFinishedError):
        run.signal("approve", None)


def test_signals_that_come_before_anybody_waits_are_kept(journal):
    gate = threading.Event()

    @durable.step
    def hold():
        assert gate.wait(PATIENCE)

    @durable.workflow
    def flow():
        hold()
        return [durable.wait_for_signal("n", int) for _ in range(3)]

    run = flow.start()
    for number in range(3):
        run.signal("n", number)
    gate.set()
    assert run.result(PATIENCE) == [0, 1, 2]


@pytest.mark.parametrize(("given", "message"), [
    ("Approval", "and 'Approval' is its name: write it without quotes"),
    (list["Approval"], "and 'Approval' is its name"),
    (dict[str, list["Approval"] | None], "and 'Approval' is its name"),
    (5.0, "such as dict or a dataclass, not 5.0; how long to wait is given as timeout="),
    (timedelta(seconds=1), "not datetime.timedelta"),
    (Approval("ann"), "not Approval"),
    ([int], "not .<class 'int'>."),
    (threading, "not <module"),
])  # fmt: skip
def test_what_is_no_type_is_told_when_the_signal_is_asked_for_and_takes_none(journal, given, message):
    @durable.workflow
    def flow():
        with pytest.raises(TypeError, match=f"the type of wait_for_signal is a type, .*{message}"):
            durable.wait_for_signal("go", given)
        with pytest.raises(
            durable.SerializationError, match="does not fit None, .* NoneType is expected here, not int"
        ):
            durable.wait_for_signal("go", None)
        return durable.wait_for_signal("go", Annotated[list[Literal["a", 1]], "a note"])

    @durable.workflow
    async def async_flow():
        with pytest.raises(TypeError, match=message):
            durable.aio.wait_for_signal("go", given)
        return await durable.aio.wait_for_signal("go", Optional[NewType("Number", int)])  # noqa: UP045

    run, other = flow.start(), async_flow.start()
    run.signal("go", 5)
    run.signal("go", ["a", 1])
    other.signal("go", 5)
    assert run.result(PATIENCE) == ["a", 1]
    assert other.result(PATIENCE) == 5


def test_an_error_that_is_sent_is_raised(journal):
    @durable.workflow
    def flow():
        try:
            durable.wait_for_signal("go")
        except ValueError as error:
            return str(error)

    run = flow.start()
    run.signal("go", error=ValueError("no"))
    assert run.result(PATIENCE) == "no"


def test_a_signal_that_does_not_fit_is_consumed_and_raises(journal):
    @durable.workflow
    def flow():
        with pytest.raises(durable.SerializationError, match="signal 'approve' does not fit"):
            durable.wait_for_signal("approve", Approval)
        return durable.wait_for_signal("approve", Approval).by

    run = flow.start()
    run.signal("approve", {"who": "ann"})
    run.signal("approve", {"by": "ann"})
    assert run.result(PATIENCE) == "ann"


def test_a_signal_of_the_readers_type_is_read_as_it_was_sent_and_replays_so(journal):
    @dataclass
    class Signed(Approval):
        times: int = 0

        def __post_init__(self):
            self.times += 1

    seen = []

    @durable.workflow
    def flow():
        seen.append(durable.wait_for_signal("all", list[Approval] | None))
        return durable.wait_for_signal("go", float | None)

    run = flow.start()
    run.signal("all", [Signed("ann"), {"by": "bob"}])
    wait_until(lambda: run.status == "waiting")
    run.signal("go", float("inf"))
    assert run.result(PATIENCE) == float("inf")
    assert len(seen) > 1
    for first, second in seen:
        assert (type(first), vars(first)) == (Signed, {"by": "ann", "amount": 0, "times": 1})
        assert second == Approval("bob")


def test_no_signal_in_time_is_a_timeout_error_that_replays(journal):
    @durable.workflow
    def flow():
        with pytest.raises(TimeoutError, match=r"no signal 'go' came within 0\.05 s"):
            durable.wait_for_signal("go", timeout=0.05)
        return durable.wait_for_signal("go", str)

    run = flow.start()
    wait_until(lambda: run.status == "waiting")
    run.signal("go", "late")
    assert run.result(PATIENCE) == "late"


def test_a_clock_that_is_set_back_while_a_call_waits_for_a_signal_does_not_make_it_wait_longer(tmp_path):
    waited = []

    class SetBack(Clock):
        __slots__ = ()

        def now(self):
            return Clock.now() - 7200.0 * len(waited)

        def wait(self, event, seconds, patience=None):
            if threading.current_thread() is threading.main_thread():
                waited.append(seconds)
                assert seconds <= 0.1
            Clock.wait(event, seconds, patience)

    @durable.workflow
    def impatient() -> str:
        try:
            return durable.wait_for_signal("go", str, timeout=0.1)
        except TimeoutError:
            return "late"

    with durable.Engine(tmp_path / "journal.db", clock=SetBack()):
        assert impatient() == "late"
    assert len(waited) == 1


def test_nor_does_it_make_an_async_call_wait_longer(tmp_path, run_async):
    looked = []

    class SetBack(Clock):
        __slots__ = ()

        def now(self):
            return Clock.now() - 7200.0 * len(looked)

        def call_later(self, loop, seconds, callback):
            if seconds <= 0.1:
                looked.append(seconds)
            return Clock.call_later(loop, seconds, callback)

    @durable.workflow
    async def impatient() -> str:
        try:
            return await durable.aio.wait_for_signal("go", str, timeout=0.1)
        except TimeoutError:
            return "late"

    async def call():
        with durable.Engine(tmp_path / "journal.db", clock=SetBack()):
            return await asyncio.wait_for(impatient(), PATIENCE)

    assert run_async(call()) == "late"
    assert looked


def test_a_signal_wakes_a_suspended_run_at_once(journal):
    @durable.workflow
    def flow():
        return durable.wait_for_signal("go", float, timeout=LONG)

    run = flow.start()
    wait_until(lambda: run.status == "waiting")
    run.signal("go", 1.5)
    assert run.result(PATIENCE) == 1.5


# -- events ------------------------------------------------------------------------------------------------------------


def test_an_event_shows_what_was_set_last(journal):
    @durable.workflow
    def flow():
        durable.set_event("progress", 1)
        durable.wait_for_signal("go")
        durable.set_event("progress", {"done": 2})

    run = flow.start()
    assert run.event("progress", timeout=PATIENCE) == 1
    assert run.event("other") is None
    run.signal("go")
    run.result(PATIENCE)
    assert run.event("progress") == {"done": 2}
    with pytest.raises(durable.RunFinishedError, match="never set event 'other'"):
        run.event("other", timeout=1)


def test_what_an_event_shows_and_how_long_a_wait_is_may_be_changed_under_a_run(journal):
    """No outcome depends on it; what was shown stays, and what was waited for is over."""
    version = 1

    @durable.workflow(id="reader")
    def reader():
        durable.set_event("version", version)
        durable.sleep(0.001 * version)
        with pytest.raises(TimeoutError):
            durable.wait_for_signal("go", timeout=0.001 * version)
        journal.crash()

    with pytest.raises(KeyboardInterrupt):
        reader()
    journal.restart()
    version = 2
    reader()
    assert durable.get("reader").event("version") == 1


def test_an_event_is_not_waited_for_on_the_loop_that_executes_the_run(journal, run_async):
    begun, shows = asyncio.Event(), asyncio.Event()

    @durable.workflow(id="{name}")
    async def flow(name):
        begun.set()
        await shows.wait()
        durable.set_event("shown", name)
        await durable.aio.wait_for_signal("end")

    async def check(run):
        with pytest.raises(durable.RunConflictError, match=r"event\(\) would block.*asyncio.to_thread\(run.event, key"):
            run.event("shown", PATIENCE)
        assert run.event("shown") is None
        shows.set()
        assert await asyncio.to_thread(run.event, "shown", PATIENCE) == run.id
        assert run.event("shown", PATIENCE) == run.id
        with pytest.raises(durable.RunConflictError):
            run.event("other", PATIENCE)  # whether the run waits in memory, or is suspended meanwhile
        await asyncio.sleep(1.5)
        with pytest.raises(durable.RunConflictError):
            run.event("other", PATIENCE)
        run.signal("end")

    async def main():
        async with journal.engine:
            background = flow.start("background")
            await check(background)
            await background
            begun.clear()
            shows.clear()
            called = asyncio.create_task(flow("called"))
            await begun.wait()
            await check(durable.get("called"))
            await called

    run_async(main())


def test_an_event_of_a_run_elsewhere_is_waited_for_on_a_loop(journal, run_async):
    @durable.workflow
    async def on_the_loop_of_the_engine():
        await asyncio.sleep(0.01)
        durable.set_event("shown", 1)

    @durable.workflow
    def in_a_thread():
        durable.sleep(0.01)
        durable.set_event("shown", 2)

    async def main():
        return [flow.start().event("shown", PATIENCE) for flow in (on_the_loop_of_the_engine, in_a_thread)]

    async def on_a_loop_that_executes_others():
        async with journal.engine:
            return in_a_thread.start().event("shown", PATIENCE)

    assert run_async(main()) == [1, 2]
    assert run_async(on_a_loop_that_executes_others()) == 2


def test_outside_of_a_workflow_messages_raise_and_sleep_is_plain(journal):
    durable.sleep(seconds=0.001)
    asyncio.run(durable.aio.sleep(0.001))
    for call in (lambda: durable.wait_for_signal("go"), lambda: durable.set_event("a", 1)):
        with pytest.raises(durable.DurableError, match="for the body of a workflow"):
            call()


# -- async -------------------------------------------------------------------------------------------------------------


def test_an_async_run_is_suspended_when_all_of_its_tasks_wait(env):
    bodies = []

    @durable.step
    async def work(name):
        bodies.append(name)
        return name

    async def branch(name):
        await work(name)
        await durable.aio.sleep(1.2)
        return await work(name + "!")

    @durable.workflow
    async def flow():
        bodies.append("flow")
        signal = asyncio.create_task(durable.aio.wait_for_signal("go", str))
        got = await asyncio.gather(branch("a"), branch("b"))
        return [*got, await signal]

    run = flow.start()
    wait_until(lambda: run.status == "waiting")
    run.signal("go", "s")
    assert run.result(PATIENCE) == ["a!", "b!", "s"]
    assert sorted(b for b in bodies if b != "flow") == ["a", "a!", "b", "b!"]
    assert bodies.count("flow") >= 2


def test_an_asyncio_timeout_around_a_wait_keeps_the_run_in_memory(journal):
    passing = []

    @durable.workflow
    async def flow():
        loop, context = asyncio.get_running_loop(), copy_context()
        try:
            async with asyncio.timeout(LONG) as timeout:
                passing.append(lambda: loop.call_soon_threadsafe(timeout.reschedule, loop.time(), context=context))
                await durable.aio.sleep(LONG)
        except TimeoutError:
            return "timed out"

    run = flow.start()
    wait_until(run.steps)
    assert run.status != "waiting"
    passing[0]()
    assert run.result(PATIENCE) == "timed out"


@pytest.mark.parametrize("in_the_run", [True, False])
def test_a_thread_keeps_its_run_in_memory(journal, monkeypatch, in_the_run):
    """One that takes the run along, and that no task need await; and one that some task waits for among others."""
    looks, go_on = [], threading.Event()
    suspend = _suspension._suspend_if_all_wait
    monkeypatch.setattr(_suspension, "_suspend_if_all_wait", lambda outermost: looks.append(1) or suspend(outermost))
    monkeypatch.setattr(_suspension, "_LATER_SECONDS", 0.01)

    @durable.step
    def note() -> None: ...

    def works():
        assert go_on.wait(PATIENCE)
        if in_the_run:
            note()

    async def waits(thread):
        await asyncio.wait([thread])
        note()

    @durable.workflow
    async def flow():
        call = [copy_context().run, works] if in_the_run else [works]
        thread = asyncio.get_running_loop().run_in_executor(None, *call)
        task = None if in_the_run else asyncio.create_task(waits(thread))
        await durable.aio.sleep(LONG)
        return task

    run = flow.start()
    wait_until(lambda: len(looks) > 2)
    assert run.status == "running"
    go_on.set()
    wait_until(lambda: any(step.status == "completed" for step in run.steps()))


def test_a_wait_of_asyncio_with_a_timeout_keeps_the_run_in_memory(journal):
    @durable.workflow
    async def flow():
        tasks = [asyncio.ensure_future(durable.aio.sleep(LONG))]
        _, pending = await asyncio.wait(tasks, timeout=0.2)
        return len(pending)

    assert flow.start().result(PATIENCE) == 1


# -- branches of sync runs, and children -------------------------------------------------------------------------------


def test_a_run_whose_submitted_steps_all_back_off_is_suspended(env):
    tries = []

    @durable.step(retry=RetryPolicy(initial_interval=2.5, jitter=0))
    def flaky(n):
        tries.append(n)
        if tries.count(n) < 2:
            raise ValueError
        return n

    @durable.workflow
    def flow():
        future = flaky.submit(9)
        return [*flaky.map([1, 2, 3]), future.result()]

    run = flow.start()
    wait_until(lambda: run.status == "waiting")
    assert run.result(PATIENCE) == [1, 2, 3, 9]
    assert sorted(tries) == [1, 1, 2, 2, 3, 3, 9, 9]


@pytest.mark.parametrize("how", ["called", "started"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_parent_is_suspended_with_its_child(env, how, asynchronous):
    if asynchronous:

        @durable.workflow
        async def child():
            await durable.aio.sleep(1.2)
            return await durable.aio.wait_for_signal("go", str)

        @durable.workflow
        async def parent():
            return await child() if how == "called" else await child.start()
    else:

        @durable.workflow
        def child():
            durable.sleep(1.2)
            return durable.wait_for_signal("go", str)

        @durable.workflow
        def parent():
            return child() if how == "called" else child.start().result()

    run = parent.start()
    wait_until(lambda: {r.status for r in durable.runs()} == {"waiting"} and len(durable.runs()) == 2)
    (the_child,) = [r for r in durable.runs() if r.id != run.id]
    the_child.signal("go", "on")
    assert run.result(PATIENCE) == "on"


# -- timeouts and cancellation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_run_that_takes_longer_than_its_timeout_fails_and_may_clean_up(env, asynchronous):
    cleaned = []

    @durable.step
    def clean():
        cleaned.append(1)

    if asynchronous:

        @durable.workflow(timeout=2.5)
        async def flow():
            try:
                await durable.aio.sleep(LONG)
            finally:
                clean()
    else:

        @durable.workflow(timeout=2.5)
        def flow():
            try:
                durable.sleep(LONG)
            finally:
                clean()

    run = flow.start()
    wait_until(lambda: run.status == "waiting")
    with pytest.raises(TimeoutError, match=rf"{run.id}.* took longer than its timeout of 2\.5 s"):
        run.result(PATIENCE)
    assert (run.status, cleaned) == ("failed", [1])


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_suspended_run_is_cancelled(journal, asynchronous):
    if asynchronous:

        @durable.workflow
        async def flow():
            await durable.aio.wait_for_signal("never")
    else:

        @durable.workflow
        def flow():
            durable.wait_for_signal("never")

    run = flow.start()
    wait_until(lambda: run.status == "waiting")
    run.cancel()
    with pytest.raises(durable.RunCancelledError):
        run.result(PATIENCE)
    assert run.status == "cancelled"
    (operation,) = [step for step in run.steps() if step.kind == "signal"]
    assert (operation.input, operation.status) == (None, "failed")


def test_more_waiting_runs_than_threads():
    @durable.workflow
    def flow(n):
        durable.wait_for_signal("go")
        durable.sleep(1.1)
        return n

    with testing.engine(threads=2):
        runs = [flow.start(n) for n in range(20)]
        wait_until(lambda: {run.status for run in runs} == {"waiting"})
        for run in runs:
            run.signal("go")
        assert [run.result(PATIENCE) for run in runs] == list(range(20))


def test_an_async_run_that_replays_its_cancellation_is_not_suspended_before_it_is_told(journal):
    @durable.workflow
    async def flow():
        await durable.aio.wait_for_signal("never")

    for _ in range(20):  # its tasks wait while the cancellation is on its way to the disk
        run = flow.start()
        wait_until(lambda run=run: run.status == "waiting")
        run.cancel()
        with pytest.raises(durable.RunCancelledError):
            run.result(PATIENCE)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("thread", [False, True])
def test_a_signal_that_cannot_be_read_leaves_the_run_interrupted_and_never_failed(
    journal, run_async, asynchronous, thread
):
    """The file is at fault, not the workflow: read again, it goes on."""

    def change(column: str) -> None:
        other = apsw.Connection(str(journal.path))  # another SQLite in this process would break the locks
        other.execute(f"UPDATE durable_message SET {column}")
        other.close()

    @durable.step(name="send")
    def send() -> None:
        durable.get("run").signal("go", 5)
        change("value = '6'")

    @durable.workflow(id="run")
    def flow() -> int:
        send()
        return durable.wait_for_signal("go", int)

    @durable.workflow(id="run")
    async def flow_async() -> int:
        await asyncio.to_thread(send)
        if thread:
            return await asyncio.to_thread(durable.wait_for_signal, "go", int)
        return await durable.aio.wait_for_signal("go", int)

    call = (lambda: run_async(flow_async())) if asynchronous else flow
    with pytest.raises(durable.JournalError, match="damaged"):
        call()
    assert durable.get("run").status == "interrupted"
    change("value = '5'")
    journal.restart()
    assert call() == 5


# -- when the journal cannot be written, or read, just then --------------------------------------------------------------


@pytest.fixture
def full_disk(journal, monkeypatch):
    """A file in which no transaction begins: what begins that, and what ends it."""
    file = journal.engine._runtime.journal
    begin = file.begin

    def fail(full):
        raise durable.JournalError("the disk is full")

    return lambda: monkeypatch.setattr(file, "begin", fail), lambda: monkeypatch.setattr(file, "begin", begin)


@pytest.fixture
def held_up():
    """A child that is suspended, and held up when it was woken; whether it was, and what lets it end."""
    woken, end = threading.Event(), threading.Event()

    @durable.workflow
    def child():
        durable.sleep(1.2)
        woken.set()
        end.wait(PATIENCE)
        return "slept"

    return child, woken, end


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_run_that_could_not_be_set_going_when_it_was_due_is_so_soon_and_who_waits_is_told(journal, full_disk, kind):
    hold, let_go = full_disk

    @durable.workflow(id="nap")
    def sync():
        durable.sleep(1.5)
        return "slept"

    @durable.workflow(id="nap")
    async def asynchronous():
        await durable.aio.sleep(1.5)
        return "slept"

    run = (sync if kind == "sync" else asynchronous).start()
    wait_until(lambda: run.status == "waiting")
    hold()
    with pytest.raises(durable.JournalError, match="disk is full"):
        run.result(PATIENCE)
    with pytest.raises(durable.JournalError, match="disk is full"):
        asyncio.run(asyncio.wait_for(_result_of(run), PATIENCE))
    assert run.status == "waiting"
    let_go()
    wait_until(lambda: run.status == "completed")  # nobody writes anything else, or asks for it
    assert run.result() == "slept"


def test_a_child_that_was_woken_and_stopped_by_the_journal_stops_who_waits_for_its_suspended_parent(
    journal, full_disk, held_up
):
    hold, let_go = full_disk
    child, woken, end = held_up

    @durable.workflow(id="parent")
    def parent():
        return child()

    run = parent.start()
    assert woken.wait(PATIENCE)
    assert run.status == "waiting"
    hold()
    threading.Timer(0.1, end.set).start()
    with pytest.raises(durable.JournalError, match="disk is full"):
        run.result(PATIENCE)
    let_go()
    durable.resume(wait=True)
    assert run.result(PATIENCE) == "slept"


@pytest.mark.parametrize("again", ["resume", "result"])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_child_that_was_woken_and_interrupted_interrupts_who_waits_for_its_suspended_parent(journal, kind, again):
    ended = []

    @durable.workflow
    def child():
        durable.sleep(1.2)
        if not ended:
            ended.append(True)
            raise SystemExit
        return "slept"

    @durable.workflow
    async def child_async():
        await durable.aio.sleep(1.2)
        if not ended:
            ended.append(True)
            raise SystemExit
        return "slept"

    @durable.workflow(id="parent")
    def parent():
        return child()

    @durable.workflow(id="parent")
    async def parent_async():
        return await child_async()

    run = (parent if kind == "sync" else parent_async).start()
    with pytest.raises(durable.RunInterruptedError):
        run.result(PATIENCE)
    if again == "resume":
        durable.resume()
    assert run.result(PATIENCE) == "slept"


def test_an_interrupted_child_that_is_not_declared_here_is_not_set_going_with_who_waits_for_its_parent(journal):
    @durable.workflow(name="child")
    def child():
        durable.sleep(1.2)
        raise SystemExit

    @durable.workflow(id="parent")
    def parent():
        return child()

    run = parent.start()
    with pytest.raises(durable.RunInterruptedError):
        run.result(PATIENCE)
    del _engine.REGISTRY.workflows["child"]
    with pytest.raises(TimeoutError):
        run.result(0.1)
    assert run.status == "waiting"


def test_a_parent_that_waits_for_its_own_time_is_not_stopped_by_a_child_that_the_journal_stopped(
    journal, full_disk, held_up, caplog
):
    hold, let_go = full_disk
    child, woken, end = held_up

    @durable.workflow(id="parent")
    def parent():
        child.start()
        durable.sleep(LONG)

    run = parent.start()
    assert woken.wait(PATIENCE)
    hold()
    threading.Timer(0.1, end.set).start()
    with pytest.raises(TimeoutError):
        run.result(0.6)
    wait_until(lambda: "disk is full" in caplog.text)
    let_go()


def test_a_sync_child_that_blocks_the_loop_of_a_background_run_is_held_in_memory(journal):
    bodies = []

    @durable.workflow
    def child():
        bodies.append(1)
        durable.sleep(1.2)
        return "slept"

    @durable.workflow
    async def parent():
        return child()

    assert parent.start().result(PATIENCE) == "slept"
    assert bodies == [1]


async def _result_of(run):
    return await run


def test_a_timer_whose_look_at_the_journal_failed_looks_again(journal, monkeypatch, caplog):
    @durable.workflow(id="nap")
    def nap():
        durable.sleep(1.2)
        return "slept"

    run = nap.start()
    wait_until(lambda: run.status == "waiting")
    reading, looks = journal.engine._runtime.journal, []

    def due_runs(*_, **_options):
        looks.append(1)
        raise durable.JournalError("disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(reading, "due_runs", due_runs)
        wait_until(lambda: len(looks) > 2)
    assert run.result(PATIENCE) == "slept"
    assert [record.getMessage() for record in caplog.records if record.name == "durable"] == [
        "waiting runs are not woken: disk I/O error"
    ]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_who_waits_for_a_suspended_run_is_told_when_nothing_can_wake_it_any_more(journal, kind):
    @durable.workflow(id="nap")
    def nap():
        durable.wait_for_signal("never")

    run = nap.start()
    wait_until(lambda: run.status == "waiting")
    told = []

    def wait():
        try:
            run.result(PATIENCE) if kind == "sync" else asyncio.run(asyncio.wait_for(_result_of(run), PATIENCE))
        except BaseException as error:
            told.append(error)

    thread = threading.Thread(target=copy_context().run, args=(wait,))
    thread.start()
    wait_until(journal.engine._runtime.watchers.are_there)
    moved = journal.path.with_suffix(".moved")
    journal.path.rename(moved)  # no commit is acknowledged from here on
    with pytest.raises(durable.JournalError):
        nap.with_options(id="other").start()
    thread.join(PATIENCE)
    moved.rename(journal.path)
    assert [type(error) for error in told] == [durable.JournalError]


def test_a_run_reads_none_of_the_signals_behind_the_one_that_it_takes(journal, monkeypatch):
    count = 60

    @durable.workflow
    def flow():
        durable.wait_for_signal("begin")
        return [durable.wait_for_signal("go", int) for _ in range(count)]

    run = flow.start()
    for number in range(count):
        run.signal("go", number)
    read = []
    monkeypatch.setattr(_reading, "message_from", lambda row: read.append(row) or _records.message_from(row))
    run.signal("begin")
    assert run.result(PATIENCE) == list(range(count))
    assert len(read) < 5 * count

"""`durable.testing`: simulated deaths of the process, at one moment or at all of them."""

import asyncio
import random
import sqlite3
import threading
import time
from contextlib import closing

import pytest

import durable
from durable import RetryPolicy, testing
from durable.testing import _everywhere

PATIENCE = 60.0
DAY = 24 * 3600
ASYNC = pytest.mark.parametrize("asynchronous", [False, True])


@pytest.fixture
def env():
    with testing.engine() as environment:
        yield environment


@pytest.fixture
def ran():
    return []


def shop(ran, asynchronous=False):
    """Three steps in a row, called with `go()`; each notes that its body ran."""

    @durable.step
    def reserve(item):
        ran.append("reserve")
        return f"{item} reserved"

    @durable.step
    def charge(item):
        ran.append("charge")
        return f"{item} charged"

    @durable.step
    def ship(item):
        ran.append("ship")
        return f"{item} shipped"

    if asynchronous:

        @durable.workflow
        async def order(item):
            return [reserve(item), await asyncio.to_thread(charge, item), ship(item)]

        return order, lambda item: asyncio.run(order(item))

    @durable.workflow
    def order(item):
        return [reserve(item), charge(item), ship(item)]

    return order, order


ALL = ["42 reserved", "42 charged", "42 shipped"]


# -- one crash ---------------------------------------------------------------------------------------------------------


@ASYNC
@pytest.mark.parametrize(
    ("when", "before", "after"),
    [
        ("crash_before", ["reserve"], ["charge", "ship"]),
        ("crash_in", ["reserve", "charge"], ["charge", "ship"]),
        ("crash_after", ["reserve", "charge"], ["ship"]),
    ],
)
def test_the_next_engine_goes_on_from_the_moment_of_the_crash(env, ran, asynchronous, when, before, after):
    _, order = shop(ran, asynchronous)
    with getattr(env, when)("shop.charge"):
        order("42")
        raise AssertionError("the process is dead")
    assert ran == before
    (run,) = durable.runs()
    assert run.status == "interrupted"
    assert order("42") == ALL
    assert ran == before + after
    assert [r.id for r in durable.runs()] == [run.id]
    assert durable.get(run.id).status == "completed"


@ASYNC
def test_in_the_background_and_several_crashes(env, ran, asynchronous):
    order, _ = shop(ran, asynchronous)
    with env.crash_after("shop.reserve"):
        run = order.start("42")
    with pytest.raises(durable.EngineClosedError):
        run.result()
    with env.crash_in("shop.ship"):
        durable.resume(wait=True)
    durable.resume(wait=True)
    assert durable.get(run.id).result() == ALL
    assert ran == ["reserve", "charge", "ship", "ship"]


def test_the_file_is_as_a_killed_process_leaves_it(env, ran):
    _, order = shop(ran)
    with env.crash_after("shop.charge"):
        order("42")
    with closing(sqlite3.connect(env.path)) as connection:
        assert connection.execute("SELECT closed_at FROM durable_owner").fetchall() == [(None,)]
        assert connection.execute("SELECT status FROM durable_run").fetchall() == [("running",)]
    order("42")
    env.restart()
    with closing(sqlite3.connect(env.path)) as connection:
        crashes = connection.execute("SELECT crashes FROM durable_run").fetchall()
        closed = connection.execute("SELECT closed_at IS NULL FROM durable_owner").fetchall()
    assert (crashes, closed) == ([(1,)], [(1,), (0,)])


def test_nothing_is_written_by_what_goes_on_in_the_dead_engine(env):
    begun, gate, ended = threading.Event(), threading.Event(), threading.Event()
    bodies = []

    @durable.step
    def slow():
        bodies.append(threading.get_ident())
        if len(bodies) == 1:
            begun.set()
            assert gate.wait(PATIENCE)
        return len(bodies)

    @durable.workflow
    def flow():
        try:
            return slow()
        finally:
            ended.set()

    run = flow.start()
    assert begun.wait(PATIENCE)
    env.crash()
    gate.set()
    assert ended.wait(PATIENCE)
    assert [(step.status, step.attempt) for step in durable.get(run.id).steps()] == [("running", 1)]
    durable.resume(wait=True)
    assert durable.get(run.id).result() == 2
    assert [(step.status, step.attempt) for step in durable.get(run.id).steps()] == [("completed", 2)]


def test_a_crash_in_a_back_off_and_in_a_sleep(env):
    tries = []

    @durable.step(name="flaky", retry=RetryPolicy(initial_interval=100, jitter=0))
    def flaky():
        tries.append(env.clock.time)
        if len(tries) < 3:
            raise ValueError

    @durable.workflow
    def flow():
        flaky()
        durable.sleep(1000)
        return durable.now()

    start = env.clock.time
    with env.crash_in("flaky", 2):
        flow()
    with env.crash_before("sleep"):
        flow()
    with env.crash_in("sleep"):
        flow()
    assert (
        flow() - start
    ).total_seconds() == 1100  # what the second attempt came to was lost, and its back-off with it
    assert len(tries) == 3


def test_an_at_most_once_step_is_not_repeated(env, ran):
    @durable.step(name="charge", at_most_once=True)
    def charge():
        ran.append("charge")

    @durable.workflow
    def flow():
        try:
            charge()
        except durable.StepInterruptedError:
            return "unknown"

    with env.crash_in("charge"):
        flow()
    assert flow() == "unknown"
    assert ran == ["charge"]


def test_a_transaction_is_rolled_back(env):
    @durable.step(name="book", transaction=True)
    def book():
        durable.connection().execute("CREATE TABLE IF NOT EXISTS booked (id)")
        durable.connection().execute("INSERT INTO booked VALUES (1)")
        return durable.connection().execute("SELECT count(*) FROM booked").fetchone()[0]

    @durable.workflow
    def flow():
        return book()

    with env.crash_in("book"):
        flow()
    assert flow() == 1


@pytest.mark.parametrize("when", ["crash_before", "crash_in", "crash_after"])
def test_a_step_that_does_not_come_is_an_error(env, ran, when):
    _, order = shop(ran)
    with pytest.raises(AssertionError, match=r"waited in vain for an .* 'chrage'"), getattr(env, when)("chrage"):
        assert order("42") == ALL
    assert order("42") == ALL


def test_an_error_of_the_block_comes_out_of_it(env, ran):
    with pytest.raises(ZeroDivisionError), env.crash_after("shop.charge"):
        _ = 1 / 0


def test_the_second_time(env, ran):
    _, order = shop(ran)
    with env.crash_after("shop.charge", 2):
        assert order("1")
        order("2")
    assert [run.status for run in durable.runs()] == ["interrupted", "completed"]


# -- a crash at every moment -------------------------------------------------------------------------------------------


@ASYNC
def test_a_sound_program_is_sound(ran, asynchronous):
    effects = set()

    @durable.step(name="charge", retry=RetryPolicy(initial_interval=60))
    def charge(amount):
        ran.append("charge")
        effects.add(durable.info().idempotency_key.partition(":")[2])
        if durable.info().attempt < 2:
            raise ConnectionError
        return amount

    if asynchronous:

        @durable.workflow
        async def flow():
            await durable.aio.sleep(3600)
            return await asyncio.gather(asyncio.to_thread(charge, 1), asyncio.to_thread(charge, 2))
    else:

        @durable.workflow
        def flow():
            durable.sleep(3600)
            return [charge(1), *charge.map([2])]

    report = testing.crash_everywhere(flow, setup=effects.clear, effects=lambda: len(effects))
    assert report.problems == []
    assert set(report.repeated) == {"charge"}
    assert len(report.points) >= 16
    assert str(report) == f"{len(report.points)} crashes, each came to the same end"
    moments = [point.moment for point in report.points]
    assert "after the start of durable.sleep() was in the file" in moments
    assert any("the failure of attempt 1 of step 'charge'" in moment for moment in moments), moments


def test_a_step_that_does_not_bear_to_run_twice_is_found(ran):
    charged = []

    @durable.step(name="charge")
    def charge(amount):
        charged.append(amount)

    @durable.workflow(id="once")
    def flow():
        charge(5)
        return "done"

    with pytest.raises(AssertionError) as raised:
        testing.crash_everywhere(flow, setup=charged.clear, effects=lambda: charged)
    report = raised.value.report
    (point,) = report.problems
    assert point.moment == "before the outcome of step 'charge' was in the file"
    assert point.repeated == ("charge",)
    assert str(raised.value) == (
        f"1 of {len(report.points)} crashes came to another end:\n"
        "- before the outcome of step 'charge' was in the file (ran again: charge): "
        "the effects are [5, 5], and were [5] without a crash"
    )
    assert report.repeated == {"charge": 1}


def test_a_call_without_an_id_begins_anew_when_the_run_had_ended():
    charged = []

    @durable.step
    def charge(amount):
        if amount not in charged:
            charged.append(amount)
        charged.append(durable.info().run_id)

    @durable.workflow
    def flow():
        charge(5)

    with pytest.raises(AssertionError) as raised:
        testing.crash_everywhere(flow, setup=charged.clear, effects=lambda: len(set(charged)))
    (point,) = raised.value.report.problems
    assert (
        point.moment
        == "after the end of the run of 'test_a_call_without_an_id_begins_anew_when_the_run_had_ended.flow' was in the file"
    )
    assert point.problem == (
        "the effects are 3, and were 2 without a crash (the run had ended, and was called again: "
        "with an id, the call would have got the result of that run)"
    )


def test_a_body_that_takes_another_path_is_found():
    dice = random.Random(1)

    @durable.step(name="left")
    def left():
        pass

    @durable.step(name="right")
    def right():
        pass

    @durable.workflow
    def flow():
        for _ in range(5):
            left() if dice.random() < 0.5 else right()

    with pytest.raises(AssertionError, match="the run is blocked: .*the journal has step .* but the code called step"):
        testing.crash_everywhere(flow)


def test_a_result_that_differs_is_found():
    counter = []

    @durable.step(name="work")
    def work():
        pass

    @durable.workflow
    def flow():
        counter.append(1)
        work()
        return len(counter)

    with pytest.raises(AssertionError, match=r"the result is 2, and was 1 without a crash") as raised:
        testing.crash_everywhere(flow, setup=counter.clear)
    assert raised.value.report.problems[0].repeated == ()


def test_an_error_that_differs_is_found_and_the_same_one_is_not(ran):
    @durable.step(name="decline", retry=None)
    def decline():
        raise PermissionError("no")

    @durable.step(name="once", at_most_once=True)
    def once():
        pass

    @durable.workflow
    def fails():
        decline()

    @durable.workflow
    def fails_differently():
        once()

    assert testing.crash_everywhere(fails).problems == []
    with pytest.raises(AssertionError, match=r"the result is StepInterruptedError\(.*, and was None without a crash"):
        testing.crash_everywhere(fails_differently)


def test_runs_in_the_background_are_seen_to_their_end():
    done = []

    @durable.step(name="work")
    def work(n):
        done.append(n)

    @durable.workflow(id="run-{n}")
    def flow(n):
        durable.sleep(3600)
        work(n)
        return n

    def program():
        flow.start(1)
        flow.start(2)

    report = testing.crash_everywhere(program, setup=done.clear, effects=lambda: sorted(set(done)))
    assert len(report.points) >= 20


def test_a_crash_lets_no_time_pass_up_to_the_timeout_of_a_run():
    @durable.step
    def work(number):
        return number

    @durable.workflow(id="short", timeout=3600)
    def short() -> int:
        work(1)
        durable.sleep(60)
        return work(2)

    @durable.workflow(id="short-async", timeout=3600)
    async def short_async() -> int:
        work(1)
        await durable.aio.sleep(60)
        return work(2)

    for program in (short, short_async):
        assert not testing.crash_everywhere(program).problems


@pytest.mark.parametrize("pause", [0.3, 60])
def test_time_passes_for_who_awaits_a_run_that_goes_on_in_the_background(pause):
    @durable.step
    async def work(number: int) -> int:
        return number

    @durable.workflow(id="flow")
    async def flow() -> int:
        await work(1)
        await durable.aio.sleep(pause)
        return await work(2)

    assert not testing.crash_everywhere(flow).problems
    assert not testing.crash_everywhere(lambda: flow.start().result()).problems


@pytest.fixture
def one_step():
    """A workflow of one step."""

    @durable.step
    def work() -> int:
        return 1

    @durable.workflow(id="flow")
    def flow() -> int:
        return work()

    return flow


def test_a_simulated_crash_is_not_logged_as_an_error(one_step, caplog):
    testing.crash_everywhere(lambda: one_step.start().result())
    assert caplog.messages == []


def test_a_program_that_looks_at_its_run_again_and_again_dies_too(one_step):
    def program() -> int:
        run = one_step.start()
        while run.status != "completed":
            time.sleep(0.001)
        return run.result()

    assert not testing.crash_everywhere(program).problems


def test_no_time_passes_while_the_process_dies():
    """Where the timer of a run has gone with it, the next moment is that of its timeout."""

    @durable.workflow(id="short-{days}", timeout=2 * DAY)
    def short(days: int) -> int:
        durable.sleep(days * DAY)
        return days

    @durable.workflow(id="all")
    def run_all() -> list[int | str]:
        found: list[int | str] = []
        for run in short.start_many([1, 3]):
            try:
                found.append(run.result())
            except TimeoutError:
                found.append("late")
        return found

    assert not testing.crash_everywhere(run_all).problems


@ASYNC
def test_a_program_that_sleeps_in_a_run_dies_with_what_it_started(one_step, asynchronous):
    @durable.workflow(id="parent")
    def parent() -> int:
        child = one_step.start()
        durable.sleep(0.002)
        return child.result()

    @durable.workflow(id="parent")
    async def parent_async() -> int:
        child = one_step.start()
        await durable.aio.sleep(0.002)
        return await child

    assert not testing.crash_everywhere(parent_async if asynchronous else parent).problems


def test_a_death_in_the_background_when_the_program_has_ended_is_one_too(one_step, monkeypatch):
    run, died = _everywhere._run, []

    def run_and_die(program, environment):
        end, engine = run(program, environment), environment.engine

        def die_and_look(**options):
            died.append(engine._runtime.journal.commits._store.die())
            return type(engine).runs(engine, **options)

        if not died:
            engine.runs = die_and_look
        return end

    monkeypatch.setattr(_everywhere, "_run", run_and_die)
    assert not testing.crash_everywhere(one_step).problems
    assert died

"""Steps side by side in a sync workflow: `submit` and `map`."""

import dataclasses
import os
import subprocess
import sys
import threading
import time
import types

import pytest

import durable
from durable import RetryPolicy
from durable._effects import CANCELLED
from durable._parallel import StepFuture
from durable._scopes import SCOPE
from tests.behaviour.patience import wait_until

QUICK = RetryPolicy(initial_interval=0.001, maximum_attempts=3, jitter=0)


class Declined(Exception):
    pass


@pytest.fixture
def work():
    """A step that takes as long as `seconds`, `until` and `last` say for its item, declines what is in `declined`, and notes what it did."""

    @durable.step(name="work", retry=None)
    def work(item):
        work.started.append(item)
        time.sleep(work.seconds.get(item, 0))
        deadline = time.monotonic() + 60
        while len(work.ended) < work.until.get(item, 0) and time.monotonic() < deadline:
            time.sleep(0.001)
        if item in work.last:
            wait_until(lambda: work.declined <= set(work.started))
            wait_until(lambda: len(SCOPE.get().execution.parallel._of_thread) == 1)
        if item in work.declined:
            raise Declined(item)
        work.ended.append(item)
        return f"did {item}"

    work.started, work.ended, work.seconds, work.declined = [], [], {}, set()
    work.until = {}
    """By item: how many others have ended before it does."""
    work.last = set()
    """Items that end when those that are declined have begun, and no other one is under way."""
    return work


def did(items):
    return [f"did {item}" for item in items]


# -- map ---------------------------------------------------------------------------------------------------------------


def test_a_body_may_wait_for_what_a_step_does_that_goes_on_beside_it(journal):
    """A server for a test, a worker with a queue: it is there again before the code goes on."""
    started = threading.Event()

    @durable.step
    def serve():
        dies = journal.crashing  # with its process
        started.set()
        assert ended.wait(60)
        if dies:
            raise KeyboardInterrupt
        return "served"

    @durable.step
    def use():
        return "used"

    @durable.workflow(id="run")
    def flow():
        serving = serve.submit()
        assert started.wait(60)
        used = use()
        if journal.crashing:
            ended.set()
            journal.crash()
        ended.set()
        return used, serving.result()

    ended = threading.Event()
    with pytest.raises(KeyboardInterrupt):
        flow()
    started.clear()
    journal.restart()
    ended.clear()
    assert flow() == ("used", "served")


def test_results_come_in_the_order_of_the_items(journal, work):
    work.until = {0: 5}

    @durable.workflow
    def flow():
        return work.map(range(6))

    assert flow() == did(range(6))
    assert work.ended[-1] == 0


def test_items_run_side_by_side(journal):
    together = threading.Barrier(4, timeout=60)

    @durable.step(retry=None)
    def meet(item: int) -> int:
        together.wait()
        return item

    @durable.workflow
    def flow() -> list[int]:
        return meet.map(range(4))

    assert flow() == [0, 1, 2, 3]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_concurrency_bounds_the_items_under_way(journal, peak, concurrency):
    @durable.step
    def work(item: int) -> int:
        with peak:
            time.sleep(0.005)
        return item

    @durable.workflow
    def flow() -> list[int]:
        return work.map(range(12), concurrency)

    assert flow() == list(range(12))
    assert peak.most == concurrency


def test_without_it_the_threads_of_the_engine_bound_them(journal, peak):
    journal.open(threads=3)

    @durable.step
    def work(item: int) -> int:
        with peak:
            time.sleep(0.005)
        return item

    @durable.workflow
    def flow() -> list[int]:
        return work.map(range(12))

    assert flow() == list(range(12))
    assert peak.most == 3


@pytest.mark.parametrize("concurrency", [0, -1])
def test_bad_concurrency_is_an_error_where_it_is_written(journal, work, concurrency):
    @durable.workflow
    def flow():
        return work.map([1], concurrency)

    with pytest.raises(ValueError, match="concurrency"):
        flow()


def test_after_a_failure_no_further_item_starts_and_those_in_flight_end(journal, work):
    work.last, work.declined = {0}, {1}

    @durable.workflow(id="run")
    def flow():
        return work.map(range(10), concurrency=2)

    with pytest.raises(Declined) as caught:
        flow()
    assert caught.value.args == (1,)
    assert sorted(work.started) == [0, 1]
    assert work.ended == [0]
    assert {step.input["item"]: step.status for step in durable.get("run").steps()} == {0: "completed", 1: "failed"}


@pytest.mark.parametrize("failing", ["all", "the first", "the second"])
def test_after_a_failure_no_item_starts_that_has_waited_for_a_thread(journal, work, failing):
    """Nor on replay."""
    journal.open(threads=2)
    together = threading.Barrier(2, timeout=60)

    @durable.step(name="work", retry=None)
    def step(item):
        work.started.append(item)
        together.wait()
        if failing == "all" or item == ["the first", "the second"].index(failing):
            raise Declined(item)
        wait_until(lambda: len(SCOPE.get().execution.parallel._of_thread) == 1)  # the other is over

    @durable.workflow(id="run")
    def flow():
        with pytest.raises(Declined) as caught:
            step.map(range(20))
        journal.crash()
        return caught.value.args[0]

    with pytest.raises(KeyboardInterrupt):
        flow()
    assert sorted(work.started) == [0, 1]
    assert len(durable.get("run").steps()) == 2
    journal.restart()
    assert flow() == (1 if failing == "the second" else 0)
    assert sorted(work.started) == [0, 1]


def test_after_a_failure_no_item_starts_that_has_waited_for_a_slot_of_its_step(journal):
    """The slot is given on before the failure is journaled, so that one more may begin; and so do those before it."""
    started = []

    @durable.step(name="work", retry=None, concurrency=1)
    def work(item):
        started.append(item)
        parallel = SCOPE.get().execution.parallel
        if len(started) == 1:
            limit = journal.engine._runtime.limits.of("step", "work", 1)
            wait_until(lambda: len(limit._waiting) == 19 and len(parallel._of_thread) == 20)
            raise Declined(item)
        if journal.crashing:
            wait_until(lambda: len(parallel._of_thread) < 20)  # the first is over

    @durable.workflow(id="run")
    def flow():
        work.map(range(20))

    with pytest.raises(Declined):
        flow()
    assert sorted(started) == list(range(max(started[:2]) + 1))
    assert [step.input["item"] for step in durable.get("run").steps()] == sorted(started)
    journal.crashing = False
    durable.get("run").retry()
    durable.get("run").result(60)
    assert len(durable.get("run").steps()) == 20


def test_items_that_a_crash_cut_end_though_another_has_failed_and_though_they_wait_for_a_thread(journal):
    journal.open(threads=4)
    at_work, started = threading.Barrier(4, timeout=60), []

    @durable.step(name="work", retry=None)
    def work(item):
        started.append(item)
        if not journal.crashing:
            return
        at_work.wait()
        if item == 0:
            raise Declined(item)
        wait_until(lambda: any(step.status == "failed" for step in durable.get("run").steps()))
        journal.crash()

    @durable.workflow(id="run")
    def flow():
        work.map(range(20))

    with pytest.raises((KeyboardInterrupt, durable.RunInterruptedError)):
        flow()
    assert sorted(started) == [0, 1, 2, 3]
    journal.restart(threads=1)
    with pytest.raises(Declined):
        flow()
    assert sorted(started) == [0, 1, 1, 2, 2, 3, 3]
    assert len(durable.get("run").steps()) == 4


def test_the_first_failure_by_index_is_raised_not_the_first_in_time(journal, work):
    work.seconds, work.declined = {0: 0.03}, {0, 1, 2}

    @durable.workflow
    def flow():
        return work.map(range(3))

    with pytest.raises(Declined) as caught:
        flow()
    assert caught.value.args == (0,)


def test_return_exceptions_runs_all(journal, work):
    work.declined = {1, 3}

    @durable.workflow
    def flow():
        results = work.map(range(5), 1, True)  # by place, as they are listed
        return [result if isinstance(result, str) else repr(result) for result in results]

    assert flow() == ["did 0", "Declined(1)", "did 2", "Declined(3)", "did 4"]


def test_map_of_nothing(journal, work):
    @durable.workflow
    def flow():
        return work.map([])

    assert flow() == []


def test_items_are_retried_by_themselves(journal):
    attempts = []

    @durable.step(retry=QUICK)
    def flaky(item: int) -> int:
        attempts.append(item)
        if attempts.count(item) < 3:
            raise ConnectionError
        return item

    @durable.workflow
    def flow() -> list[int]:
        return flaky.map(range(4))

    assert flow() == [0, 1, 2, 3]
    assert sorted(attempts) == sorted([*range(4)] * 3)


def test_map_replays(journal, work):
    work.declined = {4}

    @durable.workflow
    def flow():
        first = work.map(range(4))
        second = work.map([3, 4, 5], return_exceptions=True)
        journal.crash()
        return first, [str(result) for result in second], work.map([6, 7])

    with pytest.raises(KeyboardInterrupt):
        flow()
    journal.restart()
    assert flow() == (did(range(4)), ["did 3", "4", "did 5"], did([6, 7]))
    assert sorted(work.started) == [0, 1, 2, 3, 3, 4, 5, 6, 7]


def test_a_failed_map_replays_and_starts_nothing_more(journal, work):
    work.declined = {1}

    @durable.workflow
    def flow():
        with pytest.raises(Declined) as caught:
            work.map(range(10), concurrency=2)
        journal.crash()
        return caught.value.args[0]

    with pytest.raises(KeyboardInterrupt):
        flow()
    started = list(work.started)
    journal.restart()
    work.declined = set()
    assert flow() == 1
    assert work.started == started


@pytest.mark.parametrize("concurrency", [1, 3, None])
def test_a_crash_in_the_middle_repeats_no_completed_item(journal, concurrency):
    started = []

    @durable.step(retry=None)
    def work(item: int) -> int:
        started.append(item)
        time.sleep(0.002)
        if item == 5:
            journal.crash()
        return item

    @durable.workflow(id="run")
    def flow() -> list[int]:
        return work.map(range(10), concurrency)

    with pytest.raises((KeyboardInterrupt, durable.RunInterruptedError)):  # of item 5, or of another that it took down
        flow()
    journal.restart()
    done = {step.input["item"] for step in durable.get("run").steps() if step.status == "completed"}
    before = len(started)
    assert flow() == list(range(10))
    assert set(started[before:]) == set(range(10)) - done


def test_a_map_in_a_map_of_children(journal, work):
    @durable.workflow
    def child(first):
        return work.map([first, first + 1])

    @durable.workflow
    def flow():
        return [child(first) for first in (0, 10)]

    assert flow() == [did([0, 1]), did([10, 11])]


def test_other_items_on_replay_are_blocked(journal, work):
    items = [1, 2]

    @durable.workflow(id="run")
    def flow():
        work.map(items)
        journal.crash()

    with pytest.raises(KeyboardInterrupt):
        flow()
    journal.restart()
    items[:] = [2, 1]
    with pytest.raises(durable.NonDeterminismError):
        flow()
    assert durable.get("run").status == "blocked"


# -- submit ------------------------------------------------------------------------------------------------------------


def test_submitted_steps_run_beside_the_body_and_their_results_wait(journal, work):
    work.until = {"slow": 2}

    @durable.workflow
    def flow():
        slow, quick = work.submit("slow"), work.submit("quick")
        return quick.result(), work("here"), slow.result(), slow.result()

    assert flow() == ("did quick", "did here", "did slow", "did slow")
    assert work.ended[-1] == "slow"


def test_submitted_steps_replay_in_any_finishing_order(journal, work):
    work.seconds = {0: 0.02, 1: 0.01}

    @durable.workflow
    def flow():
        futures = [work.submit(item) for item in range(3)]
        values = [future.result() for future in reversed(futures)]
        journal.crash()
        return values, work.submit(3).result()

    with pytest.raises(KeyboardInterrupt):
        flow()
    journal.restart()
    work.seconds = {}
    assert flow() == (did([2, 1, 0]), "did 3")
    assert sorted(work.started) == [0, 1, 2, 3]


def test_a_submitted_step_that_fails_raises_each_time_it_is_asked(journal, work):
    work.declined = {1}

    @durable.workflow
    def flow():
        future = work.submit(1)
        for _ in range(2):
            with pytest.raises(Declined):
                future.result()
        return "caught"

    assert flow() == "caught"


def test_a_failure_that_nobody_asks_for_does_not_fail_the_run(journal, work):
    work.declined = {1}

    @durable.workflow(id="run")
    def flow():
        work.submit(1)
        return "done"

    assert flow() == "done"
    assert [step.status for step in durable.get("run").steps()] == ["failed"]


@pytest.mark.parametrize("ending", ["returns", "raises"])
def test_the_run_ends_only_when_its_steps_have(journal, work, ending):
    work.seconds = {1: 0.05}

    @durable.workflow(id="run")
    def flow():
        work.submit(1)
        if ending == "raises":
            raise Declined

    if ending == "returns":
        flow()
    else:
        with pytest.raises(Declined):
            flow()
    run = durable.get("run")
    assert [step.status for step in run.steps()] == ["completed"]
    assert run.steps()[0].finished_at <= run.finished_at


def test_waiting_for_a_result_has_a_timeout_and_the_step_goes_on(journal, work):
    go_on = threading.Event()

    @durable.step
    def slow():
        work.started.append(1)
        go_on.wait(60)
        return "did it"

    @durable.workflow
    def flow():
        future = slow.submit()
        with pytest.raises(TimeoutError, match="slow"):
            future.result(timeout=0.01)
        go_on.set()
        return future.result()

    assert flow() == "did it"
    assert work.started == [1]


def test_submit_and_map_share_the_threads_without_waiting_for_each_other_for_ever(journal, work):
    journal.open(threads=1)

    @durable.workflow
    def flow():
        futures = [work.submit(item) for item in range(5)]
        mapped = work.map(range(5, 10))
        return [future.result() for future in futures] + mapped

    assert flow() == did(range(10))


def test_parallel_steps_of_background_runs_on_few_threads(journal, work):
    journal.open(threads=2)

    @durable.workflow
    def flow(first):
        return work.map(range(first, first + 4))

    runs = flow.start_many(range(0, 40, 4))
    assert [run.result(60) for run in runs] == [did(range(first, first + 4)) for first in range(0, 40, 4)]


# -- where else --------------------------------------------------------------------------------------------------------


def test_outside_of_a_run_they_are_plain_calls(work):
    work.declined = {2}
    assert work.submit(1).result() == "did 1"
    assert work.map([0, 1]) == did([0, 1])
    assert [type(result) for result in work.map([1, 2], return_exceptions=True)] == [str, Declined]
    with pytest.raises(Declined):
        work.map([1, 2, 3])
    assert work.started[-1] == 2
    with pytest.raises(Declined):
        work.submit(2).result()


def test_inside_a_step_they_are_plain_calls(journal, work):
    @durable.step
    def outer():
        return work.map([1, 2]), work.submit(3).result()

    @durable.workflow(id="run")
    def flow():
        return outer()

    assert flow() == (did([1, 2]), "did 3")
    assert [step.name for step in durable.get("run").steps()] == [outer.name]


@pytest.mark.parametrize("call", ["submit", "map"])
def test_in_an_async_workflow_they_are_a_clear_type_error(journal, run_async, work, call):
    @durable.workflow
    async def flow():
        getattr(work, call)([1])

    with pytest.raises(TypeError, match=r"asyncio\.gather"):
        run_async(flow())
    assert work.started == []


@pytest.mark.parametrize("call", ["submit", "map"])
def test_of_async_steps_they_are_a_clear_type_error(journal, call):
    @durable.step
    async def fetch(item): ...

    @durable.workflow
    def flow():
        getattr(fetch, call)([1])

    with pytest.raises(TypeError, match="async"):
        flow()
    with pytest.raises(TypeError, match="async"):
        getattr(fetch, call)([1])


def test_map_and_submit_of_a_method(journal):
    @dataclasses.dataclass
    class Till:
        rate: int

        @durable.step
        def price(self, item: int) -> int:
            return item * self.rate

    @durable.workflow
    def flow() -> list[int]:
        till = Till(3)
        return [*till.price.map([1, 2]), till.price.submit(3).result()]

    assert flow() == [3, 6, 9]


def test_transactions_side_by_side(journal):
    @durable.step(transaction=True)
    def pay(item: int) -> int:
        connection = durable.connection()
        connection.execute("CREATE TABLE IF NOT EXISTS paid (item)")
        connection.execute("INSERT INTO paid VALUES (?)", (item,))
        return item

    @durable.step(transaction=True)
    def paid() -> int:
        return durable.connection().execute("SELECT count(*) FROM paid").fetchall()[0][0]

    @durable.workflow
    def flow() -> int:
        assert pay.map(range(20)) == list(range(20))
        return paid()

    assert flow() == 20


# -- crashes ----------------------------------------------------------------------------------------------------------

CROWDED = """
import os, sys, time
import durable

@durable.step
def beside(number: int) -> int:
    if not os.path.exists("died"):
        open("begun", "w").close()
        time.sleep(1000)
    return number

@durable.step
def plain(item: int = 0) -> str:
    return "done"

@durable.step
def die() -> None:
    if not os.path.exists("died"):
        open("died", "w").close()
        os._exit(9)

@durable.workflow(id="crowded")
def crowded() -> list:
    futures = [beside.submit(number) for number in range(int(os.environ.get("COUNT", "3")))]
    while not os.path.exists("begun"):
        time.sleep(0.002)
    plain() if "MAP" not in os.environ else plain.map([])
    die()
    return [future.result() for future in futures]

durable.open("durable.db", threads=1)
try:
    print(crowded())
except durable.NonDeterminismError as error:
    print(durable.get("crowded").status, error)
"""


def crowded(folder, **changes):
    done = subprocess.run(
        [sys.executable, "-c", CROWDED],
        cwd=folder,
        env={**os.environ, **changes},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in {0, 9}, done.stderr
    return done.stdout


def test_a_submitted_step_that_no_thread_had_begun_when_the_process_died(tmp_path):
    """Later operations are in the journal, and this one is not: nothing was lost."""
    assert crowded(tmp_path) == ""
    assert crowded(tmp_path) == "[0, 1, 2]\n"


@pytest.mark.parametrize("changes", [{}, {"MAP": "1"}], ids=["step", "map"])
def test_what_takes_the_place_of_such_a_step_is_changed_code_and_no_loss(tmp_path, changes):
    assert crowded(tmp_path, **changes) == ""
    for _ in range(2):
        says = crowded(tmp_path, COUNT="2", **changes)
        what = "a map of step 'plain'" if changes else "step 'plain'"
        assert says.startswith(f"blocked the code called {what} at position 2 and waits for it"), says
        assert "step 'beside' at position 0 was under way" in says
        assert "put its code back" in says
    assert crowded(tmp_path, **changes) == "[0, 1, 2]\n"


def test_a_cancellation_is_told_only_when_the_body_has_come_as_far_as_it_had(journal):
    """Told at the submitted step, which has no outcome, it would never call what was called after that."""
    begun, dies = threading.Event(), threading.Event()

    @durable.step(name="slow")
    def slow():
        begun.set()
        dies.wait()
        journal.crash()

    @durable.step(name="quick")
    def quick():
        pass

    @durable.step(name="late")
    def late():
        pass

    @durable.workflow
    def flow():
        future = slow.submit()
        begun.wait()
        quick()
        dies.set()
        future.result()
        late()

    with pytest.raises(BaseException):  # noqa: B017 - `KeyboardInterrupt`, or what it makes of the run
        flow()
    journal.restart()
    (run,) = durable.runs()
    assert [(step.name, step.status) for step in run.steps()] == [("slow", "running"), ("quick", "completed")]
    run.cancel()
    with pytest.raises(durable.RunCancelledError):
        run.result()
    assert [(step.name, step.status) for step in run.steps()] == [
        ("slow", "completed"),
        ("quick", "completed"),
        ("late", "failed"),
    ]


# -- a submitted step that waits for a run -----------------------------------------------------------------------------


@pytest.fixture
def inner():
    @durable.step(name="leaf")
    def leaf(number):
        return number

    @durable.workflow(name="inner")
    def inner(number: int) -> int:
        return sum(leaf.map([number, 1]))

    return inner


@pytest.fixture(
    params=["start in a map", "start in a submitted step", "start in a step with a timeout", "call", "nested", "bare"]
)
def outer(inner, request):
    """Workflows whose steps wait for a run that may need a thread; each returns its argument and one more."""
    is_call, has_timeout = request.param in {"call", "nested"}, "timeout" in request.param

    @durable.step(name="process", timeout=60 if has_timeout else None)
    def process(number):
        return inner(number) if is_call else inner.start(number).result()

    @durable.workflow(name="between")
    def between(number: int) -> int:
        return process.submit(number).result()

    @durable.step(name="around")
    def around(number):
        return between(number)

    @durable.workflow(name="outer")
    def outer(number: int) -> int:
        if request.param == "nested":
            return around.map([number, number], concurrency=1)[1]
        if request.param == "bare":
            return process(number)
        return process.submit(number).result() if "submitted" in request.param else process.map([number] * 3)[2]

    return outer


def test_a_submitted_step_that_waits_for_a_run_lends_its_thread_and_that_of_its_run(journal, outer):
    journal.open(threads=1)
    runs = [outer.start(number) for number in range(5)]
    assert [run.result(timeout=30) for run in runs] == [1, 2, 3, 4, 5]
    assert outer(5) == 6


def test_a_step_that_waits_for_a_run_while_its_workflow_waits_for_another_lends_its_thread_once(journal, inner):
    """As many threads as there were are left afterwards, and no more."""

    @durable.step(name="process")
    def process(number):
        return inner.start(number).result()

    @durable.workflow(name="outer")
    def outer(number: int) -> int:
        future = process.submit(number)
        return inner.start(number).result() + future.result()

    engine = journal.open(threads=1)
    runs = [outer.start(number) for number in range(5)]
    assert [run.result(timeout=30) for run in runs] == [2, 4, 6, 8, 10]
    assert engine._scheduler._pool._size == engine._runtime.step_pool._size == 1


def test_what_was_cut_with_its_run_had_not_ended_when_the_body_asked_for_it_for_a_moment():
    """It has an outcome since, and the body heard of the cancellation at another operation, which it has yet to call."""

    def cut():
        raise durable.Cancelled

    told_later = {("", 6): types.SimpleNamespace(error=CANCELLED)}
    cleaned_up = {("", 6): types.SimpleNamespace(error=None)}
    for past, timeout, error in (
        (told_later, 0.0, TimeoutError),
        (told_later, None, durable.Cancelled),
        (cleaned_up, 0.0, durable.Cancelled),
        ({}, 0.0, durable.Cancelled),
    ):
        future = StepFuture("step")
        future._reader = types.SimpleNamespace(past=past)
        with pytest.raises(error):
            future.run(cut).result(timeout)

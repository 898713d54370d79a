"""What a plain call without an id has claimed: given back where it is interrupted, kept where its batch failed."""

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest

import durable
from durable import RunConflictError, _records, _requests, _transaction
from durable._claims import Claims
from durable._clock import Clock
from durable._retention import remove_all
from tests.behaviour.patience import PATIENCE, wait_until


@pytest.fixture
def held(journal):
    """A workflow whose step waits until it may go on, and that an earlier process has left."""

    class Held:
        def __init__(self):
            self.charged, self.go_on = [], threading.Event()

        def declare(self, **options):
            @durable.step(name="charge")
            def charge(item):
                self.charged.append(item)
                assert self.go_on.wait(PATIENCE)

            @durable.workflow(name="held", **options)
            def flow(item):
                journal.crash()
                charge(item)
                return durable.info().run_id

            @durable.workflow(name="held_async", **options)
            async def aflow(item):
                journal.crash()
                await asyncio.to_thread(charge, item)
                return durable.info().run_id

            return flow, aflow

    return Held()


class InterruptingClock(Clock):
    """Interrupts whoever waits."""

    @staticmethod
    def wait(event, seconds, patience=None):
        raise KeyboardInterrupt


def in_threads(*calls):
    """What becomes of calls in threads of their own: known by their place when they have ended."""
    found = {}

    def carry_out(place, call):
        try:
            found[place] = call()
        except Exception as error:
            found[place] = type(error)

    threads = [threading.Thread(target=carry_out, args=each) for each in enumerate(calls)]
    for thread in threads:
        thread.start()
    return threads, found


def in_one_batch(journal, *calls, then=lambda: None):
    """What becomes of calls that are committed together, in this order, and of which one may be refused.

    `then`: what is done when all of them wait for the commit.
    """
    commits = journal.engine._runtime.journal.commits
    writing, go_on = threading.Event(), threading.Event()

    def hold(_):
        writing.set()
        go_on.wait(PATIENCE)

    holder = threading.Thread(target=commits.write, args=(hold, False))
    holder.start()
    assert writing.wait(PATIENCE)
    begun = []
    for call in calls:
        begun.append(in_threads(call))
        wait_until(lambda: len(commits._queue) == len(begun))
    then()
    go_on.set()
    for threads, _ in begun:
        threads[0].join(PATIENCE)
    holder.join(PATIENCE)
    return [found[0] for _, found in begun]


@pytest.mark.parametrize("left_by", ["an earlier owner", "an interrupted call", "a resume", "a resume that has ended"])
def test_a_call_whose_batch_failed_goes_on_with_the_run_that_it_has_claimed(journal, held, left_by):
    @durable.workflow(id="one")
    def one(number): ...

    flow, _ = held.declare()
    one(1)
    with pytest.raises(KeyboardInterrupt):
        flow("x")
    (run,) = durable.runs(workflow=flow)
    if left_by == "an interrupted call":
        journal.crashing = False
    else:
        journal.restart()
        one(1)
    if left_by != "a resume":
        held.go_on.set()
    if left_by.startswith("a resume"):
        durable.resume(wait=left_by == "a resume that has ended")
        wait_until(lambda: held.charged)
    calls = [lambda: flow("x"), lambda: flow("x"), lambda: one(2)]
    meant, other, refused = in_one_batch(journal, *calls, then=held.go_on.set)
    assert refused is RunConflictError
    assert meant == run.id
    assert other != run.id
    assert sorted(each.id for each in durable.runs(workflow=flow)) == sorted([meant, other])


def test_a_call_whose_batch_failed_and_that_fails_by_itself_has_claimed_nothing(journal, held, monkeypatch):
    flow, _ = held.declare()
    with pytest.raises(KeyboardInterrupt):
        flow("x")
    journal.restart()
    held.go_on.set()
    (run,) = durable.resume(wait=True)
    runtime, tries = journal.engine._runtime, []
    admit = runtime.admit

    def fail(_):
        raise LookupError

    def admit_once(request, mine):
        def work(transaction):
            tries.append(admitted(transaction))
            if len(tries) == 2:
                raise OSError

        admitted = admit(request, mine)
        return work

    with monkeypatch.context() as patch:
        patch.setattr(runtime, "admit", admit_once)
        assert in_one_batch(journal, lambda: flow("x"), lambda: runtime.journal.write(fail)) == [OSError, LookupError]
    assert flow("x") == run.id
    assert flow("x") != run.id


@pytest.mark.parametrize("has_ended", [False, True])
def test_a_call_that_waits_for_a_resumed_run_and_is_interrupted_gives_its_claim_back(
    journal, held, monkeypatch, has_ended
):
    flow, _ = held.declare()
    with pytest.raises(KeyboardInterrupt):
        flow("x")
    journal.restart()
    (run,) = durable.resume()
    wait_until(lambda: held.charged == ["x"])

    with monkeypatch.context() as patch:
        patch.setattr(journal.engine._runtime, "clock", InterruptingClock())
        with pytest.raises(KeyboardInterrupt):
            flow("x")
    threading.Timer(0.0 if has_ended else 0.2, held.go_on.set).start()
    if has_ended:
        run.result(PATIENCE)
    assert flow("x") == run.id
    assert held.charged == ["x"]
    assert flow("x") != run.id  # it was claimed


def test_of_two_interrupted_calls_the_next_two_go_on_with_one_each(journal, run_async):
    @durable.workflow
    async def flow():
        if journal.crashing:
            await asyncio.Event().wait()
        return durable.info().run_id

    async def interrupted():
        under_way = asyncio.gather(flow(), flow())
        await asyncio.to_thread(wait_until, lambda: len(durable.runs()) == 2)
        under_way.cancel()
        with pytest.raises(asyncio.CancelledError):
            await under_way

    async def calls():
        return [await flow() for _ in range(2)]

    run_async(interrupted())
    journal.crashing = False
    assert run_async(calls()) == [run.id for run in reversed(list(durable.runs()))]


def test_a_resumed_run_that_was_deleted_is_claimed_by_nobody(journal):
    @durable.workflow
    def flow():
        journal.crash()
        return durable.info().run_id

    for _ in range(2):
        with pytest.raises(durable.RunInterruptedError):
            flow.start().result(PATIENCE)
    journal.restart()
    durable.resume(wait=True)
    newer, older = durable.runs()
    file = journal.engine._runtime.journal
    assert list(remove_all(file.write, [file.run(older.id)])) == [1]
    assert flow() == newer.id
    assert flow() not in {newer.id, older.id}


@pytest.mark.parametrize("has_ended", [False, True])
def test_a_task_that_awaits_a_resumed_run_and_is_cancelled_gives_its_claim_back(journal, held, run_async, has_ended):
    _, flow = held.declare()
    with pytest.raises(KeyboardInterrupt):
        run_async(flow("x"))
    journal.restart()
    (run,) = durable.resume()
    wait_until(lambda: held.charged == ["x"])

    async def main():
        waiting = asyncio.create_task(flow("x"))
        await asyncio.to_thread(wait_until, lambda: journal.engine._runtime.active[run.id]._watchers)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        threading.Timer(0.0 if has_ended else 0.2, held.go_on.set).start()
        if has_ended:
            await run
        return await flow("x"), await flow("x")

    again, another = run_async(main())
    assert again == run.id != another
    assert held.charged == ["x", "x"]


def test_a_call_by_the_id_of_a_resumed_run_claims_nothing_and_has_nothing_to_give_back(journal, held, monkeypatch):
    flow, _ = held.declare()
    with pytest.raises(KeyboardInterrupt):
        flow("x")
    journal.restart()
    (run,) = durable.resume()
    wait_until(lambda: held.charged == ["x"])
    threads, found = in_threads(lambda: flow("x"))
    wait_until(lambda: journal.engine._runtime.active[run.id]._watchers)

    with monkeypatch.context() as patch:
        patch.setattr(journal.engine._runtime, "clock", InterruptingClock())
        with pytest.raises(KeyboardInterrupt):
            flow.with_options(id=run.id)("x")
    held.go_on.set()
    assert flow("x") != run.id
    threads[0].join(PATIENCE)
    assert found[0] == run.id


def test_a_resumed_run_that_has_not_begun_is_claimed_once(journal, held):
    flow, _ = held.declare(concurrency=1)
    with pytest.raises(KeyboardInterrupt):
        flow("x")
    journal.restart()
    flow.start("holder")
    wait_until(lambda: held.charged == ["holder"])
    (run,) = durable.resume()
    threads, found = in_threads(lambda: flow("x"), lambda: flow("x"))
    wait_until(lambda: len(durable.runs(workflow=flow)) == 3)
    held.go_on.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert run.id in found.values()
    assert len(set(found.values())) == 2


def retry_by_visitor(journal, run_id):
    """As another process does."""
    with durable._engine.Journal(str(journal.path)).visiting() as write:
        write(_requests.retry(run_id, time.time(), trust_journal=False))


@pytest.fixture
def failing(journal):
    """A workflow of a step that counts its calls, and of one that fails until it is mended."""

    class Failing:
        def __init__(self):
            self.charged, self.is_mended = [], False

        def declare(self, **options):
            @durable.step(name="charge")
            def charge(item):
                self.charged.append(item)

            @durable.step(name="ship", retry=None)
            def ship(item):
                if not self.is_mended:
                    raise ValueError(item)
                journal.crash()
                return durable.info().run_id

            @durable.workflow(name="failing", **options)
            def flow(item):
                charge(item)
                return ship(item)

            return flow

    return Failing()


@pytest.mark.parametrize("is_visitor", [False, True])
@pytest.mark.parametrize("is_resumed", [False, True])
def test_a_plain_call_goes_on_with_a_run_that_was_retried_and_then_left(journal, failing, is_visitor, is_resumed):
    flow = failing.declare()
    with pytest.raises(ValueError):
        flow("x")
    journal.restart()
    journal.crashing = failing.is_mended = True
    (run,) = durable.runs()
    if is_visitor:
        retry_by_visitor(journal, run.id)
    else:
        run.retry()
        with pytest.raises(durable.RunInterruptedError):
            run.result(PATIENCE)
    journal.restart()
    if is_resumed:
        durable.resume(wait=True)
    assert flow("x") == run.id
    assert failing.charged == ["x"]
    assert flow("x") != run.id


def test_a_plain_call_goes_on_with_no_run_that_failed(journal, failing):
    flow = failing.declare()
    with pytest.raises(ValueError):
        flow("x")
    journal.restart()
    failing.is_mended = True
    (run,) = durable.runs()
    assert flow("x") != run.id
    assert run.status == "failed"


@pytest.mark.parametrize("is_visitor", [False, True])
def test_a_plain_call_does_not_go_on_with_a_run_of_this_process_that_was_retried(journal, failing, is_visitor):
    flow = failing.declare()
    with pytest.raises(ValueError):
        flow("x")
    journal.crashing, failing.is_mended = False, True
    (run,) = durable.runs()
    if is_visitor:
        retry_by_visitor(journal, run.id)
    else:
        run.retry()
    assert run.result(PATIENCE) == run.id
    assert flow("x") != run.id


def test_a_run_with_an_id_of_the_users_that_was_retried_is_not_claimed_by_a_call_without(journal, failing):
    flow = failing.declare()
    with pytest.raises(ValueError):
        flow.with_options(id="a")("x")
    journal.crashing = failing.is_mended = True
    durable.get("a").retry()
    with pytest.raises(durable.RunInterruptedError):
        durable.get("a").result(PATIENCE)
    journal.restart()
    assert flow("x") != "a"
    assert durable.get("a").status == "interrupted"


@pytest.fixture
def looked_at(monkeypatch):
    """The records of runs that calls have read to find theirs."""
    read = []

    def run_from(row):
        read.append(row)
        return _records.run_from(row)

    monkeypatch.setattr(_transaction, "run_from", run_from)
    return read


def test_equal_calls_at_once_look_at_few_runs_each(journal, run_async, looked_at):
    count, began, all_have_begun = 60, [], asyncio.Event()

    @durable.workflow
    async def flow():
        began.append(durable.info().run_id)
        if len(began) == count:
            all_have_begun.set()
        await (asyncio.Event() if journal.crashing else all_have_begun).wait()
        return durable.info().run_id

    async def calls():
        return await asyncio.gather(*(flow() for _ in range(count)))

    async def die():
        under_way = asyncio.create_task(calls())
        await all_have_begun.wait()
        under_way.cancel()
        with pytest.raises(asyncio.CancelledError):
            await under_way

    run_async(die())
    assert len(looked_at) < 3 * count, "of runs that are under way"
    left = [run.id for run in reversed(list(durable.runs()))]
    journal.restart()
    began.clear()
    looked_at.clear()
    all_have_begun = asyncio.Event()
    assert sorted(run_async(calls())) == sorted(left)
    assert len(looked_at) < 4 * count, "of runs that were left"


def test_a_run_that_resume_set_going_is_for_the_next_call_where_it_ended_just_before_its_own_was_interrupted():
    claims, ended = Claims(), SimpleNamespace(id="run", seq=1, claim=None)
    transaction = SimpleNamespace(oldest_left=lambda *_, **_options: None, run_of_id={"run": ended}.get)

    def for_a_call():
        return claims.oldest(transaction, "claim", 2, (), before=2)

    claims.resume("claim", ended)
    assert for_a_call() is ended
    claims.take("claim", "run")
    claims.forget("claim", "run")
    assert for_a_call() is None
    claims.give_back("claim", "run")
    assert for_a_call() is ended


def left_before(journal):
    """The key below which this engine looks for what earlier owners left; it owns its journal from the first call on."""
    flow = durable.workflow(name="looks_for_nothing")(lambda: None)
    flow()
    return durable.open(journal.path)._runtime.journal.left_before


def test_where_earlier_owners_left_nothing_no_call_looks_for_it(journal):
    @durable.workflow
    def flow(fails):
        journal.crash()
        if fails:
            raise ValueError
        return durable.info().run_id

    journal.crashing = False
    for _ in range(3):
        flow(fails=False)
    journal.restart()
    assert left_before(journal) == 0, "all have ended"
    with pytest.raises(ValueError):
        flow(fails=True)
    journal.restart()
    assert left_before(journal) > 5, "the fifth run has failed, and may go on when it is retried"

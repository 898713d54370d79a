"""Retrying a run that failed with what it went on after, and one that failed with a run that it started."""

import asyncio
import contextlib
import sqlite3
import threading
import time

import pytest

import durable
from durable import _going_back
from tests.behaviour.patience import wait_until

PATIENCE = 60


class Down(Exception):
    pass


@pytest.fixture
def broken():
    """The numbers of the kids that fail."""
    return {1, 2}


@pytest.fixture
def kid(journal, broken):
    @durable.step(name="pay", retry=None)
    def pay(n):
        if n in broken:
            raise Down("down" if n < 3 else f"down {n}")
        return f"paid {n}"

    @durable.workflow(name="kid", id="kid-{n}")
    def kid(n):
        return pay(n)

    return kid


def failed(flow, error=Down):
    run = flow.start()
    with pytest.raises(error):
        run.result(PATIENCE)
    wait_until(lambda: set(statuses().values()) <= {"completed", "failed"})
    return run


def statuses():
    return {run.id: run.status for run in durable.runs()}


# -- the run failed with what it went on after -------------------------------------------------------------------------


@pytest.mark.parametrize("is_wrapped", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_run_that_failed_with_what_it_caught_is_not_retried_from_what_failed_after_it(
    journal, asynchronous, is_wrapped
):
    sent = []

    def book_body():
        raise ValueError("sold out")

    def mail_body():
        sent.append(1)
        raise ConnectionError("after the mail was accepted")

    if asynchronous:

        @durable.step(name="book", retry=None)
        async def book():
            book_body()

        @durable.step(name="mail", retry=None)
        async def mail():
            mail_body()

        @durable.workflow(id="trip")
        async def trip():
            try:
                await book()
            except ValueError as error:
                with pytest.raises(ConnectionError):
                    await mail()
                if is_wrapped:
                    raise Down from error
                raise
    else:
        book = durable.step(name="book", retry=None)(book_body)
        mail = durable.step(name="mail", at_most_once=True, retry=None)(mail_body)

        @durable.workflow(id="trip")
        def trip():
            try:
                book()
            except ValueError as error:
                with pytest.raises(ConnectionError):
                    mail()
                if is_wrapped:
                    raise Down from error
                raise

    run = failed(trip, Down if is_wrapped else ValueError)
    with pytest.raises(durable.RunConflictError, match=r"after step 'book' failed at position 0.*fork\(from_step=1\)"):
        run.retry()
    assert (run.status, len(run.steps()), sent) == ("failed", 2, [1])


async def in_group(*coroutines):
    async with asyncio.TaskGroup() as group:
        for each in coroutines:
            group.create_task(each)


async def one_by_one(*coroutines):
    for each in coroutines:
        await asyncio.create_task(each)


@pytest.fixture
def shop(journal):
    """Tasks that charge and that clean up, by steps that block the loop or do not; a charge fails."""

    class Shop:
        is_down = True

        def tasks(self, *, blocking):
            if blocking:
                pay = durable.step(name="pay", retry=None)(self.pay)
                release = durable.step(name="release")(lambda n: n)

                async def charge(n):
                    return await asyncio.to_thread(pay, n)

                async def clean_up(n):
                    return release(n)
            else:

                @durable.step(name="pay", retry=None)
                async def pay(n):
                    return self.pay(n)

                @durable.step(name="release")
                async def release(n):
                    return n

                async def charge(n):
                    return await pay(n)

                async def clean_up(n):
                    return await release(n)

            return charge, clean_up

        def pay(self, n):
            if self.is_down:
                raise Down(f"down {n}")
            return n

    return Shop()


@pytest.mark.parametrize("is_left", [False, True])
@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("together", [asyncio.gather, in_group, one_by_one])
def test_a_run_that_cleaned_up_in_new_tasks_after_a_failure_is_not_retried(journal, shop, together, blocking, is_left):
    charge, clean_up = shop.tasks(blocking=blocking)

    @durable.workflow(id="run")
    async def flow():
        try:
            await asyncio.gather(charge(1))
        finally:
            await together(clean_up(1), clean_up(2))
            if is_left:
                journal.crash()

    if is_left:
        with pytest.raises(durable.RunInterruptedError):
            flow.start().result(PATIENCE)
        journal.restart()
    run = failed(flow)
    with pytest.raises(durable.RunConflictError, match=r"went on after step 'pay' failed at .*fork\(from_step=1\)"):
        run.retry()
    assert (run.status, len(run.steps())) == ("failed", 3)


def test_a_run_whose_tasks_went_on_after_one_of_them_had_failed_is_retried_from_there(journal, shop):
    charge, _ = shop.tasks(blocking=False)
    slots = asyncio.Semaphore(2)

    @durable.step
    async def fetch(n):
        return n

    async def one(n):
        async with slots:
            return await (charge if n == 1 else fetch)(n)

    @durable.workflow(id="run")
    async def flow():
        found = await asyncio.gather(*map(one, range(6)), return_exceptions=True)
        for each in found:
            if isinstance(each, Exception):
                raise each
        return found

    run = failed(flow)
    shop.is_down = False
    run.retry()
    assert run.result(PATIENCE) == list(range(6))


def test_an_async_run_of_sync_steps_that_went_on_after_a_failure_in_a_task_is_not_retried(journal, shop):
    pay, release = durable.step(name="pay", retry=None)(shop.pay), durable.step(name="release")(lambda n: n)

    async def charge(n):
        return pay(n)

    async def clean_up(n):
        return release(n)

    @durable.workflow(id="run")
    async def flow():
        try:
            await asyncio.gather(charge(1))
        finally:
            await asyncio.gather(clean_up(1))

    run = failed(flow)
    with pytest.raises(durable.RunConflictError, match=r"went on after step 'pay' failed at .*fork\(from_step=1\)"):
        run.retry()


@pytest.mark.parametrize("raised", [0, 2])
def test_siblings_that_failed_are_repeated_whichever_of_them_the_run_failed_with(journal, raised):
    is_broken = [True]

    @durable.step(retry=None)
    async def work(n):
        await asyncio.sleep(0.05)  # until all of them were called
        if is_broken:
            raise Down(n)
        return n

    @durable.workflow(id="run")
    async def flow():
        results = await asyncio.gather(*map(work, range(3)), return_exceptions=True)
        if isinstance(results[raised], Exception):
            raise results[raised]
        return results

    run = failed(flow)
    is_broken.clear()
    run.retry()
    assert run.result(PATIENCE) == [0, 1, 2]


# -- the run failed with a run that it started ------------------------------------------------------------------------


def test_started_children_that_failed_and_the_run_with_them_are_retried_with_it(kid, broken):
    @durable.workflow(id="parent")
    def parent():
        return [run.result() for run in kid.start_many([0, 1, 2])]

    run = failed(parent)
    broken.clear()
    run.retry()
    assert run.result(PATIENCE) == ["paid 0", "paid 1", "paid 2"]
    assert set(statuses().values()) == {"completed"}


@pytest.mark.parametrize("how", ["gather", "group", "one by one", "cause"])
def test_an_async_run_goes_on_with_the_child_that_it_started(kid, broken, how):
    @durable.step(retry=None)
    async def slow(n):
        await asyncio.sleep(n)
        return n

    async def begun(n):
        return await kid.start(n)

    @durable.workflow(id="parent")
    async def parent():
        if how == "gather":
            return await asyncio.gather(*kid.start_many([1, 3]))
        if how == "group":
            async with asyncio.TaskGroup() as group:
                waiting = group.create_task(slow(0 if not broken else 3600))  # begun before the other fails
                begins = group.create_task(begun(1))
            return [begins.result(), waiting.result()]
        try:
            return [await run for run in kid.start_many([1, 3])]
        except Down as error:
            if how == "cause":
                raise ValueError("wrapped") from error
            raise

    run = failed(parent, (Down, ValueError, ExceptionGroup))
    broken.clear()
    run.retry()
    assert run.result(PATIENCE) == ["paid 1", 0 if how == "group" else "paid 3"]


def test_a_started_child_that_failed_by_itself_stays_as_it_is(kid, broken):
    @durable.step(retry=None)
    def own():
        if broken:
            raise ValueError("own")
        return "done"

    @durable.workflow(id="parent")
    def parent():
        with pytest.raises(Down):
            kid.start(1).result()
        return own()

    run = failed(parent, ValueError)
    broken.clear()
    run.retry()
    assert run.result(PATIENCE)
    assert statuses() == {"parent": "completed", "kid-1": "failed"}


def test_a_failure_that_was_caught_stays_where_a_started_child_is_retried(kid, broken):
    tries = []

    @durable.step(retry=None)
    def first():
        tries.append(1)
        raise Down("down")  # the same

    @durable.workflow(id="parent")
    def parent():
        with pytest.raises(Down):
            first()
        return kid.start(1).result()

    run = failed(parent)
    broken.clear()
    run.retry()
    assert run.result(PATIENCE) == "paid 1"
    assert tries == [1]


def test_a_run_that_went_on_after_the_failure_of_what_it_started_is_not_retried(kid, broken):
    """It may have made up for it, and then a child that succeeds would leave that in the journal."""

    @durable.step
    def refund(): ...

    @durable.workflow(id="parent")
    def parent():
        try:
            kid.start(0).result()
            return kid.start(1).result()
        except Down:
            refund()
            raise

    run = failed(parent)
    broken.clear()
    with pytest.raises(durable.RunConflictError, match="after the run of workflow .kid. that it started"):
        run.retry()
    assert statuses() == {"parent": "failed", "kid-0": "completed", "kid-1": "failed"}
    durable.get("kid-1").retry()
    assert durable.get("kid-1").result(PATIENCE) == "paid 1"


@pytest.mark.parametrize("way", ["sync", "async", "task"])
def test_a_run_that_started_another_one_after_the_failure_of_what_it_started_is_not_retried(kid, broken, way):
    """The journal has both as started, and a retry would not come to the second one."""

    @durable.workflow(id="parent")
    def parent():
        try:
            return kid.start(1).result()
        except Down:
            kid.start(0).result()
            raise

    @durable.workflow(id="parent")
    async def parent_async():
        child = kid.start(1)
        try:
            return await (asyncio.ensure_future(child) if way == "task" else child)
        finally:
            await kid.start(0)

    run = failed(parent if way == "sync" else parent_async)
    broken.clear()
    with pytest.raises(durable.RunConflictError, match="after the run of workflow .kid. that it started"):
        run.retry()
    assert statuses() == {"parent": "failed", "kid-0": "completed", "kid-1": "failed"}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_run_that_started_another_one_beside_what_failed_is_retried(kid, broken, asynchronous):
    """That one had failed before, but the code had not heard of it."""

    def started():
        first = kid.start(1)
        wait_until(lambda: durable.get("kid-1").status != "running")
        return first, kid.start(0)

    @durable.workflow(id="parent")
    def parent():
        return [run.result() for run in started()]

    @durable.workflow(id="parent")
    async def parent_async():
        return await asyncio.gather(*started())

    run = failed(parent_async if asynchronous else parent)
    broken.clear()
    run.retry()
    assert run.result(PATIENCE) == ["paid 1", "paid 0"]


def test_a_run_goes_on_where_another_task_started_a_run_after_a_failure(kid, broken):
    """The tasks side by side have nothing to do with each other."""
    heard = asyncio.Event()

    @durable.step
    async def work():
        await heard.wait()

    @durable.workflow(id="parent")
    async def parent():
        async def first():
            try:
                return await kid.start(1)
            finally:
                heard.set()

        async def second():
            await work()
            return await kid.start(0)

        one, other = await asyncio.gather(first(), second(), return_exceptions=True)
        if isinstance(one, Exception):
            raise one
        return [one, other]

    run = failed(parent)
    broken.clear()
    run.retry()
    assert run.result(PATIENCE) == ["paid 1", "paid 0"]


def test_where_a_started_child_cannot_be_retried_nothing_is(kid, broken):
    @durable.step
    def tidy(): ...

    @durable.workflow(id="untidy")
    def untidy():
        try:
            kid(2)
        finally:
            tidy()

    @durable.workflow(id="parent")
    def parent():
        runs = [kid.start(1), untidy.start()]
        return [run.result() for run in runs]

    run = failed(parent)
    before = statuses()
    assert set(before.values()) == {"failed"}
    with pytest.raises(durable.RunConflictError, match="run untidy of .* went on after workflow 'kid' failed"):
        run.retry()
    assert statuses() == before


def test_a_child_that_failed_is_retried_where_others_of_the_same_inputs_did_not(journal):
    ended = []

    @durable.step(retry=None)
    def work(n):
        ended.append(n)
        if len(ended) == 2:
            raise ConnectionError
        return len(ended)

    @durable.workflow
    def child(n):
        return work(n)

    @durable.workflow(id="parent")
    def parent():
        return [child.with_options(id=f"child-{number}")(1) for number in range(2)]

    with pytest.raises(ConnectionError):
        parent()
    durable.get("parent").retry()
    assert durable.get("parent").result() == [1, 3]


def test_a_thread_that_a_timeout_cut_is_attempted_again(journal, run_async):
    seconds = [0.5, 0.0]

    @durable.step(retry=None)
    def slow():
        time.sleep(seconds.pop(0))
        return "done"

    @durable.workflow(id="run")
    async def flow():
        async with asyncio.timeout(0.1):
            return await asyncio.to_thread(slow)

    with pytest.raises(TimeoutError):
        run_async(flow())
    durable.get("run").retry()
    assert durable.get("run").result() == "done"


# -- what was sent to it and not read ----------------------------------------------------------------------------------


def test_a_signal_that_a_failed_run_had_not_read_is_read_when_it_is_retried(journal):
    answers = [Down("down"), None]

    @durable.step(retry=None)
    def ask():
        if (error := answers.pop(0)) is not None:
            raise error

    @durable.step
    def wait_for_the_test():
        assert sent.wait(PATIENCE)

    @durable.workflow
    def flow():
        wait_for_the_test()
        ask()
        return durable.wait_for_signal("paid", int), durable.wait_for_signal("paid", int)

    sent = threading.Event()
    run = flow.start()
    run.signal("paid", 1)
    run.signal("paid", 2)
    sent.set()
    with pytest.raises(Down):
        run.result(PATIENCE)
    with pytest.raises(durable.RunFinishedError):
        run.signal("paid", 3)
    run.retry()
    assert run.result(PATIENCE) == (1, 2)


@pytest.mark.parametrize("how", ["completed", "cancelled"])
def test_what_a_run_had_not_read_goes_with_it_when_it_has_ended_for_good(journal, how):
    @durable.workflow
    def flow():
        durable.wait_for_signal("go")

    run = flow.start()
    run.signal("never read", 1)
    run.cancel() if how == "cancelled" else run.signal("go")
    with contextlib.suppress(durable.RunCancelledError):
        run.result(PATIENCE)
    assert run.status == how
    durable.close()
    with contextlib.closing(sqlite3.connect(journal.path)) as connection:
        assert connection.execute("SELECT * FROM durable_message").fetchall() == []


def test_a_retry_looks_at_the_timeouts_near_what_they_cut_and_not_at_each_for_each(journal, run_async, monkeypatch):
    tasks, looked, is_slow = 40, [], True
    monkeypatch.setattr(_going_back._Fired, "may_have_cut", _counting(_going_back._Fired.may_have_cut, looked))

    @durable.step(retry=None)
    async def fetch(n):
        if is_slow:
            await asyncio.sleep(PATIENCE)
        return n

    async def within_time(n):
        async with asyncio.timeout(0.01 if is_slow else PATIENCE):
            return await fetch(n)

    @durable.workflow(id="run")
    async def flow():
        found = await asyncio.gather(*map(within_time, range(tasks)), return_exceptions=True)
        for error in found:
            if isinstance(error, BaseException):
                raise error
        return sum(found)

    with pytest.raises(TimeoutError):
        run_async(flow())
    is_slow = False
    run = durable.get("run")
    run.retry()
    assert run.result(PATIENCE) == sum(range(tasks))
    assert len(looked) < 10 * tasks


def _counting(function, calls):
    def counted(*args):
        calls.append(args)
        return function(*args)

    return counted

"""What `durable check` says of a run, told in this process: how far its code agrees with what the journal has."""

import asyncio
import sqlite3
import threading
import time
from contextlib import closing, suppress

import pytest

import durable
from durable import _rehearsal, _runtime
from durable._engine import REGISTRY
from durable._rehearsal import Rehearsals
from durable._stand_ins import Sealed
from durable.cli._reader import Reader
from tests.behaviour.patience import PATIENCE, wait_until


@pytest.fixture
def check(journal):
    """What would become of a run, which was interrupted: no step is run for that, and nothing written."""

    def check(run_id, seconds=PATIENCE):
        journal.engine.close()
        journal.crashing = False
        called, reader = list(CALLED), Reader(str(journal.path))
        before = files(journal.path.parent)
        try:
            return Rehearsals(reader, REGISTRY, seconds).of(reader.run(run_id))
        finally:
            reader.close(None)
            assert files(journal.path.parent) == before
            assert called == CALLED

    CALLED.clear()
    return check


CALLED = []


def files(folder):
    """Every file with its bytes; the index of the WAL, which readers mark their place in, only by name."""
    return {path.name: b"" if path.name.endswith("-shm") else path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def note():
    @durable.step(name="note", retry=None)
    def note(text):
        CALLED.append(text)
        return text

    return note


@pytest.fixture
def fetch():
    @durable.step(name="fetch", retry=None)
    async def fetch(text):
        CALLED.append(text)
        return text

    return fetch


def interrupted(call):
    with pytest.raises((KeyboardInterrupt, durable.RunInterruptedError)):
        call()


def asynchronously(flow):
    with asyncio.Runner() as runner:
        return runner.get_loop().run_until_complete(flow())


def what_happens(journal, run_id):
    journal.restart()
    durable.resume(wait=True)
    return durable.get(run_id).status


# -- where the journal ends ---------------------------------------------------------------------------------------------


def test_a_sync_run_that_waits_for_a_step_which_it_has_newly_submitted_goes_on(journal, check, note):
    @durable.workflow(id="one")
    def flow():
        note("first")
        journal.crash()
        return note.submit("second").result()

    interrupted(flow)
    assert check("one").is_what == "goes on"
    assert what_happens(journal, "one") == "completed"


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("new", ["a time", "a step that blocks the loop", "a thread"])
def test_an_async_run_that_comes_to_something_new_has_called_everything_before(journal, check, note, fetch, new, late):
    @durable.workflow(id="one")
    async def flow():
        async def again():
            return await fetch("second")

        await fetch("first")
        if journal.crashing or not late:
            await asyncio.create_task(again())
        journal.crash()
        if new == "a time":
            durable.now()
        elif new == "a thread":
            await asyncio.to_thread(note, "new")
        else:
            note("new")
        if late:
            await asyncio.create_task(again())

    interrupted(lambda: asynchronously(flow))
    verdict = check("one")
    assert verdict.is_what == ("would block" if late else "goes on"), verdict
    assert what_happens(journal, "one") == ("blocked" if late else "completed")


def test_a_body_that_would_fail_with_what_the_journal_has_goes_on(journal, check, note):
    @durable.workflow(id="one")
    def flow():
        note("first")
        journal.crash()
        raise ValueError

    interrupted(flow)
    assert check("one").is_what == "goes on"


def test_a_body_that_takes_long_beyond_the_journal_goes_on(journal, check, note):
    beyond, over = threading.Event(), threading.Event()

    @durable.workflow(id="one")
    def flow():
        note("first")
        journal.crash()
        beyond.set()
        while not over.is_set():
            time.sleep(0.001)

    interrupted(flow)
    seconds = 0.1
    while not beyond.is_set():
        verdict, seconds = check("one", seconds), 2 * seconds
    over.set()
    assert verdict.is_what == "goes on"


def test_a_run_in_which_the_process_died_too_often_would_block_again(journal, check, monkeypatch):
    monkeypatch.setattr(_runtime, "MAXIMUM_CRASHES", 1)
    monkeypatch.setattr(_rehearsal, "MAXIMUM_CRASHES", 1)

    @durable.workflow(id="one")
    def flow():
        journal.crash()

    interrupted(flow)
    monkeypatch.setattr(_runtime.Transaction, "closed_cleanly", lambda *_: False)
    journal.restart()
    with pytest.raises(durable.RunBlockedError):
        flow()
    is_what, why = check("one")
    assert is_what == "would block"
    assert "the process died 1 times in a row" in why


# -- tasks that wait ----------------------------------------------------------------------------------------------------


def test_a_task_that_came_to_the_end_may_be_cancelled_by_another(journal, check, fetch):
    async def new():
        await fetch("new")

    @durable.workflow(id="one")
    async def flow():
        await fetch("old")
        journal.crash()
        task = asyncio.create_task(new())
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, new(), return_exceptions=True)

    interrupted(lambda: asynchronously(flow))
    assert check("one").is_what == "goes on"
    assert what_happens(journal, "one") == "completed"


def test_what_a_task_calls_wrongly_after_another_came_to_the_end_is_told(journal, check, fetch):
    async def at_the_end():
        if not journal.crashing:
            await fetch("new")

    async def changed():
        await fetch("first")
        await fetch("second" if journal.crashing else "another")

    @durable.workflow(id="one")
    async def flow():
        await asyncio.gather(at_the_end(), changed())
        journal.crash()

    interrupted(lambda: asynchronously(flow))
    is_what, why = check("one")
    assert is_what == "would block"
    assert "fetch" in why
    assert what_happens(journal, "one") == "blocked"


# -- other runs -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def other(journal, note):
    """A run that was interrupted, and that another may ask for."""

    @durable.workflow(name="other", id="other")
    def other():
        note("other")
        journal.crash()

    interrupted(other)
    return other


def undeclare(workflow):
    del REGISTRY.workflows[workflow.name]


@pytest.mark.parametrize("is_declared", [False, True])
def test_a_run_whose_child_would_stop_may_stop_with_it(journal, check, note, is_declared):
    def declare(text):
        @durable.workflow(name="child", id="child")
        def child():
            note(text)
            journal.crash()

        return child

    @durable.workflow(id="one")
    def flow():
        run = child.start()
        if journal.crashing:
            wait_until(lambda: run.status == "interrupted")
        journal.crash()
        note("new")

    child = declare("old")
    interrupted(flow)
    if is_declared:
        declare("changed")
    else:
        undeclare(child)
    is_what, why = check("one")
    assert is_what == "unclear"
    which = "would block: " if is_declared else "is of a workflow that is not declared"
    assert f"if it waits for run 'child', it stops with that one, which {which}" in why


@pytest.mark.parametrize("is_declared", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_run_that_waits_for_another_stops_where_that_one_cannot_go_on(journal, check, other, is_async, is_declared):
    if is_async:

        @durable.workflow(id="one")
        async def flow():
            journal.crash()
            await durable.get("other")

        interrupted(lambda: asynchronously(flow))
    else:

        @durable.workflow(id="one")
        def flow():
            journal.crash()
            durable.get("other").result()

        interrupted(flow)
    if not is_declared:
        undeclare(other)
    is_what, why = check("one")
    assert is_what == ("goes on" if is_declared else "would block")
    assert is_declared or why == "it waits for run 'other', which is of a workflow that is not declared"
    with suppress(RuntimeWarning):
        assert what_happens(journal, "one") == ("completed" if is_declared else "interrupted")


@pytest.mark.parametrize("has", ["another step", "a cut"])
def test_a_task_that_first_waits_for_another_run_may_do_the_rest_when_that_has_ended(journal, check, fetch, other, has):
    """Whether that run has ended by then nobody knows."""
    is_cut = asyncio.Event()

    @durable.step(name="endless", retry=None)
    async def endless():
        await asyncio.sleep(PATIENCE)

    @durable.step(name="slow", retry=None)
    async def slow():
        await is_cut.wait()

    @durable.workflow(id="one")
    async def flow():
        cut, after = asyncio.create_task(endless()), asyncio.create_task(slow())
        await fetch("first")
        if not journal.crashing:
            await durable.get("other")
        if has == "another step":
            await fetch("second")
        cut.cancel()
        with suppress(asyncio.CancelledError):
            await cut
        is_cut.set()
        await after  # with which it is written that the other was cut
        journal.crash()

    interrupted(lambda: asynchronously(flow))
    is_what, why = check("one")
    assert is_what == "unclear"
    what = "has not called step 'fetch'" if has == "another step" else "has not cut step 'endless'"
    assert f"the code waits for run 'other', and {what}" in why


def test_a_task_that_waits_for_something_outside_is_given_its_time(journal, check, fetch, other):
    """Another task waits for a run meanwhile, which is its end here."""

    async def for_another_run():
        if not journal.crashing:
            await durable.get("other")

    async def for_something_outside():
        await asyncio.sleep(0 if journal.crashing else 0.2)
        await fetch("old")

    @durable.workflow(id="one")
    async def flow():
        await asyncio.gather(for_another_run(), for_something_outside())
        journal.crash()

    interrupted(lambda: asynchronously(flow))
    assert check("one").is_what == "goes on"
    assert what_happens(journal, "one") == "completed"


def test_a_run_that_is_to_be_cancelled_does_not_stop_with_the_one_that_it_waits_for(journal, check, note, fetch, other):
    """It is told so when it has come to the end of the journal."""

    @durable.workflow(id="one")
    async def flow():
        await fetch("first")
        journal.crash()
        try:
            await durable.get("other")
        finally:
            await fetch("clean up")

    @durable.workflow(name="other", id="other")
    def changed():
        note("changed")

    interrupted(lambda: asynchronously(flow))
    assert check("one").is_what == "would block"
    journal.restart()
    durable.get("one").cancel()
    assert check("one").is_what == "goes on"
    with pytest.raises(durable.RunCancelledError):
        journal.restart().get("one").result(PATIENCE)


@pytest.mark.parametrize("asks", ["a signal", "a signal in a thread of its own", "to resume"])
def test_what_a_body_asks_of_a_run_that_goes_on_is_answered_and_not_written(journal, check, note, other, asks):
    @durable.workflow(id="one")
    def flow():
        run = durable.get("other")
        note("first")
        journal.crash()
        done.append(run.status)
        if asks == "a signal":
            run.signal("go", 1)
        elif asks != "to resume":
            thread = threading.Thread(target=run.signal, args=("go", 1))
            thread.start()
            thread.join()
            done.append("signal")
        durable.resume()
        done.append("beyond the end")

    done = []
    interrupted(flow)
    assert check("one").is_what == "goes on"
    assert done == ["running"] + ["signal"] * ("thread" in asks)


def test_a_body_that_would_block_its_loop_with_the_end_of_another_run_is_told_so(journal, check, fetch):
    told = []

    @durable.workflow(name="other", id="other")
    async def other():
        journal.crash()

    @durable.workflow(id="one")
    async def flow():
        await fetch("first")
        journal.crash()
        try:
            durable.get("other").result()
        except durable.RunConflictError as error:
            told.append(str(error))

    interrupted(lambda: asynchronously(other))
    interrupted(lambda: asynchronously(flow))
    assert check("one").is_what == "goes on"
    assert ["which result() would block" in each for each in told] == [True]


def test_a_run_that_waits_for_its_child_goes_on_if_that_does(journal, check, note):
    @durable.workflow(name="child", id="child")
    def child():
        note("child")
        journal.crash()

    @durable.workflow(name="parent", id="parent")
    def parent():
        return child.start().result()

    with pytest.raises(durable.RunInterruptedError):
        parent.start().result(PATIENCE)
    assert check("parent").is_what == "goes on"


def test_code_that_waits_for_a_run_before_it_calls_the_rest_is_unclear(journal, check, note):
    """That one may have ended when it comes to this."""

    @durable.workflow(name="child", id="child")
    def child():
        return durable.wait_for_signal("go", str)

    @durable.workflow(id="one")
    def flow():
        run = child.start()
        if not journal.crashing:
            run.result()
        note("a")
        journal.crash()

    interrupted(flow)
    is_what, why = check("one")
    assert is_what == "unclear"
    assert why.startswith("unless run 'child' ends first: ")


def test_a_run_whose_child_is_damaged_is_unclear(journal, check, note):
    @durable.workflow(name="child", id="child")
    def child(): ...

    @durable.workflow(id="one")
    def flow():
        run = child.start()
        if journal.crashing:
            run.result()
        journal.crash()
        note("new")

    interrupted(flow)
    journal.engine.close()
    with closing(sqlite3.connect(journal.path)) as db, db:
        db.execute("UPDATE durable_run SET output = '5' WHERE id = 'child'")
    is_what, why = check("one")
    assert is_what == "unclear"
    assert why.startswith("the rehearsal itself failed: DamagedError: the record of run 'child' is damaged")


def test_the_journal_of_a_rehearsal_takes_nothing_by_any_way(journal):
    sealed = Sealed(journal.engine._runtime.journal)
    for way in (
        lambda: sealed.write((), full=True),
        lambda: sealed.write_if_idle((), full=True),
        lambda: sealed.submit(()),
    ):
        with pytest.raises(durable.EngineClosedError, match="only read by a rehearsal"):
            way()

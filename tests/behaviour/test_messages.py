"""What errors say: what failed, of which run and step, and what to do next."""

import os
import resource
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import apsw
import pytest

import durable
from durable import NonDeterminismError, StepInterruptedError, _engine

# -- blocked runs -----------------------------------------------------------------------------------------------------


def test_a_blocked_run_is_named_wherever_its_error_comes_out(journal, run_async):
    @durable.step(name="crash")
    def crash():
        journal.crash()

    @durable.workflow(name="plan", id="run-1")
    def plan():
        durable.now()
        crash()

    with pytest.raises(KeyboardInterrupt):
        plan()
    journal.restart()

    @durable.workflow(name="plan", id="run-1")
    def changed():
        durable.uuid4()
        crash()

    with pytest.raises(NonDeterminismError) as first:
        changed()
    message = str(first.value)
    assert message.startswith(
        "at position 0 the journal has durable.now(), but the code called durable.uuid4(). The workflow was changed"
    )
    assert message.endswith("(run run-1 of 'plan')")
    run = durable.get("run-1")
    assert (str(run.error), run.error.run_id) == (message, "run-1")
    assert getattr(first.value, "__notes__", []) == []
    for ask in (run.result, changed):
        with pytest.raises(NonDeterminismError) as again:
            ask()
        assert str(again.value) == message


def test_a_parent_is_blocked_by_its_child_in_the_child_s_words(journal):
    @durable.step(name="crash")
    def crash():
        journal.crash()

    def declare(first):
        @durable.workflow(name="child", id="child-1")
        def child():
            first()
            crash()

        @durable.workflow(name="parent", id="parent-1")
        def parent():
            child()

        return parent

    with pytest.raises(KeyboardInterrupt):
        declare(durable.now)()
    journal.restart()
    with pytest.raises(
        NonDeterminismError, match=r"the code called durable\.random\(\)\..*\(run child-1 of 'child'\)$"
    ):
        declare(durable.random)()
    assert durable.get("parent-1").error.run_id == "child-1"
    journal.restart()
    journal.crashing = False
    declare(durable.now)()
    assert {run.status for run in durable.runs()} == {"completed"}, "with code that fits both go on"


def test_an_async_parent_is_blocked_by_its_child_too(journal, run_async):
    @durable.step(name="crash")
    async def crash():
        journal.crash()

    def declare(first):
        @durable.workflow(name="child", id="child-1")
        async def child():
            first()
            await crash()

        @durable.workflow(name="parent", id="parent-1")
        async def parent():
            await child()

        return parent

    with pytest.raises(KeyboardInterrupt):
        run_async(declare(durable.now)())
    journal.restart()
    with pytest.raises(NonDeterminismError, match=r"\(run child-1 of 'child'\)$"):
        run_async(declare(durable.random)())
    assert durable.get("parent-1").status == "blocked"
    run_async(declare(durable.now)())
    assert {run.status for run in durable.runs()} == {"completed"}


def test_a_run_that_left_a_child_out_says_workflow(journal):
    @durable.workflow(name="child")
    def child():
        journal.crash()

    @durable.workflow(name="parent", id="parent-1")
    def parent():
        child()

    with pytest.raises(KeyboardInterrupt):
        parent()
    journal.restart()

    @durable.workflow(name="parent", id="parent-1")
    def without():
        pass

    with pytest.raises(NonDeterminismError, match="returned without calling workflow 'child', which the journal has"):
        without()


# -- steps ------------------------------------------------------------------------------------------------------------


def test_an_interrupted_at_most_once_step_says_of_which_run_and_what_to_do(journal):
    calls = []

    @durable.step(name="pay", at_most_once=True)
    def pay():
        calls.append(1)
        journal.crash()

    @durable.workflow(name="order", id="order-42")
    def order():
        pay()

    with pytest.raises(KeyboardInterrupt):
        order()
    journal.restart()
    with pytest.raises(StepInterruptedError, match="attempt 1 of step 'pay' of run order-42, .*is unknown") as stopped:
        order()
    assert "catch this error in the workflow to go on" in str(stopped.value)
    assert "durable.get('order-42').retry()" in str(stopped.value)
    run = durable.get("order-42")
    run.retry()
    run.result()
    assert calls == [1, 1], "as the message says"


def test_an_argument_is_not_told_to_be_returned(journal):
    @durable.workflow
    def order(client): ...

    with pytest.raises(durable.SerializationError, match="argument 'client' of workflow .* use plain data"):
        order(open)


# -- transactions -----------------------------------------------------------------------------------------------------

REFUSED = {
    "COMMIT": "COMMIT .*: the library commits when the step has returned",
    "ROLLBACK": "ROLLBACK .*: the library commits when the step has returned",
    "DELETE FROM durable_run": "writing to durable_run, a table of the journal",
    "DROP TABLE durable_step": "writing to durable_step, a table of the journal|writing to sqlite_master",
    "CREATE INDEX mine ON durable_run (id)": "changing durable_run, a table of the journal",
    "ATTACH DATABASE '/tmp/other.db' AS other": "attaching another file",
    "PRAGMA synchronous = OFF": "PRAGMA synchronous: settings of the connection are the library's",
}


@pytest.mark.parametrize(("sql", "why"), REFUSED.items(), ids=REFUSED)
def test_a_refused_statement_says_why(journal, sql, why):
    @durable.step(name="book", transaction=True, retry=None)
    def book():
        durable.connection().execute(sql)

    @durable.workflow
    def order():
        book()

    with pytest.raises(apsw.AuthError, match=why) as refused:
        order()
    assert "transaction=True" in str(refused.value)


# -- the file ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def interrupted(journal):
    """The journal of a process that died in the fourth operation of a run; and what the steps did."""
    did = []

    @durable.step(name="work")
    def work(number: int):
        did.append(number)
        if number == 4:
            journal.crash()

    @durable.workflow(name="order", id="order-42")
    def order():
        for number in range(1, 5):
            work(number)

    with pytest.raises(KeyboardInterrupt):
        order()
    journal.engine.close()
    journal.crashing = False
    did.clear()
    return order, did


def change(journal, sql):
    with closing(sqlite3.connect(journal.path)) as connection:
        connection.execute(sql)
        connection.commit()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_operation_that_is_not_found_any_more_does_not_run_again(journal, interrupted, place):
    order, did = interrupted
    change(journal, f"UPDATE durable_step SET run = run + 64 WHERE position = {place}")
    journal.restart()
    with pytest.raises(
        durable.JournalError, match=f"operation {place} of run 'order-42' of 'order' is missing"
    ) as lost:
        order()
    assert f"run.fork(from_step={place + 1})" in str(lost.value)
    assert did == []
    run = durable.get("order-42").fork(from_step=place + 1)
    run.result()
    assert did == list(range(place + 1, 5)), "as the message says"


def test_the_number_of_a_lost_operation_is_that_of_the_list_which_has_the_items_of_a_map_in_place_of_the_map(journal):
    did = []

    @durable.step(name="work")
    def work(number: int):
        did.append(number)
        if number == 6:
            journal.crash()

    @durable.workflow(name="order", id="order-42")
    def order():
        work(1)
        work.map([2, 3])
        for number in range(4, 7):
            work(number)

    with pytest.raises(KeyboardInterrupt):
        order()
    journal.engine.close()
    journal.crashing = False
    change(journal, "UPDATE durable_step SET run = run + 64 WHERE branch = '' AND position = 2")
    journal.restart()
    with pytest.raises(durable.JournalError, match=r"operation 2 of .* is missing.*run\.fork\(from_step=4\)"):
        order()
    assert [step.position for step in durable.get("order-42").steps() if not step.branch] == [0, 3, 4]


def test_a_damaged_operation_is_named_by_the_id_of_its_run(journal, interrupted):
    order, _ = interrupted
    change(journal, "UPDATE durable_step SET output = '7' WHERE position = 1")
    journal.restart()
    for read in (order, durable.get("order-42").steps):
        with pytest.raises(durable.JournalError, match=r"operation 1 \('work'\) of run 'order-42' is damaged"):
            read()


def test_a_damaged_run_is_named_by_what_is_left_of_it(journal, interrupted):
    change(journal, "UPDATE durable_step SET output = '7' WHERE position = 1")
    change(journal, "UPDATE durable_run SET crashes = 7")
    journal.restart()
    with pytest.raises(durable.JournalError, match="operation 1 .* of run number 1 is damaged"):
        journal.engine._runtime.journal.steps(1)


LIMITED = """
import sys, durable

@durable.step
def work():
    return "x" * 100_000

@durable.workflow
def order():
    return work()

try:
    order()
except durable.JournalError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [0, 100, 20_000, 40_000, 50_000, 100_000])
def test_a_file_that_may_not_grow_is_told_as_such(tmp_path, limit):
    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    environment = {**os.environ, "DURABLE_DB": str(tmp_path / "journal.db")}
    command = [sys.executable, "-c", LIMITED]
    done = subprocess.run(command, preexec_fn=limited, env=environment, capture_output=True, text=True, check=False)
    assert "File too large" in done.stdout, done
    assert "raise the limit on the size of files (ulimit -f)" in done.stdout
    assert "rollback" not in done.stdout + done.stderr


def test_an_owner_s_file_that_cannot_be_read_is_named(journal, monkeypatch):
    durable.workflow(lambda: None)()
    journal.engine.close()
    journal.restart()
    sidecar = Path(f"{journal.path}-owner")
    opened = os.open

    def refuse(path, *arguments, **options):
        if str(path) == str(sidecar):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(durable.JournalError, match=f"{sidecar} cannot be read, .*Permission denied"):
        durable.runs()[0].status  # noqa: B018 - asks
    with pytest.raises(durable.JournalError, match="Permission denied.*; this process has to be allowed to write"):
        durable.resume()


# -- other processes, other programs ----------------------------------------------------------------------------------


def test_a_retried_run_of_an_undeclared_workflow_says_what_is_missing(journal, caplog):
    @durable.workflow(name="order", id="order-42")
    def order():
        raise LookupError

    with pytest.raises(LookupError):
        order()
    del _engine.REGISTRY.workflows["order"]
    run = durable.get("order-42")
    run.retry()
    assert "run order-42 of 'order' is to go on, and this program does not declare that workflow" in caplog.text
    assert run.status == "queued"

    @durable.workflow(name="order", id="order-42")
    def mended():
        return 5

    durable.resume(wait=True)
    assert run.result() == 5, "as the message says"


OWNER = """
import sys, time, durable
durable.open(sys.argv[1])

@durable.workflow(name="order", id="order-42")
def order():
    print("executes", flush=True)
    time.sleep(60)

order()
"""


def test_a_run_that_is_retried_from_another_process_is_for_the_owner_to_execute(journal):
    @durable.workflow(name="broken", id="broken")
    def broken():
        raise ValueError

    with pytest.raises(ValueError):
        broken()
    journal.engine.close()
    journal.engine = durable.open(journal.path)
    with subprocess.Popen([sys.executable, "-c", OWNER, journal.path], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout.readline() == "executes\n"
        try:
            durable.get("broken").retry()
            assert durable.get("broken").status == "queued"
        finally:
            owner.kill()


def test_a_reader_is_told_what_a_reader_can_do(journal):
    with subprocess.Popen([sys.executable, "-c", OWNER, journal.path], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout.readline() == "executes\n"
        try:
            whose = f"is for process {owner.pid} to execute, which owns the journal"
            with pytest.raises(
                durable.JournalLockedError, match=f"run order-42 of 'order' {whose}: its result can"
            ) as locked:
                durable.get("order-42").result()
            assert locked.value.pid == owner.pid
            assert durable.get("order-42").status == "running"
        finally:
            owner.kill()


def test_a_closed_engine_says_what_to_do(tmp_path, no_engine):
    @durable.workflow
    def order():
        return 5

    with durable.open(tmp_path / "journal.db"):
        order()
    for use in (order, durable.runs, durable.resume):
        with pytest.raises(durable.EngineClosedError, match=r"journal.db was closed: open it again with durable.open"):
            use()
    assert not (no_engine / "durable.db").exists()
    durable.open(tmp_path / "journal.db")
    assert order() == 5

"""`@durable.step(transaction=True)`: the body's writes and the outcome of the step are one transaction."""

import asyncio
import threading
import time
from functools import partial

import apsw
import pytest

import durable
from durable import DurableError, NonRetryableError, RetryPolicy, RunConflictError, SerializationError
from durable._scopes import current_branch
from durable._threads import RunThreads
from tests.behaviour.patience import wait_until

QUICK = RetryPolicy(initial_interval=0.001, maximum_attempts=3, jitter=0)


class Declined(Exception):
    pass


@pytest.fixture
def rows(journal):
    """What the user's table has, read by another connection."""

    def read():
        connection = apsw.Connection(str(journal.path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return [value for (value,) in connection.execute("SELECT value FROM mine ORDER BY rowid")]
        except apsw.SQLError:  # no table
            return []
        finally:
            connection.close()

    return read


@pytest.fixture
def insert():
    @durable.step(name="insert", transaction=True, retry=None)
    def insert(value):
        insert.calls.append(value)
        connection = durable.connection()
        connection.execute("CREATE TABLE IF NOT EXISTS mine (value)")
        connection.execute("INSERT INTO mine VALUES (?)", (value,))
        if value in insert.declined:
            raise Declined(value)
        return connection.execute("SELECT count(*) FROM mine").fetchall()[0][0]

    insert.calls, insert.declined = [], set()
    return insert


def test_writes_are_there_when_the_step_returns(journal, rows, insert):
    seen = []

    @durable.workflow(id="run")
    def flow():
        counts = []
        for value in "abc":
            counts.append(insert(value))
            seen.append(rows())
        return counts

    assert flow() == [1, 2, 3]
    assert seen == [["a"], ["a", "b"], ["a", "b", "c"]]
    assert [step.status for step in durable.get("run").steps()] == ["completed"] * 3


def test_a_completed_one_is_not_repeated(journal, rows, insert):
    @durable.workflow(id="run")
    def flow():
        count = insert("a")
        journal.crash()
        return count, insert("b")

    with pytest.raises(KeyboardInterrupt):
        flow()
    journal.restart()
    assert flow() == (1, 2)
    assert rows() == ["a", "b"]
    assert insert.calls == ["a", "b"]


def test_an_exception_rolls_both_back(journal, rows, insert):
    insert.declined = {"b"}

    @durable.workflow(id="run")
    def flow():
        insert("a")
        with pytest.raises(Declined):
            insert("b")
        return insert("c")

    assert flow() == 2
    assert rows() == ["a", "c"]
    assert [step.status for step in durable.get("run").steps()] == ["completed", "failed", "completed"]


def test_retries_begin_with_nothing_of_the_attempt_before(journal, rows):
    attempts = []

    @durable.step(transaction=True, retry=QUICK)
    def flaky():
        attempts.append(1)
        connection = durable.connection()
        connection.execute("CREATE TABLE IF NOT EXISTS mine (value)")
        connection.execute("INSERT INTO mine VALUES (?)", (len(attempts),))
        if len(attempts) < 3:
            raise ConnectionError
        return len(attempts)

    @durable.workflow
    def flow():
        return flaky()

    assert flow() == 3
    assert rows() == [3]


def test_an_interrupt_rolls_back(journal, rows):
    @durable.step(transaction=True)
    def insert():
        connection = durable.connection()
        connection.execute("CREATE TABLE IF NOT EXISTS mine (value)")
        connection.execute("INSERT INTO mine VALUES (1)")
        journal.crash()
        return 1

    @durable.workflow(id="run")
    def flow():
        return insert()

    with pytest.raises(KeyboardInterrupt):
        flow()
    assert rows() == []
    assert durable.get("run").status == "interrupted"
    journal.restart()
    assert flow() == 1
    assert rows() == [1]


def test_a_result_that_cannot_be_journaled_rolls_back(journal, rows):
    @durable.step(transaction=True, retry=None)
    def insert():
        durable.connection().execute("CREATE TABLE mine (value)")
        return object()

    @durable.workflow
    def flow():
        with pytest.raises(SerializationError):
            insert()

    flow()
    assert rows() == []


def test_an_error_of_sqlite_in_the_body_is_the_steps_own(journal, rows):
    @durable.step(transaction=True, retry=None)
    def insert(value):
        connection = durable.connection()
        connection.execute("CREATE TABLE IF NOT EXISTS mine (value UNIQUE)")
        connection.execute("INSERT INTO mine VALUES (?)", (value,))

    @durable.workflow
    def flow():
        insert(1)
        with pytest.raises(apsw.ConstraintError):
            insert(1)
        insert(2)

    flow()
    assert rows() == [1, 2]


@pytest.mark.parametrize(
    "statement",
    [
        "COMMIT",
        "END",
        "ROLLBACK",
        "BEGIN",
        "ATTACH ':memory:' AS other",
        "DETACH other",
        "DELETE FROM durable_step",
        "UPDATE durable_run SET status = 'completed'",
        "INSERT INTO durable_meta VALUES ('x', 1)",
        "DROP TABLE durable_run",
        "ALTER TABLE durable_run RENAME TO other",
        "ALTER TABLE durable_run ADD COLUMN other",
        "DROP INDEX durable_run_status",
        "CREATE TRIGGER t AFTER INSERT ON durable_step BEGIN SELECT 1; END",
        "CREATE INDEX i ON durable_step (name)",
        "PRAGMA synchronous = OFF",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_schema SET sql = ''",
        "VACUUM",
    ],
)
def test_what_ends_the_transaction_or_touches_the_journal_is_refused(journal, rows, insert, statement):
    @durable.step(transaction=True, retry=None)
    def bad():
        durable.connection().execute("INSERT INTO mine VALUES ('bad')")
        durable.connection().execute(statement).fetchall()

    @durable.workflow(id="run")
    def flow():
        insert("a")
        with pytest.raises((apsw.AuthError, apsw.SQLError)):
            bad()
        return insert("b")

    assert flow() == 2
    assert rows() == ["a", "b"]
    assert len(durable.get("run").steps()) == 3
    journal.restart()
    assert [step.status for step in durable.get("run").steps()] == ["completed", "failed", "completed"]


def test_refused_even_where_the_body_swallows_the_refusal(journal, rows, insert):
    @durable.step(transaction=True, retry=None)
    def sly():
        with pytest.raises(apsw.AuthError):
            durable.connection().execute("COMMIT")
        durable.connection().execute("INSERT INTO mine VALUES ('sly')")
        raise Declined

    @durable.workflow
    def flow():
        insert("a")
        with pytest.raises(Declined):
            sly()

    flow()
    assert rows() == ["a"]


def test_savepoints_are_the_bodys_own(journal, rows):
    @durable.step(transaction=True)
    def insert():
        connection = durable.connection()
        connection.execute("CREATE TABLE mine (value)")
        with connection:
            connection.execute("INSERT INTO mine VALUES (1)")
        with pytest.raises(Declined), connection:
            connection.execute("INSERT INTO mine VALUES (2)")
            raise Declined

    @durable.workflow
    def flow():
        insert()

    flow()
    assert rows() == [1]


def test_the_connection_is_for_such_steps_only(journal):
    @durable.step
    def plain():
        durable.connection()

    @durable.workflow
    def flow():
        with pytest.raises(DurableError, match="transaction=True"):
            durable.connection()
        with pytest.raises(DurableError, match="transaction=True"):
            plain.with_options(retry=None)()

    flow()
    with pytest.raises(DurableError, match="transaction=True"):
        durable.connection()


def test_a_connection_that_is_kept_is_of_no_use_to_a_later_body(journal):
    kept = []

    @durable.step(transaction=True)
    def keep():
        kept.append(durable.connection())

    @durable.step
    def plain():
        with pytest.raises(DurableError):
            durable.connection()

    @durable.workflow
    def flow():
        keep()
        plain()

    flow()


def test_an_async_one_and_one_with_a_timeout_are_refused_where_they_are_written():
    with pytest.raises(ValueError, match="transaction"):

        @durable.step(transaction=True)
        async def one(): ...

    with pytest.raises(ValueError, match="transaction"):

        @durable.step(transaction=True, timeout=1)
        def two(): ...

    @durable.step(transaction=True)
    def three(): ...

    with pytest.raises(ValueError, match="transaction"):
        three.with_options(timeout=1)


def test_outside_of_a_run_there_is_no_connection(insert):
    with pytest.raises(DurableError, match="transaction=True"):
        insert("a")


def test_in_async_runs_called_and_in_threads(journal, rows, insert, run_async):
    @durable.workflow
    async def flow():
        one = insert("a")
        two = await asyncio.to_thread(insert, "b")
        await asyncio.gather(*(asyncio.to_thread(insert, value) for value in "cd"))
        journal.crash()
        return one, two

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    assert run_async(flow()) == (1, 2)
    assert sorted(rows()) == ["a", "b", "c", "d"]
    assert sorted(insert.calls) == ["a", "b", "c", "d"]


@pytest.fixture(params=[False, True], ids=["plain", "transaction"])
def outliving(request, rows):
    """A step that goes on until it is let go on, and what it is to leave in a table of the user's."""
    began, goes_on = threading.Event(), threading.Event()

    @durable.step(name="step", retry=None, transaction=request.param)
    def step():
        if request.param:
            durable.connection().execute("CREATE TABLE mine(value)")
            durable.connection().execute("INSERT INTO mine VALUES (1)")
        began.set()
        assert goes_on.wait(60)

    step.began, step.goes_on = began, goes_on
    step.leaves = [1] if request.param else []
    return step


def test_a_step_that_outlives_its_run_writes_nothing(journal, run_async, rows, outliving):
    """Somebody else may be executing the run by then."""
    executions, ended = [], threading.Event()

    def in_thread():
        try:
            outliving()
        finally:
            ended.set()

    @durable.workflow(id="run")
    async def flow():
        executions.append(current_branch().execution)
        task = asyncio.create_task(asyncio.to_thread(in_thread))
        await asyncio.to_thread(outliving.began.wait, 60)
        journal.crash()
        await task

    def let_go():
        while not executions or not executions[0].over:
            time.sleep(0.001)
        outliving.goes_on.set()

    threading.Thread(target=let_go).start()
    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    assert ended.wait(60)
    assert rows() == []
    assert [each.status for each in durable.get("run").steps()] == ["running"]


def test_a_transaction_that_comes_to_the_writer_when_its_run_is_interrupted_does_not_begin(
    journal, run_async, rows, insert
):
    """And the code of its thread, which may catch errors, does not go on."""
    executions, heard, ended = [], [], threading.Event()
    commits = journal.engine._runtime.journal.commits
    holding, let_go = [threading.Event(), threading.Event()], [threading.Event(), threading.Event()]

    def hold(number):
        """Be the one who writes."""
        holding[number].set()
        assert let_go[number].wait(60)

    def hold_from_now_on(number):
        work = partial(journal.engine._runtime.journal.write_alone, lambda _: hold(number))
        threading.Thread(target=work).start()

    def in_thread():
        try:
            insert("a")
        except Exception as error:
            heard.append(error)
        finally:
            ended.set()

    @durable.workflow(id="run")
    async def flow():
        executions.append(current_branch().execution)
        hold_from_now_on(0)
        assert holding[0].wait(60)
        task = asyncio.create_task(asyncio.to_thread(in_thread))
        await asyncio.to_thread(wait_until, lambda: len(commits._queue) == 1)  # that it begins
        hold_from_now_on(1)
        wait_until(lambda: len(commits._queue) == 2)
        let_go[0].set()
        assert holding[1].wait(60)
        wait_until(lambda: len(commits._queue) == 1)  # its body and its outcome
        journal.crash()
        await task

    def go_on():
        wait_until(lambda: executions and executions[0].over)
        let_go[1].set()

    threading.Thread(target=go_on).start()
    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    assert ended.wait(60)
    assert (insert.calls, heard, rows()) == ([], [], [])
    assert [each.status for each in durable.get("run").steps()] == ["running"]


def test_a_submitted_step_that_outlives_its_interrupted_run_is_written_once_it_ends(journal, rows, outliving):
    """Nobody else executes the run by then."""

    @durable.workflow(id="run")
    def flow():
        outliving.submit()
        assert outliving.began.wait(60)
        journal.crash()

    with pytest.raises(KeyboardInterrupt):
        flow()
    outliving.goes_on.set()
    while journal.engine._runtime.step_pool.at_work:
        time.sleep(0.001)
    assert rows() == outliving.leaves
    assert [each.status for each in durable.get("run").steps()] == ["completed"]


@pytest.fixture
def others(journal):
    """Runs, workflows and steps for the body of a transaction to ask for."""

    class Others:
        @durable.step(name="plain")
        @staticmethod
        def plain(value):
            return value

        @durable.workflow(name="child")
        @staticmethod
        def child(value):
            return others.plain(value)

        @durable.workflow(name="async_child")
        @staticmethod
        async def async_child(value):
            return value

        @durable.workflow(name="waiting", id="waiting")
        @staticmethod
        def waiting():
            return durable.wait_for_signal("go", int)

        @durable.step(name="hold")
        @staticmethod
        def hold():
            assert others.let_go.wait(60)

        path = journal.path
        let_go = threading.Event()
        held = None

    others = Others()
    return others


async def awaited(run):
    return await run


async def called(workflow, value):
    return await workflow(value)


def closed_by_with(engine):
    with engine:
        pass


@pytest.mark.parametrize(
    "ask",
    [
        lambda others: others.child(1),
        lambda others: others.child.with_options(id="done")(2),
        lambda others: others.child.start(1),
        lambda others: others.child.start_many([1, 2]),
        lambda others: asyncio.run(called(others.async_child, 1)),
        lambda others: durable.get("waiting").signal("go", 1),
        lambda others: durable.get("waiting").cancel(),
        lambda others: durable.get("waiting").result(),
        lambda others: durable.get("waiting").result(timeout=60),
        lambda others: asyncio.run(awaited(durable.get("waiting"))),
        lambda others: durable.get("waiting").event("key", timeout=60),
        lambda others: durable.get("done").retry(),
        lambda others: durable.get("done").fork(1),
        lambda others: others.held.result(),
        lambda others: durable.resume(),
        lambda others: durable.resume(wait=True),
        lambda others: durable.close(),
        lambda others: closed_by_with(durable.open(others.path)),
    ],
)
def test_what_needs_the_writer_that_a_body_holds_is_an_error_in_it_at_once(journal, rows, others, ask):
    attempts = []

    @durable.step(transaction=True)
    def insert():
        attempts.append(1)
        durable.connection().execute("CREATE TABLE mine (value)")
        durable.connection().execute("INSERT INTO mine VALUES (1)")
        try:
            ask(others)
        finally:
            others.let_go.set()

    @durable.workflow(id="run")
    def flow():
        others.held = others.hold.submit()
        insert()

    others.child.with_options(id="done")(1)
    others.waiting.start()
    with pytest.raises(NonRetryableError, match="holds the journal's writer") as raised:
        flow()
    assert isinstance(raised.value, RunConflictError)
    assert (attempts, rows(), durable.get("run").status) == ([1], [], "failed")
    assert others.child(1) == 1
    durable.get("waiting").signal("go", 7)
    assert durable.get("waiting").result(60) == 7


def test_a_body_that_goes_on_after_that_error_has_its_outcome(journal, rows, insert, others):
    @durable.step(transaction=True)
    def stubborn():
        durable.connection().execute("CREATE TABLE mine (value)")
        with pytest.raises(RunConflictError):
            others.child.start(1)
        durable.connection().execute("INSERT INTO mine VALUES (1)")

    @durable.workflow
    def flow():
        stubborn()
        return others.child(2)

    assert flow() == 2
    assert rows() == [1]
    assert [run.workflow for run in durable.runs()] == ["child", flow.name]


def test_what_only_reads_and_what_is_of_another_journal_work_in_a_body(journal, tmp_path, others):
    @durable.step(transaction=True, retry=None)
    def look():
        done = durable.get("done")
        with durable.Engine(tmp_path / "other.db"):
            elsewhere = others.child(3)
        return [done.status, done.result(), done.event("key"), len(durable.runs()), others.plain.map([4]), elsewhere]

    @durable.workflow
    def flow():
        return look()

    others.child.with_options(id="done")(1)
    assert flow() == ["completed", 1, None, 2, [4], 3]


def test_beside_other_runs_that_commit(journal, rows, insert):
    @durable.step
    def plain(value):
        return value

    @durable.workflow
    def flow(number):
        for k in range(5):
            plain(k)
            insert(number)
        return number

    assert [run.result(60) for run in flow.start_many(range(12))] == list(range(12))
    assert sorted(rows()) == sorted([*range(12)] * 5)


def test_table_and_journal_agree_whenever_the_process_is_killed(module, size):
    kills = size(15, 1000)
    code, output = module("tests.parallel.transfers", "--kills", str(kills), timeout=size(280, 1000))
    print(output[-800:])
    assert code == 0, output


def test_a_transaction_that_its_task_gives_up_in_its_body_is_rolled_back(journal, run_async, insert, rows):
    in_body, given_up = threading.Event(), threading.Event()

    @durable.step(name="slow", transaction=True, retry=None)
    def slow():
        insert("a")  # in a step it is just the function
        in_body.set()
        assert given_up.wait(60)

    @durable.workflow(id="run")
    async def flow():
        task = asyncio.create_task(asyncio.to_thread(slow))
        await asyncio.get_running_loop().run_in_executor(None, in_body.wait)
        task.cancel()
        await asyncio.wait([task])
        given_up.set()
        return await asyncio.to_thread(insert, "b")

    assert run_async(flow()) == 1
    assert rows() == ["b"]
    assert [(step.name, step.status) for step in durable.get("run").steps()] == [
        ("slow", "failed"),
        ("insert", "completed"),
    ]


def test_a_transaction_that_its_task_gives_up_when_it_is_on_disk_is_not_made_again_by_a_retry(
    journal, run_async, insert, rows, monkeypatch
):
    on_disk, conclude = threading.Event(), RunThreads._conclude
    broken = [True]

    def conclude_when_given_up(threads, record, *more):
        on_disk.set()
        while broken and record.branch not in threads._given_up:
            time.sleep(0.001)
        return conclude(threads, record, *more)

    monkeypatch.setattr(RunThreads, "_conclude", conclude_when_given_up)

    @durable.step(name="beside", retry=None)
    async def beside():
        while not on_disk.is_set():  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0.001)
        if broken:
            raise Declined

    @durable.workflow(id="run")
    async def flow():
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(insert, "a"))
            group.create_task(beside())

    with pytest.raises(ExceptionGroup):
        run_async(flow())
    broken.clear()
    durable.get("run").retry()
    durable.get("run").result(60)
    assert rows() == ["a"]


def test_an_outcome_whose_thread_is_given_up_again_before_its_turn_stays(journal, run_async, rows):
    """Two outcomes are on their way to the disk, and what the first of them leads to gives up who waits for the second."""
    in_body = threading.Event()

    @durable.step(name="pay", retry=None, transaction=True)
    def pay():
        durable.connection().execute("CREATE TABLE mine (value)")
        durable.connection().execute("INSERT INTO mine VALUES (?)", ("a",))
        in_body.set()
        return "paid"

    @durable.step(name="beside", retry=None)
    async def beside():
        while not in_body.is_set():  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0.001)

    @durable.step(name="after", retry=None)
    async def after(): ...

    @durable.workflow(id="run")
    async def flow():
        paying = asyncio.create_task(asyncio.to_thread(pay))
        await beside()
        paying.cancel()
        await asyncio.wait([paying])
        await after()
        journal.crash()

    commit = journal.file.commit

    def slow_commit(full):
        time.sleep(0.05)
        commit(full)

    journal.file.commit = slow_commit
    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    outcomes = {step.name: step.status for step in durable.get("run").steps()}
    journal.restart()
    run_async(flow())
    assert {step.name: step.status for step in durable.get("run").steps()} == outcomes
    assert (outcomes["pay"], rows()) == ("completed", ["a"])

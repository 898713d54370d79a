"""Deaths at chosen times: in back-offs, of the owner, a hundred in a row, at random; and while the file is created."""

import shutil
import signal
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

import durable

KILLED = -signal.SIGKILL

# -- retries -----------------------------------------------------------------------------------------------------------

RETRYING = """
    policy = RetryPolicy(initial_interval=INTERVAL, backoff_coefficient=1, maximum_attempts=5, jitter=0)

    @durable.step(retry=policy)
    def flaky():
        note("attempt", durable.info().attempt)
        raise ConnectionError(durable.info().attempt)

    @durable.step(retry=policy)
    async def flaky_async():
        note("attempt", durable.info().attempt)
        raise ConnectionError(durable.info().attempt)

    @durable.workflow(id="run")
    def flow():
        flaky()

    @durable.workflow(id="run")
    async def flow_async():
        await flaky_async()

    async def main():
        await flow_async()

    asyncio.run(main()) if sys.argv[1] == "async" else flow()
"""


def retrying(program, attempt):
    run = program.run_handle("run")
    steps = run.steps() if run else []
    return steps[0] if steps and (steps[0].status, steps[0].attempt) == ("retrying", attempt) else None


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_five_attempts_with_kills_in_the_back_offs_are_five_attempts_in_all(script, kind):
    program = script(RETRYING.replace("INTERVAL", "1.0"))
    for attempt in range(1, 5):
        process = program.start(kind)
        step = program.wait_for(lambda attempt=attempt: retrying(program, attempt))
        program.kill(process)
        assert step.retry_at > step.started_at
        assert retrying(program, attempt).retry_at == step.retry_at
    done = program.run(kind)
    assert done.returncode == 1
    assert "ConnectionError: 5" in done.errors
    assert "5 attempts" in done.errors
    assert program.lines() == [f"attempt {n}" for n in range(1, 6)]
    assert program.run_handle("run").status == "failed"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_kill_in_the_middle_of_a_back_off_leaves_the_rest_of_it(script, kind):
    program = script(RETRYING.replace("INTERVAL", "90.0"))
    process = program.start(kind)
    step = program.wait_for(lambda: retrying(program, 1))
    time.sleep(1)
    program.kill(process)
    assert program.run_handle("run").status == "interrupted"

    process = program.start(kind)
    program.wait_for(lambda: program.run_handle("run").status == "running")
    time.sleep(0.3)
    assert process.poll() is None
    now = datetime.now(UTC)
    again = retrying(program, 1)
    assert again == step or again.retry_at == step.retry_at
    assert 20 < (again.retry_at - now).total_seconds() < 88.9
    assert program.lines() == ["attempt 1"]
    program.wait_for(lambda: waits_without_work(process.pid))
    program.kill(process)


def waits_without_work(pid):
    """Whether a process uses no processor time to speak of."""
    stat = Path(f"/proc/{pid}/stat")

    def ticks():
        fields = stat.read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(0.3)
    return ticks() - before <= 2


@pytest.mark.parametrize("dies", ["told", "second"])
def test_a_child_that_its_parent_gave_up_is_told_so_in_each_life_and_ends_before_the_parent_goes_on(script, dies):
    """Why it is given up is in the file before it is told: the timeout is so short in the first life alone."""
    program = script("""
        @durable.step(retry=None)
        async def endless():
            await asyncio.sleep(3600)

        def moment(name):
            note(name)
            if sys.argv[1] == name:
                os.kill(os.getpid(), signal.SIGKILL)

        @durable.step(retry=None)
        async def clean_up(name):
            moment(name)
            await asyncio.sleep(0.01)

        @durable.workflow(id="child")
        async def child():
            try:
                await endless()
            except asyncio.CancelledError:
                moment("told")
                await clean_up("first")
                await clean_up("second")
                raise

        @durable.workflow(id="run")
        async def flow():
            try:
                await asyncio.wait_for(child(), 0.1 if durable.get("run").steps() == [] else 3600)
            except TimeoutError:
                return "too late"
            return "in time"

        async def main():
            print(await flow())

        asyncio.run(main())
    """)
    for _ in range(2):
        assert program.run(dies).returncode == -signal.SIGKILL
    done = program.run("lives")
    assert (done.output, done.errors) == ("too late\n", "")
    expected = {"told": "told told told first second", "second": "told first second told second told second"}
    assert program.lines() == expected[dies].split()
    child = program.run_handle("child")
    assert child.status == "cancelled"
    assert [step.status for step in child.steps() if step.name == "clean_up"] == ["completed"] * 2
    assert program.engine.resume() == []


# -- the owner ---------------------------------------------------------------------------------------------------------

OWNING = """
    if sys.argv[1] == "read":
        print([run.id for run in durable.runs()], durable.get("run").status, durable.get("run").steps()[0].output)

    @durable.step
    def first():
        note("first")
        return 1

    @durable.step
    def second():
        note("second", time.time())
        time.sleep(60 if sys.argv[1] == "own" else 0)
        return 2

    @durable.workflow(id="run")
    def flow():
        return first(), second()

    if sys.argv[1] == "own":
        flow()
    before = time.time()
    try:
        runs = durable.resume()
    except durable.JournalLockedError as error:
        print(time.time() - before, error.pid, error)
    else:
        if runs:
            print(runs[0].result(), before)
"""


def test_second_process_is_refused_with_the_pid_and_reads_and_goes_on_at_once_when_the_owner_is_dead(script, capsys):
    program = script(OWNING)
    owner = program.start("own")
    program.wait_for(lambda: len(program.lines()) == 2)

    done = program.run("read")
    assert done.errors == ""
    read, refused = done.output.splitlines()
    assert read == "['run'] running 1"
    seconds, pid, message = refused.split(" ", 2)
    assert float(seconds) < 10
    assert int(pid) == owner.pid
    assert f"process {owner.pid}" in message

    program.kill(owner)
    assert program.run_handle("run").status == "interrupted"
    done = program.run("resume")
    assert done.errors == ""
    called = float(done.output.rpartition(" ")[2])
    assert done.output.startswith("(1, 2) ")
    assert [line.split()[0] for line in program.lines()] == ["first", "second", "second"]
    milliseconds = (float(program.lines()[-1].split()[1]) - called) * 1000
    with capsys.disabled():
        print(f"\nresume() to the interrupted step running: {milliseconds:.1f} ms")
    assert 0 <= milliseconds < 20_000


def test_death_while_the_file_is_created_leaves_a_file_that_opens(tmp_path):
    """What `kill -9` leaves before the first transaction of the file has ended: a rollback journal beside it."""
    with closing(sqlite3.connect(tmp_path / "other.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE t (x)")
        for _ in range(200):
            connection.execute("INSERT INTO t VALUES (randomblob(2000))")
        for suffix in ("", "-journal"):
            shutil.copy(tmp_path / f"other.db{suffix}", tmp_path / f"journal.db{suffix}")
    assert (tmp_path / "journal.db").stat().st_size

    @durable.workflow(id="run")
    def flow():
        return 5

    with durable.Engine(tmp_path / "journal.db") as engine:
        assert engine.runs() == []
        assert flow() == 5
        assert engine.get("run").status == "completed"


# -- a hundred deaths --------------------------------------------------------------------------------------------------


def test_a_hundred_deaths_in_a_row_block_the_run_until_retry(folder, server, remains):
    for deaths in range(100):
        assert server.run("deadly", folder, resume=deaths % 2 == 1) == KILLED, deaths
    assert server.run("deadly", folder, resume=True) == 0
    message = (folder / "result.txt").read_text()
    assert "died 100 times in a row" in message
    assert "retry" in message
    left = remains(folder)
    assert sorted(left.starts().values()) == [1, 100]  # the step before it ran once

    (folder / "harmless").touch()
    assert server.run("deadly", folder) == 0  # it could go on now, and is not tried by itself
    assert "died 100 times in a row" in (folder / "result.txt").read_text()
    assert server.run("retried", folder) == 0, (folder / "output.txt").read_text()
    assert (folder / "result.txt").read_text().startswith("([2, 'alive', 2], 'completed')")
    assert sorted(remains(folder).starts().values()) == [1, 1, 101]

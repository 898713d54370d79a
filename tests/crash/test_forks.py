"""What `fork` leaves to a child: nothing of its parent's engine, and a journal that is as safe in it as anywhere."""

import os
import signal

import apsw

FORKING = """
    import warnings

    warnings.filterwarnings("ignore", "This process .* is multi-threaded")  # of 3.12: the child uses no thread of it

    @durable.step
    def step():
        return os.getpid()

    @durable.workflow(id="run-{n}")
    def flow(n):
        return step()

    def in_child(function):
        pid = os.fork()
        if pid == 0:
            try:
                function()
            except BaseException as error:
                print(type(error).__name__, error)
            sys.stdout.flush()
            os._exit(0)
        return pid
"""


def test_child_of_fork_cannot_use_its_parents_engine_and_can_open_its_own(script):
    program = script(
        FORKING
        + """
    assert flow(1) == os.getpid()
    parents_run = durable.get("run-1")

    def child():
        for use in (lambda: flow(2), lambda: flow.start(2), durable.runs, durable.resume, lambda: durable.get("run-1")):
            try:
                use()
            except durable.EngineClosedError as error:
                assert "durable.open" in str(error)
                print("EngineClosedError")
        durable.open("journal.db")
        try:
            flow(2)
        except durable.JournalLockedError as error:
            print("locked by", "the parent" if error.pid == os.getppid() else error.pid)
        print([run.id for run in durable.runs()])
        durable.open("own.db")
        assert flow(2) == os.getpid()
        assert flow.start(3).result() == os.getpid()
        durable.close()

    os.waitpid(in_child(child), 0)
    assert flow(4) == os.getpid()
    assert flow.start(5).result() == os.getpid()
    print([run.id for run in durable.runs()])
    durable.open("own.db")
    print([run.id for run in durable.runs()])
"""
    )
    done = program.run()
    assert done.errors == ""
    assert done.output.splitlines() == [
        *["EngineClosedError"] * 5,
        "locked by the parent",
        "['run-1']",
        "['run-5', 'run-4', 'run-1']",
        "['run-3', 'run-2']",
    ]


def test_child_of_fork_in_a_program_with_background_threads(script):
    program = script(
        FORKING
        + """
    import warnings
    warnings.simplefilter("ignore")

    @durable.step
    async def step_async():
        await asyncio.sleep(0.01)
        return os.getpid()

    @durable.workflow(id="async-{n}")
    async def flow_async(n):
        return await step_async()

    assert flow.start(1).result() == flow_async.start(1).result() == os.getpid()
    background = flow_async.start(2)

    def child():
        durable.open("own.db")
        assert flow.start(1).result() == flow_async.start(1).result() == os.getpid()
        assert asyncio.run(main()) == os.getpid()
        durable.close()
        print("child done", flush=True)

    async def main():
        return await flow_async(3)

    os.waitpid(in_child(child), 0)
    assert background.result() == os.getpid()
    print("parent done")
"""
    )
    done = program.run()
    assert done.errors == ""
    assert done.output == "child done\nparent done\n"


def test_child_of_fork_imports_nothing_that_a_thread_of_its_parent_is_importing(script):
    program = script(
        FORKING
        + """
    import importlib.machinery
    import select
    import threading

    is_importing, go_on = threading.Event(), threading.Event()

    class Slow:
        def find_spec(self, name, path=None, target=None):
            return importlib.machinery.ModuleSpec(name, self) if name == "ctypes" else None

        def create_module(self, spec):
            return None

        def exec_module(self, module):
            is_importing.set()
            go_on.wait(60)

    assert flow(1) == os.getpid()
    sys.meta_path.insert(0, Slow())
    threading.Thread(target=lambda: __import__("ctypes")).start()
    assert is_importing.wait(30)
    heard, said = os.pipe()
    child = in_child(lambda: os.write(said, b"x"))
    print("lives" if select.select([heard], [], [], 20)[0] else "hangs")
    os.kill(child, signal.SIGKILL)
    go_on.set()
"""
    )
    done = program.run()
    assert done.errors == ""
    assert done.output == "lives\n"


def test_child_of_fork_that_ends_as_a_program_does_closes_nothing_of_its_parent(script):
    program = script(
        FORKING
        + """
    assert flow(1) == os.getpid()
    if not os.fork():
        sys.exit()
    os.wait()
    assert os.path.getsize("journal.db-wal") > 0
    assert flow(2) == os.getpid()
    print([run.status for run in durable.runs()])
"""
    )
    done = program.run()
    assert done.errors == ""
    assert done.output == "['completed', 'completed']\n"


def test_child_does_not_keep_the_lock_of_a_dead_owner(script):
    program = script(
        FORKING
        + """
    if sys.argv[1] == "own":
        flow(1)
        child = in_child(lambda: time.sleep(30))
        import subprocess
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"], stdout=subprocess.DEVNULL)
        note(child)
        note(other.pid)
        time.sleep(30)
    print(flow(2) == os.getpid(), durable.get("run-1").status)
"""
    )
    owner = program.start("own")
    program.wait_for(lambda: len(program.lines()) == 2)
    children = [int(line) for line in program.lines()]
    try:
        owner.kill()
        owner.wait()
        for child in children:
            os.kill(child, 0)  # they live
        done = program.run("next")
        assert done.errors == ""
        assert done.output == "True completed\n"
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)


# -- locks: SQLite's account of them is inherited, and they are not ----------------------------------------------------


def test_what_a_child_writes_is_kept_when_its_parent_closes_the_file_meanwhile(script):
    program = script(
        FORKING
        + """
    from durable._journal import Journal

    flow(1)
    is_open, closed = os.pipe(), os.pipe()

    def child():
        with Journal("journal.db").visiting() as write:
            os.write(is_open[1], b"x")
            os.read(closed[0], 1)
            write(lambda transaction: transaction.execute("CREATE TABLE mine (x)"))
            print("written")

    pid = in_child(child)
    os.read(is_open[0], 1)
    durable.close()
    os.write(closed[1], b"x")
    os.waitpid(pid, 0)
"""
    )
    done = program.run()
    assert (done.output, done.errors) == ("written\n", "")
    connection = apsw.Connection(str(program.folder / "journal.db"))
    assert connection.execute("SELECT count(*) FROM mine").fetchall() == [(0,)]
    connection.close()


def test_what_a_child_executes_is_kept_when_its_parent_has_died_and_others_use_the_file(script):
    """As in a program that makes itself a daemon: others who close the file must not take it for the last time."""
    program = script(
        FORKING
        + """
    import subprocess

    LOOK = "import sqlite3; c = sqlite3.connect('journal.db'); c.execute('SELECT * FROM durable_run').fetchall(); c.close()"

    @durable.step
    def numbered(n):
        note(n)
        if n == 3:
            subprocess.run([sys.executable, "-c", LOOK], check=True)
        return n

    @durable.workflow(id="daemon")
    def daemon():
        for n in range(6):
            numbered(n)
        os.kill(os.getpid(), signal.SIGKILL)

    flow(1)
    here, there = os.pipe()

    def child():
        os.close(there)
        os.read(here, 1)  # until its parent has died
        durable.open("journal.db")
        daemon()

    in_child(child)
    os._exit(0)
"""
    )
    assert program.run().errors == ""
    program.wait_for(lambda: len(program.lines()) == 6)
    program.wait_for(lambda: program.engine._runtime.journal.owner_pid() is None)
    run = program.engine.get("daemon")
    assert (run.status, [step.output for step in run.steps()]) == ("interrupted", [*range(6)])


def test_children_that_are_forked_while_their_parent_executes_can_use_its_journal(script):
    program = script(
        FORKING
        + """
    import threading

    @durable.workflow(id="busy-{n}")
    def busy(n):
        for _ in range(100_000):
            step()

    @durable.workflow(id="listener")
    def listener():
        return sorted(durable.wait_for_signal("from child", int) for _ in range(30))

    heard = listener.start()
    for n in range(4):
        busy.start(n)

    def child(number):
        signal.alarm(20)
        durable.open("journal.db")
        durable.get("listener").signal("from child", number)
        os._exit(len(durable.runs()) - 5)

    failed = [code for number in range(30) if (code := os.waitpid(in_child(lambda: child(number)), 0)[1])]
    print(failed, heard.result() == [*range(30)])
    durable.close()
"""
    )
    done = program.run()
    assert done.errors == ""
    assert done.output == "[] True\n"


def test_a_file_that_was_in_use_at_the_fork_is_refused_in_the_child(script):
    program = script(
        FORKING
        + """
    import apsw

    def child():
        durable.open(f"own-{os.getpid()}.db")
        assert flow(7) == os.getpid()
        durable.close()
        durable.open("journal.db")
        assert len(durable.runs()) == 1

    @durable.step(transaction=True)
    def paying():
        os.waitpid(in_child(child), 0)
        return os.getpid()

    @durable.workflow(id="paid")
    def paid():
        return paying()

    assert paid() == os.getpid()
    durable.close()
    mine = apsw.Connection("journal.db")
    mine.execute("SELECT * FROM durable_run").fetchall()
    os.waitpid(in_child(child), 0)
    mine.close()
    os.waitpid(in_child(child), 0)
"""
    )
    done = program.run()
    assert done.errors == ""
    refused, refused_too, nothing_said = done.output.split("\n")
    assert refused == refused_too
    assert "forked off while its parent was in the middle of using that file" in refused
    assert "'spawn'" in refused
    assert nothing_said == ""

"""Commands that ask something of runs, and `durable run`, which does it: each a process of its own."""

import contextlib
import json
import signal
import subprocess
import sys

import pytest

from .conftest import kill, wait_for_hanging

PROGRAM = """
import dataclasses, os, time
import durable

def say(text):
    print(text + "\\n", end="", flush=True)  # in one piece: `durable run` writes to the same pipe

@dataclasses.dataclass
class Order:
    id: str
    price: int = 1

@durable.step(retry=None)
def pay(order: Order) -> str:
    say(f"paying {order.id}")
    if order.price > 5 and not os.path.exists("rich"):
        raise ValueError("too much")
    return f"paid {order.id}"

@durable.step
def hang():
    say("hanging")
    time.sleep(float(os.environ.get("HANG", "1000")))

@durable.workflow(id="order-{order.id}")
def sell(order: Order, *more: int) -> str:
    paid = pay(order)
    return paid if durable.wait_for_signal("go", bool) else "given up"

@durable.workflow(id="quick-{n}")
def quick(n: int = 1, word: str = "x") -> str:
    return word * n

@durable.workflow(id="hanging")
def hanging() -> None:
    hang()
    hang()

@durable.workflow(id="snoozing")
def snoozing() -> str:
    durable.sleep(1.5)
    return "awake"
"""


class Service:
    """`durable run shop` in a folder."""

    def __init__(self, folder, *arguments, **environment):
        self.folder = folder
        (folder.path / "shop.py").write_text(PROGRAM)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "durable", "run", *arguments, "shop"], cwd=folder.path,
            env=folder.environment | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.lines = []
        self.read_until("owner")

    def read_until(self, *beginnings):
        """Lines up to one that begins like these fields."""
        while True:
            line = self.process.stdout.readline()
            assert line, self.lines
            self.lines.append(line.rstrip("\n"))
            if line.startswith("\t".join(beginnings)):
                return line

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        rest = self.process.communicate(timeout=60)[0]
        return self.process.returncode, rest


@pytest.fixture
def serve(folder):
    services = []

    def make(*arguments, **environment):
        services.append(Service(folder, *arguments, **environment))
        return services[-1]

    yield make
    for service in services:
        service.process.kill()
        service.process.communicate()


def said(done, code=0):
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_a_run_is_started_signalled_retried_forked_and_cancelled_by_others(folder, serve):
    service = serve()
    pid = service.process.pid
    out = said(folder.durable("start", "shop:sell", '{"order": {"id": "1"}}'))
    assert out == f"run order-1 of sell is queued\nprocess {pid} owns the journal, and goes on with it\n"
    service.read_until("waiting", "sell", "order-1", "for a signal")
    assert "kept until it reads it" in said(folder.durable("signal", "order-1", "go", "true"))
    service.read_until("completed", "sell", "order-1")

    said(folder.durable("start", "shop.py:sell", '[{"id": "2", "price": 9}, 3, 4]'))
    service.read_until("failed", "sell", "order-2", "ValueError: too much")
    (folder.path / "rich").touch()
    assert "queued again" in said(folder.durable("retry", "order-2"))
    service.read_until("waiting", "sell", "order-2")
    said(folder.durable("signal", "order-2", "go", "--error", "not today"))
    service.read_until("failed", "sell", "order-2", "RuntimeError: not today")

    forked = json.loads(said(folder.durable("fork", "order-2", "--from-step", "2", "--json")))
    assert (forked["kind"], forked["status"], forked["pid"]) == ("fork", "queued", pid)
    service.read_until("waiting", "sell", forked["id"])
    assert "is to be cancelled" in said(folder.durable("cancel", forked["id"][:8]))
    service.read_until("cancelled", "sell", forked["id"])
    assert service.stop() == (0, service_end(5 - 1))
    shown = {run["id"]: run for run in folder.objects("ls")}
    assert shown["order-1"]["output"] == "paid 1"
    assert shown["order-2"]["input"]["more"] == [3, 4]


TWO_BRANCHES = """
import asyncio, os
import durable

durable.open("durable.db")

@durable.step(retry=durable.RetryPolicy(initial_interval=0.01, jitter=0))
async def poll() -> None:
    if durable.info().attempt == 2:
        open("again", "w").close()
        await asyncio.sleep(1000)
    print("hanging", flush=True)
    while not os.path.exists("go"):
        await asyncio.sleep(0.01)
    raise ValueError

@durable.step
async def charge() -> None:
    print("hanging", flush=True)

async def charges():
    await asyncio.sleep(0.1)
    await charge()
    print("hanging", flush=True)

@durable.workflow(id="run")
async def flow() -> None:
    await asyncio.gather(poll(), charges())
"""
FORK_IS_LATE = """
import os, sys, time
from durable._clock import Clock
from durable.cli import main

def new_id():
    open("go", "w").close()
    while not os.path.exists("again"):
        time.sleep(0.01)
    os.kill(int(open("durable.db-owner").read()), 9)  # else it begins the new run
    return "forked"

Clock.new_id = staticmethod(new_id)
sys.exit(main(["fork", "run", "--from-step", "charge"]))
"""


def test_a_fork_begins_at_what_was_named_though_another_step_begins_anew_meanwhile(folder):
    owner = folder.start("asyncio.run(flow())", TWO_BRANCHES)
    try:
        wait_for_hanging(owner, 3)
        folder.run(FORK_IS_LATE, "")
    finally:
        kill(owner)
    assert [step["name"] for step in folder.objects("show", "forked") if step["kind"] == "step"] == []


def test_a_fork_begins_at_a_number_or_a_name_or_a_place(left):
    def forked(*arguments):
        done = left.durable("fork", *arguments)
        return done.returncode, done.stderr or done.stdout.partition(": ")[2].splitlines()[0]

    assert forked("saga", "--from-step", "pay") == (0, "run saga anew from step 4 (pay) on")
    assert forked("saga", "--from-step", "5") == (0, "run saga anew from step 5 (undo) on")
    assert forked("saga", "--from-step", "/ask[]:0 1") == (0, "run saga anew from step 3 (ask) on")
    assert forked("--from-step", "6", "saga") == (0, "run saga anew from step 6 on")
    assert forked("saga", "--from-step", "0")[0] == forked("saga", "--from-step", "-1")[0] == 1
    several = "durable: run saga in durable.db has 3 steps called 'ask': say which, by its number: 1, 2, 3\n"
    assert forked("saga", "--from-step", "ask") == (3, several)
    assert "has no step 'nothing'" in forked("saga", "--from-step", "nothing")[1]
    shown = {step["name"]: step["number"] for step in left.objects("show", "saga") if step["kind"] == "step"}
    assert (shown["pay"], shown["undo"]) == (4, 5)
    again = left.objects("ls", "--workflow", "saga", "--status", "queued")[0]["id"]
    names = [step["name"] for step in left.objects("show", again) if step["kind"] == "step"]
    assert names == ["ask", "ask", "ask", "pay", "undo"]


def service_end(ended):
    return (
        "stopping\tsteps in flight have 5 s to end; stop it again to end at once\n"
        f"stopped\t{ended} ended; what has not ended goes on with the next program\n"
    )


def test_what_is_asked_while_nobody_owns_the_journal_is_done_by_the_next(folder, serve):
    serve().stop()
    out = said(folder.durable("start", "shop:quick", '{"n": 3}'))
    assert "nobody owns the journal: the run goes on when a program does; durable run MODULE does so" in out
    assert "is there already, and queued" in said(folder.durable("start", "shop:quick", "[3]"))
    said(folder.durable("start", "shop:sell", '{"order": {"id": "1"}}', "--id", "mine"))
    said(folder.durable("signal", "mine", "go", "true"))
    said(folder.durable("start", "shop:sell", '{"order": {"id": "2"}}'))
    said(folder.durable("cancel", "order-2"))
    assert {row[0] for row in folder.rows()} == {"queued"}
    out = said(folder.durable("run", "shop", "--until-idle", "0s"))
    assert "stopped\t3 ended" in out
    assert {run["id"]: (run["status"], run["output"]) for run in folder.objects("ls")} == {
        "quick-3": ("completed", "xxx"), "mine": ("completed", "paid 1"), "order-2": ("cancelled", None),
    }  # fmt: skip


def test_a_run_is_started_while_another_process_makes_the_journal(folder):
    (folder.path / "shop.py").write_text(PROGRAM)
    makes = (
        "import os\nfrom durable import _database\nfrom durable._journal import Journal\n"
        "real = _database.migrate\n"
        "def slowly(*args):\n    print('makes it', flush=True)\n    input()\n    return real(*args)\n"
        "_database.migrate = slowly\nJournal('durable.db').own(os.getpid(), 1.0)\ninput()\n"
    )
    where = {"cwd": folder.path, "env": folder.environment, "text": True}
    command = [sys.executable, "-m", "durable", "start", "shop:quick", "[3]"]
    with subprocess.Popen(
        [sys.executable, "-c", makes], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **where
    ) as maker:
        assert maker.stdout.readline() == "makes it\n"
        with subprocess.Popen(command, stderr=subprocess.PIPE, **where) as start:
            with contextlib.suppress(subprocess.TimeoutExpired):  # it looks meanwhile, or does so later
                start.wait(2)
            maker.stdin.write("\n")
            maker.stdin.flush()
            assert start.wait(60) == 0, start.stderr.read()
        maker.kill()
    assert [row[0] for row in folder.rows()] == ["queued"]


def test_until_idle_waits_for_timers_within_its_time(folder, serve):
    serve().stop()
    said(folder.durable("start", "shop:snoozing"))
    lines = [json.loads(line) for line in said(folder.durable("run", "shop", "--until-idle", "--json")).splitlines()]
    assert [line["kind"] for line in lines] == ["owner", *["change"] * (len(lines) - 1)]
    assert lines[-1]["status"] == "completed"
    assert folder.objects("ls")[0]["output"] == "awake"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_cleanly(folder, serve, number):
    service = serve(HANG="1.5")
    said(folder.durable("start", "shop:hanging"))
    service.read_until("hanging")
    code, rest = service.stop(number)
    assert code == 0
    assert "stopping" in [line.split("\t")[0] for line in rest.splitlines()]
    assert "Traceback" not in rest
    steps = [line for line in folder.objects("show", "hanging") if line["kind"] == "step"]
    assert steps[0]["status"] == "completed", "the step in flight was journaled"
    assert folder.rows()[0][0] == "interrupted"
    said(folder.durable("run", "shop", "--until-idle", "0s", HANG="0"))
    assert folder.rows()[0][0] == "completed"


ELSEWHERE = """
import signal, sys, threading
from durable.cli.commands.run import Service
serve = Service._serve
def stop_soon():
    while sys._current_frames()[threading.main_thread().ident].f_code is not serve.__code__:
        pass
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
def serve_and_stop(self, progress):
    threading.Thread(target=stop_soon).start()
    return serve(self, progress)
Service._serve = serve_and_stop
"""


def test_a_signal_that_does_not_interrupt_the_main_thread_stops_it_too(folder, serve):
    """So it is where the signal comes right before that thread begins to wait."""
    (folder.path / "elsewhere.py").write_text(ELSEWHERE)
    service = serve("elsewhere")
    rest = service.process.communicate(timeout=60)[0]
    assert service.process.returncode == 0
    assert "stopped" in [line.split("\t")[0] for line in rest.splitlines()]


STOPS_AGAIN = """
import os, signal
from durable.cli.commands.run import Service
say = Service._say
def say_and_stop(self, what, text):
    say(self, what, text)
    if what == "stopping":
        os.kill(os.getpid(), signal.SIGTERM)
Service._say = say_and_stop
"""


@pytest.mark.parametrize("soon", [True, False])
def test_stopped_again_it_ends_at_once(folder, serve, soon):
    """However soon after it has said that it stops."""
    (folder.path / "again.py").write_text(STOPS_AGAIN)
    service = serve(*["again"] * soon)
    said(folder.durable("start", "shop:hanging"))
    service.read_until("hanging")
    service.process.send_signal(signal.SIGTERM)
    service.read_until("stopping")
    if not soon:
        service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(60) == -signal.SIGTERM


def test_an_owner_that_was_killed_is_followed_by_the_next(folder, serve):
    service = serve()
    said(folder.durable("start", "shop:hanging"))
    service.read_until("hanging")
    service.process.send_signal(signal.SIGSTOP)
    said(folder.durable("start", "shop:quick"))
    service.process.kill()
    service.process.wait()
    second = serve(HANG="0")
    second.read_until("completed")
    second.read_until("completed")
    assert second.stop()[0] == 0
    assert {row[0] for row in folder.rows()} == {"completed"}


def test_a_journal_has_one_owner(folder, serve):
    service = serve()
    error = said(folder.durable("run", "shop"), 1)
    assert f"is owned by process {service.process.pid}" in error


def test_the_journal_that_the_program_opens_is_meant(folder, serve):
    serve().stop()
    (folder.path / "other.py").write_text("import durable\ndurable.open('other.db')\n" + PROGRAM)
    assert "other.db" in said(folder.durable("run", "other", "--until-idle", "0s"))
    said(folder.durable("start", "other:quick"))
    assert said(folder.durable("--db", "other.db", "ls")).startswith("queued")
    assert "other.db" not in said(folder.durable("--db", "third.db", "run", "other", "--until-idle", "0s"))


@pytest.mark.parametrize(("arguments", "code", "text"), [
    (["cancel", "nothing"], 3, "no run in durable.db has the id 'nothing'"),
    (["cancel", "quick-"], 3, "several runs"),
    (["cancel", "quick-1"], 1, "is completed, and cannot be cancelled any more"),
    (["signal", "quick-1", "go"], 1, "is completed: nobody reads signals"),
    (["signal", "quick-1", "go", "yes"], 2, "'yes' is no JSON"),
    (["signal", "quick-1", "go", "1", "--error", "x"], 2, "not allowed with"),
    (["retry", "quick-1"], 1, "only a failed or a blocked run can be retried"),
    (["fork", "quick-1"], 2, "--from-step"),
    (["fork", "quick-1", "--from-step", "7"], 1, "--from-step is from 1 to 1"),
    (["start", "shop"], 2, "write MODULE:WORKFLOW"),
    (["start", "shop:quick", "3"], 2, "write [3]"),
    (["start", "shop:quick", '{"m": 3}'], 1, "workflow 'quick' takes (n: int = 1, word: str = 'x') -> str"),
    (["start", "shop:quick", '{"n": "3"}'], 1, "argument 'n' of workflow 'quick' does not fit: $: int is expected"),
    (["start", "shop:quick", '{"n": 1, "word": "y"}'], 1, "with other inputs"),
    (["start", "shop:slow"], 1, "shop declares no workflow 'slow'; those that are declared: hanging, quick, sell"),
    (["start", "nowhere:quick"], 1, "nowhere cannot be imported"),
    (["--db", "new.db", "start", "shop:quick"], 1, "durable run shop makes one"),
    (["run", "nowhere"], 1, "nowhere cannot be imported"),
])  # fmt: skip
def test_what_cannot_be_done_says_why(finished, arguments, code, text):
    assert text in said(finished.durable(*arguments), code)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    from .conftest import Folder

    folder = Folder(tmp_path_factory.mktemp("finished"))
    service = Service(folder)
    for n in ("1", "2"):
        said(folder.durable("start", "shop:quick", f'{{"n": {n}}}'))
        service.read_until("completed", "quick", f"quick-{n}")
    service.stop()
    return folder

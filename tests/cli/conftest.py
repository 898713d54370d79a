"""Journals made by real programs, some of them killed, and the real command run on them."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import textwrap
from pathlib import Path

import pytest

from tests.cli.forked import server

SHOP = """
import asyncio, os, sys, time
import threading

import durable
from durable import RetryPolicy

durable.open("durable.db")

class PaymentFailed(Exception): ...
class Closed(Exception): ...

QUICK = RetryPolicy(initial_interval=0.01, jitter=0, maximum_attempts=3)
PATIENT = RetryPolicy(initial_interval=3600, maximum_interval=3600, jitter=0, maximum_attempts=0)

@durable.step
def init(order: dict) -> dict:
    return {**order, "card": "charged"}

@durable.step(retry=QUICK)
def fulfill(order: dict) -> str:
    if durable.info().attempt < order.get("works_at", 1):
        raise Closed("the warehouse is closed\\nuntil Monday")
    return "shipped " + order["item"]

@durable.step(retry=PATIENT)
def call_back(order: dict) -> None:
    raise TimeoutError("nobody answers")

@durable.step
def hang(order: dict) -> None:
    print("hanging", flush=True)
    time.sleep(1000)

@durable.workflow(id="order-{order[id]}")
def buy(order: dict) -> str:
    order = init(order)
    status = fulfill(order)
    if order.get("patient"): call_back(order)
    if order.get("hang"): hang(order)
    return status

@durable.step
async def fetch(url: str) -> str:
    if "hang" in url:
        print("hanging", flush=True)
        await asyncio.sleep(1000)
    return f"<{url}>"

async def page(url):
    return await fetch(url) + await fetch(url + "/more")

@durable.workflow(id="pages")
async def pages(urls: list[str]) -> list[str]:
    durable.now()
    return list(await asyncio.gather(*map(page, urls)))

@durable.workflow(id="moody")
def moody(x: int) -> int:
    init({"at": time.time()})
    if not os.path.exists("died"):
        open("died", "w").close()
        os.kill(os.getpid(), 9)
    return x

def attempt(call):
    try:
        call()
    except Exception as error:
        print(type(error).__name__)
"""

BLOCK = "attempt(lambda: moody(1))"
PLAY = """
buy({"id": 1, "item": "a book"})
buy({"id": 2, "item": "tea", "works_at": 3})
attempt(lambda: buy({"id": 3, "item": "tea", "works_at": 9}))
threading.Thread(target=buy, args=({"id": 4, "item": "salt", "patient": True},), daemon=True).start()  # in memory
buy.start({"id": 5, "item": "salt", "hang": True})
pages.start(["a", "hang"])

def everybody_is_where_they_stay():
    backs_off, fetched = durable.get("order-4").steps()[-1:], durable.get("pages").steps()
    return backs_off and backs_off[0].status == "retrying" and [s.status for s in fetched].count("completed") == 3

while not everybody_is_where_they_stay(): time.sleep(0.01)
print("hanging", flush=True)
time.sleep(1000)
"""

WAITING = """
import os, time
import durable

durable.open("durable.db", threads=1)

@durable.step
def ask(x: int) -> int:
    return x

@durable.step(retry=None)
def pay(x: int) -> int:
    raise ValueError("no money")

@durable.step
def undo(x: int) -> None: ...

@durable.workflow(id="approve-{x}")
def approve(x: int) -> str:
    ask(x)
    return durable.wait_for_signal("go", str)

@durable.workflow(id="nap")
def nap() -> bool:
    return durable.wait_for_signal("done", bool, timeout=7200)

@durable.workflow(id="saga")
def saga() -> None:
    ask(1)
    ask.map([1, 2])
    try:
        pay(1)
    except ValueError:
        undo(1)
        raise

@durable.workflow(id="busy-{x}")
def busy(x: int) -> None:
    print("hanging", flush=True)
    time.sleep(1000)

def suspended(*ids):
    while any(durable.get(id).status != "waiting" for id in ids):
        time.sleep(0.01)
    print("hanging", flush=True)
    time.sleep(1000)
"""
ALL_WAIT = """
approve.start(1), approve.start(2), nap.start()
try:
    saga()
except ValueError:
    pass
suspended("approve-1", "approve-2", "nap")
"""


class Folder:
    """A folder with a journal, in which programs and the command run as they would for a user."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("DURABLE", "NO_COLOR", "COLUMNS"))}
        self.environment["TERM"] = "xterm-256color"

    def start(self, code: str, prelude: str = SHOP) -> "subprocess.Popen[str]":
        (self.path / "shop.py").write_text(prelude + textwrap.dedent(code))
        return subprocess.Popen(
            [sys.executable, "shop.py"], cwd=self.path, env=self.environment, stdout=subprocess.PIPE, text=True
        )

    def run(self, code: str, prelude: str = SHOP, expect: int = 0) -> str:
        (self.path / "shop.py").write_text(prelude + textwrap.dedent(code))
        done = server().run(["shop.py"], self.path, self.environment)
        sys.stderr.write(done.stderr)
        assert done.returncode == expect
        return done.stdout

    def run_and_kill(self, code: str, hanging: int) -> int:
        """Run until so many lines say that something hangs, then kill; the pid."""
        process = self.start(code)
        wait_for_hanging(process, hanging)
        kill(process)
        return process.pid

    def durable(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return server().run(["-m", "durable", *arguments], self.path, self.environment | environment)

    def on_a_terminal(
        self, *arguments: str, width: int = 100, program: tuple[str, ...] = ("-m", "durable"), **environment: str
    ) -> str:
        """What the command writes to a terminal, line ends as the command wrote them."""
        leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
        mode = termios.tcgetattr(follower)
        mode[1] &= ~termios.OPOST
        termios.tcsetattr(follower, termios.TCSANOW, mode)
        env = {**self.environment, "PYTHONIOENCODING": "utf-8", **environment}
        try:
            return server().run_on_terminal([*program, *arguments], self.path, env, leader, follower).decode()
        finally:
            os.close(leader)
            os.close(follower)

    def objects(self, *arguments: str) -> "list[dict]":
        done = self.durable(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def rows(self, *arguments: str) -> "list[list[str]]":
        done = self.durable("ls", *arguments)
        assert done.returncode == 0, done.stderr
        return [line.split("\t") for line in done.stdout.splitlines()]

    def ids(self, *arguments: str) -> "list[str]":
        return [row[2] for row in self.rows(*arguments)]

    def content(self) -> "dict[str, bytes]":
        """Every file with its bytes; the index of the WAL, which readers mark their place in, only by name."""
        return {p.name: b"" if p.name.endswith("-shm") else p.read_bytes() for p in self.path.iterdir()}


def wait_for_hanging(process: "subprocess.Popen[str]", count: int) -> None:
    while count:
        line = process.stdout.readline()
        assert line, "the program ended before it hung"
        count -= line.count("hanging")  # two threads may share a line


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A journal with a run of each kind, whose owner was killed. Only to be read."""
    folder = Folder(tmp_path_factory.mktemp("shop"))
    folder.run(BLOCK, expect=-signal.SIGKILL)
    folder.run(BLOCK)
    folder.pid = folder.run_and_kill(PLAY, hanging=3)
    return folder


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> "object":
    """The same with its owner alive."""
    folder = Folder(tmp_path_factory.mktemp("live"))
    process = folder.start(PLAY)
    folder.pid = process.pid
    try:
        wait_for_hanging(process, 3)
        yield folder
    finally:
        kill(process)


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """Suspended runs whose owner was killed. One has got a signal since, one is to be cancelled."""
    folder = Folder(tmp_path_factory.mktemp("left"))
    process = folder.start(ALL_WAIT, WAITING)
    wait_for_hanging(process, 1)
    folder.pid, folder.asleep = process.pid, folder.on_a_terminal("show", "approve-1", NO_COLOR="1", width=140)
    folder.listed = folder.rows("--status", "waiting")
    kill(process)
    for arguments in (["signal", "approve-1", "go", '"yes"'], ["signal", "approve-1", "more", "3"], ["cancel", "nap"]):
        assert folder.durable(*arguments).returncode == 0
    return folder

"""Runs programs and the command in children of a process that has imported the library already.

Starting Python anew takes ten times as long; that it works so too is seen by the tests that start it themselves.
`python -m tests.cli.forked` reads a line of JSON for each program; it answers with the pid and, when the program has
ended, with its exit code as `subprocess` has it.
"""

import atexit
import contextlib
import importlib
import io
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 60


class Server:
    """The process, and what it is asked: one program at a time."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.cli.forked"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def run(self, arguments: list[str], cwd: Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
        """As `subprocess.run` of a Python with these arguments: no input, and its output as text."""
        with tempfile.NamedTemporaryFile() as output, tempfile.NamedTemporaryFile() as errors:
            pid = self._begin(arguments, cwd, environment, [os.devnull, output.name, errors.name])
            self._next(pid)
            code = int(self._process.stdout.readline())
            return subprocess.CompletedProcess(arguments, code, output.read().decode(), errors.read().decode())

    def run_on_terminal(
        self, arguments: list[str], cwd: Path, environment: dict[str, str], leader: int, follower: int
    ) -> bytes:
        """What it writes to the terminal of these two descriptors."""
        pid = self._begin(arguments, cwd, environment, [os.ttyname(follower)] * 3)
        written = b""
        while leader in self._next(pid, leader):
            written += os.read(leader, 65536)
        self._process.stdout.readline()
        while select.select([leader], [], [], 0)[0]:
            written += os.read(leader, 65536)
        return written

    def _begin(self, arguments: list[str], cwd: Path, environment: dict[str, str], files: list[str]) -> int:
        order = {"arguments": arguments, "cwd": str(cwd), "environment": environment, "files": files}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        return int(self._process.stdout.readline())

    def _next(self, pid: int, *others: int) -> list[Any]:
        """Wait until the program has ended, or one of the others has something to say."""
        ready = select.select([self._process.stdout, *others], [], [], PATIENCE_SECONDS)[0]
        if not ready:
            os.kill(pid, signal.SIGKILL)
            self._process.stdout.readline()
            raise TimeoutError(f"it did not end within {PATIENCE_SECONDS} s")
        return ready

    def close(self) -> None:
        with self._process as process:
            process.stdin.close()


_servers: list[Server] = []


def server() -> Server:
    """The one of this process, started when it is first wanted."""
    if not _servers:
        _servers.append(Server())
        atexit.register(_servers[0].close)
    return _servers[0]


# -- in the process ----------------------------------------------------------------------------------------------------


def warm_up() -> None:
    """What takes programs long, once for all children."""
    import asyncio  # noqa: F401 - imported once, here
    import gc

    import durable
    from durable import _listing, _running_async, _steering  # noqa: F401 - as above
    from durable.cli import COMMANDS

    assert durable.converter
    for command in COMMANDS:
        importlib.import_module(f"durable.cli.commands.{command}")
    gc.freeze()  # what is here already is not copied into each child


def serve() -> dict[str, Any]:
    """Fork a child for each order, and wait for its end; in the child, give the order back."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            return json.loads(line)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    sys.exit()


def become(order: dict[str, Any]) -> None:
    """Be the program, as Python would have it."""
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    for number, name in enumerate(order["files"]):
        descriptor = os.open(name, (os.O_WRONLY if number else os.O_RDONLY) | os.O_NOCTTY)
        os.dup2(descriptor, number)
        os.close(descriptor)
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "utf-8").partition(":")
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), encoding)
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), encoding, errors or "strict")
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(2, "w", closefd=False)), encoding, "backslashreplace", write_through=True
    )
    with contextlib.suppress(AttributeError):
        sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    sys.path[0] = order["cwd"]
    what, *rest = order["arguments"]
    if what == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [what, *rest]
        runpy.run_path(what, run_name="__main__")


if __name__ == "__main__":
    warm_up()
    become(serve())

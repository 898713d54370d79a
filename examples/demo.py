"""The demo of the order program, played for real: `make demo`, or `python examples/demo.py`.

An order is killed half-way (kill -9, a real process), its code is changed, and the next process
completes it. What is claimed is checked: each step appends a line to orders.log when it runs.
"""

import contextlib
import difflib
import json
import os
import pty
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRAM = "order_item.py"
PATIENCE_SECONDS = 20.0

# Two edits of the program while an order is half done: (what, old line, new lines).
EDIT_OF_A_FINISHED_STEP = (
    "init_order, which has already run for order 43, now prints a line",
    '    logging.info("init_order %s", order.id)\n',
    '    logging.info("init_order %s", order.id)\n    print("init_order: the new code")\n',
)
EDIT_OF_A_LATER_STEP = (
    "archive_order, which is still to come, now writes capitals",
    "(order.id, status))\n",
    "(order.id, status.upper()))\n",
)


class Mismatch(Exception):
    """What the demo claims and what happened are two things."""


def expect(claim: str, found: object, expected: object) -> None:
    if found != expected:
        raise Mismatch(f"{claim}: expected {expected!r}, found {found!r}")


def say(text: str) -> None:
    print(f"\n# {text}", flush=True)


class Demo:
    """One playing of the demo, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("DURABLE_")}
        self.environment.setdefault("COLUMNS", "100")
        if not sys.stdout.isatty():
            self.environment["NO_COLOR"] = "1"
        shutil.copy(HERE / PROGRAM, directory)
        shutil.copytree(HERE / "data", directory / "data")

    def start(self, *arguments: str, terminal: int | None = None) -> "subprocess.Popen[str]":
        """Starts a command, and shows it as one would type it."""
        print(f"$ {' '.join(arguments)}", flush=True)
        real = {"python": [sys.executable], "durable": [sys.executable, "-m", "durable"]}
        return subprocess.Popen(
            [*real[arguments[0]], *arguments[1:]],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=terminal or subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str) -> str:
        """Runs a command to its end, shows what it prints, and returns it."""
        with self.start(*arguments) as process:
            output, _ = process.communicate(timeout=PATIENCE_SECONDS)
        print(output, end="", flush=True)
        expect(f"exit code of {' '.join(arguments)}", process.returncode, 0)
        return output

    def look(self, *arguments: str) -> None:
        """Runs a command on a terminal of its own, so that it prints what a person would see."""
        ours, theirs = pty.openpty()
        with self.start(*arguments, terminal=theirs) as process, open(ours, "rb") as screen:
            os.close(theirs)
            with contextlib.suppress(OSError):  # how Linux says that the other side was closed
                while line := screen.readline():
                    print(line.decode().rstrip(), flush=True)
        expect(f"exit code of {' '.join(arguments)}", process.returncode, 0)

    def executions(self, order: str) -> dict[str, int]:
        """How often each step really ran for an order."""
        log = self.directory / "orders.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return dict(Counter(line.split()[0] for line in lines if line.split()[1:] == [order]))

    def statuses(self) -> dict[str, str]:
        """What the journal says of each run, by `durable ls --json`."""
        command = [sys.executable, "-m", "durable", "ls", "--json"]
        output = subprocess.check_output(command, cwd=self.directory, env=self.environment)
        return {run["id"]: run["status"] for run in map(json.loads, output.splitlines())}

    def kill_while(self, step: str, order: str) -> None:
        """Starts an order and kills its process once `step` runs."""
        with self.start("python", PROGRAM, order) as process:
            try:
                deadline = time.monotonic() + PATIENCE_SECONDS
                while step not in self.executions(order):
                    if process.poll() is not None or time.monotonic() > deadline:
                        output = process.stdout.read() if process.stdout else ""
                        raise Mismatch(f"{step} of order {order} did not start:\n{output}")
                    time.sleep(0.01)
                print(f"$ kill -9 {process.pid}    # while {step} runs", flush=True)
            finally:
                process.kill()

    def edit(self, what: str, old: str, new: str) -> None:
        """Changes the program, and shows the difference."""
        path = self.directory / PROGRAM
        before = path.read_text()
        expect(f"places to edit for: {what}", before.count(old), 1)
        after = before.replace(old, new)
        path.write_text(after)
        print(f"  {what}:")
        for line in difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm=""):
            if not line.startswith(("---", "+++", "@@")):
                print(f"    {line}", flush=True)

    def archive(self) -> dict[str, str]:
        """The shop's own database."""
        with contextlib.closing(sqlite3.connect(self.directory / "archive.db")) as db:
            return dict(db.execute("SELECT id, status FROM orders ORDER BY id").fetchall())


def play(demo: Demo) -> str:
    say("An order goes through its three steps: init_order, fulfill_order, archive_order.")
    demo.run("python", PROGRAM, "42")
    once = {"init_order": 1, "fulfill_order": 1, "archive_order": 1}
    expect("executions for order 42", demo.executions("42"), once)

    say("Another one starts, and its process is killed in the middle.")
    demo.kill_while("fulfill_order", "43")
    killed = {"init_order": 1, "fulfill_order": 1}
    expect("executions for order 43 before the kill", demo.executions("43"), killed)

    say("Nobody is running now. What the journal, ./durable.db, knows:")
    demo.look("durable", "ls")
    expect("runs", demo.statuses(), {"order-42": "completed", "order-43": "interrupted"})
    print()
    demo.look("durable", "show", "order-43")

    say("The code changes while the order is half done.")
    demo.edit(*EDIT_OF_A_FINISHED_STEP)
    demo.edit(*EDIT_OF_A_LATER_STEP)

    say("The same command again: the next process goes on where the last one stopped.")
    output = demo.run("python", PROGRAM, "43")
    expect("what it printed", output, "order 43: shipped a nanosecond of wire\n")

    say("init_order did not run again, archive_order ran its new code, the order is complete:")
    demo.look("durable", "ls")
    expect("runs", demo.statuses(), {"order-42": "completed", "order-43": "completed"})
    print()
    print("$ cat orders.log")
    print((demo.directory / "orders.log").read_text(), end="")
    shipped = {"42": "shipped a difference engine", "43": "SHIPPED A NANOSECOND OF WIRE"}
    expect("rows in archive.db", demo.archive(), shipped)
    print('$ sqlite3 archive.db "SELECT * FROM orders"')
    print("".join(f"{key}|{status}\n" for key, status in demo.archive().items()), end="")

    counts = demo.executions("43")
    expect("executions for order 42 in all", demo.executions("42"), once)
    expect("executions for order 43 in all", counts, {**once, "fulfill_order": 2})
    words = {1: "once", 2: "twice"}
    return ", ".join(f"{step}{' ran' if step == 'init_order' else ''} {words[count]}" for step, count in counts.items())


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="durable-demo-") as name:
        print(f"$ cd {name}")
        print(f"$ cp -r {HERE}/{PROGRAM} {HERE}/data .")
        try:
            verdict = play(Demo(Path(name)))
        except (Mismatch, subprocess.SubprocessError) as error:
            print(f"\nThe demo did not hold what it promises: {error}", file=sys.stderr)
            return 1
    print(f"\n{verdict}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

# The last line that `python examples/demo.py` prints is
#     init_order ran once, fulfill_order twice, archive_order once

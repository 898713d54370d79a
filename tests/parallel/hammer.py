"""Threads and an event loop hammer one engine, while another process lists its runs four times a second.

`python -m tests.parallel.hammer --seconds 60` prints figures, and exits with 1 after an error, a lost outcome, or a WAL file
of 64 MB.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import durable

THREADS = 24
TASKS = 50
WAL_BYTES = 64 * 2**20

LISTER = """
import sys, time, durable
engine, times, slowest = durable.Engine(sys.argv[1]), 0, 0.0
while not sys.stdin.closed and time.time() < float(sys.argv[2]):
    before = time.monotonic()
    for run in engine.runs(limit=20):
        run.status, run.workflow
        [step.status for step in run.steps()]
    engine.runs("failed"), engine.runs("running")
    slowest = max(slowest, time.monotonic() - before)
    times += 1
    time.sleep(0.25)
print(times, round(slowest, 3))
"""


@durable.step
def step(label: str) -> str:
    return label


@durable.step(transaction=True)
def insert(label: str) -> str:
    connection = durable.connection()
    connection.execute("CREATE TABLE IF NOT EXISTS hammered (label)")
    connection.execute("INSERT INTO hammered VALUES (?)", (label,))
    return label


@durable.step
async def step_async(label: str) -> str:
    await asyncio.sleep(0)
    return label


@durable.workflow(name="work", id="{label}")
def work(label: str) -> list[str]:
    return [step(f"{label} 0"), *step.map([f"{label} 1", f"{label} 2"]), insert(f"{label} 3")]


@durable.workflow(name="work_async", id="{label}")
async def work_async(label: str) -> list[str]:
    pair = await asyncio.gather(step_async(f"{label} 1"), step_async(f"{label} 2"))
    return [await step_async(f"{label} 0"), *pair, await step_async(f"{label} 3")]


class Hammer:
    """What they did, and what went wrong."""

    def __init__(self, seconds: float) -> None:
        self.until = time.monotonic() + seconds
        self.acknowledged: dict[str, list[str]] = {}
        self.errors: list[str] = []

    def thread(self, name: str) -> None:
        number = 0
        while time.monotonic() < self.until and not self.errors:
            label = f"{name}-{number}"
            try:
                self.acknowledged[label] = work.start(label).result(60) if number % 3 == 0 else work(label)
            except BaseException as error:
                self.errors.append(repr(error))
            number += 1

    async def task(self, name: str) -> None:
        number = 0
        while time.monotonic() < self.until and not self.errors:
            label = f"{name}-{number}"
            try:
                self.acknowledged[label] = await work_async(label)
            except BaseException as error:
                self.errors.append(repr(error))
            number += 1

    async def loop(self) -> None:
        await asyncio.gather(*(self.task(f"task {number}") for number in range(TASKS)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="durable-hammer-") as base:
        path = Path(base) / "journal.db"
        durable.open(path)
        work("first")
        command = [sys.executable, "-c", LISTER, str(path), str(time.time() + options.seconds)]
        lister = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        hammer, most_wal = Hammer(options.seconds), 0
        threads = [threading.Thread(target=hammer.thread, args=(f"thread {number}",)) for number in range(THREADS)]
        threads.append(threading.Thread(target=lambda: asyncio.run(hammer.loop())))
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            most_wal = max(most_wal, Path(f"{path}-wal").stat().st_size)
            time.sleep(0.05)
        listed, complaints = lister.communicate(timeout=60)
        seen = judge(hammer)
        durable.close()
    seen["errors"] = len(hammer.errors) + (lister.returncode != 0)
    print(f"{len(hammer.acknowledged)} runs in {options.seconds:g} s, WAL at most {most_wal / 2**20:.1f} MB")
    print(f"listed {listed.strip()} (times, slowest in seconds) {complaints}")
    print(*hammer.errors[:5], dict(seen), sep="\n")
    return int(any(seen.values()) or most_wal >= WAL_BYTES)


def judge(hammer: Hammer) -> Counter[str]:
    seen: Counter[str] = Counter()
    for label, result in hammer.acknowledged.items():
        run = durable.get(label)
        right = [f"{label} {number}" for number in range(4)]
        steps = [step.output for step in run.steps() if step.kind == "step" and step.status == "completed"]
        seen["wrong results"] += result != right
        seen["lost outcomes"] += run.status != "completed" or sorted(steps) != right
    return seen


if __name__ == "__main__":
    from tests.parallel import hammer  # under its own name, which is the one in the journal

    sys.exit(hammer.main())

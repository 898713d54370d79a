"""Temporal: its development server on a SQLite file, in a process of its own, and a worker in this one."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import sqlite3
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from worker import serve

ids = itertools.count()


@activity.defn
async def trivial(number: int) -> int:
    return number


@workflow.defn
class Run:
    @workflow.run
    async def run(self, steps: int) -> int:
        total = 0
        for number in range(steps):
            total += await workflow.execute_activity(trivial, number, start_to_close_timeout=timedelta(seconds=10))
        return total


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def connected(address: str) -> Client:
    deadline = time.monotonic() + 30
    while True:
        try:
            return await Client.connect(address)
        except RuntimeError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


async def crowd(client: Client, runs: int, steps: int) -> None:
    started = (client.execute_workflow(Run.run, steps, id=f"run-{next(ids)}", task_queue="bench") for _ in range(runs))
    assert await asyncio.gather(*started) == [sum(range(steps))] * runs


def journal_mode(file: Path) -> str:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def main() -> None:
    file, port = Path(sys.argv[1]) / "temporal.db", free_port()
    program = str(Path(sys.executable).parent / "temporal")
    server = [program, "server", "start-dev", "--headless", "--log-level", "error", "--port", str(port)]
    with (
        subprocess.Popen([*server, "--db-filename", str(file)], stdout=sys.stderr) as process,
        asyncio.Runner() as runner,
    ):
        try:
            client = runner.run(connected(f"127.0.0.1:{port}"))
            worker = Worker(
                client,
                task_queue="bench",
                workflows=[Run],
                activities=[trivial],
                workflow_runner=UnsandboxedWorkflowRunner(),
            )
            runner.run(worker.__aenter__())
            serve(
                "temporalio",
                f"SQLite: journal_mode={journal_mode(file)}; the server's synchronous cannot be read from outside",
                lambda steps: runner.run(crowd(client, 1, steps)),
                lambda runs, steps: runner.run(crowd(client, runs, steps)),
            )
            runner.run(worker.__aexit__(None, None, None))
        finally:
            process.terminate()


main()

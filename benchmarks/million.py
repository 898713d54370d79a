"""`python -m benchmarks.million FILE`: commands on a journal of 1,000,000 runs and 10,000,000 steps, which it makes.

The file is written with SQL, since so many steps would run for an hour; its rows are what runs would have written. It
takes some minutes and 2 GB, so that it is no part of `python -m benchmarks`. A file that is there is used again.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import sqlite3
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from durable._format import read_sql
from durable._model import AttemptRecord, OwnerRecord, RunRecord, StepRecord
from durable._records import attempt_row, owner_row, run_row, step_row
from durable.cli.ui._server import Server

from .processes import _seconds_of

STEPS_A_RUN = 10
BATCH = 20_000
NAMES = ("reserve", "charge", "pack", "ship", "mail", "fetch", "parse", "store", "index", "report")
COMMANDS = (
    ["ls"],
    ["ls", "--status", "failed"],
    ["ls", "--workflow", "rare"],
    ["ls", "--workflow", "sell", "--status", "completed"],
    ["stats"],
    ["stats", "--since", "1d"],
)
QUESTIONS = (
    "runs?limit=100",
    "runs?limit=100&below=500000",
    *(f"runs?limit=100&status={status}" for status in ("completed", "failed", "waiting", "blocked", "interrupted")),
    "runs?limit=100&workflow=sell&status=failed",
    "runs?limit=100&workflow=rare",
    f"runs?limit=100&before={time.time() - 10 * 86_400:.0f}",
    "runs?limit=100&text=declined",
    "runs?limit=100&text=nowhere",
    "counts?",
)
BEGAN = time.time() - 30 * 86_400
PID, EPOCH = 4_242_424, 1
ERROR = (
    '{"type":"shop:CardDeclined","message":"card declined","args":["card declined"],"traceback":"Traceback (most '
    'recent call last):\\n  File \\"shop.py\\", line 12, in charge\\n    raise CardDeclined\\nshop.CardDeclined\\n"}'
)


def chance(key: int, salt: int) -> float:
    """A number from 0 to 1 that is the same each time."""
    return (key * 2_654_435_761 + salt * 40_503 ^ key >> 7) * 0x9E3779B1 % 2**32 / 2**32


def status_of(seq: int, runs: int) -> str:
    if seq > runs - 20:
        return "running"  # their owner is gone: interrupted
    luck = chance(seq, 1)
    if luck < 0.95:
        return "completed"
    return "failed" if luck < 0.97 else "waiting" if luck < 0.998 else "blocked" if luck < 0.9985 else "cancelled"


def records(seq: int, runs: int) -> tuple[RunRecord, list[StepRecord], list[AttemptRecord]]:
    """A run, its operations and its failed attempts."""
    status = status_of(seq, runs)
    created = BEGAN + seq * 30 * 86_400 / runs
    workflow = "rare" if seq % 100_000 == 7 else ("sell", "crawl", "bill", "import_rows")[seq % 4]
    steps, attempts, at = [], [], created
    done = STEPS_A_RUN if status == "completed" else STEPS_A_RUN - 1
    for position in range(STEPS_A_RUN):
        took = 0.002 / (1 - 0.999 * chance(seq * 16 + position, 2))
        retried = chance(seq * 16 + position, 3) < 0.002
        last = "completed" if position < done else {"failed": "failed", "running": "running"}.get(status, "completed")
        attempt = 2 if retried else 1
        failures = attempt - 1 + (last == "failed")
        attempts += [AttemptRecord(seq, "", position, number + 1, at, at + took, ERROR) for number in range(failures)]
        finished = None if last == "running" else at + took
        steps.append(
            StepRecord(
                seq, "", position, "step", NAMES[position], "shop", last, attempt, failures,
                f'{{"order":{{"id":"{seq}","item":"tea"}}}}',
                f'"{NAMES[position]} {seq}"' if last == "completed" else None,
                ERROR if last == "failed" else None, at, finished, None, None if finished is None else 0,
            )
        )  # fmt: skip
        at += took
    error = ERROR if status in {"failed", "blocked"} else None
    ended = status in {"completed", "failed", "cancelled"}
    run = RunRecord(
        seq, f"{int(chance(seq, 5) * 2**32):08x}{seq:024x}", workflow, "shop", status,
        f'{{"order":{{"id":"{seq}","item":"tea"}}}}', '"done"' if status == "completed" else None, error, created,
        at if ended else None, at + 86_400 if status == "waiting" else None, None, None, EPOCH, 0, 0, 0,
    )  # fmt: skip
    return run, steps, attempts


def make(path: Path, runs: int) -> None:
    """Write the journal; it comes to be in one piece."""
    draft = path.with_name(path.name + ".part")
    draft.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=OFF")
        db.execute("PRAGMA synchronous=OFF")
        db.executescript(read_sql("migrations/0001.sql"))
        db.execute("INSERT INTO durable_meta VALUES ('format', 1)")
        insert(db, "durable_owner", iter([owner_row(OwnerRecord(EPOCH, PID, BEGAN, None))]))
        for first in range(1, runs + 1, BATCH):
            made = [records(seq, runs) for seq in range(first, min(first + BATCH, runs + 1))]
            db.execute("BEGIN")
            insert(db, "durable_run", (run_row(run) for run, _, _ in made))
            insert(db, "durable_step", (step_row(step) for _, steps, _ in made for step in steps))
            insert(db, "durable_attempt", (attempt_row(each) for *_, attempts in made for each in attempts))
            db.execute("COMMIT")
            print(f"\r{min(first + BATCH - 1, runs):,} of {runs:,} runs", end="", flush=True)
        db.execute("PRAGMA journal_mode=WAL")
    print()
    draft.rename(path)
    path.chmod(0o600)


def insert(db: sqlite3.Connection, table: str, rows: Iterator[tuple[Any, ...]]) -> None:
    first = next(rows, None)
    if first is not None:
        statement = f"INSERT INTO {table} VALUES ({', '.join('?' * len(first))})"
        db.execute(statement, first)
        db.executemany(statement, rows)


def measure(path: Path, repeat: int) -> None:
    for command in COMMANDS:
        whole = ["-m", "durable", "--db", str(path), *command]
        seconds = [_seconds_of(*whole) for _ in range(repeat)]
        least, most = min(seconds), max(seconds)
        print(f"{' '.join(command):45} {statistics.median(seconds):6.3f} s  ({least:.3f}-{most:.3f})")


def measure_page(path: Path, repeat: int) -> None:
    """What the page of `durable ui` waits for: its list, as it is filtered, scrolled and searched."""
    with Server(str(path), 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1])
        for question in QUESTIONS:
            seconds = [_seconds_of_answer(connection, question) for _ in range(repeat)]
            least, most = min(seconds), max(seconds)
            print(f"ui: {question:41} {statistics.median(seconds):6.3f} s  ({least:.3f}-{most:.3f})")
        connection.close()
        server.shutdown()


def _seconds_of_answer(connection: http.client.HTTPConnection, question: str) -> float:
    began = time.perf_counter()
    connection.request("GET", f"/api/{question}")
    connection.getresponse().read()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.million", description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--make", action="store_true", help="only make the file")
    options = parser.parse_args()
    if not options.path.exists():
        make(options.path, options.runs)
    print(f"{options.path}: {options.path.stat().st_size / 1e9:.2f} GB")
    if not options.make:
        measure(options.path, options.repeat)
        measure_page(options.path, options.repeat)


if __name__ == "__main__":
    main()

"""Imports a CSV file, a step for each batch: killed at any moment, it goes on where it was."""

import csv
import sqlite3
import sys
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path

import durable

TARGET = "contacts.db"  # a database of our own; the journal is durable.db beside it
BATCH = 50


@dataclass(frozen=True)
class Batch:
    rows: int
    bad: list[str]
    end: int  # the place in the file where the next batch starts


def is_good(row: list[str]) -> bool:
    try:
        email, name, since = row
        date.fromisoformat(since)
    except ValueError:
        return False
    return "@" in email and name != ""


@durable.step
def import_batch(source: Path, start: int, first_row: int) -> Batch:
    with source.open("rb") as file:
        file.seek(start)
        lines = [line.decode() for line in islice(iter(file.readline, b""), BATCH)]
        end = file.tell()
    rows = list(enumerate(csv.reader(lines), first_row))
    good = [row for _, row in rows if is_good(row)]
    bad = [f"row {number}: {','.join(row)}" for number, row in rows if not is_good(row)]
    with closing(sqlite3.connect(TARGET)) as db, db:  # `db`: one transaction for the batch
        db.execute("CREATE TABLE IF NOT EXISTS contacts (email PRIMARY KEY, name, since)")
        # A batch that a kill cut may be here already: the natural key makes repeating it harmless.
        db.executemany("INSERT INTO contacts VALUES (?, ?, ?) ON CONFLICT DO NOTHING", good)
    return Batch(len(rows), bad, end)


@durable.workflow(id="import-{source.name}")
def import_csv(source: Path) -> tuple[int, list[str]]:
    rows, bad, place = 0, list[str](), len("email,name,since\n")
    while (batch := import_batch(source, place, rows + 1)).rows:
        rows, place = rows + batch.rows, batch.end
        bad += batch.bad
        if sys.stderr.isatty():
            print(f"\r{rows} rows", end="", file=sys.stderr)
    return rows, bad


if __name__ == "__main__":
    durable.resume()
    rows, bad = import_csv(Path(__file__).with_name("data") / "contacts.csv")
    print(f"{rows - len(bad)} of {rows} rows imported, {len(bad)} bad:", *bad, sep="\n  ")

# `python examples/import_csv.py` prints
#     2994 of 3000 rows imported, 6 bad:
#       row 97: no-at-sign.example.org,Nobody,2021-02-03
#       row 512: feb.30@example.org,Leap Day,2023-02-30
#       row 1333: ,,
#       row 1334: short@example.org
#       row 2048: nameless@example.org,,2022-08-09
#       row 2999: american@example.org,Date Writer,12/31/2024

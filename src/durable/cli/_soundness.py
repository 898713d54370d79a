"""Whether a file is whole: SQLite's own check, and the checksum of every record."""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from durable._progress import Progress
from durable._records import attempt_from, message_from, owner_from, run_from, step_from
from durable.cli._reader import Reader
from durable.errors import JournalError

_AT_ONCE: Final = 5_000
_FIRST: Final = -(2**63)


class Table(NamedTuple):
    """A table whose records are checked: how they are read, from which key on, and what makes one of a row."""

    name: str
    statement: str
    start: tuple[Any, ...]
    make: Callable[[tuple[Any, ...]], Any]


TABLES: Final = (
    Table("runs", "run_page", (_FIRST,), run_from),
    Table("steps", "step_page", (_FIRST, "", 0), step_from),
    Table("attempts", "attempt_page", (_FIRST, "", 0, 0), attempt_from),
    Table("messages", "message_page", (_FIRST,), message_from),
    Table("owners", "owner_page", (_FIRST,), owner_from),
)


def damage_of_file(reader: Reader) -> list[str]:
    """What SQLite finds wrong with the file, at most 20 things. It reads all of it."""
    return [str(row[0]) for row in reader._query("PRAGMA integrity_check(20)", ()) if row[0] != "ok"]


def damage_of_records(reader: Reader, table: Table, progress: Progress) -> Iterator[str]:
    """What is wrong with the records of a table, read a page at a time."""
    key = table.start
    while True:
        rows = reader.ask(table.statement, *key, _AT_ONCE)
        for row in rows:
            try:
                table.make(row)
            except JournalError as error:
                yield str(error)
        progress.advance(len(rows))
        if len(rows) < _AT_ONCE:
            return
        key = rows[-1][: len(table.start)]

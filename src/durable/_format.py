"""The format of a journal's file: the statements in `sql/`, and whether the file has the tables as they make them."""

import contextlib
import os
from typing import Any, Final

import apsw

from .errors import JournalError

FORMAT: Final = 1
"""The format that this version writes. Older ones are migrated by an owner, newer ones are refused untouched."""


# -- statements -------------------------------------------------------------------------------------------------------


def named_statements(file: str) -> dict[str, str]:
    """The statements of a file of `sql/`, by the name in the `-- name:` line above each."""
    statements: dict[str, str] = {}
    for part in ("\n" + read_sql(file)).split("\n-- name: ")[1:]:  # by hand: compiling a pattern takes longer
        name, *lines = part.split("\n")
        statements[name] = "\n".join(line for line in lines if line and not line.startswith("--"))
    return statements


def read_sql(file: str) -> str:
    """The text of a file of `sql/`, also when the package is imported from a zip archive."""
    path = os.path.join(os.path.dirname(__file__), "sql", file)
    return str(globals()["__loader__"].get_data(path), "utf-8")


# -- what a file has ---------------------------------------------------------------------------------------------------


def format_of(connection: apsw.Connection) -> int | None:
    """The format of the journal in a file, `None` where its tables are not there."""
    made: list[Any] = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'durable_meta'").fetchall()
    if not made:
        return None
    if not str(made[0][0]).startswith("CREATE TABLE "):  # a view may be a query that never ends
        msg = (
            f"durable_meta in {connection.filename} is not as durable made it: the journal was changed, and is not used"
        )
        raise JournalError(msg)
    rows: list[Any] = connection.execute("SELECT value FROM durable_meta WHERE key = 'format'").fetchall()
    if len(rows) != 1 or not isinstance(rows[0][0], int):
        msg = f"{connection.filename} has the tables of a journal, but does not say in which format: it is damaged"
        raise JournalError(msg)
    return int(rows[0][0])


def refuse_other_format(path: str, found: int | None) -> None:
    """`JournalError` for a format that this version does not know; `None` and older ones are no reason."""
    if found is not None and found < 1:
        msg = f"{path} says that it is in format {found}, which never was: it is damaged; restore it from a backup"
        raise JournalError(msg)
    if found is not None and found > FORMAT:
        msg = (
            f"{path} was written by a newer version of durable (format {found}, this one knows {FORMAT}); "
            "it was left untouched: upgrade durable-functions"
        )
        raise JournalError(msg)


def refuse_older_format(path: str, found: int | None) -> None:
    """For who may not migrate it."""
    if found != FORMAT:
        msg = f"{path} is in the older format {found}: the next process that executes its runs brings it to {FORMAT}"
        raise JournalError(msg)


def migrate(connection: apsw.Connection, path: str) -> None:
    """Bring the file to `FORMAT` in one transaction: a crash in it leaves the old format whole."""
    if format_of(connection) != FORMAT:
        connection.execute("BEGIN IMMEDIATE")
        try:
            for version in range((format_of(connection) or 0) + 1, FORMAT + 1):
                connection.execute(read_sql(f"migrations/{version:04}.sql"))
            connection.execute("INSERT OR REPLACE INTO durable_meta VALUES ('format', ?)", (FORMAT,))
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(apsw.Error):  # SQLite may have ended it by itself
                connection.execute("ROLLBACK")
            raise
    refuse_changed_schema(connection, path)


def refuse_changed_schema(connection: apsw.Connection, path: str) -> None:
    """A trigger or a view of ours that is not ours could change what we write: the journal is then not trusted."""
    query = "SELECT type, name, sql FROM sqlite_schema WHERE tbl_name LIKE 'durable\\_%' ESCAPE '\\'"
    found: dict[tuple[Any, Any], Any] = {
        (kind, name): sql for kind, name, sql in connection.execute(query).fetchall() if sql is not None
    }
    expected: dict[tuple[str, str], str] = {}
    for version in range(1, (format_of(connection) or FORMAT) + 1):
        lines = read_sql(f"migrations/{version:04}.sql").splitlines(keepends=True)
        text = "".join(line for line in lines if not line.startswith("--"))
        for statement in map(str.strip, text.split(";\n")):  # by hand, as above
            if statement.startswith("CREATE "):
                _, kind, name, *_ = statement.split(maxsplit=3)
                expected[kind.lower(), name] = statement
    for key in found.keys() | expected.keys():
        if found.get(key) != expected.get(key):
            msg = f"the {key[0]} {key[1]} in {path} is not as durable made it: the journal was changed, and is not used"
            raise JournalError(msg)

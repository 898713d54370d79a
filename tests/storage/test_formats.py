"""Journals of every format that ever was are opened, read and resumed; and how one becomes the next."""

import importlib.util
import re
import shutil
import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

import durable
from durable import _format
from durable._format import FORMAT
from durable._journal import Journal
from durable.errors import JournalError

FIXTURES = Path(__file__).parent / "fixtures"
FILES = sorted(FIXTURES.glob("format-*.db"))


@pytest.fixture(scope="module")
def program():
    """The program that made the fixtures; its workflow is declared once here."""
    spec = importlib.util.spec_from_file_location("make_format", FIXTURES / "make_format.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_format"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def old(request, path):
    """A copy of a fixture, to be opened."""
    shutil.copy(request.param, path)
    return path


def test_every_format_has_its_fixture():
    assert [file.name for file in FILES] == [f"format-{number}.db" for number in range(1, FORMAT + 1)]


def test_fixtures_are_small_and_whole():
    for file in FILES:
        assert file.stat().st_size < 100_000
        assert not list(FIXTURES.glob("*.db-*"))


def test_an_old_journal_tells_what_happened_without_being_owned(old, program, folder_bytes):
    before = folder_bytes(old)["journal.db"]
    engine = durable.Engine(old)
    try:
        good, bad, cut = (engine.get(f"order-{name}") for name in ("good", "bad", "cut"))
        assert [run.status for run in (good, bad, cut)] == ["completed", "failed", "interrupted"]
        assert good.workflow == "fixture_order"
        assert good.input == {"order": program.order("good")}
        reserved, charged, seen = good.result()
        assert (reserved, charged) == ({"reserved": 1250}, "charged 1250")
        assert seen.tzinfo is not None
        assert type(bad.error) is program.PaymentFailed
        assert bad.error.args == ("card of bad",)
        assert [(step.kind, step.name, step.status, step.attempt) for step in bad.steps()] == [
            ("step", "reserve", "completed", 1),
            ("now", "now", "completed", 1),
            ("step", "charge", "failed", 2),
        ]
        assert [(step.name, step.status) for step in cut.steps()][-1] == ("charge", "running")
        assert datetime(2026, 1, 1, tzinfo=UTC) < good.created_at < good.finished_at
    finally:
        engine.close()
    assert folder_bytes(old)["journal.db"] == before


def test_an_old_journal_is_resumed_where_it_was_left(old, program):
    program.RAN.clear()
    with durable.Engine(old) as engine:
        [run] = engine.resume(wait=True)
        assert run.id == "order-cut"
        assert run.status == "completed"
        reserved, charged, _ = run.result()
        assert (reserved, charged) == ({"reserved": 1250}, "charged 1250")
        assert program.RAN == ["charge cut"], "the completed step did not run again"
        assert [step.attempt for step in run.steps()] == [1, 1, 2]
        assert program.place(program.order("good")) == engine.get("order-good").result()
        with pytest.raises(program.PaymentFailed):
            program.place(program.order("bad"))
        assert program.RAN == ["charge cut"]
    assert newest_format(old) == FORMAT


def test_a_failed_run_of_an_old_journal_is_retried(old, program):
    program.RAN.clear()
    with durable.Engine(old) as engine:
        run = engine.get("order-bad")
        run.retry()
        with pytest.raises(program.PaymentFailed):
            run.result(60)
        assert program.RAN == ["charge bad", "charge bad"]


def newest_format(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT value FROM durable_meta WHERE key = 'format'").fetchone()[0]


# -- from one format to the next --------------------------------------------------------------------------------------


@pytest.fixture
def next_format(monkeypatch):
    """`next_format(sql)`: a version of durable whose format is one higher, made from the one before by `sql`."""
    real = _format.read_sql

    def next_format(sql):
        number = FORMAT + 1
        monkeypatch.setattr(_format, "FORMAT", number)
        monkeypatch.setattr(
            _format, "read_sql", lambda file: sql if file == f"migrations/{number:04}.sql" else real(file)
        )
        return number

    return next_format


@pytest.fixture
def made(open_journal, path, make):
    journal = open_journal()
    journal.write(lambda transaction: transaction.add_run(make.run()))
    journal.close(1.0)
    return path


def test_an_owner_brings_an_older_journal_to_its_own_format(made, next_format, open_journal, make):
    number = next_format(
        "-- More.\nCREATE TABLE durable_more (\n    a INTEGER\n);\nINSERT INTO durable_more VALUES (7);\n"
    )
    journal = open_journal()
    assert journal.run("run-1") == make.run(seq=1)
    assert journal.write(lambda transaction: transaction.execute("SELECT a FROM durable_more").fetchall()) == [(7,)]
    journal.close(2.0)
    assert newest_format(made) == number
    open_journal().close(3.0)  # and once only
    with closing(sqlite3.connect(made)) as connection:
        assert connection.execute("SELECT count(*) FROM durable_more").fetchone() == (1,)


def test_a_new_file_gets_all_formats_one_after_the_other(next_format, open_journal, path):
    number = next_format("CREATE TABLE durable_more (\n    a INTEGER\n);\n")
    open_journal().close(1.0)
    assert newest_format(path) == number


def test_a_reader_migrates_nothing(made, next_format, read_journal, folder_bytes):
    before = folder_bytes(made)["journal.db"]
    next_format("CREATE TABLE durable_more (\n    a INTEGER\n);\n")
    reader = read_journal()
    assert reader.has_tables()
    assert [run.id for run in reader.runs()] == ["run-1"]
    assert folder_bytes(made)["journal.db"] == before


@pytest.mark.parametrize(
    "sql", ["CREATE TABLE durable_more (\n    a INTEGER\n);\nNO SUCH STATEMENT;\n", "SELECT nothing;\n"]
)
def test_a_migration_that_fails_leaves_the_old_format_whole(made, next_format, open_journal, monkeypatch, sql):
    next_format(sql)
    with pytest.raises(JournalError) as raised:
        open_journal()
    assert "cannot rollback" not in str(raised.value)
    monkeypatch.undo()
    with closing(sqlite3.connect(made)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema")]
    assert "durable_more" not in names
    assert newest_format(made) == FORMAT
    assert open_journal().run("run-1") is not None


def test_a_death_in_a_migration_leaves_the_old_format_whole(made, start, open_journal):
    program = start(
        f"""
import os, sys
import apsw
from durable import _database, _format
from durable._journal import Journal
real = _format.read_sql
_format.FORMAT = {FORMAT + 1}
_format.read_sql = lambda file: (
    "CREATE TABLE durable_more (a);\\nSELECT die();\\n" if file == "migrations/{FORMAT + 1:04}.sql" else real(file))
harden = _database._harden
def with_death(connection):
    harden(connection)
    connection.create_scalar_function("die", lambda: os._exit(7))
_database._harden = with_death
Journal(sys.argv[1]).own(1, 1.0)
""",
        made,
    )
    assert program.end() == 7
    assert newest_format(made) == FORMAT
    journal = open_journal()
    assert journal.run("run-1") is not None


def test_two_that_migrate_at_once_do_it_once(made, next_format, open_journal):
    """The lock lets one in; the other finds it done."""
    next_format("CREATE TABLE durable_more (\n    a INTEGER\n);\n")
    open_journal().close(1.0)
    open_journal().close(2.0)


def test_migrations_are_numbered_without_a_gap():
    folder = Path(_format.__file__).parent / "sql" / "migrations"
    names = sorted(file.name for file in folder.glob("*.sql"))
    assert names == [f"{number:04}.sql" for number in range(1, FORMAT + 1)]


def test_the_sql_is_read_without_the_file_system(tmp_path, path, start):
    """As from a zip archive."""
    package = Path(_format.__file__).parent
    archive = shutil.make_archive(str(tmp_path / "durable"), "zip", package.parent, package.name)
    others = [folder for folder in sys.path if folder and Path(folder).resolve() != package.parent]
    program = start(
        f"""
import os, sys
sys.path[:] = [{archive!r}, *{others!r}]
import durable._format
assert ".zip" in durable._format.__file__
from durable._journal import Journal
journal = Journal(sys.argv[1])
journal.own(os.getpid(), 1.0)
print(journal.epoch, flush=True)
""",
        path,
    )
    assert program.line() == "1"


def test_the_text_of_the_statements_is_what_reviewers_read():
    """Each has a name and says what it is for, or is one line that does."""
    text = _format.read_sql("journal.sql")
    names = re.findall(r"^-- name: (\w+)$", text, re.MULTILINE)
    assert len(names) == len(set(names))
    assert set(names) == set(_format.named_statements("journal.sql"))


def test_a_journal_of_no_format_is_none(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (a)")
    assert not Journal(path).has_tables()

"""Files that are no journal, a damaged one, one of a newer version, or one that somebody changed: the library's own errors."""

import contextlib
import os
import random
import re
import sqlite3
import struct
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from durable import _place
from durable import _records as records
from durable._format import FORMAT
from durable._journal import Journal
from durable.errors import DurableError, JournalError


@pytest.fixture
def made(open_journal, path, make):
    """A journal that nobody owns, with three runs in it."""
    journal = open_journal()
    for number in range(3):
        run = journal.write(
            lambda transaction, number=number: transaction.add_run(make.run(id=f"run-{number}")), full=False
        )
        for position in range(20):
            journal.write(make.row(make.step(run=run.seq, position=position, output='"' + "x" * 200 + '"')), full=False)
    journal.close(1.0)
    return path


def change(path, *statements):
    """As anybody may, with the tool of his choice; in one piece, no WAL left."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def own(path):
    journal = Journal(path)
    try:
        journal.own(os.getpid(), 1.0)
    finally:
        journal.close(2.0)


def read(path):
    journal = Journal(path)
    try:
        return [(run, journal.steps(run.seq), journal.attempts(run.seq)) for run in journal.runs()]
    finally:
        journal.close(0.0)


def look(path):
    return Journal(path).has_tables()


def without_sidecars(files):
    return {name: data for name, data in files.items() if not name.endswith(("-owner", "-shm", "-wal"))}


# -- a newer version --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", [own, read, look])
@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_a_newer_format_is_refused_untouched(made, folder_bytes, mode, act):
    change(made, "UPDATE durable_meta SET value = 99 WHERE key = 'format'", f"PRAGMA journal_mode={mode}")
    before = without_sidecars(folder_bytes(made))
    with pytest.raises(JournalError, match=f"newer version of durable .format 99, this one knows {FORMAT}.") as raised:
        act(made)
    assert made in str(raised.value)
    assert "upgrade durable-functions" in str(raised.value)
    assert without_sidecars(folder_bytes(made)) == before


def test_a_newer_format_is_refused_even_if_its_tables_are_others(made, folder_bytes):
    change(
        made,
        "UPDATE durable_meta SET value = 2 WHERE key = 'format'"
        if FORMAT < 2
        else "UPDATE durable_meta SET value = 99",
        "DROP TABLE durable_attempt",
        "ALTER TABLE durable_run ADD COLUMN priority",
    )
    before = without_sidecars(folder_bytes(made))
    for act in (own, read, look):
        with pytest.raises(JournalError, match="newer version of durable"):
            act(made)
    assert without_sidecars(folder_bytes(made)) == before


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM durable_meta",
        "UPDATE durable_meta SET value = 'one'",
        "UPDATE durable_meta SET value = NULL",
        "UPDATE durable_meta SET value = 1.5",
    ],
)
@pytest.mark.parametrize("act", [own, read, look])
def test_a_journal_that_does_not_say_its_format_is_damaged(made, statement, act):
    change(made, statement)
    with pytest.raises(JournalError, match="does not say in which format: it is damaged"):
        act(made)


@pytest.mark.parametrize("value", ["0", "-1"])
@pytest.mark.parametrize("act", [own, read, look])
def test_a_format_that_never_was_is_refused(made, value, act):
    change(made, f"UPDATE durable_meta SET value = {value}")
    with pytest.raises(JournalError):
        act(made)


# -- a changed schema -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER spy AFTER INSERT ON durable_step BEGIN DELETE FROM durable_run; END",
        "CREATE TRIGGER durable_spy BEFORE UPDATE ON durable_run BEGIN SELECT raise(IGNORE); END",
        "ALTER TABLE durable_run ADD COLUMN priority",
        "ALTER TABLE durable_step RENAME COLUMN output TO outcome",
        "ALTER TABLE durable_attempt DROP COLUMN error",
        "DROP TABLE durable_attempt",
        "DROP INDEX durable_run_claim",
        "CREATE INDEX mine ON durable_run (module)",
        "CREATE UNIQUE INDEX durable_one ON durable_step (run, position)",
        "CREATE VIEW durable_view AS SELECT 1",
        "CREATE TABLE durable_mine (a)",
    ],
)
def test_a_changed_schema_is_refused_by_an_owner(made, statement):
    change(made, statement)
    with pytest.raises(JournalError, match="is not as durable made it") as raised:
        own(made)
    assert made in str(raised.value)


def test_a_view_in_place_of_a_table_is_refused(made):
    change(
        made,
        "ALTER TABLE durable_run RENAME TO elsewhere",
        "CREATE VIEW durable_run AS SELECT * FROM elsewhere",
    )
    with pytest.raises(JournalError, match="is not as durable made it"):
        own(made)


@pytest.mark.parametrize("table", ["run", "step", "attempt"])
def test_a_reader_refuses_a_view_in_place_of_a_table(made, table):
    """Such a view may be a query that never ends."""
    with closing(sqlite3.connect(made)) as connection:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info(durable_{table})")]
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT "
    endless += ", ".join(f"i AS {column}" if column == "seq" else f"1 AS {column}" for column in columns) + " FROM n"
    change(made, f"DROP TABLE durable_{table}", f"CREATE VIEW durable_{table} AS {endless}")
    program = """
import sys
from durable._journal import Journal
from durable.errors import JournalError
journal = Journal(sys.argv[1])
try:
    journal.has_tables(), journal.runs(), journal.steps(1), journal.attempts(1)
except JournalError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", program, made], capture_output=True, text=True, timeout=60)
    assert done.stdout == "refused\n", done.stderr


@pytest.mark.parametrize(
    "statements",
    [
        ("CREATE TABLE mine (a)", "CREATE INDEX mine_a ON mine (a)", "CREATE VIEW seen AS SELECT * FROM durable_run"),
        ("CREATE TABLE mine (a)", "CREATE TRIGGER mine_t AFTER INSERT ON mine BEGIN DELETE FROM mine; END"),
        ("CREATE TABLE durables (a)",),
        ("CREATE TABLE durableX_run (a)",),
    ],
)
def test_what_an_application_makes_of_its_own_is_none_of_our_business(made, statements):
    change(made, *statements)
    own(made)
    assert len(read(made)) == 3


def test_a_trigger_of_the_application_that_writes_into_the_journal_is_seen_by_the_checksums(made):
    """Nothing can forbid it to; what it did is noticed when read."""
    change(
        made,
        "CREATE TABLE mine (a)",
        "CREATE TRIGGER mine_t AFTER INSERT ON mine BEGIN UPDATE durable_step SET output = '1' WHERE run = 1; END",
        "INSERT INTO mine VALUES (1)",
    )
    own(made)
    with pytest.raises(JournalError, match="checksum does not fit"):
        read(made)


# -- no journal, or the ruins of one ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"hello",
        b"\0" * 5000,
        b"SQLite format 3\0",
        b"SQLite format 3\0" + b"\xff" * 5000,
        b"PK\x03\x04" + b"x" * 2000,
        random.Random(1).randbytes(20_000),
    ],
)
@pytest.mark.parametrize("act", [own, read, look])
def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(path, content, act):
    with open(path, "wb") as file:
        file.write(content)
    with pytest.raises(JournalError, match=re.escape(path)):
        act(path)
    with open(path, "rb") as file:
        assert file.read() == content


def test_an_empty_file_becomes_a_journal_at_the_first_execution(path, make):
    open(path, "wb").close()
    assert not look(path)
    own(path)
    assert read(path) == []


@pytest.mark.parametrize("share", [0.02, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 0.999])
def test_a_truncated_journal_is_refused_or_read_whole(made, share):
    whole = read(made)
    size = os.path.getsize(made)
    os.truncate(made, int(size * share))
    for act in (look, read, own, read):
        try:
            found = act(made)
        except JournalError as error:
            assert made in str(error) or "checksum" in str(error)
        else:
            assert act is not read or found == whole


def test_damage_is_not_told_from_a_read_that_failed_so_no_backup_is_restored_for_nothing(made):
    """SQLite says "malformed" of a page that the disk did not give, too."""
    with closing(sqlite3.connect(made)) as connection:
        [[page]] = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'durable_run'")
        [[size]] = connection.execute("PRAGMA page_size")
    with open(made, "r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * 100)
    advice = "damaged, or a read of it failed .*: open it again.* restore it from a backup where `durable doctor`"
    with pytest.raises(JournalError, match=advice):
        read(made)


def test_a_file_cut_to_nothing_while_its_wal_is_there_gives_no_wrong_answer(made):
    journal = Journal(made)
    journal.own(os.getpid(), 1.0)
    journal.close(2.0)
    os.truncate(made, 0)
    assert look(made) is False


def test_any_damage_is_noticed_or_harms_nothing(made):
    """Bytes changed anywhere in the file: an error of this library's own, or the same records; no other error, no other value."""
    dice = random.Random(20240229)
    with open(made, "rb") as file:
        whole = file.read()
    good = read(made)
    known = {(run.id, *step) for run, steps, _ in good for step in steps}
    noticed = 0
    for _ in range(250):
        damaged = bytearray(whole)
        for _ in range(dice.choice([1, 1, 1, 4, 60])):
            damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
        with open(made, "wb") as file:
            file.write(damaged)
        try:
            found = read(made)
        except DurableError:
            noticed += 1
            continue
        finally:
            for end in ("-wal", "-shm"):
                if os.path.exists(made + end):
                    os.unlink(made + end)
        # A row may be gone with its key (SQLite itself may see that, see integrity_check); none may be another.
        assert {run for run, _, _ in found} <= {run for run, _, _ in good}
        assert {(run.id, *step) for run, steps, _ in found for step in steps} <= known
    assert noticed > 60


def test_nothing_of_a_hostile_schema_is_run(made):
    """A view whose text calls functions with effects: reading does not follow it, and TRUSTED_SCHEMA is off."""
    change(made, "CREATE TABLE keep AS SELECT * FROM durable_meta", "DROP TABLE durable_meta")
    change(made, "CREATE VIEW durable_meta AS SELECT key, load_extension('/tmp/x') AS value FROM keep")
    for act in (own, read, look):
        with pytest.raises(JournalError):
            act(made)


def test_refusing_leaves_no_handle_and_no_lock(path):
    """An error's traceback must not keep the file open: the next one can mend it and open it."""
    with open(path, "wb") as file:
        file.write(b"x" * 4096)
    program = """
import os, sys
from durable._journal import Journal
errors = []
for _ in range(20):
    for act in (lambda j: j.own(1, 1.0), lambda j: j.runs(), lambda j: j.has_tables()):
        try:
            act(Journal(sys.argv[1]))
        except Exception as error:
            errors.append(error)
names = [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")]
print(len(errors), sum(sys.argv[1] in name for name in names))
"""
    if not os.path.exists("/proc/self/fd"):
        pytest.skip("needs /proc")
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["60", "0"]
    os.unlink(path)
    own(path)


def test_a_format_that_is_a_query_without_end_is_refused(made):
    change(
        made,
        "DROP TABLE durable_meta",
        "CREATE VIEW durable_meta AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
        " SELECT 'key' AS key, i AS value FROM n",
    )
    for act in ("journal.has_tables()", "journal.runs()", "journal.own(1, 1.0)"):
        program = f"""
import sys
from durable._journal import Journal
from durable.errors import JournalError
journal = Journal(sys.argv[1])
try:
    {act}
except JournalError as error:
    print(error)
"""
        done = subprocess.run([sys.executable, "-c", program, made], capture_output=True, text=True, timeout=60)
        assert "is not as durable made it" in done.stdout, done.stderr


@pytest.mark.parametrize("suffix", ["", "-wal", "-journal", "-owner"])
def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(made, suffix):
    if os.path.exists(made + suffix):
        os.unlink(made + suffix)
    os.mkfifo(made + suffix)
    for act in (own, read, look):
        said = f"{suffix} is no plain file: give another path for the journal"
        with pytest.raises(JournalError, match=re.escape(said) + "$"):
            act(made)


def test_columns_of_a_wrong_type_are_noticed_whatever_their_checksum_says(make):
    """SQLite's column types are a wish; who writes into the file can compute a checksum too."""
    row = records.step_row(make.step())
    records.step_from(row)
    for column, value in (
        ("branch", b""),
        ("name", 7),
        ("output", 5),
        ("turn", "0"),
        ("started_at", "now"),
        ("run", 1.0),
    ):
        record = make.step(**{column: value})
        with contextlib.suppress(struct.error):  # there is no checksum over a time that is no number
            row = records.step_row(record)
        with pytest.raises(JournalError, match="is damaged"):
            records.step_from((*record, row[-1]))
    for column, value in (
        ("workflow", 7),
        ("status", b"queued"),
        ("input", None),
        ("created_at", "now"),
        ("seq", None),
    ):
        with pytest.raises(JournalError, match="is damaged"):
            records.run_from(records.run_row(make.run(**{column: value})))


def test_a_file_that_goes_away_while_it_is_looked_at_is_none(made):
    """The WAL does, when the owner closes the journal."""
    over = threading.Event()

    def come_and_go():
        while not over.is_set():
            Path(made + "-journal").write_text("something")
            os.unlink(made + "-journal")

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(5000):
            _place.require_place(made)
            _place.has_content(made + "-journal")
    finally:
        over.set()
        thread.join()

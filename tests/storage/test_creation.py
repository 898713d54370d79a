"""What is made at the first execution, with which settings, and what is not made by looking."""

import errno
import fcntl
import os
import re
import sqlite3
import stat
from contextlib import closing

import apsw
import pytest

from durable import _database
from durable._clock import Clock
from durable._database import has_journal, open_reader, open_writer
from durable._format import FORMAT, named_statements
from durable._journal import Journal
from durable._model import RUN_TRANSITIONS, AttemptRecord, OwnerRecord, RunRecord, StepRecord
from durable._owner import is_owned
from durable._place import has_content
from durable.cli._reader import Reader
from durable.errors import JournalError, JournalLockedError, SerializationError


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


# -- by whom and how --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_all_files_are_for_their_owner_only_whatever_the_umask(open_journal, path, make, mask):
    before = os.umask(mask)
    try:
        journal = open_journal()
        journal.write(lambda transaction: transaction.add_run(make.run()))
        names = os.listdir(os.path.dirname(path))
        assert set(names) >= {"journal.db", "journal.db-wal", "journal.db-shm", "journal.db-owner"}
        assert {name: oct(mode(os.path.join(os.path.dirname(path), name))) for name in names} == dict.fromkeys(
            names, "0o600"
        )
    finally:
        os.umask(before)


def test_the_writer_s_settings_are_what_the_promises_need(path):
    with closing(open_writer(path, None)) as writer:
        assert writer.pragma("journal_mode") == "wal"
        assert writer.pragma("synchronous") == 2
        assert writer.pragma("wal_autocheckpoint") <= 1000
        assert writer.pragma("fullfsync") == 1
        assert writer.pragma("busy_timeout") == 5000
        assert writer.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, -1) == 0
        assert writer.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, -1) == 1


def test_the_reader_is_read_only_and_hardened_too(open_journal, path):
    open_journal()
    with closing(open_reader(path, None)) as reader:
        assert reader.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, -1) == 0
        assert reader.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, -1) == 1
        with pytest.raises(apsw.ReadOnlyError):
            reader.execute("DELETE FROM durable_run")


@pytest.mark.parametrize(("full", "expected"), [(True, [2, 1, 2]), (False, [1, 1, 1])])
def test_full_commits_are_synced_and_others_are_not(open_journal, make, full, expected):
    journal = open_journal(full=full)
    found = []

    def work(transaction):
        found.append(journal._writer.pragma("synchronous"))

    for each in (True, False, True):
        journal.write(work, full=each)
    assert found == expected


def test_what_is_synced_is_known(open_journal, make):
    journal = open_journal()
    seq = journal.write(lambda transaction: transaction.add_run(make.run()), full=False).seq
    begun = journal.write(make.row(make.step(run=seq)), full=False)
    assert journal.synced < begun
    done = journal.write(make.row(make.step(run=seq, position=1)), full=True)
    assert journal.synced == done > begun


def test_without_full_durability_a_commit_counts_as_safe(open_journal, make):
    journal = open_journal(full=False)
    done = journal.write(make.row(make.step()), full=False)
    assert journal.synced == done


def test_a_setting_that_sqlite_does_not_take_is_an_error(path):
    """Dot-file locks know no shared memory, and so no WAL: SQLite stays in another mode without a word."""
    with pytest.raises(JournalError, match="SQLite does not take journal_mode=wal"):
        open_writer(path, "unix-dotfile")


# -- the tables -------------------------------------------------------------------------------------------------------


@pytest.fixture
def schema(open_journal, path):
    open_journal().close(1.0)
    with closing(sqlite3.connect(path)) as connection:
        yield connection


@pytest.mark.parametrize(
    ("table", "record"), [("run", RunRecord), ("step", StepRecord), ("attempt", AttemptRecord), ("owner", OwnerRecord)]
)
def test_the_columns_are_the_fields_of_the_record_in_order(schema, table, record):
    columns = [row[1] for row in schema.execute(f"PRAGMA table_info(durable_{table})")]
    assert [name for name in columns if name != "checksum"] == list(record._fields)
    if table != "owner":
        assert columns[-1] == "checksum"


def test_everything_carries_the_prefix(schema):
    names = [name for (name,) in schema.execute("SELECT name FROM sqlite_schema")]
    assert names
    assert all(name.startswith(("durable_", "sqlite_autoindex_durable_")) for name in names)


def test_the_file_says_its_format(schema):
    assert schema.execute("SELECT value FROM durable_meta WHERE key = 'format'").fetchall() == [(FORMAT,)]


def test_the_file_knows_the_same_statuses_as_the_code(schema):
    [(text,)] = schema.execute("SELECT sql FROM sqlite_schema WHERE name = 'durable_run'")
    found = re.search(r"status IN \((.*?)\)", text, re.DOTALL)
    assert found
    assert set(re.findall(r"'(\w+)'", found[1])) == set(RUN_TRANSITIONS)


def parameters(sql, value):
    """The same value for each parameter of a statement: of "?", or of "?1", "?2" and so on."""
    numbered = re.findall(r"\?(\d)", sql)
    return dict.fromkeys(numbered, value) if numbered else [value] * sql.count("?")


def test_every_statement_is_known_to_sqlite(schema):
    for name, sql in named_statements("journal.sql").items():
        assert not sql.startswith("--"), name
        schema.execute(f"EXPLAIN {sql}", parameters(sql, None))


def test_no_statement_reads_a_whole_table(schema):
    for name, sql in named_statements("journal.sql").items():
        for row in schema.execute(f"EXPLAIN QUERY PLAN {sql}", parameters(sql, 1)):
            plain_scan = row[3].startswith("SCAN durable_") and "INDEX" not in row[3]
            assert not plain_scan or name == "owners", f"{name}: {row[3]}"  # that one goes by the key, with a limit


# -- in an application's own file -------------------------------------------------------------------------------------


@pytest.fixture
def application(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, durable_id TEXT)")
        connection.execute("CREATE TRIGGER told AFTER INSERT ON orders BEGIN UPDATE orders SET durable_id = 'x'; END")
        connection.execute("INSERT INTO orders VALUES (1, 'a')")
        connection.commit()
    os.chmod(path, 0o640)


def test_a_journal_can_live_in_an_application_s_file(application, open_journal, path, make):
    journal = open_journal()
    journal.write(lambda transaction: transaction.add_run(make.run()))
    assert journal.run("run-1").workflow == "order"
    journal.close(1.0)
    assert mode(path) == 0o640, "the application's own choice"
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM orders").fetchall() == [(1, "x")]
        assert connection.execute("SELECT id FROM durable_run").fetchall() == [("run-1",)]


# -- looking makes nothing --------------------------------------------------------------------------------------------

LOOKS = {
    "has_tables": lambda journal: journal.has_tables(),
    "runs": lambda journal: journal.runs(),
    "run": lambda journal: journal.run("x"),
    "steps": lambda journal: journal.steps(1),
    "owners": lambda journal: journal.owners(5),
    "live_epoch": lambda journal: journal.live_epoch(),
    "owner_pid": lambda journal: journal.owner_pid(),
}
READS = ["runs", "run", "steps", "owners"]


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("there", ["nothing", "an empty file", "an application's file"])
def test_looking_creates_and_changes_nothing(read_journal, path, folder_bytes, request, there, look):
    if there == "an empty file":
        open(path, "wb").close()
    elif there == "an application's file":
        request.getfixturevalue("application")
    before = folder_bytes(path)
    journal = read_journal()
    if look in READS:
        with pytest.raises(JournalError, match=f"no journal in {re.escape(path)}"):
            LOOKS[look](journal)
    else:
        assert not LOOKS[look](journal)
    journal.close(0.0)
    assert folder_bytes(path) == before


def test_a_reader_changes_nothing_in_a_journal_that_nobody_owns(open_journal, read_journal, path, folder_bytes, make):
    journal = open_journal()
    journal.write(lambda transaction: transaction.add_run(make.run()))
    journal.close(1.0)
    before = folder_bytes(path)
    reader = read_journal()
    assert reader.has_tables()
    assert [record.id for record in reader.runs()] == ["run-1"]
    reader.close(0.0)
    after = folder_bytes(path)
    assert not after.pop("journal.db-wal", b"")  # SQLite's own, which a read-only connection cannot take away
    after.pop("journal.db-shm", None)
    assert after == before


def test_a_journal_may_be_opened_before_it_is_there(read_journal, open_journal, make):
    reader = read_journal()
    assert not reader.has_tables()
    open_journal().write(lambda transaction: transaction.add_run(make.run()))
    assert reader.has_tables()
    assert reader.run("run-1").id == "run-1"


def test_a_file_that_lies_in_no_folder_is_a_journal_error_that_names_it(tmp_path):
    journal = Journal(str(tmp_path / "no" / "journal.db"))
    with pytest.raises(JournalError, match=re.escape(str(tmp_path / "no" / "journal.db"))):
        journal.own(1, 1.0)
    with pytest.raises(JournalError, match="there is no folder .*; make it first"):
        journal.has_tables()
    assert os.listdir(tmp_path) == []


def test_a_folder_is_no_journal(tmp_path):
    for call in (lambda journal: journal.own(1, 1.0), lambda journal: journal.runs()):
        with pytest.raises(JournalError, match=re.escape(str(tmp_path))):
            call(Journal(str(tmp_path)))


@pytest.mark.parametrize(
    "name", ["with space.db", "per%20cent.db", "q?mode=memory.db", "ünï#cödé.db", "file:x.db", "-.db"]
)
def test_a_path_is_a_path_and_no_uri(tmp_path, open_journal, make, name):
    where = str(tmp_path / name)
    journal = open_journal(where)
    journal.write(lambda transaction: transaction.add_run(make.run()))
    assert journal.run("run-1") is not None
    assert os.path.exists(where)
    journal.close(1.0)
    assert has_journal(where, None)


def test_a_relative_path_stays_where_it_was_when_the_working_directory_changes(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    journal = Journal("journal.db")
    journal.own(1, 1.0)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    journal.write(lambda transaction: transaction.add_run(make.run()))
    assert journal.run("run-1") is not None
    journal.close(1.0)
    assert os.listdir(elsewhere) == []


# -- looking while it is made -----------------------------------------------------------------------------------------

# Stands still while it makes the journal, and again when it has.
MAKES = """
import os, sys
from durable import _database
from durable._journal import Journal

def standing_still(*args, **options):
    print("makes it", flush=True)
    input()
    return real(*args, **options)

real = getattr(_database, sys.argv[2])
setattr(_database, sys.argv[2], standing_still)
Journal(sys.argv[1]).own(os.getpid(), 1.0)
print("made", flush=True)
input()
"""
EMPTY_FILE, WITHOUT_TABLES = "_open_for_writing", "migrate"
MOMENTS = pytest.mark.parametrize("moment", [EMPTY_FILE, WITHOUT_TABLES])
READERS = pytest.mark.parametrize("kind", [Journal, Reader])


def makes(start, path, moment):
    maker = start(MAKES, path, moment)
    assert maker.line() == "makes it"
    return maker


def go_on_when_somebody_waits(maker, monkeypatch):
    class Waits(Clock):
        @staticmethod
        def sleep(seconds):
            maker.say()
            assert maker.line() == "made"

    monkeypatch.setattr(_database, "SYSTEM_CLOCK", Waits())


@MOMENTS
@READERS
def test_a_reader_waits_for_a_journal_that_is_just_being_made(start, path, monkeypatch, moment, kind):
    maker = makes(start, path, moment)

    go_on_when_somebody_waits(maker, monkeypatch)
    reader = kind(path)
    assert [owner.pid for owner in reader.owners(9)] == [maker.pid]
    reader.close(None)


@MOMENTS
def test_so_does_who_writes_to_it_without_owning_it(start, path, monkeypatch, moment):
    maker = makes(start, path, moment)

    go_on_when_somebody_waits(maker, monkeypatch)
    assert Journal(path).visit(lambda transaction: transaction.number) == 0


@MOMENTS
@READERS
def test_who_makes_the_journal_and_comes_to_no_end_is_named(start, path, monkeypatch, moment, kind):
    maker = makes(start, path, moment)
    times = iter(range(9))

    class Hurries(Clock):
        sleep = staticmethod(lambda seconds: None)
        monotonic = staticmethod(lambda: 2.0 * next(times))

    monkeypatch.setattr(_database, "SYSTEM_CLOCK", Hurries())
    with pytest.raises(JournalError, match=f"no journal in {path} yet: process {maker.pid} is making it"):
        kind(path).owners(9)
    assert next(times) > 2


@MOMENTS
@READERS
def test_a_journal_whose_maker_dies_right_after_it_is_found(start, path, monkeypatch, moment, kind):
    """Between the look that found nothing, and the question whether somebody is making it."""
    maker = makes(start, path, moment)

    def asked_late(where):
        maker.say()
        assert maker.line() == "made"
        maker.kill()
        return is_owned(where)

    monkeypatch.setattr(_database, "is_owned", asked_late)
    reader = kind(path)
    assert [owner.pid for owner in reader.owners(9)] == [maker.pid]
    reader.close(None)


@MOMENTS
@READERS
def test_a_file_whose_maker_died_over_it_is_no_journal(start, path, moment, kind):
    makes(start, path, moment).kill()
    with pytest.raises(JournalError, match="without the tables of durable"):
        kind(path).owners(9)


def test_a_file_with_a_second_name_is_written_by_nobody(path, tmp_path, open_journal, folder_bytes):
    open_journal().close(1.0)
    os.link(path, tmp_path / "link.db")
    before = folder_bytes(path)
    for write in (open_journal, lambda: Journal(path).visit(lambda _: None)):
        with pytest.raises(
            JournalError, match=r"has 2 names \(hard links\).*remove all of them but the one that is in use"
        ):
            write()
    assert Journal(path).runs() == []
    assert {name: folder_bytes(path)[name] for name in before} == before
    os.unlink(tmp_path / "link.db")
    open_journal()


# -- symbolic links ---------------------------------------------------------------------------------------------------


def test_a_journal_behind_a_link_has_one_owner_whatever_it_is_called(path, open_journal, tmp_path, make):
    """SQLite puts its files beside the real one; a lock beside the link would be another lock."""
    journal = open_journal()
    link = str(tmp_path / "link.db")
    os.symlink(path, link)
    with pytest.raises(JournalError):
        open_journal(link)
    assert [owner.epoch for owner in journal.owners(9)] == [journal.epoch], "nobody else has been one"


def test_a_link_in_place_of_the_sidecar_is_not_followed(path, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    os.symlink(victim, path + "-owner")
    journal = Journal(path)
    with pytest.raises(JournalError):
        journal.own(1, 1.0)
    assert victim.read_text() == "precious"


def test_a_folder_may_be_reached_by_a_link(tmp_path, path, open_journal, make):
    os.symlink(os.path.dirname(path), tmp_path / "link")
    journal = open_journal(str(tmp_path / "link" / "journal.db"))
    journal.write(lambda transaction: transaction.add_run(make.run()))
    assert journal.run("run-1") is not None
    with pytest.raises(JournalError):
        open_journal(path)


# -- errors of the operating system and of SQLite ---------------------------------------------------------------------


def test_a_value_that_sqlite_cannot_hold_fails_alone_and_says_what_to_do(open_journal, make):
    journal = open_journal()
    journal._writer.limit(apsw.SQLITE_LIMIT_LENGTH, 10_000)  # in place of 1 GB
    big = make.row(make.step(output='"' + "x" * 20_000 + '"'))
    for work in (big, lambda transaction: transaction.put(big)):
        with pytest.raises(SerializationError, match="larger than SQLite holds in one value"):
            journal.write(work)
    journal.write(make.row(make.step()))
    assert journal.steps(1) == [make.step()]


def test_a_lock_that_the_file_system_does_not_know_is_no_lock_of_somebody_else(path, monkeypatch):
    def no_locks(fd, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(JournalError, match="No locks available") as raised:
        Journal(path).own(1, 1.0)
    assert not isinstance(raised.value, JournalLockedError)


def test_a_sidecar_that_is_removed_while_it_is_taken_is_made_anew(path, monkeypatch, open_journal):
    """By somebody who cleans up, between the opening of the file and its lock: the lock of a file without name is none."""
    real, count = fcntl.flock, []

    def remove_first(fd, how):
        if not count:
            count.append(1)
            os.unlink(path + "-owner")
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    open_journal()
    assert os.path.exists(path + "-owner")
    with pytest.raises(JournalLockedError):
        Journal(path).own(1, 1.0)


def test_a_death_while_the_file_is_created_leaves_one_that_the_next_owner_mends(
    path, start, open_journal, read_journal
):
    program = start(
        """
import os, sys
from durable import _database, _format
from durable._journal import Journal
real = _format.read_sql
_format.read_sql = lambda file: real(file) + "SELECT die();" if "migrations" in file else real(file)
harden = _database._harden
def with_death(connection):
    harden(connection)
    connection.create_scalar_function("die", lambda: os._exit(7))
    connection.pragma("cache_size", 1)
    connection.pragma("cache_spill", 1)
_database._harden = with_death
Journal(sys.argv[1]).own(1, 1.0)
""",
        path,
    )
    assert program.end() == 7
    assert not read_journal().has_tables()
    assert open_journal().epoch == 1


def test_a_transaction_that_an_interrupt_left_open_is_undone_before_the_next(open_journal, make):
    journal = open_journal()
    for work in (make.row(make.step(position=1)), lambda transaction: transaction.put(make.row(make.step(position=2)))):
        journal.begin(True).put(make.row(make.step(position=9)))
        journal.write(work)
    assert [step.position for step in journal.steps(1)] == [1, 2]


def test_a_commit_may_be_asked_for_twice(open_journal, make):
    """Where an interrupt struck in it, and it is not known whether it was done."""
    journal = open_journal()
    journal.begin(True).put(make.row(make.step()))
    journal.commit(True)
    journal.commit(True)
    assert journal.steps(1) == [make.step()]


# Dies when SQLite removes the rollback journal of the file that it has just made.
DIES = """
import os, sys, apsw
from durable._journal import Journal

class Deadly(apsw.VFS):
    def __init__(self):
        super().__init__("deadly", "")

    def xDelete(self, name, sync):
        os._exit(7)

deadly = Deadly()
Journal(sys.argv[1], vfs="deadly").own(1, 1.0)
"""


@READERS
def test_a_file_with_a_rollback_journal_is_none_before_its_next_owner_mends_it(start, path, open_journal, kind):
    assert start(DIES, path).end() == 7
    assert os.path.getsize(path + "-journal")
    reader = kind(path)
    assert not reader.has_tables()
    with pytest.raises(JournalError, match="without the tables of durable"):
        reader.owners(9)
    with pytest.raises(JournalError, match=f"no journal in {path}"):
        reader.visit(lambda transaction: None)
    assert open_journal().epoch == 1


def test_a_reader_that_looks_while_its_next_owner_mends_it_gets_an_error_of_ours(
    path, start, read_journal, monkeypatch
):
    """The rollback journal is there at the first look, and at the second the owner has rolled it back."""
    assert start(DIES, path).end() == 7
    exists = os.path.exists

    def exists_once(where):
        found = exists(where)
        if found and where == path + "-journal":
            os.unlink(where)
        return found

    monkeypatch.setattr(_database.os.path, "exists", exists_once)
    with pytest.raises(JournalError, match="attempt to write a readonly database"):
        read_journal().has_tables()


def test_a_disk_that_is_full_while_the_tables_are_made_leaves_a_file_that_the_next_owner_fills(
    path, open_journal, monkeypatch
):
    with monkeypatch.context() as small:
        harden = _database._harden

        def with_few_pages(connection):
            harden(connection)
            connection.pragma("max_page_count", 3)

        small.setattr(_database, "_harden", with_few_pages)
        with pytest.raises(JournalError, match="the disk is full"):
            Journal(path).own(1, 1.0)
    assert not has_journal(path, None)
    assert open_journal().epoch == 1


def test_what_may_only_be_read_is_an_error_that_says_what_is_needed(path, open_journal):
    open_journal()
    with closing(open_reader(path, None)) as reader:
        with pytest.raises(JournalError, match="has to be allowed to write the file"), _database.mapped(path):
            reader.execute("DELETE FROM durable_run")


def test_a_file_that_goes_away_while_it_is_looked_at_has_nothing_in_it(path, monkeypatch):
    with open(path, "w") as file:
        file.write("something")
    assert has_content(path)
    size = os.path.getsize

    def size_of_what_is_gone(where):
        os.unlink(where)
        return size(where)

    monkeypatch.setattr(os.path, "getsize", size_of_what_is_gone)
    assert not has_content(path)

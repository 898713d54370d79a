"""No space left, at the start and in the middle: an error of our own, nothing acknowledged that is not there, and on again."""

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import apsw
import pytest

from durable import _database, _place
from durable._database import copy_journal
from durable._journal import Journal
from durable.errors import JournalError

TEXT = '"' + "x" * 4000 + '"'


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 700 kB, where this user may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=700k,mode=0755", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except OSError:
        pytest.skip("no mount here")
    if done.returncode:
        pytest.skip("this user may not mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder):
    """Leave no byte on the disk."""
    with open(folder / "ballast", "ab", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            try:
                while True:
                    file.write(b"\1" * size)
            except OSError:
                pass


def write_until_full(journal, make, work):
    """Positions that were acknowledged, and the error that ended it."""
    acknowledged = []
    for position in range(10_000):
        try:
            journal.write(work(make.row(make.step(position=position, output=TEXT))))
        except JournalError as error:
            return acknowledged, error
        acknowledged.append(position)
    pytest.fail("the disk never got full")


WORKS = {
    "statement alone": lambda put: put,
    "transaction": lambda put: lambda transaction: transaction.put(put),
}


@pytest.mark.parametrize("kind", WORKS)
def test_a_full_disk_is_told_and_what_was_acknowledged_is_there(small_disk, open_journal, read_journal, make, kind):
    where = str(small_disk / "journal.db")
    spare = small_disk / "spare"
    spare.write_bytes(b"x" * 100_000)
    journal = open_journal(where)
    journal.write(lambda transaction: transaction.add_run(make.run()))
    acknowledged, error = write_until_full(journal, make, WORKS[kind])
    assert "the disk is full" in str(error) or "unknown whether its records" in str(error)
    assert acknowledged
    fill(small_disk)
    # Readers work on: in the owner, and elsewhere.
    for reader in (journal, read_journal(where)):
        assert [step.position for step in reader.steps(1)][: len(acknowledged)] == acknowledged
    journal.close(1.0)
    fill(small_disk)  # the room that its WAL took
    # A new owner on the full disk is told so, and harms nothing.
    with pytest.raises(JournalError, match="the disk is full|unable to open|disk I/O error|No space left"):
        open_journal(where)
    spare.unlink()
    again = open_journal(where)
    positions = [step.position for step in again.steps(1)]
    assert positions[: len(acknowledged)] == acknowledged
    assert len(positions) <= len(acknowledged) + 1, "only what was under way may be there besides"


@pytest.mark.parametrize("kind", WORKS)
def test_an_engine_goes_on_after_it_was_opened_again(small_disk, open_journal, make, kind):
    where = str(small_disk / "journal.db")
    journal = open_journal(where)
    fill(small_disk)
    acknowledged, _ = write_until_full(journal, make, WORKS[kind])
    os.unlink(small_disk / "ballast")
    journal.close(1.0)
    again = open_journal(where)
    again.write(make.row(make.step(position=9999)))
    positions = [step.position for step in again.steps(1)]
    assert positions[: len(acknowledged)] == acknowledged
    assert positions[-1] == 9999


def test_a_journal_cannot_be_made_on_a_full_disk_and_can_once_there_is_room(small_disk, open_journal):
    where = str(small_disk / "journal.db")
    fill(small_disk)
    with pytest.raises(JournalError, match="the disk is full|unable to open|No space left"):
        open_journal(where)
    os.unlink(small_disk / "ballast")
    assert open_journal(where).epoch == 1


@pytest.mark.parametrize("closed", [True, False], ids=["closed cleanly", "its owner killed"])
def test_a_journal_that_nobody_owns_is_read_on_a_full_disk(small_disk, start, read_journal, closed):
    where = str(small_disk / "journal.db")
    owner = start(
        """
import os, sys
from durable._database import copy_journal
from durable._journal import Journal
journal = Journal(sys.argv[1])
journal.own(os.getpid(), 1.0)
print(journal.epoch, flush=True)
input()
journal.close(2.0)
print("closed", flush=True)
input()
""",
        where,
    )
    owner.line()
    if closed:
        owner.say()
        owner.line()
    owner.kill()
    fill(small_disk)
    reader = read_journal(where)
    assert reader.has_tables()
    assert [record.epoch for record in reader.owners(5)] == [1]
    assert reader.runs() == []


# -- the same without a disk of one's own -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WORKS)
def test_a_database_that_may_not_grow_is_like_a_full_disk(open_journal, make, kind):
    journal = open_journal()
    journal.write(lambda transaction: transaction.add_run(make.run()))
    pages = journal._writer.pragma("page_count")
    journal._writer.pragma("max_page_count", pages + 20)
    acknowledged, error = write_until_full(journal, make, WORKS[kind])
    assert "full" in str(error)
    assert acknowledged
    assert [step.position for step in journal.steps(1)] == acknowledged
    journal.close(1.0)
    again = open_journal()
    again.write(make.row(make.step(position=9999)))
    assert [step.position for step in again.steps(1)] == [*acknowledged, 9999]


def test_a_full_disk_in_one_entry_s_work_is_not_the_end_of_the_others(open_journal, make):
    """The statement did not fit, its transaction was rolled back: nothing is unknown, smaller ones may still fit."""
    journal = open_journal()
    journal._writer.pragma("max_page_count", journal._writer.pragma("page_count") + 5)

    def work(transaction):
        for position in range(100):
            transaction.put(make.row(make.step(position=position, output=TEXT)))

    with pytest.raises(JournalError, match="the disk is full"):
        journal.write(work)
    assert journal.steps(1) == []
    journal.write(lambda transaction: transaction.add_run(make.run()))
    assert journal.run("run-1") is not None


def test_a_file_size_limit_is_a_journal_error_too(path, tmp_path):
    program = """
import os, resource, signal, sys
from durable._database import copy_journal
from durable._journal import Journal
from durable.errors import JournalError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(sys.argv[1])
journal.own(os.getpid(), 1.0)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
count = 0
for _ in range(1000):
    try:
        journal.write(lambda transaction: transaction.put_attempt(
            sys.modules["durable._model"].AttemptRecord(1, "", count, 1, 1.0, 2.0, "x" * 4000)))
    except JournalError as error:
        print(count, type(error).__name__)
        break
    count += 1
try:
    journal.close(2.0)
except JournalError:
    print("an error at close")
"""
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, timeout=60)
    count, error = done.stdout.split()
    assert error == "JournalError", done.stderr
    again = Journal(path)
    again.own(os.getpid(), 3.0)
    try:
        assert int(count) <= len(again.attempts(1)) <= int(count) + 1
    finally:
        again.close(4.0)


# -- places that may only be read -------------------------------------------------------------------------------------


@pytest.fixture
def open_to_all():
    """A folder that other users may look into; those of pytest are for one user only."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)
        os.chmod(name, 0o755)


@pytest.mark.parametrize("left", ["closed cleanly", "its owner killed"])
def test_a_journal_is_read_from_a_folder_that_may_not_be_written(open_to_all, start, left):
    """As another user, or from a medium that is mounted read-only."""
    path = str(open_to_all / "a %20?mode=rw#.db")  # a path, whatever SQLite makes of it in an URI
    owner = start(
        """
import os, sys
from durable._database import copy_journal
from durable._journal import Journal
from durable._model import AttemptRecord
journal = Journal(sys.argv[1])
journal.own(os.getpid(), 1.0)
journal.write(lambda transaction: transaction.put_attempt(AttemptRecord(1, "", 0, 1, 1.0, 2.0, None)))
print(journal.epoch, flush=True)
input()
journal.close(2.0)
print("closed", flush=True)
input()
""",
        path,
    )
    owner.line()
    if left == "closed cleanly":
        owner.say()
        owner.line()
    owner.kill()
    folder = os.path.dirname(path)
    for name in os.listdir(folder):
        os.chmod(os.path.join(folder, name), 0o444)
    os.chmod(folder, 0o555)
    program = """
import os, sys
from durable._database import copy_journal
from durable._journal import Journal
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
journal = Journal(sys.argv[1])
print(journal.has_tables(), len(journal.attempts(1)), [owner.epoch for owner in journal.owners(5)], journal.live_epoch())
"""
    # The package is found and loaded before the user is changed.
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True 1 [1] None\n", done.stderr


ASKS = """
import os, sys
import durable, durable.cli  # loaded before the user is changed

@durable.workflow
def doubles(number: int) -> int:
    return 2 * number

durable.open(os.path.dirname(sys.argv[1]) + "/../other.db")
doubles(1)
durable.close()
os.chmod(sys.argv[2], int(sys.argv[3], 8))
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for ask in (durable.runs, lambda: durable.get("order-1").signal("go"), lambda: doubles.start(1), durable.resume):
    try:
        durable.open(sys.argv[1])
        ask()
    except durable.JournalError as error:
        print(error)
    else:
        print("nothing is wrong")
"""


@pytest.mark.parametrize(
    ("left", "closed", "mode"),
    [
        ("its owner killed", "", "555"),  # and the index of its WAL is gone
        ("its owner killed", "journal.db-wal", "000"),
        ("its owner killed", "journal.db-shm", "000"),
        ("closed cleanly", "journal.db", "000"),
        ("closed cleanly", "", "000"),
    ],
)
def test_who_may_not_open_the_files_is_told_what_it_takes(open_to_all, start, left, closed, mode):
    folder = open_to_all / "data"
    folder.mkdir()
    path = str(folder / "journal.db")
    owner = start(
        """
import os, sys
from durable._journal import Journal
journal = Journal(sys.argv[1])
journal.own(os.getpid(), 1.0)
if sys.argv[2] == "closed cleanly":
    journal.close(2.0)
print("there", flush=True)
input()
""",
        path,
        left,
    )
    owner.line()
    owner.kill()
    if not closed:
        Path(path + "-shm").unlink(missing_ok=True)
    for each in folder.iterdir():
        each.chmod(0o666)
    folder.chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-c", ASKS, path, str(folder / closed), mode], capture_output=True, text=True, timeout=60
    )
    told = done.stdout.splitlines()
    assert len(told) == 4, done.stderr
    for each in told:
        assert each.startswith(path)
        assert "Permission denied" in each
        assert "this process has to be allowed to write the file, and to make files in its folder" in each


def test_whoever_has_no_more_files_to_open_is_told_so(path, open_journal):
    """However many are left: what could be opened is closed again before somebody is told of it."""
    open_journal().close(1.0)
    program = """
import os, resource, sys
from durable._journal import Journal
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
for left in range(10):
    taken = []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        for _ in range(left):
            os.close(taken.pop())
    try:
        Journal(sys.argv[1]).own(os.getpid(), 2.0)
    except Exception as error:
        print(error)
    else:
        print("owned")
        break
    finally:
        for each in taken:
            os.close(each)
"""
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, timeout=60)
    *failed, last = done.stdout.splitlines()
    assert last == "owned", done.stderr
    assert len(failed) > 1
    assert [each for each in failed if not each.endswith("raise the limit on open files (ulimit -n)")] == []


def test_a_copy_to_a_disk_that_is_full(open_journal, path):
    open_journal()
    with pytest.raises(JournalError, match=r"copying it: the disk is full .*; free some space"):
        copy_journal(path, "/dev/full", None, "copying it", still=False, reached=lambda *_: None)


def test_a_folder_that_may_not_be_entered_is_no_folder_without_a_journal(path, monkeypatch):
    stat = os.stat

    def refuse(where, **options):
        if where == path:
            raise PermissionError(errno.EACCES, "Permission denied", where)
        return stat(where, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", refuse)
        with pytest.raises(PermissionError):
            _place.require_place(path)


def test_where_no_file_can_be_opened_any_more_that_is_the_reason(path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        error = _database.as_journal_error(apsw.CantOpenError("unable to open database file"), path)
    assert "(Too many open files); raise the limit on open files" in str(error)


@pytest.mark.parametrize(
    ("said", "told"), [(apsw.ReadOnlyError, apsw.ReadOnlyError), (apsw.CantOpenError, JournalError)]
)
def test_a_journal_with_a_wal_that_cannot_be_opened_for_reading_says_so(
    open_journal, path, monkeypatch, make, said, told
):
    """Who opens it looks whether it may only not be written."""
    open_journal().write(make.row(make.step()))

    def refuse(_):
        raise said("so SQLite says")

    monkeypatch.setattr(_database, "_harden", refuse)
    with pytest.raises(told, match="so SQLite says"):
        _database._open_read_only(path, None)

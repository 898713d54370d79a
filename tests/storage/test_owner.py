"""One owner at a time: the lock goes with the process, however it ends, and nothing else takes or keeps it."""

import contextlib
import os
import signal
import sqlite3
import threading
import time

import pytest

from durable import _owner
from durable._journal import Journal
from durable._owner import OwnerLock, is_owned
from durable.errors import JournalError, JournalLockedError

# Programs: the path of the journal is sys.argv[1].
OWN = """
import os, sys, time
from durable._journal import Journal
journal = Journal(sys.argv[1])
journal.own(os.getpid(), 1.0)
print("owner", journal.epoch, flush=True)
"""
AND_WAIT = "input()\n"


def owning(start, path, then=AND_WAIT):
    program = start(OWN + then, path)
    assert program.line().startswith("owner")
    return program


def timed(call):
    begun = time.perf_counter()
    with contextlib.suppress(JournalError):
        call()
    return time.perf_counter() - begun


# -- two processes ----------------------------------------------------------------------------------------------------


def test_a_second_process_is_refused_soon_with_the_pid_of_the_owner(start, path):
    owner = owning(start, path)
    journal = Journal(path)
    begun = time.perf_counter()
    with pytest.raises(JournalLockedError) as raised:
        journal.own(os.getpid(), 1.0)
    assert time.perf_counter() - begun < 10
    assert raised.value.pid == owner.pid
    assert f"process {owner.pid}" in str(raised.value)
    assert path in str(raised.value)
    assert journal.epoch == 0


def test_a_refused_process_has_changed_nothing(start, path, folder_bytes):
    owning(start, path)
    before = folder_bytes(path)
    with pytest.raises(JournalLockedError):
        Journal(path).own(os.getpid(), 1.0)
    assert folder_bytes(path) == before


def test_a_killed_owner_frees_the_journal_at_once(start, path, open_journal):
    owning(start, path).kill()
    open_journal()


def test_an_owner_that_exits_without_closing_frees_the_journal(start, path, open_journal):
    owner = start(OWN + "os._exit(0)", path)
    owner.line()
    assert owner.end() == 0
    open_journal()


def test_a_second_owner_may_come_after_the_first_closed(open_journal):
    first = open_journal()
    first.close(5.0)
    assert open_journal().epoch == first.epoch + 1


def test_an_owner_waits_for_another_that_is_just_closing(start, path, open_journal, monkeypatch):
    monkeypatch.setattr(_owner, "_LOCK_PATIENCE_SECONDS", 60)
    owning(start, path, "time.sleep(0.1); journal.close(2.0); print('closed', flush=True); input()")
    open_journal()


def test_another_engine_of_this_process_is_told_apart(open_journal, path):
    open_journal()
    with pytest.raises(JournalLockedError, match="owned by another engine of this process") as raised:
        Journal(path).own(os.getpid(), 1.0)
    assert raised.value.pid == os.getpid()


def test_a_sidecar_that_says_nothing_is_a_lock_all_the_same(open_journal, path):
    open_journal()
    os.truncate(path + "-owner", 0)
    with pytest.raises(JournalLockedError, match="process unknown") as raised:
        Journal(path).own(os.getpid(), 1.0)
    assert raised.value.pid is None


def test_of_many_that_race_one_owns(start, path):
    racer = (
        """
import sys
from durable.errors import JournalLockedError
input()
"""
        + OWN.replace('journal.own(os.getpid(), 1.0)\nprint("owner", journal.epoch, flush=True)', "")
        + """
try:
    journal.own(os.getpid(), 1.0)
    print("owner", flush=True)
except JournalLockedError as error:
    print("refused", error.pid, flush=True)
input()
"""
    )
    racers = [start(racer, path) for _ in range(5)]
    for each in racers:
        each.say()
    answers = [each.line() for each in racers]
    owners = [each for each, answer in zip(racers, answers, strict=True) if answer == "owner"]
    assert len(owners) == 1
    assert sorted(answers) == ["owner"] + [f"refused {owners[0].pid}"] * 4


# -- what does not drop the lock --------------------------------------------------------------------------------------


def test_reading_and_copying_the_sidecar_in_the_owner_does_not_drop_the_lock(start, path):
    owning(
        start,
        path,
        "import shutil\nopen(path := sys.argv[1] + '-owner').read()\nshutil.copy(path, path + '.copy')\n"
        "os.close(os.open(path, os.O_RDWR))\nprint('copied', flush=True)\ninput()\n",
    ).line()
    with pytest.raises(JournalLockedError):
        Journal(path).own(os.getpid(), 1.0)


def test_the_sidecar_tells_the_pid_to_anybody(start, path):
    owner = owning(start, path)
    with open(path + "-owner") as file:
        assert file.read() == f"{owner.pid}\n"
    assert Journal(path).owner_pid() == owner.pid


def test_a_short_pid_after_a_long_one_leaves_no_digits(path):
    with open(path + "-owner", "w") as file:
        file.write("123456789012345\nand more")
    lock = OwnerLock(path)
    with open(path + "-owner") as file:
        assert file.read() == f"{os.getpid()}\n"
    lock.release()


def test_a_sidecar_that_is_removed_is_noticed_before_the_next_acknowledgement(start, path, make):
    """Else another process could own the same journal at the same time, on a new sidecar."""
    owner = start(
        OWN
        + """
from durable.errors import JournalError
input()
try:
    journal.write(lambda transaction: None)
    print("acknowledged", flush=True)
except JournalError as error:
    print(error, flush=True)
""",
        path,
    )
    owner.line()
    os.unlink(path + "-owner")
    owner.say()
    answer = owner.line()
    assert "moved, removed or replaced" in answer


# -- fork -------------------------------------------------------------------------------------------------------------

FORK = """
child = os.fork()
if child == 0:
    print(os.getpid(), flush=True)  # from here on it has nothing of its parent's
    time.sleep(60)
    os._exit(0)
input()
"""


def require_free(owner, child, open_journal):
    """Who owned the journal dies, and its child lives on: somebody else can own it."""
    try:
        owner.kill()
        os.kill(child, 0)  # it lives
        open_journal()
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_child_does_not_keep_a_dead_owner_s_lock(start, path, open_journal):
    owner = owning(start, path, FORK)
    child = int(owner.line())
    require_free(owner, child, open_journal)


def test_a_child_does_not_drop_its_parent_s_lock(start, path):
    owner = owning(
        start,
        path,
        "if os.fork() == 0:\n    del journal\n    sys.exit()\nos.wait()\nprint('waited', flush=True)\ninput()",
    )
    owner.line()
    with pytest.raises(JournalLockedError):
        Journal(path).own(os.getpid(), 1.0)


def test_a_child_that_forgets_its_parent_s_journal_can_neither_write_nor_close_it(start, path):
    owner = owning(
        start,
        path,
        """
from durable.errors import EngineClosedError
handles = None
if os.fork() == 0:
    handles = journal.forget(EngineClosedError("it is the parent's"))
    try:
        journal.write(lambda transaction: None)
    except EngineClosedError as error:
        print(error, flush=True)
    journal.close(2.0)
    os._exit(0)
os.wait()
journal.write(lambda transaction: None)
print("goes on", [record.closed_at for record in journal.owners(9)], flush=True)
input()
""",
    )
    assert owner.line() == "it is the parent's"
    assert owner.line() == "goes on [None]"
    with pytest.raises(JournalLockedError):
        Journal(path).own(os.getpid(), 1.0)


FORKS_IN_THE_MIDDLE = """
import os, sys, threading, time
from durable import _owner
from durable._journal import Journal

def fork():
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)

def lock_and_fork(*args):
    _owner.fcntl.flock = flock
    flock(*args)
    threading.Thread(target=fork).start()
    time.sleep(0.3)  # it forks meanwhile, or when it may

flock, _owner.fcntl.flock = _owner.fcntl.flock, lock_and_fork
if sys.argv[2] == "own":
    Journal(sys.argv[1]).own(os.getpid(), 1.0)
else:
    _owner.is_owned(sys.argv[1])
input()
"""


@pytest.mark.parametrize("act", ["own", "probe"])
def test_a_child_of_another_thread_s_fork_does_not_keep_a_lock_that_is_just_taken(start, path, open_journal, act):
    OwnerLock(path).release()
    program = start(FORKS_IN_THE_MIDDLE, path, act)
    child = int(program.line())
    require_free(program, child, open_journal)


def test_a_program_that_is_started_by_the_owner_does_not_keep_the_lock(start, path, open_journal):
    owner = owning(
        start,
        path,
        "import subprocess\nchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], close_fds=False)\n"
        "print(child.pid, flush=True)\ninput()",
    )
    child = int(owner.line())
    try:
        owner.kill()
        open_journal()
    finally:
        os.kill(child, signal.SIGKILL)


# -- probing ----------------------------------------------------------------------------------------------------------


def test_a_reader_tells_whether_somebody_owns_it(start, path):
    assert not is_owned(path)
    owner = owning(start, path)
    assert is_owned(path)
    owner.kill()
    assert not is_owned(path)


def test_readers_that_probe_never_make_an_owner_fail(start, path):
    OwnerLock(path).release()
    readers = [
        start(
            "import sys\nfrom durable._owner import is_owned\nprint(flush=True)\nwhile True:\n    is_owned(sys.argv[1])",
            path,
        )
        for _ in range(2)
    ]
    for reader in readers:
        reader.line()
    for _ in range(60):
        OwnerLock(path).release()


def test_probing_does_not_take_the_lock_from_an_owner(open_journal, path):
    open_journal()
    for _ in range(100):
        assert is_owned(path)
    with pytest.raises(JournalLockedError):
        Journal(path).own(os.getpid(), 1.0)


def test_threads_of_one_process_cannot_own_twice(path):
    owned, refused = [], []

    def own():
        journal = Journal(path)
        try:
            journal.own(os.getpid(), 1.0)
            owned.append(journal)
        except JournalLockedError:
            refused.append(1)

    threads = [threading.Thread(target=own) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(owned), len(refused)) == (1, 3)
    owned[0].close(2.0)


# -- epochs -----------------------------------------------------------------------------------------------------------


def test_owners_are_counted_and_a_clean_end_is_told_from_a_death(start, path, open_journal, read_journal):
    journal = open_journal()
    assert journal.epoch == 1
    journal.close(1700000005.0)
    killed = owning(start, path)
    reader = read_journal()
    assert reader.live_epoch() == 2
    killed.kill()
    assert reader.live_epoch() is None
    again = open_journal()
    assert again.epoch == 3
    assert again.live_epoch() == reader.live_epoch() == 3
    assert [(owner.epoch, owner.closed_at) for owner in reader.owners(9)] == [(3, None), (2, None), (1, 1700000005.0)]
    assert [owner.pid for owner in reader.owners(2)] == [os.getpid(), killed.pid]
    assert again.write(lambda t: [t.closed_cleanly(epoch) for epoch in (1, 2, 3, 4)]) == [True, False, False, False]


def test_a_journal_is_not_owned_after_it_closed(open_journal, path):
    journal = open_journal()
    journal.close(2.0)
    assert not is_owned(path)
    assert os.path.getsize(path + "-owner") == 0
    journal.close(3.0)


def test_writing_without_owning_is_an_error(path, open_journal, read_journal):
    open_journal().close(1.0)
    with pytest.raises(JournalError, match="not owned by this engine"):
        read_journal().write(lambda transaction: None)


def test_a_failed_start_frees_the_lock_and_counts_for_nothing(path):
    with open(path, "wb") as file:
        file.write(b"no database, but a text that is long enough to look like one" * 100)
    journal = Journal(path)
    for _ in range(2):
        with pytest.raises(JournalError, match="no journal, or it is damaged"):
            journal.own(os.getpid(), 1.0)
        assert not is_owned(path)
        assert journal.epoch == 0
    os.unlink(path)
    journal.own(os.getpid(), 1.0)
    assert journal.epoch == 1
    journal.close(2.0)


# -- network file systems ---------------------------------------------------------------------------------------------


@pytest.fixture
def mounts(monkeypatch):
    """`mounts({"/": "ext4"})`: what the operating system says is mounted where."""
    import builtins
    import io

    if not os.path.exists("/proc/self/mounts"):
        pytest.skip("needs /proc")
    monkeypatch.delenv("DURABLE_NETWORK_FS", raising=False)
    real = builtins.open

    def say(table):
        text = "".join(f"server {point} {kind} rw,relatime 0 0\n" for point, kind in table.items())
        monkeypatch.setattr(
            builtins,
            "open",
            lambda name, *a, **k: io.StringIO(text) if name == "/proc/self/mounts" else real(name, *a, **k),
        )

    return say


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "lustre", "afs", "beegfs"])
def test_network_file_systems_are_refused(mounts, path, kind, folder_bytes):
    mounts({"/": "ext4", os.path.dirname(path): kind})
    with pytest.raises(JournalError, match="is on a network file system") as raised:
        Journal(path).own(os.getpid(), 1.0)
    assert kind in str(raised.value)
    assert "DURABLE_NETWORK_FS=1" in str(raised.value)
    assert folder_bytes(path) == {}


def test_a_network_file_system_can_be_asked_for(mounts, path, monkeypatch):
    mounts({"/": "ext4", os.path.dirname(path): "nfs4"})
    monkeypatch.setenv("DURABLE_NETWORK_FS", "1")
    journal = Journal(path)
    journal.own(os.getpid(), 1.0)
    journal.close(2.0)


@pytest.mark.parametrize(
    "table",
    [
        {"/": "ext4"},
        {"/": "nfs4", "{folder}": "ext4"},  # a local disk below a network root
        {"/": "ext4", "{folder}-other": "nfs4"},
        {"/": "ext4", "/mnt": "nfs4"},
        {"/": "btrfs", "{folder}": "tmpfs"},
        {"/": "overlay"},
        {"/": "nfsd"},
    ],
)
def test_a_local_disk_is_fine(mounts, path, table):
    folder = os.path.dirname(path)
    mounts({point.replace("{folder}", folder): kind for point, kind in table.items()})
    journal = Journal(path)
    journal.own(os.getpid(), 1.0)
    journal.close(2.0)


def test_a_mount_point_with_a_space_in_its_name_is_known(mounts, tmp_path):
    folder = tmp_path / "my share"
    folder.mkdir()
    mounts({"/": "ext4", str(folder).replace(" ", "\\040"): "nfs4"})
    with pytest.raises(JournalError, match="network file system"):
        Journal(str(folder / "journal.db")).own(os.getpid(), 1.0)


def test_a_lock_file_that_was_replaced_meanwhile_is_not_the_one(path, monkeypatch):
    """Else two processes would each hold the lock of a file of that name."""
    flock, replaced = _owner.fcntl.flock, []

    def replace_then_lock(fd, operation):
        if not replaced:
            replaced.append(fd)
            os.rename(path + "-owner", path + "-owner.old")
            with open(path + "-owner", "w"):
                pass
        flock(fd, operation)

    monkeypatch.setattr(_owner.fcntl, "flock", replace_then_lock)
    lock = OwnerLock(path)
    monkeypatch.undo()
    assert replaced
    with open(path + "-owner") as file:
        assert file.read() == f"{os.getpid()}\n"
    assert is_owned(path)
    with pytest.raises(JournalLockedError):
        OwnerLock(path)
    lock.release()
    assert not is_owned(path)


def test_a_lock_is_given_back_once(path):
    lock = OwnerLock(path)
    lock.release()
    other = OwnerLock(path)
    lock.release()
    assert is_owned(path)
    other.release()


def test_who_cannot_become_the_owner_keeps_nobody_out(open_journal, path):
    open_journal().close(2.0)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE durable_owner SET pid = pid + 1")
    with pytest.raises(JournalError, match="owner number 1 is damaged"):
        open_journal()
    assert not is_owned(path)


def test_what_nobody_owns_is_not_written(path, make):
    journal = Journal(path)
    for work in (make.row(make.step()), lambda _: None):
        with pytest.raises(JournalError, match="is not owned by this engine"):
            journal.write(work)
    assert not os.path.exists(path)

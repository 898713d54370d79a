"""A file that is moved, removed or replaced while it is open is noticed before the next acknowledgement.

SQLite goes on writing into what has no name any more, without a word.
"""

import os
import shutil
import time

import apsw
import pytest

from durable.errors import JournalError


def move(path):
    os.rename(path, path + ".moved")


def remove(path):
    os.unlink(path)


def replace_by_copy(path):
    shutil.copy2(path, path + ".copy")
    os.rename(path + ".copy", path)


def remove_and_make_empty(path):
    os.unlink(path)
    open(path, "wb").close()


def folder(path):
    return os.path.dirname(path)


def move_folder(path):
    os.rename(folder(path), folder(path) + ".moved")


def replace_folder_by_copy(path):
    """As a restored backup or a synchronised copy, all times and names as they were."""
    os.rename(folder(path), folder(path) + ".moved")
    shutil.copytree(folder(path) + ".moved", folder(path), symlinks=True)
    status = os.stat(folder(path) + ".moved")
    os.utime(folder(path), ns=(status.st_atime_ns, status.st_mtime_ns))


def link_folder_elsewhere(path):
    replace_folder_by_copy(path)
    os.rename(folder(path), folder(path) + ".copy")
    os.symlink(folder(path) + ".copy", folder(path))


CHANGES = {
    **{
        f"{change.__name__} {end or 'db'}": lambda path, change=change, end=end: change(path + end)
        for change in (move, remove, replace_by_copy, remove_and_make_empty)
        for end in ("", "-wal")
    },
    "move folder": move_folder,
    "replace folder by copy": replace_folder_by_copy,
    "link folder elsewhere": link_folder_elsewhere,
}


@pytest.mark.parametrize("alone", [True, False], ids=["statement alone", "transaction"])
@pytest.mark.parametrize("settled", [True, False], ids=["long open", "just opened"])
@pytest.mark.parametrize("change", CHANGES)
def test_the_next_write_is_not_acknowledged(open_journal, path, make, change, settled, alone):
    journal = open_journal()
    run = journal.write(lambda transaction: transaction.add_run(make.run()))

    def write(position):
        put = make.row(make.step(run=run.seq, position=position))
        return journal.write(put if alone else lambda transaction: transaction.put(put))

    write(0)
    if settled:  # the folder's time is old enough to be relied on
        time.sleep(0.12)
        write(1)
        write(2)
    CHANGES[change](path)
    with pytest.raises(JournalError):
        write(3)
    with pytest.raises(JournalError, match="unknown whether"):
        write(4)


def test_the_message_says_what_happened(open_journal, path, make):
    journal = open_journal()
    os.rename(path + "-wal", path + "-wal.old")
    with pytest.raises(JournalError, match="was moved, removed or replaced while it was open"):
        journal.write(make.row(make.step()))


def test_what_was_acknowledged_before_is_in_the_file_that_was_moved(open_journal, path, make):
    journal = open_journal()
    run = journal.write(lambda transaction: transaction.add_run(make.run()))
    journal.write(make.row(make.step(run=run.seq)))
    move_folder(path)
    with pytest.raises(JournalError):
        journal.write(make.row(make.step(run=run.seq, position=1)))
    journal.close(1.0)
    again = open_journal(os.path.join(folder(path) + ".moved", "journal.db"))
    assert again.run("run-1") == run
    assert [step.position for step in again.steps(run.seq)][:1] == [0]


def test_nothing_is_written_any_more_and_others_are_not_kept_from_writing(open_journal, path, make):
    journal = open_journal()
    run = journal.write(lambda transaction: transaction.add_run(make.run()))
    os.rename(path + "-owner", path + "-owner.old")
    put = make.row(make.step(run=run.seq))
    with pytest.raises(JournalError):
        journal.write(lambda transaction: transaction.put(put))
    other = apsw.Connection(path)
    other.execute("BEGIN IMMEDIATE; ROLLBACK")
    assert other.execute("SELECT count(*) FROM durable_step").fetchall() == [(0,)]
    other.close()


def test_two_changes_within_a_tick_of_the_clock_are_noticed(open_journal, path, make):
    """The second may leave the folder's time as it was after the first."""
    journal = open_journal()
    journal.write(make.row(make.step()))
    open(path + ".note", "wb").close()
    journal.write(make.row(make.step(position=1)))
    stamp = os.stat(folder(path)).st_mtime_ns
    os.unlink(path + "-wal")
    os.utime(folder(path), ns=(stamp, stamp))
    with pytest.raises(JournalError):
        journal.write(make.row(make.step(position=2)))


def test_other_files_may_come_and_go(open_journal, path, make):
    journal = open_journal()
    for number in range(20):
        other = os.path.join(folder(path), f"other-{number}")
        open(other, "wb").close()
        journal.write(make.row(make.step(position=2 * number)))
        if number % 2:
            os.unlink(other)
        journal.write(make.row(make.step(position=2 * number + 1)))
    assert len(journal.steps(1)) == 40


def test_a_checkpoint_and_a_growing_wal_are_no_change(open_journal, path, make):
    journal = open_journal()
    big = '"' + "x" * 50_000 + '"'
    for position in range(120):  # past the automatic checkpoint
        journal.write(make.row(make.step(position=position, output=big)), full=False)
    journal.write(make.row(make.step(position=999)))
    assert len(journal.steps(1)) == 121


def test_without_full_durability_it_is_noticed_too(open_journal, path, make):
    journal = open_journal(full=False)
    journal.write(make.row(make.step()))
    remove(path)
    with pytest.raises(JournalError):
        journal.write(make.row(make.step(position=1)))

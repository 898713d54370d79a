"""Threads that write at a time share an fsync; each commit that says FULL has one."""

import threading
import time

import apsw
import pytest

from durable import _transaction
from durable._entries import MOST_ROWS
from durable.errors import SerializationError


class CountingVfs(apsw.VFS):
    """The real file system, that counts syncs by file and can be made slow."""

    def __init__(self):
        self.syncs = []
        self.seconds = 0.0
        self.fails = False
        super().__init__("durable-counting", "")

    def xOpen(self, name, flags):
        return CountingFile(self, name, flags)


class CountingFile(apsw.VFSFile):
    def __init__(self, vfs, name, flags):
        self._vfs = vfs
        self._name = name if isinstance(name, str) or name is None else name.filename()
        self._is_wal = bool(flags[0] & apsw.SQLITE_OPEN_WAL)
        super().__init__("", name, flags)

    def xSync(self, flags):
        self._vfs.syncs.append("wal" if self._is_wal else "db")
        time.sleep(self._vfs.seconds)
        if self._vfs.fails:
            raise apsw.IOError("the sync failed")
        return super().xSync(flags)


@pytest.fixture
def vfs():
    made = CountingVfs()
    yield made
    made.unregister()


def test_a_named_vfs_is_used_by_writer_and_reader(vfs, open_journal, read_journal, make):
    journal = open_journal(vfs="durable-counting")
    assert vfs.syncs
    journal.write(lambda transaction: transaction.add_run(make.run()))
    assert read_journal(vfs="durable-counting").run("run-1") is not None
    assert read_journal(vfs="durable-counting").has_tables()


def test_a_vfs_in_python_opens_a_journal_that_nobody_owns(vfs, open_journal, read_journal, make):
    journal = open_journal(vfs="durable-counting")
    run = journal.write(lambda transaction: transaction.add_run(make.run()))
    journal.close(1.0)
    for _ in range(2):
        reader = read_journal(vfs="durable-counting")
        assert reader.has_tables()
        assert reader.runs() == [run]
        reader.close(0.0)
    assert open_journal(vfs="durable-counting").epoch == 2


def test_each_full_commit_is_synced_before_it_is_acknowledged_and_no_other_is(vfs, open_journal, make):
    journal = open_journal(vfs="durable-counting")
    put = make.row(make.step())
    for work in (put, lambda transaction: transaction.put(put)):
        vfs.syncs.clear()
        for full, expected in ((True, ["wal"]), (False, []), (False, []), (True, ["wal"]), (True, ["wal"])):
            journal.write(work, full=full)
            assert vfs.syncs == expected
            vfs.syncs.clear()


def test_without_full_durability_no_commit_is_synced(vfs, open_journal, make):
    journal = open_journal(vfs="durable-counting", full=False)
    vfs.syncs.clear()
    for position in range(20):
        journal.write(make.row(make.step(position=position)), full=True)
    assert vfs.syncs == []


def test_threads_that_write_at_a_time_share_an_fsync(vfs, open_journal, make):
    journal = open_journal(vfs="durable-counting")
    vfs.syncs.clear()
    vfs.seconds = 0.005  # a disk that takes its time
    threads, writes = 20, 10
    errors = []

    def write(thread):
        try:
            for position in range(writes):
                journal.write(make.row(make.step(run=thread + 1, position=position)))
                assert len(journal.steps(thread + 1)) == position + 1, "acknowledged, so it is there"
        except BaseException as error:
            errors.append(error)

    pool = [threading.Thread(target=write, args=(number,)) for number in range(threads)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    assert errors == []
    assert len(vfs.syncs) <= threads * writes / 4, "twenty wait while one syncs"
    assert sum(len(journal.steps(number + 1)) for number in range(threads)) == threads * writes


def test_an_engine_whose_disk_fails_while_it_closes_gives_its_lock_back(vfs, open_journal, path, make):
    """The last connection checkpoints when it closes: what that was to move is safe in the WAL."""
    journal = open_journal(vfs="durable-counting")
    run = journal.write(lambda transaction: transaction.add_run(make.run()))
    vfs.fails = True
    journal.close(1.0)
    vfs.fails = False
    again = open_journal()
    assert again.epoch == 2
    assert again.runs() == [run]


def rows_of_runs(make, count):
    """Of three runs in turn, so that they are not written in the order of their keys."""
    return [make.row(make.step(run=number % 3 + 1, position=number // 3)) for number in range(count)]


def written(journal):
    return sorted((step.run, step.position) for run in (1, 2, 3) for step in journal.steps(run))


@pytest.mark.parametrize("full", [False, True])
def test_as_many_rows_as_there_may_be_are_written_once_each_and_synced_together(vfs, open_journal, make, full):
    journal = open_journal(vfs="durable-counting")
    for count in [*range(2, 70), *range(70, MOST_ROWS, 13), MOST_ROWS, MOST_ROWS + 1, 3 * MOST_ROWS]:
        journal._writer.execute("DELETE FROM durable_step")
        rows = rows_of_runs(make, count)
        vfs.syncs.clear()
        journal.write(rows, full=full)
        assert vfs.syncs == (["wal"] if full else [])
        assert written(journal) == sorted((row[0], row[2]) for row in rows)


def test_of_two_rows_for_one_operation_the_later_one_is_kept(open_journal, make):
    """A start and its outcome may be written together."""
    journal = open_journal()
    for count in range(2, 40):
        last = make.step(run=9, output=f'"{count}"')
        journal.write(
            [make.row(make.step(run=9, output=None, status="running")), *rows_of_runs(make, count), make.row(last)]
        )
        assert journal.steps(9) == [last]


def test_the_statements_for_many_rows_are_kept_prepared(open_journal, make):
    """To prepare the largest anew takes longer than to write its rows; apsw keeps none that is too long."""
    journal = open_journal()
    cache = journal._writer.cache_stats
    for size in _transaction._PUT_STEPS:
        rows = rows_of_runs(make, size)
        journal.write(rows)
        before = cache()
        journal.write(rows)
        after = cache()
        assert (after["misses"], after["too_big"]) == (before["misses"], before["too_big"])


def test_where_one_row_is_too_large_none_of_its_statement_is_written(open_journal, make):
    journal = open_journal()
    journal._writer.limit(apsw.SQLITE_LIMIT_LENGTH, 100_000)  # in place of 1 GB
    rows = rows_of_runs(make, 10)
    large = make.row(make.step(run=9, output=f'"{"x" * 200_000}"'))
    with pytest.raises(SerializationError, match="larger than SQLite holds"):
        journal.write([*rows, large])
    assert written(journal) == []
    journal.write(rows)
    assert len(written(journal)) == 10


def test_rows_with_much_in_them_are_not_all_in_memory_in_one_statement(open_journal, make):
    """And it is all the same one transaction: a failure of it is none of a commit."""
    journal = open_journal()
    statements, execute = [], journal._transaction.execute

    def noted(statement, *rows):
        statements.append(
            (statement.split()[0], sum(map(len, filter(lambda value: type(value) is str, *rows or [[]]))))
        )
        return execute(statement, *rows)

    journal._transaction.execute = noted
    large = f'"{"x" * 1_000_000}"'
    journal.write([make.row(make.step(position=number, output=large)) for number in range(40)])
    puts = [letters for name, letters in statements if name == "INSERT"]
    assert [name for name, _ in statements if name in {"BEGIN", "COMMIT"}] == ["BEGIN", "COMMIT"]
    assert len(puts) > 1
    assert max(puts) < 17_000_000
    assert len(journal.steps(1)) == 40

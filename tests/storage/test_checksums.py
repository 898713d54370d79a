"""A record that is not as it was written is never handed out, whichever of its columns changed and however it is read."""

import os
import sqlite3
import struct
from contextlib import closing

import pytest

from durable._journal import Journal
from durable._lost import require_not_lost
from durable._model import AttemptRecord, OwnerRecord, RunRecord, StepRecord
from durable.errors import JournalError, NonDeterminismError


@pytest.fixture
def made(open_journal, path, make):
    """A journal with one record of each kind, every column set; closed. Some columns share no value, to be found in the bytes."""
    journal = open_journal()

    def work(transaction):
        run = transaction.add_run(
            make.run(output='"result"', error='"why"', finished_at=1700000055.5, wake_at=1700000044.5, claim="c" * 32, parent=77,
                     status="waiting", crashes=3, progress=4, trusting=1, deadline=1700000099.5)
        )  # fmt: skip
        transaction.put(
            make.row(make.step(error='"why"', retry_at=1700000033.5, run=run.seq, branch="/fetch:0", position=5))
        )
        transaction.put_attempt(make.attempt(run=run.seq, branch="/fetch:0", position=5))

    journal.write(work)
    journal.close(1700000066.5)
    return path


def everything(path):
    """All that there is to read, by all the ways there are."""
    journal = Journal(path)
    try:
        runs = journal.runs()
        seqs = {run.seq for run in runs} | set(range(70))
        found = [
            runs,
            journal.owners(99),
            [journal.run(run.id) for run in runs],
            [journal.run_of_seq(seq) for seq in seqs],
            [journal.steps(seq) for seq in seqs],
            [journal.attempts(seq) for seq in seqs],
        ]
    finally:
        journal.close(0.0)
    return found


def damage(path, table, column, value):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = 1")
        connection.execute(f"UPDATE durable_{table} SET {column} = ?", (value,))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def columns(path, table):
    with closing(sqlite3.connect(path)) as connection:
        cursor = connection.execute(f"SELECT * FROM durable_{table}")
        return dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))


def flips(value):
    """The value with one bit changed, for some of its bits: what a failing disk makes of it."""
    if isinstance(value, int):
        return [value ^ (1 << bit) for bit in (0, 1, 5)]
    if isinstance(value, float):
        bits = struct.unpack("<q", struct.pack("<d", value))[0]
        return [struct.unpack("<d", struct.pack("<q", bits ^ (1 << bit)))[0] for bit in (0, 1, 30, 51)]
    data = value.encode()
    found = [
        data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
        for at in (0, len(data) // 2, len(data) - 1)
        for bit in (1, 4)
    ]
    return [data.decode() for data in found]


ALL = [
    *(("run", column) for column in (*RunRecord._fields, "checksum")),
    *(("step", column) for column in (*StepRecord._fields, "checksum")),
    *(("attempt", column) for column in (*AttemptRecord._fields, "checksum")),
    *(("owner", column) for column in OwnerRecord._fields),
]


@pytest.mark.parametrize(("table", "column"), ALL)
def test_a_flipped_bit_in_any_column_of_any_record_is_noticed(made, table, column):
    before = columns(made, table)[column]
    missed = []
    for value in flips(before):
        if value == before or (table == "run" and column == "seq" and value <= 0):
            continue
        damage(made, table, column, value)
        try:
            everything(made)
        except JournalError as error:
            assert "checksum does not fit" in str(error), str(error)
        else:
            missed.append(value)
        damage(made, table, column, before)
    assert missed == [], f"{table}.{column} was {before!r}"
    everything(made)


@pytest.mark.parametrize(
    ("table", "column"), [each for each in ALL if each[1] != "run"]
)  # else it is no run's any more
def test_a_value_that_is_gone_or_of_another_type_is_noticed(made, table, column):
    before = columns(made, table)[column]
    for value in (None, str(before), 1 if not isinstance(before, int) else 1.5, b"x", ""):
        if value == before and type(value) is type(before):
            continue
        try:
            damage(made, table, column, value)
        except sqlite3.Error:
            continue  # SQLite itself does not take it
        after = columns(made, table)[column]
        if after != before or type(after) is not type(before):  # a column's affinity may make of it what it was
            with pytest.raises(JournalError):
                everything(made)
        damage(made, table, column, before)
    everything(made)


@pytest.mark.parametrize(
    "what", ["result", "why", "/fetch:0", "charge", "run-1", "order", "shop", "waiting", "ValueError"]
)
def test_flipped_bits_in_the_bytes_of_the_file_are_noticed(made, what):
    """Not by way of SQL: as on the disk. Every bit of every byte of every place where the text stands in a table."""
    with open(made, "rb") as file:
        whole = file.read()
    good = everything(made)
    places = [at for at in range(len(whole)) if whole.startswith(what.encode(), at)]
    assert places
    wrong = []
    noticed = 0
    for at in places:
        for offset in range(len(what)):
            bit = 1 << (offset % 8)
            with open(made, "r+b") as file:
                file.seek(at + offset)
                file.write(bytes([whole[at + offset] ^ bit]))
            try:
                found = everything(made)
            except JournalError:
                noticed += 1
            else:
                if found != good and not missing_only(found, good):
                    wrong.append((at + offset, bit))
            with open(made, "r+b") as file:
                file.seek(at + offset)
                file.write(whole[at + offset : at + offset + 1])
    assert wrong == []
    assert noticed >= len(what)


def missing_only(found, good):
    """Whether nothing is there that was not: in an index, a flipped bit makes SQLite miss a row, never read another."""
    return all(part is None or part in good[0] for part in found[2] + found[3]) and found[0] == good[0]


def test_no_run_is_taken_for_another_where_an_index_is_damaged(open_journal, path, make):
    """The index leads from ids to rows: bent, it may lead to no row or to another one, which is not the one asked for."""
    journal = open_journal()
    for name in ("first", "aaaaaaaaaaaa", "bbbbbbbbbbbb"):  # numbers 2 and 3 differ by one bit
        journal.write(lambda transaction, name=name: transaction.add_run(make.run(id=name)))
    journal.close(1.0)
    with open(path, "rb") as file:
        whole = bytearray(file.read())
    wrong = []
    for at in [at for at in range(len(whole)) if whole.startswith(b"aaaaaaaaaaaa", at)]:
        for place in range(at - 6, at + 16):
            for bit in range(8):
                damaged = bytearray(whole)
                damaged[place] ^= 1 << bit
                with open(path, "wb") as file:
                    file.write(damaged)
                for name in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"):
                    reader = Journal(path)
                    try:
                        found = reader.run(name)
                    except JournalError:
                        pass
                    else:
                        if found is not None and found.id != name:
                            wrong.append((name, found.id, place - at, bit))
                    finally:
                        reader.close(0.0)
                        for end in ("-wal", "-shm"):
                            if os.path.exists(path + end):
                                os.unlink(path + end)
    assert wrong == []


def test_the_message_says_which_record_and_what_to_do(made):
    damage(made, "step", "output", '"other"')
    with pytest.raises(JournalError, match=r"operation 5 \('charge'\) of run 'run-1' is damaged") as raised:
        everything(made)
    assert "restore the journal from a backup" in str(raised.value)
    damage(made, "run", "output", '"other"')
    with pytest.raises(JournalError, match="record of run 'run-1' is damaged"):
        everything(made)


def test_the_writer_notices_too(made, open_journal):
    damage(made, "run", "claim", "d" * 32)
    damage(made, "step", "name", "refund")
    journal = open_journal()
    for work in (
        lambda transaction: transaction.run_of_id("run-1"),
        lambda transaction: transaction.oldest_left("d" * 32, 99, after=0, before=99),
        lambda transaction: transaction.steps(1),
    ):
        with pytest.raises(JournalError, match="checksum does not fit"):
            journal.write(work)


@pytest.mark.parametrize(
    "read",
    [
        lambda journal: journal.run("run-1"),
        lambda journal: journal.run_of_seq(1),
        lambda journal: journal.runs(),
        lambda journal: journal.runs(statuses=("waiting",), workflow="order"),
        lambda journal: journal.runs_by_prefix("run", 5),
        lambda journal: journal.runs_of_status("waiting"),
        lambda journal: journal.children(77),
    ],
)
def test_every_way_of_reading_a_run_looks_at_its_checksum(made, read_journal, read):
    journal = read_journal()
    assert read(journal)
    damage(made, "run", "input", '{"order":"2"}')
    with pytest.raises(JournalError, match="checksum does not fit"):
        read(journal)


@pytest.mark.parametrize(
    "text", ["a|b", "%s", "%", "|", "ünï", "\U0001f600", "'", "x" * 100_000, "\x00", "None", "line\nbreak", ""]
)
def test_any_text_has_a_checksum_that_fits(open_journal, make, text):
    journal = open_journal()
    run = journal.write(
        lambda transaction: transaction.add_run(make.run(workflow=text, input=text, output=text)), full=False
    )
    step = make.step(run=run.seq, name=text, output=text, input=text)
    journal.write(make.row(step), full=False)
    assert journal.run("run-1") == run
    assert journal.steps(run.seq) == [step]


def test_where_the_run_of_a_damaged_operation_is_damaged_too_its_number_is_told(made):
    damage(made, "run", "workflow", "another")
    damage(made, "step", "name", "another")
    journal = Journal(made)
    with pytest.raises(JournalError, match=r"the record of operation 5 \('another'\) of run number 1 is damaged"):
        journal.steps(1)
    journal.close(0.0)


def test_only_later_operations_of_the_same_branch_tell_that_one_was_lost(make):
    def unread(_):
        raise AssertionError

    require_not_lost("", 1, [("", 0), ("/fetch:0", 5)], make.run(seq=1), unread)
    with pytest.raises(JournalError, match=r"operation 1 of run 'run-1' .* is missing"):
        steps = [make.step(position=0, turn=0, finished_at=4.0), make.step(position=2, started_at=6.0)]
        require_not_lost("", 1, [("", 0), ("", 2)], make.run(seq=1), lambda _: steps)


@pytest.mark.parametrize(
    ("ended", "was_lost"),
    [({"turn": 0, "finished_at": 5.0}, True), ({"turn": 0, "finished_at": 7.0}, False), ({}, False)],
)
def test_a_submitted_step_may_not_have_begun_while_one_before_it_was_under_way(make, ended, was_lost):
    under_way = {"position": 0, "status": "running", "finished_at": None, "turn": None, **ended}
    steps = [make.step(started_at=4.0, **under_way), make.step(position=2, started_at=6.0)]
    error = JournalError if was_lost else NonDeterminismError
    with pytest.raises(error, match="step 'x' at position 1" if not was_lost else "operation 1"):
        require_not_lost("", 1, [("", 2)], make.run(seq=1), lambda _: steps, called="step 'x' at position 1")


def test_a_submitted_step_may_not_have_begun_where_one_before_it_had_not_either(make):
    """A thread that is slow to start, and a crash: nothing in the journal tells of either."""
    with pytest.raises(NonDeterminismError, match="since that at position 0 had not begun either"):
        require_not_lost("", 1, [("", 2)], make.run(seq=1), lambda _: [make.step(position=2)])

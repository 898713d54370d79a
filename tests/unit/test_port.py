"""What goes from a loop to the writer, and how: with a stand-in for the writer."""

import asyncio
from types import SimpleNamespace

import pytest

from durable import _port
from durable._port import LoopPort
from durable.errors import JournalError


class Clock:
    """Goes on when it is told to."""

    def __init__(self):
        self.seconds = 100.0

    def monotonic(self):
        return self.seconds


class Writer:
    """Keeps what it is given to write; it is idle, or not."""

    def __init__(self):
        self.is_idle, self.broken, self.submitted, self.at_once = True, False, [], []
        self.clock = Clock()
        self.takes, self.raises, self.refuses = 0.0, None, None

    def have_helper(self):
        """There is none."""

    def is_broken(self):
        return self.broken

    def write_if_idle(self, work, *, full=False):
        if self.raises is not None:
            raise self.raises
        if self.is_idle:
            self.at_once.append((work, full))
            self.clock.seconds += self.takes
        return self.is_idle

    def submit(self, entry):
        if self.refuses is not None:
            raise self.refuses
        self.submitted.append(entry)


class Letter:
    def __init__(self, work):
        self.work = work
        self.heard = []

    def told(self, error):
        self.heard.append(error)


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def writer():
    return Writer()


@pytest.fixture
def port(loop, writer, monkeypatch):
    monkeypatch.setattr(_port, "SYSTEM_CLOCK", writer.clock)
    return LoopPort(loop, writer)


def a_turn(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


@pytest.mark.parametrize("fulls", [[True, False], [False, True], [True], [False, False]])
def test_what_is_put_in_one_turn_of_the_loop_is_synced_if_any_of_it_is_to_be(loop, port, writer, fulls):
    writer.is_idle = False
    for full in fulls:
        port.put(Letter("work"), full)
    assert not writer.submitted
    a_turn(loop)
    assert [entry.full for entry in writer.submitted] == [any(fulls)]
    a_turn(loop)
    port.flush()
    assert len(writer.submitted) == 1


def test_whether_it_is_synced_is_asked_anew_in_each_turn(loop, port, writer):
    writer.is_idle = False
    for full in True, False:
        port.put(Letter("work"), full)
        a_turn(loop)
    assert [entry.full for entry in writer.submitted] == [True, False]


def test_what_is_to_be_synced_is_not_written_at_once_by_the_way_that_does_not_sync(port, writer):
    letter = Letter("work")
    port.write(letter, full=True)
    assert (writer.at_once, len(writer.submitted), letter.heard) == ([], 1, [])
    port.write(letter, full=False)
    assert (writer.at_once, len(writer.submitted), letter.heard) == ([("work", False)], 1, [None])


def test_a_lone_run_is_committed_in_the_thread_of_its_loop_at_the_end_of_the_turn(loop, port, writer):
    """To another thread and back would take it longer than the commit; and the others on the loop have their turn."""
    letter = Letter(("row",))
    port.put(letter, full=True, alone=True)
    assert (writer.at_once, writer.submitted, letter.heard) == ([], [], [])
    a_turn(loop)
    assert (writer.at_once, writer.submitted, letter.heard) == ([(("row",), True)], [], [None])


def put_alone(loop, port, work=("row",)):
    letter = Letter(work)
    port.put(letter, full=True, alone=True)
    a_turn(loop)
    return letter


def test_a_lone_run_does_not_wait_for_others_who_write(loop, port, writer):
    writer.is_idle = False
    letter = put_alone(loop, port)
    assert [(entry.work, entry.full, entry.then) for entry in writer.submitted] == [(("row",), True, letter)]
    assert letter.heard == []


def test_what_is_more_than_a_row_is_not_committed_in_the_loops_thread(loop, port, writer):
    """An interrupt may strike in the commit: a row may be written once more then."""
    put_alone(loop, port, work=lambda _: None)
    assert (writer.at_once, len(writer.submitted)) == ([], 1)


def test_where_another_writes_in_the_same_turn_both_go_to_the_other_thread(loop, port, writer):
    port.put(Letter(("a",)), full=True, alone=True)
    port.put(Letter(("b",)), full=False)
    a_turn(loop)
    assert (writer.at_once, [entry.work for entry in writer.submitted]) == ([], [[("a",), ("b",)]])
    port.put(Letter(("c",)), full=True, alone=True)
    port.flush()
    a_turn(loop)
    assert (writer.at_once, len(writer.submitted)) == ([], 2)
    put_alone(loop, port)
    assert (len(writer.at_once), len(writer.submitted)) == (1, 2)


def test_a_slow_disk_does_not_hold_up_the_loop_for_more_than_a_hundredth_of_its_time(loop, port, writer):
    def write():
        put_alone(loop, port)
        return len(writer.at_once), len(writer.submitted)

    writer.takes = _port._QUICK_SECONDS / 2
    assert [write(), write()] == [(1, 0), (2, 0)]
    writer.takes = 0.02
    assert [write(), write()] == [(3, 0), (3, 1)]
    writer.clock.seconds += 1.9
    assert write() == (3, 2)
    writer.clock.seconds += 0.2
    assert [write(), write()] == [(4, 2), (4, 3)]


def test_a_lone_run_hears_why_it_was_not_written(loop, port, writer):
    broken = JournalError("input/output error")
    writer.raises = broken
    assert put_alone(loop, port).heard == [broken]
    assert writer.submitted == []


def test_an_interrupt_in_the_commit_of_a_lone_run_ends_the_loop_and_the_other_thread_writes_it(loop, port, writer):
    """It is raised as if it had struck between two callbacks; where the loop goes on, so does the run."""
    writer.raises, letter = KeyboardInterrupt(), Letter(("row",))
    port.put(letter, full=True, alone=True)
    with pytest.raises(KeyboardInterrupt):
        a_turn(loop)
    assert [(entry.work, entry.full, entry.then) for entry in writer.submitted] == [(("row",), True, letter)]


def test_an_interrupt_that_closes_the_engine_too_tells_the_lone_run(loop, port, writer):
    closed, letter = JournalError("closed"), Letter(("row",))
    writer.raises, writer.refuses = KeyboardInterrupt(), closed
    port.put(letter, full=True, alone=True)
    with pytest.raises(KeyboardInterrupt):
        a_turn(loop)
    assert letter.heard == [closed]


def test_what_is_much_is_written_in_parts(port, writer, monkeypatch):
    monkeypatch.setattr(_port, "_MOST_AT_ONCE", 2)
    for _ in range(3):
        port.put(Letter("work"), full=True)
    assert len(writer.submitted) == 1
    port.flush()
    assert len(writer.submitted) == 2


def test_a_writer_that_takes_nothing_tells_each(port, writer):
    closed = JournalError("closed")

    writer.refuses = closed
    writer.broken = True
    letters = [Letter("a"), Letter("b")]
    for letter in letters:
        port.put(letter, full=True)
    port.flush()
    assert [letter.heard for letter in letters] == [[closed], [closed]]


def test_if_one_of_several_is_at_fault_each_is_written_by_itself(port, writer):
    letters = [Letter("a"), Letter("b")]
    for letter in letters:
        port.put(letter, full=True)
    port.flush()
    (together,) = writer.submitted
    together.then.told(ValueError("too large"))
    alone = writer.submitted[1:]
    assert [(entry.work, entry.full) for entry in alone] == [("a", True), ("b", True)]
    _port._acknowledge([SimpleNamespace(then=alone[0].then, error=None)])
    alone[1].then.told(error := ValueError("too large"))
    assert [letter.heard for letter in letters] == [[None], [error]]

"""Which outcomes of an async run share a turn, and when what is new goes to the file: with a stand-in for the writer."""

import asyncio
import math
from types import SimpleNamespace

import pytest

from durable._effects import CUT
from durable._model import CANCEL_POSITION, END, TIMER, MessageRecord, StepRecord
from durable._new_outcomes import NewOutcomes
from durable.errors import Halt, JournalError, SerializationError

THREAD = "/thread:"


class Branches:
    """Those of a run, whose letters are kept until the test says that they are on disk."""

    def __init__(self, loop):
        self.loop = loop
        self.tasks_are_many = True
        self.port = self
        self.threads = SimpleNamespace(is_one=lambda branch: branch.startswith(THREAD))
        self.written, self.put_late, self.freed, self.failed_in = [], [], [], []
        aftermath = SimpleNamespace(fail=self.failed_in.append)
        self.halted = None
        self.execution = SimpleNamespace(
            now=lambda: 9.0,
            halt=self.halt,
            free_signal=self.freed.append,
            root=SimpleNamespace(aftermath=aftermath),
            over=False,
        )

    def halt(self, error):
        self.halted = self.halted or Halt(error)
        return self.halted

    def is_single(self):
        return not self.tasks_are_many

    def tick_soon(self):
        """The test ticks."""

    def write(self, letter, full):
        assert full
        self.written.append(letter)

    def put(self, letter, full):
        assert not full
        self.put_late.append(letter)

    def on_disk(self, error=None):
        """The oldest letter, and no other, has come to the file, or has not."""
        self.written.pop(0).told(error)


class Turns:
    """What is new of one run, and what its tasks have heard."""

    def __init__(self, loop):
        self.branches = Branches(loop)
        self.past = SimpleNamespace(
            last_turn=0, is_over=True, holds_back=False, gives_way=False, reached=0, next_turn=math.inf
        )
        self.new = NewOutcomes(self.branches, self.past)
        self.heard = []

    def conclude(self, branch, position=0, kind="step", message=None):
        return self._told(self.new.conclude(record(branch, position, kind), None, message), branch)

    def late(self, branch, position=0, kind=TIMER, name="timeout", unread=None):
        return self._told(self.new.take_turn(record(branch, position, kind, name), unread), branch)

    def _told(self, future, who):
        future.add_done_callback(lambda _: self.heard.append(who))
        return future

    def deliver(self):
        """The next turn; who has heard in it, in this order."""
        self.new.deliver_next()
        return self.hear()

    def hear(self):
        loop = self.branches.loop
        loop.run_until_complete(asyncio.sleep(0))
        heard, self.heard[:] = self.heard[:], []
        return heard


def record(branch, position=0, kind="step", name="s", error=None):
    status = "failed" if error else "completed"
    return StepRecord(1, branch, position, kind, name, "m", status, 1, 0, None, "1", error, 1.0, 2.0, None, None)


@pytest.fixture
def turns():
    loop = asyncio.new_event_loop()
    yield Turns(loop)
    loop.close()


def go_on_together(turns, *outcomes):
    """Conclude these while another commit is under way, with which they wait; they are on disk when this returns."""
    turns.conclude("/before")
    for outcome in outcomes:
        turns.conclude(*outcome)
    turns.branches.on_disk()
    turns.branches.on_disk()
    assert turns.deliver() == ["/before"]


def test_what_is_committed_together_is_delivered_together_in_the_order_of_its_places(turns):
    go_on_together(turns, ("/b",), ("/a", 1), ("/a", 0))
    assert turns.deliver() == ["/a", "/a", "/b"]
    assert not turns.new


def test_the_outcomes_of_threads_and_a_cancellation_have_a_turn_each(turns):
    go_on_together(
        turns, ("/a",), ("/b",), (THREAD + "0",), (THREAD + "1",), ("", CANCEL_POSITION, "cancel"), ("/c",), ("/d",)
    )
    heard = []
    while turns.new.has_ready():
        heard.append(turns.deliver())
    assert heard == [["/a", "/b"], [THREAD + "0"], [THREAD + "1"], [""], ["/c", "/d"]]


def test_one_group_is_under_way_at_a_time(turns):
    """Else what takes a turn of its own might come between two of them, and have the turn after both."""
    turns.conclude("/a")
    turns.conclude("/b")
    turns.late("/c")
    assert len(turns.branches.written) == 1
    turns.branches.on_disk()
    assert len(turns.branches.written) == 1
    turns.branches.on_disk()
    assert [turns.deliver() for _ in range(3)] == [["/a"], ["/c"], ["/b"]]


def test_what_waits_for_a_commit_goes_to_the_disk_when_the_execution_ends(turns):
    turns.conclude("/a")
    turns.conclude("/b")
    assert len(turns.branches.written) == 1
    turns.new.end()
    assert len(turns.branches.written) == 2


def test_when_the_execution_is_over_nothing_more_does(turns):
    """Somebody may have gone on with the run, and have read the file."""
    turns.conclude("/a")
    turns.conclude("/b")
    turns.late("/c")
    turns.branches.execution.over = True
    turns.branches.on_disk()
    turns.new.put_owed()
    assert not turns.branches.written
    assert not turns.branches.put_late


def test_what_failed_together_is_not_tried_one_by_one_when_the_execution_is_over(turns):
    turns.conclude("/a")
    turns.conclude("/b")
    turns.conclude("/c")
    turns.branches.on_disk()
    turns.branches.execution.over = True
    turns.branches.on_disk(SerializationError("too large"))
    assert not turns.branches.written


def test_nothing_is_handed_to_a_loop_that_was_closed(turns):
    turns.conclude("/a")
    turns.conclude("/b")
    turns.branches.loop.close()
    turns.new.end()
    assert len(turns.branches.written) == 1


def test_an_outcome_goes_to_the_disk_although_something_that_may_wait_came_after_it(turns):
    turns.late("/late")
    turns.conclude("/a")
    turns.conclude("/b")
    assert turns.deliver() == ["/late"]
    turns.branches.on_disk()
    assert turns.new.is_being_written()
    turns.branches.on_disk()
    assert [turns.deliver() for _ in range(2)] == [["/a"], ["/b"]]
    assert not turns.new.is_being_written()


def test_what_costs_no_fsync_goes_to_the_file_with_what_follows(turns):
    turns.late("/a")
    assert turns.deliver() == ["/a"]
    turns.new._submit_next()
    assert not turns.branches.written, "nobody waits for it"
    assert not turns.new.is_being_written()
    turns.new.put_owed()
    turns.new.put_owed()
    assert len(turns.branches.put_late) == 1


def test_what_costs_no_fsync_is_not_written_while_the_code_may_be_another(turns):
    turns.past.holds_back = True
    turns.new.journal_late(record("/a"))
    turns.new.put_owed()
    assert not turns.branches.put_late
    turns.past.holds_back = False
    turns.new.put_owed()
    assert turns.branches.put_late


def test_what_was_called_off_before_its_turn_is_not_journaled(turns):
    turns.late("/a").cancel()
    turns.new.deliver_next()
    turns.new.put_owed()
    assert not turns.branches.put_late


def test_what_is_new_has_no_turn_before_what_the_journal_has(turns):
    turns.past.holds_back = True
    turns.late("/a")
    assert (turns.new.has_ready(), turns.new.has_waiting(), len(turns.new.awaited())) == (False, True, 1)
    assert turns.new, "it is on its way"
    turns.past.holds_back = False
    turns.new.admit()
    assert (turns.new.has_ready(), turns.new.has_waiting(), len(turns.new.awaited())) == (True, False, 1)
    assert turns.new, "it is on its way"


def test_only_the_ends_of_runs_share_a_turn_that_they_were_not_committed_in(turns):
    for branch, name in ("/a", "timeout"), ("/b", END), ("/c", END), ("/d", "timeout"), ("/e", "timeout"):
        turns.late(branch, name=name)
    assert [turns.deliver() for _ in range(4)] == [["/a"], ["/b", "/c"], ["/d"], ["/e"]]


def test_the_only_task_of_a_run_gets_its_outcome_at_once_but_is_told_of_its_cancellation_when_it_waits(turns):
    turns.branches.tasks_are_many = False
    turns.conclude("")
    turns.branches.on_disk()
    assert turns.hear() == [""]
    turns.conclude("", CANCEL_POSITION, "cancel")
    turns.branches.on_disk()
    assert turns.hear() == []
    assert turns.deliver() == [""]


def test_a_timeout_is_known_before_it_fires(turns):
    """It does not wait for long for a thread that is at work; anything else does."""
    assert not turns.new.next_is_timeout()
    turns.late("/a", kind="step")
    turns.late("/b")
    assert not turns.new.next_is_timeout()
    turns.deliver()
    assert turns.new.next_is_timeout()


def test_a_signal_that_is_put_back_can_be_taken_again_when_the_file_has_it(turns):
    message = MessageRecord(5, 1, "signal", "go", "1", None, 0.0)
    turns.past.holds_back = True
    turns.new.journal_late(record("/cut", error=CUT), message)
    turns.past.holds_back = False
    turns.conclude("/a")
    assert not turns.branches.freed
    turns.branches.on_disk()
    assert turns.branches.freed == [message]


def test_a_journal_that_takes_nothing_more_lets_nobody_go_on(turns):
    outcomes = [turns.conclude("/a"), turns.conclude("/b")]
    turns.branches.on_disk(OSError("disk full"))
    turns.branches.on_disk(JournalError("disk full"))
    for outcome in outcomes:
        assert isinstance(outcome.exception(), Halt)
        assert isinstance(outcome.exception().error, JournalError)


def test_what_the_code_cut_has_no_value(turns):
    async def cut():
        ended = asyncio.ensure_future(turns.new.conclude_cut(record("/a")))
        await asyncio.sleep(0)
        turns.new.deliver_next()
        await ended

    turns.branches.execution.halted = None
    turns.branches.loop.run_until_complete(cut())
    (outcome,) = turns.new._outbox
    assert (outcome.record.status, outcome.record.output, outcome.record.error) == ("failed", None, CUT)
    assert turns.branches.failed_in == [1]


# -- beside a replay that gives way ------------------------------------------------------------------------------------


@pytest.fixture
def beside(turns):
    """The journal has the turns 1 to 3, which were delivered, and others from 1,000 on, with room for what is new."""
    turns.new._turn = turns.past.last_turn = 5000
    turns.past.is_over, turns.past.gives_way, turns.past.reached, turns.past.next_turn = False, True, 3, 1000
    return turns


def turns_of(beside):
    return [group[0].turn for group in beside.new._ready]


def test_what_is_new_beside_the_replay_comes_before_the_next_turn_of_the_journal(beside):
    beside.conclude("/a")
    beside.branches.on_disk()
    beside.late("/b")
    assert (turns_of(beside), beside.new.comes_first()) == ([4, 5], True)
    beside.past.reached, beside.past.next_turn = 1000, 2000
    beside.conclude("/c")
    beside.branches.on_disk()
    assert turns_of(beside) == [4, 5, 1001]


def test_what_was_given_its_turn_before_the_replay_gave_way_stays_behind_all_that_the_journal_has(beside):
    beside.past.gives_way = False
    beside.conclude("", CANCEL_POSITION, kind="cancel")
    beside.branches.on_disk()
    beside.past.gives_way = True
    assert (turns_of(beside), beside.new.comes_first()) == ([5001], False)
    beside.conclude("/a")
    assert beside.new.is_committing()
    beside.branches.on_disk()
    assert (turns_of(beside), beside.new.comes_first()) == ([4, 5001], True)
    assert beside.deliver() == ["/a"]
    assert not beside.new.comes_first()


def test_what_is_new_has_the_turns_after_all_others_again_when_the_journal_has_none_left(beside):
    beside.past.next_turn = math.inf
    beside.conclude("/a")
    beside.branches.on_disk()
    assert turns_of(beside) == [5001]

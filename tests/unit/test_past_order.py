"""What the journal has of an async run, and when each of it is delivered again: without a run."""

import asyncio
import logging
from types import SimpleNamespace

import pytest

from durable._effects import CUT
from durable._model import CANCEL_POSITION, FIRST_TIMEOUT, ROOM, StepRecord
from durable._past_order import PastOrder, despite_cancellation


def step(branch, turn, position=0, error=None, kind="step", started_at=1.0):
    status = "running" if turn is None else "failed" if error else "completed"
    return StepRecord(1, branch, position, kind, "s", "m", status, 1, 0, None, None, error, started_at, 2.0, None, turn)


class Past:
    """What the journal has, and how often there was news."""

    def __init__(self, loop, steps):
        self.loop = loop
        self.news = 0
        self.execution = SimpleNamespace(
            past={(each.branch, each.position): each for each in steps},
            halted=None,
            record=SimpleNamespace(id="r", workflow="flow"),
        )
        self.order = PastOrder(self.execution, loop, self._on_news)
        self.came = []

    def _on_news(self):
        self.news += 1

    def call(self, branch, position=0):
        """The code calls what the journal has at a place."""
        record = self.execution.past.pop((branch, position))
        future = self.order.turn_of(record)
        future.add_done_callback(lambda _: self.came.append(branch))
        return future

    def deliver(self):
        """Who has got something, in this order; `None` where it is nobody's turn yet."""
        if not self.order.deliver_next():
            return None
        self.go_on()
        came, self.came[:] = self.came[:], []
        return came

    def start(self, waiting):
        """Have a task begin to wait, and say whether that was news."""
        before = self.news
        task = self.loop.create_task(waiting)
        self.go_on()
        return task, self.news > before

    def go_on(self):
        for _ in range(3):
            self.loop.run_until_complete(asyncio.sleep(0))


@pytest.fixture
def journaled():
    loop = asyncio.new_event_loop()
    yield lambda *steps: Past(loop, steps)
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_a_turn_comes_when_the_code_has_called_all_of_it_in_the_order_of_its_places(journaled):
    past = journaled(step("/b", 1), step("/a", 1), step("/c", 2))
    past.call("/c")
    past.call("/b")
    assert past.deliver() is None
    past.call("/a")
    assert past.deliver() == ["/a", "/b"]
    assert past.order
    assert past.deliver() == ["/c"]
    assert not past.order
    assert not past.order.is_awaited


def test_a_turn_whose_caller_was_cut_comes_for_the_others(journaled):
    past = journaled(step("/a", 1), step("/b", 1))
    given_up = past.call("/a")
    given_up.cancel()
    past.go_on()
    past.call("/b")
    assert past.deliver() == ["/a", "/b"]
    assert not past.order


def test_a_caller_that_was_cut_before_it_was_seen_to_be_is_not_counted_twice(journaled):
    past = journaled(step("/a", 1), step("/b", 1))
    given_up = past.call("/a")
    past.call("/b")
    given_up.cancel()  # what follows from that comes in the next turn of the loop
    assert past.deliver() is None
    past.go_on()
    assert past.deliver() is not None


def test_what_a_thread_was_cut_in_is_nothing_that_anybody_has_to_call(journaled):
    past = journaled(step("/thread:0", 0, error=CUT), step("/a", 1))
    assert past.order.drop("/thread:0")
    past.call("/a")
    assert past.deliver() == ["/a"]
    assert not past.order
    assert not journaled(step("/thread:0", 0, error=CUT)).order


def test_what_blocked_the_loop_counts_until_it_is_called(journaled):
    past = journaled(step("", 0))
    assert past.order
    past.call("")
    assert not past.order


def test_what_a_branch_had_is_dropped_with_what_its_own_branches_had_and_nothing_else(journaled):
    past = journaled(step("/t:1", 1), step("/t:1/u:0", 2), step("/t:10", 3), step("/t:1", None, position=1))
    assert {each.branch for each in past.order.drop("/t:1")} == {"/t:1", "/t:1/u:0"}
    past.call("/t:10")
    assert past.deliver() == ["/t:10"]
    assert not past.order


def test_what_is_new_does_not_wait_for_a_thread_that_waits_to_be_given_up_again(journaled):
    """As that may do: nothing else is left that the journal has."""
    past = journaled(step("/thread:0", 0, error=CUT), step("/a", 1), step("", 0), step("/b", None))
    order = past.order
    assert not order.waits_for_cut
    _, is_news = past.start(order.cut(past.execution.past.pop(("/thread:0", 0))))
    assert is_news
    assert order.waits_for_cut
    past.call("")
    assert order.holds_back
    past.call("/a")
    past.deliver()
    assert order
    assert not order.holds_back
    blocking = journaled(step("/thread:0", 0, error=CUT), step("", 0))
    blocking.start(blocking.order.cut(blocking.execution.past.pop(("/thread:0", 0))))
    assert blocking.order.holds_back


def test_an_operation_that_was_cut_in_a_thread_has_no_turn_that_its_cut_waits_for(journaled):
    past = journaled(step("/thread:0", 0, error=CUT), step("/a", 1))
    task, _ = past.start(past.order.cut(past.execution.past.pop(("/thread:0", 0))))
    task.cancel()
    past.go_on()
    assert task.cancelled()
    assert not past.order.waits_for_cut


def test_whoever_waits_for_the_end_of_what_the_journal_has_is_news_and_goes_on_then(journaled):
    past = journaled(step("/a", 1))
    end, is_news = past.start(past.order.end())
    assert is_news
    last, is_news = past.start(past.order.last())
    assert is_news
    given_up, _ = past.start(past.order.end())
    given_up.cancel()
    past.go_on()
    assert len(past.order._gates) == 1
    past.call("/a")
    past.deliver()
    past.go_on()
    assert end.done()
    assert last.done()


def test_one_after_the_other_goes_on_of_those_that_wait_until_nothing_else_can_be_delivered(journaled):
    past = journaled(step("/a", 1))
    waiting = [past.start(past.order.last())[0] for _ in range(3)]
    waiting[0].cancel()
    past.go_on()
    before = past.news
    assert past.order.let_go_on()
    assert past.news > before
    past.go_on()
    assert [task.done() for task in waiting] == [True, True, False]
    assert past.order.let_go_on()
    assert not past.order.let_go_on()


def test_a_timeout_that_is_next_is_known(journaled):
    past = journaled(step("/a", 1), step("/b", 2, position=FIRST_TIMEOUT))
    past.call("/a")
    past.call("/b", FIRST_TIMEOUT)
    assert not past.order.next_is_timeout()
    past.deliver()
    assert past.order.next_is_timeout()


def test_what_had_begun_is_taken_once_and_by_the_loop(journaled):
    past = journaled(step("/thread:0", None), step("/thread:1", None))
    for _ in range(2):
        past.order.begun_again(step("/thread:0", None))
    assert ("/thread:0", 0) in past.execution.past
    past.go_on()
    assert ("/thread:0", 0) not in past.execution.past
    assert past.order, "the other one"


def test_a_cancellation_waits_for_what_was_under_way_then(journaled):
    told = step("", 1, position=CANCEL_POSITION, kind="cancel", started_at=5.0)
    timer = step("/a", 2, position=FIRST_TIMEOUT, error=CUT)
    past = journaled(told, step("/a", 3, error=CUT), step("/b", None), step("/c", None, started_at=5.0), timer)
    past.call("", CANCEL_POSITION)
    assert past.deliver() is None
    del past.execution.past["/a", 0]
    assert past.deliver() is None
    del past.execution.past["/b", 0]
    assert past.deliver() == [""]


def test_a_run_that_stands_still_says_so_once_and_only_while_the_journal_has_something(journaled, caplog):
    past = journaled(step("/a", 1))
    with caplog.at_level(logging.WARNING, "durable"):
        for _ in range(30):
            past.order.stands_still()
        assert [record.getMessage()[:44] for record in caplog.records] == [
            "run r of 'flow' goes on only when something "
        ]
        caplog.clear()
        over = journaled()
        for _ in range(30):
            over.order.stands_still()
    assert not caplog.records
    assert over.news == 30


def test_whoever_is_taken_down_no_longer_waits_despite_its_cancellation(journaled):
    past = journaled()
    future = past.loop.create_future()
    task, _ = past.start(despite_cancellation(past.execution, future))
    task.cancel()
    past.go_on()
    assert not task.done()
    past.execution.halted = object()
    task.cancel()
    past.go_on()
    assert task.cancelled()
    assert future.cancelled()


def test_it_gives_way_only_where_a_retry_has_left_room_before_the_next_turn(journaled):
    past = journaled(step("/a", 1), step("/b", 2), step("/c", 2 + ROOM))
    assert not past.order.has_room()
    past.call("/a")
    past.call("/b")
    assert (past.deliver(), past.order.give_way()) == (["/a"], False)
    assert past.deliver() == ["/b"]
    waiting, _ = past.start(past.order.end())
    assert past.order.holds_back
    assert past.order.give_way()
    past.go_on()
    assert (waiting.done(), past.order.holds_back, bool(past.order)) == (True, False, True)
    assert past.start(past.order.end())[0].done()
    assert not past.order.give_way()  # once: what is stuck then is stuck
    past.call("/c")
    assert past.deliver() == ["/c"]
    assert not past.order.has_room()


def test_what_came_in_between_leaves_room_before_the_next_turn_too(journaled):
    past = journaled(step("/a", 1), step("/b", 1 + ROOM // 3), step("/c", 1 + ROOM))
    past.call("/a")
    assert (past.deliver(), past.order.has_room()) == (["/a"], False)
    past.call("/b")
    assert (past.deliver(), past.order.has_room()) == (["/b"], True)


def test_a_step_that_blocks_has_it_give_way_where_there_is_room(journaled):
    past = journaled(step("/a", ROOM))
    past.execution.branches = SimpleNamespace(threads=SimpleNamespace(has=lambda _: False))
    past.order.require_called(step("/b", 0))
    assert past.order.gives_way

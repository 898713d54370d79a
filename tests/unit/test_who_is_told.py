"""Who is told of what, and when: the timer, the scheduler and the courses of runs, with stand-ins for what they drive."""

import asyncio
import logging
import sys
import threading
from types import SimpleNamespace

import pytest

from durable import _engine, _parallel, _running, _running_async, _steering, _telling, _timeouts, _timer
from durable._active import Active
from durable._clock import SYSTEM_CLOCK
from durable._limits import Limit
from durable._model import MessageRecord
from durable._parallel import Parallel, Siblings, StepFuture
from durable._rests import SyncThreads
from durable._scheduler import InLine, Scheduler
from durable._thread_pool import LastingThread, ThreadPool
from durable._threads import RunThreads
from durable._watching import Watchers
from durable.errors import (
    Cancelled,
    EngineClosedError,
    Halt,
    JournalError,
    JournalLockedError,
    RunConflictError,
    RunInterruptedError,
)

PATIENCE = 10.0


class Anything:
    """Whatever is called is kept, and answers `None`, or what was given for its name."""

    def __init__(self, **answers):
        self.__dict__.update(answers)
        self.calls = []

    def __getattr__(self, name):
        def called(*args):
            self.calls.append((name, *args))

        return called


# -- the timer ----------------------------------------------------------------------------------------------------------


class Journal(Anything):
    def __init__(self, due=(), **answers):
        super().__init__(**answers)
        self.due = list(due)

    def last_message(self):
        return 0

    def version(self):
        return 1

    def new_messages(self, _):
        return []

    def next_wake(self, _):
        return None

    def due_runs(self, now, after, most, *, without):
        return [found for found in self.due if (found[2], found[0]) > after][:most]


@pytest.fixture
def timer(monkeypatch):
    """One whose thread does nothing: the test does it."""
    monkeypatch.setattr(_timer.Timer, "_run", lambda self: None)
    woken = []

    def wake(seq, run_id, over):
        woken.append((seq, over))
        return True

    made = _timer.Timer(Journal(), SYSTEM_CLOCK, SimpleNamespace(wake=wake, receive=None, undeclared=list))
    made.start()
    made.woken = woken
    return made


def test_no_more_runs_are_set_going_at_a_time_than_there_is_room_for(timer, monkeypatch):
    monkeypatch.setattr(_timer, "_AT_A_TIME", 4)
    monkeypatch.setattr(_timer, "_FEW", 2)
    timer._journal.due = [(seq, f"r{seq}", 1.0) for seq in range(6)]
    timer._wake_due(2.0)
    assert [seq for seq, _ in timer.woken] == [0, 1, 2, 3]
    assert (timer._look, timer._left_over, timer._going) == (False, True, 4)
    timer._told.clear()
    timer._over()
    assert not timer._told.is_set(), "three are no few"
    timer._over()
    assert timer._told.is_set()
    assert timer._look
    timer._journal.due = timer._journal.due[4:]
    timer._wake_due(2.0)
    assert [seq for seq, _ in timer.woken][4:] == [4, 5]
    timer._told.clear()
    timer._over()
    timer._over()
    assert (timer._left_over, timer._told.is_set()) == (False, False), "nothing is left over"


def test_runs_that_end_while_others_are_set_going_make_room(timer, monkeypatch):
    monkeypatch.setattr(_timer, "_AT_A_TIME", 1)
    monkeypatch.setattr(_timer, "_FEW", 1)
    timer._journal.due = [(1, "a", 1.0), (2, "b", 1.0)]
    timer._wake_due(2.0)
    assert (timer._look, timer._left_over) == (True, True)


def test_a_timer_that_its_own_thread_stops_does_not_wait_for_itself(timer):
    ended = []
    timer._thread = LastingThread(lambda: ended.append(timer.stop()), "durable-timer")
    timer._thread.begin()
    timer._thread.join(PATIENCE)
    assert ended, "it raises where a thread joins itself"


def test_a_timer_complains_of_a_journal_until_it_is_stopped(timer, caplog):
    with caplog.at_level(logging.ERROR, "durable"):
        timer._complain(JournalError("disk full"))
        timer.stop()
        timer._complain(JournalError("closed"))
    assert [record.getMessage() for record in caplog.records] == ["waiting runs are not woken: disk full"]


# -- the scheduler ------------------------------------------------------------------------------------------------------


def record(**changes):
    return SimpleNamespace(**{"id": "r", "workflow": "flow", "status": "queued", "seq": 7} | changes)


def scheduler(found=None, active=None, **answers):
    runtime = Anything(
        active={"r": active} if active is not None else {},
        journal=Anything(run_of_seq=lambda _: found, run=lambda _: found),
        registry=SimpleNamespace(workflows={}),
        threads=1,
        **answers,
    )
    made = Scheduler.__new__(Scheduler)
    made.runtime, made._warned, made._tasks = runtime, set(), None
    made.going = []
    made.set_going = lambda record: made.going.append(record.id) or made.sets
    made.sets = "active"
    return made


def test_a_run_that_is_being_suspended_is_looked_at_again_when_it_is():
    active = Anything(execution=object())
    made = scheduler(active=active)
    assert made.wake(7, "r", print) is False
    ((name, look),) = active.calls
    assert name == "watch"
    look()
    assert made.runtime.calls == [("look_for_due_runs",)]


def test_a_run_that_has_not_begun_is_woken_already():
    active = Anything(execution=None)
    assert scheduler(active=active).wake(7, "r", print) is False
    assert not active.calls


@pytest.mark.parametrize("found", [None, record(status="running")])
def test_a_run_that_does_not_wait_any_more_is_not_woken(found):
    made = scheduler(found)
    assert made.wake(7, "r", print) is False
    assert not made.going


def test_a_run_that_this_program_does_not_declare_is_warned_of_once(caplog):
    made = scheduler(record(status="waiting"))
    made.sets = None
    assert made.wake(7, "r", print) is False
    assert made.wake(7, "r", print) is False
    assert [entry.getMessage()[:18] for entry in caplog.records] == ["run r of 'flow' is"]


def test_what_is_asked_of_a_run_that_is_gone_or_has_ended_is_nothing():
    for found in None, record(status="completed"):
        made = scheduler(found)
        made.receive(MessageRecord(1, 7, "begin", "", None, None, 0.0))
        assert not made.going


@pytest.mark.parametrize(
    ("kind", "status", "goes"),
    [("begin", "queued", True), ("cancel", "queued", True), ("cancel", "waiting", False), ("signal", "running", False)],
)
def test_what_another_process_asks_sets_a_run_going(kind, status, goes):
    made = scheduler(record(status=status))
    made.receive(MessageRecord(1, 7, kind, "paid", None, None, 0.0))
    assert bool(made.going) == goes


def test_what_another_process_asks_reaches_a_run_that_executes():
    active = Anything(execution=Anything())
    made = scheduler(record(status="running"), active)
    made.receive(MessageRecord(1, 7, "cancel", "", None, None, 0.0))
    assert active.calls == [("cancel",)]
    made.receive(MessageRecord(1, 7, "signal", "paid", None, None, 0.0))
    assert active.execution.calls == [("tell_of_signal", "paid")]
    active.execution = None
    made.receive(MessageRecord(1, 7, "signal", "paid", None, None, 0.0))
    made.receive(MessageRecord(1, 7, "begin", "", None, None, 0.0))
    assert active.calls == [("cancel",)], "it begins, and reads it then"


@pytest.mark.parametrize(("status", "goes"), [("queued", True), ("running", False), (None, False)])
def test_a_retried_run_begins_when_its_last_execution_is_over(status, goes):
    active = Anything(execution=object())
    made = scheduler(None if status is None else record(status=status), active)
    made.begin(record())
    ((_, begin),) = active.calls
    assert not made.going
    begin()
    assert bool(made.going) == goes


def test_a_run_that_cannot_begin_since_the_engine_closes_is_left_queued():
    made = scheduler(record())

    def closed(_):
        raise EngineClosedError

    made.set_going = closed
    made._begin_after("r")


def test_a_run_that_breaks_outside_of_its_body_is_given_up(monkeypatch):
    made = scheduler()
    monkeypatch.setattr("durable._scheduler.drive_run", lambda *_: 1 / 0)
    active = Anything(run_id="r")
    made._run(active)
    ((name, given, error),) = made.runtime.calls
    assert (name, given, type(error)) == ("abandon", active, ZeroDivisionError)


def test_nobody_sets_a_waiting_run_going_that_is_cancelled_the_timer_does():
    made = scheduler()
    made.runtime.journal.epoch = 3
    _steering._tell_cancelled(made, [record(status="waiting")])
    assert (made.runtime.calls, made.going) == ([("look_for_due_runs",)], [])
    _steering._tell_cancelled(made, [record(status="running"), record(status="failed")])
    assert made.going == ["r"]


def test_who_loses_the_race_for_a_journal_is_not_its_owner():
    def own():
        raise JournalLockedError("taken", 42)

    runtime = SimpleNamespace(
        require_open=lambda: None, own=own, journal=SimpleNamespace(epoch=0, owner_pid=lambda: None)
    )
    assert _steering._own_if_free(runtime) is False


# -- courses ------------------------------------------------------------------------------------------------------------


def test_a_call_that_nobody_drives_any_more_takes_no_slot_back(monkeypatch):
    given = []
    parent = SimpleNamespace(workflow="w", lend_slot=lambda _: given.append(1))
    runtime = SimpleNamespace(
        own=lambda: None,
        journal=None,
        active={"p": parent},
        limit_of=lambda _: "limit",
        prepare=lambda _: "mine",
        admit=lambda *_: "work",
        abandon=lambda *_: given.append(2),
        give_back=lambda _: None,
    )
    parent.execution = SimpleNamespace(record=SimpleNamespace(id="p"), branches=None)
    monkeypatch.setattr(_running, "who_waits", lambda _: parent.execution)
    request = SimpleNamespace(workflow=SimpleNamespace(signature=Anything(), is_async=True))
    request.workflow.signature.result = None
    course = _running.call(runtime, request)
    next(course)
    course.close()
    assert given == [1, 2]


def test_a_background_run_that_ended_before_it_began_is_over():
    for found in None, record(status="cancelled"):
        runtime = Anything(claim=lambda *_: pytest.fail("it has ended"))
        active = Active("r", None, "resume")
        course = _running.background(runtime, active)
        work = next(course).work
        with pytest.raises(RunInterruptedError, match="run r ended before it could begin here") as ended:
            work(SimpleNamespace(run_of_id=lambda _, found=found: found))
        with pytest.raises(StopIteration):
            course.throw(ended.value)
        name, over, ending = runtime.calls[-1]
        assert (name, over, ending.error) == ("over", active, ended.value)


def test_a_thread_does_not_wait_for_a_run_that_it_executes():
    active = SimpleNamespace(thread=threading.get_ident(), run_id="r")
    with pytest.raises(RunConflictError, match="run r is waiting for this call: a run cannot wait for itself"):
        _running._perform(None, _running.Over(active))


class Interrupted:
    """A clock whose waits are interrupted."""

    def wait(self, *_):
        raise KeyboardInterrupt


def others_have(limit):
    others = []
    limit.request(lambda: others.append(1))
    return others == [1]


def test_whoever_is_interrupted_before_it_has_its_slot_leaves_it_to_others():
    limit, active = Limit(1), Active("r", None, "call")
    limit.request(lambda: None)
    with pytest.raises(KeyboardInterrupt):
        _running.take_slot(SimpleNamespace(clock=Interrupted()), active, limit)
    limit.release()
    assert others_have(limit)
    assert not active.waits


def test_whoever_is_interrupted_just_when_it_gets_its_slot_leaves_it_to_others():
    limit, active = Limit(1), Active("r", None, "call")
    limit.request(lambda: None)

    def wait(*_):
        limit.release()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _running.take_slot(SimpleNamespace(clock=SimpleNamespace(wait=wait)), active, limit)
    assert others_have(limit)


@pytest.mark.parametrize("why", ["its engine closes", "it is cancelled"])
def test_who_needs_no_slot_any_more_leaves_it_to_others(why):
    limit, active = Limit(1), Active("r", None, "call")
    limit.request(lambda: None)
    active.cancel() if why == "it is cancelled" else active.finish(None)
    assert not _running.take_slot(SimpleNamespace(clock=SYSTEM_CLOCK), active, limit)
    limit.release()
    assert others_have(limit)


def test_runs_that_ended_in_line_leave_it_however_many():
    limit, begun = Limit(1), []
    limit.request(lambda: None)
    line = [Active(str(number), None, "start") for number in range(2000)]
    for active in line:
        InLine(active, limit, begun.append).wait()
    for active in line[:-1]:
        active.finish(None)
    limit.release()
    assert begun == line[-1:]
    line[-1].finish(None)
    assert others_have(limit)


def test_a_run_in_line_that_is_cancelled_is_set_going_without_a_slot():
    limit, begun, active = Limit(1), [], Active("r", None, "resume")
    limit.request(lambda: None)
    InLine(active, limit, begun.append).wait()
    active.cancel()
    assert (begun, active.release_slot) == ([active], None)
    limit.release()
    assert others_have(limit)


# -- loops that are gone ------------------------------------------------------------------------------------------------


class Closed:
    def call_soon_threadsafe(self, *_):
        raise RuntimeError("Event loop is closed")


def test_nobody_is_told_on_a_loop_that_was_closed(monkeypatch):
    async def all_of_them():
        told = []
        active = SimpleNamespace(watch=told.append)
        loop = asyncio.get_running_loop()
        with monkeypatch.context() as patch:
            await_over = asyncio.ensure_future(_running_async.over(active))
            await asyncio.sleep(0)
            change = _running_async.Change()
            patch.setattr(type(loop), "call_soon_threadsafe", Closed.call_soon_threadsafe)
            told[0]()
            change.tell()
        assert not await_over.done()
        told[0]()
        await await_over
        change.tell()
        await asyncio.sleep(0)
        assert change._event.is_set()

    asyncio.run(all_of_them())


# -- waits --------------------------------------------------------------------------------------------------------------


def test_several_may_watch_one_run():
    watchers, told = Watchers(), []
    with watchers.watching("r", lambda ended: told.append(1)):
        with watchers.watching("r", told.append):
            watchers.tell("r", 2)
        watchers.tell("r")
        assert watchers.are_there()
    watchers.tell("r")
    assert told == [1, 2, 1]
    assert not watchers.are_there()


def test_an_item_that_looks_while_another_one_tells_the_body_is_cut_too():
    siblings, item = Siblings(are_told=False), StepFuture("step")
    item.siblings = siblings

    def is_due():
        siblings.are_told = True  # by the other one's thread, which has marked that it was delivered since
        return False

    execution = SimpleNamespace(past={}, cancel=SimpleNamespace(is_due=is_due, requested=True))
    parallel = Parallel(execution, None)
    parallel._of_thread[1] = item
    assert parallel.is_cut(1)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_what_took_a_run_down_is_what_its_map_raises_though_an_item_was_cut_by_its_cancellation(order):
    ends = [Halt(RunInterruptedError("down")), Cancelled()]

    def ended(error):
        def body():
            raise error

        return StepFuture("step").run(body)

    with pytest.raises(Halt):
        _parallel._results([ended(ends[index]) for index in order], return_exceptions=False)


def test_a_thread_that_a_run_does_not_know_rests_without_suspending_it():
    threads = SyncThreads()
    threads._at_work.clear()  # whoever makes it is at work
    with threads.resting(lambda: pytest.fail("nobody asks")):
        pass


def timer_of(branches, **fields):
    made = _timeouts.RunTimer(branches, ("", -2), 5.0, (None,))
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_a_timeout_of_a_run_is_a_handle_as_asyncio_knows_them():
    branches = SimpleNamespace(timers={})
    made = timer_of(branches, _handle=Anything())
    branches.timers[made] = None
    assert (made.when(), made.cancelled()) == (5.0, False)
    made.cancel()
    assert (made.cancelled(), branches.timers) == (True, {})
    assert made._handle.calls == [("cancel",)]


def test_a_timeout_of_a_run_that_is_taken_down_fires_and_is_not_journaled():
    from contextvars import copy_context

    fired = []
    branches = SimpleNamespace(timers={}, execution=SimpleNamespace(halted=object()))
    made = timer_of(branches, _call=(copy_context(), fired.append, 1))
    made._due()
    assert fired == [1]


def test_a_timeout_of_a_run_without_branches_is_the_loops_own():
    asked = []
    branch = SimpleNamespace(execution=SimpleNamespace(branches=None))

    def call_at(*args, **options):
        asked.append((args, options))
        return "handle"

    assert _timeouts.arm(branch, 5.0, call_at, ("context", print, 1)) == "handle"
    assert asked == [((5.0, print, 1), {"context": "context"})]


def test_a_step_that_runs_in_no_pool_grows_none():
    pool = ThreadPool("x", None)
    pool._grow(1)
    assert pool._size is None


def test_a_timeout_of_a_task_that_is_dropped_with_its_loop_is_cancelled_without_a_word():
    """A task that is collected leaves its `async with` on the way, and asyncio's own handles bear that."""
    loop = asyncio.new_event_loop()
    past = SimpleNamespace(turn_of=lambda _: loop.create_future())
    place, record = ("", -2), SimpleNamespace(turn=3)
    execution = SimpleNamespace(past={place: record})
    timer = _timeouts.RunTimer(SimpleNamespace(timers={}, execution=execution, past=past), place, 5.0, (None,))
    timer.set(loop.call_at)
    loop.close()
    timer.cancel()
    assert timer.cancelled()


def test_a_thread_whose_loop_was_closed_is_interrupted_when_it_wants_something_of_it():
    loop = asyncio.new_event_loop()
    loop.close()
    execution = SimpleNamespace(interrupt=lambda why: Halt(RunInterruptedError(why)))
    threads = RunThreads(SimpleNamespace(loop=loop, execution=execution))
    with pytest.raises(Halt) as halted:
        threads._on_loop("/thread:0", lambda: None)
    assert str(halted.value.error) == "its event loop ended"


# -- the cancellation of an async run -----------------------------------------------------------------------------------


def telling(*, is_here):
    """That of a run which is cancelled, and who heard of it."""
    heard, scope = [], object()
    cancel = SimpleNamespace(delivered=False)
    execution = SimpleNamespace(cancel=cancel, halted=None, root=scope)
    branches = SimpleNamespace(execution=execution, is_here=lambda: is_here)
    made = _telling.Telling(branches)
    made.tell = lambda: heard.append("told")
    return made, heard, scope


def test_a_run_that_was_told_at_an_operation_is_not_told_in_its_turn():
    made, heard, scope = telling(is_here=True)
    token = _telling.SCOPE.set(scope)
    assert isinstance(made.at_operation(Cancelled("run r")), asyncio.CancelledError)
    _telling.SCOPE.reset(token)
    made._in_turn(SimpleNamespace(cancelled=lambda: False, exception=lambda: None), None)
    assert heard == []


def test_a_thread_of_an_async_run_is_told_as_a_sync_run_is():
    made, _, _ = telling(is_here=False)
    told = Cancelled("run r")
    assert made.at_operation(told) is told


def test_who_has_to_know_of_a_cancellation_first_ends_with_a_run_that_was_taken_down():
    """As where the commit that was to write it has failed: its turn never comes, and a child in flight holds all up."""
    made, _, _ = telling(is_here=True)
    halt = Halt(JournalError("a commit failed"))

    async def main():
        made._branches.loop = asyncio.get_running_loop()
        made._cancel.requested = True
        waiting = asyncio.create_task(made.come_first())
        await asyncio.sleep(0)
        made._branches.execution.halted = halt
        made.let_go()
        with pytest.raises(Halt) as raised:
            await waiting
        assert raised.value is halt
        with pytest.raises(Halt):
            await made.come_first()

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_a_thread_in_whose_making_ctrl_c_struck_has_begun_and_the_interrupt_is_raised(monkeypatch):
    thread = LastingThread(lambda: None, "durable-timer")

    def start(_):
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("release unlocked lock")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(KeyboardInterrupt):
        thread.begin()
    thread.begin()  # and is not made again


def test_the_handles_of_a_parent_are_not_closed_by_its_child(monkeypatch):
    handle = object()
    monkeypatch.setattr(_engine, "_leaked", [handle])
    before = sys.getrefcount(handle)
    _engine._leak()
    assert sys.getrefcount(handle) == before + 1

"""The queue in front of the one writer, with a store in memory: what is acknowledged is in the file, whatever happens."""

import contextlib
import inspect
import linecache
import random
import signal
import sys
import threading
import time

import pytest

from durable import _batch, _commits, _patience
from durable._commits import Commits
from durable._entries import MOST_ROWS, Entry, NotWrittenError, all_of, rows_of
from durable.errors import EngineClosedError, JournalError, SerializationError

PATIENCE = 60.0


class Store:
    """A file in memory, that notices when two write at a time and holds or fails commits as told."""

    def __init__(self):
        self.file = []
        self.commits = []
        """Of each commit: the records that it brought, and whether they were synced."""
        self.calls = []
        self.commit_errors = []
        self.begin_errors = []
        self.alone_errors = []
        self.at_commit = lambda: None
        self._pending = None
        self._inside = threading.Lock()

    @contextlib.contextmanager
    def _alone(self, what):
        assert self._inside.acquire(blocking=False), f"{what} while another thread is writing"
        try:
            self.calls.append((what, threading.current_thread().name))
            yield
        finally:
            self._inside.release()

    def begin(self, full):
        with self._alone("begin"):
            assert self._pending is None, "a transaction within a transaction"
            if self.begin_errors and (error := self.begin_errors.pop(0)):
                raise error
            self._pending = []
        return self

    def append(self, item):
        assert self._pending is not None
        self._pending.append(item)
        return f"did {item}"

    @property
    def number(self):
        return len(self.commits) + 1

    def put_all(self, rows):
        for row in rows:
            self.append(row[0])

    def put_alone(self, rows, full):
        with self._alone("put_alone"):
            assert self._pending is None, "a statement alone within a transaction"
            self.at_commit()
            if self.alone_errors and (error := self.alone_errors.pop(0)):
                raise error
            items = [row[0] for row in rows_of([rows])]
            self.file += items
            self.commits.append((items, full))
        return len(self.commits)

    def commit(self, full):
        with self._alone("commit"):
            if self._pending is None:
                return  # an interrupt came right after it
            self.at_commit()
            if self.commit_errors and (error := self.commit_errors.pop(0)):
                raise error
            self.file += self._pending
            self.commits.append((self._pending, full))
            self._pending = None

    def rollback(self):
        with self._alone("rollback"):
            self._pending = None

    def explain(self, error):
        return JournalError("explained") if isinstance(error, ArithmeticError) else error


class Port:
    """Keeps what is posted, and tells when so many entries have come."""

    def __init__(self, expected=1):
        self.posts = []
        self._expected = expected
        self._enough = threading.Event()

    def post(self, entries):
        self.posts.append((list(entries), threading.current_thread()))
        if len(self.entries()) >= self._expected:
            self._enough.set()

    def entries(self):
        return [entry for entries, _ in self.posts for entry in entries]

    def wait(self):
        assert self._enough.wait(PATIENCE), f"{len(self.entries())} of {self._expected} entries were posted"


class Gate:
    """Holds the first to come here until opened; lets later ones through."""

    def __init__(self):
        self.reached = threading.Event()
        self._open = threading.Event()

    def __call__(self):
        if not self.reached.is_set():
            self.reached.set()
            assert self._open.wait(PATIENCE)

    def wait(self):
        assert self.reached.wait(PATIENCE)

    def open(self):
        self._open.set()


class Task(threading.Thread):
    """A thread that keeps what its function returned or raised."""

    def __init__(self, function, *args, **kwargs):
        super().__init__(daemon=True)
        self._call = lambda: function(*args, **kwargs)
        self.value = self.error = None
        self.start()

    def run(self):
        try:
            self.value = self._call()
        except BaseException as error:
            self.error = error

    def wait(self):
        self.join(PATIENCE)
        assert not self.is_alive(), "a thread is stuck"
        return self


def put(item):
    return lambda transaction: transaction.append(item)


def raising(error):
    def work(transaction):
        transaction.append("half of it")
        raise error

    return work


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def commits(store):
    made = Commits(store)
    made.have_helper()
    yield made
    Task(made.close).wait()


@pytest.fixture
def held(store, commits):
    """The writer, held in a commit of "first" until `held.open()`; what is written meanwhile waits in line."""
    gate = store.at_commit = Gate()
    gate.first = Task(commits.write, put("first"), full=True)
    gate.wait()
    yield gate
    gate.open()
    gate.first.wait()


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.0005)


def in_line(commits, count):
    """Wait until so many stand in line behind the one that writes."""
    wait_until(lambda: len(commits._queue) >= count)


def closing_has_begun(commits):
    wait_until(lambda: commits._closed)


# -- one by one -------------------------------------------------------------------------------------------------------


def test_a_write_returns_what_its_work_returned_after_the_commit(store, commits):
    assert commits.write(put("a"), full=True) == "did a"
    assert store.commits == [(["a"], True)]
    assert commits.write(put("b"), full=False) == "did b"
    assert store.commits[1:] == [(["b"], False)]


def test_a_lone_writer_needs_no_other_thread(store, commits):
    commits.write(put("a"), full=True)
    assert {name for _, name in store.calls} == {threading.current_thread().name}


def test_work_that_raises_is_rolled_back_and_raises_what_the_store_makes_of_it(store, commits):
    error = ValueError("x")
    with pytest.raises(ValueError) as raised:
        commits.write(raising(error), full=True)
    assert raised.value is error
    with pytest.raises(JournalError, match="explained"):
        commits.write(raising(ZeroDivisionError()), full=True)
    assert store.file == []
    assert commits.write(put("a"), full=True) == "did a"


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_the_work_is_rolled_back_and_raised(store, commits, interrupt):
    with pytest.raises(interrupt):
        commits.write(raising(interrupt()), full=True)
    assert commits.write(put("a"), full=True) == "did a"
    assert store.file == ["a"]


def test_a_transaction_that_cannot_begin_fails_its_write_only(store, commits):
    store.begin_errors = [JournalError("busy")]
    with pytest.raises(JournalError, match="busy"):
        commits.write(put("a"), full=True)
    assert commits.write(put("b"), full=True) == "did b"
    assert store.file == ["b"]


# -- one statement alone ----------------------------------------------------------------------------------------------


def test_a_statement_alone_is_a_transaction_by_itself(store, commits):
    assert commits.write(("a",), full=True) == 1
    assert commits.write(("b",), full=False) == 2
    assert store.commits == [(["a"], True), (["b"], False)]
    assert [what for what, _ in store.calls] == ["put_alone", "put_alone"]


def wait_in_line(commits, *works, full=True):
    """One task each that waits in line with its work, in this order."""
    tasks = []
    for work in works:
        tasks.append(Task(commits.write, work, full=full))
        in_line(commits, len(tasks))
    return tasks


@pytest.mark.parametrize("full", [False, True])
def test_rows_that_wait_together_are_one_statement(store, commits, held, full):
    """A busy event loop gives the interpreter lock back late at each call of SQLite, and others hold it too."""
    tasks = wait_in_line(commits, ("a",), [("b",), ("c",)], ("d",), full=full)
    held.open()
    assert [task.wait().value for task in tasks] == [2, 2, 2]
    assert store.commits[1:] == [(["a", "b", "c", "d"], full)]
    assert [what for what, _ in store.calls][-1] == "put_alone"


def test_rows_among_other_work_are_part_of_one_transaction_in_their_order(store, commits, held):
    tasks = wait_in_line(commits, ("a",), put("b"), [("c",), ("d",)], put("e"), ("f",))
    held.open()
    assert [task.wait().value for task in tasks] == [2, "did b", 2, "did e", 2]
    assert store.commits[1:] == [(["a", "b", "c", "d", "e", "f"], True)]
    assert store.calls[-1][0] == "commit"


def test_works_of_one_entry_are_done_in_their_order(store, commits):
    assert all_of([("a",), [("b",)]]) == [("a",), ("b",)]
    commits.write(all_of([("a",), put("b"), all_of([("c",), put("d")]), ("e",)]), full=True)
    assert store.commits == [(["a", "b", "c", "d", "e"], True)]


def test_no_more_rows_wait_together_than_are_one_statement(store, commits, held):
    half = MOST_ROWS // 2
    works = [[(f"{each} {number}",) for number in range(half)] for each in range(3)]
    tasks = wait_in_line(commits, *works)
    held.open()
    assert [task.wait().error for task in tasks] == [None] * 3
    assert [len(batch) for batch, _ in store.commits] == [1, 2 * half, half]
    assert {what for what, _ in store.calls[-2:]} == {"put_alone"}


def test_more_rows_of_one_entry_than_are_one_statement_are_one_transaction(store, commits):
    items = list(range(MOST_ROWS + 1))
    commits.write([(item,) for item in items], full=True)
    assert store.commits == [(items, True)]
    assert [what for what, _ in store.calls] == ["begin", "commit"]


@pytest.mark.parametrize(
    "error", [SerializationError("$: too large"), UnicodeEncodeError("utf-8", "\ud800", 0, 1, "no")]
)
def test_of_rows_that_are_one_statement_the_one_at_fault_fails_alone(store, commits, held, error):
    store.alone_errors = [error, None, error]
    tasks = wait_in_line(commits, *[(item,) for item in "abc"])
    held.open()
    results = [task.wait() for task in tasks]
    assert [result.error for result in results] == [None, error, None]
    assert store.commits[1:] == [(["a"], True), (["c"], True)]


def test_a_statement_of_many_rows_that_may_have_failed_in_its_commit_ends_all_writing(store, commits, held):
    error = JournalError("input/output error")
    store.alone_errors = [error]
    tasks = wait_in_line(commits, *[(item,) for item in "ab"])
    held.open()
    assert all(isinstance(task.wait().error, JournalError) for task in tasks)
    assert store.file == ["first"]
    assert commits.is_broken()


def test_rows_whose_statement_an_interrupt_cut_are_written_again_by_the_next(store, commits, held):
    """Whether they were written nobody knows; a row may be written twice."""
    tasks = wait_in_line(commits, *[(item,) for item in "abc"])
    store.alone_errors = [KeyboardInterrupt()]
    held.open()
    results = [task.wait() for task in tasks]
    assert [type(result.error) for result in results] == [KeyboardInterrupt, type(None), type(None)]
    assert store.file == ["first", "b", "c"]


def test_a_lone_caller_that_never_waits_says_whether_it_was_on_disk(store, commits, held):
    assert not commits.write_if_idle(("a",), full=True)
    assert not commits.write_if_idle(put("b"), full=True)
    held.open()
    wait_until(commits.is_idle)
    assert commits.write_if_idle(("c",), full=True)
    assert commits.write_if_idle(put("d"), full=True)
    assert store.commits[1:] == [(["c"], True), (["d"], True)]


def test_a_statement_that_is_certainly_not_written_fails_alone(store, commits):
    error = SerializationError("$: too large")
    store.alone_errors = [error]
    with pytest.raises(SerializationError) as raised:
        commits.write(("a",), full=True)
    assert raised.value is error
    assert commits.write(("b",), full=True) == 1


def test_a_statement_that_may_have_failed_in_its_commit_ends_all_writing(store, commits):
    store.alone_errors = [JournalError("input/output error")]
    assert_ends_all_writing(store, commits, lambda: commits.write(("a",), full=True))


# -- a file that another process keeps locked --------------------------------------------------------------------------


@pytest.fixture
def locked(store, commits):
    """A file that another process keeps locked, until `locked.clear()`."""
    event = threading.Event()
    event.set()
    begin, put_alone = store.begin, store.put_alone

    def once_free(function):
        def tried(*args):
            if event.is_set():
                time.sleep(0.001)
                raise NotWrittenError("it is busy")
            return function(*args)

        return tried

    store.begin, store.put_alone = once_free(begin), once_free(put_alone)
    yield event
    event.clear()


def tried(commits):
    """Wait until the file was found locked a few times more."""
    for _ in range(3):
        last = commits.patience._last
        wait_until(lambda last=last: commits.patience._last > last)


def test_what_finds_the_file_locked_is_written_in_order_when_it_is_free(store, commits, locked):
    port, tasks = Port(2), []
    for work in (put("a"), ("b",)):
        tasks.append(Task(commits.write, work, full=True))
        wait_until(lambda: commits._leader is not None)
        tried(commits)
        commits.submit(Entry(work, full=True, port=port))
    tried(commits)
    assert store.file == []
    locked.clear()
    assert [task.wait().error for task in tasks] == [None, None]
    port.wait()
    assert [entry.error for entry in port.entries()] == [None, None]
    assert store.file == ["a", "a", "b", "b"]


@pytest.mark.parametrize("work", [put("a"), ("a",)])
def test_work_that_never_waits_is_not_done_in_a_file_that_is_locked(store, commits, locked, work):
    assert not commits.write_if_idle(work)
    locked.clear()
    assert commits.write_if_idle(put("b"))
    assert store.file == ["b"]


@pytest.mark.parametrize("leads", [True, False])
@pytest.mark.parametrize("work", [put("b"), ("b",)])
def test_who_gives_up_is_told_and_the_others_go_on(store, commits, locked, monkeypatch, leads, work):
    monkeypatch.setattr(_patience, "SECONDS", 0.05)
    other = None if leads else Task(commits.write, put("a"), full=True)
    wait_until(lambda: leads or commits._leader is not None)
    asked = Task(commits.write, work, full=True, gives_up=True)
    if leads:
        wait_until(lambda: commits._leader is not None or not asked.is_alive())
        other = Task(commits.write, put("a"), full=True)
    error = asked.wait().error
    assert type(error) is JournalError, "and not a name that no user knows"
    assert "it is busy" in str(error)
    locked.clear()
    assert other.wait().error is None
    assert store.file == ["a"]


def test_closing_ends_what_finds_the_file_locked(store, commits, locked):
    port = Port(1)
    task = Task(commits.write, put("a"), full=True)
    commits.submit(Entry(put("b"), full=True, port=port))
    tried(commits)
    began = time.monotonic()
    commits.close()
    assert time.monotonic() - began < 3
    port.wait()
    assert isinstance(task.wait().error, EngineClosedError)
    assert isinstance(port.entries()[0].error, EngineClosedError)
    locked.clear()
    assert store.file == []


@pytest.mark.parametrize("place", ["leads", "in line"])
def test_an_interrupt_gets_out_while_the_file_is_locked(store, commits, locked, place):
    other = Task(commits.write, put("a"), full=True) if place == "in line" else None
    wait_until(lambda: other is None or commits._leader is not None)

    def strike():
        wait_until(lambda: bool(commits._queue or len(commits._batch) == 2 or (other is None and commits._leader)))
        tried(commits)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=strike, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        commits.write(put("b"), full=True)
    locked.clear()
    assert other is None or other.wait().error is None
    commits.write(put("c"), full=True)
    assert store.file == (["c"] if other is None else ["a", "c"])


def test_the_log_says_once_that_the_file_is_locked(store, commits, locked, monkeypatch, caplog):
    monkeypatch.setattr(_patience, "SECONDS", 0.05)
    for _ in range(2):
        tasks = [Task(commits.write, put("a"), full=True) for _ in range(3)]
        wait_until(lambda: caplog.messages)
        tried(commits)
        locked.clear()
        assert [task.wait().error for task in tasks] == [None] * 3
        assert caplog.messages == ["it is busy; runs go on when it is free"]
        caplog.clear()
        locked.set()
        commits.patience._last -= 3  # it was free for a while


# -- many at a time ---------------------------------------------------------------------------------------------------


def test_what_waits_during_a_commit_shares_the_next_one(store, commits, held):
    tasks = [Task(commits.write, put(number), full=True) for number in range(20)]
    in_line(commits, 20)
    held.open()
    assert sorted(task.wait().value for task in tasks) == sorted(f"did {number}" for number in range(20))
    assert len(store.commits) == 2
    assert sorted(item for batch, _ in store.commits[1:] for item in batch) == list(range(20))


@pytest.mark.parametrize(
    ("fulls", "full"), [((False, False), False), ((False, True), True), ((True, False), True), ((True, True), True)]
)
def test_a_commit_is_synced_if_any_of_it_asks_for_that(store, commits, held, fulls, full):
    tasks = [Task(commits.write, put(number), full=each) for number, each in enumerate(fulls)]
    in_line(commits, len(fulls))
    held.open()
    for task in tasks:
        task.wait()
    assert [synced for _, synced in store.commits[1:]] == [full]


def test_order_of_coming_is_order_in_the_file(store, commits, held):
    tasks = []
    for number in range(5):
        tasks.append(Task(commits.write, put(number), full=True))
        in_line(commits, number + 1)
    held.open()
    for task in tasks:
        task.wait()
    assert store.file == ["first", 0, 1, 2, 3, 4]


def test_a_failing_entry_fails_alone(store, commits, held):
    error = ValueError("x")
    good = [Task(commits.write, put("a"), full=True)]
    in_line(commits, 1)
    bad = Task(commits.write, raising(error), full=True)
    in_line(commits, 2)
    good.append(Task(commits.write, put("b"), full=True))
    in_line(commits, 3)
    held.open()
    assert bad.wait().error is error
    assert [task.wait().value for task in good] == ["did a", "did b"]
    assert store.file == ["first", "a", "b"]


def test_the_work_of_an_entry_may_be_done_again_but_counts_once(store, commits, held):
    """After the rollback of its batch; so a work must come to the same end when it is done twice."""
    done = []

    def work(transaction):
        done.append(1)
        return transaction.append("a")

    task = Task(commits.write, work, full=True)
    in_line(commits, 1)
    bad = Task(commits.write, raising(ValueError()), full=True)
    in_line(commits, 2)
    held.open()
    bad.wait()
    assert task.wait().value == "did a"
    assert len(done) == 2
    assert store.file == ["first", "a"]


def test_what_is_to_be_alone_shares_its_transaction_with_nobody_and_runs_in_its_own_thread(store, commits, held):
    ran_in = []

    def alone(transaction):
        ran_in.append(threading.current_thread())
        return transaction.append("alone")

    port = Port()
    tasks = [Task(commits.write, put("before"), full=True)]
    in_line(commits, 1)
    tasks.append(Task(commits.write, alone, full=True, alone=True))
    in_line(commits, 2)
    tasks.append(Task(commits.write, put("after"), full=True))
    in_line(commits, 3)
    commits.submit(Entry(put("loop"), full=True, port=port))
    held.open()
    assert [task.wait().value for task in tasks] == ["did before", "did alone", "did after"]
    port.wait()
    assert [batch for batch, _ in store.commits] == [["first"], ["before"], ["alone"], ["after", "loop"]]
    assert ran_in == [tasks[1]]


def test_what_is_alone_and_fails_is_not_done_again(store, commits, held):
    """It is the user's code: nothing of this module's runs that twice."""
    count = []

    def alone(transaction):
        count.append(1)
        raise ValueError

    tasks = [Task(commits.write, alone, full=True, alone=True)]
    in_line(commits, 1)
    tasks.append(Task(commits.write, put("after"), full=True))
    in_line(commits, 2)
    held.open()
    assert isinstance(tasks[0].wait().error, ValueError)
    assert tasks[1].wait().value == "did after"
    assert count == [1]


def test_threads_that_hammer_it_get_what_is_theirs_and_nothing_is_lost(store, commits):
    threads, writes = 12, 120
    store.at_commit = lambda: time.sleep(0) if random.random() < 0.5 else None
    wrong = []

    def hammer(name):
        dice = random.Random(name)
        for number in range(writes):
            item, kind = (name, number), dice.randrange(5)
            try:
                if kind == 0:
                    commits.write(raising(ValueError(item)), full=True)
                elif kind == 1:
                    written = 0 < commits.write((item,), full=True) <= len(store.commits)
                else:
                    written = commits.write(put(item), full=dice.random() < 0.5) == f"did {item}"
            except ValueError as error:
                if kind != 0 or error.args != (item,):
                    wrong.append((item, error))
            else:
                if kind == 0 or not written or item not in store.file:
                    wrong.append((item, "not in the file when acknowledged"))

    tasks = [Task(hammer, name) for name in range(threads)]
    assert [task.wait().error for task in tasks] == [None] * threads
    assert wrong == []
    assert "half of it" not in store.file
    assert len(set(store.file)) == len(store.file)
    for name in range(threads):
        mine = [number for owner, number in store.file if owner == name]
        assert mine == sorted(mine), "in the order of its calls"
        dice = random.Random(name)
        expected = 0
        for _ in range(writes):
            kind = dice.randrange(5)
            expected += kind != 0
            if kind > 1:
                dice.random()
        assert len(mine) == expected


def test_the_lead_goes_to_the_first_in_line(store, commits, held):
    """No thread commits for others for ever: each leads one commit at most."""
    tasks = [Task(commits.write, put(number), full=True) for number in range(3)]
    in_line(commits, 3)
    held.open()
    for task in tasks:
        task.wait()
    leaders = [name for what, name in store.calls if what == "commit"]
    assert len(set(leaders)) == len(leaders) == 2


# -- a commit that fails ----------------------------------------------------------------------------------------------


def assert_ends_all_writing(store, commits, write):
    with pytest.raises(JournalError, match="unknown whether its records are in the file") as raised:
        write()
    assert "Close the engine and open the journal again" in str(raised.value)
    assert isinstance(raised.value.__cause__, JournalError)
    calls = len(store.calls)
    for again in (
        lambda: commits.write(put("b"), full=True),
        lambda: commits.write(put("b"), full=False),
        lambda: commits.write(("b",), full=True),
        lambda: commits.write_if_idle(put("b")),
        lambda: commits.submit(Entry(put("b"), full=True, port=Port())),
    ):
        with pytest.raises(JournalError, match="unknown whether its records are in the file") as told:
            again()
        assert told.value.__cause__ is not told.value, "what went wrong at first is kept"
    assert len(store.calls) == calls, "the file is not touched any more"
    assert "b" not in store.file


def test_an_error_from_commit_means_that_nothing_is_acknowledged_ever_after(store, commits):
    store.commit_errors = [JournalError("input/output error")]
    assert_ends_all_writing(store, commits, lambda: commits.write(put("a"), full=True))


def test_an_error_from_commit_fails_all_of_the_batch_and_all_in_line(store, commits, held):
    port = Port(2)
    store.commit_errors = [None, JournalError("input/output error")]
    tasks = [Task(commits.write, put(number), full=True) for number in range(3)]
    for name in "ab":
        commits.submit(Entry(put(name), full=True, port=port))
    in_line(commits, 5)
    held.open()
    held.first.wait()
    for task in tasks:
        assert isinstance(task.wait().error, JournalError)
        assert "unknown" in str(task.error)
    port.wait()
    assert all("unknown" in str(entry.error) for entry in port.entries())
    assert store.file == ["first"]


def test_what_came_during_a_failing_commit_fails_too_without_touching_the_file(store, commits, held):
    store.commit_errors = [JournalError("input/output error")]
    port = Port()
    tasks = [Task(commits.write, put(number), full=True) for number in range(3)]
    commits.submit(Entry(put("e"), full=True, port=port))
    in_line(commits, 4)
    held.open()
    for task in tasks:
        assert "unknown" in str(task.wait().error)
    port.wait()
    assert "unknown" in str(port.entries()[0].error)
    assert [what for what, _ in store.calls] == ["begin", "commit"]


def test_after_a_failing_commit_of_one_by_one_the_rest_is_not_tried(store, commits, held):
    store.commit_errors = [None, JournalError("input/output error")]
    tasks = [Task(commits.write, work, full=True) for work in (put("a"), raising(ValueError()), put("b"))]
    in_line(commits, 3)
    held.open()
    errors = [task.wait().error for task in tasks]
    assert store.file == ["first"]
    assert sum("unknown" in str(error) for error in errors) >= 2
    assert None not in errors


# -- event loops ------------------------------------------------------------------------------------------------------


def test_entries_of_an_event_loop_are_posted_from_another_thread(store, commits):
    port = Port()
    entry = Entry(put("a"), full=True, port=port, then="whatever")
    commits.submit(entry)
    port.wait()
    [(entries, thread)] = port.posts
    assert entries == [entry]
    assert thread is not threading.current_thread()
    assert entry.result == "did a"
    assert entry.error is None
    assert entry.then == "whatever"
    assert store.commits == [(["a"], True)]


def test_a_loop_is_told_once_a_commit(store, commits, held):
    one, other = Port(10), Port(5)
    for number in range(15):
        commits.submit(Entry(put(number), full=True, port=other if number % 3 == 0 else one))
    held.open()
    one.wait()
    other.wait()
    assert len(one.posts) == len(other.posts) == 1
    assert len(store.commits) == 2
    assert store.file == ["first", *range(15)]


def test_an_entry_of_a_loop_that_fails_is_posted_with_its_error_and_alone(store, commits, held):
    port, error = Port(3), ValueError("x")
    entries = [Entry(work, full=True, port=port) for work in (put("a"), raising(error), put("b"))]
    for entry in entries:
        commits.submit(entry)
    held.open()
    port.wait()
    assert [entry.error for entry in entries] == [None, error, None]
    assert [entries[0].result, entries[2].result] == ["did a", "did b"]
    assert store.file == ["first", "a", "b"]


def posted(commits, work):
    """An entry of a loop that was told of it."""
    port = Port()
    commits.submit(Entry(work, full=True, port=port))
    port.wait()
    [entry] = port.entries()
    return entry


def test_a_statement_of_a_loop_that_is_certainly_not_written_fails_alone(store, commits):
    error = SerializationError("$: too large")
    store.alone_errors = [error]
    entry = posted(commits, ("a",))
    assert entry.error is error
    assert posted(commits, ("b",)).error is None
    assert store.file == ["b"]


def test_a_statement_of_a_loop_that_may_have_failed_in_its_commit_ends_all_writing(store, commits):
    store.alone_errors = [JournalError("input/output error")]

    def write():
        raise posted(commits, ("a",)).error

    assert_ends_all_writing(store, commits, write)


def test_threads_and_loops_hand_the_lead_to_each_other(store, commits):
    rounds, port = 150, Port(150)

    def threads():
        for number in range(rounds):
            assert commits.write(put(("t", number)), full=True) == f"did {('t', number)}"

    def loop():
        for number in range(rounds):
            commits.submit(Entry(put(("e", number)), full=True, port=port))

    tasks = [Task(threads), Task(loop)]
    assert [task.wait().error for task in tasks] == [None, None]
    port.wait()
    assert sorted(store.file) == sorted((kind, number) for kind in "te" for number in range(rounds))
    assert [item for item in store.file if item[0] == "e"] == [("e", number) for number in range(rounds)]


def test_a_leading_thread_acknowledges_entries_of_loops(store, commits, held):
    port = Port()
    task = Task(commits.write, put("t"), full=True)
    in_line(commits, 1)
    commits.submit(Entry(put("e"), full=True, port=port))
    held.open()
    port.wait()
    assert task.wait().value == "did t"
    assert store.file == ["first", "t", "e"]
    assert len(store.commits) == 2


def test_an_entry_of_a_loop_without_a_port_is_done_and_nobody_is_told(store, commits):
    commits.submit(Entry(put("a"), full=True))
    assert commits.write(put("b"), full=True) == "did b"
    assert store.file == ["a", "b"]


# -- if idle ----------------------------------------------------------------------------------------------------------


def test_work_for_an_idle_writer_is_done_without_sync(store, commits):
    assert commits.write_if_idle(put("a")) is True
    assert store.commits == [(["a"], False)]


def test_work_for_an_idle_writer_is_not_done_when_it_is_busy(store, commits, held):
    assert commits.write_if_idle(put("a")) is False
    held.open()
    held.first.wait()
    assert store.file == ["first"]


def test_work_for_an_idle_writer_raises_its_own_error(store, commits):
    with pytest.raises(ValueError):
        commits.write_if_idle(raising(ValueError()))
    assert commits.write_if_idle(put("a"))


# -- closing ----------------------------------------------------------------------------------------------------------


def assert_closed(commits):
    for call in (
        lambda: commits.write(put("z"), full=True),
        lambda: commits.write_if_idle(put("z")),
        lambda: commits.submit(Entry(put("z"), full=True, port=Port())),
    ):
        with pytest.raises(EngineClosedError):
            call()


def test_a_closed_one_refuses_everything(store, commits):
    commits.write(put("a"), full=True)
    commits.close()
    assert_closed(commits)
    commits.close()
    assert store.file == ["a"]


def test_closing_waits_for_the_entries_of_loops_that_were_accepted(store, commits):
    port, gate = Port(50), Gate()
    store.at_commit = gate
    for number in range(50):
        commits.submit(Entry(put(number), full=True, port=port))
    gate.wait()
    closing = Task(commits.close)
    closing_has_begun(commits)
    assert closing.is_alive()
    assert_closed(commits)
    gate.open()
    closing.wait()
    assert len(port.entries()) == 50
    assert store.file == list(range(50))


def test_closing_waits_for_the_writes_of_threads_that_were_accepted(store, commits, held):
    waiting = Task(commits.write, put("second"), full=True)
    in_line(commits, 1)
    closing = Task(commits.close)
    closing_has_begun(commits)
    assert closing.is_alive(), "the file is closed next"
    held.open()
    closing.wait()
    assert store.file == ["first", "second"]
    assert waiting.wait().value == "did second"


def test_closing_while_a_thread_writes_never_makes_two_write_at_a_time(store, commits):
    port = Port()
    commits.submit(Entry(put("e"), full=True, port=port))  # so that there is a helper thread
    port.wait()
    gate = store.at_commit = Gate()
    first = Task(commits.write, put("first"), full=True)
    gate.wait()
    second = Task(commits.write, put("second"), full=True)
    in_line(commits, 1)
    late = Port()
    commits.submit(Entry(put("late"), full=True, port=late))
    closing = Task(commits.close)
    closing_has_begun(commits)
    gate.open()
    assert first.wait().value == "did first"
    assert second.wait().value == "did second"
    late.wait()
    closing.wait()
    assert store.file == ["e", "first", "second", "late"]


# -- interrupts -------------------------------------------------------------------------------------------------------


def interrupt_main_thread(commits, then):
    """Ctrl-C when the main thread stands in line; a little later, the rest."""

    def strike():
        in_line(commits, 1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.1)
        then()

    return Task(strike)


def test_an_interrupt_while_waiting_is_raised_once_the_entry_is_done(store, commits, held):
    striking = interrupt_main_thread(commits, held.open)
    with pytest.raises(KeyboardInterrupt):
        commits.write(put("mine"), full=True)
    assert striking.wait().error is None
    assert store.file == ["first", "mine"], "it was in line, and may not be lost without a word"
    assert commits.write(put("next"), full=True) == "did next"


def test_an_interrupted_one_that_gets_the_lead_leads(store, commits, held):
    others = []

    def another_and_open():
        others.append(Task(commits.write, put("other"), full=True))
        in_line(commits, 2)
        held.open()

    striking = interrupt_main_thread(commits, another_and_open)
    with pytest.raises(KeyboardInterrupt):
        commits.write(put("mine"), full=True)
    assert striking.wait().error is None
    assert others[0].wait().value == "did other"
    assert store.file == ["first", "mine", "other"]
    assert ("commit", "MainThread") in store.calls


@pytest.mark.parametrize("done", [False, True])
def test_an_interrupt_at_the_commit_sees_it_through_before_it_is_raised(store, commits, held, done):
    """Struck before the commit was done, or right after it; either way the others are acknowledged rightly."""
    if done:
        commit = store.commit

        def and_then_interrupt(full):
            commit(full)
            if len(store.commits) == 2 and store.calls[-2][0] != "commit":
                raise KeyboardInterrupt

        store.commit = and_then_interrupt
    else:
        store.commit_errors = [None, KeyboardInterrupt()]
    leader = Task(commits.write, put("leader"), full=True)
    in_line(commits, 1)
    port = Port()
    commits.submit(Entry(put("loop"), full=True, port=port))
    other = Task(commits.write, put("other"), full=True)
    in_line(commits, 3)
    held.open()
    assert isinstance(leader.wait().error, KeyboardInterrupt)
    assert other.wait().value == "did other"
    port.wait()
    assert port.entries()[0].result == "did loop"
    assert store.file == ["first", "leader", "loop", "other"]
    assert commits.write(put("next"), full=True) == "did next"


def test_an_interrupt_at_a_commit_that_then_fails_ends_all_writing(store, commits):
    store.commit_errors = [KeyboardInterrupt(), JournalError("input/output error")]
    assert_ends_all_writing(store, commits, lambda: commits.write(put("a"), full=True))


def acknowledged_wrongly(store, tasks, port):
    """Whoever was told that its record is written, and it is not."""
    told = [task.item for task in tasks if not task.is_alive() and task.error is None]
    told += [entry.item for entry in port.entries() if entry.error is None]
    return [item for item in told if item not in store.file]


class Marked(Entry):
    """An entry that knows what it writes."""

    __slots__ = ("item",)


def marked(item, port):
    entry = Marked(put(item), full=True, port=port)
    entry.item = item
    return entry


@pytest.mark.parametrize("where", ["begin", "rollback", "second commit of one by one", "work"])
def test_an_interrupt_in_the_leader_never_acknowledges_what_is_not_written(store, commits, held, where):
    """Ctrl-C strikes the main thread, while it does the work of others too: they get their commit, or an error."""
    struck = []

    def strike():
        if not struck:
            struck.append(1)
            raise KeyboardInterrupt

    def first_of(method):
        def struck_once(*args):
            if len(store.calls) >= 2:
                strike()
            return method(*args)

        return struck_once

    tasks, port = [], Port()
    works = {"leader": put("leader"), "a": put("a"), "b": put("b")}
    if where == "begin":
        store.begin = first_of(store.begin)
    elif where == "rollback":
        works["a"] = raising(ValueError("a"))
        store.rollback = first_of(store.rollback)
    elif where == "work":
        append = put("a")

        def work(transaction):
            strike()  # a signal is handled wherever the leader is just then
            return append(transaction)

        works["a"] = work
    else:
        works["b"] = raising(ValueError("b"))
        store.commit_errors = [None, None, KeyboardInterrupt()]
    for item, work in works.items():
        tasks.append(Task(commits.write, work, full=True))
        tasks[-1].item = item
        in_line(commits, len(tasks))
    commits.submit(marked("loop", port))
    held.open()
    for task in tasks:
        task.wait()
    port.wait()
    assert acknowledged_wrongly(store, tasks, port) == []
    assert isinstance(tasks[0].error, KeyboardInterrupt), "the interrupt is the leader's, and is not lost"
    follow_up = Task(commits.write, put("next"), full=True).wait()
    assert follow_up.error is None, "the queue goes on"
    assert store.file[-1] == "next"
    assert len(set(store.file)) == len(store.file)


# -- an interrupt at any line -----------------------------------------------------------------------------------------


class Striking:
    """Raises KeyboardInterrupt in a thread, as a signal would, at the so-manieth line of the queue that it goes through."""

    def __init__(self, line):
        self.at = None
        """Where it struck; `None` if there were not so many lines."""
        self._left = line
        self._entered = set()

    def __call__(self, function):
        sys.settrace(self._trace)
        try:
            return function()
        finally:
            sys.settrace(None)

    def _trace(self, frame, event, _):
        if frame.f_code.co_filename not in {_batch.__file__, _commits.__file__}:
            return None
        if frame.f_code.co_flags & inspect.CO_GENERATOR:
            return None  # closing it calls it once more, where nothing can be raised
        if event == "call" or (event == "line" and not self._leaves_a_with(frame)):
            self._left -= 1
            if self._left == 0:
                self.at = f"{frame.f_code.co_name}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self._trace

    def _leaves_a_with(self, frame):
        """The end of a `with` is its first line again; Python takes no signal between its last line and `__exit__`."""
        place = (frame, frame.f_lineno)
        is_with = linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith("with ")
        if is_with and place in self._entered:
            return True
        self._entered.add(place)
        return False


def each_line():
    """One `Striking` after the other, until there is no such line any more."""
    for line in range(1, 400):
        striking = Striking(line)
        yield striking
        if striking.at is None:
            assert line > 20
            return
    pytest.fail("it never ran without an interrupt")


WRITES = [
    lambda commits: commits.write(put("a"), full=True),
    lambda commits: commits.write(("a",), full=True),
    lambda commits: commits.write(put("a"), full=True, alone=True),
    lambda commits: commits.write_if_idle(put("a")),
    lambda commits: commits.write_if_idle(("a",)),
]
NAMES = ["write", "statement", "alone", "if idle", "statement if idle"]


@pytest.mark.parametrize("write", WRITES, ids=NAMES)
def test_an_interrupt_at_any_line_leaves_a_queue_that_goes_on(write):
    stuck, wrong = [], []
    for striking in each_line():
        store = Store()
        commits = Commits(store)
        one = Task(striking, lambda commits=commits: write(commits)).wait()
        if one.error is None and "a" not in store.file:
            wrong.append((striking.at, "acknowledged and not in the file"))
        follow_up = Task(commits.write, put("next"), full=True)
        follow_up.join(PATIENCE)
        if follow_up.is_alive():
            stuck.append(striking.at)
        elif follow_up.error is not None:
            wrong.append((striking.at, follow_up.error))
    assert not stuck, f"interrupted at {stuck}, the next write waits for ever"
    assert not wrong


class StrikingGuard:
    """The lock of the queue. Ctrl-C strikes when it was taken or given back for the so-manieth time."""

    def __init__(self, moment):
        self._moment = moment
        self._guard = threading.Lock()

    def __enter__(self):
        self._guard.acquire()
        if self._strikes():
            self._guard.release()
            raise KeyboardInterrupt

    def __exit__(self, *_):
        self._guard.release()
        if self._strikes():
            raise KeyboardInterrupt

    def _strikes(self):
        self._moment -= 1
        return self._moment == 0


@pytest.mark.parametrize("moment", range(1, 5))
@pytest.mark.parametrize("write", WRITES, ids=NAMES)
def test_an_interrupt_at_the_guard_of_the_queue_leaves_one_that_goes_on(write, moment):
    """As at any line, but without what traces lines: so that those that handle it are seen to be executed."""
    store = Store()
    commits = Commits(store)
    commits._guard = StrikingGuard(moment)
    one = Task(write, commits).wait()
    commits._guard._moment = 0
    assert one.error is None or isinstance(one.error, KeyboardInterrupt)
    assert one.error is not None or store.file == ["a"]
    assert Task(commits.write, put("next"), full=True).wait().error is None
    assert store.file[-1] == "next"


class Sleepy:
    """The lock on which a thread in line sleeps, that gets up late; an interrupt strikes who wakes it for the first time."""

    def __init__(self, lock):
        self._lock = lock
        self._strikes = True
        self.gets_up = threading.Event()
        self.locked = lock.locked

    def acquire(self):
        assert self.gets_up.wait(PATIENCE)
        self._lock.acquire()

    def release(self):
        self._lock.release()
        if self._strikes:
            self._strikes = False
            raise KeyboardInterrupt


def test_an_interrupt_right_after_the_next_in_line_was_woken_gives_it_the_lead(store, commits, monkeypatch):
    join, sleepers = Commits._join_queue, []

    def join_sleepily(self, entry):
        join(self, entry)
        entry.wake = Sleepy(entry.wake)
        sleepers.append(entry.wake)

    monkeypatch.setattr(Commits, "_join_queue", join_sleepily)
    gate = store.at_commit = Gate()
    first = Task(commits.write, put("first"), full=True)
    gate.wait()
    second = Task(commits.write, put("second"), full=True)
    wait_until(lambda: sleepers)
    gate.open()
    first.wait()
    sleepers[0].gets_up.set()
    second.wait()
    assert isinstance(first.error, KeyboardInterrupt)
    assert store.file == ["first", "second"]


def test_who_is_interrupted_right_after_joining_the_line_leaves_it(store, commits, held):
    commits._guard = StrikingGuard(2)
    one = Task(commits.write, put("a"), full=True).wait()
    assert isinstance(one.error, KeyboardInterrupt)
    assert not commits._queue
    held.open()
    assert Task(commits.write, put("next"), full=True).wait().error is None
    assert store.file == ["first", "next"]


def test_a_row_whose_lead_was_taken_right_before_it_stands_in_line(store, commits):
    gate = store.at_commit = Gate()

    class Overtaken(StrikingGuard):
        faster = None

        def __enter__(self):
            if self.faster is None:
                self.faster = ()
                self.faster = Task(commits.write, put("faster"), full=True)
                gate.wait()
            super().__enter__()

    commits._guard = Overtaken(0)
    row = Task(commits.write, ("row",), full=True)
    in_line(commits, 1)
    gate.open()
    assert row.wait().error is None
    assert store.file == ["faster", "row"]


def test_a_helper_that_was_called_and_not_given_the_lead_takes_it_where_there_is_work(store, commits):
    """As an interrupt in the middle of its waking leaves it."""
    port = Port(3)
    commits.submit(marked("a", port))
    wait_until(commits.is_idle)
    with commits._guard:
        commits._call_helper()
    wait_until(commits._helper_turn.locked)  # it was woken for nothing
    with commits._guard:
        commits._queue.append(marked("b", port))
        commits._call_helper()
    wait_until(commits.is_idle)
    commits.submit(marked("c", port))
    port.wait()
    assert store.file == ["a", "b", "c"]


def test_an_interrupt_at_any_line_of_a_leader_leaves_nobody_waiting_and_tells_nobody_a_lie():
    stuck, wrong = [], []
    for striking in each_line():
        store, port = Store(), Port(2)
        commits = Commits(store)
        commits.have_helper()
        gate = store.at_commit = Gate()
        first = Task(commits.write, put("first"), full=True)
        gate.wait()
        leader = Task(striking, lambda commits=commits: commits.write(put("leader"), full=True))
        others = []
        if stand_in_line(commits, leader, 1):
            for number, item in enumerate("ab"):
                others.append(Task(commits.write, put(item), full=True))
                others[-1].item = item
                stand_in_line(commits, others[-1], 2 * number + 2)
                commits.submit(marked(f"loop {item}", port))
        gate.open()
        everybody = [first, leader, *others, Task(commits.write, put("next"), full=True)]
        for task in everybody:
            task.join(PATIENCE)
        if any(task.is_alive() for task in everybody) or (others and not port._enough.wait(PATIENCE)):
            stuck.append(striking.at)
            if len(stuck) == 2:
                break
            continue
        told = [other.item for other in others if other.error is None] + [
            entry.item for entry in port.entries() if entry.error is None
        ]
        wrong += [(striking.at, item, "acknowledged and not in the file") for item in told if item not in store.file]
        wrong += [(striking.at, other.error) for other in others if other.error is not None]
        if len(set(store.file)) != len(store.file):
            wrong.append((striking.at, "written twice"))
    assert not stuck, f"interrupted at {stuck}, others wait for ever"
    assert not wrong


def stand_in_line(commits, task, length):
    """Wait until the task waits as the so-manieth in line; `False` if it did not come that far."""
    wait_until(lambda: len(commits._queue) >= length or not task.is_alive())
    return task.is_alive()


# -- before a fork: nobody writes until it is over ---------------------------------------------------------------------


def test_nobody_writes_while_the_lead_is_held_and_then_all_do(store, commits):
    mine = commits.hold(PATIENCE)
    tasks = [Task(commits.write, put(item), True) for item in "ab"]
    wait_until(lambda: len(commits._queue) == 2)
    assert store.calls == []
    commits.leave(mine)
    assert [task.wait().error for task in tasks] == [None, None]
    assert sorted(store.file) == ["a", "b"]
    assert commits.is_idle()


def test_who_holds_the_lead_waits_for_the_commit_in_hand_and_comes_before_later_ones(store, commits, held):
    holding = Task(commits.hold, PATIENCE)
    wait_until(lambda: len(commits._queue) == 1)
    late = Task(commits.write, put("late"), True)
    wait_until(lambda: len(commits._queue) == 2)
    held.open()
    mine = holding.wait().value
    assert "late" not in store.file
    commits.leave(mine)
    late.wait()
    assert store.file[-1] == "late"


def test_who_held_the_lead_tells_nobody_of_the_commit_before(store, commits, held):
    port = Port()
    task = Task(commits.write, put("thread"), True)
    in_line(commits, 1)
    commits.submit(Entry(put("loop"), True, port))
    held.open()
    task.wait()
    port.wait()
    commits.leave(commits.hold(PATIENCE))
    assert len(port.posts) == 1


def test_the_lead_is_not_held_where_that_takes_too_long(store, commits, held):
    assert commits.hold(0.01) is None
    held.open()
    commits.write(put("after it"), True)
    assert store.file[-1] == "after it"
    assert commits.is_idle()


def test_the_lead_is_not_held_by_who_has_it_in_its_own_transaction(store, commits):
    assert commits.write(lambda _: commits.hold(PATIENCE), True, alone=True) is None
    assert commits.is_idle()


def test_the_lead_is_not_held_by_a_signal_handler_that_struck_under_the_guard(commits):
    with commits._guard:
        assert commits.hold(0.01) is None
    assert commits.is_idle()


def test_an_interrupt_of_who_waits_for_the_lead_leaves_nobody_in_line(store, commits, held, monkeypatch):
    class Struck:
        def acquire(self, timeout=-1):
            if timeout > 0:
                raise KeyboardInterrupt

        def release(self):
            pass

    with monkeypatch.context() as patch:
        patch.setattr(threading, "Lock", Struck)
        with pytest.raises(KeyboardInterrupt):
            commits.hold(PATIENCE)
    held.open()
    commits.write(put("after it"), True)
    assert commits.is_idle()


def test_closing_in_the_thread_that_holds_the_lead_waits_for_nobody(commits):
    mine = commits.hold(PATIENCE)
    commits.close()
    commits.leave(mine)
    with pytest.raises(EngineClosedError):
        commits.write(put("late"), True)

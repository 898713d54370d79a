"""Group commit: many threads and event loops, one writer, one fsync for all that wait at a time.

Whoever finds the writer idle leads: it takes everything that waits, commits it in one transaction, and hands the lead
to the first that came meanwhile. So a lone caller pays no hand-over between threads, and under load the batches grow by
themselves, without lingering. Entries of an event loop never lead on the loop's own thread: a helper thread does.

The laws of this file: an entry is acknowledged only after the commit that holds it returned; a failing entry fails alone;
an error from COMMIT means that the outcome is unknown, and nothing is acknowledged ever after.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from .errors import EngineClosedError, JournalError, SerializationError

Work = Callable[[Any], Any]


class Port(Protocol):
    """Where entries of an event loop are acknowledged: called once a commit, from any thread, never blocking."""

    def post(self, entries: "list[Entry]") -> None: ...


class Store(Protocol):
    """What carries out a batch: see `Journal`. Each step raises what the file says."""

    def run_alone(self, statement: "Statement", full: bool) -> Any: ...
    def begin(self, full: bool) -> Any: ...
    def commit(self, full: bool) -> None: ...
    def rollback(self) -> None: ...
    def explain(self, error: BaseException) -> BaseException: ...


class NotWrittenError(JournalError):
    """The statement could not begin, and is certainly not in the file: only its own entry fails."""


class Statement:
    """Work of one statement. Alone, SQLite makes it a transaction by itself, which saves a third of the price."""

    __slots__ = ("sql", "values")

    def __init__(self, sql: str, values: tuple[Any, ...]) -> None:
        self.sql = sql
        self.values = values

    def __call__(self, transaction: Any) -> Any:
        """As part of a larger transaction."""
        return transaction.run(self)


class Entry:
    """Work to be done in a write transaction, and what came of it: `error` or else `result`."""

    __slots__ = ("alone", "error", "full", "leads", "port", "result", "then", "wake", "work")

    def __init__(self, work: Work, full: bool, port: Port | None = None, then: Any = None) -> None:
        self.work = work
        self.alone = False
        """Whether it has a transaction for itself, in the thread that waits for it: the user's code runs in it."""
        self.full = full
        self.port = port
        self.then = then
        """What the port does with the entry; nothing of this module's business."""
        self.wake: threading.Lock | None = None
        self.leads = False
        self.result: Any = None
        self.error: BaseException | None = None


class Commits:
    """The queue in front of the one writer."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._guard = threading.Lock()
        self._busy = False
        self._queue: deque[Entry] = deque()
        self._broken: JournalError | None = None
        self._closed = False
        self._helper: threading.Thread | None = None
        self._helper_turn = threading.Semaphore(0)

    def write(self, work: Work, full: bool, *, alone: bool = False) -> Any:
        """Do `work` in a transaction and return its result once that is on disk (`full`), or in the file.

        `alone`: in a transaction for itself, and in this thread.
        """
        entry = Entry(work, full)
        entry.alone = alone
        with self._guard:
            self._refuse_if_over()
            leads = not self._busy
            if leads:
                self._busy = True
            else:
                entry.wake = threading.Lock()
                entry.wake.acquire()
                self._queue.append(entry)
        if leads:
            self._lead([entry], entry)
        else:
            interrupt = _wait(entry)
            if entry.leads:
                self._lead([entry] if alone else [entry, *self._take_queue()], entry)
            if interrupt is not None:
                raise interrupt
        if entry.error is not None:
            raise entry.error
        return entry.result

    def write_if_idle(self, work: Work) -> bool:
        """Do `work` at once, without an fsync, if nobody is writing; say whether it was done. Never waits for others."""
        with self._guard:
            self._refuse_if_over()
            if self._busy:
                return False
            self._busy = True
        entry = Entry(work, full=False)
        self._lead([entry], entry)
        if entry.error is not None:
            raise entry.error
        return True

    def submit(self, entry: Entry) -> None:
        """Queue an entry of an event loop; its port is told when it is on disk, or why not."""
        with self._guard:
            self._refuse_if_over()
            self._queue.append(entry)
            if self._busy:
                return
            self._busy = True
            self._start_helper()
        self._helper_turn.release()

    def close(self) -> None:
        """Refuse what comes from now on, and wait until what was accepted is done."""
        with self._guard:
            self._closed = True
            helper = self._helper
        self._helper_turn.release()
        if helper is not None and helper is not threading.current_thread():
            helper.join()

    # -- leading ----------------------------------------------------------------------------------------------------

    def _lead(self, batch: list[Entry], mine: Entry | None) -> None:
        """Commit the batch, then give the lead away. Only ever run by the one that was given it."""
        try:
            self._carry_out(batch)
        finally:
            self._hand_over()
            if len(batch) > 1 or mine is None:
                _acknowledge(batch, mine)

    def _take_queue(self) -> list[Entry]:
        batch: list[Entry] = []
        with self._guard:
            while self._queue and not self._queue[0].alone:
                batch.append(self._queue.popleft())
        return batch

    def _hand_over(self) -> None:
        with self._guard:
            if not self._queue:
                self._busy = False
                return
            if (wake := self._queue[0].wake) is not None:
                self._queue.popleft().leads = True
                wake.release()
                return
            self._start_helper()
        self._helper_turn.release()

    def _start_helper(self) -> None:
        if self._helper is None:
            self._helper = threading.Thread(target=self._help, name="durable-commits", daemon=True)
            self._helper.start()

    def _help(self) -> None:
        """The helper thread: leads whenever the next entry in line belongs to an event loop."""
        while True:
            self._helper_turn.acquire()
            batch = self._take_queue()
            if batch:
                self._lead(batch, None)
            elif self._closed:
                return

    # -- one batch --------------------------------------------------------------------------------------------------

    def _carry_out(self, batch: list[Entry]) -> None:
        if self._broken is not None:
            _fail(batch, self._broken)
        elif not self._transact(batch):
            for entry in batch:  # one of them is at fault: each by itself, so that it fails alone
                self._transact([entry])

    def _transact(self, batch: list[Entry]) -> bool:
        """One transaction for the whole batch. False: nothing was written, and another try may be better."""
        if self._broken is not None:
            _fail(batch, self._broken)
            return True
        if len(batch) == 1 and type(batch[0].work) is Statement:
            self._transact_alone(batch[0], batch[0].work)
            return True
        full = any(entry.full for entry in batch)
        store = self._store
        try:
            transaction = store.begin(full)
        except JournalError as error:
            _fail(batch, error)
            return True
        try:
            for entry in batch:
                entry.result = entry.work(transaction)
        except BaseException as error:
            store.rollback()
            if len(batch) > 1:
                return False
            batch[0].error = store.explain(error)
            return True
        try:
            try:
                store.commit(full)
            except JournalError:
                raise
            except BaseException:  # KeyboardInterrupt: first see the commit through, whatever is raised then
                store.commit(full)
                raise
        except JournalError as error:
            self._broken = _unknown_outcome(error)
            _fail(batch, self._broken)
        return True

    def _transact_alone(self, entry: Entry, statement: Statement) -> None:
        """One statement: what fails may have failed in its commit, save for a value that SQLite cannot take."""
        try:
            entry.result = self._store.run_alone(statement, entry.full)
        except (NotWrittenError, SerializationError) as error:
            entry.error = error
        except JournalError as error:
            self._broken = entry.error = _unknown_outcome(error)

    def _refuse_if_over(self) -> None:
        if self._broken is not None:
            raise self._broken
        if self._closed:
            msg = "the engine was closed"
            raise EngineClosedError(msg)


def _wait(entry: Entry) -> BaseException | None:
    """Wait until the entry is done, or leads. Returns the interrupt that came meanwhile: the entry stays in line."""
    assert entry.wake is not None
    interrupt: BaseException | None = None
    while True:
        try:
            entry.wake.acquire()
        except BaseException as error:
            interrupt = error
        else:
            return interrupt


def _acknowledge(batch: list[Entry], mine: Entry | None) -> None:
    """Wake the threads, and tell each event loop once."""
    posts: dict[Port, list[Entry]] = {}
    for entry in batch:
        if entry is mine:
            continue
        if entry.wake is not None:
            entry.wake.release()
        elif entry.port is not None:
            posts.setdefault(entry.port, []).append(entry)
    for port, entries in posts.items():
        port.post(entries)


def _fail(batch: list[Entry], error: BaseException) -> None:
    for entry in batch:
        entry.error = error


def _unknown_outcome(error: BaseException) -> JournalError:
    msg = (
        f"a commit failed ({error}), so it is unknown whether its records are in the file: nothing more is written. "
        "Close the engine and open the journal again: what the file then holds decides"
    )
    broken = JournalError(msg)
    broken.__cause__ = error
    return broken

"""Group commit: many threads and event loops, one writer, one fsync for all that wait at a time.

Whoever finds the writer idle leads: it takes everything that waits, commits it in one transaction, and hands the lead
to the first that came meanwhile. So a lone caller pays no hand-over between threads, and under load the batches grow by
themselves, without lingering. Entries of an event loop never lead on the loop's own thread: a helper thread does. (A
run that is alone on its loop calls `write_if_idle` instead.)

The laws of this file: an entry is acknowledged only after the commit that holds it returned. A failing entry fails
alone. An error from COMMIT means that the outcome is unknown, and nothing is acknowledged ever after. An interrupt
(Ctrl-C in the thread that leads) is raised there, and leaves the work of the others to the next leader. While another
process keeps the file locked the leader tries again, with what came meanwhile, until the engine is closed.
"""

import contextlib
import math
import threading
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ._batch import fail_all, how_many_fit, post_all, write
from ._entries import (
    Entry,
    NotWrittenError,
    Port,
    Row,
    Store,
    Work,
    closed,
    require_not_held,
    unknown_outcome,
)
from ._patience import Patience, deadline
from ._thread_pool import LastingThread
from .errors import DurableError, InTransactionError, JournalError, SerializationError

if TYPE_CHECKING:
    from collections.abc import Callable

_CLOSE_SECONDS: Final = 5.0
_HELPER: Final = Entry(lambda _: None, full=False)
"""Leads in the name of the helper thread."""
_BUSY: Final = object()


class Commits:
    """The queue in front of the one writer."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._guard = threading.Lock()
        self._idle = threading.Condition(self._guard)
        self._leader: Entry | Row | None = None
        """Whose thread may use the store: known by its work. Changed under the guard only."""
        self._thread = 0
        """In which the leader writes."""
        self._queue: deque[Entry] = deque()
        self._batch: list[Entry] = []
        """What the leader has in hand."""
        self.patience = Patience()
        self._broken: DurableError | None = None
        self.on_broken: Callable[[], None] = lambda: None
        """Told once when nothing more is written: whoever waits for something to be is waiting in vain."""
        self._closed = False
        self._helper = LastingThread(self._help, "durable-commits")
        self._helper_turn = threading.Lock()
        """Held while the helper has nothing to do: a bare lock wakes it with far less work than a semaphore."""
        self._helper_turn.acquire()

    def write(self, work: Work, full: bool, *, alone: bool = False, gives_up: bool = False) -> Any:
        """Do `work` in a transaction and return its result once that is on disk (`full`), or in the file.

        `alone`: in a transaction for itself, and in this thread. `gives_up`: where the file stays locked for long.
        """
        if type(work) is tuple and self._leader is None:
            try:
                result = self._write_at_once(work, full)
            finally:
                if self._leader is work:
                    self._hand_over(work)  # type: ignore[unreachable]  # an interrupt struck in the hand-over
            if result is not _BUSY:
                return result
        entry = Entry(work, full, until=deadline() if gives_up else math.inf)
        entry.alone = threading.get_ident() if alone else None
        try:
            with self._guard:
                self.require_open()
                if self._leader is None:
                    self._leader = entry
                else:
                    self._join_queue(entry)
            interrupt = None if entry.wake is None else self._wait(entry)
            if self._leader is entry:
                self._lead(entry)
        finally:
            if self._leader is entry or not entry.done:
                self.leave(entry)
        if interrupt is not None:
            raise interrupt
        entry.require_written()
        return entry.result

    def _write_at_once(self, work: Row, full: bool) -> Any:
        """The short way of a lone caller with one row; `_BUSY` where somebody came first, or the file is locked."""
        try:
            with self._guard:
                if self._broken is not None or self._closed:
                    self.require_open()
                if self._leader is None:
                    self._leader, self._thread = work, threading.get_ident()
            return self._store.put_alone(work, full) if self._leader is work else _BUSY
        except NotWrittenError:
            return _BUSY
        except SerializationError:
            raise
        except JournalError as error:
            raise self.refuse(unknown_outcome(error))  # noqa: B904 - its cause is the first error
        finally:
            if self._leader is work:
                self._hand_over(work)

    def write_if_idle(self, work: Work, *, full: bool = False) -> bool:
        """Do `work` at once if nobody is writing; say whether it was done. Never waits for another writer."""
        if type(work) is tuple:
            try:
                return self._write_at_once(work, full) is not _BUSY
            finally:
                if self._leader is work:
                    self._hand_over(work)  # an interrupt struck in the hand-over
        entry = Entry(work, full, until=-math.inf)
        try:
            with self._guard:
                self.require_open()
                if self._leader is not None:
                    return False
                self._leader = entry
            self._lead(entry)
        finally:
            if self._leader is entry:
                self.leave(entry)
        if isinstance(entry.error, NotWrittenError):
            return False
        entry.require_written()
        return True

    def require_not_held_here(self) -> None:
        """Raise where this thread is in a body that holds the writer: what it waits for could never be written."""
        require_not_held(self._leader)

    def have_helper(self) -> None:
        """Before a loop submits an entry: if no thread could be made when it is to lead, nobody would."""
        with self._guard:
            if not self._closed:
                self._helper.begin()

    def submit(self, entry: Entry) -> None:
        """Queue an entry of an event loop; its port is told when it is on disk, or why not."""
        with self._guard:
            self.require_open()
            self._queue.append(entry)
            if self._leader is None:
                self._wake_helper()

    def is_idle(self) -> bool:
        """Whether nothing is being written, or waits to be."""
        return self._leader is None and not self._queue

    def is_broken(self) -> bool:
        """Whether a commit failed."""
        return self._broken is not None

    def refuse(self, error: DurableError) -> DurableError:
        """Whoever wants to write from now on gets `error`, or the one that came first, which is returned."""
        if self._broken is None:
            self._broken = error
            self.on_broken()
        return self._broken

    def hold(self, seconds: float) -> Entry | None:
        """Before a fork: lead, so that nobody writes until what is returned leaves; `None` where that takes longer."""
        mine = Entry(lambda _: None, full=False)
        mine.alone = threading.get_ident()
        if not self._guard.acquire(timeout=seconds):  # of this very thread, which a signal handler struck in it
            return None
        try:
            try:
                if self._leader is None:
                    self._leader = mine
                else:
                    self._join_queue(mine)
            finally:
                self._guard.release()
            if mine.wake is None or mine.wake.acquire(timeout=seconds):
                self._thread = mine.alone
                return mine
        except InTransactionError:
            return None
        except BaseException:
            self.leave(mine)
            raise
        self.leave(mine)
        return None

    def forget(self, error: DurableError) -> None:
        """In a child of `fork`: the threads of the parent, which may hold anything, are not here. All get `error`."""
        Commits.__init__(self, self._store)
        self._broken = error

    def close(self) -> None:
        """Refuse what comes from now on, and wait until what was accepted is done.

        A signal handler may call this in the middle of a commit of its own thread, which does not go on before it ends:
        as after a commit that failed nothing is acknowledged any more.
        """
        with self._guard:
            self._closed = True
            if self._leader is not None and self._thread == threading.get_ident():
                self._broken = self._broken or closed()
                return
            self._idle.wait_for(lambda: self._leader is None and not self._queue, _CLOSE_SECONDS)
            self._call_helper()
        self._helper.wait(_CLOSE_SECONDS)

    # -- in line ------------------------------------------------------------------------------------------------------

    def _join_queue(self, entry: Entry) -> None:
        require_not_held(self._leader)
        entry.wake = threading.Lock()
        entry.wake.acquire()
        self._queue.append(entry)

    def _wait(self, entry: Entry) -> BaseException | None:
        """Wait until the entry is done, or leads. Returns the interrupt that came: the entry stays in line.

        But not for as long as another process keeps the file locked.
        """
        wake = entry.wake
        assert wake is not None
        interrupt: BaseException | None = None
        while True:
            try:
                with self._guard:  # looked at before each sleep: an interrupt may have eaten the waking
                    if entry.done or self._leader is entry:
                        return interrupt
                wake.acquire()
            except BaseException as error:  # KeyboardInterrupt in the main thread
                interrupt = error
                entry.until = -math.inf

    def leave(self, entry: Entry) -> None:
        """Neither lead, nor stand in line for somebody who has gone: an interrupt came between the lines."""
        with self._guard:
            if entry in self._queue:
                self._queue.remove(entry)
            if self._leader is not entry:
                return
        self._finish(entry)

    # -- leading ------------------------------------------------------------------------------------------------------

    def _lead(self, mine: Entry) -> None:
        """Commit what waits, with one's own, then give the lead away. Only ever run by the leader."""
        self._thread = threading.get_ident()
        self._batch = batch = [] if mine is _HELPER else [mine]
        try:
            while True:
                if self._queue:
                    self._take_queue(batch, mine)
                try:
                    self._carry_out(batch)
                except NotWrittenError as error:
                    if self._is_tried_again(batch, mine, error):
                        continue
                break
        except BaseException:
            self._store.rollback()  # wherever the interrupt struck, no transaction stays open
            raise
        finally:
            self._finish(mine)

    def _is_tried_again(self, batch: list[Entry], mine: Entry, error: NotWrittenError) -> bool:
        """The file is locked: tell whose time is over, and who is done; say whether this leader has more to do."""
        if self._closed:
            fail_all([entry for entry in batch if not entry.done], closed())
            return False
        self.patience.end(batch, error)
        if mine.done:
            return False
        post_all(self._wake_threads([entry for entry in batch if entry.done], mine))
        batch[:] = [entry for entry in batch if not entry.done]
        return bool(batch)

    def _finish(self, mine: Entry) -> None:
        """Tell the others of the batch, and give the lead away; done again where an interrupt struck in it."""
        if mine is _HELPER:
            posts = self._wake_threads(self._batch, mine)
            self._hand_over(mine)  # first, so that a loop that is told finds the writer idle: no interrupt strikes here
            post_all(posts)
            return
        if len(self._batch) > 1 and self._batch[0] is mine:
            post_all(self._wake_threads(self._batch, mine))
        self._hand_over(mine)

    def _take_queue(self, batch: list[Entry], mine: Entry) -> None:
        """Into the batch goes what waits, as far as it fits; one's own leaves the line too."""
        with self._guard:
            if self._queue[0] is mine:
                self._queue.popleft()
            if mine.alone:
                return
            size = how_many_fit(self._queue, batch)
            batch.extend(entry for entry in islice(self._queue, size) if not entry.done)  # an interrupt may strike here
            self._queue = deque(islice(self._queue, size, None))

    def _hand_over(self, mine: Entry | Row) -> None:
        """Give the lead to the first in line."""
        with self._guard:
            assert self._leader is mine
            if not self._queue:
                self._leader = None
                if self._closed:
                    self._idle.notify_all()
            elif (wake := self._queue[0].wake) is not None:
                # In this order: woken for nothing it sleeps again, as a leader asleep it would not wake.
                if wake.locked():  # an interrupt struck here, and it has not got up yet
                    wake.release()
                self._leader = self._queue[0]
            else:
                self._wake_helper()

    def _wake_threads(self, batch: list[Entry], mine: Entry) -> dict[Port, list[Entry]]:
        """Tell the threads; return what each event loop is to be told. What is undone is first in line again."""
        posts: dict[Port, list[Entry]] = {}
        undone: list[Entry] = []
        for entry in batch:
            if entry is mine:
                continue
            if not entry.done:
                undone.append(entry)
            elif entry.wake is not None:
                with contextlib.suppress(RuntimeError):  # told already
                    entry.wake.release()
            elif entry.port is not None:
                posts.setdefault(entry.port, []).append(entry)
        if undone:
            with self._guard:
                self._queue.extendleft(entry for entry in reversed(undone) if entry not in self._queue)
        return posts

    def _wake_helper(self) -> None:
        self._call_helper()
        self._leader = _HELPER

    def _call_helper(self) -> None:
        """Give the helper its turn; done under the guard, and in vain where it has it already."""
        if self._helper_turn.locked():
            self._helper_turn.release()

    def _help(self) -> None:
        """The helper thread: leads whenever the next entry in line belongs to an event loop."""
        while True:
            self._helper_turn.acquire()
            with self._guard:
                if self._leader is None and self._queue:
                    self._leader = _HELPER
                leads = self._leader is _HELPER
                if not leads and self._closed and not self._queue:
                    return
            if leads:
                self._lead(_HELPER)

    # -- one batch ----------------------------------------------------------------------------------------------------

    def _carry_out(self, batch: list[Entry]) -> None:
        """`NotWrittenError` where the file is locked: what is not done by then is not written."""
        if not self._try(batch):
            for entry in batch:  # one of them is at fault: each by itself, so that it fails alone
                self._try([entry])

    def _try(self, batch: list[Entry]) -> bool:
        if self._broken is not None:
            fail_all(batch, self._broken)
            return True
        try:
            return write(self._store, batch)
        except NotWrittenError:
            raise
        except JournalError as error:
            fail_all(batch, self.refuse(unknown_outcome(error)))
            return True

    def require_open(self) -> None:
        """Raise why nothing is written any more, where that is so."""
        if self._broken is not None:
            raise self._broken
        if self._closed:
            raise closed()

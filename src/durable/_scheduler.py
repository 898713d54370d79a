"""Runs in the background: sync ones on a bounded pool of threads, async ones as tasks of one event loop."""

import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from ._active import Active, Admission, Request
from ._identity import level_outside, listed
from ._limits import Limit
from ._model import FINISHED, MessageRecord, RunRecord
from ._running import background, drive_run, lend_slot, take_slot
from ._runtime import CLOSE_SECONDS, Runtime
from ._scopes import SCOPE
from ._thread_pool import ThreadPool, lending
from ._transaction import Transaction
from .errors import DurableError, JournalError

DEFAULT_THREADS = 32
LEFT_BY_A_CRASH = frozenset({"queued", "running"})
"""The status of a run that nobody executes, and that nothing but `resume` would set going."""


class Scheduler:
    """Starts runs in the background, and resumes those that an earlier owner left."""

    def __init__(self, runtime: Runtime, threads: int) -> None:
        self.runtime = runtime
        self._pool = ThreadPool("durable-run", threads)
        runtime.waker = self
        runtime.journal.commits.on_broken = runtime.watchers.tell  # no suspended run is woken any more
        self._warned: set[str] = set()
        """Workflows of runs that are to go on, and that this program does not declare."""
        self._guard = threading.Lock()
        self._tasks: Any = None
        self._loop_thread: Any = None
        self._is_stopped = False
        """Whether no loop is to be given anything more: its thread has ended, or will in a moment."""

    def start(self, request: Request) -> str:
        """Acknowledge a run, and set it going unless it is there already; return its id. It is on disk then."""
        return self.start_many([request])[0]

    def start_many(self, requests: list[Request]) -> list[str]:
        """Acknowledge runs, all in one commit, and set them going in order; return their ids."""
        runtime = self.runtime
        runtime.own()
        prepared = [runtime.prepare(request) for request in requests]
        works = [runtime.admit(request, mine) for request, mine in zip(requests, prepared, strict=True)]

        def work(transaction: Transaction) -> list[Admission]:
            return [each(transaction) for each in works]

        try:
            admissions = runtime.journal.write(work, full=True, gives_up=SCOPE.get() is None)
            for admission, mine in zip(admissions, prepared, strict=True):
                if admission.is_mine:
                    self._submit(mine)
        except BaseException as error:
            self._abandon(prepared, error)
            raise
        return [admission.record.id for admission in admissions]

    def set_going(self, record: RunRecord) -> Active | None:
        """Execute a run that is not finished in the background; `None` when it is not to be, or is already."""
        workflow = self.runtime.registry.workflows.get(record.workflow)
        if workflow is None:
            return None
        self.runtime.own()
        active = self.runtime.set_going(record, workflow)
        if active is None:
            return None
        try:
            is_limited = self.runtime.limit_of(active.workflow) is not None
            if is_limited and self.runtime.journal.messages(record.seq, "cancel", ""):
                active.cancel()  # it waits for no slot
            self._submit(active)
        except BaseException as error:
            self._abandon([active], error)
            raise
        return active

    def _abandon(self, prepared: list[Active], error: BaseException) -> None:
        """Of runs that were to be set going, those that have not begun do not: whoever asks for them next may do so."""
        for active in prepared:
            if active.begin():
                self.runtime.abandon(active, error)

    def resume(self) -> list[tuple[RunRecord, Active]]:
        """Set going what an earlier owner left, oldest first; warn once of what this program does not declare."""
        self.runtime.own()
        found, undeclared = self.runtime.resumable()
        if undeclared:
            msg = (
                f"{self.runtime.journal.path} holds unfinished runs of workflows that this program does not declare: "
                f"{listed(undeclared)}. They are left as they are: import the modules that declare them before resume()"
            )
            warnings.warn(msg, RuntimeWarning, stacklevel=level_outside(sys._getframe()))
        # One of them may have been set going meanwhile by its parent, which is another one.
        going = [(record, self.set_going(record) or self.runtime.active.get(record.id)) for record in found]
        return [(record, active) for record, active in going if active is not None]

    def wake(self, seq: int, run_id: str, over: Callable[[], None]) -> bool:
        """For the timer: set a run going that is due, and call `over` in the end; say whether it was done."""
        active = self.runtime.active.get(run_id)
        if active is not None:
            if active.execution is not None:  # it is being suspended, and was woken already
                active.watch(self.runtime.look_for_due_runs)
            return False
        record = self.runtime.journal.run_of_seq(seq)
        if record is None or record.status != "waiting":
            return False
        active = self.set_going(record)
        if active is None:
            self._warn_of_undeclared(record)
            return False

        def is_over() -> None:
            over()
            self._may_have_stopped(active)

        active.watch(is_over)
        return True

    def go_on_with(self, run_id: str) -> None:
        """Set a run going that its parent starts again, if a crash left it, or it is blocked: the code may fit now."""
        if self.runtime.living(run_id) is None:
            record = self.runtime.journal.run(run_id)
            if record is not None and record.status in {*LEFT_BY_A_CRASH, "blocked"}:
                self._go_on_with(record)

    def go_on_with_children(self, record: RunRecord) -> None:
        """Set those going that a crash left: a suspended run may wait for them, or they were cancelled with it."""
        for child in self.runtime.journal.children(record.seq):
            if child.status in LEFT_BY_A_CRASH:
                self._go_on_with(child)

    def _go_on_with(self, child: RunRecord) -> None:
        active = self.set_going(child)
        if active is not None:
            active.watch(partial(self._may_have_stopped, active))

    def _may_have_stopped(self, active: Active) -> None:
        """A run that was woken could not be written, and waits as before, or is interrupted: tell who waits for it."""
        runtime = self.runtime
        if active.is_written or runtime.is_closed():  # which tells everybody, and reads no more
            return
        if isinstance(active.error, JournalError):
            assert runtime.timer is not None  # which has woken it
            runtime.timer.look_again()
        with suppress(JournalError):
            record = runtime.journal.run(active.run_id)
            while record is not None and record.parent is not None:
                record = runtime.journal.run_of_seq(record.parent)
                if record is not None and record.status == "waiting" and record.wake_at is None:
                    runtime.watchers.tell(record.id, active)

    def ask(self, run_id: str) -> None:
        """Set a run going that is suspended, or is just being so, to find out what it waits for: see `_ancestry.py`."""
        active = self.runtime.active.get(run_id)
        if active is None:
            self._ask_now(run_id)
        else:
            active.watch(lambda: self._ask_now(run_id))

    def _ask_now(self, run_id: str) -> None:
        with suppress(DurableError):  # the engine closes
            record = self.runtime.journal.run(run_id)
            if record is not None and record.status == "waiting":
                self._go_on_with(record)

    def receive(self, message: MessageRecord) -> None:
        """For the timer: something was asked of a run, by this process or another."""
        runtime = self.runtime
        record = runtime.journal.run_of_seq(message.run)
        if record is None or record.status in FINISHED:
            return
        active = runtime.active.get(record.id)
        if message.kind == "begin":
            self.begin(record)
        elif message.kind == "cancel" and active is not None:
            self.cancel(active, record)
        elif message.kind == "cancel" and record.status != "waiting":
            self.set_going(record)
        elif message.kind == "signal" and active is not None and active.execution is not None:
            active.execution.tell_of_signal(message.name)

    def cancel(self, active: Active, record: RunRecord) -> None:
        """Tell a run that it was cancelled. One that has never begun ends now, and not only when it is its turn."""
        if record.status == "queued" and active.execution is None:
            drive_run(self.runtime, background(self.runtime, active))  # it calls no body
        active.cancel()

    def begin(self, record: RunRecord) -> None:
        """Set a queued run going, now or when an execution of it that has ended is out of the way."""
        active = self.runtime.active.get(record.id)
        if active is None:
            if self.set_going(record) is None:
                self._warn_of_undeclared(record)
        elif active.execution is not None:
            active.watch(lambda: self._begin_after(record.id))

    def _begin_after(self, run_id: str) -> None:
        with suppress(DurableError):  # the engine closes: it is queued, and the next owner goes on with it
            record = self.runtime.journal.run(run_id)
            if record is not None and record.status == "queued":
                self.set_going(record)

    def undeclared(self) -> list[str]:
        """For the timer: whose runs it need not ask for again and again; thousands may be due of one that is gone."""
        return [name for name in tuple(self._warned) if name not in self.runtime.registry.workflows]

    def _warn_of_undeclared(self, record: RunRecord) -> None:
        if record.workflow in self.runtime.registry.workflows or record.workflow in self._warned:
            return
        self._warned.add(record.workflow)
        import logging

        logging.getLogger("durable").warning(
            "run %s of %r is to go on, and this program does not declare that workflow: import the module that does",
            record.id,
            record.workflow,
        )

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While a run waits for another, which may need a thread, or a slot, that the waiting one holds."""
        with lending():
            lent = lend_slot(self.runtime, blocks=True)
            try:
                yield
            finally:
                if lent is not None:
                    take_slot(self.runtime, *lent)

    def adopt_loop(self, loop: Any) -> None:
        """Execute background async runs on the caller's loop: `async with engine`."""
        from ._running_async import Tasks, port_of

        self._tasks = Tasks(port_of(self.runtime, loop))

    def tasks_left(self) -> int:
        """How many background async runs have begun, and are not quite over."""
        return 0 if self._tasks is None else len(self._tasks)

    def runs_on(self, loop: Any) -> bool:
        """Whether background async runs execute on this loop."""
        return self._tasks is not None and self._tasks.port.loop is loop

    def stop(self, seconds: float = CLOSE_SECONDS) -> None:
        """Begin nothing more, and end what executes: see `Runtime.stop`."""
        self.runtime.own_no_more()
        self._pool.clear()
        if self.runtime.keeper is not None:
            self.runtime.keeper.stop()
        if self.runtime.timer is not None:
            self.runtime.timer.stop()
        self.runtime.stop(seconds)
        with self._guard:
            self._is_stopped = True
        if self._loop_thread is not None:
            self._loop_thread.stop()
        for pool in (self._pool, self.runtime.step_pool):  # engines may be opened and closed again and again
            pool.end()

    def _submit(self, active: Active) -> None:
        """Set a run going, once its workflow's `concurrency` has a slot: while it waits for one it holds no thread."""
        limit = self.runtime.limit_of(active.workflow)
        if limit is None:
            self._dispatch(active)
        else:
            InLine(active, limit, self._dispatch).wait()

    def _dispatch(self, active: Active) -> None:
        if not active.workflow.is_async:
            # A child goes first: its parent may be waiting for it, and has a thread already.
            self._pool.submit(lambda: self._run(active), depth=active.depth())
        elif not self._spawn(active):
            self.runtime.abandon(active, active.not_begun())

    def _spawn(self, active: Active) -> bool:
        """Make a task of an async run; `False` where the engine was closed while the run was being started."""
        from ._running_async import LoopThread, Tasks, drive_run_async, port_of

        runtime = self.runtime
        with self._guard:
            if self._is_stopped:
                return False
            # The caller's has ended where its `async with` was left, and not by the last.
            has_none = self._tasks is None or self._tasks.port.loop.is_closed()
            if has_none and self._loop_thread is None:
                self._loop_thread = LoopThread()
            if has_none:
                self._tasks = Tasks(port_of(runtime, self._loop_thread.loop))
            tasks = self._tasks
            active.loop = tasks.port.loop
            tasks.spawn(lambda: drive_run_async(runtime, background(runtime, active), tasks.port))
        return True

    def _run(self, active: Active) -> None:
        try:
            drive_run(self.runtime, background(self.runtime, active))
        except BaseException as error:
            self.runtime.abandon(active, error)


class InLine:
    """A background run that waits for a slot of its workflow's `concurrency`; it is set going without, to be told."""

    def __init__(self, active: Active, limit: Limit, dispatch: Callable[[Active], None]) -> None:
        self._active = active
        self._limit = limit
        self._dispatch = dispatch

    def wait(self) -> None:
        """Have it set going, from any thread, when it has the slot, or needs none any more."""
        self._active.waits[self] = None
        self._limit.request(self._granted)
        self.set()

    def set(self) -> None:
        """Look whether it still needs one."""
        if not self._active.needs_slot() and self._limit.withdraw(self._granted):
            self._go_on()

    def _granted(self) -> None:
        self._active.release_slot = self._limit.release
        self._go_on()

    def _go_on(self) -> None:
        self._active.waits.pop(self, None)
        if self._active.is_over():  # cancelled before it began, or the engine was closed
            self._active.give_slot_back()
        else:
            self._dispatch(self._active)

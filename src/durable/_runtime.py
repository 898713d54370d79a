"""Runs on one journal: which run a call means, who executes it, and what follows when it has ended here.

Admission is decided inside the write transaction, so that two callers of one id cannot both start it. What this process
has set going is in `active`; everything else is in the file.
"""

import os
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any

from ._active import Active, Admission, Declaration, Request, deadline_of, new_run, require_same_call
from ._ancestry import active_at, awaiting, require_no_ancestor, who_cannot_end
from ._claims import Claims
from ._clock import Clock
from ._codec import dump_error
from ._identity import Registry, claim_of
from ._journal import Journal
from ._limits import Limit, Limits
from ._lost import require_outcomes
from ._model import FINISHED, MAXIMUM_CRASHES, NOT_COUNTED_YET, RunRecord
from ._outcome import Ending
from ._rests import Suspended
from ._thread_pool import ThreadPool
from ._timer import Timer, Waker
from ._transaction import Transaction
from ._watching import Watchers
from .errors import DurableError, EngineClosedError, RunBlockedError, RunInterruptedError

if TYPE_CHECKING:
    from ._execution import Execution

CLOSE_SECONDS = 5.0
"""How long `close` lets steps in flight end."""


class Runtime:
    """One journal, and the runs that this process executes on it."""

    def __init__(self, journal: Journal, clock: Clock, registry: Registry, threads: int) -> None:
        self.journal = journal
        self.clock = clock
        self.registry = registry
        self.active: dict[str, Active] = {}
        self.step_pool = ThreadPool("durable-step", threads)
        self.limits = Limits()
        self.waker: Waker | None = None
        """Whom the timer tells what is due; set by the scheduler."""
        self.timer: Timer | None = None
        """From when this process owns the journal."""
        self.keep_seconds: float | None = None
        """How long runs that have ended are kept, `None` for ever."""
        self.keeper: Any = None
        """Deletes older ones, from when this process owns the journal."""
        self.cancel_children: Callable[[RunRecord], None] = lambda _: None
        """Cancels the runs that a run called or started."""
        self.watchers = Watchers()
        self.ports: weakref.WeakValueDictionary[Any, Any] = weakref.WeakValueDictionary()
        """By event loop: what is between it and the journal, as long as a run executes there. It has the loop: neither
        would ever go."""
        self.began: Callable[[RunRecord], None] = lambda _: None
        """Called when a run is executed from here on, in the thread that does so."""
        self.ended: Callable[[Active, Ending], None] = lambda _active, _ending: None
        """Called when it no longer is."""
        self.engine: Any = None
        """The public face of this runtime, for whatever the code of its runs asks of the current engine."""
        self._left: weakref.WeakValueDictionary[str, Execution] = weakref.WeakValueDictionary()
        """Executions that were interrupted, by run, as long as steps that they submitted are in flight."""
        self._owns = False
        """Whether this process owns the journal, and has the threads that an owner has."""
        self._owning = threading.RLock()  # a signal handler may close the engine while its thread becomes the owner
        self._is_closing = False
        self._closed: str | None = None
        self._claims = Claims()

    # -- life ---------------------------------------------------------------------------------------------------------

    def require_open(self) -> None:
        """`EngineClosedError` after `close`, and in a child of `fork`."""
        if self._closed is not None:
            raise EngineClosedError(self._closed)

    def is_closed(self) -> bool:
        """Whether the engine was closed."""
        return self._closed is not None

    def own(self) -> None:
        """Be the owner of the journal, from the first execution on."""
        self.require_open()
        self.journal.commits.require_not_held_here()
        if self._owns:
            return
        with self._owning:
            self.require_open()
            if self._is_closing:
                raise EngineClosedError(self._why_closed())
            if not self._owns:
                self._become_owner()
                self._owns = True

    def _become_owner(self) -> None:
        """What an error or Ctrl-C left undone, such as a thread that could not be made, is done by the next call."""
        if not self.journal.epoch:
            self.journal.own(os.getpid(), self.clock.now())
        if self.timer is None:
            assert self.waker is not None
            self.timer = Timer(self.journal, self.clock, self.waker)
        self.timer.start()
        if self.keep_seconds is not None:
            if self.keeper is None:
                from ._retention import Keeper

                self.keeper = Keeper(self.journal, self.clock, self.keep_seconds)
            self.keeper.start()

    def own_no_more(self) -> None:
        """Who becomes the owner just now is waited for, since its lock would outlive the engine; nobody does later."""
        with self._owning:
            self._is_closing = True

    def _why_closed(self) -> str:
        return f"the engine on {self.journal.path} was closed: open it again with durable.open(...)"

    def forget(self) -> list[Any]:
        """In a child of `fork`: nothing of the parent's is used any more. What is returned must not be ended here."""
        self._closed = (
            f"the engine on {self.journal.path} belongs to the parent of this forked process: "
            "open one of this process's own with durable.open(...)"
        )
        executing, self.active = list(self.active.values()), {}
        return [*executing, *self.journal.forget(EngineClosedError(self._closed))]

    def stop(self, seconds: float) -> None:
        """Interrupt what is executing; attempts in flight get so much time to end and be journaled."""
        self._interrupt_all()  # before a step can find the engine closed, and fail of that
        self._closed = self._why_closed()
        here = threading.get_ident()
        running = self._interrupt_all()
        for active in running:
            if active.execution is None and active.end():
                self._over(active, active.not_begun())
        elsewhere = [active for active in running if active.thread != here]
        deadline = self.clock.monotonic() + seconds
        self._wait_for(elsewhere, deadline)
        for execution in list(self._left.values()):
            assert execution.parallel is not None
            execution.parallel.wait_for_attempts(deadline)
        given_up = [active for active in elsewhere if active.give_up()]
        self._wait_for(given_up, self.clock.monotonic() + 1.0)
        for active in running:  # also where its loop stands still for good: whoever waits for it hears of this
            if not active.is_over():
                active.finish(RunInterruptedError(f"run {active.run_id} was interrupted: the engine was closed"))
                active.drop()
        self.watchers.tell()

    def _interrupt_all(self) -> list[Active]:
        running = list(self.active.values())
        for active in running:
            if active.execution is not None:
                active.execution.interrupt("the engine was closed")
        return running

    def _wait_for(self, running: list[Active], deadline: float) -> None:
        for active in running:
            active.wait(max(0.0, deadline - self.clock.monotonic()))

    # -- admission ----------------------------------------------------------------------------------------------------

    def prepare(self, request: Request) -> Active:
        """What the caller will hold, should the run be its to execute."""
        run_id = request.run_id or self.clock.new_id()
        parent = request.parent if request.origin == "call" else None
        return Active(run_id, request.workflow, request.origin, parent, active_at(request.scope, self))

    def admit(self, request: Request, mine: Active) -> Callable[[Transaction], Admission]:
        """The work of a transaction that decides which run a call means, and makes it `mine` if it is to be.

        Run again after a rollback of its batch, it comes to the same end.
        """
        workflow, run_id = request.workflow, request.run_id
        given = workflow.signature.without_defaults(request.inputs)
        claim = claim_of(workflow.name, given) if run_id is None and request.parent is None else None
        own_id, mine.claim = mine.run_id, claim if request.origin == "call" else None

        def work(transaction: Transaction) -> Admission:
            if self.active.get(mine.run_id) is mine:
                del self.active[mine.run_id]
            self.give_back(mine)
            mine.run_id = own_id
            self.require_open()
            found = self._meant(transaction, request, mine.claim)
            if found is None:
                return self._create(transaction, request, mine, claim)
            if run_id is not None:
                require_no_ancestor(found, request.scope, self, transaction)
                require_same_call(found, request)
            active = None if found.status in FINISHED else self.living(found.id)
            if mine.claim is not None:
                self._claims.take(mine.claim, found.id)
                mine.run_id, mine.has_claimed = found.id, True
            if found.status in FINISHED or active is not None or request.joins(found):
                return Admission(found, active, is_mine=False, is_new=False, unsynced=0)
            self.active[found.id] = mine
            if request.origin == "start":
                return Admission(found, mine, is_mine=True, is_new=False, unsynced=transaction.number)
            return self.readmit(transaction, found, mine)

        return work

    def _create(self, transaction: Transaction, request: Request, mine: Active, claim: str | None) -> Admission:
        status = "queued" if request.origin == "start" else "running"
        record = transaction.add_run(
            new_run(request, mine.run_id, self.clock.now(), status=status, claim=claim, epoch=self.journal.epoch)
        )
        self.active[record.id] = mine
        return Admission(record, mine, is_mine=True, is_new=True, unsynced=transaction.number)

    def _meant(self, transaction: Transaction, request: Request, claim: str | None) -> RunRecord | None:
        """The run that is there and that a call means, `None` where it means a new one."""
        if request.run_id is not None:
            return transaction.run_of_id(request.run_id)
        if claim is None:
            return None
        waiting = who_cannot_end(request.scope, self, transaction)
        journal = self.journal
        return self._claims.oldest(transaction, claim, journal.epoch, waiting, before=journal.left_before)

    def awaiting(self, run_id: str, *, for_ever: bool = True) -> AbstractContextManager[None]:
        """See `_ancestry.awaiting`."""
        return awaiting(self, run_id, for_ever=for_ever)

    def living(self, run_id: str) -> Active | None:
        """The run in this process, unless its event loop was closed under it."""
        active = self.active.get(run_id)
        if active is not None and active.is_stranded():
            self.over(active, Ending(None, None, RunInterruptedError(f"the event loop of run {run_id} was closed")))
            return None
        return active

    def give_back(self, active: Active) -> None:
        """A plain call was interrupted: the next call of the same claims the run that this one has claimed, if any."""
        if active.has_claimed and active.claim is not None:
            active.has_claimed = False
            self._claims.give_back(active.claim, active.run_id)

    # -- going on, and ending ------------------------------------------------------------------------------------------

    def readmit(self, transaction: Transaction, found: RunRecord, mine: Active) -> Admission:
        """Set a run going that is not new: count the deaths in it, and block it when they are too many.

        One that was cancelled before it began is not set going at all.
        """
        number, is_cancelled = transaction.number, bool(transaction.messages(found.seq, "cancel"))
        if is_cancelled and found.status == "queued":
            ended = found._replace(status="cancelled", finished_at=self.clock.now(), claim=None)
            transaction.finish_run(ended)
            return Admission(ended, mine, is_mine=True, is_new=False, unsynced=number)
        if (left := self._left.pop(found.id, None)) is not None:
            left.over = True
        transaction.drop_messages(found.seq, "begin")
        progress, crashes = transaction.outcomes(found.seq), found.crashes
        require_outcomes(progress, found)
        if progress > found.progress:
            crashes = 0
        if found.status == "running" and found.epoch != self.journal.epoch:
            crashes += not transaction.closed_cleanly(found.epoch)
        claimed = found._replace(
            status="running", error=None, wake_at=None, epoch=self.journal.epoch, crashes=crashes, progress=progress
        )
        if found.deadline == NOT_COUNTED_YET:
            claimed = claimed._replace(deadline=deadline_of(mine.workflow, self.clock.now()))
        if crashes >= MAXIMUM_CRASHES:
            msg = (
                f"the process died {crashes} times in a row in this run without a step completing: it is not tried "
                f"again by itself. Find out what kills the process, then durable.get({found.id!r}).retry()"
            )
            blocked = RunBlockedError(msg)
            blocked.of_run(found.id, found.workflow)
            claimed = claimed._replace(status="blocked", error=dump_error(blocked))
        transaction.put_run(claimed)
        return Admission(claimed, mine, True, False, number, is_cancelled)

    def over(self, active: Active, ending: Ending) -> None:
        """An execution has ended, and what it wrote is in the file. What is said of it first counts."""
        if active.is_over() or not active.end():  # another thread says so, or did: of a loop that was closed since
            return
        if ending.record is None and active.claim is not None:
            active.has_claimed = False
            self._claims.give_back(active.claim, active.run_id)
        self._over(active, ending.error, is_written=ending.record is not None)
        if ending.record is not None:
            self._forget_claim(active, ending.record)
            self._tell_timer(ending.record)
            if ending.record.status == "cancelled":
                self._end_children(ending.record)
        if not isinstance(ending.error, Suspended):
            self.watchers.tell(active.run_id, active)
        self.ended(active, ending)

    def _forget_claim(self, active: Active, ended: RunRecord) -> None:
        """One that failed has its claim again when it is retried."""
        claim = None if active.execution is None else active.execution.record.claim
        if claim is not None and ended.status in FINISHED - {"failed"}:
            self._claims.forget(claim, ended.id)

    def look_for_due_runs(self) -> None:
        """A run that waits may be due now."""
        if self.timer is not None:
            self.timer.look()

    def _tell_timer(self, record: RunRecord) -> None:
        if record.status != "waiting":
            if record.parent is not None:  # which may be waiting for it
                self.look_for_due_runs()
        elif record.wake_at is not None and self.timer is not None:
            self.timer.look_at(record.wake_at)

    def _end_children(self, cancelled: RunRecord) -> None:
        """Those that were cancelled with it before this process began, and that nobody has set going to be told."""
        assert self.waker is not None
        with suppress(DurableError):  # the engine closes: `resume` goes on with them
            self.waker.go_on_with_children(cancelled)

    def abandon(self, active: Active, error: BaseException) -> None:
        """The caller was interrupted while it was being admitted: whatever the file says, nobody executes the run."""
        if self.active.get(active.run_id) is active:
            self.over(active, Ending(None, None, error))
        else:
            self.give_back(active)

    def limit_of(self, workflow: Declaration) -> Limit | None:
        """The limit of a workflow's `concurrency`, `None` where it has none."""
        if not workflow.concurrency:
            return None
        return self.limits.of("workflow", workflow.name, workflow.concurrency)

    def _over(self, active: Active, error: BaseException | None, *, is_written: bool = False) -> None:
        execution = active.execution
        if execution is not None:
            execution.over = is_written or execution.parallel is None
            if not execution.over:  # its steps in flight may be journaled, until somebody goes on with the run
                self._left[active.run_id] = execution
            if execution.sync_threads is not None:
                execution.sync_threads.executions.remove(execution)
        if self.active.get(active.run_id) is active:
            del self.active[active.run_id]
        active.finish(error, is_written=is_written)
        active.drop()

    def resumable(self) -> tuple[list[RunRecord], set[str]]:
        """What `resume` sets going, oldest first, and the names of workflows that this program does not declare."""
        found: list[RunRecord] = []
        undeclared: set[str] = set()
        for status in ("running", "queued", "blocked"):
            for record in self.journal.runs_of_status(status):
                if self.living(record.id) is not None or record.crashes >= MAXIMUM_CRASHES:
                    continue
                if record.workflow in self.registry.workflows:
                    found.append(record)
                else:
                    undeclared.add(record.workflow)
        found.sort(key=lambda record: record.seq)
        return found, undeclared

    def set_going(self, record: RunRecord, workflow: Declaration) -> Active | None:
        """Make a run this process's to execute in the background; `None` when it is already."""
        active = Active(record.id, workflow, "resume")
        if self.active.setdefault(record.id, active) is not active:
            return None
        if record.claim is not None and record.parent is None and record.epoch < self.journal.epoch:
            self._claims.resume(record.claim, record)
        return active

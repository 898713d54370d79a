"""The threads of an async run (`asyncio.to_thread`): each is a branch, and blocks for its operations.

Its outcomes go to the loop, where they have their turn among those of the tasks. While it works on between two
operations, its task only looks as if it waited, and nothing is delivered. When its task gives it up (a timeout, a
cancellation), nobody can stop the thread itself: its operation under way is journaled as cut, what comes of it is
discarded, and its next operation raises `CancelledError`.
"""

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final

from ._drive import perform
from ._effects import CUT, Append, Completed, Conclude, Deliver, Effect, Failed, Slot, Transact
from ._execution import Execution
from ._model import AttemptRecord, MessageRecord, StepRecord
from ._replay import nothing_to_release
from ._scopes import SCOPE, current_branch
from ._task_inspection import waits
from ._waits import taken_by
from .errors import Halt

if TYPE_CHECKING:
    from ._branches import Branches

_LOOK_SECONDS: Final = 1.0
"""How often a thread that waits looks whether its loop is still there, and its task still wants it."""


class GivenUpError(Exception):
    """What the thread does is no longer wanted."""


class RunThreads:
    """The threads of one execution, by the names of their branches."""

    def __init__(self, branches: "Branches") -> None:
        self._branches = branches
        self._awaited: dict[str, asyncio.Future[Any]] = {}
        """What the task of each thread awaits."""
        self._blocked: dict[str, asyncio.Future[None]] = {}
        """What threads in an operation wait for, on the loop."""
        self._waits: dict[concurrent.futures.Future[None], str] = {}
        """Through these the threads are told that it is over."""
        self._executors: dict[str, Any] = {}
        """Those of the code's own that the threads belong to."""
        self._closed = False
        self._records: dict[str, StepRecord] = {}
        """Operations under way, as last written."""
        self._messages: dict[str, MessageRecord] = {}
        """The signals that they have taken, and made nothing of yet."""
        self._given_up: set[str] = set()
        self._guard = threading.Lock()
        self.at_work: set[str] = set()
        """Threads between two operations."""

    def add(self, branch: str, awaited: "asyncio.Future[Any]", executor: Any = None) -> None:
        """A thread was handed to an executor; `None`: that of the loop."""
        self._awaited[branch] = awaited
        if executor is not None:
            self._executors[branch] = executor
        awaited.add_done_callback(lambda _: self._ended(branch, given_up=self._is_given_up(branch)))

    def _ended(self, branch: str, *, given_up: bool) -> None:
        del self._awaited[branch]
        self._executors.pop(branch, None)
        self.at_work.discard(branch)
        with self._guard:
            record, message = self._records.pop(branch, None), self._messages.pop(branch, None)
            if given_up:
                self._given_up.add(branch)
        if given_up:
            self._branches.look_for_interrupt()
            if branch in self._blocked:
                self._blocked[branch].cancel()
            is_taken_down = self._branches.execution.is_taken_down()
            dropped = sorted(self._branches.past.drop(branch), key=lambda past: past[1:3])
            if dropped and not is_taken_down and (taken := taken_by(dropped[-1])) is not None:
                self._cut(dropped[-1], taken)  # after any other the thread went on with what it had got
            self._branches.execution.wake()  # where it waits for a signal, it does so no longer
            if record is not None and not is_taken_down:
                self._cut(record, message)
            elif message is not None:
                self._branches.execution.free_signal(message)
        self._branches.tick_soon()

    def _cut(self, record: StepRecord, unread: MessageRecord | None) -> None:
        """An operation of a thread that was given up: of no turn, since nobody waits for it."""
        now = self._branches.execution.now()
        cut = record._replace(status="failed", output=None, error=CUT, finished_at=now, retry_at=None, turn=0)
        self._branches.new.journal_late(cut, unread)

    def are_there(self) -> bool:
        """Whether any of them is wanted."""
        return bool(self._awaited)

    def give_up_in(self, executor: Any) -> None:
        """An executor is waited for until its threads have ended: not where that blocks the loop, which they need."""
        if not self._branches.is_here():
            return
        with self._guard:
            self._given_up.update(branch for branch, found in self._executors.items() if found is executor)
        for over, branch in list(self._waits.items()):
            if branch in self._given_up:
                over.cancel()

    def has(self, branch: str) -> bool:
        """Whether this is the branch of a thread that is wanted."""
        return branch in self._awaited

    def is_one(self, branch: str) -> bool:
        """Whether this is the branch of a thread, wanted or given up."""
        return branch in self._awaited or branch in self._given_up

    def are_moving(self) -> bool:
        """Whether any of them works, or has yet to begin: it may wake whatever waits."""
        return len(self._awaited) > len(self.waiting())

    def waiting(self) -> "list[asyncio.Future[Any]]":
        """What the tasks await whose threads wait for their turn."""
        return [
            self._awaited[branch]
            for branch, awaited in self._blocked.items()
            if branch in self._awaited and (not isinstance(awaited, asyncio.Task) or waits(awaited))
        ]

    def close(self) -> None:
        """The run has ended on this loop: no thread is to wait for it any more."""
        self._closed = True
        for over in list(self._waits):
            over.cancel()
        if not self._branches.loop.is_closed():
            for awaited in self._blocked.values():
                awaited.cancel()

    # -- called in threads --------------------------------------------------------------------------------------------

    def require_wanted(self, branch: str) -> None:
        """Raise `GivenUpError` where the thread's task has given it up."""
        if self._is_given_up(branch):
            raise GivenUpError

    def _is_given_up(self, branch: str) -> bool:
        """Whether it was, though the loop has yet to say so: it may be blocked till the thread ends."""
        awaited = self._awaited.get(branch)
        if awaited is not None and awaited.cancelled():
            self._given_up.add(branch)
        return branch in self._given_up

    def next_signal(self, name: str) -> MessageRecord | None:
        """See `Execution.next_signal`. A thread that was given up gets none; of one that is later, it is put back."""
        branch = current_branch()
        assert branch is not None
        with self._guard:
            self.require_wanted(branch.name)
            message = self._branches.execution.next_signal(name)
            if message is not None:
                self._messages[branch.name] = message
        return message

    def perform(self, execution: Execution, effect: Effect) -> Any:
        """Carry out one effect in a thread; what has a turn of its own, on the loop."""
        try:
            return self._perform(execution, effect)
        except GivenUpError:
            raise asyncio.CancelledError from None

    def _perform(self, execution: Execution, effect: Effect) -> Any:
        branch = current_branch()
        assert branch is not None
        is_at_once = isinstance(effect, Append) and effect.record.turn is not None  # `now()` and its like
        if branch.name in self.at_work and not is_at_once:
            self._on_loop(branch.name, lambda: self._called(branch.name))
        if isinstance(effect, (Append, Slot, Conclude)) and self._branches.past:
            # Nothing new goes to the file before everything journaled was delivered, and no slot is held till then:
            # the loop's own thread may be waiting for it.
            self.wait(branch.name, self._branches.past.end, goes_on=is_at_once)
        if isinstance(effect, Append) and not is_at_once:
            self._records[branch.name] = effect.record
        elif isinstance(effect, Transact):
            return self._transact(execution, effect)
        elif isinstance(effect, Conclude):
            return self._conclude(effect.record, effect.attempt, effect.message)
        elif isinstance(effect, Deliver):
            return self._deliver(effect.record)
        return perform(execution, effect)

    def _transact(self, execution: Execution, effect: Transact) -> Any:
        """Its outcome is on disk with what the body wrote; its turn is written over it.

        Whoever gives it up before that has it rolled back; after that the outcome stays, which nobody waits for.
        """
        records: list[StepRecord] = []

        def conclude(value: Any) -> tuple[StepRecord, Any]:
            record, decoded = effect.conclude(value)
            with self._guard:
                self.require_wanted(record.branch)
                self._records.pop(record.branch, None)
            records.append(record)
            return record, decoded

        answer = perform(execution, effect._replace(conclude=conclude))
        if isinstance(answer, Failed) and isinstance(answer.error, GivenUpError):
            raise answer.error
        if isinstance(answer, Completed):
            effect.call.release_slot()
            effect.call.release_slot = nothing_to_release
            self._conclude(records[-1])
        return answer

    def _deliver(self, past: StepRecord) -> None:
        if past.turn == 0 and past.error != CUT and past.kind == "step":  # a transaction that has not had its turn
            self._on_loop(past.branch, lambda: self._deliver_inline(past))
            self.wait(past.branch, self._branches.past.end, goes_on=False)
            self._conclude(past)
        else:
            self.wait(past.branch, lambda: self._deliver_here(past))

    def _conclude(
        self, record: StepRecord, attempt: AttemptRecord | None = None, message: MessageRecord | None = None
    ) -> None:
        if message is not None:
            self._records[record.branch] = record  # on replay its wait was not written now
        self.wait(record.branch, lambda: self._branches.new.conclude(record, attempt, message))
        with self._guard:
            self._messages.pop(record.branch, None)
            self._records.pop(record.branch, None)
        if self._branches.execution.halted is not None:
            raise self._branches.execution.halted

    def wait(self, branch: str, make: Callable[[], Awaitable[None]], *, goes_on: bool = True) -> None:
        """Await something on the loop; then the operation is over and the thread goes on, unless it is only begun."""
        self.require_wanted(branch)
        over: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._waits[over] = branch
        try:
            self._on_loop(branch, lambda: self._block(branch, make, goes_on, over))
            while not over.done():
                concurrent.futures.wait([over], _LOOK_SECONDS)
                # Closed in the middle of it, by a KeyboardInterrupt.
                if self._branches.loop.is_closed() or self._is_given_up(branch):
                    over.cancel()
            over.result()
        except concurrent.futures.CancelledError as error:
            raise self._interrupted(branch) from error
        finally:
            del self._waits[over]

    def _on_loop(self, branch: str, callback: Callable[[], None]) -> None:
        """Have this called by the loop, where nothing that it makes is a task of the run."""
        context = copy_context()
        context.run(SCOPE.set, None)
        try:
            self._branches.loop.call_soon_threadsafe(callback, context=context)
        except RuntimeError as error:  # it is closed
            raise self._interrupted(branch) from error

    def _interrupted(self, branch: str) -> Halt:
        self.require_wanted(branch)
        return self._branches.execution.interrupt("its event loop ended")

    # -- on the loop, for a thread ------------------------------------------------------------------------------------

    def _take(self, past: StepRecord) -> bool:
        """The thread has called what the journal has; say whether its task has not given it up before."""
        return self._branches.execution.past.pop((past.branch, past.position), None) is not None

    async def _deliver_here(self, past: StepRecord) -> None:
        self._take(past)  # here: a wait that is given up before it has begun leaves it, to be dropped
        await self._branches.deliver(past)

    def _deliver_inline(self, past: StepRecord) -> None:
        if self._take(past):
            self._branches.past.delivered(0)

    def _called(self, branch: str) -> None:
        """The thread has called something: it no longer holds up what is to be delivered."""
        if branch in self.at_work:
            self.at_work.discard(branch)
            self._branches.tick_soon()

    def _block(
        self, branch: str, make: Callable[[], Awaitable[None]], goes_on: bool, over: "concurrent.futures.Future[None]"
    ) -> None:
        if self._closed or branch in self._given_up:
            over.cancel()
            return
        self._called(branch)
        awaited = self._blocked[branch] = asyncio.ensure_future(make())

        def ended(_: object) -> None:
            del self._blocked[branch]
            if goes_on and branch in self._awaited:
                self.at_work.add(branch)
            self._branches.flush()
            _hand_on(awaited, over)

        awaited.add_done_callback(ended)


def _hand_on(awaited: "asyncio.Future[None]", over: "concurrent.futures.Future[None]") -> None:
    """What came of the wait is for the thread, unless it no longer waits."""
    error = None if awaited.cancelled() else awaited.exception()
    if over.done():
        return
    if awaited.cancelled():
        over.cancel()
    elif error is not None:
        over.set_exception(error)
    else:
        over.set_result(None)

"""What comes in an async run that the journal does not have yet: it goes to the disk, and to its task in its turn.

Outcomes that are committed together share a turn. What else happens to a task from outside has a turn of its own, as
has each outcome of a thread: that a timeout fires, or a run ends which it awaits (`_timeouts.py`), that an operation
which the code has cut lets go. These cost no fsync. They are journaled when they are delivered, with the next record of
the run: where nothing follows, a crash leaves no trace.
"""

from bisect import insort
from itertools import groupby
from math import inf
from typing import TYPE_CHECKING

from ._effects import CUT
from ._entries import Row, Work, all_of
from ._model import END, TIMER, AttemptRecord, MessageRecord, StepRecord
from ._past_order import PastOrder, despite_cancellation
from ._port import settle
from ._records import step_row_in_turn
from ._transaction import Transaction, work_of
from .errors import DurableError, JournalError, SerializationError

if TYPE_CHECKING:
    import asyncio

    from ._branches import Branches
    from ._execution import Execution


class NewOutcomes:
    """Those of one execution; true while any of them is on its way."""

    def __init__(self, branches: "Branches", past: PastOrder) -> None:
        self._branches = branches
        self._execution = branches.execution
        self._past = past
        self._turn = past.last_turn
        self._turn_between = 0
        """The last one that was given between those of the journal."""
        self._outbox: list[Outcome] = []
        """What goes to the disk with the next commit."""
        self._committing = False
        self._waiting: list[Outcome] = []
        """What takes a turn of its own after the commit that is under way, or after the replay."""
        self._ready: list[list[Outcome]] = []
        """What waits until it is its turn, group by group."""

    def __bool__(self) -> bool:
        return bool(self._committing or self._waiting or self._ready)

    # -- called for the tasks -----------------------------------------------------------------------------------------

    def conclude(
        self, record: StepRecord, attempt: AttemptRecord | None, message: MessageRecord | None = None
    ) -> "asyncio.Future[None]":
        """Commit an outcome; what this returns is done when it is on disk and it is its turn."""
        future = self._branches.loop.create_future()
        self._outbox.append(Outcome(self, record, attempt, future, message))
        self._submit_next()
        return future

    def take_turn(self, record: StepRecord, unread: MessageRecord | None = None) -> "asyncio.Future[None]":
        """Done in a turn that this has for itself. It is journaled then, unless it was cancelled before."""
        outcome = Outcome(self, record, None, self._branches.loop.create_future(), unread, is_late=True)
        self._waiting.append(outcome)
        self.admit()
        self._branches.tick_soon()
        return outcome.future

    async def conclude_cut(self, record: StepRecord, unread: MessageRecord | None = None) -> None:
        """Journal that the workflow itself ended an operation; returns in the turn of that."""
        cut = record._replace(status="failed", output=None, error=CUT, finished_at=self._execution.now())
        await despite_cancellation(self._execution, self.take_turn(cut, unread))

    def journal_late(self, record: StepRecord, unread: MessageRecord | None = None) -> None:
        """Journal something that nobody waits for, with what follows; not an outcome that was to be written there."""
        self._outbox = [outcome for outcome in self._outbox if outcome.record[:3] != record[:3]]
        self._owe(Outcome(self, record, None, self._branches.loop.create_future(), unread, is_late=True))

    def deliver_unwritten(self, record: StepRecord, future: "asyncio.Future[None]") -> None:
        """Deliver what the journal is not to have, when all tasks wait again."""
        outcome = Outcome(self, record, None, future)
        outcome.turn = self._ready[-1][0].turn if self._ready else 0
        self._have_ready([outcome])
        self._branches.tick_soon()

    # -- to the disk --------------------------------------------------------------------------------------------------

    def is_being_written(self) -> bool:
        """Whether something that a task waits for is not on disk yet."""
        return self._committing

    def put_owed(self) -> None:
        """Have journaled, before what is put next, what is to go with that; not while the code may be another."""
        late = [outcome for outcome in self._outbox if outcome.is_late] if self._outbox else []
        if late and not self._past.holds_back and not self._execution.over:
            self._outbox = [outcome for outcome in self._outbox if not outcome.is_late]
            self._branches.port.put(_Unawaited(self._execution, late), False)

    def _owe(self, late: "Outcome") -> None:
        """Have it journaled with what follows; now where somebody may be waiting for the signal that it puts back."""
        self._outbox.append(late)
        if late.message is not None:
            self.put_owed()

    def _submit_next(self) -> None:
        """One group of a run is under way at a time, so that the order of commits is the order of turns."""
        if self._committing or not self._outbox:
            return
        if self._outbox[-1].is_late and all(outcome.is_late for outcome in self._outbox):
            return
        group, self._outbox = self._outbox, []
        self._submit(group)

    def end(self) -> None:
        """The execution ends: what was to follow the commit under way goes to the disk now, and nothing does later.

        By then somebody may have gone on with the run, and have read what the file has.
        """
        self._committing = False
        if not self._branches.loop.is_closed():
            self._submit_next()

    def _submit(self, group: "list[Outcome]") -> None:
        if self._execution.over:  # it was told only now of what came before, and the run is for others
            return
        self._give_turns(group)
        self._committing = True
        self._branches.write(group[0] if len(group) == 1 else _Group(self, group), True)

    def _give_turns(self, group: "list[Outcome]") -> None:
        """They share a turn, but for what has one for itself: a cancellation, and an outcome of a thread.

        Two threads go on at once, and what one of them makes of its outcome may be before or after the other.
        """
        if len(group) == 1 and not group[0].is_late:
            group[0].turn = self._new_turn()
            return
        turn, shared = 0, False
        for outcome in group:
            if not outcome.is_late:
                alone = outcome.record.kind == "cancel" or self._branches.threads.is_one(outcome.record.branch)
                if alone or not shared:
                    turn = self._new_turn()
                outcome.turn = turn
                shared = not alone

    def _new_turn(self) -> int:
        """The one after all others, or, where what is new goes on beside the replay, before the next of the journal."""
        if self._past.gives_way and self._past.next_turn < inf:
            self._turn_between = max(self._turn_between, self._past.reached) + 1
            return self._turn_between
        self._turn += 1
        return self._turn

    def on_disk(self, group: "list[Outcome]", error: BaseException | None) -> None:
        """A group is in the file, or not, and why."""
        self._committing = False
        if error is None:
            if len(group) == 1 and not group[0].is_late:
                self._deliver_or_queue(group)
            else:
                _free_signals(self._execution, group)
                turns = groupby((each for each in group if not each.is_late), lambda outcome: outcome.turn)
                for _, outcomes in turns:
                    self._deliver_or_queue(list(outcomes))
        elif isinstance(error, SerializationError) and len(group) > 1:
            for outcome in group:  # one of them is too large for the file: each by itself
                self._submit([outcome])
        elif isinstance(error, SerializationError):
            group[0].settle(error)
        else:
            self._fail(group, error)
        if self._waiting:
            self.admit()
        self._submit_next()
        if self._past.gives_way:  # it may have waited for this
            self._branches.tick_soon()

    def _fail(self, group: "list[Outcome]", error: BaseException) -> None:
        """The journal takes nothing more: nobody is to go on."""
        halt = self._execution.halt(error if isinstance(error, DurableError) else JournalError(str(error)))
        for outcome in group:
            outcome.settle(halt)

    # -- in turn ------------------------------------------------------------------------------------------------------

    def admit(self) -> None:
        """Give those that wait for a turn theirs."""
        if self._committing or self._past.holds_back:
            return
        for outcome in self._waiting:
            last = self._ready[-1] if self._ready else []
            if _is_end(outcome) and last and _is_end(last[0]):
                outcome.turn = last[0].turn  # a thousand runs that are awaited take few turns
                last.append(outcome)
                continue
            outcome.turn = self._new_turn()
            self._have_ready([outcome])
        if self._waiting:
            self._waiting = []
            self._branches.tick_soon()

    def _deliver_or_queue(self, group: "list[Outcome]") -> None:
        is_alone = group[0].record.kind == "cancel"
        if self._ready or not self._past.is_over or is_alone or not self._branches.is_single():
            self._have_ready(group)
            self._branches.tick_soon()
        else:
            self._deliver(group)

    def _have_ready(self, group: "list[Outcome]") -> None:
        insort(self._ready, group, key=_turn_of)

    def _deliver(self, group: "list[Outcome]") -> None:
        """In one order, live and on replay: that of branches and positions."""
        for outcome in sorted(group, key=lambda outcome: outcome.record[1:3]) if len(group) > 1 else group:
            if outcome.is_late and not outcome.future.done():
                self._owe(outcome)
            if outcome.record.status == "failed":
                self._execution.root.aftermath.fail(outcome.turn)
            outcome.settle()

    def has_ready(self) -> bool:
        """Whether some wait for nothing but their turn."""
        return bool(self._ready)

    def comes_first(self) -> bool:
        """Whether, of what is new and what the journal has, the next turn is that of something new."""
        return bool(self._ready) and self._ready[0][0].turn < self._past.next_turn

    def is_committing(self) -> bool:
        """Whether something that was given its turn is on its way to the disk."""
        return self._committing

    def has_waiting(self) -> bool:
        """Whether some were not given a turn yet."""
        return bool(self._waiting)

    def deliver_next(self) -> None:
        """Deliver the next turn."""
        self._deliver(self._ready.pop(0))

    def next_is_timeout(self) -> bool:
        """Whether the next turn is that of a timeout which the code has set."""
        return bool(self._ready) and any(outcome.record.kind == TIMER for outcome in self._ready[0])

    def awaited(self) -> "list[asyncio.Future[None]]":
        """What the tasks await that wait for their turn."""
        return [outcome.future for group in [*self._ready, self._waiting] for outcome in group]


class Outcome:
    """An outcome on its way: to the disk, by itself or in a group, and then to the task that awaits it."""

    __slots__ = ("_recipient", "attempt", "future", "is_late", "message", "record", "turn")

    def __init__(
        self,
        recipient: NewOutcomes,
        record: StepRecord,
        attempt: AttemptRecord | None,
        future: "asyncio.Future[None]",
        message: MessageRecord | None = None,
        *,
        is_late: bool = False,
    ) -> None:
        self._recipient = recipient
        self.record = record
        self.attempt = attempt
        self.turn = 0
        """Its place in the order of delivery."""
        self.future = future
        """What the task awaits."""
        self.message = message
        """What it was made of, and is dropped with it; of a cut, what nobody got and is put back."""
        self.is_late = is_late
        """Whether it is journaled after it was delivered, with what follows."""

    @property
    def work(self) -> Work:
        """What writes it, once it has its turn."""
        if not self.is_late:
            return work_of(step_row_in_turn(self.record, self.turn), self.attempt, self.message)
        row = step_row_in_turn(self.record, self.turn)
        return row if self.message is None else _putting_back(self.message, row)

    def told(self, error: BaseException | None) -> None:
        """It is in the file, or not, and why."""
        self._recipient.on_disk([self], error)

    def settle(self, error: BaseException | None = None) -> None:
        """Let the task go on."""
        settle(self.future, error)


def _putting_back(message: MessageRecord, row: Row) -> Work:
    def work(transaction: Transaction) -> int:
        if message.seq:
            transaction.put_message(message)
        else:
            transaction.add_message(message)
        return transaction.put(row)

    return work


class _Group:
    """Outcomes of a run that go to the disk together."""

    __slots__ = ("_outcomes", "_recipient", "work")

    def __init__(self, recipient: NewOutcomes, outcomes: list[Outcome]) -> None:
        self._recipient = recipient
        self._outcomes = outcomes
        self.work = all_of([outcome.work for outcome in outcomes])

    def told(self, error: BaseException | None) -> None:
        self._recipient.on_disk(self._outcomes, error)


class _Unawaited:
    """What was delivered before it was journaled."""

    __slots__ = ("_execution", "_outcomes", "work")

    def __init__(self, execution: "Execution", outcomes: list[Outcome]) -> None:
        self._execution = execution
        self._outcomes = outcomes
        self.work = all_of([outcome.work for outcome in outcomes])

    def told(self, error: BaseException | None) -> None:
        """Nobody waits for it, but somebody may for a signal that was put back."""
        if error is None:
            _free_signals(self._execution, self._outcomes)


def _free_signals(execution: "Execution", written: list[Outcome]) -> None:
    """Those that were put back can be taken again; not sooner, since the file may not have had them meanwhile."""
    for outcome in written:
        if outcome.is_late and outcome.message is not None:
            execution.free_signal(outcome.message)


def _turn_of(group: list[Outcome]) -> int:
    return group[0].turn


def _is_end(outcome: Outcome) -> bool:
    return outcome.record.kind == TIMER and outcome.record.name == END

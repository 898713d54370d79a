"""The words of the journal as frozen values: runs, steps, failed attempts, and the statuses they go through.

A record is a named tuple whose fields are the columns of its table, in order. Times are seconds since the Unix
epoch. Texts in `input`, `output` and `error` are JSON as written by the codec.
"""

from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import Any, Final, Literal, NamedTuple, TypeVar

T = TypeVar("T", bound=tuple[Any, ...])

new_tuple: Final[Callable[[type[T], tuple[Any, ...]], T]] = tuple.__new__
"""A named tuple of all its fields, as its class makes it, in half the time: where each step passes, and only there."""

RunStatus = Literal["queued", "running", "waiting", "completed", "failed", "cancelled", "blocked", "interrupted"]

RUN_TRANSITIONS: Final[dict[str, frozenset[str]]] = {
    "queued": frozenset({"running", "cancelled"}),
    "running": frozenset({"running", "waiting", "completed", "failed", "cancelled", "blocked"}),
    "waiting": frozenset({"running", "cancelled"}),
    "blocked": frozenset({"running", "queued", "blocked", "cancelled"}),
    "failed": frozenset({"queued"}),
    "completed": frozenset(),
    "cancelled": frozenset(),
}
"""Which stored status may follow which. `running` again: claimed anew after its owner ended. `failed` goes on only
by `retry()`, which queues it. `interrupted` is not here, since it is derived when read: `running`, and nobody is
executing it."""

RUN_STATUSES: Final = (*RUN_TRANSITIONS, "interrupted")
FINISHED: Final = frozenset({"completed", "failed", "cancelled"})
"""A run in one of these has ended: its result or error is recorded."""

LAST_DAY: Final = 253_402_214_400.0
"""31 December 9999, the last day that a date can say in every time zone. What is due later is written as due then."""
MAXIMUM_CRASHES: Final = 100
"""Deaths of the process in one run, without a new outcome between them, after which the run is blocked."""
RAISED_AT: Final = "raised_at"
"""In the error of an async run: when its body raised it."""
WENT_ON: Final = "went_on"
"""There too: see `Aftermath.went_on`."""
PASSED: Final = "passed"
"""In the error of any run: see `Aftermath.passed`."""
NOT_COUNTED_YET: Final = inf
"""The deadline of a run whose timeout is counted from when it goes on."""


ROOM: Final = 1 << 24
"""Between two turns of a run that was retried: see `spaced`."""


class RunRecord(NamedTuple):
    """One run. `seq` is its place in the order of creation and its key inside the journal."""

    seq: int
    id: str
    workflow: str
    module: str
    status: str
    input: str
    output: str | None
    error: str | None
    created_at: float
    finished_at: float | None
    wake_at: float | None
    """When a waiting run is due."""
    claim: str | None
    """Fingerprint of workflow and inputs, while a plain call without an id may go on with this run; of one that failed
    it is set aside, for a retry."""
    parent: int | None
    """`seq` of the run that called this one."""
    epoch: int
    """Which owner of the journal last set the run going, 0 for none yet."""
    crashes: int
    """Deaths of the process in this run since `progress` last grew."""
    progress: int
    """Outcomes in the journal when the run was last set going."""
    trusting: int
    """1 where the journal's word is taken for the inputs of steps: `retry(trust_journal=True)`."""
    deadline: float | None = None
    """When the run's timeout passes."""


class StepRecord(NamedTuple):
    """One journaled operation of a run: a step, or one of the library's own such as `now`."""

    run: int
    branch: str
    position: int
    kind: str
    name: str
    module: str
    status: str
    attempt: int
    failures: int
    input: str | None
    output: str | None
    error: str | None
    started_at: float
    finished_at: float | None
    retry_at: float | None
    turn: int | None
    """In which order the outcomes of a run reached its tasks, counted from 1; those of one turn together. 0 where the
    code that called waited for nothing else (sync), `None` while there is no outcome."""


TIMER: Final = "timer"
"""The kind of a timeout of asyncio that fired in the body of an async run. Nobody calls it, and nobody is shown it."""
END: Final = "end"
"""The name of a timer that is none: that a run ended which a task of an async run awaits."""
CANCEL_POSITION: Final = -1
"""Where the cancellation of an async run is journaled."""
FIRST_TIMEOUT: Final = -2
"""Where the first timeout that a branch sets, or run that it awaits, is journaled; the others follow below."""
HIDDEN_KINDS: Final = frozenset({"map", TIMER})
"""What keeps the order or the size of operations, and is none itself."""


WAITS: Final = frozenset({"sleep", "signal"})
"""Kinds of operations in which a run only waits."""
SLEEP_UNTIL: Final = "sleep_until"
"""The name of a sleep until a fixed time: all other waits are as long as they were to be, however the clock is set."""
HAS_RUN: Final = frozenset({"child", "start"})
"""Kinds of operations whose body is a run of its own."""


class AttemptRecord(NamedTuple):
    """One attempt that did not complete its step. `error` is `None` where the process died in it."""

    run: int
    branch: str
    position: int
    attempt: int
    started_at: float
    finished_at: float | None
    error: str | None


class MessageRecord(NamedTuple):
    """What somebody asked of a run, from when it was sent until the run has read it."""

    seq: int
    run: int
    kind: str
    """"cancel"; "signal"; "begin" for a run that another process started or retried."""
    name: str
    value: str | None
    error: str | None
    sent_at: float


class OwnerRecord(NamedTuple):
    """One process that owned the journal. `closed_at` is `None` while it lives, and for ever where it died."""

    epoch: int
    pid: int
    started_at: float
    closed_at: float | None


def around(branch: str) -> Iterator[str]:
    """The branches that this one is a part of, from the nearest on."""
    while branch:
        branch = branch.rpartition("/")[0]
        yield branch


def as_called(steps: Iterable[StepRecord]) -> list[StepRecord]:
    """In the order in which they were called, with the time by which each was for that at which it began.

    A step that was submitted may wait for a thread, and begin when what the code called after it has ended. Where the
    times are the same, branch after branch.
    """
    called: dict[str, float] = {}
    found: list[StepRecord] = []
    for step in sorted(steps, key=lambda step: step[1:3], reverse=True):
        at = step.started_at
        if step.position >= 0:
            at = called[step.branch] = min(at, called.get(step.branch, inf))
        found.append(step._replace(started_at=at))
    return sorted(found, key=lambda step: (step.started_at, step.branch, step.position))


def by_call(steps: Iterable[StepRecord]) -> list[StepRecord]:
    """In the order in which they were called, as they are."""
    by_place = {step[1:3]: step for step in steps}
    return [by_place[step[1:3]] for step in as_called(by_place.values())]


def in_order(steps: Iterable[StepRecord]) -> list[StepRecord]:
    """The operations that `run.steps()` lists, as it lists them."""
    return [step for step in by_call(steps) if step.kind not in HIDDEN_KINDS]


def spaced(steps: list[StepRecord], again: list[StepRecord]) -> list[StepRecord]:
    """The outcomes that stay and came after something that a retry does again: with room before each.

    The code may have waited for the end of that to go on, as with a semaphore. Then the new attempts, and what follows
    them, come before what is there, and have their turns in between. When a step came that blocked the loop is not
    known.
    """
    places = {step[1:3] for step in again}
    first = min((step.turn for step in again if step.turn is not None), default=None)
    if first is None:
        return []
    later = [step for step in steps if (step.turn or 0) > first and step[1:3] not in places]
    ranks = {turn: rank for rank, turn in enumerate(sorted({step.turn for step in later if step.turn}), 1)}
    return [step._replace(turn=first + ROOM * ranks[step.turn or 0]) for step in later]


def operation_number(steps: Iterable[StepRecord], place: tuple[str, int]) -> int:
    """Which one is at a place (branch and position), or would be, of those that `run.steps()` lists: from 1 on."""
    listed = in_order(steps)
    after = (index for index, step in enumerate(listed) if step.branch == place[0] and step.position >= place[1])
    return 1 + next(after, len(listed))


def seen_status(record: RunRecord, live_epoch: int | None) -> str:
    """The status that a reader shows: `live_epoch` is the epoch of the living owner, `None` when there is none."""
    if record.status == "running" and record.epoch != live_epoch:
        return "interrupted"
    return record.status

"""The words of random programs: steps that return their own label, what a body notes of what it saw, and the crash.

Every call of a step has a label of its own, `who.place`, where `who` is the coroutine or function that calls it. So a
value at a wrong call shows at once, and so does a step that runs again.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import durable
from durable import JournalError, RetryPolicy
from durable._scopes import current_branch

LONGEST_SECONDS = 0.003
QUICK = RetryPolicy(initial_interval=0.001, maximum_attempts=0, jitter=0)
STUBBORN = RetryPolicy(initial_interval=0.001, maximum_attempts=2, jitter=0)
HASTY_SECONDS = 0.004


class Declined(Exception):
    """What steps raise that are to fail."""


class Life:
    """One life of the program, from its start until its end or its crash."""

    def __init__(
        self, seed: str, mode: str, at: int, acts: Iterable[tuple[int, str]] = (), *, fails: bool = False
    ) -> None:
        self.dice = random.Random(seed)
        self.mode = mode
        """"none", "abandon", "interrupt", "cancel", "close" or "kill"."""
        self.at = at
        """The number of the moment at which it crashes; 0: when the body is about to return."""
        self.acts = acts
        """What somebody does, and the number of the moment at which he does it."""
        self.fails = fails
        """Whether the world outside is broken, so that some steps fail."""
        self.moments = 0
        self.crashed = False
        self.notes: list[list[str]] = []
        self.file = -1
        self.cancel: Callable[[], None] = lambda: None
        self.close: Callable[[], None] = lambda: None
        self.act: Callable[[str], None] = lambda what: None
        """How somebody does it, in a thread of his own."""
        self.others: list[threading.Thread] = []
        self._guard = threading.Lock()

    def note(self, *words: str) -> None:
        self.notes.append(list(words))
        if self.file >= 0:
            os.write(self.file, (json.dumps(words) + "\n").encode())

    def moment(self, where: str, *, last: bool = False) -> None:
        """One effect, in a "body", in the "journal" or in the "workflow", before or after which the process may die."""
        with self._guard:
            self.moments += 1
            due = [what for at, what in self.acts if at == self.moments]
            dies = self.mode != "none" and not self.crashed and (last if self.at == 0 else self.moments >= self.at)
            if self.mode == "interrupt" and where == "journal":
                dies = False  # in whatever thread writes
            self.crashed = self.crashed or dies
        for what in due:
            self.others.append(threading.Thread(target=self.act, args=(what,)))
            self.others[-1].start()
        if dies:
            self._die()
        if where == "journal" and self.crashed and self.mode == "abandon":
            raise JournalError("the process is dead: nothing more reaches the file")

    def _die(self) -> None:
        if self.mode == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.mode == "interrupt":
            raise KeyboardInterrupt
        if self.mode == "cancel":
            self.cancel()
        if self.mode == "close":
            threading.Thread(target=self.close).start()


life = Life("", "none", 0)


def begin_life(new: Life, engine: durable.Engine, slow_disk: bool) -> None:
    """From now on this is the life, and the engine's journal is where it ends."""
    global life
    life = new
    journal: Any = engine._runtime.journal
    journal.begin = _around(new, journal.begin, slow=False)
    journal.commit = _around(new, journal.commit, slow=slow_disk)
    journal.put_alone = _around(new, journal.put_alone, slow=slow_disk)


def _around(mine: Life, function: Callable[..., Any], *, slow: bool) -> Callable[..., Any]:
    def wrapper(*args: Any) -> Any:
        mine.moment("journal")
        if slow:
            time.sleep(mine.dice.choice([0, 0, 0.0005, 0.002]))
        result = function(*args)
        mine.moment("journal")
        return result

    return wrapper


# -- steps -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def body(label: str) -> Iterator[float]:
    """Around what a step does; gives how long it is to take, which says nothing of its place in the program."""
    life.note("start", label)
    life.moment("body")
    yield life.dice.choice(
        [0.0, -1.0, life.dice.uniform(0, LONGEST_SECONDS / 3), life.dice.uniform(0, LONGEST_SECONDS)]
    )
    life.moment("body")
    life.note("end", label)


async def take(seconds: float) -> None:
    if seconds < 0:
        for _ in range(life.dice.randrange(6)):
            await asyncio.sleep(0)
    elif seconds:
        await asyncio.sleep(seconds)


async def _work(label: str) -> str:
    with body(label) as seconds:
        await take(seconds)
    return label


def _plain(label: str) -> str:
    with body(label) as seconds:
        time.sleep(max(0.0, seconds))
    return label


def _fails_at_first(label: str) -> None:
    if durable.info().attempt == 1:
        raise ConnectionError(label)


def _fails_while_broken(label: str) -> None:
    if life.fails:
        raise Declined(label)


@durable.step(name="work", retry=None)
async def work(label: str) -> str:
    return await _work(label)


@durable.step(name="loose", retry=None, match_inputs=False)
async def loose(label: str) -> str:
    return await _work(label)


@durable.step(name="flaky", retry=QUICK)
async def flaky(label: str) -> str:
    await _work(label)
    _fails_at_first(label)
    return label


@durable.step(name="hasty", retry=QUICK, timeout=HASTY_SECONDS)
async def hasty(label: str) -> str:
    return await _work(label)


@durable.step(name="stubborn", retry=STUBBORN)
async def stubborn(label: str) -> str:
    """Fails, however often it is tried."""
    await _work(label)
    raise ConnectionError(label)


@durable.step(name="moody", retry=None)
async def moody(label: str) -> str:
    """Fails while the world outside is broken."""
    await _work(label)
    _fails_while_broken(label)
    return label


@durable.step(name="once", retry=None, at_most_once=True)
async def once(label: str) -> str:
    life.note("once", label)
    return await _work(label)


@durable.step(name="limited", retry=None, concurrency=2)
async def limited(label: str) -> str:
    return await _work(label)


@durable.step(name="bad", retry=None)
async def bad(label: str) -> str:
    await _work(label)
    raise Declined(label)


@durable.step(name="plain", retry=None)
def plain(label: str) -> str:
    return _plain(label)


@durable.step(name="loose_plain", retry=None, match_inputs=False)
def loose_plain(label: str) -> str:
    return _plain(label)


@durable.step(name="flaky_plain", retry=QUICK)
def flaky_plain(label: str) -> str:
    _plain(label)
    _fails_at_first(label)
    return label


@durable.step(name="hasty_plain", retry=QUICK, timeout=HASTY_SECONDS)
def hasty_plain(label: str) -> str:
    return _plain(label)


@durable.step(name="stubborn_plain", retry=STUBBORN)
def stubborn_plain(label: str) -> str:
    """Fails, however often it is tried."""
    _plain(label)
    raise ConnectionError(label)


@durable.step(name="moody_plain", retry=None)
def moody_plain(label: str) -> str:
    """Fails while the world outside is broken."""
    _plain(label)
    _fails_while_broken(label)
    return label


@durable.step(name="once_plain", retry=None, at_most_once=True)
def once_plain(label: str) -> str:
    life.note("once", label)
    return _plain(label)


@durable.step(name="limited_plain", retry=None, concurrency=2)
def limited_plain(label: str) -> str:
    return _plain(label)


@durable.step(name="bad_plain", retry=None)
def bad_plain(label: str) -> str:
    _plain(label)
    raise Declined(label)


@durable.step(name="picky", retry=None)
def picky(label: str) -> str:
    """Declines labels that end with x."""
    _plain(label)
    if label.endswith("x"):
        raise Declined(label)
    return label


@durable.step(name="send", retry=None)
def send(label: str) -> str:
    """Sends a signal of this name to the run itself; twice where it runs again, and the second is not read."""
    _plain(label)
    durable.get(durable.info().run_id).signal(label, label)
    return label


@durable.step(name="paid", retry=None, transaction=True)
def paid(label: str) -> str:
    """Leaves a row with its label, in the transaction of its outcome."""
    connection = durable.connection()
    connection.execute("CREATE TABLE IF NOT EXISTS paid (label TEXT)")
    connection.execute("INSERT INTO paid VALUES (?)", (label,))
    with body(label):
        return label


# -- mending asyncio ----------------------------------------------------------------------------------------------------


class TaskGroup(asyncio.TaskGroup):
    """Before 3.13 a group that fails while it ends leaves its parent's count of cancellations one too high.

    Then an `asyncio.timeout` around it takes its own cancellation for somebody else's, without this library too.
    """

    async def __aexit__(self, *error: Any) -> None:  # noqa: PYI036 - handed on as they came
        mine: Any = self
        was_requested = mine._parent_cancel_requested
        try:
            await super().__aexit__(*error)
        finally:
            if sys.version_info < (3, 13) and mine._parent_cancel_requested and not was_requested:
                mine._parent_task.uncancel()


# -- what a body saw ---------------------------------------------------------------------------------------------------


def got(label: str, value: Any) -> str:
    """A step or a child returned: what it said is on disk."""
    if value != label:
        life.note("wrong", label, repr(value))
    life.note("saw", label.rpartition(".")[0], label)
    life.moment("workflow")
    return label


def heard(label: str, value: Any) -> None:
    """A run that was started has ended: on disk only when a later step is. Till then a cancellation may come first."""
    if value != label:
        life.note("wrong", label, repr(value))
    decided(label.rpartition(".")[0], label)


def got_all(labels: list[str], values: list[Any]) -> None:
    """Several at once; some may have been declined."""
    if len(labels) != len(values):
        life.note("wrong", str(labels), repr(values))
    for label, value in zip(labels, values, strict=True):
        if isinstance(value, Declined):
            caught(label, value)
        else:
            got(label, value)


def caught(label: str, error: Exception) -> None:
    """A step was declined, or has failed too often: that is on disk."""
    if error.args != (label,):
        life.note("wrong", label, repr(error))
    life.note("saw", label.rpartition(".")[0], f"{label} raised {type(error).__name__}")
    life.moment("workflow")


def own(label: str, value: object) -> None:
    """A value of the library's own: now(), random(), uuid4()."""
    life.note("saw", label.rpartition(".")[0], f"{label} = {value}")
    life.moment("workflow")


def decided(who: str, what: object) -> None:
    """The body took a way: on disk only when a later step is. What it does while it is taken down is no way that it took."""
    branch = current_branch()
    if branch is None or branch.execution.halted is None:
        life.note("decided", who, str(what))
    life.moment("workflow")


def begin(who: str) -> None:
    """The body of a workflow begins, anew or again."""
    life.note("begin", who)
    life.moment("workflow")


def last(who: str) -> str:
    """The body is about to return."""
    life.note("last", who)
    life.moment("workflow", last=who == "r")
    return who


def how(task: "asyncio.Task[Any]") -> str:
    """How a task ended, as text."""
    if task.cancelled():
        return "cancelled"
    return type(task.exception()).__name__ if task.exception() else str(task.result())


def kind(value: object) -> str:
    return type(value).__name__ if isinstance(value, BaseException) else str(value)


WORDS = {name: value for name, value in globals().items() if not name.startswith("_")}

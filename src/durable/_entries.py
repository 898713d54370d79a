"""What the queue in front of the writer holds, and whom it talks to: `Commits` (`_commits.py`) works on these."""

import math
import threading
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, Final, Protocol

from ._model import StepRecord
from .errors import EngineClosedError, InTransactionError, JournalError

Row = tuple[Any, ...]
"""An operation to be written, as `step_row` makes it."""
Work = Row | list[Row] | Callable[[Any], Any]
"""What an entry does in a write transaction. Rows may be written twice. Where there is nothing but rows they are one
statement, and that a transaction by itself: it is a third cheaper, and takes the interpreter lock once."""
MOST_ROWS: Final = 448
"""So many at most are one statement: apsw keeps no longer one prepared."""
_MOST_LETTERS: Final = 4_000_000
_FEW_ROWS: Final = 16
"""So many where the rows together have more letters than that."""
_TEXTS: Final = slice(StepRecord._fields.index("input"), StepRecord._fields.index("error") + 1)


class NotWrittenError(JournalError):
    """A write that could not begin, as another process keeps the file locked: it is certainly not in the file.

    Only `Commits` knows it, which tries again; whoever is told at last gets it as `public`.
    """

    def public(self) -> JournalError:
        """What the user sees of it."""
        error = JournalError(f"{self}; end that one, and try again")
        error.__cause__ = self.__cause__
        return error


class Entry:
    """Work to be done in a write transaction, and what came of it: `error` or else `result`, once it is `done`."""

    __slots__ = ("alone", "done", "error", "full", "port", "result", "then", "until", "wake", "work")

    def __init__(
        self, work: Work, full: bool, port: "Port | None" = None, then: Any = None, *, until: float = math.inf
    ) -> None:
        self.work = work
        self.full = full
        self.alone: int | None = None
        """The thread that waits for it, where it has a transaction for itself there: the user's code runs in it."""
        self.until = until
        """Until when, by the monotonic clock, it is tried again while another process keeps the file locked."""
        self.port = port
        self.then = then
        """Whom the port tells, by `told(error)`."""
        self.wake: threading.Lock | None = None
        """Held while its thread waits in line; released when it is done, or leads."""
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        """It is done, in vain."""
        self.error = error
        self.done = True

    def require_written(self) -> None:
        """Raise why it was not written, where that is so."""
        if self.error is not None:
            raise self.error.public() if isinstance(self.error, NotWrittenError) else self.error


class Port(Protocol):
    """Where entries of an event loop are acknowledged: called once a commit, from any thread, never blocking."""

    def post(self, entries: list[Entry]) -> None: ...


class Store(Protocol):
    """What carries out a batch: see `Journal`. Each step raises what the file says; `commit` may be asked twice."""

    def put_alone(self, rows: Row | list[Row], full: bool) -> Any: ...
    def begin(self, full: bool) -> Any: ...
    def commit(self, full: bool) -> None: ...
    def rollback(self) -> None: ...
    def explain(self, error: BaseException) -> BaseException: ...


def do_all(works: list[Work], transaction: Any) -> list[Any]:
    """Do the works in order, and return what comes of each; rows that follow each other are handed over together."""
    results: list[Any] = []
    rows: list[Row] = []
    for work in works:
        if callable(work):
            transaction.put_all(rows)
            rows = []
            results.append(work(transaction))
        else:
            rows += rows_of([work])
            results.append(transaction.number)
    transaction.put_all(rows)
    return results


def rows_of(works: Iterable[Work]) -> list[Row]:
    """The rows that these works write, in order; none where one of them does more than that."""
    rows: list[Row] = []
    for work in works:
        if type(work) is tuple:
            rows.append(work)
        elif type(work) is list:
            rows += work
        else:
            return []
    return rows


def in_statements(rows: list[Row]) -> list[list[Row]]:
    """The rows, in as few statements as may be: SQLite has all values of one in memory at once, and copies of them."""
    letters = sum(map(len, filter(None, chain.from_iterable(row[_TEXTS] for row in rows))))
    most = MOST_ROWS if letters <= _MOST_LETTERS else _FEW_ROWS
    return [rows[first : first + most] for first in range(0, len(rows), most)]


def all_of(works: list[Work]) -> Work:
    """What does all of these works."""
    return rows_of(works) or (lambda transaction: do_all(works, transaction))


def require_not_held(leader: Entry | Row | None) -> None:
    """Raise where the user's code in this thread has the lead: it would wait for itself."""
    if isinstance(leader, Entry) and leader.alone == threading.get_ident():
        msg = (
            "the body of a step with transaction=True holds the journal's writer until it ends, and this needs it, or "
            "waits for what does: call, start, await, signal and cancel runs of this journal, and close its engine, in "
            "the workflow or in another step"
        )
        raise InTransactionError(msg)


def closed() -> EngineClosedError:
    """What is raised for what comes too late."""
    return EngineClosedError("the engine was closed")


def unknown_outcome(error: BaseException) -> JournalError:
    """What all get from when a commit failed."""
    msg = (
        f"a commit failed ({error}), so it is unknown whether its records are in the file: nothing more is written. "
        "Close the engine and open the journal again: what the file then holds decides"
    )
    broken = JournalError(msg)
    broken.__cause__ = error
    return broken

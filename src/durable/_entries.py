"""What the queue in front of the writer holds, and whom it talks to: `Commits` (`_commits.py`) works on these."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from .errors import JournalError

if TYPE_CHECKING:
    import threading

Row = tuple[Any, ...]
"""An operation to be written, as `step_row` makes it."""
Work = Row | Callable[[Any], Any]
"""What an entry does in a write transaction. A row is one statement, which may be done twice; alone, it is a
transaction by itself, which is a third cheaper."""


class NotWrittenError(JournalError):
    """A write that could not begin, and is certainly not in the file: only its own entry fails."""


class Entry:
    """Work to be done in a write transaction, and what came of it: `error` or else `result`, once it is `done`."""

    __slots__ = ("alone", "done", "error", "full", "port", "result", "then", "wake", "work")

    def __init__(self, work: Work, full: bool, port: "Port | None" = None, then: Any = None) -> None:
        self.work = work
        self.full = full
        self.alone = False
        """Whether it has a transaction for itself, in the thread that waits for it: the user's code runs in it."""
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


class Port(Protocol):
    """Where entries of an event loop are acknowledged: called once a commit, from any thread, never blocking."""

    def post(self, entries: list[Entry]) -> None: ...


class Store(Protocol):
    """What carries out a batch: see `Journal`. Each step raises what the file says; `commit` may be asked twice."""

    def put_alone(self, row: Row, full: bool) -> Any: ...
    def begin(self, full: bool) -> Any: ...
    def commit(self, full: bool) -> None: ...
    def rollback(self) -> None: ...
    def explain(self, error: BaseException) -> BaseException: ...

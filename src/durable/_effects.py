"""What a decision is told of a call, which effects it may ask for, and what comes back. Plain data.

The decisions are in `_replay.py`, and those who perform the effects in `_drive.py` and `_drive_async.py`.
"""

from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final, NamedTuple, NoReturn, Protocol

from ._codec import TypeCodec
from ._model import AttemptRecord, MessageRecord, RunRecord, StepRecord
from ._retry import ONE_ATTEMPT, RetryPolicy
from ._signature import Signature
from .errors import Cancelled

CANCELLED = '"cancelled"'
"""The `error` of the operation of a sync run at which its cancellation was raised."""
TIMED_OUT = '"timed out"'
"""The same where it was the timeout of the workflow that cancelled it."""
TOLD = frozenset({CANCELLED, TIMED_OUT})
"""Either: the body was told of its cancellation there."""
CUT = '"cut"'
"""The `error` of an operation that the workflow's own cancellation or timeout ended before it had an outcome."""


# -- what is called, and who is asked ---------------------------------------------------------------------------------


OWN_MODULE: Final = "durable"
"""Of what the library itself calls, such as `run.signal()`: no decorator declares it."""


class Callee:
    """What is called, alike at each call of it: a step, a child run, a value or a wait of the library's own."""

    __slots__ = (
        "at_most_once",
        "concurrency",
        "kind",
        "match_inputs",
        "module",
        "name",
        "policy",
        "result",
        "signature",
        "source",
        "timeout_seconds",
        "transaction",
    )

    def __init__(
        self,
        kind: str,
        name: str,
        result: TypeCodec,
        module: str = OWN_MODULE,
        source: str = "",
        *,
        signature: Signature | None = None,
        policy: RetryPolicy = ONE_ATTEMPT,
        timeout_seconds: float | None = None,
        at_most_once: bool = False,
        transaction: bool = False,
        match_inputs: bool = True,
        concurrency: int = 0,
    ) -> None:
        self.kind = kind
        self.name = name
        self.result = result
        self.module = module
        self.source = source
        self.signature = signature
        """Of what has inputs that are compared."""
        self.policy = policy
        self.timeout_seconds = timeout_seconds
        self.at_most_once = at_most_once
        self.transaction = transaction
        self.match_inputs = match_inputs
        self.concurrency = concurrency
        """How many attempts of this step run at a time, 0 for any number."""


class Call:
    """One call in a workflow: everything that the decision needs to know of the code's side."""

    __slots__ = ("args", "branch", "callee", "child", "function", "inputs", "kwargs", "position", "release_slot", "run")

    run: int
    branch: str
    position: int
    release_slot: Callable[[], None]

    def __init__(
        self,
        callee: Callee,
        function: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        inputs: str = "",
        child: str | None = None,
    ) -> None:
        self.callee = callee
        self.function = function
        """The body."""
        self.args = args
        self.kwargs = {} if kwargs is None else kwargs
        self.inputs = inputs
        self.child = child
        """The id of the run that it calls or starts, as JSON: the `output` of its record until it has an outcome."""


class World(Protocol):
    """What a decision may ask: which run it is, the time, a number from 0 to 1, and what else is declared."""

    @property
    def record(self) -> RunRecord: ...
    def now(self) -> float: ...
    def chance(self) -> float: ...
    def has_step(self, module: str, name: str) -> bool: ...
    def is_other_step(self, module: str, step: Any) -> bool: ...
    def trusts_journal(self) -> bool: ...
    def cancellation(self) -> Cancelled: ...


# -- effects ----------------------------------------------------------------------------------------------------------


class Append(NamedTuple):
    """Write the record; go on when it is in the file (`full`: on disk). Sent back: `None` or `Cut`."""

    record: StepRecord
    attempt: AttemptRecord | None
    full: bool


class Slot(NamedTuple):
    """Go on when fewer than `concurrency` attempts of this step are under way, and leave `release_slot` with the call.

    Sent back: `None` or `Cut`.
    """

    call: Call


class Conclude(NamedTuple):
    """Write the record, which has the outcome; go on when it is on disk and it is this outcome's turn.

    `message`: what the outcome was made of. It is dropped in the same transaction: read once, and never lost.
    """

    record: StepRecord
    attempt: AttemptRecord | None
    message: MessageRecord | None = None


class Deliver(NamedTuple):
    """Go on when it is the turn of this outcome, which the journal has."""

    record: StepRecord


class Attempt(NamedTuple):
    """Run the body of the call once; sent back: `Completed`, `Failed` or `Cut`."""

    call: Call
    record: StepRecord


class Transact(NamedTuple):
    """Run the body of the call in a write transaction, and write in the same one what `conclude` makes of its value.

    Sent back: `Completed` with the decoded value, which is on disk then, or `Failed`, and nothing of it is in the file.
    """

    call: Call
    record: StepRecord
    conclude: Callable[[Any], tuple[StepRecord, Any]]


class Sleep(NamedTuple):
    """Go on after so many seconds; sent back: `None` or `Cut`."""

    seconds: float


class Receive(NamedTuple):
    """Go on with the oldest signal of this name that nobody has taken, or after so many seconds (`None`: any number).

    Sent back: the `MessageRecord`, `None` where none came, or `Cut`.
    """

    name: str
    seconds: float | None


class End(NamedTuple):
    """The journal has nothing more for this operation, and its run is only rehearsed (`_rehearsal.py`).

    `stop` ends a thread, which never goes on; `park` has a task wait for ever, and only `Cut` may be sent back.
    """

    stop: Callable[[], NoReturn]
    park: Callable[[], Awaitable[None]]


Effect = Append | Slot | Conclude | Deliver | Attempt | Transact | Sleep | Receive | End
Decision = Generator[Effect, Any, Any]


class Completed(NamedTuple):
    """The body returned."""

    value: Any


class Failed(NamedTuple):
    """The body raised, or took too long."""

    error: BaseException


class Cut(NamedTuple):
    """The operation has no outcome of its own: the workflow itself ended it, or the run was cancelled (`Cancelled`)."""

    error: BaseException


class CarriedStopError(RuntimeError):
    """Carries a `StopIteration` of the user's out of a generator, which cannot raise one; its driver unpacks it.

    A coroutine cannot raise it either, nor hand it to a future: there it becomes a `RuntimeError` with this text.
    """

    def __init__(self, stop: StopIteration) -> None:
        super().__init__("a coroutine cannot raise StopIteration")
        self.stop = self.__cause__ = stop


def as_raised_in_generator(error: BaseException) -> BaseException:
    """What a generator raises for an error of the user's."""
    return CarriedStopError(error) if isinstance(error, StopIteration) else error

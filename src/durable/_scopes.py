"""Where the running code is: in which branch of a workflow, in which attempt of a step, or in neither."""

import contextlib
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from ._aftermath import Aftermath
from ._effects import Call
from .errors import EngineClosedError

if TYPE_CHECKING:
    from ._execution import Execution

EXITS: Final = (KeyboardInterrupt, SystemExit)
"""What interrupts a run, wherever it is raised."""


class Branch:
    """A task of a run: the workflow's own, or one that it created. Counts the operations called in it."""

    __slots__ = ("aftermath", "created", "ended_at", "execution", "interrupt", "name", "position", "timeouts")

    def __init__(self, execution: "Execution", name: str, aftermath: Aftermath | None = None) -> None:
        self.execution = execution
        self.name = name
        self.aftermath = aftermath or Aftermath()
        """One for all of a run."""
        self.position = 0
        self.created: dict[str, int] = {}
        """How many tasks of each coroutine name this one has created."""
        self.timeouts = 0
        """How many timeouts of asyncio it has set, and runs it has awaited."""
        self.interrupt: BaseException | None = None
        """What the code handled that created this task or thread, in a `finally` or an `except`."""
        self.ended_at: float | None = None
        """When the body of an async run raised what ended it: the rest of its tasks is cut then."""

    def child(self, coroutine_name: str) -> "Branch":
        """The branch of a task created now."""
        ordinal = self.created.get(coroutine_name, 0)
        self.created[coroutine_name] = ordinal + 1
        branch = Branch(self.execution, f"{self.name}/{coroutine_name}:{ordinal}", self.aftermath)
        branch.interrupt = self.handled_interrupt()
        self.aftermath.create(branch.name)
        return branch

    def handled_interrupt(self) -> BaseException | None:
        """The interrupt that the code handles which runs in it now: a replay will not come this way."""
        error = sys.exception()
        while error is not None and error is not self.execution.handled:
            if isinstance(error, EXITS):
                return error
            error = error.__context__
        return self.interrupt


class StepScope:
    """Inside an attempt of a step, or of the call of a child."""

    __slots__ = ("attempt", "call", "connection", "execution", "may_be_left", "over")

    def __init__(self, execution: "Execution", call: Call, attempt: int) -> None:
        self.connection: Any = None
        """The journal's own, in a step with `transaction=True`."""
        self.execution = execution
        self.call = call
        self.attempt = attempt
        self.may_be_left = False
        """Whether its thread goes on after a timeout that gives it up."""
        self.over = False
        """Whether nobody waits for it any more: code that it left behind, or that a timeout gave up, may go on."""


SCOPE: Final[ContextVar[Branch | StepScope | None]] = ContextVar("durable_scope", default=None)
"""Where the running code is: in a branch of a workflow, in a step, or (`None`) in neither."""


def current_branch() -> Branch | None:
    """The branch of the workflow body that is running here, `None` outside of one and inside a step."""
    scope = SCOPE.get()
    return scope if type(scope) is Branch else None


def operation_completed() -> None:
    """One of the branch that is running here."""
    branch = SCOPE.get()
    if type(branch) is Branch and branch.aftermath.created:
        branch.aftermath.complete(branch.name)


def require_not_halted(branch: Branch | None) -> None:
    """Raise what took the run down whose code runs here, where something did."""
    if branch is not None and branch.execution.halted is not None:
        raise branch.execution.halted


def require_all_called(awaited: str, timeout: float | None) -> None:
    """`Execution.require_all_called`, where code of a sync run is to wait here for as long as it takes."""
    branch = current_branch()
    if branch is not None and branch.execution.branches is None and timeout is None:
        branch.execution.require_all_called(awaited)


@contextlib.contextmanager
def needing_thread() -> Iterator[None]:
    """While code of a run has something done in a thread: where the program makes none any more, the run is halted.

    At once, since the engine may be closed only a little later, and past whatever the code catches.
    """
    try:
        yield
    except EngineClosedError as error:
        scope = SCOPE.get()
        if scope is None:
            raise
        raise scope.execution.interrupt(str(error)) from error

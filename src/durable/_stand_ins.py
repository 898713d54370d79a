"""What a rehearsal (`_rehearsal.py`) has in the place of a journal, of threads and of an engine."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from ._active import Declaration
from ._clock import SYSTEM_CLOCK
from ._engine import Engine
from ._execution import Execution
from ._model import FINISHED
from .errors import EngineClosedError, Halt

if TYPE_CHECKING:
    from ._journal import Journal


class Rehearsal(Protocol):
    """What is wanted here of a rehearsal."""

    execution: Execution
    ancestors: frozenset[str]
    is_submitted: bool
    stopped_at: str

    def wait_for(self, run_id: str, /) -> None: ...
    def end(self) -> Halt: ...


class ThreadEnds(BaseException):
    """The journal has nothing more for a step that would run beside the body, which goes on."""


class Sealed:
    """A journal that takes nothing."""

    epoch = 0
    synced = 0

    def __init__(self, journal: "Journal") -> None:
        self.path = journal.path
        self.steps = journal.steps
        self.commits = self

    def submit(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse to write."""
        msg = f"{self.path} is only read by a rehearsal"
        raise EngineClosedError(msg)

    write = write_if_idle = submit

    def have_helper(self) -> None:
        """Nothing is written for a loop."""


class Here:
    """The threads for steps that are submitted: each is replayed at once, in this one."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        self._rehearsal = rehearsal

    def submit(self, job: Callable[[], None], **_: Any) -> None:
        """Replay a step."""
        self._rehearsal.is_submitted = True
        try:
            job()
        finally:
            self._rehearsal.is_submitted = False

    lending = staticmethod(nullcontext)
    """Nothing waits for a thread."""


class _Unwritten:
    """The journal as the code of a body has it: what it asks of other runs is not written."""

    epoch = 0

    def __init__(self, journal: "Journal") -> None:
        self._journal = journal

    def has_tables(self) -> bool:
        """It has, and looking again would leave the files of a WAL behind."""
        return True

    def visit(self, _: Any) -> list[Any]:
        """Nobody is told."""
        return []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)


class _Other:
    """A run that has not ended, as one that executes here: whoever waits for it has come to the end."""

    execution = thread = error = None
    is_written = False

    def __init__(self, rehearsal: Rehearsal, run_id: str, workflow: Declaration) -> None:
        self._rehearsal = rehearsal
        self._run_id = run_id
        self.workflow = workflow

    def is_going_on(self) -> bool:
        """As far as anybody here knows."""
        return True

    def watching(self, _: Any) -> Any:
        """It does not end here."""
        self._rehearsal.wait_for(self._run_id)
        return nullcontext()


class _Others:
    """The runs that have not ended, by their ids: each is set going by whoever goes on with this one."""

    def __init__(self, rehearsal: Rehearsal, journal: "Journal") -> None:
        self._rehearsal = rehearsal
        self._journal = journal

    def get(self, run_id: str) -> _Other | None:
        """The run of an id, unless it has ended, or waits for this one."""
        record = self._journal.run(run_id)
        execution = self._rehearsal.execution
        if record is None or record.status in FINISHED or run_id in self._rehearsal.ancestors:
            return None
        workflow = execution.registry.workflows.get(record.workflow)
        if workflow is None:
            self._rehearsal.wait_for(run_id)
            raise self._rehearsal.end()
        return _Other(self._rehearsal, run_id, workflow)


class EngineStandIn:
    """The engine of the body, its runtime and its scheduler: runs can be read. Whatever else is wanted is the end."""

    def __init__(self, rehearsal: Rehearsal, journal: "Journal") -> None:
        self._rehearsal = rehearsal
        self._runtime = self._scheduler = self.runtime = self.watchers = self
        self.journal = _Unwritten(journal)
        self.path = journal.path
        self.registry = rehearsal.execution.registry
        self.clock = SYSTEM_CLOCK
        self.active = _Others(rehearsal, journal)

    def require_open(self) -> None:
        """It is."""

    def is_closed(self) -> bool:
        """It is not."""
        return False

    def living(self, run_id: str) -> Any:
        """Whether another run executes, as `active` has it."""
        return self.active.get(run_id)

    def go_on_with(self, _: str) -> None:
        """Runs that were started are left as they are."""

    def runs_on(self, _: Any) -> bool:
        """Background runs that are async share a loop."""
        return True

    def waiting(self, *_: Any, **__: Any) -> Any:
        """While a result is looked for, which is there or is not."""
        return nullcontext()

    awaiting = waiting

    @contextmanager
    def watching(self, run_id: str, *_: Any) -> Iterator[None]:
        """While the end of a run is waited for."""
        try:
            yield
        except Halt:
            self._rehearsal.stopped_at = run_id
            raise

    get, runs, _run = Engine.get, Engine.runs, Engine._run

    def __getattr__(self, _: str) -> Any:
        raise self._rehearsal.end()

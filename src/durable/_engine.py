"""The engine: a journal, opened, and the runs that this process executes on it; and which engine a call uses."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from ._active import ENGINE
from ._arguments import is_full, keep_time, path_name, run_name, statuses, whole_number, workflow_name, yes_or_no
from ._clock import SYSTEM_CLOCK, Clock
from ._identity import Registry
from ._inherited import inherit
from ._journal import Journal
from ._results import not_found, run_here
from ._runtime import Runtime
from ._scheduler import DEFAULT_THREADS, Scheduler
from .errors import RunConflictError
from .run import Run

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Self

    from ._active import Active
    from ._model import RunRecord, RunStatus


REGISTRY = Registry()
"""What this program has declared."""
_LOOK_SECONDS = 0.2
"""How often a line of progress is drawn while nothing ends."""
_FORK_SECONDS = 1.0
"""So long a fork waits at most for a commit that is under way."""


class Engine:
    """Executes runs on one journal. Made by `durable.open`; opens nothing before it is needed.

    As a context manager it is the current engine of that context, and is closed at its end: `with` runs background
    async runs on a loop of the engine's own, `async with` on the caller's. Where it was entered already, it goes on as
    it is, and is closed when the last leaves it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Literal["full", "process"] = "full",
        threads: int = DEFAULT_THREADS,
        keep: str | dt.timedelta | None = None,
        vfs: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
        registry: Registry = REGISTRY,
    ) -> None:
        name, full = path_name(path), is_full(durability)
        whole_number(threads, "threads", 1)
        keep_seconds = keep_time(keep)
        journal = Journal(name, full=full, vfs=vfs)
        journal.has_tables()  # a file that is no journal is refused now, not in the middle of the work
        self._runtime = Runtime(journal, clock, registry, threads)
        self._runtime.engine = self
        self._runtime.keep_seconds = keep_seconds
        self._scheduler = Scheduler(self._runtime, threads)
        self._runtime.cancel_children = self._cancel_children
        self._closing = threading.RLock()
        self._closed = False
        self._options: dict[str, Any] | None = None
        """As `durable.open` was called."""
        self._counting = threading.Lock()
        self._entered = 0
        """How many have entered it, and not left it yet."""
        _open_engines.add(self)

    @property
    def path(self) -> str:
        """The absolute path of the journal."""
        return self._runtime.journal.path

    def __repr__(self) -> str:
        return f"<durable.Engine {self.path}{' (closed)' if self._closed else ''}>"

    def __reduce__(self) -> NoReturn:
        """Two engines cannot own one journal, in whichever process."""
        msg = f"cannot pickle or copy {self!r}: hand its path over, and call durable.open in the other process"
        raise TypeError(msg)

    # -- runs ---------------------------------------------------------------------------------------------------------

    def resume(self, *, wait: bool = False) -> list[Run[Any]]:
        """Go on, in the background, with what a crash left; see `durable.resume`."""
        is_waiting = yes_or_no(wait, "wait")
        if is_waiting and run_here(self._scheduler):
            msg = (
                "background runs execute on this thread's event loop, which resume(wait=True) would block: use "
                "'for run in durable.resume(): await run'"
            )
            raise RunConflictError(msg)
        going = self._scheduler.resume()
        if is_waiting:
            _wait_for([active for _, active in going], self._runtime.clock)
        return [self._run(record) for record, _ in going]

    def runs(
        self, status: RunStatus | Iterable[RunStatus] | None = None, workflow: Any = None, limit: int = 100
    ) -> list[Run[Any]]:
        """Runs, newest first; see `durable.runs`."""
        wanted, name = statuses(status), workflow_name(workflow)
        whole_number(limit, "limit", 0)
        self._runtime.require_open()
        journal = self._runtime.journal
        if not journal.has_tables() or (status is not None and not wanted):
            return []
        stored = tuple(dict.fromkeys("running" if status == "interrupted" else status for status in wanted))
        is_wanted = (lambda record: self._run(record).status in wanted) if "running" in stored else None
        return list(map(self._run, journal.runs(statuses=stored, workflow=name, limit=limit, wanted=is_wanted)))

    def get(self, run_id: str) -> Run[Any]:
        """The run of an id; `RunNotFoundError` where there is none."""
        wanted = run_name(run_id)
        self._runtime.require_open()
        if not self._runtime.journal.has_tables() or self._runtime.journal.run(wanted) is None:
            raise not_found(wanted, self.path)
        return Run(self._scheduler, wanted)

    def _run(self, record: RunRecord) -> Run[Any]:
        return Run(self._scheduler, record.id)

    # -- life ---------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop: steps in flight get up to 5 s to end and be journaled, everything else stays interrupted."""
        with self._closing:  # whoever comes second waits until it is closed
            if self._closed:
                return
            self._runtime.journal.commits.require_not_held_here()
            self._closed = True
            try:
                self._scheduler.stop()
            except BaseException:  # Ctrl-C: nothing gets any more time, but who waits hears of it
                self._scheduler.stop(0.0)
                raise
            finally:
                self._runtime.journal.close(self._runtime.clock.now())

    def __enter__(self) -> Self:
        self._enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._leave():
            self.close()

    async def __aenter__(self) -> Self:
        import asyncio

        if self._enter():
            self._scheduler.adopt_loop(asyncio.get_running_loop())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is GeneratorExit:  # its coroutine is dropped, or closed by hand: nothing can be awaited
            self.__exit__(kind, error, trace)
            return
        from ._running_async import beside_the_loop

        if self._leave():
            await beside_the_loop(self.close)  # its runs end on this loop, which therefore must not be blocked

    def _enter(self) -> bool:
        """Be the current engine here; say whether nobody else is in it, who may have runs on a loop already."""
        self._runtime.require_open()
        _ENTERED.set((*_ENTERED.get(), (self, ENGINE.get())))
        ENGINE.set(self)
        with self._counting:
            self._entered += 1
            return self._entered == 1

    def _leave(self) -> bool:
        """No longer be the current engine here; say whether it is to be closed, since nobody else is in it.

        Here may be another context than that of the entry, or a copy of it: fixtures are set up and torn down in tasks
        of their own, and a coroutine that is collected ends in whatever context.
        """
        entered = list(_ENTERED.get())
        place = next((place for place in reversed(range(len(entered))) if entered[place][0] is self), None)
        if place is not None:
            _, before = entered.pop(place)
            if place == len(entered):
                ENGINE.set(before)
            else:  # another one was entered after it, and is left later
                entered[place] = entered[place][0], before
            _ENTERED.set(tuple(entered))
        with self._counting:
            self._entered -= 1
            return not self._entered

    def _cancel_children(self, record: RunRecord) -> None:
        from ._steering import cancel_children

        cancel_children(self._scheduler, record)

    def _forget(self) -> list[Any]:
        """In a child of `fork`: hand out the parent's handles, which are not used there."""
        self._closed = True
        return self._runtime.forget()


def _wait_for(going: list[Active], clock: Clock) -> None:
    """Until each of them is over; a terminal is told how far they are."""
    from ._progress import Progress

    with Progress("resuming", "runs", len(going)) as progress:
        for active in going:
            over = threading.Event()
            active.watch(over.set)
            while not over.is_set():
                clock.wait(over, None, _LOOK_SECONDS)
                progress.advance(0)
            progress.advance()


# -- which engine a call uses -----------------------------------------------------------------------------------------

_default: Engine | None = None
_choosing = threading.RLock()
_ENTERED: ContextVar[tuple[tuple[Engine, Engine | None], ...]] = ContextVar("durable_entered", default=())
"""The engines that this context has entered, each with that which was the current one before."""
_open_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_leaked: list[Any] = []


def open(
    path: str | os.PathLike[str],
    *,
    durability: Literal["full", "process"] = "full",
    threads: int = DEFAULT_THREADS,
    keep: str | dt.timedelta | None = None,
    vfs: str | None = None,
) -> Engine:
    """Make an engine on the journal at `path` the default one, and return it.

    `durability="full"`: an acknowledged outcome survives power loss. `"process"`: it survives the death of the process,
    but not always that of the machine. `threads`: how many background sync runs execute at a time. `keep`: runs
    that ended longer ago are deleted now and then: "30d", "12h", a `timedelta`. `vfs`: the name of a registered SQLite
    VFS. Where this process has an engine on that journal with these options, it is that one. Raises `ValueError` or
    `TypeError` for bad arguments, and where an engine of other options owns that journal here, and `JournalError` where
    the file is there and is no journal, or its folder is not there. Nothing is created, and no lock taken, before
    something is executed.
    """
    global _default  # noqa: PLW0603 - the default engine is one for the whole program
    options = {"durability": durability, "threads": threads, "keep": keep, "vfs": vfs}
    with _choosing:
        engine = _already_open(path, options)
        if engine is None:
            engine = Engine(path, durability=durability, threads=threads, keep=keep, vfs=vfs)
            engine._options = options
        _default = engine
    return engine


def _already_open(path: str | os.PathLike[str], options: dict[str, Any]) -> Engine | None:
    """The open engine of this process on that journal: a notebook's cell, run again, gets the same one."""
    where = os.path.realpath(path_name(path))
    here = [engine for engine in list(_open_engines) if engine.path == where and not engine._closed]
    owner = next((engine for engine in here if engine._runtime.journal.epoch), None)
    if owner is None:  # those that have executed nothing yet stand in nobody's way
        return next((engine for engine in here if engine._options == options), None)
    if owner._options != options:
        msg = f"{where} is open in this process with other options: close that engine first, or use the same ones"
        raise ValueError(msg)
    return owner


def current_engine() -> Engine:
    """The engine of this context, else the default one; made on first use from `$DURABLE_DB`, else `durable.db`."""
    engine: Engine | None = ENGINE.get() or _default
    if engine is None:
        with _choosing:
            engine = _default or open(os.environ.get("DURABLE_DB") or "durable.db")
    return engine


def close() -> None:
    """Close the current engine: the one of this context, else the default one. Nothing happens where there is none."""
    engine: Engine | None = ENGINE.get() or _default
    if engine is not None:
        engine.close()


def resume(*, wait: bool = False) -> list[Run[Any]]:
    """Go on, in the background, with every run that a crash left: interrupted, queued or blocked.

    Call it at start-up, after the workflows are declared. Returns the runs that it set going. Runs of workflows that
    this program does not declare are left as they are, with one warning. `wait=True` waits until each has ended, is
    blocked, or is suspended because it waits for more than a second, and raises nothing of theirs: each `Run` tells.
    Runs that wait already are not among them: they go on when they are due, as long as this process lives. Raises
    `JournalLockedError` where another process owns the journal; with `wait=True`, `RunConflictError` on the event loop
    that executes background runs, before anything is set going.
    """
    return current_engine().resume(wait=wait)


def runs(
    status: RunStatus | Iterable[RunStatus] | None = None, workflow: Any = None, limit: int = 100
) -> list[Run[Any]]:
    """Runs, newest first, at most `limit`: of a status (or several), of a workflow (its name, or itself)."""
    return current_engine().runs(status, workflow, limit)


def get(run_id: str) -> Run[Any]:
    """The run of an id. Raises `RunNotFoundError`."""
    return current_engine().get(run_id)


def _close_all() -> None:
    for engine in list(_open_engines):
        engine.close()


_held: dict[int, dict[Engine, Callable[[], None]]] = {}
"""By thread that forks: the engines whose files nobody uses meanwhile."""


def _hold_all() -> None:
    held = _held[threading.get_ident()] = {}
    for engine in list(_open_engines):
        if (go_on := engine._runtime.journal.hold(_FORK_SECONDS)) is not None:
            held[engine] = go_on


def _go_on_all() -> None:
    for go_on in _held.pop(threading.get_ident(), {}).values():
        go_on()


def _forget_all() -> None:
    global _default  # noqa: PLW0603 - as in `open`
    if (current := ENGINE.get()) is not None:  # its own engine is the current one once it has opened that
        _default = current
        ENGINE.set(None)
    held, at_rest = _held.pop(threading.get_ident(), {}), []
    _held.clear()
    for engine in list(_open_engines):
        handles = engine._forget()
        _leaked.extend(handles)
        if engine in held:
            at_rest += handles
    inherit(at_rest)
    if _leaked:
        atexit.register(_leak)


def _leak() -> None:
    """At the end of a child of `fork`: the handles of its parent are never closed, since the files are the parent's.

    Not at the fork: an import takes longer than that, and if another thread of the parent was at it, it never ends.
    """
    import ctypes

    for handle in _leaked:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(handle))


atexit.register(_close_all)
os.register_at_fork(before=_hold_all, after_in_parent=_go_on_all, after_in_child=_forget_all)

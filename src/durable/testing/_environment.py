"""An engine on a journal of its own, with a clock that stands still: what a test runs its workflows on."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from functools import partial
from typing import TYPE_CHECKING, Any

from durable import _engine
from durable._active import ENGINE
from durable._arguments import yes_or_no
from durable._clock import SYSTEM_CLOCK
from durable._engine import Engine
from durable._scheduler import DEFAULT_THREADS

from ._clock import HandClock
from ._death import MortalStore, SimulatedCrash, bury, is_news
from ._plans import AtStep
from ._quiet import AutoAdvance, Quiet

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator
    from contextvars import Token
    from types import TracebackType
    from typing import Self

    from ._plans import Plan

_LOOK_SECONDS = 0.01


class Environment:
    """An engine for one test: the current one, and the default one of the program, inside of `with`.

    Its journal is in a temporary folder, without fsyncs, and removed at the end. `async with` runs background async
    runs on the loop of the test.
    """

    engine: Engine
    """The engine; another one after `restart()` and after each crash."""
    clock: HandClock
    """The time of the engine."""

    def __init__(self, start: dt.datetime | None, auto_advance: bool, threads: int, patience: float) -> None:
        self._threads = threads
        self._patience = patience
        self._is_auto = auto_advance
        self.clock = HandClock(float(int(SYSTEM_CLOCK.now())) if start is None else start.timestamp())
        self._quiet = Quiet(lambda: self.engine, self.clock, patience)
        self.clock.settle = self._quiet.settle
        self._auto: AutoAdvance | None = None
        self._folder = ""
        self._before: Engine | None = None
        self._token: Token[Any] | None = None
        self._loop: Any = None
        self._without_crashes = partial(is_news)  # each environment takes away its own

    @property
    def path(self) -> str:
        """The journal's file."""
        return os.path.join(self._folder, "durable.db")

    # -- life ---------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._folder = tempfile.mkdtemp(prefix="durable-testing-")
        self._before, self._token = _engine._default, ENGINE.set(ENGINE.get())
        logging.getLogger("durable").addFilter(self._without_crashes)
        self._open()
        if self._is_auto:
            self._auto = AutoAdvance(self._quiet, self.clock)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.engine.close()
        finally:
            self._leave()

    async def __aenter__(self) -> Self:
        import asyncio

        self._loop = asyncio.get_running_loop()
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is GeneratorExit:  # its coroutine is dropped, or closed by hand: nothing can be awaited
            self.__exit__(kind, error, trace)
            return
        from durable._running_async import beside_the_loop

        try:
            await beside_the_loop(self.engine.close)  # its runs end on this loop
        finally:
            self._leave()

    def _leave(self) -> None:
        if self._auto is not None:
            self._auto.stop()
        logging.getLogger("durable").removeFilter(self._without_crashes)
        _engine._default = self._before
        if self._token is not None:
            with contextlib.suppress(ValueError):  # another task of the test's leaves it
                ENGINE.reset(self._token)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _open(self) -> None:
        self.engine = Engine(self.path, durability="process", threads=self._threads, clock=self.clock)
        if self._loop is not None:
            self.engine._scheduler.adopt_loop(self._loop)
        ENGINE.set(self.engine)
        _engine._default = self.engine

    def restart(self) -> Engine:
        """Close the engine, as the end of a program does, and open the next one on the same file."""
        self.engine.close()
        self._open()
        return self.engine

    # -- crashes ------------------------------------------------------------------------------------------------------

    def crash(self) -> Engine:
        """Let the process die, here and now, and open the next engine on what it left.

        Nothing of the dead engine's runs is written any more, its close is not recorded, and its lock is free. The
        bodies of steps that execute in other threads cannot be killed: they go on, and nothing comes of them.
        """
        with self.clock.moving:  # no time passes
            bury(self.engine)
            self.clock.forget()
            self._open()
        return self.engine

    def crash_before(self, step: str, number: int = 1) -> contextlib.AbstractContextManager[None]:
        """Let the process die, within the `with` block, before the n-th attempt of the step: nothing of it is there.

        The block ends where the process died, and the next engine is there after it. `AssertionError` where it came
        to no such step. The name may be that of another operation too: of a child workflow, a signal, `sleep`.
        """
        return self._crash(AtStep("before", step, number), f"an attempt of {step!r} to begin")

    def crash_in(self, step: str, number: int = 1) -> contextlib.AbstractContextManager[None]:
        """The same, when the body of the n-th attempt has run and what came of it is not in the file: it runs again."""
        return self._crash(AtStep("in", step, number), f"an attempt of {step!r} to end")

    def crash_after(self, step: str, number: int = 1) -> contextlib.AbstractContextManager[None]:
        """The same, when the n-th outcome of the step is in the file, and before its workflow gets it."""
        return self._crash(AtStep("after", step, number), f"an outcome of {step!r}")

    @contextlib.contextmanager
    def _crash(self, plan: Plan, what: str) -> Iterator[None]:
        store = self._die_by(plan)
        try:
            with contextlib.suppress(SimulatedCrash):
                yield
            self._wait_for_death(store, what)
        finally:
            if store.dead.is_set():
                self.crash()

    def _die_by(self, plan: Plan) -> MortalStore:
        return MortalStore.of(self.engine, plan)

    def _wait_for_death(self, store: MortalStore, what: str) -> None:
        """Background runs may take their time."""
        give_up_at = SYSTEM_CLOCK.monotonic() + self._patience
        while not store.dead.is_set():
            self.clock.wait(store.dead, None, _LOOK_SECONDS)
            moves = self._is_auto and self.clock.next_due() is not None
            if not store.dead.is_set() and not moves and not self._quiet.at_work():
                msg = (
                    f"the process should have crashed, and waited in vain for {what}: is this the name in the journal?"
                )
                raise AssertionError(msg)
            if SYSTEM_CLOCK.monotonic() > give_up_at:
                msg = f"the process should have crashed, and waited for {self._patience:g} s for {what}"
                raise AssertionError(msg)


def engine(
    *,
    start: dt.datetime | None = None,
    auto_advance: bool = True,
    threads: int = DEFAULT_THREADS,
    patience: float = 10.0,
) -> Environment:
    """An engine for a test, on a temporary journal and with a clock that the test moves; to be used with `with`.

    `start`: what time it is at first, an aware `datetime`; now when not given. `auto_advance=True`: while the test
    itself waits for a run, in a call, in `result()` or in an `await`, the clock moves by itself to the next due moment
    whenever everything waits; with `False` it moves only by `clock.advance()`. `patience`: seconds of real time for
    which the clock waits for a step that executes.
    """
    if start is not None and start.utcoffset() is None:
        msg = f"start is an aware datetime, and {start!r} has no time zone: give it one, such as tzinfo=UTC"
        raise ValueError(msg)
    return Environment(start, yes_or_no(auto_advance, "auto_advance"), threads, patience)

"""The driver of runs that awaits, and the loop thread that background async runs execute on."""

import asyncio
import concurrent.futures
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from contextvars import Context, copy_context
from functools import partial
from typing import Any

from ._active import ENGINE, Active
from ._branches import Branches
from ._drive_async import AskedFor, cancel_again
from ._entries import Entry
from ._execution import Execution
from ._limits import Slots
from ._outcome import Ending, raised, returned
from ._past_order import despite_cancellation
from ._port import LoopPort, settle, soon
from ._rests import Suspended
from ._run_task import RunTask, run_body
from ._running import Body, Course, Effect, Join, TakeSlot, Write, lend_slot
from ._runtime import Runtime
from ._scopes import EXITS, SCOPE, current_branch, needing_thread
from ._suspension import rest
from ._thread_pool import ThreadPool, run_in_helper
from .errors import RunBlockedError

_LAST_SECONDS = 0.5


async def drive_run_async(runtime: Runtime, course: Course, port: LoopPort | None = None) -> Any:
    """Carry out a course on the running loop; return its value or raise its error."""
    port = port or port_of(runtime, asyncio.get_running_loop())
    try:
        effect = next(course)
        while True:
            try:
                answer = await _perform(runtime, effect, port)
            except GeneratorExit:  # the loop was dropped with this in it
                course.close()
                raise
            except BaseException as error:
                effect = course.throw(error)
            else:
                effect = course.send(answer)
    except StopIteration as done:
        return done.value


def port_of(runtime: Runtime, loop: asyncio.AbstractEventLoop) -> LoopPort:
    """The port between the journal and a loop, one for all runs there."""
    port = runtime.ports.get(loop)
    if port is None:
        port = runtime.ports[loop] = LoopPort(loop, runtime.journal.commits)
    return port


def _perform(runtime: Runtime, effect: Effect, port: LoopPort) -> Awaitable[Any]:
    if isinstance(effect, Write):
        return _write(runtime, effect, port)
    if isinstance(effect, Body):
        return _body(runtime, effect, port)
    if isinstance(effect, TakeSlot):
        return take_slot(effect.active, effect.slots)
    if isinstance(effect, Join):
        return effect.wait()  # type: ignore[no-any-return]
    if effect.parent is not None:
        return _child_is_over(effect.active, effect.parent)
    return _run_is_over(runtime, effect.active)


async def _run_is_over(runtime: Runtime, active: Active) -> None:
    change = Change()
    with runtime.watchers.known(change.outside_of_runs()):
        await change.of(active)


async def _child_is_over(active: Active, parent: Execution) -> None:
    """As `RunTask._given_up` tells a child that executes in the parent's own task."""
    end = over(active)
    try:
        await asyncio.wait([end])
    except asyncio.CancelledError:
        await _hear_of_interrupt()
        if parent.is_taken_down():
            raise
        assert parent.branches is not None
        parent.branches.flush()
        active.cancel()
        await despite_cancellation(parent, end)
        if active.is_written and not isinstance(active.error, Suspended):
            raise
        cancel_again()  # it has not ended: interrupted, or suspended just before it was told


async def _hear_of_interrupt() -> None:
    """For a task that was cancelled: a turn of the loop, in which a run hears that it is interrupted itself.

    A second cancellation in that turn says nothing new.
    """
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)


async def take_slot(active: Active, slots: Slots) -> bool:
    """Wait for a slot without blocking the loop; see `TakeSlot`.

    A task that is cut while it takes a lent slot back goes on when the run has it, as it would if it had not been cut.
    """
    has_begun, is_cut = active.execution is not None, False
    branches = None if active.execution is None else active.execution.branches
    is_root = branches is not None and branches.root is asyncio.current_task()  # which is told
    asked = AskedFor(slots, first=has_begun)
    with contextlib.nullcontext() if is_root else active.waiting_for_slot(asked):
        while not asked.is_given and active.needs_slot():
            try:
                await asked.change()
            except asyncio.CancelledError:
                await _hear_of_interrupt()
                is_cut = True
                if not has_begun and active.parent is not None and not active.parent.is_taken_down():
                    active.cancel()  # its parent gives it up
                elif not has_begun:
                    asked.leave()
                    raise
    if not asked.is_given:
        asked.leave()
    if has_begun and is_cut:
        raise asyncio.CancelledError
    return asked.is_given


async def _write(runtime: Runtime, effect: Write, port: LoopPort) -> Any:
    """A write is seen through, whoever cancels meanwhile: its result says whose the run is."""
    future: asyncio.Future[Any] = _SeenThrough(loop=port.loop)
    entry = Entry(effect.work, effect.full, port)
    entry.then = _Write(entry, future)
    runtime.journal.commits.submit(entry)
    try:
        return await future
    except asyncio.CancelledError:  # it comes again at the next wait
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        task.cancel()
        return future.result()


class _SeenThrough(asyncio.Future[Any]):
    """Not cancelled with the task that awaits it, which hears of that when this is done."""

    def cancel(self, msg: Any = None) -> bool:  # noqa: ARG002 - that of a future
        return False


class _Write:
    """A write of a run itself: who awaits its result."""

    __slots__ = ("_entry", "_future")

    def __init__(self, entry: Entry, future: "asyncio.Future[Any]") -> None:
        self._entry: Entry | None = entry
        self._future = future

    def told(self, error: BaseException | None) -> None:
        entry, self._entry = self._entry, None  # which has this: both would wait for the garbage collector
        if entry is None or self._future.done():
            return
        if error is None:
            self._future.set_result(entry.result)
        else:
            self._future.set_exception(error)


async def _body(runtime: Runtime, effect: Body, port: LoopPort) -> Ending:
    execution = effect.execution
    engine = ENGINE.set(runtime.engine)  # the body's task copies it
    try:
        value = await run_body(execution, effect.workflow.function, effect.args, effect.kwargs, port)
    except GeneratorExit:
        execution.interrupt("its event loop was dropped")
        raise
    except BaseException as error:
        ending = raised(execution, error)
    else:
        ending = returned(execution, value, effect.workflow.signature.result)
    finally:
        with contextlib.suppress(ValueError):  # a coroutine that is collected is ended in whatever context
            ENGINE.reset(engine)
    caller, parent = asyncio.current_task(), execution.parent
    is_cancelled = caller is not None and caller.cancelling() and (parent is None or parent.is_taken_down())
    if execution.halted is not None and is_cancelled:
        return ending._replace(error=asyncio.CancelledError())
    return ending


def over(active: Active) -> "asyncio.Future[None]":
    """Done when an execution is over: to be awaited without blocking the loop."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    active.watch(partial(soon, loop, settle, future))
    return future


class Change:
    """Something became of a run, as an event loop is told of it from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._waiting: tuple[Execution, str] | None = None
        self._is_awaited = self._is_told = False

    @property
    def waits(self) -> bool:
        """Whether it is waited for, and nobody has told of it."""
        return self._is_awaited and not self._is_told

    def outside_of_runs(self) -> "Change | None":
        """Itself, unless it is a run that waits, and not who called or started it."""
        return self if SCOPE.get() is None else None

    def tell(self) -> None:
        """Called from any thread."""
        self._is_told = True
        soon(self._loop, self._arrive)

    def _arrive(self) -> None:
        self._event.set()
        if self._waiting is not None:
            execution, run_id = self._waiting
            execution.tell_of_child(run_id)

    def clear(self) -> None:
        """Forget it."""
        self._is_awaited = self._is_told = False
        self._event.clear()

    async def of(self, active: Active) -> None:
        """Wait until an execution is over."""
        with active.watching(self.tell):
            self._is_awaited = True
            await self._event.wait()

    async def of_suspended(self, parent: Execution | None, run_id: str) -> None:
        """Wait until something becomes of a suspended run; a parent that waits for it may be suspended too."""
        self._is_awaited = True
        if parent is None or parent.branches is None:
            await self._event.wait()
        else:
            self._waiting = (parent, run_id)
            await rest(parent, parent.branches, None, child=run_id)
            self._waiting = None


@contextlib.asynccontextmanager
async def waiting(runtime: Runtime) -> AsyncIterator[None]:
    """While a run waits for another, which may need the slot of a `concurrency` that the waiting one holds."""
    branch = current_branch()
    try:
        async with _lending_slot(runtime):
            yield
    except RunBlockedError:
        if branch is not None and branch.execution.branches is not None:
            await branch.execution.branches.telling.come_first()
        raise


@contextlib.asynccontextmanager
async def _lending_slot(runtime: Runtime) -> AsyncIterator[None]:
    lent = lend_slot(runtime, blocks=False)
    try:
        yield
    finally:
        if lent is not None:
            await take_slot(*lent)


class DaemonExecutor(concurrent.futures.ThreadPoolExecutor):
    """The threads of such a loop for `asyncio.to_thread`: daemons too, for which the end of the interpreter waits not.

    It joins those of `concurrent.futures` before it closes the engine, however long a back-off or a body takes in one.
    """

    def __init__(self) -> None:
        super().__init__(1)  # has no thread: asyncio asks for the class
        self._daemons = ThreadPool("durable-thread", min(32, (os.cpu_count() or 1) + 4))

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "concurrent.futures.Future[Any]":
        """Call the function on a thread."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        with needing_thread():
            self._daemons.submit(lambda: _carry_out(future, partial(function, *args, **kwargs)))
        return future

    def shutdown(self, *args: Any, **options: Any) -> None:
        """The loop is closed."""
        super().shutdown(*args, **options)
        self._daemons.end()


def _carry_out(future: "concurrent.futures.Future[Any]", function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except BaseException as error:  # for the task that awaits it
        future.set_exception(error)
        del future  # which has the error, which has this frame


async def beside_the_loop(function: Callable[[], None]) -> None:
    """Call it in a thread of its own: those that the loop has may all be at work for what waits for it."""
    future: concurrent.futures.Future[Any] = concurrent.futures.Future()
    with needing_thread():
        run_in_helper(partial(_carry_out, future, partial(copy_context().run, function)))
    await asyncio.wrap_future(future)


def _branches_of(tasks: Iterable["asyncio.Task[Any]"]) -> Iterator[Branches]:
    """Of the runs that execute in these tasks."""
    for task in tasks:
        if isinstance(task, RunTask) and task.execution.branches is not None:
            yield task.execution.branches


class LoopThread:
    """A daemon thread with an event loop, for the background async runs of an engine."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(DaemonExecutor())
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="durable-loop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self._stopping:
            self._run_loop()
        self.loop.stop()
        self._run_loop()  # one turn: where an interrupt ended the loop, it is told to stop once more
        if left := asyncio.all_tasks(self.loop):  # just set going: they find out that the engine was closed
            with contextlib.suppress(*EXITS):
                self.loop.run_until_complete(asyncio.wait(left, timeout=_LAST_SECONDS))
        self.loop.close()
        for branches in _branches_of(left):
            branches.drop()

    def _run_loop(self) -> None:
        try:
            self.loop.run_forever()
        except EXITS:
            self._interrupt()

    def _interrupt(self) -> None:
        """A task of one run was interrupted: no other task of that run does anything more. The other runs go on."""
        for branches in _branches_of(asyncio.all_tasks(self.loop)):
            branches.look_at_all()

    def stop(self) -> None:
        """End the loop, and the thread soon after."""
        self._stopping = True
        soon(self.loop, self.loop.stop)  # or what ran on it has just stopped it
        if threading.current_thread() is not self._thread:
            self._thread.join(1.0)


class Tasks:
    """Background runs as tasks of one loop, kept from the garbage collector while they run."""

    def __init__(self, port: LoopPort) -> None:
        self.port = port
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Run a coroutine on the loop, from any thread."""
        # In a context of its own: the starter's may be that of a step, and is not there after a crash either.
        self.port.loop.call_soon_threadsafe(self._spawn, make, context=Context())

    def _spawn(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        task = self.port.loop.create_task(make())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

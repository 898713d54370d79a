"""What a loop does otherwise while runs execute on it: for the code of a run, and for nobody else.

A task of a run gets its branch when it is created. A timeout of asyncio takes its turn among the outcomes. A thread of
`asyncio.to_thread` is a branch of its own. Each hook looks where the calling code is, and hands on what is none of its
business to what the loop had before. After its last run the loop is as it was.
"""

import asyncio
import contextlib
import sys
import weakref
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, Final

from ._scopes import SCOPE, Branch
from ._sets_of_tasks import BranchTask, TasksInOrder
from ._task_inspection import closes_generator
from ._threads import RunThreads
from ._timeouts import arm
from .errors import DurableError

_TIMEOUTS: Final = {"asyncio.timeouts", "asyncio.tasks"}
"""Where the callbacks of `timeout`, `wait_for`, `wait` and `as_completed` are defined; that of `sleep` is elsewhere."""
_RESCHEDULE: Final = asyncio.Timeout.reschedule.__code__
_LONG_AGO: Final = float("-inf")
_EAGER: Final = getattr(asyncio, "eager_task_factory", object())
"""Since Python 3.12."""


class BranchFactory:
    """A task factory that gives each task of a run its branch when it is created, around the loop's own factory."""

    def __init__(self, inner: Callable[..., Any] | None) -> None:
        self.inner = inner
        self.users = 0
        """Executions on this loop."""
        self.replaced: dict[str, Any] = {}
        """What the loop had in the place of the other hooks, by name; `None` for the methods of its class."""
        self._given: dict[asyncio.Task[Any], Context] = {}
        """The contexts that the code of runs gave for their tasks."""
        self._in_order = TasksInOrder()

    def __call__(self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any) -> Any:
        creator = SCOPE.get()
        if type(creator) is not Branch or (branches := creator.execution.branches) is None:
            return self._make(loop, coro, **options)
        if (made := self._in_order.take(coro, sys._getframe(1))) is not None:
            return made
        given: Context | None = options.get("context")
        context = copy_context() if given is None else self._require_own(given, branches, coro)
        branch = creator.child(getattr(coro, "__name__", type(coro).__name__))
        context.run(SCOPE.set, branch)
        branches.starting += 1
        try:
            if given is None:  # not handed on as an option: older factories take none
                options.pop("context", None)
                task = context.run(self._make_branch, branch, loop, coro, **options)
            else:
                task = self._make_branch(branch, loop, coro, **options)
        finally:
            branches.starting -= 1
        branches.add(task, branch)
        if given is not None:
            self._given[task] = given
            task.add_done_callback(self._given.pop)
        return task

    def _require_own(self, context: Context, branches: Any, coro: Coroutine[Any, Any, Any]) -> Context:
        """The context that is given for a task, which is to hold its branch: so no other task of a run may be in it."""
        tasks = [*branches.tasks, branches.root]
        taken = [*self._given.values(), *(task.get_context() for task in tasks if hasattr(task, "get_context"))]
        if all(context is not other for other in taken):
            return context
        coro.close()
        msg = (
            "the context of a task of a workflow holds its place in the run, and this one is that of another task: "
            "leave context= out, or pass contextvars.copy_context()"
        )
        raise DurableError(msg)

    def _make_branch(self, branch: Branch, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        """One of another make is what it is: sets of such have no order that a replay has again."""
        if self.inner is None:
            return BranchTask(coro, branch=branch, loop=loop, **options)
        if self.inner is _EAGER:
            return BranchTask(coro, branch=branch, loop=loop, eager_start=True, **options)
        return self.inner(loop, coro, **options)

    def _make(self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any) -> Any:
        if self.inner is None:
            return asyncio.Task(coro, loop=loop, **options)
        return self.inner(loop, coro, **options)


def enter_loop(loop: asyncio.AbstractEventLoop) -> None:
    """A run begins to execute on this loop."""
    factory: Any = loop.get_task_factory()
    if not isinstance(factory, BranchFactory):
        factory = BranchFactory(factory)
        loop.set_task_factory(factory)
        with contextlib.suppress(AttributeError):  # a loop of another make that lets nobody in: its timers have no turn
            hooks = {
                **_timer_hooks(loop),
                **_generator_hook(loop),
                "run_in_executor": _thread_hook(loop.run_in_executor),
            }
            factory.replaced = {name: vars(loop).get(name) for name in hooks}
            for name, hook in hooks.items():
                setattr(loop, name, hook)
    factory.users += 1


def leave_loop(loop: asyncio.AbstractEventLoop) -> None:
    """A run has ended on this loop; after the last one it is as it was."""
    factory: Any = loop.get_task_factory()
    if isinstance(factory, BranchFactory):
        factory.users -= 1
        if not factory.users:
            loop.set_task_factory(factory.inner)
            for name, before in factory.replaced.items():
                if before is None:
                    delattr(loop, name)
                else:
                    setattr(loop, name, before)


def _timer_hooks(loop: asyncio.AbstractEventLoop) -> dict[str, Callable[..., Any]]:
    call_at: Callable[..., Any] = loop.call_at
    call_later: Callable[..., Any] = loop.call_later
    now = loop.time

    def branch_of(callback: Callable[..., Any]) -> Branch | None:
        scope = SCOPE.get()
        if type(scope) is not Branch or getattr(callback, "__module__", None) not in _TIMEOUTS:
            return None
        return scope

    def at(when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
        if (branch := branch_of(callback)) is None:
            return call_at(when, callback, *args, context=context)
        return arm(branch, when, call_at, (copy_context() if context is None else context, callback, *args))

    def later(delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
        if branch_of(callback) is None:
            return call_later(delay, callback, *args, context=context)
        return at(now() + delay, callback, *args, context=context)

    def time() -> float:
        """A timeout that has passed when it is set has a turn too; whether it has, depends on how fast things go."""
        if type(SCOPE.get()) is Branch and sys._getframe(1).f_code is _RESCHEDULE:
            return _LONG_AGO
        return now()

    return {"call_at": at, "call_later": later, "time": time}


def _generator_hook(loop: asyncio.AbstractEventLoop) -> dict[str, Callable[..., Any]]:
    """An async generator that its user leaves, by `break` for one, is closed by a task, which asyncio creates later.

    In a run it is created at once: so it is there when the body ends, on replay too, and is waited for.
    """
    call_soon_threadsafe: Callable[..., Any] = loop.call_soon_threadsafe

    def soon(callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
        if args and closes_generator(args[0]) and callback == loop.create_task:
            scope = SCOPE.get()
            if type(scope) is Branch and scope.execution.branches is not None and scope.execution.branches.is_here():
                callback(*args)
                return None
        return call_soon_threadsafe(callback, *args, context=context)

    return {"call_soon_threadsafe": soon}


def _thread_hook(run_in_executor: Any) -> Callable[..., Any]:
    def run(executor: Any, function: Callable[..., Any], *args: Any) -> Any:
        scope = SCOPE.get()
        if type(scope) is not Branch or (branches := scope.execution.branches) is None:
            return run_in_executor(executor, function, *args)
        carried = getattr(getattr(function, "func", function), "__self__", None)
        if type(carried) is not Context or carried.get(SCOPE) is not scope:  # it does not take the run along
            return run_in_executor(executor, function, *args)
        branch = scope.child("thread")
        carried.run(SCOPE.set, branch)
        branches.flush()
        future = run_in_executor(executor, function, *args)
        branches.threads.add(branch.name, future, executor)
        if executor is not None:
            _tell_of_end(executor, branches.threads)
        return future

    return run


def _tell_of_end(executor: Any, threads: RunThreads) -> None:
    end = executor.shutdown
    if not isinstance(end, _End):
        end = _End(executor)
        with contextlib.suppress(AttributeError):  # one of another make that lets nobody in
            executor.shutdown = end
    end.runs.add(threads)


class _End:
    """Stands in for the `shutdown` of an executor, of which runs are told that have threads there.

    The `with` of an executor blocks the loop at its end until the threads have ended, and a step in one of them waits
    for the loop. It holds nobody: an executor that is dropped ends its threads.
    """

    def __init__(self, executor: Any) -> None:
        self._executor = weakref.ref(executor)
        self.runs: weakref.WeakSet[RunThreads] = weakref.WeakSet()

    def __call__(self, wait: bool = True, **options: Any) -> None:  # noqa: FBT002 - as that of an executor
        executor: Any = self._executor()
        if wait:
            for threads in list(self.runs):
                threads.give_up_in(executor)
        type(executor).shutdown(executor, wait, **options)

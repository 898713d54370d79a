"""Gives each task of a run its branch at the moment when it is created: a factory around the loop's own."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any

from ._execution import SCOPE, Branch


class BranchFactory:
    """A task factory that gives each task of a run its branch when it is created, around the loop's own factory."""

    def __init__(self, inner: Callable[..., Any] | None) -> None:
        self.inner = inner
        self.users = 0
        """Executions on this loop."""

    def __call__(self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any) -> Any:
        creator = SCOPE.get()
        if type(creator) is not Branch or creator.execution.branches is None:
            return self._make(loop, coro, **options)
        branch = creator.child(getattr(coro, "__name__", type(coro).__name__))
        context = options.get("context") or copy_context()
        context.run(SCOPE.set, branch)
        if options.get("context") is None:  # not handed on as an option: older factories take none
            options.pop("context", None)
            task = context.run(self._make, loop, coro, **options)
        else:
            task = self._make(loop, coro, **options)
        creator.execution.branches.add(task, branch)
        return task

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
    factory.users += 1


def leave_loop(loop: asyncio.AbstractEventLoop) -> None:
    """A run has ended on this loop; after the last one its own factory is back."""
    factory: Any = loop.get_task_factory()
    if isinstance(factory, BranchFactory):
        factory.users -= 1
        if not factory.users:
            loop.set_task_factory(factory.inner)

"""What a workflow and a step have in common: a function with a name, and options checked where they are written."""

from __future__ import annotations

import functools
import sys
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from ._identity import code_of, default_name, module_of, require_name, source_of
from ._signature import Signature

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Self

    from ._execution import Execution

P = ParamSpec("P")
R = TypeVar("R", covariant=True)  # noqa: PLC0105 - short, since it stands in every signature

_COROUTINE = 0x80  # inspect.CO_COROUTINE; `inspect` is slow to import
_GENERATOR = 0x20 | 0x200  # CO_GENERATOR, CO_ASYNC_GENERATOR


class Decorated(Generic[P, R]):
    """What a workflow and a step have in common: a function with a name, that may be a method."""

    __name__: str
    __qualname__: str

    def __init__(self, function: Callable[P, R], name: str | None, what: str) -> None:
        self._is_static = isinstance(function, staticmethod)
        plain = cast("Callable[P, R]", function.__func__ if isinstance(function, staticmethod) else function)
        flags = _flags(plain, what)
        functools.update_wrapper(cast("Any", self), plain)
        self.__closure__ = getattr(plain, "__closure__", None)  # attrs mends `super()` here for its slots
        self.function = plain
        self.is_async = bool(flags & _COROUTINE)
        self.name = default_name(plain) if name is None else require_name(name, f"the name of a {what}")
        self.module = module_of(plain)
        self.source = source_of(plain)
        self.signature = Signature(plain)
        self._bound: tuple[Any, ...] = ()
        self._unbound: Decorated[Any, Any] | None = None
        if self.is_async and sys.version_info >= (3, 12):
            from inspect import markcoroutinefunction

            markcoroutinefunction(self)  # for frameworks that ask whether to await it

    def _bind_to(self, instance: object) -> Self:
        if instance is None or self._is_static or self._bound:
            return self
        method = MethodType(self.function, instance)  # `inspect.signature` leaves out its first parameter
        return self._copy(_bound=(instance,), _unbound=self, __wrapped__=method)

    def _copy(self, _unbound: Decorated[Any, Any] | None = None, **changes: Any) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, _unbound=_unbound, **changes)
        return other

    def __eq__(self, other: object) -> bool:
        """As of methods: each look at one makes another, and all of one instance are equal."""
        if self._unbound is None or not isinstance(other, Decorated):
            return self is other
        return self._unbound is other._unbound and self._bound[0] is other._bound[0]

    def __hash__(self) -> int:
        return object.__hash__(self) if self._unbound is None else hash((self._unbound, id(self._bound[0])))

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Pickled by its name, as functions and methods are: for the processes of a pool, outside of a run."""
        return (getattr, (self._bound[0], self.__name__)) if self._bound else self.__qualname__

    def __repr__(self) -> str:
        return f"<durable.{type(self).__name__.lower()} {self.name}>"


def _flags(function: Any, what: str) -> int:
    if isinstance(function, str):
        msg = f"write the name with its keyword: @durable.{what}(name={function!r})"
        raise TypeError(msg)
    if isinstance(function, (classmethod, property)) or not callable(function) or isinstance(function, type):
        msg = f"@durable.{what} takes a function, not {function!r}; put it below @classmethod or @property"
        raise TypeError(msg)
    if isinstance(function, Decorated):
        msg = f"{function!r} is decorated already: one of @durable.workflow and @durable.step, once"
        raise TypeError(msg)
    flags: int = getattr(code_of(function), "co_flags", 0)
    if flags & _GENERATOR:
        msg = f"{default_name(function)} is a generator, which cannot be a {what}: return a list instead of yielding"
        raise TypeError(msg)
    return flags


def awaiting(execution: Execution, decision: Any, name: str) -> Coroutine[Any, Any, Any]:
    """The coroutine of an async operation. It bears its name, since a branch is named after its coroutine."""
    return named(_async_driver()(execution, decision), name)


def named(coroutine: Any, name: str) -> Coroutine[Any, Any, Any]:
    """The coroutine, which bears the name of what was called, also where Python says that nobody awaits it."""
    coroutine.__name__ = coroutine.__qualname__ = name
    return coroutine  # type: ignore[no-any-return]


@functools.cache
def _async_driver() -> Callable[[Execution, Any], Coroutine[Any, Any, Any]]:
    from ._drive_async import drive_async  # imports asyncio, which is slow

    return drive_async


def require_async_run(execution: Execution, what: str) -> None:
    """An async operation needs a run that awaits it."""
    if execution.branches is None:
        msg = (
            f"{what} is async, and was called in the sync workflow {execution.record.workflow!r}: make the workflow "
            "'async def', or the function a plain 'def'"
        )
        raise TypeError(msg)

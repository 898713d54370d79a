"""`@durable.workflow` and `@durable.step`: plain functions that remember."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from ._drive import drive
from ._engine import REGISTRY, current_engine
from ._execution import SCOPE, Branch, Execution
from ._identity import default_name, idempotency_key, module_of, require_name, source_of
from ._operations import take_place, take_place_with_past
from ._parallel import Item, Parallel, StepFuture
from ._replay import Call, decide_step
from ._retry import ONE_ATTEMPT, RetryPolicy
from ._running import call, drive_run
from ._runtime import Request
from ._signature import Signature
from .errors import EngineClosedError, Halt, JournalError, RunBlockedError, RunInterruptedError
from .run import Run

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Coroutine, Iterable
    from typing import Self

    from ._codec import TypeCodec
    from ._engine import Engine

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
T = TypeVar("T")
Q_ = TypeVar("Q_")

_COROUTINE = 0x80  # inspect.CO_COROUTINE; `inspect` is slow to import
_GENERATOR = 0x20 | 0x200  # CO_GENERATOR, CO_ASYNC_GENERATOR
_DEFAULT_RETRY = RetryPolicy()


class _Decorated(Generic[P, R]):
    """What a workflow and a step have in common: a function with a name, that may be a method."""

    def __init__(self, function: Callable[P, R], name: str | None, what: str) -> None:
        self._is_static = isinstance(function, staticmethod)
        plain = cast("Callable[P, R]", function.__func__ if isinstance(function, staticmethod) else function)
        flags = _flags(plain, what)
        functools.update_wrapper(cast("Any", self), plain)
        self.function = plain
        self.is_async = bool(flags & _COROUTINE)
        self.name = default_name(plain) if name is None else require_name(name, f"the name of a {what}")
        self.module = module_of(plain)
        self.source = source_of(plain)
        self.signature = Signature(plain)
        self._bound: tuple[Any, ...] = ()

    def _bind_to(self, instance: object) -> Self:
        if instance is None or self._is_static:
            return self
        return self._copy(_bound=(instance,))

    def _copy(self, **changes: Any) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, **changes)
        return other

    def __repr__(self) -> str:
        return f"<durable.{type(self).__name__.lower()} {self.name}>"


def _flags(function: Any, what: str) -> int:
    if isinstance(function, (classmethod, property)) or not callable(function) or isinstance(function, type):
        msg = f"@durable.{what} takes a function, not {function!r}; put it below @classmethod or @property"
        raise TypeError(msg)
    if isinstance(function, _Decorated):
        msg = f"{function!r} is decorated already: one of @durable.workflow and @durable.step, once"
        raise TypeError(msg)
    flags: int = getattr(getattr(function, "__code__", None), "co_flags", 0)
    if flags & _GENERATOR:
        msg = f"{default_name(function)} is a generator, which cannot be a {what}: return a list instead of yielding"
        raise TypeError(msg)
    return flags


# -- steps ------------------------------------------------------------------------------------------------------------


class Step(_Decorated[P, R]):
    """A function whose calls in a workflow are journaled: made by `@durable.step`."""

    def __init__(self, function: Callable[P, R], options: dict[str, Any]) -> None:
        super().__init__(function, options["name"], "step")
        self._set_options(options)
        REGISTRY.declare_step(self)

    def _set_options(self, options: dict[str, Any]) -> None:
        retry = options["retry"]
        if retry is not None and not isinstance(retry, RetryPolicy):
            msg = f"retry of step {self.name!r} is a RetryPolicy or None, not {retry!r}"
            raise TypeError(msg)
        self._policy: RetryPolicy = ONE_ATTEMPT if retry is None else retry
        self._timeout_seconds = _seconds(options["timeout"], f"timeout of step {self.name!r}")
        self._at_most_once = bool(options.get("at_most_once", False))
        self._record_input = bool(options.get("record_input", True))
        self._match_inputs = bool(options.get("match_inputs", True))
        self._concurrency = _slots(options.get("concurrency"), f"concurrency of step {self.name!r}")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the step: journaled in a workflow, just the function outside of one and inside another step.

        Returns the decoded journal value; the outcome is on disk then. A crash before that repeats the attempt.
        """
        scope = SCOPE.get()
        if type(scope) is not Branch:
            return self.function(*self._bound, *args, **kwargs)
        execution = scope.execution
        step = self._call(self._bound + args if self._bound else args, kwargs)
        if not self.is_async:
            return drive(execution, take_place(scope, step, decide_step))  # type: ignore[no-any-return]
        _require_async_run(execution, f"step {self.name!r}")
        return _awaiting(execution, take_place(scope, step, decide_step), self.name)  # type: ignore[return-value]

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        inputs = self.signature.dump_step_inputs(args, kwargs, f"step {self.name!r}")
        call = Call()
        call.kind = "step"
        call.name = self.name
        call.module = self.module
        call.source = self.source
        call.function = self.function
        call.args = args
        call.kwargs = kwargs
        call.inputs = inputs if self._record_input else self.signature.as_fingerprint(inputs)
        call.policy = self._policy
        call.timeout_seconds = self._timeout_seconds
        call.concurrency = self._concurrency
        call.at_most_once = self._at_most_once
        call.match_inputs = self._match_inputs
        call.signature = self.signature
        call.result = self.signature.result
        return call

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> StepFuture[R]:
        """Call the step on a thread of the engine, and go on; `result()` of what this returns waits for it.

        In a sync workflow only (in an async one: `asyncio.create_task`). The run ends only when the step has.
        """
        scope = SCOPE.get()
        if type(scope) is not Branch:
            self._require_sync("submit")
            return StepFuture[R](self.name).run(lambda: self(*args, **kwargs))
        parallel = self._parallel(scope, "submit")
        decision = take_place(scope.child(self.name), self._call((*self._bound, *args), kwargs), decide_step)
        return parallel.go(self.name, decision)

    def map(
        self, items: Iterable[Any], concurrency: int | None = None, *, return_exceptions: bool = False
    ) -> list[R]:
        """Call the step for each item on threads of the engine, at most `concurrency` at a time; results in order.

        After a failure no further item starts; those in flight end and are journaled, and the first failure by index is
        raised. `return_exceptions=True` runs all, and puts failures among the results.
        """
        limit = _slots(concurrency, f"concurrency of {self.name}.map")
        calls = [self._bound + (item,) for item in items]
        scope = SCOPE.get()
        if type(scope) is not Branch:
            self._require_sync("map")
            return [_result_or_error(self, item, return_exceptions) for (*_, item) in calls]
        parallel = self._parallel(scope, "map")
        steps = [self._call(args, {}) for args in calls]
        branch = scope.child(f"{self.name}[]")
        places = [take_place_with_past(branch, step, decide_step) for step in steps]
        found = [Item(index, decision, past) for index, (decision, past) in enumerate(places)]
        return parallel.map(self.name, found, limit or len(found) or 1, return_exceptions=return_exceptions)

    def _parallel(self, scope: Branch, what: str) -> Parallel:
        execution = scope.execution
        self._require_sync(what)
        if execution.branches is not None:
            msg = f"{self.name}.{what}() blocks, and was called in an async workflow: use asyncio.gather or a TaskGroup"
            raise TypeError(msg)
        if execution.parallel is None:
            execution.parallel = Parallel(execution, execution.step_pool)
        return execution.parallel

    def _require_sync(self, what: str) -> None:
        if self.is_async:
            msg = f"step {self.name!r} is async, and {self.name}.{what}() is for sync ones: use asyncio.gather"
            raise TypeError(msg)

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(self: Step[Concatenate[T, Q], R], instance: T, owner: type | None = None) -> Step[Q, R]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """As for any function: a method of its instance."""
        return self._bind_to(instance)

    def with_options(
        self,
        *,
        retry: RetryPolicy | _Unset | None = ...,
        timeout: float | dt.timedelta | _Unset | None = ...,
        name: str | _Unset = ...,
    ) -> Step[P, R]:
        """The same step with other options, for one call: ``charge.with_options(timeout=60)(order)``."""
        options: dict[str, Any] = {
            "retry": self._policy if retry is ... else retry,
            "timeout": self._timeout_seconds if timeout is ... else timeout,
            "at_most_once": self._at_most_once,
            "record_input": self._record_input,
            "match_inputs": self._match_inputs,
            "concurrency": self._concurrency or None,
        }
        other = self._copy() if name is ... else self._copy(name=require_name(name, "the name of a step"))
        other._set_options(options)
        return other


if TYPE_CHECKING:
    from types import EllipsisType as _Unset


def _result_or_error(step: Callable[..., Any], item: Any, return_exceptions: bool) -> Any:
    try:
        return step(item)
    except Exception as error:
        if return_exceptions:
            return error
        raise


async def _awaiting_decision(execution: Execution, decision: Any) -> Any:
    from ._drive_async import drive_async

    return await drive_async(execution, decision)


def _awaiting(execution: Execution, decision: Any, name: str) -> Coroutine[Any, Any, Any]:
    """The coroutine of an async operation. It bears its name, since a task is named after its coroutine."""
    coroutine: Any = _awaiting_decision(execution, decision)
    coroutine.__name__ = name
    return coroutine  # type: ignore[no-any-return]


def _require_async_run(execution: Execution, what: str) -> None:
    if execution.branches is None:
        msg = (
            f"{what} is async, and was called in the sync workflow {execution.record.workflow!r}: make the workflow "
            "'async def', or the function a plain 'def'"
        )
        raise TypeError(msg)


def _seconds(value: Any, what: str) -> float | None:
    if value is None:
        return None
    seconds = value.total_seconds() if hasattr(value, "total_seconds") else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        msg = f"{what} is a number of seconds or a timedelta, not {value!r}"
        raise TypeError(msg)
    if not 0 < seconds < float("inf"):
        msg = f"{what} must be more than 0 and finite, not {value!r}"
        raise ValueError(msg)
    return float(seconds)


_STEP_OPTIONS = {"name", "retry", "timeout", "at_most_once", "record_input", "match_inputs", "concurrency"}


def _slots(value: Any, what: str) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        msg = f"{what} is a whole number of at least 1, not {value!r}"
        raise ValueError(msg)
    return value


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    name: str | None = None,
    retry: RetryPolicy | None = _DEFAULT_RETRY,
    timeout: float | dt.timedelta | None = None,
    at_most_once: bool = False,
    record_input: bool = True,
    match_inputs: bool = True,
    concurrency: int | None = None,
) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(function: Any = None, /, **options: Any) -> Any:
    """Make a function a step: its calls in a workflow are journaled, retried, and never repeated once finished.

    `name`: its name in the journal, the qualified name when not given. `retry`: `RetryPolicy()` when not given, `None` for
    one attempt. `timeout`: seconds or a `timedelta`, for one attempt; a sync attempt is then abandoned, not stopped.
    `at_most_once=True`: an attempt that a crash cut is not repeated, but raises `StepInterruptedError` in the workflow.
    `record_input=False`: the journal keeps only a fingerprint of the inputs. `match_inputs=False`: other inputs on replay
    are accepted. `concurrency`: how many of its attempts run at a time in one engine. Raises `ValueError` or `TypeError` for bad options, here.
    """
    settings = {"name": None, "retry": _DEFAULT_RETRY, "timeout": None, **options}
    unknown = settings.keys() - _STEP_OPTIONS
    if unknown:
        msg = f"@durable.step has no option {', '.join(sorted(unknown))}"
        raise TypeError(msg)
    if function is None:
        return lambda decorated: Step(decorated, settings)
    return Step(function, settings)


# -- workflows --------------------------------------------------------------------------------------------------------


class Workflow(_Decorated[P, R]):
    """A function whose executions are runs: made by `@durable.workflow`."""

    def __init__(self, function: Callable[P, R], name: str | None, run_id: Any, concurrency: Any) -> None:
        super().__init__(function, name, "workflow")
        self.concurrency = _slots(concurrency, f"concurrency of workflow {self.name!r}")
        self._id = run_id
        if isinstance(run_id, str):
            _require_fields(run_id, self)
        elif run_id is not None and not callable(run_id):
            msg = f"id of workflow {self.name!r} is a format string or a callable of its arguments, not {run_id!r}"
            raise TypeError(msg)
        self._fixed_id: str | None = None
        REGISTRY.declare_workflow(self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the workflow here, and return its result or raise its error.

        Goes on with the run that the id, or the inputs, mean: see "Which run does a call mean?" in the docs.
        """
        scope = SCOPE.get()
        if type(scope) is Branch:
            return cast("R", self._call_child(scope, args, kwargs))
        engine = current_engine()
        request = self._request(args, kwargs, "call")
        if self.is_async:
            return cast("R", _call_async(engine, request))
        return cast("R", drive_run(engine._runtime, call(engine._runtime, request)))

    @overload
    def start(self: Workflow[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> Run[T]: ...
    @overload
    def start(self, *args: P.args, **kwargs: P.kwargs) -> Run[R]: ...
    def start(self, *args: Any, **kwargs: Any) -> Run[Any]:
        """Run the workflow in the background; the run is on disk when this returns its handle."""
        scope = SCOPE.get()
        if type(scope) is Branch:
            return self._start_child(scope, args, kwargs)
        engine = current_engine()
        return Run(engine._scheduler, engine._scheduler.start(self._request(args, kwargs, "start")))

    @overload
    def start_many(self: Workflow[[T], Coroutine[Any, Any, Q_]], items: Iterable[T]) -> list[Run[Q_]]: ...
    @overload
    def start_many(self: Workflow[[T], R], items: Iterable[T]) -> list[Run[R]]: ...
    def start_many(self, items: Iterable[Any]) -> list[Run[Any]]:
        """Start a run for each item, which is its one argument; all are acknowledged in one commit, or none is."""
        if type(SCOPE.get()) is Branch:
            return [cast("Any", self).start(item) for item in items]
        scheduler = current_engine()._scheduler
        requests = [self._request((item,), {}, "start") for item in items]
        return [Run(scheduler, run_id) for run_id in scheduler.start_many(requests)]

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(self: Workflow[Concatenate[T, Q], R], instance: T, owner: type | None = None) -> Workflow[Q, R]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """As for any function: a method of its instance."""
        return self._bind_to(instance)

    def with_options(self, *, id: str) -> Workflow[P, R]:
        """The same workflow with an id for one call: ``order_item.with_options(id="order-44")(order)``."""
        return self._copy(_fixed_id=require_name(id, "the id of a run"))

    def _request(self, args: tuple[Any, ...], kwargs: dict[str, Any], origin: str) -> Request:
        args = self._bound + args
        arguments = self.signature.bind(args, kwargs)
        inputs = self.signature.dump_run_inputs(arguments, f"workflow {self.name!r}")
        return Request(self, inputs, self._run_id(args, kwargs, arguments), origin, None, frozenset())

    def _run_id(self, args: tuple[Any, ...], kwargs: dict[str, Any], arguments: dict[str, Any]) -> str | None:
        if self._fixed_id is not None or self._id is None:
            return self._fixed_id
        what = f"the id of a run of {self.name!r}"
        if not isinstance(self._id, str):
            return require_name(self._id(*args, **kwargs), what)
        try:
            return require_name(self._id.format(**arguments), what)
        except (AttributeError, KeyError, IndexError) as error:
            msg = f"{what} cannot be made from {self._id!r}: {error}"
            raise ValueError(msg) from error

    # -- children -----------------------------------------------------------------------------------------------------

    def _call_child(self, scope: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        execution = scope.execution
        if self.is_async:
            _require_async_run(execution, f"workflow {self.name!r}")
        child = self._child(scope, args, kwargs, "child")
        request: Request = child.args[0]
        runtime = current_engine()._runtime
        if not self.is_async:
            child.function = lambda request: _or_halt(lambda: drive_run(runtime, call(runtime, request)))
            return drive(execution, take_place(scope, child, decide_step))

        async def run_child(request: Request) -> Any:
            from ._running_async import drive_run_async

            try:
                return await drive_run_async(runtime, call(runtime, request))
            except _CHILD_HALTS as error:
                raise Halt(error) from error

        child.function = run_child
        child.args = (request,)
        return _awaiting(execution, take_place(scope, child, decide_step), self.name)

    def _start_child(self, scope: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run[Any]:
        scheduler = current_engine()._scheduler
        child = self._child(scope, args, kwargs, "start")
        child.function = lambda request: _or_halt(lambda: scheduler.start(request))
        child.result = _text_codec()
        return Run(scheduler, drive(scope.execution, take_place(scope, child, decide_step)))

    def _child(self, scope: Branch, args: tuple[Any, ...], kwargs: dict[str, Any], kind: str) -> Call:
        """A call of a workflow in a workflow is an operation whose body is the run of the child.

        The child's id comes from the place of the call, so that it is the same run again after a crash.
        """
        parent = scope.execution.record
        request = self._request(args, kwargs, "call" if kind == "child" else "start")
        run_id = request.run_id or idempotency_key(parent.id, scope.name, scope.position)
        request = request._replace(run_id=run_id, parent=parent, ancestors=scope.execution.ancestors)
        call = Call()
        call.kind = kind
        call.name = self.name
        call.module = self.module
        call.source = self.source
        call.args = (request,)
        call.kwargs = {}
        call.inputs = request.inputs
        call.policy = ONE_ATTEMPT
        call.timeout_seconds = None
        call.concurrency = 0
        call.at_most_once = False
        call.match_inputs = True
        call.signature = self.signature
        call.result = self.signature.result
        return call


_CHILD_HALTS = (RunInterruptedError, RunBlockedError, JournalError, EngineClosedError)
"""What keeps a child from ending keeps its parent from ending too: the parent is taken down, and has no outcome."""


def _or_halt(body: Callable[[], Any]) -> Any:
    try:
        return body()
    except _CHILD_HALTS as error:
        raise Halt(error) from error


def _text_codec() -> TypeCodec:
    from ._codec import codec_for

    return codec_for(str)


async def _call_async(engine: Engine, request: Request) -> Any:
    from ._running_async import drive_run_async

    return await drive_run_async(engine._runtime, call(engine._runtime, request))


def _require_fields(template: str, workflow: Workflow[Any, Any]) -> None:
    """The fields of an id template are parameters of the workflow: checked where it is declared."""
    from string import Formatter

    code = getattr(workflow.function, "__code__", None)
    if code is None:
        return
    known = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    try:
        fields = [field for _, field, _, _ in Formatter().parse(template) if field is not None]
    except ValueError as error:
        msg = f"id={template!r} of workflow {workflow.name!r} is not a format string: {error}"
        raise ValueError(msg) from error
    for field in fields:
        first = field.split(".")[0].split("[")[0]
        if first not in known:
            msg = (
                f"id={template!r} of workflow {workflow.name!r} names {first!r}, which is not one of its parameters: "
                f"{', '.join(known) or 'it has none'}"
            )
            raise ValueError(msg)


@overload
def workflow(function: Callable[P, R], /) -> Workflow[P, R]: ...
@overload
def workflow(
    *, name: str | None = None, id: str | Callable[..., str] | None = None, concurrency: int | None = None
) -> Callable[[Callable[P, R]], Workflow[P, R]]: ...
def workflow(function: Any = None, /, *, name: str | None = None, id: Any = None, concurrency: int | None = None) -> Any:
    """Make a function a workflow: each execution is a run in the journal, which goes on after a crash.

    `name`: its name in the journal, the qualified name when not given. `id`: the id of a run, as a format string over the
    arguments (``"order-{order.id}"``) or a callable of them; without one the library chooses. `concurrency`: how many of its
    runs execute at a time in one engine; a run that waits for a child does not count. Raises `ValueError` or
    `TypeError` for bad options, and for a second workflow of the same name in another module.
    """
    if function is None:
        return lambda decorated: Workflow(decorated, name, id, concurrency)
    return Workflow(function, name, id, concurrency)

"""`@durable.step`: a plain function whose calls in a workflow are journaled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, overload

from ._arguments import iterable, seconds, slots, yes_or_no
from ._decorated import Decorated, P, R, awaiting, require_async_run
from ._drive import drive
from ._effects import Call, Callee
from ._engine import REGISTRY
from ._identity import require_name
from ._operations import mark_map, take_place, take_place_beside
from ._parallel import Item, Parallel, StepFuture
from ._replay import decide_step, was_told_at
from ._retry import ONE_ATTEMPT, RetryPolicy
from ._scopes import SCOPE, Branch

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterable
    from typing import Self

Q = ParamSpec("Q")
S = TypeVar("S")
T = TypeVar("T")

_DEFAULT_RETRY = RetryPolicy()


class Step(Decorated[P, R]):
    """A function whose calls in a workflow are journaled: made by `@durable.step`."""

    def __init__(self, function: Callable[P, R], options: dict[str, Any]) -> None:
        super().__init__(function, options["name"], "step")
        self._set_options(options)
        REGISTRY.declare_step(self)

    def _set_options(self, options: dict[str, Any]) -> None:
        checked = _checked(options, f"step {self.name!r}")
        self._record_input = checked.pop("record_input")
        self._callee = callee = Callee(
            "step", self.name, self.signature.result, self.module, self.source, signature=self.signature, **checked
        )
        if callee.transaction and (self.is_async or callee.timeout_seconds is not None):
            why = "an async one cannot hold" if self.is_async else "a timeout cannot take away"
            msg = f"step {self.name!r} has transaction=True, whose body holds the journal's writer, which {why}"
            raise ValueError(msg)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
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
        require_async_run(execution, f"step {self.name!r}")
        return awaiting(execution, take_place(scope, step, decide_step), self.name)  # type: ignore[return-value]

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        inputs = self.signature.dump_step_inputs(args, kwargs, f"step {self.name!r}")
        if not self._record_input:
            inputs = self.signature.as_fingerprint(inputs)
        return Call(self._callee, self.function, args, kwargs, inputs)

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> StepFuture[R]:
        """Call the step on a thread of the engine, and go on; `result()` of what this returns waits for it.

        In a sync workflow only (in an async one: `asyncio.create_task`). The run ends only when the step has.
        """
        scope = SCOPE.get()
        if type(scope) is not Branch:
            self._require_sync("submit")
            return StepFuture[R](self.name).run(lambda: self(*args, **kwargs))
        parallel = self._parallel(scope, "submit")
        step = self._call((*self._bound, *args), kwargs)
        cancel = scope.execution.cancel
        was_told = cancel.delivered
        decision, past = take_place_beside(scope, step, decide_step)
        if cancel.delivered != was_told or (past is not None and was_told_at(past)):
            return drive(scope.execution, decision)  # type: ignore[no-any-return]  # raises: the body may ask for no result
        return parallel.submit(step, decision, past)

    # A step of one argument, as the callable that it is: mypy infers the items' type from no other form.
    @overload
    def map(
        self: Callable[[S], T],
        items: Iterable[S],
        concurrency: int | None = None,
        return_exceptions: Literal[False] = False,  # noqa: FBT002 - by place too
    ) -> list[T]: ...
    @overload
    def map(
        self: Callable[[S], T], items: Iterable[S], concurrency: int | None, return_exceptions: bool
    ) -> list[T | BaseException]: ...
    @overload
    def map(
        self: Callable[[S], T], items: Iterable[S], concurrency: int | None = None, *, return_exceptions: bool
    ) -> list[T | BaseException]: ...
    def map(
        self,
        items: Iterable[Any],
        concurrency: int | None = None,
        return_exceptions: bool = False,  # noqa: FBT002 - by place too
    ) -> Any:
        """Call the step for each item on threads of the engine, at most `concurrency` at a time; results in order.

        After a failure no further item starts; those in flight end and are journaled, and the first failure by index is
        raised. `return_exceptions=True` runs all, and puts failures among the results.
        """
        limit = slots(concurrency, f"concurrency of {self.name}.map")
        calls = [(*self._bound, item) for item in iterable(items, f"items of {self.name}.map")]
        scope = SCOPE.get()
        if type(scope) is not Branch:
            self._require_sync("map")
            return [_result_or_error(self, item, return_exceptions) for (*_, item) in calls]
        parallel = self._parallel(scope, "map")
        steps = [self._call(args, {}) for args in calls]
        mark_map(scope, self, len(steps))
        branch = scope.child(f"{self.name}[]")
        cancel = scope.execution.cancel
        was_told = cancel.delivered
        places = [take_place_beside(branch, step, decide_step) for step in steps]
        found = [
            Item(place, step, decision, past)
            for place, (step, (decision, past)) in enumerate(zip(steps, places, strict=True))
        ]
        at_once, is_told = limit or len(found) or 1, cancel.delivered != was_told
        return parallel.map(self.name, found, at_once, return_exceptions=return_exceptions, is_told=is_told)

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
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> Self: ...  # of a static method
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
        callee = self._callee
        options: dict[str, Any] = {
            "retry": callee.policy if retry is ... else retry,
            "timeout": callee.timeout_seconds if timeout is ... else timeout,
            "at_most_once": callee.at_most_once,
            "record_input": self._record_input,
            "match_inputs": callee.match_inputs,
            "concurrency": callee.concurrency or None,
            "transaction": callee.transaction,
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


_STEP_OPTIONS = (
    "name",
    "retry",
    "timeout",
    "at_most_once",
    "record_input",
    "match_inputs",
    "concurrency",
    "transaction",
)


def _checked(options: dict[str, Any], what: str) -> dict[str, Any]:
    """The options of a step as `Callee` has them. `TypeError` or `ValueError` for bad ones, which says of `what`."""
    retry = options["retry"]
    if retry is not None and not isinstance(retry, RetryPolicy):
        msg = f"retry of {what} is a RetryPolicy or None, not {retry!r}"
        raise TypeError(msg)
    flags = {"at_most_once": False, "match_inputs": True, "record_input": True, "transaction": False}
    return {
        "policy": ONE_ATTEMPT if retry is None else retry,
        "timeout_seconds": seconds(options["timeout"], f"timeout of {what}"),
        "concurrency": slots(options.get("concurrency"), f"concurrency of {what}"),
        **{name: yes_or_no(options.get(name, usual), f"{name} of {what}") for name, usual in flags.items()},
    }


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
    transaction: bool = False,
) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(function: Any = None, /, **options: Any) -> Any:
    """Make a function a step: its calls in a workflow are journaled, retried, and never repeated once finished.

    `name`: its name in the journal, the qualified name when not given. `retry`: `RetryPolicy()` when not given,
    `None` for one attempt. `timeout`: seconds or a `timedelta`, for one attempt; a sync attempt is then abandoned,
    not stopped. `at_most_once=True`: an attempt that a crash cut is not repeated, but raises `StepInterruptedError`
    in the workflow. `record_input=False`: the journal keeps only a fingerprint of the inputs. `match_inputs=False`:
    other inputs on replay are accepted. `concurrency`: how many of its attempts run at a time in one engine.
    `transaction=True`: the body writes with `durable.connection()` to the journal's own file, in the transaction that
    has its outcome. Raises `ValueError` or `TypeError` for bad options, here.
    """
    settings = {"name": None, "retry": _DEFAULT_RETRY, "timeout": None, **options}
    unknown = [option for option in options if option not in _STEP_OPTIONS]
    if unknown:
        msg = f"@durable.step has no option {', '.join(unknown)}: it has {', '.join(_STEP_OPTIONS)}"
        raise TypeError(msg)
    if function is not None:
        return Step(function, settings)
    name = settings["name"]
    _checked(settings, "a step" if name is None else f"step {require_name(name, 'the name of a step')!r}")
    return lambda decorated: Step(decorated, settings)

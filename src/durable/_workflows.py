"""`@durable.workflow`: a plain function whose executions are runs in the journal."""

from __future__ import annotations

import contextlib
import importlib
import json
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast, overload

from ._active import Request
from ._arguments import iterable, seconds, slots
from ._codec import codec_for
from ._decorated import Decorated, P, R, awaiting, named, require_async_run
from ._drive import drive
from ._effects import Call, Callee
from ._engine import REGISTRY, current_engine
from ._identity import idempotency_key, require_name
from ._operations import take_place
from ._replay import decide_step
from ._results import HALTS, joined, joined_async, record_of
from ._running import call, drive_run
from ._scopes import SCOPE, Branch
from .errors import Halt, RunBlockedError, RunCancelledError, RunConflictError, RunFinishedError
from .run import Run

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Awaitable, Callable, Iterable
    from typing import Self, TypeAlias

    from ._codec import TypeCodec
    from ._engine import Engine
    from ._execution import Execution
    from ._model import StepRecord
    from ._outcome import Ending
    from ._scheduler import Scheduler

    # Of so many arguments: only so does pyright take those of a lambda for `Any`, and not for unknown.
    MakesId: TypeAlias = (
        Callable[[Any], str]
        | Callable[[Any, Any], str]
        | Callable[[Any, Any, Any], str]
        | Callable[[Any, Any, Any, Any], str]
    )

Q = ParamSpec("Q")
T = TypeVar("T")
Q_ = TypeVar("Q_")


class Workflow(Decorated[P, R]):
    """A function whose executions are runs: made by `@durable.workflow`."""

    def __init__(self, function: Callable[P, R], name: str | None, run_id: Any, concurrency: Any, timeout: Any) -> None:
        super().__init__(function, name, "workflow")
        self.concurrency, self.timeout_seconds = _checked(run_id, concurrency, timeout, f"workflow {self.name!r}")
        self._id = run_id
        if isinstance(run_id, str):
            _require_fields(run_id, self)
        self._fixed_id: str | None = None
        if self.is_async:  # now, and not on the caller's loop at the first call: it takes some milliseconds
            importlib.import_module("durable._running_async")
        REGISTRY.declare_workflow(self)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the workflow here, and return its result or raise its error.

        Goes on with the run that the id, or the inputs, mean: see "Which run does a call mean?" in the docs.
        """
        scope = SCOPE.get()
        if type(scope) is Branch:
            return cast("R", self._call_child(scope, args, kwargs))
        engine = current_engine()
        request = self._request(args, kwargs, "call")._replace(scope=scope)
        if self.is_async:
            return cast("R", named(_call_async(engine, request), self.name))
        ending: Ending = drive_run(engine._runtime, call(engine._runtime, request))
        return cast("R", ending.result())

    @overload
    def start(self: Workflow[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> Run[T]: ...
    @overload
    def start(self, /, *args: P.args, **kwargs: P.kwargs) -> Run[R]: ...
    def start(self, /, *args: Any, **kwargs: Any) -> Run[Any]:
        """Run the workflow in the background; the run is on disk when this returns its handle."""
        scope = SCOPE.get()
        if type(scope) is Branch:
            return self._start_child(scope, args, kwargs)
        engine = current_engine()
        return Run(engine._scheduler, engine._scheduler.start(self._request(args, kwargs, "start")))

    # A workflow of one argument, as the callable that it is: others may have defaults.
    @overload
    def start_many(  # type: ignore[misc]  # mypy takes the erased type of an overload for the type itself
        self: Callable[[T], Awaitable[Q_]], items: Iterable[T]
    ) -> list[Run[Q_]]: ...
    @overload
    def start_many(self: Callable[[T], Q_], items: Iterable[T]) -> list[Run[Q_]]: ...
    def start_many(self, items: Iterable[Any]) -> list[Run[Any]]:
        """Start a run for each item, which is its one argument; all are acknowledged in one commit, or none is."""
        items = iterable(items, f"items of {self.name}.start_many")
        if type(SCOPE.get()) is Branch:
            return [cast("Any", self).start(item) for item in items]
        scheduler = current_engine()._scheduler
        requests = [self._request((item,), {}, "start") for item in items]
        return [Run(scheduler, run_id) for run_id in scheduler.start_many(requests)]

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(self: Workflow[Concatenate[T, Q], R], instance: T, owner: type | None = None) -> Workflow[Q, R]: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> Self: ...  # of a static method
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """As for any function: a method of its instance."""
        return self._bind_to(instance)

    def with_options(self, *, id: str) -> Workflow[P, R]:
        """The same workflow with an id for one call: ``order_item.with_options(id="order-44")(order)``."""
        return self._copy(_fixed_id=require_name(id, "the id of a run"))

    def _request(self, args: tuple[Any, ...], kwargs: dict[str, Any], origin: str) -> Request:
        args = self._bound + args
        what = f"workflow {self.name!r}"
        arguments = self.signature.bind(args, kwargs, what)
        inputs = self.signature.dump_run_inputs(arguments, what)
        return Request(self, inputs, self._run_id(args, kwargs, arguments), origin, None, None)

    def _run_id(self, args: tuple[Any, ...], kwargs: dict[str, Any], arguments: dict[str, Any]) -> str | None:
        if self._fixed_id is not None or self._id is None:
            return self._fixed_id
        what = f"the id of a run of {self.name!r}"
        if not isinstance(self._id, str):
            return require_name(self.signature.call_with(self._id, args, kwargs), what)
        try:
            run_id = self._id.format(**self.signature.names_for_id(args, kwargs, arguments))
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            msg = f"{what} cannot be made from {self._id!r}: {error}"
            raise ValueError(msg) from error
        return require_name(run_id, what)

    # -- children -----------------------------------------------------------------------------------------------------

    def _call_child(self, scope: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        execution = scope.execution
        if self.is_async:
            require_async_run(execution, f"workflow {self.name!r}")
        scheduler = self._scheduler_of(execution)
        kind = "child"
        if not self.is_async:
            body = lambda request: _result_of_child(scheduler, request, execution)  # noqa: E731
            child = self._child(scope, args, kwargs, kind, body, self.signature.result)
            return drive(execution, take_place(scope, child, decide_step))

        async def run_child(request: Request) -> Any:
            import asyncio

            from ._running_async import drive_run_async

            task = asyncio.current_task()
            cancels_before = task.cancelling() if task is not None else 0

            def require_not_given_up() -> None:
                if execution.halted is None and task is not None and task.cancelling() > cancels_before:
                    raise asyncio.CancelledError  # the parent was cancelled meanwhile, and the child with it

            assert execution.branches is not None
            telling = execution.branches.telling
            try:
                join = partial(joined_async, scheduler, request)
                ending: Ending = await drive_run_async(scheduler.runtime, call(scheduler.runtime, request, join))
                if isinstance(ending.error, RunCancelledError) and execution.is_being_cancelled():
                    await telling.come_first()
            except RunBlockedError as error:
                await telling.come_first()
                require_not_given_up()
                raise Halt(error) from error
            except HALTS as error:  # given up or not: a child that has not ended is not left behind
                raise Halt(error) from error
            except Exception:
                require_not_given_up()
                raise
            require_not_given_up()
            return ending.result()

        child = self._child(scope, args, kwargs, kind, run_child, self.signature.result)
        return awaiting(execution, take_place(scope, child, decide_step), self.name)

    def _start_child(self, scope: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run[Any]:
        scheduler = self._scheduler_of(scope.execution)
        body = lambda request: _or_halt(lambda: _start(scheduler, request, scope.execution))  # noqa: E731
        child = self._child(scope, args, kwargs, "start", body, codec_for(str))
        run_id = drive(scope.execution, take_place(scope, child, decide_step))
        scope.aftermath.start(scope.name)
        try:
            scheduler.go_on_with(run_id)  # a replay starts nothing
        except HALTS as error:
            raise scope.execution.halt(error) from error
        return Run(scheduler, run_id)

    def _scheduler_of(self, execution: Execution) -> Scheduler:
        """Whose children are recorded in its own journal: in another one they could neither wake it nor end with it."""
        engine = current_engine()
        if engine.path != execution.journal.path:
            msg = (
                f"workflow {self.name!r} is called under an engine on {engine.path}, in the body of run "
                f"{execution.record.id!r} of {execution.journal.path}: a run calls and starts runs of its own journal. "
                "Do it in a step, where it is a run by itself"
            )
            raise RunConflictError(msg)
        return engine._scheduler

    def _child(
        self,
        scope: Branch,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        kind: str,
        body: Callable[[Request], Any],
        result: TypeCodec,
    ) -> Call:
        """A call of a workflow in a workflow is an operation whose body is the run of the child.

        The child's id comes from the place of the call, so that it is the same run again after a crash.
        """
        request = self._request(args, kwargs, "call" if kind == "child" else "start")
        execution = scope.execution
        run_id = request.run_id or idempotency_key(execution.record.id, scope.name, scope.position)
        request = request._replace(run_id=run_id, parent=execution, scope=scope)
        if execution.trusts_journal():
            request = _as_begun(request, execution.past.get((scope.name, scope.position)), kind)
        callee = Callee(kind, self.name, result, self.module, self.source, signature=self.signature)
        return Call(callee, body, (request,), inputs=request.inputs, child=json.dumps(request.run_id))


def _as_begun(request: Request, past: StepRecord | None, kind: str) -> Request:
    """The request for the run that the journal has as begun at this place, whatever the code makes of its id."""
    if past is None or past.status != "running" or past.kind != kind:
        return request
    run_id = request.run_id if past.output is None else json.loads(past.output)
    return request._replace(run_id=run_id, inputs=past.input or request.inputs)


def _or_halt(body: Callable[[], Any]) -> Any:
    try:
        return body()
    except HALTS as error:
        raise Halt(error) from error


def _start(scheduler: Scheduler, request: Request, parent: Execution) -> str:
    """Start a child. Where its parent was cancelled, and is yet to be told, it is so too, as those that were there."""
    run_id = scheduler.start(request)
    if parent.is_being_cancelled():
        from ._steering import cancel

        with contextlib.suppress(RunFinishedError):
            cancel(scheduler, record_of(scheduler.runtime, run_id))
    return run_id


def _result_of_child(scheduler: Scheduler, request: Request, parent: Execution) -> Any:
    course = call(scheduler.runtime, request, partial(joined, scheduler, request))
    try:
        ending: Ending = _or_halt(lambda: drive_run(scheduler.runtime, course))
    except Halt as halt:
        if isinstance(halt.error, RunBlockedError) and _or_halt(parent.is_being_cancelled):
            raise parent.cancellation() from halt.error  # it waits no longer for what does not end
        raise
    if isinstance(ending.error, RunCancelledError) and _or_halt(parent.is_being_cancelled):
        raise parent.cancellation() from ending.error  # with its parent, which is told so
    return ending.result()


async def _call_async(engine: Engine, request: Request) -> Any:
    from ._running_async import drive_run_async

    ending: Ending = await drive_run_async(engine._runtime, call(engine._runtime, request))
    return ending.result()


def _checked(run_id: Any, concurrency: Any, timeout: Any, what: str) -> tuple[int, float | None]:
    if isinstance(run_id, str):
        require_name(run_id, f"id of {what}")
    elif run_id is not None and not callable(run_id):
        msg = f"id of {what} is a format string or a callable of its arguments, not {run_id!r}"
        raise TypeError(msg)
    return slots(concurrency, f"concurrency of {what}"), seconds(timeout, f"timeout of {what}")


def _require_fields(template: str, workflow: Workflow[Any, Any]) -> None:
    """The fields of an id template are parameters of the workflow: checked where it is declared."""
    from string import Formatter

    known = workflow.signature.names
    if known is None:
        return
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
    *,
    name: str | None = None,
    id: str | MakesId | None = None,
    concurrency: int | None = None,
    timeout: float | dt.timedelta | None = None,
) -> Callable[[Callable[P, R]], Workflow[P, R]]: ...
@overload
def workflow(  # type: ignore[overload-cannot-match]  # it does for what takes more, or by keyword only
    *,
    name: str | None = None,
    id: Callable[..., str],
    concurrency: int | None = None,
    timeout: float | dt.timedelta | None = None,
) -> Callable[[Callable[P, R]], Workflow[P, R]]: ...
def workflow(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    id: Any = None,
    concurrency: int | None = None,
    timeout: float | dt.timedelta | None = None,
) -> Any:
    """Make a function a workflow: each execution is a run in the journal, which goes on after a crash.

    `name`: its name in the journal, the qualified name when not given. `id`: the id of a run, as a format string over
    the arguments (``"order-{order.id}"``) or a callable of them; without one the library chooses. `concurrency`: how
    many of its runs execute at a time in one engine; a run that waits for another does not count. `timeout`: seconds or
    a `timedelta` from the start of a run, however often it crashes meanwhile; then it is cancelled, and ends `failed`
    with `TimeoutError`. Raises `ValueError` or `TypeError` for bad options, and for a second workflow of the same name
    in another module.
    """
    if function is not None:
        return Workflow(function, name, id, concurrency, timeout)
    what = "a workflow" if name is None else f"workflow {require_name(name, 'the name of a workflow')!r}"
    _checked(id, concurrency, timeout, what)
    return lambda decorated: Workflow(decorated, name, id, concurrency, timeout)

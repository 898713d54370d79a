"""Names: of workflows and steps, of runs, and of the place of an operation inside its run.

An operation is found again by its place, a branch and a position counted at call time, and by its name. A branch is a
task of the run: "" is the workflow's own, "/fetch:1" the second task whose coroutine is called `fetch`, and so on down.
"""

import json
from _weakref import ref
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from ._codec import fingerprint, module_name
from ._model import HAS_RUN, RunRecord, StepRecord

if TYPE_CHECKING:
    from types import CodeType, FrameType

Place = tuple[str, int]
"""Branch and position of an operation."""
_SET_ASIDE: Final = "failed:"


class Declared(Protocol):
    """What a declaration is told apart by."""

    name: str
    module: str
    source: str


class DeclaredStep(Declared, Protocol):
    """The same of a step, and how it reads its values."""

    signature: Any


def default_name(function: Callable[..., Any]) -> str:
    """The qualified name without `<locals>`, so that moving a module breaks nothing."""
    if not hasattr(function, "__qualname__"):  # a partial may have been given one
        function = _whole(function)
    return str(getattr(function, "__qualname__", type(function).__qualname__)).replace("<locals>.", "")


def module_of(function: Callable[..., Any]) -> str:
    """The module of a function, as it is journaled: `__main__` under its own name."""
    return module_name(getattr(_whole(function), "__module__", None) or "")


def source_of(function: Callable[..., Any]) -> str:
    """The file of a function, "" where it has none."""
    function = _whole(function)
    while hasattr(function, "__wrapped__"):  # what a decorator made is written in the decorator's file
        function = _whole(function.__wrapped__)
    code = getattr(function, "__code__", None)
    return "" if code is None else str(code.co_filename)


def code_of(function: Callable[..., Any]) -> "CodeType | None":
    """What a call executes, also of a partial and of an object with `__call__`; `None` where that is no Python."""
    function = _whole(function)
    of_class: Any = type(function).__call__
    code: CodeType | None = getattr(function, "__code__", None) or getattr(of_class, "__code__", None)
    return code


def _whole(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself behind a partial, which has no name, module and code of its own."""
    while isinstance(function, partial):
        function = function.func
    return function


def require_name(name: object, what: str) -> str:
    """A name or id that the journal can hold: text, not empty, no control characters, no lone surrogates."""
    if not isinstance(name, str):
        msg = f"{what} is a text, not {name!r}"
        raise TypeError(msg)
    if not name or any(c < " " or "\x7f" <= c <= "\x9f" or "\ud800" <= c <= "\udfff" for c in name):
        msg = f"{what} must not be empty, and has no control characters or lone surrogates: {name!r}"
        raise ValueError(msg)
    return name


def claim_of(workflow: str, inputs: str) -> str:
    """What a call without an id looks for: the workflow and its inputs, less those that equal their default."""
    return fingerprint(f"{workflow} {inputs}")


def set_aside(claim: str | None) -> str | None:
    """The claim of a run that failed: no call looks for it, until a retry takes it up."""
    return None if claim is None else _SET_ASIDE + claim


def take_up(claim: str | None) -> str | None:
    """The claim of a run that is retried."""
    return None if claim is None else claim.removeprefix(_SET_ASIDE)


def idempotency_key(run_id: str, branch: str, position: int) -> str:
    """The same for all attempts of one operation, and for no other operation anywhere."""
    return fingerprint(f"{run_id}\n{branch}\n{position}")  # no name has a line break


def runs_called(run: RunRecord, steps: Iterable[StepRecord], children: list[RunRecord]) -> dict[Place, RunRecord]:
    """The run of each operation that called or started one, by its place; `children` are all of them.

    Its id is in the record of a start, and of a call until that has an outcome. Else it is the key of the operation, or
    what its workflow, or the code, made of something: then it is the first of the same inputs that was created since,
    and that ended as the operation did.
    """
    by_id = {child.id: child for child in children}
    alike: dict[tuple[str, str], list[RunRecord]] = {}
    for child in children:
        alike.setdefault((child.workflow, child.input), []).append(child)
    found: dict[Place, RunRecord] = {}
    for step in steps:
        if step.kind in HAS_RUN:
            has_id = step.kind == "start" or step.status == "running"
            own = json.loads(step.output) if has_id and step.output else None
            key = own or idempotency_key(run.id, step.branch, step.position)
            others = alike.get((step.name, step.input or ""), ())
            found_child = by_id.get(key) or min(others, key=partial(_how_unlikely, step), default=None)
            if found_child is not None:
                found[step.branch, step.position] = found_child
    return found


def _how_unlikely(step: StepRecord, child: RunRecord) -> tuple[bool, bool, float]:
    is_of_another_end = (child.status == "failed") != (step.status == "failed")
    return child.created_at < step.started_at, is_of_another_end, child.created_at


class Registry:
    """The workflows and steps that this program has declared."""

    def __init__(self) -> None:
        self.workflows: dict[str, Any] = {}
        self._steps: dict[tuple[str, str], str] = {}
        self._signatures: dict[tuple[str, str], list[ref[Any]]] = {}

    def declare_workflow(self, workflow: Declared) -> None:
        """Remember a workflow. One of the same name in another module is an error; the same one again replaces it."""
        before: Declared | None = self.workflows.get(workflow.name)
        if before is not None and before.module != workflow.module and not _same_source(before, workflow):
            msg = (
                f"two workflows are called {workflow.name!r}: one in module {before.module!r}, one in "
                f"{workflow.module!r}. The journal finds a workflow by its name: give one of them another, "
                "@durable.workflow(name=...)"
            )
            raise ValueError(msg)
        self.workflows[workflow.name] = workflow

    def declare_step(self, step: DeclaredStep) -> None:
        """Remember that a module declares a step of this name."""
        self._steps[step.module, step.name] = step.source
        living = self._signatures.setdefault((step.module, step.name), [])
        living.append(ref(step.signature, living.remove))  # a step in a function may be gone with it

    def has_step(self, module: str, name: str) -> bool:
        """Whether a module declares a step of this name."""
        return (module, name) in self._steps

    def signature_of(self, kind: str, module: str, name: str) -> Any:
        """How the declared step or workflow that an operation calls reads its values; `None` where none is known.

        Nor is it where there are several steps of the name, made by one function, that read theirs in different ways.
        """
        if kind == "step":
            found = [each() for each in tuple(self._signatures.get((module, name), ()))]
            living = [signature for signature in found if signature is not None]
            return living[-1] if living and all(each.reads_as(living[-1]) for each in living) else None
        workflow = self.workflows.get(name) if kind in HAS_RUN else None
        return workflow.signature if workflow is not None else None

    def is_other_step(self, module: str, step: Declared) -> bool:
        """Whether the step of this name in `module` is still declared, and is not `step` under another module name."""
        source = self._steps.get((module, step.name))
        return source is not None and not (source and source == step.source)


def _same_source(one: Declared, other: Declared) -> bool:
    return bool(one.source) and one.source == other.source


def listed(names: Iterable[str]) -> str:
    """Names for a message: 'a', 'b'."""
    return ", ".join(repr(name) for name in sorted(names))


def level_outside(frame: "FrameType") -> int:
    """The `stacklevel` of a warning given in `frame` that is to point at the code that called the library."""
    level = 1
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == __package__:
        level, frame = level + 1, frame.f_back
    return level

"""What annotations say: resolved late, and whether plain JSON already tells everything."""

import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, Final

from durable._codec.hooks import user_hooks

_SELF_DESCRIBING: Final = frozenset(
    {None, type(None), bool, int, float, str, list, dict, tuple, set, frozenset,
     typing.List, typing.Dict, typing.Tuple, typing.Set, typing.FrozenSet}  # noqa: UP006
)  # fmt: skip
UNIONS: Final = frozenset({typing.Union, types.UnionType})
_PLAIN_ORIGINS: Final = UNIONS | {list}


def resolve_annotations(function: Callable[..., Any]) -> dict[str, Any]:
    """Types of the parameters by name, and of `return`, as far as they can be resolved now.

    Called late, when names further down in the module exist. A closure's names are looked up too.
    An annotation that names what cannot be found (under TYPE_CHECKING, or local to another
    function) becomes `Any`, and spoils no other.
    """
    written = getattr(function, "__annotations__", None) or {}
    scope = getattr(_unwrapped(function), "__globals__", None)
    parameters = {p.__name__: p for p in getattr(function, "__type_params__", ())}
    local = {**parameters, **_closure(function)}
    return {name: _resolve(annotation, scope, local) for name, annotation in written.items()}


def _resolve(annotation: Any, scope: dict[str, Any] | None, local: dict[str, Any]) -> Any:
    alone = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(alone, scope, local, include_extras=True)["it"]
    except Exception:
        return Any


def _unwrapped(function: Any) -> Any:
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function


def _closure(function: Any) -> dict[str, Any]:
    """Variables of the enclosing functions that the function uses, as far as they are set."""
    own = _unwrapped(function)
    names = getattr(getattr(own, "__code__", None), "co_freevars", ())
    found = {}
    for name, cell in zip(names, getattr(own, "__closure__", None) or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return found


def annotation_name(annotation: Any) -> str:
    """What a message calls a type."""
    return str(annotation.__qualname__ if isinstance(annotation, type) else annotation)


def is_self_describing(annotation: Any) -> bool:
    """Whether the JSON of every value of this type tells the type without the annotation.

    True for JSON types, `Any`, and their lists, string-keyed dicts and unions: such values need
    no annotation, and no cattrs. A type for which the user has hooks needs them.
    """
    if says_nothing(annotation):
        return True
    if user_hooks.cover(annotation):
        return False
    if _is_hashable(annotation) and annotation in _SELF_DESCRIBING:
        return True
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return is_self_describing(arguments[0])
    if origin is typing.Literal:
        return all(type(choice) in {bool, int, str, type(None)} for choice in arguments)
    if origin is dict:
        return arguments[0] is str and is_self_describing(arguments[1])
    return origin in _PLAIN_ORIGINS and all(map(is_self_describing, arguments))


def says_nothing(annotation: Any) -> bool:
    """Whether it is missing, `Any`, `object`, or a name that was not resolved."""
    is_missing = getattr(annotation, "__qualname__", "") == "_empty"  # as inspect has it
    return annotation is Any or annotation is object or is_missing or isinstance(annotation, str)


def with_arguments(annotation: Any) -> Any:
    """A generic class without arguments as one of `Any`, as type checkers take it: so its other fields are fitted.

    Not a pydantic model, which would become a class that no other process finds.
    """
    parameters = getattr(annotation, "__parameters__", ()) if isinstance(annotation, type) else ()
    if not parameters or user_hooks.cover(annotation) or hasattr(annotation, "__pydantic_validator__"):
        return annotation
    return annotation[(Any,) * len(parameters)]


def names_in(annotation: Any) -> Iterator[str]:
    """Names in quotes that stand for types in it, or for itself."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, str):
        yield annotation
    elif isinstance(annotation, typing.ForwardRef):
        yield annotation.__forward_arg__
    elif origin is not typing.Literal:
        for argument in arguments[:1] if origin is typing.Annotated else arguments:
            yield from names_in(argument)


def _is_hashable(annotation: Any) -> bool:
    try:
        hash(annotation)
    except TypeError:
        return False
    return True

"""Whether a value already is of a type, much as a type checker sees it. Nothing is converted.

That is asked of what somebody sent, before it is read as its reader's type. Looked at are the items of containers, the
entries of a TypedDict, and the fields whose types are parameters of a generic; else the class says it all. Import it
late.
"""

import functools
import typing
from collections.abc import Iterable
from itertools import islice, repeat
from types import NoneType
from typing import Any, Final

import typing_extensions

from durable._codec.annotations import UNIONS, says_nothing
from durable._codec.classes import MOST_REMEMBERED, kind_of
from durable._codec.exact import identical
from durable._codec.hooks import user_hooks
from durable._codec.json_text import decode, encode
from durable._codec.records import parts_of
from durable._codec.tuples import items_of

Parts = Iterable[tuple[Any, Any]]
"""Parts of a value, each with the type that it has to be of."""

_QUALIFIERS: Final = frozenset(
    {typing.Annotated, typing.Final, typing.Required, typing.NotRequired, typing_extensions.ReadOnly}
)
_PROMOTED: Final[dict[type, tuple[type, ...]]] = {float: (float, int), complex: (complex, float, int)}
"""What type checkers take for a number of the type."""
_ITEMS_OF_ONE_TYPE: Final = frozenset({str, bytes, bytearray, range})
_NEVER: Final = ((None, typing.Never),)
"""Parts of what does not even have the right ones."""


def belongs(value: Any, annotation: Any) -> bool:
    """Whether the value is of the type. Of one with hooks of the user it is if these give it back as it was."""
    if type(value) is annotation or says_nothing(annotation) or isinstance(annotation, typing.TypeVar):
        return True
    if user_hooks.cover(annotation):
        return annotation in type(value).__mro__ or comes_back(value, annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in UNIONS:
        return any(belongs(value, choice) for choice in arguments)
    if origin is typing.Literal:
        return any(identical(value, choice) for choice in arguments)
    meant = _meant(annotation, origin, arguments)
    if meant is not annotation:
        return belongs(value, meant)
    cls = origin or annotation
    if hasattr(cls, "__required_keys__"):
        return type(value) is dict and _all_belong(_entries(value, cls, arguments))
    if not isinstance(cls, type):
        return False
    if getattr(cls, "_is_protocol", False):
        return True
    return _is_instance(value, cls) and _all_belong(_parts(value, cls, annotation, arguments))


def comes_back(value: Any, annotation: Any) -> bool:
    """Whether the converter gives the value back as it was. It does where the type says nothing of what is inside."""
    try:
        text = encode(user_hooks.unstructure(value, annotation))
        return identical(user_hooks.structure(decode(text), annotation), value)
    except Exception:
        return False


def _meant(annotation: Any, origin: Any, arguments: tuple[Any, ...]) -> Any:
    """What an alias, a NewType or a qualifier stands for."""
    if origin in _QUALIFIERS:
        return arguments[0]
    alias = origin or annotation
    if hasattr(alias, "__value__"):
        return filled(alias.__value__, dict(zip(alias.__type_params__, arguments, strict=False)))
    return NoneType if annotation is None else getattr(annotation, "__supertype__", annotation)


def filled(annotation: Any, types: dict[Any, Any]) -> Any:
    """The type with its parameters replaced."""
    if isinstance(annotation, typing.TypeVar):
        return types.get(annotation, annotation)
    parameters = () if isinstance(annotation, type) else getattr(annotation, "__parameters__", ())
    return annotation[tuple(types.get(each, each) for each in parameters)] if parameters else annotation


def _is_instance(value: Any, cls: type) -> bool:
    try:
        return isinstance(value, _PROMOTED.get(cls, cls))
    except TypeError:  # of a class that refuses to be asked
        return False


def _all_belong(parts: Parts) -> bool:
    return all(belongs(part, annotation) for part, annotation in parts)


def _parts(value: Any, cls: Any, annotation: Any, arguments: tuple[Any, ...]) -> Parts:
    """Of an instance of the class, what its arguments speak of."""
    if cls is tuple and hasattr(annotation, "__args__"):
        return _items_of_tuple(value, arguments)
    if not arguments:
        return ()
    if kind_of(cls) in {"record", "tuple"}:
        return _fields(value, cls, arguments)
    if type(value) is dict and len(arguments) > 1:
        return (pair for entry in value.items() for pair in zip(entry, arguments, strict=False))
    if type(value) in _ITEMS_OF_ONE_TYPE:
        return zip(islice(value, 1), arguments, strict=False)
    is_container = type(value) in {list, dict, set, frozenset} or isinstance(value, tuple)
    return zip(value, repeat(arguments[0])) if is_container else ()


def _items_of_tuple(value: tuple[Any, ...], arguments: tuple[Any, ...]) -> Parts:
    types = items_of(arguments).over(len(value))
    return _NEVER if types is None else zip(value, types, strict=True)


def _entries(value: dict[Any, Any], cls: Any, arguments: tuple[Any, ...]) -> Parts:
    """Of a dict, what a TypedDict says of it."""
    hints = hints_of(cls)
    needed = {name for name, hint in hints.items() if _is_required(hint, name in cls.__required_keys__)}
    if not needed <= value.keys() <= hints.keys():
        return _NEVER
    types = dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False))
    return ((part, filled(hints[name], types)) for name, part in value.items())


def _is_required(hint: Any, otherwise: bool) -> bool:
    origin = typing.get_origin(hint)
    if origin in {typing.Required, typing.NotRequired}:
        return origin is typing.Required
    return _is_required(typing.get_args(hint)[0], otherwise) if origin in _QUALIFIERS else otherwise


def _fields(value: Any, cls: Any, arguments: tuple[Any, ...]) -> Parts:
    """Of an object, the fields whose types have parameters."""
    types = dict(zip(cls.__parameters__, arguments, strict=False))
    parts = value._asdict() if kind_of(cls) == "tuple" else parts_of(value)
    meant = {name: filled(hint, types) for name, hint in hints_of(cls).items()}
    return ((parts[name], meant[name]) for name, hint in hints_of(cls).items() if name in parts and meant[name] != hint)


def hints_of(cls: Any) -> dict[str, Any]:
    """The types of its fields; those of none where what one of them names cannot be found: it stands for any type."""
    try:
        return _resolved(cls)
    except Exception:  # of names in quotes, which may be any expression
        return {}


@functools.lru_cache(MOST_REMEMBERED)
def _resolved(cls: Any) -> dict[str, Any]:
    try:
        return typing_extensions.get_type_hints(cls, include_extras=True)
    except NameError:  # of a class inside a function, which may name itself
        return typing_extensions.get_type_hints(cls, localns={cls.__name__: cls}, include_extras=True)

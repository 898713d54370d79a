"""`PlainCodec`: values of types whose JSON tells all, such as `int` and `list[str]`, and whether they fit.

Their text needs no annotation to be read. It is held against the annotation nevertheless, since the annotation may have
changed since it was written. What never fitted, a `None` from a function that says `-> str`, is marked with
`{"$value": ...}`, so that it is told from what no longer fits: first run equals replay.
"""

import typing
from collections.abc import Callable, Iterable
from types import NoneType
from typing import Any, Final

from durable._codec.annotations import UNIONS, annotation_name
from durable._codec.json_text import decode
from durable._codec.misfit import Misfit, described, found
from durable._codec.tagged import untag
from durable._codec.untyped import DUMPS, TypeCodec

Fits = Callable[[Any], bool]

_ACCEPTED: Final[dict[Any, tuple[type, ...]]] = {
    bool: (bool,),
    int: (int, bool),
    float: (float, int, bool),
    str: (str,),
    NoneType: (NoneType,),
    None: (NoneType,),
}
"""As type checkers see it: a bool is an int, and an int will do for a float."""
_CONTAINERS: Final = (list, dict, tuple, set, frozenset)
_TAGGED: Final = '{"$'


class PlainCodec(TypeCodec):
    """Text of values that describe themselves, held against an annotation that names plain types only."""

    __slots__ = ("_atoms", "_fits", "annotation")

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation
        self._fits = _fits(annotation)
        self._atoms = {cls: DUMPS[cls] for cls in _atoms(annotation)}
        """How the plain types are written that fit whatever their value is."""

    def dump(self, value: Any) -> str:
        """The text of a value, from which `load` surely makes an identical one."""
        write = self._atoms.get(type(value))
        return write(value) if write is not None else self.dump_load(value)[0]

    def load(self, text: str) -> Any:
        """The value of a text, as a fresh object."""
        try:
            value = decode(text)
            if type(value) in self._atoms:
                return value
            if '"$' in text:
                value = untag(value)
            if text.startswith(_TAGGED) or self._fits(value):
                return value
            reason = f"the journal has {described(value)}, and the code says {annotation_name(self.annotation)}"
            raise Misfit(reason)
        except Exception as error:
            raise found(error).explained() from error

    def dump_load(self, value: Any) -> tuple[str, Any]:
        """The text, and what `load` makes of it."""
        write = self._atoms.get(type(value))
        if write is not None:
            return write(value), value
        text, back = TypeCodec.dump_load(self, value)
        return (text if text.startswith(_TAGGED) or self._fits(back) else f'{{"$value":{text}}}'), back


def _atoms(annotation: Any) -> tuple[type, ...]:
    """The plain types of which every value fits."""
    annotation = _bare(annotation)
    if annotation in _ACCEPTED:
        return _ACCEPTED[annotation]
    if _is_union(annotation):
        return tuple(cls for choice in typing.get_args(annotation) for cls in _atoms(choice))
    return ()


def _fits(annotation: Any) -> Fits:
    """Whether a value is what the annotation says, by its type alone where it names a container without its items."""
    annotation = _bare(annotation)
    if annotation in _ACCEPTED:
        accepted = frozenset(_ACCEPTED[annotation])
        return lambda value: type(value) in accepted
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        choices = [(type(choice), choice) for choice in arguments]  # no set: the value may be a list
        return lambda value: (type(value), value) in choices
    if _is_union(annotation):
        choices_fit = [_fits(choice) for choice in arguments]
        return lambda value: any(fits(value) for fits in choices_fit)
    container: Any = origin or annotation
    if container not in _CONTAINERS:  # `Any` and its like
        return lambda _: True
    if not arguments:
        return lambda value: isinstance(value, container)
    items_fit = _all_fit(arguments[-1])
    if container is dict:
        return lambda value: type(value) is dict and items_fit(value.values())
    return lambda value: type(value) is list and items_fit(value)


def _all_fit(annotation: Any) -> Callable[[Iterable[Any]], bool]:
    atoms = frozenset(_atoms(annotation))
    fits = _fits(annotation)
    return lambda values: atoms.issuperset(map(type, values)) or all(map(fits, values))


def _bare(annotation: Any) -> Any:
    is_annotated = typing.get_origin(annotation) is typing.Annotated
    return typing.get_args(annotation)[0] if is_annotated else annotation


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in UNIONS

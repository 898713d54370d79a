"""Types that leave a choice: a union of types, and the values that a `Literal` lists."""

import typing
from collections.abc import Callable
from enum import Enum
from types import NoneType
from typing import Any, Final

from durable._codec.annotations import UNIONS, annotation_name
from durable._codec.belonging import belongs
from durable._codec.exact import identical
from durable._codec.misfit import Misfit
from durable._codec.tagged import untag

_ATOMS: Final = frozenset({str, int, bool, NoneType})
"""Of what a `Literal` may list, what is JSON as it stands."""


def is_union(annotation: Any) -> bool:
    """Whether it is a union of more than one type and None, which cattrs cannot tell apart."""
    members = typing.get_args(annotation)
    is_optional = len(members) == 2 and type(None) in members  # noqa: PLR2004 - X and None
    return typing.get_origin(annotation) in UNIONS and not is_optional


def read_union(annotation: Any, converter: Any) -> Callable[[Any, Any], Any]:
    """A factory of hooks for what was written as a value of its own type."""
    members = typing.get_args(annotation)

    def read(tree: Any, _annotation: Any) -> Any:
        value = untag(tree)
        if any(belongs(value, member) for member in members):
            return value
        return only_fit(tree, members, converter)

    return read


def only_fit(tree: Any, members: tuple[Any, ...], converter: Any) -> Any:
    """The value of a plain tree, as a signal has it, by the one member that it fits."""
    fits = []
    for member in members:
        try:
            fits.append(converter.structure(tree, member))
        except Exception:  # noqa: S112 - another member may fit
            continue
    if len(fits) != 1:
        names = " | ".join(map(annotation_name, members))
        reason = f"fits {'more than one' if fits else 'none'} of {names}"
        raise Misfit(reason)
    return fits[0]


def is_literal(annotation: Any) -> bool:
    """Whether it lists its values."""
    return typing.get_origin(annotation) is typing.Literal


def write_literal(_annotation: Any, converter: Any) -> Callable[[Any], Any]:
    """A factory of hooks that write a value as its own type says."""
    unstructure: Callable[[Any], Any] = converter.unstructure
    return unstructure


def read_literal(annotation: Any, converter: Any) -> Callable[[Any, Any], Any]:
    """The same, to read exactly what is listed: `True` is not 1."""
    choices = typing.get_args(annotation)
    plain = {(type(choice), choice) for choice in choices if type(choice) in _ATOMS}
    others = [choice for choice in choices if type(choice) not in _ATOMS]

    def read(tree: Any, _annotation: Any) -> Any:
        if type(tree) in _ATOMS and (type(tree), tree) in plain:
            return tree
        for choice in others:
            written = converter.unstructure(choice)  # itself, if it is a member of an enum and a `str` as well
            if identical(tree, written.value if isinstance(written, Enum) else written):
                return choice
        names = ", ".join(map(repr, choices))
        reason = f"{'one of ' if len(choices) > 1 else ''}{names} is expected here, not {tree!r:.100}"
        raise Misfit(reason)

    return read

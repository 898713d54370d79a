"""What stands in a tuple, as its type says: `*tuple[str, ...]` in it is as many items as there is room for."""

import typing
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import typing_extensions

_UNPACK: Final = frozenset({typing.Unpack, typing_extensions.Unpack})


class Items(NamedTuple):
    """In this order; `repeated` is one or none."""

    before: tuple[Any, ...] = ()
    repeated: tuple[Any, ...] = ()
    after: tuple[Any, ...] = ()

    def each(self, make: Callable[[Any], Any]) -> "Items":
        """The same with what is made of each of them."""
        return Items(*(tuple(map(make, part)) for part in self))

    def over(self, length: int) -> tuple[Any, ...] | None:
        """One for each item of a tuple of this length; `None` where it is too long or too short."""
        room = length - len(self.before) - len(self.after)
        if room < 0 or (room and not self.repeated):
            return None
        return (*self.before, *self.repeated * room, *self.after)


def items_of(arguments: tuple[Any, ...]) -> Items:
    """Those of `tuple[...]` with these arguments."""
    if arguments[1:] == (...,):
        return Items(repeated=arguments[:1])
    for place, argument in enumerate(arguments):
        inner = _unpacked(argument)
        if inner is not None:
            rest = items_of(arguments[place + 1 :])
            before = arguments[:place] + inner.before
            if inner.repeated:  # then there is none in the rest
                return Items(before, inner.repeated, inner.after + rest.before)
            return Items(before + rest.before, rest.repeated, rest.after)
    return Items(arguments)


def _unpacked(argument: Any) -> Items | None:
    """Those of what has a star in front of it; `None` for a type. What a `TypeVarTuple` stands for is not known."""
    if typing.get_origin(argument) in _UNPACK:
        (argument,) = typing.get_args(argument)
    elif not getattr(argument, "__unpacked__", False):
        return None
    return items_of(typing.get_args(argument)) if typing.get_origin(argument) is tuple else Items(repeated=(Any,))

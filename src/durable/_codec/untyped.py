"""`TypeCodec`: values to self-describing text and back, with short cuts for plain JSON."""

from collections.abc import Callable
from types import NoneType
from typing import Any, Final

from durable._codec.exact import difference, identical
from durable._codec.json_text import bindable, decode, encode, escape_string
from durable._codec.misfit import found
from durable._codec.tagged import tag, untag
from durable.errors import SerializationError

_ATOMS: Final = frozenset({str, int, bool, float, NoneType})


class TypeCodec:
    """Text of values that describe themselves. Typed codecs are made on top of it.

    Errors of all three methods are SerializationError, with the path and the reason.
    """

    __slots__ = ()

    def dump(self, value: Any) -> str:
        """The text of a value, from which `load` surely makes an identical one."""
        write = DUMPS.get(type(value))
        return write(value) if write is not None else self.dump_load(value)[0]

    def load(self, text: str) -> Any:
        """The value of a text, as a fresh object."""
        try:
            tree = decode(text)
            return untag(tree) if '"$' in text else tree
        except Exception as error:
            raise found(error).explained() from error

    def dump_load(self, value: Any) -> tuple[str, Any]:
        """The text, and what `load` makes of it: the value itself if it can never change."""
        write = DUMPS.get(type(value))
        if write is not None:
            return write(value), value
        try:
            if _is_plain(value):
                text = encode(value)
                return text, decode(text)
        except (ValueError, RecursionError):
            pass  # nan, a long int, a cycle, ...: the way through the tags says which and where
        return _dump_tagged(value)


def _dump_tagged(value: Any) -> tuple[str, Any]:
    try:
        text = encode(tag(value))
        back = untag(decode(text))
        if identical(value, back):
            return text, back
    except Exception as error:
        raise found(error).explained() from error
    message = (
        f"${difference(value, back)}: this would not come back as it was; journal plain data, or"
        " register hooks for its class on durable.converter"
    )
    raise SerializationError(message)


def _dump_text(value: str) -> str:
    text = escape_string(value)
    if text.isascii():
        return text
    try:
        return bindable(text)
    except ValueError:
        return encode(tag(value))


def _dump_int(value: int) -> str:
    try:
        return int.__repr__(value)
    except ValueError:  # longer than Python likes to print
        return encode(tag(value))


def _dump_float(value: float) -> str:
    return float.__repr__(value) if value - value == 0 else encode(tag(value))


DUMPS: Final[dict[type, Callable[[Any], str]]] = {
    str: _dump_text,
    int: _dump_int,
    bool: lambda value: "true" if value else "false",
    float: _dump_float,
    NoneType: lambda _: "null",
}


def _is_plain(value: Any) -> bool:
    """Whether the value is JSON as it stands, so that its text needs no check."""
    cls = type(value)
    if cls is dict:
        for key in value:
            if type(key) is not str or key.startswith("$"):
                return False
        value = value.values()
    elif cls is not list:
        return cls in _ATOMS
    for part in value:  # noqa: SIM110 - faster than `all()` of a generator
        if type(part) not in _ATOMS and not _is_plain(part):
            return False
    return True

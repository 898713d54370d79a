"""JSON text that SQLite can bind and Python reads back exactly.

A *tree* is what JSON can say: `None`, `bool`, `int`, `float`, `str`, lists, and dicts whose keys
are `str`. Text is compact, keeps letters beyond ASCII as they are, and is valid UTF-8.
The encoder and the scanner are made once: making them costs more than most values do.
"""

import re
from json import decoder, encoder
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SURROGATE: Final = re.compile("[\\ud800-\\udfff]")
_INSIDE_PAIR: Final = re.compile("(?<=[\\ud800-\\udbff])(?=[\\udc00-\\udfff])")


def _refuse_value(value: object) -> NoReturn:
    msg = f"a {type(value).__qualname__} is not JSON"
    raise TypeError(msg)


def _refuse_constant(name: str) -> NoReturn:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


escape_string: Final = cast("Callable[[str], str]", vars(encoder)["encode_basestring"])
"""A `str` as JSON text with its quotes; lone surrogates are left to `bindable`."""

# The arguments are those that `JSONEncoder.iterencode` gives it: no markers of cycles (they end as
# RecursionError, and are explained then), no indent, no sorting, no skipping, and no NaN.
_chunks: Final = cast(
    "Callable[[Any, int], Sequence[str]]",
    vars(encoder)["c_make_encoder"](None, _refuse_value, escape_string, None, ":", ",", False, False, False),
)
_scan: Final = cast(
    "Callable[[str, int], tuple[Any, int]]",
    vars(decoder.JSONDecoder(parse_constant=_refuse_constant))["scan_once"],
)


def encode(tree: Any) -> str:
    """The text of a tree.

    Raises ValueError for what JSON text cannot keep (nan, infinities, integers beyond the limit of
    digits, a surrogate pair that is two characters), TypeError for what is no tree, and
    RecursionError for a cycle or too many levels.
    """
    text = "".join(_chunks(tree, 0))
    return text if text.isascii() else bindable(text)


def bindable(text: str) -> str:
    """The same JSON text with lone surrogates escaped, since SQLite takes only valid UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        if splits_a_pair(text):
            msg = "a surrogate pair that is two characters would be read back as one"
            raise ValueError(msg) from None
        return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    return text


def splits_a_pair(text: str) -> bool:
    """Whether two surrogates stand side by side that JSON would join to one character."""
    return not text.isascii() and _INSIDE_PAIR.search(text) is not None


def split_pairs(text: str) -> list[str]:
    """Pieces that JSON keeps apart; `"".join` puts them together again."""
    return _INSIDE_PAIR.split(text)


def decode(text: str) -> Any:
    """The tree of a text. Raises ValueError when the text is not JSON."""
    try:
        tree, end = _scan(text, 0)
    except StopIteration as stop:
        msg = f"no JSON value at character {stop.value}"
        raise ValueError(msg) from None
    if end != len(text):
        msg = f"text goes on after the JSON value, at character {end}"
        raise ValueError(msg)
    return tree

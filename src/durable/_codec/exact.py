"""Whether two values are the same to the last detail, without asking their `==`.

Types are compared exactly and deeply: `1`, `True` and `1.0` differ, `0.0` and `-0.0` differ, a
tuple is no list, and nan is nan. A user's `__eq__` is never called, since it may say anything.
What is compared is a value and what was read for it, in this order: leaves.py says of what time zone that matters.
"""

from collections.abc import Callable, Iterable
from itertools import count
from operator import eq
from types import NoneType
from typing import Any, Final

from durable._codec.classes import kind_of
from durable._codec.json_text import encode
from durable._codec.leaves import comes_back, leaf_of
from durable._codec.misfit import key_step
from durable._codec.records import parts_of
from durable._codec.tagged import tag


def identical(one: Any, other: Any) -> bool:
    """Whether the two cannot be told apart by type and content; an opaque value never is."""
    cls = type(one)
    if cls is not type(other):
        return False
    compare = _COMPARE.get(cls)
    if compare is not None:
        return compare(one, other)
    return _identical_objects(one, other, cls)


def difference(one: Any, other: Any) -> str:
    """The steps to the first place where two values differ that are not identical."""
    if type(one) is type(other):
        for step, mine, its in _pairs(one, other):
            if not identical(mine, its):
                return step + difference(mine, its)
    return ""


def _pairs(one: Any, other: Any) -> Iterable[tuple[str, Any, Any]]:
    if isinstance(one, (list, tuple)):
        return map(lambda place, mine, its: (f"[{place}]", mine, its), count(), one, other)
    mine, its = (x if isinstance(x, dict) else _parts(x) for x in (one, other))
    return ((key_step(key), mine[key], its[key]) for key in mine if key in its)


def _parts(value: Any) -> dict[str, Any]:
    return parts_of(value) if kind_of(type(value)) == "record" else {}


def _identical_objects(one: Any, other: Any, cls: type) -> bool:
    leaf = leaf_of(cls)
    if leaf is not None:
        return comes_back(leaf, one, other)
    kind = kind_of(cls)
    if kind == "record":
        return _identical_parts(parts_of(one), parts_of(other))
    if kind == "tuple":
        no_more = not getattr(one, "__dict__", None)
        return no_more and _identical_items(one, other)
    if kind == "enum":
        return one is other or one.value == other.value
    if kind == "error":
        from durable._codec.exceptions import is_read_back  # exceptions are made of values again

        return is_read_back(one, other)
    return kind != "opaque" and _same_text(one, other)


def _same_text(one: Any, other: Any) -> bool:
    return encode(tag(one)) == encode(tag(other))


def _identical_floats(one: float, other: float) -> bool:
    return repr(one) == repr(other)


def _identical_items(one: Any, other: Any) -> bool:
    return len(one) == len(other) and all(map(identical, one, other))


def _identical_members(one: Any, other: Any) -> bool:
    mine, its = (sorted(members, key=lambda member: encode(tag(member))) for members in (one, other))
    return _identical_items(mine, its)


def _identical_dicts(one: dict[Any, Any], other: dict[Any, Any]) -> bool:
    """The order of keys counts: users see it."""
    return _identical_items(list(one), list(other)) and all(map(identical, one.values(), other.values()))


def _identical_parts(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Attributes of an object, whose order nobody sees."""
    if one.keys() != other.keys():
        return False
    return all(identical(part, other[name]) for name, part in one.items())


_COMPARE: Final[dict[type, Callable[[Any, Any], bool]]] = {
    NoneType: eq,
    bool: eq,
    int: eq,
    str: eq,
    float: _identical_floats,
    list: _identical_items,
    tuple: _identical_items,
    set: _identical_members,
    frozenset: _identical_members,
    dict: _identical_dicts,
}

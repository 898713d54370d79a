"""The self-describing form: a tree that tells the type of everything in it.

JSON types stand for themselves. Everything else is an object whose first key starts with `$`:

    {"$tuple": [...]}  {"$set": [...]}  {"$frozenset": [...]}  {"$dict": [[key, value], ...]}
    {"$int": "0x..."}  {"$float": "nan"}  {"$str": [piece, piece]}  {"$datetime": ...} (leaves.py)
    {"$type": "module:Class", "field": ..., "$attributes": {...}}     records and named tuples
    {"$enum": "module:Class", "name": ...}   or   "value": ...        the latter for flags
    {"$hooked": "module:Class", "value": ...}                         by the user's hooks
    {"$error": {...}}                                                 exceptions.py
    {"$value": ...}                                                   marks the form, see typed.py

A dict that has a key starting with `$` is written as `$dict`, so that it is not mistaken.
"""

import enum
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from types import NoneType
from typing import Any, Final

from durable._codec.classes import MOST_REMEMBERED, Kind, find_class, kind_of, remember
from durable._codec.hooks import user_hooks
from durable._codec.json_text import encode, split_pairs, splits_a_pair
from durable._codec.leaves import LEAVES, Leaf, leaf_of
from durable._codec.misfit import Misfit, attribute_step, described, key_step, located
from durable._codec.records import parts_of, plan_of, rebuild

_MANY_BITS: Final = 2000
"""A longer int is written in hexadecimal: Python may refuse to read thousands of decimals."""

_FAILURES: Final = (Misfit, RecursionError)


def tag(value: Any) -> Any:
    """The tree of a value. Raises Misfit, with the path, where something in it cannot be held."""
    write = _writers.get(type(value)) or _writer_of(type(value))
    return write(value)


def untag(tree: Any) -> Any:
    """The value of a tree. Raises Misfit, with the path, where it does not fit this program."""
    kind = type(tree)
    if kind is dict:
        for first in tree:
            if first.startswith("$"):
                return _read_tagged(first, tree)
            break
        return _untag_parts(tree, tree)
    return _untag_items(tree) if kind is list else tree


def stable(trees: Iterable[Any]) -> list[Any]:
    """Members of a set in an order that does not depend on the seed of hashes."""
    return sorted(trees, key=encode)


# --- writing -------------------------------------------------------------------------------------


def _tag_atom(value: Any) -> Any:
    return value


def _tag_int(value: int) -> Any:
    return value if value.bit_length() <= _MANY_BITS else {"$int": hex(value)}


def _tag_float(value: float) -> Any:
    return value if value - value == 0 else {"$float": repr(value)}


def _tag_str(value: str) -> Any:
    return {"$str": split_pairs(value)} if splits_a_pair(value) else value


def _tag_items(value: Iterable[Any]) -> list[Any]:
    items: list[Any] = []
    for item in value:
        try:
            items.append(tag(item))
        except _FAILURES as error:
            raise located(error, f"[{len(items)}]", value) from None
    return items


def _tag_parts(parts: dict[Any, Any], owner: Any) -> dict[Any, Any]:
    """Trees of the values of a dict, or of the attributes of an object, under the same keys."""
    trees = {}
    for key, part in parts.items():
        try:
            trees[key] = tag(part)
        except _FAILURES as error:
            raise located(error, key_step(key), owner) from None
    return trees


def _tag_dict(value: dict[Any, Any]) -> Any:
    if all(map(_is_plain_key, value)):
        return _tag_parts(value, value)
    trees = _tag_parts(value, value).values()
    return {"$dict": list(map(lambda key, tree: [key, tree], _tag_items(value), trees))}


def _is_plain_key(key: Any) -> bool:
    return type(key) is str and not key.startswith("$") and not splits_a_pair(key)


def _tag_record(value: Any) -> Any:
    fields = plan_of(type(value)).fields
    trees = _tag_parts(parts_of(value), value)
    tree: dict[str, Any] = {"$type": remember(type(value))}
    tree.update((name, trees.pop(name)) for name in fields if name in trees)
    if trees:
        tree["$attributes"] = trees
    return tree


def _tag_named_tuple(value: Any) -> Any:
    if getattr(value, "__dict__", None):
        reason = f"{described(value)} with attributes beside its fields cannot be journaled"
        raise Misfit(reason)
    parts = dict(zip(value._fields, value, strict=True))
    return {"$type": remember(type(value)), **_tag_parts(parts, value)}


def _tag_enum(value: enum.Enum) -> Any:
    name = remember(type(value))
    if isinstance(value, enum.Flag):
        return {"$enum": name, "value": value.value}
    return {"$enum": name, "name": value.name}


def _tag_hooked(value: Any) -> Any:
    return {"$hooked": remember(type(value)), "value": tag(user_hooks.unstructure(value))}


def _tag_error(value: BaseException) -> Any:
    from durable._codec.exceptions import describe  # exceptions are made of values again

    return {"$error": describe(value)}


def _tag_opaque(value: Any) -> Any:
    todo = "use plain data (JSON types, dataclasses and their like), or register hooks for it on durable.converter"
    if isinstance(value, Awaitable):
        todo = "await it, and use what it returns; a plain function around an async one has to be async too"
    reason = f"{described(value)} cannot be journaled; {todo}"
    raise Misfit(reason)


def _tag_leaf(leaf: Leaf, value: Any) -> Any:
    return {leaf.tag: leaf.write(value)}


_BUILT_IN: Final[dict[type, Callable[[Any], Any]]] = {
    NoneType: _tag_atom,
    bool: _tag_atom,
    int: _tag_int,
    float: _tag_float,
    str: _tag_str,
    list: _tag_items,
    tuple: lambda value: {"$tuple": _tag_items(value)},
    set: lambda value: {"$set": stable(_tag_items(value))},
    frozenset: lambda value: {"$frozenset": stable(_tag_items(value))},
    dict: _tag_dict,
}
_KIND_WRITERS: Final[dict[Kind, Callable[[Any], Any]]] = {
    "hooked": _tag_hooked,
    "error": _tag_error,
    "enum": _tag_enum,
    "tuple": _tag_named_tuple,
    "record": _tag_record,
    "opaque": _tag_opaque,
}
_writers: dict[type, Callable[[Any], Any]] = dict(_BUILT_IN)


def _forget_writers() -> None:
    _writers.clear()
    _writers.update(_BUILT_IN)


user_hooks.on_change(_forget_writers)


def _writer_of(cls: type) -> Callable[[Any], Any]:
    if len(_writers) >= MOST_REMEMBERED:
        _forget_writers()
    leaf = leaf_of(cls)
    write = _writers[cls] = partial(_tag_leaf, leaf) if leaf else _KIND_WRITERS[kind_of(cls)]
    return write


# --- reading -------------------------------------------------------------------------------------


def _untag_items(trees: list[Any]) -> list[Any]:
    items: list[Any] = []
    for tree in trees:
        try:
            items.append(untag(tree))
        except _FAILURES as error:
            raise located(error, f"[{len(items)}]", trees) from None
    return items


def _untag_parts(trees: dict[str, Any], owner: Any) -> dict[str, Any]:
    parts = {}
    for key, tree in trees.items():
        try:
            parts[key] = untag(tree)
        except _FAILURES as error:
            raise located(error, attribute_step(key), owner) from None
    return parts


def _read_tagged(first: str, tree: dict[str, Any]) -> Any:
    read = _READERS.get(first)
    if read is None:
        reason = f"{first!r} is no form that this version reads; was it written by a newer one?"
        raise Misfit(reason)
    try:
        return read(tree)
    except _FAILURES:
        raise
    except Exception as error:
        reason = f"the journaled {first} cannot be read ({type(error).__name__}: {error})"
        raise Misfit(reason) from error


def _untag_dict(tree: dict[str, Any]) -> dict[Any, Any]:
    parts: dict[Any, Any] = {}
    for key, part in tree["$dict"]:
        own = untag(key)
        try:
            parts[own] = untag(part)
        except _FAILURES as error:
            raise located(error, key_step(own), tree) from None
    return parts


def _untag_type(tree: dict[str, Any]) -> Any:
    cls = find_class(tree["$type"], "record", "tuple")
    attributes = _untag_parts(tree.get("$attributes", {}), tree)
    own = {name: part for name, part in tree.items() if not name.startswith("$")}
    parts = _untag_parts(own, tree)
    if kind_of(cls) == "record":
        return rebuild(cls, parts, attributes)
    wanted: dict[str, Any] = {**cls._field_defaults, **parts}
    if wanted.keys() != set(cls._fields):
        odd = min(wanted.keys() ^ set(cls._fields))
        reason = f"field {odd!r} is not both in {cls.__qualname__} and in the journal"
        raise Misfit(reason)
    return tuple.__new__(cls, [wanted[name] for name in cls._fields])


def _untag_enum(tree: dict[str, Any]) -> Any:
    cls = find_class(tree["$enum"], "enum")
    if "value" in tree:
        return cls(tree["value"])
    member = cls.__members__.get(tree["name"])
    if member is None:
        reason = f"{cls.__qualname__} has no member {tree['name']!r} any more"
        raise Misfit(reason)
    return member


def _untag_hooked(tree: dict[str, Any]) -> Any:
    cls, value = find_class(tree["$hooked"], "hooked"), untag(tree["value"])
    import durable._codec.conversion  # noqa: F401 - fills the hooks: this may be the first value that is read

    return user_hooks.structure(value, cls)


def _untag_error(tree: dict[str, Any]) -> Any:
    from durable._codec.exceptions import restore  # exceptions are made of values again

    return restore(tree["$error"])


def _untag_leaf(leaf: Leaf, tree: dict[str, Any]) -> Any:
    return leaf.read(tree[leaf.tag])


_READERS: Final[dict[str, Callable[[dict[str, Any]], Any]]] = {
    "$int": lambda tree: int(tree["$int"], 16),
    "$float": lambda tree: float(tree["$float"]),
    "$str": lambda tree: "".join(tree["$str"]),
    "$tuple": lambda tree: tuple(_untag_items(tree["$tuple"])),
    "$set": lambda tree: set(_untag_items(tree["$set"])),
    "$frozenset": lambda tree: frozenset(_untag_items(tree["$frozenset"])),
    "$dict": _untag_dict,
    "$type": _untag_type,
    "$enum": _untag_enum,
    "$hooked": _untag_hooked,
    "$error": _untag_error,
    "$value": lambda tree: untag(tree["$value"]),
    "$opaque": lambda tree: tree["$opaque"],
    **{leaf.tag: partial(_untag_leaf, leaf) for leaf in LEAVES},
}

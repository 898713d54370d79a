"""Hooks for containers, and for types that say too little: what `conversion.py` adds to cattrs.

Each row of `SHAPES` is a predicate on types and two factories. A factory takes a type and the
converter and returns a hook: one makes a tree of a value, the other a value of a tree and the
type. The latter are strict, and add their step to the path of what fails inside.
"""

import typing
from collections import abc
from collections.abc import Callable
from operator import call
from typing import TYPE_CHECKING, Any, Final, Never, cast

from durable._codec.annotations import with_arguments
from durable._codec.belonging import filled, hints_of
from durable._codec.choices import is_literal, is_union, read_literal, read_union, write_literal
from durable._codec.classes import kind_of
from durable._codec.leaves import leaf_of
from durable._codec.misfit import Misfit, described, key_step, type_name
from durable._codec.tagged import stable, tag, untag
from durable._codec.tuples import items_of

if TYPE_CHECKING:
    from durable._codec.leaves import Leaf

Write = Callable[[Any], Any]
Read = Callable[[Any, Any], Any]

_LISTS: Final = frozenset({list, abc.Sequence, abc.MutableSequence, abc.Iterable, abc.Collection})
_SETS: Final = {set: set, frozenset: frozenset, abc.Set: set, abc.MutableSet: set}
_DICTS: Final = frozenset({dict, abc.Mapping, abc.MutableMapping})
_BARE: Final = frozenset(
    {Any, object, list, dict, tuple, set, frozenset, *_LISTS, *_SETS, *_DICTS,
     typing.List, typing.Dict, typing.Tuple, typing.Set, typing.FrozenSet}  # noqa: UP006
)  # fmt: skip


def expect(tree: Any, *accepted: type) -> None:
    """Raises Misfit unless the tree is of exactly one of these JSON types."""
    if type(tree) not in accepted:
        reason = f"{accepted[0].__name__} is expected here, not {type_name(tree)}"
        raise Misfit(reason)


# --- types that say too little: the self-describing form inside the tree --------------------------


def is_open(annotation: Any) -> bool:
    """Whether the type does not tell what a value is made of."""
    if isinstance(annotation, typing.TypeVar) or annotation in _BARE:
        return True
    if _is_dict(annotation):
        return typing.get_args(annotation)[0] in {Any, object}
    if not isinstance(annotation, type):
        return False
    says_nothing = getattr(annotation, "_is_protocol", False) or kind_of(annotation) == "error"
    is_bare_generic = getattr(annotation, "__parameters__", ())
    is_untyped = is_named_tuple(annotation) and not annotation.__annotations__
    return bool(says_nothing or is_bare_generic or is_untyped)


def _write_open(_annotation: Any, _converter: Any) -> Write:
    return tag


def _read_open(annotation: Any, converter: Any) -> Read:
    if not isinstance(annotation, type) or kind_of(annotation) not in {"record", "tuple", "error"}:
        return read_open

    def read_instance(tree: Any, _annotation: Any) -> Any:
        """The tree tells what is inside, and the class what it is; or it has the fields, as a signal may."""
        value = untag(tree)
        if isinstance(value, annotation):
            return value
        return read_fields(tree) if type(value) is dict else refuse(value, annotation.__qualname__)

    def read_fields(tree: Any) -> Any:
        if _is_model(annotation):
            return annotation.model_validate(tree)  # type: ignore[attr-defined]
        of_any = with_arguments(annotation)
        return refuse(tree, annotation.__qualname__) if of_any is annotation else converter.structure(tree, of_any)

    return read_instance


def read_open(tree: Any, _annotation: Any) -> Any:
    """The hook for types that say too little: the tree tells."""
    return untag(tree)


def refuse(value: Any, expected: str) -> Never:
    """Raises Misfit for a value that is of another type than the one expected."""
    reason = f"{expected} is expected here, not {type_name(value)}"
    raise Misfit(reason)


_make_named_tuple: Final = cast("Callable[[str, list[tuple[str, Any]]], Any]", typing.NamedTuple)


def _is_generic_tuple(annotation: Any) -> bool:
    """Whether it is a named tuple with arguments, whose fields cattrs takes for those of a plain tuple."""
    return is_named_tuple(typing.get_origin(annotation))


def _read_generic_tuple(annotation: Any, converter: Any) -> Read:
    """As a named tuple without parameters is read, which has the same fields."""
    cls: Any = typing.get_origin(annotation)
    types = dict(zip(cls.__parameters__, typing.get_args(annotation), strict=True))
    hints = hints_of(cls)
    fields = [(name, filled(hints.get(name, Any), types)) for name in cls._fields]
    alike: Any = _make_named_tuple(cls.__name__, fields)
    alike._field_defaults = cls._field_defaults
    alike.__new__.__defaults__ = tuple(cls._field_defaults.values())
    read = converter.get_structure_hook(alike)
    return lambda tree, _annotation: cls._make(read(tree, alike))


# --- annotated types: cattrs takes a TypedDict with a note for something else -----------------------


def _is_annotated(annotation: Any) -> bool:
    return typing.get_origin(annotation) is typing.Annotated


def _write_annotated(annotation: Any, converter: Any) -> Write:
    return cast("Write", converter.get_unstructure_hook(typing.get_args(annotation)[0]))


def _read_annotated(annotation: Any, converter: Any) -> Read:
    member = typing.get_args(annotation)[0]
    read = converter.get_structure_hook(member)
    return lambda tree, _annotation: read(tree, member)


# --- containers -----------------------------------------------------------------------------------


def _is_list(annotation: Any) -> bool:
    origin: Any = typing.get_origin(annotation)
    return origin in _LISTS


def _is_set(annotation: Any) -> bool:
    origin: Any = typing.get_origin(annotation)
    return origin in _SETS


def _write_items(made: type, annotation: Any, converter: Any) -> Write:
    """Only of what reading makes again: an iterator would be used up, and a long range filled with numbers in vain."""
    write = converter.get_unstructure_hook(typing.get_args(annotation)[0])

    def write_items(value: Any) -> list[Any]:
        expect(value, made)
        return [write(item) for item in value]

    return write_items


def _write_list(annotation: Any, converter: Any) -> Write:
    return _write_items(list, annotation, converter)


def _write_homogeneous(annotation: Any, converter: Any) -> Write:
    return _write_items(tuple, annotation, converter)


def _write_set(annotation: Any, converter: Any) -> Write:
    write = _write_items(_SETS[typing.get_origin(annotation)], annotation, converter)
    return lambda value: stable(write(value))


def _read_items(make: Callable[[list[Any]], Any], annotation: Any, converter: Any) -> Read:
    """A hook for items of one type, gathered in what `make` makes of a list."""
    member = typing.get_args(annotation)[0]
    read_item = converter.get_structure_hook(member)

    def read(tree: Any, _annotation: Any) -> Any:
        expect(tree, list)
        items: list[Any] = []
        for item in tree:
            try:
                items.append(read_item(item, member))
            except Exception as error:
                step = f"[{len(items)}]"
                raise converter.explain(error).within(step, tree) from error
        return make(items)

    return read


def _read_list(annotation: Any, converter: Any) -> Read:
    return _read_items(list, annotation, converter)


def _read_homogeneous(annotation: Any, converter: Any) -> Read:
    return _read_items(tuple, annotation, converter)


def _read_set(annotation: Any, converter: Any) -> Read:
    make = _SETS[typing.get_origin(annotation)]

    def gather(items: list[Any]) -> Any:
        members = make(items)
        if len(members) != len(items):
            reason = "a set is expected here, and members are repeated"
            raise Misfit(reason)
        return members

    return _read_items(gather, annotation, converter)


def _is_homogeneous(annotation: Any) -> bool:
    return typing.get_origin(annotation) is tuple and typing.get_args(annotation)[1:] == (...,)


def _is_heterogeneous(annotation: Any) -> bool:
    return typing.get_origin(annotation) is tuple and not _is_homogeneous(annotation)


def _write_tuple(annotation: Any, converter: Any) -> Write:
    hooks = items_of(typing.get_args(annotation)).each(converter.get_unstructure_hook)

    def write_items(value: Any) -> list[Any]:
        expect(value, tuple)
        return list(map(call, hooks.over(len(value)) or (), value))

    return write_items


def _read_tuple(annotation: Any, converter: Any) -> Read:
    members = items_of(typing.get_args(annotation))
    hooks = members.each(lambda member: (converter.get_structure_hook(member), member))

    def read(tree: Any, _annotation: Any) -> Any:
        expect(tree, list)
        reads = hooks.over(len(tree))
        if reads is None:
            at_least = "at least " if members.repeated else ""
            reason = f"{at_least}{len(members.before + members.after)} items are expected here, not {len(tree)}"
            raise Misfit(reason)
        items: list[Any] = []
        for place, item in enumerate(tree):
            read_item, member = reads[place]
            try:
                items.append(read_item(item, member))
            except Exception as error:
                step = f"[{place}]"
                raise converter.explain(error).within(step, tree) from error
        return tuple(items)

    return read


def _is_dict(annotation: Any) -> bool:
    origin: Any = typing.get_origin(annotation)
    return origin in _DICTS


def _has_text_keys(annotation: Any) -> bool:
    return typing.get_args(annotation)[0] is str


def _write_dict(annotation: Any, converter: Any) -> Write:
    """A JSON object for keys that are `str`, else a list of pairs."""
    write_key, write = map(converter.get_unstructure_hook, typing.get_args(annotation))
    if _has_text_keys(annotation):
        return lambda value: {key: write(part) for key, part in value.items()}
    return lambda value: [[write_key(key), write(part)] for key, part in value.items()]


def _read_dict(annotation: Any, converter: Any) -> Read:
    key_type, part_type = typing.get_args(annotation)
    read_key, read_part = map(converter.get_structure_hook, (key_type, part_type))
    has_text_keys = _has_text_keys(annotation)

    def read(tree: Any, _annotation: Any) -> Any:
        if type(tree) is dict:  # of other keys too, as a signal may have it
            pairs: Any = tree.items()
        else:
            expect(tree, dict if has_text_keys else list)
            pairs = tree
        value = {}
        for key, part in pairs:
            try:
                value[read_key(key, key_type)] = read_part(part, part_type)
            except Exception as error:
                raise converter.explain(error).within(key_step(key), tree) from error
        return value

    return read


# --- classes --------------------------------------------------------------------------------------


def _is_leaf(annotation: Any) -> bool:
    return isinstance(annotation, type) and leaf_of(annotation) is not None


def write_leaf(annotation: Any, _converter: Any) -> Write:
    """A factory of hooks for small values of the standard library: the payload without its tag."""
    return cast("Leaf", leaf_of(annotation)).write


def read_leaf(annotation: Any, _converter: Any) -> Read:
    """The same, to read it."""
    leaf = cast("Leaf", leaf_of(annotation))
    return lambda tree, _: leaf.read(tree)


def is_named_tuple(annotation: Any) -> bool:
    """Whether it is one. cattrs knows only those that a `class` statement has made."""
    return isinstance(annotation, type) and kind_of(annotation) == "tuple"


def _is_model(annotation: Any) -> bool:
    """Whether it is a pydantic model, without asking pydantic."""
    return isinstance(annotation, type) and all(
        hasattr(annotation, name) for name in ("__pydantic_validator__", "model_validate")
    )


def _write_model(_annotation: Any, _converter: Any) -> Write:
    def write(value: Any) -> Any:
        if _has_set(value.model_dump(round_trip=True)):
            reason = f"{described(value)} with a set in it, which has no order, is not written as plain data"
            raise Misfit(reason)  # the self-describing form is taken instead
        return value.model_dump(mode="json", round_trip=True, by_alias=True)

    return write


def _has_set(part: Any) -> bool:
    if isinstance(part, dict):
        return any(map(_has_set, part.values()))
    if isinstance(part, (list, tuple)):
        return any(map(_has_set, part))
    return isinstance(part, (set, frozenset))


def _read_model(annotation: Any, _converter: Any) -> Read:
    def read(tree: Any, _annotation: Any) -> Any:
        return annotation.model_validate(tree)

    return read


Shape = tuple[Callable[[Any], bool], Callable[[Any, Any], Write], Callable[[Any, Any], Read]]

SHAPES: Final[tuple[Shape, ...]] = (
    (_is_list, _write_list, _read_list),
    (_is_set, _write_set, _read_set),
    (_is_homogeneous, _write_homogeneous, _read_homogeneous),
    (_is_heterogeneous, _write_tuple, _read_tuple),
    (_is_dict, _write_dict, _read_dict),
    (is_literal, write_literal, read_literal),
    (is_union, lambda _annotation, _converter: tag, read_union),
    (_is_leaf, write_leaf, read_leaf),
    (_is_model, _write_model, _read_model),
    (is_open, _write_open, _read_open),
    (_is_generic_tuple, _write_open, _read_generic_tuple),
    (_is_annotated, _write_annotated, _read_annotated),
)
"""A later row goes before an earlier one."""

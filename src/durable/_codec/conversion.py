"""The cattrs converter: values to JSON trees and back, as their annotations say. Import it late.

It differs from a plain cattrs converter in that nothing is coerced: what does not fit is an error,
so that a journaled `"5"` does not become the number 5 because an annotation changed. Where a type
says too little (`Any`, unions, base classes), the self-describing form stands inside the tree.
"""

import dataclasses
import typing
from collections.abc import Callable
from pathlib import Path, PurePath
from types import NoneType
from typing import Any, Final, TypeVar

import cattrs
from cattrs import override
from cattrs.cols import (
    namedtuple_dict_structure_factory,
    namedtuple_dict_unstructure_factory,
)
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError, IterableValidationError
from cattrs.gen import make_dict_structure_fn

from durable._codec.annotations import annotation_name, names_in
from durable._codec.belonging import belongs, filled, hints_of
from durable._codec.classes import kind_of
from durable._codec.hooks import user_hooks
from durable._codec.leaves import text_of
from durable._codec.misfit import Misfit, attribute_step, found, key_step
from durable._codec.shapes import SHAPES, expect, is_named_tuple, read_leaf, read_open, refuse, write_leaf
from durable._codec.tagged import tag, untag

_ACCEPTED: Final[dict[type, tuple[type, ...]]] = {
    str: (str,),
    int: (int, bool),
    bool: (bool,),
    float: (float, int, bool),
    NoneType: (NoneType,),
}
"""JSON types that stand for themselves under an annotation; an int is a float to type checkers."""


Made = TypeVar("Made", bound="DurableConverter")


class DurableConverter(cattrs.Converter):
    """A cattrs converter that tells the codec for which types the user has registered hooks."""

    is_made = False
    """Hooks registered before that are our own."""

    def register_structure_hook(self, cl: Any, func: Any = None) -> Any:
        """As in cattrs."""
        result = super().register_structure_hook(cl, func)
        self._tell(_meant_by(cl), func)
        return result

    def register_unstructure_hook(self, cls: Any = None, func: Any = None) -> Any:
        """As in cattrs."""
        result = super().register_unstructure_hook(cls, func)
        self._tell(_meant_by(cls), func)
        return result

    def register_structure_hook_func(self, check_func: Any, func: Any) -> None:
        """As in cattrs."""
        super().register_structure_hook_func(check_func, func)
        self._tell(check_func, func)

    def register_unstructure_hook_func(self, check_func: Any, func: Any) -> None:
        """As in cattrs."""
        super().register_unstructure_hook_func(check_func, func)
        self._tell(check_func, func)

    def register_structure_hook_factory(self, predicate: Any, factory: Any = None) -> Any:
        """As in cattrs."""
        self._tell(predicate, predicate)
        return super().register_structure_hook_factory(predicate, factory)

    def register_unstructure_hook_factory(self, predicate: Any, factory: Any = None) -> Any:
        """As in cattrs."""
        self._tell(predicate, predicate)
        return super().register_unstructure_hook_factory(predicate, factory)

    def _tell(self, predicate: Callable[[Any], bool], func: Any) -> None:
        # Without a function cattrs was used as a decorator, and calls again with both.
        if self.is_made and func is not None:
            user_hooks.add(predicate)

    def gen_structure_attrs_fromdict(self, cl: Any) -> Any:
        """How cattrs reads a dataclass or attrs class, from nothing but a dict of its fields."""
        named = self._fields_by_name(cl)
        if not named:
            return _of_fields(super().gen_structure_attrs_fromdict(cl))
        return _of_fields(make_dict_structure_fn(cl, self, **named))

    def _fields_by_name(self, cl: Any) -> dict[str, Any]:
        """How fields are read in whose type another one is named, as in `Optional["Node"]`: cattrs takes any value."""
        cls: Any = typing.get_origin(cl) or cl
        of_attrs = getattr(cls, "__attrs_attrs__", None)  # () where it has no fields
        fields = dataclasses.fields(cls) if of_attrs is None else of_attrs
        written = {field.name: field.type for field in fields}
        names = [name for name, annotation in written.items() if next(names_in(annotation), None)]
        is_resolved = any(isinstance(annotation, str) for annotation in written.values())  # by cattrs: then all are
        if not names or is_resolved:
            return {}
        hints = hints_of(cls)
        types = dict(zip(getattr(cls, "__parameters__", ()), typing.get_args(cl), strict=False))
        return {
            name: override(struct_hook=self._reading(filled(hints[name], types))) for name in names if name in hints
        }

    def _reading(self, hint: Any) -> Callable[[Any, Any], Any]:
        return lambda tree, _: self.read_named(tree, hint)

    def read_named(self, tree: Any, hint: Any) -> Any:
        """What was written as a value of its own type, or the plain form of one of this type."""
        value = untag(tree)
        return value if belongs(value, hint) else self.structure(tree, hint)

    def explain(self, error: BaseException) -> Misfit:
        """What went wrong while structuring, with the path that cattrs noted."""
        if isinstance(error, ForbiddenExtraKeysError):
            name = error.cl.__qualname__
            return Misfit(f"{name} has no field {min(error.extra_fields)!r}")
        if not isinstance(error, (ClassValidationError, IterableValidationError)):
            return found(error)
        noted: list[tuple[Any, Any]] = list(error.group_exceptions()[0])
        if not noted:
            return self.explain(error.exceptions[0])
        inner, note = noted[0]
        is_field = isinstance(error, ClassValidationError)
        if is_field and isinstance(inner, KeyError):
            inner = Misfit("this field is missing")
        step = attribute_step(note.name) if is_field else key_step(note.index)
        finding = self.explain(inner)
        vars(finding).pop("__notes__", None)  # cattrs would take them for those of a level above
        return finding.within(step, error)


def make_converter(kind: type[Made]) -> Made:
    """A converter with our own hooks."""
    made = kind(
        forbid_extra_keys=True,
        unstructure_fallback_factory=lambda _: tag,
        structure_fallback_factory=_read_other,
    )
    for cls in _ACCEPTED:
        made.register_structure_hook(cls, _read_json_type)
    made.register_structure_hook_func(lambda annotation: annotation is None, _read_none)
    # cattrs looks at hooks of classes before all others, and has its own for these.
    made.register_structure_hook(bytes, read_leaf(bytes, made))
    made.register_unstructure_hook(bytes, write_leaf(bytes, made))
    for base in PurePath, Path:
        made.register_structure_hook(base, lambda tree, cls: cls(text_of(tree)))
        made.register_unstructure_hook(base, str)
    made.register_structure_hook_factory(is_named_tuple, _read_named_tuple)
    made.register_unstructure_hook_factory(is_named_tuple, namedtuple_dict_unstructure_factory)
    for predicate, write, read in SHAPES:
        made.register_unstructure_hook_factory(predicate, write)
        made.register_structure_hook_factory(predicate, read)
    return made


def _make_converter() -> DurableConverter:
    """The one on which users may register theirs."""
    made = make_converter(DurableConverter)
    made.is_made = True
    user_hooks.unstructure, user_hooks.structure = made.unstructure, made.structure
    return made


def _meant_by(cls: Any) -> Callable[[Any], bool]:
    """Which types a hook is for that was registered for a class: it, and its subclasses."""
    return lambda annotation: annotation == cls or issubclass(annotation, cls)


def _read_json_type(tree: Any, cls: type) -> Any:
    accepted = _ACCEPTED.get(cls)
    if accepted is None:  # a subclass, such as an IntEnum; what a hook of the user has written is for the class to read
        if kind_of(cls) not in {"enum", "hooked"}:
            expect(tree, *next(_ACCEPTED[base] for base in cls.__mro__ if base in _ACCEPTED))
        return cls(tree)
    expect(tree, *accepted)
    return tree


def _read_other(annotation: Any) -> Callable[[Any, Any], Any]:
    """Of what no hook knows: the tree tells what it is, which is an instance of the class, where it is one."""
    return _read_instance if isinstance(annotation, type) else read_open


def _read_instance(tree: Any, annotation: Any) -> Any:
    value = untag(tree)
    return value if belongs(value, annotation) else refuse(value, annotation_name(annotation))


def _read_none(tree: Any, _annotation: Any) -> None:
    """As in `list[None]`."""
    expect(tree, NoneType)


def _read_named_tuple(annotation: Any, converter: Any) -> Any:
    return _of_fields(namedtuple_dict_structure_factory(annotation, converter, True, True))


def _of_fields(read: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def read_fields(tree: Any, annotation: Any) -> Any:
        expect(tree, dict)
        tells_its_type = next(iter(tree), "").startswith("$")
        return _read_instance(tree, annotation) if tells_its_type else read(tree, annotation)

    return read_fields


converter: Final = _make_converter()

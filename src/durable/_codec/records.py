"""What an object of a dataclass, attrs class or pydantic model consists of, and how to rebuild it.

The parts are read from where Python stores them (`__dict__` and slots) and put back there. No
`__init__`, property or validator runs for what a file says, and what `__init__` could not repeat
(fields with `init=False`, an `InitVar`, attributes that are no fields) comes back too.
"""

import functools
from collections.abc import Callable
from types import MemberDescriptorType
from typing import Any, Final, NamedTuple

from durable._codec.classes import MOST_REMEMBERED
from durable._codec.hooks import user_hooks
from durable._codec.misfit import Misfit

Default = Callable[[], Any]

_HASH_OF_ATTRS: Final = "_attrs_cached_hash"
"""Where attrs keeps a hash; hashes differ from process to process, and None makes it anew."""


class Plan(NamedTuple):
    """How objects of one class are stored.

    `fields` maps each declared field to its default, `None` if it has none; `optional` holds those
    that may be unset; `slots` the storage outside `__dict__`; `ignored` what a property will
    compute again.
    """

    fields: dict[str, Default | None]
    optional: frozenset[str]
    slots: dict[str, MemberDescriptorType]
    ignored: frozenset[str]


_plans: dict[type, Plan] = {}
user_hooks.on_change(_plans.clear)


def plan_of(cls: type) -> Plan:
    """The plan of a class whose kind is `record`."""
    plan = _plans.get(cls)
    if plan is None:
        if len(_plans) >= MOST_REMEMBERED:
            _plans.clear()
        plan = _plans[cls] = _make_plan(cls)
    return plan


def parts_of(value: Any) -> dict[str, Any]:
    """Everything stored in the object, by name: slots, then `__dict__` in its order."""
    plan = plan_of(type(value))
    own = getattr(value, "__dict__", None) or {}
    if not plan.slots and plan.ignored.isdisjoint(own) and _HASH_OF_ATTRS not in own:
        return own
    parts = {}
    for name, slot in plan.slots.items():
        try:
            parts[name] = slot.__get__(value)
        except AttributeError:  # never set, or deleted
            continue
    parts.update((name, part) for name, part in own.items() if name not in plan.ignored)
    if _HASH_OF_ATTRS in parts:
        parts[_HASH_OF_ATTRS] = None
    return parts


def rebuild(cls: type[Any], fields: dict[str, Any], attributes: dict[str, Any]) -> Any:
    """An object of the class with these parts; fields that the class got since take their default.

    Raises Misfit where the class has no such field any more, or no default for a new one.
    """
    plan = plan_of(cls)
    gone = fields.keys() - plan.fields.keys()
    if gone:
        reason = f"{cls.__qualname__} has no field {min(gone)!r} any more"
        raise Misfit(reason)
    value = object.__new__(cls)
    for name, part in fields.items():
        _store(value, plan, name, part)
    for name, default in plan.fields.items():
        if name not in fields and name not in plan.optional:
            if default is None:
                reason = f"field {name!r} of {cls.__qualname__} is not in the journal"
                raise Misfit(reason)
            _store(value, plan, name, default())
    for name, part in attributes.items():
        _store(value, plan, name, part)
    return value


def _store(value: Any, plan: Plan, name: str, part: Any) -> None:
    slot = plan.slots.get(name)
    if slot is not None:
        slot.__set__(value, part)
    else:
        value.__dict__[name] = part


def _make_plan(cls: type) -> Plan:
    slots = {}
    ignored = {"__orig_class__"}  # typing sets it on what `Box[int](...)` made; it is no part of it
    for base in reversed(cls.__mro__):
        for name, member in vars(base).items():
            if isinstance(member, MemberDescriptorType):
                slots[name] = member
            elif isinstance(member, functools.cached_property):
                ignored.add(name)
    fields, optional = _fields_of(cls)
    return Plan(fields, frozenset(optional), slots, frozenset(ignored))


def _fields_of(cls: Any) -> tuple[dict[str, Default | None], set[str]]:
    if hasattr(cls, "__attrs_attrs__"):
        return _fields_of_attrs(cls)
    if hasattr(cls, "__pydantic_validator__") and hasattr(cls, "model_fields"):
        return _fields_of_model(cls)
    return _fields_of_dataclass(cls)


def _fields_of_dataclass(cls: Any) -> tuple[dict[str, Default | None], set[str]]:
    import dataclasses

    fields: dict[str, Default | None] = {}
    optional = set()
    for field in dataclasses.fields(cls):
        fields[field.name] = None
        if field.default is not dataclasses.MISSING:
            fields[field.name] = functools.partial(_same, field.default)
            if not field.init and vars(cls).get(field.name, field.default) is field.default:
                optional.add(field.name)  # the class has it, and `__init__` does not store it in the object
        elif field.default_factory is not dataclasses.MISSING:
            fields[field.name] = field.default_factory
        elif not field.init:
            optional.add(field.name)
    return fields, optional


def _fields_of_attrs(cls: Any) -> tuple[dict[str, Default | None], set[str]]:
    import attrs

    fields: dict[str, Default | None] = {}
    optional = set()
    for field in cls.__attrs_attrs__:
        default = field.default
        fields[field.name] = None
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
            fields[field.name] = None if default.takes_self else default.factory
        elif default is not attrs.NOTHING:
            fields[field.name] = functools.partial(_same, default)
        elif not field.init:
            optional.add(field.name)
    return fields, optional


def _fields_of_model(cls: Any) -> tuple[dict[str, Default | None], set[str]]:
    fields: dict[str, Default | None] = {}
    for name, field in cls.model_fields.items():
        required = field.is_required()
        fields[name] = None if required else functools.partial(field.get_default, call_default_factory=True)
    return fields, set()


def _same(value: Any) -> Any:
    return value

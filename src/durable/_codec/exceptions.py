"""Exceptions as trees, and back, without running a line of their classes' code.

    {"type": "shop:PaymentFailed", "message": str(error), "args": [...],
     "attributes": {...}, "slots": {...}, "notes": [...], "cause": {...}, "context": {...},
     "suppress_context": true, "group": message, "members": [...], "traceback": "..."}

All but the first three are left out when empty; `"context": "cause"` says that the two are one.
`slots` holds what the class keeps outside `__dict__`: `OSError.errno`, `StopIteration.value`,
`UnicodeDecodeError.start`, users' `__slots__`. An argument that cannot be held is replaced by
`{"$opaque": repr}`, an attribute is left out, and an exception met twice is not followed again.
"""

import reprlib
from collections.abc import Iterator
from types import BuiltinFunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final

from durable._codec.classes import find_class, is_lasting, remember
from durable._codec.exact import identical
from durable._codec.json_text import decode, encode, splits_a_pair
from durable._codec.misfit import described, type_name
from durable._codec.tagged import tag, untag
from durable.errors import StepError

TRACEBACK_ATTRIBUTE: Final = "__durable_traceback__"
"""Where a restored exception has the text of its original traceback."""

_LONGEST_TRACEBACK: Final = 16 * 1024
"""Characters kept, from the end: that is where it happened."""
_MOST_FRAMES: Final = 64
_DEEPEST: Final = 32
"""Levels of causes, contexts and groups that are followed."""

_LIVES_ELSEWHERE: Final = frozenset({"__notes__", TRACEBACK_ATTRIBUTE})
_NOT_KEPT: Final = frozenset({"obj"})
"""`AttributeError.obj` and `NameError.obj`: what was asked, an object of any size and kind."""

_OF_EVERY_ERROR: Final = vars(BaseException)
_repr: Final = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 200


def describe(error: BaseException, *, with_traceback: bool = False, in_words: bool = True) -> dict[str, Any]:
    """The tree of an exception. What cannot be held is left out or shown as text; never fails.

    Not `in_words`: without the messages, for comparisons.
    """
    tree = _Description(in_words=in_words).of(error)
    if with_traceback:
        tree["traceback"] = traceback_text(error)
    return tree


def restore(tree: dict[str, Any]) -> BaseException:
    """The exception of a tree; a `StepError` stands in where its class cannot be rebuilt."""
    try:
        error = _rebuild(tree)
    except Exception:  # no such class here, or none that can be made: its text is what is left
        error = StepError(tree["type"], tree["message"], tree.get("traceback", ""))
    own = vars(error)
    if "notes" in tree:
        own["__notes__"] = tree["notes"]
    if "traceback" in tree:
        own[TRACEBACK_ATTRIBUTE] = tree["traceback"]
    cause = restore(tree["cause"]) if "cause" in tree else None
    context = tree.get("context")
    context = cause if context == "cause" else context and restore(context)
    _set(error, "__cause__", cause)
    _set(error, "__context__", context)
    _set(error, "__suppress_context__", tree.get("suppress_context", False))
    return error


def add_note(error: BaseException, note: str) -> None:
    """Add a note past `__setattr__` of its class, a frozen one, and `__getattr__`, which may need what was not kept."""
    vars(error).setdefault("__notes__", []).append(note)


def shown(value: object) -> str:
    """A short `repr`, whatever the class makes of it."""
    try:
        return _joined(_repr.repr(value))
    except Exception:  # an int longer than Python likes to print
        return f"<{described(value)}>"


def traceback_text(error: BaseException) -> str:
    """The end of the formatted traceback; of a restored exception the one it had at first."""
    if error.__traceback__ is None and TRACEBACK_ATTRIBUTE in vars(error):
        return str(vars(error)[TRACEBACK_ATTRIBUTE])
    import traceback

    try:
        text = "".join(traceback.format_exception(error, limit=-_MOST_FRAMES))
    except Exception:  # a class whose attributes are not what the formatter expects
        text = f"{type_name(error)}: {_text_of(error)}"
    return _joined(text[-_LONGEST_TRACEBACK:])


class _Description:
    """One exception with all that hangs on it, each of them once."""

    def __init__(self, *, in_words: bool) -> None:
        self.in_words = in_words
        self.seen: set[int] = set()

    def of(self, error: BaseException, depth: int = 0) -> dict[str, Any]:
        """The tree, without what is empty; `depth` counts the links from the first exception."""
        self.seen.add(id(error))
        tree: dict[str, Any] = {"type": remember(type(error))}
        if self.in_words:
            tree["message"] = _text_of(error)
        arguments = () if isinstance(error, BaseExceptionGroup) else error.args  # see members
        tree["args"] = [_tag_or_show(item) for item in arguments]
        further = {
            "attributes": dict(_keepable(_attributes(error))),
            "slots": dict(_keepable(_slot_values(error))),
            "notes": _notes(error),
            "suppress_context": error.__suppress_context__,
        }
        tree.update((key, part) for key, part in further.items() if part)
        cause, context = error.__cause__, error.__context__
        if cause is not None and self._is_followed(cause, depth):
            tree["cause"] = self.of(cause, depth + 1)
        if context is not None and context is cause:
            tree["context"] = "cause"
        elif context is not None and self._is_followed(context, depth):
            tree["context"] = self.of(context, depth + 1)
        if isinstance(error, BaseExceptionGroup):
            members = [part for part in error.exceptions if self._is_followed(part, depth)]
            tree["group"] = error.message
            tree["members"] = [self.of(part, depth + 1) for part in members]
        return tree

    def _is_followed(self, error: BaseException, depth: int) -> bool:
        return id(error) not in self.seen and depth < _DEEPEST


def _notes(error: BaseException) -> list[str]:
    notes = vars(error).get("__notes__")
    return [_text_of(note) for note in notes] if isinstance(notes, (list, tuple)) else []


def _attributes(error: BaseException) -> Iterator[tuple[str, Any]]:
    for name, value in vars(error).items():
        if name not in _LIVES_ELSEWHERE:
            yield name, value


def _slot_values(error: BaseException) -> Iterator[tuple[str, Any]]:
    for name, slot in _slots(type(error)).items():
        try:
            value = slot.__get__(error)
        except AttributeError:  # never set
            continue
        if value is not None or slot.__objclass__.__module__ != "builtins":
            yield name, value


def _slots(cls: type[BaseException]) -> dict[str, Any]:
    """Storage outside `__dict__`, by name: of C classes, and of users' `__slots__`."""
    return {
        name: member
        for base in reversed(cls.__mro__)
        if base not in {object, BaseException, BaseExceptionGroup}
        for name, member in vars(base).items()
        if isinstance(member, (MemberDescriptorType, GetSetDescriptorType))
        and name not in _NOT_KEPT
        and not name.startswith("__")
    }


def _keepable(parts: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    for name, value in parts:
        try:
            yield name, _held(value)
        except Exception:  # noqa: S112 - a lock on the exception: the rest is kept without it
            continue


def _tag_or_show(value: Any) -> Any:
    try:
        return _held(value)
    except Exception:
        return {"$opaque": shown(value)}


def _held(value: Any) -> Any:
    """The tree of a value that surely comes back as it was. Raises whatever prevents that; nobody is told."""
    tree = tag(value)
    if not identical(value, untag(decode(encode(tree)))):
        raise ValueError
    return tree


def _rebuild(tree: dict[str, Any]) -> BaseException:
    cls = find_class(tree["type"], "error", "hooked")
    if not issubclass(cls, BaseException) or not is_lasting(tree["type"]):
        raise TypeError  # of which nobody is told: a `StepError` stands in
    if "members" in tree:
        error = _make(cls, tree["group"], [restore(member) for member in tree["members"]])
    else:
        error = _make(cls)
        _set(error, "args", tuple(map(_untag_or_show, tree["args"])))
    if any(base.__module__ == "tempfile" for base in cls.__mro__):
        vars(error)["file"] = None  # `HTTPError` asks it for what it has not, and without it knows no `AttributeError`
    vars(error).update(_readable(tree.get("attributes", {})))
    slots = _slots(cls)
    for name, value in _readable(tree.get("slots", {})):
        if name in slots:
            slots[name].__set__(error, value)
    return error


def _make(cls: type[BaseException], *arguments: Any) -> BaseException:
    """An instance by the `__new__` of the class in C that is below: no `__init__`, no user code."""
    found = (vars(base).get("__new__") for base in cls.__mro__)
    new = next(method for method in found if isinstance(method, BuiltinFunctionType))
    made: BaseException = new(cls, *arguments)
    return made


def _set(error: BaseException, name: str, value: Any) -> None:
    """Sets what every exception has, past a `__setattr__` of its class."""
    _OF_EVERY_ERROR[name].__set__(error, value)


def _readable(trees: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, tree in trees.items():
        try:
            yield name, untag(tree)
        except Exception:  # noqa: S112 - its class is gone: the rest is kept without it
            continue


def _untag_or_show(tree: Any) -> Any:
    try:
        return untag(tree)
    except Exception:
        return encode(tree)


def _text_of(value: object) -> str:
    try:
        return _joined(str(value))
    except Exception:
        return f"<{described(value)} without text>"


def _joined(text: str) -> str:
    """Text for people to read: a surrogate pair in it becomes the character that it means."""
    if splits_a_pair(text):
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return text

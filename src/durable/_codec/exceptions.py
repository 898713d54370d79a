"""Exceptions as trees, and back, without running a line of their classes' code.

    {"type": "shop:PaymentFailed", "message": str(error), "args": [...],
     "attributes": {...}, "slots": {...}, "notes": [...], "cause": {...}, "context": {...},
     "suppress_context": true, "group": message, "members": [...], "traceback": "..."}

All but the first three are left out when empty; `"context": "cause"` says that the two are one.
`slots` holds what the class keeps outside `__dict__`: `OSError.errno`, `StopIteration.value`,
`UnicodeDecodeError.start`, users' `__slots__`. An argument that cannot be held is replaced by
`{"$opaque": repr}`, an attribute is left out. By causes, contexts and groups an exception is followed
once, from an attribute again, but never one that leads to itself.
"""

import reprlib
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextvars import ContextVar, copy_context
from types import BuiltinFunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final

from durable._codec.classes import find_class, is_lasting, remember
from durable._codec.exact import identical
from durable._codec.json_text import decode, encode, splits_a_pair
from durable._codec.misfit import described, type_name
from durable._codec.tagged import tag, untag
from durable.errors import StepError

_LONGEST_TRACEBACK: Final = 16 * 1024
"""Characters kept, from the end: that is where it happened."""
_MOST_FRAMES: Final = 64
_DEEPEST: Final = 32
"""Levels of causes, contexts, groups, and exceptions in attributes that are followed."""
_LEVELS_AGAIN: Final = (_DEEPEST, 3, 1)
"""Levels of what was met before that are followed: fewer, where more would be written `_MOST_AGAIN` times over."""
_MOST_AGAIN: Final = 200

_NOT_KEPT: Final = frozenset({"obj"})
"""`AttributeError.obj` and `NameError.obj`: what was asked, an object of any size and kind."""

_OF_EVERY_ERROR: Final = vars(BaseException)
_repr: Final = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 200


def describe(error: BaseException, *, with_traceback: bool = False) -> dict[str, Any]:
    """The tree of an exception. What cannot be held is left out or shown as text; never fails.

    But for one in an attribute of another that is being described: it fails where that one leaves it out.
    """
    outer = _current.get()
    if outer is not None:
        return outer.part(error)
    tries, tree = map(_Walk, _LEVELS_AGAIN), None
    while tree is None:  # the last is sure to do
        tree = copy_context().run(next(tries).begin, error)  # whatever strikes, nothing of it stays in this context
    if with_traceback:
        tree["traceback"] = traceback_text(error)
    return tree


def is_read_back(error: BaseException, back: BaseException) -> bool:
    """Whether what was read for an exception has all that was written of it.

    Without their messages, in which the members of a set stand in any order.
    """
    walk = _current.get()
    written = walk.written.get(id(error)) if walk else None
    return _wordless_text(describe(back)) in (written or {_wordless_text(describe(error))})


def restore(tree: dict[str, Any]) -> BaseException:
    """The exception of a tree; a `StepError` stands in where its class cannot be rebuilt."""
    try:
        error = _rebuild(tree)
    except Exception:  # no such class here, or none that can be made: its text is what is left
        error = StepError(tree["type"], tree["message"], tree.get("traceback", ""))
    if "notes" in tree:
        vars(error)["__notes__"] = tree["notes"]
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
    """The end of the formatted traceback."""
    import traceback

    try:
        text = "".join(traceback.format_exception(error, limit=-_MOST_FRAMES))
    except Exception:  # a class whose attributes are not what the formatter expects
        text = f"{type_name(error)}: {_text_of(error)}"
    return _joined(text[-_LONGEST_TRACEBACK:])


class _Walk:
    """From one exception to all that hangs on it, and on what its attributes hold.

    Each attribute is checked by itself, and what is in it was checked before: so one check compares trees, and makes
    no further ones, or each level would double the time.
    """

    def __init__(self, levels: int) -> None:
        self.levels = levels
        self.again = _MOST_AGAIN  # how much more may be followed that hangs on what was met before
        self.met: dict[int, BaseException] = {}  # themselves: another may get the id of one that is gone
        self.path: dict[int, bool] = {}  # those that lead to where it is, and whether they were met before
        self.written: dict[int, dict[str, dict[str, Any]]] = {}  # what is in the attribute, by its text
        self.is_checking = False

    def begin(self, error: BaseException) -> dict[str, Any] | None:
        """The tree of the first exception; `None` if it is too much. To be called in a context of its own."""
        _current.set(self)
        tree = self._of(error, set())
        return tree if self.again >= 0 else None

    def part(self, error: BaseException) -> dict[str, Any]:
        """The tree of an exception that is in an attribute. Raises where it is not followed; nobody is told."""
        if self.is_checking and id(error) in self.written:
            return next(iter(self.written[id(error)].values()))
        if not self._is_followed(error):
            raise ValueError
        tree = self._of(error, set())
        if not self.is_checking:
            self.written.setdefault(id(error), {})[_wordless_text(tree)] = tree
        return tree

    def _of(self, error: BaseException, seen: set[int]) -> dict[str, Any]:
        """The tree, without what is empty; `seen` are those to which causes, contexts and groups have led."""
        seen.add(id(error))
        self.path[id(error)] = id(error) in self.met
        if not self.is_checking:
            self.met[id(error)] = error
        try:
            # Links first: of what is not followed everywhere, these are what a traceback shows.
            links = self._links(error, seen)
            arguments = () if isinstance(error, BaseExceptionGroup) else error.args  # see members
            further = {
                "args": [self._held_or_shown(item) for item in arguments],
                "attributes": dict(self._keepable(_attributes(error))),
                "slots": dict(self._keepable(_slot_values(error))),
                "notes": _notes(error),
                "suppress_context": error.__suppress_context__,
            }
        finally:
            del self.path[id(error)]
        tree: dict[str, Any] = {"type": remember(type(error)), "message": _text_of(error)}
        tree.update((key, part) for key, part in further.items() if part or key == "args")
        return {**tree, **links}

    def _links(self, error: BaseException, seen: set[int]) -> dict[str, Any]:
        links: dict[str, Any] = {}
        cause, context = error.__cause__, error.__context__
        if cause is not None and self._is_followed(cause, seen):
            links["cause"] = self._of(cause, seen)
        if context is not None and context is cause:
            links.update({"context": "cause"} if "cause" in links else {})
        elif context is not None and self._is_followed(context, seen):
            links["context"] = self._of(context, seen)
        if isinstance(error, BaseExceptionGroup):
            members = [part for part in error.exceptions if self._is_followed(part, seen)]
            links["group"] = error.message
            links["members"] = [self._of(part, seen) for part in members]
        return links

    def _is_followed(self, error: BaseException, seen: AbstractSet[int] = frozenset()) -> bool:
        if id(error) in seen or id(error) in self.path or len(self.path) > _DEEPEST:
            return False
        if self.is_checking or id(error) not in self.met:
            return True
        levels = sum(self.path.values())
        if levels >= self.levels:
            return False
        self.again -= levels > 0
        return self.again >= 0

    def _keepable(self, parts: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        for name, value in parts:
            try:
                yield name, self._held(value)
            except Exception:  # noqa: S112 - a lock on the exception: the rest is kept without it
                continue

    def _held_or_shown(self, value: Any) -> Any:
        try:
            return self._held(value)
        except Exception:
            return {"$opaque": shown(value)}

    def _held(self, value: Any) -> Any:
        """The tree of a value that surely comes back as it was. Raises whatever prevents that; nobody is told."""
        if self.is_checking:
            return tag(value)
        outer, self.written = self.written, {}
        try:
            tree = tag(value)
            back = untag(decode(encode(tree)))
            self.is_checking = True
            if not identical(value, back):
                raise ValueError
            return tree
        finally:
            self.is_checking, self.written = False, outer


_current: Final[ContextVar[_Walk | None]] = ContextVar("durable_described", default=None)
"""The walk that is under way here: the codec comes back to this module for each exception in an attribute."""


def _wordless_text(tree: dict[str, Any]) -> str:
    return encode(_without_message(tree))


def _without_message(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree of an exception without its message, and those of all in it."""
    bare = {
        key: (_each_without if key in {"attributes", "slots"} else _without_messages)(part)
        for key, part in tree.items()
        if key != "message"
    }
    bare.update((key, _without_message(tree[key])) for key in ("cause", "context") if type(tree.get(key)) is dict)
    if "members" in tree:
        bare["members"] = list(map(_without_message, tree["members"]))
    return bare


def _without_messages(tree: Any) -> Any:
    """The tree of any value without the messages of the exceptions in it."""
    if type(tree) is list:
        return list(map(_without_messages, tree))
    if type(tree) is not dict:
        return tree
    if "$error" in tree:
        return {"$error": _without_message(tree["$error"])}
    return {key: (_each_without if key == "$attributes" else _without_messages)(part) for key, part in tree.items()}


def _each_without(trees: dict[str, Any]) -> dict[str, Any]:
    """The same for values by names, whatever these are."""
    return {name: _without_messages(tree) for name, tree in trees.items()}


def _notes(error: BaseException) -> list[str]:
    notes = vars(error).get("__notes__")
    return [_text_of(note) for note in notes] if isinstance(notes, (list, tuple)) else []


def _attributes(error: BaseException) -> Iterator[tuple[str, Any]]:
    for name, value in vars(error).items():
        if name != "__notes__":
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

"""Classes by name: `module:qualname` in the file, and which class of this program that is.

Nothing is imported and nothing is called for a name found in a file. A name leads to a class that
the program has already made, and only to kinds whose values are data: exceptions, enums, named
tuples, dataclasses, attrs classes, pydantic models, and classes with hooks of the user.
"""

import enum
import sys
from _weakref import ref
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final, Literal

from durable._codec.hooks import user_hooks
from durable._codec.misfit import Misfit

Kind = Literal["hooked", "error", "enum", "tuple", "record", "opaque"]

_MAIN: Final = frozenset({"__main__", "__mp_main__"})
MOST_REMEMBERED: Final = 4096
"""Classes of which something is kept in mind; programs that make more of them start anew."""

_kinds: dict[type, Kind] = {}
_strays: dict[str, ref[type]] = {}
"""Classes that their name does not lead to: local ones, and those of a module loaded twice."""

user_hooks.on_change(_kinds.clear)


def module_name(obj_module: str) -> str:
    """The name under which a module is journaled.

    That of a program run as a script or with `-m` is its `__spec__` name or file stem, so that the
    journal reads the same when the module is imported by its name. `__main__` if it has neither.
    """
    if obj_module not in _MAIN:
        return obj_module
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = (getattr(main, "__file__", None) or "").replace("\\", "/").rpartition("/")[2]
    return file.rpartition(".")[0] or file or "__main__"


def class_name(cls: type) -> str:
    """`module:qualname`, as written in the file."""
    return f"{module_name(cls.__module__)}:{cls.__qualname__}"


def kind_of(cls: type) -> Kind:
    """How values of this class are taken apart and put together; `opaque` if they are not."""
    kind = _kinds.get(cls)
    if kind is None:
        if len(_kinds) >= MOST_REMEMBERED:
            _kinds.clear()
        kind = _kinds[cls] = _find_kind(cls)
    return kind


def _find_kind(cls: type) -> Kind:
    if user_hooks.cover(cls):
        return "hooked"
    if issubclass(cls, BaseException):
        return "error"
    if issubclass(cls, enum.Enum):
        return "enum"
    declared = {name for base in cls.__mro__ for name in vars(base)}
    if issubclass(cls, tuple):
        return "tuple" if "_fields" in declared else "opaque"
    is_model = {"__pydantic_validator__", "model_validate"} <= declared
    is_record = is_model or not declared.isdisjoint({"__dataclass_fields__", "__attrs_attrs__"})
    return "record" if is_record else "opaque"


def remember(cls: type) -> str:
    """The name of a class whose value is being written, made to lead back to it in this process."""
    name = class_name(cls)
    if _by_name(name) is cls:
        if name in _strays:
            _strays.pop(name, None)
    else:
        _strays[name] = ref(cls)
    return name


def find_class(name: str, *kinds: Kind) -> type[Any]:
    """The class of this program that a name in the file means. Never imports and never calls.

    Raises Misfit when there is none, or when it is not one of `kinds`.
    """
    stray: ref[type[Any]] | None = _strays.get(name)
    cls = (stray() if stray else None) or _by_name(name) or _among_living(name)
    if cls is None:
        module = name.partition(":")[0]
        reason = f"no class {name} is in this program; import or define it (module {module}) first"
        raise Misfit(reason)
    if kind_of(cls) not in kinds:
        reason = (
            f"{name} is not a class whose values are data (a dataclass, attrs class, enum, named"
            " tuple, pydantic model or exception); it is not touched"
        )
        raise Misfit(reason)
    return cls


def is_here(name: str) -> bool:
    """Whether this program has a class of exceptions of this name."""
    try:
        find_class(name, "error", "hooked")
    except Misfit:
        return False
    return True


def is_lasting(name: str) -> bool:
    """Whether a class can be counted on to be found by this name in the next process too.

    What a module does not lead to may have been made on demand, as boto3 makes the exceptions of a client, and need
    not be there when a run goes on. A local class is taken to be made again by the function that names it.
    """
    return "<locals>" in name or _by_name(name) is not None


def _by_name(name: str) -> type | None:
    """Looks only into the dicts of modules and classes: a `__getattr__` might import or run."""
    module, _, qualname = name.partition(":")
    for home in _homes(module):
        found: object = home
        for part in qualname.split("."):
            if not isinstance(found, (ModuleType, type)):
                break
            found = vars(found).get(part)
        if isinstance(found, type):
            return found
    return None


def _homes(module: str) -> Iterator[object]:
    """Loaded modules that a name may mean: the program that runs first, then one of that name."""
    if module == module_name("__main__"):
        yield sys.modules.get("__main__")
    yield sys.modules.get(module)


def _among_living(name: str) -> type | None:
    """The youngest living class of this name, for classes that no module names.

    Local classes, and named tuples whose variable is called otherwise. It takes milliseconds, so
    it is done only for modules that are loaded, and its result is kept.
    """
    module, _, qualname = name.partition(":")
    if not any(isinstance(home, ModuleType) for home in _homes(module)):
        return None
    found: type | None = None
    seen: set[type] = {object}
    waiting: list[type] = [object]
    while waiting:
        subclasses: list[type] = type.__subclasses__(waiting.pop())
        for cls in subclasses:
            if cls not in seen:
                seen.add(cls)
                waiting.append(cls)
                if cls.__qualname__ == qualname and module_name(cls.__module__) == module:
                    found = cls
    if found is not None:
        _strays[name] = ref(found)
    return found

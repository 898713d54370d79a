"""`TypedCodec`: values as their annotation says; and signals, whose sender knew no type."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from durable._codec.exact import identical
from durable._codec.hooks import user_hooks
from durable._codec.json_text import decode, encode
from durable._codec.misfit import Misfit, found
from durable._codec.tagged import untag
from durable._codec.untyped import TypeCodec

if TYPE_CHECKING:
    from durable._codec.conversion import DurableConverter

_TAGGED = '{"$'
"""How the self-describing form begins under an annotation; a typed form that does is not used."""


class Hooks(NamedTuple):
    """What cattrs made for one annotation."""

    write: Callable[[Any], Any]
    read: Callable[[Any, Any], Any]


def converter() -> "DurableConverter":
    """The one cattrs converter, made when first needed: cattrs takes tens of ms to import."""
    from durable._codec.conversion import converter as made  # made once, under Python's lock of imports

    return made


class TypedCodec(TypeCodec):
    """Text by annotation where that gives back an identical value, else self-describing."""

    __slots__ = ("_hooks", "annotation")

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation
        self._hooks: Hooks | None = None
        user_hooks.on_change(self._forget)

    def _forget(self) -> None:
        self._hooks = None

    def _bound(self) -> Hooks:
        hooks = self._hooks
        if hooks is None:
            hooks = self._hooks = hooks_for(self.annotation)
        return hooks

    def dump(self, value: Any) -> str:
        """The text of a value, from which `load` surely makes an identical one."""
        return self.dump_load(value)[0]

    def load(self, text: str) -> Any:
        """The value of a text, as a fresh object."""
        try:
            tree = decode(text)
            if text.startswith(_TAGGED):
                return untag(tree)
            return self._bound().read(tree, self.annotation)
        except Exception as error:
            raise converter().explain(error).explained() from error

    def dump_load(self, value: Any) -> tuple[str, Any]:
        """The text, and what `load` makes of it."""
        try:
            hooks = self._bound()
            text = encode(hooks.write(value))
            if not text.startswith(_TAGGED):
                back = hooks.read(decode(text), self.annotation)
                if identical(value, back):
                    return text, back
        except Exception:  # noqa: S110 - whatever cattrs or a hook says, the other form may hold it
            pass
        text, back = TypeCodec.dump_load(self, value)
        return (text if text.startswith(_TAGGED) else f'{{"$value":{text}}}'), back


def hooks_for(annotation: Any) -> Hooks:
    """How values are written and read under this annotation; refused with the reason where it cannot be used."""
    made = converter()
    try:
        return Hooks(made.get_unstructure_hook(annotation), made.get_structure_hook(annotation))
    except Exception as error:  # names that cannot be resolved inside a class, and the like
        return Hooks(*_refusing(annotation, found(error).reason))


def _refusing(annotation: Any, why: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def refuse(*_: Any) -> Any:
        reason = f"the annotation {annotation!r} cannot be used: {why}"
        raise Misfit(reason)

    return refuse, refuse


def read_signal(value: Any, annotation: Any) -> Any:
    """A value that somebody sent, as the type that its reader wants. Nothing in it is changed that is of its type.

    The value itself if it is of that type; else what its parts or its plain form give, such as a dataclass for
    a dict of its fields. Raises SerializationError.
    """
    if annotation in type(value).__mro__:
        return value
    from durable._codec.fitting import fitting  # cattrs again, which few signals need

    try:
        return fitting.structure(value, annotation)
    except Exception as error:
        raise converter().explain(error).explained() from error

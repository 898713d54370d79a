"""Values to JSON text and back, exactly. The rest of the library calls what is listed here.

A value is written in one of two forms:

- *typed*, where an annotation says what it is: plain JSON by cattrs, such as
  `{"id":"42","at":"2026-01-01T00:00:00+00:00"}` for a dataclass. It is kept only if reading it
  gives back an identical value, types compared deeply and without `==`.
- *self-describing* (`tagged.py`), for everything else. Under an annotation its text begins with
  `{"$`, which no typed form does, so that the reader knows. Plain JSON types are both (`plain.py`).

Where neither holds the value, SerializationError says so with the path, as `$.items[3].when`.
Importing this package imports neither cattrs nor the modules of the types that it knows.
"""

from typing import Any, Final

from durable._codec.annotations import annotation_name, is_self_describing, names_in, resolve_annotations, says_nothing
from durable._codec.classes import module_name
from durable._codec.exceptions import add_note, describe, restore, shown
from durable._codec.hooks import user_hooks
from durable._codec.json_text import decode, encode
from durable._codec.misfit import found
from durable._codec.plain import PlainCodec
from durable._codec.typed import TypedCodec, converter, read_signal
from durable._codec.untyped import TypeCodec

__all__ = [
    "TypeCodec",
    "add_note",
    "annotation_name",
    "codec_for",
    "converter",
    "describe_opaque",
    "dump_again",
    "dump_error",
    "fingerprint",
    "fit",
    "load_error",
    "load_lenient",
    "load_untyped",
    "module_name",
    "names_in",
    "resolve_annotations",
]

_UNTYPED: Final = TypeCodec()
_codecs: dict[Any, TypeCodec] = {}

user_hooks.on_change(_codecs.clear)


def codec_for(annotation: Any = Any) -> TypeCodec:
    """The codec of an annotation, made once. `Any`, and what says no more, is self-describing."""
    try:
        codec = _codecs.get(annotation)
        key = annotation
    except TypeError:  # unhashable, as Annotated[int, []]; the codec keeps it, so its id is its own
        key = id(annotation)
        codec = _codecs.get(key)
    if codec is None:
        codec = _codecs[key] = _new_codec(annotation)
    return codec


def _new_codec(annotation: Any) -> TypeCodec:
    if says_nothing(annotation):
        return _UNTYPED
    return PlainCodec(annotation) if is_self_describing(annotation) else TypedCodec(annotation)


def load_untyped(text: str) -> Any:
    """The value of a text that was written without an annotation."""
    return _UNTYPED.load(text)


def load_lenient(text: str, annotation: Any) -> Any:
    """The value of an untyped text, as the type that its reader wants.

    A plain dict will do for a dataclass, ISO text for a datetime. What would have to be changed
    to fit, or fields that the type does not have, are a SerializationError.
    """
    return fit(_UNTYPED.load(text), annotation)


def fit(value: Any, annotation: Any) -> Any:
    """The same for a value that is no text: one of plain JSON, as somebody typed it."""
    return value if says_nothing(annotation) else read_signal(value, annotation)


def dump_error(exc: BaseException) -> str:
    """An exception as text; what cannot be held is left out or shown as text. Never fails."""
    return encode(describe(exc, with_traceback=True))


def load_error(text: str) -> BaseException:
    """The exception of a text, or a StepError in its stead where its class cannot be rebuilt."""
    try:
        return restore(decode(text))
    except Exception as error:
        raise found(error).explained() from error


def dump_again(text: str) -> str:
    """The text of an error as it is read here, with the traceback that it has: what no class is found for stays so."""
    tree = describe(load_error(text))
    return encode({**tree, "traceback": decode(text).get("traceback", "")})


def describe_opaque(value: Any) -> str:
    """Text for an input that cannot be held: its short `repr`, as `{"$opaque": "..."}`."""
    return encode({"$opaque": shown(value)})


def fingerprint(text: str) -> str:
    """32 hexadecimal digits that stand for a text, the same in every process and version."""
    from hashlib import blake2b  # some milliseconds, and few need it

    return blake2b(text.encode(), digest_size=16).hexdigest()

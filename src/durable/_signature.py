"""A function's inputs and result as the journal holds them: a JSON object by parameter name, and one JSON value.

Types are looked up late, at the first call: annotations may name what is defined further down in the module.
"""

import contextlib
import functools
import json
import sys
import warnings
from collections.abc import Callable, Mapping
from operator import call
from types import MethodType
from typing import Any, Final

from ._codec import TypeCodec, codec_for, describe_opaque, fingerprint, fit, load_untyped, resolve_annotations
from ._identity import code_of, level_outside
from .errors import SerializationError

_VARIADIC_POSITIONAL: Final = 0x04  # inspect.CO_VARARGS
_VARIADIC_KEYWORDS: Final = 0x08  # inspect.CO_VARKEYWORDS
_VARIADIC: Final = _VARIADIC_POSITIONAL | _VARIADIC_KEYWORDS
_SPELLING: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_IN_ASCII: Final = json.JSONEncoder(separators=(",", ":"))
"""Made once: `json.dumps` makes one for each text that is not spelled as usual."""
NOT_GIVEN: Final = "(not given)"
"""In a difference: on this side there is no such argument."""


class Signature:
    """How to write down the inputs of one function, read them back, and tell two of them apart."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._described = _described(function)
        code = getattr(self._described, "__code__", None)
        self._plain_names: tuple[str, ...] | None = None
        """The parameters, where every call with as many positional arguments is already bound."""
        if code is not None and not code.co_flags & _VARIADIC and not code.co_kwonlyargcount:
            self._plain_names = code.co_varnames[: code.co_argcount]
        self._opaque_warned: set[str] = set()

    @functools.cached_property
    def _annotations(self) -> dict[str, Any]:
        return resolve_annotations(self._function)

    def _annotation(self, name: str) -> Any:
        return self._annotations.get(name, Any)

    def reads_as(self, other: "Signature") -> bool:
        """Whether the function has the annotations of another one, as they read: a class may have been defined anew."""
        return repr(self._annotations) == repr(other._annotations)

    @functools.cached_property
    def result(self) -> TypeCodec:
        """The codec of what the function returns."""
        return codec_for(self._annotation("return"))

    @functools.cached_property
    def _inspected(self) -> Any:
        import inspect

        return inspect.signature(self._described, follow_wrapped=False)

    @property
    def names(self) -> tuple[str, ...] | None:
        """The parameters; `None` of what is no plain function, before its first call."""
        code = getattr(self._described, "__code__", None)
        if code is None:
            return None
        if _own_signature(self._described) is not None:
            return tuple(self._inspected.parameters)
        variadic = bool(code.co_flags & _VARIADIC_POSITIONAL) + bool(code.co_flags & _VARIADIC_KEYWORDS)
        return tuple(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + variadic])

    def read_call(self, given: list[Any] | dict[str, Any], what: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments for a call from plain JSON: a list are positional ones, an object those by name.

        A plain dict will do for a dataclass, ISO text for a datetime. `TypeError` for a wrong call, and
        `SerializationError` for what does not fit a parameter.
        """
        bound = self._bound((), given, what) if isinstance(given, dict) else self._bound(tuple(given), {}, what)
        for name, value in bound.arguments.items():
            annotation, kind = self._annotation(name), self._inspected.parameters[name].kind
            try:
                if kind is kind.VAR_POSITIONAL:
                    bound.arguments[name] = tuple(fit(each, annotation) for each in value)
                elif kind is kind.VAR_KEYWORD:
                    bound.arguments[name] = {key: fit(each, annotation) for key, each in value.items()}
                else:
                    bound.arguments[name] = fit(value, annotation)
            except SerializationError as error:
                msg = f"argument {name!r} of {what} does not fit: {error}"
                raise SerializationError(msg) from error
        return bound.args, bound.kwargs

    @functools.cached_property
    def _codecs(self) -> dict[str, TypeCodec]:
        """The codec of each parameter; `*args` is a tuple, `**kwargs` a dict."""
        codecs = {}
        annotation: Any
        for name, parameter in self._inspected.parameters.items():
            annotation = self._annotation(name)
            if parameter.kind is parameter.VAR_POSITIONAL:
                annotation = tuple[annotation, ...]
            elif parameter.kind is parameter.VAR_KEYWORD:
                annotation = dict[str, annotation]
            codecs[name] = codec_for(annotation)
        return codecs

    @functools.cached_property
    def _plain_dumps(self) -> tuple[str, list[Callable[[Any], str]]]:
        """The text of a plain call's inputs with gaps, and what fills them."""
        names = self._plain_names or ()
        gaps = ",".join(f'"{name}":%s' for name in names)
        return f"{{{gaps}}}", [self._codecs[name].dump for name in names]

    @functools.cached_property
    def _defaults(self) -> dict[str, Any]:
        import inspect

        parameters = self._inspected.parameters
        nothing: dict[Any, Any] = {inspect.Parameter.VAR_POSITIONAL: (), inspect.Parameter.VAR_KEYWORD: {}}
        defaults = {name: nothing.get(each.kind, each.default) for name, each in parameters.items()}
        return {name: default for name, default in defaults.items() if default is not inspect.Parameter.empty}

    # -- binding ------------------------------------------------------------------------------------------------------

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], what: str) -> dict[str, Any]:
        """The arguments by parameter name, defaults included. `TypeError` for a wrong call, which says of `what`."""
        bound = self._bound(args, kwargs, what)
        bound.apply_defaults()
        return dict(bound.arguments)

    def names_for_id(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], arguments: dict[str, Any]
    ) -> dict[str, Any]:
        """The arguments, and where an object takes anything for the function that it wraps, those by its names too.

        In the journal they have the names of `__call__`.
        """
        function = self._described
        wrapped = getattr(function, "__wrapped__", None)
        code = getattr(type(function).__call__, "__code__", None)
        if wrapped is None or code is None or not code.co_flags & _VARIADIC:
            return arguments
        with contextlib.suppress(TypeError):  # it may give the function other ones
            return {**Signature(wrapped).bind(args, kwargs, "the call"), **arguments}
        return arguments

    def _bound(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], what: str) -> Any:
        try:
            return self._inspected.bind(*args, **kwargs)
        except TypeError as error:
            msg = f"{what} takes {self._inspected}, and was called otherwise: {error}"
            raise TypeError(msg) from None

    def unbind(self, arguments: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments for a call, from arguments by parameter name."""
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for name, parameter in self._inspected.parameters.items():
            if name not in arguments:
                continue  # one that came later: the function's own default
            if parameter.kind is parameter.VAR_POSITIONAL:
                args.extend(arguments[name])
            elif parameter.kind is parameter.VAR_KEYWORD:
                kwargs.update(arguments[name])
            elif parameter.kind is parameter.KEYWORD_ONLY or len(args) < self._index(name):
                kwargs[name] = arguments[name]
            else:
                args.append(arguments[name])
        return tuple(args), kwargs

    def call_with(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Call another function with these arguments, defaults included: by name what it names of the parameters.

        One that has other names for them gets as many as it takes, by place.
        """
        import inspect

        try:
            parameters = inspect.signature(function).parameters.values()
        except ValueError:  # in C, as `str` and `"order-{}".format`
            return function(*args, **kwargs)
        arguments = self.bind(args, kwargs, "the call")
        by_place, by_name = self.unbind(arguments)
        if any(each.kind is each.VAR_POSITIONAL for each in parameters):
            return function(*by_place, **by_name)
        wanted = [each for each in parameters if each.kind is not each.VAR_KEYWORD]
        if all(each.kind is not each.POSITIONAL_ONLY and _is_known(each, arguments) for each in wanted):
            takes_all, names = len(wanted) < len(parameters), {each.name for each in wanted}
            return function(**{name: value for name, value in arguments.items() if takes_all or name in names})
        return function(*by_place[: len(wanted)])

    def _index(self, name: str) -> int:
        return list(self._inspected.parameters).index(name)

    # -- inputs as text -----------------------------------------------------------------------------------------------

    def dump_step_inputs(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], what: str) -> str:
        """The inputs of a step. What cannot be held is kept as a description, and is not compared on replay."""
        if not kwargs and self._plain_names is not None and len(args) == len(self._plain_names):
            try:
                template, dumps = self._plain_dumps
                return template % tuple(map(call, dumps, args))
            except SerializationError:
                pass
        arguments = self.bind(args, kwargs, what)
        return _as_object({name: self._dump_or_describe(name, value, what) for name, value in arguments.items()})

    def _dump_or_describe(self, name: str, value: Any, what: str) -> str:
        try:
            return self._codecs[name].dump(value)
        except SerializationError as error:
            if name not in self._opaque_warned:
                self._opaque_warned.add(name)
                msg = (
                    f"argument {name!r} of {what} cannot be journaled ({error}): a description is kept instead, "
                    "and it is not compared on replay"
                )
                warnings.warn(msg, RuntimeWarning, stacklevel=level_outside(sys._getframe()))
            return describe_opaque(value)

    def dump_run_inputs(self, arguments: Mapping[str, Any], what: str) -> str:
        """The inputs of a workflow, by name; `SerializationError` that names the argument and the path inside it."""
        texts = {}
        for name, value in arguments.items():
            try:
                texts[name] = self._codecs[name].dump(value)
            except SerializationError as error:
                if name in self._defaults and value is self._defaults[name]:
                    continue  # nobody passed it, and on replay the default stands there again
                msg = f"argument {name!r} of {what} cannot be journaled: {error}"
                raise SerializationError(msg) from error
        return _as_object(texts)

    def load_inputs(self, text: str, what: str) -> dict[str, Any]:
        """The arguments by name, as the journal has them."""
        arguments = {}
        for name, part in _parts(text).items():
            if name not in self._codecs:
                msg = f"{what} has no parameter {name!r} any more, and the journal holds a value for it"
                raise SerializationError(msg)
            try:
                arguments[name] = self._codecs[name].load(part)
            except SerializationError as error:
                msg = f"argument {name!r} of {what} in the journal no longer fits: {error}"
                raise SerializationError(msg) from error
        return arguments

    def shown_inputs(self, text: str) -> dict[str, Any]:
        """The arguments by name for people: those that fit the code no longer, or never did, as the file has them."""
        shown = {}
        for name, part in _parts(text).items():
            try:
                shown[name] = json.loads(part) if _is_opaque(part) else self._codecs[name].load(part)
            except (SerializationError, KeyError):
                shown[name] = json.loads(part)
        return shown

    def without_defaults(self, text: str) -> str:
        """The inputs less those that equal the default: what makes two calls the same, also after a new parameter."""
        return _as_object(dict(sorted(self._given(text).items())))

    def differences(self, recorded: str, current: str) -> list[tuple[str, str, str]]:
        """Name, recorded and current JSON of each argument that differs; opaque ones and defaults never do."""
        if is_fingerprint(recorded) or is_fingerprint(current):
            same = self.as_fingerprint(recorded) == self.as_fingerprint(current)
            return [] if same else [("inputs", recorded, current)]
        before, now = _parts(recorded), _parts(current)
        given_before, given_now = self._given(recorded), self._given(current)
        found = []
        for name in dict.fromkeys((*given_before, *given_now)):
            old, new = before.get(name, NOT_GIVEN), now.get(name, NOT_GIVEN)
            if old != new and not (_is_opaque(old) or _is_opaque(new) or self._respelled(name, old) == new):
                found.append((name, old, new))
        return found

    def _respelled(self, name: str, recorded: str) -> str | None:
        """A recorded value as today's code would write it: a class may have got a new field with a default."""
        try:
            codec = self._codecs[name]
            try:
                value = codec.load(recorded)
            except SerializationError:  # it does not fit today's annotation, and may be the same value all the same
                value = load_untyped(recorded)
            return _normal(codec.dump(value))
        except (KeyError, ValueError, SerializationError):
            return None

    def as_fingerprint(self, text: str) -> str:
        """The stand-in for inputs that are not to be recorded, of what can be compared; itself for one that is one."""
        if is_fingerprint(text):
            return text
        comparable = {name: part for name, part in sorted(self._given(text).items()) if not _is_opaque(part)}
        return f'{{"$fingerprint":"{fingerprint(_as_object(comparable))}"}}'

    def _given(self, text: str) -> dict[str, str]:
        parts = _parts(text)
        for name, default in self._defaults.items():
            if name in parts and parts[name] == self._default_text(name, default):
                del parts[name]
        return parts

    def _default_text(self, name: str, default: Any) -> str | None:
        try:
            return _normal(self._codecs[name].dump(default))
        except SerializationError:
            return None


def _described(function: Callable[..., Any]) -> Callable[..., Any]:
    """Whose parameters those of a function are: of a wrapper that takes anything, those of what it wraps.

    One with parameters of its own keeps them, where `inspect` would follow `__wrapped__` all the same: it may give the
    function more than it is given.
    """
    if isinstance(function, MethodType):  # it has the attributes of its function, `__wrapped__` too
        return MethodType(_described(function.__func__), function.__self__)
    while hasattr(function, "__wrapped__") and _own_signature(function) is None and _takes_anything(function):
        function = function.__wrapped__
    return function


def _own_signature(function: Any) -> Any:
    """The `__signature__` that a function was given; `functools.wraps` copies that of what is wrapped."""
    given = getattr(function, "__signature__", None)
    return None if given is getattr(getattr(function, "__wrapped__", None), "__signature__", None) else given


def _takes_anything(function: Callable[..., Any]) -> bool:
    code = getattr(function, "__code__", None)
    if code is None:  # a descriptor in C, as what `functools.lru_cache` makes, has no signature at all
        return code_of(function) is None and hasattr(function, "__get__")
    return bool(code.co_flags & _VARIADIC)


def _is_known(parameter: Any, arguments: dict[str, Any]) -> bool:
    return parameter.name in arguments or parameter.default is not parameter.empty


def is_fingerprint(text: str) -> bool:
    """Whether these inputs were not recorded."""
    return text.startswith('{"$fingerprint":')


def _is_opaque(text: str) -> bool:
    return text.startswith('{"$opaque":')


def _as_object(texts: Mapping[str, str]) -> str:
    return "{" + ",".join(f'"{name}":{text}' for name, text in texts.items()) + "}"


def _parts(text: str) -> dict[str, str]:
    """The JSON of each argument, in one normal spelling."""
    try:
        return {name: _spell(value) for name, value in json.loads(text).items()}
    except (ValueError, AttributeError, RecursionError) as error:
        msg = f"the inputs in the journal are no JSON object, so durable did not write them ({error}): {text[:80]}"
        raise SerializationError(msg) from error


def _normal(text: str) -> str:
    return _spell(json.loads(text))


def _spell(value: Any) -> str:
    text = _SPELLING.encode(value)
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which no text in the file may hold
        return _IN_ASCII.encode(value)
    return text

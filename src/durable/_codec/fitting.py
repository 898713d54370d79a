"""What somebody sent, as the type that its reader wants: what is of its type stays as it is. Import it late."""

import typing
from types import NoneType
from typing import Any, Final

from durable._codec.annotations import UNIONS, with_arguments
from durable._codec.belonging import belongs, comes_back
from durable._codec.choices import only_fit
from durable._codec.classes import kind_of
from durable._codec.conversion import DurableConverter, make_converter
from durable._codec.hooks import user_hooks
from durable._codec.json_text import decode, encode
from durable._codec.shapes import is_open
from durable._codec.typed import hooks_for

_CONTAINERS: Final = frozenset({list, tuple, dict, set, frozenset})


class FittingConverter(DurableConverter):
    """Structures values instead of trees: each part that a hook meets is fitted by itself."""

    def get_structure_hook(self, type: Any, cache_result: bool = True) -> Any:  # noqa: ARG002, FBT002 - as in cattrs
        """For parts: here the hooks that cattrs and our shapes make ask for theirs."""
        return self.structure

    def read_named(self, tree: Any, hint: Any) -> Any:
        """Parts are values here."""
        return self.structure(tree, hint)

    def structure(self, value: Any, annotation: Any) -> Any:
        """The value itself if it is of the type; else what is made of its parts, or of its plain form."""
        annotation = with_arguments(annotation)
        try:
            if belongs(value, annotation):
                return value
            if type(value) in _CONTAINERS and not (user_hooks.cover(annotation) or is_open(annotation)):
                return self._of_parts(value, annotation)
        except Exception as error:
            finding = self.explain(error)
            if finding.steps:  # a part that fits in no form; the whole may fit, and else says best why not
                raise finding from None
        if comes_back(value, annotation):
            return value
        return hooks_for(annotation).read(decode(encode(_plain_form(value))), annotation)

    def _of_parts(self, value: Any, annotation: Any) -> Any:
        if typing.get_origin(annotation) in UNIONS:
            members = tuple(member for member in typing.get_args(annotation) if member is not NoneType)
            return only_fit(value, members, self) if len(members) > 1 else self.structure(value, *members)
        hook = super().get_structure_hook(annotation)
        return hook(value if type(value) is dict else list(value), annotation)


def _plain_form(value: Any) -> Any:
    """The value without what tells its types, as any sender could have written it."""
    if type(value) is dict:
        pairs = [[_plain_form(key), _plain_form(part)] for key, part in value.items()]
        return dict(pairs) if all(type(key) is str for key in value) else pairs
    if type(value) in _CONTAINERS:
        return [_plain_form(item) for item in value]
    if kind_of(type(value)) == "tuple":
        return _plain_form(value._asdict())
    return user_hooks.unstructure(value)


fitting: Final = make_converter(FittingConverter)

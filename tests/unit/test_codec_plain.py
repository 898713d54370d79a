"""Plain types are held against their annotation, which may have changed since a value was written."""

import enum
import math
from typing import Annotated, Any, Literal, Optional, Union

import pytest

from durable._codec import codec_for
from durable._codec.exact import identical
from durable._codec.plain import PlainCodec
from durable.errors import SerializationError


class Color(enum.IntEnum):
    RED = 1


FITTING = [
    (int, 1, "1"),
    (int, True, "true"),
    (int, 10**30, str(10**30)),
    (int, Color.RED, None),
    (float, 1, "1"),
    (float, 1.5, "1.5"),
    (float, math.inf, None),
    (bool, False, "false"),
    (str, "x", '"x"'),
    (str, '"$x', '"\\"$x"'),
    (str, "\ud800", None),
    (None, None, "null"),
    (Optional[str], None, "null"),  # noqa: UP045
    (int | str, "x", '"x"'),
    (Union[int, list[str]], ["x"], '["x"]'),  # noqa: UP007
    (Annotated[int, []], 1, "1"),
    (Literal["a", 2], 2, "2"),
    (list, [1, "x"], '[1,"x"]'),
    (list, [1, "x"], '[1,"x"]'),
    (list[int], [1, 2], "[1,2]"),
    (list[float], [1.0, math.nan], None),
    (list[list[int]], [[1], []], "[[1],[]]"),
    (list[int | list[str]], [1, ["x"]], '[1,["x"]]'),
    (list[Any], [1, (2,)], None),
    (dict, {"a": 1}, '{"a":1}'),
    (dict, {1: 2}, None),
    (dict[str, int | None], {"a": None}, '{"a":null}'),
    (dict[str, Any], {"a": [1.5]}, '{"a":[1.5]}'),
    (dict[str, int], {"$a": 1}, None),
    (tuple, (1, "x"), None),
    (set, {1}, None),
]
MISFITS = [
    (int, "5"),
    (int, 1.5),
    (int, None),
    (bool, 1),
    (float, "1"),
    (str, None),
    (str, 5),
    (str, ["x"]),
    (None, 1),
    (Optional[str], 1),  # noqa: UP045
    (int | str, 1.5),
    (int | str, None),
    (Literal["a", 2], "b"),
    (Literal["a", 1], True),
    (Literal["a", 1], ["a"]),
    (Literal["a"] | None, {"a": 1}),
    (list, {"a": 1}),
    (list[int], ["5"]),
    (list[int], [1, None]),
    (list[int], [None]),
    (list[list[int]], [[1], 2]),
    (dict, [1]),
    (dict[str, int], {"a": "1"}),
    (tuple, [1]),
    (set, [1]),
]


@pytest.mark.parametrize(("annotation", "value", "text"), FITTING)
def test_what_fits_is_written_as_if_there_were_no_annotation(annotation, value, text):
    codec = codec_for(annotation)
    assert type(codec) is PlainCodec
    assert codec.dump(value) == codec.dump_load(value)[0] == codec_for(Any).dump(value)
    assert text is None or codec.dump(value) == text
    for back in (codec.load(codec.dump(value)), codec.dump_load(value)[1]):
        assert identical(back, value)


@pytest.mark.parametrize(("annotation", "value"), MISFITS)
def test_what_never_fitted_comes_back_as_it_was(annotation, value):
    codec = codec_for(annotation)
    text, back = codec.dump_load(value)
    assert text == codec.dump(value) == f'{{"$value":{codec_for(Any).dump(value)}}}'
    assert identical(back, value)
    assert identical(codec.load(text), value)


@pytest.mark.parametrize(("annotation", "value"), MISFITS)
def test_what_fitted_another_annotation_is_refused(annotation, value):
    with pytest.raises(SerializationError, match=r"^\$: the journal has an? .*, and the code says ."):
        codec_for(annotation).load(codec_for(Any).dump(value))


def test_the_message_has_both_types():
    with pytest.raises(SerializationError, match=r"^\$: the journal has a str, and the code says int$"):
        codec_for(int).load('"5"')
    with pytest.raises(SerializationError, match=r"the journal has a list, and the code says dict\[str, int\]$"):
        codec_for(dict[str, int]).load("[1]")

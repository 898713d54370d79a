"""Whatever the values and however nested: they come back exactly, or are refused with a path."""

import contextlib
import enum
import json
import math
import uuid
from dataclasses import dataclass, field, make_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import TzInfo

from durable._codec import codec_for, dump_error, load_error
from durable._codec.exact import identical
from durable._codec.exceptions import describe
from durable.errors import SerializationError

# It speaks of the strategy, whose parts repeat as they are nested.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")


class Colour(enum.Enum):
    RED = "red"
    TWO = (2, "x")


class Number(enum.IntEnum):
    ONE = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 4


class Point(NamedTuple):
    x: Any
    y: Any = 0


@dataclass
class Base:
    a: Any
    b: Any = field(default=None)


@dataclass
class Sub(Base):
    c: Any = 0


@dataclass(frozen=True, slots=True)
class Frozen:
    a: Any


@attrs.define
class Attrs:
    _a: Any
    b: Any = 1


ZONES = [None, UTC, timezone(timedelta(minutes=-90)), timezone(timedelta(seconds=1), "n"),
         ZoneInfo("Europe/Berlin"), ZoneInfo("UTC"), TzInfo(0), TzInfo(-19800)]  # fmt: skip

texts = st.text() | st.text(st.characters(categories=["Cs", "Lu"])) | st.sampled_from(["$", "$type"])
atoms = (
    st.none() | st.booleans() | st.integers() | st.floats() | texts
    | st.integers(300, 700).map(lambda n: -(10**n))
)  # fmt: skip
moments = st.datetimes() | st.builds(
    lambda at, zone, fold: at.replace(tzinfo=zone, fold=fold),
    st.datetimes(), st.sampled_from(ZONES), st.integers(0, 1),
)  # fmt: skip
leaves = st.one_of(
    atoms, moments, st.binary(), st.complex_numbers(), st.dates(), st.timedeltas(), st.uuids(),
    st.times().map(lambda at: at.replace(tzinfo=UTC, fold=1)), st.times(), st.decimals(),
    st.sampled_from([*Colour, *Number]), st.integers(0, 7).map(Rights),
    st.text("ab/.ü").map(PurePosixPath), st.builds(range, st.integers(), st.integers()),
    st.binary().map(bytearray),
)  # fmt: skip


def is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except (TypeError, ValueError):  # a signalling nan among Decimals
        return False
    return True


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = inner.filter(is_hashable)
    return st.one_of(
        st.lists(inner, max_size=4), st.lists(inner, max_size=3).map(tuple),
        st.lists(keys, max_size=4).map(set), st.lists(keys, max_size=4).map(frozenset),
        st.dictionaries(texts, inner, max_size=4), st.dictionaries(keys, inner, max_size=3),
        st.builds(Point, inner, inner), st.builds(Base, inner, inner), st.builds(Sub, inner, inner),
        st.builds(Frozen, inner), st.builds(Attrs, inner, inner),
    )  # fmt: skip


values = st.recursive(leaves, containers, max_leaves=12)

annotations = st.recursive(
    st.sampled_from([
        Any, object, None, int, float, str, bool, bytes, complex, datetime, date, time, timedelta,
        uuid.UUID, Decimal, PurePosixPath, Colour, Number, Rights, Point, Base, Sub, Frozen, Attrs,
        list, dict, tuple, set, int | str, Base | Point, datetime | None,
    ]),
    lambda inner: st.one_of(
        inner.map(lambda t: list[t]), inner.map(lambda t: tuple[t, ...]), inner.map(lambda t: set[t]),
        inner.map(lambda t: frozenset[t]), inner.map(lambda t: t | None if t not in (None, Any) else t),
        st.tuples(inner, inner).map(lambda two: tuple[two]),
        st.tuples(inner, inner).map(lambda two: dict[two]),
        inner.map(lambda t: make_dataclass("Made", [("field", t)])),
    ),
    max_leaves=3,
)  # fmt: skip


def check(annotation: Any, value: Any) -> None:
    codec = codec_for(annotation)
    text, back = codec.dump_load(value)
    text.encode()
    assert identical(value, back)
    assert identical(value, codec.load(text))
    assert codec.dump(back) == text


@settings(max_examples=125, deadline=None)
@given(values)
def test_any_value(value: Any) -> None:
    check(Any, value)


@settings(max_examples=125, deadline=None)
@given(annotations, values)
def test_any_value_under_any_annotation(annotation: Any, value: Any) -> None:
    check(annotation, value)


TYPED: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(), float: st.floats(), str: texts, bytes: st.binary(), datetime: moments,
    uuid.UUID: st.uuids(), Decimal: st.decimals(), Colour: st.sampled_from(Colour), Any: values,
    Base: st.builds(Base, leaves, leaves), Point: st.builds(Point, leaves, leaves), bool: st.booleans(),
}  # fmt: skip


@settings(max_examples=125, deadline=None)
@given(st.data())
def test_values_that_fit_their_annotation(data: st.DataObject) -> None:
    one, two = (data.draw(st.sampled_from(list(TYPED))) for _ in range(2))
    firsts, seconds = TYPED[one], TYPED[two]
    cls = make_dataclass("Made", [("a", one), ("b", list[two]), ("c", dict[str, one])])
    check(tuple[one, two], (data.draw(firsts), data.draw(seconds)))
    check(list[one | None], data.draw(st.lists(firsts | st.none(), max_size=3)))
    parts = (
        data.draw(st.lists(seconds, max_size=3)),
        data.draw(st.dictionaries(texts, firsts, max_size=3)),
    )
    check(cls, cls(data.draw(firsts), *parts))


@settings(max_examples=100, deadline=None)
@given(st.lists(values, max_size=3), st.dictionaries(st.text(), values, max_size=3), st.text())
def test_exceptions(args: list[Any], attributes: dict[str, Any], note: str) -> None:
    error = ValueError(*args)
    vars(error).update(attributes)
    error.add_note(note)
    back = load_error(dump_error(error))
    assert identical(error.args, back.args)
    assert identical(error, back)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_exceptions_that_lead_to_each_other(data: st.DataObject) -> None:
    errors = [ValueError(n) for n in range(data.draw(st.integers(1, 7)))]
    any_of_them = st.sampled_from(errors)
    links = data.draw(st.lists(st.tuples(any_of_them, st.sampled_from("abclst"), any_of_them), max_size=20))
    for error, how, other in links:
        if how == "c":
            error.__cause__ = other
        elif how == "t":
            error.__context__ = other
        else:
            vars(error)[how] = {"l": [other, other], "s": {other}}.get(how, other)
    for error in errors:
        back = load_error(dump_error(error))
        assert identical(error, back)
        assert describe(back) == describe(error)


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.text() | st.sampled_from(["$type", "$enum", "$dict", "$set", "$error", "$hooked", "$value"]),
        inner | st.sampled_from(["os:system", "builtins:eval", f"{__name__}:Base", f"{__name__}:Colour"]),
        max_size=3,
    ),
)  # fmt: skip


@settings(max_examples=125, deadline=None)
@given(JSON_LIKE, annotations)
def test_foreign_text_is_read_or_refused(tree: Any, annotation: Any) -> None:
    with contextlib.suppress(SerializationError):
        codec_for(annotation).load(json.dumps(tree))


@given(st.floats())
def test_floats_are_compared_by_their_digits(value: float) -> None:
    assert identical(value, -value) == math.isnan(value)

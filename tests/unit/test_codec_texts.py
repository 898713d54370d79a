"""The text of a value under an annotation, to the letter: what a journal of an earlier version holds is still read."""

import pathlib
from collections import abc, deque
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import attrs
import pydantic
import pytest

from durable._codec import codec_for, fit
from durable._codec.json_text import encode
from durable.errors import RetryAfter, SerializationError

T = TypeVar("T")


@dataclass
class Item:
    sku: str
    count: int = 1


@dataclass
class Ware:
    sku: str


@attrs.define
class Parcel:
    to: str
    weight: float = 1.0


class Point(NamedTuple):
    x: int
    y: float = 0.5


class Shelf(pydantic.BaseModel):
    name: str = pydantic.Field(alias="label")
    items: tuple[list[int], dict[str, int]] = ([], {})


class Tagged(pydantic.BaseModel):
    parts: Any = None


class Meeting(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    day: date

    @pydantic.computed_field
    def names(self) -> set[str]:
        return {"a", "b"}


class Team(pydantic.BaseModel):
    names: set[str]


class Box(Generic[T]): ...


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        (list[date], [date(2026, 1, 2)], '["2026-01-02"]'),
        (list[list[Item]], [[Item("a")], []], '[[{"sku":"a","count":1}],[]]'),
        (abc.Sequence[Point], [Point(1)], '[{"x":1,"y":0.5}]'),
        (set[date], {date(2026, 1, 2), date(2025, 1, 2)}, '["2025-01-02","2026-01-02"]'),
        (frozenset[Point], frozenset({Point(2), Point(1)}), '[{"x":1,"y":0.5},{"x":2,"y":0.5}]'),
        (abc.Set[date], {date(2026, 1, 2)}, '["2026-01-02"]'),
        (tuple[date, ...], (date(2026, 1, 2),) * 2, '["2026-01-02","2026-01-02"]'),
        (tuple[date, int, Item], (date(2026, 1, 2), 5, Item("a")), '["2026-01-02",5,{"sku":"a","count":1}]'),
        (dict[str, date], {"a": date(2026, 1, 2)}, '{"a":"2026-01-02"}'),
        (dict[date, Item], {date(2026, 1, 2): Item("a")}, '[["2026-01-02",{"sku":"a","count":1}]]'),
        (abc.Mapping[str, Point], {"a": Point(1)}, '{"a":{"x":1,"y":0.5}}'),
        (Item | None, Item("a"), '{"sku":"a","count":1}'),
        (Item | None, None, "null"),
        (int | str | None, 5, "5"),
        (Literal["a", 5], 5, "5"),
        (Point, Point(1), '{"x":1,"y":0.5}'),
        (Parcel, Parcel("me"), '{"to":"me","weight":1.0}'),
        (Shelf, Shelf(label="s", items=([1], {"b": 2})), '{"label":"s","items":[[1],{"b":2}]}'),
        (Meeting, Meeting(day=date(2026, 1, 2)), '{"day":"2026-01-02"}'),
        (
            list[Item | Parcel],
            [Item("a"), Parcel("me")],
            f'[{{"$type":"{__name__}:Item","sku":"a","count":1}},{{"$type":"{__name__}:Parcel","to":"me","weight":1.0}}]',
        ),
        (pathlib.PurePosixPath, pathlib.PurePosixPath("/a"), '"/a"'),
        (list[bytes], [b"\x00" * 60], f'["{"A" * 80}"]'),
        (bytes, b"abc", '"YWJj"'),
        (datetime, NOON, '"2026-01-01T12:00:00+00:00"'),
    ],
)
def test_the_text_of_a_value_under_its_annotation(annotation, value, text):
    codec = codec_for(annotation)
    assert codec.dump(value) == text
    back = codec.load(text)
    assert (type(back), back) == (type(value), value)


@pytest.mark.parametrize("parts", [{1}, [{1}], {"a": frozenset({1})}, ({1},), [[{"b": [{1}]}]], [1, {2}]])
def test_a_set_in_a_model_is_found_wherever_it_is(parts):
    """It would be written in any order, so that equal inputs would differ; the self-describing form sorts it."""
    assert codec_for(Tagged).dump(Tagged(parts=parts)).startswith('{"$')
    assert codec_for(Tagged).dump(Tagged(parts=[1, {"a": [2]}])) == '{"parts":[1,{"a":[2]}]}'


def test_a_set_that_a_model_declares_is_sorted():
    text = codec_for(Team).dump(Team(names={"b", "c", "a"}))
    assert text.startswith(f'{{"$type":"{__name__}:Team","names":{{"$set":["a","b","c"]}}')


@pytest.mark.parametrize(
    ("annotation", "text", "words"),
    [
        (list[date], "5", "$: list is expected here, not int"),
        (list[Item], '[{"sku":"a"},{"sku":2}]', "$[1].sku: str is expected here, not int"),
        (list[list[Item]], '[[],[{"sku":2}]]', "$[1][0].sku: str is expected here, not int"),
        (set[int], "[1,1]", "$: a set is expected here, and members are repeated"),
        (tuple[int, str], "[1]", "$: 2 items are expected here, not 1"),
        (tuple[int, str], "5", "$: list is expected here, not int"),
        (tuple[int, str, int], '[1,"a","b"]', "$[2]: int is expected here, not str"),
        (dict[str, Item], "[]", "$: dict is expected here, not list"),
        (dict[int, str], "5", "$: list is expected here, not int"),
        (dict[str, Item], '{"a":{"sku":2}}', "$.a.sku: str is expected here, not int"),
        (Item, '{"count":1}', "$.sku: this field is missing"),
        (Item, '{"sku":"a","colour":1}', "$: Item has no field 'colour'"),
        (Point, '{"x":"1"}', "$.x: int is expected here, not str"),
        (Point, '{"x":1,"z":1}', "has no field 'z'"),
    ],
)
def test_a_text_that_does_not_fit_says_where(annotation, text, words):
    with pytest.raises(SerializationError) as error:
        codec_for(annotation).load(text)
    assert str(error.value).endswith(words)


@pytest.mark.parametrize(
    ("value", "annotation", "words"),
    [
        ({"z": 1}, Item | Parcel, "fits none of Item | Parcel"),
        ({"sku": "a"}, Item | Ware | Parcel, "fits more than one of Item | Ware | Parcel"),
    ],
)
def test_a_signal_that_fits_no_member_or_several_names_them(value, annotation, words):
    with pytest.raises(SerializationError) as error:
        fit(value, annotation)
    assert words in str(error.value)


def test_a_value_of_the_readers_type_is_taken_as_it_is():
    items = [Item("a")]
    assert fit(items, list[Item]) == items
    assert fit({1, 2}, set[int]) == {1, 2}
    assert fit({"a": date(2026, 1, 2)}, dict[str, date]) == {"a": date(2026, 1, 2)}
    assert fit((1, Item("b")), tuple[int, Item]) == (1, Item("b"))
    value = object()
    assert fit(value, Any) is value
    assert fit(5, Item | int) == 5


@pytest.mark.parametrize("text", ['"YWJj\\n"', '"YW Jj"', '"YQ"'])
def test_bytes_are_base64_and_nothing_else(text):
    with pytest.raises(SerializationError):
        codec_for(bytes).load(text)


@pytest.mark.parametrize("seconds", [True, "5", None])
def test_retry_after_takes_a_number(seconds):
    with pytest.raises(TypeError, match=f"RetryAfter takes a number of seconds, not {seconds!r}"):
        RetryAfter(seconds)


@pytest.mark.parametrize(("tree", "what"), [({1}, "set"), ([Item("a")], "Item"), ({"a": (b"x",)}, "bytes")])
def test_what_is_no_json_is_refused(tree: Any, what: str) -> None:
    with pytest.raises(TypeError, match=f"^a {what} is not JSON$"):
        encode(tree)


@pytest.mark.parametrize(
    ("annotation", "text", "message"),
    [
        (list[date], '["2026-01-02","soon"]', r"\$\[1\]: .*soon"),
        (tuple[date, ...], '["2026-01-02","soon"]', r"\$\[1\]: .*soon"),
        (set[date], '["2026-01-02","soon"]', r"\$\[1\]: .*soon"),
        (tuple[int, str, int], '[1,"a","b"]', r"\$\[2\]: int is expected here, not str"),
        (tuple[int, str], "[1]", r"\$: 2 items are expected here, not 1"),
        (deque[int], '[1,"b"]', r"\$\[1\]: int is expected here, not str"),
        (Point, '{"x":1,"y":"far"}', r"\$\.y: float is expected here, not str"),
        (list[date] | dict[str, date], '"a"', r"\$: fits none of list\[.*date\] \| dict\[str, .*date\]"),
    ],
)
def test_the_path_leads_into_containers(annotation: Any, text: str, message: str) -> None:
    with pytest.raises(SerializationError, match=f"^{message}"):
        codec_for(annotation).load(text)

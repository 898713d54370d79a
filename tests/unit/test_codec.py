"""Values come back exactly as they were, annotated or not, or are refused with their path."""

import enum
import math
import socket
import sqlite3
import uuid
from collections import OrderedDict, namedtuple
from collections.abc import Collection, Iterable
from contextlib import closing
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import cached_property
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    Protocol,
    TypedDict,
    TypeVar,
    Union,
)
from xml.etree.ElementTree import Element
from zoneinfo import ZoneInfo

import attrs
import pydantic
import pytest

from durable._codec import (
    codec_for,
    converter,
    load_lenient,
)
from durable._codec.exact import difference, identical
from durable.errors import SerializationError

T = TypeVar("T")
UserId = NewType("UserId", int)
Untyped = namedtuple("Untyped", "x y")  # noqa: PYI024 - it is the old kind that is tested
Called = NamedTuple("Called", [("x", int), ("on", date)])  # noqa: UP014 - it is this way that is tested
Renamed = namedtuple("OtherName", "x")  # noqa: PYI024 - as above


class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


class Unequal(enum.Enum):
    NAN = math.nan


class Size(enum.IntEnum):
    SMALL = 1
    BIG = 2


class Mood(enum.StrEnum):
    GLAD = "glad"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2
    ALL = 3


class Bits(enum.IntFlag):
    A = 1
    B = 2


class Point(NamedTuple):
    x: int
    y: float = 0.5


class Place(Point):
    """Which has no annotations of its own."""

    __slots__ = ()


class Movie(TypedDict, total=False):
    title: str
    at: datetime


@dataclass
class Item:
    sku: str
    when: datetime | None = None


@dataclass
class Order:
    id: str
    items: list[Item] = field(default_factory=list)
    total: float = 0.0


@dataclass
class Rush(Order):
    hours: int = 1


@dataclass(frozen=True, slots=True)
class Frozen:
    tags: frozenset[str]
    by: dict[int, Decimal]
    size: Size = Size.SMALL


@dataclass
class Derived:
    width: int
    area: int = field(init=False)
    scale: InitVar[int] = 2

    def __post_init__(self, scale: int) -> None:
        self.area = self.width * scale
        self.extra = [self.area]


@dataclass
class Growing:
    """Its `__post_init__` is not to be repeated."""

    count: int

    def __post_init__(self) -> None:
        self.count += 1


@dataclass
class Box(Generic[T]):
    content: T
    more: list[T] = field(default_factory=list)


@dataclass
class Node:
    name: str
    next: Optional["Node"] = None


@dataclass
class Loose:
    anything: Any
    thing: object = None
    either: int | str | Item = 0
    several: "list[Item | Point]" = field(default_factory=list)
    error: Exception | None = None
    bare: dict = field(default_factory=dict)


@dataclass
class Form:
    model_fields: str = "as a pydantic model has them"


@dataclass
class Cached:
    n: int

    @cached_property
    def doubled(self) -> int:
        return 2 * self.n


@attrs.define
class Private:
    _secret: int
    name: str = attrs.field(default="x", converter=str)
    late: list[int] = attrs.field(init=False, factory=list)
    absent: int = attrs.field(init=False)


@attrs.define
class Nothing:
    pass


@attrs.frozen(cache_hash=True, slots=False)
class Hashed:
    name: str


class Model(pydantic.BaseModel):
    name: str
    at: datetime
    anything: Any = None
    n: int = pydantic.Field(default=1, alias="number")


class Invoice(pydantic.BaseModel, frozen=True):
    created_at: datetime
    opens: time | None = None


class Unordered(pydantic.BaseModel):
    names: set[str]
    nested: list[frozenset[str]] = []


class Shelf(pydantic.BaseModel, Generic[T]):
    content: T
    _hidden: int = pydantic.PrivateAttr(default=3)


@dataclass
class Wrong(Exception):
    code: int


class Animal(Protocol):
    name: str


class Odd(dict):
    pass


BERLIN = ZoneInfo("Europe/Berlin")
SHORT = timezone(timedelta(microseconds=-500_000))
NAMED = timezone(timedelta(hours=5, minutes=30, microseconds=7), "odd")
MOMENT = datetime(2026, 10, 25, 2, 30, 1, 5, tzinfo=UTC)
HUGE = 10**5000
PAIR = "\ud83d" + "\ude00"  # two characters that JSON would join

VALUES: list[tuple[Any, Any]] = [
    *[(int, n) for n in (0, -1, 2**53 + 1, -(2**64), HUGE, -HUGE, 10**700)],
    *[(float, x) for x in (0.0, -0.0, 1e300, 5e-324, math.inf, -math.inf, math.nan, 0.1)],
    *[(str, s) for s in ("", 'a"\\\n\x00\x7f', "Grüße 🎈", "\ud800", "\udc00\ud800", PAIR, "$x")],
    *[(bool, True), (bool, False), (type(None), None), (None, None)],
    *[(complex, complex(x, y)) for x, y in ((1, -0.0), (math.nan, math.inf))],
    *[(bytes, b) for b in (b"", b"\x00\xff")],
    *[(datetime, datetime(2026, 1, 1, tzinfo=zone)) for zone in (SHORT, timezone(-timedelta(seconds=1)))],
    (time, time(1, 2, tzinfo=SHORT)),
    (bytearray, bytearray(b"\x01")),
    (range, range(1, 9, 2)),
    (list[int], [1, 2]),
    (list[Any], [1, [True, 1.0, 1], "x"]),
    (tuple[int, str], (1, "a")),
    (tuple[()], ()),
    (tuple[int, ...], (1, 2, 3)),
    (set[str], {"b", "a", "ü"}),
    (frozenset[tuple[int, str]], frozenset({(2, "b"), (1, "a")})),
    (set, {1, "a", None, (1,), frozenset({2})}),
    (dict[str, int], {"b": 1, "a": 2}),
    (dict[str, int], {"$type": 1, "": 2, PAIR: 3}),
    (dict[str, date], {"$date": date(2026, 1, 1)}),
    (dict[int, str], {1: "a", -5: "b"}),
    (dict[tuple[int, Colour], list[Item]], {(1, Colour.RED): [Item("s", MOMENT)]}),
    (dict, {1: "a", True and "1": "b", None: 2, 1.5: (), b"x": {}}),
    (datetime, MOMENT),
    (datetime, datetime(2026, 1, 2)),  # noqa: DTZ001 - naive on purpose
    (datetime, datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1)),
    (datetime, datetime(2026, 10, 25, 2, 30, fold=1)),  # noqa: DTZ001 - naive on purpose
    (datetime, datetime(2026, 1, 2, tzinfo=NAMED)),
    (datetime, datetime(2026, 1, 2, tzinfo=timezone(timedelta(seconds=-1)))),
    (date, date(1, 1, 1)),
    (time, time(1, 2, 3, 4)),
    (time, time(1, 2, tzinfo=UTC, fold=1)),
    (time, time(1, 2, tzinfo=BERLIN)),
    (timedelta, timedelta(days=-1, microseconds=1)),
    (tzinfo, BERLIN),
    (timezone, NAMED),
    (ZoneInfo, BERLIN),
    (uuid.UUID, uuid.UUID(int=5)),
    *[(Decimal, Decimal(d)) for d in ("-0", "1.10", "1E+5", "NaN", "-sNaN12", "Infinity")],
    (Path, Path("/a/b c")),
    (PurePath, PurePosixPath("a")),
    (PurePath, PureWindowsPath("c:/a")),
    (Path, PureWindowsPath("c:/a")),
    (PurePosixPath, PurePosixPath("ü")),
    *[(Colour, c) for c in Colour],
    (Unequal, Unequal.NAN),
    (Size, Size.BIG),
    (Mood, Mood.GLAD),
    (Rights, Rights.READ | Rights.WRITE),
    (Rights, Rights(0)),
    (Bits, Bits.A | Bits.B | Bits(8)),
    (Point, Point(1, 2.5)),
    (Untyped, Untyped(1, [2])),
    (Renamed, Renamed(1)),
    (Movie, {"title": "x", "at": MOMENT}),
    (Movie, {"title": "x", "year": 5}),
    (Order, Order("1", [Item("a"), Item("b", MOMENT)], 5)),
    (Order, Rush("1", hours=3)),
    (list[Order], [Order("1"), Rush("2")]),
    (Order, Order("1", total=math.nan)),
    (Frozen, Frozen(frozenset({"b", "a"}), {1: Decimal("0.10")}, Size.BIG)),
    (Derived, Derived(3, 5)),
    (Growing, Growing(1)),
    (Box[int], Box(1, [2])),
    (Box[Item], Box[Item](Item("a"), [Item("b")])),
    (Box, Box({1: Item("a")})),
    (Node, Node("a", Node("b"))),
    (Form, Form("x")),
    (Loose, Loose((1, {2}), b"x", Item("a"), [Item("b"), Point(1)], ValueError("x", 1), {1: 2})),
    (Private, Private(5, "n")),
    (Hashed, Hashed("a")),
    (Model, Model(name="a", at=MOMENT, number=5)),
    (Model, Model(name="a", at=MOMENT, anything=(1, {2}))),
    (Unordered, Unordered(names={"b", "a", "c"}, nested=[frozenset({"y", "x"})])),
    (Shelf[int], Shelf[int](content=1)),
    (Shelf, Shelf(content=(1, 2))),
    (Animal, Item("a")),
    (UserId, UserId(5)),
    (Annotated[Item, "x"], Item("a")),
    (Annotated[int, []], 5),
    (Literal["a", 1], "a"),
    (Literal[Colour.RED], Colour.RED),
    (list[Literal[Mood.GLAD, Size.SMALL]], [Mood.GLAD, "glad", Size.SMALL, 1, True]),
    (Item | None, None),
    (Item | None, Item("a")),
    (Union[Item, Point, str], Point(1)),  # noqa: UP007 - the old spelling
    (datetime | str, MOMENT),
    (datetime | str, "2026-01-01"),
    (list[Item] | Item, [Item("a")]),
    (int, "5"),
    (str, 5),
    (bool, 1),
    (int, True),
    (float, 1),
    (Item, {"sku": "a"}),
    (Item, None),
    (date, MOMENT),
    (list[str], "ab"),
    (list[int], (1, 2)),
    (tuple[int, ...], [1]),
    (tuple[int, str], (1, "a", "extra")),
    (set[int], frozenset({1})),
    (Colour, "red"),
    (ValueError, KeyError("a")),
]


@pytest.mark.parametrize(("annotation", "value"), VALUES, ids=lambda _: "")
def test_round_trip(annotation: Any, value: Any) -> None:
    for codec in codec_for(annotation), codec_for(Any):
        text, back = codec.dump_load(value)
        assert identical(value, back)
        assert identical(value, codec.load(text))
        assert codec.dump(value) == text == codec.dump(back)
        with closing(sqlite3.connect(":memory:")) as database:
            assert database.execute("SELECT json_valid(?)", [text]).fetchone() == (1,)
        nested = {"a": [value, (value,)]}
        assert identical(nested, codec_for(Any).load(codec_for(Any).dump(nested)))


def fixed_elsewhere(module: str, name: str) -> tzinfo:
    """A zone of a library, as far as the codec sees it, an hour and a half east of Greenwich."""
    methods = {"utcoffset": lambda *_: timedelta(hours=1, minutes=30), "tzname": lambda *_: "X"}
    return type(name, (tzinfo,), {**methods, "__module__": module})()


def parsed(offset: str) -> Invoice:
    """A model whose times pydantic made of text, with time zones of its own."""
    return Invoice.model_validate_json(f'{{"created_at":"2026-01-01T00:00:00{offset}","opens":"08:00:00{offset}"}}')


@pytest.mark.parametrize(
    "zone",
    [
        parsed("Z").created_at.tzinfo, parsed("+05:30").created_at.tzinfo, parsed("-03:00").opens.tzinfo,
        fixed_elsewhere("dateutil.tz.tz", "tzutc"), fixed_elsewhere("dateutil.tz.tz", "tzoffset"),
        fixed_elsewhere("pytz", "UTC"), fixed_elsewhere("pytz", "_FixedOffset"),
    ],
    ids=["Z", "+05:30", "-03:00", "tzutc", "tzoffset", "UTC", "_FixedOffset"],
)  # fmt: skip
@pytest.mark.parametrize("fold", [0, 1])
def test_a_fixed_offset_of_a_library_comes_back_as_timezone(zone: tzinfo, fold: int) -> None:
    for value in datetime(2026, 1, 1, tzinfo=zone, fold=fold), time(8, 0, 0, 5, zone, fold=fold):
        for annotation in type(value), Any, type(value) | str:
            text, back = codec_for(annotation).dump_load(value)
            assert (back, back.fold, back.utcoffset()) == (value, fold, value.utcoffset())
            assert type(back.tzinfo) is timezone
            assert codec_for(annotation).dump(value) == text == codec_for(annotation).dump(back)
            assert identical(back, codec_for(annotation).load(text))


@pytest.mark.parametrize("offset", ["Z", "+05:30", "-03:00"])
def test_a_model_with_times_that_pydantic_parsed(offset: str) -> None:
    value = parsed(offset)
    text, back = codec_for(Invoice).dump_load(value)
    assert text == value.model_dump_json()
    assert type(back.created_at.tzinfo) is type(value.created_at.tzinfo)
    loose = [Item("a", value), {"k": (value, {value})}]
    loose_text, loose_back = codec_for(Any).dump_load(loose)
    for again in back, codec_for(Invoice).load(text), loose_back[0].when, *loose_back[1]["k"][1]:
        assert again == value
        assert again.created_at.utcoffset() == value.created_at.utcoffset()
    assert codec_for(Any).dump(loose_back) == loose_text
    assert identical(load_lenient(codec_for(Any).dump(value), Invoice), loose_back[0].when)


def test_a_timezone_in_a_model_does_not_become_that_of_pydantic() -> None:
    value = Invoice(created_at=MOMENT, opens=time(8, tzinfo=timezone(timedelta(hours=2))))
    for annotation, held in (Invoice, value), (set[Invoice], {value}), (list[Invoice], [value, parsed("Z")]):
        back = codec_for(annotation).dump_load(held)[1]
        first, *_ = [back] if annotation is Invoice else back
        assert {type(part.tzinfo) for part in (first.created_at, first.opens)} == {timezone}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True), (1, 1.0), (0.0, -0.0), ((1,), [1]), ([1], [1, 2]), ({"a": 1}, {"a": 2}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ({1}, {2}), (Item("a"), Item("b")),
        (Order("a"), Rush("a")), (object(), object()), (MOMENT, MOMENT.replace(fold=1)),
        (MOMENT, MOMENT.astimezone(timezone(timedelta(0), "UTC"))), (Colour.RED, Colour.PAIR),
        (Point(1), Point(2)), (Cached(1), Order("a")), (ValueError(1), ValueError(True)),
        (Derived(1), Derived(1, 3)), ({1: 1}, {True: 1}),
    ],
)  # fmt: skip
def test_different_values_are_told_apart(one: Any, other: Any) -> None:
    assert not identical(one, other)
    assert not identical([one], [other])


def test_where_values_differ() -> None:
    one, other = Item("a"), Item("a")
    one.more = 1
    assert not identical(one, other)
    assert difference({"a": [one]}, {"a": [other]}) == ".a[0]"
    assert difference([{1}], [{2}]) == "[0]"
    assert difference([1], (1,)) == ""
    assert difference([1, 2], [1]) == ""
    assert difference((1, 2, 3), (1, 5, 4)) == "[1]"


def test_an_order_that_nobody_sees_makes_no_difference() -> None:
    one, other = Item("a"), Item("a")
    one.x = one.y = other.y = other.x = 1
    assert list(vars(one)) != list(vars(other))
    assert identical(one, other)
    mine, its = ValueError({0} | {8}), ValueError({8} | {0})
    assert str(mine) != str(its)
    assert identical(mine, its)


def test_eq_of_users_is_not_asked() -> None:
    @dataclass(eq=False)
    class Sly:
        n: int

        def __eq__(self, other: object) -> bool:
            raise AssertionError

        __hash__ = None  # type: ignore[assignment]

    back = codec_for(Sly).dump_load(Sly(1))[1]
    assert back.n == 1
    assert not identical(Sly(1), Sly(2))


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        (Order, Order("1", [Item("ü", MOMENT)]),
         '{"id":"1","items":[{"sku":"ü","when":"2026-10-25T02:30:01.000005+00:00"}],"total":0.0}'),
        (dict[int, str], {1: "a"}, '[[1,"a"]]'),
        (dict[int, Any], {1: 2}, "[[1,2]]"),
        (dict[Any, int], {"a": 1}, '{"a":1}'),
        (list[Box[int]], [Box(1)], '[{"content":1,"more":[]}]'),
        (list[Box], [Box(1)], f'[{{"$type":"{__name__}:Box","content":1,"more":[]}}]'),
        (list[Untyped], [Untyped(1, [2])], f'[{{"$type":"{__name__}:Untyped","x":1,"y":[2]}}]'),
        (list[Place], [Place(1)], f'[{{"$type":"{__name__}:Place","x":1,"y":0.5}}]'),
        (list[Animal], [Item("a")], f'[{{"$type":"{__name__}:Item","sku":"a","when":null}}]'),
        (list[Wrong], [Wrong(1)], f'[{{"$error":{{"type":"{__name__}:Wrong","message":"1","args":[1],"attributes":{{"code":1}}}}}}]'),
        (set[str], {"b", "a"}, '["a","b"]'),
        (Any, {"b", "a"}, '{"$set":["a","b"]}'),
        (Any, math.nan, '{"$float":"nan"}'),
        (Any, {"$a": 1}, '{"$dict":[["$a",1]]}'),
        (Any, {"a": (1,)}, '{"a":{"$tuple":[1]}}'),
        (Any, (2**2000 - 1,), f'{{"$tuple":[{2**2000 - 1}]}}'),
        (Any, (2**2000,), f'{{"$tuple":[{{"$int":"{2**2000:#x}"}}]}}'),
        (Item, {"sku": "a"}, '{"$value":{"sku":"a"}}'),
        (bytes, b"ab", '"YWI="'),
        (str, "\ud800", '"\\ud800"'),
        (Point, Point(1), '{"x":1,"y":0.5}'),
        (Colour, Colour.RED, '"red"'),
        (Literal[Colour.RED], Colour.RED, '"red"'),
        (list[Literal["red", Mood.GLAD, Size.BIG, 5]], ["red", Mood.GLAD, Size.BIG, 5], '["red","glad",2,5]'),
        (Annotated[Item, "x"], Item("a"), '{"sku":"a","when":null}'),
        (list[Nothing], [Nothing()], "[{}]"),
    ],
)  # fmt: skip
def test_text_is_plain_json(annotation: Any, value: Any, text: str) -> None:
    assert codec_for(annotation).dump(value) == text


def test_what_tells_its_own_type_is_read_where_only_the_fields_are_written_today() -> None:
    value = [Called(1, date(2026, 1, 1))]
    tagged = f'[{{"$type":"{__name__}:Called","x":1,"on":{{"$date":"2026-01-01"}}}}]'
    assert identical(codec_for(list[Called]).load(tagged), value)
    with pytest.raises(SerializationError, match=r"\$\[0\]: Point is expected here, not .*Called"):
        codec_for(list[Point]).load(tagged)


def test_only_what_can_change_comes_back_as_a_copy() -> None:
    value = {"a": [1]}
    for annotation in Any, dict[str, list[int]], dict:
        back = codec_for(annotation).dump_load(value)[1]
        assert back == value
        assert back is not value
        assert back["a"] is not value["a"]
    text = "a text of its own".upper()
    for annotation in Any, str:
        assert codec_for(annotation).dump_load(text)[1] is text
    order = Order("1", [Item("a")])
    assert codec_for(Order).dump_load(order)[1].items[0] is not order.items[0]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"items": [0, 1, 2, Item("a", socket.SocketType)]}, r"\$\.items\[3\]\.when: a type cannot"),
        (Order("1", [Item("a", lambda: 1)]), r"\$\.items\[0\]\.when: a function cannot be journaled"),
        ({"two words": {1: object()}}, r"\$\['two words'\]\[1\]: an object cannot"),
        ({(1, 2): {None: object()}}, r"\$\[tuple\]\[None\]: an object cannot"),
        ({object(): 1}, r"\$\[0\]: an object cannot"),
        (Odd(a=1), r"\$: a .*Odd cannot be journaled"),
        (OrderedDict(a=1), r"\$: a collections.OrderedDict cannot"),
        ([type("Text", (str,), {})("x")], r"\$\[0\]: a .*Text cannot"),
        (type("Pair", (tuple,), {})((1, 2)), r"\$: a .*Pair cannot"),
        (type("Number", (int,), {})(1), r"\$: a .*Number cannot"),
        (Element("a"), r"\$: a xml\.etree\.ElementTree\.Element cannot"),
        ([datetime(2026, 1, 1, tzinfo=type("Z", (tzinfo,), {})())], rf"\$\[0\]: a time zone of {__name__} cannot be journaled exactly"),
        (PurePath(PAIR), r"\$: a surrogate pair"),
        ([Point(1), type("Sub", (Point,), {})(1)], None),
    ],
)  # fmt: skip
def test_refuses_with_the_path(value: Any, message: str | None) -> None:
    for annotation in Any, type(value), Order:
        if message is None:
            assert identical(codec_for(annotation).dump_load(value)[1], value)
            continue
        with pytest.raises(SerializationError, match=message):
            codec_for(annotation).dump(value)


def test_says_what_to_do_instead() -> None:
    async def pay() -> None: ...

    to_await = pay()
    no = "cannot be journaled"
    awaited = "await it, and use what it returns; a plain function around an async one has to be async too"
    plain = "use plain data (JSON types, dataclasses and their like), or register hooks for it on durable.converter"
    for value, todo in (object(), f"$: an object {no}; {plain}"), (to_await, f"$: a coroutine {no}; {awaited}"):
        with pytest.raises(SerializationError) as error:
            codec_for(Any).dump(value)
        assert str(error.value) == f"$: {error.value.__cause__}" == todo
    to_await.close()


def test_refuses_a_named_tuple_with_attributes() -> None:
    value = type("Sub", (Point,), {})(1)
    value.more = 1
    with pytest.raises(SerializationError, match=r"\$\[0\]: a .*Sub with attributes"):
        codec_for(Any).dump([value])
    assert not identical(value, value)


def test_refuses_what_would_not_come_back() -> None:
    @dataclass
    class Both(dict):
        n: int

    with pytest.raises(SerializationError, match=r"\$: the journaled \$type cannot be read"):
        codec_for(Any).dump(Both(1))

    class Shifty(enum.Enum):
        ONE = 1

        @classmethod
        def _missing_(cls, value: object) -> "Shifty":
            odd = object.__new__(cls)
            odd._name_, odd._value_ = None, value
            return odd

    with pytest.raises(SerializationError, match=r"\$\.a: .*Shifty has no member None"):
        codec_for(Any).dump({"a": Shifty(3)})
    liar = Shifty(3)
    liar._name_ = "ONE"
    with pytest.raises(SerializationError, match=r"\$: this would not come back as it was"):
        codec_for(Any).dump(liar)


class Lossy:
    """Hooks that lose a part: what they give back is another value."""

    def __init__(self, n: int, m: int = 0) -> None:
        self.n = n
        self.m = m


LOST = "this would not come back as it was; journal plain data, or register hooks for its class on durable\\.converter"


def test_refuses_what_hooks_lose() -> None:
    converter().register_unstructure_hook(Lossy, lambda lossy: [lossy.n, lossy.m])
    converter().register_structure_hook(Lossy, lambda tree, cls: cls(*tree) if tree[1] else cls(7))
    codec = codec_for(Any)
    assert codec.dump_load(Lossy(7))[1].n == 7
    for value, path in (
        ({"a": [1, Lossy(5)]}, r"\$\.a\[1\]"),
        ((Item("a", Lossy(5)),), r"\$\[0\]\.when"),
        ([Point(1), Point(1, Lossy(5))], r"\$\[1\]\[1\]"),
        ({"a": Lossy(7), "b": {"c": Lossy(5)}}, r"\$\.b\.c"),
    ):
        with pytest.raises(SerializationError, match=f"^{path}: {LOST}$"):
            codec.dump(value)


def test_a_hook_that_makes_no_json() -> None:
    class Wild:
        pass

    converter().register_unstructure_hook(Wild, lambda _: object())
    converter().register_structure_hook(Wild, lambda _, cls: cls())
    with pytest.raises(SerializationError, match=r"\$\[0\]: an object cannot be journaled"):
        codec_for(list[Wild]).dump([Wild()])


def test_properties_that_are_kept_in_the_object_are_computed_again() -> None:
    value = Cached(4)
    assert value.doubled == 8
    for annotation in Cached, Any, list:
        text, back = codec_for(annotation).dump_load([value] if annotation is list else value)
        assert "doubled" not in text
    assert back[0].doubled == 8


def test_hashes_are_not_kept() -> None:
    value = Hashed("a")
    assert hash(value)
    text, back = codec_for(Any).dump_load(value)
    assert str(hash(value)) not in text
    assert hash(back) == hash(value)
    assert codec_for(Any).dump(Hashed("a")) == text


def test_unset_attributes_stay_unset() -> None:
    @dataclass
    class Partial:
        a: int
        b: int = field(init=False)

    @attrs.define
    class Parcel:
        to: str

    for cls, name in (Parcel, "to"), (Partial, "a"):
        with pytest.raises(SerializationError, match=f"field '{name}' of .*{cls.__name__} is not in the journal"):
            codec_for(cls).load(f'{{"$type":"{__name__}:{cls.__qualname__}"}}')
    value = Frozen.__new__(Frozen)
    with pytest.raises(SerializationError, match="field 'tags' of Frozen is not in the journal"):
        codec_for(Frozen).dump(value)
    assert codec_for(Any).dump_load(Private(1, "n"))[1].name == "n"
    for annotation in Partial, Any:
        assert not hasattr(codec_for(annotation).dump_load(Partial(1))[1], "b")
    assert not hasattr(codec_for(Any).dump_load(Private(1))[1], "absent")


@pytest.mark.parametrize(
    "annotation",
    [Iterable[int], Collection[int], list[int], set[int], frozenset[int], tuple[int, ...], tuple[int, int]],
)
def test_an_iterator_is_refused_and_not_used_up(annotation: Any) -> None:
    """A step is called with it all the same, and the description of it is journaled."""
    iterator = iter([1, 2])
    with pytest.raises(SerializationError, match=r"^\$: a list_iterator cannot be journaled"):
        codec_for(annotation).dump(iterator)
    assert list(iterator) == [1, 2]


@pytest.mark.parametrize("slots", [False, True])
def test_a_default_that_init_does_not_store_stays_with_the_class(slots: bool) -> None:
    @dataclass(slots=slots)
    class Counted:
        name: str
        count: int = field(init=False, default=7)

    changed = Counted("a")
    changed.count = 8
    for annotation in Any, Counted, list[Counted], list[Any]:
        for value in Counted("a"), changed:
            back = codec_for(annotation).dump_load([value] if "list" in str(annotation) else value)[1]
            (back,) = back if type(back) is list else [back]
            assert back == value
            assert slots or vars(back) == vars(value)
    old = codec_for(Any).load(f'{{"$type":"{__name__}:{Counted.__qualname__}","name":"a"}}')
    assert old.count == 7

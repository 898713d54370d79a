"""Values that are read as another type than they were written: signals, and code that changed."""

import collections
import json
import typing
import uuid
from collections.abc import Hashable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    Protocol,
    Required,
    TypedDict,
    TypeVar,
    TypeVarTuple,
)

import attrs
import pydantic
import pytest
import typing_extensions

from durable._codec import codec_for, fit, load_lenient, load_untyped
from durable._codec.exact import identical
from durable.errors import SerializationError


class Size(IntEnum):
    SMALL = 1


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


@dataclass
class Card:
    number: str


@dataclass
class Cash:
    amount: int


@dataclass
class Paid:
    how: Card | Cash | Literal["later"] | None = None


class Point(NamedTuple):
    x: int
    y: int = 0


class Movie(TypedDict):
    title: str


class Model(pydantic.BaseModel):
    n: int


class Loose(Enum):
    NOTHING = None
    PAIR = (1, 2)
    NAN = float("nan")


@dataclass
class Grows:
    a: int

    def __post_init__(self) -> None:
        self.a += 1


@attrs.define
class Shouts:
    a: str = attrs.field(converter=lambda text: f"{text}!")


class Doubles(pydantic.BaseModel):
    a: int

    @pydantic.field_validator("a")
    @classmethod
    def double(cls, a: int) -> int:
        return a * 2


class SubModel(Model):
    m: int = 0
    _private: int = pydantic.PrivateAttr(default=0)


@dataclass
class Late:
    a: int
    b: int = field(init=False)


T = TypeVar("T")
K = TypeVar("K")
Rest = TypeVarTuple("Rest")


@dataclass
class Box(Generic[T]):
    it: T


class Pair(NamedTuple, Generic[T]):
    one: T
    more: list[T]


class GenericModel(pydantic.BaseModel, Generic[T]):
    it: T


class Told(NamedTuple, Generic[T]):
    x: int
    y: T | None = None


@dataclass
class Holder:
    one: Told  # type: ignore[type-arg]


class Opaque:
    """No hook knows it."""


class Base:
    """No data by itself."""


@dataclass
class Derived(Base):
    it: int


class Cents(int):
    """Read from a plain number."""


class Dated(TypedDict):
    title: str
    at: date


class Picky(pydantic.BaseModel):
    a: set[int]


Called = NamedTuple("Called", [("x", int)])  # noqa: UP014 - cattrs does not see that it is one


class Shelf(TypedDict, total=False):
    best: Required[Order]
    rest: typing_extensions.ReadOnly[list[Order]]


class Wrapped(TypedDict, Generic[T]):
    it: T


class Named(Protocol):
    name: str


OrderId = NewType("OrderId", Order)
Orders = typing_extensions.TypeAliasType("Orders", Mapping[K, list[T]], type_params=(T, K))


def late() -> Late:
    value = Late(1)
    value.b = 2
    return value


def private() -> SubModel:
    value = SubModel(n=1)
    value._private = 5
    return value


def extra() -> Item:
    value = Item("a")
    vars(value)["more"] = (1, 2)
    return value


MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def sent(value: Any) -> str:
    return codec_for(Any).dump(value)


@pytest.mark.parametrize(
    ("value", "wanted", "read"),
    [
        ({"id": "1"}, Order, Order("1")),
        ({"id": "1", "items": [{"sku": "a", "when": "2026-01-01T00:00:00+00:00"}]}, Order,
         Order("1", [Item("a", MOMENT)])),
        ({"id": "1", "items": (Item("a", MOMENT),), "total": 5}, Order,
         Order("1", [Item("a", MOMENT)], 5)),
        (Order("1"), Order, Order("1")),
        (Rush("1"), Order, Rush("1")),
        ([{"sku": "a"}], list[Item], [Item("a")]),
        ([Item("a")], list[Item], [Item("a")]),
        ({"x": 1}, Point, Point(1)),
        ({"it": 1}, Box, Box(1)),
        ([{"it": {"it": 1}}], list[Box[Box]], [Box(Box(1))]),
        ({"it": 1}, Box | None, Box(1)),
        ({"title": "a"}, Movie, {"title": "a"}),
        ({"n": 1}, Model, Model(n=1)),
        ({1: {"sku": "a"}}, dict[int, Item], {1: Item("a")}),
        ([[1, {"sku": "a"}]], dict[int, Item], {1: Item("a")}),
        ([1, 2], tuple[int, int], (1, 2)),
        ([1, "2026-01-01", "2026-01-02"], tuple[int, *tuple[date, ...]],
         (1, date(2026, 1, 1), date(2026, 1, 2))),
        ([1], tuple[int, *tuple[date, ...]], (1,)),
        (["2026-01-01", 1, "2026-01-02"], tuple[*tuple[date, ...], int, date],
         (date(2026, 1, 1), 1, date(2026, 1, 2))),
        ([1, "2026-01-01", 2], tuple[int, *tuple[date], int], (1, date(2026, 1, 1), 2)),
        ([1, 2], tuple[int, *Rest], (1, 2)),
        ({"a": {"one": "2026-01-01", "more": []}}, dict[str, Pair[date]], {"a": Pair(date(2026, 1, 1), [])}),
        ({"a": {"one": {"sku": "a"}, "more": []}}, dict[str, Pair], {"a": Pair({"sku": "a"}, [])}),
        ({"one": {"x": 1, "y": []}}, Holder, Holder(Told(1, []))),
        ({"one": {"x": 1}}, Holder, Holder(Told(1))),
        ({"a": {"it": 1}}, dict[str, GenericModel], {"a": GenericModel(it=1)}),
        ({"x": 1}, Called, Called(1)),
        (5, Cents, Cents(5)),
        ({"title": "a", "at": "2026-01-01"}, Annotated[Dated, "a note"], {"title": "a", "at": date(2026, 1, 1)}),
        ({"a": (1, 2)}, dict[str, Any], {"a": (1, 2)}),
        ([(1, 2), {3}], list[Any], [(1, 2), {3}]),
        ({2, 1}, set[int], {1, 2}),
        ([2, 1], frozenset[int], frozenset({1, 2})),
        ("2026-01-01", date, date(2026, 1, 1)),
        ("00000000-0000-0000-0000-000000000005", uuid.UUID, uuid.UUID(int=5)),
        ("1.50", Decimal, Decimal("1.50")),
        (1, Size, Size.SMALL),
        (5, float, 5),
        (5, int, 5),
        (5, int | str, 5),
        (None, Item | None, None),
        ({"number": "1"}, Card | Cash, Card("1")),
        ({"how": {"amount": 1}}, Paid, Paid(Cash(1))),
        ({"how": "later"}, Paid, Paid("later")),
        (object, Any, None),
        ("anything", Any, "anything"),
        ("anything", object, "anything"),
    ],
)  # fmt: skip
def test_signal_is_read_by_the_readers_type(value: Any, wanted: Any, read: Any) -> None:
    if value is object:
        return
    back = load_lenient(sent(value), wanted)
    assert back == read
    assert type(back) is type(read)


@pytest.mark.parametrize(
    ("value", "wanted", "message"),
    [
        (5, str, r"\$: str is expected here, not int"),
        ("5", int, r"\$: int is expected here, not str"),
        (1.5, int, r"\$: int is expected here, not float"),
        (1, bool, r"\$: bool is expected"),
        ({"id": 5}, Order, r"\$\.id: str is expected here, not int"),
        ({}, Order, r"\$\.id: this field is missing"),
        ({"id": "1", "more": 1}, Order, r"\$: Order has no field 'more'$"),
        ({"id": "1", "items": [{"sku": "a"}, {"sku": 1}]}, Order, r"\$\.items\[1\]\.sku: str is"),
        ({"id": "1", "items": [{"sku": "a", "when": "soon"}]}, Order, r"items\[0\]\.when: .*soon"),
        ({"id": "1", "items": "ab"}, Order, r"\$\.items: list is expected here, not str"),
        ([1, 2, 3], tuple[int, int], r"\$: 2 items are expected here, not 3"),
        ([1, "a"], tuple[int, int], r"\$\[1\]: int is"),
        ([1, 1], set[int], r"\$: a set is expected here, and members are repeated"),
        ({"a": "b"}, dict[str, int], r"\$\.a: int is"),
        ([1], dict[str, int], r"\$: dict is expected here, not list"),
        ([["a", 1]], dict[int, int], r"\$\.a: int is"),
        ({"sku": "a"}, Card | Cash, r"\$: fits none of Card \| Cash"),
        ({"id": "1"}, Order | Rush, r"\$: fits more than one of Order \| Rush"),
        (1, Decimal, r"\$: text is expected here, not an int"),
        ("x", uuid.UUID, r"\$: badly formed"),
        ("b", Literal["a"], r"\$: 'a' is expected here, not 'b'$"),
        (True, Literal[1], r"\$: 1 is expected here, not True$"),
        ([1.0], list[Literal[1, "a"]], r"\$\[0\]: one of 1, 'a' is expected here, not 1\.0$"),
        (5, Literal[1] | list[int], r"\$: fits none of typing\.Literal\[1\] \| list\[int\]$"),
        (["a"], Literal[1] | list[int], r"\$: fits none of"),
        ({"a": "abc"}, dict[str, Decimal], r"\$\.a: 'abc' is no decimal number$"),
        (1, Box, r"\$: dict is expected here, not int$"),
        ([2], list[Order], r"\$\[0\]: dict is expected here, not int$"),
        (ValueError("a"), Order, r"\$: Order is expected here, not ValueError$"),
        (Pair("a", []), Pair[int], r"\$\.one: int is expected here, not str$"),
        (Pair(1, ["a"]), Pair[int], r"\$\.more\[0\]: int is expected here, not str$"),
        ("a", complex, r"\$: \[real, imag\] is expected here, not a str$"),
        ([1], range, r"\$: \[start, stop, step\] is expected here, not a list$"),
        ({"a": 1}, Opaque, r"\$: Opaque is expected here, not dict$"),
        ([5], list[Opaque], r"\$\[0\]: Opaque is expected here, not int$"),
        ("1/3", Fraction, r"\$: Fraction is expected here, not str$"),
        ("UTC", tzinfo, r"\$: tzinfo is expected here, not str$"),
        ([], Hashable, r"\$: Hashable is expected here, not list$"),
        ("5", Cents, r"\$: int is expected here, not str$"),
        (5, None, r"\$: NoneType is expected here, not int$"),
        ({1: 5}, dict[int, None], r"\$\[1\]: NoneType is expected here, not int$"),
        ([1], tuple[int, *tuple[str, ...], float], r"\$: at least 2 items are expected here, not 1$"),
        ([1, 2, 3.0], tuple[int, *tuple[str, ...], float], r"\$\[1\]: str is expected here, not int$"),
        ({"one": 1, "more": ["a"]}, Pair[int], r"\$\.more\[0\]: int is expected here, not str$"),
        ({"one": 1, "more": [], "less": 1}, Pair[int], r"\$: Pair has no field 'less'$"),
        (Picky(a={1}), Model, r"\$: a .*Picky with a set in it, which has no order, is not written as plain data$"),
        (2, Size, r"\$: 2 is not a valid Size"),
        ({"other": 1}, Box, r"\$\.it: this field is missing"),
        (Box(1), LookupError, r"\$: LookupError is expected here, not .*Box"),
        ("no", LookupError, r"\$: LookupError is expected here, not str"),
        ({"a": 1}, collections.namedtuple("Untyped", "a"), r"\$: Untyped is expected here, not dict"),  # noqa: PYI024
        ([1, []], Pair, r"\$: dict is expected here, not list"),
        ([1, []], Pair[int], r"\$: dict is expected here, not list"),
        ([1], Point, r"\$: dict is expected here, not list"),
        ({"other": 1}, GenericModel, r"(?s)\$: 1 validation error for GenericModel.*it"),
        ([1], GenericModel, r"\$: GenericModel is expected here, not list"),
        (5, timedelta, r"\$: \[days, seconds, microseconds\] is expected here, not an int"),
        (Rush("1"), Card, r"\$: Card has no field|\$\.number: this field is missing"),
    ],
)  # fmt: skip
def test_signal_that_does_not_fit(value: Any, wanted: Any, message: str) -> None:
    with pytest.raises(SerializationError, match=message):
        load_lenient(sent(value), wanted)


KEPT = [
    (Doubles(a=2), Doubles),
    (Grows(1), Grows),
    (Shouts("a"), Shouts),
    (private(), Model),
    (late(), Late),
    (extra(), Item),
    (Rush("1"), Order),
    (Loose.NOTHING, Loose),
    (Loose.PAIR, Loose),
    (Loose.NAN, Loose),
    (float("nan"), float),
    (float("-inf"), float),
    (5, float),
    (10**5000, int),
    ("\ud83d\ude00", str),
    (Model(n=1), pydantic.BaseModel),
    (None, None),
    (Derived(1), Base),
    (UTC, tzinfo),
    ((1,), Hashable),
    (1, complex),
    ((1, Rush("2"), Rush("3")), tuple[int, *tuple[Order, ...]]),
    (1, Literal[1, "x"]),
    (Loose.NAN, Literal[Loose.NAN]),
    (Rush("1"), OrderId),
    (Rush("1"), Annotated[Order, "a note"]),
    (Rush("1"), Named),
    (Rush("1"), T),
    ({"a": [Rush("1")]}, Orders[Order, str]),
    (Box(Rush("1")), Box[Order]),
    (Box((1, 2)), Box),
    (GenericModel(it=(1, 2)), GenericModel),
    (GenericModel[int](it=1), GenericModel),
    (Pair(Rush("1"), [Order("2")]), Pair[Order]),
    ({"best": Rush("1")}, Shelf),
    ({"rest": [Rush("2")], "best": Rush("1")}, Shelf),
    ({"it": Rush("1")}, Wrapped[Order]),
    ((Rush("1"), float("inf")), tuple[Order, float]),
    ((Rush("1"),), tuple[Order, ...]),
    ((), tuple[()]),
    (Point(1), tuple[int, int]),
    ((Rush("1"),), Sequence[Order]),
    (frozenset({Loose.PAIR}), AbstractSet[Loose]),
    ({Loose.PAIR: Rush("1")}, Mapping[Loose, Order]),
    ({Loose.PAIR: Rush("1")}, Iterable[Loose]),
    ("abc", Sequence[str]),
    (range(10**12), Sequence[int]),
    ([(1, 2)], typing.Sequence),
    ({(1, 2)}, typing.Collection),
    ({1: (2,)}, typing.Mapping),
]


def either(*members: Any) -> Any:
    return typing.Union[members]  # noqa: UP007 - of members that are variables


@pytest.mark.parametrize("around", [
    lambda value, wanted: (value, wanted),
    lambda value, wanted: (value, either(None, wanted)),
    lambda value, wanted: (value, either(bytes, wanted)),
    lambda value, wanted: ([value], list[wanted]),
    lambda value, wanted: ({"k": value}, dict[str, wanted]),
    lambda value, wanted: (Box(value), either(None, Box[wanted])),
    lambda value, wanted: ((1, value), tuple[int, wanted]),
])  # fmt: skip
@pytest.mark.parametrize(("value", "wanted"), KEPT, ids=[str(wanted) for _, wanted in KEPT])
def test_a_signal_of_the_readers_type_is_read_as_it_was_sent(value: Any, wanted: Any, around: Any) -> None:
    value, wanted = around(value, wanted)
    assert identical(load_lenient(sent(value), wanted), value)


@pytest.mark.parametrize(
    ("value", "wanted", "read"),
    [
        ([Doubles(a=1), {"a": 2}], list[Doubles], [Doubles(a=1), Doubles(a=2)]),
        ([Doubles(a=1), {"a": 2}], list[Doubles] | None, [Doubles(a=1), Doubles(a=2)]),
        ([Doubles(a=1), {"a": 2}], list[Doubles] | bytes, [Doubles(a=1), Doubles(a=2)]),
        ([Rush("1"), {"id": "2"}], list[Order], [Rush("1"), Order("2")]),
        ((Rush("1"), {"id": "2"}), list[Order], [Rush("1"), Order("2")]),
        ({"k": Rush("1"), "l": {"id": "2"}}, dict[str, Order], {"k": Rush("1"), "l": Order("2")}),
        ({"it": Grows(1)}, Box[Grows], Box(Grows(1))),
        ({"it": {"a": 1}}, Box[Grows], Box(Grows(1))),
        ({"best": {"id": "1"}, "rest": [Rush("2")]}, Shelf, {"best": Order("1"), "rest": [Rush("2")]}),
        ({"id": "1"}, dict[str, int] | Order, Order("1")),
        ([{"id": "1"}], list[Order] | int, [Order("1")]),
        (["2026-01-02", date(2026, 1, 3)], list[date], [date(2026, 1, 2), date(2026, 1, 3)]),
        ([uuid.UUID(int=5)], list[str], [str(uuid.UUID(int=5))]),
    ],
)
def test_what_is_of_its_type_stays_as_it_is_beside_plain_data(value: Any, wanted: Any, read: Any) -> None:
    assert identical(load_lenient(sent(value), wanted), read)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ({"best": Order("1"), "worst": Order("2")}, Shelf),
        ({"rest": []}, Shelf),
        (Box(Card("1")), Box[Order]),
        (Pair(Card("1"), []), Pair[Order]),
        ([Card("1")], Sequence[Order]),
        ({Loose.PAIR: Card("1")}, dict[Loose, Order]),
        ((1, 2, 3), tuple[int, int]),
        ("abc", Sequence[int]),
        (Loose.PAIR, Literal[Loose.NAN]),
    ],
)
def test_what_is_not_of_the_readers_type_is_told_from_what_is(value: Any, wanted: Any) -> None:
    for each, annotation in (value, wanted), ([value], list[wanted]), (value, either(None, wanted)):
        with pytest.raises(SerializationError):
            load_lenient(sent(each), annotation)


def test_a_type_whose_names_are_gone_takes_what_it_took() -> None:
    class Lost(TypedDict):
        a: "NoSuchName"  # noqa: F821

    with pytest.raises(SerializationError, match="NoSuchName"):
        fit({"a": 1}, Lost)


def test_signal_with_no_class_of_this_program() -> None:
    with pytest.raises(SerializationError, match="no class nowhere:Gone is in this program"):
        load_lenient('{"$type":"nowhere:Gone"}', Order)


@pytest.mark.parametrize(
    ("text", "annotation", "message"),
    [
        ("nope", Any, r"\$: no JSON value at character 0"),
        ("1 2", Any, r"\$: text goes on after the JSON value"),
        ("[NaN]", Any, r"\$: NaN is not JSON"),
        ("nope", Item, r"\$: no JSON value"),
        ('{"$new":1}', Any, r"\$: '\$new' is no form that this version reads"),
        ('[{"a":{"$date":5}}]', Any, r"\$\[0\]\.a: text is expected here, not an int"),
        ('[{"a":{"$date":"x"}}]', Any, r"\$\[0\]\.a: the journaled \$date cannot be read \(Val"),
        ('{"$dict":[["a",{"$b":1}]]}', Any, r"\$\.a: '\$b' is no form"),
        ('{"$dict":[[[],1]]}', Any, r"\$: the journaled \$dict cannot be read \(TypeError"),
        ('{"$complex":[1,2]}', Any, r"\$: text is expected"),
        ("[" * 100_000, Any, r"\$: nested too deeply; journal a flatter value"),
        ('{"sku":5}', Item, r"\$\.sku: str is expected here, not int"),
        ('"a"', Item, r"\$"),
    ],
)
def test_text_that_does_not_fit(text: str, annotation: Any, message: str) -> None:
    with pytest.raises(SerializationError, match=message):
        codec_for(annotation).load(text)


def local(name: str, **fields: Any) -> type:
    """A dataclass as a later version of the program may have it."""
    body = {"__annotations__": fields, "__module__": __name__, "__qualname__": name}
    return dataclass(type(name, (), body))


@attrs.define
class Old:
    a: int


def test_a_class_that_got_a_field_with_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [sent(Item("a")), codec_for(Item).dump(Item("a")), sent(Point(1)), sent(Old(1))]
    assert texts[1] == '{"sku":"a","when":null}'

    @dataclass
    class New:
        sku: str
        when: datetime | None
        tags: list[str] = field(default_factory=list)
        count: int = 7

    @attrs.define
    class NewOld:
        a: int
        b: list[int] = attrs.Factory(list)
        c: int = 5
        d: int = attrs.field(init=False)

    class Three(NamedTuple):
        x: int
        y: int
        z: int = 9

    for name, cls in ("Item", New), ("Point", Three), ("Old", NewOld):
        cls.__qualname__ = name
        monkeypatch.setitem(globals(), name, cls)
    assert load_untyped(texts[0]) == New("a", None, [], 7)
    assert codec_for(New).load(texts[1]) == New("a", None, [], 7)
    assert load_untyped(texts[2]) == Three(1, 0, 9)
    assert load_untyped(texts[3]).b == []
    assert load_untyped(texts[3]).c == 5


def test_a_class_that_lost_or_needs_a_field(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [
        sent([Item("a")]),
        codec_for(list[Item]).dump([Item("a")]),
        sent(Point(1)),
        sent(Old(1)),
    ]
    Needs = local("Item", sku=str, when=Any, price=int)
    Lost = local("Item", sku=str)

    class One(NamedTuple):
        x: int

    One.__qualname__ = "Point"

    @attrs.define
    class Needy:
        a: int
        b: int = attrs.Factory(lambda self: self.a, takes_self=True)

    Needy.__qualname__ = "Old"
    monkeypatch.setitem(globals(), "Point", One)
    monkeypatch.setitem(globals(), "Old", Needy)
    for text, message in (
        (texts[2], r"\$: field 'y' is not both in Point and in the journal"),
        (texts[3], r"\$: field 'b' of Old is not in the journal"),
    ):
        with pytest.raises(SerializationError, match=message):
            load_untyped(text)
    for cls, message in (
        (Needs, r"\$\[0\]: field 'price' of Item is not in the journal"),
        (Lost, r"\$\[0\]: Item has no field 'when' any more"),
    ):
        monkeypatch.setitem(globals(), "Item", cls)
        with pytest.raises(SerializationError, match=message):
            load_untyped(texts[0])
    with pytest.raises(SerializationError, match=r"\$\[0\]: Item has no field 'when'"):
        codec_for(list[Lost]).load(texts[1])
    with pytest.raises(SerializationError, match=r"\$\[0\]\.price: this field is missing"):
        codec_for(list[Needs]).load(texts[1])


def test_a_model_that_got_a_field(monkeypatch: pytest.MonkeyPatch) -> None:
    text = sent(Model(n=1))

    class New(pydantic.BaseModel):
        n: int
        more: list[int] = pydantic.Field(default_factory=list)

    New.__qualname__ = "Model"
    monkeypatch.setitem(globals(), "Model", New)
    assert load_untyped(text).more == []

    class Needs(pydantic.BaseModel):
        n: int
        price: int

    Needs.__qualname__ = "Model"
    monkeypatch.setitem(globals(), "Model", Needs)
    with pytest.raises(SerializationError, match=r"\$: field 'price' of Model is not in the journal"):
        load_untyped(text)


def test_an_enum_member_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    text = sent([Size.SMALL])
    monkeypatch.setitem(globals(), "Size", IntEnum("Size", {"BIG": 2}))
    with pytest.raises(SerializationError, match=r"\$\[0\]: Size has no member 'SMALL' any more"):
        load_untyped(text)


class Unasked(type):
    """Of classes that refuse to say what belongs to them."""

    def __instancecheck__(cls, instance):
        raise TypeError


@dataclass
class Shy(metaclass=Unasked):
    number: int


class Bold(Shy): ...


def test_a_class_that_refuses_to_say_what_belongs_to_it_is_read_all_the_same():
    for sent, read in (Shy(1), Shy), ({"number": 1}, Shy), (Bold(1), Bold):
        value = fit(sent, Shy)
        assert type(value) is read
        assert value.number == 1


def test_a_type_that_nothing_is_an_instance_of_takes_what_comes_back():
    assert fit("x", typing.LiteralString) == "x"


@dataclass
class Node:
    name: str
    next: Optional["Node"] = None
    others: list["Node"] | None = None


@attrs.define
class AttrsNode:
    name: str
    next: Optional["AttrsNode"] = None
    others: list["AttrsNode"] | None = None


@dataclass
class Chain(Generic[T]):
    it: T
    next: Optional["Chain[T]"] = None


def local_node() -> type:
    @dataclass
    class LocalNode:
        name: str
        next: Optional["LocalNode"] = None
        others: list["LocalNode"] | None = None

    return LocalNode


@pytest.mark.parametrize("node", [Node, AttrsNode, local_node()])
def test_a_class_that_names_itself_in_quotes_is_read_all_the_way_down(node: Any) -> None:
    value = node("a", node("b", others=[node("c")]))
    plain = {"name": "a", "next": {"name": "b", "others": [{"name": "c"}]}}
    assert identical(fit(plain, node), value)
    assert identical(fit({"name": "a", "next": node("b", others=[node("c")])}, node), value)
    assert codec_for(node).load(json.dumps(plain)) == value
    for wrong, path in (
        ({"name": "a", "next": {"name": 5}}, r"\$\.next\.name: str"),
        ({"name": "a", "others": [{"name": "b"}, {"name": 5}]}, r"\$\.others\[1\]\.name: str"),
        ({"name": "a", "next": 5}, r"\$\.next: dict is expected here, not int"),
    ):
        with pytest.raises(SerializationError, match=path):
            fit(wrong, node)
        with pytest.raises(SerializationError, match=path):
            codec_for(node).load(json.dumps(wrong))
    text, back = codec_for(node).dump_load(value)
    assert identical(back, value)
    assert identical(codec_for(node).load(text), value)


def test_a_generic_class_that_names_itself_in_quotes() -> None:
    assert identical(fit({"it": "2026-01-01", "next": {"it": "2026-01-02"}}, Chain[date]),
                     Chain(date(2026, 1, 1), Chain(date(2026, 1, 2))))  # fmt: skip
    with pytest.raises(SerializationError, match=r"\$\.next\.it: int is expected here, not str"):
        fit({"it": 1, "next": {"it": "a"}}, Chain[int])


@dataclass
class Lost(Generic[T]):
    it: T | None = None
    more: Optional["NoSuchName"] = None  # type: ignore[name-defined] # noqa: F821


@dataclass
class Astray:
    more: Optional["json.NoSuchName"] = None  # type: ignore[name-defined]


@pytest.mark.parametrize("lost", [Lost, Astray])
def test_a_name_that_is_nowhere_stands_for_any_type(lost: Any) -> None:
    assert fit({"more": 5}, lost) == lost(more=5)
    assert codec_for(lost).load('{"more":5}') == lost(more=5)
    assert codec_for(lost).dump_load(lost(more=5))[1] == lost(more=5)


def test_a_generic_class_with_a_name_that_is_nowhere_is_told_from_others() -> None:
    text, back = codec_for(list[Lost[int] | date]).dump_load([Lost(1), date(2026, 1, 1)])
    assert back == [Lost(1), date(2026, 1, 1)]
    assert text.startswith("[")


def test_what_does_not_fit_far_below_is_looked_at_once_a_level(monkeypatch: pytest.MonkeyPatch) -> None:
    from durable._codec import fitting

    tries = []
    comes_back = fitting.comes_back
    monkeypatch.setattr(fitting, "comes_back", lambda *given: tries.append(given) or comes_back(*given))
    for levels in 10, 40:
        tries.clear()
        value: Any = {"name": 5}
        for _ in range(levels):
            value = {"name": "a", "next": value, "others": []}
        with pytest.raises(SerializationError, match=r"\.name: str is expected here, not int"):
            fit(value, Node)
        assert len(tries) < 5

"""Hooks that users register on the converter, annotations, and the small helpers."""

import functools
import gc
import inspect
import json
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, NamedTuple, NewType, TypeVar

import pytest

from durable._codec import (
    TypeCodec,
    codec_for,
    converter,
    describe_opaque,
    fingerprint,
    fit,
    load_lenient,
    load_untyped,
    resolve_annotations,
)
from durable._codec.annotations import is_self_describing
from durable._codec.exact import identical
from durable._codec.hooks import UserHooks, user_hooks
from durable.errors import SerializationError

if TYPE_CHECKING:
    from nowhere import Missing


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents


class Euro(Money):
    pass


@dataclass
class Bill:
    total: Money
    parts: dict[str, Money]


@dataclass
class Nest:
    items: "list[Nest]" = field(default_factory=list)
    named: "dict[str, Nest]" = field(default_factory=dict)
    two: "tuple[Nest, int] | None" = None


class Link(NamedTuple):
    depth: int
    next: Any


Cents = NewType("Cents", int)
T = TypeVar("T")


@pytest.fixture
def money_hooks() -> None:
    converter().register_unstructure_hook(Money, lambda money: f"{money.cents} ct")
    converter().register_structure_hook(Money, lambda text, cls: cls(int(text[:-3])))


def test_a_class_needs_hooks() -> None:
    class Bare:
        pass

    with pytest.raises(SerializationError, match=r"\$\[0\]: a .*Bare cannot be journaled.*durable.converter"):
        codec_for(list[Bare]).dump([Bare()])
    made = codec_for(Bare)
    converter().register_unstructure_hook(Bare, lambda _: 1)
    converter().register_structure_hook(Bare, lambda _, cls: cls())
    assert made.dump(Bare()) == "1"
    assert type(codec_for(Any).dump_load([Bare()])[1][0]) is Bare


@pytest.mark.usefixtures("money_hooks")
def test_hooks_are_honoured_everywhere() -> None:
    bill = Bill(Money(5), {"a": Money(6)})
    assert codec_for(Bill).dump(bill) == '{"total":"5 ct","parts":{"a":"6 ct"}}'
    assert codec_for(Bill).load(codec_for(Bill).dump(bill)).parts["a"].cents == 6
    text, back = codec_for(Any).dump_load([bill, Euro(7), {"m": Money(8)}])
    assert f'{{"$hooked":"{__name__}:Euro","value":"7 ct"}}' in text
    assert type(back[1]) is Euro
    assert back[1].cents == 7
    assert codec_for(Money).dump(Euro(7)).startswith('{"$hooked"')
    assert load_lenient('{"total":"5 ct","parts":{}}', Bill).total.cents == 5
    assert not identical(Money(1), Money(2))


def test_hooks_of_a_generic_class_are_honoured_without_its_arguments() -> None:
    @dataclass
    class Crate(Generic[T]):
        it: T

    converter().register_unstructure_hook(Crate, lambda crate: {"crated": crate.it})
    converter().register_structure_hook(Crate, lambda tree, _: Crate(tree["crated"]))
    assert load_lenient('{"crated":1}', Crate) == Crate(1)


def test_hooks_by_predicate_factory_and_decorator() -> None:
    class One:
        pass

    class Two:
        pass

    class Three:
        pass

    made = converter()
    made.register_unstructure_hook_func(lambda t: t is One, lambda _: "one")
    made.register_structure_hook_func(lambda t: t is One, lambda *_: One())
    made.register_unstructure_hook_factory(lambda t: t is Two, lambda _: lambda _: "two")
    made.register_structure_hook_factory(lambda t: t is Two)(lambda cls: lambda *_: cls())

    @made.register_unstructure_hook
    def write(value: Three) -> str:
        return "three"

    @made.register_structure_hook
    def read(tree: str, _: Any) -> Three:
        return Three()

    for cls, text in (One, '"one"'), (Two, '"two"'), (Three, '"three"'):
        assert codec_for(cls).dump(cls()) == text
        assert type(codec_for(Any).dump_load((cls(),))[1][0]) is cls


@pytest.mark.parametrize(
    "register",
    [
        lambda made, cls: made.register_structure_hook(cls, lambda *_: cls()),
        lambda made, cls: made.register_unstructure_hook(cls, lambda _: 1),
        lambda made, cls: made.register_structure_hook_func(lambda t: t is cls, lambda *_: cls()),
        lambda made, cls: made.register_unstructure_hook_func(lambda t: t is cls, lambda _: 1),
        lambda made, cls: made.register_structure_hook_factory(lambda t: t is cls, lambda _: lambda *_: cls()),
        lambda made, cls: made.register_unstructure_hook_factory(lambda t: t is cls, lambda _: lambda _: 1),
    ],
)
def test_each_way_to_register_a_hook_is_noticed(register: Any) -> None:
    class Own:
        pass

    assert not user_hooks.cover(Own)
    register(converter(), Own)
    assert user_hooks.cover(Own)
    assert not user_hooks.cover(int)


def test_nothing_has_hooks_before_one_is_added() -> None:
    fresh, told = UserHooks(), []
    fresh.on_change(lambda: told.append("changed"))
    assert not fresh.cover(int)
    fresh.add(lambda annotation: issubclass(annotation, int))
    assert told == ["changed"]
    assert fresh.cover(bool)
    assert not fresh.cover("no class, for which the predicate fails")


def test_hooks_for_a_new_type() -> None:
    assert is_self_describing(int)
    converter().register_unstructure_hook(Cents, lambda n: f"{n} ct")
    converter().register_structure_hook(Cents, lambda text, cls: cls(int(text[:-3])))
    assert codec_for(Cents).dump(5) == '"5 ct"'
    assert codec_for(Cents).load('"5 ct"') == 5
    assert fit(5, Cents) == 5


def test_hooks_for_a_type_that_describes_itself() -> None:
    light = Literal["red", "green"]
    assert codec_for(light).dump("red") == '"red"'
    converter().register_unstructure_hook_func(lambda t: t == light, lambda text: text[0])
    converter().register_structure_hook_func(lambda t: t == light, lambda text, _: {"r": "red", "g": "green"}[text])
    assert codec_for(light).dump("red") == '"r"'
    assert codec_for(light).load('"r"') == "red"


def test_a_hook_that_fails_without_a_word() -> None:
    class Mute:
        pass

    def refuse(*_: Any) -> None:
        raise RuntimeError

    converter().register_structure_hook(Mute, refuse)
    with pytest.raises(SerializationError, match=r"^\$: RuntimeError$"):
        codec_for(Mute).load("1")


def test_a_hook_that_loses_is_not_used() -> None:
    @dataclass
    class Half:
        n: int
        m: int

    converter().register_unstructure_hook(Half, lambda half: half.n)
    converter().register_structure_hook(Half, lambda n, cls: cls(n, 0))
    assert codec_for(Half).dump(Half(1, 0)) == "1"
    assert codec_for(Half).load("1") == Half(1, 0)


def test_a_number_with_a_hook_that_writes_text_is_read_from_that() -> None:
    class Points(int):
        pass

    converter().register_unstructure_hook(Points, lambda points: f"{points:d}")
    text, back = codec_for(list[Points]).dump_load([Points(5)])
    assert text == '["5"]'
    assert type(back[0]) is Points


def test_items_of_exactly_a_type_of_a_union_are_not_asked_about_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    codec = codec_for(list[date | bytes])
    text = codec.dump([date(2026, 1, 1)] * 100)
    monkeypatch.setattr(user_hooks, "_predicates", [asked.append])
    codec.load(text)
    assert len(asked) < 10


def test_codecs_are_made_once() -> None:
    assert codec_for(Bill) is codec_for(Bill)
    assert codec_for() is codec_for(Any) is codec_for(inspect.Parameter.empty) is codec_for("Bill")
    unhashable = Annotated[Bill, []]
    assert codec_for(unhashable) is codec_for(unhashable)
    assert codec_for(unhashable) is not codec_for(Annotated[Bill, [1]])
    assert isinstance(codec_for(Bill), TypeCodec)


def test_names_inside_a_class_that_cannot_be_resolved() -> None:
    @dataclass
    class Local:
        other: "Nowhere"  # noqa: F821 - it is missing on purpose
        n: int

    text, back = codec_for(Local).dump_load(Local(1, 2))
    assert back == Local(1, 2)
    assert codec_for(Local).load(text) == Local(1, 2)
    with pytest.raises(SerializationError, match=r"\$: the annotation .*Local.* cannot be used: name 'Nowhere'"):
        codec_for(Local).load('{"other":1,"n":2}')


def test_annotations_are_resolved_one_by_one() -> None:
    def plain(a: int, b: "Bill | None", *c: str, d=5) -> Annotated[int, "x"]: ...

    assert resolve_annotations(plain) == {
        "a": int, "b": Bill | None, "c": str, "return": Annotated[int, "x"],
    }  # fmt: skip

    def broken(a: "Missing", b: "Bill", c: "list[Missing]", d: Annotated[int, "x"]) -> "Bill | None": ...

    assert resolve_annotations(broken) == {
        "a": Any,
        "b": Bill,
        "c": Any,
        "d": Annotated[int, "x"],
        "return": Bill | None,
    }

    @functools.wraps(broken)
    def wrapped(*args: Any) -> Any: ...

    assert resolve_annotations(wrapped)["b"] is Bill
    assert resolve_annotations(functools.cache(broken))["b"] is Bill
    assert resolve_annotations(functools.partial(plain)) == {}
    assert resolve_annotations(len) == {}


def test_annotations_of_an_object_that_can_be_called() -> None:
    class Tool:
        __annotations__ = {"a": "Missing", "b": int, "c": "int"}

        def __call__(self, a: Any, b: Any, c: Any) -> None: ...

    assert resolve_annotations(Tool()) == {"a": Any, "b": int, "c": int}


def test_annotations_of_closures_and_methods() -> None:
    @dataclass
    class Local:
        n: int

    class Service:
        def method(self, a: "Local", b: "Late") -> "Local":
            return Local(1)

    assert resolve_annotations(Service.method) == {"a": Local, "b": Any, "return": Local}
    assert resolve_annotations(Service().method) == {"a": Local, "b": Any, "return": Local}

    def early(a: "Late", b: "Local") -> None:
        return Late, Local

    assert resolve_annotations(early) == {"a": Any, "b": Local, "return": type(None)}
    Late = Local
    assert resolve_annotations(early)["a"] is Local


def test_type_parameters_in_annotations() -> None:
    if not hasattr(resolve_annotations, "__type_params__"):
        pytest.skip("Python 3.12 and newer")
    names: dict[str, Any] = {}
    exec("def f[T](a: list[T], b: 'Nowhere', c: 'T') -> T: ...", names)
    found = resolve_annotations(names["f"])
    assert found["b"] is Any
    assert found["c"] is found["return"]
    assert is_self_describing(list[int])
    assert codec_for(found["a"]).dump([1]) == "[1]"


def test_opaque_inputs_are_described() -> None:
    assert json.loads(describe_opaque(len)) == {"$opaque": "<built-in function len>"}
    assert load_untyped(describe_opaque("x" * 1000))[:5] == "'xxxx"
    assert len(describe_opaque("x" * 1000)) < 250
    assert json.loads(describe_opaque(10**5000)) == {"$opaque": "<an int>"}

    class Bad:
        def __repr__(self) -> str:
            raise RuntimeError

    assert "Bad" in describe_opaque(Bad())
    cycle: list[Any] = []
    cycle.append(cycle)
    assert describe_opaque(cycle)


def test_fingerprint() -> None:
    assert fingerprint("[1]") == "ef6555d139bba0ca2326a50024344e1b"
    assert len(fingerprint("ü")) == 32
    assert fingerprint("a") != fingerprint("b")


@pytest.mark.parametrize("annotation", [Any, list, list[Any], list[Bill], Bill])
def test_cycles_and_depth(annotation: Any) -> None:
    cycle: list[Any] = [0, {"a": ()}]
    cycle[1]["b"] = (1, cycle)
    with pytest.raises(SerializationError, match=r"\$\[1\]\.b\[1\]: a cycle: this is \$ again"):
        codec_for(annotation).dump(cycle)
    with pytest.raises(SerializationError, match=r"\$\.x\[0\]\[1\]\.b\[1\]: a cycle: this is \$\.x\[0\] again"):
        codec_for(annotation).dump({"x": [cycle]})
    bill = Bill(1, {})
    bill.total = {"bill": bill}
    with pytest.raises(SerializationError, match=r"\$\.total\.bill: a cycle: this is \$ again"):
        codec_for(annotation).dump(bill)
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(SerializationError, match=r"\$: nested too deeply; journal a flatter value"):
        codec_for(annotation).dump(deep)
    while type(deep) is list:  # let go of it step by step
        deep = deep[0]
    gc.collect()


@pytest.mark.parametrize(
    ("around", "step"),
    [
        (lambda inner: Link(0, inner), ".next"),
        (lambda inner: Bill(inner, {}), ".total"),
        (lambda inner: {1: inner}, "[1]"),
        (lambda inner: {"a": inner}, ".a"),
        (lambda inner: (inner,), "[0]"),
    ],
)
def test_a_cycle_begins_at_the_first_of_its_containers(around: Any, step: str) -> None:
    parts: list[Any] = []
    first = around(parts)
    parts.append(first)
    with pytest.raises(SerializationError) as error:
        codec_for(Any).dump(around(first))
    assert str(error.value).startswith(f"${step}{step}[0]: a cycle: this is ${step} again")


@pytest.mark.parametrize(
    ("annotation", "opens", "closes"),
    [
        (Nest, '{"items":[', "]}"),
        (Nest, '{"named":{"a":', "}}"),
        (Nest, '{"two":[', ",1]}"),
        (Any, "[", "]"),
        (Any, '{"a":', "}"),
        (Any, '{"$tuple":[', "]}"),
        (Any, '{"$dict":[["a",', "]]}"),
        (Any, f'{{"$type":"{__name__}:Link","depth":1,"next":', "}"),
        (Any, f'{{"$type":"{__name__}:Bill","total":1,"parts":1,"$attributes":{{"more":', "}}"),
    ],
)
def test_a_text_that_is_too_deep_has_no_cycle(annotation: Any, opens: str, closes: str) -> None:
    with pytest.raises(SerializationError, match=r"^\$: nested too deeply; journal"):
        codec_for(annotation).load(490 * opens + '{"$tuple":[]}' + 490 * closes)


def test_a_long_path_is_cut() -> None:
    for levels, path in (20, 20 * "[0]"), (21, 10 * "[0]" + " … " + 10 * "[0]"):
        deep: Any = object()
        for _ in range(levels):
            deep = [deep]
        with pytest.raises(SerializationError) as caught:
            codec_for(Any).dump(deep)
        assert str(caught.value).startswith(f"${path}: an object cannot")

"""Names in the file lead to classes of the program, and never to anything else."""

import gc
import os
import subprocess
import sys
import types
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import durable
from durable._codec import codec_for, load_untyped, module_name
from durable._codec.classes import MOST_REMEMBERED, _kinds, is_here, kind_of
from durable._codec.exact import identical
from durable._codec.hooks import user_hooks
from durable._codec.records import _plans, plan_of
from durable._codec.tagged import _writers
from durable.errors import SerializationError


@dataclass
class Item:
    n: int


class Outer:
    @dataclass
    class Inner:
        n: int


TRIPPED: list[str] = []


def trap(*_: Any) -> None:
    TRIPPED.append("called")


class Trap:
    __init__ = trap


@pytest.mark.parametrize(
    "name",
    ["os:system", "builtins:eval", "builtins:int", "subprocess:Popen", f"{__name__}:trap",
     f"{__name__}:Trap", f"{__name__}:TRIPPED", "os:path.join", "builtins:KeyError",
     f"{__name__}:Item.n", f"{__name__}:Item.__init__", f"{__name__}:Nothing", "x", "", ":", "a:b"],
)  # fmt: skip
@pytest.mark.parametrize(
    "text",
    ['{"$type":"NAME","n":1}', '{"$enum":"NAME","value":1}', '{"$enum":"NAME","name":"x"}',
     '{"$hooked":"NAME","value":1}'],
)  # fmt: skip
def test_names_of_other_things_are_refused(name: str, text: str) -> None:
    with pytest.raises(SerializationError, match=r"\$: .*(is in this program|is not touched)"):
        load_untyped(text.replace("NAME", name))
    assert TRIPPED == []


def test_the_message_says_which_classes_are_data() -> None:
    with pytest.raises(SerializationError) as error:
        load_untyped('{"$type":"builtins:int"}')
    assert str(error.value) == (
        "$: builtins:int is not a class whose values are data (a dataclass, attrs class, enum, named tuple, pydantic"
        " model or exception); it is not touched"
    )


def test_nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "this" not in sys.modules
    for name in "this:Zen", "this:Zen:Zen":
        with pytest.raises(SerializationError, match=rf"\$: no class {name} .*import .*module this\)"):
            load_untyped(f'{{"$type":"{name}"}}')
    assert "this" not in sys.modules

    monkeypatch.delitem(sys.modules, "zoneinfo", raising=False)
    with pytest.raises(SerializationError, match=r"^\$: an object cannot be journaled"):
        codec_for(Any).dump(object())
    assert "zoneinfo" not in sys.modules

    lazy = types.ModuleType("lazy_module")
    lazy.__getattr__ = trap  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "lazy_module", lazy)
    with pytest.raises(SerializationError):
        load_untyped('{"$type":"lazy_module:Thing"}')
    assert TRIPPED == []


def test_a_nested_class_is_found() -> None:
    text = codec_for(Any).dump(Outer.Inner(1))
    assert text == f'{{"$type":"{__name__}:Outer.Inner","n":1}}'
    assert load_untyped(text) == Outer.Inner(1)

    @dataclass
    class Younger:
        n: int

    Younger.__qualname__ = "Outer.Inner"
    assert type(load_untyped(text)) is Outer.Inner


def make_local(n: int) -> Any:
    @dataclass
    class Local:
        n: int

    return Local(n)


def test_a_local_class_is_found_as_long_as_it_lives() -> None:
    value = make_local(1)
    text = codec_for(Any).dump(value)
    assert "make_local.<locals>.Local" in text
    assert identical(load_untyped(text), value)
    younger = make_local(1)
    assert identical(codec_for(Any).dump_load(younger)[1], younger)
    assert identical(codec_for(Any).dump_load(value)[1], value)
    del value, younger
    user_hooks.add(lambda _: False)  # lets go of what was learned about classes
    gc.collect()
    with pytest.raises(SerializationError, match=r"make_local.<locals>.Local is in this program"):
        load_untyped(text)


def test_a_class_is_found_that_no_module_names() -> None:
    @dataclass
    class Unseen:
        n: int

    text = f'{{"$type":"{__name__}:{Unseen.__qualname__}","n":1}}'
    assert load_untyped(text) == Unseen(1)
    assert load_untyped(text) == Unseen(1)  # by what was learned
    Point = namedtuple("P", "x")  # noqa: PYI024 - as users write it
    assert load_untyped(f'{{"$type":"{__name__}:P","x":1}}') == Point(1)
    Odd = dataclass(type("Odd:One", (), {"__annotations__": {"n": int}}))
    assert load_untyped(f'{{"$type":"{__name__}:Odd:One","n":1}}') == Odd(1)


def test_a_class_that_was_defined_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    old = Item
    text = codec_for(Any).dump(old(1))

    @dataclass
    class New:
        n: int

    New.__qualname__ = "Item"
    monkeypatch.setitem(globals(), "Item", New)
    assert type(load_untyped(text)) is New
    assert type(codec_for(Any).dump_load(old(1))[1]) is old
    assert type(codec_for(Any).dump_load(New(1))[1]) is New
    assert type(load_untyped(text)) is New


def test_kinds_are_not_remembered_for_ever() -> None:
    for n in range(MOST_REMEMBERED + 2):
        cls = type(f"C{n}", (), {})
        assert kind_of(cls) == "opaque"
        with pytest.raises(SerializationError):
            codec_for(Any).dump(cls())
        assert max(map(len, (_kinds, _writers))) <= MOST_REMEMBERED
    assert kind_of(Item) == "record"
    for n in range(MOST_REMEMBERED + 2):
        cls = type(f"D{n}", (Item,), {})
        assert plan_of(cls) is plan_of(cls)
        assert len(_plans) <= MOST_REMEMBERED
    assert load_untyped(codec_for(Any).dump(Item(1))) == Item(1)


@pytest.fixture
def as_main(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    return main


def test_module_name(as_main: types.ModuleType) -> None:
    assert module_name("shop.orders") == "shop.orders"
    assert module_name("__main__") == "__main__"
    as_main.__file__ = "/home/me/my.shop.py"
    assert module_name("__main__") == module_name("__mp_main__") == "my.shop"
    as_main.__file__ = "C:\\me\\shop"
    assert module_name("__main__") == "shop"
    as_main.__spec__ = types.SimpleNamespace(name="shop.orders")  # type: ignore[assignment]
    assert module_name("__main__") == "shop.orders"


def test_a_class_of_the_program_itself(as_main: types.ModuleType) -> None:
    as_main.__file__ = "/home/me/shop.py"

    @dataclass
    class Order:
        n: int

    Order.__module__, Order.__qualname__ = "__main__", "Order"
    as_main.Order = Order  # type: ignore[attr-defined]
    text = codec_for(Any).dump(Order(1))
    assert text == '{"$type":"shop:Order","n":1}'
    assert load_untyped(text) == Order(1)


def test_the_program_goes_before_a_module_of_its_name(
    as_main: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_main.__file__ = "/home/me/shop.py"
    imported = types.ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", imported)

    @dataclass
    class Mine:
        n: int

    @dataclass
    class Its:
        n: int

    Mine.__module__, Its.__module__ = "__main__", "shop"
    Mine.__qualname__ = Its.__qualname__ = "Order"
    as_main.Order, imported.Order = Mine, Its  # type: ignore[attr-defined]
    imported.Outer = Outer  # type: ignore[attr-defined]
    assert type(load_untyped('{"$type":"shop:Order","n":1}')) is Mine
    assert type(load_untyped('{"$type":"shop:Outer.Inner","n":1}')) is Outer.Inner


SCRIPT = """
import sys
from dataclasses import dataclass
from typing import Any
from durable._codec import codec_for

@dataclass
class Order:
    tags: Any

if sys.argv[1] == "write":
    print(codec_for(Any).dump(Order({"a", "b", "c", ("d", 1), frozenset({"x", "y"}), None})))
else:
    print(codec_for(Any).load(sys.argv[2]) == Order({"a", "b", "c", ("d", 1), frozenset("xy"), None}))
"""


def test_text_is_the_same_in_every_process(tmp_path: Any) -> None:
    (tmp_path / "shop.py").write_text(SCRIPT)

    def run(how: list[str], *arguments: str, seed: str) -> str:
        env = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, *how, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    texts = {run([how], "write", seed=str(seed)) for seed in range(4) for how in ["shop.py"]}
    texts |= {run(["-m", "shop"], "write", seed="5")}
    assert len(texts) == 1
    assert run(["shop.py"], "read", texts.pop(), seed="6") == "True"


HEAVY = ["cattrs", "attr", "attrs", "pydantic", "asyncio", "dataclasses", "inspect", "decimal", "uuid",
         "datetime", "pathlib", "hashlib", "traceback", "zoneinfo", "threading"]  # fmt: skip


def test_importing_is_light() -> None:
    code = (
        "import sys, types; before = set(sys.modules)\n"
        "durable = sys.modules['durable'] = types.ModuleType('durable')\n"
        f"durable.__path__ = {durable.__path__!r}\n"
        "import durable._codec as codec\n"
        "codec.codec_for(dict[str, int]).dump_load({'a': 1}); codec.codec_for(int).load('1')\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules and m not in before])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_whether_a_class_of_exceptions_is_here() -> None:
    assert is_here("builtins:ValueError")
    assert not is_here("nowhere:Gone")
    assert not is_here("builtins:int")

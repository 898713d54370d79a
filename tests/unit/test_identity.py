"""Names of workflows and steps, what a program has declared, and keys that stand for one thing only."""

import functools
import gc
import sys
import types

import pytest

from durable._identity import (
    Registry,
    claim_of,
    default_name,
    idempotency_key,
    level_outside,
    listed,
    module_of,
    require_name,
    set_aside,
    source_of,
    take_up,
)
from durable._signature import Signature


class Declared:
    def __init__(self, name="w", module="m", source="/m.py"):
        self.name = name
        self.module = module
        self.source = source
        self.signature = Signature(outer)


class Shop:
    def order(self): ...

    class Till:
        @staticmethod
        def open(): ...

    def __call__(self): ...


def outer():
    def inner():
        def innermost(): ...

        return innermost

    return inner


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (outer, "outer"),
        (outer(), "outer.inner"),
        (outer()(), "outer.inner.innermost"),
        (Shop.order, "Shop.order"),
        (Shop().order, "Shop.order"),
        (Shop.Till.open, "Shop.Till.open"),
        (Shop(), "Shop"),
        (functools.partial(outer), "outer"),
        (functools.update_wrapper(functools.partial(outer), Shop.order), "Shop.order"),
        (functools.partial(functools.partial(Shop()), 1), "Shop"),
    ],
)
def test_a_name_is_the_qualified_one_without_locals(function, name):
    assert default_name(function) == name


def test_a_lambda_has_a_name_too():
    assert default_name(lambda: None) == "test_a_lambda_has_a_name_too.<lambda>"


def test_a_module_is_named_as_it_is_imported():
    assert module_of(outer) == module_of(functools.partial(outer)) == __name__


def test_a_function_without_module_has_none():
    bare = types.SimpleNamespace()
    assert module_of(bare) == ""
    bare.__module__ = None
    assert module_of(bare) == ""


@pytest.mark.parametrize(
    ("main", "name"),
    [
        ({"__spec__": types.SimpleNamespace(name="shop.orders"), "__file__": "/x/orders.py"}, "shop.orders"),
        ({"__spec__": None, "__file__": "/srv/orders.py"}, "orders"),
        ({"__spec__": None, "__file__": "C:\\srv\\orders.py"}, "orders"),
        ({"__spec__": None, "__file__": "/srv/orders"}, "orders"),
        ({"__spec__": None, "__file__": None}, "__main__"),
        ({}, "__main__"),
    ],
)
def test_main_is_written_under_its_own_name(monkeypatch, main, name):
    monkeypatch.setitem(sys.modules, "__main__", types.SimpleNamespace(**main))
    assert module_of(types.SimpleNamespace(__module__="__main__")) == name


def test_a_source_is_the_file_of_the_code():
    assert source_of(outer) == source_of(functools.partial(outer)) == __file__
    assert source_of(Shop()) == ""
    assert source_of(len) == ""


def test_a_source_is_the_file_of_what_was_decorated_and_not_of_the_decorator():
    code = compile("def wrapper(): ...", "/lib/decorators.py", "exec")
    namespace = {}
    exec(code, namespace)
    once = functools.wraps(outer)(namespace["wrapper"])
    exec(code, namespace)
    twice = functools.wraps(once)(namespace["wrapper"])
    assert twice.__code__.co_filename == "/lib/decorators.py"
    assert source_of(once) == source_of(twice) == source_of(functools.partial(twice)) == __file__


@pytest.mark.parametrize("name", ["order", "order-{x}", "ünïcode 😀", " ", "a" * 10_000, "'; DROP TABLE durable_run"])
def test_names_that_are_fine(name):
    assert require_name(name, "the name") == name


@pytest.mark.parametrize("name", ["", "a\0b", "a\nb", "\x1b[31m", "a\x7f", "\ud800", "x\udfff", "\x1f"])
def test_names_that_the_journal_or_a_terminal_cannot_hold(name):
    with pytest.raises(ValueError, match="the id of a run must not be empty, and has no control characters"):
        require_name(name, "the id of a run")


@pytest.mark.parametrize("name", [None, 1, b"order", ["a"]])
def test_a_name_is_text(name):
    with pytest.raises(TypeError, match="the name of a step is a text, not"):
        require_name(name, "the name of a step")


@pytest.mark.parametrize("character", ["\x80", "\x9b", "\x9f"])
def test_control_characters_above_ascii_are_refused_too(character):
    with pytest.raises(ValueError):
        require_name(f"a{character}31m", "the name")  # CSI in one byte: some terminals obey it


@pytest.mark.parametrize("character", ["\xa0", "~", "\ud7ff", "\ue000"])
def test_their_neighbours_are_fine(character):
    assert require_name(character, "the name") == character


# -- keys -------------------------------------------------------------------------------------------------------------


def test_an_idempotency_key_is_one_operation_s():
    places = [("r", "", 0), ("r", "", 1), ("r", "/f:0", 0), ("r", "/f:0", 1), ("s", "", 0), ("r", "/f:0/g:0", 0)]
    assert len({idempotency_key(*place) for place in places}) == len(places)


def test_an_idempotency_key_never_changes():
    # Services outside may have seen it, so no version of this library may make another.
    assert idempotency_key("0123456789abcdef0123456789abcdef", "/fetch:1", 7) == "32e2c189ca7ad2752678120d4ae9373b"


def test_ids_and_branches_cannot_be_mistaken_for_each_other():
    assert idempotency_key("r", "/f:0 1", 2) != idempotency_key("r", "/f:0", 12)
    assert idempotency_key("order", "/x /y:0", 1) != idempotency_key("order /x", "/y:0", 1)


def test_a_claim_stands_for_workflow_and_inputs():
    claims = {claim_of("w", "{}"), claim_of("w", '{"x":1}'), claim_of("v", "{}"), claim_of("w", '{"x":2}')}
    assert len(claims) == 4
    assert claim_of("w", '{"x":1}') == claim_of("w", '{"x":1}')


@pytest.mark.parametrize("claim", [None, claim_of("w", "{}")])
def test_a_claim_that_is_set_aside_is_another_one_until_it_is_taken_up(claim):
    assert take_up(set_aside(claim)) == take_up(claim) == claim
    assert claim is None or set_aside(claim) != claim


# -- what is declared -------------------------------------------------------------------------------------------------


def test_two_workflows_of_one_name_in_different_modules_are_an_error_at_the_second():
    registry = Registry()
    registry.declare_workflow(Declared("order", "shop", "/shop.py"))
    with pytest.raises(ValueError, match="two workflows are called 'order'") as error:
        registry.declare_workflow(Declared("order", "depot", "/depot.py"))
    assert str(error.value) == (
        "two workflows are called 'order': one in module 'shop', one in 'depot'. The journal finds a workflow by its "
        "name: give one of them another, @durable.workflow(name=...)"
    )
    assert registry.workflows["order"].module == "shop"


def test_a_reload_or_a_notebook_cell_replaces_it():
    registry = Registry()
    registry.declare_workflow(Declared("order", "shop", "/shop.py"))
    again = Declared("order", "shop", "/elsewhere.py")
    registry.declare_workflow(again)
    assert registry.workflows == {"order": again}


def test_the_same_source_under_two_module_names_replaces_it():
    registry = Registry()
    registry.declare_workflow(Declared("order", "orders", "/srv/orders.py"))
    imported = Declared("order", "shop.orders", "/srv/orders.py")
    registry.declare_workflow(imported)
    assert registry.workflows["order"] is imported


def test_no_source_is_not_the_same_source():
    registry = Registry()
    registry.declare_workflow(Declared("order", "a", ""))
    with pytest.raises(ValueError, match="two workflows"):
        registry.declare_workflow(Declared("order", "b", ""))


def test_other_names_live_side_by_side():
    registry = Registry()
    registry.declare_workflow(Declared("order", "a"))
    registry.declare_workflow(Declared("refund", "b"))
    assert set(registry.workflows) == {"order", "refund"}


def test_a_step_of_another_module_is_another_while_it_is_declared():
    registry = Registry()
    registry.declare_step(Declared("charge", "stripe", "/stripe.py"))
    called = Declared("charge", "paypal", "/paypal.py")
    registry.declare_step(called)
    assert registry.is_other_step("stripe", called)
    assert not registry.is_other_step("gone", called)  # it was moved here


def test_a_step_of_the_same_source_is_the_same_step():
    registry = Registry()
    registry.declare_step(Declared("charge", "orders", "/srv/orders.py"))
    assert not registry.is_other_step("orders", Declared("charge", "shop.orders", "/srv/orders.py"))


def test_steps_without_source_are_told_apart_by_module():
    registry = Registry()
    registry.declare_step(Declared("charge", "a", ""))
    assert registry.is_other_step("a", Declared("charge", "b", ""))


def test_what_an_operation_calls_tells_how_its_values_are_read():
    registry, step, workflow = Registry(), Declared("charge", "stripe"), Declared("order", "shop")
    registry.declare_step(step)
    registry.declare_workflow(workflow)
    assert registry.signature_of("step", "stripe", "charge") is step.signature
    assert registry.signature_of("child", "", "order") is workflow.signature
    assert registry.signature_of("start", "", "order") is workflow.signature
    for unknown in ("step", "paypal", "charge"), ("child", "shop", "refund"), ("sleep", "shop", "order"):
        assert registry.signature_of(*unknown) is None
    del step
    gc.collect()
    assert registry.signature_of("step", "stripe", "charge") is None


def test_steps_of_one_name_that_read_their_values_in_different_ways_are_not_told_apart():
    def made(kind: type):
        def charge(it: kind) -> kind:
            return it

        step = Declared("charge", "stripe")
        step.signature = Signature(charge)
        return step

    def local() -> type:
        class Order: ...

        return Order

    registry, steps = Registry(), [made(local()), made(local()), made(str)]
    for step in steps[:2]:
        registry.declare_step(step)
    assert registry.signature_of("step", "stripe", "charge") is steps[1].signature
    registry.declare_step(steps[2])
    assert registry.signature_of("step", "stripe", "charge") is None
    del step, steps[:2]
    gc.collect()
    assert registry.signature_of("step", "stripe", "charge") is steps[0].signature


def test_a_step_of_another_name_is_no_other_step():
    registry = Registry()
    registry.declare_step(Declared("refund", "stripe"))
    assert not registry.is_other_step("stripe", Declared("charge", "paypal"))


def test_names_in_a_message_are_sorted_and_quoted():
    assert listed({"b", "a"}) == "'a', 'b'"
    assert listed([]) == ""


# -- who called the library -------------------------------------------------------------------------------------------


def call_through(modules, measure):
    """What `measure` makes of the frame of the innermost of functions of these modules, each called by the one before."""
    inner = lambda: measure(sys._getframe(1))
    for module in reversed(modules):
        names = {"inner": inner} | ({} if module is None else {"__name__": module})
        exec("def outer(): return inner()", names)
        inner = names["outer"]
    return inner()


@pytest.mark.parametrize(
    ("modules", "level"),
    [
        (["shop"], 1),
        (["shop", "durable._steps"], 2),
        (["shop", "durable._steps", "durable._codec.hooks", "durable"], 4),
        (["durable._steps", "shop", "durable._scheduler"], 2),  # the library called the code, which called it
        (["shop", "durable_pytest", "durable._steps"], 2),
        ([None, "durable._steps"], 2),  # of `exec` with names of its own
    ],
)
def test_a_warning_points_at_the_code_that_called_the_library(modules, level):
    assert call_through(modules, level_outside) == level


def test_where_there_is_nobody_outside_the_outermost_is_pointed_at():
    class Frame:
        def __init__(self, back):
            self.f_back, self.f_globals = back, {"__name__": "durable.cli"}

    assert level_outside(Frame(Frame(Frame(None)))) == 3

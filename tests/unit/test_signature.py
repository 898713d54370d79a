"""Inputs as text: bound by name, read back, compared, and described where they cannot be held."""

import functools
import json
import re
import warnings
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable._signature import Signature, is_fingerprint
from durable.errors import SerializationError

WHAT = "workflow 'w'"
CLOSURE = object()  # a default that no journal holds


@dataclass
class Order:
    id: str
    count: int = 1


class Shop:
    def order(self, order: Order, count: int = 1) -> Order: ...


def plain(order: Order, count: int) -> str: ...
def defaulted(order: Order, count: int = 1, *, urgent: bool = False) -> str: ...
def positional_only(a: int, b: int = 2, /, c: int = 3) -> None: ...
def variadic(first: int, *rest: int, key: str = "k", **more: float) -> None: ...
def mixed(a: int, /, b: int, *args: int, c: int, **kwargs: int) -> None: ...
def gap(a: int = 1, b: int = 2, *, c: int = 3) -> None: ...
def untyped(value, other=None): ...
def typed_rest(first: date, *rest: Order, **more: Order) -> None: ...
def with_client(url: str, client: Any = CLOSURE) -> None: ...


def load(signature, text):
    return signature.load_inputs(text, WHAT)


def recorded(function, *args, **kwargs):
    signature = Signature(function)
    return signature.dump_run_inputs(signature.bind(args, kwargs, WHAT), WHAT)


# -- binding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "bound"),
    [
        (plain, (Order("a"), 2), {}, {"order": Order("a"), "count": 2}),
        (plain, (Order("a"),), {"count": 2}, {"order": Order("a"), "count": 2}),
        (defaulted, (Order("a"),), {}, {"order": Order("a"), "count": 1, "urgent": False}),
        (positional_only, (1,), {}, {"a": 1, "b": 2, "c": 3}),
        (positional_only, (1, 5), {"c": 6}, {"a": 1, "b": 5, "c": 6}),
        (variadic, (1,), {}, {"first": 1, "rest": (), "key": "k", "more": {}}),
        (variadic, (1, 2, 3), {"x": 1.5}, {"first": 1, "rest": (2, 3), "key": "k", "more": {"x": 1.5}}),
        (mixed, (1, 2, 3), {"c": 4, "a": 5}, {"a": 1, "b": 2, "args": (3,), "c": 4, "kwargs": {"a": 5}}),
        (functools.partial(plain, count=3), (Order("a"),), {}, {"order": Order("a"), "count": 3}),
        (Shop().order, (Order("a"),), {}, {"order": Order("a"), "count": 1}),
    ],
)
def test_arguments_by_name_and_back(function, args, kwargs, bound):
    signature = Signature(function)
    assert signature.bind(args, kwargs, WHAT) == bound
    args, kwargs = signature.unbind(bound)
    assert signature.bind(args, kwargs, WHAT) == bound
    text = signature.dump_run_inputs(bound, WHAT)
    assert load(signature, text) == bound
    assert signature.bind(*signature.unbind(load(signature, text)), WHAT) == bound


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [((), {}, "missing a required argument: 'order'"), ((1, 2, 3), {}, "too many"), ((1, 2), {"z": 1}, "unexpected")],
)
def test_a_wrong_call_is_the_type_error_that_python_makes(args, kwargs, message):
    with pytest.raises(TypeError, match=message):
        Signature(plain).bind(args, kwargs, WHAT)
    with pytest.raises(TypeError, match=f"^step 'plain' takes .*{message}"):
        Signature(plain).dump_step_inputs(args, kwargs, "step 'plain'")


@pytest.mark.parametrize("function", [defaulted, positional_only, variadic, gap])
@pytest.mark.parametrize("left_out", [0, 1, 2])
def test_a_parameter_that_came_later_is_left_to_its_default(function, left_out):
    signature = Signature(function)
    args = (Order("a"),) if function is defaulted else (7,)
    bound = signature.bind(args, {}, WHAT)
    names = [name for name in bound if name not in {"order", "first", "rest", "more"} and bound[name] != 7]
    journal = {name: value for name, value in bound.items() if name not in names[:left_out]}
    if function is positional_only and left_out == 1:
        journal["c"] = 9
        bound["c"] = 9
    if function is gap and left_out == 1:
        journal["c"] = 9
        bound["c"] = 9
    args, kwargs = signature.unbind(journal)
    assert signature.bind(args, kwargs, WHAT) == bound


def test_arguments_after_a_gap_are_passed_by_name():
    def later(a: int, new: int = 5, *, c: int = 0): ...

    def between(a: int, new: int = 5, b: int = 0): ...

    assert Signature(later).unbind({"a": 1, "c": 2}) == ((1,), {"c": 2})
    assert Signature(between).unbind({"a": 1, "b": 2}) == ((1,), {"b": 2})


# -- steps: strict in nothing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (plain, (Order("a"), 2), {}),
        (plain, (Order("a"),), {"count": 2}),
        (defaulted, (Order("a"),), {}),
        (variadic, (1, 2), {"x": 1.5}),
        (untyped, (1, (2, 3)), {}),
        (positional_only, (1, 2, 3), {}),
    ],
)
def test_step_inputs_are_an_object_by_parameter_name(function, args, kwargs):
    signature = Signature(function)
    text = signature.dump_step_inputs(args, kwargs, "step 's'")
    assert list(json.loads(text)) == list(signature.bind(args, kwargs, WHAT))
    assert load(signature, text) == signature.bind(args, kwargs, WHAT)


def only_positional(first, *rest): ...
def only_keywords(first, **more): ...
def keyword_only(first, *, key=2): ...


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (only_positional, '{"first":1,"rest":{"$tuple":[]}}'),
        (only_keywords, '{"first":1,"more":{}}'),
        (keyword_only, '{"first":1,"key":2}'),
        (lambda first, second=2: None, '{"first":1,"second":2}'),
    ],
)
def test_what_was_not_passed_is_written_too(function, text):
    made = Signature(function).dump_step_inputs((1,), {}, "step 's'")
    assert list(json.loads(made)) == list(json.loads(text))
    assert load(Signature(function), made) == Signature(function).bind((1,), {}, WHAT)


def test_each_of_many_arguments_has_the_type_of_its_annotation():
    def place(*orders: Order, **named: Order): ...

    signature = Signature(place)
    text = signature.dump_step_inputs((Order("a"),), {"b": Order("b")}, "step 'place'")
    assert text == '{"orders":[{"id":"a","count":1}],"named":{"b":{"id":"b","count":1}}}'
    assert load(signature, text) == {"orders": (Order("a"),), "named": {"b": Order("b")}}


def test_positional_and_keyword_calls_are_written_alike():
    signature = Signature(plain)
    one = signature.dump_step_inputs((Order("a"), 2), {}, "step 's'")
    other = signature.dump_step_inputs((), {"count": 2, "order": Order("a")}, "step 's'")
    assert one == other == '{"order":{"id":"a","count":1},"count":2}'


def test_no_parameters_are_an_empty_object():
    assert Signature(lambda: None).dump_step_inputs((), {}, "step 's'") == "{}"
    assert Signature(lambda *, key=2: None).dump_step_inputs((), {}, "step 's'") == '{"key":2}'


def test_a_callable_without_code_is_bound_by_its_signature():
    text = Signature(functools.partial(plain, count=3)).dump_step_inputs((Order("a"),), {}, "step 's'")
    assert json.loads(text)["count"] == 3


def test_what_cannot_be_held_is_described_with_one_warning_an_argument():
    def fetch(url: str, client: Any, other: Any = None): ...

    signature = Signature(fetch)
    with pytest.warns(RuntimeWarning, match="argument 'client' of step 'fetch' cannot be journaled") as seen:
        text = signature.dump_step_inputs(("u", lambda: None, 1), {}, "step 'fetch'")
    assert len(seen) == 1
    parts = json.loads(text)
    assert parts["url"] == "u"
    assert list(parts["client"]) == ["$opaque"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        signature.dump_step_inputs(("u", lambda: None, 1), {}, "step 'fetch'")
    with pytest.warns(RuntimeWarning, match="argument 'other'"):
        signature.dump_step_inputs(("u", 1, lambda: None), {}, "step 'fetch'")


def test_the_warning_points_at_the_code_that_called():
    with pytest.warns(RuntimeWarning, match="cannot be journaled") as seen:
        Signature(untyped).dump_step_inputs((CLOSURE,), {}, "step 'fetch'")
    assert seen[0].filename == __file__


def test_the_warning_says_what_is_done_instead():
    def fetch(client: Any, other: Any = None): ...

    signature = Signature(fetch)
    with pytest.warns(RuntimeWarning, match="kept instead") as seen:
        signature.dump_step_inputs((CLOSURE,), {}, "step 'fetch'")
    text = str(seen[0].message)
    assert text.startswith("argument 'client' of step 'fetch' cannot be journaled (")
    assert text.endswith("): a description is kept instead, and it is not compared on replay")


# -- from plain JSON --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "given", "args", "kwargs"),
    [
        (defaulted, [{"id": "a"}, 2], (Order("a"), 2), {}),
        (defaulted, {"order": {"id": "a"}, "urgent": True}, (Order("a"),), {"urgent": True}),
        (typed_rest, ["2026-01-02", {"id": "a"}, {"id": "b"}], (date(2026, 1, 2), Order("a"), Order("b")), {}),
        (typed_rest, {"first": "2026-01-02", "x": {"id": "a"}}, (date(2026, 1, 2),), {"x": Order("a")}),
        (untyped, [{"id": "a"}], ({"id": "a"},), {}),
    ],
)
def test_a_call_from_plain_json(function, given, args, kwargs):
    assert Signature(function).read_call(given, WHAT) == (args, kwargs)


@pytest.mark.parametrize(
    ("function", "given", "argument"),
    [
        (defaulted, [{"id": 5}], "order"),
        (defaulted, {"order": {"id": "a"}, "count": "two"}, "count"),
        (typed_rest, ["2026-01-02", {"id": "a"}, 7], "rest"),
        (typed_rest, {"first": "2026-01-02", "x": 7}, "more"),
    ],
)
def test_plain_json_that_does_not_fit_names_the_argument(function, given, argument):
    with pytest.raises(SerializationError) as error:
        Signature(function).read_call(given, WHAT)
    assert str(error.value).startswith(f"argument {argument!r} of {WHAT} does not fit: $")
    assert isinstance(error.value.__cause__, SerializationError)


def test_plain_json_for_other_parameters_is_a_wrong_call():
    for call in ([], {"count": 1}, [{"id": "a"}, 1, 2], {"order": {"id": "a"}, "counts": 1}):
        with pytest.raises(TypeError, match=re.escape(WHAT)):
            Signature(defaulted).read_call(call, WHAT)


def test_a_wrong_call_says_of_what_and_how_it_is_called():
    with pytest.raises(TypeError) as error:
        Signature(untyped).bind((), {}, WHAT)
    says = f"{WHAT} takes (value, other=None), and was called otherwise: missing a required argument: 'value'"
    assert str(error.value) == says


def test_an_opaque_input_is_never_a_difference():
    signature = Signature(untyped)
    with pytest.warns(RuntimeWarning):
        one = signature.dump_step_inputs((lambda: None, 1), {}, "step 's'")
    other = signature.dump_step_inputs((3, 1), {}, "step 's'")
    assert signature.differences(one, other) == []
    assert signature.differences(other, one) == []
    changed = signature.dump_step_inputs((3, 2), {}, "step 's'")
    assert signature.differences(one, changed) == [("other", "1", "2")]


# -- workflows: strict ------------------------------------------------------------------------------------------------


def test_a_workflow_input_that_cannot_be_held_is_refused_with_argument_and_path():
    signature = Signature(untyped)
    with pytest.raises(SerializationError, match=r"argument 'value' of workflow 'w' cannot be journaled: \$\.a\[1\]"):
        signature.dump_run_inputs({"value": {"a": [1, lambda: None]}, "other": None}, WHAT)


def test_a_default_that_cannot_be_held_is_left_out_when_nobody_passed_it():
    signature = Signature(with_client)
    assert recorded(with_client, "u") == '{"url":"u"}'
    assert signature.unbind(load(signature, '{"url":"u"}')) == (("u",), {})
    with pytest.raises(SerializationError, match="argument 'client'"):
        recorded(with_client, "u", client=object())


def test_what_stands_behind_such_a_default_is_written_too():
    def fetch(client: Any = CLOSURE, count: int = 1): ...

    assert recorded(fetch, count=2) == '{"count":2}'


def test_the_journal_s_argument_that_no_longer_fits_is_named_with_its_path():
    text = '{"order":{"id":"a","count":"many"},"count":2}'
    with pytest.raises(SerializationError, match=r"argument 'order' of workflow 'w' in the journal no longer fits: \$"):
        load(Signature(plain), text)


def test_a_parameter_that_is_gone_is_named():
    text = recorded(defaulted, Order("a"), urgent=True)
    with pytest.raises(SerializationError) as error:
        load(Signature(plain), text)
    assert str(error.value) == f"{WHAT} has no parameter 'urgent' any more, and the journal holds a value for it"


@pytest.mark.parametrize("text", ["[1]", "5", "nothing", "[" * 200_000, '["' + "x" * 100 + '"]'])
def test_inputs_that_are_no_json_object_are_shown_by_their_beginning(text):
    for read in (lambda: load(Signature(plain), text), lambda: Signature(plain).without_defaults(text)):
        with pytest.raises(SerializationError) as error:
            read()
        says = str(error.value)
        assert says.startswith("the inputs in the journal are no JSON object, so durable did not write them (")
        assert says.endswith(f"): {text[:80]}")
        assert error.value.__cause__ is not None


# -- comparing --------------------------------------------------------------------------------------------------------


def test_defaults_are_left_out_whether_passed_or_not():
    signature = Signature(defaulted)
    text = recorded(defaulted, Order("a"))
    assert signature.without_defaults(text) == '{"order":{"id":"a","count":1}}'
    passed = recorded(defaulted, Order("a"), 1, urgent=False)
    assert signature.without_defaults(passed) == signature.without_defaults(text)
    assert signature.without_defaults(recorded(defaulted, Order("a"), 2)) != signature.without_defaults(text)


def test_the_order_of_parameters_does_not_matter():
    def one(a: int, b: int): ...
    def other(b: int, a: int): ...

    assert Signature(one).without_defaults(recorded(one, 1, 2)) == Signature(other).without_defaults(
        recorded(other, 2, 1)
    )


def test_a_new_defaulted_parameter_differs_from_nothing():
    before = recorded(plain, Order("a"), 2)
    signature = Signature(defaulted)
    assert signature.differences(before, recorded(defaulted, Order("a"), 2)) == []
    assert signature.differences(before, recorded(defaulted, Order("a"), 2, urgent=True)) == [
        ("urgent", "(not given)", "true")
    ]
    assert signature.without_defaults(before) == signature.without_defaults(recorded(defaulted, Order("a"), 2))


def test_further_arguments_that_may_be_given_and_are_not_differ_from_nothing():
    def before(a: int) -> None: ...
    def after(a: int, *rest: str, **options: int) -> None: ...

    old, new = (Signature(function).dump_step_inputs((1,), {}, "s") for function in (before, after))
    signature = Signature(after)
    assert signature.differences(old, new) == []
    assert signature.without_defaults(new) == Signature(before).without_defaults(old)
    given = signature.dump_step_inputs((1, "x"), {"n": 2}, "s")
    assert [name for name, _, _ in signature.differences(old, given)] == ["rest", "options"]


def test_a_new_field_with_a_default_differs_from_nothing():
    """The journal has what an older version of the class wrote; read and written again it is what today's writes."""
    signature = Signature(plain)
    before = '{"order":{"id":"a"},"count":2}'
    assert signature.differences(before, recorded(plain, Order("a"), 2)) == []
    assert signature.differences(before, recorded(plain, Order("a", 3), 2)) == [
        ("order", '{"id":"a"}', '{"id":"a","count":3}')
    ]


def test_a_new_annotation_makes_no_difference_to_the_same_value():
    def count(number: str): ...

    signature = Signature(count)
    now = signature.dump_step_inputs((5,), {}, "step 'count'")
    assert now == '{"number":{"$value":5}}'
    assert signature.differences('{"number":5}', now) == []
    assert signature.differences('{"number":6}', now) == [("number", "6", '{"$value":5}')]


def test_a_value_that_no_longer_fits_and_a_parameter_that_is_gone_are_differences():
    signature = Signature(plain)
    code = recorded(plain, Order("a"), 2)
    assert [name for name, _, _ in signature.differences('{"order":{"number":1},"count":2}', code)] == ["order"]
    assert signature.differences('{"order":{"id":"a","count":1},"count":2,"gone":1}', code) == [
        ("gone", "1", "(not given)")
    ]


def test_a_default_that_cannot_be_written_is_compared_as_any_value():
    signature = Signature(with_client)
    assert signature.differences('{"url":"u"}', '{"url":"u","client":3}') == [("client", "(not given)", "3")]


def test_differences_name_each_argument_with_both_values():
    signature = Signature(plain)
    found = signature.differences(recorded(plain, Order("a"), 1), recorded(plain, Order("b"), 2))
    assert found == [
        ("order", '{"id":"a","count":1}', '{"id":"b","count":1}'),
        ("count", "1", "2"),
    ]


def test_an_argument_that_only_one_side_has_is_a_difference():
    signature = Signature(untyped)
    assert signature.differences('{"value":1}', '{"value":1,"other":2}') == [("other", "(not given)", "2")]
    assert signature.differences('{"value":1,"other":2}', '{"value":1}') == [("other", "2", "(not given)")]


def test_the_spelling_of_json_is_no_difference():
    signature = Signature(untyped)
    assert signature.differences('{"value": "\\u00e9", "other": [1, 2]}', '{"value":"é","other":[1,2]}') == []


def test_values_are_shown_as_they_read():
    assert Signature(untyped).differences('{"value":"\\u00e9"}', '{"value":"è"}') == [("value", '"é"', '"è"')]


@pytest.mark.parametrize(("one", "other"), [("1", "true"), ("1", "1.0"), ('"1"', "1"), ("null", "0"), ("[]", "{}")])
def test_types_make_a_difference(one, other):
    assert Signature(untyped).differences(f'{{"value":{one}}}', f'{{"value":{other}}}') == [("value", one, other)]


def test_a_lone_surrogate_can_be_shown():
    signature = Signature(untyped)
    one = signature.dump_step_inputs(("\ud800", None), {}, "step 's'")
    found = signature.differences(one, signature.dump_step_inputs(("x", None), {}, "step 's'"))
    assert [name for name, _, _ in found] == ["value"]
    found[0][1].encode()  # it goes into messages, and into the journal
    assert signature.differences('{"value":["\\ud800",{"é":1}]}', "{}") == [
        ("value", '["\\ud800",{"\\u00e9":1}]', "(not given)")
    ]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(json_values, json_values)
def test_the_same_inputs_never_differ_and_others_always_do(one, other):
    signature = Signature(untyped)
    first = signature.dump_step_inputs((one, 0), {}, "step 's'")
    second = signature.dump_step_inputs((other, 0), {}, "step 's'")
    assert signature.differences(first, first) == []
    assert bool(signature.differences(first, second)) == (json.loads(first) != json.loads(second) or first != second)


# -- fingerprints -----------------------------------------------------------------------------------------------------


def test_a_fingerprint_stands_for_inputs_without_telling_them():
    def login(password: str): ...

    as_fingerprint = Signature(login).as_fingerprint
    text = '{"password":"hunter2"}'
    printed = as_fingerprint(text)
    assert is_fingerprint(printed)
    assert not is_fingerprint(text)
    assert "hunter2" not in printed
    assert json.loads(printed)
    assert as_fingerprint(printed) == printed
    assert as_fingerprint('{"password":"hunter3"}') != printed


def test_a_fingerprint_never_changes():
    """Journals hold it, so no version of this library may make another."""
    made = Signature(plain).as_fingerprint('{"order":{"id":"a","count":1},"count":2}')
    assert made == '{"$fingerprint":"b97bea373e0557c5e942400d34ecf2a3"}'


@pytest.mark.parametrize("kept", ["journal", "code", "both"])
def test_fingerprints_are_compared_with_recorded_inputs_too(kept):
    signature = Signature(untyped)
    same, other = '{"value":1,"other":null}', '{"value":2,"other":null}'
    old = signature.as_fingerprint(same) if kept in {"journal", "both"} else same
    new = signature.as_fingerprint if kept in {"code", "both"} else str
    assert signature.differences(old, new(same)) == []
    assert signature.differences(old, new(other)) == [("inputs", old, new(other))]


def test_a_new_defaulted_parameter_changes_no_fingerprint():
    before = Signature(plain).as_fingerprint(recorded(plain, Order("a"), 2))
    signature = Signature(defaulted)
    assert signature.differences(before, signature.as_fingerprint(recorded(defaulted, Order("a"), 2))) == []


def test_what_cannot_be_held_is_in_no_fingerprint():
    """Its description names an address, which is another in each process."""
    signature = Signature(untyped)
    with pytest.warns(RuntimeWarning):
        texts = [signature.dump_step_inputs((client, 1), {}, "step 's'") for client in (object(), CLOSURE)]
    assert texts[0] != texts[1]
    assert signature.differences(*map(signature.as_fingerprint, texts)) == []


def test_the_result_has_the_codec_of_its_annotation():
    text, value = Signature(Shop.order).result.dump_load(Order("a", 2))
    assert text == '{"id":"a","count":2}'
    assert value == Order("a", 2)
    assert Signature(untyped).result.load('"x"') == "x"


class Sender:
    def id_of(self, order, count=2):
        return f"{order}/{count}"


@pytest.mark.parametrize(
    ("function", "made"),
    [
        (lambda order: order, "o"),  # what it names of the parameters
        (lambda count: count, 2),  # defaults included
        (lambda count, order: f"{count} of {order}", "2 of o"),  # by name, in whatever order
        (lambda order, sep="-": f"{order}{sep}", "o-"),  # its own defaults
        (lambda a: a, "o"),  # other names: as many as it takes, by place
        (lambda a, b: f"{a} {b}", "o 2"),
        (lambda order, other: f"{order} {other}", "o 2"),
        (lambda order, /: order, "o"),
        (lambda: "fixed", "fixed"),
        (lambda *args: args, ("o", 2)),  # all
        (lambda **named: named, {"order": "o", "count": 2}),
        (lambda order, **named: (order, named), ("o", {"count": 2})),
        (lambda a, **named: (a, named), ("o", {})),
        ("order-{}".format, "order-o"),  # in C
        (functools.partial("{}-{}".format, "x"), "x-o"),
        (Sender().id_of, "o/2"),
    ],
)
def test_another_function_is_called_with_what_it_wants_of_the_arguments(function, made):
    def order_item(order, count=2): ...

    assert Signature(order_item).call_with(function, ("o",), {}) == made


def test_another_function_gets_what_must_be_given_by_name_by_name():
    def order_item(order, *, count): ...

    signature = Signature(order_item)
    assert signature.call_with(lambda *args, **named: (args, named), ("o",), {"count": 3}) == (("o",), {"count": 3})
    assert signature.call_with(lambda count: count, ("o",), {"count": 3}) == 3


def test_a_call_that_does_not_fit_is_refused_before_another_function_sees_it():
    def order_item(order): ...

    with pytest.raises(TypeError, match="the call"):
        Signature(order_item).call_with(lambda *_: "x", (), {})


def inner(order, count=2): ...


def takes_anything(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs): ...

    return wrapper


def takes_one_more(function):
    @functools.wraps(function)
    def wrapper(token, order): ...

    return wrapper


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (inner, ("order", "count")),
        (takes_anything(inner), ("order", "count")),
        (takes_anything(takes_anything(inner)), ("order", "count")),
        (takes_one_more(inner), ("token", "order")),
        (takes_anything(takes_one_more(inner)), ("token", "order")),
        (lambda *orders: None, ("orders",)),
        (takes_anything(functools.partial(inner, "o")), None),
        (Shop(), None),
    ],
)
def test_the_parameters_are_those_of_what_a_wrapper_that_takes_anything_wraps(function, names):
    assert Signature(function).names == names

"""What the decorators make of functions, methods and names; which things they refuse."""

import asyncio
import copy
import functools
import gc
import importlib.util
import inspect
import pickle
import subprocess
import sys

import attrs
import pytest

import durable

# -- signatures --------------------------------------------------------------------------------------------------------


def test_decorated_functions_keep_name_doc_signature_and_annotations():
    @durable.step
    def charge(amount: int, *, currency: str = "EUR") -> str:
        """Charge the card."""
        return f"{amount} {currency}"

    @durable.workflow
    async def order(amount: int) -> str:
        """An order."""
        return charge(amount)

    for decorated, name, doc in ((charge, "charge", "Charge the card."), (order, "order", "An order.")):
        assert decorated.__name__ == name
        assert decorated.__doc__ == doc
        assert decorated.__module__ == __name__
    assert str(inspect.signature(charge)) == "(amount: int, *, currency: str = 'EUR') -> str"
    assert charge.__wrapped__(1) == "1 EUR"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="nothing but a function is one before Python 3.12")
def test_an_async_one_is_known_as_a_coroutine_function():
    class Shop:
        @durable.step
        async def step(self): ...

    @durable.workflow
    async def flow(): ...

    @durable.workflow
    def sync(): ...

    for each in (flow, flow.with_options(id="one"), Shop.step, Shop().step):
        assert inspect.iscoroutinefunction(each)
    assert not inspect.iscoroutinefunction(sync)


def test_default_name_is_the_qualified_name_without_locals():
    class Shop:
        @durable.step
        def pay(self): ...

    @durable.workflow
    def order(): ...

    test = "test_default_name_is_the_qualified_name_without_locals"
    assert Shop.pay.name == f"{test}.Shop.pay"
    assert order.name == f"{test}.order"


def test_names_may_be_given():
    @durable.step(name="pay")
    def some_step(): ...

    @durable.workflow(name="order")
    def some_workflow(): ...

    assert (some_step.name, some_workflow.name) == ("pay", "order")
    for bad in ("", "a\nb", "\x1b[31m"):
        with pytest.raises(ValueError):
            durable.step(name=bad)(lambda: None)
    with pytest.raises(TypeError):
        durable.workflow(name=5)(lambda: None)


def test_wrong_call_is_the_type_error_that_python_raises_and_starts_nothing(journal):
    @durable.step
    def step(a): ...

    @durable.workflow
    def flow(a, *, b=1):
        step()

    for call in (flow, lambda: flow(1, 2), lambda: flow(1, c=2), flow.start):
        with pytest.raises(TypeError):
            call()
    assert durable.runs() == []
    with pytest.raises(TypeError):
        flow(1)
    assert durable.runs()[0].status == "failed"


def test_every_kind_of_parameter_comes_back_as_it_was_given(journal):
    seen = []

    @durable.step
    def step(a, /, b, *args, c, d=4, **kwargs):
        return [a, b, args, c, d, kwargs]

    @durable.workflow
    def flow(a, /, b, *args, c, d=4, **kwargs):
        seen.append([a, b, args, c, d, kwargs])
        result = step(a, b, *args, c=c, d=d, **kwargs)
        journal.crash()
        return result

    with pytest.raises(KeyboardInterrupt):
        flow(1, 2, 3, 4, c=5, e=6)
    journal.restart()
    expected = [1, 2, (3, 4), 5, 4, {"e": 6}]
    assert flow(1, 2, 3, 4, c=5, e=6) == expected
    assert seen == [expected, expected]


def test_an_argument_may_be_called_self(journal, run_async):
    @durable.step
    def links(**kwargs):
        return kwargs

    @durable.step
    async def links_async(**kwargs):
        return kwargs

    @durable.workflow(id="{kwargs[self]}")
    def flow(**kwargs):
        return [links(**kwargs), links.submit(**kwargs).result()]

    @durable.workflow
    async def flow_async(self):
        return await links_async(self=self)

    @durable.workflow
    def parent():
        return [*flow(self="/b"), flow.start(self="/c").result()[0]]

    assert flow(self="/a") == flow.start(self="/a").result() == [{"self": "/a"}] * 2
    assert run_async(flow_async(self="/a")) == {"self": "/a"}
    assert parent() == [{"self": "/b"}, {"self": "/b"}, {"self": "/c"}]
    assert links(self="/a") == links.submit(self="/a").result() == {"self": "/a"}


def test_default_that_cannot_be_journaled_stands_there_again(journal):
    lock = object()

    @durable.workflow
    def flow(n, client=lock):
        journal.crash()
        return client is lock

    with pytest.raises(KeyboardInterrupt):
        flow(1)
    journal.restart()
    assert flow(1) is True


# -- methods, static methods, closures ---------------------------------------------------------------------------------


class Shop:
    """Its instances are data, so that they can be the input of a workflow."""

    def __init__(self, name):
        self.name = name

    @durable.step
    def pay(self, amount):
        return f"{self.name} got {amount}"

    @durable.step
    async def pay_async(self, amount):
        return f"{self.name} got {amount}"

    @staticmethod
    @durable.step
    def tax(amount):
        return amount // 5

    @durable.step
    @staticmethod
    def fee(amount):
        return amount // 10


def test_methods_static_methods_and_closures_are_steps(journal):
    shop = Shop("shop")
    offset = 7

    @durable.step
    def closure(amount):
        return amount + offset

    @durable.workflow
    def flow():
        return shop.pay(100), Shop.tax(100), shop.tax(100), Shop.fee(100), shop.fee(100), closure(100)

    expected = ("shop got 100", 20, 20, 10, 10, 107)
    assert (shop.pay(100), Shop.tax(100), shop.tax(100), Shop.fee(100), shop.fee(100), closure(100)) == expected
    with pytest.warns(RuntimeWarning, match="self"):  # an object that is no data: described, not compared
        assert flow() == expected
    assert [step.name for step in durable.runs()[0].steps()[:2]] == ["Shop.pay", "Shop.tax"]


def test_async_methods_are_steps(journal, run_async):
    shop = Shop("shop")

    @durable.workflow
    async def flow():
        return await asyncio.gather(shop.pay_async(1), shop.pay_async.with_options(timeout=5)(2))

    with pytest.warns(RuntimeWarning, match="self"):
        assert run_async(flow()) == ["shop got 1", "shop got 2"]


def test_methods_and_static_methods_are_workflows(journal):
    import dataclasses

    @dataclasses.dataclass
    class Account:
        name: str

        @durable.workflow(id="{self.name}-{amount}")
        def pay(self, amount: int) -> str:
            assert isinstance(self, Account)
            return f"{self.name} {amount} {durable.info().run_id}"

        @staticmethod
        @durable.workflow
        def plain(amount: int) -> int:
            return amount

    account = Account("me")
    assert account.pay(5) == "me 5 me-5"
    assert account.pay.start(6).result() == "me 6 me-6"
    assert account.pay.with_options(id="x")(7) == "me 7 x"
    assert Account.plain(5) == account.plain(5) == 5


def test_method_of_a_subclass_and_super(journal):
    class Base:
        @durable.step
        def name(self):
            return "base"

    class Derived(Base):
        @durable.step
        def name(self):
            return f"derived of {super().name()}"

    assert Derived().name() == "derived of base"


def test_super_in_a_class_that_attrs_makes_anew_for_its_slots(journal):
    """It mends what refers to the class that it was made of."""

    @attrs.define
    class Base:
        name: str

        @durable.step
        def greet(self):
            return f"I am {self.name}"

    @attrs.define
    class Sub(Base):
        @durable.step
        def greet(self):
            return super().greet() + " too"

        @durable.workflow(id="{self.name}")
        def flow(self):
            return self.greet()

    assert Sub("sub").flow() == Sub("sub").greet() == "I am sub too"


def test_a_method_of_an_instance_is_as_other_methods_are():
    class Till:
        @durable.step
        @passes_on
        def pay(self, amount: int) -> str: ...

        @durable.workflow
        def sell(self, amount: int) -> str: ...

    one, other = Till(), Till()
    for bound, again, of_other in ((one.pay, one.pay, other.pay), (one.sell, one.sell, other.sell)):
        assert str(inspect.signature(bound)) == "(amount: int) -> str"
        assert bound == again
        assert len({bound, again, of_other}) == 2
    assert str(inspect.signature(one.pay.with_options(timeout=5))) == "(amount: int) -> str"
    assert str(inspect.signature(Till.pay)) == "(self, amount: int) -> str"
    assert one.pay != one.pay.with_options(timeout=5) != one.pay
    assert one.pay not in (Till.pay, one.sell, "pay")
    assert Till.pay == Till.pay != one.pay


def test_a_method_of_another_instance_stays_its_method():
    class Counter:
        count = Shop("shop").pay

    assert Counter().count(5) == "shop got 5"


# -- wrapped by other decorators ---------------------------------------------------------------------------------------


def passes_on(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def gives_ten(function):
    @functools.wraps(function)
    def wrapper(number):
        return function(number, 10)

    return wrapper


def test_a_wrapper_that_takes_anything_has_the_parameters_of_what_it_wraps(journal):
    @durable.step
    @passes_on
    def step(number: int, more: int = 3) -> int:
        return number + more

    @durable.workflow(id="flow-{number}")
    @passes_on
    def flow(number: int) -> int:
        return step(number) + step(number, more=1)

    assert flow(1) == 6
    assert [each.input for each in durable.get("flow-1").steps()] == [
        {"number": 1, "more": 3},
        {"number": 1, "more": 1},
    ]


def test_a_wrapper_with_parameters_of_its_own_keeps_them(journal):
    @durable.step
    @gives_ten
    def step(number: int, hidden: int) -> int:
        return number + hidden

    @durable.workflow(id="flow-{number}")
    @gives_ten
    def flow(number: int, hidden: int) -> int:
        return step(number) + step(number=hidden)

    assert flow(1) == 31
    assert [each.input for each in durable.get("flow-1").steps()] == [{"number": 1}, {"number": 10}]


class PassesOn:
    """A decorator that is a class."""

    def __init__(self, function):
        self.function = function
        functools.update_wrapper(self, function)

    def __call__(self, *args, **kwargs):
        return self.function(*args, **kwargs)


class GivesTen(PassesOn):
    def __call__(self, *args):
        return self.function(*args, 10)


def test_an_object_around_a_function_has_its_names_in_the_id_and_those_of_its_call_in_the_journal(journal):
    @durable.step
    @PassesOn
    def step(number: int) -> int:
        return number

    @durable.workflow(id="flow-{number}-{other}")
    @PassesOn
    def flow(number: int, other: int = 2) -> int:
        return step(number) + step(number=number)

    @durable.workflow(id="other-{args[0]}")
    @GivesTen
    def other(number: int, hidden: int) -> int:
        return number + hidden

    assert flow(1) == 2
    inputs = [each.input for each in durable.get("flow-1-2").steps()]
    assert inputs == [{"args": (1,), "kwargs": {}}, {"args": (), "kwargs": {"number": 1}}]
    assert other(1) == 11
    assert durable.get("other-1").input == {"args": (1,)}


def test_what_is_in_c_has_the_parameters_of_what_it_wraps(journal):
    @durable.step
    @functools.lru_cache
    @gives_ten
    def step(number: int, hidden: int) -> int:
        return number + hidden

    @durable.workflow(id="flow-{number}")
    @functools.lru_cache
    def flow(number: int) -> int:
        return step(number)

    assert flow(1) == 11
    assert durable.get("flow-1").steps()[0].input == {"number": 1}
    with pytest.raises(ValueError, match="nummer"):
        durable.workflow(id="flow-{nummer}")(functools.lru_cache(flow.function.__wrapped__))


def test_a_signature_that_was_set_is_the_one(journal):
    def with_client(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function("client", *args, **kwargs)

        signature = inspect.signature(function)
        wrapper.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])
        return wrapper

    @durable.step
    @passes_on
    @with_client
    def step(client: str, number: int) -> str:
        return f"{client} {number}"

    @durable.workflow(id="flow-{number}")
    @with_client
    def flow(client: str, number: int) -> str:
        return step(number) + step(number=number)

    assert flow(1) == flow(number=1) == "client 1client 1"
    assert [each.input for each in durable.get("flow-1").steps()] == [{"number": 1}] * 2
    with pytest.raises(ValueError, match="client"):
        durable.workflow(id="flow-{client}")(flow.function)


def test_a_method_of_an_instance_under_a_decorator(journal):
    class Till:
        @passes_on
        def pay(self, amount: int) -> int:
            return amount

    step = durable.step(Till().pay)

    @durable.workflow
    def flow() -> list[int]:
        return [step(1), step(amount=2)]

    assert flow() == [1, 2]
    assert [each.input for each in durable.runs()[0].steps()] == [{"amount": 1}, {"amount": 2}]


class Plus:
    async def __call__(self, number):
        return number + 1


def test_an_async_function_is_known_behind_a_partial_and_a_callable_object(journal, run_async):
    async def add(one, other):
        return one + other

    async def call(more, number):
        return [await step(number) for step in steps] + more

    steps = [durable.step(each) for each in (functools.partial(add, 3), Plus(), functools.partial(Plus()))]
    flow = durable.workflow(functools.partial(call, [0]))
    assert run_async(flow(5)) == [8, 6, 6, 0]
    (run,) = durable.runs(workflow=flow)
    assert [step.name.rpartition(".")[2] for step in run.steps()] == ["add", "Plus", "Plus"]


def test_two_workflows_of_partials_of_one_module_have_two_names(journal):
    def one(key, number):
        return key, number

    def other(key, number): ...

    first, _ = (durable.workflow(functools.partial(function, "a")) for function in (one, other))
    assert first.start(5).result() == ("a", 5)


def test_an_async_step_that_is_never_awaited_is_named_in_the_warning(journal, run_async):
    @durable.step(name="forgotten")
    async def step():
        pass

    @durable.workflow
    async def flow():
        step()
        gc.collect()

    with pytest.warns(RuntimeWarning, match="'forgotten' was never awaited"):
        run_async(flow())


def test_an_async_workflow_that_is_never_awaited_is_named_in_the_warning(journal):
    @durable.workflow(name="forgotten")
    async def flow():
        pass

    with pytest.warns(RuntimeWarning, match="'forgotten' was never awaited"):
        flow()
    assert durable.runs() == []


# -- refused -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "decorator", [durable.step, durable.workflow, durable.step(name="a"), durable.workflow(name="a")]
)
def test_generators_classes_properties_and_decorated_functions_are_refused(decorator):
    def generator():
        yield 1

    async def async_generator():
        yield 1

    class Object:
        def __call__(self):
            yield 1

    functions = (generator, async_generator, Object())
    for function in (*functions, *map(functools.partial, functions)):
        with pytest.raises(TypeError, match="generator"):
            decorator(function)
    for thing in (int, 5, None, property(lambda self: 1), classmethod(lambda cls: 1), durable.step(lambda: 1)):
        if thing is None:
            continue  # `durable.step(None)` is how a decorator with options begins
        with pytest.raises(TypeError):
            decorator(thing)


@pytest.mark.parametrize(
    ("declare", "bad", "kind"),
    [
        (durable.step, {"concurrency": 0}, ValueError),
        (durable.step, {"timeout": -1}, ValueError),
        (durable.step, {"name": ""}, ValueError),
        (durable.step, {"retry": 3}, TypeError),
        (durable.step, {"at_most_once": "no"}, TypeError),
        (durable.workflow, {"concurrency": 0}, ValueError),
        (durable.workflow, {"timeout": 0}, ValueError),
        (durable.workflow, {"name": ""}, ValueError),
        (durable.workflow, {"id": ""}, ValueError),
        (durable.workflow, {"id": 7}, TypeError),
    ],
)
def test_bad_options_are_refused_before_there_is_a_function(declare, bad, kind):
    with pytest.raises(kind, match=next(iter(bad))):
        declare(**bad)


def test_unknown_options_are_refused():
    with pytest.raises(TypeError):
        durable.step(retries=3)
    with pytest.raises(TypeError):
        durable.workflow(retry=None)
    for bad in (5, "yes", {"maximum_attempts": 3}):
        with pytest.raises(TypeError):
            durable.step(retry=bad)(lambda: None)
    with pytest.raises(TypeError):
        durable.step(timeout="5")(lambda: None)


# -- names that meet ---------------------------------------------------------------------------------------------------

SOURCE = """
import durable

@durable.step
def one():
    return VERSION

@durable.workflow
def flow():
    return one()

VERSION = 1
"""


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_two_workflows_of_one_name_in_different_modules_are_an_error_that_names_both(tmp_path):
    for name in ("shop_one", "shop_two"):
        (tmp_path / f"{name}.py").write_text(SOURCE)
    load(tmp_path / "shop_one.py", "shop_one")
    with pytest.raises(ValueError, match=r"(?s)'flow'.*shop_one.*shop_two.*name="):
        load(tmp_path / "shop_two.py", "shop_two")


SHARED = """
import functools

def passes_on(function):
    return functools.wraps(function)(lambda *args, **kwargs: function(*args, **kwargs))
"""


def test_a_decorator_that_both_have_does_not_make_them_one(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "shared.py").write_text(SHARED)
    for name in ("shop_one", "shop_two"):
        source = SOURCE.replace("@durable.workflow", "@durable.workflow\n@__import__('shared').passes_on")
        (tmp_path / f"{name}.py").write_text(source)
    load(tmp_path / "shop_one.py", "shop_one")
    with pytest.raises(ValueError, match=r"(?s)'flow'.*shop_one.*shop_two"):
        load(tmp_path / "shop_two.py", "shop_two")


def test_declaring_the_same_workflow_again_replaces_it(journal, tmp_path):
    (tmp_path / "shop.py").write_text(SOURCE)
    module = load(tmp_path / "shop.py", "shop")
    run_id = module.flow.start().id
    assert durable.get(run_id).result() == 1
    (tmp_path / "shop.py").write_text(SOURCE.replace("VERSION = 1", "VERSION = 22"))
    again = load(tmp_path / "shop.py", "shop")  # a reload
    assert again.flow() == 22
    other = load(tmp_path / "shop.py", "package.shop")  # the same file under another name
    assert other.flow() == 22

    def notebook_cell(result):
        @durable.workflow(name="cell")
        def cell():
            return result

        return cell

    assert [notebook_cell(result)() for result in (1, 2)] == [1, 2]


def test_a_program_and_the_same_file_imported_by_its_name_are_the_same(tmp_path):
    (tmp_path / "program.py").write_text(
        SOURCE
        + """
if __name__ == "__main__":
    import program  # declares the same again
    durable.open("journal.db")
    assert flow() == 1 and program.flow() == 1
    print({step.name for run in durable.runs() for step in run.steps()})
    print(durable._engine.REGISTRY.workflows["flow"].module)
"""
    )
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["{'one'}", "program"]


def test_importing_declares_and_opens_nothing(tmp_path):
    (tmp_path / "program.py").write_text(SOURCE)
    program = "import program, os, threading; print(sorted(os.listdir()), threading.active_count())"
    done = subprocess.run(
        [sys.executable, "-B", "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout == "['program.py'] 1\n"


def test_a_workflow_called_in_a_step_is_a_run_of_its_own(journal):
    calls = []

    @durable.workflow(name="inner")
    def inner(n):
        calls.append(durable.info().run_id)
        return n + 1

    @durable.step
    def step(n):
        return inner(n), inner.start(n).result()

    @durable.workflow(name="outer")
    def outer(n):
        return step(n)

    assert outer(1) == (2, 2)
    assert sorted(run.workflow for run in durable.runs()) == ["inner", "inner", "outer"]
    assert len(set(calls)) == 2
    (outer_run,) = durable.runs(workflow="outer")
    assert [each.kind for each in outer_run.steps()] == ["step"]


def test_a_workflow_called_in_an_async_step_is_a_run_of_its_own(journal, run_async):
    @durable.workflow(name="inner")
    async def inner(n):
        return n + 1

    @durable.step
    async def step(n):
        return await inner(n), await inner.start(n)

    @durable.workflow(name="outer")
    async def outer(n):
        return await step(n)

    assert run_async(outer(1)) == (2, 2)
    assert sorted(run.workflow for run in durable.runs()) == ["inner", "inner", "outer"]


@durable.step
def square(n: int) -> int:
    return n * n


def test_a_step_is_pickled_by_its_name_as_a_function_is():
    assert pickle.loads(pickle.dumps(square)) is square
    assert copy.copy(square) is square


class Rates:
    def __init__(self, rate):
        self.rate = rate

    @durable.step
    def apply(self, amount: int) -> int:
        return amount * self.rate


def test_a_step_that_is_a_method_is_pickled_with_its_instance_as_a_method_is():
    assert pickle.loads(pickle.dumps(Rates(3).apply))(4) == 12
    assert copy.deepcopy(Rates(5).apply)(2) == 10


def test_what_belongs_to_one_process_is_not_pickled_and_says_what_to_hand_over(journal):
    @durable.workflow(id="seven")
    def flow() -> int:
        return 7

    run = flow.start()
    assert copy.copy(run) is run
    assert copy.deepcopy({"run": run}) == {"run": run}
    with pytest.raises(
        TypeError, match=r"cannot pickle <durable.Run seven>: hand its id over, .*durable.get\('seven'\)"
    ):
        pickle.dumps(run)
    for each in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=r"cannot pickle or copy <durable.Engine .*durable.open"):
            each(journal.engine)

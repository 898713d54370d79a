"""DESIGN, "Which run does a call mean?": ids, adoption, conflicts."""

import asyncio
import threading
import time

import pytest

import durable
from durable import RunConflictError


def counting_workflow(journal, **options):
    """A workflow of one step that counts its calls, and of a place to crash behind it."""
    calls = []

    @durable.step
    def work(item):
        calls.append(item)
        return f"done {item}"

    @durable.workflow(name="counting", **options)
    def counting(item: str) -> str:
        result = work(item)
        journal.crash()
        return result

    return counting, calls


# -- with an id --------------------------------------------------------------------------------------------------------


def test_id_template_is_formatted_over_the_bound_arguments(journal):
    @durable.workflow(id="order-{order[id]}-{kind}")
    def order(order, kind="new", *, flag=False):
        return durable.info().run_id

    assert order({"id": 7}) == "order-7-new"
    assert order(kind="old", order={"id": 7}, flag=True) == "order-7-old"


def test_id_template_may_name_attributes(journal):
    class Order:
        id = 3

    @durable.workflow(id="order-{order.real}")
    def order(order: int):
        return durable.info().run_id

    assert order(3) == "order-3"


def test_id_may_be_a_callable_of_the_arguments(journal):
    @durable.workflow(id=lambda left, right=2: f"{left}+{right}")
    def add(left, right=2):
        return durable.info().run_id

    assert add(1) == "1+2"
    assert add(1, right=5) == "1+5"


def test_callable_id_is_given_defaults_too(journal):
    @durable.workflow(id=lambda left, right: f"{left}+{right}")
    def add(left, right=2):
        return durable.info().run_id

    assert add(1) == "1+2"
    assert add(right=5, left=4) == "4+5"


def test_callable_id_may_take_fewer_arguments_and_any_names(journal):
    @durable.workflow(name="fewer", id=lambda right, prefix="f": f"{prefix}{right}")
    def fewer(left, right, *, flag=False):
        return durable.info().run_id

    @durable.workflow(name="renamed", id=lambda one: f"renamed-{one}")
    def renamed(left, right=2):
        return durable.info().run_id

    @durable.workflow(name="all", id=lambda *values, **named: f"{values}{named}")
    def everything(left, right=2, *, flag=False):
        return durable.info().run_id

    @durable.workflow(name="built_in", id=str)
    def built_in(left, right=2):
        return durable.info().run_id

    assert fewer(1, 2, flag=True) == "f2"
    assert renamed(left=1, right=3) == "renamed-1"
    assert everything(right=1, left=0) == "(0, 1){'flag': False}"
    assert built_in(7) == "7"


def test_id_template_may_name_variadic_parameters(journal):
    @durable.workflow(id="{numbers[0]}-{options[kind]}")
    def collect(*numbers, **options):
        return durable.info().run_id

    assert collect(1, 2, kind="new") == "1-new"


def test_id_template_that_names_no_parameter_is_refused_where_it_is_written():
    with pytest.raises(ValueError, match="oder"):

        @durable.workflow(id="order-{oder}")
        def order(order): ...


@pytest.mark.parametrize("bad", ["", "a\nb", "\x00", "\x7f", "\ud800"])
def test_bad_id_is_a_value_error(journal, bad):
    @durable.workflow
    def plain(): ...

    with pytest.raises(ValueError):
        plain.with_options(id=bad)


def test_callable_id_must_return_text(journal):
    @durable.workflow(id=lambda x: x)
    def plain(x): ...

    with pytest.raises(TypeError):
        plain(5)
    assert durable.runs() == []


def test_new_id_starts_a_run(journal):
    journal.crashing = False
    counting, calls = counting_workflow(journal)
    assert counting.with_options(id="a")("x") == "done x"
    assert durable.get("a").status == "completed"
    assert calls == ["x"]


def test_finished_id_returns_the_recorded_result_without_running_anything(journal):
    journal.crashing = False
    counting, calls = counting_workflow(journal, id="run-{item}")
    assert counting("x") == counting("x") == "done x"
    journal.restart()
    assert counting("x") == "done x"
    assert calls == ["x"]


def test_failed_id_raises_the_recorded_error_without_running_anything(journal):
    bodies = []

    @durable.workflow(id="one")
    def failing():
        bodies.append(1)
        raise LookupError("gone", 5)

    for _ in range(2):
        with pytest.raises(LookupError) as caught:
            failing()
        assert caught.value.args == ("gone", 5)
    journal.restart()
    with pytest.raises(LookupError) as caught:
        failing()
    assert caught.value.args == ("gone", 5)
    assert len(bodies) == 1


def test_interrupted_id_goes_on(journal):
    counting, calls = counting_workflow(journal)
    with pytest.raises(KeyboardInterrupt):
        counting.with_options(id="a")("x")
    journal.restart()
    assert durable.get("a").status == "interrupted"
    assert counting.with_options(id="a")("x") == "done x"
    assert calls == ["x"]


def test_interrupted_id_goes_on_in_the_same_process_too(journal):
    counting, calls = counting_workflow(journal)
    with pytest.raises(KeyboardInterrupt):
        counting.with_options(id="a")("x")
    assert durable.get("a").status == "interrupted"
    journal.crashing = False
    assert counting.with_options(id="a")("x") == "done x"
    assert calls == ["x"]


def test_executing_id_is_waited_for(journal):
    going, go_on, calls = threading.Event(), threading.Event(), []

    @durable.workflow(id="one")
    def slow():
        calls.append(1)
        going.set()
        assert go_on.wait(60)
        return 5

    run = slow.start()
    assert going.wait(60)
    threading.Timer(0.05, go_on.set).start()
    assert slow() == 5
    assert run.result() == 5
    assert calls == [1]


def test_executing_async_id_is_waited_for_by_calls_on_the_same_loop(journal, run_async):
    calls = []

    @durable.workflow(id="one")
    async def slow():
        calls.append(1)
        await asyncio.sleep(0.02)
        return [5]

    async def main():
        return await asyncio.gather(slow(), slow(), slow())

    assert run_async(main()) == [[5], [5], [5]]
    assert calls == [1]


def test_calls_of_one_id_from_many_threads_run_it_once(journal):
    calls, results = [], []

    @durable.workflow(id="one")
    def slow():
        calls.append(1)
        time.sleep(0.02)
        return 5

    threads = [threading.Thread(target=lambda: results.append(slow())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [5] * 8
    assert calls == [1]


def test_other_inputs_under_an_id_are_a_conflict_that_shows_both(journal):
    journal.crashing = False
    counting, calls = counting_workflow(journal)
    one = counting.with_options(id="a")
    one("first item")
    with pytest.raises(RunConflictError) as caught:
        one("second item")
    message = str(caught.value)
    assert "'a'" in message
    assert "item" in message
    assert '"first item"' in message
    assert '"second item"' in message
    with pytest.raises(RunConflictError):
        one.start("second item")
    assert calls == ["first item"]


def test_other_workflow_under_an_id_is_a_conflict_that_names_both(journal):
    @durable.workflow(name="first")
    def first(): ...

    @durable.workflow(name="second")
    def second(): ...

    first.with_options(id="a")()
    with pytest.raises(RunConflictError, match=r"(?s)first.*second"):
        second.with_options(id="a")()


@pytest.mark.parametrize(("before", "after"), [((1,), (True,)), ((1,), (1.0,)), (((1,),), ([1],))])
def test_inputs_of_other_types_are_other_inputs(journal, before, after):
    @durable.workflow(id="a")
    def plain(value): ...

    plain(*before)
    with pytest.raises(RunConflictError):
        plain(*after)


def test_arguments_equal_to_their_default_are_left_out_of_the_comparison(journal):
    @durable.workflow(name="plain", id="a")
    def before(item):
        return item

    before("x")

    @durable.workflow(name="plain", id="a")
    def after(item, priority=5, *, dry_run=False):
        raise AssertionError

    assert after("x") == "x"
    assert after("x", 5, dry_run=False) == "x"
    with pytest.raises(RunConflictError, match="priority"):
        after("x", 6)


def test_new_defaulted_parameter_lets_an_interrupted_run_go_on_with_and_without_id(journal):
    @durable.workflow(name="plain")
    def before(item):
        journal.crash()

    for call in (before, before.with_options(id="a")):
        with pytest.raises(KeyboardInterrupt):
            call("x")
    journal.restart()

    @durable.workflow(name="plain")
    def after(item, priority=5):
        return durable.info().run_id, item, priority

    assert after.with_options(id="a")("x") == ("a", "x", 5)
    assert after("x")[1:] == ("x", 5)
    assert len(durable.runs()) == 2


def test_start_with_the_id_of_a_run_that_exists_returns_its_handle(journal):
    journal.crashing = False
    counting, calls = counting_workflow(journal)
    one = counting.with_options(id="a")
    run = one.start("x")
    again = one.start("x")
    assert run == again
    assert run.result() == again.result() == "done x"
    assert one.start("x").result() == "done x"
    assert calls == ["x"]


def test_start_with_the_id_of_an_interrupted_run_goes_on_with_it(journal):
    counting, calls = counting_workflow(journal)
    with pytest.raises(KeyboardInterrupt):
        counting.with_options(id="a")("x")
    journal.restart()
    assert counting.with_options(id="a").start("x").result(60) == "done x"
    assert calls == ["x"]


def test_start_with_the_id_of_a_failed_run_returns_its_handle(journal):
    @durable.workflow(id="a")
    def failing():
        raise ValueError("no")

    with pytest.raises(ValueError):
        failing()
    run = failing.start()
    assert run.status == "failed"
    with pytest.raises(ValueError, match="no"):
        run.result()


def test_id_of_an_ancestor_is_an_error(journal):
    @durable.workflow(name="recursive", id="a")
    def recursive():
        return recursive()

    with pytest.raises(RunConflictError, match="itself"):
        recursive()

    @durable.workflow(name="inner", id="outer-{depth}")
    def outer(depth):
        return middle(depth)

    @durable.workflow
    def middle(depth):
        return outer(depth)

    with pytest.raises(RunConflictError, match="waits for"):
        outer(0)


def test_id_of_an_ancestor_is_an_error_in_async_too(journal, run_async):
    @durable.workflow(id="a")
    async def recursive():
        return await recursive()

    with pytest.raises(RunConflictError, match="itself"):
        run_async(recursive())


def test_id_of_an_ancestor_is_an_error_in_start_too(journal):
    @durable.workflow(id="a")
    def recursive():
        return recursive.start().id

    with pytest.raises(RunConflictError):
        recursive()


# -- without an id -----------------------------------------------------------------------------------------------------


def test_each_plain_call_of_a_finished_workflow_is_a_run_of_its_own(journal):
    journal.crashing = False
    counting, calls = counting_workflow(journal)
    counting("x")
    counting("x")
    journal.restart()
    counting("x")
    assert calls == ["x"] * 3
    assert len({run.id for run in durable.runs()}) == 3


def test_plain_call_goes_on_with_the_run_that_an_earlier_owner_left(journal):
    counting, calls = counting_workflow(journal)
    with pytest.raises(KeyboardInterrupt):
        counting("x")
    journal.restart()
    assert counting("x") == "done x"
    assert calls == ["x"]
    assert [run.status for run in durable.runs()] == ["completed"]


def test_plain_call_with_other_inputs_goes_on_with_nothing(journal):
    counting, calls = counting_workflow(journal)
    with pytest.raises(KeyboardInterrupt):
        counting("x")
    journal.restart()
    assert counting("y") == "done y"
    assert calls == ["x", "y"]
    assert [run.status for run in durable.runs()] == ["completed", "interrupted"]


def test_plain_calls_go_on_with_the_oldest_first_and_each_run_is_claimed_once(journal):
    made = []

    @durable.step
    def make(item):
        made.append(item)
        return len(made)

    @durable.workflow
    def numbered(item):
        number = make(item)
        journal.crash()
        return number

    runs = [numbered.start("x") for _ in range(3)]  # each is a run of its own
    for run in runs:
        with pytest.raises(durable.RunInterruptedError):
            run.result(60)
    order = [run.id for run in reversed(durable.runs())]
    numbers = [durable.get(run_id).steps()[0].output for run_id in order]
    journal.restart()
    assert [numbered("x") for _ in range(3)] == numbers
    assert numbered("x") == 4
    assert len(made) == 4


def test_start_always_makes_a_new_run(journal):
    counting, calls = counting_workflow(journal)
    with pytest.raises(KeyboardInterrupt):
        counting("x")
    journal.restart()
    run = counting.start("x")
    assert run.result(60) == "done x"
    assert calls == ["x", "x"]
    assert sorted(run.status for run in durable.runs()) == ["completed", "interrupted"]


def test_interrupted_call_gives_its_claim_back(journal):
    counting, calls = counting_workflow(journal)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            counting("x")
    journal.crashing = False
    assert counting("x") == "done x"
    assert calls == ["x"]
    assert len(durable.runs()) == 1


def test_call_waits_for_the_run_that_resume_has_set_going(journal):
    counting, calls = counting_workflow(journal)
    with pytest.raises(KeyboardInterrupt):
        counting("x")
    journal.restart()
    (run,) = durable.resume()
    assert counting("x") == "done x"
    assert calls == ["x"]
    assert [each.id for each in durable.runs()] == [run.id]


def test_call_returns_the_result_of_the_run_that_resume_has_finished_and_claims_it_once(journal):
    counting, calls = counting_workflow(journal)
    with pytest.raises(KeyboardInterrupt):
        counting("x")
    journal.restart()
    (run,) = durable.resume(wait=True)
    assert run.status == "completed"
    assert counting("x") == "done x"
    assert calls == ["x"]
    assert counting("x") == "done x"
    assert calls == ["x", "x"]


def test_call_raises_the_error_of_the_run_that_resume_has_seen_fail(journal):
    @durable.workflow
    def failing():
        journal.crash()
        raise LookupError("gone")

    with pytest.raises(KeyboardInterrupt):
        failing()
    journal.restart()
    (run,) = durable.resume(wait=True)
    assert run.status == "failed"
    with pytest.raises(LookupError, match="gone"):
        failing()
    assert len(durable.runs()) == 1


def test_runs_with_an_id_of_the_users_are_never_claimed_by_a_call_without(journal):
    counting, calls = counting_workflow(journal)
    with pytest.raises(KeyboardInterrupt):
        counting.with_options(id="a")("x")
    journal.restart()
    assert counting("x") == "done x"
    assert calls == ["x", "x"]
    assert durable.get("a").status == "interrupted"


def test_children_are_never_claimed_by_a_call(journal):
    calls = []

    @durable.step
    def work():
        calls.append(1)

    @durable.workflow
    def child(item):
        work()
        journal.crash()
        return durable.info().run_id

    @durable.workflow
    def parent():
        return child("x")

    with pytest.raises(KeyboardInterrupt):
        parent()
    children = {run.id for run in durable.runs(workflow=child)}
    journal.restart()
    assert child("x") not in children
    assert len(calls) == 2
    assert parent() in children
    assert len(calls) == 2


def test_plain_call_goes_on_with_a_blocked_run_when_the_code_is_back(journal):
    calls = []

    @durable.step
    def one():
        calls.append(1)

    @durable.step
    def other(): ...

    @durable.workflow(name="w")
    def before():
        one()
        journal.crash()
        return 5

    with pytest.raises(KeyboardInterrupt):
        before()
    journal.restart()

    @durable.workflow(name="w")
    def after():
        other()

    with pytest.raises(durable.NonDeterminismError):
        after()
    journal.restart()

    @durable.workflow(name="w")
    def back():
        one()
        return 5

    assert back() == 5
    assert calls == [1]
    assert len(durable.runs()) == 1


def test_call_in_a_later_process_goes_on_with_a_run_that_was_started(journal):
    counting, calls = counting_workflow(journal)
    run = counting.start("x")
    with pytest.raises(durable.RunInterruptedError):
        run.result(60)
    journal.restart()
    assert counting("x") == "done x"
    assert calls == ["x"]
    assert durable.get(run.id).status == "completed"


def test_async_call_goes_on_with_the_run_that_an_earlier_owner_left(journal, run_async):
    calls = []

    @durable.step
    async def work():
        calls.append(1)
        return 5

    @durable.workflow
    async def flow(item):
        value = await work()
        journal.crash()
        return value

    with pytest.raises(KeyboardInterrupt):
        run_async(flow("x"))
    journal.restart()
    assert run_async(flow("x")) == 5
    assert calls == [1]
    assert len(durable.runs()) == 1

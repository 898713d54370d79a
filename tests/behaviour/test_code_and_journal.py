"""DESIGN, "Code and journal": each way in which they can disagree, what the message says, and how the run goes on."""

import asyncio
import contextlib
import logging
import random
import sqlite3
import sys
import types
from collections.abc import Iterable
from contextlib import closing
from typing import Any

import pytest

import durable
from durable import NonDeterminismError, RunBlockedError
from durable._engine import REGISTRY


class Plan:
    """A workflow that calls steps as a list says, so that the list is the code that changes."""

    def __init__(self, journal):
        self.journal = journal
        self.calls = []
        self.raises = None
        self.steps = {}
        for name in ("one", "two", "three", "four"):
            self.steps[name] = self._step(name)

    def _step(self, name):
        @durable.step(name=name)
        def step(value=None):
            self.calls.append(name)
            return f"{name} {value}"

        return step

    def run(self, *plan, crash=False):
        @durable.workflow(name="plan", id="run")
        def workflow():
            results = []
            for item in plan:
                name, value = item if isinstance(item, tuple) else (item, None)
                results.append(self.steps[name](value))
            if crash:
                self.journal.crash()
            if self.raises:
                raise self.raises
            return results

        return workflow()


@pytest.fixture
def plan(journal):
    return Plan(journal)


def interrupted(plan, *steps):
    with pytest.raises(KeyboardInterrupt):
        plan.run(*steps, crash=True)
    plan.journal.restart()
    plan.calls.clear()


CHANGES = {
    "renamed": (["one", "three"], ["journal has step 'two'", "called step 'three'", "position 1"]),
    "swapped": (["two", "one"], ["journal has step 'one'", "called step 'two'", "position 0"]),
    "inserted": (["one", "three", "two"], ["journal has step 'two'", "called step 'three'", "position 1"]),
    "removed in the middle": (["two"], ["journal has step 'one'", "called step 'two'", "position 0"]),
    "removed at the end": (["one"], ["returned without calling step 'two'", "position 1"]),
    "all removed": ([], ["returned without calling step 'one'", "position 0", "1 more"]),
    "other inputs": ([("one", 5), "two"], ["step 'one'", "value: journal", "code 5", "position 0"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_code_blocks_the_run_loses_nothing_and_goes_on_when_it_is_put_back(plan, change):
    interrupted(plan, "one", "two")
    changed, says = CHANGES[change]
    with pytest.raises(NonDeterminismError) as caught:
        plan.run(*changed)
    for part in says:
        assert part in str(caught.value)
    run = durable.get("run")
    assert run.status == "blocked"
    assert type(run.error) is NonDeterminismError
    assert str(run.error) == str(caught.value)
    assert [(step.name, step.status) for step in run.steps()] == [("one", "completed"), ("two", "completed")]
    with pytest.raises(NonDeterminismError):
        run.result()
    assert plan.calls == []

    plan.journal.restart()
    assert plan.run("one", "two", "three") == ["one None", "two None", "three None"]
    assert plan.calls == ["three"]
    assert durable.get("run").status == "completed"
    assert durable.get("run").error is None


def test_message_says_what_to_do_next(plan):
    interrupted(plan, "one", "two")
    with pytest.raises(NonDeterminismError, match="put its code back, or start a new run; completed steps are kept"):
        plan.run("two")
    with pytest.raises(NonDeterminismError) as caught:
        plan.run(("one", 5), "two")
    for remedy in (
        "durable.now()",
        "durable.uuid4()",
        "durable.random()",
        "match_inputs=False",
        "run.retry(trust_journal=True)",
    ):
        assert remedy in str(caught.value)
    with pytest.raises(NonDeterminismError, match="put its code back"):
        plan.run("one")


def test_a_step_that_was_renamed_goes_on_under_its_old_name(journal, monkeypatch):
    done = []

    def work() -> str:
        done.append("work")
        return "done"

    def flow(step) -> str:
        @durable.workflow(name="flow", id="run")
        def body() -> str:
            value = step()
            journal.crash()
            return value

        return body()

    journal.crashing = True
    with pytest.raises(KeyboardInterrupt):
        flow(durable.step(name="gone")(work))
    monkeypatch.setattr(REGISTRY, "_steps", {})  # as in the next process
    journal.restart()
    with pytest.raises(NonDeterminismError, match=r"only renamed, .*: @durable\.step\(name='gone'\) \(run run"):
        flow(durable.step(name="work")(work))
    assert flow(durable.step(name="gone")(work)) == "done"
    assert done == ["work"]


def test_steps_appended_at_the_end_are_no_change(plan):
    interrupted(plan, "one", "two")
    assert plan.run("one", "two", ("three", 3)) == ["one None", "two None", "three 3"]
    assert plan.calls == ["three"]


def test_operations_left_over_when_the_workflow_raises(plan):
    interrupted(plan, "one", "two")
    plan.raises = LookupError("mine")
    with pytest.raises(NonDeterminismError, match="raised LookupError without calling step 'two'") as caught:
        plan.run("one")
    assert type(caught.value.__cause__) is LookupError
    assert durable.get("run").status == "blocked"


def test_blocked_run_goes_on_at_the_next_resume_with_code_that_fits(plan):
    interrupted(plan, "one", "two")
    with pytest.raises(NonDeterminismError):
        plan.run("two")
    plan.journal.restart()

    (run,) = durable.resume(wait=True)  # still the wrong code
    assert run.status == "blocked"
    plan.journal.restart()

    @durable.workflow(name="plan", id="run")
    def back():
        return [plan.steps[name](None) for name in ("one", "two")]

    (run,) = durable.resume(wait=True)
    assert run.status == "completed"
    assert run.result() == ["one None", "two None"]
    assert plan.calls == []


def test_callers_outside_get_the_error_also_from_result_and_await(plan, run_async):
    interrupted(plan, "one")
    with pytest.raises(NonDeterminismError):
        plan.run("two")
    plan.journal.restart()
    run = durable.get("run")
    with pytest.raises(NonDeterminismError):
        run.result()

    async def wait():
        await run

    with pytest.raises(NonDeterminismError):
        run_async(wait())
    assert issubclass(NonDeterminismError, RunBlockedError)


@pytest.mark.parametrize("kind", [Exception, BaseException])
def test_disagreement_is_sticky_whatever_the_body_catches(plan, kind):
    interrupted(plan, "one", "two")
    seen = []

    @durable.workflow(name="plan", id="run")
    def stubborn():
        for name in ("two", "one", "two", "three"):
            try:
                plan.steps[name](None)
            except kind as error:
                seen.append(error)
        return "I do not care"

    with pytest.raises(NonDeterminismError, match="journal has step 'one'"):
        stubborn()
    assert durable.get("run").status == "blocked"
    assert plan.calls == []
    if kind is BaseException:
        assert len(seen) == 4
        assert not isinstance(seen[0], Exception)
    else:
        assert seen == []


def test_disagreement_is_sticky_in_finally_too(plan):
    interrupted(plan, "one")

    @durable.workflow(name="plan", id="run")
    def cleaning_up():
        try:
            plan.steps["two"](None)
        finally:
            plan.steps["three"](None)

    with pytest.raises(NonDeterminismError, match="journal has step 'one'"):
        cleaning_up()
    assert plan.calls == []


@pytest.fixture
def grouped(journal, run_async):
    """An async run that was interrupted behind two calls of `one` in a group; and the list of what ran."""
    calls = []

    @durable.step(name="one")
    async def one():
        calls.append("one")

    @durable.step(name="two")
    async def two():
        calls.append("two")

    @durable.workflow(name="w", id="run")
    async def before():
        async with asyncio.TaskGroup() as group:
            group.create_task(one())
            group.create_task(one())
        journal.crash()

    with pytest.raises(KeyboardInterrupt):
        run_async(before())
    journal.restart()
    return one, two, calls


def test_disagreement_is_sticky_in_async_bodies(grouped, run_async):
    one, two, calls = grouped

    @durable.workflow(name="w", id="run")
    async def after():
        with contextlib.suppress(BaseException):
            await two()
        try:
            await one()
        except BaseException:
            return "I do not care"

    with pytest.raises(NonDeterminismError, match="journal has step 'one'"):
        run_async(after())
    assert durable.get("run").status == "blocked"
    assert calls == ["one", "one"]


def test_disagreement_is_sticky_through_a_task_group_that_wraps_it(grouped, run_async):
    one, two, calls = grouped

    @durable.workflow(name="w", id="run")
    async def after():
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(one())
                group.create_task(two())
        except BaseException:
            pass
        with contextlib.suppress(BaseException):
            await one()
        return "I do not care"

    with pytest.raises(NonDeterminismError, match="journal has step 'one'"):
        run_async(after())
    assert durable.get("run").status == "blocked"
    assert calls == ["one", "one"]


def test_new_branch_beside_those_in_the_journal_is_no_change(grouped, run_async):
    one, two, calls = grouped

    async def branch():
        await two()

    @durable.workflow(name="w", id="run")
    async def after():
        async with asyncio.TaskGroup() as group:
            group.create_task(one())
            group.create_task(one())
            group.create_task(branch())
        return "fits"

    assert run_async(after()) == "fits"
    assert calls == ["one", "one", "two"]


# -- inputs ------------------------------------------------------------------------------------------------------------


def test_match_inputs_false_accepts_other_inputs_for_this_step(journal):
    calls = []

    @durable.step(match_inputs=False)
    def log(when):
        calls.append(when)
        return when

    @durable.workflow
    def flow():
        result = log(random.random())
        journal.crash()
        return result

    with pytest.raises(KeyboardInterrupt):
        flow()
    journal.restart()
    assert [flow()] == calls


def test_trust_journal_takes_the_journals_word_for_one_run(plan):
    interrupted(plan, ("one", 1), ("two", 2))
    with pytest.raises(NonDeterminismError):
        plan.run(("one", 5), ("two", 2))
    plan.journal.restart()
    run = durable.get("run")
    run.retry(trust_journal=True)
    assert run.result() == ["one 1", "two 2"]
    assert plan.calls == []


def test_trust_journal_holds_for_the_run_from_now_on(plan):
    interrupted(plan, ("one", 1))
    with pytest.raises(NonDeterminismError):
        plan.run(("one", 5), crash=True)
    plan.journal.crashing = True
    run = durable.get("run")
    run.retry(trust_journal=True)
    plan.journal.restart()
    assert plan.run(("one", 6), ("two", 2)) == ["one 1", "two 2"]
    assert plan.calls == ["two"]


def test_trust_journal_does_not_excuse_another_step(plan):
    interrupted(plan, ("one", 1))
    with pytest.raises(NonDeterminismError):
        plan.run("two")
    run = durable.get("run")
    run.retry(trust_journal=True)
    with pytest.raises(NonDeterminismError):
        run.result()
    assert plan.calls == []


def test_retry_without_trust_leaves_a_blocked_run_blocked(plan):
    interrupted(plan, ("one", 1))
    with pytest.raises(NonDeterminismError):
        plan.run(("one", 5))
    run = durable.get("run")
    run.retry()
    with pytest.raises(NonDeterminismError):
        run.result()
    assert run.status == "blocked"


def test_inputs_are_compared_by_type_too(plan):
    interrupted(plan, ("one", 1))
    for other in (True, 1.0, "1", [1], (1,)):
        with pytest.raises(NonDeterminismError):
            plan.run(("one", other))
    assert plan.run(("one", 1)) == ["one 1"]


def test_new_defaulted_parameter_of_a_step_is_no_other_input(journal):
    @durable.step(name="work")
    def before(item):
        return item

    @durable.workflow(name="w", id="run")
    def flow():
        result = before("x")
        journal.crash()
        return result

    with pytest.raises(KeyboardInterrupt):
        flow()
    journal.restart()

    @durable.step(name="work")
    def after(item, mode="new"):
        raise AssertionError

    @durable.workflow(name="w", id="run")
    def flow_after():
        return after("x")

    assert flow_after() == "x"


def test_positional_and_keyword_arguments_are_the_same_inputs(journal):
    @durable.step
    def work(item, other=2):
        return item

    @durable.workflow(name="w", id="run")
    def before():
        work("x", 2)
        journal.crash()

    with pytest.raises(KeyboardInterrupt):
        before()
    journal.restart()

    @durable.workflow(name="w", id="run")
    def after():
        return work(other=2, item="x")

    assert after() == "x"


def test_argument_changed_by_the_step_is_compared_as_it_was_when_called(journal):
    @durable.step
    def grow(items):
        items.append(1)
        return len(items)

    @durable.workflow
    def flow():
        items = []
        lengths = [grow(items), grow(items)]
        journal.crash()
        return lengths

    with pytest.raises(KeyboardInterrupt):
        flow()
    journal.restart()
    with pytest.raises(NonDeterminismError):
        flow()  # mutating an argument is a side effect that replay cannot repeat: it is stopped, not mixed up


def test_record_input_false_keeps_only_a_fingerprint_which_is_compared(journal):
    @durable.step(record_input=False)
    def login(password):
        return "in"

    def declare(password):
        @durable.workflow(name="w", id="run")
        def flow():
            result = login(password)
            journal.crash()
            return result

        return flow

    with pytest.raises(KeyboardInterrupt):
        declare("hunter2-secret")()
    journal.restart()
    assert b"hunter2-secret" not in journal.path.read_bytes()
    with pytest.raises(NonDeterminismError):
        declare("other")()
    assert declare("hunter2-secret")() == "in"


def test_record_input_may_be_changed_under_a_run(journal):
    def declare(record):
        @durable.step(name="login", record_input=record)
        def login(password):
            return "in"

        @durable.workflow(name="w", id="run")
        def flow():
            result = login("x")
            journal.crash()
            return result

        return flow

    with pytest.raises(KeyboardInterrupt):
        declare(True)()
    journal.engine.close()
    journal.restart()
    assert declare(False)() == "in"


def test_opaque_inputs_are_described_not_compared_and_warned_of_once(journal):
    class Client:
        pass

    calls = []

    @durable.step
    def fetch(client, number):
        calls.append(number)
        return number

    @durable.workflow
    def flow():
        results = [fetch(Client(), 1), fetch(client=Client(), number=2)]
        journal.crash()
        return results

    with (
        pytest.warns(RuntimeWarning, match="argument 'client' of step .*fetch") as warned,
        pytest.raises(KeyboardInterrupt),
    ):
        flow()
    assert len(warned) == 1
    assert "Client" in str(durable.runs()[0].steps()[0].input)
    journal.restart()
    assert flow() == [1, 2]
    assert calls == [1, 2]


def test_a_step_gets_an_iterator_as_it_was_given(journal):
    @durable.step
    def total(numbers: Iterable[int]) -> int:
        return sum(numbers)

    @durable.workflow
    def flow() -> int:
        return total(number for number in (1, 2, 3))

    with pytest.warns(RuntimeWarning, match="a generator cannot be journaled"):
        assert flow() == 6


def test_other_argument_beside_an_opaque_one_is_compared(journal):
    number = 1

    @durable.step
    def fetch(client, number):
        return number

    @durable.workflow
    def flow():
        fetch(object(), number)
        journal.crash()

    with pytest.warns(RuntimeWarning), pytest.raises(KeyboardInterrupt):
        flow()
    journal.restart()
    number = 2
    with pytest.raises(NonDeterminismError, match="number: journal 1, code 2"):
        flow()


def test_workflow_inputs_are_strict(journal):
    @durable.workflow
    def flow(config): ...

    with pytest.raises(durable.SerializationError, match=r"(?s)config.*flow.*\$\.a\[0\]|\$\['a'\]\[0\]"):
        flow({"a": [object()]})
    assert durable.runs() == []


# -- another module ----------------------------------------------------------------------------------------------------


def module_with_step(name, calls):
    module = types.ModuleType(name)
    module.__dict__.update(durable=durable, calls=calls)
    source = f"@durable.step\ndef shared():\n    calls.append({name!r})\n    return {name!r}\n"
    exec(compile(source, f"/nowhere/{name}.py", "exec"), module.__dict__)
    return module


def test_step_of_the_same_name_from_another_module_while_the_journaled_one_is_still_declared(journal):
    calls = []
    first, second = module_with_step("first_module", calls), module_with_step("second_module", calls)

    def declare(module):
        @durable.workflow(name="w", id="run")
        def flow():
            result = module.shared()
            journal.crash()
            return result

        return flow

    with pytest.raises(KeyboardInterrupt):
        declare(first)()
    journal.restart()
    with pytest.raises(NonDeterminismError, match=r"(?s)first_module.*second_module"):
        declare(second)()
    assert declare(first)() == "first_module"
    assert calls == ["first_module"]


def test_moving_a_step_to_another_module_breaks_nothing(journal):
    calls = []
    first = module_with_step("old_module", calls)

    def declare(module):
        @durable.workflow(name="w", id="run")
        def flow():
            result = module.shared()
            journal.crash()
            return result

        return flow

    with pytest.raises(KeyboardInterrupt):
        declare(first)()
    journal.restart()
    durable._engine.REGISTRY._steps.pop(("old_module", "shared"))  # the program that starts now has no such module
    assert declare(module_with_step("new_module", calls))() == "old_module"
    assert calls == ["old_module"]


@pytest.mark.parametrize("kept", [True, False])
def test_an_exception_that_was_moved_is_found_where_a_module_of_the_old_name_has_it(journal, monkeypatch, kept):
    def error_of(module):
        return type("OutOfStock", (Exception,), {"__module__": module})

    def module_with(name, error):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        sys.modules[name].OutOfStock = error

    def declare(error):
        @durable.step(name="reserve", retry=None)
        def reserve():
            raise error("lamp")

        @durable.step(name="order more")
        def order_more():
            journal.crash()

        @durable.workflow(name="w", id="run")
        def flow():
            try:
                reserve()
            except error as caught:
                order_more()
                return str(caught)

        return flow

    old, new = error_of("old_errors"), error_of("new_errors")
    module_with("old_errors", old)
    with pytest.raises(KeyboardInterrupt):
        declare(old)()
    journal.restart()
    module_with("new_errors", new)
    if kept:
        module_with("old_errors", new)  # from new_errors import OutOfStock
        assert declare(new)() == "lamp"
    else:
        monkeypatch.delitem(sys.modules, "old_errors")
        hint = r"class 'old_errors:OutOfStock', which this program has not: .* Import its module .*, or keep its name \(run"
        with pytest.raises(
            NonDeterminismError, match="raised StepError without calling step 'order more'.*" + hint
        ) as told:
            declare(new)()
        assert str(durable.get("run").error) == str(told.value)


# -- what may change ---------------------------------------------------------------------------------------------------


def test_code_of_steps_may_change_at_any_time(journal):
    def declare(version):
        @durable.step(name="one")
        def one():
            return f"one {version}"

        @durable.step(name="two")
        def two():
            return f"two {version}"

        @durable.workflow(name="w", id="run")
        def flow():
            first = one()
            journal.crash()
            return first, two()

        return flow

    with pytest.raises(KeyboardInterrupt):
        declare("old")()
    journal.restart()
    assert declare("new")() == ("one old", "two new")


def test_journaled_result_that_no_longer_decodes_blocks_and_goes_on_with_code_that_fits(journal):
    def declare(kind):
        @durable.step(name="one")
        def one() -> kind:
            return 5

        @durable.workflow(name="w", id="run")
        def flow():
            result = one()
            journal.crash()
            return result

        return flow

    with pytest.raises(KeyboardInterrupt):
        declare(int)()
    journal.restart()

    import dataclasses

    @dataclasses.dataclass
    class Point:
        x: int

    with pytest.raises(RunBlockedError, match="no longer fits") as caught:
        declare(Point)()
    assert not isinstance(caught.value, NonDeterminismError)
    assert durable.get("run").status == "blocked"
    assert declare(int)() == 5


def test_workflow_parameter_that_is_gone_blocks_and_goes_on_with_code_that_fits(journal):
    @durable.workflow(name="w", id="run")
    def before(one, two):
        journal.crash()
        return one + two

    with pytest.raises(KeyboardInterrupt):
        before(1, 2)
    journal.restart()

    @durable.workflow(name="w", id="run")
    def after(one):
        return one

    (run,) = durable.resume(wait=True)
    assert run.status == "blocked"
    assert "two" in str(run.error)
    journal.restart()

    @durable.workflow(name="w", id="run")
    def back(one, two):
        return one + two

    (run,) = durable.resume(wait=True)
    assert run.result() == 3


# -- values of the library's own ---------------------------------------------------------------------------------------


def test_now_uuid4_and_random_are_the_same_on_replay(journal):
    seen = []

    @durable.workflow
    def flow():
        values = [durable.now(), durable.uuid4(), durable.random(), durable.now(), durable.random()]
        seen.append(values)
        journal.crash()
        return values

    with pytest.raises(KeyboardInterrupt):
        flow()
    journal.restart()
    assert flow() == seen[0] == seen[1]
    now, uuid, number, *_ = seen[0]
    assert now.utcoffset().total_seconds() == 0
    assert uuid.version == 4
    assert 0 <= number < 1
    assert len(set(map(str, seen[0]))) == 5
    assert [step.kind for step in durable.runs()[0].steps()] == ["now", "uuid4", "random", "now", "random"]


def test_now_instead_of_uuid4_is_a_disagreement(journal):
    @durable.workflow(name="w", id="run")
    def before():
        durable.now()
        journal.crash()

    with pytest.raises(KeyboardInterrupt):
        before()
    journal.restart()

    @durable.workflow(name="w", id="run")
    def after():
        durable.uuid4()

    with pytest.raises(NonDeterminismError, match=r"(?s)now.*uuid4"):
        after()


def test_now_uuid4_and_random_are_plain_outside_of_a_run_and_in_a_step(no_engine):
    assert durable.now().tzinfo is not None
    assert durable.uuid4() != durable.uuid4()
    assert 0 <= durable.random() < 1
    assert list(no_engine.iterdir()) == []

    @durable.step
    def step():
        durable.now()
        durable.uuid4()
        return durable.random()

    @durable.workflow
    def flow():
        return step()

    flow()
    assert [each.kind for each in durable.runs()[0].steps()] == ["step"]


# -- the logger --------------------------------------------------------------------------------------------------------


def test_logger_is_silent_while_a_run_replays(journal, log):
    @durable.step
    def one():
        durable.logger.info("in one")

    @durable.step
    def two():
        durable.logger.info("in two")

    @durable.workflow
    def flow():
        durable.logger.info("begun")
        one()
        durable.logger.info("after one")
        journal.crash()
        two()
        durable.logger.info("after two")

    with pytest.raises(KeyboardInterrupt):
        flow()
    assert log() == ["begun", "in one", "after one"]
    journal.restart()
    flow()
    assert log() == ["begun", "in one", "after one", "in two", "after two"]


def test_logger_is_one_of_the_standard_library(journal):
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    assert isinstance(durable.logger, logging.Logger)
    assert durable.logger is logging.getLogger("durable")

    @durable.workflow
    def flow():
        durable.logger.warning("begun")
        durable.uuid4()
        journal.crash()
        durable.sleep(0)
        durable.logger.warning("after")

    durable.logger.addHandler(handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            flow()
        journal.restart()
        flow()
    finally:
        durable.logger.removeHandler(handler)
    assert said == ["begun", "after"]


def test_logger_speaks_outside_of_runs(log):
    durable.logger.info("hello")
    assert log() == ["hello"]


# -- what somebody else wrote into the journal, with the right checksums ----------------------------------------------


@pytest.mark.parametrize("text", ["[]", "5", '"x"', "{", "", "[" * 100_000])
def test_inputs_that_are_no_object_are_an_error_of_the_library(journal, text):
    @durable.step(name="step")
    def step(number: int) -> int:
        return number

    @durable.workflow(name="flow", id="flow")
    def flow(number: int) -> int:
        step(number)
        journal.crash()
        return number

    with pytest.raises(KeyboardInterrupt):
        flow(1)
    journal.engine.close()
    forge(journal.path, input=text)
    journal.restart()
    with pytest.raises(durable.DurableError):
        flow(1)
    with pytest.raises(durable.SerializationError):
        _ = durable.get("flow").input


@pytest.mark.parametrize("seconds", [1e300, -1e300, 1e12, float("inf")])
def test_a_time_that_is_none_is_an_error_of_the_library(journal, seconds):
    @durable.workflow(name="flow", id="flow")
    def flow() -> int:
        return 1

    flow()
    journal.engine.close()
    forge(journal.path, created_at=seconds)
    journal.restart()
    with pytest.raises(durable.JournalError):
        _ = durable.get("flow").created_at


def forge(path, **columns):
    from durable._records import run_from, run_row

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        (row,) = connection.execute("SELECT * FROM durable_run").fetchall()
        forged = run_row(run_from(row)._replace(**columns))
        connection.execute(f"INSERT OR REPLACE INTO durable_run VALUES ({', '.join('?' * len(forged))})", forged)


# -- annotations that changed -----------------------------------------------------------------------------------------


def annotated(journal, parameter, result, seen, returns="5"):
    def count(value):
        seen.append("ran")
        return returns

    count.__annotations__ = {"value": parameter, "return": result}
    count = durable.step(name="count")(count)

    @durable.step(name="crash")
    def crash():
        journal.crash()

    @durable.workflow(name="plan", id="run")
    def plan():
        found = count("5")
        crash()
        return found

    return plan


def test_a_plain_value_that_is_not_what_the_code_says_today_blocks_the_run(journal):
    seen = []
    with pytest.raises(KeyboardInterrupt):
        annotated(journal, str, str, seen)()
    journal.restart()
    with pytest.raises(
        RunBlockedError, match=r"result of step 'count' no longer fits .*: \$: the journal has a str, and"
    ):
        annotated(journal, str, int, seen)()
    assert durable.get("run").status == "blocked"
    assert annotated(journal, str, str, seen)() == "5", "with code that fits it goes on"
    assert seen == ["ran"]


def test_the_result_of_a_run_that_fits_the_code_no_longer_is_named_in_the_error(journal):
    def declared(returns):
        def plan():
            return "5"

        plan.__annotations__["return"] = returns
        return durable.workflow(name="plan", id="run")(plan)

    declared(str)()
    plan = declared(int)
    for ask in (plan, durable.get("run").result, plan.start().result):
        with pytest.raises(durable.SerializationError, match=r"result of run run of 'plan' .* no longer fits: \$: the"):
            ask()
    assert declared(str)() == "5"


@pytest.mark.parametrize("returns", ["5", None, [1]])
def test_a_plain_value_that_never_was_what_the_code_says_replays_as_it_was(journal, returns):
    seen = []
    with pytest.raises(KeyboardInterrupt):
        annotated(journal, int, int, seen, returns)()
    journal.restart()
    assert annotated(journal, int, int, seen, returns)() == returns
    assert seen == ["ran"]


@pytest.mark.parametrize(("before", "after"), [(str, int), (int, str), (int, Any), (Any, list[int])])
def test_a_parameter_may_change_its_annotation_while_the_value_is_the_same(journal, before, after):
    seen = []
    with pytest.raises(KeyboardInterrupt):
        annotated(journal, before, str, seen)()
    journal.restart()
    assert annotated(journal, after, str, seen)() == "5"
    assert seen == ["ran"]


def test_a_workflow_s_input_that_is_not_what_the_code_says_today_blocks_the_run(journal):
    def declare(annotation):
        def plan(value):
            journal.crash()
            return value

        plan.__annotations__ = {"value": annotation}
        return durable.workflow(name="plan", id="run")(plan)

    with pytest.raises(KeyboardInterrupt):
        declare(str)("5")
    journal.restart()
    with pytest.raises(
        RunBlockedError, match=r"argument 'value' of workflow 'plan' in the journal no longer fits: \$: the"
    ):
        declare(int)("5")
    assert declare(str)("5") == "5"

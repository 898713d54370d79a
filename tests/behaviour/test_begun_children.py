"""A child that has begun is the run that the journal has: under another id it would do again what it has done."""

import asyncio
import time
import uuid
from typing import Any

import apsw
import pytest

import durable
from durable import NonDeterminismError
from durable._model import StepRecord
from durable._records import step_from, step_row

PATIENCE = 60


class Shop:
    """A workflow that calls another one, which dies when it has paid; how the id is made is the code that changes."""

    def __init__(self, journal: Any, kind: str) -> None:
        self.journal, self.kind = journal, kind
        self.paid: list[int] = []

        @durable.step(name="pay", retry=None)
        def pay(number: int) -> int:
            self.paid.append(number)
            return number

        self.pay = pay

    def order(self, template: str | None, numbers: tuple[int, ...] = (7,), fixed: str | None = None) -> list[int]:
        def ship(number: int) -> int:
            self.pay(number)
            self.journal.crash()
            return number

        async def ship_async(number: int) -> int:
            return ship(number)

        declared = durable.workflow(name="ship", id=template)
        child: Any = declared(ship) if self.kind == "sync" else declared(ship_async)
        if fixed is not None:
            child = child.with_options(id=fixed)

        def order() -> list[int]:
            return [child(number) for number in numbers]

        async def order_async() -> list[int]:
            return [await child(number) for number in numbers]

        declared = durable.workflow(name="order", id="order")
        return declared(order)() if self.kind == "sync" else asyncio.run(declared(order_async)())

    def interrupted(self, template: str | None, numbers: tuple[int, ...] = (7,)) -> None:
        self.journal.crashing = True
        with pytest.raises(KeyboardInterrupt):
            self.order(template, numbers)
        self.journal.restart()


@pytest.fixture(params=["sync", "async"])
def shop(journal, request):
    return Shop(journal, request.param)


CHANGES = {
    "another": ("ship-{number}", "parcel-{number}"),
    "taken away": ("ship-{number}", None),
    "given": (None, "ship-{number}"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_child_that_has_begun_is_not_begun_again_under_another_id(shop, change):
    before, after = CHANGES[change]
    shop.interrupted(before)
    (child,) = (run for run in durable.runs() if run.workflow == "ship")
    with pytest.raises(NonDeterminismError) as caught:
        shop.order(after)
    says = str(caught.value)
    assert f"workflow 'ship' with the id '{child.id}'" in says
    assert "position 0" in says
    for remedy in ("put the id back", "inputs of the workflow", "durable.uuid4()", "a step", "trust_journal=True"):
        assert remedy in says
    assert durable.get("order").status == "blocked"
    assert len(durable.runs()) == 2
    assert shop.paid == [7]

    assert shop.order(before) == [7]
    assert shop.paid == [7]
    assert {run.status for run in durable.runs()} == {"completed"}


def test_nor_where_another_run_has_that_id(shop):
    shop.interrupted("ship-{number}")

    @durable.workflow(id="other")
    def other() -> int:
        return 0

    other()
    with pytest.raises(NonDeterminismError, match="the id 'ship-7'.*the id 'other'"):
        shop.order(None, fixed="other")
    assert durable.get("order").status == "blocked"
    assert shop.order("ship-{number}") == [7]
    assert shop.paid == [7]


def test_a_child_with_an_outcome_may_get_another_id(shop):
    shop.interrupted("ship-{number}", (7,))
    assert shop.order("ship-{number}") == [7]
    assert shop.order("parcel-{number}") == [7]


def test_children_of_the_same_inputs_are_told_apart(shop):
    shop.journal.crashing = False
    shop.interrupted(None, (7, 7))
    assert shop.order(None, (7, 7)) == [7, 7]
    assert shop.paid == [7, 7]


def test_the_journal_s_word_is_taken_for_the_id(shop):
    shop.interrupted("ship-{number}")
    with pytest.raises(NonDeterminismError):
        shop.order("parcel-{number}")
    durable.get("order").retry(trust_journal=True)
    assert durable.get("order").result(timeout=PATIENCE) == [7]
    assert shop.paid == [7]


def test_the_journal_s_word_is_taken_for_the_inputs_of_a_child_too(shop):
    shop.interrupted("ship-{number}")
    with pytest.raises(NonDeterminismError, match="other inputs"):
        shop.order("ship-{number}", (8,))
    durable.get("order").retry(trust_journal=True)
    assert durable.get("order").result(timeout=PATIENCE) == [7]
    assert shop.paid == [7]


def test_a_suspended_parent_does_not_begin_another_child_at_each_replay(journal):
    paid = []

    @durable.step
    def pay() -> None:
        paid.append("paid")

    @durable.workflow(name="ship")
    def ship() -> None:
        pay()
        durable.wait_for_signal("sent", bool)

    @durable.workflow(id="order")
    def order() -> None:
        ship.with_options(id=f"ship-{uuid.uuid4()}")()

    run = order.start()
    deadline = time.monotonic() + PATIENCE
    while run.status != "waiting":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (child,) = durable.runs(workflow="ship")
    child.signal("sent", value=True)
    with pytest.raises(NonDeterminismError, match=f"the id '{child.id}'"):
        run.result(timeout=PATIENCE)
    assert paid == ["paid"]


def test_steps_show_no_output_of_a_child_that_has_begun(shop):
    shop.interrupted("ship-{number}")
    (step,) = durable.get("order").steps()
    assert (step.kind, step.status, step.output) == ("child", "running", None)


def test_a_journal_without_the_id_of_a_begun_child_goes_on(shop):
    """As an older version of the library wrote it."""
    shop.interrupted("ship-{number}")
    durable.close()
    connection = apsw.Connection(str(shop.journal.path))
    (begun,) = (step_from(row) for row in connection.execute("SELECT * FROM durable_step WHERE kind = 'child'"))
    marks = ", ".join("?" * (len(StepRecord._fields) + 1))
    connection.execute(f"REPLACE INTO durable_step VALUES ({marks})", step_row(begun._replace(output=None)))
    connection.close()
    shop.journal.restart()
    assert shop.order("ship-{number}") == [7]
    assert shop.paid == [7]


def test_the_journal_s_word_is_not_asked_for_a_child_that_it_has_not(shop):
    shop.interrupted("ship-{number}")
    with pytest.raises(NonDeterminismError):
        shop.order("parcel-{number}", (7, 8))
    durable.get("order").retry(trust_journal=True)
    assert durable.get("order").result(timeout=PATIENCE) == [7, 8]
    assert shop.paid == [7, 8]

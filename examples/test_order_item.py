"""Tests of the order program: what it does, how it waits, and a crash at every moment that it has."""

import datetime as dt
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import order_item as program
import pytest
from order_item import Order, PaymentFailed, order_item

import durable
from durable import testing
from durable.testing import Environment

ORDER = Order("42", "a difference engine", "valid")


def nothing(_: float) -> None: ...


@pytest.fixture(autouse=True)
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[float], None]], None]:
    """A folder for the shop's database, and a warehouse that does what the test says, at once."""
    monkeypatch.chdir(tmp_path)

    def warehouse(does: Callable[[float], None]) -> None:
        monkeypatch.setattr(program, "time", SimpleNamespace(sleep=does))

    warehouse(nothing)
    return warehouse


def archived() -> list[tuple[str, str]]:
    with closing(sqlite3.connect("archive.db")) as db:
        return db.execute("SELECT * FROM orders").fetchall() if Path("archive.db").stat().st_size else []


@pytest.mark.usefixtures("durable_env")
def test_an_order() -> None:
    assert order_item(ORDER) == "shipped a difference engine"
    assert archived() == [("42", "shipped a difference engine")]


@pytest.mark.usefixtures("durable_env")
def test_a_declined_card_is_not_tried_again() -> None:
    with pytest.raises(PaymentFailed):
        order_item(Order("43", "a telescope", "declined"))
    (step,) = durable.get("order-43").steps()
    assert (step.status, step.attempt) == ("failed", 1)


def test_a_warehouse_that_is_closed(durable_env: Environment, world: Callable[[Callable[[float], None]], None]) -> None:
    opens_at = durable_env.clock.time + dt.timedelta(minutes=10)

    def closed(_: float) -> None:
        if durable.now() < opens_at:
            raise ConnectionError

    world(closed)
    run = order_item.start(ORDER)
    durable_env.clock.advance(minutes=9, seconds=59)
    assert archived() == []
    durable_env.clock.advance(seconds=12)
    assert run.status == "completed"


def test_killed_anywhere() -> None:
    def setup() -> None:
        Path("archive.db").unlink(missing_ok=True)

    report = testing.crash_everywhere(lambda: order_item(ORDER), setup=setup, effects=archived)
    assert list(report.repeated) == ["archive_order", "fulfill_order", "init_order"]


# `python -m pytest examples/test_order_item.py` prints
#     4 passed

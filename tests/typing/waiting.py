"""Timers, signals, events and parallel steps: checked by pyright and mypy, never run."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import assert_type

import durable
from durable import Run, StepFuture


@dataclass
class Payment:
    amount: int


@durable.step
def double(number: int) -> int:
    return number * 2


@durable.workflow
def sync_waits(number: int) -> int:
    durable.sleep(5)
    durable.sleep(timedelta(days=1))
    durable.sleep_until(datetime(2030, 1, 1, tzinfo=UTC))
    durable.sleep("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(durable.wait_for_signal("paid", Payment), Payment)
    assert_type(durable.wait_for_signal("paid", Payment, timeout=60), Payment)
    assert_type(durable.wait_for_signal("names", list[str], timeout=timedelta(hours=1)), list[str])
    durable.wait_for_signal(Payment, "paid")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    durable.set_event("progress", 0.5)
    return number


@durable.workflow
async def async_waits() -> int:
    await durable.aio.sleep(5)
    await durable.aio.sleep_until(datetime(2030, 1, 1, tzinfo=UTC))
    assert_type(await durable.aio.wait_for_signal("paid", Payment, timeout=5), Payment)
    return 1


def outside(run: Run[int]) -> None:
    run.signal("paid", Payment(5))
    run.signal("paid", {"amount": 5})
    run.signal("paid", error=ValueError("refused"))
    print(run.event("progress"))


@durable.workflow
def parallel(numbers: list[int]) -> list[int]:
    future = double.submit(5)
    assert_type(future, StepFuture[int])
    assert_type(future.result(), int)
    assert_type(double.map(numbers), list[int])
    assert_type(double.map(range(5), concurrency=2), list[int])
    double.submit("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    double.map(["5"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    return double.map(numbers)


def many() -> None:
    assert_type(sync_waits.start_many([1, 2, 3]), list[Run[int]])
    sync_waits.start_many(["1"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]

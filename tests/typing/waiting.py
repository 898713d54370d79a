"""Timers, signals and events, as users write them: checked by pyright and mypy, never run."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

import durable


@dataclass
class Approval:
    by: str


@durable.workflow(timeout=timedelta(days=7))
def approve(number: int) -> str:
    durable.sleep(0.5)
    durable.sleep(timedelta(hours=1))
    durable.sleep_until(datetime.now(UTC))
    durable.set_event("asked", number)
    assert_type(durable.wait_for_signal("go", Approval), Approval)
    assert_type(durable.wait_for_signal("go", int, timeout=5.0), int)
    assert_type(durable.wait_for_signal("go"), Any)
    return durable.wait_for_signal("go", Approval, timeout=timedelta(days=1)).by


@durable.workflow(timeout=60)
async def approve_async(number: int) -> str:
    await durable.aio.sleep(0.5)
    await durable.aio.sleep_until(datetime.now(UTC))
    assert_type(await durable.aio.wait_for_signal("go", Approval), Approval)
    return (await durable.aio.wait_for_signal("go", Approval, timeout=number)).by


def messages(run: durable.Run[str]) -> None:
    run.signal("go", Approval("ann"))
    run.signal("go", {"by": "ann"})
    run.signal("go", error=ValueError("no"))
    assert_type(run.event("asked"), Any)
    assert_type(run.event("asked", timeout=5.0), Any)

"""Programs that wait: timers, signals that come early, late or too late, cancellation and compensation, children.

They are for `programs.py`, which runs and kills them. Waits of more than a few milliseconds are suspensions here. A
program that is run again sends its signals again: each workflow reads one of a name, and leaves the others unread.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import durable
from durable import RetryPolicy, _rests
from tests.crash import programs
from tests.crash.programs import Declined, body, double, fetch, flaky

_rests.LONG_SECONDS = 0.005  # type: ignore[misc]


def send(run: durable.Run[Any], name: str, value: object) -> None:
    with contextlib.suppress(durable.RunFinishedError):
        run.signal(name, value)


# -- timers and signals ------------------------------------------------------------------------------------------------


@durable.workflow(id="waits")
def waits(number: int) -> list[Any]:
    outcomes: list[Any] = []
    durable.sleep(0.02)
    outcomes.append(durable.wait_for_signal("early", int))
    outcomes.append(double(number))
    try:
        outcomes.append(durable.wait_for_signal("never", int, timeout=0.02))
    except TimeoutError:
        outcomes.append("nobody")
    durable.set_event("ready", "yes")
    outcomes.append(durable.wait_for_signal("late", int, timeout=60))
    durable.sleep_until(durable.now())
    outcomes.append(flaky("shop"))
    return outcomes


def run_waits() -> Any:
    run = waits.start(5)
    send(run, "early", 1)
    with contextlib.suppress(durable.RunFinishedError):
        run.event("ready", timeout=60)
    send(run, "late", 2)
    return run.result(60), run.event("ready")


@durable.workflow(id="waits-async")
async def waits_async(number: int) -> list[Any]:
    async def patient(name: str) -> Any:
        await durable.aio.sleep(0.02)
        try:
            value = await durable.aio.wait_for_signal(name, int, timeout=0.02 if name == "never" else 60)
        except TimeoutError:
            return "nobody"
        return value + await fetch(number)

    tasks = [patient(name) for name in ("early", "late", "never")]
    import asyncio

    found = list(await asyncio.gather(*tasks))
    durable.set_event("ready", "yes")
    return [*found, await durable.aio.wait_for_signal("last", str)]


def run_waits_async() -> Any:
    run = waits_async.start(5)
    send(run, "early", 1)
    send(run, "late", 2)
    with contextlib.suppress(durable.RunFinishedError):
        run.event("ready", timeout=60)
    send(run, "last", "end")
    return run.result(60)


# -- a signal that races a timeout: one of them wins, for good --------------------------------------------------------


@durable.workflow(id="race")
def race(number: int) -> tuple[str, int]:
    try:
        winner = durable.wait_for_signal("now", str, timeout=0.01)
    except TimeoutError:
        winner = "timeout"
    durable.set_event("winner", winner)
    again = durable.wait_for_signal("check", str)
    return ("same" if again == winner else f"{winner}, then {again}"), double(number)


def run_race() -> Any:
    run = race.start(5)
    send(run, "now", "signal")
    with contextlib.suppress(durable.RunFinishedError):
        send(run, "check", run.event("winner", timeout=60))
    return run.result(60)


# -- cancelled while it waits, and a saga -----------------------------------------------------------------------------


@durable.step
def undo(what: str) -> str:
    with body():
        return f"{what} undone"


@durable.workflow(id="cancelled")
def cancelled(number: int) -> None:
    try:
        double(number)
        durable.set_event("ready", "yes")
        durable.wait_for_signal("never")
    finally:
        undo("booking")
        durable.sleep(0.01)
        undo("payment")


@durable.workflow(id="cancelled-async")
async def cancelled_async(number: int) -> None:
    try:
        await fetch(number)
        durable.set_event("ready", "yes")
        await durable.aio.wait_for_signal("never")
    finally:
        undo("booking")
        await durable.aio.sleep(0.01)
        undo("payment")


def run_cancelled(workflow: Any) -> Any:
    run = workflow.start(5)
    with contextlib.suppress(durable.RunFinishedError):
        run.event("ready", timeout=60)
        run.cancel()
    try:
        run.result(60)
    except durable.RunCancelledError:
        return run.status, [step.output for step in run.steps() if step.name == "undo"]


@durable.step(retry=RetryPolicy(initial_interval=0.01, maximum_attempts=2, jitter=0))
def book(what: str) -> str:
    with body():
        if what == "car":
            raise Declined(what)
        return what


@durable.workflow(id="saga")
def saga() -> list[str]:
    done: list[str] = []
    try:
        for what in ("flight", "hotel", "car"):
            done.append(book(what))  # noqa: PERF401 - what is done before a failure counts
    except Declined:
        return [undo(what) for what in reversed(done)]
    return done


# -- a parent whose child waits ---------------------------------------------------------------------------------------


@durable.workflow
def waiting_child(name: str) -> int:
    durable.sleep(0.02)
    return double(durable.wait_for_signal(name, int))


@durable.workflow(id="waiting-parent")
def waiting_parent() -> list[int]:
    started = waiting_child.with_options(id="started").start("n")
    return [waiting_child.with_options(id="called")("n"), started.result()]


def run_waiting_parent() -> Any:
    run = waiting_parent.start()
    for name, number in (("started", 1), ("called", 2)):
        with contextlib.suppress(durable.RunNotFoundError):
            send(_when_there(run, name), "n", number)
    return run.result(60)


def _when_there(parent: durable.Run[Any], run_id: str) -> durable.Run[Any]:
    import time

    while True:
        try:
            return durable.get(run_id)
        except durable.RunNotFoundError:
            if parent.status in {"completed", "failed"}:
                raise
            time.sleep(0.002)


WAITING: dict[str, Callable[[], Any]] = {
    "waits": run_waits,
    "waits_async": run_waits_async,
    "race": run_race,
    "cancelled": lambda: run_cancelled(cancelled),
    "cancelled_async": lambda: run_cancelled(cancelled_async),
    "saga": lambda: saga.start().result(60),
    "waiting_children": run_waiting_parent,
}
programs.PROGRAMS.update(WAITING)

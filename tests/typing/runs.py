"""Runs, options and the engine, as users write them: checked by pyright and mypy, never run."""

import random
import uuid
from collections.abc import Awaitable
from datetime import datetime, timedelta
from logging import Logger
from pathlib import Path
from typing import Any, assert_type

import durable
from durable import Engine, RetryPolicy, Run


@durable.step
def work(number: int) -> str:
    return str(number)


@durable.step
async def work_async(number: int) -> str:
    return str(number)


@durable.workflow
def count(number: int, *, by: int = 1) -> list[str]:
    return [work(i) for i in range(0, number, by)]


@durable.workflow
async def count_async(number: int) -> list[str]:
    return [await work_async(i) for i in range(number)]


def runs() -> None:
    run = count.start(5, by=2)
    assert_type(run, Run[list[str]])
    assert_type(run.result(), list[str])
    assert_type(run.result(timeout=5.0), list[str])
    assert_type(count_async.start(5), Run[list[str]])
    assert_type(count_async.start(5).result(), list[str])
    assert_type(count.with_options(id="x").start(5), Run[list[str]])
    assert_type(count.with_options(id="x")(5, by=1), list[str])

    assert_type(run.id, str)
    assert_type(run.workflow, str)
    assert_type(run.error, BaseException | None)
    assert_type(run.created_at, datetime)
    assert_type(run.finished_at, datetime | None)
    if run.status == "completed":
        print(run.input)
    run.retry()
    run.retry(trust_journal=True)
    for step in run.steps():
        print(step.kind, step.position, step.name, step.status, step.attempt, step.input)
        print(step.output, step.error, step.started_at, step.finished_at, step.retry_at)


async def awaited() -> None:
    run = count_async.start(5)
    assert_type(await run, list[str])
    awaitable: Awaitable[list[str]] = count.start(5)
    await awaitable


def wrong_runs() -> None:
    count.start("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    count.start(5, 2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    count.start(5, id="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    count_async.start("5")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    count.with_options(id="x")("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    count.with_options(retry=None)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    count.with_options(id=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    text: str = count.start(5).result()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(text)


def of_the_journal() -> None:
    assert_type(durable.resume(), list[Run[Any]])
    assert_type(durable.resume(wait=True), list[Run[Any]])
    assert_type(durable.get("x"), Run[Any])
    assert_type(durable.runs(), list[Run[Any]])
    durable.runs(status="completed", workflow="count", limit=10)
    durable.runs("failed")
    durable.runs(status="finished")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    durable.close()

    engine = durable.open("x.db")
    assert_type(engine, Engine)
    engine = durable.open(Path("x.db"), durability="process", threads=4, keep=None, vfs=None)
    durable.open("x.db", durability="never")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with engine as entered:
        assert_type(entered, Engine)
        assert_type(engine.resume(), list[Run[Any]])
        assert_type(engine.runs(limit=5), list[Run[Any]])
        assert_type(engine.get("x"), Run[Any])
    engine.close()


async def with_engine() -> None:
    async with durable.open("x.db") as engine:
        assert_type(engine, Engine)


def options() -> None:
    RetryPolicy()
    RetryPolicy(
        initial_interval=1.0,
        backoff_coefficient=2.0,
        maximum_interval=10,
        maximum_attempts=100,
        non_retryable=[ValueError, "PaymentFailed"],
        jitter=0.1,
    )
    RetryPolicy(initial_interval="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RetryPolicy(maximum_attempts=1.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RetryPolicy(non_retryable=[5])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    assert_type(work.with_options(retry=RetryPolicy())(5), str)
    assert_type(work.with_options(retry=None, timeout=timedelta(minutes=1), name="w")(5), str)
    work.with_options(timeout=5)("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    work.with_options(id="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


@durable.step(
    name="other",
    retry=None,
    timeout=timedelta(seconds=5),
    at_most_once=True,
    record_input=False,
    match_inputs=False,
)
def optioned(client: object) -> bool:
    return client is not None


assert_type(optioned(5), bool)


def inside() -> None:
    info = durable.info()
    assert_type(info.run_id, str)
    assert_type(info.idempotency_key, str)
    assert_type(info.attempt, int)
    print(info.workflow, info.step)
    assert_type(durable.now(), datetime)
    assert_type(durable.uuid4(), uuid.UUID)
    print(durable.random() * random.random())
    assert_type(durable.logger, Logger)


# A workflow whose other parameters have defaults takes one item too.


@durable.workflow
def mail(to: str, lang: str = "en") -> str:
    return to + lang


@durable.workflow
async def mail_async(to: str, lang: str = "en") -> str:
    return to + lang


async def many() -> None:
    assert_type(mail.start_many(["ada"]), list[durable.Run[str]])
    assert_type(mail_async.start_many(["ada"]), list[durable.Run[str]])
    mail.start_many([1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]

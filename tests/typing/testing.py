"""`durable.testing`, as users write it: checked by pyright and mypy, never run."""

from datetime import UTC, datetime
from typing import assert_type

import durable
from durable import testing
from durable.testing import CrashPoint, CrashReport, Environment, HandClock, SimulatedCrash


@durable.workflow
def flow(number: int) -> str:
    return str(number)


@durable.workflow
async def flow_async(number: int) -> str:
    return str(number)


def environment(durable_env: Environment) -> None:
    with testing.engine(start=datetime(2030, 1, 1, tzinfo=UTC), auto_advance=False, threads=4, patience=1.0) as env:
        assert_type(env, Environment)
        assert_type(env.engine, durable.Engine)
        assert_type(env.clock, HandClock)
        assert_type(env.path, str)
        env.clock.advance(weeks=1, days=2, hours=3, minutes=4, seconds=5.5)
        env.clock.advance_to(datetime(2031, 1, 1, tzinfo=UTC))
        assert_type(env.clock.time, datetime)
        assert_type(env.restart(), durable.Engine)
        assert_type(env.crash(), durable.Engine)
        with env.crash_before("charge"), env.crash_in("charge", 2), env.crash_after("charge", number=3):
            flow(1)
    env.clock.advance(5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    env.crash_in(flow)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    testing.engine("x.db")  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]


async def in_a_coroutine() -> None:
    async with testing.engine() as env:
        await env.clock.advance_async(days=1)


def everywhere() -> None:
    try:
        report = testing.crash_everywhere(lambda: flow(1), setup=list[int]().clear, effects=lambda: [1])
        testing.crash_everywhere(lambda: flow_async(1))
    except SimulatedCrash:
        return
    assert_type(report, CrashReport)
    assert_type(report.points, list[CrashPoint])
    assert_type(report.problems[0].problem, str | None)
    assert_type(report.repeated, dict[str, int])
    print(report, report.points[0].number, report.points[0].moment, report.points[0].repeated)
    testing.crash_everywhere(flow(1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

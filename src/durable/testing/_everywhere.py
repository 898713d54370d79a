"""Runs a program with a crash at every moment that it has, and compares each end with the uninterrupted one."""

from __future__ import annotations

import datetime as dt
import inspect
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from durable._clock import SYSTEM_CLOCK
from durable._model import FINISHED
from durable.errors import DurableError, RunBlockedError

from ._death import SimulatedCrash
from ._environment import engine
from ._plans import AtMoment

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._environment import Environment
    from ._plans import Moment


_ALL: Final = 1_000_000
_ENDS: Final = FINISHED | {"blocked"}
_BEGAN_ANEW: Final = (
    " (the run had ended, and was called again: with an id, the call would have got the result of that run)"
)


class CrashPoint(NamedTuple):
    """One crash, and what came of it."""

    number: int
    """Counted from 1: every commit has two, before and after it."""
    moment: str
    """As words: "before the outcome of step 'charge' was in the file"."""
    repeated: tuple[str, ...]
    """The steps that ran again: their body had run, or was running, and the file had no outcome."""
    problem: str | None
    """What was otherwise than in the uninterrupted program, `None` where nothing was."""


class CrashReport:
    """What came of each crash. As text: what went wrong, by the moments of the crashes."""

    def __init__(self, points: list[CrashPoint]) -> None:
        self.points = points

    @property
    def problems(self) -> list[CrashPoint]:
        """The crashes after which the program came to another end."""
        return [point for point in self.points if point.problem is not None]

    @property
    def repeated(self) -> dict[str, int]:
        """How many of the crashes made a step run again, by its name: each of these should bear that."""
        names = sorted({name for point in self.points for name in point.repeated})
        return {name: sum(name in point.repeated for point in self.points) for name in names}

    def __str__(self) -> str:
        lines = [f"{len(self.problems)} of {len(self.points)} crashes came to another end:"]
        for point in self.problems:
            again = f" (ran again: {', '.join(point.repeated)})" if point.repeated else ""
            lines.append(f"- {point.moment}{again}: {point.problem}")
        return "\n".join(lines) if self.problems else f"{len(self.points)} crashes, each came to the same end"


class _End(NamedTuple):
    """How a program ended, and what the world around it is like then."""

    error: BaseException | None
    value: Any
    effects: Any
    runs: int

    def words(self) -> str:
        return f"{self.value!r}" if self.error is None else f"{type(self.error).__name__}({self.error})"


def crash_everywhere(
    program: Callable[[], Any],
    *,
    setup: Callable[[], object] | None = None,
    effects: Callable[[], object] | None = None,
) -> CrashReport:
    """Run a program again and again, each time with a crash at another moment, and see that it comes to the same end.

    `program`: calls workflows, and returns what they return (a coroutine is awaited). It runs once without a crash;
    then, for every moment, on an empty journal, until the crash, and once more in the next engine, after `resume()`.
    The moments are before and after each commit: all that a killed process can leave behind. Time passes by itself.
    `setup`: called before each run of all this, makes the world of the steps as good as new. `effects`: called after
    it, returns what the steps did to that world, to be compared; what differs shows a step that does not bear to run
    twice. Raises `AssertionError`, with the report as `report`, where any crash came to another end; else returns it.
    """
    start = dt.datetime.fromtimestamp(int(SYSTEM_CLOCK.now()), dt.UTC)
    wanted, _ = _trial(program, setup, effects, start, None)
    points: list[CrashPoint] = []
    for number in count(1):
        end, moment = _trial(program, setup, effects, start, number)
        if moment is None:  # it has not so many
            break
        points.append(CrashPoint(number, moment.what, moment.repeated, _difference(wanted, end)))
    report = CrashReport(points)
    if report.problems:
        error = AssertionError(str(report))
        error.report = report  # type: ignore[attr-defined]
        raise error
    return report


def _trial(
    program: Callable[[], Any],
    setup: Callable[[], object] | None,
    effects: Callable[[], object] | None,
    start: dt.datetime,
    number: int | None,
) -> tuple[_End, Moment | None]:
    """One run of the program, with a crash at its n-th moment, if it has that."""
    if setup is not None:
        setup()
    plan = AtMoment(number or 0)
    with engine(start=start) as environment:
        store = environment._die_by(plan)
        error, value = _run(program, environment)
        runs = _count_runs(environment)
        if store.dead.is_set():  # asked last: something in the background may have died when the program had ended
            environment.crash().resume()
            error, value = _run(program, environment)
            runs = _count_runs(environment)
        seen = None if effects is None else _snapshot(effects())
        return _End(error, value, seen, runs), plan.moment


def _count_runs(environment: Environment) -> int:
    """How many runs there are; 0 where the process has died, and nothing is read any more."""
    try:
        return len(environment.engine.runs(limit=_ALL))
    except SimulatedCrash:
        return 0


def _run(program: Callable[[], Any], environment: Environment) -> tuple[BaseException | None, Any]:
    """How the program ends, and all that it started in the background."""
    error, value = None, None
    try:
        value = program()
        if inspect.isawaitable(value):
            value = _await(value)
    except Exception as raised:
        error = raised
    _finish(environment)
    return error, value


def _await(awaitable: Any) -> Any:
    import asyncio

    async def wait() -> Any:
        return await awaitable

    return asyncio.run(wait())


def _finish(environment: Environment) -> None:
    """See to their end what runs in the background."""
    try:
        # Not asked for by status: one that goes from one to another meanwhile would be missed.
        while left := [run for run in environment.engine.runs(limit=_ALL) if run.status not in _ENDS]:
            for run in left:
                try:
                    run.result()
                except (SimulatedCrash, RunBlockedError):
                    raise
                except Exception:  # noqa: S112 - it has failed, which is its end
                    continue
    except DurableError:  # it crashed here: the next engine goes on with them
        return


def _snapshot(effects: object) -> object:
    """Of a list that goes on to grow, or is emptied by `setup`."""
    import copy

    return copy.deepcopy(effects)


def _difference(wanted: _End, end: _End) -> str | None:
    found = _find_difference(wanted, end)
    return f"{found}{_BEGAN_ANEW}" if found and end.runs > wanted.runs else found


def _find_difference(wanted: _End, end: _End) -> str | None:
    if isinstance(end.error, RunBlockedError) and not isinstance(wanted.error, RunBlockedError):
        return f"the run is blocked: {end.error}"
    same_error = type(end.error) is type(wanted.error) and getattr(end.error, "args", ()) == getattr(
        wanted.error, "args", ()
    )
    if not same_error or end.value != wanted.value:
        return f"the result is {end.words()}, and was {wanted.words()} without a crash"
    if end.effects != wanted.effects:
        return f"the effects are {end.effects!r}, and were {wanted.effects!r} without a crash"
    return None

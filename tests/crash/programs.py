"""Small programs that die at a chosen effect: before or after a transaction, or what a step body does.

`python -m tests.crash.programs PROGRAM FOLDER [--die-at N] [--resume]` runs one in FOLDER, where it
leaves `journal.db`, `effects.txt` (a line for each start and end of a step body, and for each
outcome that a workflow got) and, when it survives, `result.txt`.
"""

import argparse
import asyncio
import contextlib
import functools
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import durable
from durable import NonRetryableError, RetryPolicy, StepInterruptedError
from durable._journal import Journal

QUICK = RetryPolicy(initial_interval=0.001, maximum_attempts=4, jitter=0)
ONCE = None


class Declined(Exception):
    """An error with several arguments."""


class Effects:
    """Counts the moments just before and just after each effect, and dies at the chosen one.

    The moment after an effect and the one before the next are one: who is killed at either leaves the same files.
    """

    def __init__(self) -> None:
        self.passed = 0
        self.die_at = 0
        self.file = -1
        self.is_new = True
        """Whether something was written since the last moment."""

    def begin(self, folder: Path, die_at: int) -> None:
        self.die_at = die_at
        self.file = os.open(folder / "effects.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        Journal.commit = self.around(Journal.commit)
        Journal.put_alone = self.around(Journal.put_alone)  # a transaction of one statement

    def moment(self) -> None:
        if not self.is_new:
            return
        self.is_new = False
        self.passed += 1
        if self.passed == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            self.moment()
            result = function(*args)
            self.is_new = True
            self.moment()
            return result

        return wrapper

    def note(self, *words: object) -> None:
        """One line, in one write."""
        os.write(self.file, (" ".join(map(str, words)) + "\n").encode())
        self.is_new = True


EFFECTS = Effects()
noted = EFFECTS.around(EFFECTS.note)


@contextlib.contextmanager
def body() -> Iterator[int]:
    """Around what a step does: gives the number of the attempt."""
    info = durable.info()
    noted("start", info.idempotency_key, info.step, info.attempt, os.getpid())
    try:
        yield info.attempt
    finally:
        noted("end", info.idempotency_key, info.step, info.attempt, os.getpid())


def got(value: Any) -> Any:
    """A workflow has this outcome now: it must never be lost."""
    EFFECTS.note("got", os.getpid())
    return value


# -- steps -------------------------------------------------------------------------------------------------------------


@durable.step
def double(number: int) -> int:
    with body():
        return number * 2


@durable.step
def nothing() -> None:
    with body():
        return


@durable.step(retry=QUICK)
def flaky(name: str) -> str:
    with body():
        failed_before = attempts_that_ended(name)
        noted("failing" if failed_before < 2 else "completing", name)
        if failed_before < 2:
            raise ConnectionError(name, failed_before)
        return f"{name} at last"


def attempts_that_ended(name: str) -> int:
    """The world outside fails twice, however often the process died."""
    return Path("effects.txt").read_text().count(f"failing {name}\n")


@durable.step(retry=RetryPolicy(initial_interval=0.001, maximum_attempts=2, non_retryable=[Declined]))
def declined(amount: int) -> None:
    with body():
        raise Declined("too much", {"amount": amount})


@durable.step(retry=QUICK)
def hopeless() -> None:
    with body():
        raise NonRetryableError("never")


@durable.step(at_most_once=True, retry=QUICK)
def pay(amount: int) -> str:
    with body():
        return f"paid {amount}"


@durable.step(timeout=60.0)
def with_timeout(number: int) -> int:
    with body():
        return number + 1


@durable.step(timeout=0.02, retry=RetryPolicy(initial_interval=0.001, maximum_attempts=0))
def too_slow_at_first(name: str) -> str:
    with body():
        slow = attempts_that_ended(name) < 1
        noted("failing" if slow else "completing", name)
        if slow:
            time.sleep(0.05)
        return f"{name} in time"


@durable.step
async def fetch(number: int, seconds: float = 0.0) -> int:
    with body():
        await asyncio.sleep(seconds)
        return number * 3


@durable.step(retry=QUICK)
async def flaky_async(name: str) -> str:
    with body():
        await asyncio.sleep(0)
        failed_before = attempts_that_ended(name)
        noted("failing" if failed_before < 2 else "completing", name)
        if failed_before < 2:
            raise ConnectionError(name, failed_before)
        return f"{name} at last"


@durable.step(retry=ONCE)
async def declined_async(amount: int) -> None:
    with body():
        raise Declined("too much", {"amount": amount})


@durable.step(at_most_once=True)
async def pay_async(amount: int) -> str:
    with body():
        await asyncio.sleep(0.001)
        return f"paid {amount}"


# -- sync programs -----------------------------------------------------------------------------------------------------


@durable.workflow
def values(number: int) -> list[Any]:
    one = got(double(number))
    two = got(double(one))
    none = got(nothing())
    same = (got(durable.now()), got(durable.uuid4()), got(durable.random()))
    again = got(check_same(*same))
    return [one, two, none, again, got(double(two))]


@durable.step
def check_same(now: Any, uuid: Any, number: float) -> bool:
    """Its inputs are compared on replay: other values would block the run."""
    with body():
        return bool(now and uuid) and 0 <= number < 1


@durable.workflow
def failures(number: int) -> list[Any]:
    outcomes: list[Any] = []
    try:
        declined(number)
    except Declined as error:
        outcomes.append(got(error.args))
    outcomes.append(got(flaky("shop")))
    try:
        hopeless()
    except NonRetryableError as error:
        outcomes.append(got(str(error)))
    outcomes.append(got(double(number)))
    return outcomes


@durable.workflow(id="failing")
def failing(number: int) -> None:
    got(double(number))
    declined(number)


def fails_in_the_end() -> Any:
    try:
        failing(3)
    except Declined as error:
        return error.args, error.__notes__


@durable.workflow
def at_most_once(number: int) -> list[Any]:
    outcomes: list[Any] = [got(double(number))]
    try:
        outcomes.append(got(pay(number)))
    except StepInterruptedError:
        outcomes.append(got("unknown"))
    outcomes.append(got(double(number)))
    return outcomes


@durable.workflow
def timeouts(number: int) -> list[Any]:
    return [got(with_timeout(number)), got(too_slow_at_first("server")), got(with_timeout(number + 1))]


@durable.workflow
def child(number: int) -> int:
    return got(double(number)) + got(double(number + 1))


@durable.workflow
def bad_child(number: int) -> None:
    got(double(number))
    declined(number)


@durable.workflow
def parent(number: int) -> list[Any]:
    first = got(child(number))
    started = got(child.start(number + 1))
    try:
        bad_child(number)
    except Declined as error:
        second = got(error.args)
    return [first, second, started.result(), got(double(first))]


@durable.workflow(id="started-{number}")
def started(number: int) -> list[Any]:
    return [got(double(number)), got(flaky("shop")), got(double(number))]


def starts_and_waits() -> Any:
    runs = [started.start(number) for number in (1, 2)]
    return [run.result() for run in runs]


# -- async programs ----------------------------------------------------------------------------------------------------


@durable.workflow
async def values_async(number: int) -> list[Any]:
    one = got(await fetch(number))
    two = got(await fetch(one))
    same = (got(durable.now()), got(durable.uuid4()), got(durable.random()))
    again = got(check_same(*same))
    none = got(nothing())
    return [one, two, none, again, got(await asyncio.to_thread(double, two))]


@durable.workflow
async def failures_async(number: int) -> list[Any]:
    outcomes: list[Any] = []
    try:
        await declined_async(number)
    except Declined as error:
        outcomes.append(got(error.args))
    outcomes.append(got(await flaky_async("shop")))
    try:
        outcomes.append(got(await pay_async(number)))
    except StepInterruptedError:
        outcomes.append(got("unknown"))
    outcomes.append(got(await fetch(number)))
    return outcomes


async def branch(number: int) -> list[int]:
    await asyncio.sleep(0.001 * (3 - number))
    first = got(await fetch(number, 0.001 * number))
    await asyncio.sleep(0)
    return [first, got(await fetch(first))]


@durable.workflow
async def branches(number: int) -> list[Any]:
    gathered = await asyncio.gather(*(branch(n) for n in range(number)))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(flaky_async(name)) for name in ("east", "west")]
    return [gathered, [got(task.result()) for task in tasks], got(await fetch(number))]


@durable.workflow
async def cuts(number: int) -> list[Any]:
    outcomes: list[Any] = []
    try:
        async with asyncio.timeout(0.01):
            await fetch(number, 60)
    except TimeoutError:
        outcomes.append("cut")
    slow, fast = asyncio.create_task(fetch(1, 60)), asyncio.create_task(fetch(2, 0.001))
    await asyncio.wait([slow, fast], return_when=asyncio.FIRST_COMPLETED)
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)
    outcomes += [got(fast.result()), slow.cancelled(), got(await fetch(number))]
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fetch(3, 60))
            group.create_task(declined_async(number))
    except* Declined:
        outcomes.append(got(await fetch(4)))
    return outcomes


@durable.workflow
async def child_async(number: int) -> int:
    return got(await fetch(number)) + got(await fetch(number + 1))


@durable.workflow
async def parent_async(number: int) -> list[Any]:
    both = got(await asyncio.gather(child_async(number), child_async(number + 1)))
    started = got(child_async.start(number + 2))
    return [both, await started, got(child(number)), got(await fetch(number))]


def on_a_loop(workflow: Any, *args: Any) -> Any:
    async def main() -> Any:
        return await workflow(*args)

    return asyncio.run(main())


# -- a program that dies by itself -----------------------------------------------------------------------------------


@durable.step(retry=RetryPolicy(maximum_attempts=0))
def kills() -> str:
    with body():
        if not Path("harmless").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return "alive"


@durable.workflow
def deadly(number: int) -> list[Any]:
    return [got(double(number)), got(kills()), got(double(number))]


def deadly_or_blocked() -> Any:
    try:
        return deadly(1)
    except durable.RunBlockedError as error:
        return str(error)


def retried() -> Any:
    (run,) = durable.runs()
    run.retry()
    return run.result(), run.status


PROGRAMS: dict[str, Callable[[], Any]] = {
    "values": lambda: values(1),
    "failures": lambda: failures(5),
    "fails_in_the_end": fails_in_the_end,
    "at_most_once": lambda: at_most_once(5),
    "timeouts": lambda: timeouts(5),
    "children": lambda: parent(5),
    "start": starts_and_waits,
    "values_async": lambda: on_a_loop(values_async, 1),
    "failures_async": lambda: on_a_loop(failures_async, 5),
    "branches": lambda: on_a_loop(branches, 3),
    "cuts": lambda: on_a_loop(cuts, 5),
    "children_async": lambda: on_a_loop(parent_async, 5),
    "deadly": deadly_or_blocked,
    "retried": retried,
}


def execute(program: str, folder: Path, die_at: int, resume: bool) -> None:
    """Run a program to its end, or to its death."""
    os.chdir(folder)
    EFFECTS.begin(folder, die_at)
    durable.open(folder / "journal.db")
    if resume:
        durable.resume(wait=True)
    result = repr(PROGRAMS[program]())
    durable.close()
    (folder / "result.txt").write_text(f"{result}\n{EFFECTS.passed}\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--die-at", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    execute(options.program, options.folder, options.die_at, options.resume)


if __name__ == "__main__":
    from tests.crash import programs  # the same module that the fork server has: its name is in the journal

    programs.main()

"""Random programs as data, the workflow that executes one, and what one gives when nothing ever fails.

A program is a list of operations; an operation is a list that begins with its kind. Each step has a label of its own
and gets the value of what came before, so that a value at a wrong place, or of another attempt, changes the result.
"""

import asyncio
import contextlib
import functools
import json
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from zlib import crc32

import durable
from durable import NonRetryableError, RetryPolicy, StepInterruptedError

Program = list[list[Any]]
NAP_SECONDS = 0.001
QUICK = RetryPolicy(initial_interval=0.0005, backoff_coefficient=1.0, maximum_attempts=0, jitter=0)
LONE = ("work", "work", "work", "flaky", "declined", "timed", "once", "paid", "value", "none", "signal", "sleep")


class Declined(Exception):
    """What steps raise that are to fail."""


# -- the world outside -------------------------------------------------------------------------------------------------


class World:
    """What bodies of steps did to the outside, and what workflows were told: one note after the other."""

    def __init__(self) -> None:
        self.notes: list[Any] = []
        """Notes are tuples that begin with a word; a recording puts what happens to files in between."""
        self.file = -1
        """Where they go too, one line of JSON each, when the process is going to die."""
        self.moment: Callable[[], None] = lambda: None
        """Called after each note: a moment at which something may go wrong."""

    def note(self, *words: Any) -> None:
        self.notes.append(words)
        if self.file >= 0:
            os.write(self.file, (json.dumps(words) + "\n").encode())
        self.moment()


world = World()
"""The one of this process."""
programs: dict[str, Program] = {}
"""By name: what the workflow of that name does."""


def begin_world(file: int = -1) -> World:
    global world
    world = World()
    world.file = file
    return world


def mix(label: str, before: Any) -> int:
    """What a step makes of what came before."""
    return crc32(f"{label}:{before}".encode())


# -- steps -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def body(label: str) -> Iterator[int]:
    """Around what a step does; gives the number of the attempt."""
    info = durable.info()
    world.note("start", label, info.run_id, info.idempotency_key)
    yield info.attempt
    world.note("end", label)


@durable.step(name="work", retry=QUICK)
def work(label: str, before: int) -> int:
    with body(label):
        return mix(label, before)


@durable.step(name="flaky", retry=QUICK)
def flaky(label: str, before: int) -> int:
    with body(label) as attempt:
        if attempt % 2:
            world.note("fail", label)
            raise ConnectionError(label, attempt)
        return mix(label, before)


@durable.step(name="declined", retry=None)
def declined(label: str, before: int) -> int:
    with body(label):
        world.note("fail", label)
        raise Declined(label, mix(label, before))


@durable.step(name="timed", retry=QUICK, timeout=20.0)
def timed(label: str, before: int) -> int:
    with body(label):
        return mix(label, before)


@durable.step(name="once", at_most_once=True)
def once(label: str, before: int) -> str:
    with body(label):
        return label


@durable.step(name="none", retry=QUICK)
def none(label: str, before: int) -> None:
    with body(label):
        return


@durable.step(name="paid", retry=QUICK, transaction=True)
def paid(label: str, before: int) -> int:
    """Leaves a row in the transaction of its outcome."""
    connection = durable.connection()
    connection.execute("CREATE TABLE IF NOT EXISTS paid (label TEXT)")
    connection.execute("INSERT INTO paid VALUES (?)", (label,))
    with body(label):
        return mix(label, before)


@durable.step(name="keep", retry=QUICK)
def keep(label: str, value: str) -> str:
    """Its inputs are compared on replay: a value of another kind would block the run."""
    with body(label):
        return label


@durable.step(name="send", retry=QUICK)
def send(label: str, before: int) -> None:
    """Sends a signal to the run itself, which may come twice: the second is not read."""
    with body(label):
        info = durable.info()
        durable.get(info.run_id).signal(label, before)
        world.note("sent", label)


@durable.step(name="fetch", retry=QUICK)
async def fetch(label: str, before: int) -> int:
    with body(label):
        await asyncio.sleep(0)
        return mix(label, before)


@durable.step(name="flaky_fetch", retry=QUICK)
async def flaky_fetch(label: str, before: int) -> int:
    with body(label) as attempt:
        await asyncio.sleep(0)
        if attempt % 2:
            world.note("fail", label)
            raise ConnectionError(label, attempt)
        return mix(label, before)


@durable.step(name="declined_fetch", retry=QUICK)
async def declined_fetch(label: str, before: int) -> int:
    with body(label):
        world.note("fail", label)
        raise NonRetryableError(f"{label} {mix(label, before)}")


# -- one operation -----------------------------------------------------------------------------------------------------


def got(label: str, value: int) -> int:
    """The workflow has this outcome: it is on disk, and must never be lost."""
    world.note("got", label, value)
    return value


def _lone(kind: str, label: str, before: int) -> int:
    """A step that is called and waited for; sync steps may be called in async bodies too."""
    if kind == "declined":
        try:
            return got(label, declined(label, before))
        except Declined as error:
            return got(label, error.args[1])
    if kind == "once":
        try:
            once(label, before)
        except StepInterruptedError:
            world.note("unknown", label)
        return got(label, mix(label, before))
    if kind == "none":
        return got(label, mix(label, none(label, before)))
    if kind == "signal":
        send(label, before)
        return got(label, mix(label, durable.wait_for_signal(label, int)))
    if kind == "sleep":
        durable.sleep(NAP_SECONDS)
        return before
    if kind == "value":
        read = (durable.now, durable.uuid4, durable.random)[before % 3]
        return got(label, mix(keep(label, str(read())), before))
    step = {"work": work, "flaky": flaky, "timed": timed, "paid": paid}[kind]
    return got(label, step(label, before))


def execute(program: Program, before: int = 0) -> int:
    """The body of a sync workflow."""
    for kind, what in program:
        if kind == "map":
            values = [mix(label, before) for label in what]
            found = map_step.map(list(zip(what, values, strict=True)))
            before = mix("map", [got(label, value) for label, value in zip(what, found, strict=True)])
        elif kind == "submit":
            futures = [(label, work.submit(label, before)) for label in what]
            before = mix("submit", [got(label, future.result()) for label, future in futures])
        elif kind == "child":
            before = got(what, child(what, before))
        elif kind == "started":
            before = got(what, child.start(what, before).result())
        else:
            before = _lone(kind, what, before)
    return before


@durable.step(name="map_step", retry=QUICK)
def map_step(item: tuple[str, int]) -> int:
    with body(item[0]):
        return mix(*item)


async def execute_async(program: Program, before: int = 0) -> int:  # noqa: PLR0912 - a list of kinds
    """The body of an async workflow, or of one of its tasks."""
    for kind, what in program:
        if kind == "gather":
            before = mix("gather", await asyncio.gather(*(execute_async(each, before) for each in what)))
        elif kind == "group":
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(execute_async(each, before)) for each in what]
            before = mix("group", [task.result() for task in tasks])
        elif kind == "child":
            before = got(what, await child_async(what, before))
        elif kind == "started":
            before = got(what, await child_async.start(what, before))
        elif kind == "work":
            before = got(what, await fetch(what, before))
        elif kind == "flaky":
            before = got(what, await flaky_fetch(what, before))
        elif kind == "declined":
            try:
                await declined_fetch(what, before)
            except NonRetryableError as error:
                before = got(what, int(str(error).split()[1]))
        elif kind == "signal":
            send(what, before)
            before = got(what, mix(what, await durable.aio.wait_for_signal(what, int)))
        elif kind == "sleep":
            await durable.aio.sleep(NAP_SECONDS)
        elif kind == "timed":
            before = got(what, await asyncio.to_thread(timed, what, before))
        else:
            before = _lone(kind, what, before)
    return before


# -- workflows ---------------------------------------------------------------------------------------------------------


@durable.workflow(name="child")
def child(name: str, before: int) -> int:
    return execute(programs[name], before)


@durable.workflow(name="child_async")
async def child_async(name: str, before: int) -> int:
    return await execute_async(programs[name], before)


@durable.workflow(name="main")
def main(name: str) -> int:
    return execute(programs[name])


@durable.workflow(name="main_async")
async def main_async(name: str) -> int:
    return await execute_async(programs[name])


@durable.workflow(name="patient")
def patient(name: str) -> None:
    """Is there to be cancelled; not for ever, where power loss takes it back."""
    with contextlib.suppress(TimeoutError):
        durable.wait_for_signal(name, int, timeout=0.5)


def begin_and_cancel(seed: str, asking: durable.Engine) -> None:
    """Start a run on the current engine, and cancel it through this one, which may be another."""
    run = patient.start(seed)
    world.note("run", run.id)
    with contextlib.suppress(durable.RunFinishedError):  # on a slow machine
        asking.get(run.id).cancel()
        world.note("cancelled", run.id)


def call(engine: durable.Engine, plan: "Plan", *, resumes: bool = False) -> int:
    """Execute a program on an engine, or go on with it, and close that: its result, or what it raised."""
    with engine:
        return call_within(engine, plan, resumes=resumes)


def call_within(engine: durable.Engine, plan: "Plan", *, resumes: bool = False) -> int:
    """The same on the current engine, which stays open."""
    workflow: Any = main_async if plan.is_async else main
    if plan.has_id:
        workflow = workflow.with_options(id=f"id-{plan.name}")
    mains = engine.runs(status="completed", workflow=workflow.name)
    if mains and not plan.has_id:  # it had completed, and a call would begin another one
        return mains[0].result()  # type: ignore[no-any-return]
    if resumes:
        engine.resume(wait=True)
        world.note("resumed")
    if plan.in_background:
        run = workflow.start(plan.name)
        world.note("run", run.id)
        result = run.result()
    elif plan.is_async:
        result = asyncio.run(_await(workflow, plan.name))
    else:
        result = workflow(plan.name)
    world.note("result", result)
    return result  # type: ignore[no-any-return]


async def _await(workflow: Any, name: str) -> Any:
    return await workflow(name)


# -- writing and reading programs --------------------------------------------------------------------------------------


class Plan:
    """A program by its name, and how it is called."""

    def __init__(self, seed: str, *, size: int = 6, sequential: bool = False) -> None:
        dice = random.Random(f"program {seed}")
        self.name = seed
        self.sequential = sequential or dice.random() < 0.3
        self.is_async = not sequential and dice.random() < 0.5
        self.in_background = dice.random() < 0.3
        self.has_id = self.in_background or dice.random() < 0.5
        programs[self.name] = self._write(dice, self.name, dice.randint(2, size), 0)

    def _write(self, dice: random.Random, who: str, size: int, depth: int) -> Program:
        program: Program = []
        for number in range(size):
            label = f"{who}.{number}"
            kind = dice.choice(LONE)
            if not self.sequential and depth < 2 and dice.random() < 0.35:
                kind = dice.choice(["gather", "group"] if self.is_async else ["map", "submit"])
            if not self.sequential and depth < 2 and dice.random() < 0.15:
                kind = dice.choice(["child", "started"])
            if kind in {"gather", "group"}:
                tasks = range(dice.randint(2, 3))
                what: Any = [self._write(dice, f"{label}{'abc'[t]}", dice.randint(1, 3), depth + 1) for t in tasks]
            elif kind in {"map", "submit"}:
                what = [f"{label}{letter}" for letter in "abcd"[: dice.randint(2, 4)]]
            elif kind in {"child", "started"}:
                what = f"{label}c"
                programs[what] = self._write(dice, what, dice.randint(1, 3), depth + 1)
            else:
                what = label
            program.append([kind, what])
        return program

    @functools.cached_property
    def expected(self) -> int:
        """The result of a run in which nothing failed."""
        return plain(programs[self.name])

    @functools.cached_property
    def payments(self) -> Counter[str]:
        """Labels of the rows that its transactions leave."""
        return Counter(label for kind, label in self.operations() if kind == "paid")

    def operations(self, name: str = "") -> Iterator[list[Any]]:
        yield from _flat(programs[name or self.name])

    def __str__(self) -> str:
        how = [word for word in ("sequential", "is_async", "in_background", "has_id") if getattr(self, word)]
        return f"program {self.name} ({', '.join(how)}): {programs[self.name]}"


def _flat(program: Program) -> Iterator[list[Any]]:
    for operation in program:
        kind, what = operation
        yield operation
        if kind in {"gather", "group"}:
            for each in what:
                yield from _flat(each)
        elif kind in {"child", "started"}:
            yield from _flat(programs[what])


def plain(program: Program, before: int = 0) -> int:
    """The reference: the same as plain Python, without steps, journal, tasks or threads."""
    for kind, what in program:
        if kind == "map":
            before = mix("map", [mix(label, mix(label, before)) for label in what])
        elif kind == "submit":
            before = mix("submit", [mix(label, before) for label in what])
        elif kind in {"gather", "group"}:
            before = mix(kind, [plain(each, before) for each in what])
        elif kind in {"child", "started"}:
            before = plain(programs[what], before)
        elif kind == "none":
            before = mix(what, None)
        elif kind == "sleep":
            pass
        else:
            before = mix(what, before)
    return before


# -- what is right -----------------------------------------------------------------------------------------------------


class Judge:
    """Looks at the notes of each life of a program, and collects what is wrong with them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.told: set[str] = set()
        """Labels whose outcome a workflow has had."""
        self.keys: dict[str, str] = {}
        self.starts: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.again = 0
        """How often a body ran again that had ended before."""
        self.faults: list[str] = []

    def look(self, notes: list[Any]) -> None:
        """The notes of the next life, which may have been cut short."""
        for word, *rest in notes:
            if word == "start":
                self._started(*rest)
            elif word == "end":
                self.ends[rest[0]] += 1
            elif word == "got":
                self.told.add(rest[0])
            elif word == "result" and rest[0] != self.plan.expected:
                self.faults.append("wrong results")

    def _started(self, label: str, _run_id: str, key: str) -> None:
        if label in self.told:
            self.faults.append("acknowledged steps run again")
        if self.keys.setdefault(label, key) != key:
            self.faults.append("idempotency keys changed")
        self.again += self.ends[label] > 0
        self.starts[label] += 1

    def look_at_end(self) -> None:
        """It has completed."""
        if any(self.starts[label] > 1 for kind, label in self.plan.operations() if kind == "once"):
            self.faults.append("at-most-once steps run again")


def wait_for_threads() -> None:
    """Threads of engines that have been closed are about to end."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.name.startswith("durable"):
            thread.join(5.0)

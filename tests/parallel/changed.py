"""Random programs whose code is changed under an interrupted run, and then put back.

`python -m tests.parallel.changed --trials 1000 --seed 1` prints a table. A program of `generate.py` crashes at a random
moment. Its next life is another program: a statement is gone, two are exchanged, a step has another name, something was
added, a `gather` has become an `as_completed` or a `wait`. That life has to end: `blocked`, with nothing new begun or
written, or as it may where the change is beyond what the journal has. Then the old code has to complete the run.
"""

import argparse
import ast
import asyncio
import contextlib
import gc
import json
import logging
import random
import re
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import durable
from durable._execution import Execution
from durable._workflows import Workflow
from tests.parallel import trials, vocabulary
from tests.parallel.generate import write_program
from tests.parallel.judge import Fault, Judge, Outcome
from tests.parallel.trials import Plan, live
from tests.parallel.vocabulary import WORDS
from tests.parallel.writer import MAIN_SECONDS, PLAIN, STEPS

STUCK_SECONDS = 8.0
MODES = ["abandon", "abandon", "interrupt", "cancel", "close", "kill"]
LOOPS = ["plain", "plain", "own factory", "engine's", "async with"]
INNER = ("AssertionError", "KeyError")
"""Errors that no change makes."""
FACTS = (
    "trials", "async", "ended first", "changed", "blocked", "completed", "failed", "waits by itself", "put back", "no matter"
)  # fmt: skip
FAULTS = ("wrong", "repeated", "lost", "other path", "began", "wrote", "stuck", "broken", "not completed", "left")


# -- words of changed programs -----------------------------------------------------------------------------------------


def _results(tasks: list[Any], *, return_exceptions: bool) -> list[Any]:
    if return_exceptions:
        return [asyncio.CancelledError() if task.cancelled() else task.exception() or task.result() for task in tasks]
    return [task.result() for task in tasks]


async def by_wait(*awaitables: Any, return_exceptions: bool = False) -> list[Any]:
    """In the place of `asyncio.gather`: with the same tasks."""
    tasks = [asyncio.ensure_future(each) for each in awaitables]
    if tasks:
        await asyncio.wait(tasks)
    return _results(tasks, return_exceptions=return_exceptions)


async def as_they_come(*awaitables: Any, return_exceptions: bool = False) -> list[Any]:
    """In the place of `asyncio.gather`, too."""
    tasks = [asyncio.ensure_future(each) for each in awaitables]
    for ended in asyncio.as_completed(tasks):
        with contextlib.suppress(*([Exception, asyncio.CancelledError] if return_exceptions else [])):
            await ended
    return _results(tasks, return_exceptions=return_exceptions)


async def all_of(tasks: Any, **_: Any) -> tuple[set[Any], set[Any]]:
    """In the place of `asyncio.wait`."""
    await asyncio.gather(*tasks, return_exceptions=True)
    return set(tasks), set()


def in_order(tasks: Any, **_: Any) -> list[Any]:
    """In the place of `asyncio.as_completed`."""
    return list(tasks)


def unshielded(task: Any) -> Any:
    """In the place of `asyncio.shield`."""
    return task


async def without_limit(awaitable: Any, _: float) -> Any:
    """In the place of `asyncio.wait_for`."""
    return await awaitable


OTHERS: dict[str, list[str]] = {
    "gather": ["by_wait", "as_they_come"],
    "wait": ["all_of"],
    "as_completed": ["in_order"],
    "wait_for": ["without_limit"],
    "shield": ["unshielded"],
}
MORE_WORDS = {each.__name__: each for each in (by_wait, as_they_come, all_of, in_order, unshielded, without_limit)}
EXACT = {"loose": vocabulary.work, "loose_plain": vocabulary.plain}
"""Steps whose inputs are compared, in the place of those that accept a value of other inputs."""


# -- changes -----------------------------------------------------------------------------------------------------------


def change(program: str, dice: random.Random, labels: set[str]) -> str:
    """The text of a program with one or two changes in its workflows, near one of these labels if that can be."""
    before = ast.unparse(ast.parse(program))
    changed = before
    for _ in range(100):
        tree = ast.parse(program)
        for _ in range(dice.choice([1, 1, 2])):
            dice.choice(_CHANGES)(tree, dice)
        ast.fix_missing_locations(tree)
        changed = ast.unparse(tree)
        lines = set(before.splitlines()) ^ set(changed.splitlines())
        if lines and not labels.isdisjoint(_places(" ".join(lines))):
            break
    return changed


def _places(text: str) -> set[str]:
    """The numbers of places in labels, or in what labels are made of."""
    return set(re.findall(r"\.(\d+)", text))


def _blocks(tree: ast.Module) -> list[list[ast.stmt]]:
    """Bodies of functions, and what is in them."""
    return [block for function in _functions(tree) for node in ast.walk(function) for block in _blocks_of(node)]


def _functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [each for each in ast.walk(tree) if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))]


def _blocks_of(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """None of a `while`, which might spin without what is in it."""
    if isinstance(node, ast.While):
        return
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if isinstance(block, list) and block:
            yield block


def _units(block: list[ast.stmt]) -> list[list[ast.stmt]]:
    """Statements, where a name that others share stays with what uses it: `labels`, `value`, `run`."""
    units: list[list[ast.stmt]] = []
    joined = False
    for each in block:
        if joined:
            units[-1].append(each)
        else:
            units.append([each])
        joined = isinstance(each, ast.Assign) and "_" not in ast.unparse(each.targets[0])
    return units


def _drop(tree: ast.Module, dice: random.Random) -> None:
    block = dice.choice(_blocks(tree))
    units = _units(block)
    if places := _movable(units):
        del units[dice.choice(places)]
    block[:] = [each for unit in units for each in unit] or [ast.Pass()]


def _exchange(tree: ast.Module, dice: random.Random) -> None:
    block = dice.choice(_blocks(tree))
    units = _units(block)
    if places := _movable(units):
        one, other = dice.choice(places), dice.choice(places)
        units[one], units[other] = units[other], units[one]
    block[:] = [each for unit in units for each in unit]


def _movable(units: list[list[ast.stmt]]) -> list[int]:
    """Where what is no `return` stands."""
    return [place for place, unit in enumerate(units) if not isinstance(unit[0], ast.Return)]


def _add(tree: ast.Module, dice: random.Random) -> None:
    function = dice.choice(_functions(tree))
    blocks = [block for node in ast.walk(function) for block in _blocks_of(node)]
    label = f'f"{{who}}.new{dice.randrange(1000)}"'
    new = [f"own({label}, durable.now())", f"got({label}, plain({label}))"]
    if isinstance(function, ast.AsyncFunctionDef):
        new += [
            f"got({label}, await work({label}))",
            f"got_all([{label}], await asyncio.gather(work({label})))",
            f"got_all([{label}], await asyncio.gather(asyncio.to_thread(plain, {label})))",
            f"beside = asyncio.create_task(work({label}))",
        ]
    block = dice.choice(blocks)
    block.insert(dice.randrange(len(block) + 1), ast.parse(dice.choice(new)).body[0])


def _names(tree: ast.Module, names: list[str]) -> list[ast.Name]:
    return [each for each in ast.walk(tree) if isinstance(each, ast.Name) and each.id in names]


def _rename(tree: ast.Module, dice: random.Random) -> None:
    if steps := _names(tree, STEPS + PLAIN):
        name = dice.choice(steps)
        name.id = f'{name.id}.with_options(name="renamed")'


def _call_another(tree: ast.Module, dice: random.Random) -> None:
    if steps := _names(tree, STEPS + PLAIN):
        name = dice.choice(steps)
        name.id = dice.choice(STEPS if name.id in STEPS else PLAIN)


def _wait_otherwise(tree: ast.Module, dice: random.Random) -> None:
    calls = [
        each.func
        for each in ast.walk(tree)
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute) and each.func.attr in OTHERS
        if ast.unparse(each.func.value) == "asyncio"
    ]
    if calls:
        call = dice.choice(calls)
        other = dice.choice(OTHERS[call.attr])
        call.value, call.attr = ast.Name("words"), other


_CHANGES: list[Callable[[ast.Module, random.Random], None]] = [
    _drop, _drop, _drop, _exchange, _add, _rename, _call_another, _wait_otherwise, _wait_otherwise,
]  # fmt: skip


# -- one trial ---------------------------------------------------------------------------------------------------------


class Words:
    """What `words.by_wait` and its like mean in a changed program."""

    def __getattr__(self, name: str) -> Any:
        return MORE_WORDS[name]


def compiled(program: str) -> dict[str, Any]:
    """What a program defines, with its words."""
    namespace = {**WORDS, **EXACT, "words": Words(), "__name__": "tests.parallel.program"}
    exec(compile(program, "program", "exec"), namespace)
    return namespace


_STATUS, _INPUT, _TURN = 7, 10, 16
"""Columns of `durable_step`, after the word that says it is one."""


class Trial:
    """One program: a life that crashes, one with changed code, and the rest with the old code."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.dice = random.Random(name)
        is_async = self.dice.random() < 0.8
        self.program = write_program(self.dice, is_async=is_async).replace(f", timeout={MAIN_SECONDS}", "")
        self.changed = ""
        self.path = folder / "journal.db"
        workflows = [each for each in compiled(self.program).values() if isinstance(each, Workflow)]
        self.judge = Judge(self.path, {each.name for each in workflows if not each.is_async})
        self.seen: Counter[str] = Counter({"trials": 1, "async": is_async})
        self.history: list[Plan] = []

    def lead(self) -> None:
        """Raises the `Fault` that it found, with both programs."""
        try:
            self._lead()
        except Fault as fault:
            lives, rows = ("\n".join(map(str, each)) for each in (self.history, self.judge.rows()))
            texts = [f"trial {self.name}: {fault.kind}", fault.what, lives, rows, self.program, self.changed]
            fault.add_note("\n\n".join(texts))
            raise

    def _lead(self) -> None:
        outcome = self._live(self.program, self._plan(self.dice.choice(MODES)))
        self.judge.look(outcome)
        if outcome.kind == "completed":
            self.seen["ended first"] += 1
            return
        before = self._written()
        self.seen["changed"] += 1
        self.changed = change(self.program, self.dice, _places(" ".join(self.judge.finished)))
        outcome = self._live_changed()
        if outcome is not None:
            self.seen["failed" if outcome.kind == "broken" else outcome.kind] += 1
            self._look_at_changed(outcome, before)
        if self._written() == before:
            self._put_back()
        else:
            self.seen["no matter"] += 1

    def _live_changed(self) -> Outcome | None:
        """The life of the changed code; `None` where it waits for ever, as it would without a journal."""
        try:
            return self._live(self.changed, self._plan("none"))
        except Fault as fault:
            is_fault = fault.kind != "stuck" or should_have_ended()
            vocabulary.life.close()
            if is_fault:
                raise
            self.seen["waits by itself"] += 1
            return None

    def _look_at_changed(self, outcome: Outcome, before: list[Any]) -> None:
        begun = {rest[0] for word, *rest in outcome.notes if word == "start"}
        if again := begun & self.judge.finished:
            raise Fault("repeated", str(again))
        if outcome.kind == "broken" and not is_of_program(outcome.what):
            raise Fault("broken", outcome.what)
        if wrong := [rest for word, *rest in outcome.notes if word == "wrong"]:
            raise Fault("wrong", str(wrong))
        if outcome.kind == "blocked" and self.is_alone():  # else others may go on
            new = set(self._written()) ^ set(before)
            in_passing = {row for row in new if is_in_passing(row) or self.is_done_again(row, before)}
            if new - in_passing:
                raise Fault("wrote", f"{new} before it was blocked: {outcome.what}")
            if begun - {json.loads(row[_INPUT])["label"] for row in in_passing if row[0] == "step" and row[_INPUT]}:
                raise Fault("began", f"{begun} before it was blocked: {outcome.what}")

    def is_done_again(self, row: Any, before: list[Any]) -> bool:
        """Whether this is of a step that a crash cut and that fits: a sync body that submits it goes on meanwhile."""
        had_begun = any(each[1:4] == row[1:4] and each[_STATUS] == "running" for each in before if each[0] == "step")
        return had_begun and not self.seen["async"]

    def is_alone(self) -> bool:
        return len(self.judge._query("SELECT 1 FROM durable_run")) == 1

    def _put_back(self) -> None:
        self.seen["put back"] += 1
        outcome = self._live(self.program, self._plan("none"))
        self.judge.look(outcome)
        if outcome.kind != "completed":
            raise Fault("not completed", f"{outcome.kind}: {outcome.what}")
        self.judge.look_at_end(outcome)

    def _written(self) -> list[Any]:
        rows = [("run", status) for (status,) in self.judge._query("SELECT status FROM durable_run") if is_over(status)]
        for table in ("step", "attempt", "message"):
            rows += self.judge._query(f"SELECT '{table}', * FROM durable_{table}")
        return rows

    def _plan(self, mode: str) -> Plan:
        dice, sites = self.dice, self.program.count('(f"') // 2
        return Plan(
            f"{self.name} {len(self.history)}",
            mode,
            at=0 if dice.random() < 0.1 else dice.randint(3, 3 + sites * 3),
            loop=dice.choice(LOOPS),
            resumes=dice.random() < 0.3,
            durability="process",
            slow_disk=dice.random() < 0.3,
            suspends=dice.random() < 0.3,
        )

    def _live(self, program: str, plan: Plan) -> Outcome:
        self.history.append(plan)
        outcome = live(self.path, compiled(program)["main"], plan)
        if trials.complaints.texts:
            raise Fault("broken", trials.complaints.texts.pop())
        return outcome


def is_over(status: str) -> bool:
    return status in {"completed", "failed", "cancelled"}


def is_in_passing(row: Any) -> bool:
    """Whether an async body did this without waiting: a sync step, `now()`. That cannot wait for what had begun."""
    return row[0] == "step" and row[_STATUS] == "completed" and row[_TURN] == 0


def should_have_ended() -> bool:
    """Whether a run of this process was stopped, or the journal has something that it has not called."""
    for each in [each for each in gc.get_objects() if type(each) is Execution]:
        branches = each.branches
        if each.halted is None and (each.past or (branches is not None and branches.past)):
            return True
        if each.halted is not None and branches is not None and branches.root is not None and not branches.root.done():
            return True
    return False


def is_of_program(text: str) -> bool:
    """Whether an error may have been raised by the changed code, and not in the library."""
    return not text.strip().splitlines()[-1].strip(" |").startswith(INNER)


def many(seed: int, numbers: range) -> Counter[str]:
    """Make these trials; print the faults, and return what was counted."""
    logging.getLogger("asyncio").handlers = [trials.complaints]
    threading.excepthook = lambda args: None  # what ends a thread of a body ends the run
    logging.getLogger("durable").addHandler(logging.NullHandler())
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="durable-changed-") as base:
        for number in numbers:
            folder = Path(base) / str(number)
            folder.mkdir()
            trial = Trial(f"changed {seed}/{number}", folder)
            try:
                trial.lead()
            except Fault as fault:
                seen[fault.kind] += 1
                print("\n".join(fault.__notes__), flush=True)
            seen.update(trial.seen)
            shutil.rmtree(folder)
    return seen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--only", type=int, metavar="NUMBER", help="this trial alone")
    parser.add_argument("--repeat", type=int, default=1, help="with --only: so many times, since timings differ")
    options = parser.parse_args()
    begun_at, trials.STUCK_SECONDS = time.monotonic(), STUCK_SECONDS
    assert durable.converter  # imports what each child of fork would have to import by itself
    if options.only is not None:
        seen: Counter[str] = Counter()
        for _ in range(options.repeat):
            seen.update(many(options.seed, range(options.only, options.only + 1)))
    else:
        seen = many(options.seed, range(options.trials))
    seen["seconds"] = round(time.monotonic() - begun_at)
    print(f"seed {options.seed}, Python {sys.version.split()[0]}")
    for name in (*FACTS, *FAULTS, "seconds"):
        print(f"{name:16}{seen[name]:10}")
    return int(any(seen[fault] for fault in FAULTS))


if __name__ == "__main__":
    sys.exit(main())

"""Workflows, killed at each of their steps, and changed in every small way: does `durable check` say what would happen?

    python tests/cli/mutants.py [--each N] [--base NAME]

What would happen is found out by trying: on a copy of the journal, with the steps really run.
"""

import argparse
import ast
import contextlib
import copy
import importlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PRELUDE = """
import asyncio, itertools, os, sys
import durable
from durable import RetryPolicy

KILL_AT = int(os.environ.get("KILL_AT", 0))
hits = itertools.count(1)

def hit(name):
    number = next(hits)
    with open("ran", "a") as file:
        file.write(name + "\\n")
    if number == KILL_AT:
        os._exit(9)

QUICK = RetryPolicy(initial_interval=0.01, jitter=0, maximum_attempts=2)

class Refused(Exception): ...

@durable.step
def a(x: int) -> int:
    hit("a"); return x + 1

@durable.step
def b(x: int) -> int:
    hit("b"); return x * 2

@durable.step(retry=QUICK)
def c(x: int) -> int:
    hit("c")
    if x % 2: raise Refused(x)
    return x

@durable.step(at_most_once=True)
def once(x: int) -> int:
    hit("once"); return x

@durable.step
async def f(x: int) -> int:
    await asyncio.sleep(0.002 * (x % 4))
    hit("f"); return x + 1

@durable.step
async def g(x: int) -> int:
    await asyncio.sleep(0.003 * (x % 3))
    hit("g"); return x * 2

@durable.step
async def slow(x: int) -> int:
    hit("slow")
    await asyncio.sleep(0.25)
    return x

@durable.workflow
def child(x: int) -> int:
    y = a(x)
    return b(y)
"""

MAIN = """
if __name__ == "__main__":
    durable.open("durable.db")
    outcome = work(3)
    if asyncio.iscoroutine(outcome): asyncio.run(outcome)
"""

BASES = {
    "sequence": """
@durable.workflow(id="run")
def work(n: int) -> int:
    x = a(n)
    durable.uuid4()
    y = b(x)
    for i in range(2):
        y += a(i)
    if y > 5:
        y = b(y)
    return y
""",
    "failures": """
@durable.workflow(id="run")
def work(n: int) -> int:
    x = a(n)
    try:
        x = c(n)
    except Refused:
        x = b(x)
    finally:
        a(9)
    x = once(x)
    return b(x)
""",
    "submitted": """
@durable.workflow(id="run")
def work(n: int) -> int:
    first = a.submit(n)
    second = b.submit(5)
    x = a(7)
    x += first.result()
    y = b(x)
    return y + second.result()
""",
    "mapped": """
@durable.workflow(id="run")
def work(n: int) -> int:
    x = a(n)
    rows = b.map([1, 2, 3], concurrency=2)
    y = a(sum(rows))
    more = a.map(rows)
    return b(x + y + len(more))
""",
    "children": """
@durable.workflow(id="run")
def work(n: int) -> int:
    x = child(n)
    run = child.start(8)
    y = a(x)
    y += run.result()
    return b(y)
""",
    "gathered": """
async def part(x: int) -> int:
    y = await f(x)
    return await g(y)

@durable.workflow(id="run")
async def work(n: int) -> int:
    x = await f(n)
    durable.now()
    rows = await asyncio.gather(part(1), part(2), g(4))
    y = await g(x)
    return y + sum(rows)
""",
    "grouped": """
async def left(x: int) -> int:
    return await f(x)

async def right(x: int) -> int:
    y = await g(x)
    y = await f(y)
    return await g(y)

@durable.workflow(id="run")
async def work(n: int) -> int:
    async with asyncio.TaskGroup() as group:
        one = group.create_task(left(n))
        two = group.create_task(right(2))
        three = group.create_task(right(5))
        z = await f(6)
    return await g(one.result() + two.result() + three.result() + z)
""",
    "raced": """
async def runner(x: int) -> int:
    y = await f(x)
    return await f(y)

@durable.workflow(id="run")
async def work(n: int) -> int:
    tasks = [asyncio.create_task(runner(x)) for x in (1, 3)]
    done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    first = min(task.result() for task in done)
    x = await g(first)
    return await f(x)
""",
    "timed": """
@durable.workflow(id="run")
async def work(n: int) -> int:
    x = await f(n)
    try:
        async with asyncio.timeout(0.05):
            x = await slow(x)
    except TimeoutError:
        x = await g(x)
    y = await f(x)
    return await g(y)
""",
    "waits": """
@durable.workflow(id="run")
def work(n: int) -> int:
    x = a(n)
    durable.sleep(0.02)
    durable.set_event("seen", x)
    y = b(x)
    durable.sleep(0.03)
    return a(y)
""",
    "naps": """
async def part(x: int) -> int:
    await durable.aio.sleep(0.01 * x)
    return await f(x)

@durable.workflow(id="run")
async def work(n: int) -> int:
    rows = await asyncio.gather(part(1), part(3), g(n))
    durable.set_event("rows", rows)
    return await g(sum(rows))
""",
    "threads": """
@durable.workflow(id="run")
async def work(n: int) -> int:
    x = await f(n)
    y, z = await asyncio.gather(asyncio.to_thread(a, 5), f(2))
    return await g(x + y + z)
""",
}


PATIENCE_SECONDS = 60
"""After so long a run hangs: what it waits for does not come."""


# -- changes ----------------------------------------------------------------------------------------------------------


def mutants(source: str) -> dict[str, str]:
    """The source changed in each small way that still is Python, by what was changed."""
    found = {"nothing": source, "a comment": source + "\n# changed\n"}
    for name, tree in _changed(ast.parse(source)):
        with contextlib.suppress(SyntaxError, ValueError):
            text = ast.unparse(ast.fix_missing_locations(tree))
            compile(text, "mutant", "exec")
            found[name] = text
    return found


def _changed(tree: ast.Module) -> Iterator[tuple[str, ast.Module]]:
    for index, (path, holder) in enumerate(_blocks(tree)):
        for at in range(len(holder)):
            for what in ("without", "twice", "swapped", "after a new step"):
                other = copy.deepcopy(tree)
                block = list(_blocks(other))[index][1]
                if what == "without":
                    block[at : at + 1] = [] if len(block) > 1 else [ast.Pass()]
                elif what == "twice":
                    block.insert(at, copy.deepcopy(block[at]))
                elif what == "swapped" and at + 1 < len(block):
                    block[at], block[at + 1] = block[at + 1], block[at]
                elif what == "after a new step":
                    step = "await g(1)" if isinstance(path, ast.AsyncFunctionDef) else "b(1)"
                    block.insert(at, _statement(step))
                else:
                    continue
                yield f"{index}.{at} {what}", other
    others = {"a": "b", "b": "a", "c": "a", "f": "g", "g": "f", "once": "b", "slow": "f", "left": "right", "part": "f"}
    for index, node in enumerate(ast.walk(tree)):
        other = copy.deepcopy(tree)
        same = list(ast.walk(other))[index]
        if isinstance(node, ast.Constant) and type(node.value) is int:
            same.value += 1
            yield f"{index} constant", other
        elif isinstance(node, ast.Name) and node.id in others and isinstance(node.ctx, ast.Load):
            same.id = others[node.id]
            yield f"{index} {node.id} for {same.id}", other


def _statement(text: str) -> ast.stmt:
    return ast.parse(f"async def _():\n    {text}").body[0].body[0]


def _blocks(tree: ast.Module) -> Iterator[tuple[ast.AST, list[ast.stmt]]]:
    """Each list of statements in a function, with the function."""
    for function in tree.body:
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for node in ast.walk(function):
                for field in ("body", "orelse", "finalbody"):
                    block = getattr(node, field, None)
                    if isinstance(block, list) and block:
                        yield function, block


# -- journals ---------------------------------------------------------------------------------------------------------


def journals(base: str, folder: Path, every: int) -> Iterator[Path]:
    """A folder for each step, or every second or third, at which the program was killed."""
    for kill_at in range(1, 40, every):
        path = folder / f"{base}-{kill_at}"
        path.mkdir()
        (path / "shop.py").write_text(PRELUDE + BASES[base] + MAIN)
        environment = {**os.environ, "KILL_AT": str(kill_at)}
        done = subprocess.run([sys.executable, "shop.py"], cwd=path, env=environment, capture_output=True, check=False)
        if done.returncode != 9:
            assert done.returncode == 0, done.stderr.decode()
            return
        yield path


# -- what is said, and what happens -----------------------------------------------------------------------------------


class Trial(NamedTuple):
    journal: str
    mutant: str
    said: str
    why: str
    happened: str
    wrote: bool
    """Whether `check` changed a file or ran a step."""

    @property
    def is_right(self) -> bool:
        return (self.said == "goes on") == (self.happened not in {"blocked", "hangs"}) and not self.wrote


def try_out(journal: Path, mutant: str, source: str) -> Trial:
    """Ask, then do it, in this process."""
    with tempfile.TemporaryDirectory() as name:
        for file in journal.glob("durable.db*"):
            shutil.copy(file, name)
        with contextlib.chdir(name):
            Path("shop.py").write_text(PRELUDE + source)
            before = content()
            said, why = ask()
            wrote = content() != before
            happened = do()
    return Trial(journal.name, mutant, said, why, happened, wrote)


def content() -> dict[str, bytes]:
    return {p.name: b"" if p.name.endswith("-shm") else p.read_bytes() for p in Path().iterdir()}


def afresh() -> None:
    """As in a new process."""
    from durable._engine import REGISTRY

    REGISTRY.workflows.clear()
    REGISTRY._steps.clear()
    sys.modules.pop("shop", None)
    importlib.invalidate_caches()


def ask() -> tuple[str, str]:
    from durable.cli import main

    afresh()
    path = sys.path.copy()
    output = io.StringIO()
    output.reconfigure = lambda **_: None  # as a text file has it
    with contextlib.redirect_stdout(output):
        code = main(["--db", "durable.db", "check", "shop.py", "--json", "--timeout", "8"])
    sys.path[:] = path
    found = [json.loads(line) for line in output.getvalue().splitlines()]
    assert code == int(any(each["verdict"] != "goes on" for each in found)), (code, found)
    mine = next(each for each in found if each["id"] == "run")
    return mine["verdict"], mine["why"]


def do() -> str:
    import durable

    afresh()
    sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module("shop")
    finally:
        sys.path.pop(0)
    with durable.Engine("durable.db") as engine:
        engine.resume()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (status := engine.get("run").status) in {"running", "waiting", "queued", "interrupted"}:
            if time.monotonic() > deadline:
                return "hangs"
            time.sleep(0.002)
        return status


def trials(base: str, folder: Path, each: int | None, every: int = 1) -> Iterator[Trial]:
    """All changes of a workflow, or so many drawn from them, for each of its journals or every second or third."""
    sys.dont_write_bytecode = True
    changes = mutants(BASES[base])
    for journal in journals(base, folder, every):
        names = list(changes)
        if each is not None and each < len(names):
            drawn = random.Random(journal.name).sample(names[2:], each - 1)
            names = [names[0], *drawn]
        for name in names:
            yield try_out(journal, name, changes[name])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, help="so many changes for each journal; default: all")
    parser.add_argument("--base", choices=BASES, action="append")
    options = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    for base in options.base or BASES:
        with tempfile.TemporaryDirectory() as folder:
            for trial in trials(base, Path(folder), options.each):
                counts[trial.said, trial.happened] += 1
                if not trial.is_right:
                    print(trial)
        print(base, dict(counts), flush=True)


if __name__ == "__main__":
    main()

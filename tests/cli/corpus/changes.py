"""Everything that a deploy may change in a program of the corpus: one change at a time."""

import ast
import contextlib
import copy
import re
from collections.abc import Callable, Iterator

_OTHER = {"a": "b", "b": "a", "c": "a", "f": "g", "g": "f", "once": "b", "slow": "f", "left": "right", "part": "f"}

REWRITES = [
    # what runs beside what
    (".submit(n)", "(n)"), ("b.submit(5)", "b(5)"), ("x = a(7)", "x = a.submit(7).result()"),
    ("    x = a(7)\n    x += first.result()", "    x = first.result()\n    x += a(7)"),
    ("first.result()", "first.result(timeout=5)"), ("return y + second.result()", "return y"),
    ("b.map([1, 2, 3], concurrency=2)", "[b(i) for i in [1, 2, 3]]"), (", concurrency=2", ""),
    ("b.map(", "a.map("), ("[1, 2, 3]", "[3, 2, 1]"), ("[1, 2, 3]", "[1, 2]"), ("[1, 2, 3]", "[1, 2, 3, 4]"),
    ("a.map(rows)", "a.map(rows, return_exceptions=True)"), ("a.map(rows)", "a.map(rows[::-1])"),
    ("asyncio.gather(", "in_turn("), ("part(1), part(2), g(4)", "part(2), part(1), g(4)"),
    ("part(1), part(2), g(4)", "part(1), part(2)"), ("part(1), part(2), g(4)", "part(1), part(2), g(4), g(5)"),
    ("part(1), part(3), g(n)", "part(3), part(1), g(n)"), ("part(1), part(3), g(n)", "part(1), g(n)"),
    ("asyncio.to_thread(a, 5)", "f(5)"), ("asyncio.to_thread(a, 5)", "asyncio.to_thread(b, 5)"),
    ("asyncio.to_thread(a, 5), f(2)", "f(2), asyncio.to_thread(a, 5)"),
    ("group.create_task(left(n))", "await left(n)"), ("group.create_task(right(5))", "asyncio.create_task(right(5))"),
    ("        z = await f(6)\n", "    z = await f(6)\n"), ("FIRST_COMPLETED", "ALL_COMPLETED"), ("(1, 3)]", "(3, 1)]"),
    ("        task.cancel()", "        await task"), ("asyncio.timeout(0.03)", "asyncio.timeout(30)"),
    ("asyncio.timeout(0.03)", "asyncio.timeout(0.04)"), ("min(task", "max(task"),
    ("        one = group.create_task(ask(n))\n        two = group.create_task(f(4))",
     "        two = group.create_task(f(4))\n        one = group.create_task(ask(n))"),
    # children
    ("x = child(n)", "x = child.start(n).result()"), ("x = child(n)", "x = child.with_options(id='other')(n)"),
    ("child.start(8)", "child.with_options(id='other').start(8)"), ("    y += run.result()\n", ""),
    ("    y = a(x)\n    y += run.result()", "    y = run.result()\n    y += a(x)"),
    ("    y += await other\n", ""), ("achild(n), f(2)", "f(2), achild(n)"), ("await other", "(await achild(8))"),
    ("def child(x: int)", "def child(z: int)"), ("def child(x: int) -> int", "def child(x: int) -> str"),
    ("    y = a(x)\n    return b(y)", "    y = b(x)\n    return a(y)"),
    ("    y = await f(x)\n    return await g(y)", "    y = await g(x)\n    return await f(y)"),
    ("@durable.workflow\ndef child", "@durable.workflow(name='kid')\ndef child"),
    ("@durable.workflow\nasync def achild", "@durable.workflow(id='{x}')\nasync def achild"),
    ("    y = a(x)\n    return b(y)", "    y = a(x)\n    return y"),
    # waits
    ("durable.sleep(0.02)", "durable.sleep(0.5)"), ("durable.sleep(3600)", "durable.sleep(7200)"),
    ("durable.sleep(3600)", "durable.sleep(datetime.timedelta(hours=1))"), ("durable.sleep(3600)", "time.sleep(0)"),
    ("durable.sleep(3600)", "durable.sleep_until(datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC))"),
    ("durable.sleep(3600)", "durable.wait_for_signal('go', int)"), ("durable.now()", "durable.random()"),
    ("durable.uuid4()", "durable.now()"), ('set_event("seen", x)', 'set_event("seen", 0)'),
    ('"go", int', '"go", str'), ('"go", int', '"stop", int'), ('"go", int)', '"go", int, timeout=600)'),
    (", timeout=600)", ", timeout=6000)"), (", timeout=600)", ")"), ("durable.aio.sleep(600 * x)", "durable.aio.sleep(6 * x)"),
    ("await durable.aio.sleep(600 * x)", "await asyncio.sleep(0)"), ('set_event("rows", rows)', 'set_event("row", rows)'),
    # types, options, names
    ("(x: int) -> int", "(x: int) -> str"), ("(x: int) -> int", "(x: int) -> float"), ("(x: int)", "(x: str)"),
    ("(x: int) -> int", "(x: int, more: int = 0) -> int"), ("def work(n: int)", "def work(n: str)"),
    ("def work(n: int)", "def work(m: int, n: int = 3)"), ("def work(n: int)", "def work(n: int, m: int = 3)"),
    ("def work(n: int)", "def work(n: int, m: int)"), ("def work(n: int)", "def work(n: float)"),
    ("def work(n: int) -> int", "def work(n: int) -> str"), ("@durable.step\n", "@durable.step(match_inputs=False)\n"),
    ("@durable.step\n", "@durable.step(record_input=False)\n"), ("@durable.step\n", "@durable.step(retry=None, timeout=9)\n"),
    ("@durable.step\n", "@durable.step(at_most_once=True)\n"), ("@durable.step\n", "@durable.step(concurrency=1)\n"),
    ("@durable.step\n", "@durable.step(name='new name')\n"), ("record_input=False", "record_input=True"),
    ("record_input=False", "match_inputs=False"), ("transaction=True", "transaction=False"), ('unit: str = "kg"', 'unit: str = "g"'),
    ('unit: str = "kg"', 'unity: str = "kg"'), ("retry=PATIENT", "retry=QUICK"), ("retry=PATIENT", "retry=None"),
    ("at_most_once=True", "at_most_once=False"), ("retry=QUICK", "retry=PATIENT"), ('name="named"', 'name="renamed"'),
    ('.with_options(name="named")', ""), ("raise Refused(x)", "raise KeyError(x)"), ("except Refused", "except KeyError"),
    ('id="run")\n', 'id="run", concurrency=1)\n'), ('id="run")\n', 'id="run", timeout=86400)\n'), ('id="run"', 'id="another"'),
    ('id="run")\ndef work', 'id="run", name="labour")\ndef work'), ("def work", "def labour"), ('id="run")\ndef', 'id="run")\nasync def'),
    ("hit(", "ran.append("), ("return x + 1", "return x + 100"), ("    return b(x)", "    return b(x) or 0"),
    ('@durable.workflow(id="run")\n', ""),
]  # fmt: skip
"""Changes in words: the first place, and every place, where the one stands gets the other."""


def changed(source: str) -> dict[str, str]:
    """The source changed in each small way that still is Python, by what was changed."""
    found = {"nothing": source, "a comment": source + "\n# changed\n"}
    known = {source}
    for name, text in (*_by_tree(source), *_by_words(source)):
        if text not in known:
            known.add(text)
            found[name] = text
    return found


def _by_words(source: str) -> Iterator[tuple[str, str]]:
    for before, after in REWRITES:
        if before in source:
            name = f"{after.strip()!r} for {before.strip()!r}"
            for text, where in ((source.replace(before, after, 1), "first"), (source.replace(before, after), "every")):
                with contextlib.suppress(SyntaxError):
                    compile(text, "changed", "exec")
                    yield f"{where} {name}", text
    for step in re.findall(r"@durable\.step.*\n(?:async )?def (\w+)", source):
        yield f"{step} is renamed", re.sub(rf"(?<![\"\w.]){step}\b(?!=)", f"{step}_2", source)
        kept = re.sub(rf"(?<![\"\w.]){step}\b(?!=)", f"{step}_2", source)
        kept = re.sub(rf"@durable\.step\n((?:async )?def {step}_2)", rf"@durable.step(name='{step}')\n\1", kept)
        yield f"{step} is renamed, and keeps its name in the journal", kept


def _by_tree(source: str) -> Iterator[tuple[str, str]]:
    tree = ast.parse(source)
    for name, other in (*_statements(tree), *_expressions(tree)):
        with contextlib.suppress(SyntaxError, ValueError):
            text = ast.unparse(ast.fix_missing_locations(other))
            compile(text, "changed", "exec")
            yield name, text


_INSERTED: dict[str, Callable[[bool], str]] = {
    "a step before": lambda is_async: "await g(1)" if is_async else "b(1)",
    "a value before": lambda _: "durable.random()",
    "the end before": lambda _: "return 0",
    "an error before": lambda _: "raise ValueError(0)",
}


def _statements(tree: ast.Module) -> Iterator[tuple[str, ast.Module]]:
    """Each statement left out, twice, in another order, or with something before it."""
    for index, (function, block) in enumerate(_blocks(tree)):
        for at in range(len(block)):
            where = f"{function.name}, block {index}, line {at}"
            for what in ("left out", "twice", "after the next", *_INSERTED):
                other = copy.deepcopy(tree)
                lines = list(_blocks(other))[index][1]
                if what == "left out":
                    lines[at : at + 1] = [] if len(lines) > 1 else [ast.Pass()]
                elif what == "twice":
                    lines.insert(at, copy.deepcopy(lines[at]))
                elif what == "after the next":
                    lines[at : at + 2] = reversed(lines[at : at + 2])
                else:
                    text = _INSERTED[what](isinstance(function, ast.AsyncFunctionDef))
                    lines.insert(at, ast.parse(f"async def _():\n    {text}").body[0].body[0])
                yield f"{where}: {what}", other


def _expressions(tree: ast.Module) -> Iterator[tuple[str, ast.Module]]:
    """Numbers and conditions are others, and other steps are called."""
    inside = {id(node) for function, _ in _blocks(tree) for node in ast.walk(function)}
    for index, node in enumerate(ast.walk(tree)):
        other = copy.deepcopy(tree)
        same = list(ast.walk(other))[index]
        if id(node) not in inside:
            continue
        if isinstance(node, ast.Constant) and type(node.value) is int:
            same.value += 1
            yield f"node {index}: {same.value} for {node.value}", other
        elif isinstance(node, ast.Name) and node.id in _OTHER and isinstance(node.ctx, ast.Load):
            same.id = _OTHER[node.id]
            yield f"node {index}: {same.id} for {node.id}", other
        elif isinstance(node, ast.If):
            same.test = ast.UnaryOp(ast.Not(), same.test)
            yield f"node {index}: not {ast.unparse(node.test)}", other


def _blocks(tree: ast.Module) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, list[ast.stmt]]]:
    """Each list of statements in a function that is no step, with the function."""
    for function in tree.body:
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)) and not _is_step(function):
            for node in ast.walk(function):
                for field in ("body", "orelse", "finalbody"):
                    block = getattr(node, field, None)
                    if isinstance(block, list) and block:
                        yield function, block


def _is_step(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any("step" in ast.unparse(each) for each in function.decorator_list)

"""The programs of the corpus: small workflows of every kind. Each is called as `work(3)`, in a run of the id "run"."""

PRELUDE = """
import asyncio, datetime, itertools, sys, time
import durable
from durable import RetryPolicy

ran = []

def hit(name):
    ran.append(name)

QUICK = RetryPolicy(initial_interval=0.01, jitter=0, maximum_attempts=2)
PATIENT = RetryPolicy(initial_interval=600, jitter=0, maximum_attempts=3)

class Refused(Exception): ...

async def in_turn(*awaited):
    return [await each for each in awaited]
"""

STEPS = {
    "a": """
@durable.step
def a(x: int) -> int:
    hit("a"); return x + 1
""",
    "b": """
@durable.step
def b(x: int) -> int:
    hit("b"); return x * 2
""",
    "c": """
@durable.step(retry=QUICK)
def c(x: int) -> int:
    hit("c")
    if x % 2: raise Refused(x)
    return x
""",
    "flaky": """
@durable.step(retry=PATIENT)
def flaky(x: int) -> int:
    hit("flaky")
    if durable.info().attempt < 3: raise Refused(x)
    return x
""",
    "once": """
@durable.step(at_most_once=True)
def once(x: int) -> int:
    hit("once"); return x
""",
    "f": """
@durable.step
async def f(x: int) -> int:
    hit("f")
    await asyncio.sleep(0.002 * (x % 4))
    return x + 1
""",
    "g": """
@durable.step
async def g(x: int) -> int:
    hit("g")
    await asyncio.sleep(0.003 * (x % 3))
    return x * 2
""",
    "slow": """
@durable.step
async def slow(x: int) -> int:
    hit("slow")
    await asyncio.sleep(0.15)
    return x
""",
    "book": """
@durable.step(transaction=True)
def book(x: int) -> int:
    hit("book"); return x
""",
    "price": """
@durable.step(record_input=False)
def price(x: int, unit: str = "kg") -> float:
    hit("price"); return x / 2
""",
    "child": """
@durable.workflow
def child(x: int) -> int:
    y = a(x)
    return b(y)
""",
    "achild": """
@durable.workflow
async def achild(x: int) -> int:
    y = await f(x)
    return await g(y)
""",
}

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
    "options": """
@durable.workflow(id="run")
def work(n: int) -> float:
    x = book(n)
    y = price(x)
    z = price(3, unit="lb")
    w = a.with_options(name="named")(x)
    return b(w) + y + z
""",
    "patient": """
@durable.workflow(id="run")
def work(n: int) -> int:
    x = a(n)
    x = flaky(x)
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
    "waits": """
@durable.workflow(id="run")
def work(n: int) -> int:
    x = a(n)
    durable.sleep(0.02)
    durable.set_event("seen", x)
    y = b(x)
    durable.sleep(3600)
    return a(y)
""",
    "signals": """
@durable.workflow(id="run")
def work(n: int) -> int:
    x = a(n)
    y = durable.wait_for_signal("go", int)
    try:
        durable.wait_for_signal("never", int, timeout=600)
    except TimeoutError:
        y = b(y)
    z = durable.wait_for_signal("go", int)
    return a(x + y + z)
""",
    "tidy": """
@durable.workflow(id="run")
def work(n: int) -> int:
    x = a(n)
    try:
        durable.sleep(3600)
        x = b(x)
    finally:
        a(x)
    return b(x)
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
        async with asyncio.timeout(0.03):
            x = await slow(x)
    except TimeoutError:
        x = await g(x)
    y = await f(x)
    return await g(y)
""",
    "naps": """
async def part(x: int) -> int:
    await durable.aio.sleep(600 * x)
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
    "families": """
@durable.workflow(id="run")
async def work(n: int) -> int:
    x, run = await asyncio.gather(achild(n), f(2))
    other = achild.start(8)
    y = await f(x)
    y += await other
    return await g(y + run)
""",
    "guarded": """
@durable.workflow(id="run")
async def work(n: int) -> int:
    x = await f(n)
    run = achild.start(8)
    task = asyncio.create_task(achild(x))
    try:
        await durable.aio.sleep(600)
        x += await task
    except asyncio.CancelledError:
        x += await task
        await g(x)
        raise
    return await f(x + await run)
""",
    "asked": """
async def ask(x: int) -> int:
    y = await durable.aio.wait_for_signal("go", int)
    return await f(x + y)

@durable.workflow(id="run")
async def work(n: int) -> int:
    async with asyncio.TaskGroup() as group:
        one = group.create_task(ask(n))
        two = group.create_task(f(4))
    try:
        z = await ask(one.result() + two.result())
    finally:
        await g(n)
    return z
""",
}

BLOCKS = """
@durable.workflow(id="run")
def work(n: int) -> int:
    durable.random()
    return n
"""
"""A change under which each run that has begun is blocked, whatever it was."""


def source(base: str) -> str:
    """The whole program, after the prelude: the steps that it calls, its children, and the workflow."""
    return "".join(text for name, text in STEPS.items() if uses(BASES[base], name)) + BASES[base]


def uses(text: str, name: str) -> bool:
    """Whether a step or a child is called, by the workflow or by its children."""
    inside = {"child": ("a", "b"), "achild": ("f", "g")}
    called = f"{name}(" in text or f"{name}." in text or f"({name}," in text
    return called or any(name in inside[each] and f"{each}(" in text for each in inside)

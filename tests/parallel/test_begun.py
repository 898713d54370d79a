"""What the journal has as begun is called again before anything new begins: other code is blocked before it does harm."""

import asyncio
import contextlib
import threading
import time
import types
from dataclasses import dataclass

import pytest

import durable
from durable import NonDeterminismError, RunBlockedError, RunInterruptedError
from durable._past_order import PastOrder

ran = []
made = {"hook": lambda _: None}


@dataclass
class Word:
    """An argument or a result that runs code of the test when it is read from the journal."""

    text: str

    def __post_init__(self) -> None:
        made["hook"](self.text)


@pytest.fixture(autouse=True)
def nothing_ran():
    ran.clear()
    made["hook"] = lambda _: None


@durable.step(retry=None)
async def label(text: str) -> str:
    ran.append(text)
    return text


@durable.step(retry=None)
def mark(text: str) -> str:
    ran.append(text)
    return text


def test_other_code_is_blocked_before_a_new_step_begins(journal, run_async):
    @durable.step(name="dies", retry=None)
    async def dies(text: str) -> str:
        journal.crash()
        return text

    async def part(step, text):
        return await step(text)

    @durable.workflow(id="run")
    async def flow() -> None:
        if journal.crashing:
            await asyncio.gather(part(dies, "a"), part(label, "b"))
        await label("new")

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    with pytest.raises(NonDeterminismError, match="has called step .dies., which the journal has at position 0"):
        run_async(flow())
    assert durable.get("run").status == "blocked"
    assert ran == []


def test_code_that_comes_to_it_late_goes_on(journal, run_async):
    """What it waits for in the meantime is not known to the library, so that nobody says that nothing can follow."""
    order = []

    @durable.step(retry=None)
    async def dies(text: str) -> str:
        order.append("again")
        journal.crash()
        return text

    @durable.step(retry=None)
    async def other(text: str) -> str:
        order.append("new")
        return text

    async def late():
        if journal.crashing:
            return await dies("a")
        await asyncio.sleep(0.02)
        return await dies("a")

    async def soon():
        await asyncio.sleep(0.05 if journal.crashing else 0)
        return await other("b")

    @durable.workflow
    async def flow() -> list[str]:
        return list(await asyncio.gather(late(), soon()))

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    order.clear()
    assert run_async(flow()) == ["a", "b"]
    assert order == ["again", "new"]


def turns(loop, number):
    """From a thread: returns after so many turns of the loop."""
    over = threading.Event()

    def turn(left):
        loop.call_soon(turn, left - 1) if left else over.set()

    loop.call_soon_threadsafe(turn, number)
    over.wait(30)


def test_nothing_new_begins_while_a_thread_finds_out_that_its_call_is_another(journal, run_async):
    """The loop goes on meanwhile. What it wrote then would be there when the code is put back, which has no such call."""

    @durable.step(name="dies", retry=None)
    def dies(word: Word) -> None:
        journal.crash()

    @durable.workflow(id="run")
    async def flow() -> None:
        if journal.crashing:
            await asyncio.gather(asyncio.to_thread(dies, Word("was")))
        loop = asyncio.get_running_loop()
        made["hook"] = lambda text: turns(loop, 50) if text == "was" else None
        await asyncio.gather(asyncio.to_thread(dies, Word("is")), label("new"))

    with pytest.raises((KeyboardInterrupt, RunInterruptedError)):
        run_async(flow())
    journal.restart()
    with pytest.raises(NonDeterminismError, match="other inputs"):
        run_async(flow())
    assert [step.name for step in durable.get("run").steps()] == ["dies"]
    assert ran == []


@pytest.mark.parametrize("where", ["thread", "task"])
def test_nothing_new_begins_beside_a_result_that_no_longer_fits(journal, run_async, where):
    @durable.step(name="word", retry=None)
    def word() -> Word:
        return Word("was")

    @durable.step(name="aword", retry=None)
    async def aword() -> Word:
        return Word("was")

    async def part():
        return await (asyncio.to_thread(word) if where == "thread" else aword())

    @durable.workflow(id="run")
    async def flow() -> None:
        if journal.crashing:
            await asyncio.gather(part())
            journal.crash()
        loop = asyncio.get_running_loop()

        def refuse(_: str) -> None:
            if where == "thread":
                turns(loop, 50)
            raise ValueError("no such word")

        made["hook"] = refuse
        await asyncio.gather(part(), label("new"))

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    with pytest.raises(RunBlockedError, match="no longer fits"):
        run_async(flow())
    made["hook"] = lambda _: None
    assert len(durable.get("run").steps()) == 1
    assert ran == []


def test_nothing_new_begins_beside_a_submitted_result_that_no_longer_fits(journal):
    begun = threading.Event()

    @durable.step(name="word", retry=None)
    def word() -> Word:
        return Word("was")

    @durable.step(name="new", retry=None)
    def new() -> None:
        begun.set()

    @durable.workflow(id="run")
    def flow() -> None:
        first = word.submit()
        if journal.crashing:
            first.result()
            journal.crash()
        new()
        first.result()

    with pytest.raises(KeyboardInterrupt):
        flow()
    journal.restart()
    body = threading.get_ident()

    def refuse(_: str) -> None:
        if threading.get_ident() != body:
            begun.wait(30)
        raise ValueError("no such word")

    made["hook"] = refuse
    with pytest.raises(RunBlockedError, match="no longer fits"):
        flow()
    assert not begun.is_set()


def test_a_timer_that_is_waited_for_lets_nothing_follow(journal, run_async):
    @durable.step(retry=None)
    async def dies(text: str) -> str:
        journal.crash()
        return text

    async def nap():
        await durable.aio.sleep(3600)

    @durable.workflow(id="run")
    async def flow() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(nap())
            if journal.crashing:
                await asyncio.sleep(0.02)
                group.create_task(dies("a"))

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    with pytest.raises(NonDeterminismError):
        run_async(asyncio.wait_for(flow(), 30))
    assert durable.get("run").status == "blocked"


@pytest.mark.parametrize("changed", ["directly", "result", "map"])
def test_a_sync_workflow_waits_for_nothing_new_before_it_has_called_all(journal, changed):
    marked = threading.Event()

    @durable.step(retry=None)
    def dies(text: str) -> str:
        marked.wait(30)
        journal.crash()
        return text

    @durable.workflow(id="run")
    def flow() -> str:
        if journal.crashing:
            first = dies.submit("a")
            mark("b")
            marked.set()
            return first.result()
        if changed == "directly":
            return dies("a")
        if changed == "result":
            return dies.submit("a").result()
        dies.submit("a")
        mark.map(["c"])
        return ""

    with pytest.raises(KeyboardInterrupt):
        flow()
    journal.restart()
    ran.clear()
    with pytest.raises(NonDeterminismError, match="step 'mark'"):
        flow()
    assert durable.get("run").status == "blocked"
    assert ran == []


def test_after_a_wait_that_was_given_up_what_follows_is_called(journal):
    marked = threading.Event()

    @durable.step(retry=None)
    def dies(text: str) -> str:
        marked.wait(30)
        journal.crash()
        return text

    @durable.workflow
    def flow() -> list[str]:
        first = dies.submit("a")
        with contextlib.suppress(TimeoutError):
            first.result(timeout=0)
        second = mark("b")
        marked.set()
        return [first.result(), second]

    with pytest.raises(KeyboardInterrupt):
        flow()
    journal.restart()
    assert flow() == ["a", "b"]


def test_the_end_of_another_run_is_waited_for_after_all_is_called(journal):
    @durable.workflow(id="child")
    def child() -> str:
        return durable.wait_for_signal("go", str)

    @durable.step(retry=None)
    def dies(text: str) -> str:
        journal.crash()
        return text

    @durable.workflow(id="run")
    def flow() -> str:
        run = child.start()
        if not journal.crashing:
            run.result()
        mark("b")
        return dies("c")

    with pytest.raises(KeyboardInterrupt):
        flow()
    journal.restart()
    with pytest.raises(NonDeterminismError, match="waits for the end of run 'child'.*has not called step 'mark'"):
        flow()


def test_a_thread_that_is_given_up_just_when_it_comes_to_what_had_begun(journal, run_async, monkeypatch):
    """Where a cancellation meets it on its way, what it had begun is called, or dropped, and never neither of the two."""
    begun, is_over = threading.Event(), threading.Event()

    @durable.step(name="slow", retry=None)
    def slow() -> None:
        begun.set()
        is_over.wait()

    @durable.workflow(id="run")
    async def flow() -> None:
        try:
            await asyncio.to_thread(slow)
        except asyncio.CancelledError:
            is_over.set()  # the loop waits for its threads
            journal.crash()
            await label("after")
            raise

    def cancel() -> None:
        begun.wait()
        journal.engine.get("run").cancel()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    canceller.join()
    journal.restart()
    assert [(step.kind, step.status) for step in durable.get("run").steps()] == [
        ("step", "running"),
        ("cancel", "completed"),
    ]

    begun_again = PastOrder.begun_again

    def late(*args: object) -> None:
        time.sleep(0.1)  # as a thread that the interpreter does not let go on
        begun_again(*args)

    monkeypatch.setattr(PastOrder, "begun_again", late)
    with pytest.raises(durable.RunCancelledError):
        run_async(flow())
    assert ran == ["after"]


def test_a_step_that_a_task_called_directly_may_be_awaited_later(journal, run_async):
    """Its outcome blocked the loop, and has no turn among the others."""
    ran = []

    def work(number: int) -> int:
        ran.append(number)
        return number

    async def work_async(number: int) -> int:
        return work(number)

    async def directly(number: int) -> int:
        return called(number)

    async def awaited(number: int) -> int:
        return await called(number)

    @durable.workflow(name="flow", id="run")
    async def flow() -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(branch(number)) for number in (1, 2)]
        journal.crash()
        return [task.result() for task in tasks]

    branch, called = directly, durable.step(name="work")(work)
    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    awaited.__name__, awaited.__qualname__ = directly.__name__, directly.__qualname__
    branch, called = awaited, durable.step(name="work")(work_async)
    assert run_async(flow()) == [1, 2]
    assert ran == [1, 2]


def test_what_is_delivered_twice_counts_once():
    """As where a thread is given up, and who waited for its turn says so once more."""
    news = []
    of_turn_1 = types.SimpleNamespace(turn=1, error=None)
    past = PastOrder(types.SimpleNamespace(past={("", 0): of_turn_1}), None, lambda: news.append("news"))
    for turn in (1, 1, 0, None):
        past.delivered(turn)
    assert not past
    assert news == ["news"]


def test_what_stands_still_for_no_known_reason_is_an_error_all_the_same():
    """All was called of the turn that is next, and yet it was not delivered: nothing that is known leads to this."""
    called = {("", 0): types.SimpleNamespace(turn=1, error=None)}
    past = PastOrder(types.SimpleNamespace(past=called), None, lambda: None)
    called.clear()
    assert str(past.nothing_can_follow()).startswith("no task of the workflow has called a journaled operation. ")


def test_a_task_that_takes_very_many_turns_of_the_loop_is_waited_for(journal, run_async):
    """While it does, nobody can say that nothing goes on any more."""

    @durable.step(name="work")
    async def work(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    async def after_many_turns() -> float:
        for _ in range(25_000 if not journal.crashing else 0):
            await asyncio.sleep(0)
        return await work(0.0)

    @durable.workflow(name="flow", id="run")
    async def flow() -> list[float]:
        values = await asyncio.gather(after_many_turns(), work(0.1))
        journal.crash()
        return values

    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    assert run_async(flow()) == [0.0, 0.1]

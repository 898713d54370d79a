"""Runs that are called or started in runs."""

import asyncio
import threading
import time

import pytest

import durable
from durable import RunConflictError, _results
from durable._ancestry import who_cannot_end
from durable._engine import current_engine
from durable._scheduler import Scheduler
from durable._scopes import current_branch
from tests.behaviour.patience import wait_until

SOON = 60.0


class Declined(Exception):
    def __init__(self, code: int, why: str) -> None:
        super().__init__(code, why)


@pytest.fixture
def step():
    @durable.step(name="step", retry=None)
    def step(number: int) -> int:
        step.calls.append(number)
        if number < 0:
            raise Declined(number, "too small")
        return number * 2

    step.calls = []
    return step


async def until(condition):
    while not condition():  # noqa: ASYNC110 - of what no event tells
        await asyncio.sleep(0.001)


def children_of(run):
    journal = durable.get(run)._runtime.journal
    return [child.id for child in journal.children(journal.run(run).seq)]


def test_a_child_has_an_id_and_a_journal_of_its_own_under_its_parent(journal, step):
    @durable.workflow(name="child")
    def child(number: int) -> int:
        return step(number)

    @durable.workflow(name="parent", id="parent")
    def parent() -> tuple[int, int]:
        return child(1), child.start(2).result()

    assert parent() == (2, 4)
    called, started = children_of("parent")
    assert len({called, started, "parent"}) == 3
    assert [info.kind for info in durable.get("parent").steps()] == ["child", "start"]
    assert [[info.name for info in durable.get(run).steps()] for run in (called, started)] == [["step"], ["step"]]


def test_a_run_may_call_the_one_that_started_it_when_that_has_ended(journal):
    @durable.workflow(id="first")
    def first() -> int:
        second.start()
        return 7

    @durable.workflow(id="second")
    def second() -> int:
        assert has_ended.wait(SOON)
        return first()

    has_ended = threading.Event()
    assert first() == 7
    has_ended.set()
    assert durable.get("second").result(SOON) == 7


def test_a_chain_of_runs_that_each_start_the_next_remembers_only_those_that_execute(journal):
    journal.open(threads=4, durability="process")
    remembered = []

    @durable.workflow(id="link-{number}")
    def link(number: int) -> None:
        runtime = current_engine()._runtime
        ancestors = who_cannot_end(current_branch(), runtime, runtime.journal)
        remembered.append(max(len(ancestors), runtime.active[f"link-{number}"].depth()))
        if number < 100:
            link.start(number + 1)
        else:
            is_over.set()

    is_over = threading.Event()
    link.start(1)
    assert is_over.wait(SOON)
    assert max(remembered) < 10


@pytest.mark.parametrize("how", ["called", "started"])
def test_ids_of_children_are_stable_across_crashes(journal, step, how):
    @durable.workflow(name="child")
    def child(number: int) -> int:
        return step(number)

    @durable.workflow(name="parent", id="parent")
    def parent() -> list[int]:
        if how == "called":
            values = [child(1), child(1), child(2)]
        else:
            values = [run.result() for run in [child.start(1), child.start(1), child.start(2)]]
        journal.crash()
        return values

    with pytest.raises(KeyboardInterrupt):
        parent()
    before = children_of("parent")
    journal.restart()
    assert parent() == [2, 2, 4]
    assert children_of("parent") == before
    assert len(set(before)) == 3
    assert sorted(step.calls) == [1, 1, 2]


def test_ids_of_children_in_branches_are_stable_whatever_the_order(journal, run_async):
    delays = {1: 0.02, 2: 0.0}

    @durable.step(name="step", match_inputs=False)
    async def step(number: int) -> int:
        await asyncio.sleep(delays[number])
        return number

    @durable.workflow(name="child")
    async def child(number: int) -> int:
        return await step(number)

    async def branch(number: int) -> int:
        await step(number)
        return await child(number)

    @durable.workflow(name="parent", id="parent")
    async def parent() -> list[int]:
        values = await asyncio.gather(branch(1), branch(2))
        journal.crash()
        return values

    with pytest.raises(KeyboardInterrupt):
        run_async(parent())
    before = {run: durable.get(run).input for run in children_of("parent")}
    delays.update({1: 0.0, 2: 0.02})
    journal.restart()
    assert run_async(parent()) == [1, 2]
    assert {run: durable.get(run).input for run in children_of("parent")} == before


@pytest.mark.parametrize("how", ["called", "started"])
def test_a_child_that_a_crash_left_is_adopted_and_goes_on(journal, step, how):
    @durable.workflow(name="child")
    def child() -> int:
        value = step(1)
        journal.crash()
        return value + step(2)

    @durable.workflow(name="parent", id="parent")
    def parent() -> int:
        return child() if how == "called" else child.start().result()

    with pytest.raises((KeyboardInterrupt, durable.RunInterruptedError)):
        parent()
    wait_until(lambda: {run.status for run in durable.runs()} == {"interrupted"})
    before = children_of("parent")
    journal.restart()
    assert parent() == 6
    assert children_of("parent") == before
    assert step.calls == [1, 2]


@pytest.mark.parametrize("how", ["called", "started"])
def test_a_child_that_resume_goes_on_with_first_is_adopted_too(journal, step, how):
    @durable.workflow(name="child")
    def child() -> int:
        value = step(1)
        journal.crash()
        return value

    @durable.workflow(name="parent", id="parent")
    def parent() -> int:
        return child() if how == "called" else child.start().result()

    with pytest.raises((KeyboardInterrupt, durable.RunInterruptedError)):
        parent()
    journal.restart(threads=1)
    durable.resume(wait=True)
    assert durable.get("parent").result(SOON) == 2
    assert step.calls == [1]


@pytest.mark.parametrize("how", ["called", "started"])
def test_the_failure_of_a_child_reaches_the_parent_with_its_type(journal, step, how):
    @durable.workflow(name="child")
    def child() -> int:
        return step(-1)

    @durable.workflow(name="parent", id="parent")
    def parent(catch: bool) -> str:
        try:
            child() if how == "called" else child.start().result()
        except Declined as error:
            if not catch:
                raise
            return f"caught {error.args}"
        return "no"

    assert parent.with_options(id="one")(catch=True) == "caught (-1, 'too small')"
    with pytest.raises(Declined) as caught:
        parent.with_options(id="two")(catch=False)
    assert caught.value.args == (-1, "too small")
    assert type(durable.get("two").error) is Declined
    assert len(list(durable.runs("failed"))) == 3


@pytest.mark.parametrize("how", ["called", "started"])
@pytest.mark.parametrize("kind", [durable.JournalError, durable.EngineClosedError, durable.RunInterruptedError])
def test_a_child_that_failed_with_an_error_of_ours_has_failed_and_does_not_stop_its_parent(journal, how, kind):
    """As one does that asks another journal. The same that keeps a child from ending takes the parent down with it."""

    @durable.workflow(name="child")
    def child() -> None:
        raise kind("another one")

    @durable.workflow(name="parent", id="parent")
    def parent() -> str:
        try:
            child() if how == "called" else child.start().result()
        except kind as error:
            if journal.crashing:
                journal.crash()
            return f"caught {error}"
        return "no"

    with pytest.raises(KeyboardInterrupt):
        parent()
    journal.restart()
    assert parent() == "caught another one"
    assert [run.status for run in durable.runs(workflow="child")] == ["failed"]


@pytest.mark.parametrize("how", ["called", "started"])
@pytest.mark.parametrize("kind", [durable.JournalError, durable.EngineClosedError, durable.RunInterruptedError])
def test_an_async_child_that_failed_with_an_error_of_ours_does_not_stop_its_parent_either(
    journal, run_async, how, kind
):
    @durable.workflow(name="child")
    async def child() -> None:
        raise kind("another one")

    @durable.workflow(name="parent", id="parent")
    async def parent() -> str:
        try:
            await (child() if how == "called" else child.start())
        except kind as error:
            if journal.crashing:
                journal.crash()
            return f"caught {error}"
        return "no"

    with pytest.raises(KeyboardInterrupt):
        run_async(parent())
    journal.restart()
    assert run_async(parent()) == "caught another one"
    assert [run.status for run in durable.runs(workflow="child")] == ["failed"]


@pytest.mark.parametrize("how", ["called", "started"])
def test_the_failure_of_an_async_child_reaches_the_parent_with_its_type(journal, run_async, how):
    @durable.step(name="step", retry=None)
    async def step() -> None:
        raise Declined(1, "no")

    @durable.workflow(name="child")
    async def child() -> None:
        await step()

    @durable.workflow(name="parent", id="parent")
    async def parent() -> str:
        try:
            await (child() if how == "called" else child.start())
        except Declined as error:
            journal.crash()
            return f"caught {error.args}"
        return "no"

    with pytest.raises(KeyboardInterrupt):
        run_async(parent())
    journal.restart()
    assert run_async(parent()) == "caught (1, 'no')"


def test_an_interrupted_child_interrupts_its_waiting_parent_which_never_fails(journal, run_async):
    @durable.step(name="step")
    async def step() -> int:
        journal.crash()
        return 5

    @durable.workflow(name="child")
    async def child() -> int:
        return await step()

    @durable.workflow(name="parent", id="parent")
    async def parent() -> int:
        return await child.start()

    with pytest.raises((KeyboardInterrupt, durable.RunInterruptedError)):
        run_async(parent())
    assert durable.get("parent").status == "interrupted"
    journal.restart()
    assert run_async(parent()) == 5


def test_a_child_of_an_explicit_id_is_shared(journal, step):
    @durable.workflow(name="child", id="child-{number}")
    def child(number: int) -> int:
        return step(number)

    @durable.workflow(name="parent")
    def parent(name: str) -> int:
        return child(1) + child.start(1).result()

    assert [parent("a"), parent("b"), child(1)] == [4, 4, 2]
    assert step.calls == [1]


@pytest.mark.parametrize("how", ["called", "started"])
def test_an_id_of_an_ancestor_is_an_error(journal, how):
    @durable.workflow(name="loop", id="same")
    def loop(depth: int) -> None:
        loop(depth) if how == "called" else loop.start(depth).result(SOON)

    with pytest.raises(RunConflictError, match="same"):
        loop(1)

    @durable.workflow(name="middle")
    def middle() -> None:
        top()

    @durable.workflow(name="top", id="top")
    def top() -> None:
        middle() if how == "called" else middle.start().result(SOON)

    with pytest.raises(RunConflictError, match="top"):
        top()


def test_an_id_of_an_async_ancestor_is_an_error(journal, run_async):
    @durable.workflow(name="loop", id="same")
    async def loop() -> None:
        await asyncio.gather(loop())

    with pytest.raises(RunConflictError, match="same"):
        run_async(loop())


# -- threads -----------------------------------------------------------------------------------------------------------


def test_parents_do_not_starve_the_children_that_they_wait_for(journal):
    journal.open(threads=2)

    @durable.workflow(name="child")
    def child(number: int) -> int:
        return number

    @durable.workflow(name="parent")
    def parent(number: int) -> int:
        return sum(run.result() for run in [child.start(number + k) for k in range(3)])

    assert [run.result(SOON) for run in parent.start_many(range(10))] == [3 * number + 3 for number in range(10)]


def test_nor_do_three_generations_on_one_thread(journal):
    journal.open(threads=1)

    @durable.workflow(name="tree")
    def tree(depth: int) -> int:
        return 1 if depth == 0 else sum(run.result() for run in [tree.start(depth - 1), tree.start(depth - 1)])

    before = threading.active_count()
    assert [run.result(SOON) for run in tree.start_many([3, 3, 3])] == [8, 8, 8]
    journal.engine.close()
    assert threading.active_count() <= before + 60


def test_the_pool_is_as_small_as_before_when_the_children_have_ended(journal, peak):
    journal.open(threads=2)
    gate = threading.Event()

    @durable.workflow(name="child")
    def child() -> None: ...

    @durable.workflow(name="parent")
    def parent() -> None:
        child.start().result()

    @durable.workflow(name="leaf")
    def leaf() -> None:
        with peak:
            gate.wait(0.02)

    for run in parent.start_many([]) + [parent.start() for _ in range(10)]:
        run.result(SOON)
    for run in [leaf.start() for _ in range(12)]:
        run.result(SOON)
    assert peak.most == 2


def test_children_by_the_hundred(journal, size):
    count = size(60, 2000)

    @durable.workflow(name="child")
    def child(number: int) -> int:
        return number

    @durable.workflow(name="parent", id="parent")
    def parent() -> int:
        return sum(run.result() for run in child.start_many(range(count)))

    assert parent() == sum(range(count))
    assert len(children_of("parent")) == count


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_stops_a_child_is_what_the_caller_of_its_parent_gets(journal, run_async, step, kind):
    """Not that some `Halt` came: the caller is to know what to do."""
    argument = [1]

    @durable.workflow(name="child")
    def child() -> int:
        value = step(argument[0])
        journal.crash()
        return value

    @durable.workflow(name="parent", id="parent")
    def parent() -> int:
        return child()

    @durable.workflow(name="child_async")
    async def child_async() -> int:
        value = step(argument[0])
        journal.crash()
        return value

    @durable.workflow(name="parent_async", id="parent")
    async def parent_async() -> int:
        return await child_async()

    call = parent if kind == "sync" else lambda: run_async(parent_async())
    with pytest.raises(KeyboardInterrupt):
        call()
    argument[0] = 2
    journal.restart()
    with pytest.raises(durable.NonDeterminismError, match="x|number"):
        call()
    assert durable.get("parent").status == "blocked"
    argument[0] = 1
    journal.restart()
    assert call() == 2


@pytest.mark.parametrize("waits", ["calls", "awaits"])
@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize("becomes", ["blocked", "cancelled"])
def test_a_cancelled_run_is_told_before_it_hears_of_its_child(journal, run_async, waits, cut, becomes):
    """Which of the two comes first is chance: here the run does not come to rest before the child is over."""

    @durable.step(name="dies")
    async def dies() -> None:
        journal.crash()
        await asyncio.sleep(3600)

    @durable.step(name="other")
    async def other() -> None: ...

    @durable.workflow(id="child")
    async def child() -> None:
        await (dies() if journal.crashing or becomes == "cancelled" else other())

    async def keep_busy():
        while not journal.crashing and durable.get("child").status != becomes:
            time.sleep(0.001)  # noqa: ASYNC251 - a run counts as unordered after so many turns of its loop
            await asyncio.sleep(0)

    async def on_child():
        if waits == "calls":
            await child()
        else:
            await child.start()

    @durable.workflow(id="run")
    async def flow() -> None:
        if cut:
            await asyncio.gather(on_child(), keep_busy())
            return
        tasks = [asyncio.create_task(on_child()), asyncio.create_task(keep_busy())]
        try:
            await asyncio.Event().wait() if not journal.crashing else await tasks[0]
        except asyncio.CancelledError:
            await tasks[0]

    with pytest.raises((KeyboardInterrupt, durable.RunInterruptedError)):
        run_async(flow())
    journal.restart()
    durable.get("run").cancel()
    ends = cut or becomes == "cancelled"
    with pytest.raises(durable.RunCancelledError if ends else durable.NonDeterminismError):
        durable.get("run").result(SOON)
    assert durable.get("run").status == ("cancelled" if ends else "blocked")
    assert durable.get("child").status == becomes


def test_a_run_ends_that_is_stopped_by_a_child_while_it_sleeps_and_a_step_is_under_way(journal, run_async):
    """The step may end first; then nothing holds up the rest."""

    @durable.step(name="dies")
    async def dies() -> None:
        journal.crash()

    @durable.step(name="other")
    async def other() -> None: ...

    @durable.step(name="slow")
    async def slow() -> None:
        while durable.get("child").status != "blocked":  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)

    @durable.workflow(id="child")
    async def child() -> None:
        await (dies() if journal.crashing else other())

    @durable.workflow(id="run")
    async def flow() -> None:
        tasks = [asyncio.create_task(slow()), asyncio.create_task(child())]
        await durable.aio.sleep(3600)
        await asyncio.gather(*tasks)

    with pytest.raises(KeyboardInterrupt):
        run_async(child())
    journal.restart()
    run = flow.start()
    with pytest.raises(durable.NonDeterminismError):
        run.result(SOON)
    assert [step.status for step in run.steps() if step.name == "slow"] == ["completed"]


def test_a_child_that_is_given_up_while_it_waits_for_a_slot_is_cancelled_and_never_begins(journal, run_async):
    called = []

    @durable.workflow(id="child", concurrency=1)
    async def child() -> None:
        called.append(1)

    @durable.workflow(id="run")
    async def flow() -> str:
        try:
            await asyncio.wait_for(child(), 0.5)
        except TimeoutError:
            return "too late"
        return "in time"

    async def while_the_slot_is_taken() -> str:
        taken = asyncio.Event()
        limit = journal.engine._runtime.limit_of(child)
        limit.request(taken.set)
        await taken.wait()
        value = await flow()
        limit.release()
        return value

    assert run_async(while_the_slot_is_taken()) == "too late"
    assert durable.get("child").status == "cancelled"
    assert durable.resume() == called == []


def test_a_sync_child_in_a_thread_that_is_given_up_has_its_own_end(journal, run_async, step):
    goes_on = threading.Event()

    @durable.workflow(id="child")
    def child() -> int:
        goes_on.wait(SOON)
        return step(1)

    @durable.workflow(id="run")
    async def flow() -> str:
        try:
            await asyncio.wait_for(asyncio.to_thread(child), 0.5)
        except TimeoutError:
            return "too late"
        return "in time"

    async def main() -> str:
        value = await flow()
        goes_on.set()
        return value

    assert run_async(main()) == "too late"
    assert durable.get("child").result(SOON) == 2


def test_a_child_that_is_cancelled_by_itself_is_told_to_its_parent_which_goes_on(journal, step):
    begun, goes_on = threading.Event(), threading.Event()

    @durable.workflow(id="child")
    def child() -> int:
        begun.set()
        assert goes_on.wait(SOON)
        return step(1)

    @durable.workflow(id="run")
    def flow() -> str:
        try:
            return str(child())
        except durable.RunCancelledError:
            return f"without it: {step(2)}"

    run = flow.start()
    assert begun.wait(SOON)
    durable.get("child").cancel()
    goes_on.set()
    assert run.result(SOON) == "without it: 4"
    assert durable.get("child").status == "cancelled"


def test_a_child_that_a_crash_left_and_that_waits_for_a_slot_is_told_when_its_parent_gives_it_up(journal, run_async):
    """It has begun before, so it goes on without a slot for that."""
    told = []

    @durable.workflow(id="child", concurrency=1)
    async def child() -> None:
        journal.crash()
        try:
            await durable.aio.sleep(SOON)
        except asyncio.CancelledError:
            told.append(1)
            raise

    @durable.workflow(id="run")
    async def flow() -> str:
        try:
            await asyncio.wait_for(child(), 0.5)
        except TimeoutError:
            return "too late"
        return "in time"

    with pytest.raises((KeyboardInterrupt, durable.RunInterruptedError)):
        run_async(flow())
    journal.restart()
    limit = journal.engine._runtime.limit_of(child)
    limit.request(lambda: None)
    assert run_async(flow()) == "too late"
    limit.release()
    assert told == [1]
    assert durable.get("child").status == "cancelled"


def test_a_run_that_is_interrupted_while_its_child_waits_for_a_slot_leaves_the_line(journal, run_async, step):
    @durable.workflow(id="child", concurrency=1)
    async def child() -> int:
        return step(1)

    @durable.workflow(id="run")
    async def flow() -> int:
        return await child()

    limit = journal.engine._runtime.limit_of(child)

    async def main() -> None:
        task = asyncio.create_task(flow())
        await until(lambda: limit._waiting)
        task.cancel()
        await task

    limit.request(lambda: None)
    with pytest.raises(asyncio.CancelledError):
        run_async(main())
    assert not limit._waiting
    limit.release()
    assert {run.status for run in durable.runs()} == {"interrupted"}
    assert run_async(flow()) == 2


def test_a_child_that_a_crash_left_is_set_going_again_although_it_is_given_up_at_once(journal, run_async):
    """So that it is told, and does not go on some day without its parent."""
    told = []

    @durable.step(name="endless")
    async def endless() -> None:
        journal.crash()
        await asyncio.sleep(3600)

    @durable.workflow(id="child")
    async def child() -> None:
        try:
            await endless()
        except asyncio.CancelledError:
            told.append(1)
            raise

    @durable.workflow(id="run")
    async def flow() -> None:
        task = asyncio.create_task(child())
        if journal.crashing:
            await task
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with pytest.raises((KeyboardInterrupt, durable.RunInterruptedError)):
        run_async(flow())
    journal.restart()
    told.clear()
    run_async(flow())
    assert told == [1]
    assert (durable.get("run").status, durable.get("child").status) == ("completed", "cancelled")
    assert [step.error for step in durable.get("run").steps()] != [None]


def test_a_run_that_is_interrupted_before_a_child_that_a_crash_left_begins_again_leaves_it_as_it_is(journal, run_async):
    """The child does not begin before the parent has got what the journal has."""
    told, begun = [], []

    @durable.step(name="fetch")
    async def fetch() -> int:
        return 1

    @durable.workflow(id="child")
    async def child() -> int:
        begun.append(1)
        if journal.crashing:
            await asyncio.sleep(SOON)
        return 2

    @durable.workflow(id="run")
    async def flow() -> int:
        task = asyncio.create_task(child())
        while not may_fetch:
            told.append(1)
            await asyncio.sleep(0.001)
        number = await fetch()
        journal.crash()
        return number + await task

    may_fetch = True
    with pytest.raises(KeyboardInterrupt):
        run_async(flow())
    journal.restart()
    may_fetch, begun[:] = False, []

    async def main() -> None:
        task = asyncio.create_task(flow())
        await until(lambda: len(told) >= 3)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        run_async(main())
    assert begun == []
    assert {run.status for run in durable.runs()} == {"interrupted"}
    may_fetch = True
    assert run_async(flow()) == 3


def giving_up_an_endless_child(journal, told, *, strikes=False):
    """A run that crashes in its child, and next time gives it up. `strikes`: an interrupt when the child is told first."""

    @durable.step(name="endless")
    async def endless() -> None:
        if journal.crashing:
            journal.crash()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            told.append(1)
            if strikes and len(told) == 1:
                raise KeyboardInterrupt from None
            raise

    @durable.workflow(id="child")
    async def child() -> None:
        await endless()

    @durable.workflow(id="run")
    async def flow() -> str:
        try:
            await asyncio.wait_for(child(), 3600 if journal.crashing else 0.2)
        except TimeoutError:
            return "too late"
        return "in time"

    return flow


def test_a_child_that_resume_set_going_is_told_when_its_parent_gives_it_up(journal, run_async):
    """The parent waits for an execution that is not in its own task, and goes on when that has ended."""
    told = []
    flow = giving_up_an_endless_child(journal, told)
    with pytest.raises((KeyboardInterrupt, durable.RunInterruptedError)):
        run_async(flow())
    journal.restart()
    durable.resume()
    assert durable.get("run").result(SOON) == "too late"
    assert told == [1]
    assert durable.get("child").status == "cancelled"


def test_a_child_that_resume_set_going_goes_on_when_its_parent_is_interrupted(journal, run_async):
    goes_on = threading.Event()

    @durable.step(name="wait", retry=None)
    async def wait() -> int:
        journal.crash()
        while not goes_on.is_set():  # noqa: ASYNC110 - of the thread of the test
            await asyncio.sleep(0.001)
        return 1

    @durable.workflow(id="child")
    async def child() -> int:
        return await wait()

    @durable.workflow(id="run")
    async def flow() -> int:
        return await child()

    with pytest.raises((KeyboardInterrupt, durable.RunInterruptedError)):
        run_async(flow())
    journal.restart()
    with pytest.raises(TimeoutError):
        durable.get("child").result(0)  # set going for that, and goes on

    async def main() -> None:
        task = asyncio.create_task(flow())
        child = journal.engine._runtime.active["child"]
        await until(lambda: len(child._watchers) == 1)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        run_async(main())
    assert (durable.get("run").status, durable.get("child").status) == ("interrupted", "running")
    goes_on.set()
    assert run_async(flow()) == 1


@pytest.mark.parametrize("is_resumed", [False, True])
def test_a_child_that_is_interrupted_while_its_parent_gives_it_up_is_not_left_behind(journal, run_async, is_resumed):
    """The parent is interrupted with it, and gives it up again, also where `resume()` set it going."""
    told = []
    flow = giving_up_an_endless_child(journal, told, strikes=True)
    with pytest.raises((KeyboardInterrupt, durable.RunInterruptedError)):
        run_async(flow())
    journal.restart()
    if is_resumed:
        durable.resume()
    with pytest.raises(durable.RunInterruptedError):
        durable.get("run").result(SOON)
    journal.restart()
    assert [durable.get(run).status for run in ("run", "child")] == ["interrupted", "interrupted"]
    assert told == [1]
    assert durable.get("run").result(SOON) == "too late"
    assert durable.get("child").status == "cancelled"


def test_a_group_of_a_child_that_is_given_up_may_fail_before_the_child_is_told(journal, run_async):
    """The group cancels the child's task, whose caller is being cancelled too: that is no interrupt."""
    begun, given_up = asyncio.Event(), asyncio.Event()

    @durable.step(name="endless")
    async def endless() -> None:
        begun.set()
        await asyncio.sleep(3600)

    async def fails() -> None:
        await given_up.wait()
        raise Declined(1, "too small")

    @durable.workflow(id="child")
    async def child() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fails())
                await endless()
        except* Declined:
            pass

    @durable.workflow(id="run")
    async def flow() -> None:
        task = asyncio.create_task(child())
        await begun.wait()
        task.cancel()
        given_up.set()
        await asyncio.gather(task, return_exceptions=True)

    run_async(flow())
    assert durable.get("run").status == "completed"
    assert durable.get("child").status in {"cancelled", "completed"}
    assert durable.resume() == []


@pytest.mark.parametrize("innermost_first", [True, False])
@pytest.mark.parametrize("kind", ["task", "thread"])
def test_all_tasks_cancelled_in_one_go_interrupt_a_run_and_those_below_it_in_whatever_order(
    journal, run_async, kind, innermost_first
):
    """As at the end of a loop: nothing of it is a cut, or a cancellation, that the code has made."""
    begun, goes_on = threading.Event(), threading.Event()

    @durable.step(name="hangs", retry=None)
    def hangs() -> None:
        begun.set()
        goes_on.wait(SOON if journal.crashing else 0)

    @durable.step(name="sleeps", retry=None)
    async def sleeps() -> None:
        begun.set()
        await asyncio.sleep(SOON if journal.crashing else 0)

    @durable.workflow(id="grandchild")
    async def grandchild() -> None:
        await asyncio.gather(asyncio.to_thread(hangs) if kind == "thread" else sleeps())

    @durable.workflow(id="child")
    async def child() -> None:
        await grandchild()

    @durable.workflow(id="run")
    async def flow() -> str:
        await child()
        return "done"

    async def main() -> None:
        caller = asyncio.create_task(flow())
        await asyncio.to_thread(begun.wait, SOON)
        runs = [journal.engine._runtime.active[name].execution.branches for name in ("run", "child", "grandchild")]
        tasks = [caller, *(each for branches in runs for each in (branches.root, *branches.tasks))]
        for task in reversed(tasks) if innermost_first else tasks:
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        goes_on.set()

    run_async(main())
    runs = [durable.get(name) for name in ("run", "child", "grandchild")]
    assert [run.status for run in runs] == ["interrupted"] * 3
    assert {step.status for run in runs for step in run.steps()} == {"running"}
    journal.restart()
    assert run_async(flow()) == "done"


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_child_that_was_started_goes_on_when_its_parent_starts_it_again(journal, run_async, asynchronous):
    """By a plain call of the parent, which waits for none of them: at work before the crash, or in line for a slot."""
    at_work = threading.Event()

    @durable.workflow(name="child", concurrency=1)
    async def child(number: int) -> int:
        at_work.set()
        if journal.crashing:
            await asyncio.sleep(3600)
        return number

    def dies() -> None:
        at_work.wait(SOON)
        journal.crash()

    @durable.workflow(name="parent", id="parent")
    def parent() -> None:
        child.start_many([1, 2])
        durable.step(dies)()

    @durable.workflow(name="parent", id="parent")
    async def parent_async() -> None:
        child.start_many([1, 2])
        await asyncio.to_thread(durable.step(dies))

    def call() -> None:
        run_async(parent_async()) if asynchronous else parent()

    with pytest.raises(KeyboardInterrupt):
        call()
    journal.restart()
    assert {run.status for run in durable.runs(workflow="child")} <= {"queued", "interrupted"}
    call()
    wait_until(lambda: {run.status for run in durable.runs()} == {"completed"})


def _blocked_with_its_child(journal, step, asynchronous):
    """A parent that waits for a child that it has started: both are blocked by code that is put back since."""
    numbers = {"child": 1}

    @durable.step(name="dies")
    def dies(number: int) -> None:
        journal.crash()

    @durable.workflow(name="child", id="child")
    def child() -> int:
        number = step(numbers["child"])
        dies(0)
        return number

    def parent() -> int:
        return step(3) + child.start().result()

    async def parent_async() -> int:
        return step(3) + await child.start()

    flow = durable.workflow(name="parent", id="parent")(parent_async if asynchronous else parent)
    return flow, numbers


@pytest.mark.parametrize("how", ["call", "retry", "resume"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_started_child_that_is_blocked_goes_on_with_its_parent(journal, run_async, step, asynchronous, how):
    flow, numbers = _blocked_with_its_child(journal, step, asynchronous)

    def call() -> int:
        return run_async(flow()) if asynchronous else flow()

    with pytest.raises(durable.RunInterruptedError):
        call()
    journal.restart()
    numbers["child"] = 2
    with pytest.raises(durable.NonDeterminismError):
        call()
    assert [run.status for run in durable.runs()] == ["blocked", "blocked"]
    numbers["child"] = 1
    if how == "retry":
        durable.get("parent").retry()
    elif how == "resume":
        assert {run.id for run in durable.resume(wait=True)} == {"parent", "child"}
    assert (durable.get("parent").result(SOON) if how == "retry" else call()) == 8
    assert [run.status for run in durable.runs()] == ["completed", "completed"]
    assert step.calls == [3, 1]


def test_a_run_that_waits_for_the_end_of_a_blocked_one_sets_it_going_and_hears_that_it_is_still_so(journal, step):
    flow, numbers = _blocked_with_its_child(journal, step, asynchronous=False)
    with pytest.raises(durable.RunInterruptedError):
        flow()
    journal.restart()
    numbers["child"] = 2
    for _ in range(2):
        with pytest.raises(durable.NonDeterminismError, match="run child"):
            flow()
    assert {run.id for run in durable.resume(wait=True)} == {"parent", "child"}
    assert {run.status for run in durable.runs()} == {"blocked"}


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_who_sets_an_interrupted_run_going_hears_of_the_end_of_that_life(journal, run_async, monkeypatch, asynchronous):
    """And not of the one before, which ended between two looks: that one goes on would be news to nobody."""
    lives = []

    @durable.workflow(id="child")
    def child() -> None:
        lives.append(1)
        if len(lives) > 1:
            time.sleep(0.1)
        journal.crash()

    @durable.workflow(name="parent")
    def parent() -> None:
        child.start().result()

    @durable.workflow(name="parent")
    async def parent_async() -> None:
        await child.start()

    def look_when_it_is_over(runtime, run_id):
        if not looks:
            wait_until(lambda: lives and runtime.living(run_id) is None)
        looks.append(len(lives))
        return record_of(runtime, run_id)

    looks, record_of = [], _results.record_of
    monkeypatch.setattr(_results, "record_of", look_when_it_is_over)
    with pytest.raises(durable.RunInterruptedError):
        run_async(parent_async()) if asynchronous else parent()
    assert (len(lives), journal.engine._runtime.living("child")) == (looks[0] + 1, None)


def test_a_replay_that_cannot_set_its_child_going_goes_on_later(journal, monkeypatch):
    """The engine may be closed at any moment."""

    @durable.workflow(name="child")
    def child() -> int:
        return 1

    @durable.workflow(id="parent")
    def parent() -> int:
        run = child.start()
        journal.crash()
        return run.result()

    def is_closed(*_):
        raise durable.EngineClosedError("the engine was closed")

    with pytest.raises(KeyboardInterrupt):
        parent()
    journal.restart()
    with monkeypatch.context() as patch:
        patch.setattr(Scheduler, "go_on_with", is_closed)
        with pytest.raises(durable.EngineClosedError):
            parent()
    assert durable.get("parent").status == "interrupted"
    assert parent() == 1
    assert len(durable.runs(workflow=child)) == 1

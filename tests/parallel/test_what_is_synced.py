"""The table of docs/guarantees.md, "What is on disk, and when": how many commits of each kind of record have an fsync."""

from contextlib import suppress

import pytest

import durable
from durable import RetryPolicy

SYNCED = {
    "nothing": 0,
    "a step": 1,  # its outcome; but not its start, after a record that is on disk
    "the time, and a step that may show it": 2,  # the start of that step too
    "a random number, and nothing that shows it": 0,
    "a step that is attempted at most once": 2,  # its start too
    "a step that fails once": 2,  # the failed attempt too
    "a timer": 2,  # when it is due, and that it was
    "an event": 1,  # others may see it
    "a signal that does not come in time": 2,  # until when it is waited for, and that it did not come
}


@pytest.fixture
def steps():
    quick = RetryPolicy(initial_interval=0.001, jitter=0.0)
    failed = []

    def works():
        """Does nothing."""

    def fails():
        if not failed:
            failed.append(1)
            raise ValueError

    async def works_async():
        """Does nothing."""

    async def fails_async():
        fails()

    def declare(asynchronous):
        work, fail = (works_async, fails_async) if asynchronous else (works, fails)
        return (
            durable.step(work, name="work"),
            durable.step(work, name="once", at_most_once=True),
            durable.step(fail, name="fail", retry=quick),
        )

    return declare


@pytest.mark.parametrize("what", SYNCED)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_has_an_fsync(journal, run_async, steps, what, asynchronous):
    work, once, fail = steps(asynchronous)
    calls = {
        "nothing": [],
        "a step": [work],
        "the time, and a step that may show it": [durable.now, work],
        "a random number, and nothing that shows it": [durable.random],
        "a step that is attempted at most once": [once],
        "a step that fails once": [fail],
        "a timer": [lambda: (durable.aio if asynchronous else durable).sleep(0.001)],
        "an event": [lambda: durable.set_event("key", 1)],
        "a signal that does not come in time": [
            lambda: (durable.aio if asynchronous else durable).wait_for_signal("go", int, timeout=0.001)
        ],
    }[what]

    @durable.workflow
    def flow():
        work()
        with suppress(TimeoutError):
            for call in calls:
                call()

    @durable.workflow
    async def flow_async():
        await work()
        with suppress(TimeoutError):
            for call in calls:
                made = call()
                if hasattr(made, "__await__"):
                    await made

    commits = journal.count_commits()
    run_async(flow_async()) if asynchronous else flow()
    of_the_run = 3  # the start of the first step, with the row of the run before it; its outcome; that of the run
    assert commits["full"] - of_the_run == SYNCED[what]

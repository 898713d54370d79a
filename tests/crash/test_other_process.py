"""A run is retried and forked from a process that does not own the journal, and the owner, alive or to come, goes on."""

import signal

import pytest

import durable

FLAKY = """
    class Broken(Exception): ...

    @durable.step(retry=None)
    def first(name):
        note("first", name)

    @durable.step(retry=None)
    def works_when_told(name):
        note("tried", name)
        if not os.path.exists("works"):
            raise Broken(name)
        return name

    @durable.workflow(id="{name}", timeout=3600)
    def flaky(name):
        first(name)
        return works_when_told(name)

    @durable.workflow(id="parent")
    def parent():
        return flaky.with_options(id="child")("c")

    def call(work):
        try:
            work()
        except Broken:
            pass

    if sys.argv[1] == "own":
        call(lambda: flaky("a"))
        call(parent)
        note("ready")
        time.sleep(60)
    else:
        durable.resume()
        time.sleep(60)
"""


@pytest.fixture
def flaky(script):
    program = script(FLAKY)
    owner = program.start("own")
    program.wait_for(lambda: "ready" in program.lines())
    return program, owner


def outcome(program, run_id):
    run = program.run_handle(run_id)
    return None if run is None or run.status in {"queued", "running", "interrupted"} else run.status


def test_a_retry_is_seen_by_the_owner(flaky):
    program, _ = flaky
    (program.folder / "works").touch()
    program.run_handle("a").retry()
    program.wait_for(lambda: outcome(program, "a") == "completed")
    assert program.lines().count("first a") == 1
    assert program.lines().count("tried a") == 2
    assert not program.engine._runtime.journal.epoch, "who asks does not become the owner"


def test_a_parent_is_retried_together_with_the_child_that_failed(flaky):
    program, _ = flaky
    (program.folder / "works").touch()
    program.run_handle("parent").retry()
    program.wait_for(lambda: outcome(program, "parent") == "completed")
    assert outcome(program, "child") == "completed"
    assert program.lines().count("first c") == 1


def test_a_fork_is_begun_by_the_owner(flaky):
    program, _ = flaky
    (program.folder / "works").touch()
    forked = program.run_handle("a").fork(from_step=2)
    program.wait_for(lambda: outcome(program, forked.id) == "completed")
    assert program.lines().count("first a") == 1
    assert outcome(program, "a") == "failed"


def test_what_was_asked_of_an_owner_that_died_is_done_by_the_next(flaky):
    program, owner = flaky
    (program.folder / "works").touch()
    owner.send_signal(signal.SIGSTOP)  # it lives, and sees nothing
    forked = program.run_handle("a").fork(from_step=2)
    program.run_handle("a").retry()
    assert forked.status == "queued"
    program.kill(owner)
    assert forked.status == program.run_handle("a").status == "queued"
    program.start("resume")
    program.wait_for(lambda: outcome(program, forked.id) == outcome(program, "a") == "completed")
    assert program.lines().count("first a") == 1


def test_a_run_that_cannot_be_retried_says_so_from_outside_too(flaky):
    program, _ = flaky
    (program.folder / "works").touch()
    program.run_handle("a").retry()
    program.wait_for(lambda: outcome(program, "a") == "completed")
    with pytest.raises(durable.RunConflictError, match="is completed: only a failed or a blocked run can be retried"):
        program.run_handle("a").retry()
    with pytest.raises(ValueError, match="from_step is from 1 to 3"):
        program.run_handle("a").fork(from_step=9)


def test_without_an_owner_who_asks_is_the_one_that_executes(flaky):
    program, owner = flaky
    program.kill(owner)
    (program.folder / "works").touch()
    program.run_handle("a").retry()
    assert program.engine._runtime.journal.epoch

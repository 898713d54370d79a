"""How a process ends by itself: at the program's end, by Ctrl-C, by `sys.exit`."""

import signal
import time

import pytest

FLOWS = """
    POLICY = RetryPolicy(initial_interval=60)
    INTERRUPT = sys.argv[1] if len(sys.argv) > 1 else ""

    def strike(where):
        if INTERRUPT == f"exit in {where}":
            sys.exit(3)

    @durable.step
    def slow(seconds):
        note("slow begun")
        strike("step")
        time.sleep(seconds)
        note("slow ended")
        return "slow"

    @durable.step(retry=POLICY)
    def flaky():
        note("flaky")
        if INTERRUPT != "well":
            raise ConnectionError
        return "well"

    @durable.step
    async def slow_async(seconds):
        note("slow begun")
        strike("step")
        await asyncio.sleep(seconds)
        note("slow ended")
        return "slow"

    @durable.step(retry=POLICY)
    async def flaky_async():
        note("flaky")
        if INTERRUPT != "well":
            raise ConnectionError
        return "well"

    @durable.workflow(id="{what}")
    def sync(what, seconds=0.3):
        result = slow(seconds) if what == "step" else flaky()
        strike("body")
        note("body goes on")
        return result, slow(0)

    @durable.workflow(id="{what}-async")
    async def asynchronous(what, seconds=0.3):
        result = await (slow_async(seconds) if what == "step" else flaky_async())
        strike("body")
        note("body goes on")
        return result, await slow_async(0)

    @durable.workflow(id="{what}-thread")
    async def threaded(what, seconds=0.3):
        result = await (asyncio.to_thread(slow, seconds) if what == "step" else asyncio.to_thread(flaky))
        strike("body")
        note("body goes on")
        return result, await asyncio.to_thread(slow, 0)
"""


def test_a_program_that_ends_lets_steps_in_flight_end_and_waits_for_nothing_else(script):
    program = script(
        FLOWS
        + """
    for flow in (sync, asynchronous, threaded):
        flow.start("step", 1.5)
        flow.start("back-off")
    open("notes.txt", "a").close()  # there, before a step has written its first line
    while sum(1 for line in open("notes.txt")) < 6:
        time.sleep(0.002)
    time.sleep(0.1)
"""
    )
    before = time.monotonic()
    done = program.run()
    assert done.returncode == 0
    assert done.errors == ""
    assert time.monotonic() - before < 40  # and not for the minute of the back-offs
    assert sorted(program.lines()) == ["flaky"] * 3 + ["slow begun"] * 3 + ["slow ended"] * 3
    for what in ("step", "step-async", "step-thread"):
        run = program.run_handle(what)
        assert run.status == "interrupted"
        assert [(step.status, step.output) for step in run.steps()] == [("completed", "slow")]
    for what in ("back-off", "back-off-async", "back-off-thread"):
        run = program.run_handle(what)
        assert run.status in {"waiting", "interrupted"}  # suspended already, or not yet
        assert [(step.status, step.attempt) for step in run.steps()] == [("retrying", 1)]


def test_a_thread_that_the_end_of_the_program_waits_for_has_its_background_runs_executed_as_ever(script):
    program = script(
        FLOWS
        + """
    import threading

    def wait():
        threading.main_thread().join()
        print(threaded.start("step", 0).result())

    threading.Thread(target=wait).start()
"""
    )
    done = program.run()
    assert (done.output, done.errors) == ("('slow', 'slow')\n", "")


ENDING = """
    import atexit, threading

    how, when = sys.argv[1:3]

    def start_as_3_12(thread, start=threading.Thread.start):
        if not threading.main_thread().is_alive():
            raise RuntimeError("can't create new thread at interpreter shutdown")
        start(thread)

    threading.Thread.start = start_as_3_12

    def ends():
        return when == "next" or (engine._runtime.is_closed() if when == "late" else not threading.main_thread().is_alive())

    @durable.step
    async def waits():
        while not ends():
            await asyncio.sleep(0.01)
        note("asks")
        if how == "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.to_thread(note, "thread"))
        elif how == "caught":
            try:
                await asyncio.to_thread(note, "thread")
            except Exception:
                return "caught"
        elif how == "step":
            await asyncio.to_thread(note, "thread")
        return "well"

    @durable.step
    def blocks():
        while not ends():
            time.sleep(0.01)
        note("asks")

    @durable.step
    def submitted():
        note("thread")

    @durable.step(timeout=60)
    def timed():
        note("thread")

    @durable.workflow(id="run")
    async def asynchronous():
        result = await waits()
        if how == "body":
            await asyncio.to_thread(submitted)
        return result

    @durable.workflow(id="run")
    def sync():
        blocks()
        submitted.submit().result() if how == "submit" else timed()
        return "well"

    engine = durable.open("journal.db")

    def over():  # before the engine is closed
        while durable.get("run").status == "running" and (run := engine._runtime.active.get("run")) and not run.is_over():
            if any(step.status not in {"running", "completed"} for step in durable.get("run").steps()):
                break
            time.sleep(0.01)

    if when == "next":
        durable.resume(wait=True)
        print(durable.get("run").result())
    else:
        (sync if how in {"submit", "timeout"} else asynchronous).start()
        while not durable.get("run").steps():
            time.sleep(0.01)
        if when == "early":
            atexit.register(over)
"""


@pytest.mark.parametrize(
    ("how", "when"),
    [
        *[(how, "late") for how in ("step", "group", "caught")],
        *[(how, "early") for how in ("step", "group", "caught", "body", "submit", "timeout")],
    ],
)
def test_an_attempt_that_needs_a_thread_when_the_program_ends_is_interrupted(script, how, when):
    program = script(ENDING)
    done = program.run(how, when)
    assert (done.returncode, done.output, done.errors) == (0, "", "")
    assert program.lines() == ["asks"]
    run = program.run_handle("run")
    assert run.status == "interrupted"
    expected = {("running", 1)} if how in {"step", "group", "caught"} else {("completed", 1), ("running", 1)}
    assert {(step.status, step.attempt) for step in run.steps()} <= expected
    done = program.run(how, "next")
    assert (done.output, done.errors) == ("well\n", "")
    assert program.lines()[-1] == "thread"


CALLING = (
    FLOWS
    + """
    what, kind = sys.argv[2:]
    async def main():
        return await asynchronous(what, 60 if INTERRUPT == "wait" else 0)
    print(asyncio.run(main()) if kind == "async" else sync(what, 60 if INTERRUPT == "wait" else 0))
"""
)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("what", ["step", "back-off"])
def test_ctrl_c_leaves_the_run_interrupted(script, what, kind):
    program = script(CALLING)
    process = program.start("wait", what, kind)
    run_id = what + ("-async" if kind == "async" else "")
    status = "running" if what == "step" else "retrying"
    program.wait_for(lambda: (run := program.run_handle(run_id)) and (run.steps() and run.steps()[0].status == status))
    program.wait_for(program.lines)
    time.sleep(0.02)
    program.started.remove(process)
    process.send_signal(signal.SIGINT)
    before = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - before < 25  # and not for what it was at
    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    run = program.run_handle(run_id)
    assert run.status == "interrupted"
    assert run.error is None
    assert [step.status for step in run.steps()] == [status]


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("where", ["step", "body"])
def test_sys_exit_leaves_the_run_interrupted_and_the_next_process_goes_on(script, where, kind):
    program = script(CALLING)
    done = program.run(f"exit in {where}", "step", kind)
    assert (done.returncode, done.output, done.errors) == (3, "", "")
    run = program.run_handle("step" + ("-async" if kind == "async" else ""))
    assert run.status == "interrupted"
    assert [step.status for step in run.steps()] == ["running" if where == "step" else "completed"]
    done = program.run("well", "step", kind)
    assert (done.output, done.errors) == ("('slow', 'slow')\n", "")
    assert program.lines().count("slow begun") == (3 if where == "step" else 2)


def test_a_signal_handler_closes_the_engine_while_its_thread_reads(script):
    program = script(
        """
    import signal
    from durable import _reading

    open_reader = _reading.open_reader

    def open_and_strike(*arguments):
        reader = open_reader(*arguments)
        signal.raise_signal(signal.SIGTERM)
        return reader

    def stop(*_):
        durable.close()
        sys.exit(3)

    @durable.workflow(id="run")
    def flow():
        return "done"

    signal.signal(signal.SIGTERM, stop)
    signal.alarm(30)  # it hung
    assert flow() == "done"
    durable.close()
    durable.open("journal.db")
    _reading.open_reader = open_and_strike
    durable.runs()
"""
    )
    done = program.run()
    assert (done.returncode, done.output, done.errors) == (3, "", "")

"""Runs that wait, seen by other processes: signals and cancellations from outside, the end of the program, a kill."""

FLOWS = """
    @durable.step
    def undo():
        note("undone")

    @durable.workflow(id="{what}")
    def flow(what):
        if what == "sleeps":
            durable.sleep(3)
            return "slept"
        if what == "works":
            while True:
                durable.sleep(0.01)
        try:
            return durable.wait_for_signal("go", dict)
        finally:
            undo()

    @durable.workflow(id="{what}-async")
    async def asynchronous(what):
        if what == "sleeps":
            await durable.aio.sleep(3)
            return "slept"
        return await durable.aio.wait_for_signal("go", dict)
"""


def test_a_signal_from_another_process_wakes_a_run(script):
    program = script(
        FLOWS
        + """
    flow.start("signal")
    asynchronous.start("signal")
    for run in durable.runs():
        note("got", run.id, run.result())
"""
    )
    process = program.start()
    runs = [program.wait_for(lambda run_id=run_id: program.run_handle(run_id)) for run_id in ("signal", "signal-async")]
    program.wait_for(lambda: {run.status for run in runs} == {"waiting"})
    for run in runs:
        run.signal("go", {"by": "another process"})
    _, errors = process.communicate(timeout=60)
    assert errors == ""
    assert sorted(program.lines()) == [
        "got signal {'by': 'another process'}",
        "got signal-async {'by': 'another process'}",
        "undone",
    ]
    assert not program.engine._runtime.journal.epoch, "to send a signal is not to own"


def test_a_cancellation_from_another_process_reaches_runs_that_wait_and_runs_that_work(script):
    program = script(
        FLOWS
        + """
    runs = [flow.start("signal"), asynchronous.start("signal"), flow.start("works")]
    for run in runs:
        try:
            run.result()
        except durable.RunCancelledError:
            note("cancelled", run.id)
"""
    )
    process = program.start()
    for run_id in ("signal", "signal-async", "works"):
        run = program.wait_for(lambda run_id=run_id: program.run_handle(run_id))
        program.wait_for(run.steps)
        run.cancel()
    _, errors = process.communicate(timeout=60)
    assert errors == ""
    assert sorted(program.lines()) == ["cancelled signal", "cancelled signal-async", "cancelled works", "undone"]


def test_a_program_ends_at_once_while_its_runs_sleep_and_the_next_one_goes_on(script):
    program = script(
        FLOWS
        + """
    if len(sys.argv) > 1:
        durable.resume()
        for run in durable.runs():
            note(run.id, run.result())
    else:
        for what in ("sleeps", "signal"):
            flow.start(what)
            asynchronous.start(what)
        while {run.status for run in durable.runs()} != {"waiting"}:
            time.sleep(0.002)
"""
    )
    process = program.start()
    _, errors = process.communicate(timeout=60)
    assert errors == ""
    assert {run.status for run in program.engine.runs()} == {"waiting"}
    for run_id in ("signal", "signal-async"):
        program.run_handle(run_id).signal("go", {})  # while nobody owns the journal
    done = program.run("again")
    assert done.errors == ""
    assert sorted(program.lines()) == ["signal {}", "signal-async {}", "sleeps slept", "sleeps-async slept", "undone"]


def test_waiting_runs_of_a_killed_process_are_still_waiting(script):
    program = script(
        FLOWS
        + """
    flow.start("signal")
    time.sleep(60)
"""
    )
    process = program.start()
    run = program.wait_for(lambda: program.run_handle("signal"))
    program.wait_for(lambda: run.status == "waiting")
    program.kill(process)
    assert run.status == "waiting"

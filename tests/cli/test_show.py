"""`durable show` on journals of real programs."""

import re

import pytest

from tests.behaviour.patience import PATIENCE

from .conftest import WAITING, kill, wait_for_hanging

TIMES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def shown(folder, id):
    return folder.on_a_terminal("show", id, NO_COLOR="1", width=140).splitlines()


def squeezed(lines):
    return [re.sub(r" +", " ", line).strip() for line in lines]


def test_a_completed_run(shop):
    lines = shown(shop, "order-2")
    assert lines[0] == "✓ completed  buy  order-2"
    assert re.fullmatch(r"created   \d{4}-\d\d-\d\d \d\d:\d\d:\d\d  \(\d+[sm] ago\)", lines[2])
    assert lines[3].startswith("finished  ")
    assert lines[4].startswith("elapsed   ")
    assert lines[5] == 'input     order = {"id": 2, "item": "tea", "works_at": 3}'
    rows = squeezed(lines[7:])
    assert rows[0] == "# STATUS STEP TRIES TIME RESULT"
    assert re.fullmatch(r'1 ✓ completed init 1 \S+ \{"id":2,"item":"tea","works_at":3,"card":"charged"\}', rows[1])
    assert re.fullmatch(r'2 ✓ completed fulfill 3 \S+ "shipped tea"', rows[2])
    assert re.fullmatch(r"✗ failed attempt 1 \S+ Closed: the warehouse is closed", rows[3])
    assert re.fullmatch(r"✗ failed attempt 2 \S+ Closed: the warehouse is closed", rows[4])
    assert rows[-1] == 'result "shipped tea"'


def test_a_failed_run_ends_with_its_error_and_the_users_part_of_the_traceback(shop):
    lines = shown(shop, "order-3")
    assert "error     Closed: the warehouse is closed" in lines
    assert "          until Monday" in lines
    text = "\n".join(lines)
    assert re.search(r'File ".*shop.py", line \d+, in fulfill', text)
    assert "_replay.py" not in text
    assert lines[-1] == "next      run.retry(), or durable retry order-3, goes on from what failed, with fresh attempts"


def test_an_interrupted_run_says_what_became_of_its_process_and_what_to_do(shop):
    lines = shown(shop, "order-5")
    assert lines[0] == "↯ interrupted  buy  order-5"
    assert f"owner     process {shop.pid} died" in lines
    assert "3 ↯ interrupted hang 1 the process died in it" in squeezed(lines)
    assert (
        lines[-1] == "next      call buy again with the same input, or durable.resume() in a program that declares it"
    )


def test_a_back_off_says_when_the_next_attempt_is_due(shop, live):
    for folder in (shop, live):
        rows = squeezed(shown(folder, "order-4"))
        assert any(re.match(r"3 ↻ retrying call_back 1 .*retry in (1h 00m|59m \d\ds)", row) for row in rows)
        assert any(re.fullmatch(r"✗ failed attempt 1 \S+ TimeoutError: nobody answers", row) for row in rows)


def test_a_running_run_names_its_process(live):
    lines = shown(live, "order-5")
    assert lines[0] == "▸ running  buy  order-5"
    assert f"owner     process {live.pid}" in lines
    assert any(row.startswith("3 ▸ running hang 1") for row in squeezed(lines))


def test_a_blocked_run_shows_the_whole_message(shop):
    text = " ".join(squeezed(shown(shop, "moody")))
    assert "blocked at position 0 step 'init' was called with other inputs" in text
    assert text.endswith("take the journal's word with run.retry(trust_journal=True) (run moody of 'moody')")


def test_branches_are_named(shop):
    rows = squeezed(shown(shop, "pages"))
    assert any(row.startswith("1 ✓ completed now 1") for row in rows)
    assert any(row.startswith("2 /page:0 0 ✓ completed fetch 1") for row in rows)
    assert "3 /page:1 0 ↯ interrupted fetch 1 the process died in it" in rows


def test_an_attempt_in_which_the_process_died_is_listed_when_the_run_goes_on(folder):
    folder.run_and_kill("buy({'id': 1, 'item': 'x', 'hang': True})", hanging=1)
    folder.run("time.sleep = lambda seconds: None\nbuy({'id': 1, 'item': 'x', 'hang': True})")
    rows = squeezed(shown(folder, "order-1"))
    assert any(re.match(r"3 ✓ completed hang 2 \S+ null", row) for row in rows)
    assert "↯ interrupted attempt 1 the process died in it" in rows
    (step,) = (o for o in folder.objects("show", "order-1") if o.get("name") == "hang")
    assert [(a["attempt"], a["died"], a["error"]) for a in step["attempts"]] == [(1, True, None)]


def test_a_run_whose_process_stopped_cleanly_says_so(folder):
    process = folder.start(
        """
        def stop(*_):
            raise SystemExit
        import signal
        signal.signal(signal.SIGTERM, stop)
        buy({"id": 1, "item": "x", "hang": True})
        """
    )
    wait_for_hanging(process, 1)
    process.terminate()
    assert process.wait(PATIENCE) == 0
    process.stdout.close()
    assert folder.rows()[0][0] == "interrupted"
    assert re.fullmatch(r"process \d+ stopped \d+s ago", folder.rows()[0][8])


def test_json_is_the_run_and_then_its_operations(shop):
    run, init, fulfill = shop.objects("show", "order-2")
    assert run["kind"] == "run"
    assert run.keys() >= {"id", "workflow", "status", "created_at", "finished_at", "error", "input", "output"}
    assert (run["id"], run["status"], run["output"]) == ("order-2", "completed", "shipped tea")
    assert (init["kind"], init["position"], init["branch"], init["name"]) == ("step", 0, "", "init")
    assert init["input"] == {"order": {"id": 2, "item": "tea", "works_at": 3}}
    assert init["output"] == {"id": 2, "item": "tea", "works_at": 3, "card": "charged"}
    assert init["attempts"] == []
    assert (fulfill["status"], fulfill["attempt"], fulfill["failures"]) == ("completed", 3, 2)
    assert TIMES.fullmatch(fulfill["started_at"])
    assert TIMES.fullmatch(fulfill["finished_at"])
    first, _second = fulfill["attempts"]
    assert first["attempt"] == 1
    assert first["error"] == {"type": "Closed", "module": "shop", "message": "the warehouse is closed\nuntil Monday"}
    retrying = shop.objects("show", "order-4")[3]
    assert (retrying["status"], retrying["finished_at"]) == ("retrying", None)
    assert TIMES.fullmatch(retrying["retry_at"])


def test_a_pipe_gets_tabs_and_whole_values(folder):
    folder.run("buy({'id': 1, 'item': 'x' * 5000})")
    lines = folder.durable("show", "order-1").stdout.splitlines()
    assert lines[:3] == ["id\torder-1", "workflow\tbuy", "status\tcompleted"]
    assert "input\torder = " + '{"id": 1, "item": "' + "x" * 5000 + '"}' in lines
    assert [line.split("\t")[:4] for line in lines if line[0].isdigit()] == [
        ["1", "completed", "init", "1"],
        ["2", "completed", "fulfill", "1"],
    ]
    on_terminal = folder.on_a_terminal("show", "order-1", NO_COLOR="1")
    assert "letters in all: --json shows them" in on_terminal
    assert len(on_terminal) < 6000


ENDED_EARLY = """
@durable.step
def nap(x: int) -> None: time.sleep(0.01)

@durable.workflow(id="late", timeout=0.1)
def late() -> None:
    while True: nap(1)

@durable.workflow(id="told")
def told() -> None:
    nap(1)
    durable.get("told").cancel()
    while True: nap(2)

async def forget(): await durable.aio.sleep(3600)

@durable.workflow(id="cutting")
async def cutting() -> str:
    task = asyncio.create_task(forget())
    await durable.aio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    return "done"

attempt(late)
attempt(told)
asyncio.run(cutting())
"""
HOW_IT_ENDED = {
    "late": ("Cancelled", "the timeout of the run passed here"),
    "told": ("Cancelled", "the run was cancelled here"),
    "cutting": ("CancelledError", "cut by the workflow itself: cancelled, or out of time"),
}


def test_an_operation_that_was_ended_from_outside_says_by_what(folder):
    folder.run(ENDED_EARLY)
    for id, (error, message) in HOW_IT_ENDED.items():
        ended = next(o for o in folder.objects("show", id)[1:] if o["status"] == "failed")
        assert (ended["error"]["type"], ended["error"]["message"]) == (error, message)
        assert any(message in line for line in shown(folder, id))
        assert folder.durable("step", id, str(ended["number"])).stdout.splitlines()[-1] == f"ended\t{message}"
    assert next(row[8] for row in folder.rows() if row[2] == "late").startswith("TimeoutError: run late of")
    assert " ".join(shown(folder, "late")).count("TimeoutError") == 1
    assert folder.durable("stats").returncode == 0


# -- waits ------------------------------------------------------------------------------------------------------------


def test_a_run_that_waits_for_a_signal_says_how_it_is_sent(left):
    rows = squeezed(left.asleep.splitlines())
    assert rows[0] == "◷ waiting approve approve-1"
    assert f"owner process {left.pid}" in rows
    assert any(re.fullmatch(r"2 ◷ waiting signal go \S+", row) for row in rows)
    assert rows[-1] == "next run.signal('go', …), or durable signal approve-1 go JSON, sends what it waits for"
    assert {row[8] for row in left.listed} >= {"waits for signal 'go'"}


def test_what_lies_there_unread_is_told_and_that_nobody_is_there_to_read_it(left):
    rows = squeezed(shown(left, "approve-1"))
    assert rows[0] == "◷ waiting approve approve-1"
    assert f"owner nobody: process {left.pid} died" in rows
    assert any(re.fullmatch(r"2 ◷ waiting signal go \S+ signal 'go' lies there unread", row) for row in rows)
    assert any(re.fullmatch(r"unread signal 'go' = \"yes\", sent \d+s ago", row) for row in rows)
    assert any(re.fullmatch(r"signal 'more' = 3, sent \d+s ago", row) for row in rows)
    goes_on = "nobody owns the journal: durable.resume() in a program that declares it, or durable run MODULE, goes on"
    assert " ".join(rows).endswith(f"next {goes_on} with approve")
    run = left.objects("show", "approve-1")[0]
    assert [(each["kind"], each["name"], each["value"]) for each in run["unread"]] == [
        ("signal", "go", "yes"), ("signal", "more", 3),
    ]  # fmt: skip
    assert (run["pid"], run["live_pid"]) == (left.pid, None)
    assert left.durable("step", "approve-1", "go").stdout.splitlines()[-1] == "now\tsignal 'go' lies there unread"


def test_a_list_tells_the_same_in_few_words(left):
    why = {row[2]: row[8] for row in left.rows("--status", "waiting")}
    assert why["approve-1"] == "signal 'go' lies there unread, nobody owns the journal"
    assert why["approve-2"] == "waits for signal 'go', nobody owns the journal"
    assert why["nap"] == "is to be cancelled, nobody owns the journal"


def test_a_wait_with_a_timeout_says_when_it_is_over(left):
    rows = squeezed(shown(left, "nap"))
    assert any(re.fullmatch(r"1 ◷ waiting signal done \S+ goes on in 1h 5\dm", row) for row in rows)
    assert any(re.fullmatch(r"unread to be cancelled, sent \d+s ago", row) for row in rows)


PARENTS = """
@durable.workflow(id="parent-{ids[0]}")
def parent(ids: list[int], naps: bool = False) -> None:
    started = [approve.start(n) for n in ids]
    if naps:
        durable.sleep(7200)
    started[0].result()

@durable.workflow(id="caller")
def caller() -> None:
    approve(1)
"""
ALL_WAIT_FOR_RUNS = """
caller.start(), parent.start([2]), parent.start([3, 4]), parent.start([5], naps=True)
suspended("caller", "parent-2", "parent-3", "parent-5")
"""


def test_who_waits_for_a_run_says_for_which(folder):
    process = folder.start(ALL_WAIT_FOR_RUNS, WAITING + PARENTS)
    try:
        wait_for_hanging(process, 1)
        why = {row[2]: row[8] for row in folder.rows()}
        assert why["caller"] == "waits for run approve-1" == shown_now(folder, "caller")
        assert why["parent-2"] == "waits for run approve-2" == shown_now(folder, "parent-2")
        several = "waits for run approve-3, or for another of 2 that it called or started"
        assert why["parent-3"] == several == shown_now(folder, "parent-3")
        assert why["parent-5"].startswith("sleeps, goes on in")
        assert not shown_now(folder, "parent-5")
    finally:
        kill(process)


def shown_now(folder, run_id):
    return "".join(row.removeprefix("now ") for row in squeezed(shown(folder, run_id)) if row.startswith("now "))


def test_a_map_stands_where_it_was_called(left):
    names = [(each["kind"], each["name"], each["number"]) for each in left.objects("show", "saga")[1:]]
    assert names == [
        ("step", "ask", 1), ("map", "ask", None), ("step", "ask", 2), ("step", "ask", 3), ("step", "pay", 4),
        ("step", "undo", 5),
    ]  # fmt: skip


def test_a_run_that_went_on_after_a_failure_is_forked_and_not_retried(left):
    text = " ".join(squeezed(shown(left, "saga")))
    assert "went on after step 'pay' failed" in text
    assert text.endswith("run.fork(from_step=4), or durable fork saga --from-step 4, starts a new run from any step")


GOES_BACK = """
import asyncio, time

import durable

durable.open("durable.db")

@durable.workflow(id="child")
def child() -> None:
    durable.wait_for_signal("go")

@durable.workflow(id="sold")
def sold() -> None:
    child()

@durable.step(retry=None)
async def slow() -> None:
    await asyncio.sleep(60)

@durable.step(retry=None)
async def tidy() -> None: ...

async def tidied() -> None:
    try:
        await slow()
    finally:
        await tidy()

@durable.workflow(id="hasty")
async def hasty() -> None:
    async with asyncio.timeout(0.05):
        await asyncio.gather(slow(), tidied())
"""
BROKEN_OFF = """
run = sold.start()
while durable.get("sold").status != "waiting": time.sleep(0.01)
durable.get("child").cancel()
for each in (run, hasty.start()):
    try:
        each.result()
    except Exception as error:
        print(type(error).__name__)
"""


@pytest.mark.parametrize("run_id", ["sold", "hasty"])
def test_what_show_says_of_a_retry_is_what_a_retry_says(folder, run_id):
    folder.run(BROKEN_OFF, GOES_BACK)
    refusal = folder.durable("retry", run_id)
    assert refusal.returncode == 1
    said = " ".join(squeezed(shown(folder, run_id)))
    assert "starts a new run" in said
    assert " ".join(refusal.stderr.removeprefix("durable: ").split()) in said


def test_who_is_queued_waits_for_its_turn_where_the_owner_lives(folder):
    process = folder.start("busy.start(1)\nbusy.start(2)\nprint('hanging', flush=True)\ntime.sleep(1000)", WAITING)
    try:
        wait_for_hanging(process, 2)
        assert [row[8] for row in folder.rows("--status", "queued")] == ["its turn comes"]
    finally:
        kill(process)


# -- which run --------------------------------------------------------------------------------------------------------


def test_a_beginning_of_an_id_will_do_and_a_whole_id_wins(folder):
    folder.run("for id in (1, 10, 11, 2): buy({'id': id, 'item': 'x'})")
    assert folder.objects("show", "order-2")[0]["id"] == "order-2"
    assert folder.objects("show", "order-1")[0]["id"] == "order-1"
    assert folder.objects("show", "order-11")[0]["id"] == "order-11"
    several = folder.durable("show", "order")
    assert (several.returncode, several.stdout) == (3, "")
    for id in ("order-1", "order-10", "order-11", "order-2"):
        assert f"  {id}  buy\n" in several.stderr
    assert several.stderr.splitlines()[0].endswith("begins with 'order': give more letters")


def test_an_unknown_id_says_what_to_try(shop):
    for id in ("nothing", "ORDER-1", "order-1\udcff"):
        done = shop.durable("show", id)
        assert (done.returncode, done.stdout) == (3, "")
        assert "durable ls lists them" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert shop.durable("show", "nothing", "--json").returncode == 3


def test_many_candidates_are_cut(folder):
    folder.run("for id in range(20): buy({'id': id, 'item': 'x'})")
    lines = folder.durable("show", "order-").stderr.splitlines()
    assert len(lines) == 12
    assert lines[-1] == "  … and more"

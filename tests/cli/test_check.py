"""`durable check`: it says of a run what really happens to it, runs no step, and writes nothing."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_what_it_says_is_what_happens():
    """Some changes at some of the moments at which some programs were killed: `make corpus` tries all of them."""
    programs = ("sequence", "submitted", "children", "grouped", "guarded", "threads")
    options = ["--quiet", "--each=2", "--every=17", *(f"--program={program}" for program in programs)]
    command = [sys.executable, "-W", "ignore", "-m", "tests.cli.corpus", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 wrong" in done.stdout
    assert "would block" in done.stdout


# -- one by one -------------------------------------------------------------------------------------------------------


def verdicts(folder, module="shop", code=0):
    done = folder.durable("check", module, "--json")
    assert done.returncode == code, done.stderr
    return {each["id"]: each["verdict"] for each in map(json.loads, done.stdout.splitlines())}


def write(folder, name, text):
    (folder.path / name).write_text(textwrap.dedent(text))


SHOP = """
    import time
    import durable
    class Closed(Exception): ...
    @durable.step
    def init(order: dict) -> dict: {ran}
    @durable.step
    def fulfill(order: dict) -> str: {ran}
    @durable.step
    def call_back(order: dict) -> None: {ran}
    @durable.step
    def hang(order: dict) -> None: {ran}
    @durable.step
    async def fetch(url: str) -> str: {ran}
    @durable.workflow(id="order-{{order[id]}}")
    def buy(order: dict) -> str:
        print("the body runs")
        order = init(order)
        status = fulfill(order)
        if order.get("patient"): call_back(order)
        {hang}
        return status
    async def page(url):
        return await fetch(url) + await fetch(url + "/more")
    @durable.workflow(id="pages")
    async def pages(urls: list[str]) -> list[str]:
        import asyncio
        durable.now()
        return list(await asyncio.gather(*map(page, {urls})))
    @durable.workflow(id="moody")
    def moody(x: int) -> int:
        {moody}
        return x
"""
GOOD = {
    "ran": "open('ran', 'w')",
    "hang": "if order.get('hang'): hang(order)",
    "urls": "urls",
    "moody": "init({'at': time.time()})",
}


def test_runs_that_go_on_and_one_that_would_block_again(copy):
    write(copy, "new.py", SHOP.format(**GOOD))
    assert verdicts(copy, "new", code=1) == {
        "order-4": "goes on", "order-5": "goes on", "pages": "goes on", "moody": "would block",
    }  # fmt: skip
    assert not (copy.path / "ran").exists()


@pytest.fixture
def copy(folder, shop):
    for file in shop.path.glob("durable.db*"):
        shutil.copy(file, folder.path)
    return folder


@pytest.mark.parametrize(
    ("change", "blocked"),
    [
        ({"hang": "pass"}, {"order-5"}),
        ({"urls": "urls[:1]"}, {"pages"}),
        ({"urls": "reversed(urls)"}, {"pages"}),
        ({"moody": "raise ValueError"}, {"moody"}),
    ],
)
def test_changes(copy, change, blocked):
    write(copy, "new.py", SHOP.format(**{**GOOD, "moody": "init({'at': 0}) if 0 else None", **change}))
    found = verdicts(copy, "new", code=1)
    assert {id for id, verdict in found.items() if verdict == "would block"} == blocked | {"moody"}


def test_a_blocked_run_that_fits_again(copy):
    [run] = [each for each in copy.objects("show", "moody") if each["kind"] == "step"]
    write(copy, "new.py", SHOP.format(**{**GOOD, "moody": f"init({{'at': {run['input']['order']['at']!r}}})"}))
    assert set(verdicts(copy, "new").values()) == {"goes on"}


def test_workflows_that_are_gone_or_take_other_inputs(copy):
    write(copy, "new.py", SHOP.format(**GOOD).replace("def pages", "def sheets").replace("x: int", "z: int"))
    done = copy.durable("check", "new")
    assert done.returncode == 1
    rows = {row[2]: row for row in (line.split("\t") for line in done.stdout.splitlines())}
    assert rows["pages"][0] == "not declared"
    assert "new has no workflow of this name" in rows["pages"][3]
    assert rows["moody"][0] == "would block"
    assert "has no parameter 'x' any more" in rows["moody"][3]
    assert done.stderr == (
        "durable: 4 unfinished runs with new: 2 would go on, 1 would block, 1 of workflows that it does not declare\n"
    )


def test_while_the_owner_runs_and_on_a_read_only_journal(live, copy):
    write(live, "new.py", SHOP.format(**GOOD))
    assert verdicts(live, "new")["order-5"] == "goes on"
    write(copy, "new.py", SHOP.format(**GOOD))
    for file in copy.path.glob("durable.db*"):
        file.chmod(0o444)
    assert verdicts(copy, "new", code=1)["pages"] == "goes on"


def test_code_that_takes_long_is_given_up(copy):
    slow = GOOD | {"hang": "while order.get('hang'): time.sleep(0.01)"}
    write(copy, "new.py", SHOP.format(**slow))
    done = copy.durable("check", "new", "--timeout", "0.5", "--workflow", "buy")
    assert done.returncode == 1
    assert "unclear\tbuy\torder-5\tthe workflow's own code takes longer than 0.5 s" in done.stdout


def test_nothing_to_check(folder):
    folder.run("buy({'id': 1, 'item': 'x'})")
    write(folder, "new.py", SHOP.format(**GOOD))
    done = folder.durable("check", "new")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "durable: no unfinished runs in durable.db\n")
    done = folder.durable("check", "new", "--workflow", "pages")
    assert done.stderr == "durable: no unfinished runs of 'pages' in durable.db\n"
    assert folder.durable("check", "nowhere").returncode == 1
    assert folder.durable("check").returncode == 2
    assert folder.durable("--db", "nowhere.db", "check", "new").returncode == 1
    for text in ("x", "0", "-1", "nan"):
        done = folder.durable("check", "new", f"--timeout={text}")
        assert done.returncode == 2
        assert f"argument --timeout: '{text}' is no number of seconds: write one above 0, as 30 or 0.5" in done.stderr


FAMILY = """
@durable.step
def note(x: int) -> int:
    return x

@durable.workflow(id="child")
def child(x: int) -> int:
    durable.set_event("seen", x)
    return note(x) + 1

def asked(run):
    assert run in durable.runs()
    return [
        run.id, run.workflow, run.status, run.input["x"], run.error, str(run.created_at), str(run.finished_at),
        [step.name for step in run.steps()], run.event("seen"), run.event("seen", timeout=9), run.result(timeout=9),
        durable.get("child").result(),
    ]

@durable.workflow(id="parent")
def parent() -> None:
    run = child.start(1)
    note(run.result())
    for each in asked(run): note(len(str(each)))
    hang({})

@durable.workflow(id="aparent")
async def aparent() -> None:
    run = child.start(1)
    await fetch(str(await run))
    await fetch("hang")

parent.start(), aparent.start()
time.sleep(1000)
"""


def test_what_a_body_asks_of_a_run_that_has_ended(folder):
    """It goes on with the answer, and calls what the journal has after it."""
    folder.run_and_kill(FAMILY, hanging=2)
    program = (folder.path / "shop.py").read_text()
    (folder.path / "shop.py").write_text(program.partition("parent.start()")[0])
    assert verdicts(folder) == {"parent": "goes on", "aparent": "goes on"}


WAITS = """
@durable.workflow(id="child")
def child() -> None:
    hang({})

@durable.workflow(id="parent")
def parent() -> None:
    run = child.start()
    init({})
    hang({})

if __name__ == "__main__":
    parent.start()
    time.sleep(1000)
"""


@pytest.mark.parametrize(
    ("timeout", "why"), [("", "unless run 'child' ends first: "), ("9", "the code waits for run 'child'")]
)
def test_a_wait_for_a_run_that_may_have_ended_by_then(folder, timeout, why):
    """Which of the two comes first is not in the journal."""
    folder.run_and_kill(WAITS, hanging=2)
    waits = f"run = child.start(); run.result({timeout})"
    write(folder, "new.py", (folder.path / "shop.py").read_text().replace("run = child.start()", waits))
    [line] = folder.durable("check", "new").stdout.splitlines()
    assert line.startswith(f"unclear\tparent\tparent\t{why}")
    assert "has not called step 'init'" in line


def test_what_bodies_print_is_not_shown(copy):
    write(copy, "new.py", SHOP.format(**GOOD))
    text = copy.on_a_terminal("check", "new", NO_COLOR="1", width=80)
    assert "the body runs" not in text
    text = text.rpartition("\x1b[K")[2]  # after a line of progress, if it took that long
    assert text.splitlines()[0] == "⊠ would block  moody  moody"
    assert text.splitlines()[-1] == "4 unfinished runs with new: 3 would go on, 1 would block"
    assert max(map(len, text.splitlines())) <= 80
    text = copy.on_a_terminal("check", "new", NO_COLOR="1", width=30).rpartition("\x1b[K")[2]
    assert "3 would go on, 1 would block" in " ".join(text.splitlines())


def test_a_module_that_executes_is_refused(copy):
    before = copy.content()
    write(copy, "new.py", SHOP.format(**GOOD) + "\n    durable.resume()\n")
    done = copy.durable("check", "new")
    assert done.returncode == 1
    assert "executes runs when it is imported" in done.stderr
    after = {name: data for name, data in copy.content().items() if name.startswith("durable.db")}
    assert after == before
    assert os.path.exists(copy.path / "new.py")

"""Runs that have ended are deleted, by hand, by age, and by the owner itself; what is unfinished never is."""

import json
import signal
import sqlite3
import time
from contextlib import closing

import pytest

PROGRAM = """
import os, sys, time
import durable

durable.open("durable.db", keep=os.environ.get("KEEP"))

@durable.step(retry=None)
def work(n: int, fail: bool = False) -> str:
    if fail:
        raise ValueError(n)
    return "x" * 1000

@durable.workflow(id="run-{n}")
def flow(n: int, fail: bool = False) -> None:
    for _ in range(3):
        work(n, fail)

@durable.workflow(id="child-{n}")
def child(n: int, wait: bool) -> None:
    work(n)
    if wait:
        durable.wait_for_signal("go", int)

@durable.workflow(id="parent-{n}")
def parent(n: int, child_waits: bool, wait: bool) -> None:
    child.start(n, child_waits)
    while child_waits is False and durable.get(f"child-{n}").status != "completed":
        time.sleep(0.01)
    if wait:
        durable.wait_for_signal("go", int)

def attempt(call):
    try:
        call()
    except ValueError:
        pass
"""
FAMILIES = """
parent.start(1, False, False)
parent.start(2, True, False)
parent.start(3, False, True)
flow(1)
attempt(lambda: flow(2, True))
while durable.get("parent-1").status != "completed" or durable.get("parent-2").status != "completed": time.sleep(0.01)
while durable.get("child-2").status != "waiting" or durable.get("parent-3").status != "waiting": time.sleep(0.01)
"""


def count(folder, table):
    with closing(sqlite3.connect(folder.path / "durable.db")) as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def done(folder, *arguments, code=0):
    process = folder.durable(*arguments)
    assert process.returncode == code, process.stderr
    return process.stdout if not code else process.stderr


@pytest.fixture
def families(folder):
    folder.run(FAMILIES, PROGRAM)
    return folder


def test_gc_leaves_what_is_unfinished_and_whom_it_called(families):
    assert "0 runs" in done(families, "gc", "--older-than", "1h")
    assert "1 run deleted" in done(families, "gc", "--older-than", "0s", "--status", "failed")
    assert json.loads(done(families, "gc", "--older-than", "0s", "--json"))["count"] == 3
    assert set(families.ids()) == {"parent-2", "child-2", "parent-3", "child-3"}
    assert count(families, "durable_attempt") == 0
    left = {run["id"]: run["status"] for run in families.objects("ls")}
    assert left == {"parent-2": "completed", "child-2": "waiting", "parent-3": "waiting", "child-3": "completed"}


def test_rm_deletes_a_run_with_its_children(families):
    assert "2 runs deleted" in done(families, "rm", "parent-1")
    assert "1 run deleted" in done(families, "rm", "run-2")
    assert "run-2" not in families.ids()
    assert "no run" in done(families, "show", "run-2", code=3)


@pytest.mark.parametrize(("run_id", "why"), [
    ("parent-3", "parent-3 is waiting"),
    ("child-3", "the run that called it, parent-3 is waiting"),
    ("parent-2", "a run that it called, child-2 is waiting"),
    ("nothing", "no run"),
])  # fmt: skip
def test_rm_refuses_what_is_unfinished_or_belongs_to_it(families, run_id, why):
    before = families.ids()
    assert why in done(families, "rm", "run-1", run_id, code=3 if run_id == "nothing" else 1)
    assert families.ids() == before, "all of them or none"


RM_IS_LATE = """
import subprocess
from durable.cli import main
from durable.cli.commands import rm

delete = rm.delete

def delete_late(*arguments):
    for command in (["retry", "run-2"], ["rm", "run-1"]):
        subprocess.run([sys.executable, "-m", "durable", *command], stdout=subprocess.DEVNULL, check=True)
    return delete(*arguments)

rm.delete, sys.stderr = delete_late, sys.stdout
sys.exit(main(["rm", "run-1", "run-2", "parent-1"]))
"""


def test_rm_names_what_went_on_meanwhile_and_not_what_another_process_deleted(families):
    said = families.run(RM_IS_LATE, PROGRAM, expect=1)
    assert said.startswith("2 runs deleted\ndurable: run run-2 of 'flow' went on meanwhile, and is left as it is; only")
    assert said.endswith("durable cancel run-2 ends it\n")


FAILED = """
@durable.workflow(id="child")
def child() -> None:
    for n in range(350):  # more rows than one transaction deletes
        work.map([n] * 2)
    work(1, True)

@durable.workflow(id="parent")
def parent() -> None:
    child()
"""
RM_IS_KILLED = """
import signal
from durable._progress import Progress
from durable.cli import main

Progress.reach = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # it is told of each transaction
main(["rm", "parent"])
"""


def test_a_failed_run_and_its_children_are_deleted_at_once_or_not(folder):
    folder.run("attempt(parent)", PROGRAM + FAILED)
    before = folder.ids()
    folder.run(RM_IS_KILLED, PROGRAM, expect=-signal.SIGKILL)
    assert folder.ids() in ([], before), "one that is left alone would execute its children anew"


def test_gc_leaves_a_family_in_which_a_record_is_damaged(families):
    with closing(sqlite3.connect(families.path / "durable.db")) as connection, connection:
        connection.execute("UPDATE durable_run SET output = '1' WHERE id = 'child-1'")
    assert "1 run deleted" in done(families, "gc", "--older-than", "0s", "--status", "completed")
    with closing(sqlite3.connect(families.path / "durable.db")) as connection:
        left = {run_id for (run_id,) in connection.execute("SELECT id FROM durable_run WHERE status = 'completed'")}
    assert left == {"parent-1", "child-1", "parent-2", "child-3"}


def test_space_is_given_back_and_an_owner_goes_on_meanwhile(folder):
    folder.run("for n in range(200): flow(n)", PROGRAM)
    size = (folder.path / "durable.db").stat().st_size
    with folder.start("flow(1000)\nprint('ready', flush=True)\nfor n in range(2000, 2400): flow(n)", PROGRAM) as owner:
        assert owner.stdout.readline() == "ready\n"
        done(folder, "gc", "--older-than", "0s")
        assert owner.wait(60) == 0
    done(folder, "gc", "--older-than", "0s")
    assert count(folder, "durable_run") == count(folder, "durable_step") == 0
    assert (folder.path / "durable.db").stat().st_size < size / 4
    assert done(folder, "doctor").count("✗") == 0


def test_without_an_owner_the_file_is_smaller_at_once_and_lies_alone(folder):
    folder.run("for n in range(100): flow(n)", PROGRAM)
    size = (folder.path / "durable.db").stat().st_size
    assert "100 runs deleted" in done(folder, "gc", "--older-than", "0s")
    assert (folder.path / "durable.db").stat().st_size < size / 4
    assert not {"durable.db-wal", "durable.db-shm"} & {path.name for path in folder.path.iterdir()}


def test_the_owner_deletes_what_is_older_than_keep(families):
    families.environment["KEEP"] = "1s"
    time.sleep(1.1)
    families.run("""
        flow(10)
        deadline = time.monotonic() + 60
        while len(durable.runs()) > 5 and time.monotonic() < deadline: time.sleep(0.05)
    """, PROGRAM)  # fmt: skip
    assert set(families.ids()) - {"run-10"} == {"parent-2", "child-2", "parent-3", "child-3"}

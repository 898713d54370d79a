"""A signal handler that closes the engine: it strikes in what its own thread is at, which goes on only after it."""

import subprocess
import sys

import pytest

import durable
from tests.behaviour.patience import PATIENCE

PROGRAM = """
import asyncio, signal, sys
import durable
from durable import _commits, _port
from durable._journal import Journal
from durable._transaction import Transaction

how, where, then = sys.argv[1:]
_commits._CLOSE_SECONDS = _port._QUICK_SECONDS = 1000.0

@durable.step(name="work")
def work(number):
    if where == "in a step" and number == 3:
        signal.raise_signal(signal.SIGTERM)
    return number

@durable.step(name="work")
async def work_async(number):
    return number

@durable.workflow(name="flow", id="run")
def flow():
    return [work(number) for number in range(6)][-1]

@durable.workflow(name="flow_async", id="run")
async def flow_async():
    return [await work_async(number) for number in range(6)][-1]

def strike(function):
    def commit(self, rows, full):
        is_it = full and type(rows) is tuple and rows[2] == 3
        if is_it and where == "before a commit":
            signal.raise_signal(signal.SIGTERM)
        result = function(self, rows, full)
        if is_it and where == "after a commit":
            signal.raise_signal(signal.SIGTERM)
        return result
    return commit

def finish_run(self, record):
    if where == "in the transaction that ends the run":
        signal.raise_signal(signal.SIGTERM)
    return finish(self, record)

def handler(*_):
    print("closing", flush=True)
    durable.close()
    print("closed", flush=True)
    if then == "exits":
        sys.exit(7)

Journal.put_alone = strike(Journal.put_alone)
finish, Transaction.finish_run = Transaction.finish_run, finish_run
signal.signal(signal.SIGTERM, handler)
durable.open("journal.db")
try:
    print(flow() if how == "sync" else asyncio.run(flow_async()))
except BaseException as error:
    print(type(error).__name__)
"""
"""Six steps; it is struck in the fourth, or at the end."""


STRUCK = [(how, where) for how in ("sync", "async") for where in ("before a commit", "after a commit")]
IN_OTHER_CODE = [("sync", "in a step"), ("sync", "in the transaction that ends the run")]


@pytest.mark.parametrize("then", ["exits", "returns"])
@pytest.mark.parametrize(("how", "where"), STRUCK + IN_OTHER_CODE)
def test_what_it_strikes_in_is_not_waited_for_and_the_next_process_goes_on(tmp_path, how, where, then):
    def run(where):
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, how, where, then],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip

    struck = run(where)
    first, second, ended = struck.stdout.split()
    assert (first, second) == ("closing", "closed"), struck.stderr
    assert ended in ({"SystemExit"} if then == "exits" else {"RunInterruptedError", "EngineClosedError"})
    with durable.open(tmp_path / "journal.db") as engine:
        assert engine.get("run").status == "interrupted"
        done = [step.position for step in engine.get("run").steps() if step.status == "completed"]
        assert done == list(range({"after a commit": 4, "in the transaction that ends the run": 6}.get(where, 3)))
    again = run("nowhere")
    assert (again.stdout, again.returncode) == ("5\n", 0), again.stderr

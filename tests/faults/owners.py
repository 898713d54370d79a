"""Processes that race to own one journal: by fork, spawn and forkserver, and servers that open it before they fork.

A trial starts several at once. One may own the journal; all others get an error that says so, and write nothing.
"""

import contextlib
import json
import multiprocessing
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import durable

from .tally import Tally

PROCESSES = 3
PATIENCE_SECONDS = 20.0
"""What a process may wait until it is told that another one owns the journal, on a machine that is busy."""
METHODS = ("fork", "server", "forkserver", "fork", "server", "fork", "server") * 4 + ("spawn", "spawn")


@durable.step(name="mark")
def mark(who: int) -> int:
    return os.getpid()


@durable.workflow(name="race", id="race-{who}")
def race(who: int) -> int:
    return mark(who)


def contend(path: str, who: int, line: Any, done: Any, answers: Any) -> None:
    """Try to execute a run when all stand in line; say what came of it, and how long that took."""
    line.wait(30)
    answers.put(_attempt(lambda: durable.open(path), who))
    done.wait(30)
    durable.close()


def _attempt(open_engine: Callable[[], Any], who: int) -> dict[str, Any]:
    begun_at = time.monotonic()
    owner = None
    try:
        open_engine()
        outcome = "owner" if race(who) == os.getpid() else "another's result"
    except durable.JournalLockedError as error:
        outcome, owner = "locked", error.pid
    except durable.EngineClosedError:
        outcome = "closed"
    except BaseException as error:
        outcome = f"{type(error).__name__}: {error}"[:120]
    return {"who": who, "pid": os.getpid(), "outcome": outcome, "owner": owner, "seconds": time.monotonic() - begun_at}


def serve(path: str, forks_at: int, answers: Any) -> None:
    """A server that preloads: it opens the journal and executes on it, then forks workers; some use its engine."""
    durable.open(path)
    answers.put(_attempt(lambda: None, 0))
    for who in range(1, PROCESSES):
        pid = os.fork()
        if pid == 0:
            inherits = (forks_at + who) % 2
            answer = _attempt((lambda: None) if inherits else (lambda: durable.open(path)), who)
            answer["expected"] = "closed" if inherits else "locked"
            Path(f"{path}.{who}").write_text(json.dumps(answer))
            os._exit(0)
        os.waitpid(pid, 0)
        answers.put(json.loads(Path(f"{path}.{who}").read_text()))
    answers.put(_attempt(lambda: None, PROCESSES))  # and it is the owner still
    durable.close()


def run(trials: int, seed: int, base: Path) -> Tally:
    tally = Tally()
    dice = random.Random(f"owners {seed}")
    contexts = {name: multiprocessing.get_context(name) for name in ("fork", "forkserver", "spawn")}
    contexts["forkserver"].set_forkserver_preload(["tests.faults.owners"])
    for number in range(trials):
        method = METHODS[number % len(METHODS)]
        path = str(base / f"{number}.db")
        if dice.random() < 0.5:  # an owner before them
            _one_after_the_other(contexts["fork"], path)
        answers = _race(contexts, method, path)
        tally.begin()
        tally.facts[method] += 1
        tally.facts["refused after more than 1 s"] += any(
            answer["seconds"] > 1 and answer["outcome"] == "locked" for answer in answers
        )
        for fault in _look(answers, path, is_server=method == "server"):
            tally.fault(fault, f"{method}, trial {number}: {answers}")
        for each in base.glob(f"{number}.db*"):
            each.unlink()
    return tally


def _one_after_the_other(context: Any, path: str) -> None:
    process = context.Process(target=_own_once, args=(path,))
    process.start()
    process.join()


def _own_once(path: str) -> None:
    durable.open(path)
    race(99)
    durable.close()


def _race(contexts: dict[str, Any], method: str, path: str) -> list[dict[str, Any]]:
    context = contexts.get(method, contexts["fork"])
    answers = context.Queue()
    if method == "server":
        processes = [context.Process(target=serve, args=(path, random.getrandbits(1), answers))]
        expected = PROCESSES + 1
        done = None
    else:
        line, done = context.Barrier(PROCESSES), context.Event()
        processes = [context.Process(target=contend, args=(path, who, line, done, answers)) for who in range(PROCESSES)]
        expected = PROCESSES
    for process in processes:
        process.start()
    found = [answers.get(timeout=60) for _ in range(expected)]
    if done is not None:
        done.set()
    for process in processes:
        process.join()
    return found


def _look(answers: list[dict[str, Any]], path: str, *, is_server: bool) -> list[str]:
    faults = []
    owners = [answer for answer in answers if answer["outcome"] == "owner"]
    if len({answer["pid"] for answer in owners}) != 1:
        faults.append(f"{len({answer['pid'] for answer in owners})} owners")
    for answer in answers:
        outcome = answer["outcome"]
        if outcome not in {"owner", "locked", "closed"} or (outcome == "closed" and not is_server):
            faults.append(f"not clear: {outcome}")
        if "expected" in answer and outcome != answer["expected"]:
            faults.append(f"{outcome} in place of {answer['expected']}")
        if outcome == "locked" and owners and answer["owner"] not in {owners[0]["pid"], None}:
            faults.append("another owner named")
        if answer["seconds"] > PATIENCE_SECONDS and outcome != "owner":  # whose run may take as long as it likes
            faults.append("far too late")
    engine = durable.Engine(path)
    with contextlib.closing(engine):
        written = {run.id: run.result() for run in engine.runs() if run.id != "race-99"}
    if written != {f"race-{answer['who']}": answer["pid"] for answer in owners}:
        faults.append("silent writes")
    return faults

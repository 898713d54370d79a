"""What others do to the runs of a random program: at any moment, between two lives, from this process or another one."""

import asyncio
import contextlib
import json
import os
import random
import select
import signal
import threading
import time
from pathlib import Path
from typing import Any, Final

import durable
from durable._active import ENGINE
from durable.cli import main as command
from tests.parallel import vocabulary
from tests.parallel.vocabulary import Life
from tests.parallel.writer import POKE

ACTS: Final = ["cancel child", "cancel child", "poke", "poke", "poke child", "retry child", "retry child", "cancel"]
"""What somebody may do: to main, or to any child."""
GOING_ON: Final = ["call", "call", "resume"]
"""What he may do besides: execute it himself, or have it executed, if nobody else does."""
_PATIENCE_SECONDS: Final = 8.0
_WORD: Final = json.loads(POKE)


def act(engine: durable.Engine, what: str, life: Life, main: Any = None) -> None:
    """Do it, and note it once that is on disk; not where the run has ended, was not there yet, or the process dies."""
    if what == "call":
        ENGINE.set(engine)  # of this thread: a `with` would close it
        with contextlib.suppress(BaseException):  # whatever main raises is for him who leads this life
            asyncio.run(main()) if main.is_async else main()
        return
    with contextlib.suppress(durable.DurableError):
        if what == "cancel":
            engine.get("trial").cancel()
            life.note("cancelled")
        elif what == "poke":
            value = f"{life.dice.getrandbits(64):x}"
            engine.get("trial").signal(_WORD, value)
            life.note("poked", value)
        elif what == "resume":
            engine.resume()
        else:
            _act_on_child(engine, what, life)


def _act_on_child(engine: durable.Engine, what: str, life: Life) -> None:
    children = [run for run in engine.runs() if run.workflow != "main"]
    if what == "retry child":  # not one that was started: what came of that is journaled nowhere else
        started = {step.output for run in engine.runs() for step in run.steps() if step.kind == "start"}
        children = [run for run in children if run.status == "failed" and run.id not in started]
    if not children:
        return
    child = life.dice.choice(children)
    if what == "cancel child":
        child.cancel()
    elif what == "poke child":
        child.signal(_WORD, "")
    else:
        life.note("retried", child.id, child.input["who"])  # it may begin before this returns
        child.retry()


def visit(path: Path, what: str, seed: str) -> list[list[str]]:
    """Open the journal, do it, and close it again; returns what there is to note."""
    engine, life = durable.Engine(path, threads=4), Life(seed, "none", 0)
    vocabulary.begin_life(life, engine, slow_disk=False)
    try:
        act(engine, what, life)
        if what == "resume":
            time.sleep(life.dice.choice([0.0, 0.005, 0.05]))
    finally:
        engine.close()
    return life.notes


def type_command(path: Path, what: str, seed: str) -> list[list[str]]:
    """The same by the command line, where it is done to main."""
    value = f"{random.Random(seed).getrandbits(64):x}"
    words = {"cancel": ["cancel", "trial"], "poke": ["signal", "trial", _WORD, json.dumps(value)]}
    if what not in words:
        return visit(path, what, seed)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        code = command([*words[what], "--db", str(path)])
    return [] if code else [["cancelled"] if what == "cancel" else ["poked", value]]


class Neighbour:
    """Another process, which does what it is told to until this one closes it."""

    def __init__(self, path: Path, seed: str) -> None:
        mine, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            with contextlib.suppress(BaseException):
                os.close(self._orders)
                for order in os.fdopen(mine):
                    dice = random.Random(f"{seed}{order}")
                    do = dice.choice([visit, type_command])
                    os.write(
                        answers,
                        (json.dumps(do(path, order.strip().partition(" ")[2], f"{seed}{order}")) + "\n").encode(),
                    )
            os._exit(0)
        os.close(mine)
        os.close(answers)
        self._number = 0
        self._guard = threading.Lock()

    def act(self, what: str, life: Life) -> None:
        """Have it done, and wait for that."""
        with self._guard, contextlib.suppress(OSError):
            self._number += 1
            os.write(self._orders, f"{self._number} {what}\n".encode())
            answer = b""
            while not answer.endswith(b"\n"):
                if not select.select([self._answers], [], [], _PATIENCE_SECONDS)[0]:
                    return  # forked beside threads of a life that is stuck, it may be so too
                if not (part := os.read(self._answers, 1000)):
                    return
                answer += part
            for note in json.loads(answer):
                life.note(*note)

    def close(self) -> list[list[str]]:
        """Returns what there is to note of what it has done when he who had asked for it was dead."""
        os.close(self._orders)
        answers = b""
        while select.select([self._answers], [], [], _PATIENCE_SECONDS)[0]:
            if not (part := os.read(self._answers, 1000)):
                break
            answers += part
        os.close(self._answers)
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        return [note for answer in answers.splitlines() for note in json.loads(answer)]


def visit_elsewhere(path: Path, what: str, seed: str) -> list[list[str]]:
    """Do it from another process, which ends then."""
    neighbour, life = Neighbour(path, seed), Life("", "none", 0)
    try:
        neighbour.act(what, life)
    finally:
        neighbour.close()
    return life.notes


def unread(query: Any, value: str) -> bool:
    """Whether a signal of main is neither there nor read, or both, though main has not ended."""
    text = json.dumps(value)
    kept = query(f"SELECT 1 FROM durable_message WHERE run = 1 AND kind = 'signal' AND value = '{text}'")
    read = query(f"SELECT 1 FROM durable_step WHERE run = 1 AND kind = 'signal' AND output = '{text}'")
    ended = query("SELECT 1 FROM durable_run WHERE seq = 1 AND finished_at IS NOT NULL")
    return not ended and len(kept) + len(read) != 1

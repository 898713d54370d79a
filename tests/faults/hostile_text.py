"""Hostile text in names, inputs, results and errors, as `durable ls` and `durable show` print it.

A trial is one text. Nothing that a terminal obeys may come out: no control byte but the line feeds and the colours that
the command itself writes, no character that turns the direction of a line.
"""

import contextlib
import io
import os
import random
import re
import unicodedata
from pathlib import Path
from typing import Any

import durable
from durable import cli

from .tally import Tally

BATCH = 100
TERMINAL = os.openpty()[1]
PIECES = (
    "\x1b[2J", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\", "\x1bP", "\x9b31m", "\x9d", "\x90", "\r", "\b\b\b", "\x07",
    "\x00", "\x0b", "\x0c", "\x7f", "\x85", "\u2028", "\u2029", "\u202e", "\u2066", "\u200f", "\u061c", "\ufeff", "\n",
    "\n\n", "\t", "\ud800", "\udc9b", "\U000e0001", "e\u0301", "\u0e33", "한", "👩‍👩‍👧", "a", " ", "\\x1b", "\\", "'", '"', "{", "$type",
)  # fmt: skip
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
TURNING = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")


class Hostile(Exception):
    """Raised with a hostile text."""


@durable.step(name="say", retry=None)
def say(text: Any, fails: bool) -> Any:
    if fails:
        raise Hostile(text)
    return {"result": [text]}


def run(trials: int, seed: int, base: Path) -> Tally:
    tally = Tally()
    dice = random.Random(f"text {seed}")
    while tally.trials < trials:
        path = base / f"{tally.trials}.db"
        texts = [_text(dice) for _ in range(min(BATCH, trials - tally.trials))]
        with durable.Engine(path, durability="process") as engine:
            for number, text in enumerate(texts):
                tally.begin()
                _run_one(text, number, dice)
            ids = [found.id for found in engine.runs(limit=BATCH)]
        commands = [["ls"], ["ls", "--json"], *(["show", each, *dice.choice([[], ["--json"]])] for each in ids)]
        for command in commands:
            terminal = dice.random() < 0.5
            for bad in _bad(_output(["--db", str(path), *command], terminal), terminal=terminal):
                tally.fault(f"{command[0]} prints {bad}", f"batch at {tally.trials}, {command}")
        tally.facts["outputs"] += len(commands)
    return tally


def _text(dice: random.Random) -> str:
    if dice.random() < 0.3:
        return "".join(
            chr(dice.choice([dice.randrange(0x110000), dice.randrange(0x300)])) for _ in range(dice.randint(1, 20))
        )
    return "".join(dice.choice(PIECES) for _ in range(dice.randint(1, 12)))


def _run_one(text: str, number: int, dice: random.Random) -> None:
    fails = dice.random() < 0.4
    where = dice.randrange(3)
    name = f"say{text}" if where == 0 else "say"

    def body(text: Any) -> Any:
        return say.with_options(name=name)(text, fails)

    with contextlib.suppress(ValueError, durable.DurableError, Hostile):
        flow = durable.workflow(name=f"flow{text}" if where == 1 else "flow")(body)
        run_id = f"{number}{text}" if where == 2 else str(number)
        flow.with_options(id=run_id)({text: [text]} if dice.random() < 0.5 else text)


def _output(arguments: list[str], terminal: bool) -> str:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    out.isatty = lambda: terminal  # type: ignore[method-assign]
    out.fileno = lambda: TERMINAL  # type: ignore[method-assign]
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.suppress(SystemExit):
        cli.main(arguments)
    found = b""
    for stream in (out, err):
        stream.flush()
        found += stream.buffer.getvalue()  # type: ignore[attr-defined]
    return found.decode("utf-8", "surrogateescape")


def _bad(output: str, *, terminal: bool) -> set[str]:
    allowed = "\n" if terminal else "\n\t"  # between columns, for programs that read them
    return {
        f"U+{ord(character):04X}"
        for character in COLOURS.sub("", output)
        if (unicodedata.category(character) in {"Cc", "Cs"} and character not in allowed) or character in TURNING
    }

"""What the program of each peer has in common: the commands, the answers, and nothing but the standard library.

A command is a line: `sequence STEPS` is one run of so many trivial steps, one after the other; `crowd RUNS STEPS` is
many such runs at once. The answer is the seconds from the call to the result.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

SYNCHRONOUS = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}


def settings(journal_mode: str, synchronous: int) -> str:
    """What SQLite says of the peer's own connection."""
    return f"SQLite: journal_mode={journal_mode}, synchronous={SYNCHRONOUS[synchronous]}"


def serve(
    distribution: str, durability: str, sequence: Callable[[int], object], crowd: Callable[[int, int], object]
) -> None:
    """Answer commands until the input ends. What the library prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    commands = {"sequence": sequence, "crowd": crowd}
    facts = {"version": _version(distribution), "durability": durability, "python": sys.version.split()[0]}
    print(json.dumps(facts), file=answers)
    for line in sys.stdin:
        command, *sizes = line.split()
        began = time.perf_counter()
        commands[command](*map(int, sizes))
        print(json.dumps({"seconds": time.perf_counter() - began}), file=answers)


def _version(distribution: str) -> str:
    try:
        return f"{distribution} {version(distribution)}"
    except PackageNotFoundError:  # run from its sources
        return distribution

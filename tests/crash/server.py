"""A process that has imported everything and opened nothing, and forks a child for each program that it is to run.

A line of JSON on stdin is one program: `program`, `folder`, `die_at` (0: never), `resume`. A line on stdout is how its
process ended: 0, or the negative number of the signal. Starting Python anew for each would take ten times as long.
"""

import asyncio  # noqa: F401 - imported once, here
import datetime as dt  # noqa: F401 - as above
import gc
import hashlib  # noqa: F401 - as above
import json
import os
import sys
import traceback
import uuid  # noqa: F401 - as above
from collections.abc import Callable
from pathlib import Path
from typing import Any

import durable
from durable import _listing, _running_async, _steering, aio  # noqa: F401 - as above


def warm_up() -> None:
    """What takes programs long, once for all children."""
    assert durable.converter
    gc.freeze()  # what is here already is not copied into each child


def fork(function: Callable[[], object], folder: Path) -> int:
    """Call `function` in a child, whose output goes to a file; return its pid."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(output, 1)
            os.dup2(output, 2)
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return pid


def run(order: dict[str, Any]) -> int:
    from tests.crash import programs, waiting_programs  # noqa: F401 - nobody else's: they change what a long wait is

    folder = Path(order["folder"])
    pid = fork(lambda: programs.execute(order["program"], folder, order["die_at"], order["resume"]), folder)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    warm_up()
    for line in sys.stdin:
        print(run(json.loads(line)), flush=True)

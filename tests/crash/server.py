"""A process that has imported everything and opened nothing, and forks a child for each program that it is to run.

A line of JSON on stdin is one program: `program`, `folder`, `die_at` (0: never), `resume`. A line on stdout is how its
process ended: 0, or the negative number of the signal. Starting Python anew for each would take ten times as long.
"""

import asyncio  # noqa: F401 - imported once, here
import json
import os
import sys
import traceback
from pathlib import Path

from durable import _retrying, _running_async  # noqa: F401 - imported once, here
from tests.crash import programs


def run(order: dict) -> int:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            output = os.open(Path(order["folder"]) / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            programs.execute(order["program"], Path(order["folder"]), order["die_at"], order["resume"])
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    for line in sys.stdin:
        print(run(json.loads(line)), flush=True)

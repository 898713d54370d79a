"""How soon a signal wakes a run that waits, suspended: `python benchmarks/programs/signals.py FILE [COUNT]`.

Tells in JSON the median and the worst of so many (50), in seconds from before the call of `signal` until the body goes
on: signalled by the process that executes the runs, and by another one. Each is sent at a random moment, since the
owner looks a few times a second whether another process has written something.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import time

import durable


@durable.workflow(id="{number}")
def waits(number: int) -> float:  # noqa: ARG001 - its id
    sent = durable.wait_for_signal("go", float)
    return time.monotonic() - sent  # the same clock in all processes of a machine


def send(number: int) -> None:
    """Wait until the run is suspended, and for a while; then wake it."""
    run = found(number)
    while run.status != "waiting":
        time.sleep(0.005)
    time.sleep(random.uniform(0.0, 0.3))
    run.signal("go", time.monotonic())


def found(number: int) -> durable.Run[float]:
    while True:
        try:
            return durable.get(str(number))
        except durable.DurableError:  # not there yet, or no journal at all
            time.sleep(0.01)


def execute(path: str, numbers: range, *, alone: bool) -> list[float]:
    """Execute the runs, one after the other; `alone`: and send the signals too."""
    seconds = []
    with durable.open(path):
        for number in numbers:
            run = waits.start(number)
            if alone:
                send(number)
            seconds.append(run.result(60))
    return seconds


def both(path: str, count: int) -> dict[str, dict[str, float]]:
    here = execute(path, range(count), alone=True)
    command = [sys.executable, __file__, path, str(count), "executes"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        with durable.open(path):
            for number in range(count, 2 * count):
                send(number)
        elsewhere = json.loads(process.communicate()[0])
    return {
        name: {"median": statistics.median(seconds), "worst": max(seconds)}
        for name, seconds in {"same process": here, "other process": elsewhere}.items()
    }


if __name__ == "__main__":
    path, count = sys.argv[1], int((*sys.argv, "50")[2])
    executes = sys.argv[3:] == ["executes"]
    print(json.dumps(execute(path, range(count, 2 * count), alone=False) if executes else both(path, count)))

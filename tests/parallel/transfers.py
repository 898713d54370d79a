"""Runs of transactional steps, killed with SIGKILL at random effects until they complete.

`python -m tests.parallel.transfers --kills 1000` prints a table, and exits with 1 when after any kill the user's table had
a row without a completed step, or a completed step without its row, or a step had run twice.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import apsw

import durable
from durable import RetryPolicy
from durable._journal import Journal

STEPS = 12
QUICK = RetryPolicy(initial_interval=0.001, maximum_attempts=0, jitter=0)


@durable.step(transaction=True, retry=QUICK)
def transfer(number: int) -> int:
    connection = durable.connection()
    connection.execute("CREATE TABLE IF NOT EXISTS account (number)")
    moment()
    connection.execute("INSERT INTO account VALUES (?)", (number,))
    moment()
    if number % 5 == 4 and durable.info().attempt % 2:
        raise ConnectionError(number)
    return number


@durable.step
def other(number: int) -> int:
    return number


@durable.workflow(name="in_a_row", id="run")
def in_a_row() -> None:
    for number in range(STEPS):
        transfer(number)


@durable.workflow(name="side_by_side", id="run")
def side_by_side() -> None:
    beside = [other.submit(number) for number in range(4)]
    transfer.map(range(STEPS), concurrency=3)
    for future in beside:
        future.result()


@durable.workflow(name="in_threads", id="run")
async def in_threads() -> None:
    for first in range(0, STEPS, 4):
        await asyncio.gather(*(asyncio.to_thread(transfer, number) for number in range(first, first + 4)))


PROGRAMS = [in_a_row, side_by_side, in_threads]

left = 0


def moment() -> None:
    """One effect at which the process may die."""
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def around(function: Any) -> Any:
    def wrapper(*args: Any) -> Any:
        moment()
        result = function(*args)
        moment()
        return result

    return wrapper


def live(path: Path, program: Any, moments: int) -> None:
    """In a child of fork: die at that moment, or complete."""
    global left
    left = moments
    Journal.begin, Journal.commit, Journal.put_alone = map(  # type: ignore[method-assign]
        around, (Journal.begin, Journal.commit, Journal.put_alone)
    )
    durable.open(path)
    if program.is_async:
        asyncio.run(program())
    else:
        program()
    durable.close()


def judge(path: Path) -> Counter[str]:
    connection = apsw.Connection(str(path))
    try:
        completed = [
            output
            for (output,) in connection.execute(
                "SELECT output FROM durable_step WHERE kind = 'step' AND name = 'transfer' AND status = 'completed'"
            )
        ]
    except apsw.SQLError:  # killed before the tables were there
        return Counter()
    try:
        rows = [str(number) for (number,) in connection.execute("SELECT number FROM account")]
    except apsw.SQLError:
        rows = []
    finally:
        connection.close()
    return Counter(
        {
            "rows without a step": len(set(rows) - set(completed)),
            "steps without a row": len(set(completed) - set(rows)),
            "rows that came twice": len(rows) - len(set(rows)),
        }
    )


FAULTS = ("rows without a step", "steps without a row", "rows that came twice", "broken")


def one_journal(path: Path, dice: random.Random) -> Counter[str]:
    """Kill and run again until the program completes."""
    seen: Counter[str] = Counter(journals=1)
    program = dice.choice(PROGRAMS)
    while True:
        moments = dice.randint(1, STEPS * 7)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                live(path, program, moments)
                status = 0
            finally:
                os._exit(status)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        seen.update(judge(path))
        if code == -signal.SIGKILL:
            seen["kills"] += 1
            continue
        seen["broken"] += code != 0
        return seen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    options = parser.parse_args()
    assert durable.converter  # imports what each child of fork would have to import by itself
    dice, begun_at = random.Random(options.seed), time.monotonic()
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="durable-transfers-") as base:
        while seen["kills"] < options.kills:
            seen.update(one_journal(Path(base) / f"{seen['journals']}.db", dice))
    seen["seconds"] = round(time.monotonic() - begun_at)
    print(f"seed {options.seed}")
    for name in ("journals", "kills", *FAULTS, "seconds"):
        print(f"{name:22}{seen[name]:8}")
    return int(any(seen[fault] for fault in FAULTS))


if __name__ == "__main__":
    from tests.parallel import transfers  # under its own name, which is the one in the journal

    sys.exit(transfers.main())

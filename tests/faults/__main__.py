"""`python -m tests.faults ROW --trials N --seed S`: the trials of one row of docs/reliability.md.

Without ROW it lists them; `all` is each in turn. It prints what was counted, how to repeat the first faults, and exits with 1 when there are any.
"""

import argparse
import gc
import importlib
import json
import logging
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .rows import ROWS, Row
from .tally import EnoughError, Tally


def execute(row: Row, trials: int, seed: int) -> Tally:
    module, _, function = row.run.partition(":")
    with tempfile.TemporaryDirectory(prefix=f"durable-faults-{row.name}-", dir=_memory(row)) as base:
        try:
            return getattr(importlib.import_module(f"tests.faults.{module}"), function or "run")(
                trials, seed, Path(base)
            )
        except EnoughError as enough:
            return enough.args[0]


def _against(row: Row, trials: int, seed: int) -> int:
    from . import against

    with tempfile.TemporaryDirectory(prefix=f"durable-faults-{row.name}-", dir=_memory(row)) as base:
        found = against.compare(row.name, trials, seed, Path(base))
    print(f"{row.name}, seed {seed}")
    print(*against.table(found), sep="\n")
    return int(bool(next(iter(found.values())).faults))


def _memory(row: Row) -> str | None:
    """In memory where there is such a place: power loss is simulated, and the rest survives the process there too."""
    return "/dev/shm" if row.in_memory and Path("/dev/shm").is_dir() else None


def _in_a_process(name: str, options: argparse.Namespace) -> int:
    command = [sys.executable, "-m", "tests.faults", name, f"--seed={options.seed}"] + ["--full"] * options.full
    return subprocess.run(command, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.partition("\n")[0])
    parser.add_argument("row", nargs="?", choices=[*ROWS, "all"])
    parser.add_argument("--trials", type=int, help="default: as many as in make test")
    parser.add_argument("--full", action="store_true", help="as many as in make faults")
    parser.add_argument("--seconds", type=float, help="end earlier, after so long")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--without", metavar="GUARD", help="with a guard of the library switched off: see mutants.py")
    parser.add_argument("--against", choices=["dbos"], help="kills or power: the same trials on that library, too")
    parser.add_argument("--record", type=Path, metavar="FILE", help="append the counts to FILE, a line of JSON")
    options = parser.parse_args()
    if options.row is None:
        width = shutil.get_terminal_size().columns
        for row in ROWS.values():
            print(f"{row.name:14}{row.full:>8,} trials  {row.promise}"[:width])
        return 0
    if options.row == "all":
        return max([_in_a_process(name, options) for name in ROWS])
    if options.without:
        from .mutants import MUTANTS

        MUTANTS[options.without].apply()
        Tally.one_is_enough = True
    row = ROWS[options.row]
    trials = row.full if options.full else options.trials or row.small
    gc.freeze()
    logging.getLogger("durable").addHandler(logging.NullHandler())
    begun_at = time.monotonic()
    if options.seconds:
        Tally.deadline = begun_at + options.seconds
    if options.against:
        return _against(row, options.trials or row.small, options.seed)
    tally = execute(row, trials, options.seed)
    seconds = round(time.monotonic() - begun_at, 1)
    facts = ", ".join(f"{name} {count:,}" for name, count in tally.facts.items())
    print(f"{row.name}: {tally.trials:,} trials, seed {options.seed}, {seconds} s; {facts}")
    for kind, count in tally.faults.items():
        print(f"  FAULT {kind}: {count:,}")
    for how in tally.how:
        print(f"  {how}")
    if options.record:
        found = {"row": row.name, "seed": options.seed, "seconds": seconds, **tally.as_json()}
        with options.record.open("a") as file:
            file.write(json.dumps(found) + "\n")
    return int(bool(tally.faults))


if __name__ == "__main__":
    sys.exit(main())

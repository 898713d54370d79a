"""Programs killed after each of their commits, and changed in every small way: does `durable check` say what happens?

    python -m tests.cli.corpus [--each N] [--every N] [--program NAME] [--quiet]

What happens is found out by trying: on a copy of the journal, with the changed program. The exit code is 1 where that
is not what was said.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .changes import changed
from .programs import BASES, source
from .trials import Trial, in_child, journals, try_out

MEMORY = "/dev/shm"
"""Where journals cost no disk: what they are does not depend on it."""


def trials(base: str, each: int | None = None, every: int = 1) -> Iterator[Trial]:
    """All changes of a program, or so many drawn from them, for each of its journals, or for some."""
    changes = changed(source(base))
    with tempfile.TemporaryDirectory(dir=MEMORY if os.path.isdir(MEMORY) else None) as folder:
        here = Path(folder) / base
        here.mkdir()
        for journal in journals(source(base), here, every):
            names = list(changes)
            if each is not None and each < len(names):
                names = random.Random(f"{base} {journal.name}").sample(names, each)
            status, lines = in_child(
                lambda tell, journal=journal, names=names: try_out(journal, {n: changes[n] for n in names}, tell)
            )
            assert status == 0, (base, journal.name, lines[-1:])
            yield from (Trial(*line) for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, metavar="N", help="so many changes for each journal; default: all")
    parser.add_argument("--every", type=int, metavar="N", default=1, help="only every N-th commit")
    parser.add_argument("--program", choices=BASES, action="append")
    parser.add_argument("--quiet", action="store_true", help="only what is wrong, and the table")
    options = parser.parse_args()
    total: Counter[tuple[str, str]] = Counter()
    programs, deploys, wrong = 0, 0, 0
    for base in options.program or BASES:
        began, counts, seen = time.monotonic(), Counter(), set()
        for trial in trials(base, options.each, options.every):
            counts[trial.said, trial.happened] += 1
            seen.add((trial.journal, trial.change))
            if not trial.is_right:
                wrong += 1
                print(trial, flush=True)
        total += counts
        deploys += len(seen)
        programs += len(changed(source(base)))
        if not options.quiet:
            words = ", ".join(f"{said}/{happened} {number}" for (said, happened), number in sorted(counts.items()))
            print(f"{base}: {len(seen)} deploys, {time.monotonic() - began:.0f} s: {words}", flush=True)
    print(f"{programs} changed programs, {deploys} deploys, {sum(total.values())} runs, {wrong} wrong")
    for (said, happened), number in sorted(total.items()):
        print(f"{said:14} {happened:12} {number:7,}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())

"""Programs killed after each of their commits, and changed in every small way: does `durable check` say what happens?

    python -m tests.cli.corpus [--each N] [--seed N] [--every N] [--program NAME] [--jobs N] [--quiet]

What happens is found out by trying: on a copy of the journal, with the changed program. The exit code is 1 where that
is not what was said.
"""

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from .changes import changed
from .programs import BASES, source
from .trials import Trial, in_child, journals, try_out

MEMORY = "/dev/shm"
"""Where journals cost no disk: what they are does not depend on it."""


def trials(base: str, each: int | None = None, every: int = 1, seed: int = 0) -> Iterator[Trial]:
    """All changes of a program, or so many drawn from them, for each of its journals, or for some."""
    changes = changed(source(base))
    with tempfile.TemporaryDirectory(dir=MEMORY if os.path.isdir(MEMORY) else None) as folder:
        here = Path(folder) / base
        here.mkdir()
        for journal in journals(source(base), here, every):
            names = list(changes)
            if each is not None and each < len(names):
                names = random.Random(f"{base} {journal.name} {seed}").sample(names, each)
            status, lines = in_child(
                lambda tell, journal=journal, names=names: try_out(journal, {n: changes[n] for n in names}, tell)
            )
            assert status == 0, (base, journal.name, lines[-1:])
            yield from (Trial(*line) for line in lines)


class Tally(NamedTuple):
    """What came of the changes of one program."""

    base: str
    changes: int
    deploys: int
    wrong: int
    counts: Counter[tuple[str, str]]
    """How many runs, by what was said of them and what happened."""
    seconds: float


def tally(base: str, options: argparse.Namespace) -> Tally:
    """Try out a program, and print what is wrong."""
    began, wrong, counts, seen = time.monotonic(), 0, Counter[tuple[str, str]](), set()
    for trial in trials(base, options.each, options.every, options.seed):
        counts[trial.said, trial.happened] += 1
        seen.add((trial.journal, trial.change))
        if not trial.is_right:
            wrong += 1
            print(trial, flush=True)
    return Tally(base, len(changed(source(base))), len(seen), wrong, counts, time.monotonic() - began)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, metavar="N", help="so many changes for each journal; default: all")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="which changes these are")
    parser.add_argument("--every", type=int, metavar="N", default=1, help="only every N-th commit")
    parser.add_argument("--program", choices=BASES, action="append")
    parser.add_argument("--jobs", type=int, metavar="N", default=os.cpu_count() or 1, help="so many programs at a time")
    parser.add_argument("--quiet", action="store_true", help="only what is wrong, and the table")
    options = parser.parse_args()
    found = []
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        for each in pool.imap_unordered(partial(tally, options=options), options.program or BASES):
            found.append(each)
            if not options.quiet:
                words = ", ".join(f"{said}/{happened} {n}" for (said, happened), n in sorted(each.counts.items()))
                print(f"{each.base}: {each.deploys} deploys, {each.seconds:.0f} s: {words}", flush=True)
    total = sum((each.counts for each in found), Counter[tuple[str, str]]())
    changes, deploys, wrong = (sum(each[at] for each in found) for at in (1, 2, 3))
    print(f"{changes} changed programs, {deploys} deploys, {sum(total.values())} runs, {wrong} wrong")
    for (said, happened), number in sorted(total.items()):
        print(f"{said:14} {happened:12} {number:7,}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())

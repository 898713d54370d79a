"""Generated programs against the plain interpreter of the same data, with a crash each.

A trial is a program that stops at a random moment of its files, as a death of the process leaves them, and completes in
the next life. Several crashes are tried with each program.
"""

import random
from itertools import count
from pathlib import Path

import apsw

import durable

from .disk import Disk, Op, put
from .power import complete, record
from .tally import Tally

CRASHES = 6
"""Of each program."""


def run(trials: int, seed: int, base: Path) -> Tally:
    tally = Tally()
    folder = base / "trial"
    folder.mkdir()
    for number in count():
        made = base / str(number)
        made.mkdir()
        recording = record(f"{seed}/{number}", made, "full", fails=False)
        dice = random.Random(f"reference {seed}/{number}")
        tally.facts["programs"] += 1
        log, disk, at = recording.log, Disk(), 0
        for place in sorted(dice.randint(0, len(log)) for _ in range(CRASHES)):
            if tally.trials >= trials:
                return tally
            tally.begin()
            for entry in log[at:place]:
                if isinstance(entry, Op):
                    disk.do(entry)
            at = place
            put(folder, disk.everything())
            notes = [entry for entry in log[:place] if not isinstance(entry, Op)]
            try:
                faults = complete(recording, folder, notes, resumes=dice.random() < 0.5)
            except (durable.DurableError, apsw.Error, OSError) as error:
                faults = [f"does not go on: {type(error).__name__}: {str(error)[:150]}"]
            for fault in faults:
                tally.fault(fault, f"crash at {place} of program {recording.plan.name}")
    raise AssertionError

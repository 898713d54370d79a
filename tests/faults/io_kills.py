"""Death at every event of the journal's files: each write, sync, truncation, opening and removal, before and after it.

A trial is one event of a program. The next life dies at a random event of its recovery, and the last one completes.
"""

import random
import signal
from itertools import count
from pathlib import Path

from .children import Killer, complete, live, warm_up
from .disk import put
from .programs import Judge, Plan
from .tally import Tally


def run(trials: int, seed: int, base: Path) -> Tally:
    tally = Tally()
    folder = base / "trial"
    folder.mkdir()
    warm_up()
    for number in count():
        plan = Plan(f"{seed}/{number}", size=5)
        tally.facts["programs"] += 1
        dice = random.Random(f"io kills {seed}/{number}")
        for event in count(1):
            if tally.trials >= trials:
                return tally
            put(folder, {})
            judge = Judge(plan)
            life = live(plan, folder, _death(event))
            judge.look(life.notes)
            if life.status == 0:
                break  # it has fewer events
            tally.begin()
            for _ in range(dice.choice([0, 1, 1, 2])):
                if life.status == -signal.SIGKILL:
                    tally.facts["kills"] += 1
                    life = live(plan, folder, _death(dice.randint(1, 40)), resumes=dice.random() < 0.5)
                    judge.look(life.notes)
            tally.facts["kills"] += life.status == -signal.SIGKILL
            faults = complete(plan, folder, judge, resumes=dice.random() < 0.5)
            if life.status not in {0, -signal.SIGKILL}:
                faults.append(f"stopped: {life.output.splitlines()[-1][:150]}")
            for fault in faults:
                tally.fault(fault, f"event {event} of program {plan.name}")
            tally.facts["bodies that ran again"] += judge.again
    return tally


def _death(event: int):  # type: ignore[no-untyped-def]
    def prepare() -> str:
        global killer  # kept from the garbage collector
        killer = Killer(event, lambda _: None)
        return "durable-killer"

    return prepare

"""Death at every line of the library that a program executes: a trace function ends the process there.

A trial is one line, at its first or at a later execution in a program. The next life completes.
"""

import json
import os
import random
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import durable

from .children import complete, live, warm_up
from .disk import put
from .programs import Judge, Plan
from .tally import Tally

PACKAGE = str(Path(durable.__file__).parent)
MOST_OF_A_PROGRAM = 600
"""Lines at which nobody has died come first, what is left of them in the next programs; then some of all."""


def run(trials: int, seed: int, base: Path) -> Tally:
    tally = Tally()
    folder = base / "trial"
    folder.mkdir()
    warm_up()
    executed: set[str] = set()
    tried: set[str] = set()
    for number in count():
        plan = Plan(f"{seed}/{number}", size=5)
        dice = random.Random(f"lines {seed}/{number}")
        lines = _lines_of(plan, folder)
        tally.facts["programs"] += 1
        executed |= lines.keys()
        new = [line for line in lines if line not in tried]
        dice.shuffle(new)
        others = dice.sample(sorted(lines), min(len(lines), 40))
        for line in new[:MOST_OF_A_PROGRAM] + others:
            if tally.trials >= trials:
                tally.facts["lines"] = len(executed)
                tally.facts["of them tried"] = len(executed & tried)
                return tally
            tried.add(line)
            tally.begin()
            at = 1 if dice.random() < 0.6 else dice.randint(1, lines[line])
            put(folder, {})
            judge = Judge(plan)
            life = live(plan, folder, lambda line=line, at=at: _trace(_Death(line, at)))
            judge.look(life.notes)
            tally.facts["deaths"] += life.status == -signal.SIGKILL
            for fault in complete(plan, folder, judge, resumes=dice.random() < 0.5):
                tally.fault(fault, f"execution {at} of {line}, program {plan.name}")
            tally.facts["bodies that ran again"] += judge.again
    return tally


def _lines_of(plan: Plan, folder: Path) -> Counter[str]:
    """How often a program executes each line of the library."""
    put(folder, {})
    found = folder / "lines.json"

    def prepare() -> None:
        counter = _Counter()
        end = os._exit

        def tell(status: int) -> None:
            sys.settrace(None)
            found.write_text(json.dumps(counter.lines))
            end(status)

        os._exit = tell  # type: ignore[assignment]
        _trace(counter)

    life = live(plan, folder, prepare)
    assert life.status == 0, life.output
    return Counter(json.loads(found.read_text()))


def _trace(on_line: Callable[[str], None]) -> None:
    def trace(frame: FrameType, event: str, _: Any) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(PACKAGE):
            return None
        if event == "line":
            on_line(f"{name.removeprefix(PACKAGE)}:{frame.f_lineno}")
        return trace

    threading.settrace(trace)
    sys.settrace(trace)


class _Counter:
    def __init__(self) -> None:
        self.lines: Counter[str] = Counter()

    def __call__(self, line: str) -> None:
        self.lines[line] += 1


class _Death:
    def __init__(self, line: str, at: int) -> None:
        self.line, self.left = line, at

    def __call__(self, line: str) -> None:
        if line == self.line:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

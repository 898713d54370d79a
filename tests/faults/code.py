"""Workflow code that changes under an interrupted run.

A trial stops a program at a random outcome and goes on with changed code: operations added, removed, exchanged, renamed
or of another kind. Where the journaled operations are still a beginning of the code, the result must be that of the new
code; else the run must be blocked, before any body runs, with nothing lost: the old code still completes it.
"""

import random
from itertools import count
from pathlib import Path
from typing import Any

import durable

from . import programs
from .programs import Judge, Plan, Program
from .tally import Tally

KINDS = ("work", "flaky", "timed", "none", "declined")


class Stopped(KeyboardInterrupt):
    """The process ends here."""


def run(trials: int, seed: int, base: Path) -> Tally:
    tally = Tally()
    for number in count():
        if tally.trials >= trials:
            return tally
        dice = random.Random(f"code {seed}/{number}")
        plan = _plan(dice, f"{seed}/{number}")
        path = base / f"{number}.db"
        stop_at = dice.randint(1, len(programs.programs[plan.name]))
        done = _live(plan, path, stop_at)
        tally.begin()
        for fault in _try(plan, path, done, dice, tally):
            tally.fault(fault, f"trial {number}")
        for each in base.glob(f"{number}.db*"):
            each.unlink()
    raise AssertionError


def _plan(dice: random.Random, name: str) -> Plan:
    plan = Plan(name, sequential=True)
    plan.is_async = dice.random() < 0.5
    plan.in_background = False
    programs.programs[name] = [[dice.choice(KINDS), f"{name}.{place}"] for place in range(dice.randint(3, 8))]
    return plan


def _live(plan: Plan, path: Path, stop_at: int) -> int:
    """Execute the program until a workflow has had so many outcomes; how many it had."""
    world = programs.begin_world()

    def moment() -> None:
        if world.notes[-1][0] == "got" and sum(note[0] == "got" for note in world.notes) >= stop_at:
            raise Stopped

    world.moment = moment
    try:
        programs.call(durable.Engine(path), plan)
    except BaseException as error:
        if not isinstance(error, (Stopped, durable.RunInterruptedError)):
            raise
    finally:
        world.moment = lambda: None
    return stop_at


def _change(program: Program, dice: random.Random) -> Program:
    changed = [list(operation) for operation in program]
    for _ in range(dice.choice([1, 1, 2])):
        place = dice.randrange(len(changed)) if changed else 0
        how = dice.randrange(6)
        if how == 0 or not changed:
            changed.insert(place, [dice.choice(KINDS), f"new.{dice.randrange(100)}"])
        elif how == 1:
            del changed[place]
        elif how == 2:
            other = dice.randrange(len(changed))
            changed[place], changed[other] = changed[other], changed[place]
        elif how == 3:
            changed[place][0] = dice.choice(KINDS)
        elif how == 4:
            changed[place][1] += "x"
        else:
            changed.append([dice.choice(KINDS), f"new.{dice.randrange(100)}"])
    return changed


def _try(plan: Plan, path: Path, done: int, dice: random.Random, tally: Tally) -> list[str]:
    old = programs.programs[plan.name]
    new = _change(old, dice)
    fits = new[:done] == old[:done]
    tally.facts["fitting" if fits else "not fitting"] += 1
    programs.programs[plan.name] = new
    world = programs.begin_world()
    faults: list[str] = []
    result: Any = None
    try:
        result = programs.call(durable.Engine(path), plan, resumes=dice.random() < 0.5)
    except durable.RunBlockedError:
        tally.facts["blocked"] += 1
        if fits:
            faults.append("blocked, though nothing journaled had changed")
        if any(word == "start" for word, *_ in world.notes):
            faults.append("blocked after a body ran")
    except BaseException as error:
        faults.append(f"neither blocked nor completed: {type(error).__name__}")
    else:
        if not fits:
            faults.append("not noticed")
        elif result != programs.plain(new):
            faults.append("another result than the new code's")
        return faults
    programs.programs[plan.name] = old
    programs.begin_world()
    judge = Judge(plan)
    result = programs.call(durable.Engine(path), plan)
    judge.look([*programs.world.notes, ("result", result)])
    return faults + judge.faults

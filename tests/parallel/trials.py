"""Random programs with branches, which crash at random moments and go on with other timings until they complete.

`python -m tests.parallel.trials --trials 10000 --seed 1` prints a table, and exits with 1 when in any trial a value came
at a wrong call, a completed step ran again, an outcome was lost, the path was another one, or the run was blocked.
`--only 17` makes trial 17 of that seed alone, and prints its program.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import durable
from durable import NonDeterminismError, RunBlockedError, RunCancelledError, _rests, _timer
from durable._branches import Branches
from durable._workflows import Workflow
from tests.parallel import others, vocabulary
from tests.parallel.generate import write_program
from tests.parallel.judge import Fault, Judge, Outcome
from tests.parallel.others import ACTS, GOING_ON, Neighbour
from tests.parallel.vocabulary import WORDS, Life
from tests.parallel.writer import MAIN_SECONDS

STUCK_SECONDS = 30.0
_LONG_SECONDS, _LOOK_SECONDS = _rests.LONG_SECONDS, _timer._LOOK_SECONDS
MOST_CRASHES = 4
_WAITS_FOR_EVER = re.compile(r"wait_for_signal\([^()]*str\)")
"""A fork takes over that a signal was sent, and not the signal."""
_ACTS_OF_A_LIFE = [0, 0, 0, 1, 2]
_SHARE = 100
"""Trials of one process: the threads of one that is stuck stay, and make those after it look stuck too."""
FAULTS = (
    "wrong",
    "repeated",
    "lost",
    "other path",
    "blocked",
    "stuck",
    "broken",
    "left",
    *(f"fork {kind}" for kind in ("blocked", "broken", "failed", "cancelled", "stopped", "refused")),
)
FACTS = (
    "trials", "async", "crashes", "abandon", "interrupt", "cancel", "close", "kill", "cancelled", "not told", "tried again",
    "refused", "forks", "forked copies", "visits", "steps", "replayed",
)  # fmt: skip
LOOPS = [["plain", "plain", "own factory", "old factory", "engine's", "async with"]] * 3
if sys.version_info >= (
    3,
    12,
):  # all lives of a trial: a task that starts at once may overtake others in the code itself
    LOOPS.append(["eager"])


class Plan(NamedTuple):
    """How one life is to be lived."""

    seed: str
    mode: str
    at: int
    loop: str
    resumes: bool
    durability: Any
    slow_disk: bool
    suspends: bool
    """Whether a background run is suspended by the shortest wait, and not only by one of a second."""
    acts: tuple[tuple[int, str], ...] = ()
    """What somebody does, and at which moment."""
    elsewhere: bool = False
    """Whether he does it in another process."""
    forks_from: int = 0
    """The operation from which a new run goes on, 0: none does, but the run itself."""
    fails: bool = False
    """Whether the world outside is broken, so that some steps fail."""
    retries: bool = False
    """Whether the run has failed, and is tried again."""


# -- one life ----------------------------------------------------------------------------------------------------------


def _live(path: Path, main: Any, plan: Plan, life: Life) -> Outcome:
    """Execute the program in this process until it ends or crashes."""
    engine = durable.Engine(path, durability=plan.durability, threads=4)
    life.close = engine.close
    if not plan.elsewhere:
        life.act = lambda what: others.act(engine, what, life, main)
    vocabulary.begin_life(life, engine, plan.slow_disk)
    _rests.LONG_SECONDS, _timer._LOOK_SECONDS = (
        0.0 if plan.suspends else _LONG_SECONDS,
        _LOOK_SECONDS / (100 if plan.elsewhere else 1),
    )
    kind, what = "completed", ""
    try:
        if plan.forks_from or plan.retries:
            what = _execute_again(engine, plan)
        elif main.is_async:
            what = _execute_async(engine, main, plan, life)
        else:
            with engine:
                if plan.resumes:
                    durable.resume(wait=True)
                what = main.start().result() if plan.loop == "engine's" else main()
    except BaseException as error:
        kind, what = _meaning(error, life)
    finally:
        engine.close()
        for other in life.others:
            other.join()
        _rests.LONG_SECONDS, _timer._LOOK_SECONDS = _LONG_SECONDS, _LOOK_SECONDS
        deadline = time.monotonic() + 12.0
        while engine._runtime.journal._lock is not None and time.monotonic() < deadline:
            time.sleep(0.001)  # another thread is about to close it
    return Outcome(kind, what, list(life.notes), life.moments, life.crashed)


def _meaning(error: BaseException, life: Life) -> tuple[str, str]:
    text = "".join(traceback.format_exception(error))
    if isinstance(error, (RunBlockedError, NonDeterminismError)):
        return "blocked", text
    if isinstance(error, RunCancelledError) and " of 'main' was cancelled" in str(error):
        return "cancelled", text
    if _is_declined(error) or (isinstance(error, TimeoutError) and " of 'main' took longer than " in str(error)):
        return "failed", text
    if isinstance(error, durable.RunConflictError) and "run.fork(" in str(error):
        return "refused", text
    return "stopped" if life.crashed else "broken", text


def _is_declined(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_declined, error.exceptions))
    return isinstance(error, vocabulary.Declined)


def _execute_async(engine: durable.Engine, main: Any, plan: Plan, life: Life) -> Any:
    if plan.loop == "engine's":
        with engine:
            if plan.resumes:
                durable.resume(wait=True)
            return main.start().result()

    async def call() -> Any:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        life.cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        if plan.loop == "async with":
            async with engine:
                if plan.resumes:
                    for run in durable.resume():
                        with contextlib.suppress(Exception):  # what a child failed with, or main
                            await run
                return await main.start()
        if plan.resumes:
            await asyncio.to_thread(engine.resume, wait=True)
        with engine:
            return await main()

    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        _set_factory(loop, plan.loop)
        return loop.run_until_complete(call())


def _execute_again(engine: durable.Engine, plan: Plan) -> Any:
    """A fork of the run, or the run itself, which has failed: under a factory that starts tasks as they were started."""

    def begin() -> Any:
        run = durable.get("trial")
        if plan.forks_from:
            return run.fork(plan.forks_from)
        run.retry()
        return run

    async def call() -> Any:
        async with engine:
            return await begin()

    if plan.loop == "eager":
        with asyncio.Runner() as runner:
            _set_factory(runner.get_loop(), plan.loop)
            return runner.run(call())
    with engine:
        return begin().result()


def _set_factory(loop: asyncio.AbstractEventLoop, kind: str) -> None:
    if kind == "own factory":
        loop.set_task_factory(lambda loop, coro, **options: asyncio.Task(coro, loop=loop, **options))
    if kind == "old factory":
        loop.set_task_factory(lambda loop, coro: asyncio.Task(coro, loop=loop))
    if kind == "eager":
        loop.set_task_factory(asyncio.eager_task_factory)


def live(path: Path, main: Any, plan: Plan) -> Outcome:
    """The same, beside another process where one has a part in it."""
    life = Life(plan.seed, plan.mode, plan.at, plan.acts, fails=plan.fails)
    in_which = live_in_child if plan.mode == "kill" else live_in_thread
    if not plan.elsewhere:
        return in_which(path, main, plan, life)
    neighbour = Neighbour(path, plan.seed)
    life.act = lambda what: neighbour.act(what, life)
    unheard: list[list[str]] = []
    try:
        outcome = in_which(path, main, plan, life)
    finally:
        unheard = neighbour.close()
    return outcome._replace(notes=[*outcome.notes, *unheard])


def live_in_thread(path: Path, main: Any, plan: Plan, life: Life) -> Outcome:
    """The same, in a thread that is given up when it does not end."""
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(_live(path, main, plan, life)), daemon=True)
    thread.start()
    thread.join(STUCK_SECONDS)
    deadline = time.monotonic() + 8.0
    while any(each.name.startswith("asyncio_") for each in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.001)  # threads of its loop that are still at a step
    if not outcomes or time.monotonic() > deadline:
        raise Fault("stuck", _stacks() + "\n".join((*complaints.texts, *map(str, life.notes))))
    return outcomes[0]


def _stacks() -> str:
    """Where all threads are, and what the async runs wait for."""
    stacks = ["".join(traceback.format_stack(frame)[-8:]) for frame in sys._current_frames().values()]
    waits = []
    for branches in [each for each in gc.get_objects() if type(each) is Branches]:
        past = branches.past
        waits.append(
            f"{branches.execution.record.id} halted {branches.execution.halted} turns {list(past._turns)[:5]} "
            f"owed {list(past._owed.items())[:5]} called {past._called} gates {len(past._gates)} cuts {len(past._cuts)} "
            f"ready {[[each.record for each in group] for group in branches.new._ready]} waiting {len(branches.new._waiting)} "
            f"outbox {len(branches.new._outbox)} committing {branches.new._committing} ticking {branches._ticking} "
            f"quiet {branches._quiet_turns} restless {branches._restless_turns} at work {branches.threads.at_work} "
            f"root {branches.root}\n" + "\n".join(map(str, branches.tasks))
        )
    return "\n".join(stacks + waits)


def live_in_child(path: Path, main: Any, plan: Plan, life: Life) -> Outcome:
    """The same, in a process that dies in earnest."""
    notes, end = path.with_suffix(".notes"), path.with_suffix(".end")
    notes.write_text("")
    end.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            life.file = os.open(notes, os.O_WRONLY | os.O_APPEND)
            watchdog = threading.Timer(STUCK_SECONDS - 2, lambda: life.note("stuck", _stacks()))
            watchdog.daemon = True
            watchdog.start()
            outcome = _live(path, main, plan, life)
            end.write_text(json.dumps([outcome.kind, outcome.what, outcome.moments]))
        os._exit(0)
    deadline = time.monotonic() + STUCK_SECONDS
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise Fault("stuck", notes.read_text().replace("\\n", "\n"))
        time.sleep(0.001)
    found = [json.loads(line) for line in notes.read_text().splitlines()]
    if end.exists():
        kind, what, moments = json.loads(end.read_text())
        return Outcome(kind, what, found, moments, crashed=False)
    return Outcome("stopped", "", found, plan.at, crashed=True)


class Complaints(logging.Handler):
    """What asyncio says of exceptions in callbacks, which nobody else sees."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "in callback" in (text := record.getMessage()):
            self.texts.append(text + self.format(record))


complaints = Complaints()


# -- one trial ---------------------------------------------------------------------------------------------------------


class Trial:
    """One random program, and the lives that it is given until it has ended."""

    def __init__(self, name: str, folder: Path, without: frozenset[str], modes: list[str]) -> None:
        self.name, self.modes = name, modes
        self.dice = random.Random(name)
        is_async = self.dice.random() < 0.75
        self.program = write_program(self.dice, is_async=is_async, without=without)
        namespace = {**WORDS, "__name__": "tests.parallel.program"}
        exec(compile(self.program, "program", "exec"), namespace)
        self.path, self.main = folder / "journal.db", namespace["main"]
        self.seen: Counter[str] = Counter({"trials": 1, "async": is_async})
        workflows = [each for each in namespace.values() if isinstance(each, Workflow)]
        self.judge = Judge(self.path, {each.name for each in workflows if not each.is_async})
        self.history: list[Any] = []
        self.acts: set[str] = set()
        """What somebody has done, or tried to."""
        self.most_crashes = self.dice.randint(1, MOST_CRASHES)
        self.loops = self.dice.choice(LOOPS)
        self.goes_on_elsewhere = "eager" not in self.loops
        """Whether the engine's own loop may go on with it, where tasks start later."""
        self.fails = self.goes_on_elsewhere and self.dice.random() < 0.2
        """Whether the world outside is broken at first, so that the run may fail, and is tried again."""
        self.may_fail = self.fails or f"timeout={MAIN_SECONDS}" in self.program

    def lead(self) -> None:
        """Raises the `Fault` that it found, with the program."""
        try:
            outcome = self._until_the_end()
            if outcome.kind == "completed" and self.goes_on_elsewhere and not _WAITS_FOR_EVER.search(self.program):
                self._fork()
        except Fault as fault:
            lives_led = "\n".join(map(str, self.history))
            rows = "\n".join(map(str, self.judge.rows()))
            fault.add_note(f"trial {self.name}: {fault.kind}\n{fault.what}\n\n{lives_led}\n\n{rows}\n\n{self.program}")
            raise

    def _until_the_end(self) -> Outcome:
        for number in range(self.most_crashes + 1):
            plan = self._plan(self.dice.choice(self.modes) if number < self.most_crashes else "none")
            outcome = self._live(plan)
            if outcome.kind == "failed":
                return self._try_again(outcome)
            if outcome.kind in {"completed", "cancelled"}:
                break
            self.seen["crashes"] += 1
            self.seen[plan.mode] += 1
            self.seen["replayed"] += len(self.judge.finished)
            if self.dice.random() < 0.3:
                self._be_visited()
            if self.dice.random() < 0.15 and self.goes_on_elsewhere and not _WAITS_FOR_EVER.search(self.program):
                self._fork_a_copy()
        self.judge.look_at_end(outcome)
        return outcome

    def _plan(self, mode: str, **others: Any) -> Plan:
        dice, number = self.dice, len(self.history)
        elsewhere = dice.random() < 0.15
        acts = ACTS + (GOING_ON if self.goes_on_elsewhere and not elsewhere else [])
        sites = self.program.count('(f"') // 2
        return Plan(
            f"{self.name} {number}",
            mode,
            at=0 if dice.random() < 0.15 else dice.randint(1, 2 + sites * (5 if number == 0 else 3)),
            loop=dice.choice(self.loops),
            resumes=dice.random() < 0.3 and self.goes_on_elsewhere,
            durability=dice.choice(["full", "process", "process", "process"]),
            slow_disk=dice.random() < 0.3,
            suspends=dice.random() < 0.5,
            acts=tuple(
                (dice.randint(1, 2 + sites * 3), dice.choice(acts)) for _ in range(dice.choice(_ACTS_OF_A_LIFE))
            ),
            elsewhere=elsewhere,
            fails=self.fails,
        )._replace(**others)

    def _live(self, plan: Plan) -> Outcome:
        self.history.append(plan)
        outcome = live(self.path, self.main, plan)
        self.judge.look(outcome)
        if complaints.texts:
            raise Fault("broken", complaints.texts.pop())
        self.seen["steps"] += sum(note[0] == "start" for note in outcome.notes)
        self.seen["cancelled"] += outcome.kind == "cancelled"
        self.seen["not told"] += outcome.kind == "completed" and self.judge.is_cancelled
        self.acts.update(what for _, what in plan.acts)
        if outcome.kind == "cancelled" and "cancel" not in self.acts:
            raise Fault("wrong", "the run was cancelled, and nobody did that")
        return outcome

    def _try_again(self, failed: Outcome) -> Outcome:
        """The run has failed: it goes on from there, or that is refused."""
        if not self.may_fail:
            raise Fault("broken", failed.what)
        self.judge.look_at_end(failed)
        self.judge.forget_failures()
        outcome = self._live(self._plan("none", acts=(), fails=False, retries=True))
        self.seen["refused" if outcome.kind == "refused" else "tried again"] += 1
        if outcome.kind != "refused":
            self.judge.look_at_end(outcome)
        return outcome

    def _be_visited(self) -> None:
        """Somebody does something while nobody executes anything."""
        how = self.dice.choice([others.visit, others.visit_elsewhere])
        acts = [*ACTS, "resume", "resume"] if self.goes_on_elsewhere else ACTS
        what, seed = self.dice.choice(acts), f"{self.name} {len(self.history)} visit"
        self.history.append((how.__name__, what))
        self.acts.add(what)
        self.judge.look(Outcome("stopped", "", how(self.path, what, seed), 0, crashed=False))
        self.seen["visits"] += 1

    def _fork_a_copy(self) -> None:
        """A fork of a run that was interrupted, or waits, comes to its end in a journal of its own."""
        most = self.judge.operations()
        copy = self.path.with_name("copy.db")
        for suffix in ("", "-wal"):
            copy.with_name(copy.name + suffix).unlink(missing_ok=True)
            if (file := self.path.with_name(self.path.name + suffix)).exists():
                shutil.copy(file, copy.with_name(copy.name + suffix))
        judge = Judge(copy, set())
        if not judge.rows():
            return
        plan = self._plan("none", acts=(), fails=False, forks_from=self.dice.randint(1, most + 1))
        self.history.append(plan)
        outcome = live(copy, self.main, plan)
        if not (outcome.kind == "cancelled" and "cancel" in self.acts):
            self._look_at_fork(judge, outcome)
        self.seen["forked copies"] += 1

    def _fork(self) -> None:
        most = self.judge.operations()
        plan = self._plan("none", acts=(), fails=False, forks_from=self.dice.randint(1, most + 1))
        self.history.append(plan)
        self._look_at_fork(self.judge, live(self.path, self.main, plan))
        self.seen["forks"] += 1

    def _look_at_fork(self, judge: Judge, outcome: Outcome) -> None:
        """It may have taken over a failure, or have to wait for a run that has failed."""
        if not (outcome.kind == "failed" and self.may_fail):
            judge.look_at_fork(outcome)


def trials(seed: int, numbers: range, without: frozenset[str], modes: list[str], *, loud: bool) -> Counter[str]:
    """Make many; print the faults, and return what was counted."""
    logging.getLogger("asyncio").handlers = [complaints]
    threading.excepthook = lambda args: None  # what ends a thread of a body ends the run
    logging.getLogger("durable").addHandler(logging.NullHandler())
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="durable-trials-") as base:
        for number in numbers:
            folder = Path(base) / str(number)
            folder.mkdir()
            trial = Trial(f"{seed}/{number}", folder, without, modes)
            try:
                trial.lead()
            except Fault as fault:
                seen[fault.kind] += 1
                print("\n".join(fault.__notes__), flush=True)
            else:
                if loud:
                    print(trial.program)
            seen.update(trial.seen)
            shutil.rmtree(folder)
    return seen


def _share(arguments: tuple[int, range, frozenset[str], list[str]]) -> Counter[str]:
    return trials(*arguments, loud=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=150)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--only", type=int, metavar="NUMBER", help="this trial alone")
    parser.add_argument("--repeat", type=int, default=1, help="with --only: so many times, since timings differ")
    parser.add_argument("--without", nargs="*", default=[], help="statements to leave out, as the writer calls them")
    parser.add_argument(
        "--modes", nargs="*", default=["abandon", "abandon", "abandon", "interrupt", "cancel", "close", "kill"]
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the trials")
    options = parser.parse_args()
    without, begun_at = frozenset(options.without), time.monotonic()
    assert durable.converter  # imports what each child of fork would have to import by itself
    seen: Counter[str] = Counter()
    if options.only is not None:
        for _ in range(options.repeat):
            seen.update(trials(options.seed, range(options.only, options.only + 1), without, options.modes, loud=True))
    elif options.jobs > 1:
        numbers = range(options.trials)
        shares = [numbers[first : first + _SHARE] for first in range(0, options.trials, _SHARE)]
        orders = [(options.seed, share, without, options.modes) for share in shares]
        with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=1) as pool:
            for part in pool.imap_unordered(_share, orders):
                seen.update(part)
    else:
        seen = trials(options.seed, range(options.trials), without, options.modes, loud=False)
    seen["seconds"] = round(time.monotonic() - begun_at)
    print(f"seed {options.seed}, Python {sys.version.split()[0]}")
    for name in (*FACTS, *FAULTS, "seconds"):
        print(f"{name:14}{seen[name]:10}")
    return int(any(seen[fault] for fault in FAULTS))


if __name__ == "__main__":
    from tests.parallel import trials as module  # under its own name, so that `spawn` finds it

    sys.exit(module.main())

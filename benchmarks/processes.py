"""What a fresh process pays: importing, listing, replaying, and going on after a kill."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import durable

from .report import Row, in_time, is_noisy, spread
from .steps import trivial_async

PROGRAMS = Path(__file__).parent / "programs"
REPLAYED_STEPS = 10_000


def environment() -> dict[str, str]:
    """As users have it: Python keeps its compiled files, else every import compiles the source again."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _seconds_of(*command: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *command], env=environment(), check=True, capture_output=True)
    return time.perf_counter() - began


def _answer(program: str, *arguments: str) -> Any:
    """Run a program that ends by `kill -9` of itself, and says in JSON what it measured before."""
    command = [sys.executable, str(PROGRAMS / program), *arguments]
    done = subprocess.run(command, env=environment(), check=False, capture_output=True, text=True, timeout=120)
    if done.returncode != -signal.SIGKILL:
        msg = f"{program} ended with {done.returncode}: {done.stderr[-500:]}"
        raise RuntimeError(msg)
    return json.loads(done.stdout)


def imports(folder: Path, repeat: int) -> Row:  # noqa: ARG001 - writes no file
    _seconds_of("-c", "import durable")  # compiles
    pairs = [(_seconds_of("-c", "import durable"), _seconds_of("-c", "")) for _ in range(3 * repeat)]
    more = [durable_ - bare for durable_, bare in pairs]
    bare = statistics.median(bare for _, bare in pairs)
    both = statistics.median(_seconds_of("-c", "from durable import step, workflow") for _ in pairs) - bare
    return Row(
        "import",
        "import durable, above bare Python",
        f"{spread(more)} above {in_time(bare)}; {in_time(both)} with step and workflow, which it loads when used",
        "under 30 ms",
        met=statistics.median(more) < 0.030,
        figures={"pairs": pairs, "with_names": both},
        is_noisy=is_noisy([bare for _, bare in pairs]),
    )


@durable.workflow
async def listed(number: int) -> int:
    for step in range(10):
        await trivial_async(step)
    return number


def ls(folder: Path, repeat: int) -> Row:
    runs, path = 1000, folder / "ls.db"

    async def fill() -> None:
        async with durable.open(path, durability="process"):
            await asyncio.gather(*(listed(number) for number in range(runs)))

    asyncio.run(fill())
    command = ("-m", "durable", "ls", "--db", str(path))
    _seconds_of(*command)
    pairs = [(_seconds_of(*command), _seconds_of("-c", "")) for _ in range(2 * repeat)]
    return Row(
        "ls",
        f"durable ls of {runs:,} runs × 10 steps, the whole process",
        f"{spread([whole for whole, _ in pairs])}, bare Python {in_time(statistics.median(b for _, b in pairs))}",
        "under 100 ms",
        met=statistics.median(whole for whole, _ in pairs) < 0.1,
        note="a modest journal; the target is for 1,000,000 runs and 10,000,000 steps",
        figures={"pairs": pairs},
        is_noisy=is_noisy([bare for _, bare in pairs]),
    )


def replay(folder: Path, repeat: int) -> Row:
    path = str(folder / "replay.db")
    _answer("replay.py", path, str(REPLAYED_STEPS))
    answers = [_answer("replay.py", path, str(REPLAYED_STEPS)) for _ in range(repeat)]
    step = [answer["body_seconds"] / REPLAYED_STEPS for answer in answers]
    call = [answer["call_seconds"] for answer in answers]
    return Row(
        "replay",
        f"replay of {REPLAYED_STEPS:,} steps in a fresh process",
        f"{spread(step)} a step; {spread(call)} from the call to the first unfinished step",
        "at most 10 µs a step, at most 150 ms",
        met=statistics.median(step) <= 10e-6 and statistics.median(call) <= 0.150,
        figures={"seconds_a_step": step, "seconds_from_call": call},
        is_noisy=is_noisy(call),
    )


def resume(folder: Path, repeat: int) -> Row:
    """The slower of the two kinds of run is held against the target."""
    found = {kind: [_resume_once(folder, kind, number) for number in range(repeat)] for kind in ("sync", "async")}
    slower = max(statistics.median(values) for values in found.values())
    return Row(
        "resume",
        "after kill -9: resume() called to the interrupted step running",
        ", ".join(f"{kind} {spread(values)}" for kind, values in found.items()),
        "under 20 ms",
        met=slower < 0.020,
        figures=found,
        is_noisy=any(is_noisy(values) for values in found.values()),
    )


def _resume_once(folder: Path, kind: str, number: int) -> float:
    path = str(folder / f"resume-{kind}-{number}.db")
    command = [sys.executable, str(PROGRAMS / "resume.py"), path, kind, "call"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout is not None
        began = victim.stdout.readline()  # it is in its last step now
        victim.send_signal(signal.SIGKILL)
    if not began:
        msg = f"resume.py ended with {victim.returncode} before its last step"
        raise RuntimeError(msg)
    return float(_answer("resume.py", path, kind, "resume")["seconds"])


WAITING_RUNS = 10_000


def waiting(folder: Path, repeat: int, runs: int = WAITING_RUNS) -> Row:
    """What runs that wait cost the process that resumes them, against a journal that has none."""
    path, none = folder / "waiting.db", folder / "none.db"
    program = str(PROGRAMS / "waiting.py")
    run = lambda *arguments: json.loads(  # noqa: E731 - short, and for this function only
        subprocess.run(
            [sys.executable, program, *arguments], env=environment(), check=True, stdout=subprocess.PIPE, text=True
        ).stdout
    )
    if not path.exists():
        run("make", str(path), str(runs))
    pairs = [(run("wake", str(path)), run("wake", str(none))) for _ in range(min(repeat, 3))]
    start = statistics.median(with_["open"] + with_["resume"] for with_, _ in pairs)
    memory = statistics.median(with_["memory"] - without["memory"] for with_, without in pairs)
    late = statistics.median(with_["late"] for with_, _ in pairs)
    return Row(
        "waiting",
        f"{runs:,} waiting runs: open and resume(), more memory; 1,000 due at once have run after",
        f"{in_time(start)}, {memory / 1e6:.1f} MB; {in_time(late)}",
        "under 20 ms, 10 MB; 1 s",
        met=start < 0.020 and memory < 10e6 and late < 1.0,
        figures={"pairs": pairs},
    )

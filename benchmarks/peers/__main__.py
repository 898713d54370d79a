"""`python -m benchmarks.peers`: the same trivial steps with other libraries, on this disk, in turns with a bare commit.

The first time it installs each peer into `.bench/peers/`. A peer that does not
install or run is printed with the reason.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.disk import NOT_A_DISK, Bare, Calibration, calibrate, cold, data_folder, file_system
from benchmarks.processes import environment
from benchmarks.report import in_time, is_noisy, machine, print_columns, print_head, spread

from .environments import PEERS, Peer, UnavailableError, python_of

PROGRAMS = Path(__file__).parent
MOST_SECONDS = 120
"""For one answer: a peer that takes longer is ended."""
CROWD_RUNS, CROWD_STEPS = 50, 20


@dataclass
class Found:
    """What was measured of one peer: seconds for a step and for a bare commit, in pairs; or why nothing was."""

    name: str
    reason: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    pairs: list[tuple[float, float]] = field(default_factory=list)
    crowd_steps_per_second: list[float] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        """Whether it is compared with a FULL commit, as all are that do not say NORMAL themselves."""
        return "synchronous=NORMAL" not in self.facts.get("durability", "")


class Program:
    """The process of a peer: see `worker.py` for what it is asked."""

    def __init__(self, peer: Peer, python: str, folder: Path) -> None:
        self._folder = folder
        self._errors = folder.with_suffix(".log").open("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            [python, str(PROGRAMS / peer.program), str(folder), *peer.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment() if not peer.requirements else environment() | {"PYTHONPATH": ""},
        )
        self.facts = self._answer()

    def seconds(self, *command: object) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, command)) + "\n")
        self._process.stdin.flush()
        return float(self._answer()["seconds"])

    def warm_up(self, steps: int) -> None:
        """Until its WAL has wrapped, where it has one."""
        self.seconds("sequence", steps)
        for wal in self._folder.rglob("*-wal"):
            for _ in cold(wal.with_name(wal.name.removesuffix("-wal"))):
                self.seconds("sequence", steps)
            return

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        timer = threading.Timer(MOST_SECONDS, self._process.kill)
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        if not line:
            code = self._process.wait()
            self._errors.seek(0)
            said = [text for text in self._errors.read().splitlines() if text.strip()] or ["nothing"]
            msg = f"does not run (exit code {code}): {said[-1]}"
            raise UnavailableError(msg)
        return json.loads(line)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()


def measure(peer: Peer, folder: Path, options: argparse.Namespace) -> Found:
    found = Found(peer.name)
    place = folder / "-".join((peer.program.removesuffix(".py"), *peer.arguments))
    place.mkdir()
    try:
        python = python_of(peer, Path(__file__).parents[2] / ".bench" / "peers", options.python)
        program = Program(peer, python, place)
    except UnavailableError as error:
        found.reason = str(error)
        return found
    found.facts = program.facts
    bare = Bare(place / "bare.db", "FULL" if found.is_full else "NORMAL")
    try:
        program.warm_up(peer.steps)
        for _ in range(options.repeat):
            step = program.seconds("sequence", peer.steps) / peer.steps
            found.pairs.append((step, bare.commits(300 if found.is_full else 2000).wall))
        for _ in range(peer.crowd_rounds):
            seconds = program.seconds("crowd", CROWD_RUNS, CROWD_STEPS)
            found.crowd_steps_per_second.append(CROWD_RUNS * CROWD_STEPS / seconds)
    except (UnavailableError, BrokenPipeError) as error:
        found.reason = str(error)
    finally:
        bare.close()
        program.close()
    return found


def print_found(all_found: list[Found]) -> None:
    lines = [("", "a step", "to a bare commit", f"{CROWD_RUNS} runs × {CROWD_STEPS} at once", "durability")]
    lines += [_line(found) for found in all_found]
    print_columns(lines)
    print()
    for found in all_found:
        if found.reason:
            print(f"{found.name}: {found.reason}")
    measured = [found.facts for found in all_found if found.facts]
    versions = dict.fromkeys(f"{facts['version']} (Python {facts['python']})" for facts in measured)
    print("versions:", ", ".join(versions))


def _line(found: Found) -> tuple[str, ...]:
    if not found.pairs:
        return (found.name, "not measured: see below", "", "", found.facts.get("durability", ""))
    ratios = [step / bare for step, bare in found.pairs]
    noisy = ", noisy" if is_noisy(ratios) or is_noisy([bare for _, bare in found.pairs]) else ""
    return (
        found.name,
        in_time(statistics.median(step for step, _ in found.pairs)),
        f"{spread(ratios, '{:.2f}'.format)} × {'FULL' if found.is_full else 'NORMAL'}{noisy}",
        f"{statistics.median(found.crowd_steps_per_second):,.0f} steps/s" if found.crowd_steps_per_second else "",
        found.facts["durability"],
    )


def as_json(facts: dict[str, str], disk: Calibration, all_found: list[Found]) -> dict[str, Any]:
    return {"machine": facts, "disk": disk._asdict(), "peers": [asdict(found) for found in all_found]}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    names = [peer.name for peer in PEERS]
    parser.add_argument("--only", action="append", choices=names, help="this peer; may be given several times")
    parser.add_argument("--repeat", type=int, default=7, help="turns with the bare commit (default: 7)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything that was measured here")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="where the files go (default: beside the sources)")
    parser.add_argument("--python", metavar="PATH", help="for peers that need a newer Python than this one")
    options = parser.parse_args()
    with data_folder(options.data) as folder:
        if file_system(folder) in NOT_A_DISK:
            print("warning: the data folder is in memory, not on a disk: figures of FULL mean nothing", file=sys.stderr)
        facts, disk = machine(folder), calibrate(folder, options.repeat)
        print_head(facts, disk)
        found = [measure(peer, folder, options) for peer in PEERS if not options.only or peer.name in options.only]
    print_found(found)
    if options.json:
        options.json.write_text(json.dumps(as_json(facts, disk, found), indent=2, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

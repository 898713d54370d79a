"""What was measured, as rows of a table."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import apsw

from .disk import Calibration, file_system
from .stopwatch import Lap


@dataclass
class Row:
    """One line of the table. `figures` are what it was made from, in seconds, bytes and counts."""

    name: str
    what: str
    measured: str
    target: str
    met: bool | None = None
    ratio: str = ""
    note: str = ""
    figures: dict[str, Any] = field(default_factory=dict)

    is_noisy: bool = False
    """Other programs were at the disk or the processor: the verdict means little."""

    @property
    def verdict(self) -> str:
        return {True: "met", False: "missed", None: "not measured"}[self.met] + (", noisy" if self.is_noisy else "")


def ratio_row(name: str, what: str, pairs: Sequence[tuple[Lap, Lap]], most: float) -> Row:
    """A row about steps and commits in turns: the median of the ratios of the pairs is held against the target."""
    ratios = [ours.wall / bare.wall for ours, bare in pairs]
    ratio = statistics.median(ratios)
    step, commit = (Lap(*map(statistics.median, zip(*side, strict=True))) for side in zip(*pairs, strict=True))
    return Row(
        name,
        what,
        f"{in_time(step.wall)} a step, bare {in_time(commit.wall)} (CPU {in_time(step.cpu)}, {in_time(commit.cpu)})",
        f"at most {most:g} ×",
        met=ratio <= most,
        ratio=f"{ratio:.2f} × ({min(ratios):.2f}–{max(ratios):.2f})",
        figures={"pairs": [{"step": ours._asdict(), "bare": bare._asdict()} for ours, bare in pairs], "ratio": ratio},
        is_noisy=is_noisy([bare.wall for _, bare in pairs]) or is_noisy(ratios),
    )


def is_noisy(values: Sequence[float]) -> bool:
    """Whether the middle half of the values is far apart: on a quiet machine it lies within a few percent."""
    if len(values) < 4:
        return max(values) > 1.25 * min(values)
    low, _, high = statistics.quantiles(values)
    return high > 1.25 * low


def in_time(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} µs"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def spread(values: Sequence[float], show: Any = in_time) -> str:
    """Median (least–most)."""
    return f"{show(statistics.median(values))} ({show(min(values))}–{show(max(values))})"


def machine(folder: Path) -> dict[str, str]:
    """What a reader must know to compare; nothing that tells which machine it was."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": f"SQLite {apsw.sqlite_lib_version()} (apsw {apsw.apsw_version()})",
        "cores": f"{os.cpu_count()} cores",
        "kernel": f"{platform.system()} {platform.release().split('-')[0]}",
        "disk": file_system(folder),
        "load": f"load {os.getloadavg()[0]:.1f} before the start",
    }


def print_head(facts: dict[str, str], disk: Calibration) -> None:
    print(" · ".join(facts.values()))
    print(
        f"one bare commit: FULL {spread(disk.full)}, NORMAL {spread(disk.normal)}; "
        f"one fdatasync: {spread(disk.fdatasync)}; one call in Python: {spread(disk.call)}",
        flush=True,
    )
    if is_noisy(disk.full) or is_noisy(disk.normal):
        print("these differ much: other programs use this machine, and the figures below mean little")
    print()


def print_columns(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_table(rows: Sequence[Row]) -> None:
    head = ("name", "what", "measured", "ratio", "target", "")
    print_columns([head, *((row.name, row.what, row.measured, row.ratio, row.target, row.verdict) for row in rows)])
    print()
    for row in rows:
        if row.note:
            print(f"{row.name}: {row.note}")


def as_json(facts: dict[str, str], disk: Calibration, rows: Sequence[Row]) -> dict[str, Any]:
    return {"machine": facts, "disk": disk._asdict(), "rows": [{**asdict(row), "verdict": row.verdict} for row in rows]}

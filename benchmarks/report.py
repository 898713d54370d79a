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

    @property
    def verdict(self) -> str:
        return {True: "met", False: "missed", None: "not measured"}[self.met]


def ratio_row(name: str, what: str, pairs: Sequence[tuple[float, float]], most: float, unit: str = "a step") -> Row:
    """A row about two things measured in turns: the median of the ratios of the pairs is held against the target."""
    ratios = [ours / bare for ours, bare in pairs]
    ratio = statistics.median(ratios)
    ours, bare = (statistics.median(side) for side in zip(*pairs, strict=True))
    return Row(
        name,
        what,
        f"{in_time(ours)} {unit}, bare {in_time(bare)}",
        f"at most {most:g} ×",
        met=ratio <= most,
        ratio=f"{ratio:.2f} × ({min(ratios):.2f}–{max(ratios):.2f})",
        figures={"pairs": list(pairs), "ratio": ratio},
    )


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
        f"one bare commit: FULL {in_time(disk.full)}, NORMAL {in_time(disk.normal)}; "
        f"one fdatasync: {in_time(disk.fdatasync)}\n",
        flush=True,
    )


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

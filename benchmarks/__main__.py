"""`python -m benchmarks`: calibrates the disk, measures each row, and prints the table.

A missed target is printed as missed and is no error: the exit code is 1 only where something could not be measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from . import crowd, processes, steps
from .disk import NOT_A_DISK, calibrate, data_folder, file_system
from .report import Row, as_json, machine, print_head, print_table

ROWS: dict[str, Callable[[Path, int], Row]] = {
    "sync-full": steps.sync_full,
    "async-full": steps.async_full,
    "sync-process": steps.sync_process,
    "async-crowd": crowd.async_crowd,
    "sync-crowd": crowd.sync_crowd,
    "replay": processes.replay,
    "resume": processes.resume,
    "import": processes.imports,
    "waiting": processes.waiting,
    "ls": processes.ls,
    "size": steps.size,
}


def main() -> int:
    options = _options()
    with data_folder(options.data) as folder:
        if file_system(folder) in NOT_A_DISK:
            print("warning: the data folder is in memory, not on a disk: figures of FULL mean nothing", file=sys.stderr)
        facts, disk = machine(folder), calibrate(folder, options.repeat)
        print_head(facts, disk)
        rows = [_measured(name, folder, options.repeat) for name in options.only or ROWS]
    print("\r\033[K" if sys.stderr.isatty() else "", end="", file=sys.stderr)
    print_table(rows)
    if options.json:
        options.json.write_text(json.dumps(as_json(facts, disk, rows), indent=2, ensure_ascii=False) + "\n")
    return 1 if any(row.met is None for row in rows) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=ROWS, help="this row; may be given several times")
    parser.add_argument("--repeat", type=int, default=11, help="turns that a row takes (default: 11)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything that was measured here")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="where the files go (default: beside the sources)")
    options = parser.parse_args()
    if options.repeat < 1:
        parser.error("--repeat takes a number of at least 1")
    return options


def _measured(name: str, folder: Path, repeat: int) -> Row:
    if sys.stderr.isatty():
        print(f"\r\033[Kmeasuring {name} ...", end="", file=sys.stderr, flush=True)
    place = folder / name
    place.mkdir()
    try:
        return ROWS[name](place, repeat)
    except Exception as error:
        traceback.print_exc()
        return Row(name, "", "", "", note=f"could not be measured: {type(error).__name__}: {error}")


if __name__ == "__main__":
    sys.exit(main())

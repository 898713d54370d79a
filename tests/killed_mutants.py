"""After `mutmut run`: how many of the faults that it made were noticed, by module.

    python tests/killed_mutants.py [--least 95]

Ends with 1 where the share is below `--least`, in percent, or where faults were left untried.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

MADE = Path(__file__).resolve().parents[1] / "mutants" / "src" / "durable"
NOTICED = {1, 3, 24, -24, 36, 152}
"""Exit codes of a fault's tests: one failed, pytest broke, or they did not end."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--least", type=float, default=0.0)
    least = parser.parse_args().least
    total: Counter[str] = Counter()
    print(f"{'module':24}{'faults':>8}{'noticed':>9}{'share':>9}{'untried':>9}")
    for path in sorted(MADE.rglob("*.meta")):
        codes = json.loads(path.read_text())["exit_code_by_key"].values()
        found = Counter("untried" if code is None else "noticed" if code in NOTICED else "missed" for code in codes)
        total += found
        show(str(path.relative_to(MADE)).removesuffix(".py.meta"), found)
    show("all", total)
    return total["untried"] > 0 or share(total) < least


def share(found: Counter[str]) -> float:
    tried = found["noticed"] + found["missed"]
    return 100 * found["noticed"] / tried if tried else 0.0


def show(name: str, found: Counter[str]) -> None:
    if found.total():
        print(f"{name:24}{found.total():8}{found['noticed']:9}{share(found):8.1f}%{found['untried']:9}")


if __name__ == "__main__":
    raise SystemExit(main())

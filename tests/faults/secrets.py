"""Files that hold secrets: their mode whatever the umask, and links that somebody may have laid in their way."""

import os
import stat
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import durable

from . import programs
from .programs import Plan
from .tally import Tally

MASKS = (0o000, 0o002, 0o022, 0o077)
SUFFIXES = ("", "-wal", "-shm", "-owner", "-journal")


def run(trials: int, seed: int, base: Path) -> Tally:
    """The listed cases; there are no more than those."""
    tally = Tally()
    plan = Plan(f"secrets {seed}", size=3, sequential=True)
    for number, case in enumerate(_cases()):
        folder = base / str(number)
        folder.mkdir()
        tally.begin()
        for fault in case(folder, plan):
            tally.fault(fault, f"case {number}")
    return tally


def _cases() -> Iterator[Callable[[Path, Plan], list[str]]]:
    for mask, way in product(MASKS, ("plain", "folder link", "link", "again")):
        yield lambda folder, plan, mask=mask, way=way: _modes(folder, plan, mask, way)
    for suffix, target in product(SUFFIXES[1:], ("there", "not there")):
        yield lambda folder, plan, suffix=suffix, target=target: _link(folder, plan, suffix, target)


def _modes(folder: Path, plan: Plan, mask: int, way: str) -> list[str]:
    """All files are for their owner only, while it is open and after."""
    real = folder / "real"
    real.mkdir()
    path = real / "journal.db"
    if way == "folder link":
        (folder / "link").symlink_to("real")
        path = folder / "link" / "journal.db"
    if way == "link":
        (folder / "link.db").symlink_to("real/journal.db")
        path = folder / "link.db"
    found: dict[str, int] = {}

    def look() -> None:
        for each in real.iterdir():
            found[each.name] = found.get(each.name, 0) | stat.S_IMODE(each.stat().st_mode)

    before = os.umask(mask)
    try:
        for _ in range(2 if way == "again" else 1):
            programs.begin_world().moment = look
            programs.call(durable.Engine(path), plan)
            look()
    finally:
        os.umask(before)
        programs.begin_world()
    open_to_others = [name for name, mode in found.items() if mode & 0o077]
    missing = {f"journal.db{suffix}" for suffix in ("", "-wal", "-shm", "-owner")} - set(found)
    return ["open to others"] * bool(open_to_others) + [f"not looked at: {missing}"] * bool(missing)


def _link(folder: Path, plan: Plan, suffix: str, target: str) -> list[str]:
    """A link to somebody's file in place of one of ours: what it leads to stays as it is, and is not made."""
    other = folder / "precious"
    if target == "there":
        other.write_text("precious")
    (folder / f"journal.db{suffix}").symlink_to(other)
    programs.begin_world()
    try:
        programs.call(durable.Engine(folder / "journal.db"), plan)
    except durable.JournalError:
        pass  # refused; of a new journal, SQLite removes what seems to be left of an older one
    unharmed = other.read_text() == "precious" if target == "there" else not other.exists()
    return [] if unharmed else ["a link was followed"]

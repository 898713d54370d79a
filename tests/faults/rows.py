"""The rows of the table in docs/reliability.md."""

from typing import NamedTuple


class Row(NamedTuple):
    """A kind of fault, what is promised under it, and who tries it."""

    name: str
    promise: str
    run: str
    """`module:function` of this package; `run` where no function is named."""
    full: int
    """Trials in `make faults`."""
    small: int
    """Trials in `make test`."""
    in_memory: bool = False


_ROWS = (
    Row("kills", "kill -9 at a random time: no acknowledged step is lost or runs again", "kills", 10_000, 10),
    Row("power", "power loss: every acknowledged outcome is there, no corruption", "power", 100_000, 60, True),
    Row(
        "power-process",
        'the same with durability="process": no corruption, survivors are a prefix',
        "power:run_process",
        10_000,
        50,
        True,
    ),
    Row(
        "failed-syncs",
        "a sync that fails, the next life of the journal, and power loss: the same as power",
        "power:run_failed_syncs",
        20_000,
        75,
        True,
    ),
    Row(
        "io-errors",
        "an error of the disk at any call, once or lasting: JournalError, nothing acknowledged is lost, goes on after",
        "io_errors",
        50_000,
        25,
        True,
    ),
    Row("bits", "a flipped bit in the file: every changed value is noticed", "bits", 10_000, 150, True),
    Row(
        "files",
        "fuzzed, cut, foreign and hostile files: only the library's errors, each within a second, and no code is run",
        "files",
        100_000,
        40,
        True,
    ),
    Row(
        "io-kills",
        "kill -9 at every event of the journal's files, and again during recovery: nothing acknowledged is lost or repeated",
        "io_kills",
        10_000,
        8,
        True,
    ),
    Row("lines", "death at every line of the library: the same", "lines", 4_000, 8, True),
    Row(
        "moved",
        "journal or WAL moved, removed or replaced while open: noticed before the next acknowledgement",
        "moved",
        200,
        20,
    ),
    Row("owners", "processes that race to own a journal: one owner, a clear error in under 1 s", "owners", 1_000, 8),
    Row("secrets", "umask 000 and links in the path: mode 0600, no link followed", "secrets", 24, 24),
    Row(
        "programs", "generated programs with crashes: the result of a plain interpreter", "reference", 100_000, 30, True
    ),
    Row(
        "code",
        "workflow code that changed under an interrupted run: blocked before any body, or unaffected",
        "code",
        1_000,
        20,
        True,
    ),
    Row("text", "hostile text in ls and show: no control byte reaches the terminal", "hostile_text", 10_000, 200, True),
    Row(
        "clocks",
        "clocks that jump: no early or lost retry or timer, none longer than its delay",
        "clocks",
        1_000,
        20,
        True,
    ),
    Row(
        "soak", "mixed load, killed life after life: nothing lost; memory, handles and WAL stay flat", "soak", 1_600, 3
    ),
)
ROWS = {row.name: row for row in _ROWS}

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
    Row("power", "power loss: every acknowledged outcome is there, no corruption", "power", 100_000, 400, True),
    Row(
        "power-process",
        'the same with durability="process": no corruption, survivors are a prefix',
        "power:run_process",
        10_000,
        200,
        True,
    ),
    Row(
        "io-errors",
        "an error of the disk at any call, once or lasting: JournalError, nothing acknowledged is lost, goes on after",
        "io_errors",
        50_000,
        150,
        True,
    ),
    Row("bits", "a flipped bit in the file: every changed value is noticed", "bits", 10_000, 500, True),
    Row(
        "files",
        "fuzzed, cut, foreign and hostile files: only the library's errors, each within a second, and no code is run",
        "files",
        100_000,
        300,
        True,
    ),
)
ROWS = {row.name: row for row in _ROWS}

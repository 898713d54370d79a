"""Records to rows and back, each with a checksum over its columns.

A row whose checksum does not fit is never handed out: SQLite's own check does not notice a flipped bit inside a value.
"""

import contextlib
from collections.abc import Callable, Iterator
from itertools import product
from struct import Struct
from typing import Any, Final, NoReturn, get_args
from zlib import crc32

from ._model import AttemptRecord, MessageRecord, OwnerRecord, RunRecord, StepRecord, new_tuple
from .errors import JournalError

_STEP_TIMES: Final = Struct("<4d").pack
_RUN: Final = "%s|" * len(RunRecord._fields)
_ATTEMPT: Final = "%s|" * len(AttemptRecord._fields)
_MESSAGE: Final = "%s|" * len(MessageRecord._fields)
_OWNER: Final = "%s|" * len(OwnerRecord._fields)


class DamagedError(JournalError):
    """The checksum of a record does not fit its columns. `run` is the key of the run that it belongs to, if any."""

    def __init__(self, what: str, run: int | None = None, run_id: str | None = None) -> None:
        whose = f" run {run_id!r}" if run_id is not None else f" run number {run}" if run is not None else ""
        super().__init__(
            f"the record of {what}{whose} is damaged: its checksum does not fit. The file was changed outside of "
            "durable, or the disk is failing: restore the journal from a backup"
        )
        self.what = what
        self.run = run


@contextlib.contextmanager
def naming_the_run(run_of_seq: Callable[[int], RunRecord | None]) -> Iterator[None]:
    """A record has but the key of its run: where one is damaged, and its run is not, the error says the run's id."""
    try:
        yield
    except DamagedError as error:
        run = None
        with contextlib.suppress(JournalError):
            run = run_of_seq(error.run or 0)  # counted from 1
        if run is None:
            raise
        raise DamagedError(error.what, run.seq, run.id) from None


def _types_of(record: type[tuple[Any, ...]]) -> frozenset[tuple[type, ...]]:
    """All combinations of types that columns of such a record may have: who forges a row may forge its checksum too."""
    kinds = record.__annotations__.values()
    return frozenset(product(*(get_args(kind) or (kind,) for kind in kinds)))


_STEP_TYPES: Final = _types_of(StepRecord)
_RUN_TYPES: Final = _types_of(RunRecord)
_ATTEMPT_TYPES: Final = _types_of(AttemptRecord)
_MESSAGE_TYPES: Final = _types_of(MessageRecord)
_OWNER_TYPES: Final = _types_of(OwnerRecord)


def run_row(record: RunRecord) -> tuple[Any, ...]:
    """The columns of a run, with its checksum."""
    return (*record, crc32((_RUN % record).encode()))


def step_row(record: tuple[Any, ...]) -> tuple[Any, ...]:
    """The columns of an operation, with its checksum."""
    return (*record, _step_checksum(record, record[-1]))


def step_row_in_turn(record: tuple[Any, ...], turn: int) -> tuple[Any, ...]:
    """The same of an outcome that is given its turn."""
    return (*record[:-1], turn, _step_checksum(record, turn))


def _step_checksum(record: tuple[Any, ...], turn: int | None) -> int:
    """Times go into it as they are in memory: to spell a float in decimal takes longer than all else here."""
    (
        run, branch, position, kind, name, module, status, attempt, failures, input_, output, error,
        started_at, finished_at, retry_at, _,
    ) = record  # fmt: skip
    texts = (
        f"{run!s}|{branch!s}|{position!s}|{kind!s}|{name!s}|{module!s}|{status!s}|{attempt!s}|{failures!s}|"
        f"{input_!s}|{output!s}|{error!s}|"
    )
    times = _STEP_TIMES(
        started_at,
        -1.0 if finished_at is None else finished_at,
        -1.0 if retry_at is None else retry_at,
        -1.0 if turn is None else turn,
    )
    return crc32(times, crc32(texts.encode()))


def attempt_row(record: AttemptRecord) -> tuple[Any, ...]:
    """The columns of an attempt, with its checksum."""
    return (*record, crc32((_ATTEMPT % record).encode()))


def message_row(record: MessageRecord) -> tuple[Any, ...]:
    """The columns of a message, with its checksum."""
    return (*record, crc32((_MESSAGE % record).encode()))


def message_from(row: tuple[Any, ...]) -> MessageRecord:
    """A message, from its row."""
    record = MessageRecord._make(row[:-1])
    if crc32((_MESSAGE % record).encode()) != row[-1] or tuple(map(type, record)) not in _MESSAGE_TYPES:
        _refuse_damaged(f"message {record.seq} to", record.run)
    return record


def owner_row(record: OwnerRecord) -> tuple[Any, ...]:
    """The columns of an owner, with its checksum."""
    return (*record, crc32((_OWNER % record).encode()))


def owner_from(row: tuple[Any, ...]) -> OwnerRecord:
    """An owner, from its row."""
    record = OwnerRecord._make(row[:-1])
    if crc32((_OWNER % record).encode()) != row[-1] or tuple(map(type, record)) not in _OWNER_TYPES:
        _refuse_damaged(f"owner number {record.epoch}")
    return record


def run_from(row: tuple[Any, ...]) -> RunRecord:
    """A run, from its row."""
    record = RunRecord._make(row[:-1])
    if crc32((_RUN % record).encode()) != row[-1] or tuple(map(type, record)) not in _RUN_TYPES:
        _refuse_damaged(f"run {record.id!r}")
    return record


def step_from(row: tuple[Any, ...]) -> StepRecord:
    """An operation, from its row."""
    columns = row[:-1]
    if tuple(map(type, columns)) not in _STEP_TYPES or _step_checksum(columns, columns[-1]) != row[-1]:
        _refuse_damaged(f"operation {columns[2]} ({columns[4]!r}) of", columns[0])
    return new_tuple(StepRecord, columns)


def attempt_from(row: tuple[Any, ...]) -> AttemptRecord:
    """An attempt, from its row."""
    record = AttemptRecord._make(row[:-1])
    if crc32((_ATTEMPT % record).encode()) != row[-1] or tuple(map(type, record)) not in _ATTEMPT_TYPES:
        _refuse_damaged(f"attempt {record.attempt} at operation {record.position} of", record.run)
    return record


def _refuse_damaged(what: str, run: int | None = None) -> NoReturn:
    raise DamagedError(what, run)

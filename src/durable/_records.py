"""Records to rows and back, each with a checksum over its columns.

A row whose checksum does not fit is never handed out: SQLite's own check does not notice a flipped bit inside a value.
"""

from typing import Any, Final
from zlib import crc32

from ._model import AttemptRecord, MessageRecord, OwnerRecord, RunRecord, StepRecord
from .errors import JournalError

_STEP: Final = "%s|" * len(StepRecord._fields)
_RUN: Final = "%s|" * len(RunRecord._fields)
_ATTEMPT: Final = "%s|" * len(AttemptRecord._fields)
_MESSAGE: Final = "%s|" * len(MessageRecord._fields)
_OWNER: Final = "%s|" * len(OwnerRecord._fields)


def run_row(record: RunRecord) -> tuple[Any, ...]:
    """The columns of a run, with its checksum."""
    return (*record, crc32((_RUN % record).encode()))


def step_row(record: StepRecord) -> tuple[Any, ...]:
    """The columns of an operation, with its checksum."""
    return (*record, crc32((_STEP % record).encode()))


def attempt_row(record: AttemptRecord) -> tuple[Any, ...]:
    """The columns of an attempt, with its checksum."""
    return (*record, crc32((_ATTEMPT % record).encode()))


def message_row(record: MessageRecord) -> tuple[Any, ...]:
    """The columns of a message, with its checksum."""
    return (*record, crc32((_MESSAGE % record).encode()))


def message_from(row: tuple[Any, ...]) -> MessageRecord:
    """A message, from its row."""
    record = MessageRecord._make(row[:-1])
    if crc32((_MESSAGE % record).encode()) != row[-1]:
        _refuse_damaged(f"message {record.seq} to run number {record.run}")
    return record


def owner_row(record: OwnerRecord) -> tuple[Any, ...]:
    """The columns of an owner, with its checksum."""
    return (*record, crc32((_OWNER % record).encode()))


def owner_from(row: tuple[Any, ...]) -> OwnerRecord:
    """An owner, from its row."""
    record = OwnerRecord._make(row[:-1])
    if crc32((_OWNER % record).encode()) != row[-1]:
        _refuse_damaged(f"owner number {record.epoch}")
    return record


def run_from(row: tuple[Any, ...]) -> RunRecord:
    """A run, from its row."""
    record = RunRecord._make(row[:-1])
    if crc32((_RUN % record).encode()) != row[-1]:
        _refuse_damaged(f"run {record.id!r}")
    return record


def step_from(row: tuple[Any, ...]) -> StepRecord:
    """An operation, from its row."""
    columns = row[:-1]
    if crc32((_STEP % columns).encode()) != row[-1]:
        _refuse_damaged(f"operation {columns[2]} ({columns[4]!r}) of run number {columns[0]}")
    return StepRecord._make(columns)


def attempt_from(row: tuple[Any, ...]) -> AttemptRecord:
    """An attempt, from its row."""
    record = AttemptRecord._make(row[:-1])
    if crc32((_ATTEMPT % record).encode()) != row[-1]:
        _refuse_damaged(f"attempt {record.attempt} at operation {record.position} of run number {record.run}")
    return record


def _refuse_damaged(what: str) -> None:
    msg = (
        f"the record of {what} is damaged: its checksum does not fit. The file was changed outside of durable, or the "
        "disk is failing: restore the journal from a backup"
    )
    raise JournalError(msg)

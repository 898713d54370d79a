"""Guards of the library, each switched off: the rows must catch that, or they prove nothing.

`python -m tests.faults power --without "sync of outcomes"` runs a row on the weakened library.
"""

import contextlib
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import apsw

from durable import (
    _commits,
    _database,
    _drive,
    _drive_async,
    _engine,
    _execution,
    _format,
    _journal,
    _owner,
    _place,
    _records,
    _signature,
)
from durable._entries import Entry, Row
from durable._model import StepRecord
from durable.cli import _text
from durable.errors import JournalError


class Mutant(NamedTuple):
    """A guard, and the row that is to catch that it is gone."""

    guard: str
    row: str
    trials: int
    """At most so many: the first fault ends them."""
    apply: Callable[[], None]
    seed: int = 1
    """One with which the fault comes soon."""


def _without_sync(is_meant: Callable[[Any], bool]) -> Callable[[], None]:
    """Commits that hold only such work end without an fsync."""

    def apply() -> None:
        write, submit = _commits.Commits.write, _commits.Commits.submit

        def write_without(self: Any, work: Any, full: bool, *, alone: bool = False, **options: Any) -> Any:
            return write(self, work, full and (alone or not is_meant(work)), alone=alone, **options)

        def submit_without(self: Any, entry: Entry) -> None:
            entry.full = entry.full and not is_meant(entry.work)
            submit(self, entry)

        _commits.Commits.write = write_without  # type: ignore[method-assign]
        _commits.Commits.submit = submit_without  # type: ignore[method-assign]

    return apply


def _step(work: Any) -> StepRecord | None:
    return StepRecord._make(work[:-1]) if type(work) is tuple else None


def _is_outcome(work: Any) -> bool:
    record = _step(work)
    return record is not None and record.turn is not None


def _is_start_of_once(work: Any) -> bool:
    record = _step(work)
    return record is not None and record.status == "running" and record.name == "once"


def _is_failed_attempt(work: Any) -> bool:
    return getattr(work, "status", "") == "retrying"


def _of_request(name: str) -> Callable[[Any], bool]:
    """What a function of `_requests.py` writes."""
    return lambda work: getattr(work, "__qualname__", "") == f"{name}.<locals>.work"


def _without_sync_of_failed_attempts() -> None:
    for driver in (_drive, _drive_async):
        driver.work_of = _telling_status(driver.work_of)  # type: ignore[attr-defined]
    _without_sync(_is_failed_attempt)()


def _telling_status(work_of: Any) -> Any:
    def telling(row: Row, *rest: Any) -> Any:
        work = work_of(row, *rest)
        if type(work) is not tuple:
            work.status = StepRecord._make(row[:-1]).status
        return work

    return telling


def _without_sync_of_visitors() -> None:
    open_visitor = _journal.open_visitor

    def opened(path: str, vfs: str | None, **options: Any) -> Any:
        connection = open_visitor(path, vfs, **options)
        connection.pragma("synchronous", 1)
        return connection

    _journal.open_visitor = opened  # type: ignore[assignment]


def _is_of_run(work: Any) -> bool:
    return type(work) is not tuple


def _no_sync_at_all() -> None:
    _journal._SYNCHRONOUS[2] = "PRAGMA synchronous=NORMAL"


def _never_needs_sync() -> None:
    _execution.Execution.needs_sync = lambda self: False  # type: ignore[method-assign]


def _acknowledge_before_commit() -> None:
    """A lone statement is carried out when the next one comes."""
    put_alone, begin = _journal.Journal.put_alone, _journal.Journal.begin
    waiting: list[tuple[Any, ...]] = []

    def carry_out() -> None:
        while waiting:
            put_alone(*waiting.pop(0))

    def run_later(self: Any, row: Row, full: bool) -> int:
        carry_out()
        waiting.append((self, row, full))
        return int(self._transaction.number + 1)

    def begin_after(self: Any, full: bool) -> Any:
        carry_out()
        return begin(self, full)

    _journal.Journal.put_alone = run_later  # type: ignore[method-assign]
    _journal.Journal.begin = begin_after  # type: ignore[method-assign]


def _go_on_after_a_failed_commit() -> None:
    refuse = _commits.Commits.require_open

    def refuse_if_closed(self: Any) -> None:
        self._broken = None
        refuse(self)

    _commits.Commits.require_open = refuse_if_closed  # type: ignore[method-assign]


def _ignore_errors_of_commit() -> None:
    put_alone, commit = _journal.Journal.put_alone, _journal.Journal.commit

    def run_anyway(self: Any, row: Row, full: bool) -> int:
        with contextlib.suppress(JournalError):
            return put_alone(self, row, full)
        return int(self._transaction.number)

    def commit_anyway(self: Any, full: bool) -> None:
        with contextlib.suppress(JournalError):
            commit(self, full)

    _journal.Journal.put_alone = run_anyway  # type: ignore[method-assign]
    _journal.Journal.commit = commit_anyway  # type: ignore[method-assign]


def _never_mend() -> None:
    def check_point_all_the_same(connection: Any, vfs: str | None) -> None:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)

    _database.mend_wal = _journal.mend_wal = check_point_all_the_same


def _no_checksum() -> None:
    _records._refuse_damaged = lambda what: None  # type: ignore[assignment]


def _any_schema() -> None:
    _database.refuse_changed_schema = _format.refuse_changed_schema = lambda connection, path: None  # type: ignore[assignment]


class _Anything(frozenset[Any]):
    def __contains__(self, _: object) -> bool:
        return True


def _any_types() -> None:
    for name in ("RUN", "STEP", "ATTEMPT", "MESSAGE", "OWNER"):
        setattr(_records, f"_{name}_TYPES", _Anything())


def _any_kind_of_file() -> None:
    _database.require_place = _journal.require_place = lambda path: None  # type: ignore[assignment]


def _never_look_at_files() -> None:
    _place.Files.require_same = lambda self: None  # type: ignore[method-assign]


def _no_lock() -> None:
    _owner.fcntl.flock = lambda fd, operation: None  # type: ignore[assignment]


def _keep_engines_in_children() -> None:
    _engine.Engine._forget = lambda self: []  # type: ignore[method-assign]


def _mode_for_all() -> None:
    open_writer = _journal.open_writer

    def opened(path: str, vfs: str | None) -> Any:
        connection = open_writer(path, vfs)
        os.chmod(path, 0o644)
        return connection

    _journal.open_writer = opened


def _follow_links() -> None:
    _owner.os.O_NOFOLLOW = 0


def _any_inputs() -> None:
    _signature.Signature.differences = lambda self, recorded, current: []  # type: ignore[method-assign]


def _no_escapes() -> None:
    _text._escape = lambda match: match[0]


_MUTANTS = (
    Mutant("every sync", "power", 2000, _no_sync_at_all),
    Mutant("sync of outcomes", "power", 2000, _without_sync(_is_outcome)),
    Mutant("sync of starts and ends of runs", "power", 4800, _without_sync(_is_of_run), 8),
    Mutant("sync of at-most-once starts", "power", 7200, _without_sync(_is_start_of_once), 775),
    Mutant("sync of failed attempts", "power", 4800, _without_sync_of_failed_attempts, 100),
    Mutant("sync of signals", "power", 4800, _without_sync(_of_request("signal")), 100),
    Mutant("sync of cancellations", "power", 4800, _without_sync(_of_request("cancel")), 103),
    Mutant("sync of what visitors write", "power", 4800, _without_sync_of_visitors, 101),
    Mutant("sync of what a step shows", "power", 4800, _never_needs_sync, 100),
    Mutant("acknowledgement after the commit", "power", 2000, _acknowledge_before_commit),
    Mutant("end of acknowledgements after a failed commit", "power", 12000, _go_on_after_a_failed_commit, 144),
    Mutant("mending of the WAL after a failed sync", "failed-syncs", 2000, _never_mend),
    Mutant("checksum", "bits", 2000, _no_checksum, 2),
    Mutant("comparison of the schema", "files", 600, _any_schema, 5),
    Mutant("types of columns", "files", 600, _any_types),
    Mutant("refusal of what is no file", "files", 300, _any_kind_of_file, 2),
    Mutant("look at the files before an acknowledgement", "moved", 8, _never_look_at_files),
    Mutant("owner's lock", "owners", 3, _no_lock),
    Mutant("engines that are gone in a child of fork", "owners", 4, _keep_engines_in_children),
    Mutant("mode of the file", "secrets", 24, _mode_for_all),
    Mutant("refusal of links", "secrets", 24, _follow_links),
    Mutant("comparison of inputs", "code", 60, _any_inputs),
    Mutant("escapes for the terminal", "text", 200, _no_escapes),
    Mutant("errors of a commit", "io-errors", 150, _ignore_errors_of_commit),
)
MUTANTS = {mutant.guard: mutant for mutant in _MUTANTS}

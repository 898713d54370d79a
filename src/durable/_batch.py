"""One batch: what is written of its entries, in one transaction, and who is told what came of it.

`JournalError` out of here is of COMMIT, so that nobody knows what was written; but `NotWrittenError` is of a file that
is locked. All else that fails is the error of an entry.
"""

from collections.abc import Iterable

from ._entries import MOST_ROWS, Entry, NotWrittenError, Port, Row, Store, do_all, in_statements, rows_of
from .errors import JournalError


def how_many_fit(queue: Iterable[Entry], batch: list[Entry]) -> int:
    """How many come into the batch: up to one that is to be alone, and no more rows than are one statement."""
    count, rows = 0, sum(map(_size, batch))
    for entry in queue:
        rows += _size(entry)
        if entry.alone or (rows > MOST_ROWS and (count or batch)):
            break
        count += 1
    return count


def _size(entry: Entry) -> int:
    return len(entry.work) if type(entry.work) is list else 1


def write(store: Store, batch: list[Entry]) -> bool:
    """One transaction for the whole batch. False: nothing was written, and each by itself may fare better."""
    rows = rows_of([entry.work for entry in batch])
    return _write_rows(store, batch, rows) if len(in_statements(rows)) == 1 else _write_works(store, batch)


def _write_works(store: Store, batch: list[Entry]) -> bool:
    full = any(entry.full for entry in batch)
    transaction = None
    try:
        transaction = store.begin(full)
        for entry, result in zip(batch, do_all([each.work for each in batch], transaction), strict=True):
            entry.result = result
    except BaseException as error:
        store.rollback()
        if not isinstance(error, Exception) or (transaction is None and isinstance(error, NotWrittenError)):
            raise
        if len(batch) > 1:
            return False
        batch[0].fail(store.explain(error))
        return True
    _commit(store, batch, full)
    return True


def _commit(store: Store, batch: list[Entry], full: bool) -> None:
    """An interrupt in it is raised when the commit has been seen through, so that it is known what was written."""
    try:
        store.commit(full)
        _mark_done(batch)
    except JournalError:
        raise
    except BaseException:
        store.commit(full)
        _mark_done(batch)
        raise


def _mark_done(batch: list[Entry]) -> None:
    """All of these were written."""
    for entry in batch:
        entry.done = True


def _write_rows(store: Store, batch: list[Entry], rows: list[Row]) -> bool:
    """One statement: what fails may have failed in its commit, save for what is certainly not written."""
    try:
        number = store.put_alone(rows if len(rows) > 1 else rows[0], any(entry.full for entry in batch))
    except JournalError:
        raise
    except Exception as error:  # of what was to be written, such as a value that is too large
        if len(batch) > 1:
            return False
        batch[0].fail(error)
        return True
    for entry in batch:
        entry.result = number
        entry.done = True
    return True


def fail_all(batch: list[Entry], error: BaseException) -> None:
    """None of these was written."""
    for entry in batch:
        entry.fail(error)


def post_all(posts: dict[Port, list[Entry]]) -> None:
    """Tell each loop what came of its entries."""
    for port, entries in posts.items():
        port.post(entries)

"""The simulated death of the process: from one commit on, nothing reaches the file.

What a program leaves behind when it is killed is what it has committed, and all commits pass by here. So dying before a
commit, or after it, are all the deaths that there are: a body of a step whose outcome is about to be committed has run,
one whose start was just committed has not begun.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NoReturn

from durable._entries import rows_of
from durable.errors import JournalError

from ._plans import Never

if TYPE_CHECKING:
    import logging

    from durable._engine import Engine
    from durable._entries import Row
    from durable._transaction import Transaction

    from ._plans import Plan


class SimulatedCrash(JournalError):  # noqa: N818 - an event, and nothing that went wrong
    """The process has died, as far as the journal is concerned: nothing of its runs is written any more."""


def is_news(record: logging.LogRecord) -> bool:
    """Whether a record of a logger tells of more than of a simulated crash, of which the test knows."""
    return not (isinstance(record.args, tuple) and any(isinstance(each, SimulatedCrash) for each in record.args))


class MortalStore:
    """Between the queue of commits and the file: the process dies here when its plan says so. See `Store`."""

    def __init__(self, engine: Engine, plan: Plan) -> None:
        self._journal = engine._runtime.journal
        self._watchers = engine._runtime.watchers
        self._active = engine._runtime.active
        self._plan = plan
        self._crash: SimulatedCrash | None = None
        self.dead = threading.Event()

    @classmethod
    def of(cls, engine: Engine, plan: Plan) -> MortalStore:
        """Let what an engine writes pass through a new one."""
        store = cls(engine, plan)
        store._journal.commits._store = store
        return store

    def die(self) -> SimulatedCrash:
        """Nothing is written from now on; returns what everybody gets."""
        if self._crash is None:
            self._crash = SimulatedCrash(
                "the process has died here (a simulated crash): nothing is written or read any more"
            )
            self.dead.set()  # first: whoever gets the error looks whether it was this
            # Nor does anybody go on by what he reads, till the next engine is there.
            vars(self._journal)["_query"] = self._refuse
            self._journal.commits.refuse(self._crash)
            self._watchers.tell()
            for active in list(self._active.values()):  # one that sleeps would do so for ever: no time passes any more
                if active.execution is not None:
                    active.execution.halt(self._crash)
        return self._crash

    def _refuse(self, *_: object) -> NoReturn:
        assert self._crash is not None
        raise self._crash

    def put_alone(self, rows: Row | list[Row], full: bool) -> int:
        """In a transaction like any other."""
        transaction = self.begin(full)
        try:
            transaction.put_all(rows_of([rows]))
        except BaseException as error:
            self.rollback()
            raise self.explain(error) from error
        self.commit(full)
        return transaction.number

    def begin(self, full: bool) -> Transaction:
        if self._crash is not None:
            raise self._crash
        transaction = self._journal.begin(full)
        self._plan.begins(self._journal._writer)
        return transaction

    def commit(self, full: bool) -> None:
        connection = self._journal._writer
        if self._plan.dies_before(connection):
            self.rollback()
            raise self.die()
        self._journal.commit(full)
        if self._plan.dies_after(connection):
            raise self.die()

    def rollback(self) -> None:
        self._journal.rollback()

    def explain(self, error: BaseException) -> BaseException:
        return self._journal.explain(error)


def bury(engine: Engine) -> None:
    """Leave an engine as the end of its process would: no clean close is recorded, and the lock is free.

    Its threads cannot be killed; those that execute a step go on, and write nothing.
    """
    MortalStore.of(engine, Never()).die()
    with engine._closing:
        if not engine._closed:
            engine._closed = True
            engine._scheduler.stop(0.0)
            engine._runtime.journal.close(None)
            vars(engine._runtime.journal).pop("_query")

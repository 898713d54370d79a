"""DBOS on SQLite, as its own documentation sets it up; the crowd by `start_workflow`, on its pool of threads."""

from __future__ import annotations

import sys

from dbos import DBOS
from dbos._dbos import _get_dbos_instance
from worker import serve, settings

DBOS(
    config={
        "name": "bench",
        "system_database_url": f"sqlite:///{sys.argv[1]}/dbos.db",
        "log_level": "ERROR",
        "run_admin_server": False,
    }
)


@DBOS.step()
def trivial(number: int) -> int:
    return number


@DBOS.workflow()
def run(number: int, steps: int) -> int:
    return sum(trivial(number + step) for step in range(steps))


def crowd(runs: int, steps: int) -> None:
    for handle in [DBOS.start_workflow(run, number, steps) for number in range(runs)]:
        handle.get_result()


def durability() -> str:
    with _get_dbos_instance()._sys_db.engine.connect() as connection:
        pragmas = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    return settings(*pragmas)


DBOS.launch()
serve("dbos", durability(), lambda steps: run(0, steps), crowd)

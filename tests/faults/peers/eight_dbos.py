"""Runs of eight steps on DBOS and SQLite, as its own documentation sets it up: the program of `kills.py`.

Executed by the Python of DBOS's own environment. `once KIND FOLDER` runs it to its end. Without arguments it serves:
a line `KIND FOLDER SECONDS` forks a process for it, which is killed after so many seconds, unless it has ended; the
answer is the exit status, negative for a signal.

One thing differs from `kills.py`: the async run awaits its last four steps in one `gather`, since DBOS asks for steps
that are started in one order each time, which two branches of two steps are not.
"""

import asyncio
import math
import os
import signal
import sys
import time
import traceback

from dbos import DBOS, SetWorkflowID

STEPS = 8
BODY_SECONDS = 0.001
file = -1


def note(*words):
    os.write(file, (" ".join(map(str, words)) + "\n").encode())


def begun(number):
    token = f"{number}.{DBOS.step_status.current_attempt}.{os.getpid()}"
    note("start", number, token)
    return token


def ended(number, token):
    if number == 3 and DBOS.step_status.current_attempt % 2 == 0:
        note("fail", number, token)
        raise ConnectionError(number)
    note("end", number, token)
    return token


def got(token):
    note("got", token.partition(".")[0], token)
    return token


RETRIES = {"retries_allowed": True, "interval_seconds": 0.002, "max_attempts": 1000, "backoff_rate": 1.0}


@DBOS.step(**RETRIES)
def work(number):
    token = begun(number)
    time.sleep(BODY_SECONDS)
    return ended(number, token)


@DBOS.step(**RETRIES)
async def work_async(number):
    token = begun(number)
    await asyncio.sleep(BODY_SECONDS)
    return ended(number, token)


@DBOS.workflow()
def eight():
    return [got(work(number)) for number in range(STEPS)]


@DBOS.workflow()
async def eight_async():
    alone = [got(await work_async(number)) for number in range(4)]
    together = await asyncio.gather(*(work_async(number) for number in range(4, STEPS)))
    return alone + [got(token) for token in together]


def call():
    with SetWorkflowID("trial"):
        return DBOS.start_workflow(eight).get_result()


async def call_async():
    with SetWorkflowID("trial"):
        return await (await DBOS.start_workflow_async(eight_async)).get_result()


def execute(kind, folder):
    """Launch DBOS, which goes on with what it finds, and call the workflow; its result is left in a file."""
    global file
    file = os.open(f"{folder}/effects.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    url = f"sqlite:///{folder}/dbos.db"
    DBOS(config={"name": "eight", "system_database_url": url, "log_level": "ERROR", "run_admin_server": False})
    DBOS.launch()
    result = call() if kind == "sync" else asyncio.run(call_async())
    note("result")
    with open(f"{folder}/result", "w") as written:
        written.write(" ".join(result))
    os.rename(f"{folder}/result", f"{folder}/result.txt")


def settings(folder):
    """Its version, and what SQLite says of its own connection."""
    from importlib.metadata import version

    from dbos._dbos import _get_dbos_instance

    execute("sync", folder)
    with _get_dbos_instance()._sys_db.engine.connect() as connection:
        journal, synchronous, sqlite = (
            connection.exec_driver_sql(query).scalar()
            for query in ("PRAGMA journal_mode", "PRAGMA synchronous", "SELECT sqlite_version()")
        )
    level = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}[synchronous]
    print(f"DBOS {version('dbos')}, SQLite {sqlite}, journal_mode={journal}, synchronous={level}")


def live(kind, folder, seconds):
    """One life in a process of its own; its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            output = os.open(f"{folder}/output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(output, 1)
            os.dup2(output, 2)
            execute(kind, folder)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    if seconds < math.inf:
        time.sleep(seconds)
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    what, *rest = sys.argv[1:] or ["serve"]
    if what == "settings":
        settings(*rest)
    elif what == "once":
        execute(*rest)
    else:
        for line in sys.stdin:
            kind, folder, seconds = line.split()
            print(live(kind, folder, float(seconds)), flush=True)
    sys.stdout.flush()
    os._exit(0)  # DBOS waits for its threads, which sleep

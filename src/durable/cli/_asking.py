"""What the commands say that ask something of a run: what became of it, and who goes on with it."""

import argparse

from durable._model import FINISHED, RunRecord
from durable.cli._facts import json_line
from durable.cli._reader import Reader
from durable.cli._screen import Screen

NOBODY_GOES_ON = "nobody owns the journal: the run goes on when a program does; durable run MODULE does so"


def tell(command: str, run: RunRecord, what: str, options: argparse.Namespace, screen: Screen, reader: Reader) -> int:
    """What was asked of a run, and who does it; returns the exit code. `run` is as it is in the file now."""
    pid = reader.owner_pid()
    if options.json:
        about = {"id": run.id, "workflow": run.workflow, "status": run.status, "pid": pid}
        screen.write(json_line({"kind": command, **about}))
        return 0
    screen.say(what)
    if run.status not in FINISHED:
        goes_on = NOBODY_GOES_ON if pid is None else f"process {pid} owns the journal, and goes on with it"
        screen.say(goes_on, "dim")
    return 0

"""`durable run MODULE ...`: own the journal, go on with its runs, and do what others ask for, until it is stopped."""

import argparse
import signal
import warnings
from queue import Empty, SimpleQueue
from typing import Any, Final

from durable._active import Active
from durable._clock import SYSTEM_CLOCK
from durable._engine import Engine
from durable._model import RunRecord
from durable._outcome import Ending
from durable._progress import Progress
from durable.cli._args import age
from durable.cli._errors import error_object, first_line
from durable.cli._facts import json_line
from durable.cli._program import load, opened_by_program
from durable.cli._reader import Reader
from durable.cli._screen import Cell, Screen
from durable.cli._text import counted, iso, span

_LOOK_SECONDS: Final = 0.1
"""How long nothing has to happen before it is asked whether anything is left to do."""
_LOST_SIGNAL_SECONDS: Final = 1.0
"""When the wait begins anew. A signal that comes right before it, or in another thread, does not end it, and Python
calls the handler only when it has."""
_AT_ONCE: Final = 100
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What may follow `durable run`."""
    parser.add_argument("module", metavar="MODULE", nargs="+", help="a module with workflows, by its name or its file")
    parser.add_argument(
        "--until-idle", metavar="AGE", nargs="?", const="1m", type=age,
        help="end when nothing is left to do: no run executes or is queued, and none is due within this time; "
        "default: 1m",
    )  # fmt: skip


def run(options: argparse.Namespace, screen: Screen, _: Reader) -> int:
    """The command; returns its exit code."""
    for module in options.module:
        load(module, quiet=False)
    engine = opened_by_program(options.db) or Engine(options.db)
    return Service(engine, options, screen).run()


class Service:
    """An engine that executes what there is, and tells of it; everything is written by the main thread."""

    def __init__(self, engine: Engine, options: argparse.Namespace, screen: Screen) -> None:
        self._engine = engine
        self._runtime = engine._runtime
        self._options = options
        self._screen = screen
        self._happened: SimpleQueue[RunRecord | int] = SimpleQueue()
        """What is to be told: runs with their new status, and the number of a signal that stops this."""
        self._ended = 0

    def run(self) -> int:
        """Until a signal, or until nothing is left to do; returns the exit code."""
        self._runtime.began = lambda record: self._happened.put(record._replace(status="running"))
        self._runtime.ended = self._note_end
        before = {number: signal.signal(number, self._stop) for number in _SIGNALS}
        try:
            with self._engine:
                self._runtime.own()
                self._say_begin(self._resume())
                with Progress("", "ended") as progress:
                    stopped_by = self._serve(progress)
                for number in _SIGNALS:
                    signal.signal(number, signal.SIG_DFL)  # the second one ends the process where it is
                if stopped_by is not None:
                    self._say("stopping", "steps in flight have 5 s to end; stop it again to end at once")
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        while not self._happened.empty():
            self._tell(self._happened.get())
        self._say("stopped", f"{self._ended:,} ended; what has not ended goes on with the next program")
        return 0

    def _stop(self, number: int, _: Any) -> None:
        self._happened.put(number)

    def _resume(self) -> int:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            going = self._engine.resume()
        for warning in said:
            self._say("note", str(warning.message))
        return len(going)

    def _serve(self, progress: Progress) -> int | None:
        """Tell what happens; the signal that ends it, `None` where nothing is left to do."""
        horizon = self._options.until_idle
        while True:
            try:
                happened = self._happened.get(timeout=_LOST_SIGNAL_SECONDS if horizon is None else _LOOK_SECONDS)
            except Empty:
                if horizon is not None and self._is_idle(horizon):
                    return None
                continue
            if isinstance(happened, int):
                return happened
            progress.clear()
            self._tell(happened)
            progress.what = f"{len(self._runtime.active):,} running "
            progress.reach(self._ended)

    def _is_idle(self, horizon: float) -> bool:
        journal, declared = self._runtime.journal, self._runtime.registry.workflows
        if self._runtime.active or any(each.workflow in declared for each in journal.runs_of_status("queued")):
            return False
        until, after = SYSTEM_CLOCK.now() + horizon, (float("-inf"), 0)
        while due := journal.due_runs(until, after, _AT_ONCE):
            records = [journal.run_of_seq(seq) for seq, *_ in due]
            if any(record is not None and record.workflow in declared for record in records):
                return False
            after = (due[-1][2], due[-1][0])
        return not self._runtime.active

    # -- what is told -------------------------------------------------------------------------------------------------

    def _note_end(self, active: Active, ending: Ending) -> None:
        """From any thread. What has no record of its own ended before its body began, or goes on later."""
        record = ending.record or self._runtime.journal.run(active.run_id)
        if record is not None:
            self._happened.put(record._replace(status="interrupted") if record.status == "running" else record)

    def _tell(self, record: RunRecord | int) -> None:
        if isinstance(record, int):
            return
        self._ended += record.finished_at is not None
        if self._options.json:
            about: dict[str, Any] = {"id": record.id, "workflow": record.workflow, "status": record.status}
            about |= {"error": error_object(record.error), "at": iso(SYSTEM_CLOCK.now())}
            self._screen.write(json_line({"kind": "change", **about}))
            self._screen.flush()
            return
        self._line(self._screen.status(record.status), record.workflow, record.id, self._detail(record))

    def _detail(self, record: RunRecord) -> str:
        if record.status == "waiting":
            return "for a signal" if record.wake_at is None else f"for {span(record.wake_at - SYSTEM_CLOCK.now())}"
        if record.error is not None:
            return first_line(record.error)
        return "" if record.finished_at is None else f"after {span(record.finished_at - record.created_at)}"

    def _say_begin(self, going: int) -> None:
        pid = self._runtime.journal.owner_pid()
        if self._options.json:
            self._screen.write(json_line({"kind": "owner", "path": self._engine.path, "pid": pid, "going": going}))
            self._screen.flush()
            return
        names = ", ".join(sorted(self._runtime.registry.workflows)) or "none"
        goes_on = f"{counted(going, 'run')} {'goes' if going == 1 else 'go'} on"
        self._say("owner", f"process {pid} owns {self._engine.path}; workflows: {names}; {goes_on}")

    def _say(self, what: str, text: str) -> None:
        if not self._options.json:
            self._line(Cell(what, "bold"), text)

    def _line(self, first: Cell, *texts: str) -> None:
        if self._screen.width is None:
            self._screen.table((), [[first, *map(Cell, texts)]], [])
        else:
            self._screen.line(first, *(Cell(f"  {text}") for text in texts))
        self._screen.flush()

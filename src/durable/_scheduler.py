"""Runs in the background: sync ones on a bounded pool of threads, async ones as tasks of one event loop."""

import threading
import warnings
from typing import Any

from ._helpers import ThreadPool
from ._identity import listed
from ._model import RunRecord
from ._running import background, drive_run
from ._runtime import Active, Request, Runtime

DEFAULT_THREADS = 32


class Scheduler:
    """Starts runs in the background, and resumes those that an earlier owner left."""

    def __init__(self, runtime: Runtime, threads: int) -> None:
        self.runtime = runtime
        self._pool = ThreadPool("durable-run", threads)
        self._guard = threading.Lock()
        self._tasks: Any = None
        self._loop_thread: Any = None

    def start(self, request: Request) -> str:
        """Acknowledge a run, and set it going unless it is there already; return its id. It is on disk then."""
        runtime = self.runtime
        runtime.own()
        mine = runtime.prepare(request)
        try:
            admission = runtime.journal.write(runtime.admit(request, mine), full=True)
        except BaseException as error:
            runtime.abandon(mine, error)
            raise
        if admission.is_mine:
            self._submit(mine)
        return admission.record.id

    def set_going(self, record: RunRecord) -> Active | None:
        """Execute an interrupted, queued or blocked run in the background; `None` when it is not to be, or is already."""
        workflow = self.runtime.registry.workflows.get(record.workflow)
        if workflow is None:
            return None
        self.runtime.own()
        active = self.runtime.set_going(record, workflow)
        if active is not None:
            self._submit(active)
        return active

    def resume(self) -> list[tuple[RunRecord, Active]]:
        """Set going what an earlier owner left, oldest first; warn once of what this program does not declare."""
        self.runtime.own()
        found, undeclared = self.runtime.resumable()
        if undeclared:
            msg = (
                f"{self.runtime.journal.path} holds unfinished runs of workflows that this program does not declare: "
                f"{listed(undeclared)}. They are left as they are: import the modules that declare them before resume()"
            )
            warnings.warn(msg, RuntimeWarning, stacklevel=3)
        going = [(record, self.set_going(record)) for record in found]
        return [(record, active) for record, active in going if active is not None]

    def adopt_loop(self, loop: Any) -> None:
        """Execute background async runs on the caller's loop: `async with engine`."""
        from ._running_async import Tasks

        self._tasks = Tasks(loop)

    def runs_on(self, loop: Any) -> bool:
        """Whether background async runs execute on this loop."""
        return self._tasks is not None and self._tasks.port.loop is loop

    def stop(self) -> None:
        """Begin nothing more, and end what executes: see `Runtime.stop`."""
        self._pool.clear()
        self.runtime.stop()
        if self._loop_thread is not None:
            self._loop_thread.stop()

    def _submit(self, active: Active) -> None:
        if not active.workflow.is_async:
            self._pool.submit(lambda: self._run(active))
            return
        from ._running_async import LoopThread, Tasks, drive_run_async

        with self._guard:
            if self._tasks is None:
                self._loop_thread = LoopThread()
                self._tasks = Tasks(self._loop_thread.loop)
        tasks, runtime = self._tasks, self.runtime
        tasks.spawn(lambda: drive_run_async(runtime, background(runtime, active), tasks.port))

    def _run(self, active: Active) -> None:
        try:
            drive_run(self.runtime, background(self.runtime, active))
        except BaseException as error:
            self.runtime.abandon(active, error)

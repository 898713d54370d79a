"""How the execution of a run begins here: what it is given, its deadline, and the threads that it shares."""

import threading
from functools import partial

from ._active import Active, Admission
from ._effects import TOLD
from ._execution import Execution
from ._model import StepRecord
from ._rests import SyncThreads
from ._runtime import Runtime


def begin(runtime: Runtime, active: Active, admission: Admission, past: list[StepRecord]) -> Execution:
    """The execution of a run that is this process's to execute, in the thread or task that this is called in."""
    execution = Execution(
        runtime.journal,
        runtime.clock,
        runtime.registry,
        admission.record,
        past,
        admission.unsynced,
        runtime.watchers,
        runtime.limits,
        runtime.step_pool,
        active.parent,
        may_suspend=active.parent.may_suspend if active.parent else active.origin != "call",
    )
    _share_threads(active, execution)
    execution.cancel.delivered = any(step.error in TOLD for step in past)
    execution.cancel.requested = admission.is_cancelled
    execution.cancel.timeout_seconds = active.workflow.timeout_seconds
    active.execution = execution
    active.thread = threading.get_ident()
    runtime.began(admission.record)
    if active.cancelling:
        execution.request_cancel()
    elif admission.record.deadline is not None:
        _arm_timeout(runtime, active, execution, admission.record.deadline)
    if runtime.is_closed():
        execution.interrupt("the engine was closed")
    return execution


def _arm_timeout(runtime: Runtime, active: Active, execution: Execution, deadline: float) -> None:
    def time_out() -> None:
        if not execution.over and execution.halted is None:
            execution.request_cancel(timed_out=True)
            runtime.cancel_children(execution.record)

    assert runtime.timer is not None  # who executes a run owns the journal
    if deadline <= runtime.clock.now():
        time_out()
    else:
        call = runtime.timer.call_at(deadline, time_out)
        active.watch(partial(runtime.timer.forget, call))  # most have ended long before


def _share_threads(active: Active, execution: Execution) -> None:
    """A sync run that may be suspended is so together with the runs that it calls."""
    parent = active.parent
    if not execution.may_suspend or active.workflow.is_async:
        return
    if parent is None:
        execution.sync_threads = SyncThreads()
    elif parent.branches is not None:
        execution.may_suspend = False  # it blocks the loop of an async one
    else:
        execution.sync_threads = parent.sync_threads
    if execution.sync_threads is not None:
        execution.sync_threads.executions.append(execution)

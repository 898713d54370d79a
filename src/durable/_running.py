"""From a call to its result: which run it means, its execution, its end. One generator each, driven here by blocking.

What `_replay.py` is for an operation, this is for a run: the generators decide and never wait; `drive_run` performs
their effects in this thread, `drive_run_async` (`_running_async.py`) on an event loop.
"""

import threading
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from ._active import ENGINE, Active, Admission, Declaration, Request
from ._ancestry import who_waits
from ._beginning import begin
from ._execution import Execution
from ._limits import Loan, Slots
from ._model import FINISHED, RunRecord
from ._outcome import Ending, cancelled, failed, halted, raised, recorded, recorded_error, returned
from ._rests import Suspended
from ._runtime import Runtime
from ._scopes import SCOPE
from ._thread_pool import lending
from ._transaction import Transaction
from .errors import (
    Cancelled,
    DurableError,
    Halt,
    JournalError,
    RunBlockedError,
    RunConflictError,
    RunInterruptedError,
    SerializationError,
)


class Write(NamedTuple):
    """Do the work in a write transaction; sent back: its result."""

    work: Callable[[Transaction], Any]
    full: bool


class Body(NamedTuple):
    """Call the workflow's function; sent back: the `Ending`."""

    execution: Execution
    workflow: Declaration
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Over(NamedTuple):
    """Go on when the execution of a run is over, by whomever.

    `parent`: whose child it is, where somebody else set it going before the parent called it. A parent that gives it up
    then cancels it, and goes on when it has ended.
    """

    active: Active
    parent: Execution | None = None


class Join(NamedTuple):
    """Go on when a run has ended that is not the caller's to execute; sent back: its `Ending`.

    `wait` blocks, or is to be awaited. It sets the run going in the background where nobody executes it.
    """

    wait: Callable[[], Any]


class TakeSlot(NamedTuple):
    """Go on when the `concurrency` of a run's workflow has a slot for it; sent back: whether it was given.

    It is not where the run is to be told meanwhile that it is cancelled, or taken down: see `Active.needs_slot`.
    """

    active: Active
    slots: Slots


Effect = Write | Body | Over | Join | TakeSlot
Course = Generator[Effect, Any, Any]


def call(runtime: Runtime, request: Request, join: Callable[[], Any] | None = None) -> Course:
    """A plain call: execute the run that it means, or wait for it, or take its recorded result. Returns the `Ending`.

    Raised is what keeps the run from ending now, and only that: what it failed with is in the `Ending`.

    A run holds no slot of its workflow's `concurrency` while it, or a step of it, waits for another: see `lend_slot`.
    `join`: how a parent waits for a run that is no child: see `Request.joins`.
    """
    runtime.own()
    lent = lend_slot(runtime, blocks=not request.workflow.is_async)
    if lent is None:
        return (yield from _call(runtime, request, join))
    parent, loan = lent
    try:
        ending = yield from _call(runtime, request, join)
    except GeneratorExit:  # nobody drives this any more
        raise
    except BaseException:
        yield TakeSlot(parent, loan)
        raise
    yield TakeSlot(parent, loan)
    return ending


def lend_slot(runtime: Runtime, *, blocks: bool) -> tuple[Active, Loan] | None:
    """Lend the slot of the run that begins to wait here for another; `None` where it has none, or must keep it.

    Where it blocks its loop, those there who might take the slot could neither use it nor give it back. Where it may
    go on before the wait has ended, it needs the slot itself: see `who_waits`.
    """
    waiting = who_waits(runtime.journal)
    active = runtime.active.get(waiting.record.id) if waiting is not None else None
    limit = runtime.limit_of(active.workflow) if active is not None else None
    if waiting is None or active is None or limit is None or active.execution is not waiting:
        return None
    if blocks and waiting.branches is not None and waiting.branches.is_here():
        return None
    return active, active.lend_slot(limit)


def _call(runtime: Runtime, request: Request, join: Callable[[], Any] | None) -> Course:
    result = request.workflow.signature.result
    claimer = mine = runtime.prepare(request)
    while True:
        try:
            admission: Admission = yield Write(runtime.admit(request, mine), full=False)
        except BaseException as error:
            runtime.abandon(mine, error)
            runtime.give_back(claimer)
            raise
        if admission.is_mine:
            ending: Ending = yield from execute(runtime, admission)
            if ending.error is not None and (ending.record is None or ending.record.status not in FINISHED):
                raise ending.error
            return ending
        if admission.record.status in FINISHED:
            return recorded(admission.record, result)
        if join is not None and request.joins(admission.record):
            return (yield Join(join))
        try:
            record = yield from _until_over(runtime, request, admission)
        except BaseException:
            runtime.give_back(claimer)
            raise
        if record is None or record.status in FINISHED:
            return recorded(record or admission.record, result)
        if record.status == "blocked":
            raise recorded_error(record)
        request = request._replace(run_id=record.id)  # suspended, or its caller was interrupted: this one goes on
        mine = runtime.prepare(request)


def _until_over(runtime: Runtime, request: Request, admission: Admission) -> Course:
    """Wait while somebody else executes a run; return its record then, `None` where it is gone.

    Raised is what interrupted the execution, or the wait for it; but where that was a call from outside, it is for its
    caller alone, and this one goes on.
    """
    active, is_child = admission.active, request.is_child(admission.record)
    assert active is not None
    is_first = is_child and active.caller is not request.parent
    if is_first:
        active.caller = request.parent
    with runtime.awaiting(admission.record.id):
        yield Over(active, request.parent if is_first else None)
    record = runtime.journal.run(admission.record.id)
    goes_on = record is not None and record.status not in {*FINISHED, "blocked"}
    if goes_on and (isinstance(active.error, DurableError) or (is_child and active.origin != "call")):
        active.require_not_interrupted()
    return record


def execute(runtime: Runtime, admission: Admission) -> Course:
    """Execute a run that is this caller's; return the `Ending`, which is in the file then."""
    active, record = admission.active, admission.record
    assert active is not None
    ending = None
    try:
        if admission.is_new and _is_called_in_vain(active):
            active.cancelling = True
        limit = runtime.limit_of(active.workflow)
        if limit is not None and active.release_slot is None and record.status == "running":
            if (yield TakeSlot(active, limit)):
                active.release_slot = limit.release
            if active.is_over():
                raise active.not_begun()
        if active.cancelling and admission.is_new:  # one that has begun before goes on without a slot, to be told
            ending = cancelled(record, runtime.clock.now())
        else:
            ending = yield from _execution(runtime, active, admission)
        try:
            ending = yield from _write_end(runtime, active, ending)
        except SerializationError as error:  # a result that is too large for the file
            assert active.execution is not None
            ending = failed(active.execution, error)
            ending = yield from _write_end(runtime, active, ending)
    except DurableError as error:  # the journal failed before or after the body
        ending = Ending(None, None, error)
    finally:
        if ending is None:
            ending = Ending(None, None, RunInterruptedError(f"run {record.id} of {record.workflow!r} was interrupted"))
        runtime.over(active, ending)
    return ending


def _is_called_in_vain(active: Active) -> bool:
    """Whether the sync run that calls a new one was cancelled just before, and with it only the children there."""
    return active.parent is not None and active.parent.branches is None and active.parent.is_being_cancelled()


def _write_end(runtime: Runtime, active: Active, ending: Ending) -> Course:
    """Write the ending; return it with the record as it was written."""
    record = ending.record
    if record is None:
        return ending
    if not isinstance(ending.error, Suspended):
        yield Write(lambda transaction: transaction.finish_run(record), full=True)
        return ending
    assert active.execution is not None
    execution, waits, now = active.execution, ending.error, runtime.clock.now()

    def suspend(transaction: Transaction) -> RunRecord:
        waiting = record._replace(wake_at=now) if waits.are_over(transaction, execution) else record
        transaction.put_run(waiting)
        return waiting

    # Lost with the power, the run is one that was interrupted, and goes on as well: no fsync.
    return ending._replace(record=(yield Write(suspend, full=False)))


def _execution(runtime: Runtime, active: Active, admission: Admission) -> Course:
    record = admission.record
    if record.status != "running":  # blocked by its crashes, or cancelled before it began
        raise recorded_error(record)
    past = [] if admission.is_new else runtime.journal.steps(record.seq)
    execution = begin(runtime, active, admission, past)
    try:
        args, kwargs = _arguments(execution, active.workflow)
    except Halt as halt:  # the body cannot even be called
        return halted(execution, execution.halt(halt.error))
    return (yield Body(execution, active.workflow, args, kwargs))


def _arguments(execution: Execution, workflow: Declaration) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the body is called with: the decoded journal value. `Halt` where it no longer decodes."""
    try:
        loaded = workflow.signature.load_inputs(execution.record.input, f"workflow {workflow.name!r}")
    except SerializationError as error:
        msg = f"{error}. Nothing was lost: with code that fits, the run goes on"
        raise Halt(RunBlockedError(msg)) from error
    return workflow.signature.unbind(loaded)


def background(runtime: Runtime, active: Active) -> Course:
    """Execute a run that was queued in this process; what it raises is in the journal, and in `active.error`.

    Nothing is done where somebody else has done so: see `Scheduler.cancel`.
    """
    if not active.begin():
        return

    def work(transaction: Transaction) -> Admission:
        found = transaction.run_of_id(active.run_id)
        if found is None or found.status in FINISHED:
            msg = f"run {active.run_id} ended before it could begin here"
            raise RunInterruptedError(msg)
        return runtime.readmit(transaction, found, active)

    try:
        runtime.require_open()
        admission: Admission = yield Write(work, full=False)
    except DurableError as error:
        ending = Ending(None, None, error)
        runtime.over(active, ending)
    else:
        ending = yield from execute(runtime, admission)
    if isinstance(ending.error, JournalError):
        import logging

        logging.getLogger("durable").error("run %s stopped: %s", active.run_id, ending.error)


# -- the driver that blocks -------------------------------------------------------------------------------------------


def drive_run(runtime: Runtime, course: Course) -> Any:
    """Carry out a course in this thread; return its value or raise its error."""
    try:
        effect = next(course)
        while True:
            try:
                answer = _perform(runtime, effect)
            except BaseException as error:
                effect = course.throw(error)
            else:
                effect = course.send(answer)
    except StopIteration as done:
        return done.value


def _perform(runtime: Runtime, effect: Effect) -> Any:
    if isinstance(effect, Write):
        return runtime.journal.write(effect.work, full=effect.full)
    if isinstance(effect, Body):
        return run_body(runtime, effect)
    if isinstance(effect, TakeSlot):
        return take_slot(runtime, effect.active, effect.slots)
    if isinstance(effect, Join):
        with lending():
            return effect.wait()
    if effect.active.thread == threading.get_ident():
        msg = f"run {effect.active.run_id} is waiting for this call: a run cannot wait for itself"
        raise RunConflictError(msg)
    with lending():
        over = threading.Event()
        effect.active.watch(over.set)
        runtime.clock.wait(over, None)
    return None


def take_slot(runtime: Runtime, active: Active, slots: Slots) -> bool:
    """Wait, blocking this thread, for a slot; see `TakeSlot`.

    Who has begun, and lent its slot while it waited, is served before those who have not.
    """
    changed, given = threading.Event(), []

    def granted() -> None:
        given.append(slots)
        changed.set()

    slots.request(granted, first=active.execution is not None)
    try:
        with active.waiting_for_slot(changed), lending():
            while not given and active.needs_slot():
                runtime.clock.wait(changed, None)
                changed.clear()
    except BaseException:
        if not slots.withdraw(granted):
            slots.release()
        raise
    return bool(given) or not slots.withdraw(granted)


def run_body(runtime: Runtime, effect: Body) -> Ending:
    """Call a sync workflow's function in this thread."""
    execution = effect.execution
    scope, engine = SCOPE.set(execution.root), ENGINE.set(runtime.engine)
    try:
        value = effect.workflow.function(*effect.args, **effect.kwargs)
        _wait_for_submitted(execution)
    except BaseException as error:
        if isinstance(error, (Exception, Cancelled)):
            _wait_for_submitted(execution)
        return raised(execution, error)  # what it means is decided there
    finally:
        SCOPE.reset(scope)
        ENGINE.reset(engine)
    return returned(execution, value, effect.workflow.signature.result)


def _wait_for_submitted(execution: Execution) -> None:
    """Nothing of a run happens after its outcome: steps that were submitted end first."""
    if execution.parallel is not None:
        execution.parallel.wait_for_all()

"""Whether something of a run was lost from the file. No checksum tells of a row that is not found: its place does."""

from collections.abc import Callable, Iterable
from math import inf

from ._model import RunRecord, StepRecord, operation_number
from ._replay import describe, place
from .errors import JournalError, NonDeterminismError


def require_not_lost(
    branch: str,
    position: int,
    left: Iterable[tuple[str, int]],
    run: RunRecord,
    steps_of: Callable[[int], list[StepRecord]],
    *,
    called: str = "an operation",
) -> None:
    """A sync workflow waits for one operation before it calls the next: where later ones are there, it was lost.

    It would run again otherwise. No checksum tells of a row that is not found, since the number of its run has changed.
    Not for what runs beside the others, which may not have begun when they were written. Where it may have been such a
    one, and the code waits for it today, the code is another: `NonDeterminismError`. `left`: the places that the
    journal has and the code has not called yet. `steps_of` reads the operations of the run of a key. `called`: what the
    code has called, for the message.
    """
    if any(other == branch and later > position for other, later in left):
        steps = steps_of(run.seq)
        if (before := _beside(steps, branch, position)) is not None:
            msg = (
                f"the code called {called} and waits for it, but there the journal has nothing, and has what was "
                f"called later: a submitted step, which had not begun, since {before}. The workflow was changed under "
                "this run: put its code back, or start a new run; completed steps are kept. Where it was not changed, "
                "an operation was lost: restore the journal from a backup"
            )
            raise NonDeterminismError(msg)
        number = operation_number(steps, (branch, position))
        msg = (
            f"operation {position} of run {run.id!r} of {run.workflow!r} is missing, and later ones are there. The "
            "file was changed outside of durable, or the disk is failing: restore the journal from a backup, or go on "
            f"without what came later, in a new run: run.fork(from_step={number})"
        )
        raise JournalError(msg)


def _beside(steps: list[StepRecord], branch: str, position: int) -> str | None:
    """What tells that the operation at a place may have been submitted, and had not begun: one that was called before.

    It had not ended when the first operation behind that place began, or had not begun either. What is submitted behind
    it may wait for the same threads.
    """
    own = {step.position: step for step in steps if step.branch == branch}
    began = min((step.started_at for step in own.values() if step.position > position), default=inf)
    for called_before in range(position):
        step = own.get(called_before)
        if step is None:
            return f"that at position {called_before} had not begun either"
        if step.turn is None or (step.finished_at or 0.0) > began:
            return f"{describe(step)} at {place(step)} was under way"
    return None


def require_outcomes(found: int, run: RunRecord) -> None:
    """An outcome stays where it is: fewer than there were when the run was last set going, and some were lost.

    The same in async runs, and where the last operation is the one that is not found.
    """
    if found < run.progress:
        msg = (
            f"{run.progress - found} of the {run.progress} outcomes that run {run.id!r} of {run.workflow!r} had when "
            "it was last set going are missing. The file was changed outside of durable, or the disk is failing: "
            "restore the journal from a backup"
        )
        raise JournalError(msg)

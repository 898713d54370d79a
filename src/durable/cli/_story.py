"""Everything that the journal has about one run, put together."""

from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple

from durable._clock import SYSTEM_CLOCK
from durable._model import HAS_RUN, HIDDEN_KINDS, TIMER, AttemptRecord, RunRecord, StepRecord, by_call
from durable.cli._errors import error_object
from durable.cli._facts import Facts, Owners, awaited_by, run_object, status_of, value
from durable.cli._reader import Reader, Tally
from durable.cli._text import iso
from durable.errors import JournalError, RunConflictError, RunNotFoundError


class Trial(NamedTuple):
    """One operation with the attempts that did not complete it."""

    step: StepRecord
    attempts: list[AttemptRecord]
    number: int | None
    """Which one it is of `run.steps()`, from 1 on; `None` where that does not list it."""

    @property
    def began_at(self) -> float:
        """When its first attempt began."""
        return self.attempts[0].started_at if self.attempts else self.step.started_at

    @property
    def ended_at(self) -> float | None:
        """When it had its outcome."""
        return self.step.finished_at if self.step.status in {"completed", "failed"} else None

    def object(self, run: RunRecord, *, traceback: bool = False) -> dict[str, Any]:
        """The operation for programs."""
        step = self.step
        return {
            "kind": step.kind,
            "run": run.id,
            "number": self.number,
            "branch": step.branch,
            "position": step.position,
            "name": step.name,
            "status": step.status,
            "attempt": step.attempt,
            "failures": step.failures,
            "input": value(step.input),
            "output": value(step.output if step.status == "completed" else None),
            "error": error_object(step.error, traceback=traceback),
            "started_at": iso(step.started_at),
            "finished_at": iso(self.ended_at),
            "retry_at": iso(step.retry_at),
            "attempts": [
                {
                    "attempt": attempt.attempt,
                    "started_at": iso(attempt.started_at),
                    "finished_at": iso(attempt.finished_at),
                    "error": error_object(attempt.error, traceback=traceback),
                    "died": attempt.error is None,
                }
                for attempt in self.attempts
            ],
        }


class Story:
    """One run with its operations. `damage` tells of the records that cannot be read.

    `RunNotFoundError` where the run was deleted meanwhile: what was read of it may be nothing.
    """

    def __init__(self, reader: Reader, run: RunRecord, *, utc: bool = False) -> None:
        self.utc = utc
        """Whether people are shown exact times."""
        self.now = SYSTEM_CLOCK.now()
        self.damage: list[str] = []
        attempts: dict[tuple[str, int], list[AttemptRecord]] = {}
        for attempt in reader.sound_attempts(run.seq, self.damage.append):
            attempts.setdefault((attempt.branch, attempt.position), []).append(attempt)
        self._steps = reader.sound_steps(run.seq, self.damage.append)
        numbers = count(1)
        self.trials = [
            Trial(step, attempts.get(step[1:3], []), next(numbers) if step.kind not in HIDDEN_KINDS else None)
            for step in by_call(self._steps)
            if step.kind != TIMER
        ]
        self.run = run
        self._reader = reader
        owners = Owners(reader)
        status = status_of(run, owners)
        owner = owners.of(run.epoch)
        owners.look()
        unread = reader.unread(run.seq, self.damage.append)
        awaited = awaited_by(reader, run, self._steps)
        still = reader.run_of_seq(run.seq)
        if still is None or still.id != run.id:
            msg = f"run {run.id} of {run.workflow!r} was deleted while it was read"
            raise RunNotFoundError(msg)
        tally = Tally(0, 0, capped=False)
        self.facts = Facts(run, status, tally, None, owner, owners.live, unread=unread, awaited=awaited)

    def refusal_of_retry(self) -> str:
        """Of a failed run: why it cannot be retried; "" where it can."""
        from durable._going_back import to_repeat

        has_called = any(step.kind in HAS_RUN for step in self._steps)
        try:
            to_repeat(self.run, self._steps, self._reader.children(self.run.seq) if has_called else [])
        except (RunConflictError, JournalError) as refusal:
            return str(refusal)
        return ""

    def objects(self) -> Iterator[dict[str, Any]]:
        """The run for programs, then each operation. Keys are added in later versions, never renamed."""
        facts = self.facts
        yield {
            **run_object(self.run, facts.status),
            "module": self.run.module,
            "pid": None if facts.owner is None else facts.owner.pid,
            "live_pid": None if facts.live is None else facts.live.pid,
            "unread": [
                {
                    "kind": message.kind,
                    "name": message.name,
                    "value": value(message.value),
                    "error": error_object(message.error),
                    "sent_at": iso(message.sent_at),
                }
                for message in facts.unread
            ],
            "damaged": self.damage,
        }
        for trial in self.trials:
            yield trial.object(self.run)

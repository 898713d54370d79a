"""What can be said of a run and its steps: the status that people see, how far it is, and why it does not go on."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from durable._model import FINISHED, WAITS, MessageRecord, OwnerRecord, RunRecord, StepRecord, seen_status
from durable.cli._errors import error_object, first_line
from durable.cli._reader import Reader, Tally
from durable.cli._text import ago, ahead, iso
from durable.errors import JournalError

NOBODY: Final = "nobody owns the journal"


class Facts(NamedTuple):
    """One run as a reader sees it. `step` is the operation that it is at, or that failed."""

    run: RunRecord
    status: str
    tally: Tally
    step: StepRecord | None
    owner: OwnerRecord | None
    """The process that last set the run going."""
    live: OwnerRecord | None
    """The process that owns the journal now."""
    failure: str | None = None
    """The error of the latest attempt, where the step waits for its next one."""
    unread: Sequence[MessageRecord] = ()
    """What was sent to the run and it has not read, where it waits and nobody is there to go on with it."""
    awaited: Sequence[str] = ()
    """The runs that it has called or started, where it can only wait for some of these."""
    damage: str = ""
    """What is to be said of a damaged record of a step."""


class Owners:
    """The processes that owned the journal, each looked up once. Who lives is asked anew for each `look`."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: dict[int, OwnerRecord | None] = {}
        self._live: int | None = None

    def look(self) -> int | None:
        """The epoch of the living owner. Asked after the record was read: an owner that died since then is dead."""
        self._live = self._reader.live_epoch()
        return self._live

    def of(self, epoch: int | None) -> OwnerRecord | None:
        """The process of an epoch, `None` for none."""
        if not epoch:
            return None
        if epoch not in self._known:
            self._known[epoch] = self._reader.owner(epoch)
        return self._known[epoch]

    @property
    def live(self) -> OwnerRecord | None:
        """The process that owned the journal at the last look."""
        return self.of(self._live)


def facts_of(reader: Reader, run: RunRecord, status: str, owners: Owners) -> Facts:
    """What a list tells of a run."""
    step, failure, damage = None, None, list[str]()
    unread: Sequence[MessageRecord] = ()
    awaited: Sequence[str] = ()
    try:
        if status not in {"completed", "queued"}:
            step = reader.latest_step(run.seq, "running", "retrying")
        if step is None and status == "failed":
            step = reader.latest_step(run.seq, "failed", "failed")
        if step is not None and step.status == "retrying":
            failure = reader.last_failure(step)
        if status == "waiting" and owners.live is None:
            unread = reader.unread(run.seq, damage.append)
        awaited = awaited_by(reader, run, () if step is None else (step,))
    except JournalError as error:
        damage.append(str(error))
    tally, owner = reader.tally(run.seq), owners.of(run.epoch)
    return Facts(run, status, tally, step, owner, owners.live, failure, unread, awaited, damage[0] if damage else "")


def awaited_by(reader: Reader, run: RunRecord, steps: Iterable[StepRecord]) -> list[str]:
    """Ids of the runs of which a suspended run awaits one: no step of it is a wait, and it has no time to go on."""
    under_way = {step.kind for step in steps if step.status in {"running", "retrying"}}
    has_timer = run.wake_at is not None and run.wake_at != run.deadline
    awaits_run = run.status == "waiting" and under_way <= {"child"} and not has_timer
    return reader.unfinished_children(run.seq) if awaits_run else []


def status_of(run: RunRecord, owners: Owners) -> str:
    """The status that people see. `owners` knows who lives afterwards, where that matters to the run."""
    return run.status if run.status in FINISHED else seen_status(run, owners.look())


def step_status(step: StepRecord, run_status: str) -> str:
    """The status that people see, given that of the run: what waits is as it was, whoever is there to see the end."""
    if step.status != "running":
        return step.status
    if step.kind in WAITS:
        return "waiting"
    return "running" if run_status in {"running", "waiting"} else "interrupted"


# -- in words ---------------------------------------------------------------------------------------------------------


def why(facts: Facts, now: float, *, utc: bool = False) -> str:
    """One line on why a run is where it is; "" where there is nothing to say. `utc`: with exact times."""
    run, step = facts.run, facts.step
    if facts.damage:
        return facts.damage
    if facts.status == "interrupted":
        return gone(facts, now, utc=utc) + _missed_retry(step, now, utc=utc)
    if facts.status in {"running", "waiting"}:
        return ", ".join(filter(None, _under_way(facts, now, utc=utc)))
    if facts.status == "queued":
        return "its turn comes" if facts.live else f"{NOBODY}; durable.resume() starts it"
    if facts.status == "blocked":
        return first_line(run.error, named=False)
    return first_line(run.error) if run.error else ""


def gone(facts: Facts, now: float, *, utc: bool = False) -> str:
    """What became of the process that executed the run."""
    owner = facts.owner
    if owner is None:
        return "its process is gone"
    if owner.closed_at is not None:
        return f"process {owner.pid} stopped {ago(owner.closed_at, now, utc=utc)}"
    return f"process {owner.pid} died"


def next_retry(step: StepRecord, now: float, *, utc: bool = False) -> str:
    """When the next attempt of a step in its back-off is due."""
    due = step.retry_at or now
    return f"retry {ahead(due, now, utc=utc)}" if due > now else "retry is due"


def _missed_retry(step: StepRecord | None, now: float, *, utc: bool) -> str:
    if step is None or step.status != "retrying" or step.retry_at is None:
        return ""
    if step.retry_at < now:
        return f", retry was due {ago(step.retry_at, now, utc=utc)}"
    return f", retry due {ahead(step.retry_at, now, utc=utc)}"


def _under_way(facts: Facts, now: float, *, utc: bool) -> Iterator[str]:
    """What a run waits for, if for anything, and that nobody is there to see it come."""
    run, step = facts.run, facts.step
    if any(message.kind == "cancel" for message in facts.unread):
        yield "is to be cancelled"
    elif step is not None and step.status == "retrying":
        yield next_retry(step, now, utc=utc) + (f" after {first_line(facts.failure)}" if facts.failure else "")
    elif step is not None and step.kind in WAITS:
        yield from waiting(step, facts.unread, now, utc=utc)
    elif run.status == "waiting":
        yield waits_for(facts.awaited)
        yield until(run.wake_at, now, utc=utc) or ("" if facts.awaited else "until something happens")
    if run.status == "waiting" and facts.live is None:
        yield NOBODY


def waits_for(awaited: Sequence[str]) -> str:
    """That a run waits for the end of one of these, "" for none."""
    if not awaited:
        return ""
    others = f", or for another of {len(awaited):,} that it called or started" if len(awaited) > 1 else ""
    return f"waits for run {awaited[0]}{others}"


def waiting(step: StepRecord, unread: Sequence[MessageRecord], now: float, *, utc: bool) -> Iterator[str]:
    """What a step waits for that is a wait, and until when."""
    there = unread_of(step, unread)
    yield there or (f"waits for signal {step.name!r}" if step.kind == "signal" else "sleeps")
    if step.retry_at is not None and not there:
        yield until(step.retry_at, now, utc=utc)


def unread_of(step: StepRecord, unread: Sequence[MessageRecord]) -> str:
    """That what a step waits for is there already; "" where it is not."""
    sent = sum(message.kind == step.kind == "signal" and message.name == step.name for message in unread)
    return f"signal {step.name!r} lies there unread" if sent else ""


def to_be_resumed(facts: Facts) -> str:
    """Who goes on with a run of which no process executes anything."""
    there = "in a program that declares it, or durable run MODULE"
    return f"{NOBODY}: durable.resume() {there}, goes on with {facts.run.workflow}"


def until(wake_at: float | None, now: float, *, utc: bool) -> str:
    """When a wait ends by itself, "" for never."""
    if wake_at is None:
        return ""
    return f"goes on {ahead(wake_at, now, utc=utc)}" if wake_at > now else "is due"


def elapsed(facts: Facts, now: float) -> float | None:
    """Seconds from the creation of a run to its end, or to now; `None` where nobody executes it."""
    run = facts.run
    if run.status in FINISHED:
        return None if run.finished_at is None else run.finished_at - run.created_at
    return now - run.created_at if facts.status in {"running", "waiting"} else None


# -- for programs -----------------------------------------------------------------------------------------------------


def run_object(run: RunRecord, status: str) -> dict[str, Any]:
    """A run for programs. Keys are added in later versions, never renamed."""
    return {
        "kind": "run",
        "id": run.id,
        "workflow": run.workflow,
        "status": status,
        "input": value(run.input),
        "output": value(run.output),
        "error": error_object(run.error),
        "created_at": iso(run.created_at),
        "finished_at": iso(run.finished_at),
        "wake_at": iso(run.wake_at),
    }


def damaged_object(message: str) -> dict[str, Any]:
    """What stands for a run whose record is damaged: the same keys."""
    keys = ("workflow", "input", "output", "created_at", "finished_at", "wake_at")
    error = {"type": "JournalError", "module": "durable.errors", "message": message}
    return {"kind": "run", "id": None, "status": "damaged", "error": error, **dict.fromkeys(keys)}


def value(text: str | None) -> Any:
    """A journaled value as the file has it: JSON, in which tagged objects stand for what JSON has no form for."""
    if text is None:
        return None
    import json

    return json.loads(text)


def json_line(tree: dict[str, Any]) -> str:
    """A line of ASCII without a control character, whatever the values hold."""
    import json

    return json.dumps(tree)

"""What is right of the lives of a random program: no value at a wrong call, no completed step again, the same path."""

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from durable._identity import idempotency_key
from tests.parallel import others


class Fault(Exception):
    """What a trial found."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(kind, what)
        self.kind = kind
        self.what = what


class Outcome(NamedTuple):
    """How it ended."""

    kind: str
    """"completed", "failed", "refused" (to be tried again), "cancelled", "blocked", "stopped" or "broken"."""
    what: str
    notes: list[list[str]]
    moments: int
    crashed: bool


@dataclasses.dataclass
class Way:
    """What a coroutine saw and decided, and how much of it is on disk for certain."""

    events: list[str]
    on_disk: int = 0


def _run_of(who: str) -> str:
    """The body of a run in which a coroutine is: a child's name ends with c."""
    parts = who.split(".")
    while len(parts) > 1 and not parts[-1].endswith("c"):
        parts.pop()
    return ".".join(parts)


class Judge:
    """What is known of a trial after each of its lives."""

    def __init__(self, path: Path, may_go_on: set[str]) -> None:
        self.path = path
        self.may_go_on = may_go_on
        """Workflows whose runs nobody can end: sync ones, in threads that were given up."""
        self.ways: dict[str, list[str]] = {}
        """By coroutine: what it saw and decided, as far as that is on disk."""
        self.finished: set[str] = set()
        """Labels of the steps that have an outcome in the journal."""
        self.tried_once: set[str] = set()
        """Labels of attempts that are not to be repeated."""
        self.started: set[str] = set()
        self.is_cancelled = False
        """Whether somebody has cancelled the run, and knows it."""
        self.poked: set[str] = set()
        """What somebody has said to the run, and knows that."""
        self.reached = -1
        """The last position in the body of a sync run that the journal had before."""
        self.retried: set[str] = set()
        """Children that somebody has set going again: nobody need wait for them any more."""

    def look(self, outcome: Outcome) -> None:
        if outcome.kind in {"blocked", "broken"}:
            raise Fault(outcome.kind, outcome.what)
        self._look_for_cancellation(outcome)
        reached = self._query("SELECT max(position) FROM durable_step WHERE run = 1 AND branch = ''")
        self.reached = max((position for (position,) in reached if position is not None), default=-1)
        acknowledged: set[str] = set()
        self.poked.update(rest[0] for word, *rest in outcome.notes if word == "poked")
        for word, *rest in outcome.notes:
            if word == "wrong":
                raise Fault("wrong", str(rest))
            if word == "start" and (rest[0] in self.finished or rest[0] in acknowledged):
                raise Fault("repeated", rest[0])
            if word == "once" and rest[0] in self.tried_once:
                raise Fault("repeated", f"{rest[0]}, which is at_most_once")
            if word == "once":
                self.tried_once.add(rest[0])
            if word == "cancelled":
                self.is_cancelled = True
            if word == "retried":
                self.retried.add(rest[0])
                acknowledged = self._forget_child(rest[1], acknowledged)
            if word == "saw":
                acknowledged.add(rest[1].partition(" ")[0])
        self._compare(outcome.notes)
        in_journal = self._in_journal()
        lost = (self.finished - in_journal) | ({label for label in acknowledged if "=" not in label} - in_journal)
        if lost - self.own_values(outcome.notes):
            raise Fault("lost", str(lost))
        self.finished = in_journal
        if lost := {value for value in self.poked if others.unread(self._query, value)}:
            raise Fault("lost", f"or read twice, the signals {lost}")

    def _forget_child(self, who: str, acknowledged: set[str]) -> set[str]:
        """It is tried again: what failed in it may run again, and another way may be taken then."""
        mine = f"{who}."
        self.finished = {label for label in self.finished if not label.startswith(mine)}
        self.tried_once = {label for label in self.tried_once if not label.startswith(mine)}
        self.ways = {each: way for each, way in self.ways.items() if each != who and not each.startswith(mine)}
        return {label for label in acknowledged if not label.startswith(mine)}

    def _look_for_cancellation(self, outcome: Outcome) -> None:
        """One that a crash left is told before anything new has an outcome. Where nothing new comes, nobody is told."""
        new = {rest[0] for word, *rest in outcome.notes if word == "start"} - self.started
        if (
            self.is_cancelled
            and outcome.kind == "completed"
            and (mine := [each for each in new & self._waited_for() if _run_of(each) == "r"])
        ):
            raise Fault("lost", f"that somebody cancelled the run, which went on with {mine}")
        self.started |= new

    def own_values(self, notes: list[list[str]]) -> set[str]:
        """Labels that are no step's: values of the library's own, and children."""
        saw = {rest[1] for word, *rest in notes if word == "saw"}
        return {text.partition(" ")[0] for text in saw if " = " in text or text.endswith("c")}

    def _compare(self, notes: list[list[str]]) -> None:
        """Each coroutine goes the way that it went before, as far as that is on disk."""
        ways: dict[str, Way] = {}
        for word, *rest in notes:
            if word == "retried":
                ways = {who: way for who, way in ways.items() if f"{who}.".startswith(f"{rest[1]}.") is False}
            if word == "begin":  # the body of a run, and its branches
                for who in [who for who in ways if _run_of(who) == rest[0]]:
                    self._compare_one(who, ways.pop(who))
            if word in {"saw", "decided"}:
                way = ways.setdefault(rest[0], Way([]))
                way.events.append(rest[1])
                if word == "saw":
                    way.on_disk = len(way.events)
        for who, way in ways.items():
            self._compare_one(who, way)

    def _compare_one(self, who: str, way: "Way") -> None:
        known = self.ways.get(who, [])
        for old, new in zip(known, way.events, strict=False):
            if old != new:
                raise Fault("other path", f"{who}: went {known}, now {way.events}")
        if way.on_disk > len(known):
            self.ways[who] = way.events[: way.on_disk]

    def _in_journal(self) -> set[str]:
        # Not what a body asks of other runs, which is known by their ids: a retry of a child may undo it.
        return self._labels("turn IS NOT NULL AND kind IN ('step', 'child') AND name NOT LIKE 'run.%'")

    def _labels(self, where: str) -> set[str]:
        """Of steps and children: the one argument that each of them has."""
        rows = self._query(f"SELECT input FROM durable_step WHERE {where}")
        return {next(iter(json.loads(text).values())) for (text,) in rows}

    def look_at_end(self, outcome: Outcome) -> None:
        """It has completed, or was cancelled."""
        if outcome.kind == "completed" and outcome.what != "r":
            raise Fault("wrong", f"the result is {outcome.what!r}")
        ((status,),) = self._query("SELECT status FROM durable_run WHERE id = 'trial'")
        if status != outcome.kind:
            raise Fault("broken", f"the run is {status}")
        if outcome.kind == "failed":  # what it has started goes on
            return
        sql = "SELECT seq, parent, id, workflow, status FROM durable_run WHERE finished_at IS NULL AND seq > 1"
        if going := [run for run in self._query(sql) if not self._may_go_on(run[0])]:
            raise Fault("left", f"runs that have not ended, under one that has: {going}")
        paid = [label for (label,) in self._query("SELECT label FROM paid")]
        if len(paid) != len(set(paid)) or not set(paid) <= self.finished:
            raise Fault("repeated", f"paid {paid}")

    def _waited_for(self) -> set[str]:
        """Steps with an outcome between which the run is told.

        Not those that blocked the loop of an async one, and not what was submitted before something that was there.
        """
        turns = self._query("SELECT 1 FROM durable_step WHERE run = 1 AND turn > 0")
        new = f"(branch <> '' OR position > {self.reached})"
        return self._labels("kind = 'step' AND turn IS NOT NULL AND " + ("turn > 0" if turns else new))

    def _may_go_on(self, seq: int) -> bool:
        """Whether nobody waits for this run or one that it belongs to: started, in a thread, or tried again by others.

        Or that never began, and is cancelled when a program resumes it.
        """
        told = f"SELECT 1 FROM durable_message WHERE run = {seq} AND kind = 'cancel'"
        if self._query(f"SELECT 1 FROM durable_run WHERE seq = {seq} AND status = 'queued' AND EXISTS ({told})"):
            return True
        sql = "SELECT id, branch, position, durable_step.output FROM durable_step JOIN durable_run ON run = seq"
        alone = set(self.retried)
        for run, branch, position, output in self._query(f"{sql} WHERE kind = 'start'"):
            # Without an output the process died between the run and the start, and who started it is cancelled there.
            alone.add(idempotency_key(run, branch, position) if output is None else json.loads(output))
        while seq > 1:
            ((seq, name, workflow),) = self._query(f"SELECT parent, id, workflow FROM durable_run WHERE seq = {seq}")
            if name in alone or workflow in self.may_go_on:
                return True
        return False

    def operations(self) -> int:
        """How many a fork of the run may take over: all before the first that has no outcome."""
        sql = "SELECT turn FROM durable_step WHERE run = 1 AND kind NOT IN ('map', 'timer') ORDER BY branch, position"
        turns = [turn for (turn,) in self._query(sql)]
        return turns.index(None) if None in turns else len(turns)

    def forget_failures(self) -> None:
        """The run is to be tried again: what failed may run again, and another way may be taken then."""
        self.finished -= self._labels("kind IN ('step', 'child') AND status = 'failed'")
        self.ways, self.is_cancelled, self.tried_once = {}, False, set()

    def look_at_fork(self, outcome: Outcome) -> None:
        """A run that took over the first operations of the one that has completed comes to its end without them."""
        if outcome.kind != "completed" or outcome.what != "r":
            raise Fault(f"fork {outcome.kind}", outcome.what)
        ((fork, began_at),) = self._query("SELECT seq, created_at FROM durable_run WHERE workflow = 'main' AND seq > 1")
        taken = self._labels(f"run = {fork} AND kind = 'step' AND started_at < {began_at!r}")
        begun = {rest[0] for word, *rest in outcome.notes if word == "start"}
        if again := taken & begun:
            raise Fault("repeated", f"in a fork: {again}")

    def rows(self) -> list[Any]:
        """The journal, in the order of the turns."""
        columns = "run, turn, branch, position, kind, name, status, input, coalesce(output, error)"
        return self._query(f"SELECT {columns} FROM durable_step ORDER BY run, turn IS NULL, turn, branch, position")

    def _query(self, sql: str) -> list[Any]:
        """Rows, none where there is no such table. By the same SQLite as the library: two in one process break locks."""
        with contextlib.suppress(apsw.CantOpenError, apsw.SQLError):
            with contextlib.closing(apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
                return list(connection.execute(sql))
        return []

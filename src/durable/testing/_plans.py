"""Where the process dies: plans that look at each transaction before it begins, before its commit, and after it."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

_OPERATIONS: Final = "SELECT run, branch, position, kind, name, status, attempt, turn FROM durable_step"
_RUNS: Final = "SELECT seq, workflow, status FROM durable_run"
_OWN_KINDS: Final = frozenset({"now", "uuid4", "random", "sleep"})


class Plan(Protocol):
    """Asked with the connection that writes, which also sees what is about to be committed."""

    def begins(self, connection: Any, /) -> None: ...
    def dies_before(self, connection: Any, /) -> bool: ...
    def dies_after(self, connection: Any, /) -> bool: ...


class Operation(NamedTuple):
    """A row of an operation, as far as it matters here."""

    run: int
    branch: str
    position: int
    kind: str
    name: str
    status: str
    attempt: int
    turn: int | None

    @property
    def place(self) -> tuple[int, str, int]:
        """Where it stands: no two have the same place."""
        return self[:3]

    @property
    def has_run(self) -> bool:
        """Whether the attempt is over, with or without success."""
        return self.status != "running"

    def __str__(self) -> str:
        what = f"durable.{self.name}()" if self.kind in _OWN_KINDS else f"{self.kind} {self.name!r}"
        attempt = f"attempt {self.attempt} of {what}" if self.kind == "step" else what
        if not self.has_run:
            return f"the start of {attempt}"
        return f"the failure of {attempt}" if self.status == "retrying" else f"the outcome of {what}"


def operations(connection: Any) -> dict[tuple[int, str, int], Operation]:
    """All operations of a journal, by their place."""
    found = [Operation(*row) for row in connection.execute(_OPERATIONS)]
    return {operation.place: operation for operation in found}


class Never:
    """No death by itself."""

    def begins(self, _: Any) -> None:
        """Nothing to look at."""

    def dies_before(self, _: Any) -> bool:
        """Not here."""
        return False

    def dies_after(self, _: Any) -> bool:
        """Nor here."""
        return False


class AtStep:
    """At the n-th attempt of a name, "before" its start is in the file, or "in" it: it has run, and the file does not
    know; or "after" the n-th outcome.
    """  # noqa: D205 - one sentence

    def __init__(self, when: str, name: str, number: int) -> None:
        self._when = when
        self._name = name
        self._left = number
        self._seen: set[tuple[Any, ...]] | None = None

    def begins(self, connection: Any) -> None:
        """What is there already does not count."""
        if self._seen is None:
            self._seen = self._find(connection)

    def dies_before(self, connection: Any) -> bool:
        """Whether what is about to be committed must not get there."""
        return self._when != "after" and self._is_now(connection)

    def dies_after(self, connection: Any) -> bool:
        """Whether the outcome is in the file."""
        return self._when == "after" and self._is_now(connection)

    def _is_now(self, connection: Any) -> bool:
        found = self._find(connection)
        self._left -= len(found - (self._seen or set()))
        self._seen = found
        return self._left <= 0

    def _find(self, connection: Any) -> set[tuple[Any, ...]]:
        of_name = [each for each in operations(connection).values() if each.name == self._name]
        if self._when == "after":
            return {each.place for each in of_name if each.turn is not None}
        return {(*each.place, each.attempt) for each in of_name if self._when == "before" or each.has_run}


class Moment(NamedTuple):
    """A moment at which the process died."""

    what: str
    """As words: "before the outcome of step 'charge' was in the file"."""
    repeated: tuple[str, ...]
    """The steps whose body had run, or was running, and whose outcome was not in the file."""


class AtMoment:
    """At the n-th moment: before the first commit, after it, before the second one, and so on; 0: never."""

    def __init__(self, number: int) -> None:
        self._left = number
        self._operations: dict[tuple[int, str, int], Operation] = {}
        self._runs: dict[int, tuple[str, str]] = {}
        self._changed: list[Operation] = []
        self._words: list[str] = []
        self._in_flight: set[str] = set()
        self.moment: Moment | None = None
        """Where it died."""

    def begins(self, connection: Any) -> None:
        """What the file has so far."""
        self._operations = operations(connection)
        self._runs = {seq: (workflow, status) for seq, workflow, status in connection.execute(_RUNS)}

    def dies_before(self, connection: Any) -> bool:
        """Whether it is this moment: attempts that are over, and the file does not know, are made again."""
        known, runs = self._operations, self._runs
        self.begins(connection)
        self._changed = [each for place, each in self._operations.items() if known.get(place) != each]
        ended = [_words_of_run(*self._runs[seq]) for seq in self._runs if self._runs[seq] != runs.get(seq)]
        self._words = sorted([*map(str, self._changed), *ended])
        changed = {each.place for each in self._changed}
        running = [each for each in known.values() if each.place not in changed and not each.has_run]
        self._in_flight = {each.name for each in running if each.kind == "step"}
        return self._is_now("before", {each.name for each in self._changed if each.kind == "step" and each.has_run})

    def dies_after(self, _: Any) -> bool:
        """Whether it is this moment: an attempt whose start has just been committed has not begun."""
        return self._is_now("after", set())

    def _is_now(self, when: str, repeated: set[str]) -> bool:
        self._left -= 1
        if self._left:
            return False
        what = " and ".join(self._words) or "something"
        self.moment = Moment(f"{when} {what} was in the file", tuple(sorted(repeated | self._in_flight)))
        return True


def _words_of_run(workflow: str, status: str) -> str:
    what = {"running": "the start", "queued": "the start", "waiting": "the suspension"}.get(status, "the end")
    return f"{what} of the run of {workflow!r}"

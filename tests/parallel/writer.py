"""What writing sync and async programs has in common: lines, labels, children, and statements of both worlds."""

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

DEEPEST = 3
STEPS = ["work", "work", "work", "loose", "loose", "flaky", "limited", "hasty", "moody"]
PLAIN = ["plain", "plain", "loose_plain", "flaky_plain", "limited_plain", "paid", "moody_plain", "hasty_plain"]
TIMEOUTS = [0, 0.001, 0.003, 0.006, 5]
CHILD_SECONDS = 0.01
MAIN_SECONDS = 0.04
POKE = '"poke"'
"""The name of the signal by which anybody says something to any run, in quotes."""
PATIENCE = [0.001, 0.004, 0.02]
"""How long a body listens whether somebody says something."""


class Child(NamedTuple):
    """A workflow that the others call."""

    name: str
    is_async: bool
    is_timed: bool
    is_alone: bool
    """Whether its runs are executed one at a time."""
    fails: bool
    """Whether it raises `Declined`, if it comes to its end."""


W = TypeVar("W", bound="Writer")


class Writer:
    """A program in the making."""

    def __init__(self, dice: random.Random, without: frozenset[str]) -> None:
        self.dice = dice
        self.lines: list[str] = []
        self.indent = 0
        self.places = 0
        self.left = 0
        """How many more statements it may have."""
        self.without = without
        self.children: list[Child] = []
        self.branches = 0
        self.blocks_loop = False
        """Whether what is sync in it may be called by what is async."""

    def written_as(self, writer: type[W]) -> W:
        """The same program, with the words of another world."""
        other = writer.__new__(writer)
        other.__dict__ = self.__dict__
        return other

    def emit(self, *lines: str) -> None:
        self.lines += ["    " * self.indent + line for line in lines]

    @contextlib.contextmanager
    def block(self, head: str) -> Iterator[None]:
        self.emit(head)
        self.indent += 1
        yield
        self.indent -= 1

    def place(self) -> int:
        self.places += 1
        return self.places

    def label(self, rest: str = "") -> str:
        """The source of a new label."""
        return f'f"{{who}}.{self.place()}{rest}"'

    def statements(self, level: int, most: int = 3) -> None:
        for _ in range(self.dice.randint(1, most)):
            if self.left > 0:
                self.left -= 1
                self.statement(level)

    def statement(self, level: int) -> None:
        small, large = self.kinds()
        kinds = small if level >= DEEPEST or self.left <= 0 or self.dice.random() < 0.4 else large
        kinds = [kind for kind in kinds if kind.__name__ not in self.without]
        self.dice.choice(kinds)(level)

    def kinds(self) -> tuple[list[Callable[[int], None]], list[Callable[[int], None]]]:
        raise NotImplementedError

    def new_child(self, *, is_async: bool) -> Child:
        chances = [self.dice.random() for _ in range(3)]
        name = f"child_{len(self.children)}"
        return Child(name, is_async, is_timed=chances[0] < 0.2, is_alone=chances[1] < 0.3, fails=chances[2] < 0.25)

    @contextlib.contextmanager
    def body_of(self, child: Child) -> Iterator[None]:
        """Write a child around what is written meanwhile; from then on it may be called."""
        options = [f", timeout={CHILD_SECONDS}"] * child.is_timed + [", concurrency=1"] * child.is_alone
        self.emit("", f'@durable.workflow(name="{child.name}"{"".join(options)})')
        with self.block(f"{'async ' * child.is_async}def {child.name}(who: str) -> str:"):
            self.emit("begin(who)")
            yield
        self.children.append(child)

    # -- in both worlds ------------------------------------------------------------------------------------------------

    def own_value(self, level: int) -> None:
        self.emit(f"own({self.label()}, durable.{self.dice.choice(['now', 'random', 'uuid4'])}())")

    def nap(self, level: int) -> None:
        self.emit(f"{self.durable()}sleep({self.dice.choice([0, 0.001, 0.003])})")

    def show(self, level: int) -> None:
        self.emit(f'durable.set_event("at", {self.label()})')

    def of_child(self, child: Child, label: str, wait: str) -> None:
        """Write what gets the result of a child, or the error that it ended with, which is on disk then."""
        with self.block("try:"):
            self.emit(f"got({label}, {wait})")
        with self.block(f"except {self.ends_of(child)} as error:"):
            self.emit(f"own({label}, kind(error))")

    def of_run(self, child: Child, label: str, wait: str) -> None:
        """The same for a run that was started: its end is on disk here only with what follows."""
        with self.block("try:"):
            self.emit(f"heard({label}, {wait})")
        with self.block(f"except {self.ends_of(child)} as error:"):
            self.emit(f"decided(who, {label} + kind(error))")

    def ends_of(self, child: Child) -> str:
        """What a child may end with; that somebody cancels it may happen to any."""
        return f"(durable.RunCancelledError{', TimeoutError' * child.is_timed}{', Declined' * child.fails})"

    def told(self, run: str) -> None:
        """Write what somebody does to a run, which may have ended."""
        with self.block("try:"):
            self.emit(f"{run}.{self.dice.choice(['cancel()', f'signal({POKE}, {self.label()})'])}")
        with self.block("except durable.RunFinishedError:"):
            self.emit(f'own({self.label()}, "too late")')

    def hear(self, level: int) -> None:
        """Whether somebody said something: its parent, or somebody outside."""
        label = self.label()
        self.received(f"own({label}, {self.durable()}wait_for_signal({POKE}, str, {self.patience()}))", label)

    def patience(self) -> str:
        return f"timeout={self.dice.choice(PATIENCE)}"

    def signal(self, level: int) -> None:
        """One that a step sends to its own run, before or while it is waited for, or too late."""
        name, label = self.label(), self.label()
        timeout = self.dice.choice(["", "", ", timeout=0.001", ", timeout=0.004"])
        wait = f"{self.durable()}wait_for_signal({name}, str{timeout})"
        self.sent_and_received(f"send({name})", f"own({label}, {wait})", label)

    def durable(self) -> str:
        """Where the waits are, those of sync or those of async workflows."""
        raise NotImplementedError

    def sent_and_received(self, send: str, wait: str, label: str) -> None:
        """Write both, `wait` within a `try`."""
        raise NotImplementedError

    def received(self, wait: str, label: str) -> None:
        with self.block("try:"):
            self.emit(wait)
        with self.block("except TimeoutError:"):
            self.emit(f'own({label}, "too late")')

    def direct(self, level: int) -> None:
        label = self.label()
        self.emit(f"got({label}, {self.dice.choice(PLAIN)}({label}))")

    def direct_declined(self, level: int) -> None:
        label = self.label()
        self.failing(label, self.dice.choice([f"bad_plain({label})", f"stubborn_plain({label})"]))

    def direct_once(self, level: int) -> None:
        label = self.label()
        self.at_most_once(label, f"once_plain({label})")

    def failing(self, label: str, call: str) -> None:
        with self.block("try:"):
            self.emit(call)
        with self.block("except (Declined, ConnectionError) as error:"):
            self.emit(f"caught({label}, error)")

    def at_most_once(self, label: str, call: str) -> None:
        with self.block("try:"):
            self.emit(f"got({label}, {call})")
        with self.block("except durable.StepInterruptedError:"):
            self.emit(f'own({label}, "may have happened")')

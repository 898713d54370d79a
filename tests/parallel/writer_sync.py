"""Writes the sync programs among the random ones."""

from collections.abc import Callable

from tests.parallel.writer import PLAIN, Child, Writer


class SyncWriter(Writer):
    """Writes a sync program."""

    def kinds(self) -> tuple[list[Callable[[int], None]], list[Callable[[int], None]]]:
        small = [
            self.direct, self.direct, self.direct, self.direct_declined, self.direct_once, self.own_value, self.nap,
            self.show, self.hear, self.in_thread,
        ]  # fmt: skip
        large = [
            self.submit, self.submit, self.submit_declined, self.map, self.map, self.map_of_exceptions, self.map_failing,
            self.not_waited_for, self.function, self.child, self.started_child, self.signal, self.guarded,
            self.submit_mixed, self.started_many,
        ]  # fmt: skip
        return small, large

    def body(self, level: int, *, fails: bool = False) -> None:
        while True:
            self.statements(level)
            if level or self.left <= 0:
                break
        if fails:
            self.emit(f"bad_plain({self.label()})")
        self.emit("return last(who)")

    def durable(self) -> str:
        return "durable."

    def sent_and_received(self, send: str, wait: str, label: str) -> None:
        if self.dice.random() < 0.5:
            self.emit(send)
            self.received(wait, label)
            return
        future = f"future_{self.place()}"
        self.emit(f"{future} = {send.replace('(', '.submit(', 1)}")
        self.received(wait, label)
        self.emit(f"{future}.result()")

    def labels(self, most: int = 6, *, failing: bool = False) -> str:
        labels = [self.label() for _ in range(self.dice.randint(2, most))]
        if failing:
            labels = [f'{label[:-1]}{self.dice.choice(["", "", "x"])}"' for label in labels]
        return f"[{', '.join(labels)}]"

    def submit(self, level: int) -> None:
        futures = f"futures_{self.place()}"
        step = self.dice.choice(PLAIN)
        self.emit(f"{futures} = [(label, {step}.submit(label)) for label in {self.labels(4)}]")
        self.statements(level + 1)
        order = self.dice.choice([futures, f"reversed({futures})"])
        self.emit(f"for label, future in {order}:", "    got(label, future.result())")

    def submit_declined(self, level: int) -> None:
        future, label = f"future_{self.place()}", self.label()
        self.emit(f"{future} = bad_plain.submit({label})")
        self.statements(level + 1)
        with self.block("try:"):
            self.emit(f"{future}.result()")
        with self.block("except Declined as error:"):
            self.emit(f"caught({label}, error)")

    def not_waited_for(self, level: int) -> None:
        self.emit(f"plain.submit({self.label()})")

    def concurrency(self) -> str:
        return self.dice.choice(["", ", concurrency=1", ", concurrency=2", ", 3"])

    def map(self, level: int) -> None:
        self.emit(f"labels = {self.labels()}")
        self.emit(f"got_all(labels, {self.dice.choice(PLAIN)}.map(labels{self.concurrency()}))")

    def map_of_exceptions(self, level: int) -> None:
        self.emit(f"labels = {self.labels(failing=True)}")
        self.emit(f"got_all(labels, picky.map(labels{self.concurrency()}, return_exceptions=True))")

    def map_failing(self, level: int) -> None:
        with self.block("try:"):
            self.emit(f"picky.map({self.labels(failing=True)}{self.concurrency()})")
        with self.block("except Declined as error:"):
            self.emit("caught(error.args[0], error)")

    def function(self, level: int) -> None:
        name = f"function_{self.place()}"
        with self.block(f"def {name}(who):"):
            self.direct(level)
            self.statements(level + 1)
        self.emit(f'{name}(f"{{who}}.{self.place()}f")')

    def child(self, level: int) -> None:
        children = [child for child in self.children if not child.is_async]
        if not children:
            return self.function(level)
        label, child = self.label("c"), self.dice.choice(children)
        self.of_child(child, label, f"{child.name}({label})")
        return None

    def to_start(self) -> Child | None:
        """A child that may be started: where a loop may be blocked till it ends, not one that may need this loop."""
        children = [child for child in self.children if not (child.is_async and self.blocks_loop)]
        return self.dice.choice(children) if children else None

    def started_child(self, level: int) -> None:
        child = self.to_start()
        if child is None:
            return self.submit(level)
        label, run = self.label("c"), f"run_{self.place()}"
        self.emit(f"{run} = {child.name}.start({label})")
        if self.dice.random() < 0.6:
            self.statements(level + 1)
        if self.dice.random() < 0.5:
            self.told(run)
        self.of_run(child, label, f"{run}.result()")
        return None

    def started_many(self, level: int) -> None:
        child = self.to_start()
        if child is None:
            return self.map(level)
        labels, runs = [self.label("c") for _ in range(self.dice.randint(1, 3))], f"runs_{self.place()}"
        self.emit(f"{runs} = {child.name}.start_many([{', '.join(labels)}])")
        self.statements(level + 1)
        for index, label in enumerate(labels):
            self.of_run(child, label, f"{runs}[{index}].result()")
        return None

    def in_thread(self, level: int) -> None:
        """A plain thread that takes the run along, while nothing else does anything."""
        label, place = self.label(), self.place()
        call = f"lambda: got({label}, {self.dice.choice(PLAIN)}({label}))"
        self.emit(
            f"thread_{place} = threading.Thread(target=contextvars.copy_context().run, args=({call},))",
            f"thread_{place}.start()",
            f"thread_{place}.join()",
        )

    def guarded(self, level: int) -> None:
        """With a clean-up: where the run is cancelled, or always."""
        with self.block("try:"):
            self.direct(level)
            self.statements(level + 1)
        hears = self.dice.random() < 0.6
        if hears:
            with self.block("except durable.Cancelled:"):
                self.direct(level)
                self.emit("raise")
        if not hears or self.dice.random() < 0.6:
            with self.block("finally:"):
                self.direct(level)

    def submit_mixed(self, level: int) -> None:
        """Some are declined; what comes after the first of these is not waited for, or waited for in a hurry before."""
        futures, step = f"futures_{self.place()}", self.dice.choice(["picky", "picky", *PLAIN])
        self.emit(f"{futures} = [{step}.submit(label) for label in {self.labels(5, failing=step == 'picky')}]")
        if self.dice.random() < 0.5:
            with self.block("try:"):
                self.emit(f"{futures}[-1].result({self.dice.choice([0, 0.001])})")
            with self.block("except (TimeoutError, Declined):"):
                self.emit("pass")
        self.statements(level + 1)
        with self.block("try:"), self.block(f"for future in {futures}:"):
            self.emit("value = future.result()", "got(value, value)")
        with self.block("except Declined as error:"):
            self.emit("caught(error.args[0], error)")

"""Writes random programs, as the text of a Python module that uses the words of `vocabulary.py`.

Its `main` is a workflow with branches in branches: races, groups, timeouts, queues, children, whatever asyncio has. What
the library cannot order is left out: a plain `asyncio.sleep`, a socket.
"""

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

DEEPEST = 3
STEPS = ["work", "work", "work", "loose", "loose", "flaky", "limited", "hasty", "moody"]
PLAIN = ["plain", "plain", "loose_plain", "flaky_plain", "limited_plain", "paid", "moody_plain"]
TIMEOUTS = [0.001, 0.003, 0.006, 5]
CHILD_SECONDS = 0.01


class Child(NamedTuple):
    """A workflow that the others call."""

    name: str
    is_async: bool
    is_timed: bool
    is_alone: bool
    """Whether its runs are executed one at a time."""


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
        self.tasks_left = 0
        """Tasks that nobody has awaited yet."""

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
        chances = self.dice.random(), self.dice.random()
        return Child(f"child_{len(self.children)}", is_async, is_timed=chances[0] < 0.2, is_alone=chances[1] < 0.3)

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
        """Write what gets the result of a child, or the error that it took too long, which is on disk then."""
        if not child.is_timed:
            self.emit(f"got({label}, {wait})")
            return
        with self.block("try:"):
            self.emit(f"got({label}, {wait})")
        with self.block("except TimeoutError:"):
            self.emit(f'own({label}, "took too long")')

    def cancelled(self, child: Child, label: str, wait: str) -> None:
        """Whether the child was cancelled in time is on disk once it has ended."""
        with self.block("try:"):
            self.emit("run.cancel()")
        with self.block("except durable.RunFinishedError:"):
            self.emit(f'own({self.label()}, "too late to cancel")')
        with self.block("try:"):
            self.of_child(child, label, wait)
        with self.block("except durable.RunCancelledError:"):
            self.emit(f'own({label}, "cancelled")')

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


class AsyncWriter(Writer):
    """Writes an async program."""

    def kinds(self) -> tuple[list[Callable[[int], None]], list[Callable[[int], None]]]:
        small = [
            self.step, self.step, self.step, self.declined, self.own_value, self.direct, self.in_thread, self.nap,
            self.show, self.once, self.direct_once,
        ]  # fmt: skip
        large = [
            self.gather_steps, self.gather, self.gather_failing, self.task_group, self.task_group, self.race, self.race,
            self.as_completed, self.timeout, self.wait_for, self.task_for_later, self.child, self.started_child,
            self.shared_order, self.workers, self.lock, self.event, self.in_threads, self.outlives, self.direct_declined,
            self.signal, self.queue, self.shield, self.stream, self.condition, self.barrier, self.future,
            self.wait_for_gather, self.wait_a_while, self.as_completed_in_time,
        ]  # fmt: skip
        return small, large

    def program(self) -> str:
        self.emit("import asyncio", "import contextlib", "import durable", "")
        for _ in range(self.dice.randrange(3)):
            child = self.new_child(is_async=self.dice.random() < 0.7)
            self.left = self.dice.randint(1, 5)
            with self.body_of(child):
                if child.is_async:
                    self.body(1)
                else:
                    self.direct(1)
                    self.direct_declined(1)
                    self.emit("return last(who)")
        self.left = self.dice.randint(3, 16)
        self.emit("", '@durable.workflow(name="main", id="trial")')
        with self.block("async def main() -> str:"):
            self.emit('who = "r"', "begin(who)")
            self.body(0)
        return "\n".join(self.lines) + "\n"

    def body(self, level: int) -> None:
        while True:
            self.statements(level, 6)
            if level or self.left <= 0:
                break
        self.emit("return last(who)")

    def branch(self, level: int, *, fails: bool = False, then: str = "") -> str:
        """Write a coroutine function with a few steps; give its name."""
        name = f"branch_{self.branches}"
        self.branches += 1
        tasks_left, self.tasks_left = self.tasks_left, 1  # what is in it runs beside others
        with self.block(f"async def {name}(who):"):
            if not fails and self.dice.random() < 0.2:
                with self.block("try:"):
                    self.step(level)
                    self.statements(level + 1)
                with self.block("except asyncio.CancelledError:"):
                    self.step(level)
                    self.emit("raise")
            else:
                self.step(level)
                self.statements(level + 1)
            if then:
                self.emit(then)
            if fails:
                self.emit(f"await bad({self.label()})")
            self.emit("return who")
        self.tasks_left = tasks_left
        return name

    def calls(self, level: int, *, failing: bool = False, then: str = "") -> list[str]:
        """Write branches; give calls of them, as source. Some call the same one."""
        names = [self.branch(level, then=then)]
        number = self.dice.randint(2, 3)
        while len(names) < number:
            names.append(names[0] if self.dice.random() < 0.4 else self.branch(level, then=then))
        if failing:
            names[self.dice.randrange(number)] = self.branch(level, fails=True, then=then)
        place = self.place()
        return [f'{name}(f"{{who}}.{place}b{index}")' for index, name in enumerate(names)]

    # -- statements ----------------------------------------------------------------------------------------------------

    def step(self, level: int) -> None:
        label = self.label()
        self.emit(f"got({label}, await {self.dice.choice(STEPS)}({label}))")

    def declined(self, level: int) -> None:
        label = self.label()
        self.failing(label, self.dice.choice([f"await bad({label})", f"await stubborn({label})"]))

    def once(self, level: int) -> None:
        label = self.label()
        self.at_most_once(label, f"await once({label})")

    def in_thread(self, level: int) -> None:
        label = self.label()
        self.emit(f"got({label}, await asyncio.to_thread({self.dice.choice(PLAIN)}, {label}))")

    def in_threads(self, level: int) -> None:
        self.emit(f"labels = [{', '.join(self.label() for _ in range(self.dice.randint(2, 4)))}]")
        step = self.dice.choice(PLAIN)
        self.emit(f"got_all(labels, await asyncio.gather(*(asyncio.to_thread({step}, label) for label in labels)))")

    def gather_steps(self, level: int) -> None:
        self.emit(f"labels = [{', '.join(self.label() for _ in range(self.dice.randint(2, 5)))}]")
        self.emit(f"got_all(labels, await asyncio.gather(*map({self.dice.choice(STEPS)}, labels)))")

    def gather(self, level: int) -> None:
        self.emit(f"await asyncio.gather({', '.join(self.calls(level))})")

    def gather_failing(self, level: int) -> None:
        calls = ", ".join(self.calls(level, failing=True))
        if self.dice.random() < 0.5:
            self.emit(f"results = await asyncio.gather({calls}, return_exceptions=True)")
            self.emit('decided(who, f"results {list(map(kind, results))}")')
            return
        with self.block("try:"):
            self.emit(f"await asyncio.gather({calls})")
        with self.block("except Declined as error:"):
            self.emit('decided(who, f"declined {error}")')
        self.tasks_left += 1  # the others go on beside what follows
        self.step(level)

    def task_group(self, level: int) -> None:
        failing = self.dice.random() < 0.5
        calls = self.calls(level, failing=failing)
        group = f"group_{self.place()}"
        with self.block("try:"), self.block(f"async with TaskGroup() as {group}:"):
            for call in calls:
                self.emit(f"{group}.create_task({call})")
            if self.dice.random() < 0.5:
                self.step(level)
        with self.block("except* Declined as errors:"):
            self.emit('decided(who, f"declined {list(map(str, errors.exceptions))}")')
        if failing:
            self.step(level)

    def tasks(self, level: int, *, failing: bool, then: str = "") -> str:
        name = f"tasks_{self.place()}"
        calls = self.calls(level, failing=failing, then=then)
        self.emit(f"{name} = [{', '.join(f'asyncio.create_task({call})' for call in calls)}]")
        return name

    def race(self, level: int) -> None:
        tasks = self.tasks(level, failing=self.dice.random() < 0.3)
        self.emit(
            f"done, pending = await asyncio.wait({tasks}, return_when=asyncio.FIRST_COMPLETED)",
            f"won = [index for index, task in enumerate({tasks}) if task in done]",
            f'decided(who, f"won {{won}} {{[how(task) for task in {tasks} if task in done]}}")',
        )
        if self.dice.random() < 0.7:
            self.emit("for task in pending:", "    task.cancel()")
            if self.dice.random() < 0.7:
                self.emit("await asyncio.gather(*pending, return_exceptions=True)")
            else:
                self.tasks_left += 1
        else:
            self.step(level)
            self.emit(f"results = await asyncio.gather(*{tasks}, return_exceptions=True)")
            self.emit('decided(who, f"results {list(map(kind, results))}")')
        label = self.label("-{won[0]}")
        self.emit(f"got({label}, await work({label}))")

    def as_completed(self, level: int) -> None:
        tasks = self.tasks(level, failing=self.dice.random() < 0.3)
        with self.block(f"for number, ended in enumerate(asyncio.as_completed({tasks})):"):
            with self.block("try:"):
                self.emit("value = (await ended)[-1]")
            with self.block("except Declined:"):
                self.emit("value = 'x'")
            label = self.label("-{number}{value}")
            self.emit(f"got({label}, await work({label}))")

    def timeout(self, level: int) -> None:
        with self.block("try:"), self.block(f"async with asyncio.timeout({self.dice.choice(TIMEOUTS)}):"):
            self.step(level)
            self.statements(level + 1)
        with self.block("except TimeoutError:"):
            self.emit('decided(who, "too late")')
            self.step(level)
        with self.block("else:"):
            self.emit('decided(who, "in time")')

    def wait_for(self, level: int) -> None:
        call = self.calls(level)[0]
        if self.dice.random() < 0.4:
            call = f"{self.dice.choice(STEPS)}({self.label()})"
        self.in_time(call, level)

    def in_time(self, call: str, level: int) -> None:
        """Write a wait for what may come too late."""
        with self.block("try:"):
            self.emit(f"value = await asyncio.wait_for({call}, {self.dice.choice(TIMEOUTS)})")
        with self.block("except TimeoutError:"):
            self.emit('decided(who, "too late")')
            self.step(level)
        with self.block("else:"):
            self.emit('decided(who, f"in time {value}")')

    def wait_for_gather(self, level: int) -> None:
        self.in_time(f"asyncio.gather({', '.join(self.calls(level))})", level)

    def wait_a_while(self, level: int) -> None:
        tasks = self.tasks(level, failing=self.dice.random() < 0.3)
        until = self.dice.choice(["", ", return_when=asyncio.FIRST_EXCEPTION", ", return_when=asyncio.FIRST_COMPLETED"])
        self.emit(
            f"done, pending = await asyncio.wait({tasks}, timeout={self.dice.choice(TIMEOUTS)}{until})",
            f'decided(who, f"by then {{[how(task) for task in {tasks} if task in done]}}")',
        )
        self.given_up(tasks)
        self.step(level)

    def as_completed_in_time(self, level: int) -> None:
        tasks = self.tasks(level, failing=False)
        with self.block("try:"):
            with self.block(f"for ended in asyncio.as_completed({tasks}, timeout={self.dice.choice(TIMEOUTS)}):"):
                self.emit("value = (await ended)[-1]")
                label = self.label("-{value}")
                self.emit(f"got({label}, await work({label}))")
        with self.block("except TimeoutError:"):
            self.emit('decided(who, "too late")')
        self.given_up(tasks)
        self.step(level)

    def given_up(self, tasks: str) -> None:
        """Write the end of tasks of which some may have ended."""
        with self.block(f"for task in {tasks}:"):
            self.emit("task.cancel()")
        self.emit(f"results = await asyncio.gather(*{tasks}, return_exceptions=True)")
        self.emit('decided(who, f"results {list(map(kind, results))}")')

    def task_for_later(self, level: int) -> None:
        task = f"task_{self.place()}"
        call = self.calls(level)[0]
        self.emit(f"{task} = asyncio.create_task({call})")
        self.tasks_left += 1
        self.statements(level + 1)
        self.tasks_left -= 1
        self.emit(f"decided(who, await {task})")

    def outlives(self, level: int) -> None:
        self.emit(f"task_{self.place()} = asyncio.create_task({self.calls(level)[0]})")
        self.tasks_left += 1

    def child(self, level: int) -> None:
        if not self.children:
            return self.gather(level)
        label, child = self.label("c"), self.dice.choice(self.children)
        if child.is_async:
            call = f"await {child.name}({label})"
        elif self.dice.random() < 0.5:
            call = f"{child.name}({label})"
        else:
            call = f"await asyncio.to_thread({child.name}, {label})"
        self.of_child(child, label, call)
        return None

    def started_child(self, level: int) -> None:
        """Only where nothing else of the run is under way: when a started run ends is nothing that its parent orders."""
        if level or self.tasks_left or not self.children:
            return self.child(level)
        label, child = self.label("c"), self.dice.choice(self.children)
        self.emit(f"run = {child.name}.start({label})")
        self.statements(DEEPEST)
        if self.dice.random() < 0.4:
            self.cancelled(child, label, "await run")
        else:
            self.of_child(child, label, "await run")
        return None

    def shared_order(self, level: int) -> None:
        order = f"order_{self.place()}"
        self.emit(f"{order} = []")
        self.emit(f"await asyncio.gather({', '.join(self.calls(level, then=f'{order}.append(who[-1])'))})")
        label = self.label(f"-{{''.join({order})}}")
        self.emit(f"got({label}, await work({label}))")

    def workers(self, level: int) -> None:
        queue, place = f"queue_{self.place()}", self.place()
        self.emit(f"{queue} = list(range({self.dice.randint(3, 6)}))")
        with self.block(f"async def worker_{place}(who):"), self.block(f"while {queue}:"):
            self.emit(f"item = {queue}.pop()")
            label = self.label("-{item}")
            self.emit(f"got({label}, await {self.dice.choice(STEPS)}({label}))")
        with self.block(f"async with TaskGroup() as group_{place}:"):
            for index in range(self.dice.randint(2, 3)):
                self.emit(f'group_{place}.create_task(worker_{place}(f"{{who}}.{place}b{index}"))')

    def lock(self, level: int) -> None:
        lock, place = f"lock_{self.place()}", self.place()
        order = f"order_{place}"
        guard = self.dice.choice(["Lock()", "Semaphore(2)"])
        self.emit(f"{lock} = asyncio.{guard}", f"{order} = []")
        with self.block(f"async def branch_of_{place}(who):"):
            self.step(level)
            with self.block(f"async with {lock}:"):
                self.emit(f"{order}.append(who[-1])")
                label = self.label(f"-{{''.join({order})}}")
                self.emit(f"got({label}, await work({label}))")
                self.step(level)
        self.beside(place, [f"branch_of_{place}"] * 3)

    def event(self, level: int) -> None:
        event, place = f"event_{self.place()}", self.place()
        self.emit(f"{event} = asyncio.Event()")
        with self.block(f"async def waiter_{place}(who):"):
            self.step(level)
            self.emit(f"await {event}.wait()")
            self.step(level)
        with self.block(f"async def setter_{place}(who):"):
            self.step(level)
            self.emit(f"{event}.set()")
            self.step(level)
        self.beside(place, [f"waiter_{place}", f"setter_{place}"])

    def durable(self) -> str:
        return "await durable.aio."

    def sent_and_received(self, send: str, wait: str, label: str) -> None:
        if self.dice.random() < 0.5:
            self.emit(send)
            self.received(wait, label)
            return
        place = self.place()
        with self.block(f"async def receiver_{place}(who):"):
            self.received(wait, label)
        sender = f"asyncio.to_thread({send.replace('(', ', ', 1)}"
        self.emit(f"await asyncio.gather(receiver_{place}(who), {sender})")

    def beside(self, place: int, names: list[str]) -> None:
        calls = [f'{name}(f"{{who}}.{place}b{index}")' for index, name in enumerate(names)]
        self.emit(f"await asyncio.gather({', '.join(calls)})")

    def queue(self, level: int) -> None:
        """Producers and a consumer, or two, who share what comes in the order in which it comes."""
        queue, place, each = f"queue_{self.place()}", self.place(), self.dice.randint(1, 2)
        consumers = self.dice.choice([1, 2])
        self.emit(f"{queue} = asyncio.Queue({self.dice.choice(['', '1'])})")
        with self.block(f"async def producer_{place}(who):"):
            for number in range(each):
                self.step(level)
                self.emit(f'await {queue}.put(f"{{who[-1]}}{number}")')
        with self.block(f"async def consumer_{place}(who):"), self.block(f"for _ in range({2 * each // consumers}):"):
            self.emit(f"item = await {queue}.get()")
            label = self.label("-{item}")
            self.emit(f"got({label}, await {self.dice.choice(STEPS)}({label}))")
        self.beside(place, [f"producer_{place}", f"producer_{place}", *[f"consumer_{place}"] * consumers])

    def shield(self, level: int) -> None:
        task = f"task_{self.place()}"
        self.emit(f"{task} = asyncio.create_task({self.calls(level)[0]})")
        self.tasks_left += 1
        self.in_time(f"asyncio.shield({task})", level)
        self.tasks_left -= 1
        self.emit(f"decided(who, await {task})")

    def stream(self, level: int) -> None:
        """An asynchronous generator, which may be left before its end."""
        place, ends = self.place(), self.dice.random() < 0.5
        with (
            self.block(f"async def stream_{place}(who):"),
            self.block(f"for number in range({self.dice.randint(2, 4)}):"),
        ):
            label = self.label("-{number}")
            self.emit(f"yield got({label}, await {self.dice.choice(STEPS)}({label}))")
        self.emit(f"stream = stream_{place}(who)")
        with self.block("async with contextlib.aclosing(stream):"), self.block("async for value in stream:"):
            label = self.label("-{value[-1]}")
            self.emit(f"got({label}, await {self.dice.choice(STEPS)}({label}))")
            if ends:
                self.emit("break")

    def condition(self, level: int) -> None:
        condition, ready, place = f"condition_{self.place()}", f"ready_{self.place()}", self.place()
        self.emit(f"{condition} = asyncio.Condition()", f"{ready} = []")
        with self.block(f"async def waiter_{place}(who):"):
            self.step(level)
            with self.block(f"async with {condition}:"):
                self.emit(f"await {condition}.wait_for(lambda: len({ready}) >= {self.dice.randint(1, 2)})")
            label = self.label(f"-{{''.join({ready})}}")
            self.emit(f"got({label}, await work({label}))")
        with self.block(f"async def notifier_{place}(who):"):
            self.step(level)
            with self.block(f"async with {condition}:"):
                self.emit(f"{ready}.append(who[-1])", f"{condition}.notify_all()")
            self.step(level)
        self.beside(place, [f"waiter_{place}", f"notifier_{place}", f"notifier_{place}"])

    def barrier(self, level: int) -> None:
        barrier, place, number = f"barrier_{self.place()}", self.place(), self.dice.randint(2, 3)
        self.emit(f"{barrier} = asyncio.Barrier({number})")
        with self.block(f"async def branch_of_{place}(who):"):
            self.step(level)
            self.emit(f"turn = await {barrier}.wait()")
            label = self.label("-{turn}")
            self.emit(f"got({label}, await work({label}))")
        self.beside(place, [f"branch_of_{place}"] * number)

    def future(self, level: int) -> None:
        """Whoever comes first sets it; a third one waits for it."""
        future, place = f"future_{self.place()}", self.place()
        self.emit(f"{future} = asyncio.get_running_loop().create_future()")
        with self.block(f"async def setter_{place}(who):"):
            self.step(level)
            with self.block(f"if not {future}.done():"):
                self.emit(f"{future}.set_result(who[-1])")
            self.step(level)
        with self.block(f"async def waiter_{place}(who):"):
            label = self.label(f"-{{await {future}}}")
            self.emit(f"label = {label}", "got(label, await work(label))")
        self.beside(place, [f"waiter_{place}", f"setter_{place}", f"setter_{place}"])


class SyncWriter(Writer):
    """Writes a sync program."""

    def kinds(self) -> tuple[list[Callable[[int], None]], list[Callable[[int], None]]]:
        small = [
            self.direct, self.direct, self.direct, self.direct_declined, self.direct_once, self.own_value, self.nap,
            self.show,
        ]  # fmt: skip
        large = [
            self.submit, self.submit, self.submit_declined, self.map, self.map, self.map_of_exceptions, self.map_failing,
            self.not_waited_for, self.function, self.child, self.started_child, self.signal,
        ]  # fmt: skip
        return small, large

    def program(self) -> str:
        self.emit("import durable", "")
        for _ in range(self.dice.randrange(3)):
            child = self.new_child(is_async=False)
            self.left = self.dice.randint(1, 4)
            with self.body_of(child):
                self.statements(1)
                self.emit("return last(who)")
        self.left = self.dice.randint(3, 14)
        self.emit("", '@durable.workflow(name="main", id="trial")')
        with self.block("def main() -> str:"):
            self.emit('who = "r"', "begin(who)")
            while self.left > 0:
                self.statements(0)
            self.emit("return last(who)")
        return "\n".join(self.lines) + "\n"

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
        if not self.children:
            return self.function(level)
        label, child = self.label("c"), self.dice.choice(self.children)
        self.of_child(child, label, f"{child.name}({label})")
        return None

    def started_child(self, level: int) -> None:
        if not self.children:
            return self.submit(level)
        label, child = self.label("c"), self.dice.choice(self.children)
        if self.dice.random() < 0.3:
            self.emit(f"run = {child.name}.start({label})")
            self.cancelled(child, label, "run.result()")
            return None
        run = f"run_{self.place()}"
        self.emit(f"{run} = {child.name}.start({label})")
        self.statements(level + 1)
        self.of_child(child, label, f"{run}.result()")
        return None


def write_program(dice: random.Random, *, is_async: bool, without: frozenset[str] = frozenset()) -> str:
    """The text of a program, whose `main` is the workflow."""
    return (AsyncWriter if is_async else SyncWriter)(dice, without).program()

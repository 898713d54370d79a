"""Writes the async programs among the random ones."""

import contextlib
from collections.abc import Callable

from tests.parallel.writer import PLAIN, STEPS, TIMEOUTS, Writer


class AsyncWriter(Writer):
    """Writes an async program."""

    def kinds(self) -> tuple[list[Callable[[int], None]], list[Callable[[int], None]]]:
        small = [
            self.step, self.step, self.step, self.declined, self.own_value, self.direct, self.in_thread, self.nap,
            self.show, self.once, self.direct_once, self.hear, self.in_executor,
        ]  # fmt: skip
        large = [
            self.gather_steps, self.gather, self.gather_failing, self.task_group, self.task_group, self.race, self.race,
            self.as_completed, self.timeout, self.wait_for, self.task_for_later, self.child, self.started_child,
            self.shared_order, self.workers, self.lock, self.event, self.in_threads, self.outlives, self.direct_declined,
            self.signal, self.queue, self.shield, self.stream, self.condition, self.barrier, self.future,
            self.wait_for_gather, self.wait_a_while, self.as_completed_in_time, self.started_many, self.shared_run,
            self.run_in_time, self.first_exception, self.moved_timeout, self.nested_timeouts, self.persistent,
            self.callback, self.exit_stack, self.guarded, self.event_in_time, self.cancelled_gather, self.child,
            self.bare, self.bare_in_time, self.shared_child, self.collected,
        ]  # fmt: skip
        return small, large

    def body(self, level: int, *, fails: bool = False) -> None:
        while True:
            self.statements(level, 6)
            if level or self.left <= 0:
                break
        if fails:
            self.emit(f"await bad({self.label()})")
        self.emit("return last(who)")

    def branch(self, level: int, *, fails: bool = False, then: str = "") -> str:
        """Write a coroutine function with a few steps; give its name."""
        name = f"branch_{self.branches}"
        self.branches += 1
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
        self.statements(level + 1)
        self.emit(f"decided(who, await {task})")

    def outlives(self, level: int) -> None:
        self.emit(f"task_{self.place()} = asyncio.create_task({self.calls(level)[0]})")

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
        if not self.children:
            return self.task_for_later(level)
        label, child, run = self.label("c"), self.dice.choice(self.children), f"run_{self.place()}"
        self.emit(f"{run} = {child.name}.start({label})")
        if self.dice.random() < 0.6:
            self.statements(level + 1)
        if self.dice.random() < 0.5:
            self.told(run)
        self.of_run(child, label, f"await {run}")
        return None

    def started_many(self, level: int) -> None:
        if not self.children:
            return self.in_threads(level)
        child, runs = self.dice.choice(self.children), f"runs_{self.place()}"
        labels = [self.label("c") for _ in range(self.dice.randint(1, 3))]
        self.emit(f"{runs} = {child.name}.start_many([{', '.join(labels)}])")
        if self.dice.random() < 0.5:
            self.emit(f"results = await asyncio.gather(*{runs}, return_exceptions=True)")
            self.emit('decided(who, f"results {list(map(kind, results))}")')
            return None
        self.statements(level + 1)
        for index, label in enumerate(labels):
            self.of_run(child, label, f"await {runs}[{index}]")
        return None

    def shared_run(self, level: int) -> None:
        """Several wait for one run, beside others; one may cancel it."""
        if not self.children:
            return self.future(level)
        child, place, run = self.dice.choice(self.children), self.place(), f"run_{self.place()}"
        self.emit(f"{run} = {child.name}.start({self.label('c')})")
        with self.block(f"async def waiter_{place}(who):"):
            with self.block("try:"):
                self.emit(f"value = await {run}")
            with self.block(f"except {self.ends_of(child)} as error:"):
                self.emit("value = kind(error)")
            self.emit("decided(who, value)")
            self.step(level)
        with self.block(f"async def other_{place}(who):"):
            self.step(level)
            if self.dice.random() < 0.5:
                self.told(run)
            self.statements(level + 1)
        self.beside(place, [f"waiter_{place}", f"other_{place}", f"waiter_{place}"])
        return None

    def run_in_time(self, level: int) -> None:
        """A started run is not cancelled where nobody waits for it any more."""
        if not self.children:
            return self.wait_for(level)
        label, child, run = self.label("c"), self.dice.choice(self.children), f"run_{self.place()}"
        self.emit(f"{run} = {child.name}.start({label})")
        with self.block("try:"):
            self.emit(f"value = await asyncio.wait_for({run}, {self.dice.choice(TIMEOUTS)})")
        with self.block(f"except (TimeoutError, {self.ends_of(child)[1:]} as error:"):
            self.emit("value = kind(error)")
        self.emit("decided(who, value)")
        self.step(level)
        self.of_run(child, label, f"await {run}")
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

    def collected(self, level: int) -> None:
        """Each tries when it has the lock; it fails in the end, with the first that did."""
        place = self.place()
        lock = f"lock_{place}"
        self.emit(f"{lock} = asyncio.Semaphore({self.dice.randint(1, 2)})")
        with self.block(f"async def branch_of_{place}(who):"):
            if self.dice.random() < 0.5:
                self.step(level)
            with self.block(f"async with {lock}:"):
                label = self.label()
                self.emit(f"got({label}, await moody({label}))")
                self.statements(level + 1)
        calls = [f'branch_of_{place}(f"{{who}}.{place}b{index}")' for index in range(self.dice.randint(2, 4))]
        self.emit(f"results = await asyncio.gather({', '.join(calls)}, return_exceptions=True)")
        with self.block("for result in results:"), self.block("if isinstance(result, Exception):"):
            self.emit("raise result")

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
        self.in_time(f"asyncio.shield({task})", level)
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

    def in_executor(self, level: int) -> None:
        label = self.label()
        call = f"contextvars.copy_context().run, {self.dice.choice(PLAIN)}, {label}"
        self.emit(f"got({label}, await asyncio.get_running_loop().run_in_executor(None, {call}))")

    def first_exception(self, level: int) -> None:
        tasks = self.tasks(level, failing=self.dice.random() < 0.6)
        self.emit(
            f"done, pending = await asyncio.wait({tasks}, return_when=asyncio.FIRST_EXCEPTION)",
            f'decided(who, f"by then {{[how(task) for task in {tasks} if task in done]}}")',
        )
        self.given_up(tasks)
        self.step(level)

    def moved_timeout(self, level: int) -> None:
        now = "asyncio.get_running_loop().time()"
        first, then = self.dice.choice(TIMEOUTS), self.dice.choice(TIMEOUTS)
        limit = self.dice.choice(["timeout(None)", f"timeout({first})", f"timeout_at({now} + {first})"])
        self.out_of_time([f"async with asyncio.{limit} as limit_{self.place()}:"], level, f"{now} + {then}")

    def nested_timeouts(self, level: int) -> None:
        """Two around a group, of which both may fire at once, or one within the other."""
        heads = [f"async with asyncio.timeout({self.dice.choice(TIMEOUTS)}):" for _ in range(2)]
        if self.dice.random() < 0.5:
            self.out_of_time(heads, level)
            return
        with self.block("try:"), self.block(heads[0]):
            self.out_of_time(heads[1:], level)
            self.task_group(level)
        with self.block("except TimeoutError:"):
            self.emit('decided(who, "too late outside")')
            self.step(level)

    def out_of_time(self, heads: list[str], level: int, then: str = "") -> None:
        """Write statements in these timeouts, of which the only one is set to `then` meanwhile."""
        with self.block("try:"), contextlib.ExitStack() as blocks:
            for head in heads:
                blocks.enter_context(self.block(head))
            self.step(level)
            if then:
                self.emit(f"{heads[0].split()[-1][:-1]}.reschedule({then})")
            self.statements(level + 1)
            self.dice.choice([self.task_group, self.step])(level)
        with self.block("except TimeoutError:"):
            self.emit('decided(who, "too late")')
            self.step(level)

    def persistent(self, level: int) -> None:
        """A task that is cancelled, perhaps twice, and goes on in spite of that."""
        place, takes_back = self.place(), self.dice.random() < 0.5
        with self.block(f"async def persistent_{place}(who):"):
            with self.block("try:"):
                self.step(level)
                self.statements(level + 1)
            with self.block("except asyncio.CancelledError:"):
                if takes_back:
                    self.emit("asyncio.current_task().uncancel()")
                self.emit('decided(who, "goes on")')
                self.step(level)
            self.step(level)
            self.emit("return who")
        self.emit(f'task_{place} = asyncio.create_task(persistent_{place}(f"{{who}}.{place}b"))')
        for _ in range(self.dice.randint(1, 2)):
            self.step(level)
            self.emit(f"task_{place}.cancel()")
        self.emit(f"results = await asyncio.gather(task_{place}, return_exceptions=True)")
        self.emit('decided(who, f"results {list(map(kind, results))}")')

    def callback(self, level: int) -> None:
        """What is called when a task ends wakes another one."""
        event, place = f"event_{self.place()}", self.place()
        self.emit(f"{event} = asyncio.Event()")
        self.emit(f"task_{place} = asyncio.create_task({self.calls(level)[0]})")
        self.emit(f"task_{place}.add_done_callback(lambda _: {event}.set())")
        with self.block(f"async def waiter_{place}(who):"):
            self.emit(f"await {event}.wait()")
            self.step(level)
        with self.block(f"async def other_{place}(who):"):
            self.step(level)
            label = self.label(f"-{{{event}.is_set()}}")
            self.emit(f"got({label}, await work({label}))")
        self.beside(place, [f"waiter_{place}", f"other_{place}"])

    def exit_stack(self, level: int) -> None:
        with self.block("async with contextlib.AsyncExitStack() as stack:"):
            self.emit(f"stack.push_async_callback({self.dice.choice(STEPS)}, {self.label()})")
            self.statements(level + 1)

    def guarded(self, level: int) -> None:
        """With a clean-up: where it is cancelled, or always."""
        with self.block("try:"):
            self.step(level)
            self.statements(level + 1)
        hears = self.dice.random() < 0.6
        if hears:
            with self.block("except asyncio.CancelledError:"):
                self.dice.choice([self.step, self.direct, self.in_thread, self.child])(level)
                self.emit("raise")
        if not hears or self.dice.random() < 0.6:
            with self.block("finally:"):
                self.dice.choice([self.step, self.direct, self.in_thread, self.child])(level)

    def event_in_time(self, level: int) -> None:
        event, place = f"event_{self.place()}", self.place()
        self.emit(f"{event} = asyncio.Event()")
        with self.block(f"async def waiter_{place}(who):"):
            self.in_time(f"{event}.wait()", level)
            self.step(level)
        with self.block(f"async def setter_{place}(who):"):
            self.step(level)
            self.statements(level + 1)
            self.emit(f"{event}.set()")
            self.step(level)
        self.beside(place, [f"waiter_{place}", f"setter_{place}"])

    def cancelled_gather(self, level: int) -> None:
        gathered = f"gathered_{self.place()}"
        self.emit(f"{gathered} = asyncio.gather({', '.join(self.calls(level))})")
        self.step(level)
        self.emit(f"{gathered}.cancel()")
        with self.block("try:"):
            self.emit(f"await {gathered}")
        with self.block("except asyncio.CancelledError:"):
            self.emit('decided(who, "gave up")')
        self.step(level)

    def bare_call(self) -> str:
        """A coroutine of the library's own: a step, a child, a thread."""
        children = [child for child in self.children if child.is_async]
        if children and self.dice.random() < 0.5:
            return f"{self.dice.choice(children).name}({self.label('c')})"
        if self.dice.random() < 0.3:
            return f"asyncio.to_thread({self.dice.choice(PLAIN)}, {self.label()})"
        return f"{self.dice.choice(STEPS)}({self.label()})"

    def bare(self, level: int) -> None:
        """They are tasks by themselves, in a race or in a group."""
        calls = [self.bare_call() for _ in range(self.dice.randint(2, 3))]
        place = self.place()
        if self.dice.random() < 0.5:
            with self.block("try:"), self.block(f"async with TaskGroup() as group_{place}:"):
                for call in calls:
                    self.emit(f"group_{place}.create_task({call})")
            with self.block("except* (Declined, TimeoutError, durable.RunCancelledError) as errors:"):
                self.emit('decided(who, f"failed {sorted(map(kind, errors.exceptions))}")')
            self.step(level)
            return
        tasks = f"tasks_{place}"
        until = self.dice.choice(["FIRST_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"])
        self.emit(
            f"{tasks} = [{', '.join(f'asyncio.create_task({call})' for call in calls)}]",
            f"done, pending = await asyncio.wait({tasks}, return_when=asyncio.{until})",
            f'decided(who, f"by then {{[how(task) for task in {tasks} if task in done]}}")',
        )
        self.given_up(tasks)
        self.step(level)

    def bare_in_time(self, level: int) -> None:
        with self.block("try:"):
            self.emit(f"value = await asyncio.wait_for({self.bare_call()}, {self.dice.choice(TIMEOUTS)})")
        with self.block("except (Declined, TimeoutError, durable.RunCancelledError) as error:"):
            self.emit("value = kind(error)")
        self.emit("decided(who, value)")
        self.step(level)

    def shared_child(self, level: int) -> None:
        """Two call the run of one id, at once or one after the other, and one may give it up."""
        children = [child for child in self.children if child.is_async]
        if not children:
            return self.gather_steps(level)
        child, place, shared = self.dice.choice(children), self.place(), f"shared_{self.place()}"
        self.emit(f"{shared} = {self.label('c')}")
        call = f"{child.name}.with_options(id={shared})({shared})"
        for name in ("caller", "hasty_caller"):
            with self.block(f"async def {name}_{place}(who):"):
                if self.dice.random() < 0.5:
                    self.step(level)
                with self.block("try:"):
                    in_time = f"asyncio.wait_for({call}, {self.dice.choice(TIMEOUTS)})"
                    self.emit(f"value = await {in_time if name == 'hasty_caller' else call}")
                with self.block("except (Declined, TimeoutError, durable.RunCancelledError) as error:"):
                    self.emit("value = kind(error)")
                self.emit("decided(who, value)")
                self.step(level)
        self.beside(place, [f"caller_{place}", self.dice.choice([f"caller_{place}", f"hasty_caller_{place}"])])
        return None

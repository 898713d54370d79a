"""The judge of the random programs sees another path where there is one, and none where a run was only taken down."""

import textwrap
from collections.abc import Callable

import pytest

import durable
from durable._past_order import PastOrder
from tests.parallel import trials, vocabulary
from tests.parallel.judge import Fault, Judge
from tests.parallel.vocabulary import WORDS


@pytest.fixture
def lead(tmp_path):
    """Live several lives of one program, and have each of them judged."""
    path = tmp_path / "journal.db"
    judge = Judge(path, set())

    def take_down() -> None:
        if vocabulary.life.mode == "cancel":
            vocabulary.life.moment("workflow", last=True)

    def lead(program: str, *modes: str, between: Callable[[durable.Engine], None] = lambda _: None) -> None:
        namespace = {**WORDS, "__name__": "tests.parallel.program", "take_down": take_down}
        exec(textwrap.dedent(program), namespace)
        for number, mode in enumerate(modes):
            plan = trials.Plan(str(number), mode, 0, "plain", False, "process", False, False)
            outcome = trials.live(path, namespace["main"], plan)
            judge.look(outcome)
            if number + 1 < len(modes):
                with durable.Engine(path) as engine:
                    between(engine)
        if outcome.kind == "completed":
            judge.look_at_end(outcome)

    return lead


def test_what_a_body_does_while_it_is_taken_down_is_no_path(lead):
    lead(
        """
        import asyncio, durable

        @durable.workflow(name="main", id="trial")
        async def main():
            beside = asyncio.create_task(asyncio.Event().wait())
            begin("r")
            take_down()
            try:
                got("r.1", await work("r.1"))
            except BaseException as error:
                decided("r", f"stopped by {error}")
                raise
            decided("r", "went on")
            got("r.2", await work("r.2"))
            return last("r")
        """,
        "abandon",  # when it is about to return
        "cancel",  # while it replays
        "none",
    )


RACE = """
import asyncio, durable

@durable.workflow(name="main", id="trial")
async def main():
    begin("r")
    first = asyncio.Event()
    async def slow(who):
        got(f"{who}.1", await work(f"{who}.1"))
        got(f"{who}.2", await work(f"{who}.2"))
    async def quick(who):
        got(f"{who}.1", await work(f"{who}.1"))
    tasks = [asyncio.create_task(slow("r.0b0")), asyncio.create_task(quick("r.0b1"))]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    decided("r", f"won {[task in done for task in tasks]}")
    got("r.1", await work("r.1"))
    await asyncio.gather(*tasks)
    return last("r")
"""


def test_a_race_is_won_again_by_the_same(lead):
    lead(RACE, "abandon", "none")


def test_a_replay_that_does_not_keep_the_order_of_outcomes_is_another_path(lead, monkeypatch):
    def at_once(self, record):
        future = self._loop.create_future()
        future.set_result(None)
        self.delivered(record.turn)
        return future

    monkeypatch.setattr(PastOrder, "turn_of", at_once)
    with pytest.raises(Fault, match="other path"):
        lead(RACE, "abandon", "none")


def test_the_end_of_a_run_that_was_started_is_on_disk_only_with_what_follows(lead):
    """Where nothing does, and somebody cancels the run that has crashed, its body is told that first."""
    lead(
        """
        import asyncio, durable

        @durable.workflow(name="child")
        async def child(who):
            begin(who)
            return last(who)

        @durable.workflow(name="main", id="trial")
        async def main():
            begin("r")
            run = child.start("r.1c")
            try:
                heard("r.1c", await run)
            except asyncio.CancelledError:
                got("r.2", await work("r.2"))
                raise
            return last("r")
        """,
        "abandon",
        "none",
        between=lambda engine: engine.get("trial").cancel(),
    )


def test_a_run_that_goes_on_under_one_that_has_ended_is_found(lead):
    with pytest.raises(Fault, match="left"):
        lead(
            """
            import asyncio, contextlib, durable

            @durable.workflow(name="child")  # a sync one, which the judge is not told of
            def child(who):
                durable.sleep(3600)

            @durable.workflow(name="main", id="trial")
            async def main():
                begin("r")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.to_thread(child, "r.1c"), 0.5)
                return last("r")
            """,
            "none",
        )

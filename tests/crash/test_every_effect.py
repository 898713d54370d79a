"""Programs killed before and after every effect: the rerun gives the uninterrupted result and repeats no outcome."""

import random
import re
import shutil
import signal
from collections import Counter
from itertools import count

import pytest

KILLED = -signal.SIGKILL
RESULTS = {
    "values": "[2, 4, None, True, 8]",
    "failures": "[('too much', {'amount': 5}), 'shop at last', 'never', 10]",
    "fails_in_the_end": "(('too much', {'amount': 3}), [\"durable: step 'declined' failed after * attempts\"])",
    "at_most_once": "[10, 'paid 5', 10]",
    "timeouts": "[6, 'server in time', 7]",
    "children": "[22, ('too much', {'amount': 5}), 26, 44]",
    "start": "[[2, 'shop at last', 2], [4, 'shop at last', 4]]",
    "values_async": "[3, 9, None, True, 18]",
    "failures_async": "[('too much', {'amount': 5}), 'shop at last', 'paid 5', 15]",
    "branches": "[[[0, 0], [3, 9], [6, 18]], ['east at last', 'west at last'], 9]",
    "cuts": "['cut', 6, True, 15, 12]",
    "children_async": "[[33, 39], 45, 22, 15]",
    "waits": "([1, 10, 'nobody', 2, 'shop at last'], 'yes')",
    "waits_async": "[16, 17, 'nobody', 'end']",
    "race": "('same', 10)",
    "cancelled": "('cancelled', ['booking undone', 'payment undone'])",
    "cancelled_async": "('cancelled', ['booking undone', 'payment undone'])",
    "saga": "['hotel undone', 'flight undone']",
    "waiting_children": "[4, 2]",
}


class Trial:
    """One folder, in which a program is run, killed and run again; each death is looked at."""

    def __init__(self, folder, run, program, remains):
        folder.mkdir()
        self.folder, self.run, self.program, self.remains = folder, run, program, remains
        self.deaths = 0
        self.finished = set()
        self.starts = Counter()

    def go(self, die_at, *, resume):
        status = self.run(self.program, self.folder, die_at, resume=resume)
        assert status in {0, KILLED}, f"{self.program} in {self.folder}: {(self.folder / 'output.txt').read_text()}"
        self.deaths += status == KILLED
        self.look()
        return status == 0

    def look(self):
        left = self.remains(self.folder)
        starts = left.starts()
        where = f"{self.program} in {self.folder}"
        again = {key for key in self.finished if starts[key] > self.starts[key]}
        assert not again, f"{where}: steps with an outcome ran again: {again}"
        assert set(left.starts("pay").values()) <= {1}, f"{where}: a step that is at most once ran again"
        lost = self.finished - left.with_outcome()
        assert not lost, f"{where}: outcomes were lost: {lost}"
        assert left.got_by_last_process() <= len(left.steps), f"{where}: an outcome that the workflow had is not there"
        self.finished, self.starts = left.with_outcome(), starts

    def result(self):
        assert not (self.folder / "output.txt").exists() or not (self.folder / "output.txt").read_text()
        text = (self.folder / "result.txt").read_text().splitlines()[0]
        return re.sub(r"after \d+ attempts?", "after * attempts", text)

    def require_right_result(self):
        wanted = {RESULTS[self.program]}
        if self.deaths and "paid" in RESULTS[self.program]:
            wanted.add(RESULTS[self.program].replace("'paid 5'", "'unknown'"))
        assert self.result() in wanted, f"{self.program} in {self.folder}"


@pytest.mark.parametrize("program", RESULTS)
def test_killed_before_and_after_every_effect(folder, server, remains, program):
    for moment in count(1):
        trial = Trial(folder / str(moment), server.run, program, remains)
        survived = trial.go(moment, resume=False)
        if not survived:
            assert trial.go(0, resume=moment % 2 == 0)
        trial.require_right_result()
        if survived:
            break
        shutil.rmtree(trial.folder)
    moments = int((trial.folder / "result.txt").read_text().splitlines()[1])
    assert moment > moments >= 12


@pytest.mark.parametrize("program", RESULTS)
def test_killed_again_and_again_during_recovery(folder, server, remains, program):
    dice = random.Random(f"{program} 1")
    trial = Trial(folder / "trial", server.run, program, remains)
    while not trial.go(dice.randint(1, 15) if trial.deaths < 8 else 0, resume=dice.random() < 0.5):
        pass
    trial.require_right_result()


@pytest.mark.parametrize("program", ["values", "branches"])
@pytest.mark.parametrize("moment", [5, 11, 16])
def test_killed_and_run_again_by_processes_that_were_not_forked(tmp_path, fresh, remains, program, moment):
    trial = Trial(tmp_path / "trial", fresh, program, remains)
    assert not trial.go(moment, resume=False)
    assert trial.go(0, resume=False)
    trial.require_right_result()


def test_the_moments_come_where_they_should(folder, server, remains):
    """The tests above would pass if nothing were killed, or if nothing were journaled when it is."""
    operations, outcomes, starts = set(), set(), set()
    for moment in count(1):
        trial = Trial(folder / str(moment), server.run, "values", remains)
        if trial.go(moment, resume=False):
            break
        left = remains(trial.folder)
        operations.add(len(left.steps))
        outcomes.add(len(left.with_outcome()))
        starts.add(sum(left.starts().values()))
    assert operations >= {0, 1, 2, 3, 7, 8}  # `now` and its like may go into the file with the next step
    assert outcomes >= {0, 1, 2, 7, 8}
    assert starts == set(range(6))

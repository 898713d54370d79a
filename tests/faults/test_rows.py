"""A small size of each row; `make faults` is the full one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.failures import lost_failures
from tests.faults.mutants import MUTANTS
from tests.faults.rows import ROWS


def run(row, trials, *options, seed=1):
    command = [sys.executable, "-m", "tests.faults", row, f"--trials={trials}", f"--seed={seed}", *options]
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=280)


@pytest.mark.parametrize("row", ROWS)
def test_a_sample_of_the_trials_finds_no_fault(row):
    done = run(row, ROWS[row].small)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{row}: ")
    assert int(done.stdout.split()[1].replace(",", "")) >= ROWS[row].small


FIRST_OF_ROWS = {MUTANTS[guard].row: guard for guard in reversed(MUTANTS)}
GUARDS = MUTANTS if os.environ.get("TESTS_FULL") else FIRST_OF_ROWS.values()


@pytest.mark.parametrize("guard", GUARDS)
def test_a_guard_that_is_switched_off_is_caught(guard):
    """The harness has teeth."""
    mutant = MUTANTS[guard]
    done = run(mutant.row, mutant.trials, "--without", guard, seed=mutant.seed)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAULT" in done.stdout or "Timeout" in done.stderr  # what never ends is ended, and shows where it was


def test_a_failure_is_acknowledged_by_the_next_attempt_of_the_same_execution():
    failed, goes_on = ("fail", "a"), ("start", "a", "run", "key")
    assert lost_failures([], [failed, goes_on]) == ["failed attempts lost"]
    for stopped in ("life", "resumed"):
        assert lost_failures([], [failed, (stopped,), goes_on]) == []

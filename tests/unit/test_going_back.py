"""What of a run is done again when it is retried: by where and when its operations were called."""

import json

import pytest

from durable._effects import CUT
from durable._going_back import taken_over, to_repeat
from durable._model import TIMER, RunRecord, StepRecord
from durable.errors import RunConflictError


def error(message, **more):
    return json.dumps({"type": "builtins:ValueError", "message": message, **more})


def failed_run(text):
    return RunRecord(1, "run", "flow", "m", "failed", "{}", None, text, 0.0, 99.0, None, None, None, 1, 0, 0, 0)


def step(branch, position, started_at, finished_at, failure=None, *, kind="step"):
    status = "completed" if failure is None else "failed"
    output = "1" if failure is None else None
    return StepRecord(
        1, branch, position, kind, f"{branch}{position}", "m", status, 1, 0, "{}", output, failure,
        float(started_at), float(finished_at), None, 1,
    )  # fmt: skip


def repeated(run_error, *steps):
    return [found.name for found in to_repeat(failed_run(run_error), list(steps))]


def test_a_failure_that_was_caught_before_tasks_began_stays():
    caught = step("", 0, 1, 2, error("caught"))
    done, failure = step("/a:0", 0, 3, 4), step("/b:0", 0, 3, 5, error("at last"))
    assert repeated(error("at last"), caught, done, failure) == ["/b:00"]


def test_a_failure_in_a_task_that_was_caught_before_other_tasks_began_stays():
    caught, failure = step("/a:0", 0, 1, 2, error("caught")), step("/b:0", 0, 3, 5, error("at last"))
    assert repeated(error("at last"), caught, failure) == ["/b:00"]


def test_failures_side_by_side_are_repeated_together():
    first, second = step("/a:0", 0, 1, 2, error("one")), step("/a:1", 0, 1, 3, error("two"))
    assert repeated(error("two"), first, second, step("/a:2", 0, 1, 4)) == ["/a:00", "/a:10"]


def test_a_failure_that_the_run_failed_with_is_repeated_though_others_began_after_it():
    first, later = step("/a:0", 0, 1, 2, error("one")), step("/a:1", 0, 3, 4)
    assert repeated(error("one"), first, later) == ["/a:00"]
    assert repeated(error("it broke", cause=json.loads(error("one"))), first, later) == ["/a:00"]
    assert repeated(error("group", members=[json.loads(error("one"))]), first, later) == ["/a:00"]


def test_where_the_run_failed_with_something_else_every_failure_is_repeated():
    first, later = step("/a:0", 0, 1, 2, error("one")), step("/a:1", 0, 3, 4)
    assert repeated(error("the code's own"), first, later) == ["/a:00"]


def test_what_was_cut_because_of_the_failure_is_repeated_and_what_was_cut_before_stays():
    before, failure = step("/a:0", 0, 1, 2, CUT), step("/b:0", 0, 1, 3, error("broken"))
    assert repeated(error("broken"), before, failure, step("/c:0", 0, 1, 4, CUT)) == ["/b:00", "/c:00"]


@pytest.mark.parametrize("tidied_on", ["/c:0", "/a:0"])
def test_what_tidied_up_beside_the_failure_keeps_it_from_being_repeated(tidied_on):
    failure, cut = step("/b:0", 0, 1, 3, error("broken")), step("/c:0", 0, 1, 4, CUT)
    tidied = step(tidied_on, 1, 5, 6)
    with pytest.raises(RunConflictError, match=r"run\.fork"):
        to_repeat(failed_run(error("broken")), [failure, cut, tidied])


def test_a_timeout_goes_with_what_it_cut_and_no_other():
    timer, cut = step("", -2, 2, 2, kind=TIMER), step("/a:0", 0, 1, 2, CUT)
    assert repeated(error("too late"), timer, cut) == ["/a:00", "-2"]
    shielded = step("/a:0", 0, 1, 5, error("broken"))
    assert repeated(error("broken"), timer, shielded, step("/b:0", 0, 3, 4)) == ["/a:00"]


def test_a_timeout_that_cut_what_was_cleaned_up_is_not_undone_for_what_it_cut_besides():
    timer, failure = step("", -2, 2, 2, kind=TIMER), step("/c:0", 0, 1, 2, error("broken"))
    alone, cleaned, after = step("/a:0", 0, 1, 3, CUT), step("/b:0", 0, 1, 3, CUT), step("/b:0", 1, 4, 5)
    with pytest.raises(RunConflictError, match=r"run\.fork"):
        to_repeat(failed_run(error("broken")), [timer, alone, cleaned, after, failure])


def test_a_timeout_of_its_own_is_no_reason_to_refuse():
    failure, timer = step("/a:0", 0, 1, 2, error("broken")), step("/b:0", -2, 3, 3, kind=TIMER)
    cut, after = step("/b:0", 0, 1, 3, CUT), step("/b:0", 1, 4, 5)
    assert repeated(error("broken"), failure, timer, cut, after) == ["/a:00"]


def test_a_fork_takes_over_a_cancellation_with_what_came_of_it():
    run = failed_run(None)
    cancel, before, tidied = step("", -1, 3, 3, kind="cancel"), step("", 0, 1, 2), step("", 1, 4, 5)
    last = step("", 2, 6, 7)
    assert taken_over(run, [cancel, before, tidied, last], 3) == [before]
    assert taken_over(run, [cancel, before, tidied, last], 4) == [cancel, before, tidied]

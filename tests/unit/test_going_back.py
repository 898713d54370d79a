"""What a retry of a run does again and a fork of it takes over: by where and when its operations were called."""

import json

import pytest

from durable._aftermath import Aftermath
from durable._effects import CUT
from durable._fork import taken_over
from durable._going_back import to_repeat
from durable._identity import idempotency_key
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


def repeated(run_error, *steps, children=()):
    return [found.name for found in to_repeat(failed_run(run_error), list(steps), list(children)).steps]


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
        repeated(error("broken"), failure, cut, tidied)


def test_a_timeout_goes_with_what_it_cut_and_no_other():
    timer, cut = step("", -2, 2, 2, kind=TIMER), step("/a:0", 0, 1, 2, CUT)
    assert repeated(error("too late"), timer, cut) == ["/a:00", "-2"]
    assert repeated(error("too late"), timer._replace(branch="/b:0"), cut) == ["/a:00"]
    shielded = step("/a:0", 0, 1, 5, error("broken"))
    assert repeated(error("broken"), timer, shielded, step("/b:0", 0, 3, 4)) == ["/a:00"]


def test_a_timeout_that_cut_what_was_cleaned_up_is_not_undone_for_what_it_cut_besides():
    timer, failure = step("", -2, 2, 2, kind=TIMER), step("/c:0", 0, 1, 2, error("broken"))
    alone, cleaned, after = step("/a:0", 0, 1, 3, CUT), step("/b:0", 0, 1, 3, CUT), step("/b:0", 1, 4, 5)
    with pytest.raises(RunConflictError, match=r"run\.fork"):
        repeated(error("broken"), timer, alone, cleaned, after, failure)


def test_a_timeout_of_its_own_is_no_reason_to_refuse():
    failure, timer = step("/a:0", 0, 1, 2, error("broken")), step("/b:0", -2, 3, 3, kind=TIMER)
    cut, after = step("/b:0", 0, 1, 3, CUT), step("/b:0", 1, 4, 5)
    assert repeated(error("broken"), failure, timer, cut, after) == ["/a:00"]


def test_a_timeout_goes_with_what_it_cut_in_a_thread():
    timer, cut = step("", -2, 2, 2, kind=TIMER), step("/thread:0", 0, 1, 2, CUT)._replace(turn=0)
    assert repeated(error("too late"), timer, cut) == ["/thread:00", "-2"]


def test_a_timeout_that_cut_nothing_is_no_excuse_for_what_the_failure_cut():
    """It passed around what it left to go on, as in `wait_for(shield(task))`: its branch went on before that was cut."""
    timer, failure = step("", -2, 2, 2, kind=TIMER), step("", 0, 3, 4, error("broken"))
    cut, after = step("/a:0", 0, 1, 5, CUT), step("/a:0", 1, 6, 7)
    with pytest.raises(RunConflictError, match=r"run\.fork"):
        repeated(error("broken"), timer, failure, cut, after)


def test_a_timeout_that_passed_when_the_failure_had_cut_something_is_no_excuse_for_that():
    failure, cut = step("/b:0", 0, 1, 2, error("broken"))._replace(turn=1), step("/a:0", 0, 1, 3, CUT)._replace(turn=2)
    timer, after = step("", -2, 3, 3, kind=TIMER)._replace(turn=3), step("/a:0", 1, 3, 4)._replace(turn=4)
    with pytest.raises(RunConflictError, match=r"run\.fork"):
        repeated(error("broken"), failure, cut, timer, after)


def test_what_the_end_of_the_body_cut_was_cut_by_no_timeout():
    """Where one had passed just then, a task gets both; what it did in its clean-up is because of the end."""
    failure, cut = step("/b:0", 0, 1, 3, error("broken")), step("/a:0", 0, 1, 5, CUT)
    timer, after = step("/a:0", -2, 4, 4, kind=TIMER), step("/a:0", 1, 6, 7)
    assert repeated(error("broken"), failure, cut, timer, after) == ["/b:00"]
    assert repeated(error("broken", raised_at=7.5), failure, cut, timer, after) == ["/b:00"]
    with pytest.raises(RunConflictError, match=r"run\.fork"):
        repeated(error("broken", raised_at=4.5), failure, cut, timer, after)
    with pytest.raises(RunConflictError, match=r"run\.fork"):  # what was cut had not begun, and is not there
        repeated(error("broken", raised_at=4.5), failure, after)


def told(turn=3, at=5):
    return step("", -1, at, at, kind="cancel")._replace(turn=turn)


def test_what_a_run_had_under_way_when_its_time_was_up_is_repeated_with_that():
    caught, lost = step("", 0, 1, 2, error("caught")), step("/a:0", 0, 1, 3, CUT)
    cut, in_thread = step("", 1, 4, 5, CUT)._replace(turn=4), step("/thread:0", 0, 5, 6, CUT)._replace(turn=0)
    ended = step("/b:0", 0, 4, 6)._replace(turn=5)
    assert repeated(error("late"), told(), caught, lost, cut, in_thread, ended) == ["-1", "1", "/thread:00"]


def test_what_ended_or_was_cut_just_before_its_time_was_up_stays():
    assert repeated(error("late"), step("", 0, 5, 5), step("/a:0", 0, 1, 5, CUT)._replace(turn=2), told()) == ["-1"]


@pytest.mark.parametrize(
    "after", [step("", 1, 6, 7), step("", 1, 6, 7, CUT), step("", 1, 6, 7, error("broken")), step("/a:0", 0, 5, 5)]
)
def test_a_run_that_did_something_when_its_time_was_up_is_not_retried(after):
    for turn in 0, 4:
        with pytest.raises(RunConflictError, match=r"after its timeout had passed, with step .* run.fork\(from_step="):
            repeated(error("late"), told(), step("", 0, 1, 5, CUT)._replace(turn=4), after._replace(turn=turn))


def test_a_child_that_was_cancelled_when_its_time_was_up_is_not_called_again():
    called = step("", 0, 1, 5, CUT, kind="child")._replace(turn=4)
    child = failed_run(None)._replace(id=idempotency_key("run", "", 0), status="cancelled")
    with pytest.raises(RunConflictError, match="would get that again"):
        repeated(error("late"), told(), called, children=[child])


def test_a_fork_takes_over_a_cancellation_with_what_came_of_it():
    run = failed_run(None)
    cancel, before, tidied = step("", -1, 3, 3, kind="cancel"), step("", 0, 1, 2), step("", 1, 4, 5)
    last = step("", 2, 6, 7)
    assert taken_over(run, [cancel, before, tidied, last], 3) == [before]
    assert taken_over(run, [cancel, before, tidied, last], 4) == [before, cancel, tidied]


# -- what came after what ----------------------------------------------------------------------------------------------


def test_an_operation_after_the_failure_on_its_branch_or_on_one_around_it_is_going_on():
    failure = step("/a:0/b:0", 0, 1, 2, error("broken"))
    for branch in ("/a:0/b:0", "/a:0", ""):
        with pytest.raises(RunConflictError):
            repeated(error("broken"), failure, step(branch, 3, 2 + (branch == "/a:0/b:0"), 4))
    for branch in ("/a:0/c:0", "/a", "/a:0/b:0/c:0"):
        assert repeated(error("broken"), failure, step(branch, 3, 3, 4)) == ["/a:0/b:00"]


def test_what_stands_before_the_failure_was_called_before_it_whenever_it_began():
    late, failure, early = step("", 0, 5, 6), step("", 1, 1, 2, error("broken")), step("", 2, 1, 3)
    assert repeated(error("broken"), late, failure, early) == ["1"]
    with pytest.raises(RunConflictError):
        repeated(error("broken"), late, failure._replace(branch="/a:0"))


def test_steps_that_took_no_time_came_in_the_order_of_their_places():
    with pytest.raises(RunConflictError):
        repeated(error("broken"), step("", 0, 5, 5, error("broken")), step("", 1, 5, 5))
    assert repeated(error("broken"), step("", 0, 5, 5), step("", 1, 5, 5, error("broken"))) == ["1"]


def test_items_of_a_map_are_siblings_whenever_they_began():
    items = [step("/pay[]:0", 0, 1, 2, error("broken")), step("/pay[]:0", 1, 3, 4)]
    assert repeated(error("broken"), *items) == ["/pay[]:00"]


def test_errors_are_told_apart_by_class_and_message():
    caught, later = step("/a:0", 0, 1, 2, error("same")), step("/b:0", 0, 3, 4, error("other"))
    of_another_class = json.dumps({"type": "builtins:KeyError", "message": "same"})
    assert repeated(error("other"), caught, later) == ["/b:00"]
    assert repeated(error("wrapped", cause=json.loads(error("other"))), caught, later) == ["/b:00"]
    group = error("group", members=[json.loads(error("nested", members=[json.loads(error("other"))]))])
    assert repeated(group, caught, later) == ["/b:00"]
    assert repeated(of_another_class, caught, later) == ["/a:00", "/b:00"]
    assert repeated(None, caught, later) == ["/a:00", "/b:00"]
    of_another_class = json.dumps({"type": "builtins:KeyError", "message": "other"})
    assert repeated(error("other"), caught._replace(error=of_another_class), later) == ["/b:00"]


@pytest.mark.parametrize(
    "later",
    [
        step("/b:0", 1, 3, 4),  # not the first of its branch
        step("/b:0", 0, 1, 4),  # began before
        step("/b:0", 0, 3, 4, CUT),
        step("/a:1/c:0", 0, 3, 4),  # begun by another task
    ],
)
def test_what_shows_nothing_of_new_branches_leaves_a_failure_to_be_repeated(later):
    caught, failure = step("/a:0", 0, 1, 2, error("one")), step("/z:0", 0, 1, 9, error("two"))
    assert "/a:00" in repeated(error("two"), caught, later, failure)


def test_the_refusal_names_the_failure_and_the_step_to_fork_from():
    failure, after = step("", 1, 1, 2, error("broken")), step("", 2, 3, 4)
    message = (
        "run run of 'flow' went on after step '1' failed at position 1 (it caught or compensated the failure), so it "
        "cannot be retried from there: run.fork(from_step=2), or durable fork run --from-step 2, starts a new run from "
        "any step"
    )
    with pytest.raises(RunConflictError) as refusal:
        repeated(error("broken"), step("", 0, 0, 1), failure, after)
    assert str(refusal.value) == message


def test_where_nothing_failed_nothing_is_repeated():
    assert repeated(error("the code's own"), step("", 0, 1, 2)) == []


def test_a_failure_that_the_run_failed_with_and_went_on_after_is_named_whatever_failed_after_it():
    passed, last = step("", 1, 1, 2, error("broken")), step("", 2, 3, 4, error("another"))
    first = step("", 0, 0, 1, error("broken"))  # the same was tried before
    for text in (
        error("broken"),
        error("wrapped", cause=json.loads(error("broken"))),
        error("group", members=[json.loads(error("broken"))]),
    ):
        for later in (last, step("", 2, 3, 4, CUT)):
            with pytest.raises(RunConflictError, match=r"step '1' failed at position 1 .*run\.fork\(from_step=2\)"):
                repeated(text, first, passed, later)


def test_a_failure_that_nothing_came_after_is_repeated_though_the_run_failed_with_an_earlier_one_too():
    passed, last = step("", 0, 1, 2, error("one")), step("", 1, 3, 4, error("two"))
    both = [json.loads(error("one")), json.loads(error("two"))]
    assert repeated(error("two", cause=both[0]), passed, last) == ["1"]
    assert repeated(error("group", members=both), passed, last) == ["1"]
    assert repeated(error("two"), passed._replace(error=error("two")), last) == ["1"]
    assert repeated(error("the code's own"), passed, last) == ["1"]


# -- children ----------------------------------------------------------------------------------------------------------


def test_a_cancelled_child_that_would_be_called_again_is_named():
    record, first = failed_run(error("broken")), step("", 0, 1, 2, error("broken"))
    called = step("", 1, 1, 3, CUT, kind="child")
    child = record._replace(id=idempotency_key("run", "", 1), workflow="charge", status="cancelled")
    message = (
        f"run run of 'flow' called run {child.id} of 'charge', which was cancelled, and would get that again: "
        "run.fork(from_step=1), or durable fork run --from-step 1, starts a new run, with children of its own"
    )
    with pytest.raises(RunConflictError) as refusal:
        repeated(error("broken"), first, called, children=[child])
    assert str(refusal.value) == message
    assert repeated(error("broken"), first, called, children=[child._replace(status="failed")]) == ["0", "1"]
    assert repeated(error("broken"), first, called, children=[child._replace(id="another")]) == ["0", "1"]
    with pytest.raises(RunConflictError, match="called run mine of '1'"):  # whose workflow gives its runs ids
        repeated(error("broken"), first, called, children=[child._replace(id="mine", workflow="1")])


def test_of_two_runs_of_a_workflow_that_failed_only_the_one_that_is_called_again_is_retried():
    first, second = (step("", number, number, number + 1, error(str(number)), kind="child") for number in (0, 1))
    children = [
        failed_run(error(str(number)))._replace(id=idempotency_key("run", "", number), workflow="charge")
        for number in (0, 1)
    ]
    both = [first._replace(name="charge"), second._replace(name="charge")]
    assert again(error("1"), both, *children) == ([1], [children[1].id])


def test_of_runs_of_the_same_inputs_with_ids_of_their_own_the_one_that_failed_is_retried():
    first = step("", 0, 1, 2, kind="child")._replace(name="charge")
    second = step("", 1, 3, 4, error("broken"), kind="child")._replace(name="charge")
    children = [
        failed_run(error("broken"))._replace(id="c1", workflow="charge", status="completed", created_at=1.0),
        failed_run(error("broken"))._replace(id="c2", workflow="charge", created_at=3.0),
    ]
    assert again(error("broken"), [first, second], *children) == ([1], ["c2"])
    beside = [first._replace(started_at=1.0), second._replace(started_at=1.0)]
    assert again(error("broken"), beside, *children) == ([1], ["c2"])


def start(branch, position, started_at, run_id):
    return step(branch, position, started_at, started_at, kind="start")._replace(output=json.dumps(run_id), name="kid")


def started(run_id, failure, finished_at=5.0, status="failed"):
    return failed_run(failure)._replace(
        id=run_id, workflow="kid", status=status, finished_at=finished_at, seq=len(run_id)
    )


def again(run_error, steps, *children):
    found = to_repeat(failed_run(run_error), steps, list(children))
    return [each.position for each in found.steps], [child.id for child in found.children]


def test_a_started_run_is_retried_where_the_run_failed_with_its_failure():
    steps = [start("", 0, 1, "a"), start("", 1, 6, "bb"), start("/x:0", 0, 2, "ccc")]
    children = started("a", error("one")), started("bb", error("two")), started("ccc", error("one"), status="cancelled")
    assert again(error("one"), steps, *children) == ([], ["a"])
    assert again(error("group", members=[json.loads(each.error) for each in children]), steps, *children)[1] == [
        "a",
        "bb",
    ]
    assert again(error("wrapped", cause=json.loads(error("two"))), steps, *children) == ([], ["bb"])
    assert again(error("the code's own"), steps, *children) == ([], [])
    assert again(error("one"), steps, started("another", error("one"))) == ([], [])


def test_a_started_run_stays_where_an_operation_failed_with_the_same():
    steps, child = [start("", 0, 1, "a"), step("", 1, 6, 7, error("one"))], started("a", error("one"))
    assert again(error("one"), steps, child) == ([1], [])
    caught = [steps[1]._replace(position=0, started_at=0.0, finished_at=0.5), steps[0]._replace(position=1)]
    assert again(error("one"), caught, child) == ([], ["a"])


def test_an_operation_after_the_end_of_a_started_run_is_going_on():
    steps, child = [start("", 0, 1, "a"), step("", 1, 6, 7)], started("a", error("one"))
    for after in (steps[1], steps[1]._replace(status="failed", error=error("another")), step("/x:0", 0, 6, 7)):
        with pytest.raises(
            RunConflictError, match=r"the run of workflow 'kid' that it started failed at position 0 .*=1"
        ):
            again(error("one"), [steps[0], after], child)
    assert again(error("one"), [steps[0], step("", 1, 4, 7)], child) == ([], ["a"])
    assert again(error("one"), [steps[0], step("/x:0", 0, 4, 7)], child) == ([], ["a"])


def test_that_a_started_run_ended_is_heard_anew_where_no_outcome_came_after_it():
    ended = step("/x:0", -2, 5, 5, kind=TIMER)._replace(name="end", turn=2)
    cut, done = step("/y:0", 0, 1, 6, CUT)._replace(turn=3), step("/z:0", 0, 1, 6)._replace(turn=3)
    begun, child = start("", 0, 1, "a")._replace(turn=0), started("a", error("one"))
    assert again(error("one"), [begun, ended], child) == ([-2], ["a"])
    assert again(error("one"), [begun, ended, cut], child) == ([0, -2], ["a"])
    assert again(error("one"), [begun, ended, done], child) == ([], ["a"])
    assert again(error("one"), [begun, ended._replace(started_at=4.0)], child) == ([], ["a"])
    assert again(error("one"), [ended, step("/y:0", 0, 1, 6, error("one"))]) == ([0], [])


# -- forks -------------------------------------------------------------------------------------------------------------


def names(from_step, *steps):
    return [found.name for found in taken_over(failed_run(None), list(steps), from_step)]


def test_a_fork_takes_over_what_stands_before():
    steps = [step("", number, number, number + 0.5) for number in range(3)]
    assert [names(at, *steps) for at in (1, 2, 3, 4)] == [[], ["0"], ["0", "1"], ["0", "1", "2"]]


@pytest.mark.parametrize("at", [0, -1, 4])
def test_a_fork_from_where_nothing_is_says_how_much_there_is(at):
    steps = [step("", 0, 0, 1), step("", 1, 1, 2), step("", 2, 2, 3)._replace(turn=None)]
    message = "from_step is from 1 to 3 for run run, which has 2 finished operations"
    with pytest.raises(ValueError, match=message):
        names(at, *steps)
    assert names(3, *steps) == ["0", "1"]
    with pytest.raises(ValueError, match="from 1 to 3"):
        names(4, *steps[:2])


def test_a_fork_leaves_out_what_began_or_was_cut_when_one_that_is_left_had_ended():
    left = step("/b:0", 0, 1, 5)
    assert names(2, step("/a:0", 0, 1, 9), left) == ["/a:00"]
    assert names(2, step("/a:0", 0, 1, 5, CUT), left) == []
    assert names(2, step("/a:0", 0, 1, 4, CUT), left) == ["/a:00"]
    at_one_time = step("/a:0", 0, 5, 5), step("/b:0", 0, 5, 5)  # by a clock that is moved by hand
    assert names(2, *at_one_time) == []
    assert names(2, at_one_time[0], at_one_time[1]._replace(turn=None)) == ["/a:00"]


def test_what_has_no_outcome_is_done_anew_wherever_it_stands():
    waits, late = step("/a:0", 0, 1, 2)._replace(turn=None), step("/b:0", 0, 3, 4)
    assert [names(at, waits, late) for at in (1, 2, 3)] == [[], [], ["/b:00"]]
    with pytest.raises(ValueError, match="from 1 to 3 for run run, which has 1 finished operations"):
        names(4, waits, late)


def test_branches_stand_side_by_side_in_the_order_in_which_they_called():
    late = step("/a:0", 0, 5, 9), step("/b:0", 0, 1, 5)
    assert [names(at, *late) for at in (1, 2, 3)] == [[], ["/b:00"], ["/b:00", "/a:00"]]
    mark, items, report = (
        step("", 0, 1, 1, kind="map"),
        [step(f"/pay[]:{n}", 0, 1 + n, 4) for n in (0, 1)],
        step("", 1, 5, 6),
    )
    assert names(3, mark, report, *items) == ["0", "/pay[]:00", "/pay[]:10"]


def test_of_the_branch_that_is_taken_over_in_part_what_comes_first_stands_first():
    assert names(2, step("", 0, 6, 7), step("", 1, 1, 5)) == ["0"]
    assert names(2, step("", 0, 6, 7), step("", 1, 1, 9), step("/b:0", 0, 1, 5)) == ["0"]
    assert names(2, step("", 0, 6, 7), step("", 1, 6, 9), step("/b:0", 0, 1, 5)) == ["/b:00"]
    assert names(2, step("", 0, 1, 6, CUT), step("", 1, 1, 5)) == []
    assert names(2, step("", 0, 1, 4, CUT), step("", 1, 1, 5)) == ["0"]


def test_what_is_hidden_is_taken_over_with_what_is_around_it():
    mark, timer = step("", 1, 3, 3, kind="map"), step("", -2, 4, 4, kind=TIMER)
    first, item, last = step("", 0, 1, 2), step("/a[]:0", 0, 3, 4), step("/b:0", 0, 6, 7)
    assert names(1, timer, first, mark, item, last) == []
    assert names(2, timer, first, mark, item, last) == ["0"]
    assert names(3, timer, first, mark, item, last) == ["1", "-2", "0", "/a[]:00"]
    assert names(3, timer._replace(started_at=4.5), first, mark, item, last) == ["1", "0", "/a[]:00"]
    assert names(3, timer, first, mark, item, last._replace(finished_at=3.5)) == ["1", "0", "/a[]:00"]


def test_a_step_that_was_submitted_and_began_late_was_called_before_what_came_next():
    waited, failure = step("", 0, 6, 7), step("", 1, 1, 2, error("broken"))
    assert repeated(error("broken"), waited, failure) == ["1"]
    assert names(3, waited, step("", 1, 1, 2), step("/a[]:0", 0, 3, 4), step("", 2, 2, 3, kind="map")) == ["0", "1"]


def test_a_fork_takes_over_no_map_that_was_called_after_what_is_left():
    late, second, mark, item = (
        step("", 0, 6, 7),
        step("", 1, 6, 7),
        step("", 2, 3, 3, kind="map"),
        step("/a[]:0", 0, 3, 4),
    )
    assert names(2, late, second, mark, item) == ["0"]


def test_what_a_fork_takes_over_keeps_the_time_at_which_it_began():
    assert [found.started_at for found in taken_over(failed_run(None), [step("", 0, 6, 7), step("", 1, 1, 2)], 3)] == [
        6,
        1,
    ]


def test_a_failure_that_blocked_the_loop_and_that_others_outlived_stays():
    blocking, failure = step("/a:0", 0, 1, 2, error("caught"))._replace(turn=0), step("/b:0", 1, 5, 6, error("at last"))
    assert repeated(error("at last"), blocking, step("/b:0", 0, 3, 4), failure) == ["/b:01"]
    assert repeated(error("at last"), blocking, step("/b:0", 0, 1, 4), failure) == ["/a:00", "/b:01"]
    assert repeated(error("at last"), blocking, step("/b:0/thread:0", 1, 3, 4), failure) == ["/a:00", "/b:01"]


def test_a_failure_that_blocked_the_loop_and_that_the_run_failed_with_is_not_repeated_before_what_others_did():
    blocking, later = step("/a:0", 0, 1, 2, error("broken"))._replace(turn=0), step("/b:0", 0, 3, 4)
    with pytest.raises(RunConflictError, match="went on after"):
        repeated(error("broken"), blocking, later)
    assert repeated(error("broken"), blocking._replace(branch="/thread:0"), later) == ["/a:00"]
    assert repeated(error("broken"), blocking, later._replace(turn=0)) == ["/a:00"]  # a sync run
    with pytest.raises(RunConflictError, match="went on after"):
        repeated(error("broken", raised_at=9.0), blocking, later._replace(turn=0))  # no sync run


def test_what_a_branch_did_in_a_thread_after_the_failure_is_going_on():
    failure = step("", 0, 1, 2, error("broken"))
    with pytest.raises(RunConflictError, match="went on after"):
        repeated(error("broken"), failure, step("/thread:0", 0, 3, 4))
    assert repeated(error("broken"), failure, step("/thread:0", 0, 1, 4)) == ["0"]
    assert repeated(error("broken"), failure, step("/to_thread:0/thread:0", 0, 3, 4)) == ["0"]


def test_what_a_branch_did_in_tasks_that_it_created_after_the_failure_is_going_on():
    failure = step("", 0, 1, 2, error("broken"))
    with pytest.raises(RunConflictError, match="went on after"):
        repeated(error("broken"), failure, step("/a:0", 0, 3, 4))
    assert repeated(error("broken"), failure, step("/a:0", 0, 1, 4)) == ["0"]
    assert repeated(error("broken"), failure, step("/a[]:0", 0, 3, 4)) == ["0"]
    assert repeated(error("broken"), failure._replace(branch="/b:0"), step("/a:0", 0, 3, 4)) == ["0"]


@pytest.mark.parametrize("branch", ["/a:0", "/a:0/b:0"])
def test_what_was_done_in_tasks_that_were_created_after_a_failure_in_another_is_going_on(branch):
    failure, later = step(branch, 0, 1, 2, error("broken"))._replace(turn=5), step("/c:0", 0, 3, 4)
    for created_after in (5, 6):
        with pytest.raises(RunConflictError, match=f"went on after step .* failed at position 0 of branch '{branch}'"):
            repeated(error("broken", went_on={"": created_after}), failure, later)
    for went_on in ({}, {"": 4}, {"/a:1": 5}, {"": "5"}, 5):
        assert repeated(error("broken", went_on=went_on), failure, later) == [f"{branch}0"]


def test_a_failure_that_others_were_created_after_stays_where_the_run_failed_with_another():
    first, second = step("/a:0", 0, 1, 2, error("one"))._replace(turn=1), step("/b:0", 0, 3, 4, error("two"))
    assert repeated(error("two", went_on={"": 1}), first, second._replace(turn=2)) == ["/b:00"]


def test_an_aftermath_counts_tasks_that_were_created_after_a_failure_and_came_to_something():
    aftermath = Aftermath()
    aftermath.create("/early:0")
    aftermath.fail(None)
    aftermath.create("/still_early:0")
    aftermath.fail(2)
    aftermath.create("/late:0")
    aftermath.create("/late:0/part:0")
    aftermath.create("/late:1")
    for branch in ("", "/early:0", "/still_early:0"):
        aftermath.complete(branch)
    assert aftermath.went_on == {}
    aftermath.complete("/late:0/part:0")
    assert aftermath.went_on == {"": 2, "/late:0": 2}
    aftermath.fail(1)
    aftermath.create("/late:2")
    aftermath.complete("/late:2")
    assert aftermath.went_on == {"": 2, "/late:0": 2}
    aftermath.fail(7)
    aftermath.create("/late:3")
    aftermath.complete("/late:3")
    assert aftermath.went_on == {"": 7, "/late:0": 2}

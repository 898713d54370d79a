"""Which status may follow which, what a reader sees, and the order of what a retry leaves."""

import itertools

import pytest

from durable._model import (
    FINISHED,
    MAXIMUM_CRASHES,
    ROOM,
    RUN_STATUSES,
    RUN_TRANSITIONS,
    RunRecord,
    StepRecord,
    operation_number,
    seen_status,
    spaced,
)

STORED = ("queued", "running", "waiting", "completed", "failed", "cancelled", "blocked")
# The table once more, written from the design, not from the code.
ALLOWED = {
    ("queued", "running"),
    ("queued", "cancelled"),
    ("running", "running"),  # claimed anew after its owner ended
    ("running", "waiting"),
    ("running", "completed"),
    ("running", "failed"),
    ("running", "cancelled"),
    ("running", "blocked"),
    ("waiting", "running"),
    ("waiting", "cancelled"),
    ("blocked", "running"),  # resume() with code that fits
    ("blocked", "queued"),  # retry()
    ("blocked", "blocked"),  # still does not fit
    ("blocked", "cancelled"),
    ("failed", "queued"),  # retry()
}


def run_record(**changes):
    record = RunRecord(
        1, "a", "w", "m", "running", "{}", None, None, 1.0, None, None, None, None, epoch=3, crashes=0, progress=0,
        trusting=0,
    )  # fmt: skip
    return record._replace(**changes)


@pytest.mark.parametrize(("before", "after"), list(itertools.product(STORED, STORED)))
def test_every_pair_of_statuses(before, after):
    assert (after in RUN_TRANSITIONS[before]) == ((before, after) in ALLOWED)


@pytest.mark.parametrize("status", STORED)
def test_interrupted_is_never_stored(status):
    assert "interrupted" not in RUN_TRANSITIONS[status]
    assert "interrupted" not in RUN_TRANSITIONS


def test_the_statuses_that_users_ask_for():
    assert set(RUN_STATUSES) == {*STORED, "interrupted"}
    assert len(RUN_STATUSES) == len(STORED) + 1


def test_only_a_failed_run_goes_on_after_its_end():
    assert set(FINISHED) == {"completed", "failed", "cancelled"}
    assert {status for status in FINISHED if RUN_TRANSITIONS[status]} == {"failed"}


def test_every_status_can_be_reached_and_left_or_is_an_end():
    reached = {"queued"}
    for _ in STORED:
        reached |= {after for before in reached for after in RUN_TRANSITIONS[before]}
    assert reached == set(STORED)
    for status in set(STORED) - FINISHED:
        assert RUN_TRANSITIONS[status], status


@pytest.mark.parametrize(
    ("status", "epoch", "live", "seen"),
    [
        ("running", 3, 3, "running"),
        ("running", 3, 4, "interrupted"),  # an earlier owner's
        ("running", 3, None, "interrupted"),  # nobody lives
        ("running", 0, None, "interrupted"),
    ],
)
def test_a_running_run_of_a_dead_owner_is_interrupted(status, epoch, live, seen):
    assert seen_status(run_record(status=status, epoch=epoch), live) == seen


@pytest.mark.parametrize("status", [status for status in STORED if status != "running"])
@pytest.mark.parametrize("live", [None, 3, 4])
def test_every_other_status_is_seen_as_stored(status, live):
    assert seen_status(run_record(status=status), live) == status


@pytest.mark.parametrize(
    ("place", "number"),
    [(("", 0), 1), (("", 1), 2), (("", 2), 3), (("", 3), 3), (("", 4), 3), (("/a:0", 0), 4), (("/a:0", 5), 5)],
)
def test_operations_are_numbered_as_they_are_listed_from_1_on(place, number):
    """Place 2 of the workflow's own branch is a `map`, which is not listed."""
    operations = [("", 0, "step"), ("", 1, "sleep"), ("", 2, "map"), ("", 4, "step"), ("/a:0", 0, "step")]
    steps = [
        StepRecord(7, branch, position, kind, "x", "m", "completed", 1, 0, None, None, None, 1.0, 2.0, None, 1)
        for branch, position, kind in operations
    ]
    assert operation_number(steps, place) == number


def test_a_hundred_deaths_are_enough():
    assert MAXIMUM_CRASHES == 100


def outcome(branch, turn, **changes):
    return StepRecord(
        1, branch, 0, "step", "work", "app", "completed", 1, 0, "{}", "1", None, 1.0, 2.0, None, turn
    )._replace(**changes)  # fmt: skip


def test_what_came_after_something_that_is_done_again_has_room_before_each_turn():
    steps = [
        outcome("/a", 1),
        outcome("/b", 2),
        outcome("/c", 3),
        outcome("/d", 3),
        outcome("/e", 7),
        outcome("/f", None),
    ]
    again = [steps[1]._replace(started_at=0.5)]
    assert [(step.branch, step.turn) for step in spaced(steps, again)] == [
        ("/c", 2 + ROOM),
        ("/d", 2 + ROOM),
        ("/e", 2 + 2 * ROOM),
    ]


def test_what_was_spaced_keeps_its_order_when_something_before_it_is_done_once_more():
    steps = [outcome("/a", 1), outcome("/b", 2), outcome("/c", 2 + ROOM), outcome("/d", 3 + ROOM)]
    assert [step.turn for step in spaced(steps, steps[:1])] == [1 + ROOM, 1 + 2 * ROOM, 1 + 3 * ROOM]


def test_all_that_has_a_turn_has_room_where_it_is_not_known_when_that_came_which_is_done_again():
    steps = [outcome("", 0), outcome("/a", 1), outcome("/b", 0)]
    assert [step.turn for step in spaced(steps, steps[2:])] == [ROOM]


@pytest.mark.parametrize("turn", [None, 0])
def test_nothing_is_spaced_in_a_sync_run_or_after_what_has_no_outcome(turn):
    steps = [outcome("", 0), outcome("", 0, position=1), outcome("", turn, position=2)]
    assert spaced(steps, steps[2:]) == spaced(steps, []) == []

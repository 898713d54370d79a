"""A task of a run is named when it is created: by its parent, its coroutine, and its number among its like."""

from durable._scopes import Branch


def test_tasks_are_counted_by_the_name_of_their_coroutine():
    root = Branch(None, "")
    assert [root.child("fetch").name, root.child("fetch").name, root.child("store").name] == [
        "/fetch:0",
        "/fetch:1",
        "/store:0",
    ]


def test_a_task_of_a_task_carries_both_names_and_counts_by_itself():
    root = Branch(None, "")
    first, second = root.child("fetch"), root.child("fetch")
    assert first.child("page").name == "/fetch:0/page:0"
    assert second.child("page").name == "/fetch:1/page:0"
    assert second.child("page").name == "/fetch:1/page:1"


def test_a_new_branch_begins_at_its_own_first_place():
    root = Branch(None, "")
    root.position = 7
    assert root.child("fetch").position == 0
    assert root.position == 7

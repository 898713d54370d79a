"""Bad arguments: one clear error where they are written, and nothing begun."""

import asyncio
import datetime as dt
import re
import warnings
from pathlib import Path

import pytest

import durable
from durable import RetryPolicy


@pytest.fixture
def add(journal):
    @durable.step(name="add")
    def add(one: int, two: int = 2) -> int:
        return one + two

    return add


# -- calls ------------------------------------------------------------------------------------------------------------

WRONG_CALLS = {
    "missing": ((), {}, "missing a required argument: 'one'"),
    "unexpected": ((1,), {"three": 3}, "unexpected keyword argument 'three'"),
    "too many": ((1, 2, 3), {}, "too many positional arguments"),
}


@pytest.mark.parametrize(("args", "kwargs", "why"), WRONG_CALLS.values(), ids=WRONG_CALLS)
def test_a_wrong_call_of_a_workflow_says_which_one_and_what_it_takes(journal, args, kwargs, why):
    @durable.workflow(name="order")
    def order(one: int) -> int:
        return one

    for call in (order, order.start):
        with pytest.raises(
            TypeError, match=re.escape("workflow 'order' takes (one: int) -> int, and was called")
        ) as bad:
            call(*args, **kwargs)
        assert why in str(bad.value)
    assert not journal.path.exists()


@pytest.mark.parametrize(("args", "kwargs", "why"), WRONG_CALLS.values(), ids=WRONG_CALLS)
def test_a_wrong_call_of_a_step_says_which_one_and_what_it_takes(add, args, kwargs, why):
    @durable.workflow
    def order():
        return add(*args, **kwargs)

    with pytest.raises(TypeError, match=re.escape("step 'add' takes (one: int, two: int = 2) -> int, and was")) as bad:
        order()
    assert why in str(bad.value)
    assert durable.runs()[0].steps() == []


# -- decorators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["workflow", "step"])
def test_a_name_without_its_keyword(what):
    with pytest.raises(TypeError, match=rf"@durable\.{what}\(name='order'\)"):
        getattr(durable, what)("order")


@pytest.mark.parametrize("option", ["at_most_once", "record_input", "match_inputs", "transaction"])
@pytest.mark.parametrize("value", ["yes", 1, None])
def test_an_option_that_is_true_or_false(option, value):
    with pytest.raises(TypeError, match=f"{option} of step 'order' is True or False, not {value!r}"):
        durable.step(name="order", **{option: value})
    with pytest.raises(TypeError, match=f"{option} of a step is True or False, not {value!r}"):
        durable.step(**{option: value})


def test_an_unknown_option_is_told_with_the_known_ones():
    with pytest.raises(TypeError, match=r"no option retries: it has name, retry, timeout, .*transaction"):
        durable.step(retries=3)


def test_kinds_of_errors_that_are_no_list():
    with pytest.raises(TypeError, match=r"write non_retryable=\[5\]"):
        RetryPolicy(non_retryable=5)


@pytest.mark.parametrize("id", ["", "order\n{number}"])
def test_an_id_that_no_run_can_have_is_refused_where_it_is_written(id):
    with pytest.raises(ValueError, match="id of workflow 'order' must not be empty, and has no control characters"):
        durable.workflow(name="order", id=id)(lambda number: number)


def test_an_id_that_cannot_be_made_says_of_which_workflow(journal):
    @durable.workflow(name="order", id="order-{number:d}")
    def order(number): ...

    with pytest.raises(ValueError, match="the id of a run of 'order' cannot be made from 'order-{number:d}'"):
        order("x")


@pytest.mark.parametrize("wrong", ["x", None, -1, float("nan")])
def test_a_delay_that_is_none_is_not_tried_again(journal, wrong):
    tried = []

    @durable.step
    def fetch():
        tried.append(1)
        raise durable.RetryAfter(wrong)

    @durable.workflow
    def polling():
        fetch()

    with pytest.raises((TypeError, ValueError), match="RetryAfter takes a"):
        polling()
    assert len(tried) == 1


# -- opening ----------------------------------------------------------------------------------------------------------


def test_open_is_called_open():
    with pytest.raises(TypeError, match=r"^open\(\) got an unexpected keyword argument 'foo'"):
        durable.open("journal.db", foo=1)


@pytest.mark.parametrize("path", [":memory:", "file::memory:", "file:journal.db?mode=memory", "", "a\0b"])
def test_a_path_that_names_no_file(no_engine, path):
    with pytest.raises(ValueError, match="names"):
        durable.open(path)
    assert list(no_engine.iterdir()) == []


@pytest.mark.parametrize("path", [None, 5, b"journal.db"])
def test_a_path_that_is_no_text(no_engine, path):
    with pytest.raises(TypeError, match="the path of a journal is a text or a pathlib.Path, not"):
        durable.open(path)


def test_the_variable_names_a_file_too(no_engine, monkeypatch):
    monkeypatch.setenv("DURABLE_DB", ":memory:")
    with pytest.raises(ValueError, match="names no file"):
        durable.runs()


def test_a_folder_as_path(tmp_path):
    with pytest.raises(durable.JournalError, match=rf"{tmp_path} is a folder: give .* such as {tmp_path}/durable\.db"):
        durable.open(tmp_path)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(durable.JournalError, match=rf"there is no folder {tmp_path}/none; make it first"):
        durable.open(tmp_path / "none" / "journal.db")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_went_away_before_the_first_run(journal, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    durable.open(folder / "journal.db")
    folder.rmdir()
    with pytest.raises(durable.JournalError, match=f"there is no folder {folder}; make it first"):
        durable.workflow(lambda: None)()


def test_a_device_as_path():
    with pytest.raises(durable.JournalError, match="/dev/null is no plain file"):
        durable.open(Path("/dev/null"))


def test_a_vfs_that_sqlite_does_not_have(tmp_path):
    with pytest.raises(ValueError, match="SQLite has no VFS 'nope': it has 'unix'"):
        durable.open(tmp_path / "journal.db", vfs="nope")
    with pytest.raises(TypeError, match="SQLite has no VFS 5"):
        durable.open(tmp_path / "journal.db", vfs=5)


def coroutine_as_result():
    @durable.step
    async def fetch(): ...

    @durable.workflow
    async def forgetful():
        return fetch()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's own: never awaited
        asyncio.run(forgetful())


# -- asking -----------------------------------------------------------------------------------------------------------

WRONG_QUESTIONS = {
    "limit of text": (lambda: durable.runs(limit="a"), ValueError, "limit is a whole number, 0 or more, not 'a'"),
    "negative limit": (lambda: durable.runs(limit=-1), ValueError, "limit is a whole number, 0 or more, not -1"),
    "fraction as limit": (lambda: durable.runs(limit=1.5), ValueError, "limit is a whole number, 0 or more, not 1.5"),
    "status of number": (lambda: durable.runs(status=5), TypeError, "status is one of queued, running, .*, not 5"),
    "unknown status": (lambda: durable.runs(status="done"), ValueError, "there is no run status 'done': it is one of"),
    "workflow of number": (lambda: durable.runs(workflow=5), TypeError, "workflow is a workflow or its name, not 5"),
    "id of number": (lambda: durable.get(5), TypeError, "the id of a run is a text, not 5"),
    "unknown id": (lambda: durable.get("x"), durable.RunNotFoundError, "no run 'x' in .*: durable.runs.. and .*list"),
    "wait of text": (lambda: durable.resume(wait="no"), TypeError, "wait is True or False, not 'no'"),
    "timeout of text": (lambda: a_run().result("a"), TypeError, r"timeout of result\(\) is a number of seconds"),
    "negative timeout": (lambda: a_run().result(-1), ValueError, r"timeout of result\(\) must not be negative"),
    "trust of text": (lambda: a_run().retry(trust_journal="no"), TypeError, "trust_journal is True or False, not 'no'"),
    "map of a number": (lambda: durable.step(len).map(5), TypeError, r"items of len.map must be iterable, not 5"),
    "map of a step": (
        lambda: durable.step(len).map(len),
        TypeError,
        r"items of len.map must be iterable, not <built-in",
    ),
    "map of a text": (
        lambda: durable.step(len).map("ab"),
        TypeError,
        r"items of len.map must be iterable, not 'ab': a list",
    ),
    "map of bytes": (lambda: durable.step(len).map(b"ab"), TypeError, r"items of len.map must be iterable, not b'ab'"),
    "map of a dict": (lambda: durable.step(len).map({"a": 1}), TypeError, r"len.map must be iterable, not {'a': 1}"),
    "many of a text": (
        lambda: durable.workflow(a_run).start_many("ab"),
        TypeError,
        r"a_run.start_many must be iterable, not 'ab'",
    ),
    "many of a number": (
        lambda: durable.workflow(a_run).start_many(5),
        TypeError,
        r"a_run.start_many must be iterable, not 5",
    ),
    "retry after text": (lambda: durable.RetryAfter("5"), TypeError, r"RetryAfter takes a number of seconds, not '5'"),
    "result not awaited": (
        coroutine_as_result,
        durable.SerializationError,
        "a coroutine cannot be journaled; await it",
    ),
    "fork of text": (lambda: a_run().fork("a"), TypeError, "from_step is a whole number, .*, not 'a'"),
}


def a_run():
    @durable.workflow(id="run")
    def failing():
        raise LookupError

    with pytest.raises(LookupError):
        failing()
    return durable.get("run")


@pytest.mark.parametrize(("ask", "kind", "message"), WRONG_QUESTIONS.values(), ids=WRONG_QUESTIONS)
def test_a_wrong_question(journal, ask, kind, message):
    with pytest.raises(kind, match=message):
        ask()


def test_a_limit_of_nothing_lists_nothing(journal):
    a_run()
    assert durable.runs(limit=0) == []


@pytest.mark.parametrize(("keep", "error"), [
    ("30 days", ValueError), ("", ValueError), ("d", ValueError), ("-3d", ValueError), ("0d", ValueError),
    (30, TypeError), (dt.timedelta(0), ValueError),
])  # fmt: skip
def test_how_long_runs_are_kept(tmp_path, keep, error):
    with pytest.raises(error, match="keep"):
        durable.Engine(tmp_path / "journal.db", keep=keep)

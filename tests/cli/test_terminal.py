"""What reaches the terminal: colours only where they are wanted, lines that fit, and no order from the journal."""

import contextlib
import json
import re
import sqlite3
import zlib

import pytest

SGR = re.compile("\x1b\\[[0-9;]*m")


# -- colours ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["ls"], ["show", "order-3"]])
def test_colours_only_on_a_terminal_that_has_them(shop, command):
    coloured = shop.on_a_terminal(*command)
    assert SGR.search(coloured)
    plain = shop.on_a_terminal(*command, NO_COLOR="1")
    assert "\x1b" not in plain
    assert _without_times(SGR.sub("", coloured)) == _without_times(plain)
    assert "\x1b" not in shop.on_a_terminal(*command, TERM="dumb")
    assert SGR.search(shop.on_a_terminal(*command, NO_COLOR=""))  # no-color.org: only when it is not empty
    assert "\x1b" not in shop.durable(*command).stdout


def _without_times(text):
    return re.sub(r"\d+(\.\d+)?(ms|s|m|h)", "", text).replace(" ", "")


# -- width ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 200])
@pytest.mark.parametrize("command", [["ls"], ["show", "order-3"], ["show", "moody"], ["show", "pages"]])
def test_lines_fit(shop, command, width):
    text = shop.on_a_terminal(*command, width=width, NO_COLOR="1")
    assert max(map(len, text.splitlines())) <= max(width, 20)


def test_the_users_columns_win(shop):
    assert max(map(len, shop.on_a_terminal("ls", width=200, NO_COLOR="1", COLUMNS="60").splitlines())) <= 60


def test_wide_and_combining_letters_are_measured(folder):
    folder.run(
        """
        @durable.workflow(id="{id}")
        def 買う(id: str, text: str) -> str: return text
        買う("夏の本夏の本夏の本", "本" * 300)
        買う("e\\u0301te\\u0301", "e\\u0301" * 300)
        買う("plain", "x")
        """
    )
    lines = folder.on_a_terminal("ls", NO_COLOR="1").splitlines()
    assert len({_columns(line[: re.search(r" [0-9]+ +\S*s ", line).start() + 1]) for line in lines[1:]}) == 1
    for id in ("夏の本夏の本夏の本", "e\u0301te\u0301"):
        text = folder.on_a_terminal("show", id, width=60, NO_COLOR="1")
        assert max(map(_columns, text.splitlines())) <= 60
        assert max(map(_columns, text.splitlines())) >= 58


def _columns(text):
    import unicodedata

    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def test_terminals_without_unicode_get_ascii(shop):
    text = shop.on_a_terminal("ls", NO_COLOR="1", PYTHONIOENCODING="ascii")
    assert text.isascii()
    assert "! interrupted" in text
    assert re.search(r"# blocked .*at position 0 step.*~$", text, re.MULTILINE)
    assert shop.on_a_terminal("show", "order-3", NO_COLOR="1", PYTHONIOENCODING="ascii").isascii()


def test_what_an_encoding_cannot_say_is_escaped(folder):
    folder.run("buy({'id': 1, 'item': '本'})")
    for command in (["show", "order-1"], ["show", "本"]):
        done = folder.durable(*command, PYTHONIOENCODING="ascii")
        assert "\\u672c" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


# -- hostile text -----------------------------------------------------------------------------------------------------

HOSTILE = """
import durable
durable.open("durable.db")

EVIL = (
    "\\x1b[2J\\x1b]0;owned\\x07 \\x00 \\x7f \\x9b31m \\x85 \\u202e\\u2066 \\u2028\\u2029 "
    "\\r\\n\\tend \\ud800 \\U000e0041"
)
class Bad(Exception): ...
Bad.__qualname__ = Bad.__name__ = "Bad\\x1b[31m"

@durable.step(retry=durable.RetryPolicy(initial_interval=0.01, maximum_attempts=2))
def step(text: str) -> str:
    if "fail" in text:
        raise Bad(text)
    return text

@durable.workflow(id="{id}")
def workflow(id: str, text: str) -> str:
    return step(text)

workflow("good", EVIL)
try:
    workflow("bad", EVIL + "fail")
except Exception:
    pass
durable.close()
"""
NAME = "evil\x9b31m\u202e\u2066\u2028\x1b[0m\x00"

ESCAPES = ["\\x1b", "\\x7f", "\\x9b", "\\x85", "\\u202e", "\\u2066", "\\u2028", "\\ud800"]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, shop):
    folder = type(shop)(tmp_path_factory.mktemp("hostile"))
    folder.run("", prelude=HOSTILE)
    with contextlib.closing(sqlite3.connect(folder.path / "durable.db")) as db, db:
        forge(db, "durable_run", {1: lambda before: before + NAME, 2: lambda _: NAME, 3: lambda _: NAME})
        forge(db, "durable_step", {4: lambda _: NAME + "-step", 5: lambda _: NAME})
    return folder


def forge(db, table, changes):
    """Names that the library refuses, with the right checksums: a journal may come from anywhere."""
    for row in db.execute(f"SELECT * FROM {table}").fetchall():
        columns = [changes.get(index, lambda value: value)(value) for index, value in enumerate(row[:-1])]
        columns.append(zlib.crc32("".join(f"{value}|" for value in columns).encode()))
        db.execute(f"DELETE FROM {table} WHERE checksum = ?", row[-1:])
        db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", columns)


@pytest.mark.parametrize("command", [["ls"], ["show", "good"], ["show", "bad"], ["show", "oops"], ["show", "evil\x9b"]])
@pytest.mark.parametrize("option", [[], ["--json"]])
def test_no_control_character_reaches_the_terminal(hostile, command, option):
    for text in (
        hostile.on_a_terminal(*command, *option, NO_COLOR="1"),
        SGR.sub("", hostile.on_a_terminal(*command, *option)),
        hostile.durable(*command, *option).stdout.replace("\t", ""),
        hostile.durable(*command, *option).stderr,
    ):
        harmful = {letter for letter in text if not letter.isprintable() and letter not in "\n "}
        assert not harmful
        assert "\x1b" not in text


def test_what_was_there_is_seen(hostile):
    text = hostile.on_a_terminal("show", "good", NO_COLOR="1", width=400)
    assert text.startswith("✓ completed  evil\\x9b31m\\u202e\\u2066\\u2028\\x1b[0m\\x00  goodevil")
    for escape in ESCAPES:
        assert escape in text or escape.replace("\\x", "\\u00") in text
    error = hostile.on_a_terminal("show", "bad", NO_COLOR="1", width=400)
    assert "Bad\\x1b[31m: \\x1b[2J\\x1b]0;owned\\x07 \\x00 \\x7f \\x9b31m" in error


def test_json_gives_back_what_was_there(hostile):
    done = hostile.durable("ls", "--json")
    runs = [json.loads(line) for line in done.stdout.split("\n") if line]
    evil = "\x1b[2J\x1b]0;owned\x07 \x00 \x7f \x9b31m \x85 \u202e\u2066 \u2028\u2029 \r\n\tend \ud800 \U000e0041"
    assert [run["input"]["text"] for run in runs] == [evil + "fail", evil]
    assert done.stdout.isascii()


def test_every_line_is_one_record(hostile):
    assert len(hostile.durable("ls").stdout.split("\n")) == 3
    assert {line.count("\t") for line in hostile.durable("ls").stdout.splitlines()} == {8}

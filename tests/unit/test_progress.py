"""The line of progress: on a terminal only, gone at the end, in the width there is."""

import io
import os
import pty
import re

import pytest

from durable import _progress
from durable._progress import Progress


class Terminal:
    """A real one, whose other side is read."""

    def __init__(self):
        self._ours, its = pty.openpty()
        self.stream = os.fdopen(its, "w", encoding="utf-8")

    def written(self):
        self.stream.close()
        pieces = b""
        try:
            while piece := os.read(self._ours, 65536):
                pieces += piece
        except OSError:
            pass
        os.close(self._ours)
        return pieces.decode()


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(_progress, "_FIRST_SECONDS", 0)
    monkeypatch.setattr(_progress, "_EACH_SECONDS", 0)
    return Terminal()


def test_a_line_that_is_gone_at_the_end(terminal):
    with Progress("exporting", "runs", 4, stream=terminal.stream) as progress:
        for _ in range(4):
            progress.advance()
    text = terminal.written()
    assert text.endswith("\r\x1b[K")
    plain = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in text.split("\r\x1b[K")]
    assert plain[1] == "exporting  ━━━━━───────────────   25%  1 of 4 runs"
    assert plain[4] == "exporting  ━━━━━━━━━━━━━━━━━━━━  100%  4 of 4 runs"


def test_no_colour_where_none_is_wanted(terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    with Progress("exporting", "runs", 4, stream=terminal.stream) as progress:
        progress.advance(2)
    text = terminal.written()
    assert "50%" in text
    assert not re.search(r"\x1b\[[\d;]*m", text)


def test_without_a_total(terminal):
    with Progress("checking", "rows", stream=terminal.stream) as progress:
        progress.advance(1_500)
    assert "\r\x1b[Kchecking  1,500 rows\r" in terminal.written()


@pytest.mark.parametrize("columns", [10, 20, 40, 60, 200])
def test_it_fits(terminal, monkeypatch, columns):
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((columns, 24)))
    with Progress("exporting", "runs", 1_000_000, stream=terminal.stream) as progress:
        progress.advance(123_456)
    for line in re.sub(r"\x1b\[[\d;]*[mK]", "", terminal.written()).split("\r"):
        assert len(line) < columns


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (8, "exporti"), (10, "exporting"), (15, "exporting"), (16, "exporting   42%"), (37, "exporting   42%"),
        (40, "exporting   42%"), (41, "exporting   42%  123,456 of 293,943 runs"),
    ],
)  # fmt: skip
def test_no_number_is_cut(terminal, monkeypatch, columns, line):
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((columns, 24)))
    with Progress("exporting", "runs", 293_943, stream=terminal.stream) as progress:
        progress.advance(123_456)
    assert f"\r\x1b[K{line}\r" in terminal.written()


@pytest.mark.parametrize("term", ["dumb", None])
def test_not_on_a_dumb_terminal(terminal, monkeypatch, term):
    monkeypatch.setenv("TERM", term) if term else monkeypatch.delenv("TERM")
    with Progress("exporting", "runs", 4, stream=terminal.stream) as progress:
        progress.advance()
    assert terminal.written() == ""


def test_not_in_a_pipe():
    stream = io.StringIO()
    with Progress("exporting", "runs", 4, stream=stream) as progress:
        progress.advance()
    assert stream.getvalue() == ""


def test_short_work_shows_nothing(terminal, monkeypatch):
    monkeypatch.setattr(_progress, "_FIRST_SECONDS", 60)
    with Progress("exporting", "runs", 4, stream=terminal.stream) as progress:
        progress.advance(4)
    assert terminal.written() == ""


def test_a_terminal_that_does_not_say_how_wide_it_is_has_80_columns(monkeypatch):
    class Stream(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(_progress, "_FIRST_SECONDS", 0)
    monkeypatch.setattr(_progress, "_EACH_SECONDS", 0)
    stream = Stream()
    with Progress("exporting " * 20, "runs", 4, stream=stream) as progress:
        progress.advance()
    assert max(map(len, stream.getvalue().split("\r\x1b[K"))) == 79


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (30, "30s left"),
        (59.4, "59s left"),
        (60, "1m left"),
        (3_540, "59m left"),
        (3_600, "1.0h left"),
        (9_000, "2.5h left"),
    ],
)
def test_what_is_left_is_said_in_a_unit_that_fits(seconds, words):
    progress = Progress("exporting", "runs", 4, stream=io.StringIO())
    progress.done = 2
    assert progress._line(seconds, 79).endswith(words)


def test_what_has_no_total_is_counted():
    progress = Progress("reading", "rows", 0, stream=io.StringIO())
    progress.done = 1234
    assert progress._line(5.0, 79) == "reading  1,234 rows"

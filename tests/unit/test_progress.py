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

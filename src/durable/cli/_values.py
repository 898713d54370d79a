"""Inputs, results and errors as the journal has them, for people."""

import re
from typing import Final

from durable.cli._errors import parts_of
from durable.cli._facts import value
from durable.cli._screen import Screen

_OUR_FRAME: Final = re.compile(r'  File ".*[/\\]durable[/\\]_\w+\.py", line ')
_LONGEST_VALUE: Final = 2_000
"""Letters of an input or a result that a person is shown at once."""


def arguments(text: str | None, screen: Screen) -> str:
    """The inputs of a run or a step, a line an argument."""
    import json

    inputs = value(text) or {}
    if "$fingerprint" in inputs:
        return "not recorded, as the step wants it"
    lines = (f"{name} = {shortened(json.dumps(each, ensure_ascii=False), screen)}" for name, each in inputs.items())
    return "\n".join(lines) or "none"


def shortened(text: str, screen: Screen) -> str:
    """A value that is not too long for a person."""
    if screen.width is None or len(text) <= _LONGEST_VALUE:
        return text
    return f"{text[:_LONGEST_VALUE]}… ({len(text):,} letters in all: --json shows them)"


def show_error(error: str, screen: Screen) -> None:
    """A journaled error with its traceback, where that says more."""
    kind, message, traceback = parts_of(error)
    module, _, name = kind.rpartition(":")
    said, frames = f"{name}: {message}" if message else name, users_frames(traceback)
    screen.entry("error", said, "red")
    if not f"{module}.{said}".endswith(frames):  # that of an error which nobody raised is its last line alone
        screen.entry("", frames, "dim")


def users_frames(traceback: str) -> str:
    """A traceback without the frames of this library, which say nothing about the user's code."""
    lines, ours = [], False
    for line in traceback.rstrip("\n").split("\n"):
        if not line.startswith("    "):  # else it belongs to the frame above it
            ours = _OUR_FRAME.match(line) is not None
        if not ours:
            lines.append(line)
    return "\n".join(lines)

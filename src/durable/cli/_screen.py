"""Where the output goes: a terminal, with colours, columns and a width, or a pipe, with tabs between the fields.

Everything that the commands print goes through here, and here it is made harmless: no command has to think of it.
"""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, TextIO

from durable.cli._text import clip, columns, visible, wrapped

_STYLES: Final = {
    "": "",
    "bold": "\x1b[1m",
    "dim": "\x1b[2m",
    "red": "\x1b[31m",
    "green": "\x1b[32m",
    "yellow": "\x1b[33m",
    "blue": "\x1b[34m",
    "magenta": "\x1b[35m",
    "cyan": "\x1b[36m",
}
_RESET: Final = "\x1b[0m"
_GAP: Final = "  "
LABEL_WIDTH: Final = 10
"""Columns of a label and the space after it."""

# Of each status: its glyph, one for terminals without Unicode, and its colour. All glyphs are one column wide.
_LOOKS: Final = {
    "queued": ("◦", ".", "dim"),
    "running": ("▸", ">", "cyan"),
    "waiting": ("◷", "~", "blue"),
    "retrying": ("↻", "~", "yellow"),
    "completed": ("✓", "+", "green"),
    "failed": ("✗", "x", "red"),
    "cancelled": ("⊘", "-", "dim"),
    "blocked": ("⊠", "#", "magenta"),
    "interrupted": ("↯", "!", "yellow"),
    "damaged": ("⁇", "?", "red"),
    "ok": ("✓", "+", "green"),
    "note": ("!", "!", "yellow"),
    "problem": ("✗", "x", "red"),
}


class Cell(NamedTuple):
    """A piece of text, and the style that it is shown in."""

    text: str
    style: str = ""


class Column(NamedTuple):
    """One column of a table. `least`: how narrow it may become to let the table fit; `None`: it is never cut."""

    title: str
    least: int | None = None
    right: bool = False


class Screen:
    """The standard output. `width` is that of the terminal, `None` where it is none."""

    width: int | None

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stdout
        terminal = self._stream is not None and self._stream.isatty()
        self.width = _terminal_width(self._stream.fileno()) if terminal else None
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
        self._coloured = terminal and not plain
        self.is_drawable = terminal and os.environ.get("TERM", "dumb") != "dumb"
        """Whether it can show one picture in place of another."""
        encoding = getattr(self._stream, "encoding", None) or ""
        self._unicode = encoding.lower().replace("-", "") == "utf8"

    # -- lines --------------------------------------------------------------------------------------------------------

    def line(self, *cells: Cell) -> None:
        """One line, cut where the terminal ends."""
        pieces, left = [], self.width
        for text, style in cells:
            shown = visible(text)
            if left is not None:
                shown = clip(shown, left)
                left -= columns(shown)
            pieces.append(self._painted(shown, style))
        self.write("".join(pieces))

    def say(self, text: str, style: str = "") -> None:
        """A sentence, in as many lines as it takes."""
        shown = visible(text)
        for part in [shown] if self.width is None else wrapped(shown, self.width):
            self.write(self._painted(part, style))

    def entry(self, label: str, text: str, style: str = "") -> None:
        """A label, and a text in as many lines as it takes; the text's own line breaks are kept."""
        for line in text.split("\n"):
            shown = visible(line.expandtabs(4))
            if self.width is None:
                self.write(f"{label}\t{shown}")
                continue
            for part in wrapped(shown, max(LABEL_WIDTH, self.width - LABEL_WIDTH)):
                name = self._painted(label, "dim") + " " * (LABEL_WIDTH - len(label))
                self.write((name + self._painted(part, style)).rstrip(" "))
                label = ""
            label = ""

    def write(self, text: str) -> None:
        """A line that is harmless already."""
        if self._stream is not None:
            if self.width is not None and not self._unicode:
                text = text.replace("…", "~")
            self._stream.write(text + "\n")

    def flush(self) -> None:
        """Hand everything to the other side; an error of it is raised here, and not when the process ends."""
        if self._stream is not None:
            self._stream.flush()

    def frame(self) -> "Frame":
        """What takes the place of this terminal for one picture of it, with the size that it has now."""
        return Frame(self)

    def draw(self, lines: Sequence[str], height: int) -> None:
        """Show these lines, from the top of the terminal on, and nothing else."""
        # Each line is emptied before it is written: after one that is full, the last column would be emptied.
        self._stream.write("\x1b[H" + "\r\n".join(f"\x1b[2K{line}" for line in lines))
        self._stream.write("\r\n\x1b[J" if len(lines) < height else "")
        self._stream.flush()

    @contextlib.contextmanager
    def page(self) -> Iterator[None]:
        """While pictures are drawn: on a page of their own. What stood on the terminal is there again afterwards."""
        self._stream.write("\x1b[?1049h\x1b[?25l")
        try:
            yield
        finally:
            self._stream.write("\x1b[?25h\x1b[?1049l")
            self._stream.flush()

    def _painted(self, text: str, style: str) -> str:
        return f"{_STYLES[style]}{text}{_RESET}" if style and text and self._coloured else text

    def status(self, status: str) -> Cell:
        """A status with its glyph; the word alone where a program reads."""
        glyph, letter, style = _LOOKS[status]
        if self.width is None:
            return Cell(status)
        return Cell(f"{glyph if self._unicode else letter} {status}", style)

    # -- tables -------------------------------------------------------------------------------------------------------

    def table(self, shape: Sequence[Column], rows: Iterable[Sequence[Cell]], widths: list[int]) -> None:
        """Rows under each other, or fields with tabs between them in a pipe.

        `widths` are those of the rows above, [] for the first: it is filled here, so that a table can come in parts.
        """
        if self.width is None:
            for row in rows:
                self.write("\t".join(visible(cell.text) for cell in row))
            return
        harmless = [[Cell(visible(cell.text), cell.style) for cell in row] for row in rows]
        if not widths:
            widths += _fit(shape, harmless, self.width)
            harmless.insert(0, [Cell(column.title, "dim") for column in shape])
        for row in harmless:
            self.write(self._row(shape, row, widths))

    def _row(self, shape: Sequence[Column], row: Sequence[Cell], widths: list[int]) -> str:
        assert self.width is not None
        pieces, left = [], self.width
        for index, (column, cell, width) in enumerate(zip(shape, row, widths, strict=True)):
            room = min(left, max(width, columns(cell.text)) if column.least is None else width)
            text = clip(cell.text, room)
            padding = " " * (min(width, room) - columns(text))
            left -= max(width, columns(text)) + len(_GAP)
            painted = self._painted(text, cell.style)
            last = index == len(shape) - 1 or left <= 0
            pieces.append(padding + painted if column.right else painted + ("" if last else padding))
            if last:
                break
        return _GAP.join(pieces).rstrip(" ")


class Frame(Screen):
    """One picture: lines that are kept, for a terminal of this width and height."""

    def __init__(self, screen: Screen) -> None:
        self.__dict__.update(screen.__dict__)
        descriptor = self._stream.fileno()
        self.width = _terminal_width(descriptor)
        self.height = _terminal_height(descriptor)
        self.lines: list[str] = []

    def write(self, text: str) -> None:
        """Keep the line."""
        self.lines.append(text if self._unicode else text.replace("…", "~"))

    def fitting(self) -> list[str]:
        """The lines, less some of the middle where there are too many."""
        over = len(self.lines) - self.height
        if over <= 0:
            return self.lines
        first = self.height // 3
        return [*self.lines[:first], *self.lines[first + over :]]


def _fit(shape: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int) -> list[int]:
    """The width of each column: what it needs, the last ones first giving way to let the row fit."""
    widths = [max(len(column.title), *(columns(row[index].text) for row in rows)) for index, column in enumerate(shape)]
    over = sum(widths) + len(_GAP) * (len(shape) - 1) - width
    for index in reversed(range(len(shape))):
        least = shape[index].least
        if over > 0 and least is not None and widths[index] > least:
            given = min(over, widths[index] - least)
            widths[index] -= given
            over -= given
    return widths


def _terminal_width(descriptor: int) -> int:
    """`$COLUMNS` where the user set it, else what the terminal says, else 80."""
    wanted = os.environ.get("COLUMNS", "")
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    try:
        return os.get_terminal_size(descriptor).columns or 80
    except OSError:
        return 80


def _terminal_height(descriptor: int) -> int:
    try:
        return os.get_terminal_size(descriptor).lines or 24
    except OSError:
        return 24

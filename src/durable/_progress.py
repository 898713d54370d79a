"""A line on the terminal that says how far long work is. It is gone when the work is done."""

import os
import sys
from types import TracebackType
from typing import Final, Self, TextIO

from ._clock import SYSTEM_CLOCK

_FIRST_SECONDS: Final = 0.3
"""What ends sooner shows no line."""
_EACH_SECONDS: Final = 0.1
_BAR_COLUMNS: Final = 20
_CLEAR: Final = "\r\x1b[K"


class Progress:
    """How far something is, on standard error while that is a terminal; elsewhere, and on a dumb one, nothing at all.

    ``with Progress("exporting", "runs", total=1_000) as progress: progress.advance()``. `total` may be set later, or
    never: then there is no bar. Costs little: it is drawn ten times a second, by those who `advance`.
    """

    def __init__(self, what: str, unit: str = "", total: int | None = None, *, stream: TextIO | None = None) -> None:
        self.what = what
        self.total = total
        self.done = 0
        self._unit = unit
        self._stream = stream if stream is not None else sys.stderr
        self._shown = self._stream is not None and self._stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._colour = not os.environ.get("NO_COLOR")
        self._unicode = (getattr(self._stream, "encoding", None) or "").lower().replace("-", "") == "utf8"
        self._began = SYSTEM_CLOCK.monotonic()
        self._due = self._began + _FIRST_SECONDS
        self._drawn = False

    def advance(self, count: int = 1) -> None:
        """So many more are done."""
        self.reach(self.done + count)

    def reach(self, done: int) -> None:
        """So many are done."""
        self.done = done
        if self._shown and SYSTEM_CLOCK.monotonic() >= self._due:
            self._draw()

    def clear(self) -> None:
        """Take the line away, so that something else can be written there."""
        if self._drawn:
            self._drawn = False
            self._stream.write(_CLEAR)
            self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def _draw(self) -> None:
        now = SYSTEM_CLOCK.monotonic()
        self._due = now + _EACH_SECONDS
        self._drawn = True
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns or 80
        except (OSError, ValueError):
            columns = 80
        self._stream.write(_CLEAR + self._line(now - self._began, columns - 1))
        self._stream.flush()

    def _line(self, seconds: float, columns: int) -> str:
        """What fits: the words, the bar, the numbers, the time that is left, as far as each is known."""
        unit = f" {self._unit}" if self._unit else ""
        if not self.total:
            return _fitting(columns, self.what, f"{self.done:,}{unit}")
        share = min(1.0, self.done / self.total)
        numbers = [f"{share:4.0%}", f"{self.done:,} of {self.total:,}{unit}"]
        if share > 0.01 and seconds > 1:  # noqa: PLR2004 - earlier it would be a guess
            numbers.append(f"{_rough(seconds / share - seconds)} left")
        line = _fitting(columns, self.what, *numbers)
        if columns < len(line) + 2 + _BAR_COLUMNS or not line.endswith(numbers[-1]):
            return line
        return f"{self.what}  {self._bar(share)}{line.removeprefix(self.what)}"

    def _bar(self, share: float) -> str:
        full, rest = ("━", "─") if self._unicode else ("#", "-")
        done = round(share * _BAR_COLUMNS)
        start, middle, end = ("\x1b[36m", "\x1b[0;2m", "\x1b[0m") if self._colour else ("", "", "")
        return f"{start}{full * done}{middle}{rest * (_BAR_COLUMNS - done)}{end}"


def _fitting(columns: int, what: str, *numbers: str) -> str:
    """The words, and as many of the numbers after them as there is room for."""
    line = what[:columns]
    for number in numbers:
        if len(line) + 2 + len(number) > columns:
            break
        line += f"  {number}"
    return line


def _rough(seconds: float) -> str:
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.0f}s"
    return f"{seconds / 60:.0f}m" if seconds < 3_600 else f"{seconds / 3_600:.1f}h"  # noqa: PLR2004 - an hour

r"""Text for a terminal: made harmless, measured in columns, cut and broken to fit; times as people say them.

Journaled text may hold anything. What a terminal would take for an order, or what would change the order of letters on
the screen, is shown as an escape instead: `\x1b`, `\u202e`.
"""

import re
from collections.abc import Iterator
from typing import Final

# Compiled where they are needed, which is seldom: for most lists of runs they are not.
_HARMFUL: Final = (
    "[\x00-\x1f\x7f-\x9f"  # C0, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # the direction of writing
    "\u2028\u2029"  # line and paragraph separators
    "\ud800-\udfff"  # lone surrogates, which no encoding takes
    "\ufff9-\ufffb\U000e0000-\U000e007f]"  # annotations and tags, which nobody sees
)
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_SECOND, _MINUTE, _HOUR, _DAY = 1_000, 60_000, 3_600_000, 86_400_000  # in milliseconds
_BYTES: Final = ("kB", "MB", "GB", "TB")
_SPACES: Final = r"(?<=\s)(?=\S)"


def visible(text: str) -> str:
    """The text with everything in it that steers a terminal as a visible escape."""
    return text if text.isascii() and text.isprintable() else re.sub(_HARMFUL, _escape, text)


def _escape(match: re.Match[str]) -> str:
    letter = match[0]
    if letter <= "\xff":
        return _SHORT.get(letter, f"\\x{ord(letter):02x}")
    return f"\\u{ord(letter):04x}" if letter <= "\uffff" else f"\\U{ord(letter):08x}"


# -- columns ----------------------------------------------------------------------------------------------------------


def columns(text: str) -> int:
    """How many columns of a terminal the text takes: two for a wide letter, none for one that combines."""
    return len(text) if text.isascii() else sum(map(_columns_of, text))


def _columns_of(letter: str) -> int:
    from unicodedata import category, east_asian_width

    if category(letter) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if east_asian_width(letter) in {"W", "F"} else 1


def clip(text: str, width: int) -> str:
    """The text, or as much of its beginning as fits with an ellipsis after it."""
    if columns(text) <= width:
        return text
    return text[: _fitting(text, width - 1)] + "…" if width > 0 else ""


def wrapped(text: str, width: int) -> Iterator[str]:
    """The lines of a text, each at most so wide; broken at spaces where there are some."""
    line = ""
    for word in re.split(_SPACES, text):
        if line and columns(line) + columns(word.rstrip()) > width:
            yield line.rstrip()
            line = ""
        line += word
        while columns(line.rstrip()) > width and len(line) > 1:
            end = max(1, _fitting(line, width))
            yield line[:end]
            line = line[end:]
    yield line.rstrip()


def _fitting(text: str, width: int) -> int:
    """How many letters of a text fit."""
    if text.isascii():
        return width
    for index, letter in enumerate(text):
        width -= _columns_of(letter)
        if width < 0:
            return index
    return len(text)


# -- numbers and times ------------------------------------------------------------------------------------------------


def span(seconds: float) -> str:
    """A length of time, as exact as people want it: <1ms, 3ms, 2.1s, 42s, 4m 10s, 2h 03m, 3d 4h."""
    milliseconds = round(max(0.0, seconds) * 1000)
    if milliseconds < _SECOND:
        return f"{milliseconds}ms" if milliseconds else "<1ms"
    if milliseconds < 10 * _SECOND:
        return f"{milliseconds // 100 / 10}s"
    if milliseconds < _MINUTE:
        return f"{milliseconds // _SECOND}s"
    if milliseconds < _HOUR:
        return f"{milliseconds // _MINUTE}m {milliseconds % _MINUTE // _SECOND:02}s"
    if milliseconds < _DAY:
        return f"{milliseconds // _HOUR}h {milliseconds % _HOUR // _MINUTE:02}m"
    return f"{milliseconds // _DAY:,}d {milliseconds % _DAY // _HOUR}h"


def age(seconds: float) -> str:
    """How long ago, in one unit: 5s, 3m, 2h, 4d."""
    milliseconds = max(0, int(seconds * 1000))
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if milliseconds >= size:
            return f"{milliseconds // size:,}{unit}"
    return f"{milliseconds // _SECOND}s"


def counted(count: int, what: str) -> str:
    """How many: 1 run, 2 runs, 1,200 runs."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def size(count: float) -> str:
    """A number of bytes: 512 bytes, 53.2 kB, 1.6 GB."""
    if count < 1000:  # noqa: PLR2004 - a kilobyte
        return f"{count:.0f} bytes"
    unit = 0
    while count >= 1000 and unit < len(_BYTES):  # noqa: PLR2004 - as above
        count, unit = count / 1000, unit + 1
    return f"{count:.1f} {_BYTES[unit - 1]}"


def iso(seconds: float | None) -> str | None:
    """A time in UTC for programs: 2026-08-02T14:03:22.000123Z."""
    import datetime as dt

    if seconds is None:
        return None
    text = dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="microseconds")  # strftime is slower
    return text.replace("+00:00", "Z")


def local(seconds: float) -> str:
    """A time for people, where they are: 2026-08-02 14:03:22."""
    import datetime as dt

    moment = dt.datetime.fromtimestamp(seconds, dt.UTC).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def moment(seconds: float, now: float, *, utc: bool) -> str:
    """When something was, for people, and how long ago; or exact in UTC."""
    return iso(seconds) or "" if utc else f"{local(seconds)}  ({ago(seconds, now, utc=False)})"


def ago(seconds: float, now: float, *, utc: bool) -> str:
    """When something was: 3m ago, or at 2026-08-02T14:03:22.000123Z."""
    return f"at {iso(seconds)}" if utc else f"{age(now - seconds)} ago"


def ahead(seconds: float, now: float, *, utc: bool) -> str:
    """When something will be: in 4m 10s, or at 2026-08-02T14:03:22.000123Z."""
    return f"at {iso(seconds)}" if utc else f"in {span(seconds - now)}"

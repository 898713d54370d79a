"""Escapes, columns, spans: without a terminal."""

import pytest

from durable.cli._text import age, clip, columns, iso, span, visible, wrapped


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("naïve 本 🎉", "naïve 本 🎉"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x00\x1b\x7f\x80\x9f", "\\x00\\x1b\\x7f\\x80\\x9f"),
        ("\u202a\u202e\u2066\u2069\u200f\u061c", "\\u202a\\u202e\\u2066\\u2069\\u200f\\u061c"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\ud800\udfff", "\\ud800\\udfff"),
        ("\U000e0041", "\\U000e0041"),
        ("back\\slash", "back\\slash"),
    ],
)
def test_visible(text, expected):
    assert visible(text) == expected
    assert visible(visible(text)) == expected


def test_everything_that_steers_a_terminal_is_escaped():
    harmful = [*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)]
    for code in (*harmful, 0x2028, 0x2029):
        assert visible(f"a{chr(code)}b") not in {f"a{chr(code)}b", "ab"}
        assert visible(f"a{chr(code)}b").isascii()


@pytest.mark.parametrize(
    ("text", "expected"), [("", 0), ("abc", 3), ("本", 2), ("e\u0301", 1), ("\uff41", 2), ("a\u200bb", 2)]
)
def test_columns(text, expected):
    assert columns(text) == expected


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("abcdef", 6, "abcdef"), ("abcdef", 5, "abcd…"), ("abcdef", 1, "…"), ("abcdef", 0, ""), ("", 0, ""),
        ("本本本", 6, "本本本"), ("本本本", 5, "本本…"), ("本本本", 4, "本…"), ("e\u0301e\u0301e\u0301", 2, "e\u0301…"),
    ],
)  # fmt: skip
def test_clip(text, width, expected):
    assert clip(text, width) == expected
    assert columns(clip(text, width)) <= width


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("", 10, [""]),
        ("one two three", 7, ["one two", "three"]),
        ("one two three", 100, ["one two three"]),
        ("abcdefghij", 4, ["abcd", "efgh", "ij"]),
        ("ab abcdefghij c", 4, ["ab", "abcd", "efgh", "ij c"]),
        ("  indented text", 10, ["  indented", "text"]),
        ("本本本本", 5, ["本本", "本本"]),
        ("本本", 1, ["本", "本"]),  # narrower than a letter: it goes on all the same
    ],
)
def test_wrapped(text, width, expected):
    assert list(wrapped(text, width)) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-5, "<1ms"), (0.0004, "<1ms"), (0.003, "3ms"), (0.9996, "1.0s"), (2.14, "2.1s"), (9.99, "9.9s"), (42.9, "42s"),
        (59.9999, "1m 00s"), (250, "4m 10s"), (7380, "2h 03m"), (86400 * 3 + 4 * 3600, "3d 4h"), (864e5, "1,000d 0h"),
    ],
)  # fmt: skip
def test_span(seconds, expected):
    assert span(seconds) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-1, "0s"), (0, "0s"), (59.9, "59s"), (60, "1m"), (3599, "59m"), (7200, "2h"), (86400 * 4, "4d")],
)
def test_age(seconds, expected):
    assert age(seconds) == expected


def test_iso():
    assert iso(None) is None
    assert iso(0) == "1970-01-01T00:00:00.000000Z"
    assert iso(1785679402.25) == "2026-08-02T14:03:22.250000Z"

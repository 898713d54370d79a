"""What `run.steps()` makes of what the journal has."""

import asyncio

import pytest

from durable._clock import SYSTEM_CLOCK
from durable._effects import CANCELLED, CUT, TIMED_OUT
from durable._listing import _readable, _step_error
from durable.errors import Cancelled, SerializationError


def test_values_that_are_no_json_are_shown_in_the_error():
    assert _readable('{"a":1}') == {"a": 1}
    for text in "{'a'", "[" * 100_000:
        with pytest.raises(SerializationError, match="a value in the journal is no JSON") as error:
            _readable(text)
        assert str(error.value).endswith(text[:80])


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        (CANCELLED, Cancelled, "the run was cancelled here"),
        (TIMED_OUT, Cancelled, "the run's timeout passed here"),
        (CUT, asyncio.CancelledError, None),
    ],
)
def test_an_operation_that_was_cut_says_by_what(text, kind, words):
    error = _step_error(text)
    assert type(error) is kind
    assert words is None or str(error) == words
    assert _step_error(None) is None


def test_a_secret_is_never_the_same():
    assert len({SYSTEM_CLOCK.secret() for _ in range(100)}) == 100
    assert len(SYSTEM_CLOCK.secret()) == 32

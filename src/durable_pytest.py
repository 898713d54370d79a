"""The pytest plugin of `durable`: outside of the package, which pytest is not to import before a test needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable.testing import Environment


@pytest.fixture
def durable_env() -> Iterator[Environment]:
    """An engine of its own for the test, and a clock that the test moves: see `durable.testing.engine`."""
    from durable.testing import engine

    with engine() as environment:
        yield environment

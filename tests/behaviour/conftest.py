"""A journal of its own for each test, and restarts within the process.

A restart closes the engine and opens another on the same file; the test declares changed code again.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import durable
from durable import _engine


class Journal:
    """The default engine of one test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine = durable.open(path)
        self.crashing = True

    def crash(self) -> None:
        """Interrupt whoever calls this, as the death of the process would, until the next `restart`."""
        if self.crashing:
            raise KeyboardInterrupt

    def restart(self) -> durable.Engine:
        """What the next process does: the same program, another engine, the same file."""
        self.engine.close()
        self.crashing = False
        self.engine = durable.open(self.path)
        return self.engine


def forget_default_engine() -> None:
    durable.close()
    _engine._default = None


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    yield Journal(tmp_path / "journal.db")
    forget_default_engine()


@pytest.fixture
def no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory, and a program that has not called `durable.open`."""
    monkeypatch.delenv("DURABLE_DB", raising=False)
    monkeypatch.chdir(tmp_path)
    _engine._default = None
    yield tmp_path
    forget_default_engine()


@pytest.fixture(autouse=True)
def declared_by_this_test_only() -> Iterator[None]:
    """Workflows that another test declared are unknown to this one."""
    before = dict(_engine.REGISTRY.workflows)
    steps = dict(_engine.REGISTRY._steps)
    yield
    _engine.REGISTRY.workflows.clear()
    _engine.REGISTRY.workflows.update(before)
    _engine.REGISTRY._steps.clear()
    _engine.REGISTRY._steps.update(steps)


@pytest.fixture
def run_async() -> Any:
    """`asyncio.run`, which also lets a KeyboardInterrupt through as it is."""

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner() as runner:
            return runner.get_loop().run_until_complete(coroutine)

    return run


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Any:
    """The messages that `durable.logger` has let through."""
    caplog.set_level(logging.INFO, logger="durable")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "durable"]

"""A journal of its own for each test. `TESTS_FULL=1` in the environment makes the large tests as large as the figures say."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import durable
from durable import _engine

ROOT = Path(__file__).resolve().parents[2]


class Journal:
    """The default engine of one test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine = durable.open(path)
        self.crashing = True

    def open(self, **options: Any) -> durable.Engine:
        """Another engine on the same file, as the next process would have it."""
        self.engine.close()
        self.engine = durable.open(self.path, **options)
        return self.engine

    def crash(self) -> None:
        """Interrupt whoever calls this, as the death of the process would, until the next `restart`."""
        if self.crashing:
            raise KeyboardInterrupt

    def restart(self, **options: Any) -> durable.Engine:
        self.engine.close()  # first: what is set going even now dies too
        self.crashing = False
        return self.open(**options)

    @property
    def file(self) -> Any:
        """What writes the file, from the inside."""
        return self.engine._runtime.journal

    def count_commits(self) -> Counter[str]:
        """From now on: transactions, and those of them that end with an fsync."""
        self.engine._runtime.own()
        seen: Counter[str] = Counter()
        file = self.file

        def counting(function: Callable[..., Any]) -> Callable[..., Any]:
            def wrapper(*args: Any) -> Any:
                seen["all"] += 1
                seen["full"] += bool(args[-1])
                return function(*args)

            return wrapper

        file.commit, file.put_alone = counting(file.commit), counting(file.put_alone)
        return seen

    def be_as_slow_as_a_disk(self) -> None:
        """In memory an fsync takes no time, in which others could come."""
        file = self.file

        def slowly(function: Callable[..., Any]) -> Callable[..., Any]:
            def wrapper(*args: Any) -> Any:
                if args[-1]:
                    time.sleep(0.002)
                return function(*args)

            return wrapper

        file.commit, file.put_alone = slowly(file.commit), slowly(file.put_alone)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    yield Journal(tmp_path / "journal.db")
    durable.close()
    _engine._default = None


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
def size() -> Callable[[int, int], int]:
    """How large: small in the suite, full when asked for."""
    return lambda small, full: full if os.environ.get("TESTS_FULL") else small


@pytest.fixture
def module() -> Any:
    """Run a module of the tests in a Python of its own; give its exit code and its output."""
    import subprocess
    import sys

    def run(name: str, *arguments: str, timeout: float = 280.0) -> tuple[int, str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("DURABLE_")}
        command = [sys.executable, "-m", name, *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        return done.returncode, done.stdout + done.stderr

    return run


class Peak:
    """Counts how many are inside at a time."""

    def __init__(self) -> None:
        import threading

        self._guard = threading.Lock()
        self.now = 0
        self.most = 0

    def __enter__(self) -> None:
        with self._guard:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._guard:
            self.now -= 1


@pytest.fixture
def peak() -> Peak:
    return Peak()

"""Journals of killed programs, what `durable check` says of them under changed code, and what happens to them then."""

import contextlib
import importlib
import io
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from durable import testing
from durable._engine import REGISTRY, Engine
from durable.cli import main
from durable.testing._death import MortalStore

from .programs import BLOCKS, PRELUDE

PATIENCE_SECONDS = 20.0
"""After so long a run hangs: what it waits for does not come."""
AGREES = {
    "goes on": {"completed", "failed", "cancelled", "waiting"},
    "would block": {"blocked", "interrupted"},
    "not declared": {"left"},
}
"""What may become of a run of which `check` says so. A run that "waits" was sent what it asked for, and a day passed."""


class Trial(NamedTuple):
    """A run of a journal, and a change."""

    journal: str
    change: str
    run: str
    said: str
    why: str
    happened: str
    harm: str
    """What `check` did that it must not: changed a file, or ran a step."""

    @property
    def is_right(self) -> bool:
        if self.harm:
            return False
        if self.said == "unclear":  # whether it waits for a run that stops, it tells beyond the journal
            beyond = ("if it waits for run", "the code waits for run", "unless run")
            return self.why.startswith(beyond) and self.happened != "hangs"
        return self.happened in AGREES[self.said]


# -- in children of fork ----------------------------------------------------------------------------------------------


def in_child(work: Callable[[Any], None]) -> tuple[int, list[Any]]:
    """Do it in a child process; how that ended, and what it has written down as JSON lines."""
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reads)
            with os.fdopen(writes, "w", buffering=1) as out:
                work(lambda each: out.write(json.dumps(each) + "\n"))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(writes)
    with os.fdopen(reads) as lines:
        found = [json.loads(line) for line in lines]
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), found


class _KilledAfter:
    """A plan of `durable.testing`, which dies in earnest after so many commits."""

    def __init__(self, commits: int) -> None:
        self._left = commits

    def begins(self, _: Any) -> None: ...

    def dies_before(self, _: Any) -> bool:
        return False

    def dies_after(self, _: Any) -> bool:
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)
        return False


class _World(testing.Environment):
    """An engine with a clock that is moved by hand, on a journal that is there."""

    def __init__(self, folder: str) -> None:
        super().__init__(None, auto_advance=False, threads=8, patience=PATIENCE_SECONDS)
        self._given = folder

    def _open(self) -> None:
        self._folder, temporary = self._given, self._folder
        if temporary != self._given:
            os.rmdir(temporary)
        super()._open()

    def _leave(self) -> None:
        self._folder = ""  # what was given is not removed
        super()._leave()


# -- journals ---------------------------------------------------------------------------------------------------------


def journals(source: str, folder: Path, every: int = 1) -> Iterator[Path]:
    """A folder for each commit of the program, or for some, after which it was killed: there are no other states.

    Of some of these there is one more whose run was then cancelled, one where it was killed again while it made of that
    what it does, and one whose run was blocked by other code.
    """
    for commits in range(1, 200, every):
        path = folder / f"{commits}"
        path.mkdir()
        (path / "shop.py").write_text(PRELUDE + source)
        status, _ = in_child(lambda _, path=path, commits=commits: _live(path, commits))
        if status == 0:
            shutil.rmtree(path)
            return
        assert status == -signal.SIGKILL, status
        yield path
        if commits % 3 == 1:
            yield (cancelled := _copy(path, "cancelled", _cancel))
            yield _copy(path, "blocked", _block)
            yield from _killed_again(cancelled)


def _live(path: Path, commits: int, begin: Callable[[Any, Any], Any] = lambda _, shop: shop.work.start(3)) -> None:
    os.chdir(path)
    with _World(str(path)) as world:
        MortalStore.of(world.engine, _KilledAfter(commits))
        begin(world.engine, load())
        _see_through(world, [world.engine.get("run")])


def _copy(path: Path, what: str, then: Callable[[Path], None]) -> Path:
    other = path.with_name(f"{path.name} {what}")
    shutil.copytree(path, other)
    status, _ = in_child(lambda _: then(other))
    assert status == 0
    return other


def _killed_again(path: Path) -> Iterator[Path]:
    for commits in range(2, 12, 3):
        other = path.with_name(f"{path.name} {commits}")
        shutil.copytree(path, other)
        status, _ = in_child(lambda _, at=other, commits=commits: _live(at, commits, lambda engine, _: engine.resume()))
        if status == 0:  # it has ended
            return
        assert status == -signal.SIGKILL, status
        yield other


def _cancel(path: Path) -> None:
    engine = Engine(path / "durable.db")
    with contextlib.suppress(Exception):
        engine.get("run").cancel()
    engine.close()


def _block(path: Path) -> None:
    engine = Engine(path / "durable.db")
    begun = bool(engine.get("run").steps())
    engine.close()
    if begun:
        kept = (path / "shop.py").read_text()
        (path / "shop.py").write_text(PRELUDE + BLOCKS)
        happens(path)
        (path / "shop.py").write_text(kept)


# -- what is said, and what happens -----------------------------------------------------------------------------------


def load() -> Any:
    """The program in the working directory, as a new process would import it."""
    forget()
    sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module("shop")
    finally:
        sys.path.pop(0)


def try_out(journal: Path, changes: dict[str, str], tell: Callable[[Any], None]) -> None:
    """For each change: ask, then do it, on a copy of the journal."""
    for change, source in changes.items():
        path = journal.with_name(f"{journal.name} tried")
        shutil.copytree(journal, path, ignore=shutil.ignore_patterns("*owner*"))
        (path / "shop.py").write_text(PRELUDE + source)
        os.chdir(path)
        before = content()
        said = asked()
        harm = "a file" if content() != before else "a step" if sys.modules["shop"].ran else ""
        happened = happens(path)
        for run, (verdict, why) in said.items():
            tell(Trial(f"{journal.parent.name} {journal.name}", change, run, verdict, why, happened[run], harm))
        os.chdir(journal)
        shutil.rmtree(path)


def content() -> dict[str, bytes]:
    return {p.name: b"" if p.name.endswith("-shm") else p.read_bytes() for p in Path().iterdir()}


def asked() -> dict[str, tuple[str, str]]:
    """What `durable check` says, by run."""
    forget()
    path, output = sys.path.copy(), io.StringIO()
    output.reconfigure = lambda **_: None  # as a text file has it
    with contextlib.redirect_stdout(output):
        code = main(["--db", "durable.db", "check", "shop.py", "--json", "--timeout", "20"])
    sys.path[:] = path
    found = [json.loads(line) for line in output.getvalue().splitlines()]
    assert code == int(any(each["verdict"] != "goes on" for each in found)), (code, found)
    return {each["id"]: (each["verdict"], each["why"]) for each in found}


def forget() -> None:
    """As in a new process, in which the program was not imported yet."""
    for table in (REGISTRY.workflows, REGISTRY._steps):
        table.clear()
    sys.modules.pop("shop", None)
    sys.dont_write_bytecode = True  # one program a second would be taken for another, and a new file for harm
    importlib.invalidate_caches()


def happens(path: Path) -> dict[str, str]:
    """What becomes of each run when the program goes on: after a day, and with the signals that it waits for."""
    os.chdir(path)
    with _World(str(path)) as world, open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        load()
        runs = [run for run in world.engine.runs() if run.status not in {"completed", "failed", "cancelled"}]
        left = {run.id for run in runs if run.workflow not in REGISTRY.workflows}
        world.engine.resume()
        _see_through(world, runs)
        return {run.id: "left" if run.id in left else _end_of(run) for run in runs}


def _end_of(run: Any) -> str:
    return "hangs" if run.status in {"running", "queued"} else run.status


def _see_through(world: Any, runs: list[Any]) -> None:
    for run in runs:
        for _ in range(2):
            with contextlib.suppress(Exception):  # it has ended
                run.signal("go", 1)
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up_at:
        with contextlib.suppress(TimeoutError):
            world.clock.advance(days=1)
        if not any(run.status in {"running", "queued"} and _lives(world, run) for run in runs):
            return
        time.sleep(0.002)


def _lives(world: Any, run: Any) -> bool:
    return run.id in world.engine._runtime.active

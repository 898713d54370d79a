"""Files that are no journal, were cut or damaged, belong to somebody else, or were made to do harm.

A trial makes one, and does everything to it that a program or the command line does. Allowed are the library's own
errors, each within a second of work; an audit hook watches that nothing is executed, imported, started or written elsewhere.
"""

import contextlib
import faulthandler
import io
import json
import os
import random
import re
import signal
import sqlite3
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self
from zlib import crc32

import durable
from durable import cli
from durable._records import step_row

from . import programs
from .children import warm_up
from .disk import put
from .programs import Plan
from .tally import Tally

SECONDS = 1.0
"""Of the processor's time: other programs may take the rest."""
MOST_SECONDS = 5.0
STUCK_SECONDS = 8.0
STUCK_MUTANT_SECONDS = 3.0
"""The same where a guard is switched off, and to end is what is not expected."""


class Bomb:
    """A class of the program that is no data: nothing in a file may make one."""

    made = 0

    def __new__(cls, *_args: Any, **_values: Any) -> Self:
        Bomb.made += 1
        return object.__new__(cls)

    def __init__(self, *_args: Any, **_values: Any) -> None:
        Bomb.made += 1


def explode(*_args: Any, **_values: Any) -> None:
    Bomb.made += 1


NAMES = (
    "os:system",
    "subprocess:Popen",
    "builtins:eval",
    "builtins:exec",
    "builtins:type",
    "builtins:object",
    "tests.faults.files:Bomb",
    "tests.faults.files:Bomb.__init__",
    "tests.faults.files:explode",
    "this:anything",
    "antigravity:x",
    "durable:close",
    "durable.errors:Halt",
    "builtins:SystemExit",
    "builtins:KeyboardInterrupt",
    "builtins:GeneratorExit",
    "",
    ":",
    "a:b:c",
    "..:..",
    "\x1b[2J:x",
    "x" * 5000,
)

# -- trials ------------------------------------------------------------------------------------------------------------


def run(trials: int, seed: int, base: Path) -> Tally:
    tally = Tally()
    dice = random.Random(f"files {seed}")
    origin, folder = base / "origin", base / "trial"
    origin.mkdir()
    folder.mkdir()
    plan = Plan(f"files {seed}", sequential=True)
    programs.begin_world()
    programs.call(durable.Engine(origin / "journal.db"), plan)
    good = (origin / "journal.db").read_bytes()
    watch = Watch(base)
    warm_up()
    put(folder, {"journal.db": good})
    for _ in range(2):  # what is imported and compiled once is so before anybody watches
        _use(folder / "journal.db", plan)
        _hostile(random.Random(1), folder, good)
        _use(folder / "journal.db", plan)
        put(folder, {"journal.db": good})
    stuck_seconds = STUCK_MUTANT_SECONDS if Tally.one_is_enough else STUCK_SECONDS
    for number in range(trials):
        kind, make = dice.choice(KINDS)
        trial_seed = f"{seed}/{number}"
        _clear(folder)
        make(random.Random(trial_seed), folder, good)
        faulthandler.dump_traceback_later(stuck_seconds, exit=True)
        tally.begin()
        tally.facts[kind] += 1
        with watch:
            for fault in _use(folder / "journal.db", plan):
                tally.fault(fault, f"{kind} {trial_seed}")
        faulthandler.cancel_dump_traceback_later()
        for event in watch.seen:
            tally.fault(f"not allowed: {event}", f"{kind} {trial_seed}")
    return tally


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def _use(path: Path, plan: Plan) -> list[str]:
    """Everything that a program and a user do with a file; what was not as it is to be."""
    faults = []
    for act in ACTS:
        programs.begin_world()
        Bomb.made = 0
        begun_at = time.monotonic()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            with contextlib.redirect_stdout(_terminal()), contextlib.redirect_stderr(_terminal()):
                act(path, plan)
        except durable.DurableError:
            pass
        except SlowError:
            faults.append(f"{act.__name__}: longer than a second")
        except BaseException as error:
            faults.append(f"{act.__name__}: {type(error).__name__}: {_in_short(error)}")
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        if time.monotonic() - begun_at > MOST_SECONDS:
            faults.append(f"{act.__name__}: longer than {MOST_SECONDS:g} s by the wall clock")
        if Bomb.made:
            faults.append(f"{act.__name__}: an object was made of a class that is no data")
    return faults


def _in_short(error: BaseException) -> str:
    return re.sub(r"/dev/shm\S+", "…", str(error))[:100]


def _terminal() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="surrogateescape")


class SlowError(BaseException):
    """The act has taken a second."""


def _too_slow(*_: object) -> None:
    raise SlowError


signal.signal(signal.SIGPROF, _too_slow)


def look(path: Path, _plan: Plan) -> None:
    engine = durable.Engine(path)
    try:
        for found in engine.runs():
            _look_at(found)
        _look_at(engine.get("run-1"))
    finally:
        engine.close()


def _look_at(found: Any) -> None:
    for attribute in ("status", "workflow", "created_at", "finished_at", "input", "error", "steps"):
        with contextlib.suppress(durable.DurableError):
            value = getattr(found, attribute)
            if callable(value):
                value()
    if found.status in {"completed", "failed"}:
        with contextlib.suppress(Exception):  # a recorded error is what the run raised
            found.result(timeout=0.5)


def go_on(path: Path, plan: Plan) -> None:
    """As the owner: go on with everything, and call the program. A file may say that it waits for ever."""
    engine = durable.Engine(path)
    last = threading.Timer(SECONDS, engine.close)
    last.start()
    try:
        with engine:
            engine.resume(wait=True)
            programs.call_within(engine, plan)
    except (ExceptionGroup, StopIteration, OSError, ValueError, RuntimeError) as error:
        if "Recorded" not in str(error):
            raise
    finally:
        last.cancel()
        engine.close()


def command_line(path: Path, _plan: Plan) -> None:
    for arguments in (["ls"], ["ls", "--json"], ["show", "run-1"], ["show", "id", "--json"]):
        with contextlib.suppress(SystemExit):
            cli.main(["--db", str(path), *arguments])


ACTS = (look, command_line, go_on)

# -- what is watched ---------------------------------------------------------------------------------------------------

FORBIDDEN = (
    "exec",
    "import",
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "subprocess.Popen",
    "socket.connect",
    "pickle.find_class",
    "marshal.loads",
    "ctypes.dlopen",
    "code.__new__",
    "webbrowser.open",
)


class Watch:
    """An audit hook: what happened that must not, while it is entered."""

    def __init__(self, base: Path) -> None:
        self.seen: list[str] = []
        self._base = str(base)
        self._watches = False
        sys.addaudithook(self._hook)

    def __enter__(self) -> None:
        self.seen = []
        self._watches = True

    def __exit__(self, *_: object) -> None:
        self._watches = False

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._watches:
            return
        if event in FORBIDDEN:
            self.seen.append(f"{event} {str(arguments[0])[:60]}")
        elif event == "open" and isinstance(arguments[0], str):
            writes = (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and not arguments[0].startswith((self._base, "/dev/null", "/proc")):
                self.seen.append(f"open for writing: {arguments[0][:60]}")


# -- files -------------------------------------------------------------------------------------------------------------


def _write(folder: Path, data: bytes, name: str = "journal.db") -> None:
    (folder / name).write_bytes(data)


def _noise(dice: random.Random, folder: Path, _good: bytes) -> None:
    head = dice.choice([b"", b"SQLite format 3\0", b"SQLite format 3\0\x10\0\2\2\0\x40\x20\x20", b"PK\3\4", b"\x7fELF"])
    _write(folder, head + dice.randbytes(dice.choice([0, 1, 100, 512, 4096, 20_000])))


def _cut(dice: random.Random, folder: Path, good: bytes) -> None:
    size = dice.randrange(len(good))
    _write(folder, good[: size // 4096 * 4096 if dice.random() < 0.5 else size])


def _scattered(dice: random.Random, folder: Path, good: bytes) -> None:
    data = bytearray(good)
    for _ in range(dice.choice([1, 3, 10, 100, 1000])):
        data[dice.randrange(dice.choice([100, 4096, len(data)]))] = dice.randrange(256)
    _write(folder, bytes(data))


def _pages(dice: random.Random, folder: Path, good: bytes) -> None:
    """Pages swapped, repeated, blank, or of noise."""
    pages = [good[at : at + 4096] for at in range(0, len(good), 4096)]
    for _ in range(dice.randint(1, 4)):
        one, other = dice.randrange(len(pages)), dice.randrange(len(pages))
        how = dice.randrange(4)
        if how == 0:
            pages[one], pages[other] = pages[other], pages[one]
        else:
            pages[one] = [pages[other], bytes(4096), dice.randbytes(4096)][how - 1]
    _write(folder, b"".join(pages))


def _sidecars(dice: random.Random, folder: Path, good: bytes) -> None:
    """A sound journal beside strange files."""
    _write(folder, dice.choice([good, good, b""]))
    for end in dice.sample(["-wal", "-shm", "-journal", "-owner"], dice.randint(1, 3)):
        path = folder / f"journal.db{end}"
        how = dice.randrange(5)
        if how < 2:
            path.write_bytes(dice.randbytes(dice.choice([0, 1, 32, 5000])))
        elif how == 2:
            path.write_bytes(good)
        elif how == 3:
            os.mkfifo(path)
        else:
            path.mkdir()


def _in_place_of_it(dice: random.Random, folder: Path, good: bytes) -> None:
    """Something else where the file is to be."""
    path = folder / "journal.db"
    how = dice.randrange(4)
    if how == 0:
        os.mkfifo(path)
    elif how == 1:
        path.mkdir()
    elif how == 2:
        path.symlink_to(dice.choice(["journal.db", "nowhere", "/dev/zero", "/dev/null", "/proc/self/mem", "/dev/tty"]))
    else:
        _write(folder, good, "other.db")
        path.symlink_to("other.db")


@contextlib.contextmanager
def _opened(folder: Path, good: bytes) -> Iterator[sqlite3.Connection]:
    _write(folder, good)
    connection = sqlite3.connect(folder / "journal.db", isolation_level=None)
    try:
        connection.execute("PRAGMA ignore_check_constraints = 1")
        yield connection
        connection.execute("PRAGMA journal_mode = DELETE")
    finally:
        connection.close()


def _foreign(dice: random.Random, folder: Path, _good: bytes) -> None:
    """Somebody else's file, maybe with tables of our names."""
    with _opened(folder, b"") as connection:
        for number in range(dice.randint(0, 4)):
            name = dice.choice([f"mine{number}", *(f"durable_{each}" for each in TABLES)])
            columns = ", ".join(
                f"c{each} {dice.choice(['', 'TEXT', 'INTEGER'])}" for each in range(dice.randint(1, 20))
            )
            with contextlib.suppress(sqlite3.Error):
                connection.execute(f"CREATE TABLE {name} ({columns})")
                connection.execute(f"INSERT INTO {name} DEFAULT VALUES")
        if dice.random() < 0.5:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("CREATE TABLE durable_meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID")
                connection.execute(
                    "INSERT INTO durable_meta VALUES ('format', ?)",
                    (dice.choice([0, 1, 1, 1, 2, -1, 2**62, 1.5, "1", None, b"1"]),),
                )


TABLES = ("meta", "owner", "run", "step", "attempt", "message")
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT"
HARM = (
    "load_extension('/tmp/x')",
    "writefile('/tmp/x', 'x')",
    "readfile('/etc/passwd')",
    "edit('x')",
    "fts3_tokenizer('x', x'00')",
    "randomblob(1000000000)",
    "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n)",
    "zeroblob(999999999)",
)


def _schema(dice: random.Random, folder: Path, good: bytes) -> None:
    """Triggers, views, indexes and defaults that call functions, or never end."""
    harm = dice.choice(HARM)
    table, other = f"durable_{dice.choice(TABLES)}", f"durable_{dice.choice(TABLES)}"
    event = dice.choice(["INSERT", "UPDATE", "DELETE"])
    with _opened(folder, good) as connection, contextlib.suppress(sqlite3.Error):
        connection.execute("PRAGMA writable_schema = 1")
        how = dice.randrange(8)
        if how == 0:
            connection.execute(f"CREATE TRIGGER spy AFTER {event} ON {table} BEGIN SELECT {harm}; END")
        elif how == 1:
            connection.execute(f"CREATE TRIGGER spy BEFORE {event} ON {table} BEGIN DELETE FROM {other}; END")
        elif how in {2, 3}:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            connection.execute(f"ALTER TABLE {table} RENAME TO kept")
            values = ", ".join(f"{harm if dice.random() < 0.3 else 1} AS {column}" for column in columns)
            source = f"SELECT {values} FROM kept" if how == 2 else f"{ENDLESS} {values} FROM n"
            connection.execute(f"CREATE VIEW {table} AS {source}")
        elif how == 4:
            connection.execute(f"CREATE INDEX spy ON {table} ({harm})")
        elif how == 5:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN spy DEFAULT ({harm})")
        elif how == 6:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN spy AS ({harm})")
        else:
            text = dice.choice(
                ["", "garbage", f"CREATE VIRTUAL TABLE {table} USING fts5(x)", "CREATE TABLE durable_run (a)"]
            )
            connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (text, table))


def _crafted(dice: random.Random, depth: int = 0) -> Any:
    """A value as it might stand in a file, with tags that ask for more than data."""
    name = dice.choice(NAMES)
    inner = _crafted(dice, depth + 1) if depth < 3 else dice.choice([1, "x", None, [], {}])
    return dice.choice(
        [
            lambda: {"$type": name, "args": inner},
            lambda: {"$type": name, "args": ["touch /tmp/x"], "$attributes": {"__class__": inner}},
            lambda: {"$enum": name, "name": "__class__"},
            lambda: {"$enum": name, "value": inner},
            lambda: {"$hooked": name, "value": inner},
            lambda: {"$error": {"type": name, "message": inner, "args": [inner], "attributes": {"__dict__": inner}}},
            lambda: {"type": name, "message": "Recorded", "args": ["Recorded"], "cause": inner, "notes": inner},
            lambda: {"$value": inner},
            lambda: {"$dict": [[inner, inner]]},
            lambda: {"$set": [inner]},
            lambda: {"$int": "0x" + "f" * 10_000},
            lambda: {"$float": "nan" * 10},
            lambda: {"$datetime": "9" * 50},
            lambda: {"$path": "../../etc/passwd"},
            lambda: {f"${name}": inner},
            lambda: {"$tuple": inner},
            lambda: [inner] * 3,
            lambda: {"label": inner, "before": inner},
            lambda: "\x1b]0;x\x07" * 3,
            lambda: 10**400,
            lambda: 1e308,
        ]
    )()


def _text(dice: random.Random) -> Any:
    """A column: JSON, what looks like it, or not even text."""
    how = dice.random()
    if how < 0.75:
        return json.dumps(_crafted(dice))
    return dice.choice(
        ["", "{", "[" * 10_000, '"\\ud800"', "NaN", "1" * 5000, "nul", b"\xff\xfe", 5, 1.5, None, "\0", '{"a":' * 2000]
    )


def _hostile(dice: random.Random, folder: Path, good: bytes) -> None:
    """Records with right checksums and crafted columns."""
    with _opened(folder, good) as connection, contextlib.suppress(sqlite3.Error):
        for _ in range(dice.randint(1, 4)):
            table = dice.choice(["run", "run", "step", "step", "attempt", "message", "owner"])
            cursor = connection.execute(f"SELECT * FROM durable_{table} LIMIT 5")
            columns = [each[0] for each in cursor.description]
            rows = cursor.fetchall()
            row = list(dice.choice(rows)) if rows else [1, *([0] * (len(columns) - 1))]
            for column in dice.sample(range(len(columns) - 1), dice.randint(1, 3)):
                row[column] = _value(dice, columns[column], row[column])
            row[-1] = _checksum(table, row[:-1])
            connection.execute(f"INSERT OR REPLACE INTO durable_{table} VALUES ({', '.join('?' * len(row))})", row)


def _checksum(table: str, columns: list[Any]) -> int:
    """As the library would write it, if it wrote such a row."""
    if table == "step":
        with contextlib.suppress(TypeError, ValueError, struct.error, UnicodeError):
            return step_row(tuple(columns))[-1]
    return crc32(("%s|" * len(columns) % tuple(columns)).encode("utf-8", "surrogatepass"))


def _value(dice: random.Random, column: str, before: Any) -> Any:
    if column in {"input", "output", "error", "value"}:
        return _text(dice)
    if column == "status":
        return dice.choice(
            ["queued", "running", "waiting", "completed", "failed", "cancelled", "blocked", "retrying", "other"]
        )
    if column in {"name", "workflow", "module", "branch", "id", "kind", "claim"}:
        return dice.choice(
            [dice.choice(NAMES), "\x1b[31m", "../x", "run-1", "cancel", "step", "child", "main", before, b"x", 7]
        )
    if column.endswith("_at"):
        return dice.choice([None, 0, -1e300, 1e300, float("inf"), "never", 2**62, before])
    return dice.choice([0, 1, -1, 2**63 - 1, -(2**63), "x", 1.5, None, before])


KINDS: list[tuple[str, Callable[[random.Random, Path, bytes], None]]] = [
    ("noise", _noise),
    ("cut", _cut),
    ("scattered bytes", _scattered),
    ("pages", _pages),
    ("sidecars", _sidecars),
    ("something else", _in_place_of_it),
    ("foreign", _foreign),
    ("schema", _schema),
    ("crafted records", _hostile),
    ("crafted records", _hostile),
    ("crafted records", _hostile),
]

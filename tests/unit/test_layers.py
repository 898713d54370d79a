"""The house keeps its layers: docs/architecture.md says why, this reads the imports and holds it.

A new module goes into ROWS, at the row where it belongs; it may import modules of the rows above.
"""

import ast
import functools
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "durable"

# Each row imports only from the rows above it; the numbers are the layers of docs/architecture.md.
ROWS: list[tuple[str, ...]] = [
    # 0 pure: what there is
    ("errors", "_model"),
    # 1 pure: what to do
    ("_retry", "_codec", "_arguments", "_aftermath"),
    ("_identity",),
    ("_signature",),
    ("_effects",),
    ("_replay",),
    ("_waits", "_going_back", "_lost"),
    ("_fork",),
    # 2 the outside: time and chance, threads, the file
    ("_clock", "_limits"),
    ("_thread_pool",),
    ("_entries", "_owner", "_progress", "_records"),
    ("_patience", "_batch"),
    ("_commits",),
    ("_format", "_place", "_wal"),
    ("_inherited",),
    ("_database",),
    ("_transaction",),
    ("_set_back",),
    ("_reading",),
    ("_journal",),
    ("_requests", "_retention"),
    ("_rests",),
    # 3 one execution
    ("_scopes",),
    ("_watching",),
    ("_execution",),
    ("_attempts", "_port", "_logger", "_outcome", "_sets_of_tasks"),
    ("_task_inspection",),
    ("_drive",),
    ("_past_order", "_telling", "_threads", "_timeouts"),
    ("_new_outcomes",),
    ("_branches", "_loop_hooks"),
    ("_suspension",),
    ("_drive_async", "_operations", "_parallel", "_run_task"),
    # 4 many executions
    ("_active", "_claims", "_timer"),
    ("_ancestry",),
    ("_runtime",),
    ("_beginning",),
    ("_running",),
    ("_running_async",),
    ("_scheduler",),
    ("_results", "_steering"),
    # 5 what users touch
    ("_listing",),
    ("run",),
    ("_engine",),
    ("_stand_ins",),
    ("_rehearsal",),
    ("_decorated",),
    ("_steps", "_workflows", "_pauses"),
    ("aio",),
    ("testing",),
    ("__init__",),
    ("cli",),
    ("__main__",),
]
# Imports against the order that serve annotations alone, under `if TYPE_CHECKING`: (who, whom).
FOR_TYPES_ONLY = {
    ("_execution", "_branches"),
    ("_execution", "_parallel"),
    ("_rests", "_execution"),
    ("_scopes", "_execution"),
    ("_drive", "_branches"),
    ("_new_outcomes", "_branches"),
    ("_telling", "_branches"),
    ("_threads", "_branches"),
    ("_timeouts", "_branches"),
}
# These neither do nor wait: no I/O, no clock, no threads, no `await`.
PURE = {"errors", "_model", "_retry", "_codec", "_identity", "_signature", "_effects", "_replay", "_waits",
        "_going_back", "_fork", "_lost", "_aftermath"}  # fmt: skip

# What may be imported where. A list of modules that may, for each thing that few may.
ONLY_IN: dict[str, set[str]] = {
    "apsw": {"_database", "_format", "_inherited", "_journal", "_wal"},
    "cattrs": {"_codec"},
    "random": {"_clock"},
    "secrets": {"_clock"},
    "time": {"_clock"},
}
ASK_THE_CLOCK = {("datetime", "now"), ("date", "today"), ("os", "urandom"), ("uuid", "uuid4")}
DOES_OR_WAITS = {"asyncio", "fcntl", "io", "os", "select", "signal", "socket", "sqlite3",
                 "subprocess", "tempfile", "threading"}  # fmt: skip

LONGEST_MODULE_LINES = 400
LONGEST_FUNCTION_LINES = 70


def name_of(path: Path) -> str:
    """The name of a module inside the package; a package's `__init__` under the package's."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def source(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text(encoding="utf-8"), str(FILES[module]))


def nodes(module: str, *kinds: type[ast.AST]) -> Iterator[Any]:
    """What there is of some kinds in a module."""
    return (node for node in ast.walk(source(module)) if isinstance(node, kinds))


def room(module: str) -> str:
    """The entry of ROWS for a module: a package such as `cli` is one room."""
    return module.partition(".")[0]


def for_types(module: str) -> set[ast.AST]:
    """What stands under `if TYPE_CHECKING`, and is not there when the program runs."""
    blocks = [node for node in nodes(module, ast.If) if ast.unparse(node.test) == "TYPE_CHECKING"]
    return {node for block in blocks for line in block.body for node in ast.walk(line)}


def imports(module: str, *, left_out: Collection[ast.AST] = ()) -> Iterator[str]:
    """Absolute names of what a module imports, wherever in it, in functions too."""
    is_package = (PACKAGE / module.replace(".", "/")).is_dir() or module == "__init__"
    here = ["durable", *([] if module == "__init__" else module.split("."))]
    for node in nodes(module, ast.Import, ast.ImportFrom):
        if node in left_out:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            up = node.level - is_package
            base = here[: len(here) - up] if node.level else []
            parent = ".".join([*base, *filter(None, [node.module])])
            yield from (f"{parent}.{alias.name}" for alias in node.names)


def own_imports(module: str, *, left_out: Collection[ast.AST] = ()) -> set[str]:
    """Rooms of the house that a module imports, itself left out."""
    known = {room(name) for name in FILES}
    found: set[str] = set()
    for name in imports(module, left_out=left_out):
        top, _, rest = name.partition(".")
        if top == "durable":
            first = rest.partition(".")[0]
            found.add(first if first in known else "__init__")
    return found - {room(module)}


def foreign_imports(module: str) -> set[str]:
    """What a module imports from outside when the program runs."""
    names = imports(module, left_out=for_types(module))
    return {name.partition(".")[0] for name in names} - {"durable"}


def test_the_house_is_read() -> None:
    assert FILES, f"no modules in {PACKAGE}"


def test_each_module_has_a_place() -> None:
    places = [name for row in ROWS for name in row]
    misplaced = {room(module) for module in FILES if places.count(room(module)) != 1}
    assert not misplaced, f"add {misplaced} to ROWS in {__file__}, once, where they belong"


def test_rows_name_no_module_that_is_gone() -> None:
    named = {name for row in ROWS for name in row} | PURE | {n for s in ONLY_IN.values() for n in s}
    assert named <= {room(module) for module in FILES}


def test_imports_only_from_rows_above() -> None:
    above: set[str] = set()
    for row in ROWS:
        for module in (name for name in FILES if room(name) in row):
            allowed = {whom for who, whom in FOR_TYPES_ONLY if who == room(module)}
            below = own_imports(module) - above - allowed
            assert not below, f"{module} imports {sorted(below)}, which is not in a row above its own"
        above |= set(row)


def test_imports_for_types_only_are_just_that() -> None:
    for who, whom in FOR_TYPES_ONLY:
        assert whom in own_imports(who)
        assert whom not in own_imports(who, left_out=for_types(who))


def test_few_import_what_only_few_may() -> None:
    for module in FILES:
        for library in ONLY_IN.keys() & foreign_imports(module):
            assert room(module) in ONLY_IN[library], f"{module} imports {library}: only {ONLY_IN[library]} may"


def test_one_module_knows_cattrs() -> None:
    assert len([module for module in FILES if "cattrs" in foreign_imports(module)]) <= 1


def test_only_the_clock_asks_for_time_and_chance() -> None:
    for module in FILES.keys() - {"_clock"}:
        for node in nodes(module, ast.Attribute):
            asks = isinstance(node.value, ast.Name) and (node.value.id, node.attr) in ASK_THE_CLOCK
            assert not asks, f"{module}:{node.lineno} asks for time or chance: _clock does that"


def test_pure_modules_neither_do_nor_wait() -> None:
    for module in (name for name in FILES if room(name) in PURE):
        does = foreign_imports(module) & DOES_OR_WAITS
        assert not does, f"{module} is pure, and imports {does}"
        waits = [*nodes(module, ast.Await, ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith)]
        assert not waits, f"{module}:{waits[0].lineno} is pure, and waits"


def test_errors_imports_nothing_of_the_house() -> None:
    assert not own_imports("errors")


def test_modules_are_short() -> None:
    for module, path in FILES.items():
        lines = path.read_text().count("\n")
        assert lines < LONGEST_MODULE_LINES, f"{module} has {lines} lines: are two things in it?"


def test_functions_fit_on_a_screen() -> None:
    for module in FILES:
        for node in nodes(module, ast.FunctionDef, ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines < LONGEST_FUNCTION_LINES, f"{module}:{node.lineno} {node.name} has {lines} lines"

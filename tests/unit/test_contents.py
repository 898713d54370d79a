"""`durable/__init__.py`: a table of contents that loads what stands behind a name when the name is used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import durable

SOURCE = Path(durable.__file__).read_text(encoding="utf-8")


def imported_for_type_checkers() -> dict[str, str]:
    """Each name that type checkers see, and the module that it comes from for them."""
    block = next(node for node in ast.parse(SOURCE).body if isinstance(node, ast.If))
    found = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module or alias.name for node in found for alias in node.names}


@pytest.mark.parametrize("name", durable.__all__)
def test_a_name_is_what_type_checkers_take_it_for(name: str) -> None:
    vars(durable).pop(name, None)
    value = getattr(durable, name)
    home = imported_for_type_checkers().get(name)
    if home is None:
        assert name in {"converter", "logger"}
    else:
        module = sys.modules[f"durable.{home}"]
        assert value is (module if home == name else vars(module)[name])


def test_importing_loads_nothing_else() -> None:
    code = "import sys; before = {*sys.modules}; import durable; print(*{*sys.modules} - before)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["durable"]


@pytest.mark.parametrize("name", ["aio", "errors", "testing"])
def test_a_module_of_names_is_there_when_it_is_first_used(name: str) -> None:
    code = f"import durable; print(durable.{name}.__name__)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == [f"durable.{name}"]


def test_all_names_are_listed() -> None:
    assert {*durable.__all__, "errors"} <= {*dir(durable)}


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'durable' has no attribute 'workfow'"):
        durable.workfow  # type: ignore[attr-defined]  # noqa: B018


def test_import_of_everything() -> None:
    code = "from durable import *; print(workflow.__module__, sorted(map(str, [open]))[0][:14])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["durable._workflows", "<function", "open"]

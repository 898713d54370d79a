"""docs/reference.md mentions everything public, and docs/architecture.md every module."""

import argparse
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_overloads

import pytest

import durable
from durable._model import RUN_STATUSES
from durable.cli import COMMANDS, _args, main

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "src" / "durable"


def section(title: str) -> str:
    """The text under the heading of a public name or command, up to the next heading of its level or above."""
    found = re.search(rf"^(##+) `?{re.escape(title)}`?$(.*?)(?=^##+ |\Z)", REFERENCE, re.MULTILINE | re.DOTALL)
    assert found, f"docs/reference.md has no heading for {title}"
    return found[2]


def public(cls: type) -> Iterator[str]:
    return (name for name in dir(cls) if not name.startswith("_"))


def options_of(function: object) -> list[str]:
    """The options of a function, or of its overload with options."""
    return [p.name for p in inspect.signature(function).parameters.values() if p.kind is not p.POSITIONAL_ONLY]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", durable.__all__)
def test_public_names(name: str) -> None:
    assert re.search(rf"`(?:durable\.)?{name}\b", REFERENCE), f"docs/reference.md does not mention {name}"


def test_names_that_are_documented_are_public() -> None:
    documented = re.findall(r"^### `(\w+)`$", REFERENCE, re.MULTILINE)
    assert set(documented) <= set(durable.__all__)


@pytest.mark.parametrize("cls", [durable.Run, durable.Engine, durable.Workflow, durable.Step, durable.Info])
def test_members(cls: type) -> None:
    text = section(cls.__name__)
    missing = [name for name in public(cls) if not re.search(rf"[`.]{name}\b", text)]
    assert not missing, f"docs/reference.md does not tell of {missing} of {cls.__name__}"


def test_fields_of_step_info() -> None:
    text = section("StepInfo")
    assert [name for name in durable.StepInfo._fields if f"`{name}`" not in text] == []


@pytest.mark.parametrize("name", ["open", "step", "workflow", "RetryPolicy", "resume", "runs", "get"])
def test_options(name: str) -> None:
    function = getattr(durable, name)
    overloads = get_overloads(function)  # `step` itself takes `**options`
    options = {option for each in overloads or [function] for option in options_of(each)}
    assert options
    text = section(name)
    missing = [option for option in options if not re.search(rf"\b{option}\b", text)]
    assert not missing, f"docs/reference.md does not tell of {missing} of {name}"


def test_statuses() -> None:
    text = section("Statuses")
    for status in (*RUN_STATUSES, "retrying"):
        assert f"| `{status}` |" in text


# -- the command line -------------------------------------------------------------------------------------------------


def parsers() -> dict[str, argparse.ArgumentParser]:
    whole, commands = _args.parsers(COMMANDS)
    return {"": whole, **{name: commands.load(name) for name in COMMANDS}}


def test_commands() -> None:
    for command in parsers():
        if command:
            assert f"### `durable {command}`" in REFERENCE


@pytest.mark.parametrize("command", parsers())
def test_options_of_commands(command: str) -> None:
    whole = REFERENCE[REFERENCE.index("## Command line") :]
    text = section(f"durable {command}") if command else whole
    shared = {"--db", "--json", "--utc", "--help", "-h"}
    for action in parsers()[command]._actions:
        for option in action.option_strings:
            assert f"{option}" in (whole if option in shared else text), f"{option} of durable {command}"


def keys_of(tree: object) -> set[str]:
    if isinstance(tree, list):
        return {key for part in tree for key in keys_of(part)}
    if not isinstance(tree, dict):
        return set()
    journaled = {"input", "output"}  # what is in these is the user's
    return set(tree) | {key for name in tree.keys() - journaled for key in keys_of(tree[name])}


def test_keys_of_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    @durable.step(retry=durable.RetryPolicy(initial_interval=0.0, maximum_attempts=2))
    def fails() -> None:
        raise ValueError

    @durable.workflow(id="documented")
    def documented() -> None:
        fails()

    path = str(tmp_path / "test.db")
    with durable.Engine(path), pytest.raises(ValueError):
        documented()
    assert main(["--db", path, "ls", "--json"]) == 0
    assert main(["--db", path, "show", "documented", "--json"]) == 0
    assert main(["--db", path, "step", "documented", "1", "--json"]) == 0
    assert main(["--db", path, "stats", "--json"]) == 0
    assert main(["--db", path, "doctor", "--json", "--quick"]) == 0
    assert main(["--db", path, "watch", "documented", "--json"]) == 0
    (tmp_path / "program.py").write_text("")
    assert main(["--db", path, "check", str(tmp_path / "program.py"), "--json"]) == 0
    assert main(["--db", path, "backup", str(tmp_path / "copy.db"), "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 8
    text = section("Output for programs")
    found = {key for line in lines for key in keys_of(json.loads(line))}
    assert found >= {"why", "damaged", "attempts", "module"}
    missing = [key for key in found if f"`{key}`" not in text]
    assert not missing, f"docs/reference.md does not tell of the keys {missing} of --json"


# -- modules ----------------------------------------------------------------------------------------------------------


def test_architecture_names_every_module() -> None:
    modules = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parent == PACKAGE]
    missing = [str(path.relative_to(PACKAGE)) for path in modules if f"`{path.name}`" not in ARCHITECTURE]
    packages = {path.parent.name for path in modules if path.parent != PACKAGE}
    missing += [f"{name}/" for name in packages if f"`{name}/`" not in ARCHITECTURE]
    assert not missing, f"docs/architecture.md does not name {missing}"


def test_architecture_names_no_module_that_is_gone() -> None:
    named = set(re.findall(r"`(\w+\.py)`", ARCHITECTURE))
    assert named <= {path.name for path in PACKAGE.rglob("*.py")}


def test_architecture_is_one_page() -> None:
    assert len(ARCHITECTURE.splitlines()) <= 200

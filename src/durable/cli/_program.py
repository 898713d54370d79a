"""The program whose runs a journal holds: its module, imported without letting it execute anything."""

import contextlib
import importlib
import os
import sys
from typing import Any

from durable import _engine
from durable._active import ENGINE
from durable._engine import REGISTRY, Engine
from durable._workflows import Workflow
from durable.cli._args import journal_by_default
from durable.errors import DurableError


class ProgramError(DurableError):
    """The module cannot be imported."""


class _NoEngine:
    """Stands in for the engine while a module is imported: whatever the module wants of it is refused."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, _: str) -> Any:
        msg = (
            f"{self._name} executes runs when it is imported: put that under  if __name__ == '__main__':  so that "
            "its workflows can be looked at without running them"
        )
        raise ProgramError(msg)


def load(name: str, *, quiet: bool = True) -> dict[str, Any]:
    """Import a module, by its name or its file; the workflows that are declared then, by name.

    Modules are found from the working directory on, as with `python -m`. `quiet`: what it prints is not shown.
    """
    folder, module = _place(name)
    sys.path.insert(0, folder)
    token = ENGINE.set(_NoEngine(name))
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere if quiet else sys.stdout):
            importlib.import_module(module)
    except ProgramError:
        raise
    except (Exception, SystemExit) as error:
        msg = f"{name} cannot be imported: {_said(error)}"
        raise ProgramError(msg) from error
    finally:
        ENGINE.reset(token)
    return REGISTRY.workflows


def workflow_of(name: str, workflow: str) -> Any:
    """The workflow of a module that was loaded: an attribute of it, or the name that the journal knows it by."""
    found: Any = sys.modules[_place(name)[1]]
    for part in workflow.split("."):
        found = getattr(found, part, None)
    if isinstance(found, Workflow):
        return found
    if workflow in REGISTRY.workflows:
        return REGISTRY.workflows[workflow]
    declared = ", ".join(sorted(REGISTRY.workflows)) or "none"
    msg = f"{name} declares no workflow {workflow!r}; those that are declared: {declared}"
    raise ProgramError(msg)


def journal_of(path: str) -> str:
    """The journal that a program works on: what `--db` or `$DURABLE_DB` say, else what it has opened itself."""
    opened = opened_by_program(path)
    return path if opened is None else opened.path


def opened_by_program(path: str) -> Engine | None:
    """The engine that the modules have made the default one, unless another journal was asked for."""
    opened = _engine._default
    if opened is None or (path != journal_by_default() and os.path.realpath(path) != opened.path):
        return None
    return None if os.environ.get("DURABLE_DB") and os.path.realpath(path) != opened.path else opened


def _place(name: str) -> tuple[str, str]:
    """The folder from which a module is imported, and its name."""
    if not name.endswith(".py"):
        return os.getcwd(), name
    folder, file = os.path.split(os.path.abspath(name))
    return folder, file.removesuffix(".py")


def _said(error: BaseException) -> str:
    import traceback

    where = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if "importlib" not in frame.filename and "durable/cli" not in frame.filename:
            where = f" ({frame.filename}, line {frame.lineno})"
    return f"{type(error).__name__}: {error}{where}"

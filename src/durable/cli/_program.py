"""The program whose runs a journal holds: its module, imported without letting it execute anything."""

import contextlib
import importlib
import os
import sys
from typing import Any

from durable._active import ENGINE
from durable._engine import REGISTRY
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


def load(name: str) -> dict[str, Any]:
    """Import a module, by its name or its file; the workflows that are declared then, by name.

    Modules are found from the working directory on, as with `python -m`. What the module prints is not shown.
    """
    folder, module = os.getcwd(), name
    if name.endswith(".py"):
        folder, file = os.path.split(os.path.abspath(name))
        module = file.removesuffix(".py")
    sys.path.insert(0, folder)
    token = ENGINE.set(_NoEngine(name))
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            importlib.import_module(module)
    except ProgramError:
        raise
    except (Exception, SystemExit) as error:
        msg = f"{name} cannot be imported: {_said(error)}"
        raise ProgramError(msg) from error
    finally:
        ENGINE.reset(token)
    return REGISTRY.workflows


def _said(error: BaseException) -> str:
    import traceback

    where = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if "importlib" not in frame.filename and "durable/cli" not in frame.filename:
            where = f" ({frame.filename}, line {frame.lineno})"
    return f"{type(error).__name__}: {error}{where}"

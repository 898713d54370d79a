"""Journaled errors, in words and for programs.

Their text is read as the JSON that it is (`_codec/exceptions.py` says of what shape): to import the codec, which makes
exceptions of it, takes longer than to list the runs.
"""

from typing import Final, NamedTuple

_AN_OBJECT: Final = "{"


class End(NamedTuple):
    """How an operation ended that has no error of its own: a word for its status, its class, and what happened."""

    status: str
    module: str
    name: str
    message: str


def end_of(error: str | None) -> End | None:
    """What a text stands for that is no error of the operation; `None` where it is one, or there is none."""
    if error is None or error.startswith(_AN_OBJECT):
        return None
    from durable._effects import CANCELLED, CUT, TIMED_OUT

    here = ("cancelled", "durable.errors", "Cancelled")
    return {
        CUT: End("cut", "asyncio", "CancelledError", "cut by the workflow itself: cancelled, or out of time"),
        CANCELLED: End(*here, "the run was cancelled here"),
        TIMED_OUT: End(*here, "the timeout of the run passed here"),
    }.get(error)


def parts_of(error: str) -> tuple[str, str, str]:
    """Class as `module:qualname`, message and traceback of an error; no exception is made of it."""
    import json

    tree = json.loads(error)
    return str(tree["type"]), str(tree["message"]), str(tree.get("traceback", ""))


def first_line(error: str | None, *, named: bool = True) -> str:
    """An error in one line: its class without the module, and the first line of its message."""
    if error is None:
        return "the process died in it"
    if end := end_of(error):
        return end.message
    kind, message, _ = parts_of(error)
    line = next((line for line in message.splitlines() if line.strip()), "")
    name = kind.rpartition(":")[2]
    return f"{name}: {line}" if named and line else line or name


def error_object(error: str | None, *, traceback: bool = False) -> dict[str, str] | None:
    """An error for programs: class, its module, message, and the traceback if it is wanted."""
    if error is None:
        return None
    if end := end_of(error):
        module, name, message, trace = end.module, end.name, end.message, ""
    else:
        kind, message, trace = parts_of(error)
        module, _, name = kind.rpartition(":")
    found = {"type": name, "module": module, "message": message}
    return {**found, "traceback": trace} if traceback else found

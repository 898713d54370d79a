"""Arguments of the public functions, checked where they are written: `TypeError` or `ValueError`, and nothing begun."""

import os
from collections.abc import Mapping
from threading import TIMEOUT_MAX
from typing import Any

from ._model import RUN_STATUSES

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def yes_or_no(value: Any, what: str) -> bool:
    """`True` or `False`, and nothing that only counts as such: a `"no"` would be true."""
    if not isinstance(value, bool):
        msg = f"{what} is True or False, not {value!r}"
        raise TypeError(msg)
    return value


def whole_number(value: Any, what: str, lowest: int) -> int:
    """A whole number that is `lowest` or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
        msg = f"{what} is a whole number, {lowest} or more, not {value!r}"
        raise ValueError(msg)
    return value


def slots(value: Any, what: str) -> int:
    """An option `concurrency`: how many at a time, 0 for `None`, any number."""
    return 0 if value is None else whole_number(value, what, 1)


def iterable(value: Any, what: str) -> Any:
    """What can be gone through, once. Not the letters of a text, nor the keys of a dict: these are mistakes."""
    if isinstance(value, (str, bytes, bytearray, Mapping)) or not (
        hasattr(value, "__iter__") or hasattr(value, "__getitem__")
    ):
        msg = f"{what} must be iterable, not {value!r}: a list, a generator or the like"
        raise TypeError(msg)
    return value


def seconds(value: Any, what: str) -> float | None:
    """A duration in seconds or as a `timedelta`, more than 0; `None` stays."""
    if value is None:
        return None
    found = _number_of_seconds(value, what)
    if not 0 < found < float("inf"):
        msg = f"{what} must be more than 0 and finite, not {value!r}"
        raise ValueError(msg)
    return found


def pause_seconds(value: Any, what: str) -> float:
    """The same of what is waited for in a workflow: 0 is no wait."""
    found = _number_of_seconds(value, what)
    if not 0 <= found < float("inf"):
        msg = f"{what} must be 0 or more, and finite, not {value!r}"
        raise ValueError(msg)
    return found


def _number_of_seconds(value: Any, what: str) -> float:
    found = value.total_seconds() if hasattr(value, "total_seconds") else value
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        msg = f"{what} is a number of seconds or a timedelta, not {value!r}"
        raise TypeError(msg)
    try:
        return float(found)
    except OverflowError:  # an int of hundreds of digits
        return float("inf")


def waiting_time(value: Any, what: str) -> float | None:
    """How long to wait at most, in seconds: 0 asks and does not wait; `None` waits for ever."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        msg = f"{what} is a number of seconds, or None for any time, not {value!r}"
        raise TypeError(msg)
    if not value >= 0:
        msg = f"{what} must not be negative, but is {value!r}"
        raise ValueError(msg)
    return None if value > TIMEOUT_MAX else float(value)  # centuries: more than a thread can wait


def keep_time(value: Any) -> float | None:
    """How long runs are kept, in seconds: of a `timedelta`, or a text such as "30d", "12h"; `None` stays: for ever."""
    if value is None:
        return None
    found = value
    if isinstance(value, str):
        number, unit = value[:-1].strip(), value[-1:]
        if unit not in _UNITS or not number.isdecimal():
            msg = f'keep is a number and s, m, h, d or w, such as "30d" or "12h", or a timedelta, not {value!r}'
            raise ValueError(msg)
        found = float(number) * _UNITS[unit]
    elif not hasattr(value, "total_seconds"):
        msg = f'keep is a text such as "30d" or "12h", or a timedelta, not {value!r}'
        raise TypeError(msg)
    return seconds(found, "keep")


def path_name(path: Any) -> str:
    """The path of a journal, which is a file: what SQLite keeps in memory would be gone with the process."""
    name = os.fspath(path) if hasattr(path, "__fspath__") else path
    if not isinstance(name, str):
        msg = f"the path of a journal is a text or a pathlib.Path, not {path!r}"
        raise TypeError(msg)
    if not name or "\0" in name:
        msg = f"the path of a journal is a text that names a file, not {name!r}"
        raise ValueError(msg)
    if name.startswith((":memory:", "file:")):
        msg = (
            f"{name!r} names no file, and a journal has to outlive the process: give the path of a file (for a test, "
            "of one in a temporary folder)"
        )
        raise ValueError(msg)
    return name


def is_full(value: Any) -> bool:
    """Whether every acknowledged outcome is to survive power loss."""
    if value not in ("full", "process"):
        msg = f'durability is "full" (survives power loss) or "process" (survives a crash), not {value!r}'
        raise ValueError(msg)
    return bool(value == "full")


def statuses(value: Any) -> tuple[str, ...]:
    """A status of runs, or several, as a tuple; `None` is empty: any."""
    if value is None:
        return ()
    if not hasattr(value, "__iter__"):
        msg = f"status is one of {', '.join(RUN_STATUSES)}, or a list of these, not {value!r}"
        raise TypeError(msg)
    wanted = (value,) if isinstance(value, str) else tuple(value)
    for each in wanted:
        if each not in RUN_STATUSES:
            msg = f"there is no run status {each!r}: it is one of {', '.join(RUN_STATUSES)}"
            raise ValueError(msg)
    return wanted


def workflow_name(value: Any) -> str | None:
    """A workflow, or its name, as its name; `None` stays: any."""
    name = getattr(value, "name", value)
    if name is not None and not isinstance(name, str):
        msg = f"workflow is a workflow or its name, not {value!r}"
        raise TypeError(msg)
    return name


def run_name(value: Any) -> str:
    """The id of a run that is looked for."""
    if not isinstance(value, str):
        msg = f"the id of a run is a text, not {value!r}"
        raise TypeError(msg)
    return value

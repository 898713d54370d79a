"""Small values of the standard library that cannot be changed, each as a payload of plain JSON.

A *leaf* is written as its payload where an annotation tells its type, and as `{"$tag": payload}`
where nothing does. Payloads are exact: two values with one payload are the same value. Modules are
imported when a value is read; a value to be written has brought its own.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from durable._codec.misfit import Misfit, described


class Leaf(NamedTuple):
    """`home` is the module and `name` the class in it; `read` undoes `write`, or raises."""

    tag: str
    home: str
    name: str
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


_FIXED_ELSEWHERE: Final = frozenset(
    {
        ("pydantic_core._pydantic_core", "TzInfo"),
        ("dateutil.tz.tz", "tzutc"),
        ("dateutil.tz.tz", "tzoffset"),
        ("pytz", "UTC"),
        ("pytz", "_FixedOffset"),
    }
)
"""Classes of other libraries, by module and name, whose time zones are one fixed offset without rules."""


def text_of(payload: Any) -> str:
    """The payload, which must be text: what takes several types would guess."""
    if type(payload) is not str:
        reason = f"text is expected here, not {described(payload)}"
        raise Misfit(reason)
    return payload


def write_zone(zone: Any) -> Any:
    """A `ZoneInfo` as its key; a fixed offset as days, seconds, microseconds and maybe a name."""
    home = type(zone).__module__
    if type(zone) is _loaded("datetime", "timezone"):
        offset, *name = zone.__getinitargs__()
        return [*_write_timedelta(offset), *name]
    if type(zone) is _loaded("zoneinfo", "ZoneInfo") and zone.key is not None:
        return str(zone.key)
    reason = f"a time zone of {home} cannot be journaled exactly; use zoneinfo.ZoneInfo(key) or a datetime.timezone"
    raise Misfit(reason)


def read_zone(payload: Any) -> Any:
    """Undoes `write_zone`."""
    if type(payload) is str:
        from zoneinfo import ZoneInfo

        return ZoneInfo(payload)
    from datetime import timedelta, timezone

    days, seconds, microseconds, *name = payload
    return timezone(timedelta(days, seconds, microseconds), *name)


def _standard_zone(zone: Any) -> Any:
    """A fixed offset of another library as the `timezone` of that offset, which is read without the library."""
    cls = type(zone)
    if (cls.__module__, cls.__qualname__) not in _FIXED_ELSEWHERE:
        return zone
    from datetime import timezone

    return timezone(zone.utcoffset(None))


def _write_moment(value: Any) -> Any:
    """A datetime or time: ISO text, and beside it what ISO cannot say."""
    zone = _standard_zone(value.tzinfo)
    fixed = type(zone) is _loaded("datetime", "timezone") and len(zone.__getinitargs__()) == 1
    # From the text of an offset of -0.5 seconds Python reads that there is none.
    fixed = fixed and not zone.utcoffset(None).microseconds
    if not value.fold and (zone is None or fixed):
        return value.isoformat()
    payload = {"at": value.replace(tzinfo=None).isoformat()}
    if zone is not None:
        payload["zone"] = write_zone(zone)
    if value.fold:
        payload["fold"] = 1
    return payload


def _read_moment(cls: Any, payload: Any) -> Any:
    if type(payload) is not dict:
        return cls.fromisoformat(text_of(payload))
    zone = read_zone(payload["zone"]) if "zone" in payload else None
    at = cls.fromisoformat(text_of(payload["at"]))
    return at.replace(tzinfo=zone, fold=payload.get("fold", 0))


def _read_datetime(payload: Any) -> Any:
    from datetime import datetime

    return _read_moment(datetime, payload)


def _read_time(payload: Any) -> Any:
    from datetime import time

    return _read_moment(time, payload)


def _read_date(payload: Any) -> Any:
    from datetime import date

    return date.fromisoformat(text_of(payload))


def _write_timedelta(value: Any) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _read_timedelta(payload: Any) -> Any:
    from datetime import timedelta

    return timedelta(*_numbers(payload, "days", "seconds", "microseconds"))


def _numbers(payload: Any, *names: str) -> list[Any]:
    """The payload, which must be a list of as many parts."""
    if type(payload) is not list or len(payload) != len(names):
        reason = f"[{', '.join(names)}] is expected here, not {described(payload)}"
        raise Misfit(reason)
    return payload


def _read_uuid(payload: Any) -> Any:
    from uuid import UUID

    return UUID(text_of(payload))


def _read_decimal(payload: Any) -> Any:
    from decimal import Decimal, InvalidOperation

    try:
        return Decimal(text_of(payload))
    except InvalidOperation:
        reason = f"{payload!r:.100} is no decimal number"
        raise Misfit(reason) from None


def _read_path(name: str, payload: Any) -> Any:
    import pathlib

    return getattr(pathlib, name)(text_of(payload))


def _write_bytes(value: bytes | bytearray) -> str:
    from binascii import b2a_base64

    return b2a_base64(value, newline=False).decode()


def _read_bytes(payload: Any) -> bytes:
    from binascii import a2b_base64

    return a2b_base64(text_of(payload), strict_mode=True)


def _write_complex(value: complex) -> list[str]:
    return [repr(value.real), repr(value.imag)]


def _read_complex(payload: Any) -> complex:
    real, imag = _numbers(payload, "real", "imag")
    return complex(float(text_of(real)), float(text_of(imag)))


def _write_range(value: range) -> list[int]:
    return [value.start, value.stop, value.step]


def _read_range(payload: Any) -> range:
    return range(*_numbers(payload, "start", "stop", "step"))


LEAVES: Final = (
    Leaf("$datetime", "datetime", "datetime", _write_moment, _read_datetime),
    Leaf("$date", "datetime", "date", lambda value: value.isoformat(), _read_date),
    Leaf("$time", "datetime", "time", _write_moment, _read_time),
    Leaf("$timedelta", "datetime", "timedelta", _write_timedelta, _read_timedelta),
    Leaf("$timezone", "datetime", "timezone", write_zone, read_zone),
    Leaf("$zone", "zoneinfo", "ZoneInfo", write_zone, read_zone),
    Leaf("$uuid", "uuid", "UUID", str, _read_uuid),
    Leaf("$decimal", "decimal", "Decimal", str, _read_decimal),
    Leaf("$path", "pathlib", "PosixPath", str, partial(_read_path, "PosixPath")),
    Leaf("$windows_path", "pathlib", "WindowsPath", str, partial(_read_path, "WindowsPath")),
    Leaf("$pure_path", "pathlib", "PurePosixPath", str, partial(_read_path, "PurePosixPath")),
    Leaf("$pure_windows_path", "pathlib", "PureWindowsPath", str, partial(_read_path, "PureWindowsPath")),
    Leaf("$bytes", "builtins", "bytes", _write_bytes, _read_bytes),
    Leaf("$bytearray", "builtins", "bytearray", _write_bytes, lambda p: bytearray(_read_bytes(p))),
    Leaf("$complex", "builtins", "complex", _write_complex, _read_complex),
    Leaf("$range", "builtins", "range", _write_range, _read_range),
)

_known: dict[type, Leaf] = {}


def _loaded(home: str, name: str) -> object:
    """The class of a module that is already imported, else None."""
    return getattr(sys.modules.get(home), name, None)


def comes_back(leaf: Leaf, value: Any, back: Any) -> bool:
    """Whether a leaf and what was read for it are the same.

    A fixed offset of another library may come back as `timezone`, but a `timezone` never as that of a library, as a
    pydantic model would make it.
    """
    zone, its = type(getattr(value, "tzinfo", None)), type(getattr(back, "tzinfo", None))
    is_of_its_class = its is zone or its is _loaded("datetime", "timezone")
    return is_of_its_class and bool(leaf.write(value) == leaf.write(back))


def leaf_of(cls: type) -> Leaf | None:
    """The leaf of exactly this class; a subclass is none, since its type would be lost."""
    known = _known.get(cls)
    if known is None:
        for leaf in LEAVES:
            if _loaded(leaf.home, leaf.name) is cls:
                known = _known[cls] = leaf
    return known

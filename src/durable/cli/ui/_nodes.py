"""Journaled values as nodes that the page draws: JSON, in which tagged objects stand for what JSON has no form for.

| node | what it is |
|---|---|
| `["text", "…"]`, `["number", "1.0"]`, `["word", "null"]` | a value by itself; numbers as the file has them |
| `["leaf", "datetime", "2026-03-01T14:03:22+00:00"]` | one of the standard library's small values |
| `["list", "tuple", [node, …]]` | items; the name is "" for a list |
| `["object", "Order", [["id", node], …]]` | fields; the name is "" for a dict |
| `["cut", "[[1, 2", 1200000]` | the beginning of a text too long to be drawn, and its length |
"""

import json
from typing import Any, Final

_LONGEST_TEXT: Final = 200_000
"""Letters of JSON that are drawn as a tree."""
_BEGINNING: Final = 20_000
_LONGEST_PREVIEW: Final = 160

Node = list[Any]


def node_of(text: str | None) -> Node | None:
    """The node of a journaled text, `None` for none."""
    if text is None:
        return None
    if len(text) > _LONGEST_TEXT:
        return ["cut", text[:_BEGINNING], len(text)]
    try:
        return _node(json.loads(text, parse_int=_Number, parse_float=_Number, parse_constant=_Number))
    except (ValueError, RecursionError):  # no JSON, which the checksum would have told, or too many levels
        return ["cut", text[:_BEGINNING], len(text)]


def preview_of(text: str | None) -> str:
    """The beginning of a journaled text."""
    text = text or ""
    return text if len(text) <= _LONGEST_PREVIEW else text[: _LONGEST_PREVIEW - 1] + "…"


class _Number(str):
    """A number as it is written: neither Python nor the browser rounds it."""

    __slots__ = ()


def _node(tree: Any) -> Node:
    if isinstance(tree, _Number):
        return ["number", str(tree)]
    if isinstance(tree, str):
        return ["text", tree]
    if isinstance(tree, list):
        return ["list", "", [_node(item) for item in tree]]
    if isinstance(tree, dict):
        return _object(tree)
    return ["word", "null" if tree is None else str(tree).lower()]


def _object(tree: dict[str, Any]) -> Node:
    tag = next(iter(tree), "")
    if not tag.startswith("$"):
        return ["object", "", [[key, _node(part)] for key, part in tree.items()]]
    payload, name = tree[tag], tag[1:]
    if tag == "$type":
        return ["object", _class_name(payload), [[key, _node(part)] for key, part in tree.items() if key != tag]]
    if tag == "$enum":
        return ["leaf", _class_name(payload), _plain(tree.get("name", tree.get("value")))]
    if tag == "$error" and isinstance(payload, dict):
        return ["leaf", _class_name(payload.get("type")), _plain(payload.get("message"))]
    if tag == "$fingerprint":
        return ["word", "not recorded, as the step wants it"]
    if tag == "$value":
        return _node(payload)
    if tag == "$hooked":
        return ["object", _class_name(payload), [["value", _node(tree.get("value"))]]]
    if tag == "$dict" and isinstance(payload, list):
        return ["object", "dict", [[_plain(key), _node(part)] for key, part in payload]]
    if isinstance(payload, list) and name in {"tuple", "set", "frozenset"}:
        return ["list", name, [_node(item) for item in payload]]
    return ["leaf", name, _plain(payload)]


def _class_name(name: Any) -> str:
    return str(name).rpartition(":")[2]


def _plain(tree: Any) -> str:
    """A payload in one line."""
    return tree if isinstance(tree, str) else json.dumps(tree, ensure_ascii=False)

"""What users registered on `durable.converter`, as far as the walk over values must know it.

Empty, and free of cattrs, until somebody touches the converter; `conversion.py` fills it.
"""

from collections.abc import Callable
from typing import Any


class UserHooks:
    """Which types have hooks of the user, and how to apply them."""

    __slots__ = ("_listeners", "_predicates", "structure", "unstructure")

    def __init__(self) -> None:
        self._predicates: list[Callable[[Any], bool]] = []
        self._listeners: list[Callable[[], None]] = []
        self.unstructure: Callable[..., Any]
        self.structure: Callable[[Any, Any], Any]

    def add(self, predicate: Callable[[Any], bool]) -> None:
        """Types for which `predicate` holds have a hook from now on; what was learned is void."""
        self._predicates.append(predicate)
        for forget in self._listeners:
            forget()

    def on_change(self, forget: Callable[[], None]) -> None:
        """Calls `forget` whenever a hook was added, so that caches can be emptied."""
        self._listeners.append(forget)

    def cover(self, annotation: Any) -> bool:
        """Whether a hook of the user is meant for this type. Predicates that fail do not hold."""
        return any(_holds(predicate, annotation) for predicate in self._predicates)


def _holds(predicate: Callable[[Any], bool], annotation: Any) -> bool:
    try:
        return bool(predicate(annotation))
    except Exception:  # as cattrs does: `issubclass` in a predicate meets what is no class
        return False


user_hooks = UserHooks()

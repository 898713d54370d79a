"""`Misfit`: why a value cannot be held, and where in it; the path is added while it travels up.

A walk costs nothing for paths as long as all goes well: each container that a failure passes adds
its own step. That also explains a cycle, since the containers on the way then repeat.
"""

from typing import Final

from durable.errors import SerializationError

_SHOWN_STEPS: Final = 20
"""Steps of a path that a message shows; deeper ones are cut in the middle."""


class Misfit(Exception):  # noqa: N818 - a finding on its way up, turned into an error at the edge
    """`reason` is a clause about what stands at the path, as `a lock cannot be journaled`."""

    def __init__(self, reason: str, *, endless: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.endless = endless
        self.steps: list[str] = []
        self.passed: list[object] = []

    def within(self, step: str, container: object) -> "Misfit":
        """The same finding, seen from the container: `step` leads from it to where it was."""
        self.steps.append(step)
        self.passed.append(container)  # itself: another may get the id of one that is gone
        return self

    def explained(self) -> SerializationError:
        """The error for users, with the path from the whole value, `$`."""
        steps, reason = self.steps[::-1], self.reason
        if self.endless:
            steps, reason = _first_round(steps, self.passed[::-1], reason)
        if len(steps) > _SHOWN_STEPS:
            half = _SHOWN_STEPS // 2
            steps = [*steps[:half], " … ", *steps[-half:]]
        return SerializationError(f"${''.join(steps)}: {reason}")


def _first_round(steps: list[str], passed: list[object], reason: str) -> tuple[list[str], str]:
    """How a walk that did not end came back to where it was, or that it is only very deep."""
    seen: dict[int, int] = {}
    for depth, container in enumerate(map(id, passed)):
        if container in seen:
            start = "$" + "".join(steps[: seen[container]])
            return steps[:depth], f"a cycle: this is {start} again; journal a value without cycles"
        seen[container] = depth
    return [], f"{reason}; journal a flatter value"


def found(error: BaseException) -> Misfit:
    """Any error as a finding. Whether a RecursionError is a cycle shows when the path is known."""
    if isinstance(error, Misfit):
        return error
    if isinstance(error, RecursionError):
        return Misfit("nested too deeply", endless=True)
    return Misfit(f"{error} ({type(error).__name__})" if str(error) else type(error).__name__)


def located(error: Misfit | RecursionError, step: str, container: object) -> Misfit:
    """What a container raises when one of its parts failed."""
    return found(error).within(step, container)


def attribute_step(name: str) -> str:
    """The step to an attribute or a key: `.when`, or `['two words']` where that reads wrong."""
    return f".{name}" if name.isidentifier() else f"[{name!r}]"


def key_step(key: object) -> str:
    """The step to the value under a key of a dict, whatever its type."""
    if type(key) is str:
        return attribute_step(key)
    return f"[{key!r}]" if type(key) in {int, float, bool, type(None)} else f"[{type_name(key)}]"


def described(value: object) -> str:
    """The type of a value with its article: `an int`, `a socket.socket`."""
    name = type_name(value)
    return f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"


def type_name(value: object) -> str:
    """`module.Class` of a value, without `builtins`."""
    cls = type(value)
    home = "" if cls.__module__ == "builtins" else f"{cls.__module__}."
    return f"{home}{cls.__qualname__}"

"""Notices what is imported in steps: it is not there in the next process, since a finished step does not run again.

An exception of such a module would be one of its class on the first run, and a `StepError` on a replay. So it is a
`StepError` in both. What the body of a workflow imports is there again, since the body runs again.
"""

import sys
from typing import Final

from ._codec.classes import imported_in_steps
from ._execution import SCOPE, StepScope


class _Witness:
    """Is asked first where a module is to be found, and does not know."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:  # noqa: ARG004 - as it is called
        if isinstance(SCOPE.get(), StepScope):
            imported_in_steps.add(name)
        else:
            imported_in_steps.discard(name)


_WITNESS: Final = _Witness()


def watch_imports() -> None:
    """From now on; before anything is executed."""
    if _WITNESS not in sys.meta_path:
        sys.meta_path.insert(0, _WITNESS)

"""`durable.logger`: says things once, not again at each replay."""

import logging
from typing import TYPE_CHECKING, Any

from ._execution import current_branch

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter


class ReplayAwareLogger(_Adapter):
    """A logger that is silent while a run replays: until its first operation whose outcome is not in the journal."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name in `logging`
        """Whether a message of this level would be logged now."""
        branch = current_branch()
        if branch is not None and branch.execution.replaying:
            return False
        return super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        """Leave the message and its `extra` as they are."""
        return msg, kwargs


logger = ReplayAwareLogger(logging.getLogger("durable"), {})

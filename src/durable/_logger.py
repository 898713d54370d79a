"""`durable.logger`: says things once, not again at each replay."""

import logging

from ._scopes import current_branch


def is_said_now(_: logging.LogRecord) -> bool:
    """Not while a run replays: until its first operation whose outcome is not in the journal."""
    branch = current_branch()
    return branch is None or not branch.execution.replaying


logger = logging.getLogger("durable")
logger.addFilter(is_said_now)

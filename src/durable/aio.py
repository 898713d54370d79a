"""Waiting in async workflows: `await durable.aio.sleep(60)`, `sleep_until`, `wait_for_signal`."""

from ._pauses import sleep_async as sleep
from ._pauses import sleep_until_async as sleep_until
from ._pauses import wait_for_signal_async as wait_for_signal

__all__ = ["sleep", "sleep_until", "wait_for_signal"]

"""What the page can do with a run: what `Run` can, from a process that executes nothing itself.

Each action opens the journal for itself, so that no lock outlives it, and none owns it: the program that does, or that
will, finds what was asked.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from durable import _requests
from durable._clock import SYSTEM_CLOCK
from durable._engine import Engine
from durable._model import RunRecord, operation_number
from durable._transaction import Transaction
from durable.cli._facts import Owners, status_of
from durable.cli._find import find
from durable.cli.ui._browser import Browser
from durable.run import Run

Asked = dict[str, Any]
Answer = dict[str, Any]


@contextlib.contextmanager
def _run(browser: Browser, asked: Asked) -> Iterator[Run[Any]]:
    with contextlib.closing(Engine(browser.path)) as engine:
        yield engine.get(find(browser, _text(asked, "id"), browser.path).id)


def _cancel(browser: Browser, asked: Asked) -> Answer:
    with _run(browser, asked) as run:
        run.cancel()
    return {"done": "It is told to end."}


def _retry(browser: Browser, asked: Asked) -> Answer:
    found = find(browser, _text(asked, "id"), browser.path)
    seen = status_of(found, Owners(browser))
    browser.visit(_requests.retry(found.id, SYSTEM_CLOCK.now(), trust_journal=False, seen=seen))
    return {"done": "It goes on from what failed."}


def _fork(browser: Browser, asked: Asked) -> Answer:
    """Of one operation: a new run that takes over all those before it."""
    found = find(browser, _text(asked, "id"), browser.path)
    place = (_text(asked, "branch"), asked.get("position"))
    new_id = SYSTEM_CLOCK.new_id()

    def work(transaction: Transaction) -> RunRecord:
        steps = transaction.steps(found.seq)  # here: what executes has other numbers a moment later
        if place not in [(step.branch, step.position) for step in steps]:
            msg = f"run {found.id} has no operation {place[1]!r} on branch {place[0]!r}"
            raise ValueError(msg)
        return _requests.fork(found.id, new_id, operation_number(steps, place), SYSTEM_CLOCK.now())(transaction)

    return {"done": "The new run is", "id": browser.visit(work).id}


def _signal(browser: Browser, asked: Asked) -> Answer:
    """`value` is JSON, as somebody typed it."""
    try:
        value = json.loads(_text(asked, "value"))
    except ValueError as error:
        msg = f"the value is no JSON (a text stands in double quotes): {error}"
        raise ValueError(msg) from error
    with _run(browser, asked) as run:
        run.signal(_text(asked, "name"), value)
    return {"done": "Sent."}


def _text(asked: Asked, name: str) -> str:
    value = asked.get(name)
    if not isinstance(value, str):
        msg = f"{name} is a text, not {value!r}"
        raise TypeError(msg)
    return value


ACTIONS: Final[dict[str, Callable[[Browser, Asked], Answer]]] = {
    "/api/cancel": _cancel,
    "/api/retry": _retry,
    "/api/fork": _fork,
    "/api/signal": _signal,
}

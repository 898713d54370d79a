"""Who waits for whom: which runs cannot end before the code at some place goes on, the code here for one.

A run waits for the code of its steps and of the runs that these call, which is known by the context (`SCOPE`), and for
the runs whose end its code has begun to wait for, which is known to `Watchers`. Whoever begins to wait for a run notes
it first, and looks then whether that one waits for it: the last in a circle sees all the others, and is refused.

The file has who has begun a run, and not whether it waits for that. While it executes, that is known as above. Where it
is suspended, and is all that is missing to a circle, it is set going: it replays to its wait, and looks in its turn.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Protocol

from ._active import Active
from ._execution import Execution
from ._journal import Journal
from ._model import FINISHED, RunRecord
from ._scopes import SCOPE, Branch, StepScope
from ._timer import Waker
from ._transaction import Transaction
from ._watching import Watchers
from .errors import RunConflictError

Scope = Branch | StepScope | None
"""A place in code, as `SCOPE` has it."""
Node = Execution | RunRecord
"""A run that executes here, of whatever journal, or one of the journal in question that does not."""


class Here(Protocol):
    """What this process knows of the runs of a journal: see `Runtime`."""

    journal: Journal
    watchers: Watchers
    waker: Waker | None
    active: dict[str, Active]


def execution_at(scope: Scope) -> Execution | None:
    """Whose run waits for the code at a place; nobody's for what an attempt, or the run itself, has left behind."""
    if scope is None or scope.execution.over or (isinstance(scope, StepScope) and scope.over):
        return None
    return scope.execution


def active_at(scope: Scope, here: Here) -> Active | None:
    """The same, where it is of this journal."""
    execution = execution_at(scope)
    return None if execution is None or execution.journal is not here.journal else here.active.get(execution.record.id)


def who_waits(journal: Journal) -> Execution | None:
    """The nearest run of this journal whose body, or whose step, waits for what the code here begins to wait for.

    `None` where a timeout may leave this thread behind: the run goes on then, while the thread waits still.
    """
    scope: Scope = SCOPE.get()
    while (execution := execution_at(scope)) is not None:
        if isinstance(scope, StepScope) and scope.may_be_left:
            return None
        if execution.journal is journal:
            return execution
        scope = execution.called_in
    return None


def require_no_ancestor(found: RunRecord, scope: Scope, here: Here, transaction: Transaction) -> None:
    """A call at that place does not mean the run that makes it, nor one that has called or started that."""
    if found.status not in FINISHED and found.id in _ancestors(scope, here, transaction):
        msg = f"run {found.id!r} is waiting for this call: a run cannot call itself or a run that waits for it"
        raise RunConflictError(msg)


def who_cannot_end(scope: Scope, here: Here, transaction: Transaction) -> set[str]:
    """The ids of the runs that a call at that place, which may mean several, does not mean."""
    return {*_ancestors(scope, here, transaction), *_who_wait(scope, here)}


@contextmanager
def awaiting(here: Here, run_id: str, *, for_ever: bool = True) -> Iterator[None]:
    """While the code here waits for a run to end; `RunConflictError` where that one waits for this code.

    `for_ever`: with no timeout. A wait that has one holds up nobody for good. It is refused only where nothing else can
    come of it: in the code of the run, or of a step of it.
    """
    scope = SCOPE.get()
    if scope is None:
        yield
    elif not for_ever:
        _refuse(run_id, here, _ids(_walk(scope, lambda node: [_caller(node)]), here))
        yield
    else:
        with here.watchers.awaiting(run_id, scope):
            _refuse(run_id, here, _who_wait(scope, here))
            _ask_suspended(run_id, scope, here)
            yield


def _refuse(run_id: str, here: Here, waiting: Iterator[str]) -> None:
    if run_id not in waiting:
        return
    record = here.journal.run(run_id)
    if record is not None and record.status not in FINISHED:
        msg = f"run {run_id} is waiting for this: nothing can wait for the result of a run that waits for it"
        raise RunConflictError(msg)


def _ask_suspended(run_id: str, scope: Scope, here: Here) -> None:
    """Set those going that are suspended, and with which the run that is awaited may wait for the code here."""
    run_of_seq = cache(here.journal.run_of_seq)  # a thousand children of one run may wait for this one

    def before(node: Node) -> list[Node | None]:
        parent = _parent(node, here, run_of_seq)
        return [_caller(node), *_who_await(node, here), parent if parent is not None and _is_stopped(parent) else None]

    nodes = list(_walk(scope, before))
    if run_id in _ids(nodes, here):
        assert here.waker is not None
        for stopped in filter(_is_stopped, nodes):
            here.waker.ask(_record(stopped).id)


# -- from a run to those before it -------------------------------------------------------------------------------------


def _ancestors(scope: Scope, here: Here, transaction: Transaction) -> Iterator[str]:
    """Waiting or not. Nothing is before a run that has ended: each of a chain may start the next, for years."""
    return _ids(_walk(scope, lambda node: [_caller(node), _parent(node, here, transaction.run_of_seq)]), here)


def _who_wait(scope: Scope, here: Here) -> Iterator[str]:
    return _ids(_walk(scope, lambda node: [_caller(node), *_who_await(node, here)]), here)


def _walk(scope: Scope, before: Callable[[Node], Iterable[Node | None]]) -> Iterator[Node]:
    """The runs before the code at a place, the nearest first, and each once."""
    todo: deque[Node | None] = deque([execution_at(scope)])
    seen: set[Node] = set()
    while todo:
        node = todo.popleft()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            todo.extend(before(node))


def _caller(node: Node) -> Execution | None:
    """Whose step has called the run, or the run that has called it as its child."""
    return None if isinstance(node, RunRecord) else execution_at(node.called_in)


def _who_await(node: Node, here: Here) -> Iterator[Execution | None]:
    """Whose code has begun to wait for the end of the run."""
    watchers = here.watchers if isinstance(node, RunRecord) else node.watchers
    return map(execution_at, watchers.who_await(_record(node).id))


def _parent(node: Node, here: Here, run_of_seq: Callable[[int], RunRecord | None]) -> Node | None:
    """The run that the file says has begun this one, unless it has ended."""
    record = _record(node)
    if isinstance(node, Execution) and node.parent is not None:
        return node.parent
    if record.parent is None or not _is_of(node, here):
        return None
    parent = run_of_seq(record.parent)
    if parent is None or parent.status in FINISHED:
        return None
    active = here.active.get(parent.id)
    return parent if active is None or active.execution is None else active.execution


def _is_stopped(node: Node) -> bool:
    """Whether it does not execute, or not for long: it is suspended, for one."""
    return isinstance(node, RunRecord) or node.halted is not None


def _record(node: Node) -> RunRecord:
    return node if isinstance(node, RunRecord) else node.record


def _is_of(node: Node, here: Here) -> bool:
    return isinstance(node, RunRecord) or node.journal is here.journal


def _ids(nodes: Iterable[Node], here: Here) -> Iterator[str]:
    return (_record(node).id for node in nodes if _is_of(node, here))

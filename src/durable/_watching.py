"""Who waits in this process for a run to end, whether it executes or is suspended."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from ._scopes import Branch, StepScope

T = TypeVar("T")


class OnLoop(Protocol):
    """Who waits on an event loop."""

    @property
    def waits(self) -> bool:
        """Whether it does now, and was told nothing since."""


class Watchers:
    """By run: what is to be called, from any thread, whenever an execution of it ends that is not suspended.

    It is called with that execution, an `Active`, or with `None` where something else became of the run.
    """

    def __init__(self) -> None:
        self._watchers: dict[str, list[Callable[[Any], None]]] = {}
        self._on_loops: list[OnLoop] = []
        self._awaiting: dict[str, list[Branch | StepScope]] = {}
        """By run: the code in runs, of this journal or another, that waits for its end."""
        self._guard = threading.Lock()

    @contextmanager
    def watching(self, run_id: str, watcher: Callable[[Any], None], on_loop: OnLoop | None = None) -> Iterator[None]:
        """Have `watcher` called from now on. `on_loop`: who waits, where that is no thread."""
        with self._listed(self._watchers, run_id, watcher), self.known(on_loop):
            yield

    @contextmanager
    def known(self, on_loop: OnLoop | None) -> Iterator[None]:
        """That somebody waits on an event loop, who has other ways to be told; `None`: nobody that counts."""
        own = [] if on_loop is None else [on_loop]
        with self._guard:
            self._on_loops += own
        try:
            yield
        finally:
            with self._guard:
                for each in own:
                    self._on_loops.remove(each)

    @contextmanager
    def awaiting(self, run_id: str, scope: "Branch | StepScope") -> Iterator[None]:
        """Have it known that the code at this place waits for the end of the run."""
        with self._listed(self._awaiting, run_id, scope):
            yield

    @contextmanager
    def _listed(self, lists: dict[str, list[T]], run_id: str, each: T) -> Iterator[None]:
        """Among those of the run; a run that has none is not listed."""
        with self._guard:
            lists.setdefault(run_id, []).append(each)
        try:
            yield
        finally:
            with self._guard:
                lists[run_id].remove(each)
                if not lists[run_id]:
                    del lists[run_id]

    def who_await(self, run_id: str) -> "list[Branch | StepScope]":
        """The code that waits for the end of the run."""
        with self._guard:
            return list(self._awaiting.get(run_id, ()))

    def are_there(self) -> bool:
        """Whether anybody waits for a run."""
        return bool(self._watchers)

    def wait_on_loops(self) -> bool:
        """Whether anybody waits on an event loop, and is not about to go on."""
        with self._guard:
            return any(each.waits for each in self._on_loops)

    def tell(self, run_id: str | None = None, ended: Any = None) -> None:
        """Something became of the run (`None`: of all of them); `ended` is its execution that did."""
        with self._guard:
            ids = list(self._watchers) if run_id is None else [run_id]
            watchers = [watcher for each in ids for watcher in self._watchers.get(each, ())]
        for watcher in watchers:
            watcher(ended)

"""Who waits in this process for a run to end, whether it executes or is suspended."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Watchers:
    """By run: what is to be called, from any thread, whenever an execution of it ends that is not suspended."""

    def __init__(self) -> None:
        self._watchers: dict[str, list[Callable[[], None]]] = {}
        self._guard = threading.Lock()

    @contextmanager
    def watching(self, run_id: str, watcher: Callable[[], None]) -> Iterator[None]:
        """Have `watcher` called from now on."""
        with self._guard:
            self._watchers.setdefault(run_id, []).append(watcher)
        try:
            yield
        finally:
            with self._guard:
                self._watchers[run_id].remove(watcher)
                if not self._watchers[run_id]:
                    del self._watchers[run_id]

    def are_there(self) -> bool:
        """Whether anybody waits for a run."""
        return bool(self._watchers)

    def tell(self, run_id: str | None = None) -> None:
        """Something became of the run (`None`: of all of them)."""
        with self._guard:
            ids = list(self._watchers) if run_id is None else [run_id]
            watchers = [watcher for each in ids for watcher in self._watchers.get(each, ())]
        for watcher in watchers:
            watcher()

"""Deleting runs beside an owner or without one, with a line of progress."""

from collections.abc import Callable, Iterator

from durable._clock import SYSTEM_CLOCK
from durable._progress import Progress
from durable._retention import Write, give_back
from durable.cli._reader import Reader


def delete(reader: Reader, removal: Callable[[Write], Iterator[int]]) -> tuple[int, int]:
    """Carry out a removal, and give the space back; how many runs were deleted, and how many pages given back.

    Where a process owns the journal it has as much time between two transactions as each of them takes.
    """
    is_owned, deleted, freed, least = reader.owner_pid() is not None, 0, 0, None
    with reader.visiting() as write, Progress("deleting", "runs") as progress:
        for count in _with_rests(removal(write), is_owned):
            deleted += count
            progress.reach(deleted)
        progress.what = "giving space back,"
        for left in _with_rests(give_back(write, all_of_it=True), is_owned):
            least = left if least is None else least
            freed = least
    return deleted, freed


def _with_rests(work: Iterator[int], is_owned: bool) -> Iterator[int]:
    began = SYSTEM_CLOCK.monotonic()
    for each in work:
        yield each
        if is_owned:
            SYSTEM_CLOCK.sleep(max(0.005, SYSTEM_CLOCK.monotonic() - began))
        began = SYSTEM_CLOCK.monotonic()

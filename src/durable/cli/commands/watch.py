"""`durable watch [ID]`: a run, or the list of runs, redrawn as they change; in a pipe, a line for each change."""

import argparse
from collections.abc import Callable
from typing import Final

from durable._clock import SYSTEM_CLOCK
from durable._model import FINISHED, RunRecord
from durable.cli._args import add_filters, add_id
from durable.cli._facts import Facts, Owners, facts_of, json_line, status_of
from durable.cli._find import find
from durable.cli._reader import Reader
from durable.cli._screen import Cell, Frame, Screen
from durable.cli._story import Story
from durable.cli.commands.ls import Damaged, Listing
from durable.cli.commands.show import show_story
from durable.errors import RunNotFoundError

_EACH_SECONDS: Final = 0.5
_MOST_FOLLOWED: Final = 200
"""Runs of a list that are looked at for changes in a pipe."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What may follow `durable watch`."""
    add_id(parser, nargs="?")
    add_filters(parser)
    parser.add_argument(
        "--exit-status", action="store_true", help="of a run: exit code 1 where it ends otherwise than completed"
    )
    parser.set_defaults(limit=0)


def misuse(options: argparse.Namespace) -> str:
    """Which options make no sense together; "" where they do."""
    if options.id is None:
        return "--exit-status is of a run: give its ID" if options.exit_status else ""
    filters = {name: getattr(options, name) for name in ("status", "workflow", "since", "before")}
    given = [f"--{name}" for name, value in filters.items() if value not in (None, [])]
    return f"an ID names one run: leave {' and '.join(given)} out" if given else ""


def run(options: argparse.Namespace, screen: Screen, reader: Reader) -> int:
    """The command; returns its exit code."""
    if options.id is None:
        return _follow_list(options, screen, reader)
    found = find(reader, options.id, options.db)
    if screen.is_drawable and not options.json:
        status = _draw_run(options, screen, reader, found)
    else:
        status = _print_run(options, screen, reader, found)
    return int(options.exit_status and status != "completed")


def _is_over(status: str) -> bool:
    return status in FINISHED or status == "blocked"


# -- on a terminal ----------------------------------------------------------------------------------------------------


def _draw_run(options: argparse.Namespace, screen: Screen, reader: Reader, run: RunRecord) -> str:
    """Redraw a run until it is over or somebody has seen enough; its last picture stays. Returns its status."""

    def picture(frame: Frame) -> str | None:
        story = Story(reader, _again(reader, run), utc=options.utc)
        show_story(story, frame)
        return story.facts.status if _is_over(story.facts.status) else None

    return _drawn(screen, picture)


def _drawn(screen: Screen, picture: Callable[[Frame], str | None]) -> str:
    """Draw pictures until one says how it ended; leave that one on the terminal."""
    with screen.page():
        while True:
            frame = screen.frame()
            ended = picture(frame)
            if ended is not None:
                break
            screen.draw(frame.fitting(), frame.height)
            SYSTEM_CLOCK.sleep(_EACH_SECONDS)
    for line in frame.lines:
        screen.write(line)
    return ended


def _follow_list(options: argparse.Namespace, screen: Screen, reader: Reader) -> int:
    """Until somebody has seen enough: a list has no end."""
    if not screen.is_drawable or options.json:
        _print_list(options, screen, reader)

    def picture(frame: Frame) -> str | None:
        shown = argparse.Namespace(**{**vars(options), "limit": max(1, frame.height - 2)})
        Listing(shown, frame, reader).print()
        return None

    _drawn(screen, picture)
    return 0


# -- in a pipe --------------------------------------------------------------------------------------------------------


def _print_run(options: argparse.Namespace, screen: Screen, reader: Reader, run: RunRecord) -> str:
    """A line for each change of a run, as `durable ls` has it, until it is over. Returns its status."""
    seen = None
    while True:
        listing = Listing(options, screen, reader)
        found = _again(reader, run)
        owners = Owners(reader)
        entry = facts_of(reader, found, status_of(found, owners), owners)
        if seen != (seen := _state(entry)):
            _print(listing, entry, options, screen)
        if _is_over(entry.status):
            return entry.status
        SYSTEM_CLOCK.sleep(_EACH_SECONDS)


def _print_list(options: argparse.Namespace, screen: Screen, reader: Reader) -> None:
    """A line for each change of the newest runs."""
    seen: dict[str, object] = {}
    while True:
        listing = Listing(options, screen, reader)
        newest = [entry for entry, _ in zip(listing.entries(listing.keys()), range(_MOST_FOLLOWED), strict=False)]
        for entry in reversed(newest):
            key = entry.message if isinstance(entry, Damaged) else entry.run.id
            if seen.get(key) != (state := _state(entry)):
                _print(listing, entry, options, screen)
                seen[key] = state
        SYSTEM_CLOCK.sleep(_EACH_SECONDS)


def _print(listing: Listing, entry: Facts | Damaged, options: argparse.Namespace, screen: Screen) -> None:
    if options.json:
        screen.write(json_line(listing.object(entry)))
    elif screen.width is None:
        screen.table((), [listing.row(entry)], [])
    else:
        screen.line(Cell("  ".join(cell.text for cell in listing.row(entry) if cell.text)))
    screen.flush()


def _state(entry: Facts | Damaged) -> object:
    """What counts as a change: not that time goes by."""
    if isinstance(entry, Damaged):
        return entry
    step = entry.step
    return entry.status, entry.tally, step and (step.branch, step.position, step.status, step.attempt)


def _again(reader: Reader, run: RunRecord) -> RunRecord:
    """As it is now. The key of a run that was deleted may be that of a new one."""
    found = reader.run_of_seq(run.seq)
    if found is None or found.id != run.id:
        msg = f"run {run.id} of {run.workflow!r} was deleted while it was watched"
        raise RunNotFoundError(msg)
    return found

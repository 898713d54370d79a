"""The command line as it is typed: commands, options, and what they may be."""

import argparse
import os
import re
from typing import Any, Final

from durable._model import RUN_STATUSES

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
DEFAULT_LIMIT: Final = 50


class Version(argparse.Action):
    """`--version`, looked up only when asked: importlib.metadata is slow to import."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print it and exit."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("durable-functions")
        except PackageNotFoundError:  # run from its source
            found = "(not installed)"
        print(f"durable {found}")
        parser.exit()


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The options of a command line; exits with 2 and a usage line where it makes no sense."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.error("which command? " + ", ".join(parser.get_default("commands")))
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="durable",
        description="Look into a journal: what has run, what is running, what waits and why.",
        epilog="Exit codes: 0 all is well, 1 an error, 2 wrong usage, 3 no such run, or several.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=Version, nargs=0, help="print the version")
    _add_journal(parser, os.environ.get("DURABLE_DB") or "durable.db")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for add in (_add_ls, _add_show):
        command = add(commands)
        _add_journal(command, argparse.SUPPRESS)  # else it would overrule the one before the command
        command.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.set_defaults(commands=list(commands.choices))
    return parser


def _add_journal(parser: argparse.ArgumentParser, default: str) -> None:
    help_text = "the journal; default: $DURABLE_DB, else durable.db"
    parser.add_argument("--db", metavar="PATH", default=default, type=_path, help=help_text)


def _add_ls(commands: Any) -> argparse.ArgumentParser:
    ls: argparse.ArgumentParser = commands.add_parser(
        "ls", help="list runs, newest first", description="List runs, newest first.", allow_abbrev=False
    )
    ls.add_argument(
        "--status", metavar="STATUS", nargs="+", action="extend", default=[], choices=RUN_STATUSES,
        help="only these: " + ", ".join(RUN_STATUSES),
    )  # fmt: skip
    ls.add_argument("--workflow", metavar="NAME", help="only runs of this workflow")
    ls.add_argument("--since", metavar="AGE", type=_age, help="created this long ago or later: 30s, 10m, 2h, 3d")
    ls.add_argument("--before", metavar="AGE", type=_age, help="created longer ago than this")
    ls.add_argument(
        "--limit", metavar="N", type=_limit, default=DEFAULT_LIMIT,
        help=f"at most so many, 0 for all; default: {DEFAULT_LIMIT}",
    )  # fmt: skip
    return ls


def _add_show(commands: Any) -> argparse.ArgumentParser:
    show: argparse.ArgumentParser = commands.add_parser(
        "show", help="tell all about one run", allow_abbrev=False,
        description="Tell all about one run: its input, its steps with their attempts, its result or error.",
    )  # fmt: skip
    show.add_argument("id", metavar="ID", type=_id, help="the id of a run, or a beginning that no other id has")
    return show


def _age(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    if match is None:
        msg = f"{text!r} is no age: write a number and s, m, h, d or w, as 30s, 10m, 2h, 3d"
        raise argparse.ArgumentTypeError(msg)
    return float(match[1]) * _UNITS[match[2]]


def _limit(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        msg = f"{text!r} is no limit: write a whole number, 0 for all"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _id(text: str) -> str:
    if not text:
        msg = "an id has at least one letter: durable ls lists them"
        raise argparse.ArgumentTypeError(msg)
    return text


def _path(text: str) -> str:
    if not text or "\0" in text:
        msg = "the path of a journal is empty"
        raise argparse.ArgumentTypeError(msg)
    return text

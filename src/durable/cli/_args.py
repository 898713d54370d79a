"""The command line as it is typed: which command, the options that all have, and what an option may be."""

import argparse
import importlib
import os
import re
from collections.abc import Mapping
from typing import Any, Final

from durable._model import RUN_STATUSES

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


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


class Help(argparse.HelpFormatter):
    """Help as wide as the terminal, which is asked here: argparse would import shutil for that, for each command."""

    def __init__(self, prog: str) -> None:
        try:
            columns = int(os.environ.get("COLUMNS") or os.get_terminal_size().columns or 80)
        except (OSError, ValueError):
            columns = 80
        super().__init__(prog, width=max(20, columns - 2))


class Commands(argparse._SubParsersAction):  # type: ignore[type-arg]  # its parsers are plain ones
    """The choice of a command: for that one, and no other, a parser is made and its module imported."""

    def offer(self, name: str, what: str) -> None:
        """Have the help list a command."""
        self._choices_actions.append(self._ChoicesPseudoAction(name, (), what))
        self.choices[name] = what

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        """Parse the rest of the line as the command wants it. What is wrong there is told with the command's usage."""
        if values[0] in self.choices:
            self.load(values[0])
        super().__call__(parser, namespace, values, option)
        if unknown := getattr(namespace, argparse._UNRECOGNIZED_ARGS_ATTR, None):
            self.choices[values[0]].error(f"unrecognized arguments: {' '.join(unknown)}")
        misuse = getattr(namespace.implementation, "misuse", None)
        if misuse is not None and (what := misuse(namespace)):
            self.choices[values[0]].error(what)

    def load(self, name: str) -> argparse.ArgumentParser:
        """The parser of a command with all its options."""
        command = importlib.import_module(f"durable.cli.commands.{name}")
        what = self.choices.pop(name)
        description = f"{what[0].upper()}{what[1:]}."
        parser: argparse.ArgumentParser
        parser = self.add_parser(name, description=description, allow_abbrev=False, formatter_class=Help)
        _add_journal(parser, argparse.SUPPRESS)  # else it would overrule the one before the command
        command.add_options(parser)
        if getattr(command, "PRINTS", True):
            _add_output(parser, argparse.SUPPRESS)
        parser.set_defaults(implementation=command)
        return parser


def parse(commands: Mapping[str, str], arguments: list[str] | None) -> tuple[Any, argparse.Namespace]:
    """The module of a command, and its options; exits with 2 and a usage line where they make no sense."""
    parser, _ = parsers(commands)
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.error("which command? " + ", ".join(commands))
    if not getattr(options.implementation, "PRINTS", True) and (options.json or options.utc):
        parser.error(f"--json and --utc are for commands that print what they find, and {options.command} does not")
    return options.implementation, options


def parsers(commands: Mapping[str, str]) -> tuple[argparse.ArgumentParser, Commands]:
    """The parser of the whole line, and those of the commands, not yet loaded."""
    parser = argparse.ArgumentParser(
        prog="durable",
        description="Look into a journal, what has run, what is running, what waits and why; and steer its runs.",
        epilog="Exit codes: 0 all is well, 1 an error, 2 wrong usage, 3 no such run, or several.",
        allow_abbrev=False,
        formatter_class=Help,
    )
    parser.add_argument("--version", action=Version, nargs=0, help="print the version")
    _add_journal(parser, journal_by_default())
    _add_output(parser, default=False)
    choice = parser.add_subparsers(action=Commands, dest="command", metavar="COMMAND", title="commands")
    assert isinstance(choice, Commands)
    for name, what in commands.items():
        choice.offer(name, what)
    return parser, choice


def journal_by_default() -> str:
    """The journal where `--db` does not name one."""
    return os.environ.get("DURABLE_DB") or "durable.db"


def _add_journal(parser: argparse.ArgumentParser, default: str) -> None:
    help_text = "the journal; default: $DURABLE_DB, else durable.db"
    parser.add_argument("--db", metavar="PATH", default=default, type=path, help=help_text)


def _add_output(parser: argparse.ArgumentParser, default: Any) -> None:
    parser.add_argument("--json", action="store_true", default=default, help="one JSON object a line")
    utc = "times as the journal has them: exact, and in UTC"
    parser.add_argument("--utc", action="store_true", default=default, help=utc)


# -- options that several commands have -------------------------------------------------------------------------------


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Which runs: by status, workflow and age."""
    parser.add_argument(
        "--status", metavar="STATUS", nargs="+", action="extend", default=[], choices=RUN_STATUSES,
        help="only these: " + ", ".join(RUN_STATUSES),
    )  # fmt: skip
    parser.add_argument("--workflow", metavar="NAME", help="only runs of this workflow")
    add_ages(parser)


def add_ages(parser: argparse.ArgumentParser) -> None:
    """Which runs: by age."""
    parser.add_argument("--since", metavar="AGE", type=age, help="created this long ago or later: 30s, 10m, 2h, 3d")
    parser.add_argument("--before", metavar="AGE", type=age, help="created longer ago than this")


def add_id(parser: argparse.ArgumentParser, **options: Any) -> None:
    """Which run."""
    help_text = "the id of a run, or a beginning that no other id has"
    parser.add_argument("id", metavar="ID", type=run_id, help=help_text, **options)


def age(text: str) -> float:
    """A length of time, in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    if match is None:
        msg = f"{text!r} is no age: write a number and s, m, h, d or w, as 30s, 10m, 2h, 3d"
        raise argparse.ArgumentTypeError(msg)
    return float(match[1]) * _UNITS[match[2]]


def seconds(text: str) -> float:
    """A number of seconds."""
    if not re.fullmatch(r"\d+(\.\d+)?", text) or not float(text):
        msg = f"{text!r} is no number of seconds: write one above 0, as 30 or 0.5"
        raise argparse.ArgumentTypeError(msg)
    return float(text)


def limit(text: str) -> int:
    """A number of runs, 0 for all."""
    if not re.fullmatch(r"[0-9]{1,18}", text):
        msg = f"{text!r} is no limit: write a whole number, 0 for all"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def run_id(text: str) -> str:
    """The id of a run, or its beginning."""
    if not text:
        msg = "an id has at least one letter: durable ls lists them"
        raise argparse.ArgumentTypeError(msg)
    return text


def path(text: str) -> str:
    """The path of a file."""
    if not text or "\0" in text:
        msg = "the path of a file is not empty"
        raise argparse.ArgumentTypeError(msg)
    return text


def json_value(text: str) -> Any:
    """A value that is typed as JSON."""
    import json

    try:
        return json.loads(text)
    except ValueError as error:
        msg = f"{text!r} is no JSON ({error}): texts have quotes, as '\"yes\"'"
        raise argparse.ArgumentTypeError(msg) from error

"""The command `durable`: looks into a journal, and steers its runs.

Most commands only read, or leave word for the owner, so that they may run beside it or without one. A command is a
module of `commands/`, which is imported when it is called. Exit codes: 0 all is well, 1 an error, 2 wrong usage, 3 no
such run or several.
"""

import contextlib
import os
import sys
from typing import Final

from durable._clock import SYSTEM_CLOCK
from durable.cli._args import parse
from durable.cli._reader import Reader
from durable.cli._screen import Screen
from durable.cli._text import visible
from durable.errors import DurableError, RunNotFoundError

__all__ = ["main"]

COMMANDS: Final = {
    "ls": "list runs, newest first",
    "show": "tell all about one run: its input, its steps with their attempts, its result or error",
    "step": "tell all about one step of a run: its input, its result, and each attempt with its traceback",
    "ui": "show the runs in the browser, live, until Ctrl-C",
    "stats": "count runs by workflow and status, and tell how long steps take and what fails",
    "watch": "follow a run, or the list of runs, as they change",
    "start": "leave a run of a workflow for the owner of the journal to begin",
    "cancel": "cancel a run, and the runs that it called or started",
    "retry": "go on with a failed or blocked run, from what failed",
    "fork": "start a new run that takes over the first steps of another one",
    "signal": "send a run a value, or an error, that it waits for",
    "run": "own the journal: go on with its runs and do what others ask for, until Ctrl-C",
    "rm": "delete runs that have ended",
    "gc": "delete runs that ended long ago, and make the file smaller",
    "doctor": "look for what is wrong with a journal and its runs, and say what to do",
    "check": "tell which unfinished runs would block with the code of a module, for use before it is deployed",
    "export": "write runs with their steps as lines of JSON",
    "backup": "copy a journal as it is at one moment, also while its owner runs",
}
"""Each command and what it does, in the order of the help."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line, or `arguments`; return the exit code."""
    command, options = parse(COMMANDS, arguments)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a text file
    screen = Screen()
    reader = Reader(options.db)
    try:
        code: int = command.run(options, screen, reader)
        screen.flush()
    except RunNotFoundError as error:
        return _fail(3, str(error))
    except DurableError as error:
        return _fail(1, str(error))
    except BrokenPipeError:  # whoever reads has seen enough
        return _without_output(0)
    except OSError as error:
        _without_output(1)
        return _fail(1, f"cannot write the output: {error}")
    except KeyboardInterrupt:
        return _without_output(130)
    except Exception as error:  # a record that nobody but a stranger can have written, its checksum included
        return _fail(1, f"{options.db} holds what durable cannot make sense of ({type(error).__name__}: {error})")
    finally:
        reader.close(SYSTEM_CLOCK.now())
    return code


def _fail(code: int, message: str) -> int:
    """Say what went wrong, after everything that was found before it."""
    with contextlib.suppress(OSError):
        if sys.stdout is not None:
            sys.stdout.flush()
        for number, line in enumerate(message.split("\n")):
            print(visible(line if number else f"durable: {line}"), file=sys.stderr)
    return code


def _without_output(code: int) -> int:
    """Nothing more is to be written: also not by the interpreter, which flushes when it ends."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code

"""`durable start MODULE:WORKFLOW JSON`: leave a run for the owner of the journal to begin."""

import argparse
from typing import Any

from durable._active import Request, new_run, require_same_call
from durable._clock import SYSTEM_CLOCK
from durable._model import RunRecord
from durable._requests import begin
from durable._transaction import Transaction
from durable.cli._args import json_value
from durable.cli._asking import tell
from durable.cli._program import journal_of, load, workflow_of
from durable.cli._reader import Reader
from durable.cli._screen import Screen
from durable.errors import DurableError, JournalError, SerializationError


def add_options(parser: argparse.ArgumentParser) -> None:
    """What may follow `durable start`."""
    parser.add_argument(
        "workflow", metavar="MODULE:WORKFLOW", type=_target,
        help="where the workflow is: a module, by its name or its file, and the workflow in it",
    )  # fmt: skip
    parser.add_argument(
        "arguments", metavar="JSON", type=_arguments, nargs="?", default={},
        help="an object: arguments by name; an array: positional ones; default: none",
    )  # fmt: skip
    parser.add_argument("--id", metavar="ID", help="the id of the run; default: as the workflow says")


def run(options: argparse.Namespace, screen: Screen, _: Reader) -> int:
    """The command; returns its exit code."""
    module, name = options.workflow
    load(module)
    workflow = workflow_of(module, name)
    request = _request(workflow, options)
    journal = Reader(journal_of(options.db))  # it may not be that of `reader`, which is not opened
    if not journal.has_tables() and journal.owner_pid() is None:
        msg = f"no journal in {journal.path}: durable run {module} makes one, or the program when it executes something"
        raise JournalError(msg)
    now = SYSTEM_CLOCK.now()
    run_id = request.run_id or SYSTEM_CLOCK.new_id()

    def work(transaction: Transaction) -> tuple[RunRecord, bool]:
        found = transaction.run_of_id(run_id)
        if found is None:
            return begin(new_run(request, run_id, now), now)(transaction), True
        require_same_call(found, request)
        return found, False

    started, is_new = journal.visit(work)
    what = f"is {'queued' if is_new else f'there already, and {started.status}'}"
    return tell("start", started, f"run {started.id} of {started.workflow} {what}", options, screen, journal)


def _request(workflow: Any, options: argparse.Namespace) -> Request:
    try:
        if options.id is not None:
            workflow = workflow.with_options(id=options.id)
        args, kwargs = workflow.signature.read_call(options.arguments, f"workflow {workflow.name!r}")
        request: Request = workflow._request(args, kwargs, "start")
    except (TypeError, ValueError, SerializationError) as error:
        raise DurableError(str(error)) from error
    return request


def _target(text: str) -> tuple[str, str]:
    module, _, name = text.rpartition(":")
    if not module or not name:
        msg = f"{text!r} names no workflow: write MODULE:WORKFLOW, such as shop:sell or shop.py:sell"
        raise argparse.ArgumentTypeError(msg)
    return module, name


def _arguments(text: str) -> Any:
    value = json_value(text)
    if not isinstance(value, (dict, list)):
        msg = f"{text!r} is neither an object (arguments by name) nor an array (positional ones): write [{text}]"
        raise argparse.ArgumentTypeError(msg)
    return value

"""`durable ui`: the runs of a journal in the browser, for as long as the command runs."""

import argparse
import contextlib
import os
import re
import sys
import tempfile
import threading
from typing import Final

from durable._clock import SYSTEM_CLOCK
from durable.cli._reader import Reader
from durable.cli._screen import Cell, Screen
from durable.cli.ui._server import Server
from durable.errors import DurableError

PRINTS: Final = False
"""There is nothing that `--json` could print."""
_PORT: Final = 8765
_LARGEST_PORT: Final = 65_535


def add_options(parser: argparse.ArgumentParser) -> None:
    """What may stand after the command."""
    port = f"the port on 127.0.0.1; default: {_PORT}, or one that is free"
    parser.add_argument("--port", metavar="N", type=_port, help=port)
    parser.add_argument("--write", action="store_true", help="let the page cancel, retry, fork and signal runs")
    parser.add_argument("--no-browser", action="store_true", help="open no browser")


def run(options: argparse.Namespace, screen: Screen, reader: Reader) -> int:
    """Serve the page until Ctrl-C."""
    try:
        server = _serve(options.port, reader.path, SYSTEM_CLOCK.secret() if options.write else "")
    except OSError as error:
        msg = f"cannot serve on port {options.port} of 127.0.0.1: {error.strerror}"
        raise DurableError(msg) from error
    with server, tempfile.TemporaryDirectory(prefix="durable-ui-") as folder:
        screen.line(Cell(f"{reader.path} is shown at "), Cell(server.url, "bold"), Cell("  (Ctrl-C ends it)", "dim"))
        screen.flush()
        if not options.no_browser:
            threading.Thread(target=_open_browser, args=(server.url, folder), daemon=True).start()
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0


def _serve(port: int | None, path: str, token: str) -> Server:
    """On the port that was asked for, else on the usual one, else on any that is free."""
    if port is not None:
        return Server(path, port, token=token)
    try:
        return Server(path, _PORT, token=token)
    except OSError:
        return Server(path, 0, token=token)


def _open_browser(url: str, folder: str) -> None:
    """Only where there is a screen: a browser of the terminal would take the terminal over.

    The browser gets the address in a file that nobody else can read: what it is started with, all users can see.
    """
    if sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        import webbrowser

        if "#" in url:
            path = os.path.join(folder, "durable.html")
            with open(path, "w", encoding="ascii") as file:
                file.write(f'<!doctype html><meta http-equiv="refresh" content="0; url={url}">')
            url = "file://" + path
        webbrowser.open(url)


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > _LARGEST_PORT:
        msg = f"{text!r} is no port: write a number up to {_LARGEST_PORT}, 0 for any that is free"
        raise argparse.ArgumentTypeError(msg)
    return int(text)

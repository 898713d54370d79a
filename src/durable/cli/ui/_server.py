"""The server of the page: on this machine only, for one journal, with a thread a connection of the browser.

Whoever asks has to name this machine (else any web site could have its own name point here), and gets headers that let
the page load nothing from elsewhere, and no other page read what is here. What changes a run needs `--write` and the
token that was printed at the start, and has to come from this page itself.
"""

import hmac
import http.server
import json
import os
import re
import socketserver
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from durable.cli.ui import _views as views
from durable.cli.ui._actions import ACTIONS
from durable.cli.ui._browser import Browser, Filters, Watch
from durable.errors import DurableError, JournalError, JournalLockedError, RunNotFoundError

_FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    **{
        f"/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8")
        for name in ("first", "main", "dom", "api", "list", "run", "timeline", "axis", "step", "values", "actions")
    },
}
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_HOST: Final = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?", re.IGNORECASE)
_IDLE_SECONDS: Final = 60
_LARGEST_PAGE: Final = 500
_LARGEST_BODY: Final = 1_000_000


class Refused(Exception):  # noqa: N818 - it is an answer
    """The request is not answered: the code of HTTP, and why."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Listens on 127.0.0.1. `port` 0: one that is free."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, path: str, port: int, *, token: str = "") -> None:
        """`token`: what has to come with every request that changes a run; "": none does. `OSError`: port is taken."""
        self.path = path
        self.token = token
        self.watch = Watch(Browser(path, beside_writer=bool(token)))
        super().__init__(("127.0.0.1", port), Handler)

    @property
    def url(self) -> str:
        """Where the page is. The token is in the fragment, which no browser sends anywhere."""
        return f"http://127.0.0.1:{self.server_address[1]}/" + (f"#token={self.token}" if self.token else "")

    def handle_error(self, *_: Any) -> None:
        """A browser that goes away in the middle is no error."""


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection of the browser, with a reader of its own."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    disable_nagle_algorithm = True

    def setup(self) -> None:
        """Called when the connection is made."""
        super().setup()
        self.browser = Browser(self.server.path, beside_writer=bool(self.server.token))

    def finish(self) -> None:
        """Called when it ends."""
        self.browser.leave()
        super().finish()

    def do_GET(self) -> None:
        """A file of the page, or what it asks for."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """A change of a run."""
        self._answer(self._post)

    def _answer(self, respond: Callable[[], tuple[bytes, str]]) -> None:
        """Whatever goes wrong is told to the page, in the same form."""
        code = 200
        try:
            self._require_this_machine()
            body, kind = respond()
        except Refused as error:
            code, (body, kind) = error.code, _json({"error": str(error)})
            self.close_connection = True  # the rest of what was sent is not read
        except RunNotFoundError as error:
            code, (body, kind) = 404, _json({"error": str(error)})
        except DurableError as error:
            unreadable = isinstance(error, JournalError) and not isinstance(error, JournalLockedError)
            code = 503 if unreadable else 409
            body, kind = _json({"error": str(error), "type": type(error).__name__})
        self._send(code, body, kind)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library refuses by itself: it is told in the same form."""
        self.close_connection = True
        self._send(code, *_json({"error": explain or message or "this is no question"}))

    def _send(self, code: int, body: bytes, kind: str) -> None:
        self.send_response_only(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _require_this_machine(self) -> None:
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or not _HOST.fullmatch(hosts[0].strip()):
            msg = "this page is served to this machine alone: ask for http://127.0.0.1"
            raise Refused(421, msg)

    def _get(self) -> tuple[bytes, str]:
        address = urlsplit(self.path)
        if address.path in _FILES:
            name, kind = _FILES[address.path]
            return _file(name), kind
        if address.path == "/api/changes":
            return _json({"changes": self.server.watch.changes()})
        view = _VIEWS.get(address.path)
        if view is None:
            raise Refused(404, "there is no such page")
        asked = {name: values[-1] for name, values in parse_qs(address.query, keep_blank_values=True).items()}
        self.browser.refresh()
        return _json({"writes": bool(self.server.token), **view(self.browser, asked)})

    def _post(self) -> tuple[bytes, str]:
        action = ACTIONS.get(urlsplit(self.path).path)
        self._require_permission()
        asked = self._body()
        if action is None:
            raise Refused(404, "there is no such action")
        self.browser.refresh()
        try:
            return _json(action(self.browser, asked))
        except (TypeError, ValueError) as error:
            raise Refused(400, str(error)) from error

    def _require_permission(self) -> None:
        """From this page, by somebody who has the token. Each alone would do; a mistake in one is then no hole."""
        if not self.server.token:
            raise Refused(403, "this page only reads: start it with durable ui --write")
        if self.headers.get_all("Origin") != [f"http://{self.headers['Host'].strip()}"]:
            raise Refused(403, "runs are changed from the page itself, and from no other site")
        given = self.headers.get("X-Durable-Token", "").encode(errors="replace")
        if not hmac.compare_digest(given, self.server.token.encode()):
            raise Refused(403, "the token is missing or wrong: open the address that durable ui --write printed")

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if self.headers.get_content_type() != "application/json" or not re.fullmatch(r"[0-9]{1,9}", length):
            raise Refused(400, "what is asked for is one object of JSON")
        if int(length) > _LARGEST_BODY:
            raise Refused(413, f"more than {_LARGEST_BODY:,} bytes")
        try:
            asked = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise Refused(400, f"this is no JSON: {error}") from error
        if not isinstance(asked, dict):
            raise Refused(400, "what is asked for is one object of JSON")
        return asked

    def log_message(self, *_: Any) -> None:
        """Nothing: the terminal belongs to the user."""


def _file(name: str) -> bytes:
    """A file of the page, also when the package is imported from a zip archive."""
    return bytes(globals()["__loader__"].get_data(os.path.join(os.path.dirname(__file__), "page", name)))


def _json(tree: dict[str, Any]) -> tuple[bytes, str]:
    return json.dumps(tree).encode(), "application/json"


# -- what may be asked for --------------------------------------------------------------------------------------------


def _runs(browser: Browser, asked: dict[str, str]) -> dict[str, Any]:
    limit = min(_number(asked, "limit") or 1, _LARGEST_PAGE)
    return views.list_view(browser, _filters(asked), _number(asked, "below"), limit)


def _counts(browser: Browser, asked: dict[str, str]) -> dict[str, Any]:
    return views.counts_view(browser, _filters(asked))


def _run(browser: Browser, asked: dict[str, str]) -> dict[str, Any]:
    return views.run_view(browser, asked.get("id", ""))


def _step(browser: Browser, asked: dict[str, str]) -> dict[str, Any]:
    return views.step_view(browser, asked.get("id", ""), asked.get("branch", ""), _number(asked, "position") or 0)


_VIEWS: Final = {
    "/api/runs": _runs,
    "/api/counts": _counts,
    "/api/run": _run,
    "/api/step": _step,
}


def _filters(asked: dict[str, str]) -> Filters:
    return Filters(
        asked.get("status", ""),
        asked.get("workflow", ""),
        asked.get("text", "").encode(errors="replace").decode(),
        _time(asked, "since"),
        _time(asked, "before"),
    )


def _number(asked: dict[str, str], name: str) -> int | None:
    text = asked.get(name, "")
    if not text:
        return None
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise Refused(400, f"{name} is a whole number, not {text!r}")
    return int(text)


def _time(asked: dict[str, str], name: str) -> float | None:
    text = asked.get(name, "")
    if not text:
        return None
    if not re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,9})?", text):
        raise Refused(400, f"{name} is seconds since 1970, not {text!r}")
    return float(text)

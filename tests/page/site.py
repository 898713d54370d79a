"""A `durable ui` that runs, and is asked as a browser asks it."""

import contextlib
import http.client
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode


class Site:
    """A `durable ui` that runs, as a browser asks it."""

    def __init__(self, port: int, token: str, process: "subprocess.Popen[str]") -> None:
        self.port = port
        self.token = token
        self.process = process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def ask(self, path: str, *, method: str = "GET", body: bytes | None = None, **headers: str) -> Any:
        """Status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def get(self, name: str, **parameters: object) -> Any:
        status, _, body = self.ask(f"/api/{name}?{urlencode(parameters)}")
        assert status == 200, body
        return json.loads(body)

    def refusal(self, name: str, **parameters: object) -> tuple[int, str]:
        status, _, body = self.ask(f"/api/{name}?{urlencode(parameters)}")
        assert status != 200
        return status, json.loads(body)["error"]

    def runs(self, *, limit: int = 100, **parameters: object) -> list[dict[str, Any]]:
        """Newest first. A page ends early where it takes too long, and the next one goes on."""
        found, end = [], ""
        while end is not None and len(found) < limit:
            page = self.get("runs", limit=limit, **parameters, **({"below": end} if end else {}))
            found += page["runs"]
            end = page["end"]
        return found

    def ids(self, **parameters: Any) -> list[str]:
        """The same, of each the id."""
        return [run["id"] for run in self.runs(**parameters)]


@contextlib.contextmanager
def serving(folder: Any, *arguments: str) -> Iterator[Site]:
    command = [sys.executable, "-m", "durable", "ui", "--no-browser", *(arguments or ("--port", "0"))]
    process = subprocess.Popen(command, cwd=folder.path, env=folder.environment, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:(\d+)/(?:#token=([0-9a-f]{32}))?\s", line)
        yield Site(int(address[1]), address[2] or "", process)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        process.stdout.close()


@contextlib.contextmanager
def ordering(folder: Any, order: str) -> Iterator["subprocess.Popen[str]"]:
    """The program of the demo, at work on an order."""
    command = [sys.executable, "order_item.py", order]
    with subprocess.Popen(
        command, cwd=folder.path, env=folder.environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()

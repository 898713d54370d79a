"""Async: fetches pages side by side from a server that fails now and then."""

import asyncio
import threading
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import durable

PAGES = 12
asked = Counter[str]()


class Flaky(BaseHTTPRequestHandler):
    """Answers, but for every third page, which it answers when asked for the second time."""

    def do_GET(self) -> None:
        asked[self.path] += 1
        down = int(self.path.removeprefix("/")) % 3 == 0 and asked[self.path] < 2
        self.send_response(503 if down else 200)
        self.end_headers()
        self.wfile.write(f"this is page {self.path}".encode())

    def log_message(self, format: str, *args: object) -> None: ...


server = ThreadingHTTPServer(("127.0.0.1", 0), Flaky)


class ServerError(Exception): ...


@dataclass(frozen=True)
class Page:
    path: str
    text: str


@durable.step(retry=durable.RetryPolicy(initial_interval=0.05), timeout=5.0)
async def fetch(path: str) -> Page:
    # The address is no argument: the server has a new port after a restart, the page is the same.
    reader, writer = await asyncio.open_connection("127.0.0.1", server.server_port)
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    if " 200 " not in head:
        raise ServerError(head.splitlines()[0])
    return Page(path, body)


@durable.workflow(id="fetch-{count}-pages")
async def fetch_pages(count: int) -> list[Page]:
    return await asyncio.gather(*(fetch(f"/{number}") for number in range(1, count + 1)))


async def main() -> None:
    durable.resume()
    pages = await fetch_pages(PAGES)
    print(f"{len(pages)} pages, from {pages[0].path} to {pages[-1].path}")
    print(f"{asked.total()} requests")


if __name__ == "__main__":
    threading.Thread(target=server.serve_forever, daemon=True).start()
    asyncio.run(main())
    server.shutdown()
    server.server_close()

# `python examples/fetch_pages.py` prints
#     12 pages, from /1 to /12
#     16 requests

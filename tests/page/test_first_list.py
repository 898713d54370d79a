"""The first list is asked for before the page is there to draw it. Whatever comes first, nothing is lost by it."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from durable.cli.ui._server import Handler, Server
from tests.page.browser import Browser


class Gate(Handler):
    """Answers what is held back only when it is let go."""

    server: "Gated"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.asked.append(path)
        self.server.held.get(path, self.server.open).wait(60)
        super().do_GET()
        self.server.answered.append(path)


class Gated(Server):
    """The server of the page, which notes what it is asked for and holds some of it back."""

    def __init__(self, path: Path, *held: str) -> None:
        self.asked: list[str] = []
        self.answered: list[str] = []
        self.held = {name: threading.Event() for name in held}
        self.open = threading.Event()
        self.open.set()
        super().__init__(str(path), 0)
        self.RequestHandlerClass = Gate

    def let_go(self) -> None:
        for gate in self.held.values():
            gate.set()


@contextlib.contextmanager
def holding(folder: Any, *held: str) -> Iterator[Gated]:
    with Gated(folder.path / "durable.db", *held) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.let_go()
            server.shutdown()
            thread.join()


def test_a_list_that_comes_before_the_modules_that_draw_it(shop: Any, hasty: Browser) -> None:
    with holding(shop, "/run.js") as server:
        hasty.driver.get(server.url)
        hasty.wait(lambda: "/api/runs" in server.answered)
        hasty.press("j")
        assert hasty.ids() == []  # nothing is in sight that could be chosen, and not be shown
        server.let_go()
        hasty.lists("pages", "order-5", "order-4", "order-3", "order-2", "order-1", "moody")
        hasty.click(".row[data-id=order-3]")
        hasty.sees("Failed after", ".story")


def test_a_list_that_comes_after_the_modules_that_draw_it(shop: Any, hasty: Browser) -> None:
    with holding(shop, "/api/runs") as server:
        hasty.driver.get(f"{server.url}#run=order-1&status=failed")
        hasty.sees("Completed in", ".story")
        hasty.press("j", "?")
        hasty.sees("next and previous", "#keys")
        assert hasty.ids() == []
        assert not {"/api/changes", "/api/counts"} & {*server.asked}  # they would take from the list's time
        server.let_go()
        hasty.lists("order-3")
        hasty.sees("completed\n2", "#statuses")


def test_there_is_no_journal_yet(folder: Any, hasty: Browser) -> None:
    with holding(folder, "/main.js") as server:
        hasty.driver.get(server.url)
        hasty.wait(lambda: "/api/runs" in server.answered)
        server.let_go()
        hasty.sees("no journal in", "#trouble")
        folder.run('buy({"id": 1, "item": "tea"})')
        hasty.lists("order-1")
        hasty.wait(lambda: not hasty.find("#trouble").is_displayed())


def test_filters_of_the_address_are_those_of_the_first_list(shop: Any, hasty: Browser) -> None:
    with holding(shop, "/list.js") as server:
        hasty.driver.get(f"{server.url}#workflow=buy&text=tea&status=completed")
        hasty.wait(lambda: "/api/runs" in server.answered)
        server.held["/api/runs"] = threading.Event()  # it is not asked again for what is drawn now
        server.held["/list.js"].set()
        hasty.lists("order-2")

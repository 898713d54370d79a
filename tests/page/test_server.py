"""What the server of the page tells, and whom."""

import contextlib
import re
import socket
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from durable.cli.ui import _browser
from durable.cli.ui._browser import Browser, Filters
from tests.page.site import Site, serving

PAGE = Path(__file__).resolve().parents[2] / "src" / "durable" / "cli" / "ui" / "page"


# -- the list -----------------------------------------------------------------------------------------------------------


def test_runs_newest_first(site: Site) -> None:
    runs = site.runs()
    assert [run["id"] for run in runs] == ["pages", *(f"order-{n}" for n in range(5, 0, -1)), "moody"]
    assert runs[-2] == runs[-2] | {"workflow": "buy", "status": "completed", "done": 2, "step": None}
    assert runs[2] == runs[2] | {"status": "interrupted", "step": "call_back", "attempt": 1}
    assert "died, retry due in" in runs[2]["why"]


def test_pages_follow_each_other(site: Site) -> None:
    found, below = [], None
    while True:
        page = site.get("runs", limit=3, **({} if below is None else {"below": below}))
        found += [run["id"] for run in page["runs"]]
        below = page["end"]
        if below is None:
            break
    assert found == site.ids()


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({"status": "failed"}, ["order-3"]),
        ({"status": "completed"}, ["order-2", "order-1"]),
        ({"status": "interrupted", "workflow": "buy"}, ["order-5", "order-4"]),
        ({"status": "running"}, []),
        ({"workflow": "pages"}, ["pages"]),
        ({"text": "ORDER-2"}, ["order-2"]),
        ({"text": "a book"}, ["order-1"]),
        ({"text": "warehouse is closed"}, ["order-3"]),
        ({"text": "salt", "status": "interrupted"}, ["order-5", "order-4"]),
        ({"text": "order_2"}, []),
        ({"text": "%"}, []),
        ({"before": 1000000000}, []),
        ({"since": 1000000000, "status": "failed"}, ["order-3"]),
    ],
)
def test_filters(site: Site, filters: dict[str, object], ids: list[str]) -> None:
    assert site.ids(**filters) == ids


def test_a_text_is_found_as_people_write_it(tmp_path: Path, folder: Any) -> None:
    folder.run("""
    for number, item in enumerate(['say "hi"', "zwei\\nZeilen", "Grüße", "back\\\\slash"]):
        buy({"id": number, "item": item})
    """)
    with serving(folder) as site:
        for number, text in enumerate(['say "hi"', "zwei\nZeilen", "Grüße", "back\\slash"]):
            assert site.ids(text=text) == [f"order-{number}"]


@pytest.mark.parametrize(
    "filters", [Filters(), Filters(text="order"), Filters(status="interrupted"), Filters(text="no")]
)
def test_a_search_that_takes_too_long_goes_on_in_the_next_page(
    shop: Any, monkeypatch: pytest.MonkeyPatch, filters: Filters
) -> None:
    browser = Browser(str(shop.path / "durable.db"))
    monkeypatch.setattr(_browser, "_PATIENCE_SECONDS", 60)
    whole = browser.page(filters, None, 100)
    assert whole.end is None
    monkeypatch.setattr(_browser, "_PATIENCE_SECONDS", -1)
    monkeypatch.setattr(_browser, "_FIRST_BATCH", 2)
    found, pages, below = [], 0, None
    while pages == 0 or below is not None:
        page = browser.page(filters, below, 100)
        found += page.entries
        pages, below = pages + 1, page.end
    assert [entry.run.id for entry in found] == [entry.run.id for entry in whole.entries]
    assert pages > 2
    browser.leave()


def test_counts(site: Site) -> None:
    found = site.get("counts")
    buys = {"completed": 2, "failed": 1, "interrupted": 2}
    assert found["counts"] == {"buy": buys, "moody": {"blocked": 1}, "pages": {"interrupted": 1}}
    assert found["live_pid"] is None
    assert site.get("counts", since=1000000000)["counts"] == found["counts"]
    assert site.get("counts", before=1000000000)["counts"] == {}


def test_with_its_owner_alive(live: Any) -> None:
    with serving(live) as site:
        assert site.get("counts")["live_pid"] == live.pid
        assert site.get("counts")["counts"]["buy"] == {"completed": 2, "failed": 1, "running": 2}
        assert site.ids(status="running") == ["pages", "order-5", "order-4"]
        assert site.ids(status="interrupted") == []
        assert site.get("run", id="order-5")["sentences"][0].startswith("hang is running, for ")


def test_a_damaged_run_costs_its_own_line(folder: Any) -> None:
    folder.run('for n in range(3): buy({"id": n, "item": "tea"})')
    with contextlib.closing(sqlite3.connect(folder.path / "durable.db")) as db, db:
        db.execute("UPDATE durable_run SET input = '{}' WHERE id = 'order-1'")
    with serving(folder) as site:
        runs = site.runs()
        assert [run["id"] for run in runs] == ["order-2", None, "order-0"]
        assert runs[1]["status"] == "damaged"
        assert "checksum" in runs[1]["why"]
        assert site.refusal("run", id="order-1")[0] == 503


# -- a run ----------------------------------------------------------------------------------------------------------------


def test_a_run_in_words(site: Site, shop: Any) -> None:
    words = {id: " ".join(site.get("run", id=id)["sentences"]) for id in site.ids()}
    assert re.fullmatch(r"Completed in \d+ms\.", words["order-1"])
    assert words["order-2"].endswith("fulfill failed twice before it worked.")
    assert re.fullmatch(r"Failed after .*, in fulfill, attempt 3: Closed: the warehouse is closed\.", words["order-3"])
    assert words["order-5"].startswith(f"Process {shop.pid} died while hang ran. It goes on when buy is called again")
    assert "2 completed steps will not run again" in words["order-5"]
    assert words["moody"].startswith("Blocked: ")
    assert words["moody"].endswith("On the way its process died once; the next one went on from there.")


def test_a_run_that_nobody_goes_on_with_in_words(left: Any) -> None:
    nobody = "Nobody executes runs of this journal now: it goes on at durable.resume() where approve is declared."
    with serving(left) as site:
        there, waits = (site.get("run", id=f"approve-{n}")["sentences"] for n in (1, 2))
        assert there[:2] == ["Signal 'go' lies there unread.", nobody]
        assert waits == ["Waiting for the signal 'go'.", nobody]  # and not that the next process went on
        saga = site.get("run", id="saga")
        assert not saga["may_retry"]
        assert "It cannot be retried from there: a fork starts a new run from any step." in " ".join(saga["sentences"])
        assert site.runs(limit=9, text="approve-1")[0]["why"].startswith("signal 'go' lies there unread")


def test_bars_of_a_run(site: Site) -> None:
    rows = site.get("run", id="order-3")["rows"]
    assert [row["name"] for row in rows] == ["init", "fulfill"]
    assert [(bar["attempt"], bar["state"]) for bar in rows[1]["bars"]] == [(1, "failed"), (2, "failed"), (3, "failed")]
    ends = [moment for bar in rows[1]["bars"] for moment in (bar["from"], bar["to"])]
    assert ends == sorted(ends)


def test_an_attempt_in_which_the_process_died(site: Site, shop: Any) -> None:
    run = site.get("run", id="order-5")
    row = run["rows"][-1]
    assert row["status"] == "interrupted"
    assert row["bars"][0] == row["bars"][0] | {"state": "died", "until": None}
    assert [(life["pid"], life["end"]) for life in run["lives"]] == [(shop.pid, "died")]


def test_tasks_are_branches(site: Site) -> None:
    rows = site.get("run", id="pages")["rows"]
    assert [(row["depth"], row["name"]) for row in rows] == [
        (0, "now"), (0, "task page 1"), (1, "fetch"), (1, "fetch"), (0, "task page 2"), (1, "fetch"),
    ]  # fmt: skip


def test_branches_in_branches_have_each_a_line_of_their_own(folder: Any) -> None:
    folder.run("""
    async def book(name):
        async with asyncio.TaskGroup() as group:
            for number in range(2): group.create_task(page(f"{name}{number}"))

    @durable.workflow(id="library")
    async def library() -> None:
        await asyncio.gather(book("a"), book("b"))

    asyncio.run(library())
    """)
    with serving(folder) as site:
        rows = [(row["depth"], row["name"]) for row in site.get("run", id="library")["rows"]]
        pages = [(1, "task page 1"), (2, "fetch"), (2, "fetch"), (1, "task page 2"), (2, "fetch"), (2, "fetch")]
        assert rows == [(0, "task book 1"), *pages, (0, "task book 2"), *pages]


def test_a_process_that_blocked_a_run_has_left_it(site: Site) -> None:
    assert [life["end"] for life in site.get("run", id="moody")["lives"]] == ["died", "left"]


def test_a_step(site: Site) -> None:
    step = site.get("step", id="order-3", position=1)
    assert step["input"][:2] == ["object", ""]
    assert step["output"] is None
    assert [attempt["status"] for attempt in step["attempts"]] == ["failed"] * 3
    for attempt in step["attempts"]:
        assert attempt["error"]["type"] == "Closed"
        assert 'raise Closed("the warehouse' in attempt["error"]["traceback"]
        assert "/durable/_" not in attempt["error"]["traceback"]
    assert re.fullmatch("[0-9a-f]{32}", step["idempotency_key"])


def test_a_process_that_died_and_the_one_that_went_on(folder: Any) -> None:
    again = 'print(buy.with_options(id="again")({"id": 9, "item": "tea", "hang": True}))'
    first = folder.run_and_kill(again, hanging=1)
    folder.run(again, prelude=_without_hanging())
    with serving(folder) as site:
        run = site.get("run", id="again")
        assert [(life["pid"] == first, life["end"]) for life in run["lives"]] == [(True, "died"), (False, "left")]
        died, done = run["rows"][-1]["bars"]
        assert (died["state"], done["state"]) == ("died", "completed")
        assert died["from"] <= died["to"] <= died["until"] == run["lives"][1]["began_at"] <= done["from"]
        assert run["sentences"][1] == "On the way its process died once, in hang; the next one went on from there."


def _without_hanging() -> str:
    source = (Path(__file__).parents[1] / "cli" / "conftest.py").read_text()
    shop = re.search(r'SHOP = """(.*?)"""', source, re.DOTALL)[1].encode().decode("unicode_escape")
    return shop.replace("time.sleep(1000)", "pass")


def test_children_are_linked(folder: Any) -> None:
    folder.run("""
    @durable.workflow
    def child(x: int) -> int:
        return x

    @durable.workflow(id="named-{x}")
    def named(x: int) -> int:
        return x

    @durable.workflow(id="parent")
    def parent() -> int:
        return child(1) + named(2) + child.start(3).result()

    parent()
    """)
    with serving(folder) as site:
        rows = site.get("run", id="parent")["rows"]
        linked = [row["child"]["id"] for row in rows]
        assert linked[1] == "named-2"
        runs = [site.get("run", id=id) for id in linked]
        assert [run["input"][2][0][1][1] for run in runs] == ["1", "2", "3"]
        assert [run["parent"] for run in runs] == [{"id": "parent", "workflow": "parent"}] * 3


def test_of_very_many_steps_the_first_and_the_last_are_drawn(folder: Any) -> None:
    folder.run("""
    @durable.workflow(id="long")
    def long() -> None:
        for _ in range(1200): durable.random()
    long()
    """)
    with serving(folder) as site:
        rows = site.get("run", id="long")["rows"]
        assert len(rows) == 1001
        assert rows[500] == rows[500] | {"kind": "hidden", "count": 200}
        assert (rows[499]["position"], rows[501]["position"]) == (499, 700)


def test_values_as_they_are(folder: Any) -> None:
    folder.run("""
    import datetime as dt
    from dataclasses import dataclass

    @dataclass
    class Point:
        x: object

    @durable.workflow(id="values")
    def values() -> object:
        return [12345678901234567890, 1.0, None, True, (1,), {1: 2}, Point(dt.date(2026, 3, 1)), "<b>"]
    values()
    """)
    with serving(folder) as site:
        kind, name, items = site.get("run", id="values")["output"]
        assert (kind, name) == ("list", "")
        assert items == [
            ["number", "12345678901234567890"],
            ["number", "1.0"],
            ["word", "null"],
            ["word", "true"],
            ["list", "tuple", [["number", "1"]]],
            ["object", "dict", [["1", ["number", "2"]]]],
            ["object", "Point", [["x", ["leaf", "date", "2026-03-01"]]]],
            ["text", "<b>"],
        ]


def test_a_long_value_is_cut(folder: Any) -> None:
    folder.run('buy({"id": "long", "item": "x" * 3_000_000})')
    with serving(folder) as site:
        kind, beginning, length = site.get("run", id="order-long")["input"]
        assert (kind, len(beginning)) == ("cut", 20_000)
        assert length > 3_000_000


# -- changes --------------------------------------------------------------------------------------------------------------


def test_changes_are_noticed(folder: Any) -> None:
    def changed() -> bool:
        before, seen[0] = seen[0], site.get("changes")["changes"]
        return seen[0] != before

    seen = [0]
    with serving(folder) as site:
        assert changed()
        assert "no journal in" in site.refusal("runs", limit=1)[1]
        assert not changed()
        process = folder.start('buy({"id": 1, "item": "tea", "hang": True})')
        try:
            assert process.stdout.readline() == "hanging\n"
            assert changed()
            assert site.ids(status="running") == ["order-1"]
            assert not changed()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        assert changed()
        assert site.ids(status="interrupted") == ["order-1"]
        assert not changed()
        for path in folder.path.glob("durable.db*"):
            path.unlink()
        assert changed()
        folder.run('buy({"id": 2, "item": "tea"})')
        assert changed()
        assert site.ids() == ["order-2"]


def test_reading_leaves_no_trace(folder: Any) -> None:
    folder.run('buy({"id": 1, "item": "tea"})')
    before = folder.content()
    with serving(folder) as site:
        assert site.ids() == ["order-1"]
        site.get("run", id="order-1")
        site.get("changes")
    assert folder.content() == before


# -- who may ask, and how -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["example.org", "127.0.0.1.example.org", "localhost.example.org:80", "", "10.0.0.1"])
@pytest.mark.parametrize("path", ["/", "/main.js", "/api/runs?limit=1", "/api/nothing"])
def test_a_foreign_host_is_refused(site: Site, host: str, path: str) -> None:
    status, _, body = site.ask(path, Host=host)
    assert status == 421
    assert b"this machine" in body


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:{port}", "LOCALHOST:1234", "[::1]:{port}"])
def test_this_machine_is_answered(site: Site, host: str) -> None:
    status, _, _ = site.ask("/", Host=host.format(port=site.port))
    assert status == 200


def test_two_hosts_are_refused(site: Site) -> None:
    lines = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: example.org\r\n\r\n"
    with socket.create_connection(("127.0.0.1", site.port), timeout=60) as connection:
        connection.sendall(lines.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 421 ")


@pytest.mark.parametrize("path", ["/", "/page.css", "/main.js", "/api/runs?limit=1", "/api/run?id=x", "/nothing"])
def test_every_answer_is_shut_off(site: Site, path: str) -> None:
    _, headers, _ = site.ask(path, Origin="https://example.org")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert not [name for name in headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"])
def test_nothing_but_reading(site: Site, method: str) -> None:
    status, headers, _ = site.ask("/api/cancel", method=method, body=b"{}")
    assert status in {403, 501}
    assert "default-src 'none'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "path", ["/../_server.py", "/page/index.html", "/..%2f_server.py", "//main.js/", "/_server.py"]
)
def test_no_other_file(site: Site, path: str) -> None:
    status, _, _ = site.ask(path)
    assert status == 404


@pytest.mark.parametrize(
    ("name", "parameters", "status"),
    [
        ("runs", {"limit": "many"}, 400),
        ("runs", {"below": "1e9"}, 400),
        ("runs", {"since": "yesterday"}, 400),
        ("run", {}, 404),
        ("run", {"id": "nobody"}, 404),
        ("run", {"id": "order-"}, 404),
        ("step", {"id": "order-1", "position": 99}, 404),
        ("step", {"id": "order-1", "branch": "/nowhere:0", "position": 0}, 404),
    ],
)
def test_a_question_without_an_answer(site: Site, name: str, parameters: dict[str, object], status: int) -> None:
    assert site.refusal(name, **parameters)[0] == status


def test_the_page_asks_nobody_else() -> None:
    for path in PAGE.iterdir():
        text = path.read_text()
        urls = set(re.findall(r"(?:https?:)?//[\w.]+\.\w+", text)) - {"http://www.w3.org"}
        assert not urls, path.name
        assert "innerHTML" not in text
        assert "insertAdjacentHTML" not in text
    html = (PAGE / "index.html").read_text()
    assert not re.search(r"<script[^>]*>[^<]|<style|\sstyle=|\son\w+=", html)


def test_every_file_of_the_page_is_served(site: Site) -> None:
    for path in PAGE.iterdir():
        status, _, body = site.ask("/" if path.name == "index.html" else f"/{path.name}")
        assert (status, body) == (200, path.read_bytes())


# -- the command ----------------------------------------------------------------------------------------------------------


def test_a_port_that_is_taken(site: Site, shop: Any) -> None:
    done = shop.durable("ui", "--no-browser", "--port", str(site.port))
    assert done.returncode == 1
    assert f"port {site.port}" in done.stderr


@pytest.mark.parametrize("port", ["", "-1", "65536", "http", "1.0"])
def test_what_is_no_port(shop: Any, port: str) -> None:
    assert shop.durable("ui", f"--port={port}").returncode == 2


def test_it_prints_no_runs(shop: Any) -> None:
    assert shop.durable("ui", "--json").returncode == 2

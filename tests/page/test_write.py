"""`durable ui --write`: who may change a run, and what becomes of it when the program runs again."""

import contextlib
import json
import re
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.conftest import SHOP, Folder
from tests.page.browser import Browser
from tests.page.site import Site, serving

ACTIONS = ["cancel", "retry", "fork", "signal"]

FAIL = 'attempt(lambda: buy({"id": 3, "item": "tea", "works_at": 4}))'
ASK = """
@durable.workflow(id="asking")
def asking() -> str:
    init({})
    return durable.wait_for_signal("answer", dict)["text"]
"""
WAITING = """
asking.start()
while durable.get("asking").status != "waiting": time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The same, for requests that change nothing."""
    folder = Folder(tmp_path_factory.mktemp("refusing"))
    folder.run(FAIL)
    with serving(folder, "--write", "--port", "0") as site:
        yield site


@pytest.fixture
def writable(folder: Any) -> Iterator[Site]:
    """The page of a journal that nobody owns, with a run that failed."""
    folder.run(FAIL)
    with serving(folder, "--write", "--port", "0") as site:
        yield site


def asked_by_the_page(site: Site, action: str, **asked: object) -> tuple[int, Any]:
    status, _, body = site.ask(f"/api/{action}", method="POST", body=json.dumps(asked).encode(), **allowed(site))
    return status, json.loads(body)


def allowed(site: Site) -> dict[str, str]:
    return {"Origin": site.url.rstrip("/"), "X_Durable_Token": site.token, "Content_Type": "application/json"}


# -- who may --------------------------------------------------------------------------------------------------------------

WRONG = {
    "no token": {"X_Durable_Token": ""},
    "another token": {"X_Durable_Token": "0" * 32},
    "half a token": {"X_Durable_Token": "{half}"},
    "letters beyond ASCII": {"X_Durable_Token": "\xe9" * 32},
    "another site": {"Origin": "https://example.org"},
    "another server of this machine": {"Origin": "http://127.0.0.1:1"},
    "this machine by another name": {"Origin": "http://localhost:{port}"},
    "a page without an origin": {"Origin": "null"},
    "a foreign host": {"Host": "example.org:{port}"},
    "a foreign host and its origin": {"Host": "example.org", "Origin": "http://example.org"},
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("wrong", WRONG)
def test_refused(refusing: Site, wrong: str, action: str) -> None:
    changed = {name: value.format(port=refusing.port, half=refusing.token[:16]) for name, value in WRONG[wrong].items()}
    before = refusing.get("run", id="order-3")
    body = json.dumps({"id": "order-3", "branch": "", "position": 0, "name": "x", "value": "1"}).encode()
    status, headers, answer = refusing.ask(
        f"/api/{action}", method="POST", body=body, **{**allowed(refusing), **changed}
    )
    assert status == (421 if "Host" in changed else 403), answer
    assert not [name for name in headers if name.lower().startswith("access-control-")]
    assert refusing.get("runs", limit=10)["runs"] == refusing.get("runs", limit=10)["runs"]
    assert refusing.get("run", id="order-3") == before | {"now": pytest.approx(before["now"], abs=60)}


@pytest.mark.parametrize("header", ["Origin", "X_Durable_Token"])
def test_refused_without_a_header(refusing: Site, header: str) -> None:
    headers = allowed(refusing)
    del headers[header]
    status, _, _ = refusing.ask("/api/cancel", method="POST", body=b'{"id": "order-3"}', **headers)
    assert status == 403


@pytest.mark.parametrize("action", ACTIONS)
def test_without_write_nobody_may(site: Site, action: str) -> None:
    assert not site.token
    status, answer = asked_by_the_page(site, action, id="order-3")
    assert status == 403
    assert "only reads" in answer["error"]


@pytest.mark.parametrize("action", ACTIONS)
def test_a_link_changes_nothing(refusing: Site, action: str) -> None:
    status, _, _ = refusing.ask(f"/api/{action}?id=order-3", **allowed(refusing))
    assert status == 404


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_form_changes_nothing(refusing: Site, kind: str) -> None:
    headers = {**allowed(refusing), "Content_Type": kind}
    status, _, _ = refusing.ask("/api/cancel", method="POST", body=b'{"id": "order-3"}', **headers)
    assert status == 400


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"[" * 100_000, b"\xff", b'{"id": 1}', b"{}"])
def test_what_is_no_question(refusing: Site, body: bytes) -> None:
    status, _, _ = refusing.ask("/api/cancel", method="POST", body=body, **allowed(refusing))
    assert status == 400


def test_a_question_without_an_end(refusing: Site) -> None:
    headers = {**allowed(refusing), "Content_Length": "999999999"}
    status, _, _ = refusing.ask("/api/cancel", method="POST", body=b"{}", **headers)
    assert status == 413


def test_the_token_is_not_told_to_who_has_none(refusing: Site) -> None:
    for path in ("/", "/main.js", "/api/counts", "/api/runs?limit=10", "/api/run?id=order-3"):
        _, headers, body = refusing.ask(path)
        assert refusing.token not in body.decode() + str(headers)


# -- what becomes of it ---------------------------------------------------------------------------------------------------


def test_cancel(folder: Any) -> None:
    folder.run_and_kill('buy({"id": 1, "item": "tea", "hang": True})', hanging=1)
    with serving(folder, "--write", "--port", "0") as site:
        assert asked_by_the_page(site, "cancel", id="order-1")[0] == 200
        folder.run("durable.resume(wait=True)")
        assert site.get("run", id="order-1")["status"] == "cancelled"
        status, answer = asked_by_the_page(site, "retry", id="order-1")
        assert (status, "cancelled" in answer["error"]) == (409, True)


def test_retry(writable: Site, folder: Any) -> None:
    assert asked_by_the_page(writable, "retry", id="order-3")[0] == 200
    assert writable.get("run", id="order-3")["status"] in {"queued", "interrupted"}
    folder.run("""
    durable.resume(wait=True)
    """, prelude=_with_more_attempts())  # fmt: skip
    assert writable.get("run", id="order-3")["status"] == "completed"


def test_who_clicks_does_not_keep_the_program_from_its_journal(writable: Site, folder: Any) -> None:
    def owners() -> list[Any]:
        with contextlib.closing(sqlite3.connect(folder.path / "durable.db")) as db:
            return db.execute("SELECT epoch FROM durable_owner").fetchall()

    before = owners()
    assert asked_by_the_page(writable, "fork", id="order-3", branch="", position=1)[0] == 200
    assert asked_by_the_page(writable, "retry", id="order-3")[0] == 200
    assert asked_by_the_page(writable, "cancel", id="order-3")[0] == 200
    assert owners() == before


def _with_more_attempts() -> str:
    return SHOP.replace("maximum_attempts=3", "maximum_attempts=6")


def test_fork(writable: Site, folder: Any) -> None:
    status, answer = asked_by_the_page(writable, "fork", id="order-3", branch="", position=1)
    assert status == 200
    forked = writable.get("run", id=answer["id"])
    assert [(row["name"], row["status"]) for row in forked["rows"]] == [("init", "completed")]
    folder.run("durable.resume(wait=True)", prelude=_with_more_attempts())
    assert writable.get("run", id=answer["id"])["status"] == "completed"
    assert writable.get("run", id="order-3")["status"] == "failed"


def test_fork_on_a_branch(folder: Any) -> None:
    folder.run("asyncio.run(pages(['a', 'b']))")
    with serving(folder, "--write", "--port", "0") as site:
        before = site.get("run", id="pages")["rows"]
        status, answer = asked_by_the_page(site, "fork", id="pages", branch="/page:1", position=1)
        assert status == 200, answer
        names = [(row["branch"], row.get("position")) for row in site.get("run", id=answer["id"])["rows"]]
        assert names == [(row["branch"], row.get("position")) for row in before][:-1]


@pytest.mark.parametrize("position", [2, -1, "1", None])
def test_fork_from_nowhere(writable: Site, position: object) -> None:
    assert asked_by_the_page(writable, "fork", id="order-3", branch="", position=position)[0] == 400


def test_signal(folder: Any) -> None:
    folder.run(f"{ASK}\n{WAITING}")
    with serving(folder, "--write", "--port", "0") as site:
        assert asked_by_the_page(site, "signal", id="asking", name="answer", value="yes")[0] == 400
        assert asked_by_the_page(site, "signal", id="asking", name="answer", value='{"text": "yes"}')[0] == 200
        folder.run(f"{ASK}\ndurable.resume(); print(durable.get('asking').result(60))")
        run = site.get("run", id="asking")
        assert (run["status"], run["output"]) == ("completed", ["text", "yes"])
        status, answer = asked_by_the_page(site, "signal", id="asking", name="answer", value="1")
        assert (status, "completed" in answer["error"]) == (409, True)


def test_no_lock_is_kept(writable: Site, folder: Any) -> None:
    for action in ACTIONS:
        asked_by_the_page(writable, action, id="order-3", branch="", position=0, name="x", value="1")
        assert writable.get("counts")["live_pid"] is None
    folder.run('buy({"id": 8, "item": "tea"})')


def test_beside_the_owner(live: Any) -> None:
    """Where the owner of the journal lives, it is the one who acts, or the refusal says that it has to."""
    with serving(live, "--write", "--port", "0") as site:
        status, answer = asked_by_the_page(site, "cancel", id="order-4")
        assert status == 200, answer
        deadline = time.monotonic() + 60
        while site.get("run", id="order-4")["status"] != "cancelled":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        status, answer = asked_by_the_page(site, "retry", id="order-3")
        assert status == 200 or (status == 409 and str(live.pid) in answer["error"])


# -- on the page ----------------------------------------------------------------------------------------------------------


def test_buttons_of_the_page(writable: Site, folder: Any, browser: Browser) -> None:
    browser.open(f"{writable.url}#token={writable.token}")
    browser.lists("order-3")
    assert writable.token not in browser.driver.current_url
    browser.click(".row")
    browser.sees("Retry", ".actions")
    browser.click(".operation:last-child")
    browser.click(".panel .tools button")
    browser.sees("The new run is", ".panel .answer")
    new = browser.text(".panel .answer a")
    assert re.fullmatch("[0-9a-f]{32}", new)
    browser.wait(lambda: new in browser.ids())
    browser.click(".panel .answer a")
    browser.sees(new, ".id")
    browser.click(".actions button")
    browser.sees("Really cancel?", ".actions")
    browser.wait(
        lambda: browser.click(".actions button") or "told to end" in browser.text(".answer")
    )  # asks for 4 s only
    browser.sees("It is to be cancelled.", ".story")
    browser.sees("It is told to end.", ".answer")  # still, though what it led to has drawn the run anew
    folder.run("durable.resume(wait=True)")
    browser.sees("Cancelled after", ".story")
    browser.open(f"{writable.url}#run=order-3")
    browser.click(".actions button")
    browser.sees("Queued: nobody executes runs of this journal now.", ".story")
    browser.sees("It goes on from what failed.", ".answer")


def test_a_signal_from_the_page(folder: Any, browser: Browser) -> None:
    folder.run(f"{ASK}\n{WAITING}")
    with serving(folder, "--write", "--port", "0") as site:
        browser.open(f"{site.url}#token={site.token}&run=asking")
        browser.sees("Send", ".actions")
        assert browser.run("return document.querySelector('.signal input').value") == "answer"  # the one that it awaits
        browser.driver.find_elements("css selector", ".signal input")[1].click()
        browser.press(*'{"text": "yes"}', "\ue007")
        browser.sees("Sent.", ".answer")
        folder.run(f"{ASK}\ndurable.resume(); durable.get('asking').result(60)")
        browser.sees("Completed in", ".story")


def test_a_page_without_the_token_has_no_buttons(writable: Site, browser: Browser) -> None:
    browser.open(f"{writable.url}#run=order-3&step=1")
    browser.sees("open the address that durable ui --write printed", ".head-of-run")
    browser.find(".panel")
    assert browser.count(".actions") == 0
    assert browser.count(".panel .tools") == 0


def test_another_site_changes_nothing(writable: Site, shop: Any, browser: Browser) -> None:
    with serving(shop) as other:
        browser.open(other.url)
        browser.sees("order-1")
        send = (
            "const done = arguments[2]; const headers = {'Content-Type': 'application/json', 'X-Durable-Token': arguments[1]};"
            "fetch(arguments[0], {method: 'POST', headers, body: '{\"id\": \"order-3\"}'}).then(() => done('sent'), () => done('refused'))"
        )
        assert browser.driver.execute_async_script(send, f"{writable.url}api/retry", writable.token) == "refused"
        assert writable.get("run", id="order-3")["status"] == "failed"
        browser.complaints()

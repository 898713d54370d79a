"""The page as people see it: a real browser, real programs, real kills."""

import itertools
import random
import signal
import time
from typing import Any

import pytest

from tests.page.browser import Browser
from tests.page.site import Site, ordering, serving

ENTER, ESCAPE = "\ue007", "\ue00c"

HOSTILE = "<img src=x onerror=hacked=1><script>hacked=1</script>\"'`${hacked=1}</textarea>&lt;b&gt;"


# -- live -----------------------------------------------------------------------------------------------------------------


def test_an_order_is_killed_and_completed_by_the_next_process(orders: Any, browser: Browser) -> None:
    log, program = orders.path / "orders.log", orders.path / "order_item.py"
    source = program.read_text().replace("timeout=10.0", "timeout=100.0")  # the warehouse takes as long as we look
    program.write_text(source.replace("time.sleep(2)", 'while not Path("delivered").exists(): time.sleep(0.01)'))
    with serving(orders) as site:
        browser.open(site.url)
        browser.run("window.never = 'reloaded'")
        browser.sees("no journal in", "#trouble")
        with ordering(orders, "43") as process:
            browser.lists("order-43")
            browser.sees("running", ".row")
            browser.wait(lambda: "fulfill_order" in log.read_text())
            process.send_signal(signal.SIGKILL)
            process.wait()
        browser.sees("interrupted", ".row")
        browser.click(".row")
        browser.sees(f"Process {process.pid} died while fulfill_order ran.", ".story")
        browser.sees("1 completed step will not run again", ".story")
        assert browser.texts(".operation .name") == ["init_order", "fulfill_order"]
        assert browser.count(".death.is-died .icon") == 1
        assert browser.count(".operation .bar.is-died") == 1
        with ordering(orders, "43") as process:
            browser.sees(f"process {process.pid} runs", "#owner")
            browser.sees("fulfill_order is running, attempt 2", ".story")
            browser.sees("running", ".row")
            (orders.path / "delivered").touch()
            assert process.stdout.read() == "order 43: shipped a nanosecond of wire\n"
        browser.sees("On the way its process died once, in fulfill_order; the next one went on from there.", ".story")
        browser.sees("completed", ".row")
        browser.sees("nobody runs it", "#owner")
        assert browser.texts(".operation .name") == ["init_order", "fulfill_order", "archive_order"]
        assert browser.texts(".operation .count") == ["×2"]
        assert browser.count(".operation .bar.is-died") == 1
        assert browser.count(".operation .bar.is-completed") == 3
        assert "shipped a nanosecond of wire" in browser.text(".head-of-run .cards")
        assert browser.run("return window.never") == "reloaded"


def test_a_step_that_waits_for_its_next_attempt(live: Any, browser: Browser) -> None:
    with serving(live) as site:
        browser.open(f"{site.url}#run=order-4")
        browser.sees("call_back failed once and is tried again in 59m", ".story")
        assert browser.count(".back-off") == 1
        browser.open(f"{site.url}#run=order-5")
        browser.sees("hang is running, for", ".story")
        bar = ".operation:last-child .bar.is-running"
        assert browser.count(bar) == 1
        browser.open(f"{site.url}#run=order-5&step=2")
        browser.sees("One attempt", ".panel")
        browser.sees("running for", ".panel")


def test_waits_are_told_from_work(folder: Any, browser: Browser) -> None:
    folder.run("""
    @durable.workflow(id="napping")
    def napping() -> str:
        init({})
        durable.sleep(0.3)
        durable.set_event("shown", [1, 2])
        return durable.wait_for_signal("go", str)

    napping.start()
    while durable.get("napping").status != "waiting": time.sleep(0.01)
    """)
    with serving(folder) as site:
        browser.open(f"{site.url}#run=napping")
        browser.sees("Waiting for the signal 'go'.", ".story")
        assert browser.texts(".operation .name") == ["init", "sleep", "shown", "go"]
        assert browser.count(".bar.is-waited") == 1
        assert browser.count(".bar.is-waiting") == 1
        browser.click(".operation:nth-of-type(2)")
        browser.sees("From ", ".panel")
        browser.open(f"{site.url}#run=napping&step=2")
        browser.sees("2 items", ".panel")
        browser.sees("waits for signal 'go'", ".row")
        folder.run("durable.get('napping').signal('go', 'home')")
        folder.run("""
        @durable.workflow(id="napping")
        def napping() -> str:
            init({})
            durable.sleep(0.3)
            durable.set_event("shown", [1, 2])
            return durable.wait_for_signal("go", str)

        durable.resume()
        durable.get("napping").result(60)
        """)
        browser.sees("Completed in", ".story")
        assert browser.count(".bar.is-waited") == 2


def test_a_new_run_comes_in_and_those_in_sight_stay(folder: Any, browser: Browser) -> None:
    folder.run("for n in range(300): durable.workflow(id=str(n), name='many')(lambda: None)()")
    with serving(folder) as site:
        browser.open(site.url)
        browser.wait(lambda: browser.ids()[:1] == ["299"])
        scroll = "const list = document.getElementById('list'); list.scrollTop = 3000; return list.scrollTop"
        browser.wait(lambda: browser.run(scroll) == 3000)  # as soon as so many are loaded
        browser.wait(lambda: "245" in browser.ids())
        folder.run("durable.workflow(id='new', name='many')(lambda: None)()")
        browser.sees("Newer runs", "#newer")
        assert browser.run("return document.getElementById('list').scrollTop") == 3000
        assert "245" in browser.ids()
        browser.click("#newer")
        browser.wait(lambda: browser.ids()[:2] == ["new", "299"])
        assert not browser.find("#newer").is_displayed()
        browser.wait(lambda: browser.press("G") or browser.ids()[-1:] == ["0"])  # the last of those that are loaded
        browser.wait(lambda: browser.text("#statuses") == "all\n301\ncompleted\n301")


def test_the_end_of_the_server_is_told_and_its_return_noticed(folder: Any, browser: Browser) -> None:
    folder.run('buy({"id": 1, "item": "tea"})')
    port = str(random.randrange(10_000, 30_000))  # none that the system gives to somebody else meanwhile
    with serving(folder, "--port", port) as site:
        browser.open(site.url)
        browser.lists("order-1")
    browser.sees("durable ui has ended", "#trouble")
    folder.run('buy({"id": 2, "item": "tea"})')
    with serving(folder, "--port", port):
        browser.lists("order-2", "order-1")
        assert not browser.find("#trouble").is_displayed()


HALF_ANSWERS = {
    "half a tree": "'{\"runs\": ['",
    "a connection that breaks": "new ReadableStream({start: (answer) => answer.error(new TypeError('network error'))})",
}


@pytest.mark.parametrize("body", HALF_ANSWERS.values(), ids=HALF_ANSWERS)
def test_an_answer_that_ends_in_the_middle_is_the_end_of_the_server(site: Site, browser: Browser, body: str) -> None:
    browser.open(site.url)
    browser.sees("order-1")
    browser.run(f"window.whole = fetch; window.fetch = async () => new Response({body})")
    browser.sees("durable ui has ended", "#trouble")
    browser.run("window.fetch = window.whole")
    browser.wait(lambda: not browser.find("#trouble").is_displayed())


# -- filters --------------------------------------------------------------------------------------------------------------


def test_filters(site: Site, browser: Browser) -> None:
    browser.open(site.url)
    browser.lists("pages", "order-5", "order-4", "order-3", "order-2", "order-1", "moody")
    browser.counts("all", "7", "blocked", "1", "failed", "1", "completed", "2", "interrupted", "3")
    browser.run("[...document.querySelectorAll('.chip')].find((each) => each.innerText.includes('failed')).click()")
    browser.lists("order-3")
    browser.run("document.querySelector('.chip').click()")
    browser.click("#workflow option[value=pages]")
    browser.lists("pages")
    browser.counts("all", "1", "interrupted", "1")
    browser.click("#workflow option[value='']")
    browser.click("#age option[value='300']")
    browser.lists("pages", "order-5", "order-4", "order-3", "order-2", "order-1", "moody")
    browser.click("#age option[value=range]")
    browser.run("const at = document.getElementById('before'); at.value = '2001-01-01T00:00:00';"
                "at.dispatchEvent(new Event('change', {bubbles: true}))")  # fmt: skip
    browser.sees("No run is like that.", ".list .note")
    browser.driver.refresh()  # the address has it all
    browser.sees("No run is like that.", ".list .note")
    assert browser.run("return document.getElementById('before').value.slice(0, 16)") == "2001-01-01T00:00"


def test_search(site: Site, browser: Browser) -> None:
    browser.open(site.url)
    browser.lists("pages", "order-5", "order-4", "order-3", "order-2", "order-1", "moody")
    browser.press("/", *"a BOOK")
    browser.lists("order-1")
    browser.press(ESCAPE)
    browser.lists("pages", "order-5", "order-4", "order-3", "order-2", "order-1", "moody")
    browser.press("/", *"warehouse", ENTER)
    browser.lists("order-3")
    browser.sees("Failed after", ".story")


# -- a step ---------------------------------------------------------------------------------------------------------------


def test_a_failing_step_with_its_tracebacks(site: Site, browser: Browser) -> None:
    browser.open(f"{site.url}#run=order-3")
    browser.sees("in fulfill, attempt 3: Closed: the warehouse is closed", ".story")
    assert browser.count(".operation .bar.is-failed") == 3
    browser.click(".operation:last-child")
    browser.sees("Attempt 3", ".panel")
    assert browser.count(".panel .attempts li") == 3
    traceback = browser.text(".panel .attempts li:last-child pre")
    assert traceback.startswith("Traceback (most recent call last):")
    assert 'raise Closed("the warehouse is closed\\nuntil Monday")' in traceback
    assert "until Monday" in traceback
    key = browser.text(".panel .key-line code")
    assert key == site.get("step", id="order-3", position=1)["idempotency_key"]
    browser.click(".operation.chosen")
    browser.wait(lambda: not browser.count(".panel"))


def test_values_of_a_step(site: Site, browser: Browser) -> None:
    browser.open(f"{site.url}#run=order-1&step=0")
    browser.sees("Output", ".panel")
    assert "“a book”" in browser.text(".panel .card:first-child")
    assert "“charged”" in browser.text(".panel .card:last-child")


def test_a_step_stays_as_it_is_while_others_go_on(orders: Any, browser: Browser) -> None:
    with serving(orders) as site, ordering(orders, "42") as process:
        browser.open(f"{site.url}#run=order-42&step=0")
        browser.sees("One attempt", ".panel")
        browser.run("document.querySelector('.panel').mine = true")
        browser.sees("Completed in", ".story")
        process.wait()
        assert browser.run("return document.querySelector('.panel').mine")


# -- keys -----------------------------------------------------------------------------------------------------------------


def test_keys(site: Site, browser: Browser) -> None:
    def chosen() -> str:
        return browser.run("return document.querySelector('.row.chosen')?.dataset.id ?? ''")

    def step() -> str:
        return browser.run("return document.querySelector('.operation.chosen .name')?.textContent ?? ''")

    browser.open(site.url)
    browser.lists("pages", "order-5", "order-4", "order-3", "order-2", "order-1", "moody")
    browser.press("j")
    browser.wait(lambda: chosen() == "pages")
    browser.press("j", "j", "j", "k")
    browser.wait(lambda: chosen() == "order-4")
    browser.sees("order-4", ".id")
    browser.press("j")
    browser.sees("order-3", ".id")
    browser.wait(lambda: browser.count(".operation") == 2)
    browser.press(ENTER)
    browser.wait(lambda: step() == "init")
    browser.press("j", ENTER)
    browser.sees("Attempt 3", ".panel")
    assert (chosen(), step()) == ("order-3", "fulfill")
    browser.press(ESCAPE)
    browser.wait(lambda: not browser.count(".panel"))
    browser.press("k")
    browser.wait(lambda: step() == "init")
    browser.press(ESCAPE, "j")
    browser.wait(lambda: chosen() == "order-2")
    browser.press("g")
    browser.wait(lambda: chosen() == "pages")
    browser.press("G")
    browser.wait(lambda: chosen() == "moody")
    browser.press("/", "j", "k")
    assert browser.run("return document.getElementById('text').value") == "jk"
    browser.press(ESCAPE)
    browser.wait(lambda: len(browser.ids()) == 7)
    browser.press("?")
    browser.sees("next and previous", "#keys")
    browser.press(ESCAPE)
    browser.wait(lambda: not browser.find("#keys").is_displayed())


def test_back_goes_back(site: Site, browser: Browser) -> None:
    browser.open(f"{site.url}#run=order-3")
    browser.sees("order-3", ".id")
    browser.click(".row[data-id=order-1]")
    browser.sees("order-1", ".id")
    browser.driver.back()
    browser.sees("order-3", ".id")


# -- hostile text ---------------------------------------------------------------------------------------------------------


def test_hostile_text_is_text(folder: Any, browser: Browser) -> None:
    folder.run(f"""
    TEXT = {HOSTILE!r}

    @durable.step(name=TEXT, retry=None)
    def bad(value: object) -> object:
        raise type(TEXT, (Exception,), {{}})(TEXT)

    @durable.step
    def good(value: object) -> object:
        return {{TEXT: [TEXT, value]}}

    @durable.workflow(name=TEXT, id=lambda value: TEXT)
    def hostile(value: object) -> None:
        good(value)
        bad({{TEXT: TEXT}})

    attempt(lambda: hostile(TEXT))
    """)
    with serving(folder) as site:
        browser.open(site.url)
        browser.lists(HOSTILE)
        browser.click(".row")
        for number in (1, 2):
            browser.click(f".operation:nth-of-type({number})")
            browser.sees("Idempotency key", ".panel")
            for place in ("h1", ".id", ".story", ".error", ".rows", ".panel", ".list", "#workflow"):
                browser.sees(HOSTILE, place)
            if number == 1:
                browser.press(ESCAPE)
                browser.wait(lambda: not browser.count(".panel"))
        assert browser.run("return window.hacked") is None
        assert browser.count("img") == 0
        assert browser.count("script:not([src])") == 0
        assert browser.count("textarea") == 0


def test_markup_could_not_be_parsed_at_all(site: Site, browser: Browser) -> None:
    browser.open(site.url)
    browser.sees("order-1")
    parse = "try { document.body.innerHTML = '<b>x</b>'; return 'parsed' } catch (error) { return error.name }"
    assert browser.run(parse) == "TypeError"
    added = "const s = document.createElement('style'); s.textContent = 'body {color: red}'; document.head.append(s);"
    assert browser.run(f"{added} return getComputedStyle(document.body).color") != "rgb(255, 0, 0)"
    browser.complaints()  # the browser tells what it has refused


def test_another_site_can_neither_read_nor_frame_it(site: Site, browser: Browser, shop: Any) -> None:
    with serving(shop) as other:
        browser.open(other.url)
        browser.sees("order-1")
        fetch = "const done = arguments[1]; fetch(arguments[0]).then(() => done('read'), () => done('refused'))"
        assert browser.driver.execute_async_script(fetch, f"{site.url}api/runs?limit=1") == "refused"
        frame = (
            "const done = arguments[1]; const f = document.createElement('iframe'); f.src = arguments[0];"
            "f.onload = () => done(f.contentDocument?.body?.innerText ?? 'blocked'); document.body.append(f)"
        )
        assert "order-1" not in browser.driver.execute_async_script(frame, site.url)
        browser.complaints()


# -- how it looks ---------------------------------------------------------------------------------------------------------

OVERFLOWING = """
    const found = [];
    for (const each of document.querySelectorAll('body *')) {
      const style = getComputedStyle(each), box = each.getBoundingClientRect();
      if (!box.width || style.display === 'inline' || each.matches('.track, .track *, .shade, .shade *')) continue;
      if (box.right > innerWidth + 1) found.push(`${each.className} leaves the window`);
      if (style.overflowX === 'visible' && each.scrollWidth > each.clientWidth + 1 && each.clientWidth)
        found.push(`${each.tagName} ${each.className} overflows`);
    }
    return found"""
OVERLAPPING = """
    const boxes = [...document.querySelectorAll('.scale .tick, .scale .squeezed')].map((e) => {
      const range = document.createRange(); range.selectNodeContents(e);
      return [e.textContent, range.getBoundingClientRect()] });
    const lane = [...document.querySelectorAll('.lane .death')].map((e) => [e.textContent, e.getBoundingClientRect()]);
    const found = [];
    for (const group of [boxes, lane]) for (const [a, one] of group) for (const [b, other] of group)
      if (a !== b && one.left < other.left && one.right > other.left + 1) found.push(`${a} and ${b}`);
    return found"""


@pytest.mark.parametrize("dark", [False, True])
def test_the_ground_is_as_dark_as_the_system_has_it(site: Site, browser: Browser, dark: bool) -> None:
    browser.size(1440, 900, dark=dark)
    browser.open(site.url)
    ground = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (ground < "rgb(2") == dark, ground


@pytest.mark.parametrize("width", [1440, 800])
def test_nothing_is_cut_and_nothing_overlaps(site: Site, browser: Browser, width: int) -> None:
    browser.size(width, 900)
    browser.open(site.url)
    browser.lists("pages", "order-5", "order-4", "order-3", "order-2", "order-1", "moody")
    assert browser.run(OVERFLOWING) == []
    for id in browser.ids():
        browser.run("location.hash = arguments[0]", f"run={id}&step={'0/page:0' if id == 'pages' else 0}")
        browser.sees(id, ".id")
        browser.find(".panel")
        assert browser.run(OVERFLOWING) == [], id
        assert browser.run(OVERLAPPING) == [], id
        assert browser.find(".list").is_displayed() == (width > 899)


LONG = """
import durable

durable.open("durable.db")
NAME = "a_name_that_is_longer_than_any_column_" * 3
TEXT = "https://example.org/" + "path/" * 40

@durable.step(name=NAME, retry=durable.RetryPolicy(initial_interval=0.01, maximum_attempts=2))
def bad(value: object) -> object:
    raise ValueError("https://example.org/a/path/that/is/too/long/for/a/line", TEXT, "ワイドな文字" * 20, TEXT)  # {TEXT}

@durable.step(name="発送する")
def wide(value: object) -> object:
    return {{TEXT: ["ワイドな文字" * 20, value]}}

@durable.workflow(name=NAME, id=lambda value: NAME)
def long(value: object) -> None:
    wide(value)
    bad([TEXT] * 3)

try:
    long(TEXT)
except ValueError:
    pass
""".format(TEXT="https://example.org/" + "path/" * 40)


@pytest.mark.parametrize("width", [1440, 800])
def test_what_is_long_or_wide_stays_inside(folder: Any, browser: Browser, width: int) -> None:
    folder.run("", prelude=LONG)
    browser.size(width, 900)
    with serving(folder) as site:
        browser.open(site.url)
        browser.find(".row")
        assert browser.run(OVERFLOWING) == []
        browser.click(".row")
        for number in (1, 2):
            browser.click(f".operation:nth-of-type({number})")
            browser.sees("Idempotency key", ".panel")
            assert browser.run(OVERFLOWING) == [], number
            assert browser.run(OVERLAPPING) == [], number
            browser.press(ESCAPE)
            browser.wait(lambda: not browser.count(".panel"))


def test_no_time_stands_on_another(site: Site, browser: Browser) -> None:
    """Of the scale: also where something short executes right before a long wait, which is drawn shorter."""
    browser.open(site.url)
    ticks = """
        const [busy, end, pixels, done] = arguments;
        import("/axis.js").then(({ makeAxis, ticks }) => {
          const axis = makeAxis(0, end, busy), scale = pixels / axis.width;
          done({ ticks: ticks(axis, pixels).map((each) => each.at * pixels),
                 waits: axis.pieces.filter((each) => each.squeezed).map((each) => [each.at * scale, (each.at + each.width) * scale]) });
        });"""
    busy = [[0, 0.0042], [0.0044, 0.0045], [0.03, 0.034], [0.0345, 0.0351], [9, 9.001], [9.0011, 9.005]]
    drawn = 0
    for pixels in range(200, 1400, 50):
        found = browser.driver.execute_async_script(ticks, busy, 9.3, pixels)
        drawn += len(found["ticks"])
        places = sorted([*([at, at + 49] for at in found["ticks"]), *found["waits"]])
        assert all(one[1] <= other[0] + 1 for one, other in itertools.pairwise(places)), (pixels, places)
    assert drawn


def test_colours_are_chosen_and_kept(site: Site, browser: Browser) -> None:
    browser.open(site.url)
    browser.click("#theme")
    browser.click("#theme")
    assert browser.text("#theme") == "Dark"
    browser.driver.refresh()
    browser.sees("Dark", "#theme")
    assert browser.run("return getComputedStyle(document.body).backgroundColor") < "rgb(2"


def test_narrow_the_run_has_the_page_and_a_way_back(site: Site, browser: Browser) -> None:
    browser.size(800, 900)
    browser.open(site.url)
    browser.click(".row[data-id=order-3]")
    browser.sees("Failed after", ".story")
    assert not browser.find(".list").is_displayed()
    browser.click(".back")
    browser.wait(lambda: browser.find(".list").is_displayed())
    assert not browser.find(".story").is_displayed()


def test_a_page_that_is_not_looked_at_asks_for_nothing(site: Site, browser: Browser) -> None:
    browser.open(site.url)
    browser.sees("order-1")
    browser.run("Object.defineProperty(document, 'hidden', {value: true})")

    def is_quiet() -> bool:  # soon, when what is under way has come
        browser.run("performance.clearResourceTimings()")
        time.sleep(1.5)
        return browser.run("return performance.getEntriesByType('resource').length") == 0

    browser.wait(is_quiet)

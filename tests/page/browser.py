"""A browser that is driven: Debian's chromium, without a window."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--force-device-scale-factor=1",
    # One renderer for all pages: each that a test opens would start another, and one in reserve.
    "--renderer-process-limit=1", "--disable-site-isolation-trials",
    "--disable-features=SpareRendererForSitePerProcess,BackForwardCache",
)  # fmt: skip
PATIENCE_SECONDS = 60


class Browser:
    """One tab, and what tests look for in it. Elements are found by CSS."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        self.driver.get("about:blank")  # else another fragment alone would not load the page anew
        self.driver.get(url)

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: "Callable[[], Any]", what: str = "") -> Any:
        from selenium.common.exceptions import WebDriverException
        from selenium.webdriver.support.wait import WebDriverWait

        wait = WebDriverWait(self.driver, PATIENCE_SECONDS, 0.05, ignored_exceptions=[WebDriverException])
        return wait.until(lambda _: condition(), what)

    def find(self, css: str) -> Any:
        """The first element, as soon as it is there."""
        return self.wait(lambda: self.driver.find_element("css selector", css), f"no {css}")

    def count(self, css: str) -> int:
        return len(self.driver.find_elements("css selector", css))

    def text(self, css: str) -> str:
        """The text that is in sight."""
        return self.find(css).text

    def texts(self, css: str) -> list[str]:
        return self.run("return [...document.querySelectorAll(arguments[0])].map((each) => each.textContent)", css)

    def sees(self, text: str, css: str = "body") -> None:
        """Wait until a text is in sight."""
        self.wait(lambda: text in self.driver.find_element("css selector", css).text, f"no {text!r} in {css}")

    def click(self, css: str) -> None:
        self.wait(lambda: self.driver.find_element("css selector", css).click() or True, f"no {css} to click")

    def press(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def ids(self) -> list[str]:
        """The runs in the list, from above."""
        rows = "[...document.querySelectorAll('.row')].map((row) => [parseFloat(row.style.top), row.dataset.id])"
        return [id for _, id in sorted(map(tuple, self.run(f"return {rows}")))]

    def lists(self, *ids: str) -> None:
        """Wait until the list has just these runs."""
        self.wait(lambda: self.ids() == list(ids), f"the list is not {ids}")

    def counts(self, *words: str) -> None:
        """Wait until the statuses have just these numbers: they come after the list."""
        self.wait(lambda: self.text("#statuses").split() == list(words), f"the counts are not {words}")

    def size(self, width: int, height: int, *, dark: bool = False) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})

    def complaints(self) -> list[str]:
        """What the console has of errors; a 404 or 503 that a test asks for is none."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["source"] != "network"]


@contextlib.contextmanager
def browsing(profile: Path, *, waits: bool = True) -> Iterator[Browser]:
    """A browser with a profile of its own; skips where there is none. Not `waits`: pages are looked at while they load."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("no chromium and chromedriver: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in (*OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    options.page_load_strategy = "normal" if waits else "none"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(chromedriver))
    try:
        driver.set_page_load_timeout(PATIENCE_SECONDS)
        yield Browser(driver)
    finally:
        driver.quit()

"""The pictures of the page in docs/images: `make pictures` draws them anew."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.page.browser import Browser
from tests.page.site import ordering, serving

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"


def test_pictures(orders: Any, browser: Browser) -> None:
    """In a folder whose name readers may see."""
    with tempfile.TemporaryDirectory() as folder:
        orders.path = shutil.copytree(orders.path, Path(folder) / "shop")
        _draw(orders, browser)


def _draw(orders: Any, browser: Browser) -> None:
    log = orders.path / "orders.log"

    def picture(name: str) -> None:
        path = IMAGES / f"{name}.png"
        browser.run("document.activeElement.blur()")
        assert browser.driver.save_screenshot(str(path))
        assert path.stat().st_size > 10_000

    with serving(orders) as site:
        with ordering(orders, "42") as process:
            process.wait()
        with ordering(orders, "44") as process:
            process.wait()
        with ordering(orders, "43") as process:
            browser.wait(lambda: "fulfill_order 43" in log.read_text())
            process.kill()
            process.wait()
        browser.size(1440, 620)
        browser.open(f"{site.url}#run=order-43")
        browser.sees("died while fulfill_order ran", ".story")
        picture("page-killed")
        with ordering(orders, "43") as process:
            process.wait()
        browser.sees("the next one went on from there", ".story")
        picture("page-completed")
        browser.size(1440, 620, dark=True)
        picture("page-dark")
        browser.size(1440, 900)
        browser.open(f"{site.url}#run=order-44&step=0")
        browser.sees("One attempt", ".panel")
        picture("page-failed")
        browser.size(800, 700)
        browser.open(f"{site.url}#run=order-43")
        browser.sees("the next one went on from there", ".story")
        picture("page-narrow")

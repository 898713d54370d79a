"""Journals made by real programs, the page that shows them, and a browser that looks at it."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.cli.conftest import folder, left, live, shop  # noqa: F401 - fixtures
from tests.page.browser import Browser, browsing
from tests.page.site import Site, serving

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that need a browser come first, so that one worker has all of them: each would start one of its own."""
    items.sort(key=lambda item: not {"browser", "hasty"}.intersection(getattr(item, "fixturenames", ())))


@pytest.fixture
def orders(folder: Any) -> Any:  # noqa: F811 - the fixture
    """A folder with the demo's program, which has not run yet."""
    shutil.copy(ROOT / "examples" / "order_item.py", folder.path)
    shutil.copytree(ROOT / "examples" / "data", folder.path / "data")
    return folder


@pytest.fixture(scope="module")
def site(shop: Any) -> Iterator[Site]:  # noqa: F811 - the fixture
    """The page of a journal with a run of each kind, whose owner was killed."""
    with serving(shop) as site:
        yield site


@pytest.fixture(scope="session")
def _browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(_browser: Browser) -> Iterator[Browser]:
    """A browser 1440 pixels wide, in which nothing may have gone wrong in the end."""
    yield from _watched(_browser)


@pytest.fixture(scope="session")
def _hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("profile"), waits=False) as browser:
        yield browser


@pytest.fixture
def hasty(_hasty: Browser) -> Iterator[Browser]:
    """The same, for a page that is looked at before all of it is there."""
    yield from _watched(_hasty)


def _watched(browser: Browser) -> Iterator[Browser]:
    browser.size(1440, 900)
    browser.complaints()
    yield browser
    assert browser.complaints() == []
    browser.run("localStorage.clear(); sessionStorage.clear()")
    browser.driver.get("about:blank")

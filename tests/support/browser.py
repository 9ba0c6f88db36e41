"""A headless Chromium for tests: it runs without a network and reports its console and its requests."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PACKAGES = ("chromium", "chromium-driver")
"""Debian's packages of the browser and its driver."""
_COMMANDS = ("chromium", "chromedriver")


def require_browser() -> None:
    """Skip the test on a machine without a browser; fail where CI is set."""
    missing = [name for name in _COMMANDS if shutil.which(name) is None]
    if missing:
        message = f"{' and '.join(missing)} not found: install Debian's packages {' and '.join(PACKAGES)}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


@contextmanager
def started_browser(folder: Path, *options: str) -> Iterator[Any]:
    """Start a browser with a profile in `folder`, and end it with its driver.

    Names resolve to nothing, and a proxy that does not exist stands before everything but this machine: a page that
    asks for something leaves a failed request in the log.
    """
    require_browser()
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    settings = Options()
    settings.binary_location = str(shutil.which("chromium"))
    for option in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "--window-size=1280,900",
        f"--user-data-dir={folder / 'profile'}",
        *options,
    ):
        settings.add_argument(option)
    settings.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=settings, service=Service(str(shutil.which("chromedriver"))))
    try:
        driver.set_page_load_timeout(60)
        driver.get("about:blank")
        driver.get_log("performance")  # what the browser's own first page asks for
        yield driver
    finally:
        driver.quit()


def console(driver: Any) -> list[str]:
    """Return the messages of the console since the last call."""
    return [entry["message"] for entry in driver.get_log("browser")]


def requests(driver: Any) -> list[str]:
    """Return the URLs that were requested since the last call, without those inside the page (`data:`)."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [url for url in urls if not url.startswith("data:")]

"""Pages of the product in a real browser: headless Chromium, driven by Playwright.

A test takes the fixture `browse` and calls it with a path or an address. Errors on the console, uncaught exceptions and
requests that leave the machine fail the test. Skipped where no Chromium is installed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ARGUMENTS = (
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
)  # fmt: skip
LOCAL = ("file:", "data:", "blob:", "about:", "http://127.0.0.1", "http://localhost", "ws://127.0.0.1")
Browse = Callable[..., Any]


@dataclass
class Complaints:
    """What a page did that it must not do."""

    texts: list[str] = field(default_factory=list)

    def watch(self, page: Any) -> None:
        page.on(
            "console", lambda m: self.texts.append(f"console: {m.text}") if m.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: self.texts.append(f"exception: {error}"))
        page.on("request", lambda request: self._request(request.url))

    def _request(self, url: str) -> None:
        if not url.startswith(LOCAL):
            self.texts.append(f"request to {url}")


def chromium_path() -> str | None:
    """The browser of this machine; None where there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A running browser, one for each test module."""
    path = chromium_path()
    if path is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def browse(chromium: Any) -> Iterator[Browse]:
    """`browse(path or address, width=1280, height=900, **options of a Playwright context)` -> a loaded page.

    `page.complaints` lists what went wrong so far; a test that provokes an error clears it.
    """
    contexts, complaints = [], Complaints()

    def open_page(target: Path | str, *, width: int = 1280, height: int = 900, **options: Any) -> Any:
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.complaints = complaints.texts
        complaints.watch(page)
        page.goto(target.absolute().as_uri() if isinstance(target, Path) else target)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints.texts == []

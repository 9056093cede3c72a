"""A real browser for tests of pages: it keeps what a page says and what it asks for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""None: the one that `playwright install chromium` fetched, if it did."""

PATIENCE = 100_000
"""Milliseconds: pages open, and charts are drawn, in their own time on a busy machine."""

LAPTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


class Tab:
    """One page of the folder, open; whatever it says or asks for outside the folder is kept."""

    def __init__(self, browser: Any, folder: Path, name: str, **settings: Any) -> None:
        self.context = browser.new_context(**settings)
        self.context.set_default_timeout(PATIENCE)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        file, sign, anchor = name.partition("#")
        self.page.goto((folder / file).as_uri() + sign + anchor)
        self.inside = folder.as_uri()

    def settled(self) -> Any:
        """The page, once every curve that is open has been drawn."""
        waiting = self.page.locator("figure.curve:not(details:not([open]) *):not(:has(.mark-line path))")
        expect(waiting).to_have_count(0)
        return self.page

    def silent(self) -> bool:
        """Whether it said nothing and asked for nothing but its own files."""
        outside = [url for url in self.asked if not url.startswith((self.inside, "data:"))]
        assert (self.said, outside) == ([], []), (self.said, outside)
        return True

    def audited(self) -> list[str]:
        """What axe finds against WCAG 2.2 at level AA and its own best practices."""
        found = Axe().run(self.page).response["violations"]
        return [f"{each['id']}: {node['html'][:200]}" for each in found for node in each["nodes"]]


@contextmanager
def chromium() -> Iterator[Any]:
    """A running browser; the test is skipped where there is none."""
    with sync_playwright() as playwright:
        if CHROMIUM is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("no Chromium: neither on PATH (Debian's package of that name) nor by `playwright install`")
        expect.set_options(timeout=PATIENCE)
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()

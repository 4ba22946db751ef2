"""Debian's Chromium, and what a person with it would mind in a page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, get_args

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Response, sync_playwright

from tests.support.programs import program_path

LONGEST = 20_000  # milliseconds that anything may take on a busy machine
NARROW, WIDE, WIDEST = 360, 1280, 1920
HEIGHT = 800

Language = Literal["en", "zh"]
Scheme = Literal["light", "dark"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
LOCALES = {"en": "en-GB", "zh": "zh-CN"}

_BAD = {"serious", "critical"}
_MINDED = {"error", "warning"}


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """Run it for a `with` block. Playwright's loop runs in this thread meanwhile: a test that
    calls `asyncio.run` here fails until it is over.
    """
    chromium = program_path("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@dataclass
class Complaints:
    """What the browser complained of: errors on its console, breaches of the policy among them;
    exceptions; and answers that are none.
    """

    said: list[str] = field(default_factory=list)

    def of(self, page: Page) -> None:
        """Collect those of a page, from now on."""
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.said.append(f"exception: {error}"))
        page.on("response", self._on_response)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in _MINDED:
            self.said.append(f"{message.type}: {message.text}")

    def _on_response(self, response: Response) -> None:
        if response.status >= 400:
            self.said.append(f"{response.status}: {response.url}")


def barriers(page: Page) -> list[str]:
    """Return what axe finds serious or critical, each with the first of its places."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['target']} {one['nodes'][0]['failureSummary']}"
        for one in found
        if one["impact"] in _BAD
    ]


def must_be_readable(page: Page) -> None:
    """Fail where a page has barriers, must be scrolled sideways, or breaks a line in an option."""
    found = barriers(page)
    assert [] == found, found
    wider, sticks_out = page.evaluate(_SIDEWAYS)
    assert wider <= 0, sticks_out
    broken = broken_options(page)
    assert [] == broken, broken


_SIDEWAYS = """() => {
    const root = document.documentElement;
    const outside = [...document.body.querySelectorAll('*')].filter(
        one => one.getBoundingClientRect().right > root.clientWidth + 1);
    return [root.scrollWidth - root.clientWidth, outside.map(one => one.outerHTML.slice(0, 120))];
}"""


def broken_options(page: Page) -> list[str]:
    """Return the options of a page's commands that stand on two lines."""
    found: list[str] = page.evaluate(_BROKEN)
    return found


_BROKEN = """() => {
    const broken = [];
    for (const code of document.querySelectorAll('code')) {
        const walker = document.createTreeWalker(code, NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) {
            for (const match of walker.currentNode.data.matchAll(/--[a-z][a-z=0-9-]*/g)) {
                const range = document.createRange();
                range.setStart(walker.currentNode, match.index);
                range.setEnd(walker.currentNode, match.index + match[0].length);
                const lines = new Set([...range.getClientRects()].map(one => one.top));
                if (lines.size > 1) broken.push(match[0]);
            }
        }
    }
    return broken;
}"""

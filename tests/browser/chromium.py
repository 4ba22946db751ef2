"""Debian's Chromium, and the checks of a page for readers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, get_args

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Response, sync_playwright

from tests.support.programs import program_path

LONGEST = 20_000  # milliseconds for a step on a busy machine
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
    """Run Chromium for a `with` block. Meanwhile, Playwright's event loop runs in this thread, so
    `asyncio.run` fails here.
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
    """Complaints of the browser: errors and warnings on the browser's console, such as breaches of
    the content policy; exceptions; and answers with an error status.
    """

    messages: list[str] = field(default_factory=list)

    def of(self, page: Page) -> None:
        """Collect the complaints of a page from now on."""
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.messages.append(f"exception: {error}"))
        page.on("response", self._on_response)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in _MINDED:
            self.messages.append(f"{message.type}: {message.text}")

    def _on_response(self, response: Response) -> None:
        if response.status >= 400:
            self.messages.append(f"{response.status}: {response.url}")


def barriers(page: Page) -> list[str]:
    """Return the serious and critical findings of axe, each with the first place in the page."""
    violations = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {rule['nodes'][0]['target']} {rule['nodes'][0]['failureSummary']}"
        for rule in violations
        if rule["impact"] in _BAD
    ]


def must_be_readable(page: Page) -> None:
    """Fail if a page has barriers, must be scrolled sideways, or breaks a line inside an option."""
    found_barriers = barriers(page)
    assert [] == found_barriers, found_barriers
    wider, sticks_out = page.evaluate(_SIDEWAYS)
    assert wider <= 0, sticks_out
    broken = broken_options(page)
    assert [] == broken, broken


_SIDEWAYS = """() => {
    const root = document.documentElement;
    const outside = [...document.body.querySelectorAll('*')].filter(
        element => element.getBoundingClientRect().right > root.clientWidth + 1);
    const tags = outside.map(element => element.outerHTML.slice(0, 120));
    return [root.scrollWidth - root.clientWidth, tags];
}"""


def broken_options(page: Page) -> list[str]:
    """Return the options that stand on two lines, from the page's commands."""
    broken: list[str] = page.evaluate(_BROKEN)
    return broken


_BROKEN = """() => {
    const broken = [];
    for (const code of document.querySelectorAll('code')) {
        const walker = document.createTreeWalker(code, NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) {
            for (const match of walker.currentNode.data.matchAll(/--[a-z][a-z=0-9-]*/g)) {
                const range = document.createRange();
                range.setStart(walker.currentNode, match.index);
                range.setEnd(walker.currentNode, match.index + match[0].length);
                const lines = new Set([...range.getClientRects()].map(box => box.top));
                if (lines.size > 1) broken.push(match[0]);
            }
        }
    }
    return broken;
}"""

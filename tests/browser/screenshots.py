"""Pictures of every page with visible trouble, in each language, scheme and width, for people to
judge the look; and the three pictures of each README. Usage: see `scripts/screenshots`.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

from playwright.sync_api import Browser, Page, StorageState

from certferry.present.console import standard_console
from certferry_sandbox.troubled import troubled
from tests.browser.chromium import (
    HEIGHT,
    LANGUAGES,
    LOCALES,
    LONGEST,
    NARROW,
    SCHEMES,
    WIDE,
    WIDEST,
    Language,
    Scheme,
    running_chromium,
)
from tests.browser.console_process import ConsoleProcess, serving
from tests.browser.pages import LOGIN, PAGES, open_page
from tests.house.tree import ROOT
from tests.support.ports import free_port

WIDTHS = (NARROW, WIDE, WIDEST)
HEIGHT_IN_READMES = 720
IN_READMES: dict[str, tuple[str, Scheme, str]] = {
    "overview": (PAGES["overview"], "light", "h1"),
    "life": (PAGES["overview"], "dark", "#days"),
    "run": (PAGES["run"], "light", "h1"),
}
"""The page, the scheme, and the element at the top, by the name of the picture."""


def take(browser: Browser, console: ConsoleProcess, folder: Path) -> None:
    """Take pictures of every page, in every language, scheme and width. The login page is taken
    before the login.
    """
    who = console.log_in(browser, "anna")
    for language, scheme in product(LANGUAGES, SCHEMES):
        with _page(browser, language, scheme, who) as page:
            for name, path in PAGES.items():
                open_page(page, console, path)
                _take_widths(page, folder, f"{name}-{language}-{scheme}")
        with _page(browser, language, scheme) as page:
            page.goto(console.url + LOGIN)
            _take_widths(page, folder, f"login-{language}-{scheme}")


def _take_widths(page: Page, folder: Path, name: str) -> None:
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": HEIGHT})
        page.screenshot(path=folder / f"{name}-{width}.png", full_page=True)


def take_for_readmes(browser: Browser, console: ConsoleProcess, folder: Path) -> None:
    """Take the pictures of the READMEs, a single screen each."""
    who = console.log_in(browser, "demo")
    for language, (name, (path, scheme, top)) in product(LANGUAGES, IN_READMES.items()):
        with _page(browser, language, scheme, who) as page:
            page.set_viewport_size({"width": WIDE, "height": HEIGHT_IN_READMES})
            open_page(page, console, path)
            page.locator(top).evaluate("element => element.scrollIntoView()")
            page.screenshot(path=folder / f"console-{name}-{language}.png")


@contextmanager
def _page(
    browser: Browser, language: Language, scheme: Scheme, who: StorageState | None = None
) -> Iterator[Page]:
    with browser.new_context(
        storage_state=who,
        locale=LOCALES[language],
        color_scheme=scheme,
        reduced_motion="reduce",
        viewport={"width": WIDE, "height": HEIGHT},
        timezone_id="Asia/Shanghai",
    ) as context:
        context.set_default_timeout(LONGEST)
        yield context.new_page()


@contextmanager
def _home_of_the_configuration() -> Iterator[Path]:
    """Make a folder like an operator's for a `with` block, because pages show the paths of
    files.
    """
    folder = Path.home() / "certferry"
    try:
        folder.mkdir(0o700)
    except FileExistsError:
        raise SystemExit(f"{folder} already exists: move it, the pictures show its path") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """Take all pictures into a folder, or with `--readmes` the pictures of the READMEs into
    `docs/images`.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("screenshots"))
    parser.add_argument("--readmes", action="store_true")
    asked = parser.parse_args()
    with (
        _home_of_the_configuration() as home,
        troubled(home, standard_console(os.environ)) as (world, config, _),
        serving(config, world.environment, free_port()) as console,
        running_chromium() as browser,
    ):
        if asked.readmes:
            images = ROOT / "docs" / "images"
            images.mkdir(exist_ok=True)
            take_for_readmes(browser, console, images)
        else:
            asked.folder.mkdir(parents=True, exist_ok=True)
            take(browser, console, asked.folder)


if __name__ == "__main__":
    main()

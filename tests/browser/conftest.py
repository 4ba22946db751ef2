"""A browser, the worlds that its pages are of, and pages that must give no reason to complain."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, StorageState, expect

from certferry.present.console import standard_console
from certferry_sandbox.troubled import troubled
from certferry_sandbox.world import World, demonstration
from tests.browser.chromium import (
    HEIGHT,
    LOCALES,
    LONGEST,
    WIDE,
    Complaints,
    Language,
    Scheme,
    running_chromium,
)
from tests.browser.console_process import ConsoleProcess, serving
from tests.browser.pages import open_page
from tests.support.ports import free_port

NewPage = Callable[..., Page]
expect.set_options(timeout=LONGEST)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for the tests of a module: see `running_chromium` for why not for all."""
    with running_chromium() as browser:
        yield browser


@pytest.fixture
def complaints() -> Complaints:
    """What the pages of a test complained of."""
    return Complaints()


@pytest.fixture
def new_page(chromium: Browser, complaints: Complaints) -> Iterator[NewPage]:
    """Open a page in a browser of its own, logged in as `who`, or not."""
    contexts = []

    def open_page(
        who: StorageState | None = None,
        *,
        language: Language = "en",
        scheme: Scheme = "light",
        width: int = WIDE,
        scripts: bool = True,
    ) -> Page:
        context = chromium.new_context(
            storage_state=who,
            locale=LOCALES[language],
            color_scheme=scheme,
            reduced_motion="reduce",
            viewport={"width": width, "height": HEIGHT},
            java_script_enabled=scripts,
            timezone_id="Asia/Shanghai",
        )
        contexts.append(context)
        context.set_default_timeout(LONGEST)
        page = context.new_page()
        complaints.of(page)
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def fresh_world() -> Iterator[World]:
    """The world of the demo, in which nothing is done yet."""
    with demonstration() as world:
        yield world


@pytest.fixture(scope="module")
def troubled_console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleProcess]:
    """The console of a world with trouble in it to see."""
    folder = tmp_path_factory.mktemp("troubled")
    with (
        troubled(folder, standard_console(os.environ)) as (world, config, _),
        serving(config, world.environment, free_port()) as console,
    ):
        yield console


@pytest.fixture(scope="module")
def anna(chromium: Browser, troubled_console: ConsoleProcess) -> StorageState:
    """An operator who is logged in there."""
    return troubled_console.log_in(chromium, "anna")


@pytest.fixture
def opened(troubled_console: ConsoleProcess, anna: StorageState, new_page: NewPage) -> NewPage:
    """Open a path of that console as `anna`, as it is once nothing is observed for it any more."""

    def opened(path: str, **manner: object) -> Page:
        page = new_page(anna, **manner)
        open_page(page, troubled_console, path)
        return page

    return opened

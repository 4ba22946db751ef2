"""Fixtures: a browser, worlds with a console, and pages with their complaints."""

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
    """A browser for the tests of a module. See `running_chromium` for the reason."""
    with running_chromium() as browser:
        yield browser


@pytest.fixture
def complaints() -> Complaints:
    """The complaints of all pages of a test."""
    return Complaints()


@pytest.fixture
def new_page(chromium: Browser, complaints: Complaints) -> Iterator[NewPage]:
    """Open a page in a separate browser, logged in as `who` if given."""
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
    """The world of the demo before the first run."""
    with demonstration() as world:
        yield world


@pytest.fixture(scope="module")
def troubled_console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleProcess]:
    """The console of a world with visible trouble."""
    folder = tmp_path_factory.mktemp("troubled")
    with (
        troubled(folder, standard_console(os.environ)) as (world, config, _),
        serving(config, world.environment, free_port()) as console,
    ):
        yield console


@pytest.fixture(scope="module")
def anna(chromium: Browser, troubled_console: ConsoleProcess) -> StorageState:
    """The logged-in browser of an operator of `troubled_console`."""
    return troubled_console.log_in(chromium, "anna")


@pytest.fixture
def opened(troubled_console: ConsoleProcess, anna: StorageState, new_page: NewPage) -> NewPage:
    """Open a path of `troubled_console` as `anna`, and wait for the end of the observation."""

    def opened(path: str, **manner: object) -> Page:
        page = new_page(anna, **manner)
        open_page(page, troubled_console, path)
        return page

    return opened

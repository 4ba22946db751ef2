"""Every page in both languages, schemes and widths, without JavaScript, and in print."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, StorageState
from starlette.routing import Route

from certferry.console.app import ROUTES
from tests.browser.chromium import (
    LANGUAGES,
    NARROW,
    SCHEMES,
    WIDE,
    Complaints,
    Language,
    must_be_readable,
)
from tests.browser.conftest import NewPage
from tests.browser.console_process import ConsoleProcess
from tests.browser.pages import LOGIN, PAGES
from tests.support.tiers import thorough

pytestmark = thorough

_FOR_PROGRAMS = (
    "/static/",
    "/api/",
    "/healthz",
    "/metrics",
    "/runs/{run}/events",
    "/runs/in-progress",
)
_FILES = (".csv", ".json", ".pem", ".toml")


def is_for_programs(path: str) -> bool:
    return path.startswith(_FOR_PROGRAMS) or path.endswith(_FILES)


def test_every_page_is_in_the_list() -> None:
    """`PAGES`, the login and the page of a link cover every route of a page."""
    routes = [
        route for route in ROUTES if isinstance(route, Route) and "GET" in (route.methods or ())
    ]
    pages = [route for route in routes if not is_for_programs(route.path)]
    opened = [*PAGES.values(), LOGIN, "/welcome/x"]

    unseen = [route.path for route in pages if not any(map(route.path_regex.match, opened))]
    assert [] == unseen


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES)
def test_page_is_readable_in_both_schemes_and_widths(
    path: str,
    language: Language,
    opened: NewPage,
    complaints: Complaints,
) -> None:
    """The page passes the checks of axe, fits the width, and causes no message on the browser's
    console, such as a breach of the content policy.
    """
    page = opened(path, language=language)

    must_be_readable_everywhere(page)
    assert language == (page.get_attribute("html", "lang") or "")[:2]
    assert [] == complaints.messages


@pytest.mark.parametrize("language", LANGUAGES)
def test_pages_before_the_login_are_readable(
    language: Language,
    troubled_console: ConsoleProcess,
    new_page: NewPage,
    complaints: Complaints,
) -> None:
    """The login and the page of a link pass the same checks."""
    page = new_page(language=language)
    for path in (LOGIN, troubled_console.link_for(f"of-{language}")):
        page.goto(path if "://" in path else troubled_console.url + path)
        must_be_readable_everywhere(page)
    assert [] == complaints.messages


def must_be_readable_everywhere(page: Page) -> None:
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        for width in (NARROW, WIDE):
            page.set_viewport_size({"width": width, "height": 800})
            must_be_readable(page)


@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES)
def test_page_without_javascript_has_the_same_links(
    path: str, anna: StorageState, opened: NewPage, new_page: NewPage, complaints: Complaints
) -> None:
    """Without JavaScript, the page has a heading and at least as many links and forms."""
    with_scripts, without = opened(path), new_page(anna, scripts=False)
    without.goto(with_scripts.url)

    assert "" != without.locator("main h1").inner_text()
    offered = "main a[href], main form"
    assert with_scripts.locator(offered).count() <= without.locator(offered).count()
    assert [] == complaints.messages


@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES)
def test_page_is_printed_as_black_on_white(path: str, opened: NewPage) -> None:
    """A print has a white ground and hides the navigation, even in a dark browser."""
    page = opened(path, scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")

    assert "rgb(255, 255, 255)" == page.evaluate(_GROUND)
    assert not page.locator("nav").first.is_visible()


_GROUND = """() => {
    const of = name => getComputedStyle(document.querySelector(name)).backgroundColor;
    const clear = 'rgba(0, 0, 0, 0)';
    return of('body') !== clear ? of('body')
        : of('html') !== clear ? of('html') : 'rgb(255, 255, 255)';
}"""

"""The console without a mouse, and pages refreshed during use."""

from __future__ import annotations

import pytest
from playwright.sync_api import StorageState, expect

from tests.browser.chromium import Complaints
from tests.browser.conftest import NewPage
from tests.browser.console_process import ConsoleProcess
from tests.browser.pages import PAGES, open_page
from tests.support.tiers import thorough

pytestmark = thorough

REFRESHED = {name: PAGES[name] for name in ("overview",)}
A_WHILE = 31_000  # milliseconds: pages are refreshed every 30 s
MOST_STOPS = 40
"""The most presses of TAB in a test, because long tables only repeat the same stops."""


@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES)
def test_every_stop_of_the_tab_key_is_visible(path: str, opened: NewPage) -> None:
    """The first stop leads to the content. At each stop, the focus has an outline."""
    page = opened(path)

    page.keyboard.press("Tab")
    assert "#main" == page.evaluate("document.activeElement.getAttribute('href')")
    for _ in range(MOST_STOPS):
        stop = page.evaluate(_STOP)
        if stop is None:
            break
        where, outline, width = stop
        assert outline != "none", where
        assert width > 0, where
        page.keyboard.press("Tab")


_STOP = """() => {
    const at = document.activeElement;
    if (!at || at === document.body) return null;
    // The browser itself marks the focus in its own parts, such as the calendar of a date.
    const outline = at.matches(':focus') ? getComputedStyle(at).outlineStyle : 'its own';
    return [at.outerHTML.slice(0, 160), outline, at.getBoundingClientRect().width];
}"""


def test_keys_lead_to_a_page_of_a_certificate(
    troubled_console: ConsoleProcess, opened: NewPage
) -> None:
    """With keys alone, a user skips the navigation, and opens the first certificate."""
    page = opened("/certificates")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    for _ in range(MOST_STOPS):
        page.keyboard.press("Tab")
        target = page.evaluate("document.activeElement.getAttribute('href')") or ""
        if "/certificates/" in target:
            break
    page.keyboard.press("Enter")

    expect(page).to_have_url(f"{troubled_console.url}{target}")


@pytest.mark.parametrize("path", REFRESHED.values(), ids=REFRESHED)
def test_focus_stays_when_a_part_is_refreshed(
    path: str,
    troubled_console: ConsoleProcess,
    anna: StorageState,
    new_page: NewPage,
    complaints: Complaints,
) -> None:
    """A refresh keeps the focus and the scroll position."""
    page = new_page(anna)
    page.clock.install()
    open_page(page, troubled_console, path)
    last = page.locator("main :is(a[href], button)").last
    last.focus()
    before, scrolled = page.evaluate(_PLACE)

    with page.expect_response(lambda answer: answer.request.resource_type in {"fetch", "xhr"}):
        page.clock.fast_forward(A_WHILE)
    page.wait_for_function("() => !document.querySelector('.htmx-request, .htmx-swapping')")

    assert [before, scrolled] == page.evaluate(_PLACE)
    assert [] == complaints.messages


_PLACE = "() => [document.activeElement.outerHTML, window.scrollY]"

"""Improvements by JavaScript in a real browser: times, copies, and a tab in the background."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from jinja2 import ChoiceLoader, DictLoader
from playwright.sync_api import Page
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from certferry.console.app import console_app
from certferry.console.site import Site, render, templates
from certferry.present.language import relative, voice_in
from tests.browser.conftest import NewPage
from tests.console.serving import AsVisitor, Began, served
from tests.console.sites import console, workspace_in
from tests.support.tiers import thorough

pytestmark = thorough

AT = datetime(2026, 11, 29, 16, 20, 5, tzinfo=UTC)
PAGE = """\
{% extends "base.html" %}
{% import "parts.html" as parts with context %}
{% import "tables.html" as tables with context %}
{% block title %}A page{% endblock %}
{% block main %}
<h1>A page</h1>
<div id="part" hx-get="{{ link("/page") }}" hx-trigger="every 200ms" hx-select="#part"
  hx-swap="outerMorph" hx-target="this">
<p id="count">{{ count }}</p>
<p id="at">{{ moment(at, "exact") }}</p>
<p id="near">{{ moment(at) }}</p>
<p id="deadline">{{ moment(at, "both") }}</p>
<p id="day"><time datetime="2026-11-29">Sunday</time></p>
<p id="end"><time datetime="2026-11-29T16:20:05Z">2026-11-29</time></p>
<p id="said">it ends at 2026-11-29 16:20 UTC, type <code>at 2026-11-29 16:20 UTC</code></p>
<ol class="strip">
<li data-day="2026-11-28" class="off" hidden><time datetime="2026-11-28">28</time></li>
<li data-day="2026-11-29" aria-current="date"><time datetime="2026-11-29">29</time>
<p class="expiry" data-counts="1995519:1 1995521:1">
<a href="/certificates?day=x">expiry <b>2</b></a></p>
<p class="renewal" data-counts="1995488:3 1995548:2">
<a href="/certificates?day=x">renewal <b>5</b></a></p></li>
<li data-day="2026-11-30"><time datetime="2026-11-30">30</time>
<p class="renewal" data-counts="1995556:4 1995616:7">
<a href="/certificates?day=x">renewal <b>11</b></a></p></li>
<li data-day="2026-12-01" hidden><time datetime="2026-12-01">1</time>
<p class="expiry" data-counts="1995711:1">
<a href="/certificates?day=x">expiry <b>1</b></a></p></li>
</ol>
{{ parts.command("certferry sync 'a b'") }}
<input id="field">
</div>
<form action="{{ link("/page") }}">
{{ tables.day("from", "First", asked.get("from", "")) }}
{{ tables.day("until", "Last", asked.get("until", "")) }}
<button>Filter</button></form>
{% endblock %}
"""


WAIT_FOR_COPIED = """\
new MutationObserver(() => {
  window.wasCopied ||= document.querySelector("button[data-copied]").textContent === "copied";
}).observe(document.body, { childList: true, characterData: true, subtree: true })
"""


@pytest.fixture
def page(tmp_path: Path, new_page: NewPage) -> Iterator[Page]:
    """A page with a part that is loaded again and again. Trouble begins after the first load."""
    shown = 0

    def show(request: Request) -> Response:
        nonlocal shown
        shown += 1
        trouble = 0 if shown == 1 else 3
        asked = request.query_params
        return render(request, "page.html", at=AT, count=shown, trouble=trouble, asked=asked)

    environment = templates()
    assert environment.loader is not None
    before, pages = environment.loader, DictLoader({"page.html": PAGE})
    environment.loader = ChoiceLoader([pages, before])
    workspace = workspace_in(tmp_path)
    guarded = console_app(Site(lambda: workspace, Began()))
    guarded.app.router.routes.append(Route("/page", show))
    try:
        with workspace, served(AsVisitor(guarded)) as url:
            opened = new_page()
            opened.context.grant_permissions(["clipboard-read", "clipboard-write"])
            opened.clock.set_fixed_time("2026-11-29T12:00:00Z")
            opened.goto(f"{url}/page")
            yield opened
    finally:
        environment.loader = before


def test_times_are_in_the_zone_of_the_viewer(page: Page) -> None:
    """Times are in the viewer's zone, also after a refresh. The tooltip has the seconds and the
    zone, and dates without a time stay the same.
    """
    page.wait_for_function("Number(document.querySelector('#count').textContent) > 3")

    assert "2026-11-30 00:20" == page.inner_text("#at")
    assert "2026-11-30 00:20:05 +08:00" == page.get_attribute("#at time", "title")
    assert "Sunday" == page.inner_text("#day")
    assert "Asia/Shanghai" in page.inner_text("footer")


def test_distances_follow_the_clock_of_the_viewer(page: Page) -> None:
    """The tooltip and a print have the exact time, and a deadline has both the time and the
    distance.
    """
    assert "in 4 hours" == page.inner_text("#near")
    assert "2026-11-30 00:20 (in 4 hours)" == page.inner_text("#deadline")
    assert "2026-11-30 00:20:05 +08:00" == page.get_attribute("#near time", "title")

    page.clock.set_fixed_time("2026-11-29T16:41:00Z")
    page.wait_for_function("document.querySelector('#near').textContent === '20 minutes ago'")

    page.emulate_media(media="print")
    assert '"2026-11-30 00:20:05 +08:00"' == page.evaluate(_IN_PRINT)
    assert "2026-11-30 00:20" == page.inner_text("#deadline").strip()


_IN_PRINT = "getComputedStyle(document.querySelector('#near time'), '::after').content"


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("seconds", [0, 1, 59, 60, 89, 90, 119, 120, 7200, 86400, 90000, 777600])
def test_script_and_server_write_the_same_distance(
    tmp_path: Path, new_page: NewPage, language: str, seconds: int
) -> None:
    """The script and the server use the same words, so a time stays the same after the load."""
    voice, now = voice_in(language), datetime(2026, 11, 29, 12, tzinfo=UTC)
    moments = [now + timedelta(seconds=sign * seconds) for sign in (1, -1)]
    with workspace_in(tmp_path) as workspace, console(workspace, language=language) as url:
        page = new_page()
        page.clock.set_fixed_time(now)
        page.goto(f"{url}/channels")
        for moment in moments:
            page.evaluate(_ADD_TIME, moment.isoformat())
            page.wait_for_function("document.querySelector('#added').textContent !== ''")

            assert voice.say(relative(moment, now)) == page.inner_text("#added")


_ADD_TIME = """at => {
  document.querySelector('#added')?.remove();
  const time = document.createElement('time');
  Object.assign(time, { id: 'added', className: 'near', dateTime: at });
  document.querySelector('main').append(time);
}"""


def test_dates_and_sentences_are_in_the_zone_of_the_viewer(page: Page) -> None:
    """Dates and the times in sentences are in the viewer's zone, also after a refresh. A command to
    copy stays the same.
    """
    page.wait_for_function("Number(document.querySelector('#count').textContent) > 3")

    assert "2026-11-30" == page.inner_text("#end")
    assert "it ends at 2026-11-30 00:20, type at 2026-11-29 16:20 UTC" == page.inner_text("#said")
    assert 1 == page.locator(".strip .off").count()


def test_events_are_counted_by_the_day_of_the_viewer(page: Page) -> None:
    """Each kind of event has a count for each day, also after a refresh. The link has the beginning
    of the viewer's day.
    """
    page.wait_for_function("Number(document.querySelector('#count').textContent) > 3")

    days = ("2026-11-28", "2026-11-29", "2026-11-30", "2026-12-01")
    assert {
        "2026-11-28": [],
        "2026-11-29": ["expiry 1", "renewal 3"],
        "2026-11-30": ["expiry 1", "renewal 6"],
        "2026-12-01": ["expiry 1", "renewal 7"],
    } == {day: sorted(page.locator(f"[data-day='{day}'] a").all_text_contents()) for day in days}
    link = page.get_attribute("[data-day='2026-11-30'] .renewal a", "href") or ""
    assert link.endswith("/certificates?day=2026-11-29T16%3A00%3A00Z")


@pytest.mark.parametrize(
    ("now", "first"),
    [("2026-11-29T15:00:00Z", "2026-11-29"), ("2026-11-29T17:00:00Z", "2026-11-30")],
)
def test_strip_begins_with_the_day_of_the_viewer(page: Page, now: str, first: str) -> None:
    """East of UTC, the next day may have begun. Then the strip begins and ends a day later."""
    page.clock.set_fixed_time(now)
    page.wait_for_function("Number(document.querySelector('#count').textContent) > 3")
    page.wait_for_selector(f"[data-day='{first}'][aria-current=date]")

    days = ["2026-11-28", "2026-11-29", "2026-11-30", "2026-12-01"]
    shown = [day for day in days if page.locator(f"[data-day='{day}']").is_visible()]
    assert days[days.index(first) :] == shown
    assert 1 == page.locator("[aria-current=date]").count()


def test_refresh_keeps_the_focus_and_shows_trouble(page: Page) -> None:
    """A refresh keeps the focus and the typed text. The title and the icon show the trouble in a
    background tab.
    """
    page.focus("#field")
    page.keyboard.type("abc")
    page.wait_for_function("document.title.startsWith('(3) ')")

    assert "icon-error.svg" in (page.get_attribute("link[rel=icon]", "href") or "")
    assert "field" == page.evaluate("document.activeElement.id")
    assert "abc" == page.input_value("#field")


def test_filter_uses_the_days_of_the_viewer(page: Page) -> None:
    """The form sends the beginning and the end of the viewer's days, and shows the days."""
    page.fill("[name=from]", "2026-11-29")
    page.fill("[name=until]", "2026-11-30")
    page.get_by_role("button", name="Filter").click()

    page.wait_for_url("**/page?*")
    assert (
        "from=2026-11-28T16%3A00%3A00Z&until=2026-11-30T16%3A00%3A00Z" == urlsplit(page.url).query
    )
    assert "2026-11-29" == page.input_value("[name=from]")
    assert "2026-11-30" == page.input_value("[name=until]")


def test_command_is_copied(page: Page, tmp_path: Path) -> None:
    """The clipboard gets the command without changes. If there is no clipboard, the button selects
    the command.
    """
    command = f"certferry --config {tmp_path}/certferry.toml sync 'a b'"
    page.evaluate(WAIT_FOR_COPIED)  # a refresh may restore the old word before the check
    page.click("button[data-copied]")
    page.wait_for_function("window.wasCopied")
    assert command == page.evaluate("navigator.clipboard.readText()")

    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.wait_for_function("!document.querySelector('button[data-copied]').disabled")
    page.click("button[data-copied]")
    assert command == page.evaluate("getSelection().toString()")

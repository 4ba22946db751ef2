"""The first screen in Chromium, with any number of certificates."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Page, ViewportSize

from certferry.console.app import pages_of
from certferry.core.assessment.notices import Notice, Subject, Topic
from certferry.errors import Problem
from certferry.text import Text
from tests.browser.chromium import LANGUAGES, Complaints, Language, must_be_readable
from tests.browser.conftest import NewPage
from tests.console.serving import ANNA, AsVisitor, served
from tests.console.stored_site import NOW, fill, site_in, tables_of
from tests.support.tiers import thorough

pytestmark = thorough

NARROW, MIDDLE, WIDE = 360, 768, 1280
SCREEN = ViewportSize(width=WIDE, height=720)
CAUSES = 14
Opened = Callable[[int, Language], Page]


def troubles(count: int) -> list[Notice]:
    """Return trouble for a third of the certificates, with fourteen causes."""
    hint = Text("renew the certificate: `certferry sync --renew c0`, or read `certferry doctor`")
    message = Text("the target refuses the certificate, because another change has not ended yet")
    return [
        Notice(
            Topic.TROUBLE,
            Subject(f"c{number}", "qiniu", f"d0.c{number}.example.com"),
            NOW,
            Problem(f"code{number % CAUSES}", message, hint),
        )
        for number in range(max(count // 3, 1))
    ]


@pytest.fixture
def first_screen(tmp_path: Path, new_page: NewPage) -> Iterator[Opened]:
    """Open the first screen for this many certificates, a third of them in trouble."""
    with ExitStack() as sites:

        def opened(count: int, language: Language) -> Page:
            site = sites.enter_context(site_in(tmp_path, tables_of(count)))
            state = site.workspace().state
            fill(state, count)
            state.update_notices(lambda _: tuple(troubles(count)))
            url = sites.enter_context(served(AsVisitor(pages_of(site), ANNA, language)))
            page = new_page(language=language)
            page.set_viewport_size(SCREEN)
            page.goto(url)
            return page

        yield opened


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("count", [3, 300])
def test_first_screen_needs_no_scrolling(
    count: int, language: Language, first_screen: Opened, complaints: Complaints
) -> None:
    """At 1280 by 720, every part is in view without scrolling. Narrow windows scroll only
    downwards.
    """
    page = first_screen(count, language)

    assert page.evaluate("document.documentElement.scrollHeight") <= SCREEN["height"]
    for part in ("h1", "#needs", ".cause", "#days", "#lives", "svg.life", "#looked"):
        box = page.locator(part).first.bounding_box()
        assert box is not None, part
        assert box["y"] + box["height"] <= SCREEN["height"], part
    for width in (WIDE, MIDDLE, NARROW):
        page.set_viewport_size({"width": width, "height": SCREEN["height"]})
        must_be_readable(page)
    assert [] == complaints.messages


def test_labels_of_the_axis_keep_their_distance(first_screen: Opened) -> None:
    """The boxes of the labels do not overlap."""
    page = first_screen(3, "en")
    for width in (MIDDLE, WIDE):
        page.set_viewport_size({"width": width, "height": SCREEN["height"]})
        boxes = page.evaluate(_LABELS)
        assert boxes  # some days leave room for a single month
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(boxes))


_LABELS = """() => [...document.querySelectorAll('svg.axis text')].map(label => {
    const box = label.getBoundingClientRect();
    return [box.left, box.right];
}).sort((left, right) => left[0] - right[0])"""

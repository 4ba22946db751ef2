"""The pages of certificates, the plan and services, at three widths."""

from __future__ import annotations

import pytest

from tests.browser.chromium import LANGUAGES, NARROW, WIDE, Complaints, Language, must_be_readable
from tests.browser.conftest import NewPage
from tests.browser.pages import RUN
from tests.support.tiers import thorough

pytestmark = thorough

TABLET = 768
PATHS = (
    *("/certificates/img", "/certificates/shop", "/certificates/img/rollback"),
    *("/plan", "/plan?name=shop", "/discover", "/doctor", "/channels"),
    *("/certificates", "/accounts", "/history", f"/runs/{RUN}"),
)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("path", PATHS)
def test_unfolded_page_is_readable_at_three_widths(
    path: str, language: Language, opened: NewPage, complaints: Complaints
) -> None:
    """With all folds open, the page has no barrier, fits the width, and shows times in the viewer's
    zone.
    """
    page = opened(path, language=language)
    for folded in page.locator("main details").all():
        folded.evaluate("details => { details.open = true; }")

    for width in (NARROW, TABLET, WIDE):
        page.set_viewport_size({"width": width, "height": 800})
        must_be_readable(page)
    assert " UTC" not in page.inner_text("main")
    assert [] == complaints.messages


def test_certificate_is_downloaded_and_fingerprint_copied(opened: NewPage) -> None:
    """A click downloads the public certificate. Another click copies the whole fingerprint."""
    page = opened("/certificates/img")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])

    with page.expect_download() as download:
        page.get_by_role("link", name="Download certificate").click()
    page.get_by_role("button", name="copy fingerprint (SHA-256)").first.click()
    page.get_by_role("button", name="copied").wait_for()

    text = download.value.path().read_text()
    assert text.startswith("-----BEGIN CERTIFICATE-----")
    assert "PRIVATE" not in text
    assert 64 == len(page.evaluate("navigator.clipboard.readText()"))


def test_proposed_configuration_is_copied(opened: NewPage) -> None:
    """The button on the page of domains copies the tables that are shown."""
    page = opened("/discover")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])

    page.get_by_role("button", name="copy", exact=True).click()
    page.get_by_role("button", name="copied").wait_for()

    tables = page.evaluate("navigator.clipboard.readText()")
    assert tables.startswith("[[certificates]]")
    assert tables.strip() == page.inner_text("main pre").strip()


def test_address_leads_to_the_served_certificate(opened: NewPage) -> None:
    """The table of addresses links to the description of the certificate, with the chain."""
    page = opened("/certificates/img")

    page.locator("a[href^='#served-']").first.click()

    described = page.locator("article:target")
    assert described.locator("ol > li").count()
    assert "Issuer" in described.inner_text()

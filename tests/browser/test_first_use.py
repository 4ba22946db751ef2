"""A first user chooses a password, applies a plan, follows the run, and sees the served
certificate.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from playwright.sync_api import Page, expect

from certferry.core.certificates.certificate import fingerprint, short
from certferry_sandbox.world import DOMAINS, World
from tests.browser.chromium import Complaints, must_be_readable
from tests.browser.console_process import choose_password, serving
from tests.browser.pages import settle
from tests.support.ports import free_port
from tests.support.tiers import long, thorough

LONGEST_RUN = 60_000  # milliseconds


@long
@pytest.mark.parametrize("scripts", [True, pytest.param(False, marks=thorough)])
def test_first_user_applies_a_plan_and_sees_it_served(
    fresh_world: World,
    tmp_path: Path,
    new_page: Callable[..., Page],
    complaints: Complaints,
    *,
    scripts: bool,
) -> None:
    """Each step after the printed link is a link or a form of a page, with and without JavaScript.
    The edges serve the certificate shown on the console.
    """
    config = fresh_world.write_files(tmp_path)
    with serving(config, fresh_world.environment, free_port()) as console:
        page = new_page(scripts=scripts)
        page.goto(console.link_for("anna"))
        choose_password(page)
        assert console.url + "/" == page.url

        page.get_by_role("link", name="Plan", exact=True).click()
        settle(page)
        expect(page.locator("main")).to_contain_text(DOMAINS[1])
        must_be_readable_if(page, scripts=scripts)
        page.get_by_role("button", name=re.compile("apply", re.IGNORECASE)).click()

        expect(page).to_have_url(re.compile(r"/runs/[^/]+$"))
        if scripts:
            expect(page.locator("#run-events")).to_contain_text(DOMAINS[0])
        ended(page, scripts=scripts)
        expect(page.locator("#run-events")).to_contain_text(DOMAINS[0])
        must_be_readable_if(page, scripts=scripts)

        page.get_by_role("link", name="Certificates", exact=True).click()
        page.get_by_role("link", name="img", exact=True).first.click()
        settle(page)
        served = served_everywhere(fresh_world)
        expect(page.locator("main")).to_contain_text(short(served))
        must_be_readable_if(page, scripts=scripts)
        page.context.close()
    assert [] == complaints.messages


def ended(page: Page, *, scripts: bool) -> None:
    """Wait until the page shows the end of the run. Without JavaScript, reload the page."""
    done = page.locator("main .verdict.ok")
    if scripts:
        expect(done).to_be_visible(timeout=LONGEST_RUN)
    while not done.is_visible():
        page.wait_for_timeout(500)
        page.goto(page.url)


def must_be_readable_if(page: Page, *, scripts: bool) -> None:
    """Check a page with JavaScript. Without JavaScript, axe cannot run."""
    if scripts:
        must_be_readable(page)


def served_everywhere(world: World) -> str:
    """Return the only fingerprint that the edges serve for the domains."""
    edges = world.qiniu.edges
    seen = {
        fingerprint(_served(address, edges.port, domain))
        for domain in DOMAINS
        for address in edges.addresses
    }
    [everywhere] = seen
    return everywhere


def _served(address: str, port: int, domain: str) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((address, port)) as connection,
        context.wrap_socket(connection, server_hostname=domain) as tls,
    ):
        der = tls.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.DER)

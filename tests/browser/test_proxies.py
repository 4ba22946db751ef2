"""The console behind proxies: at the root, with a stripped prefix, with a kept prefix, and with
buffering.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from playwright.sync_api import Page, expect

from certferry_sandbox.world import DOMAINS, World
from tests.browser.chromium import Complaints
from tests.browser.console_process import choose_password, serving
from tests.browser.pages import settle
from tests.browser.proxies import Manner, proxy
from tests.browser.test_first_use import ended
from tests.support.ports import HOST, free_port
from tests.support.tiers import thorough

pytestmark = thorough

MANNERS = {
    "root": Manner(),
    "stripped": Manner("/x/y", strips=True),
    "left": Manner("/x/y"),
    "buffered": Manner("/x/y", strips=True, buffers=True),
}
MOST_PAGES = 80


@pytest.mark.parametrize("manner", MANNERS.values(), ids=MANNERS)
def test_whole_console_works_behind_a_proxy(
    manner: Manner,
    fresh_world: World,
    tmp_path: Path,
    new_page: Callable[..., Page],
    complaints: Complaints,
) -> None:
    """Login, a followed run, and every link of every page stay below the prefix, even behind a
    proxy that buffers answers.
    """
    config = fresh_world.write_files(tmp_path)
    port, own = free_port(), free_port()
    url = f"http://{HOST}:{port}{manner.prefix}"
    with (
        proxy(port, own, manner),
        serving(config, fresh_world.environment, own, url) as console,
    ):
        page = new_page()
        page.goto(console.link_for("anna"))
        choose_password(page)
        page.get_by_role("link", name="Plan", exact=True).click()
        settle(page)
        expect(page.locator("main")).to_contain_text(DOMAINS[1])
        page.get_by_role("button", name=re.compile("apply", re.IGNORECASE)).click()
        expect(page.locator("#run-events")).to_contain_text(DOMAINS[0])
        ended(page, scripts=True)

        outside = [address for address in links(page, url) if not address.startswith(f"{url}/")]
        assert [] == outside
        page.context.close()
    assert [] == complaints.messages


def links(page: Page, url: str) -> Iterator[str]:
    """Yield the target of each link, form and file of every page, and follow the links."""
    to_open, queued = [f"{url}/"], {f"{url}/"}
    while to_open and len(queued) < MOST_PAGES:
        page.goto(to_open.pop(0))
        for target, is_link in page.evaluate(_TARGETS):
            address = urljoin(page.url, target).partition("#")[0]
            yield address
            is_page = is_link and not urlsplit(address).path.endswith((".csv", ".json", ".pem"))
            if is_page and address not in queued and address.startswith(f"{url}/"):
                queued.add(address)
                to_open.append(address)


_TARGETS = """() => [...document.querySelectorAll('[href], [src], [action], [hx-get], [hx-post]')]
    .flatMap(element => ['href', 'src', 'action', 'hx-get', 'hx-post']
        .filter(name => element.hasAttribute(name))
        .map(name => [element.getAttribute(name), name === 'href' && element.tagName === 'A']))
    .filter(([target]) => !target.startsWith('data:'))"""

"""The console behind a proxy: at the root, below a path that it strips or leaves, and one that
buffers.
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
    """Login, a run that is watched live, and every link of every page stay below the path; also
    where a proxy passes nothing on before an answer's end.
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

        outside = [found for found in links(page, url) if not found.startswith(f"{url}/")]
        assert [] == outside
        page.context.close()
    assert [] == complaints.said


def links(page: Page, url: str) -> Iterator[str]:
    """Yield where each link, form and file of every page leads, and follow the links."""
    to_open, known = [f"{url}/"], {f"{url}/"}
    while to_open and len(known) < MOST_PAGES:
        page.goto(to_open.pop(0))
        for target, is_link in page.evaluate(_TARGETS):
            found = urljoin(page.url, target).partition("#")[0]
            yield found
            is_page = is_link and not urlsplit(found).path.endswith((".csv", ".json", ".pem"))
            if is_page and found not in known and found.startswith(f"{url}/"):
                known.add(found)
                to_open.append(found)


_TARGETS = """() => [...document.querySelectorAll('[href], [src], [action], [hx-get], [hx-post]')]
    .flatMap(one => ['href', 'src', 'action', 'hx-get', 'hx-post']
        .filter(name => one.hasAttribute(name))
        .map(name => [one.getAttribute(name), name === 'href' && one.tagName === 'A']))
    .filter(([target]) => !target.startsWith('data:'))"""

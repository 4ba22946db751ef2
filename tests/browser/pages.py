"""The pages of the console, with paths in the troubled world."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.browser.console_process import ConsoleProcess

RUN = "{run}"
"""Placeholder for the newest run in a path."""

PAGES = {
    "overview": "/",
    "causes": "/causes",
    "certificates": "/certificates",
    "certificate": "/certificates/img",
    "certificate-in-trouble": "/certificates/shop",
    "sync": "/certificates/shop/sync",
    "rehearse": "/certificates/video/rehearse",
    "renew": "/certificates/img/renew",
    "rollback": "/certificates/img/rollback",
    "plan": "/plan",
    "runs": "/runs",
    "run": f"/runs/{RUN}",
    "discover": "/discover",
    "doctor": "/doctor",
    "history": "/history",
    "history of users": "/history?about=users",
    "accounts": "/accounts",
    "channels": "/channels",
    "hosts": "/hosts",
    "watched": "/watched",
    "account": "/account",
}
"""Pages for logged-in people."""

LOGIN = "/login"

OBSERVING = "[aria-busy=true], main [hx-trigger^='every 2s'], main [hx-trigger^='load']"
"""Selects the elements that a page has only during an observation."""


def open_page(page: Page, console: ConsoleProcess, path: str) -> None:
    """Open a page, and wait for the end of the observation."""
    page.goto(console.url + located(page, console, path))
    settle(page)


def settle(page: Page) -> None:
    """Reload a page until the observation has ended, as people without JavaScript do."""
    while page.locator(OBSERVING).count():
        page.wait_for_timeout(200)
        page.reload()


def located(page: Page, console: ConsoleProcess, path: str) -> str:
    """Return the path, with the newest run in place of `RUN`."""
    if RUN not in path:
        return path
    runs = page.request.get(f"{console.url}/api/v1/runs").json()["runs"]
    return path.replace(RUN, runs[0]["id"])

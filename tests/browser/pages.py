"""The pages of the console, as the world with trouble in it has them."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.browser.console_process import ConsoleProcess

RUN = "{run}"
"""Stands for the newest run in a path."""

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
    "account": "/account",
}
"""Of people who are logged in."""

LOGIN = "/login"

OBSERVING = "[aria-busy=true], main [hx-trigger^='every 2s'], main [hx-trigger^='load']"
"""What a page has as long as something is observed for it."""


def open_page(page: Page, console: ConsoleProcess, path: str) -> None:
    """Open a page, as it is once nothing is observed for it any more."""
    page.goto(console.url + located(page, console, path))
    settle(page)


def settle(page: Page) -> None:
    """Load a page anew until nothing is observed for it any more, as people do without scripts."""
    while page.locator(OBSERVING).count():
        page.wait_for_timeout(200)
        page.reload()


def located(page: Page, console: ConsoleProcess, path: str) -> str:
    """Return the path, with the newest run in the place of one."""
    if RUN not in path:
        return path
    runs = page.request.get(f"{console.url}/api/v1/runs").json()["runs"]
    return path.replace(RUN, runs[0]["id"])

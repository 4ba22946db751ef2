"""The page of watched hosts, and their place on the first screen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import requests

from certferry.core.observed.watched_hosts import WatchedHost
from certferry.errors import Problem
from certferry.text import Text
from certferry.values import replace
from certferry.wiring.workspace import Workspace
from certferry_sandbox.testing.certificates import make_bundle
from tests.console.sites import console, workspace_in

DAY = timedelta(days=1)
FILE = """
[accounts.dnspod]
id = "1"
token = "t"
[[certificates]]
name = "img"
names = ["img.example.com"]
dns = "dnspod"
[[watch]]
name = "shop"
hosts = ["www.example.com", "api.example.com:8443", "new.example.com",
  "a.example.com", "b.example.com"]
"""
DEAD = Problem("timed_out", Text("no answer within {seconds} seconds", seconds=10), Text("look"))


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """Return a workspace with a certificate, a host in order, and three hosts in trouble."""
    with workspace_in(tmp_path, FILE) as workspace:
        state = workspace.state
        now = state.now()
        state.save_version(
            state.acquire("img", now), make_bundle("img.example.com", not_before=now), now
        )
        state.save_run(now, succeeded=True)
        look = WatchedHost("www.example.com", 443, state.host, "shop", now, now - DAY)
        in_order = replace(
            look,
            addresses=2,
            valid=2,
            issuer="Harbour CA",
            not_before=now - DAY,
            not_after=now + 60 * DAY,
        )
        ending = Problem("ends_soon", Text("the certificate ends at {end}", end=now + 5 * DAY))
        soon = replace(
            in_order, name="api.example.com", port=8443, problem=ending, not_after=now + 5 * DAY
        )
        dead = [
            replace(look, name=f"{word}.example.com", problem=DEAD, addresses=1) for word in "ab"
        ]
        state.save_looks(
            [in_order, soon, *dead],
            {each for watch in workspace.settings.watches for each in watch.hosts},
            now,
        )
        yield workspace


def page(workspace: Workspace, path: str, language: str = "en") -> str:
    with console(workspace, language=language) as url:
        answer = requests.get(f"{url}{path}", timeout=10)
    assert 200 == answer.status_code
    return answer.text


def test_page_has_a_row_for_each_host(workspace: Workspace) -> None:
    """Hosts in trouble come first, then the first to end; a host without a look has a row too."""
    html = page(workspace, "/watched")

    order = [
        html.index(f">{name}<")
        for name in ("api.example.com:8443", "a.example.com", "www.example.com", "new.example.com")
    ]
    assert order == sorted(order)
    assert "Harbour CA" in html
    assert "no answer within 10 seconds" in html
    assert "not checked yet" in html
    assert "2 of 2" in html
    assert "监视" in page(workspace, "/watched", "zh")


def test_first_screen_draws_watched_hosts(workspace: Workspace) -> None:
    """The picture has a bar for each host with a certificate, and dead hosts are one cause."""
    html = page(workspace, "/")

    drawn = re.findall(r'<a href="/watched" title="watched host ([^"]+)"', html)
    assert ["api.example.com:8443", "www.example.com"] == drawn
    assert "2 watched hosts" in html
    assert 1 == html.count("no answer within 10 seconds")
    assert "2 other problems" in html
    soon = page(workspace, "/?state=soon")
    assert "api.example.com:8443" in soon


def test_without_watched_hosts_nothing_is_shown(tmp_path: Path) -> None:
    """The navigation has no entry, and the page says what to write."""
    text = FILE[: FILE.index("[[watch]]")]
    with workspace_in(tmp_path, text) as workspace:
        assert "/watched" not in page(workspace, "/")
        assert "[[watch]]" in page(workspace, "/watched")

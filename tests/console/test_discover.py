"""The pages of discover and doctor: views of what was found, and the way there in a world."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from certferry.console.app import console_app
from certferry.console.discover import (
    SEVERITIES,
    Discovered,
    view_of_discovery,
    view_of_findings,
)
from certferry.console.site import Site
from certferry.console.tables import ROWS
from certferry.core.desired.certificate import Kind
from certferry.core.discovery.inventory import (
    AccountSurvey,
    DiscoveredDomain,
    Discovery,
    FoundDomain,
    Survey,
)
from certferry.core.findings import error, info, warning
from certferry.errors import TargetRejected, TargetUnavailable
from certferry.present.language import Voice
from certferry.text import Text
from certferry.wiring.settings import load_checked
from certferry.wiring.workspace import Workspace
from certferry_sandbox.world import World
from tests.acceptance.host import certificate
from tests.console.serving import AsVisitor, Began
from tests.console.serving import served as serve
from tests.console.sites import HOSTILE, console, workspace_in
from tests.support.waiting import eventually

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
VOICE = Voice(zone=UTC)


def domain(
    name: str, account: str = "qiniu", *, state: str = "success", covered: str = "", days: int = 0
) -> DiscoveredDomain:
    found = FoundDomain(
        name, Kind.CDN, has_https=True, state=state, not_after=NOON + days * DAY if days else None
    )
    by = (covered,) if covered else ()
    return DiscoveredDomain(account, found, covered_by=by, deployed_by=covered or None)


EVERYTHING = Discovery(
    (
        AccountSurvey("qiniu"),
        AccountSurvey("other", Survey((), (TargetRejected(Text("no list")),))),
    ),
    (
        domain("late.example.com", days=2),
        domain("new.example.com", "other", state="processing"),
        domain("img.example.com", covered="img", days=60),
    ),
)


def view(everything: Discovery = EVERYTHING, **asked: str) -> Discovered:
    return view_of_discovery(everything, asked, NOON, VOICE)


def names(found: Discovered) -> list[str]:
    return [row[0].words for row in found.table.rows]


def test_filters_of_discover_leave_what_they_mean() -> None:
    """Account, state, letters of the name, not covered; what needs care first, as it was found."""
    assert ["late.example.com", "new.example.com", "img.example.com"] == names(view())
    assert ["new.example.com"] == names(view(account="other"))
    assert ["new.example.com"] == names(view(state="processing"))
    assert ["late.example.com", "new.example.com"] == names(view(uncovered="1"))
    assert ["img.example.com"] == names(view(name="IMG"))
    assert [] == names(view(account=HOSTILE, state=HOSTILE))
    assert (("processing", "processing"), ("success", "ok")) == view().states


def test_account_is_named_where_there_are_several() -> None:
    """The only one would be said in every row."""
    alone = Discovery((AccountSurvey("qiniu"),), (domain("img.example.com"),))

    assert Text("Account") in view().table.headings
    assert Text("Account") not in view(alone).table.headings


def test_domain_shows_its_end_and_what_covers_it() -> None:
    """A covering certificate leads to its page; what could not be read stands above the table."""
    rows = {row[0].words: row for row in view().table.rows}
    headings = [str(one) for one in view().table.headings]

    covered = headings.index("Covered by")
    assert ("img", "/certificates/img") == (
        rows["img.example.com"][covered].words,
        rows["img.example.com"][covered].path,
    )
    assert ("none", "warning") == (
        rows["late.example.com"][covered].words,
        rows["late.example.com"][covered].tone,
    )
    left = rows["late.example.com"][headings.index("Time left")]
    assert ("2 days", NOON + 2 * DAY) == (left.words, left.at)
    assert ["no list"] == [str(one.message) for one in view().problems]
    silent = TargetUnavailable(Text("no answer"))
    failed = Discovery((AccountSurvey("qiniu", failure=silent),))
    assert (silent.problem("qiniu"),) == view(failed).problems


def test_ten_thousand_domains_are_shown_by_pages() -> None:
    """A hundred at a time, counted whole."""
    many = Discovery(
        (AccountSurvey("qiniu"),), tuple(domain(f"n{n}.example.com") for n in range(10_000))
    )
    found = view(many, page="7")

    assert (7, 100, 10_000) == (found.table.number, found.table.last, found.table.count)
    assert [f"n{n}.example.com" for n in range(600, 600 + ROWS)] == names(found)
    assert "10000 domains" in found.summary


def test_findings_are_shown_by_their_severity() -> None:
    """Each with what it is about, and its fix."""
    findings = [
        error("keys_refused", "qiniu", Text("wrong keys"), Text("correct them")),
        warning("caa", "example.com", Text("no CAA record"), Text("set one")),
        info("ways", "qiniu", Text("the keys are accepted")),
    ]
    table = view_of_findings(findings, "", "", VOICE)

    assert ["error", "warning", "info"] == [row[1].words for row in table.rows]
    assert ["error", "warning", "notice"] == [row[1].tone for row in table.rows]
    assert ("qiniu", "wrong keys", "correct them", "keys_refused") == tuple(
        table.rows[0][place].words for place in (0, 2, 3, 4)
    )
    for severity in SEVERITIES:
        assert 1 == view_of_findings(findings, severity.value, "", VOICE).count
    assert 0 == view_of_findings(findings, HOSTILE, "", VOICE).count


# --- in a world


IMG, STATIC = "img.tables.example.com", "static.tables.example.com"


@pytest.fixture(scope="module")
def furnished(shared_world: World) -> World:
    """The world with a domain that a certificate covers, and one that none does."""
    for name in (IMG, STATIC):
        shared_world.add_http_domain(name)
    return shared_world


@pytest.fixture
def workspace(furnished: World, tmp_path: Path) -> Iterator[Workspace]:
    environ = {**furnished.environment, "HOME": str(tmp_path)}
    path = furnished.write_files(tmp_path, certificate(IMG))
    with Workspace(load_checked(path, environ)) as opened:
        yield opened


def page_of(url: str, path: str, until: str) -> str:
    """Return a page as soon as it has these words."""
    found = list[str]()

    def is_there() -> bool:
        answer = requests.get(url + path, timeout=20)
        assert 200 == answer.status_code
        found.append(answer.text)
        return until in answer.text

    assert eventually(is_there), found[-1]
    return found[-1]


def test_page_comes_at_once_and_fills_itself(furnished: World, workspace: Workspace) -> None:
    """No page waits for a service: the first one says that it is being looked for, and how to see
    it; then the domains are there, with the tables for those that are not covered.
    """
    with console(workspace) as url:
        first = requests.get(f"{url}/discover", timeout=20)
        assert "Checking now" in first.text
        assert 'hx-get="' in first.text
        page = page_of(url, "/discover", "[[certificates]]")
        toml = requests.get(f"{url}/discover.toml", timeout=20)
        uncovered = requests.get(f"{url}/discover?uncovered=1", timeout=20).text
        nothing = requests.get(f"{url}/discover?name=zzz", timeout=20).text

    shown = re.findall(r'<th scope="row">([^<]*)</th>', page)
    assert {IMG, STATIC} <= set(shown)
    left = re.findall(r'<th scope="row">([^<]*)</th>', uncovered)
    assert (STATIC in left, IMG in left) == (True, False)
    assert "Nothing was found." in nothing
    assert f'"{STATIC}"' in toml.text
    assert "attachment" in toml.headers["Content-Disposition"]
    for secret in furnished.secrets():
        assert secret not in page + toml.text


def test_look_is_begun_anew_by_the_button(furnished: World, workspace: Workspace) -> None:
    """The filters stay; a domain that is new is found."""
    with console(workspace, prefix="/x") as url:
        page_of(url, "/discover", IMG)
        furnished.add_http_domain("fresh.tables.example.com")
        before = requests.get(f"{url}/discover?name=example", timeout=20).text
        again = requests.post(f"{url}/discover?name=example", timeout=20, allow_redirects=False)
        page_of(url, "/discover?name=example", "fresh.tables.example.com")

    assert "fresh.tables.example.com" not in before
    assert '<form method="post" action="/x/discover?name=example">' in before
    assert (303, "/x/discover?name=example") == (again.status_code, again.headers["Location"])


def test_failed_look_says_why(tmp_path: Path) -> None:
    """A file without accounts is one sentence and what to do, no error of the page."""
    with workspace_in(tmp_path) as workspace, console(workspace) as url:
        page = page_of(url, "/discover", "has no account with domains")

    assert 'class="note error"' in page
    assert "Check again" in page


def test_doctor_shows_its_findings(workspace: Workspace) -> None:
    """In the language of the visitor; the filter leaves the errors alone. A process that makes the
    runs itself misses no schedule.
    """
    with console(workspace, language="zh") as url:
        page = page_of(url, "/doctor", "<table")
        warnings = requests.get(f"{url}/doctor?severity=warning", timeout=20).text
        again = requests.post(f"{url}/doctor?severity=warning", timeout=20, allow_redirects=False)

    assert "<code>schedule_missing</code>" in page
    file, option = workspace.settings.path, '<span class="option">--config</span>'
    assert f"<code>certferry {option} {file} schedule install</code>" in page
    assert {"badge warning"} == set(re.findall(r'class="(badge \w+)"', warnings))
    served = Site(lambda: workspace, Began(), has_schedule=True)
    with serve(AsVisitor(console_app(served))) as url:
        by_itself = page_of(url, "/doctor", "<table")
    serves = f"this process of <code>certferry {option} {file} serve</code> starts the runs"
    assert f"{serves}, twice a day" in by_itself
    assert "schedule_missing" not in by_itself
    assert (303, "/doctor?severity=warning") == (again.status_code, again.headers["Location"])

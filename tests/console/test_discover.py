"""The pages of discover and doctor: their views, and the pages in a world."""

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
    listed = FoundDomain(
        name, Kind.CDN, has_https=True, state=state, not_after=NOON + days * DAY if days else None
    )
    by = (covered,) if covered else ()
    return DiscoveredDomain(account, listed, covered_by=by, deployed_by=covered or None)


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


def names(discovered: Discovered) -> list[str]:
    return [row[0].words for row in discovered.table.rows]


def test_filters_of_discover() -> None:
    """The filters are the account, the state, letters of the name, and uncovered domains. Without a
    filter, all domains are listed in the order of the discovery.
    """
    assert ["late.example.com", "new.example.com", "img.example.com"] == names(view())
    assert ["new.example.com"] == names(view(account="other"))
    assert ["new.example.com"] == names(view(state="processing"))
    assert ["late.example.com", "new.example.com"] == names(view(uncovered="1"))
    assert ["img.example.com"] == names(view(name="IMG"))
    assert [] == names(view(account=HOSTILE, state=HOSTILE))
    assert (("processing", "processing"), ("success", "ok")) == view().states


def test_account_is_named_if_there_are_several() -> None:
    """With a single account, the table has no column for the account."""
    alone = Discovery((AccountSurvey("qiniu"),), (domain("img.example.com"),))

    assert Text("Account") in view().table.headings
    assert Text("Account") not in view(alone).table.headings


def test_domain_shows_its_end_and_its_certificate() -> None:
    """A covering certificate is a link to the certificate's page. Problems of accounts stand above
    the table.
    """
    rows = {row[0].words: row for row in view().table.rows}
    headings = [str(heading) for heading in view().table.headings]

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
    assert ["no list"] == [str(problem.message) for problem in view().problems]
    silent = TargetUnavailable(Text("no answer"))
    failed = Discovery((AccountSurvey("qiniu", failure=silent),))
    assert (silent.problem("qiniu"),) == view(failed).problems


def test_ten_thousand_domains_are_shown_by_pages() -> None:
    """A page has a hundred domains, and the summary counts all domains."""
    many = Discovery(
        (AccountSurvey("qiniu"),), tuple(domain(f"n{n}.example.com") for n in range(10_000))
    )
    discovered = view(many, page="7")

    assert (7, 100, 10_000) == (
        discovered.table.number,
        discovered.table.last,
        discovered.table.count,
    )
    assert [f"n{n}.example.com" for n in range(600, 600 + ROWS)] == names(discovered)
    assert "10000 domains" in discovered.summary


def test_findings_are_shown_by_their_severity() -> None:
    """Each finding has a subject, a message, a fix and a code. The filter keeps a single
    severity.
    """
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
    """The world with a domain covered by a certificate, and an uncovered domain."""
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
    """Return a page as soon as the page has these words."""
    answers = list[str]()

    def is_there() -> bool:
        answer = requests.get(url + path, timeout=20)
        assert 200 == answer.status_code
        answers.append(answer.text)
        return until in answer.text

    assert eventually(is_there), answers[-1]
    return answers[-1]


def test_page_of_discover_comes_at_once_and_loads_again(
    furnished: World, workspace: Workspace
) -> None:
    """The first answer comes before the services answer, and loads itself again. Later, the page
    has the domains, and tables for the uncovered domains.
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


def test_button_starts_another_survey(furnished: World, workspace: Workspace) -> None:
    """The button keeps the filters, and the next result has a new domain."""
    with console(workspace, prefix="/x") as url:
        page_of(url, "/discover", IMG)
        furnished.add_http_domain("fresh.tables.example.com")
        before = requests.get(f"{url}/discover?name=example", timeout=20).text
        again = requests.post(f"{url}/discover?name=example", timeout=20, allow_redirects=False)
        page_of(url, "/discover?name=example", "fresh.tables.example.com")

    assert "fresh.tables.example.com" not in before
    assert '<form method="post" action="/x/discover?name=example">' in before
    assert (303, "/x/discover?name=example") == (again.status_code, again.headers["Location"])


def test_failed_survey_shows_the_reason(tmp_path: Path) -> None:
    """For a file without accounts, the page has the reason and a button to check again."""
    with workspace_in(tmp_path) as workspace, console(workspace) as url:
        page = page_of(url, "/discover", "has no account with domains")

    assert 'class="note error"' in page
    assert "Check again" in page


def test_doctor_shows_its_findings(workspace: Workspace) -> None:
    """The findings are in the visitor's language, and the filter hides other severities. If the
    process makes the scheduled runs, no schedule is missing.
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

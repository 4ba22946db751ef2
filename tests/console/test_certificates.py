"""The list of certificates, the page of a certificate, and the page of an action before a run."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from certferry.console.certificates import ACTIONS, PAGE, served_certificates
from certferry.console.lives import Wanted, list_view
from certferry.console.site import Site
from certferry.core.access import Role
from certferry.core.assessment.agenda import agenda_of
from certferry.core.assessment.health import (
    Expected,
    Recorded,
)
from certferry.core.assessment.notices import Notice, Subject, Topic
from certferry.core.assessment.settled import Seen
from certferry.core.assessment.sightings import Sighting
from certferry.core.assessment.status import DomainStatus, Standing
from certferry.core.certificates.chain import Presented
from certferry.core.desired.certificate import Kind
from certferry.core.observed.observation import Served
from certferry.core.observed.stored_runs import RunKind, RunSource, StoredRun
from certferry.errors import Problem
from certferry.text import Text
from tests.acceptance.host import Host
from tests.console.machine import console_of
from tests.console.stored_site import (
    DAY,
    DOMAINS_OF_EACH,
    NOW,
    cdn_of,
    domains_of,
    fill,
    issue,
    site_in,
    sync,
    table,
    tables_of,
)
from tests.console.test_overview import HOSTILE, opened, page, words
from tests.support.waiting import eventually


def path_of(name: str, more: str = "") -> str:
    return f"/certificates/{quote(name, safe='')}{more}"


def observed_page(site: Site, path: str, language: str = "en", role: Role = Role.OPERATOR) -> str:
    """Return a page after the background observation has ended."""
    latest = [""]
    with opened(site, language, role) as url:

        def is_settled() -> bool:
            latest[0] = requests.get(url + path, timeout=30).text
            return 'aria-busy="true"' not in latest[0]

        assert eventually(is_settled)
    return latest[0]


def rows(html: str) -> list[str]:
    """Return the names in the list, in order."""
    body = html.partition("<tbody>")[2].partition("</tbody>")[0]
    return re.findall(r'<th scope="row" class="wrap"><a href="[^"]*">([^<]*)</a>', body)


# --- the list


def test_certificate_with_the_earliest_end_is_on_top(tmp_path: Path) -> None:
    """Certificates are listed by their ends. A declared certificate without a version comes
    first.
    """
    with site_in(tmp_path, tables_of(4)) as site:
        state = site.workspace().state
        for number, age in ((0, 5), (1, 50), (2, 20)):
            issue(state, f"c{number}", domains_of(number), age=age * DAY)
        html = page(site, "/certificates")

    assert ["c3", "c1", "c2", "c0"] == rows(html)
    assert "40 of" not in words(html)
    assert f"{DOMAINS_OF_EACH} of {DOMAINS_OF_EACH}" in words(html)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("q=c7", {"c7"}),
        ("q=D1.C7.", {"c7"}),
        ("q=d1+c3", {"c3"}),
        ("q=nothing-like-it", set()),
        ("state=trouble", {"c5"}),
        ("state=soon", {"c5", "c6"}),
        ("state=ok&q=c5", set()),
        ("state=other", {f"c{number}" for number in range(8)}),
        ("page=7", {f"c{number}" for number in range(8)}),
        ("page=%2d1", {f"c{number}" for number in range(8)}),
        ("page=" + "9" * 5000, {f"c{number}" for number in range(8)}),
    ],
)
def test_filters_are_in_the_address(tmp_path: Path, query: str, expected: set[str]) -> None:
    """The address may choose words in names and domains, in either case, and a state. Unknown
    states and wrong page numbers are ignored.
    """
    with site_in(tmp_path, tables_of(8)) as site:
        state = site.workspace().state
        for number in range(8):
            age = {5: 80, 6: 50}.get(number, 3)
            issue(state, f"c{number}", domains_of(number), age=age * DAY)
        state.save_run(NOW, succeeded=True)
        html = page(site, f"/certificates?{query}")

    assert expected == set(rows(html))
    assert bool(expected) is ("No certificates match the filter." not in html)


def test_many_certificates_are_shown_by_pages(tmp_path: Path) -> None:
    """Each page has at most a hundred certificates, each certificate is on a single page, and the
    links keep the filter.
    """
    count = PAGE + 17
    with site_in(tmp_path, tables_of(count)) as site:
        fill(site.workspace().state, count)
        listed, path = list[str](), "/certificates?q=example"
        with opened(site) as url:
            while path:
                html = requests.get(url + path, timeout=30).text
                listed += rows(html)
                after = re.search(r'rel="next" href="([^"]*)"', html)
                path = after[1].replace("&amp;", "&") if after else ""
                assert len(html.encode()) < 150_000
                assert len(rows(html)) <= PAGE
    assert count == len(listed)
    assert {f"c{number}" for number in range(count)} == set(listed)


@given(page_asked=st.text(max_size=5), count=st.integers(0, 3))
def test_any_page_number_leads_to_a_page(page_asked: str, count: int) -> None:
    """Any words in `page` lead to the only page."""

    class Stored:
        at = NOW
        agenda = agenda_of([Expected(f"c{number}") for number in range(count)], Recorded(), NOW)

        @staticmethod
        def names(_: str) -> tuple[str, ...]:
            return ()

    view = list_view(Stored(), Wanted(), page_asked, PAGE)  # type: ignore[arg-type]  # enough here

    assert (1, 1, count) == (view.number, view.pages, len(view.lives))


# --- the page of a certificate


@pytest.mark.parametrize(
    ("name", "language"),
    [
        *(("img", "en"), ("img", "zh"), (HOSTILE, "en"), (HOSTILE, "zh")),
        *(("证书", "zh"), ("%2F", "en"), ("a;b=c+d", "en")),
    ],
)
def test_certificate_of_any_name_has_a_page(tmp_path: Path, name: str, language: str) -> None:
    """The page has the life, the addresses, the plan and the history. The links of the page to the
    actions work.
    """
    with site_in(tmp_path, table(name, ["a.example.com", "b.example.com"])) as site:
        sync(site)
        html = observed_page(site, path_of(name), language)
        [listed] = set(re.findall(r'href="(/certificates/[^"?]+)"', page(site, "/certificates")))
        state = site.workspace().state
        [version] = state.versions(name)
        actions = re.findall(r'<a class="button quiet" href="([^"]+)"', html)
        for path in actions:
            page(site, path.replace("&amp;", "&"), language)

    assert path_of(name) == listed
    assert [path_of(name, f"/{kind.value}") for kind in RunKind] == actions
    assert version.fingerprint in html
    assert 4 == html.count(f'title="{version.fingerprint}"'), "two domains at two addresses"
    assert f'href="{path_of(name, "/fullchain.pem")}"' in html
    assert "192.0.2.1" in html
    assert 'class="verdict ok"' in html
    assert f'href="/history?name={quote(name)}"' in html


@pytest.mark.parametrize("role", Role)
def test_certificate_is_downloaded_without_the_key(tmp_path: Path, role: Role) -> None:
    """Operators and viewers download the newest certificate, or an earlier certificate by the
    fingerprint. The file has no private key.
    """
    with site_in(tmp_path, table("证书;1", ["a.example.com"])) as site:
        sync(site)
        sync(site, renew=True)
        state, path = site.workspace().state, path_of("证书;1", "/fullchain.pem")
        newest, earlier = state.versions("证书;1")
        bundles = [state.bundle("证书;1", version.number) for version in (newest, earlier)]
        queries = [{}, {"fingerprint": earlier.fingerprint}, {"fingerprint": "ab"}]
        with opened(site, role=role) as url:
            replies = [requests.get(url + path, params=query, timeout=30) for query in queries]

    assert [200, 200, 404] == [reply.status_code for reply in replies]
    assert [bundle.fullchain_pem for bundle in bundles] == [reply.text for reply in replies[:2]]
    assert all("PRIVATE" not in reply.text for reply in replies)
    file = replies[0].headers["Content-Disposition"].rpartition("''")[2]
    assert quote(f"证书;1-{newest.fingerprint[:12]}.pem") == file


ISSUED, END = NOW - 10 * DAY, NOW + 80 * DAY
LEAF = Presented("aa", "CN=a.example.com", "CN=R13", ("a.example.com",), ISSUED, END)
R13 = Presented("bb", "CN=R13", "CN=ISRG Root X1", (), ISSUED, END)
OLD = Presented("cc", "CN=a.example.com", "CN=R12", ("a.example.com",), ISSUED - DAY, NOW)


def address(number: int, *chain: Presented) -> Served:
    return Served(f"192.0.2.{number}", chain[0].fingerprint, valid=True, chain=chain)


def place(domain: str, *served: Served) -> DomainStatus:
    return DomainStatus(
        *("qiniu", Kind.CDN, domain, Standing.PROPAGATING), fingerprint="aa", served=served
    )


def test_each_served_certificate_is_described_once() -> None:
    """A description has the addresses, the chain and the first sighting. The same leaf with other
    issuers has a description of its own.
    """
    domains = [
        place("a.example.com", address(1, LEAF, R13), address(2, LEAF), address(3, OLD)),
        place("b.example.com", address(1, LEAF, R13)),
    ]
    sightings = [
        Sighting("img", "qiniu", "a.example.com", served=False, since=NOW - 2 * DAY),
        Sighting("img", "qiniu", "b.example.com", served=True, since=NOW - DAY),
    ]

    whole, bare, old = served_certificates(domains, sightings)

    assert ("192.0.2.1 (a.example.com)", "192.0.2.1 (b.example.com)") == whole.addresses
    assert ((LEAF, R13), (LEAF,), (OLD,)) == (whole.chain, bare.chain, old.chain)
    assert (True, True, False) == (whole.is_expected, bare.is_expected, old.is_expected)
    assert (NOW - DAY, None, NOW - 2 * DAY) == (whole.since, bare.since, old.since)


def test_page_describes_the_served_certificate(host: Host, name: str) -> None:
    """The page has the issuer, the names, the chain, the validity and the first sighting, and a
    button to copy the fingerprint.
    """
    host.run("sync")
    with console_of(host) as machine:
        path = path_of(name)
        assert eventually(lambda: 'aria-busy="false"' in machine.get(path).text)
        html = machine.get(path).text
        [version] = machine.state.versions(name)

    served = words(html).partition("Certificates that the addresses serve")[2]
    for expected in (
        version.certificate.issuer,
        *version.certificate.names,
        "issued by",
        "Seen since",
    ):
        assert expected in served
    assert "expected served by 127.0.0." in served
    assert f"#served-{version.fingerprint[:12]}" in html
    assert f'<code class="wrap">{version.fingerprint}</code> <button' in html


def test_page_of_a_certificate_has_its_own_problems(tmp_path: Path) -> None:
    """The page has the certificate's problems, and leaves out the problems of other
    certificates.
    """
    with site_in(tmp_path, tables_of(2)) as site:
        sync(site)
        notices = tuple(
            Notice(
                Topic.TROUBLE,
                Subject(f"c{number}", "qiniu", f"d0.c{number}.example.com"),
                NOW,
                Problem("target_rejected", Text("the domain d0.c{n} is frozen", n=number)),
            )
            for number in range(2)
        )
        site.workspace().state.update_notices(lambda _: notices)
        main = words(page(site, path_of("c1")))

    assert "the domain d0.c1 is frozen" in main
    assert "d0.c0" not in main


def test_problem_of_a_domain_ends_with_the_observation(tmp_path: Path) -> None:
    """A problem from the last run disappears from the page once the observation sees the right
    certificate.
    """
    with site_in(tmp_path, tables_of(1)) as site:
        sync(site)
        state, at_fault = site.workspace().state, domains_of(0)[0]
        subject = Subject("c0", "qiniu", at_fault)
        problem = Problem("earlier_ends", Text("the domain still has another certificate"))
        state.update_notices(lambda _: (Notice(Topic.TROUBLE, subject, NOW - DAY, problem),))
        before = page(site, path_of("c0"))
        html = observed_page(site, path_of("c0"))

    assert "the domain still has another certificate" in before
    assert ">needs attention</span>" in before
    assert "the domain still has another certificate" not in html
    assert ">needs attention</span>" not in html
    assert f"{at_fault}: in order at the check of {NOW:%Y-%m-%d}" in words(html)


def test_observation_of_a_page_counts_on_every_page_until_the_next_run(tmp_path: Path) -> None:
    """After a page has seen the place in order, the first screen, the list and the page of all
    causes say so, and count the certificate as in order; the state keeps the problem. After another
    run, the records of the run count again.
    """
    with site_in(tmp_path, tables_of(2)) as site:
        sync(site)
        state, at_fault = site.workspace().state, domains_of(0)[0]
        problem = Problem("earlier_ends", Text("the domain still has another certificate"))
        left = (Notice(Topic.TROUBLE, Subject("c0", "qiniu", at_fault), NOW - DAY, problem),)
        state.update_notices(lambda _: left)
        first = words(page(site))
        observed_page(site, path_of("c0"))
        screens = [words(page(site, path)) for path in ("/", "/causes")]
        matching = rows(page(site, "/certificates?state=trouble"))
        kept = state.notices()
        site.seen.add([(("c0", "qiniu", at_fault), Seen(state.now(), is_in_order=False))])
        again_lagging = words(page(site))
        state.save_run(state.now() + DAY, succeeded=True)
        after_run = words(page(site))

    assert "1 certificate needs attention, 1 in order" in first
    assert "All 2 certificates are in order" in screens[0]
    for screen in screens:
        assert re.search(rf"c0: qiniu → {at_fault} ?: in order at the check of", screen)
        assert "the domain still has another certificate" not in screen
    assert [] == matching
    assert left == kept, "a page stores nothing"
    for screen in (again_lagging, after_run):
        assert "1 certificate needs attention, 1 in order" in screen
        assert "in order at the check of" not in screen


def test_page_of_a_certificate_does_not_lead_to_itself(tmp_path: Path) -> None:
    """A card on the certificate's own page neither names the certificate nor links to the page."""
    with site_in(tmp_path, tables_of(1)) as site:
        sync(site)
        subject = Subject("c0", "qiniu", domains_of(0)[0])
        hint = Text("to see the cause: certferry status c0")
        problem = Problem("frozen", Text("the domain is frozen"), hint)
        site.workspace().state.update_notices(
            lambda _: (Notice(Topic.TROUBLE, subject, NOW, problem),)
        )
        cdn_of(site).denies = True  # otherwise the page's observation ends the problem
        own, first = page(site, path_of("c0")), page(site)

    assert ">Open c0" in first
    assert ">Open c0" not in own
    assert "to see the cause" not in own
    assert f"qiniu → {domains_of(0)[0]}: the domain is frozen" in words(own)
    assert "c0: qiniu →" not in words(own)


def test_page_before_the_observation_shows_stored_facts(tmp_path: Path) -> None:
    """The page is shown before the services answer, with the stored facts. Without JavaScript, a
    link loads the page again.
    """
    with site_in(tmp_path, tables_of(1)) as site:
        sync(site)
        html = page(site, path_of("c0"))

    assert 'aria-busy="true"' in html
    assert "<noscript>" in html
    assert DOMAINS_OF_EACH == html.count('<th scope="rowgroup"')
    assert "verified" in words(html)


def test_failed_observation_leaves_the_domains_unknown(tmp_path: Path) -> None:
    """The page lists every domain, with the state `unknown`."""
    with site_in(tmp_path, tables_of(1)) as site:
        sync(site)
        cdn_of(site).denies = True
        html = observed_page(site, path_of("c0"))

    assert DOMAINS_OF_EACH == html.count('<th scope="rowgroup"')
    assert "unknown" in words(html)


def test_certificate_removed_from_the_file_has_no_actions(tmp_path: Path) -> None:
    """The page has the stored certificate and `not configured`. Every action is answered with
    404.
    """
    with site_in(tmp_path, tables_of(1)) as site:
        fingerprint = issue(site.workspace().state, "old", ["old.example.com"], age=DAY)
        html = page(site, path_of("old"))
        with opened(site) as url:
            statuses = [
                requests.get(url + path_of("old", f"/{kind.value}"), timeout=30).status_code
                for kind in RunKind
            ]

    assert fingerprint in html
    assert "not configured" in words(html)
    assert "/renew" not in html
    assert [404] * 4 == statuses


@pytest.mark.parametrize(
    "path", ["/certificates/nothing", "/certificates/nothing/renew", "/certificates/c0/delete"]
)
def test_unknown_certificate_or_action(tmp_path: Path, path: str) -> None:
    """An unknown certificate and an unknown action are answered with 404."""
    with site_in(tmp_path, tables_of(1)) as site, opened(site) as url:
        assert 404 == requests.get(url + path, timeout=30).status_code


# --- the page of an action


def form_of(html: str) -> dict[str, str]:
    """Return the fields of the form for starting a run."""
    form = html.split('action="/runs"')[1].split("</form>", maxsplit=1)[0]
    return dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (RunKind.SYNC, "Nothing to do: 1 certificate is as declared."),
        (RunKind.REHEARSE, "A rehearsal orders a test certificate all the same."),
        (RunKind.RENEW, "1 certificate to issue"),
    ],
)
def test_page_of_an_action_describes_the_run(tmp_path: Path, kind: RunKind, sentence: str) -> None:
    """The form starts the described action for the certificate. Reading the page changes nothing,
    and a viewer gets no form.
    """
    with site_in(tmp_path, tables_of(1)) as site:
        sync(site)
        before = cdn_of(site).writes, len(site.workspace().state.versions("c0"))
        html = observed_page(site, path_of("c0", f"/{kind.value}"))
        viewed = page(site, path_of("c0", f"/{kind.value}"), role=Role.VIEWER)
        after = cdn_of(site).writes, len(site.workspace().state.versions("c0"))

    assert before == after
    assert sentence in words(html)
    expected = {"csrf": "token-of-forms", "kind": kind.value, "names": "c0"}
    assert expected.items() <= form_of(html).items()
    assert ("renew" in form_of(html)) is (kind is RunKind.REHEARSE), "an order that is not due"
    assert str(ACTIONS[kind].about) in unescape(words(html))
    assert "<form" not in viewed.partition("<main")[2]
    assert "Only operators can start runs." in viewed


def test_page_of_an_action_has_no_form_during_the_observation(tmp_path: Path) -> None:
    """During the observation, the page has no form."""
    with site_in(tmp_path, tables_of(1)) as site:
        html = page(site, path_of("c0", "/renew"))

    assert 'aria-busy="true"' in html
    assert 'action="/runs"' not in html


def test_page_of_a_rollback_names_the_previous_certificates(tmp_path: Path) -> None:
    """The page names each domain with the end of the previous certificate, and withdraws no
    certificate.
    """
    with site_in(tmp_path, table("img", ["a.example.com"])) as site:
        sync(site)
        without = observed_page(site, path_of("img", "/rollback"))
        sync(site, renew=True)
        site.observer.forget()
        html = observed_page(site, path_of("img", "/rollback"))
        withdrawn = site.workspace().state.remembered("img").withdrawals

    assert "has no previous certificate that is still valid" in words(without)
    assert 'action="/runs"' not in without
    assert "a.example.com (qiniu): back to the certificate valid until" in words(html)
    assert "rollback" == form_of(html)["kind"]
    assert () == withdrawn


@pytest.mark.parametrize(
    ("of", "to"),
    [("", "/certificates/c0"), ("renew", "/certificates/c0/renew"), ("//evil", "/certificates/c0")],
)
def test_form_starts_another_observation(tmp_path: Path, of: str, to: str) -> None:
    """The form starts another observation even if the last result is recent, and leads back to the
    page with the form.
    """
    with site_in(tmp_path, tables_of(1)) as site:
        sync(site)
        path = path_of("c0", "/renew" if of == "renew" else "")
        observed_page(site, path)
        looked = when_of(site)
        with opened(site) as url:
            reply = requests.post(
                url + path_of("c0", "/look"), params={"of": of}, allow_redirects=False, timeout=30
            )
        assert eventually(lambda: when_of(site) != looked)

    assert (303, to) == (reply.status_code, reply.headers["Location"])


def when_of(site: Site) -> object:
    moments: Callable[[], object] = lambda: sorted(  # noqa: E731 - the test reads without the lock
        str(result.at)
        for result in site.observer._known.values()  # noqa: SLF001 - as above
    )
    return moments()


def test_refused_attempt_of_a_run_is_in_the_history(tmp_path: Path) -> None:
    """The certificate's page and the history show the failure in the viewer's language, with a link
    to the run, and with seconds.
    """
    with site_in(tmp_path, table("img", ["img.example.com"])) as site:
        cdn_of(site).denies = True
        state, who = site.workspace().state, "tester@host"
        run = StoredRun("run1", RunKind.SYNC, RunSource.COMMAND, who, state.host, NOW)
        state.save_run_begin(run)
        sync(site)
        pages = [page(site, path, "zh") for path in (path_of("img"), "/history?name=img")]

    for shown in pages:
        group = shown.split('<tr class="group">')[1].split("</tbody>")[0]
        assert 'href="/runs/run1"' in group
        assert '<span class="badge error">失败</span>' in group
        assert "the keys are not accepted" in group
        assert re.search(r"\d\d:\d\d:\d\d UTC</time>", group)


def test_cause_of_several_certificates_is_described_once(tmp_path: Path) -> None:
    """The cause stands above the list, with the number of certificates, and each row links to the
    cause. A cause with a single certificate is in that certificate's row, in place of the
    consequences.
    """
    with site_in(tmp_path, tables_of(12) + table("alone", ["alone.example.com"])) as site:
        state = site.workspace().state
        for number in range(12):
            issue(state, f"c{number}", domains_of(number), age=80 * DAY)
        issue(state, "alone", ["alone.example.com"], age=80 * DAY, served=False)
        denied = Problem("target_access_denied", Text("the account refuses the key"))
        failed = Problem("deploy_error", Text("the CDN could not carry out the change"))
        notices = [
            Notice(Topic.TROUBLE, Subject(f"c{number}", "qiniu"), NOW, denied)
            for number in range(12)
        ]
        notices.append(Notice(Topic.TROUBLE, Subject("alone", "qiniu"), NOW, failed))
        state.update_notices(lambda _: tuple(notices))
        state.save_run(NOW, succeeded=False)
        html = page(site, "/certificates")

    assert 1 == html.count("the account refuses the key")
    assert 12 == html.count('href="#cause-1">cause above</a>') == html.count("cause above")
    assert '<div id="cause-1">' in html
    assert "12 certificates" in words(html).partition("alone")[0]
    row = next(row for row in html.split("<tr>") if '">alone</a>' in row)
    assert "the CDN could not carry out the change" in row
    assert "at 0 of 1 place" in row


def test_list_of_an_account(tmp_path: Path) -> None:
    """With `account`, the list has the certificates of the account. The page of accounts links to
    the list.
    """
    with site_in(tmp_path, tables_of(2)) as site:
        at_target = page(site, "/certificates?account=qiniu")
        unknown = page(site, "/certificates?account=files")

    assert {"c0", "c1"} == set(rows(at_target))
    assert "Certificates that use the account qiniu" in words(at_target)
    assert set() == set(rows(unknown))

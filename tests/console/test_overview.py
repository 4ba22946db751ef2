"""The first screen: the verdict, the causes, the days, the lives and the last run."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from certferry.cli.main import program
from certferry.console.app import pages_of
from certferry.console.causes import pieces
from certferry.console.overview import (
    MOST_CAUSES,
    MOST_LIVES,
    level_of,
    sentence_of,
    shown_day,
)
from certferry.console.picture import picture_of
from certferry.console.site import Site
from certferry.console.snapshot import Snapshots
from certferry.console.surveying import SurveyedAccounts
from certferry.core.access import Role
from certferry.core.assessment.agenda import Coming, Day, Life, Milestone, OverallVerdict
from certferry.core.assessment.notices import REFUSED, Notice, Subject, Topic
from certferry.core.assessment.sightings import Sighting
from certferry.core.certificates.certificate import RenewalWindow
from certferry.core.desired.certificate import Kind
from certferry.core.discovery.inventory import DiscoveredDomain, Discovery, FoundDomain
from certferry.core.discovery.proposal import Proposal
from certferry.core.observed.observation import Served
from certferry.core.observed.stored_runs import RunKind, RunSource, RunState, StoredRun
from certferry.errors import Problem, Severity, StateUnavailable, TargetAccessDenied
from certferry.ports.state import StateStore
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.certificates import make_bundle
from tests.console.serving import ANNA, AsVisitor, served
from tests.console.stored_site import (
    DAY,
    NOW,
    domains_of,
    fill,
    issue,
    site_in,
    sync,
    table,
    tables_of,
)
from tests.core.strategies import certificate, version
from tests.house.translations import read

HOSTILE = "\"><b>&%2e?#;'{{7*7}}"
"""A name accepted by the configuration."""


@contextmanager
def opened(site: Site, language: str = "en", role: Role = Role.OPERATOR) -> Iterator[str]:
    """Serve a site to a single user, and yield the URL."""
    with served(AsVisitor(pages_of(site), replace(ANNA, role=role), language)) as url:
        yield url


def page(site: Site, path: str = "/", language: str = "en", role: Role = Role.OPERATOR) -> str:
    with opened(site, language, role) as url:
        reply = requests.get(url + path, timeout=30)
    assert 200 == reply.status_code, reply.text
    return reply.text


def words(html: str) -> str:
    """Return the visible words of the main part."""
    main = html.partition("<main")[2].partition(">")[2].partition("</main>")[0]
    main = re.sub(r"<(\w+)[^>]* hidden>.*?</\1>", " ", main)
    return " ".join(re.sub(r"<[^>]*>", " ", main).split())


# --- the sentence

TUESDAY = datetime(2026, 12, 1, 12, tzinfo=UTC)
NEXT = Coming(TUESDAY, Milestone.RENEWAL, "img")


def verdict(**facts: object) -> OverallVerdict:
    usual: dict[str, object] = {
        "severity": Severity.OK,
        "certificates": 43,
        "troubled": 0,
        "pending": 0,
        "others": 0,
    }
    return OverallVerdict(**{**usual, **facts})  # type: ignore[arg-type]  # by keyword


@pytest.mark.parametrize(
    ("overall", "sentence", "level"),
    [
        (
            verdict(next=NEXT),
            "All 43 certificates are in order; next renewal: img, Tuesday 1 December",
            "ok",
        ),
        (verdict(), "All 43 certificates are in order", "ok"),
        (verdict(certificates=1), "The only certificate is in order", "ok"),
        (
            verdict(troubled=3, severity=Severity.ERROR, next=NEXT),
            "3 certificates need attention, 40 in order",
            "error",
        ),
        (
            verdict(troubled=1, pending=2, severity=Severity.WARNING),
            "1 certificate needs attention, 2 pending, 40 in order",
            "warning",
        ),
        (
            verdict(troubled=43, severity=Severity.ERROR),
            "All 43 certificates need attention",
            "error",
        ),
        (
            verdict(others=1, severity=Severity.WARNING),
            "All 43 certificates are in order; 1 other problem",
            "warning",
        ),
        (verdict(pending=1), "1 pending, 42 in order", "notice"),
        (verdict(certificates=0), "No certificates are configured yet", "notice"),
    ],
)
def test_verdict_begins_with_the_problems(
    overall: OverallVerdict, sentence: str, level: str
) -> None:
    """Certificates that need attention come first in the sentence. Pending certificates, and an
    empty configuration, have the level `notice`.
    """
    assert (sentence, level) == (str(sentence_of(overall)), level_of(overall))


@pytest.mark.parametrize(
    ("sentence", "commands"),
    [
        ("run: certferry sync img", ["certferry sync img"]),
        ("see by `certferry schedule show` whether; run: certferry sync", None),
        ("请运行 `certferry sync --renew img`", ["certferry sync --renew img"]),
        ("nothing to type here", []),
        ("declare one, or have certferry propose them: certferry init", ["certferry init"]),
        ("请声明证书，或让 certferry 给出建议：certferry init", ["certferry init"]),
        ("stop the other tool; certferry repairs it again after noon", []),
    ],
)
def test_commands_in_a_sentence(sentence: str, commands: list[str] | None) -> None:
    """A command is in backquotes, or follows a colon at the end of the sentence."""
    expected = ["certferry schedule show", "certferry sync"] if commands is None else commands

    assert expected == [words for is_command, words in pieces(sentence) if is_command]


def test_every_button_to_copy_has_a_command() -> None:
    """In every sentence of both languages, each button to copy has an existing command. Prose that
    begins with the program's name has no button.
    """
    commands = {*program.list_commands(click.Context(program)), "help"}
    sentences = [str(text) for entry in read("zh") for text in (entry.id, entry.string)]
    copied = [
        words for sentence in sentences for is_command, words in pieces(sentence) if is_command
    ]

    assert 100 < len(copied)
    wrong = [
        command
        for command in copied
        if command.split()[1] not in commands and command.split()[1][0] not in "-{"
    ]
    assert [] == wrong


parts = st.sampled_from(["certferry ", "`", " ", "sync", ";", "：", "."])


@given(sentence=st.lists(parts, max_size=12).map("".join))
def test_sentence_keeps_every_word(sentence: str) -> None:
    """The pieces are the sentence without backquotes."""
    pieces_of_sentence = "".join(words for _, words in pieces(sentence))
    assert sentence.replace("`", "") == pieces_of_sentence.replace("`", "")


# --- the picture

days = st.integers(-400, 400).map(lambda number: NOW + number * DAY)


@st.composite
def lives(draw: st.DrawFn) -> Life:
    begin, window = draw(days), draw(days)
    made = certificate(not_before=begin, lifetime=draw(st.integers(1, 800)) * DAY)
    newest = version(1, made)
    other = draw(days)
    return Life(
        "img",
        newest,
        draw(st.none() | days),
        draw(st.none() | st.just(RenewalWindow(window, window + DAY))),
        draw(st.none() | days),
        made.not_after,
        *draw(st.sampled_from([(newest, made.not_after), (None, None), (None, other)])),
    )


@given(drawn=st.lists(lives(), min_size=1, max_size=4))
def test_bars_are_within_the_picture(drawn: list[Life]) -> None:
    """For any life, now and every bar have a position within the picture. The passed part of a bar
    is at most the whole bar.
    """
    picture = picture_of(drawn, NOW)

    assert picture is not None
    assert 0 <= picture.now <= 100
    assert [bar.life for bar in picture.bars] == drawn
    for bar in picture.bars:
        for stretch in filter(None, (bar.used, bar.passed, bar.newer, bar.window)):
            assert 0 <= stretch.x
            assert stretch.x + stretch.width <= 100.01
        assert (bar.used is None) is (bar.passed is None) is (bar.life.in_use_until is None)
        if bar.used is not None and bar.passed is not None:
            assert bar.passed.width <= bar.used.width
        assert (bar.newer is None) is (bar.life.in_use is bar.life.version)
        assert all(0 <= x <= 100 for x in (bar.renewal, bar.upload) if x is not None)


def test_picture_says_what_is_not_known_or_not_served(tmp_path: Path) -> None:
    """A certificate whose domains no run has observed has a bar of its own, with a mark in the
    legend. A certificate that no address serves has no expiry.
    """
    with site_in(tmp_path, tables_of(2)) as site:
        state = site.workspace().state
        for number in range(2):
            issue(state, f"c{number}", domains_of(number), age=3 * DAY, served=False)
        state.update_sightings(
            lambda before: tuple(
                replace(place, serves_nothing=True) for place in before if place.lineage == "c1"
            )
        )
        state.save_run(NOW, succeeded=True)
        html = page(site)
        listed = words(page(site, "/certificates?q=c1"))

    rows = html.partition('class="table stack lives"')[2].split("<tr>")
    bars = {row.split('title="')[1][:2]: row for row in rows if 'scope="row"' in row}
    assert "unseen" in bars["c0"]
    assert "unseen" not in bars["c1"].partition("</tr>")[0]
    assert "not served" in bars["c1"].partition("</tr>")[0]
    assert "not served" not in bars["c0"]
    assert "not served" in listed
    legend = html.partition('class="legend')[2].partition("</ul>")[0]
    assert "not checked yet" in legend
    assert "newer, not yet everywhere" in legend


@given(drawn=st.lists(lives(), min_size=1, max_size=4), minutes=st.integers(0, 60 * 24 * 366))
def test_labels_below_the_scale_keep_their_distance(drawn: list[Life], minutes: int) -> None:
    """Each label has a third of the scale, and stays on the scale, in the order of the months."""
    picture = picture_of(drawn, NOW + timedelta(minutes=minutes))

    assert picture is not None
    labelled = [tick for tick in picture.ticks if tick.is_labelled]
    begins = [tick.x - 36 if tick.is_at_end else tick.x for tick in labelled]
    assert all(0 <= begin <= 64 for begin in begins)
    assert all(later - begin > 35.99 for begin, later in itertools.pairwise(begins))


def test_picture_without_a_certificate() -> None:
    """Without a certificate, the axis would be empty, so the picture is left out."""
    assert picture_of([Life("img")], NOW) is None


# --- the page


def test_first_screen_without_certificates(tmp_path: Path) -> None:
    """The first screen shows the commands for adding certificates."""
    with site_in(tmp_path) as site:
        shown = words(page(site))

    assert shown.startswith("No certificates are configured yet")
    assert "certferry init" in shown
    assert f"certferry --config {tmp_path / 'certferry.toml'} add" in shown


def test_first_screen_before_the_first_run(tmp_path: Path) -> None:
    """The first screen shows the commands for a rehearsal and for the first run."""
    with site_in(tmp_path, tables_of(1)) as site:
        shown = words(page(site))

    assert "The only certificate needs attention" in shown
    assert f"certferry --config {tmp_path / 'certferry.toml'} sync --rehearse" in shown
    assert "no certificate has been issued yet" in shown


@pytest.mark.parametrize(
    ("language", "sentence"),
    [("en", "All 2 certificates are in order; next renewal: c"), ("zh", "2 张证书")],
)
def test_first_screen_in_order(tmp_path: Path, language: str, sentence: str) -> None:
    """The first screen has the verdict, the days, and a bar for each certificate. The title and the
    icon show no trouble.
    """
    with site_in(tmp_path, tables_of(2)) as site:
        sync(site)
        html = page(site, language=language)

    assert sentence in words(html)
    assert '<h1 class="verdict ok"' in html
    assert 2 == html.count('<svg class="life"')
    strip = html.split('<ol class="strip">')[1].split("</ol>")[0]
    assert (16, 2) == (strip.count("<li"), strip.count(" hidden>"))
    assert re.search(r"<title>[^(]", html), "no trouble in the title"
    assert "icon.svg" in html.partition('rel="icon"')[2].partition(">")[0]


def test_last_run_names_the_user(tmp_path: Path) -> None:
    """The line has the result, the user, the source, the host, and a link to the run."""
    with site_in(tmp_path, tables_of(1)) as site:
        sync(site)
        state, host = site.workspace().state, site.stored.latest().last_runs[0][0]
        run = StoredRun("r1", RunKind.SYNC, RunSource.CONSOLE, "anna", host, NOW)
        state.save_run_begin(run)
        state.save_run_end(run.id, RunState.FAILED, NOW, None)
        html = page(site)

    last = html.split('id="looked"')[1]
    assert '<a href="/runs/r1">' in last
    assert '<span class="badge error">failed</span>' in last
    assert f"Sync by anna (console) on {host}" in last


def test_run_that_failed_at_the_start_is_the_last_run(tmp_path: Path) -> None:
    """A run may fail before the state stores a last run of the host, for example because the plan
    was refused. The first screen shows the run nevertheless.
    """
    with site_in(tmp_path, tables_of(1)) as site:
        assert "No run has finished yet." in page(site)
        state = site.workspace().state
        run = StoredRun("r1", RunKind.SYNC, RunSource.CONSOLE, "anna", state.host, NOW)
        state.save_run_begin(run)
        state.save_run_end(run.id, RunState.FAILED, NOW, None)
        html = page(site)

    assert "No run has finished yet." not in html
    assert "Next run" not in html, "another program starts the runs"
    last = html.split('id="looked"')[1]
    assert '<a href="/runs/r1">' in last
    assert '<span class="badge error">failed</span>' in last


def test_process_with_a_schedule_shows_its_next_run(tmp_path: Path) -> None:
    """The next run is within half a day."""
    with site_in(tmp_path, tables_of(1)) as site:
        sync(site)
        site.has_schedule = True
        html = page(site)

    shown = re.search(r'Next run <time[^>]* datetime="([^"]*)"', html)
    assert shown is not None
    assert NOW < datetime.fromisoformat(shown[1]) <= NOW + DAY / 2 + timedelta(minutes=1)


def notices(site: Site, *made: Notice) -> None:
    site.workspace().state.update_notices(lambda _: made)


def cards(html: str) -> list[str]:
    """Return the cards of a page."""
    return [part.partition("</section>")[0] for part in html.split('<div class="note cause ')[1:]]


def test_cause_has_a_card(tmp_path: Path) -> None:
    """The card has the start of the problem, and a link to the certificate. The title of every page
    has the number of causes.
    """
    with site_in(tmp_path, tables_of(2)) as site:
        state = site.workspace().state
        issue(state, "c0", ["d0.c0.example.com"], age=80 * DAY)
        issue(state, "c1", ["d0.c1.example.com"], age=DAY)
        state.save_run(NOW, succeeded=True)
        html, elsewhere = page(site), page(site, "/runs")

    assert "<title>(1) Overview" in html
    assert "<title>(1) Runs" in elsewhere
    assert "icon-error.svg" in html.partition('rel="icon"')[2].partition(">")[0]
    assert "1 certificate needs attention, 1 in order" in words(html)
    [card] = cards(html)
    assert '<a class="button quiet" href="/certificates/c0">Open c0</a>' in card
    assert f'since <time datetime="{NOW - 5 * DAY:%Y-%m-%dT%H:%M:%SZ}"' in card


def test_cause_of_many_certificates_has_a_single_card(tmp_path: Path) -> None:
    """The card has the numbers of certificates and domains, three names, and a single run for all.
    A viewer gets the command in place of the button.
    """
    with site_in(tmp_path, tables_of(12)) as site:
        sync(site)
        refused = Problem(
            "target_access_denied", Text("qiniu refuses the key"), Text("run: certferry sync c0")
        )
        places = [
            Subject(f"c{number}", "qiniu", f"d{place}.c{number}.example.com")
            for number in range(12)
            for place in range(2)
        ]
        notices(
            site, *(Notice(Topic.TROUBLE, subject, NOW, refused, NOW + DAY) for subject in places)
        )
        html, viewed = page(site), page(site, role=Role.VIEWER)

    [card] = cards(html)
    assert "All 12 certificates need attention" in words(html)
    assert "12 certificates, 24 domains: c0, c1, c10, and 9 more" in words(f"<main>{card}</main>")
    assert f'expires <span class="moment">{NOW + DAY:%Y-%m-%d %H:%M} UTC</span>' in card
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', card))
    assert {"csrf", "kind", "request"} == fields.keys(), "a run of all"
    assert len(fields["request"]) > 10
    assert "<form" not in viewed.partition("<main")[2]
    option = '<span class="option">--config</span>'
    path = tmp_path / "certferry.toml"
    assert f"<code>certferry {option} {path} sync c0</code>" in cards(viewed)[0]


CHANNEL = '[notify.ops]\ntype = "webhook"\nurl = "https://hooks.example.com/x"\n'


@pytest.mark.parametrize(
    ("subject", "hint", "fix"),
    [
        (
            Subject(channel="ops"),
            Text("after fixing the channel, run `certferry notify test ops`"),
            'action="/channels/ops/test"',
        ),
        (
            Subject("c0"),
            Text("issue a new certificate: `certferry sync --renew c0`"),
            '<a class="button" href="/certificates/c0/renew">',
        ),
        (
            Subject("c0"),
            Text("run: certferry sync --rehearse c0"),
            'href="/certificates/c0/rehearse"',
        ),
        (Subject("c0"), Text("see `certferry history c0`"), 'href="/history?name=c0"'),
        (Subject("c0"), Text("see `certferry doctor`"), '<a class="button quiet" href="/doctor">'),
        (Subject("c0"), Text("wait for the CA"), 'name="names" value="c0"'),
        (Subject(host="web-2"), Text("look at the host"), 'href="/hosts"'),
        (Subject(), Text("run: certferry restore FILE"), "<code>certferry"),
    ],
)
def test_fix_is_a_button_if_possible(
    tmp_path: Path, subject: Subject, hint: Text, fix: str
) -> None:
    """The button takes the place of the hint's command. For a hint without such a command, the
    subject of the cause decides the button.
    """
    with site_in(tmp_path, tables_of(1) + CHANNEL) as site:
        sync(site)
        notices(site, Notice(Topic.TROUBLE, subject, NOW, Problem("said", Text("no"), hint)))
        [card], [viewed] = cards(page(site)), cards(page(site, role=Role.VIEWER))

    assert fix in card
    assert "<form" not in viewed
    assert "/renew" not in viewed
    assert "/rehearse" not in viewed


def test_consequences_are_folded_under_their_cause(tmp_path: Path) -> None:
    """Each kind of consequence is shown once, with the earliest date and the number of the
    others.
    """
    with site_in(tmp_path, tables_of(3)) as site:
        state = site.workspace().state
        for number in range(3):
            issue(state, f"c{number}", domains_of(number), age=84 * DAY)
        state.save_run(NOW, succeeded=True)
        refused = Problem("target_access_denied", Text("qiniu refuses the key"))
        notices(
            site,
            *(Notice(Topic.TROUBLE, Subject(f"c{n}", "qiniu"), NOW, refused) for n in range(3)),
        )
        [card] = cards(page(site))

    folded = words(f"<main>{card.partition('<details>')[2].partition('</details>')[0]}</main>")
    assert "the certificate ends at" in folded
    assert "and 2 more" in folded
    assert f"ends at {NOW + 6 * DAY:%Y-%m-%d %H:%M} UTC" in folded
    assert f'expires <span class="moment">{NOW + 6 * DAY:%Y-%m-%d %H:%M} UTC</span>' in card


def test_card_has_the_effect_of_a_cause(tmp_path: Path) -> None:
    """The card says which channels still deliver, that a domain has no HTTPS, and that an account
    with refused keys takes nothing.
    """
    channels = CHANNEL + CHANNEL.replace("ops", "night")
    with site_in(tmp_path, tables_of(2) + channels) as site:
        sync(site)
        state = site.workspace().state
        dark = ("c0", "qiniu", "d0.c0.example.com")
        seen = Sighting(*dark, served=False, since=NOW, serves_nothing=True)
        state.update_sightings(
            lambda before: (*(other for other in before if other.place != dark), seen)
        )
        told = (
            (Subject(channel="night"), REFUSED),
            (Subject(*dark), "deploy_failed"),
            (Subject("c1", "qiniu"), TargetAccessDenied.code),
        )
        notices(
            site,
            *(Notice(Topic.TROUBLE, about, NOW, Problem(code, Text("no"))) for about, code in told),
        )
        [first, second, third] = [words(f"<main>{card}</main>") for card in cards(page(site))]

    assert "d0.c0.example.com has no HTTPS now: no address serves a certificate" in first
    assert "expires" not in first, "no visitor sees the new certificate"
    assert any("they still reach ops" in card for card in (second, third))
    assert any("no certificate can be deployed to qiniu now" in card for card in (second, third))


def test_card_without_an_own_deadline_has_that_of_its_certificates(tmp_path: Path) -> None:
    """A refused account has no deadline; the certificates must still be uploaded by a moment."""
    with site_in(tmp_path, tables_of(2)) as site:
        state = site.workspace().state
        for number, age in enumerate((10, 20)):
            issue(state, f"c{number}", domains_of(number), age=age * DAY, served=False)
        refused = Problem(TargetAccessDenied.code, Text("no"))
        subjects = (Subject(f"c{number}", "qiniu") for number in range(2))
        notices(site, *(Notice(Topic.TROUBLE, about, NOW, refused) for about in subjects))
        [card] = [card for card in cards(page(site)) if "no</" in card]

    shown = words(f"<main>{card}</main>")
    assert f"must be uploaded by {NOW + 40 * DAY:%Y-%m-%d %H:%M} UTC" in shown


def test_expired_domain_outside_certferry(tmp_path: Path) -> None:
    """After a survey, the first screen and the page of all causes name uncovered domains with an
    expired certificate, when it expired and how many addresses are valid. The headline, the level
    and the title count the domains.
    """
    with site_in(tmp_path, tables_of(1)) as site:
        sync(site)
        before = words(page(site))
        listed = FoundDomain("old.example.com", Kind.CDN, has_https=True, not_after=NOW - DAY)
        dead = Served("127.0.0.2", "f1", valid=False, not_after=NOW - DAY)
        discovery = Discovery((), (DiscoveredDomain("qiniu", listed, served=(dead,)),))
        survey = SurveyedAccounts(discovery, Proposal(), ())
        site.observer.keep("discover", survey)
        html = page(site)
        after, everything = words(html), words(page(site, "/causes"))

    assert "old.example.com" not in before
    assert "as of the last run," in after
    assert "The only certificate is in order; 1 other problem" in after
    assert "Causes old.example.com: the certificate has expired" in after
    for shown in (after, everything):
        assert "visitors get an error (0 of 1 addresses serve a valid certificate)" in shown
        assert re.search(rf"expired {NOW - DAY:%Y-%m-%d %H:%M} UTC", shown)
    assert "Nothing is wrong" not in everything
    assert '<h1 class="verdict error">' in html
    assert "<title>(1)" in html


def test_all_causes_have_a_page(tmp_path: Path) -> None:
    """The first screen shows ten causes and a link to all causes, twenty on a page."""
    with site_in(tmp_path, tables_of(1)) as site:
        sync(site)
        made = (
            Notice(Topic.TROUBLE, Subject(host=f"web-{n}"), NOW, Problem("said", Text("no")))
            for n in range(30)
        )
        notices(site, *made)
        first, all_first, all_second, beyond = (
            page(site, path) for path in ("/", "/causes", "/causes?page=2", "/causes?page=9x")
        )

    assert [MOST_CAUSES, 20, 10, 20] == [
        len(cards(html)) for html in (first, all_first, all_second, beyond)
    ]
    assert '<a class="small" href="/causes">all 30 causes</a>' in first
    assert 'href="/causes?page=2"' in all_first


def test_each_form_has_an_identity(tmp_path: Path) -> None:
    """Each load of the page gives the form a new identity. The console recognises a repeated form
    by the identity.
    """
    with site_in(tmp_path, tables_of(1)) as site, opened(site) as url:
        identities = {
            identity
            for _ in range(2)
            for identity in re.findall(r'name="request" value="([^"]+)"', requests.get(url).text)  # noqa: S113 - on loopback
        }

    assert 2 == len(identities)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_hostile_name_on_the_first_screen(tmp_path: Path, language: str) -> None:
    """Text, attributes, links and the words of services are escaped."""
    with site_in(tmp_path, table(HOSTILE, ["a.example.com"])) as site:
        sync(site)
        problem = Problem("target_rejected", Text("{said}", said="<script>alert(1)</script>"))
        notice = Notice(Topic.TROUBLE, Subject(HOSTILE, "qiniu", "a.example.com"), NOW, problem)
        site.workspace().state.update_notices(lambda before: (*before, notice))
        with opened(site, language) as url:
            html = requests.get(url, timeout=30).text
            [to] = set(re.findall(r'<a href="(/certificates/[^"?]+)"', html)) - {"/certificates"}
            linked = requests.get(url + to, timeout=30)

    assert "<script>alert" not in html + linked.text
    assert "<b>" not in html + linked.text
    assert "{{7*7}}" in html
    assert 200 == linked.status_code


def test_links_have_the_prefix(tmp_path: Path) -> None:
    """Behind a proxy with a prefix, every link begins with the prefix."""
    with site_in(tmp_path, tables_of(1), prefix="/x/y") as site:
        sync(site)
        html = page(site)

    for attribute in ("href", "src", "action", "hx-get"):
        for path in re.findall(rf'\b{attribute}="([^"#]*)"', html):
            assert path.startswith(("/x/y/", "?")), path


def test_renewals_of_a_day_share_an_entry(tmp_path: Path) -> None:
    """The entry has the number of renewals, also by quarters of an hour for viewers in other zones,
    and a link to the certificates of the day.
    """
    count = 30
    with site_in(tmp_path, tables_of(count)) as site:
        for number in range(count):
            age = 52 * DAY + number * timedelta(hours=2)
            issue(site.workspace().state, f"c{number}", domains_of(number), age=age)
        html = page(site)
        [day] = re.findall(r'href="(/certificates\?day=[^"]*)" title="[^"]* and ', html)[:1]
        listed = page(site, day)

    entries = re.findall(r'<p class="renewal" data-counts="([^"]*)">.*?<b>(\d+)</b>', html)
    assert count == sum(int(shown) for _, shown in entries)
    for counts, shown in entries:
        assert int(shown) == sum(int(part.partition(":")[2]) for part in counts.split())
    shown_days = re.findall(r'day=([^"]*)" title="[^"]*">renew <b>(\d+)', html)
    assert dict(shown_days)[day.partition("=")[2]] == str(listed.count('<th scope="row"'))


@given(
    moments=st.lists(st.integers(0, 24 * 60 - 1), max_size=20),
    milestones=st.lists(st.sampled_from(Milestone), min_size=20, max_size=20),
)
def test_every_certificate_of_a_day_is_counted(
    moments: list[int], milestones: list[Milestone]
) -> None:
    """Each certificate is counted once for each kind of milestone, in the quarter of an hour of the
    milestone.
    """
    midnight = datetime(2026, 12, 1, tzinfo=UTC)
    coming = tuple(
        Coming(midnight + timedelta(minutes=minute), milestone, f"c{number}")
        for number, (minute, milestone) in enumerate(zip(sorted(moments), milestones, strict=False))
    )
    shown = shown_day(Day(midnight.date(), coming))

    assert len(coming) == sum(entry.count for entry in shown.entries)
    for entry in shown.entries:
        quarters = [quarter.split(":") for quarter in entry.counts.split()]
        assert entry.count == sum(int(count) for _, count in quarters)
        begins = {datetime.fromtimestamp(int(quarter) * 900, UTC) for quarter, _ in quarters}
        own = [event.at for event in coming if event.milestone is entry.milestone]
        assert begins == {at.replace(minute=at.minute // 15 * 15) for at in own}


def test_bar_is_the_life_of_the_certificate_in_use(tmp_path: Path) -> None:
    """The newer certificate is drawn beside the bar, and the last column has the end of the
    certificate in use.
    """
    with site_in(tmp_path, tables_of(1)) as site:
        state = site.workspace().state
        issue(state, "c0", domains_of(0), age=70 * DAY)
        made = make_bundle(*domains_of(0), not_before=NOW - DAY)
        lease = state.acquire("c0", NOW)
        state.save_version(lease, made, NOW - DAY)
        state.release(lease)
        html = page(site)

    [row] = re.findall(r'<svg class="life".*?</tr>', html, re.DOTALL)
    assert 1 == row.count('class="newer"')
    assert f">{NOW + 20 * DAY:%Y-%m-%d}</time>" in row
    assert f"expires {NOW + 20 * DAY:%Y-%m-%d %H:%M}" in row


def test_lives_are_shown_by_page_and_by_state(tmp_path: Path) -> None:
    """The certificates are in the order of their ends, and the links to other pages keep the
    state.
    """
    count = 3 * MOST_LIVES
    with site_in(tmp_path, tables_of(count)) as site:
        fill(site.workspace().state, count)
        with opened(site) as url:
            pages = [
                requests.get(f"{url}/?state=ok&page={number}", timeout=30).text
                for number in (1, 2, 3)
            ]
            none = requests.get(f"{url}/?state=trouble", timeout=30).text

    ends = re.findall(r'"Expires"><time datetime="([^"]*)"', "".join(pages))
    assert count == len(ends)
    assert sorted(ends) == ends
    assert 'rel="next" href="/?state=ok&amp;page=3"' in pages[1]
    assert '<a href="/?state=ok" aria-current="true">' in pages[0]
    assert "No certificates match the filter." in none


def test_pages_for_many_certificates_are_small(tmp_path: Path) -> None:
    """The first screen hardly grows with ten times as many certificates, a third of them in
    trouble. The lists of causes and certificates have a limited size.
    """
    sizes: dict[str, list[int]] = {}
    for count in (60, 600):
        folder = tmp_path / str(count)
        folder.mkdir()
        with site_in(folder, tables_of(count)) as site:
            fill(site.workspace().state, count)
            troubles = [
                Notice(
                    Topic.TROUBLE,
                    Subject(f"c{number}", "qiniu", f"d0.c{number}.example.com"),
                    NOW,
                    Problem(f"code{number % 15}", Text("the target refuses the certificate")),
                )
                for number in range(count // 3)
            ]
            notices(site, *troubles)
            with opened(site) as url:
                for path in ("/", "/causes", "/certificates?state=trouble"):
                    size = len(requests.get(url + path, timeout=60).content)
                    sizes.setdefault(path, []).append(size)

    few, many = sizes["/"]
    assert many < 100_000
    assert many - few < 5_000
    assert sizes["/causes"][1] < 100_000
    assert sizes["/certificates?state=trouble"][1] < 150_000


def test_snapshot_is_renewed_after_a_run(tmp_path: Path) -> None:
    """Visitors share a snapshot for two seconds, and get a new snapshot after the end of a run."""
    with site_in(tmp_path, tables_of(1)) as site:
        before = site.stored.latest()
        assert before is site.stored.latest()
        site.workspace().state.save_run(NOW + timedelta(seconds=1), succeeded=True)
        after = site.stored.latest()

    assert after is not before
    assert [] == [need.concern for need in after.agenda.needs if "run" in need.concern.problem.code]


class Slow:
    """A workspace with a state that fails after a while, and counts the requests."""

    settings = None

    def __init__(self) -> None:
        self.asked = 0

    @property
    def state(self) -> StateStore:
        self.asked += 1
        time.sleep(0.3)
        raise StateUnavailable(Text("the database does not answer"))


def test_failing_database_is_asked_once() -> None:
    """Concurrent requests share a failure. A later request tries again."""
    slow = Slow()
    stored = Snapshots(lambda: slow)  # type: ignore[arg-type, return-value]  # enough here

    def ask(_: int) -> type[Exception] | None:
        try:
            stored.latest()
        except StateUnavailable as error:
            return type(error)
        return None

    with ThreadPoolExecutor(8) as pool:
        failures = set(pool.map(ask, range(8)))
    assert {StateUnavailable} == failures
    assert slow.asked < 4
    before = slow.asked
    ask(0)
    assert before + 1 == slow.asked

"""The first screen: what it says of what is stored, and that it says it to browsers."""

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
from certferry.console.discover import SurveyedAccounts
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
from certferry.core.access import Role
from certferry.core.assessment.agenda import Coming, Day, Life, Milestone, OverallVerdict
from certferry.core.assessment.notices import Notice, Subject, Topic
from certferry.core.certificates.certificate import RenewalWindow
from certferry.core.desired.certificate import Kind
from certferry.core.discovery.inventory import DiscoveredDomain, Discovery, FoundDomain
from certferry.core.discovery.proposal import Proposal
from certferry.core.observed.stored_runs import RunKind, RunSource, RunState, StoredRun
from certferry.errors import Problem, Severity, StateUnavailable
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
"""A name that the configuration takes."""


@contextmanager
def opened(site: Site, language: str = "en", role: Role = Role.OPERATOR) -> Iterator[str]:
    """Serve a site to one user; yield the URL."""
    with served(AsVisitor(pages_of(site), replace(ANNA, role=role), language)) as url:
        yield url


def page(site: Site, path: str = "/", language: str = "en", role: Role = Role.OPERATOR) -> str:
    with opened(site, language, role) as url:
        reply = requests.get(url + path, timeout=30)
    assert 200 == reply.status_code, reply.text
    return reply.text


def words(html: str) -> str:
    """What a person reads of the main part."""
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
    ("found", "said", "level"),
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
            "3 certificates in trouble, 40 in order",
            "error",
        ),
        (
            verdict(troubled=1, pending=2, severity=Severity.WARNING),
            "1 certificate in trouble, 2 pending, 40 in order",
            "warning",
        ),
        (
            verdict(troubled=43, severity=Severity.ERROR),
            "All 43 certificates are in trouble",
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
def test_the_verdict_is_one_sentence(found: OverallVerdict, said: str, level: str) -> None:
    """It says first what needs a person."""
    assert (said, level) == (str(sentence_of(found)), level_of(found))


@pytest.mark.parametrize(
    ("said", "commands"),
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
def test_commands_in_a_sentence(said: str, commands: list[str] | None) -> None:
    """Those in backquotes, and one after a colon at its end."""
    expected = ["certferry schedule show", "certferry sync"] if commands is None else commands

    assert expected == [words for is_command, words in pieces(said) if is_command]


def test_what_is_copied_from_any_sentence_is_a_command() -> None:
    """In both languages: no button copies prose that begins with the program's name."""
    known = {*program.list_commands(click.Context(program)), "help"}
    said = [str(one) for each in read("zh") for one in (each.id, each.string)]
    found = [words for one in said for is_command, words in pieces(one) if is_command]

    assert 100 < len(found)
    wrong = [one for one in found if one.split()[1] not in known and one.split()[1][0] not in "-{"]
    assert [] == wrong


parts = st.sampled_from(["certferry ", "`", " ", "sync", ";", "：", "."])


@given(said=st.lists(parts, max_size=12).map("".join))
def test_no_word_of_a_sentence_is_lost(said: str) -> None:
    """Only the backquotes go."""
    assert said.replace("`", "") == "".join(words for _, words in pieces(said)).replace("`", "")


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
def test_everything_is_within_the_picture(drawn: list[Life]) -> None:
    """Whatever a certificate's life is, now and each bar have their place; what has passed of it is
    no more than the whole.
    """
    picture = picture_of(drawn, NOW)

    assert picture is not None
    assert 0 <= picture.now <= 100
    assert [one.life for one in picture.bars] == drawn
    for bar in picture.bars:
        for one in filter(None, (bar.used, bar.passed, bar.newer, bar.window)):
            assert 0 <= one.x
            assert one.x + one.width <= 100.01
        assert (bar.used is None) is (bar.passed is None) is (bar.life.in_use_until is None)
        if bar.used is not None and bar.passed is not None:
            assert bar.passed.width <= bar.used.width
        assert (bar.newer is None) is (bar.life.in_use is bar.life.version)
        assert all(0 <= x <= 100 for x in (bar.renewal, bar.upload) if x is not None)


@given(drawn=st.lists(lives(), min_size=1, max_size=4), minutes=st.integers(0, 60 * 24 * 366))
def test_labels_below_the_scale_never_cover_each_other(drawn: list[Life], minutes: int) -> None:
    """Each has a third of the scale, on the scale, in the order of the months."""
    picture = picture_of(drawn, NOW + timedelta(minutes=minutes))

    assert picture is not None
    labelled = [tick for tick in picture.ticks if tick.is_labelled]
    begins = [tick.x - 36 if tick.is_at_end else tick.x for tick in labelled]
    assert all(0 <= begin <= 64 for begin in begins)
    assert all(later - begin > 35.99 for begin, later in itertools.pairwise(begins))


def test_no_certificate_is_no_picture() -> None:
    """An empty axis would say nothing."""
    assert picture_of([Life("img")], NOW) is None


# --- the page


def test_nothing_is_declared(tmp_path: Path) -> None:
    """The first screen has the next command."""
    with site_in(tmp_path) as site:
        said = words(page(site))

    assert said.startswith("No certificates are configured yet")
    assert "certferry init" in said
    assert f"certferry --config {tmp_path / 'certferry.toml'} add" in said


def test_no_run_yet(tmp_path: Path) -> None:
    """It says how to try, and how to begin."""
    with site_in(tmp_path, tables_of(1)) as site:
        said = words(page(site))

    assert "The only certificate is in trouble" in said
    assert f"certferry --config {tmp_path / 'certferry.toml'} sync --rehearse" in said
    assert "no certificate has been issued yet" in said


@pytest.mark.parametrize(
    ("language", "said"),
    [("en", "All 2 certificates are in order; next renewal: c"), ("zh", "2 张证书")],
)
def test_all_is_in_order(tmp_path: Path, language: str, said: str) -> None:
    """After runs that brought everything: one sentence, the days, the lives, the last run."""
    with site_in(tmp_path, tables_of(2)) as site:
        sync(site)
        html = page(site, language=language)

    assert said in words(html)
    assert '<h1 class="verdict ok"' in html
    assert 2 == html.count('<svg class="life"')
    strip = html.split('<ol class="strip">')[1].split("</ol>")[0]
    assert (16, 2) == (strip.count("<li"), strip.count(" hidden>"))
    assert re.search(r"<title>[^(]", html), "no trouble in the title"
    assert "icon.svg" in html.partition('rel="icon"')[2].partition(">")[0]


def test_last_run_names_who_started_it(tmp_path: Path) -> None:
    """How it ended, from where it was started and on which host, and a link to all of it."""
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


def test_run_that_failed_before_it_reconciled_anything_is_the_last_run(tmp_path: Path) -> None:
    """A refused plan is no host's last run of the state; it is one that has ended all the same."""
    with site_in(tmp_path, tables_of(1)) as site:
        assert "No run has finished yet." in page(site)
        state = site.workspace().state
        run = StoredRun("r1", RunKind.SYNC, RunSource.CONSOLE, "anna", state.host, NOW)
        state.save_run_begin(run)
        state.save_run_end(run.id, RunState.FAILED, NOW, None)
        html = page(site)

    assert "No run has finished yet." not in html
    last = html.split('id="looked"')[1]
    assert '<a href="/runs/r1">' in last
    assert '<span class="badge error">failed</span>' in last


def notices(site: Site, *made: Notice) -> None:
    site.workspace().state.update_notices(lambda _: made)


def cards(html: str) -> list[str]:
    """The cards of a page."""
    return [one.partition("</section>")[0] for one in html.split('<div class="note cause ')[1:]]


def test_cause_has_its_fix(tmp_path: Path) -> None:
    """Since when, why, and a form that starts the run, or a link to the page, which is the fix."""
    with site_in(tmp_path, tables_of(2)) as site:
        state = site.workspace().state
        issue(state, "c0", ["d0.c0.example.com"], age=80 * DAY)
        issue(state, "c1", ["d0.c1.example.com"], age=DAY)
        state.save_run(NOW, succeeded=True)
        html, elsewhere = page(site), page(site, "/runs")

    assert "<title>(1) Overview" in html
    assert "<title>(1) Runs" in elsewhere
    assert "icon-error.svg" in html.partition('rel="icon"')[2].partition(">")[0]
    assert "1 certificate in trouble, 1 in order" in words(html)
    [card] = cards(html)
    assert '<a class="button quiet" href="/certificates/c0">Open c0</a>' in card
    assert f'since <time datetime="{NOW - 5 * DAY:%Y-%m-%dT%H:%M:%SZ}"' in card


def test_cause_of_many_certificates_is_one_card(tmp_path: Path) -> None:
    """With the number of certificates and domains, three names, and one run; a viewer gets the
    command in place of the button.
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
        notices(site, *(Notice(Topic.TROUBLE, one, NOW, refused, NOW + DAY) for one in places))
        html, viewed = page(site), page(site, role=Role.VIEWER)

    [card] = cards(html)
    assert "All 12 certificates are in trouble" in words(html)
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
def test_fix_is_a_button_wherever_the_console_can_do_it(
    tmp_path: Path, subject: Subject, hint: Text, fix: str
) -> None:
    """In place of the command in the hint; without such a command, by what the cause is about."""
    with site_in(tmp_path, tables_of(1) + CHANNEL) as site:
        sync(site)
        notices(site, Notice(Topic.TROUBLE, subject, NOW, Problem("said", Text("no"), hint)))
        [card], [viewed] = cards(page(site)), cards(page(site, role=Role.VIEWER))

    assert fix in card
    assert "<form" not in viewed
    assert "/renew" not in viewed
    assert "/rehearse" not in viewed


def test_consequences_are_folded_under_their_cause(tmp_path: Path) -> None:
    """Each kind once, with its date and the number of the others."""
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


def test_expired_domain_that_no_certificate_covers(tmp_path: Path) -> None:
    """Once an operator has looked at Discover, the first screen names domains outside certferry
    with an expired certificate.
    """
    with site_in(tmp_path, tables_of(1)) as site:
        sync(site)
        before = words(page(site))
        listed = FoundDomain("old.example.com", Kind.CDN, has_https=True, not_after=NOW - DAY)
        discovery = Discovery((), (DiscoveredDomain("qiniu", listed),))
        survey = SurveyedAccounts(discovery, Proposal(), ())
        site.observer.keep("discover", survey)
        after = words(page(site))

    assert "old.example.com" not in before
    assert "as of the last run," in after
    assert "old.example.com: the certificate has expired" in after


def test_all_causes_have_a_page(tmp_path: Path) -> None:
    """The first screen shows ten, and leads to the others; no page has more than twenty."""
    with site_in(tmp_path, tables_of(1)) as site:
        sync(site)
        made = (
            Notice(Topic.TROUBLE, Subject(host=f"web-{n}"), NOW, Problem("said", Text("no")))
            for n in range(30)
        )
        notices(site, *made)
        first, one, two, beyond = (
            page(site, path) for path in ("/", "/causes", "/causes?page=2", "/causes?page=9x")
        )

    assert [MOST_CAUSES, 20, 10, 20] == [len(cards(html)) for html in (first, one, two, beyond)]
    assert '<a class="small" href="/causes">all 30 causes</a>' in first
    assert 'href="/causes?page=2"' in one


def test_two_forms_have_two_identities(tmp_path: Path) -> None:
    """The same form sent twice starts one run; the form of another page starts another one."""
    with site_in(tmp_path, tables_of(1)) as site, opened(site) as url:
        found = {
            one
            for _ in range(2)
            for one in re.findall(r'name="request" value="([^"]+)"', requests.get(url).text)  # noqa: S113 - on loopback
        }

    assert 2 == len(found)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_hostile_name_is_only_a_name(tmp_path: Path, language: str) -> None:
    """In text, in attributes and in links, also in what a service said."""
    with site_in(tmp_path, table(HOSTILE, ["a.example.com"])) as site:
        sync(site)
        said = Problem("target_rejected", Text("{said}", said="<script>alert(1)</script>"))
        notice = Notice(Topic.TROUBLE, Subject(HOSTILE, "qiniu", "a.example.com"), NOW, said)
        site.workspace().state.update_notices(lambda before: (*before, notice))
        with opened(site, language) as url:
            html = requests.get(url, timeout=30).text
            [to] = set(re.findall(r'<a href="(/certificates/[^"?]+)"', html)) - {"/certificates"}
            found = requests.get(url + to, timeout=30)

    assert "<script>alert" not in html + found.text
    assert "<b>" not in html + found.text
    assert "{{7*7}}" in html
    assert 200 == found.status_code


def test_links_have_the_prefix(tmp_path: Path) -> None:
    """Behind a proxy with a path of its own, no link leads out of it."""
    with site_in(tmp_path, tables_of(1), prefix="/x/y") as site:
        sync(site)
        html = page(site)

    for attribute in ("href", "src", "action", "hx-get"):
        for path in re.findall(rf'\b{attribute}="([^"#]*)"', html):
            assert path.startswith(("/x/y/", "?")), path


def test_many_certificates_are_shown_in_part(tmp_path: Path) -> None:
    """The soonest, and links to the rest; the whole stays small."""
    count = MOST_LIVES + 40
    with site_in(tmp_path, tables_of(count)) as site:
        fill(site.workspace().state, count)
        site.workspace().state.update_notices(
            lambda _: tuple(
                Notice(Topic.TROUBLE, Subject(f"c{number}"), NOW, Problem(f"s{number}", Text("no")))
                for number in range(MOST_CAUSES + 5)
            )
        )
        html = page(site)

    assert MOST_LIVES == html.count('<svg class="life"')
    assert MOST_CAUSES == html.count('<div class="note cause ')
    assert len(html.encode()) < 100_000


def test_renewals_of_a_day_are_one_entry(tmp_path: Path) -> None:
    """With their number, counted by quarters of an hour for viewers in other zones, the first names
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
        assert int(shown) == sum(int(one.partition(":")[2]) for one in counts.split())
    shown_days = re.findall(r'day=([^"]*)" title="[^"]*">renew <b>(\d+)', html)
    assert dict(shown_days)[day.partition("=")[2]] == str(listed.count('<th scope="row"'))


@given(
    moments=st.lists(st.integers(0, 24 * 60 - 1), max_size=20),
    milestones=st.lists(st.sampled_from(Milestone), min_size=20, max_size=20),
)
def test_every_certificate_of_a_day_is_counted(
    moments: list[int], milestones: list[Milestone]
) -> None:
    """Once for each kind of milestone, in the quarter of its moment."""
    midnight = datetime(2026, 12, 1, tzinfo=UTC)
    coming = tuple(
        Coming(midnight + timedelta(minutes=minute), milestone, f"c{number}")
        for number, (minute, milestone) in enumerate(zip(sorted(moments), milestones, strict=False))
    )
    shown = shown_day(Day(midnight.date(), coming))

    assert len(coming) == sum(entry.count for entry in shown.entries)
    for entry in shown.entries:
        quarters = [one.split(":") for one in entry.counts.split()]
        assert entry.count == sum(int(count) for _, count in quarters)
        begins = {datetime.fromtimestamp(int(quarter) * 900, UTC) for quarter, _ in quarters}
        own = [one.at for one in coming if one.milestone is entry.milestone]
        assert begins == {at.replace(minute=at.minute // 15 * 15) for at in own}


def test_bar_is_the_life_of_the_certificate_in_use(tmp_path: Path) -> None:
    """The newer one is drawn beside it, and the date in the last column is that of the bar."""
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
    """In the order of their bars; the state is kept from page to page."""
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


def test_page_does_not_grow_with_the_certificates(tmp_path: Path) -> None:
    """Ten times as many certificates, a third of them in trouble, change only the digits."""
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


def test_what_is_stored_is_read_anew_after_a_run(tmp_path: Path) -> None:
    """Within two seconds all who ask get what one has read; a run that ended since then counts."""
    with site_in(tmp_path, tables_of(1)) as site:
        before = site.stored.latest()
        assert before is site.stored.latest()
        site.workspace().state.save_run(NOW + timedelta(seconds=1), succeeded=True)
        after = site.stored.latest()

    assert after is not before
    assert [] == [one.concern for one in after.agenda.needs if "run" in one.concern.problem.code]


class Slow:
    """A workspace whose state fails after a while, and counts how often it was asked."""

    settings = None

    def __init__(self) -> None:
        self.asked = 0

    @property
    def state(self) -> StateStore:
        self.asked += 1
        time.sleep(0.3)
        raise StateUnavailable(Text("the database does not answer"))


def test_a_database_that_is_gone_is_waited_for_once() -> None:
    """Those who ask meanwhile get the same answer; one who asks later tries again."""
    slow = Slow()
    stored = Snapshots(lambda: slow)  # type: ignore[arg-type, return-value]  # what is used of it

    def ask(_: int) -> type[Exception] | None:
        try:
            stored.latest()
        except StateUnavailable as error:
            return type(error)
        return None

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(ask, range(8)))
    assert {StateUnavailable} == found
    assert slow.asked < 4
    before = slow.asked
    ask(0)
    assert before + 1 == slow.asked

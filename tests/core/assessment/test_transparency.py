"""Certificates in public logs: whose they are, which raise an alarm, and what ends the alarm."""

from __future__ import annotations

import tomllib
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from certferry.core.assessment.causes import causes_of
from certferry.core.assessment.dispatch import dispatch
from certferry.core.assessment.health import Concern, Recorded, concerns_of
from certferry.core.assessment.notices import USUAL, ChannelState, Notice, Subject, Topic
from certferry.core.assessment.transparency import (
    FOREIGN,
    MOST_KEPT,
    SILENCE,
    SILENT,
    ExpectedCertificate,
    LogStanding,
    Transparency,
    after_read,
    counts_by_issuer,
    domains_of,
    judged,
    line_for,
    problem_of,
    standing_of,
    with_alarms,
)
from certferry.core.observed.public_logs import (
    LOOK_AGAIN,
    MOST_NAMES,
    FoundCertificate,
    LoggedCertificate,
    WatchedDomain,
)
from certferry.errors import Problem
from certferry.text import Text
from certferry.values import replace
from tests.core.strategies import NOW, hostnames

DOMAIN = "example.com"
FIRST = WatchedDomain(DOMAIN, NOW)
LATER = WatchedDomain(DOMAIN, NOW, "7", NOW, NOW, NOW)
OWN_KEY, OWN_TBS = "aa" * 32, "bb" * 32
OWN = frozenset({OWN_KEY, OWN_TBS})
OLD = NOW - timedelta(days=20)

digests = st.sampled_from(["", "cc" * 32, "dd" * 32, "ee" * 32])
moments = st.integers(-300, 300).map(lambda days: NOW + timedelta(days=days))
names = st.lists(
    st.one_of(
        st.just(DOMAIN),
        hostnames.map(lambda name: f"{name}.{DOMAIN}"),
        hostnames.map(lambda name: f"*.{name}.{DOMAIN}"),
        hostnames,
    ),
    max_size=5,
).map(tuple)
issuers = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=12)
certificates = st.builds(
    LoggedCertificate,
    id=st.integers(1, 99).map(str),
    names=names,
    issuer=issuers,
    issuer_name=issuers,
    not_before=st.none() | moments,
    not_after=st.none() | moments,
    key_digest=digests,
    tbs_digest=digests,
)


def logged(number: int = 1, **facts: Any) -> LoggedCertificate:
    usual: dict[str, Any] = {
        "names": ("shop.example.com",),
        "issuer": "Harbour CA",
        "not_before": OLD,
        "not_after": NOW + timedelta(days=70),
        "key_digest": f"{number:064x}",
        "tbs_digest": f"{number + 1000:064x}",
        "link": f"https://log.example/{number}",
    }
    return LoggedCertificate(str(number), **{**usual, **facts})


def found(**facts: Any) -> FoundCertificate:
    (one,) = after_read(LATER, [logged(**facts)], OWN, 0, NOW)[1]
    return one


# --- Whose certificate


@given(st.lists(certificates), st.sampled_from([FIRST, LATER]))
def test_own_certificates_are_never_found(
    read: list[LoggedCertificate], watched: WatchedDomain
) -> None:
    """Neither the issuer, the names nor the moments matter: the key alone, or the TBSCertificate
    alone, shows that a certificate is certferry's own.
    """
    own = [replace(each, key_digest=OWN_KEY) for each in read]
    own += [replace(each, tbs_digest=OWN_TBS) for each in read]

    _, stored = after_read(watched, own, OWN, 0, NOW)

    assert () == stored


@given(st.lists(certificates))
def test_certificate_is_stored_once_for_each_identity(read: list[LoggedCertificate]) -> None:
    """A list may repeat a certificate; every unexpired certificate with a name of ours, or with
    unreadable names, is stored.
    """
    _, stored = after_read(LATER, [*read, *read], OWN, 0, NOW)

    keys = [each.key for each in stored]
    assert len({*keys}) == len(keys)
    expected = {
        each.identity
        for each in read
        if (each.names_within(DOMAIN) or not each.names)
        and not (each.not_after is not None and each.not_after <= NOW)
    }
    assert expected == {identity for _, identity in keys}


@given(st.lists(certificates))
def test_first_look_raises_no_alarm(read: list[LoggedCertificate]) -> None:
    """The first look is the baseline, whatever the list contains."""
    _, stored = after_read(FIRST, read, OWN, 0, NOW)

    shown = judged(stored, [FIRST], OWN, (), NOW + timedelta(days=1))

    assert () == shown.alarms


@given(st.lists(certificates))
def test_after_the_first_look_each_certificate_raises_an_alarm(
    read: list[LoggedCertificate],
) -> None:
    """At the latest after one run, every unexplained certificate that is still valid raises an
    alarm, also a certificate without a readable fact.
    """
    _, stored = after_read(LATER, read, OWN, 0, NOW)
    then = NOW + LOOK_AGAIN

    shown = judged(stored, [LATER], OWN, (), then)

    assert {each.key for each in shown.alarms} == {
        each.key for each in stored if each.logged.not_after is None or each.logged.not_after > then
    }


def test_serial_and_names_of_ours_explain_nothing() -> None:
    """A foreign certificate with the names of a declared certificate raises an alarm."""
    assert LogStanding.ALARM is standing_of(found(names=("img.example.com",)), (), NOW)


def test_certificate_that_becomes_own_is_no_alarm() -> None:
    """The run after the discovery brought the key into the state."""
    foreign = found()

    shown = judged([foreign], [LATER], {foreign.logged.key_digest}, (), NOW)

    assert () == shown.certificates


def test_names_of_strangers_are_counted_and_left_out() -> None:
    """A shared certificate is judged by our names alone; a certificate of strangers is ignored."""
    shared = found(names=("shop.example.com", "a.other.org", "b.other.org"))

    assert ("shop.example.com",) == shared.logged.names
    assert 2 == shared.other_names
    assert not shared.is_cut
    assert () == after_read(LATER, [logged(names=("a.other.org",))], OWN, 0, NOW)[1]


def test_young_certificate_waits_for_the_next_run() -> None:
    """Another client may be about to bring the certificate into the state."""
    young = found(not_before=NOW - timedelta(hours=1))

    standings = [
        standing_of(young, (), NOW + after)
        for after in (timedelta(0), LOOK_AGAIN - timedelta(minutes=1), LOOK_AGAIN)
    ]

    assert [LogStanding.WAITING, LogStanding.WAITING, LogStanding.ALARM] == standings


def test_late_entry_raises_an_alarm_at_once() -> None:
    """The moment of discovery is not the moment of issuance: a log may show old certificates."""
    assert LogStanding.ALARM is standing_of(found(not_before=OLD), (), NOW)


# --- `expected`


@given(certificates.filter(lambda each: each.issuer or each.issuer_name))
def test_printed_line_ends_the_alarm(drawn: LoggedCertificate) -> None:
    """The line is TOML, and covers the certificate of the alarm, also under a new key."""
    for each in after_read(LATER, [drawn], OWN, 0, NOW)[1]:
        line = line_for(each)
        if not each.logged.names:
            assert "" == line
            continue
        (entry,) = tomllib.loads(f"expected = [{line}]")["expected"]
        patterns = entry["names"]
        patterns = (patterns,) if isinstance(patterns, str) else tuple(patterns)
        expected = ExpectedCertificate(entry["issuer"], patterns)
        renewed = replace(each.logged, key_digest="", tbs_digest="99" * 32)
        assert expected.covers(each)
        assert expected.covers(replace(each, logged=renewed))


@given(certificates, hostnames)
def test_expected_names_do_not_cover_another_name(drawn: LoggedCertificate, other: str) -> None:
    """One name without a pattern is enough for an alarm."""
    for each in after_read(LATER, [drawn], OWN, 0, NOW)[1]:
        patterns = each.logged.names
        name = f"other.{other}.{DOMAIN}"
        if any(pattern.startswith("*") for pattern in patterns) or name in patterns:
            continue
        wider = replace(each, logged=replace(each.logged, names=(*patterns, name)))
        assert not ExpectedCertificate("*", patterns).covers(wider)


def test_expected_issuer_is_a_pattern() -> None:
    """The organisation or the whole name fits the pattern, whatever the case."""
    foreign = found(issuer="DigiCert Inc", issuer_name="CN=DigiCert G3,O=DigiCert Inc")

    for issuer, fits in (("digicert*", True), ("cn=DigiCert G3*", True), ("Let's Encrypt", False)):
        assert fits == ExpectedCertificate(issuer, ("*.example.com",)).covers(foreign)


def test_certificate_with_too_many_names_is_never_expected() -> None:
    """The names left out may be any names, so no pattern covers the certificate."""
    many = tuple(f"n{number:03}.example.com" for number in range(MOST_NAMES + 1))
    foreign = found(names=many)

    assert foreign.is_cut
    assert MOST_NAMES == len(foreign.logged.names)
    assert not ExpectedCertificate("*", ("*",)).covers(foreign)
    assert "" == line_for(foreign)


def test_certificate_with_an_unreadable_name_is_never_expected() -> None:
    """The unreadable name may be any name, also if the readable names are strangers'."""
    for names in (("shop.example.com",), ("a.other.org",), ()):
        assert not ExpectedCertificate("*", ("*",)).covers(found(names=names, is_partial=True))


# --- How far the list was read


def test_cursor_follows_the_last_issuance_read() -> None:
    """The cursor also passes certferry's own certificates."""
    watched, _ = after_read(FIRST, [logged(3), logged(9, key_digest=OWN_KEY)], OWN, 0, NOW)

    assert "9" == watched.cursor
    assert watched == after_read(watched, [], OWN, 0, NOW)[0]


def test_number_of_stored_issuances_is_bounded() -> None:
    """Further certificates are counted."""
    watched, stored = after_read(LATER, [logged(1), logged(2)], OWN, MOST_KEPT - 1, NOW)

    assert (1, 1) == (len(stored), watched.left_out)


def test_domain_is_due_after_a_rest() -> None:
    """A look waits for the service, and a wrong clock holds nothing up."""
    assert FIRST.is_due(NOW)
    assert not LATER.is_due(NOW + LOOK_AGAIN - timedelta(minutes=1))
    assert LATER.is_due(NOW + LOOK_AGAIN)
    assert not replace(FIRST, again_at=NOW + timedelta(hours=1)).is_due(NOW)
    assert replace(FIRST, again_at=NOW + timedelta(days=1)).is_due(NOW)
    assert replace(LATER, looked_at=NOW + timedelta(days=1)).is_due(NOW)


def test_registered_domains() -> None:
    """Only registered domains leave the house, each once."""
    declared = ["*.img.example.com", "example.com", "a.b.shop.com.br", "me.duckdns.org"]

    assert ("example.com", "me.duckdns.org", "shop.com.br") == domains_of(declared)


# --- Alarms


def test_alarm_says_everything() -> None:
    """Issuer, names, validity, when found, link, what to do, and the line that ends the alarm."""
    problem = problem_of(found(names=("shop.example.com", "www.example.com")))

    assert FOREIGN == problem.code
    words = f"{problem.message}; {problem.hint}"
    for part in (
        "Harbour CA",
        "shop.example.com and other names (2 in all)",
        f"{OLD:%Y-%m-%d}",
        f"{NOW + timedelta(days=70):%Y-%m-%d}",
        f"{NOW:%Y-%m-%d %H:%M}",
        "https://log.example/1",
        'issuer = "Harbour CA", names = ["shop.example.com", "www.example.com"]',
        "revoke",
        "CAA",
    ):
        assert part in words


def test_alarm_about_unreadable_facts() -> None:
    """The alarm stands even if no fact is known but the domain."""
    blank = found(
        names=(), issuer="", not_before=None, not_after=None, tbs_digest="", key_digest="", link=""
    )

    words = f"{problem_of(blank).message}; {problem_of(blank).hint}"

    assert "an unknown CA issued a certificate for example.com" in words
    assert "expected" not in words
    assert "certferry ct" in words


def shown_with(*issued: FoundCertificate, watched: WatchedDomain = LATER) -> Transparency:
    return judged(issued, [watched], OWN, (), NOW)


def test_alarm_is_a_notice_until_the_alarm_is_over() -> None:
    """Each certificate has a notice of its own, and other notices stay as they are."""
    other = Notice(Topic.TROUBLE, Subject("img"), NOW, Problem("other", Text("other")))
    one, two = found(), found(number=2)

    both = with_alarms([other], shown_with(one, two), NOW)
    one_left = with_alarms(both, shown_with(two), NOW)

    identities = {"", one.logged.identity, two.logged.identity}
    assert identities == {notice.subject.logged for notice in both}
    assert {other, *one_left} < {*both}
    assert 2 == len(one_left)
    assert (other,) == with_alarms(one_left, Transparency(), NOW)


def test_notices_about_domains_of_other_hosts_stay() -> None:
    """Another host that shares the state judges its domains."""
    theirs = Notice(
        Topic.TROUBLE, Subject(domain="other.org"), NOW, Problem(FOREIGN, Text("theirs"))
    )

    assert (theirs,) == with_alarms([theirs], Transparency(), NOW, {"other.org"})
    assert () == with_alarms([theirs], Transparency(), NOW)


def test_silence_is_a_trouble_after_three_days() -> None:
    """The trouble says since when no look succeeded, and why."""
    silent = replace(LATER, problem=Text("no answer"))

    for passed, count in ((SILENCE - timedelta(minutes=1), 0), (SILENCE, 1)):
        notices = with_alarms([], shown_with(watched=silent), NOW + passed)
        assert count == len(notices)
    (notice,) = notices
    assert SILENT == notice.problem.code
    assert "since 2026-11-24 12:00 UTC: no answer" in str(notice.problem.message)


def test_certificates_of_one_issuer_are_one_cause() -> None:
    """`status`, `check` and messages name the cause once, as a warning."""
    notices = with_alarms([], shown_with(found(), found(number=2, names=("a.example.com",))), NOW)

    concerns = concerns_of([], Recorded(notices=notices), NOW)
    causes = [cause for cause in causes_of(concerns) if cause.problem.code == FOREIGN]

    assert 1 == len(causes)
    assert ["warning"] * 2 == [each.problem.severity.value for each in causes[0].concerns]
    assert all(isinstance(each, Concern) for each in causes[0].concerns)


def test_alarm_is_sent_once_and_a_new_alarm_at_once() -> None:
    """A channel gets no reminder of an alarm, and a further alarm waits for no reminder."""
    one, two = found(), found(number=2)
    first = dispatch("ops", with_alarms([], shown_with(one), NOW), ChannelState(), USUAL, NOW)
    assert 1 == len(first.notifications)

    then = NOW + timedelta(hours=12)
    both = with_alarms([], shown_with(one, two), then)
    second = dispatch("ops", both, first.state, USUAL, then)
    assert [two.logged.identity] == [each.notice.subject.logged for each in second.notifications]

    much_later = NOW + timedelta(days=5)
    assert () == dispatch("ops", both, second.state, USUAL, much_later).notifications
    over = dispatch("ops", (), second.state, USUAL, much_later).notifications
    assert [Topic.RECOVERED] * 2 == [each.notice.topic for each in over]


def test_counts_by_issuer() -> None:
    """The most frequent issuer comes first."""
    drawn = [found(), found(number=2), found(number=3, issuer="Another CA")]

    assert [("Harbour CA", 2), ("Another CA", 1)] == list(counts_by_issuer(drawn).items())

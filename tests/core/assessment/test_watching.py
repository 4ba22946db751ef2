"""Trouble of watched hosts: which looks count, and the notices about them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from certferry.core.assessment.causes import causes_of
from certferry.core.assessment.health import Concern, Recorded, concerns_of
from certferry.core.assessment.notices import Notice, Subject, Topic
from certferry.core.assessment.watching import (
    LASTING,
    in_turn,
    is_trouble,
    shown,
    that_count,
    with_watched,
)
from certferry.core.network import Host
from certferry.core.observed.watched_hosts import FORGOTTEN_AFTER, WatchedHost, continued
from certferry.errors import Problem, Severity
from certferry.text import Text
from tests.core.strategies import NOW

HOSTS = tuple(Host(f"{name}.example.com", port) for name in "abc" for port in (443, 8443))
EXPIRED = Problem("expired", Text("the certificate expired at {end}", end=NOW))
DIFFER = Problem("chains_differ", Text("another chain"), severity=Severity.WARNING)
DEAD = Problem("timed_out", Text("no answer within {seconds} seconds", seconds=10))
OTHER = Notice(Topic.TROUBLE, Subject("img"), NOW, Problem("other", Text("other")))

looks = st.builds(
    lambda host, by, age, lasting, problem, silent: WatchedHost(
        host.name,
        host.port,
        by,
        "shop",
        NOW - age,
        NOW - age - lasting,
        problem,
        is_silent=silent,
    ),
    st.sampled_from(HOSTS),
    st.sampled_from(["here", "there"]),
    st.timedeltas(timedelta(0), timedelta(days=4)),
    st.timedeltas(timedelta(0), timedelta(days=4)),
    st.sampled_from([None, EXPIRED, DIFFER, DEAD]),
    st.booleans(),
)
many = st.lists(looks, max_size=9, unique_by=lambda look: look.key)


def look_at(host: Host, problem: Problem | None = None) -> WatchedHost:
    return WatchedHost(host.name, host.port, "here", "shop", NOW, NOW, problem)


@given(many)
def test_one_notice_for_each_host_in_trouble(seen: Sequence[WatchedHost]) -> None:
    """The notice has the worst problem and the earliest beginning; other notices stay."""
    notices = with_watched((OTHER,), seen)

    troubled = {str(look.host) for look in seen if is_trouble(look)}
    assert OTHER == notices[0]
    assert sorted(troubled) == [notice.subject.domain for notice in notices[1:]]
    assert len(notices) == len({notice.key for notice in notices})
    for notice in notices[1:]:
        of_host = [look for look in seen if str(look.host) == notice.subject.domain]
        severities = [look.problem.severity for look in of_host if look.problem is not None]
        assert notice.problem.is_error == (Severity.ERROR in severities)
        assert notice.since == min(look.since for look in of_host if is_trouble(look))


@given(many)
def test_trouble_is_over_when_no_look_says_so(seen: Sequence[WatchedHost]) -> None:
    """The notices depend on the looks alone, so a trouble stands once, and ends."""
    before = with_watched((OTHER,), seen)

    assert before == with_watched(before, seen)
    assert (OTHER,) == with_watched(before, ())


@given(looks)
def test_warning_is_trouble_only_if_it_lasts(seen: WatchedHost) -> None:
    """Addresses differ while a certificate is replaced; an error is trouble at once."""
    lasts = seen.looked_at - seen.since >= LASTING
    problem = seen.problem

    assert is_trouble(seen) == (problem is not None and (problem.is_error or lasts))


@given(many, st.sets(st.sampled_from(HOSTS)))
def test_looks_that_count(seen: Sequence[WatchedHost], declared: set[Host]) -> None:
    """A look at a host of the file never grows old; a look of another certferry host does."""
    counted = that_count(seen, "here", declared, NOW)

    for look in seen:
        is_recent = NOW - look.looked_at < FORGOTTEN_AFTER
        expected = look.host in declared if look.by == "here" else is_recent
        assert expected == (look in counted)


@given(many, st.permutations(HOSTS))
def test_turns(seen: Sequence[WatchedHost], hosts: Sequence[Host]) -> None:
    """Each host has a turn; silent hosts come last, and the oldest look of a kind comes first."""
    by_host = {look.host: look for look in seen}

    turns = in_turn(hosts, by_host)

    assert sorted(map(str, hosts)) == sorted(map(str, turns))
    silent = [by_host[host].is_silent if host in by_host else False for host in turns]
    assert silent == sorted(silent)
    for is_silent in (False, True):
        moments = [
            by_host[host].looked_at
            for host in turns
            if host in by_host and by_host[host].is_silent == is_silent
        ]
        assert moments == sorted(moments)


@given(looks, looks)
def test_look_continues_the_look_before(one: WatchedHost, other: WatchedHost) -> None:
    """The later look counts, and the beginning stays while trouble or order goes on."""
    before, after = sorted((one, other), key=lambda look: look.looked_at)

    stored = continued(before, after)

    assert after.problem == stored.problem
    is_alike = (before.problem is None) == (after.problem is None)
    assert stored.since == (before.since if is_alike else after.since)
    if before.looked_at < after.looked_at:
        assert after == continued(after, before)
    assert after == continued(None, after)


def test_dead_hosts_share_a_cause_apart_from_certificates() -> None:
    """Hosts with the same problem are one cause, which names the hosts, with one severity."""
    notices = with_watched((), [look_at(host, DEAD) for host in HOSTS])
    of_certificate = Concern(DEAD, Subject("img"))

    concerns = concerns_of((), Recorded(notices=notices), NOW)
    causes = causes_of([*concerns, of_certificate])

    (watched,) = [cause for cause in causes if cause.watched]
    assert {str(host) for host in HOSTS} == {*watched.watched}
    assert (Severity.ERROR, "shop") == (watched.problem.severity, watched.subject.watch)
    assert () == watched.lineages


def test_warning_of_a_host_stays_a_warning() -> None:
    """`check` has the severity of the look."""
    lasting = WatchedHost("a", 443, "here", "shop", NOW, NOW - LASTING, DIFFER)

    concerns = concerns_of((), Recorded(notices=with_watched((), [lasting])), NOW)

    severities = {c.problem.code: c.problem.severity for c in concerns}
    assert Severity.WARNING == severities["chains_differ"]


def test_shown_in_the_order_of_the_file() -> None:
    """A host is seen, not seen yet, or an edge of a declared certificate."""
    first, second, third, *_ = HOSTS
    stored = [look_at(second), look_at(third)]

    watching = shown(stored, "here", [second, first, third], {third: "img"})

    assert ((look_at(second),), (first,)) == (watching.looks, watching.unseen)
    assert {third: "img"} == watching.owned
    assert NOW == watching.looked_at

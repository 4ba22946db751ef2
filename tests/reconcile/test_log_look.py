"""A look at public logs, with the real state and a search in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from certferry.core.assessment.transparency import MOST_KEPT, LogStanding, Transparency
from certferry.core.certificates.pem import digests_of_key, parse_certificates
from certferry.core.observed.public_logs import LOOK_AGAIN, LoggedCertificate
from certferry.errors import LogSearchFailed, Retry
from certferry.ports.state import AcmeOrder
from certferry.reconcile import log_look
from certferry.reconcile.log_look import look, shown_in
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.certificates import make_bundle, make_key
from certferry_sandbox.testing.memory_state import MemoryState
from tests.core.assessment.test_transparency import logged
from tests.core.strategies import NOW

DOMAIN = "example.com"


class Logs:
    """A search in memory. `failure` is raised by the next requests; `asked` counts the requests."""

    def __init__(self, page_size: int = 2) -> None:
        self.listed: list[LoggedCertificate] = []
        self.page_size = page_size
        self.failure: LogSearchFailed | None = None
        self.fails_after = 0
        self.asked: list[tuple[str, str]] = []
        self.loops = False

    def page_after(self, domain: str, cursor: str) -> tuple[LoggedCertificate, ...]:
        self.asked.append((domain, cursor))
        if self.failure is not None and len(self.asked) > self.fails_after:
            raise self.failure
        ids = [each.id for each in self.listed]
        begin = ids.index(cursor) + 1 if cursor else 0
        page = tuple(self.listed[begin : begin + self.page_size])
        return tuple(self.listed[: self.page_size]) if self.loops and not page else page


class Clock:
    """A clock that goes on by `step` with each look."""

    def __init__(self) -> None:
        self.moment, self.step = NOW, timedelta(0)

    def __call__(self) -> datetime:
        self.moment += self.step
        return self.moment


@pytest.fixture
def state() -> MemoryState:
    return MemoryState()


@pytest.fixture
def logs() -> Logs:
    return Logs()


@pytest.fixture
def clock() -> Clock:
    return Clock()


Look = Callable[..., Transparency]


@pytest.fixture
def looking(state: MemoryState, logs: Logs, clock: Clock) -> Look:
    """Look once, and return what the logs show."""

    def look_once(*domains: str) -> Transparency:
        look(domains or (DOMAIN,), logs, state, clock)
        return shown_in(state, domains or (DOMAIN,), (), clock.moment)

    return look_once


def test_first_look_is_the_baseline(looking: Look, logs: Logs, clock: Clock) -> None:
    """The certificates of the first look raise no alarm; a later certificate does."""
    logs.listed = [logged(number) for number in range(1, 4)]
    first = looking()
    clock.moment += LOOK_AGAIN
    logs.listed.append(logged(4, not_before=NOW - timedelta(days=30)))

    second = looking()

    assert {LogStanding.BASELINE} == {each.standing for each in first.certificates}
    assert 3 == len(first.certificates)
    assert ["4"] == [each.logged.id for each in second.alarms]
    assert [(DOMAIN, "")] == logs.asked[:1]
    assert [(DOMAIN, "3"), (DOMAIN, "4")] == logs.asked[-2:]


def test_domain_is_asked_once_in_half_a_day(looking: Look, logs: Logs, clock: Clock) -> None:
    """A run soon after a look sends nothing."""
    looking()
    asked = len(logs.asked)
    clock.moment += LOOK_AGAIN - timedelta(minutes=1)

    looking()

    assert asked == len(logs.asked)


def test_own_certificates_are_known(
    looking: Look, logs: Logs, state: MemoryState, clock: Clock
) -> None:
    """By the key of an order whose download failed, and by the TBSCertificate of a version. An
    certificate whose certificate comes into the state later is forgotten with the next look.
    """
    bundle, key_pem = make_bundle("img.example.com", not_before=NOW), make_key()
    lease = state.acquire("img", NOW)
    order = AcmeOrder("img", "https://ca.test", "order/1", ("img.example.com",), key_pem, NOW)
    state.save_order(lease, order)
    state.drop_order(lease)
    (key_digest,) = digests_of_key(key_pem)
    tbs_digest = hashlib.sha256(
        parse_certificates(bundle.cert_pem)[0].tbs_certificate_bytes
    ).hexdigest()
    logs.listed = [
        logged(1, key_digest=key_digest),
        logged(2, tbs_digest=tbs_digest, key_digest=""),
    ]

    before = looking()
    state.save_version(lease, bundle, NOW)
    shown = shown_in(state, (DOMAIN,), (), NOW)
    clock.moment += LOOK_AGAIN
    looking()

    assert ["2"] == [each.found.logged.id for each in before.certificates]
    assert () == shown.certificates
    assert () == state.found_certificates()


def test_long_list_takes_several_runs(looking: Look, logs: Logs, state: MemoryState) -> None:
    """Each run goes on at the cursor; the first look ends with the list."""
    most = log_look.MOST_PAGES * logs.page_size
    logs.listed = [logged(number) for number in range(1, most + 2)]

    first = looking()
    second = looking()

    assert most == len(first.certificates)
    (watched,) = first.domains
    assert watched.looked_at is None
    assert "longer than a run reads" in str(watched.problem)
    assert most + 1 == len(second.certificates)
    assert second.domains[0].looked_at is not None
    assert {LogStanding.BASELINE} == {each.standing for each in second.certificates}
    assert second.domains == state.watched_domains()


def test_killed_run_loses_no_page(looking: Look, logs: Logs) -> None:
    """Each page is stored before the next request."""
    logs.listed = [logged(number) for number in range(1, 5)]
    logs.failure, logs.fails_after = LogSearchFailed(Text("cut off")), 1
    shown = looking()
    logs.failure = None

    assert {"1", "2"} == {each.found.logged.id for each in shown.certificates}
    assert "cut off" == str(shown.domains[0].problem)
    assert 4 == len(looking().certificates)
    assert [(DOMAIN, "2"), (DOMAIN, "2"), (DOMAIN, "4")] == logs.asked[1:]


def test_list_that_loops_ends(looking: Look, logs: Logs) -> None:
    """A list that begins again is a failure, and no complete look."""
    logs.listed, logs.loops = [logged(1), logged(2)], True

    shown = looking()

    assert shown.domains[0].looked_at is None
    assert "twice" in str(shown.domains[0].problem)
    assert 2 == len(logs.asked)


def test_issuance_listed_twice_is_one_certificate(looking: Look, logs: Logs) -> None:
    """A duplicate has another id, and the same TBSCertificate."""
    logs.listed = [logged(1), replace(logged(1), id="2")]

    assert 1 == len(looking().certificates)


def test_service_that_asks_to_wait(
    looking: Look, logs: Logs, state: MemoryState, clock: Clock
) -> None:
    """No further domain is asked, and none before the moment that the service names."""
    again_at = NOW + timedelta(hours=1)
    logs.failure = LogSearchFailed(Text("too many"), retry=Retry(allowed=True, after=again_at))

    looking("a.example", "b.example")
    looking("a.example", "b.example")
    asked = list(logs.asked)
    logs.failure, clock.moment = None, again_at
    shown = looking("a.example", "b.example")

    assert [("a.example", "")] == asked
    assert [None, None] == [watched.problem for watched in shown.domains]
    assert [None, None] == [watched.again_at for watched in state.watched_domains()]


def test_refused_domain_does_not_hold_up_the_others(looking: Look, logs: Logs) -> None:
    """After some failures the service probably answers nothing, and the look ends."""
    logs.failure = LogSearchFailed(Text("refused"))
    domains = [f"d{number}.example" for number in range(log_look.MOST_FAILURES + 2)]

    looking(*domains)
    first = [domain for domain, _ in logs.asked]
    looking(*domains)
    second = [domain for domain, _ in logs.asked[len(first) :]]

    assert domains[: log_look.MOST_FAILURES] == first
    assert domains[log_look.MOST_FAILURES :] == second[:2]


def test_time_of_a_look_is_bounded(looking: Look, logs: Logs, clock: Clock) -> None:
    """A slow service gets no further request after the time; the next run goes on."""
    logs.listed = [logged(number) for number in range(1, 9)]
    clock.step = log_look.LONGEST / 4

    looking(DOMAIN, "b.example")

    assert len(logs.asked) <= 2


def test_two_runs_at_once(state: MemoryState, logs: Logs, clock: Clock) -> None:
    """The slower run stores nothing over the faster run's look."""
    logs.listed = [logged(1), logged(2), logged(3)]
    other = state.seen_by("another process")

    class Slow(Logs):
        def page_after(self, domain: str, cursor: str) -> tuple[LoggedCertificate, ...]:
            look((DOMAIN,), logs, other, clock)
            return (logged(9),)

    look((DOMAIN,), Slow(), state, clock)

    assert ["1", "2", "3"] == [each.logged.id for each in state.found_certificates()]
    assert "3" == state.watched_domains()[0].cursor


def test_expired_certificates_are_forgotten(
    looking: Look, logs: Logs, state: MemoryState, clock: Clock
) -> None:
    """The state holds only certificates that are still valid."""
    logs.listed = [logged(1)]
    looking()
    clock.moment += timedelta(days=80)

    assert () == looking().certificates
    assert () == state.found_certificates()


def test_long_baseline_keeps_no_later_certificate_out(
    looking: Look, logs: Logs, state: MemoryState, clock: Clock
) -> None:
    """The baseline is bounded, and later certificates have room of their own."""
    logs.page_size = MOST_KEPT
    logs.listed = [logged(number) for number in range(1, MOST_KEPT + 3)]
    looking()
    clock.moment += LOOK_AGAIN
    logs.listed.append(logged(MOST_KEPT + 3))

    shown = looking()

    assert 2 == shown.domains[0].left_out
    assert [str(MOST_KEPT + 3)] == [each.logged.id for each in shown.alarms]


def test_refused_domains_starve_no_other_domain(looking: Look, logs: Logs, clock: Clock) -> None:
    """Domains that the service always refuses take turns with the others."""
    refused = [f"a{number}.example" for number in range(log_look.MOST_FAILURES)]

    class Refusing(Logs):
        def page_after(self, domain: str, cursor: str) -> tuple[LoggedCertificate, ...]:
            if domain in refused:
                raise LogSearchFailed(Text("refused"))
            return logs.page_after(domain, cursor)

    state = MemoryState()
    for _ in range(4):
        look((*refused, DOMAIN), Refusing(), state, clock)
        clock.moment += LOOK_AGAIN

    assert 2 <= len(logs.asked)


def test_domain_that_no_run_has_tried_is_shown(state: MemoryState) -> None:
    """An absent domain would look like a domain without certificates of others."""
    (watched,) = shown_in(state, (DOMAIN,), (), NOW).domains

    assert (None, None) == (watched.tried_at, watched.looked_at)

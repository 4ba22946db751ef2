"""The moment of a renewal, the faults of a served chain, and the checks of an issued
certificate.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificates.certificate import (
    HALF_DAY,
    LONGEST_REST,
    SHORT_LIVED,
    SHORTEST_REST,
    USUAL_REST,
    Certificate,
    CertificateBundle,
    RenewalWindow,
    ask_after,
    covered_by,
    has_names,
    is_overdue,
    may_ask,
    plausible_window,
    renew_at,
)
from certferry.core.certificates.chain import (
    SKEW,
    EdgeProblemCode,
    End,
    Presented,
    Way,
    must_be_as_ordered,
    what_is_wrong,
)
from certferry.errors import CertificateRejected
from certferry.values import replace
from certferry_sandbox.testing.certificates import make_bundle
from tests.core.strategies import NOW, certificate

# --- The moment of renewal


lifetimes = st.timedeltas(timedelta(hours=1), timedelta(days=400))
shares = st.floats(0, 1)
fingerprints = st.text("0123456789abcdef", min_size=64, max_size=64)
MIDNIGHT = NOW.replace(hour=0)


@given(lifetimes)
def test_renewal_with_a_third_or_half_of_the_life_left(lifetime: timedelta) -> None:
    """The moment follows the lifetime, so that 90, 64, 45 and 6 days all work."""
    leaf = certificate(not_before=NOW, lifetime=lifetime)

    share = 2 if lifetime < SHORT_LIVED else 3
    assert leaf.not_after - lifetime / share == renew_at(leaf)


@given(lifetimes, st.timedeltas(timedelta(0), timedelta(days=400)))
def test_due_exactly_from_the_moment_of_renewal(lifetime: timedelta, later: timedelta) -> None:
    """Before the moment the certificate is not due, and from then on always."""
    leaf = certificate(not_before=NOW, lifetime=lifetime)
    moment = renew_at(leaf)

    assert not is_due(leaf, moment - timedelta(microseconds=1))
    assert is_due(leaf, moment + later)


def is_due(leaf: Certificate, now: datetime, window: RenewalWindow | None = None) -> bool:
    return now >= renew_at(leaf, window)


@given(lifetimes, shares, shares, fingerprints)
def test_moment_lies_in_the_window_and_is_always_the_same(
    lifetime: timedelta, start: float, length: float, fingerprint: str
) -> None:
    """The moment is half a day before the window's end if the window is long enough, so that a run
    twice a day falls into the window, and early enough for a second try after a failure.
    """
    leaf = certificate(fingerprint, not_before=NOW, lifetime=lifetime)
    begins = NOW + lifetime * 0.9 * start
    window = RenewalWindow(begins, begins + (leaf.not_after - begins) * (0.01 + 0.9 * length))
    moment = renew_at(leaf, window)

    assert moment == renew_at(leaf, replace(window, page="https://ca.example/why"))
    assert moment <= max(window.start, window.end - HALF_DAY)
    assert moment <= leaf.not_after - (leaf.not_after - renew_at(leaf)) / 2
    assert moment >= window.start or moment > renew_at(leaf)


def test_certificates_of_the_same_day_are_spread_over_the_window() -> None:
    """A CA with a single window for all certificates gets its orders spread over time."""
    window = RenewalWindow(NOW + timedelta(days=58), NOW + timedelta(days=62))
    drawn = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(400)]
    moments = [renew_at(certificate(each, not_before=NOW), window) - window.start for each in drawn]

    for quarter in range(4):
        borders = [
            (window.end - HALF_DAY - window.start) * part / 4 for part in (quarter, quarter + 1)
        ]
        assert 60 <= sum(borders[0] <= moment < borders[1] for moment in moments) <= 140


@given(
    lifetimes,
    st.timedeltas(timedelta(days=-4000), timedelta(days=4000)),
    st.timedeltas(timedelta(days=-4000), timedelta(days=4000)),
)
def test_implausible_window_is_ignored(
    lifetime: timedelta, start: timedelta, length: timedelta
) -> None:
    """A window that ends before its start, or after the certificate's life, leaves the usual
    moment.
    """
    leaf = certificate(not_before=NOW, lifetime=lifetime)
    window = RenewalWindow(NOW + start, NOW + start + length)

    fits = timedelta(0) < length and start + length <= lifetime
    assert (window if fits else None) == plausible_window(leaf, window)
    if not fits:
        assert renew_at(leaf) == renew_at(leaf, window)


def test_window_in_the_past_makes_a_certificate_due_at_once() -> None:
    """A CA names such a window before it revokes the certificate."""
    leaf = certificate(not_before=NOW - timedelta(days=10))
    window = RenewalWindow(NOW - timedelta(hours=2), NOW - timedelta(hours=1))

    assert not is_due(leaf, NOW)
    assert is_due(leaf, NOW, window)


@given(lifetimes, st.timedeltas(timedelta(seconds=1), timedelta(days=400)))
def test_window_before_the_certificates_life_makes_it_due(
    lifetime: timedelta, length: timedelta
) -> None:
    """Any window in the past asks for another certificate now (RFC 9773 §4.2)."""
    leaf = certificate(not_before=NOW, lifetime=lifetime)
    before = NOW - timedelta(days=300)

    assert NOW == renew_at(leaf, RenewalWindow(before - length, before))


def test_window_of_the_year_1_is_ignored() -> None:
    """The moment is an unset value, and the state has no place for such a date."""
    leaf = certificate(not_before=NOW)
    never = datetime(1, 1, 1, tzinfo=UTC)

    assert None is plausible_window(leaf, RenewalWindow(never, never + timedelta(days=2)))


rests = st.none() | st.timedeltas(timedelta(days=-9), timedelta(days=9))


@given(st.lists(st.tuples(st.timedeltas(timedelta(0), timedelta(hours=13)), rests), max_size=40))
def test_ca_is_asked_once_in_half_a_day_by_default(
    runs: list[tuple[timedelta, timedelta | None]],
) -> None:
    """For any number of runs; a shorter or longer rest that the CA asks for counts, from a minute
    to a day.
    """
    next_question: datetime | None = None
    now, half_days = NOW, list[int]()
    for passed, pause in runs:
        now += passed
        if not may_ask(next_question, now):
            continue
        next_question = ask_after(now, pause)
        wanted = USUAL_REST if pause is None else pause
        assert SHORTEST_REST <= next_question - now <= LONGEST_REST
        assert next_question - now >= min(wanted, LONGEST_REST)
        if wanted >= USUAL_REST:
            assert (now - MIDNIGHT) // HALF_DAY not in half_days
            half_days.append((now - MIDNIGHT) // HALF_DAY)


@given(st.timedeltas(timedelta(0), timedelta(days=30)))
def test_run_twice_a_day_asks_each_time(first: timedelta) -> None:
    """At any hour, with the rest that Let's Encrypt asks for."""
    moment = NOW + first

    assert may_ask(ask_after(moment, USUAL_REST), moment + HALF_DAY)
    assert not may_ask(ask_after(moment, USUAL_REST), moment + timedelta(minutes=1))


def test_clock_that_was_ahead() -> None:
    """A stored moment further away than any rest is ignored."""
    assert may_ask(ask_after(NOW + timedelta(days=3000)), NOW)


@given(lifetimes)
def test_fresh_certificate_is_never_due(lifetime: timedelta) -> None:
    """For every lifetime, a new certificate has time before its renewal."""
    assert not is_due(certificate(not_before=NOW, lifetime=lifetime), NOW)


@given(lifetimes, st.timedeltas(timedelta(0), timedelta(days=400)))
def test_overdue_is_between_due_and_the_end(lifetime: timedelta, later: timedelta) -> None:
    """Another client may renew later than certferry would, and the operator still has two weeks to
    act.
    """
    leaf = certificate(not_before=NOW, lifetime=lifetime)
    due, end = renew_at(leaf), leaf.not_after

    assert not is_overdue(leaf, due)
    assert not is_overdue(leaf, due + (end - due) * 0.49)
    assert not is_overdue(leaf, end - timedelta(days=14, seconds=1))
    assert is_overdue(leaf, max(due + (end - due) * 0.51, end - timedelta(days=14)) + later)
    assert is_overdue(leaf, end)


# --- Faults of a chain that clients refuse


HOST = "img.example.com"

moments = st.timedeltas(timedelta(days=-400), timedelta(days=400)).map(lambda since: NOW + since)


def presented(names: tuple[str, ...], begins: datetime, ends: datetime) -> Presented:
    return Presented("ab" * 32, "subject", "issuer", names, begins, ends)


certificates = st.builds(
    presented,
    st.lists(st.sampled_from([HOST, "*.example.com", "other.example.org"])).map(tuple),
    moments,
    moments,
)
ways = st.builds(
    Way, st.lists(certificates, min_size=1, max_size=4).map(tuple), st.sampled_from(End)
)


@given(ways)
def test_plainest_fault_is_reported(way: Way) -> None:
    """Dates come before names and names before issuers: faults of the leaf come first."""
    leaf = way.certificates[0]
    code = what_is_wrong(way, HOST, NOW).code

    assert (code is EdgeProblemCode.EXPIRED) == (leaf.not_after < NOW)
    if leaf.not_after < NOW:
        return
    assert (code is EdgeProblemCode.NOT_YET_VALID) == (leaf.not_before > NOW)
    if leaf.not_before > NOW:
        return
    assert (code is EdgeProblemCode.NAME_NOT_COVERED) == (not covered_by(leaf.names, HOST))


@given(ways)
def test_every_fault_has_a_sentence_and_a_hint(way: Way) -> None:
    """Both texts can be filled in for every refused chain."""
    problem = what_is_wrong(way, HOST, NOW)

    assert str(problem.message)
    assert str(problem.hint)


# --- Checks of an issued certificate before it is stored


NAMES = ("img.example.com", "*.img.example.com")
ORDERED = make_bundle(*NAMES, not_before=NOW)
END = ORDERED.certificate.not_after

names = st.lists(
    st.sampled_from([*NAMES, "evil.example.net", "example.com"]), min_size=1, unique=True
)
plausible_moments = st.timedeltas(timedelta(days=-400), timedelta(days=400)).map(
    lambda ago: NOW + ago
)


@given(
    names.map(tuple),
    st.tuples(st.booleans(), st.booleans()),
    st.sampled_from([NOW - SKEW, NOW, END, END + SKEW]) | plausible_moments,
)
def test_certificate_is_accepted_only_when_everything_is_as_ordered(
    had: tuple[str, ...], facts: tuple[bool, bool], now: datetime
) -> None:
    """It must have exactly the ordered names in any order, our key, its issuers, and be valid now
    within the tolerance for clocks.
    """
    ours, whole = facts
    bundle = replace(
        ORDERED,
        certificate=replace(ORDERED.certificate, names=had),
        key_matches=ours,
        chain_complete=whole,
    )
    in_time = NOW - SKEW <= now < END + SKEW
    as_ordered = set(had) == set(NAMES) and ours and whole and in_time

    assert as_ordered is is_plausible(bundle, now)


@pytest.mark.parametrize("now", [NOW, datetime.max.replace(tzinfo=UTC)])
def test_certificate_without_an_end(now: datetime) -> None:
    """A private CA may use the calendar's last second, beyond which sums of dates fail."""
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    bundle = replace(
        ORDERED, certificate=replace(ORDERED.certificate, not_after=last), issuer_not_after=last
    )

    assert is_plausible(bundle, now)


def test_certificate_of_the_first_day() -> None:
    """The earliest date is an error of the CA, reported without a crash."""
    first = datetime.min.replace(tzinfo=UTC)
    certificate = replace(ORDERED.certificate, not_before=first, not_after=first)
    bundle = replace(ORDERED, certificate=certificate)

    assert not is_plausible(bundle, NOW)


def test_www_added_by_the_ca() -> None:
    """A certificate with `www.` added to an ordered name is kept, and orders no other certificate.
    A certificate with any other added name is refused.
    """
    certificate = replace(ORDERED.certificate, names=(*NAMES, f"www.{NAMES[0]}"))

    assert is_plausible(replace(ORDERED, certificate=certificate), NOW)
    assert not has_names(("www.example.com",), ("example.com",))
    assert not has_names(("example.com", "evil.example.com"), ("example.com",))


def test_certificate_with_an_expired_issuer() -> None:
    """Clients would refuse the chain, so the certificate is refused."""
    ended = replace(ORDERED, issuer_not_after=NOW - timedelta(days=1))

    with pytest.raises(CertificateRejected, match="the issuer certificate expired at 20"):
        must_be_as_ordered(ended, NAMES, NOW)


def is_plausible(bundle: CertificateBundle, now: datetime) -> bool:
    """Return whether a bundle passes the checks."""
    try:
        must_be_as_ordered(bundle, NAMES, now)
    except CertificateRejected:
        return False
    return True


def test_certificate_of_thousands_of_names_is_reported_briefly() -> None:
    """The log and the history, which has no end, get a single line."""
    many = tuple(f"n{number}.example.net" for number in range(5000))
    bundle = replace(ORDERED, certificate=replace(ORDERED.certificate, names=many))

    with pytest.raises(CertificateRejected) as caught:
        must_be_as_ordered(bundle, NAMES, NOW)

    assert len(str(caught.value)) < 300
    assert "n0.example.net" in str(caught.value)
    assert caught.value.hint is not None

"""When a certificate is renewed, and which chains count as served."""

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

# --- When a certificate is due


lifetimes = st.timedeltas(timedelta(hours=1), timedelta(days=400))
shares = st.floats(0, 1)
fingerprints = st.text("0123456789abcdef", min_size=64, max_size=64)
MIDNIGHT = NOW.replace(hour=0)


@given(lifetimes)
def test_a_third_is_left_or_half_of_a_short_one(lifetime: timedelta) -> None:
    """The moment follows the lifetime, so that 90, 64, 45 and 6 days all work."""
    leaf = certificate(not_before=NOW, lifetime=lifetime)

    share = 2 if lifetime < SHORT_LIVED else 3
    assert leaf.not_after - lifetime / share == renew_at(leaf)


@given(lifetimes, st.timedeltas(timedelta(0), timedelta(days=400)))
def test_due_exactly_from_that_moment_on(lifetime: timedelta, later: timedelta) -> None:
    """Before the moment it is not due, from then on it stays due."""
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
    """It comes half a day before the window's end where there is that much room, so that a look
    twice a day comes within it, and never so late that one failure would be the end.
    """
    leaf = certificate(fingerprint, not_before=NOW, lifetime=lifetime)
    begins = NOW + lifetime * 0.9 * start
    window = RenewalWindow(begins, begins + (leaf.not_after - begins) * (0.01 + 0.9 * length))
    moment = renew_at(leaf, window)

    assert moment == renew_at(leaf, replace(window, page="https://ca.example/why"))
    assert moment <= max(window.start, window.end - HALF_DAY)
    assert moment <= leaf.not_after - (leaf.not_after - renew_at(leaf)) / 2
    assert moment >= window.start or moment > renew_at(leaf)


def test_certificates_of_one_day_are_spread_over_the_window() -> None:
    """A CA that names one window for all is not asked by all at once."""
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
def test_window_that_cannot_be_the_certificates_counts_for_nothing(
    lifetime: timedelta, start: timedelta, length: timedelta
) -> None:
    """One that ends before it starts, or after the certificate's life: it is renewed as if the CA
    had said nothing.
    """
    leaf = certificate(not_before=NOW, lifetime=lifetime)
    window = RenewalWindow(NOW + start, NOW + start + length)

    fits = timedelta(0) < length and start + length <= lifetime
    assert (window if fits else None) == plausible_window(leaf, window)
    if not fits:
        assert renew_at(leaf) == renew_at(leaf, window)


def test_window_in_the_past_makes_it_due_at_once() -> None:
    """So does a CA say that it will revoke the certificate."""
    leaf = certificate(not_before=NOW - timedelta(days=10))
    window = RenewalWindow(NOW - timedelta(hours=2), NOW - timedelta(hours=1))

    assert not is_due(leaf, NOW)
    assert is_due(leaf, NOW, window)


@given(lifetimes, st.timedeltas(timedelta(seconds=1), timedelta(days=400)))
def test_window_before_the_certificates_life_makes_it_due_at_once(
    lifetime: timedelta, length: timedelta
) -> None:
    """Any window that has passed is a request for another certificate now (RFC 9773 §4.2)."""
    leaf = certificate(not_before=NOW, lifetime=lifetime)
    before = NOW - timedelta(days=300)

    assert NOW == renew_at(leaf, RenewalWindow(before - length, before))


def test_window_before_there_were_computers_counts_for_nothing() -> None:
    """It is a moment that was never set, and the state has no place for it."""
    leaf = certificate(not_before=NOW)
    never = datetime(1, 1, 1, tzinfo=UTC)

    assert None is plausible_window(leaf, RenewalWindow(never, never + timedelta(days=2)))


rests = st.none() | st.timedeltas(timedelta(days=-9), timedelta(days=9))


@given(st.lists(st.tuples(st.timedeltas(timedelta(0), timedelta(hours=13)), rests), max_size=40))
def test_ca_is_asked_once_in_half_a_day_unless_it_wants_more(
    runs: list[tuple[timedelta, timedelta | None]],
) -> None:
    """However often it is run; what the CA asks for is kept, within a minute and a day."""
    kept: datetime | None = None
    now, asked = NOW, list[int]()
    for passed, rest in runs:
        now += passed
        if not may_ask(kept, now):
            continue
        kept = ask_after(now, rest)
        wanted = USUAL_REST if rest is None else rest
        assert SHORTEST_REST <= kept - now <= LONGEST_REST
        assert kept - now >= min(wanted, LONGEST_REST)
        if wanted >= USUAL_REST:
            assert (now - MIDNIGHT) // HALF_DAY not in asked
            asked.append((now - MIDNIGHT) // HALF_DAY)


@given(st.timedeltas(timedelta(0), timedelta(days=30)))
def test_run_twice_a_day_asks_each_time(first: timedelta) -> None:
    """Whenever they are, and with the rest that Let's Encrypt asks for."""
    one = NOW + first

    assert may_ask(ask_after(one, USUAL_REST), one + HALF_DAY)
    assert not may_ask(ask_after(one, USUAL_REST), one + timedelta(minutes=1))


def test_clock_that_was_ahead_does_not_silence_the_ca() -> None:
    """A moment further away than any rest is no reason to wait."""
    assert may_ask(ask_after(NOW + timedelta(days=3000)), NOW)


@given(lifetimes)
def test_fresh_certificate_is_never_due(lifetime: timedelta) -> None:
    """Whatever the CA's lifetimes, a new certificate does not ask for the next one."""
    assert not is_due(certificate(not_before=NOW, lifetime=lifetime), NOW)


@given(lifetimes, st.timedeltas(timedelta(0), timedelta(days=400)))
def test_overdue_is_between_due_and_the_end(lifetime: timedelta, later: timedelta) -> None:
    """Another client has time to be later than we would, and an operator has time to act: two
    weeks, however long the certificate lives.
    """
    leaf = certificate(not_before=NOW, lifetime=lifetime)
    due, end = renew_at(leaf), leaf.not_after

    assert not is_overdue(leaf, due)
    assert not is_overdue(leaf, due + (end - due) * 0.49)
    assert not is_overdue(leaf, end - timedelta(days=14, seconds=1))
    assert is_overdue(leaf, max(due + (end - due) * 0.51, end - timedelta(days=14)) + later)
    assert is_overdue(leaf, end)


# --- What is said of a chain that clients refuse


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
def test_the_plainest_fault_is_reported(way: Way) -> None:
    """Dates before names, names before issuers: what stands in the leaf itself comes first."""
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
def test_everything_that_is_wrong_comes_with_advice(way: Way) -> None:
    """No chain is refused without a sentence and a hint, and both can be said."""
    problem = what_is_wrong(way, HOST, NOW)

    assert str(problem.message)
    assert str(problem.hint)


# --- What a CA gave, judged before it is kept


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
    """Exactly the names in any order, our key, its issuers, and valid at this moment, give or take
    the clock's error.
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
    """A private CA may write the calendar's last second, which no sum reaches beyond."""
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    bundle = replace(
        ORDERED, certificate=replace(ORDERED.certificate, not_after=last), issuer_not_after=last
    )

    assert is_plausible(bundle, now)


def test_certificate_of_the_first_day() -> None:
    """Whatever is written, it is the CA's mistake and no crash."""
    first = datetime.min.replace(tzinfo=UTC)
    certificate = replace(ORDERED.certificate, not_before=first, not_after=first)
    bundle = replace(ORDERED, certificate=certificate)

    assert not is_plausible(bundle, NOW)


def test_certificate_whose_signer_has_expired() -> None:
    """Clients would refuse the chain, so it is not kept."""
    ended = replace(ORDERED, issuer_not_after=NOW - timedelta(days=1))

    with pytest.raises(CertificateRejected, match="the issuer certificate expired at 20"):
        must_be_as_ordered(ended, NAMES, NOW)


def is_plausible(bundle: CertificateBundle, now: datetime) -> bool:
    """Whether nothing is said against it."""
    try:
        must_be_as_ordered(bundle, NAMES, now)
    except CertificateRejected:
        return False
    return True


def test_certificate_of_thousands_of_names_is_reported_in_one_line() -> None:
    """The log and the history, which keeps it for ever, are not filled by a stranger."""
    many = tuple(f"n{number}.example.net" for number in range(5000))
    bundle = replace(ORDERED, certificate=replace(ORDERED.certificate, names=many))

    with pytest.raises(CertificateRejected) as caught:
        must_be_as_ordered(bundle, NAMES, NOW)

    assert len(str(caught.value)) < 300
    assert "n0.example.net" in str(caught.value)
    assert caught.value.hint is not None

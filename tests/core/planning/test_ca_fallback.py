"""When a certificate is ordered elsewhere than at its usual CA."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificates.certificate import Certificate
from certferry.core.certificates.lineage import Revocation, RevocationReason, Version
from certferry.core.desired.certificate import Authority
from certferry.core.observed.observation import Observation
from certferry.core.observed.records import Remembered
from certferry.core.planning.limits import (
    LAST_SHARE,
    PASSING,
    WITHOUT_ANY,
    authorities_now,
    in_order,
    may_pass_over,
)

NOW = datetime.fromisoformat("2026-11-24T12:00:00+00:00")
USUAL, ZEROSSL, OWN = (
    Authority(name, f"https://{name}.example.com/directory") for name in ("le", "zerossl", "own")
)
BOTH = (USUAL, ZEROSSL)
REVOKED = Revocation(NOW, RevocationReason.SUPERSEDED)

spans = st.timedeltas(timedelta(minutes=1), timedelta(days=400))
failures = st.none() | spans.map(lambda past: NOW - past)
revocations = st.sampled_from([None, REVOKED])


def certificate(lifetime: timedelta, left: timedelta) -> Certificate:
    """One with so much of its life left."""
    end, name = NOW + left, "img.example.com"
    return Certificate("ab" * 32, (name,), name, "1", "CA", end - lifetime, end, "ec256")


def asked(
    current: Certificate | None,
    failing_since: datetime | None,
    revocation: Revocation | None = None,
) -> tuple[Authority, ...]:
    """Which CAs may be asked now."""
    versions = () if current is None else (Version(1, current, NOW, revocation=revocation),)
    return authorities_now(
        BOTH, Observation(versions, remembered=Remembered(failing_since=failing_since)), NOW
    )


@given(lifetime=spans, share=st.floats(0.0, 1.0), failing_since=failures)
def test_only_in_the_last_sixth_and_not_for_a_passing_error(
    lifetime: timedelta, share: float, failing_since: datetime | None
) -> None:
    """Another CA is asked when the certificate is near its end, and the usual one has failed for a
    while; before, after or without that, the usual one alone.
    """
    current = certificate(lifetime, lifetime * share)
    is_near = current.remaining(NOW) <= current.lifetime / LAST_SHARE
    lasts = failing_since is not None and NOW - failing_since >= PASSING

    assert (BOTH if is_near and lasts else (USUAL,)) == asked(current, failing_since)


@given(lifetime=spans, failing_since=failures)
def test_without_a_certificate_that_is_of_use_after_a_day_of_failures(
    lifetime: timedelta, failing_since: datetime | None
) -> None:
    """Without any, or with one that was revoked, there is no deadline but the operator's
    patience.
    """
    is_over = failing_since is not None and NOW - failing_since >= WITHOUT_ANY

    for current in (None, certificate(lifetime, lifetime / 2)):
        assert (BOTH if is_over else (USUAL,)) == asked(current, failing_since, REVOKED)


@given(lifetime=spans, share=st.floats(-1.0, 1.0), ahead=spans, revocation=revocations)
def test_failure_in_the_future_is_no_reason(
    lifetime: timedelta, share: float, ahead: timedelta, revocation: Revocation | None
) -> None:
    """It was written by a clock that was ahead."""
    current = certificate(lifetime, lifetime * share)

    assert (USUAL,) == asked(current, NOW + ahead, revocation)


def test_order_under_way_is_finished_where_it_was_begun() -> None:
    """Then the others follow as they were; an order at an unknown directory changes nothing."""
    everywhere = (USUAL, ZEROSSL, OWN)

    assert everywhere == in_order(everywhere, None)
    assert everywhere == in_order(everywhere, "https://gone.example.com")
    assert (OWN, USUAL, ZEROSSL) == in_order(everywhere, OWN.directory)


@given(lifetime=spans, share=st.floats(0.0, 1.0), hold=spans)
def test_ca_that_is_held_back_is_passed_over_near_the_deadline_only(
    lifetime: timedelta, share: float, hold: timedelta
) -> None:
    """And not for a hold that is over within the time in which an error may pass."""
    current = certificate(lifetime, lifetime * share)
    is_near = current.remaining(NOW) <= current.lifetime / LAST_SHARE

    assert (is_near and hold > PASSING) is may_pass_over(current, NOW + hold, NOW)
    assert (hold > WITHOUT_ANY) is may_pass_over(None, NOW + hold, NOW)

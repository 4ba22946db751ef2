"""When a certificate is ordered elsewhere than at its usual CA."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificate import Certificate
from certferry.core.issuance import (
    LAST_SHARE,
    PASSING,
    WITHOUT_ANY,
    Authority,
    Issuance,
    authorities_now,
    in_order,
)

NOW = datetime.fromisoformat("2026-11-24T12:00:00+00:00")
USUAL, ZEROSSL, OWN = (
    Authority(name, f"https://{name}.example.com/directory") for name in ("le", "zerossl", "own")
)
BOTH = Issuance(authorities=(USUAL, ZEROSSL))

spans = st.timedeltas(timedelta(minutes=1), timedelta(days=400))
failures = st.none() | spans.map(lambda past: NOW - past)


def certificate(lifetime: timedelta, left: timedelta) -> Certificate:
    """One with so much of its life left."""
    end = NOW + left
    name = "img.example.com"
    return Certificate("ab" * 32, (name,), name, "1", "CA", end - lifetime, end, "ec256")


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

    asked = authorities_now(BOTH, current, failing_since, NOW)

    assert (USUAL, *([ZEROSSL] if is_near and lasts else [])) == asked


@given(failing_since=failures)
def test_first_certificate_after_a_day_of_failures(failing_since: datetime | None) -> None:
    """Without any certificate there is no deadline but the operator's patience."""
    is_over = failing_since is not None and NOW - failing_since >= WITHOUT_ANY

    asked = authorities_now(BOTH, None, failing_since, NOW)

    assert (BOTH.authorities if is_over else (USUAL,)) == asked


@given(lifetime=spans, share=st.floats(-1.0, 1.0), ahead=spans)
def test_failure_in_the_future_is_no_reason(
    lifetime: timedelta, share: float, ahead: timedelta
) -> None:
    """It was written by a clock that was ahead."""
    current = certificate(lifetime, lifetime * share)

    assert (USUAL,) == authorities_now(BOTH, current, NOW + ahead, NOW)
    assert (USUAL,) == authorities_now(BOTH, None, NOW + ahead, NOW)


@given(failing_since=failures)
def test_without_others_there_is_nothing_to_decide(failing_since: datetime | None) -> None:
    """One CA is asked whatever happens; where none is known by name, none is named."""
    assert (USUAL,) == authorities_now(Issuance(authorities=(USUAL,)), None, failing_since, NOW)
    assert () == authorities_now(Issuance(), None, failing_since, NOW)


def test_order_under_way_is_finished_where_it_was_begun() -> None:
    """Then the others follow as they were; an order at an unknown directory changes nothing."""
    everywhere = (USUAL, ZEROSSL, OWN)

    assert everywhere == in_order(everywhere, None)
    assert everywhere == in_order(everywhere, "https://gone.example.com")
    assert (OWN, USUAL, ZEROSSL) == in_order(everywhere, OWN.directory)

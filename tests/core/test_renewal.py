"""When a certificate is due."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from certferry.core.renewal import SHORT_LIVED, RenewalWindow, is_due, is_overdue, renew_at
from tests.core.strategies import NOW, certificate

lifetimes = st.timedeltas(timedelta(hours=1), timedelta(days=400))


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


@given(lifetimes, st.timedeltas(timedelta(0), timedelta(days=400)))
def test_window_of_the_ca_only_makes_it_sooner(lifetime: timedelta, start: timedelta) -> None:
    """A window that lies late, or belongs to nothing any more, never delays a renewal."""
    leaf = certificate(not_before=NOW, lifetime=lifetime)
    window = RenewalWindow(NOW + start, NOW + start + timedelta(days=1))

    assert renew_at(leaf, window) == min(renew_at(leaf), window.start)


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

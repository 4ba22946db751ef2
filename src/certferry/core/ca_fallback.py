"""When a certificate is ordered at another CA than its usual one: near the deadline, and never for
an error that passes.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from certferry.core.certificate import Certificate
from certferry.core.issuance import Authority
from certferry.core.observed import Observation

LAST_SHARE = 6
"""In the last sixth of its life a certificate has failed to be renewed for half of the time that a
renewal has, and half is left to try elsewhere."""

WITHOUT_ANY = timedelta(days=1)
"""How long a CA must have failed before a first certificate is ordered elsewhere."""

PASSING = timedelta(hours=1)
"""An error that has lasted for less may pass, however near the deadline is."""


def authorities_now(
    authorities: tuple[Authority, ...], observed: Observation, now: datetime
) -> tuple[Authority, ...]:
    """Return the CAs of a list that may be asked now: the first, or all in this order."""
    if may_fall_back(of_use(observed), observed.remembered.failing_since, now):
        return authorities
    return authorities[:1]


def of_use(observed: Observation) -> Certificate | None:
    """Return the certificate in force, unless it was revoked."""
    current = observed.current
    return None if current is None or current.revocation is not None else current.certificate


def may_fall_back(
    current: Certificate | None, failing_since: datetime | None, now: datetime
) -> bool:
    """Tell whether other CAs may be asked. `current` is the certificate in force, if it is of any
    use; `failing_since` is when a CA first failed since one came.
    """
    # A failure in the future was written by a clock that was ahead.
    if failing_since is None or failing_since > now:
        return False
    if current is None:
        return now >= failing_since + WITHOUT_ANY
    return _is_near(current, now) and now >= failing_since + PASSING


def may_pass_over(current: Certificate | None, held_until: datetime, now: datetime) -> bool:
    """Tell whether a CA that is not asked before a moment, by its limits or its own words, may be
    passed over: near the deadline, or without a certificate that is of use (`current`), when that
    is later than an error that passes would last.
    """
    if current is None:
        return held_until > now + WITHOUT_ANY
    return _is_near(current, now) and held_until > now + PASSING


def _is_near(current: Certificate, now: datetime) -> bool:
    return current.remaining(now) <= current.lifetime / LAST_SHARE


def in_order(authorities: tuple[Authority, ...], under_way: str | None) -> tuple[Authority, ...]:
    """Return the CAs in the order in which they are asked: first the one at whose directory an
    order is under way, so that a run that was killed there is not followed by a second certificate.
    """
    return tuple(sorted(authorities, key=lambda one: one.directory != under_way))

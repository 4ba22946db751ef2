"""When a certificate is ordered elsewhere than at its usual CA: near the deadline, and never for an
error that passes.
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
    current = observed.current
    is_of_use = current is not None and current.revocation is None
    certificate = current.certificate if current is not None and is_of_use else None
    if may_fall_back(certificate, observed.failing_since, now):
        return authorities
    return authorities[:1]


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
    is_near = current.remaining(now) <= current.lifetime / LAST_SHARE
    return is_near and now >= failing_since + PASSING


def in_order(authorities: tuple[Authority, ...], under_way: str | None) -> tuple[Authority, ...]:
    """Return the CAs in the order in which they are asked: first the one at whose directory an
    order is under way, so that a run that was killed there is not followed by a second certificate.
    """
    return tuple(sorted(authorities, key=lambda one: one.directory != under_way))

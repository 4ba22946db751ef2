"""How a certificate is ordered, and at which CAs: the first, and others near the deadline."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from certferry.core.certificate import Certificate

LAST_SHARE = 6
"""In the last sixth of its life a certificate has failed to be renewed for half of the time that a
renewal has, and half is left to try elsewhere."""

WITHOUT_ANY = timedelta(days=1)
"""How long a CA must have failed before a first certificate is ordered elsewhere."""

PASSING = timedelta(hours=1)
"""An error that has lasted for less may pass, however near the deadline is."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA: what the operator calls it, and the URL of its directory."""

    name: str
    directory: str


@dataclass(frozen=True, slots=True)
class Issuance:
    """How the certificates of a lineage are ordered: `profiles` in order of preference, none for
    the CA's own choice; `authorities` with the usual one first, none where only one is known; with
    `reuse_key` the key of the certificate before is used again.
    """

    profiles: tuple[str, ...] = ()
    authorities: tuple[Authority, ...] = ()
    reuse_key: bool = False


def authorities_now(
    issuance: Issuance, current: Certificate | None, failing_since: datetime | None, now: datetime
) -> tuple[Authority, ...]:
    """Return the CAs that may be asked now, in this order. `current` is the certificate in force,
    if it is of any use; `failing_since` is when a CA first failed since one came.
    """
    if _may_fall_back(current, failing_since, now):
        return issuance.authorities
    return issuance.authorities[:1]


def _may_fall_back(
    current: Certificate | None, failing_since: datetime | None, now: datetime
) -> bool:
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

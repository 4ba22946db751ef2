"""How long nothing is ordered after a CA has given a certificate that was not ordered."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from certferry.core import rules
from certferry.core.desired import DesiredCertificate
from certferry.core.due import Times
from certferry.core.observed import Observation
from certferry.core.plan import Obstacle
from certferry.errors import CertificateRejected, Retry
from certferry.text import LINEAGE, Text

ANEW_AFTER = timedelta(days=1)
"""The CA counts each such certificate as issued (Let's Encrypt allows five of the same names in a
week)."""


def held_back(rejected_at: datetime, now: datetime) -> CertificateRejected | None:
    """Tell why nothing is ordered now, `None` when it may be."""
    # A moment in the future was written by a clock that was ahead.
    if not rejected_at <= now < rejected_at + ANEW_AFTER:
        return None
    return CertificateRejected(
        Text(
            "nothing is ordered before {moment}: at {past} the CA gave a certificate that was not"
            " ordered",
            moment=rejected_at + ANEW_AFTER,
            past=rejected_at,
        ),
        hint=Text(
            "`certferry history {lineage}` tells what was wrong;"
            " `certferry sync --renew {lineage}` orders now",
            lineage=LINEAGE,
        ),
        retry=Retry.at(rejected_at + ANEW_AFTER),
    )


def obstacles(
    desired: DesiredCertificate, observed: Observation, rejected_at: datetime, times: Times
) -> Iterator[Obstacle]:
    """Tell that a certificate is wanted and not ordered, unless this run has told why already."""
    error = held_back(rejected_at, times.now)
    if error is None or rejected_at >= times.begun:
        return
    if rules.first_violated(desired, observed, times.now) is not None:
        yield Obstacle(None, None, error.about(desired.lineage))

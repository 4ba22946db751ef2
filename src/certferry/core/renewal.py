"""When a certificate is due: when a third of its lifetime is left, half for very short ones,
unless the CA's renewal window says sooner.

Shares: Let's Encrypt's integration guide, as the backstop to renewal information (RFC 9773).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from certferry.core.certificate import Certificate

SHORT_LIVED = timedelta(days=10)

NOTICE = timedelta(days=14)
"""How long before its end somebody is told of a certificate that another client should renew: most
renew a third before (acme.sh, certbot and lego with 30 of 90 days left), people later."""


@dataclass(frozen=True, slots=True)
class RenewalWindow:
    """The moments between which the CA wants the certificate replaced (RFC 9773 §4.2)."""

    start: datetime
    end: datetime


def renew_at(certificate: Certificate, window: RenewalWindow | None = None) -> datetime:
    """Give the moment from which the certificate is due."""
    share = 2 if certificate.lifetime < SHORT_LIVED else 3
    backstop = certificate.not_after - certificate.lifetime / share
    return backstop if window is None else min(window.start, backstop)


def is_due(certificate: Certificate, now: datetime, window: RenewalWindow | None = None) -> bool:
    """Tell whether the certificate is to be replaced now."""
    return now >= renew_at(certificate, window)


def is_overdue(certificate: Certificate, now: datetime) -> bool:
    """Tell whether somebody should have replaced the certificate by now: it ends within two weeks,
    or for short-lived ones within half of the time that a renewal has.
    """
    left = certificate.not_after - renew_at(certificate)
    return now >= certificate.not_after - min(left / 2, NOTICE)

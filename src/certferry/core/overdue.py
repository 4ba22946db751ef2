"""When another client should have renewed a certificate by now."""

from __future__ import annotations

from datetime import datetime, timedelta

from certferry.core.certificate import Certificate
from certferry.core.renewal import renew_at

NOTICE = timedelta(days=14)
"""How long before its end operators are told of a certificate that another client should renew:
most renew a third before (acme.sh, certbot and lego with 30 of 90 days left), people later."""


def is_overdue(certificate: Certificate, now: datetime) -> bool:
    """Tell whether its client should have replaced the certificate by now: it ends within two
    weeks, or for short-lived ones within half of the time that a renewal has.
    """
    return now >= overdue_at(certificate)


def overdue_at(certificate: Certificate) -> datetime:
    """Return the moment from which a certificate is overdue."""
    left = certificate.not_after - renew_at(certificate)
    return certificate.not_after - min(left / 2, NOTICE)

"""When a certificate is due: at a moment in the CA's renewal window (RFC 9773); without one, when a
third of its lifetime is left, half for very short ones.

Shares: Let's Encrypt's integration guide, as the backstop to renewal information.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from certferry.core.certificates.certificate import Certificate

SHORT_LIVED = timedelta(days=10)

HALF_DAY = timedelta(hours=12)
"""Let's Encrypt asks to be asked twice a day (docs/facts/letsencrypt.md §3.1)."""

USUAL_REST = timedelta(hours=6)
"""How long a CA is left alone that says nothing else (RFC 9773 §4.3.3); Let's Encrypt does."""

SHORTEST_REST, LONGEST_REST = timedelta(minutes=1), timedelta(days=1)
"""What a CA may ask for in Retry-After (RFC 9773 §4.3.2)."""


_DIGITS = 13
"""Hex digits of a fingerprint that make a share: as many bits as a float holds."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RenewalWindow:
    """The moments between which the CA wants the certificate replaced, and the address of a page
    that says why, where it names one (RFC 9773 §4.2).
    """

    start: datetime
    end: datetime
    page: str | None = None


@dataclass(frozen=True, slots=True)
class RenewalInfo:
    """What a CA answers: a window, if it has one, and how long it wants to be left alone."""

    window: RenewalWindow | None = None
    retry_after: timedelta | None = None


def plausible_window(
    certificate: Certificate, window: RenewalWindow | None
) -> RenewalWindow | None:
    """Return a window that can be this certificate's: not empty, and over before the certificate
    is. One that lies before its life is how a CA asks for another one at once (RFC 9773 §4.2). Any
    other is none, be it absurd or a later certificate's.
    """
    if window is None:
        return None
    fits = _EPOCH <= window.start < window.end <= certificate.not_after
    return window if fits else None


def renew_at(certificate: Certificate, window: RenewalWindow | None = None) -> datetime:
    """Return the moment from which the certificate is due. In a window it is always the same one,
    drawn by the certificate's fingerprint, never before its lifetime, and never in the last sixth.
    """
    share = 2 if certificate.lifetime < SHORT_LIVED else 3
    left = certificate.lifetime / share
    found = plausible_window(certificate, window)
    if found is None:
        return certificate.not_after - left
    moment = min(_moment_in(found, certificate.fingerprint), certificate.not_after - left / 2)
    return max(moment, certificate.not_before)


def _moment_in(window: RenewalWindow, fingerprint: str) -> datetime:
    # Runs come twice a day: drawn later, it could come after the window.
    room = max(window.end - HALF_DAY - window.start, timedelta(0))
    share = int(fingerprint[:_DIGITS], 16) / float(16**_DIGITS)
    return window.start + room * share


def ask_after(now: datetime, retry_after: timedelta | None = None) -> datetime:
    """Return when a CA that was asked now may be asked again: in the next half of a day (UTC),
    later where it says so, and sooner only where it wants to be asked more often than is usual.
    """
    rest = USUAL_REST if retry_after is None else retry_after
    moment = now + min(max(rest, SHORTEST_REST), LONGEST_REST)
    if rest < USUAL_REST:
        return moment
    passed = (now - _EPOCH) // HALF_DAY
    return max(moment, _EPOCH + (passed + 1) * HALF_DAY)


def may_ask(kept: datetime | None, now: datetime) -> bool:
    """Return whether the CA may be asked, given what `ask_after` said then. A moment that is
    further ahead than any it gives was written by a clock that was ahead.
    """
    return kept is None or not now < kept <= now + LONGEST_REST


NOTICE = timedelta(days=14)
"""How long before its end operators are notified of a certificate that another client should renew:
most renew a third before (acme.sh, certbot and lego with 30 of 90 days left), people later."""


def is_overdue(certificate: Certificate, now: datetime) -> bool:
    """Return whether its client should have replaced the certificate by now: it ends within two
    weeks, or for short-lived ones within half of the time that a renewal has.
    """
    return now >= overdue_at(certificate)


def overdue_at(certificate: Certificate) -> datetime:
    """Return the moment from which a certificate is overdue."""
    left = certificate.not_after - renew_at(certificate)
    return certificate.not_after - min(left / 2, NOTICE)

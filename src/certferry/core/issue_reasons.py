"""What is said of a certificate that is to be issued: which rule the one in force breaks."""

from __future__ import annotations

from datetime import datetime, timedelta

from certferry.core import renewal
from certferry.core.certificate import Certificate
from certferry.core.desired import DesiredCertificate
from certferry.core.foreign_words import quoted
from certferry.core.lineage import Version
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.renewal import RenewalWindow
from certferry.text import Text

MISSING = Reason(ReasonCode.MISSING, Text("there is no certificate yet"))


def names_changed(desired: DesiredCertificate, current: Certificate) -> Reason:
    """It is for other names."""
    sentence = Text(
        "the certificate is for {had}; asked for: {wanted}",
        had=current.names,
        wanted=desired.names,
    )
    return Reason(ReasonCode.NAMES_CHANGED, sentence)


def key_type_changed(desired: DesiredCertificate, current: Certificate) -> Reason:
    """Its key is of another kind."""
    sentence = Text(
        "the key is {had}; asked for: {wanted}",
        had=current.key_type,
        wanted=desired.key_type.value,
    )
    return Reason(ReasonCode.KEY_TYPE_CHANGED, sentence)


def renewal_due(version: Version, now: datetime) -> Reason:
    """Its time to be renewed has come: in the CA's window, or by what is left of its lifetime."""
    current = version.certificate
    window = renewal.believed(current, version.window)
    if window is not None:
        return Reason(ReasonCode.RENEWAL_DUE, window_in_words(window))
    sentence = Text(
        "renewal due ({left} left of {lifetime})",
        left=current.remaining(now),
        lifetime=current.lifetime,
    )
    return Reason(ReasonCode.RENEWAL_DUE, sentence)


def window_in_words(window: RenewalWindow) -> Text:
    """Say when the CA wants a certificate replaced, and where it says why."""
    said = Text(
        "the CA asks for renewal between {start} and {end}", start=window.start, end=window.end
    )
    if window.page is None:
        return said
    return Text("{said}: {page}", said=said, page=quoted(window.page))


def upload_deadline_passed(left: timedelta, wanted: timedelta) -> Reason:
    """A target does not take it any more."""
    sentence = Text(
        "it is not uploaded yet, and {left} are left where the target wants {wanted}",
        left=left,
        wanted=wanted,
    )
    return Reason(ReasonCode.UPLOAD_DEADLINE_PASSED, sentence)


def issuer_expired(version: Version, now: datetime) -> Reason | None:
    """What signed it, as it stands in its chain, is not valid any more: clients refuse the chain.
    `None` where it is, or is not known.
    """
    if version.issuer_not_after is None or not version.has_expired_issuer(now):
        return None
    sentence = Text(
        "{issuer}, which signed the certificate, expired at {moment}",
        issuer=quoted(version.certificate.issuer),
        moment=version.issuer_not_after,
    )
    return Reason(ReasonCode.ISSUER_EXPIRED, sentence)


def not_issued_yet(ordered_at: datetime) -> Reason:
    """Another one was ordered, and has not come."""
    sentence = Text("ordered at {moment}; the CA has not issued it yet", moment=ordered_at)
    return Reason(ReasonCode.ORDERED, sentence)

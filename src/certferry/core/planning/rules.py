"""The rules a lineage's current certificate must keep. Read from top to bottom, `first_violated` is
the answer to "why is a certificate issued?".
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from certferry.core.certificates import renewal
from certferry.core.certificates.certificate import Certificate, same_names
from certferry.core.certificates.lineage import Version
from certferry.core.certificates.renewal import RenewalWindow
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.observed.observation import Observation, ObservedTarget
from certferry.core.observed.records import Ordered
from certferry.core.planning.rollbacks import must_outlive_rollback
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.redaction import quoted
from certferry.text import Text

MISSING = Reason(ReasonCode.MISSING, Text("there is no certificate yet"))

ORDER_LIFETIME = timedelta(days=7)
"""How long an order can be gone on with at Let's Encrypt."""

GAP = timedelta(days=1)
"""Between two certificates of a lineage which both came because the CA's window had passed: a CA
that says so of every certificate gets one order a day."""

LEAST_GAP = timedelta(hours=1)
"""Between two certificates of a lineage for which the same is declared: a CA, a target or a clock
that is wrong leads to one an hour at most."""

BACKDATED = timedelta(days=2)
"""How long before it was issued a certificate may begin: an hour at Let's Encrypt, to the last
midnight at others. One that is older was adopted, and not issued just now."""


def must_match_names(desired: DesiredCertificate, current: Certificate) -> Reason | None:
    """The certificate carries exactly the names that were asked for."""
    if same_names(current.names, desired.names):
        return None
    sentence = Text(
        "the certificate is for {had}; asked for: {wanted}",
        had=current.names,
        wanted=desired.names,
    )
    return Reason(ReasonCode.NAMES_CHANGED, sentence)


def must_match_key_type(desired: DesiredCertificate, current: Certificate) -> Reason | None:
    """The certificate's key is of the kind that was asked for."""
    if current.key_type == desired.key_type:
        return None
    sentence = Text(
        "the key is {had}; asked for: {wanted}",
        had=current.key_type,
        wanted=desired.key_type.value,
    )
    return Reason(ReasonCode.KEY_TYPE_CHANGED, sentence)


def must_have_come(
    desired: DesiredCertificate, ordered: Ordered | None, now: datetime
) -> Reason | None:
    """A pending order must be completed: the next run finishes an interrupted `--renew`. An order
    for other names or another kind of key does not count.
    """
    if ordered is None or not ordered.is_for(desired) or now >= ordered.at + ORDER_LIFETIME:
        return None
    sentence = Text("ordered at {moment}; the CA has not issued it yet", moment=ordered.at)
    return Reason(ReasonCode.ORDERED, sentence)


def must_not_be_due(observed: Observation, version: Version, now: datetime) -> Reason | None:
    """The certificate has enough of its lifetime left, and what signed it is valid."""
    if version.has_expired_issuer(now):
        return issuer_expired(version, now)
    current = version.certificate
    moment = renewal.renew_at(current, version.window)
    if moment <= now and version.window is not None:
        moment = renew_at(observed, version)
    if now < moment:
        return None
    window = renewal.plausible_window(current, version.window)
    if window is not None:
        return Reason(ReasonCode.RENEWAL_DUE, window_in_words(window))
    sentence = Text(
        "renewal due ({left} left of {lifetime})",
        left=current.remaining(now),
        lifetime=current.lifetime,
    )
    return Reason(ReasonCode.RENEWAL_DUE, sentence)


def window_in_words(window: RenewalWindow) -> Text:
    """Return when the CA wants a certificate replaced, and where it explains why."""
    said = Text(
        "the CA asks for renewal between {start} and {end}", start=window.start, end=window.end
    )
    if window.page is None:
        return said
    return Text("{said}: {page}", said=said, page=quoted(window.page))


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


def renew_at(observed: Observation, version: Version) -> datetime:
    """Return the moment from which the version in force is due, by its window. One that came when
    the window of the one before it had passed is not due at once.
    """
    moment = renewal.renew_at(version.certificate, version.window)
    before = next(iter(observed.versions[1:]), None)
    window = None if before is None else renewal.plausible_window(before.certificate, before.window)
    if window is None or window.end > version.saved_at:
        return moment
    return max(moment, min(version.saved_at + GAP, renewal.renew_at(version.certificate)))


def must_be_deployable(
    current: Certificate, targets: Iterable[ObservedTarget], now: datetime
) -> Reason | None:
    """The certificate can still be uploaded wherever it is missing. A new one is only ordered where
    it would be accepted: a CA whose certificates are too short for the target from the first day is
    a matter for safety, not for more orders.
    """
    left = current.remaining(now)
    for target in targets:
        wanted = target.rules.min_remaining
        is_missing = bool(target.domains) and target.remote_of(current.fingerprint) is None
        if is_missing and left < wanted <= current.lifetime:
            sentence = Text(
                "it is not uploaded yet, and {left} are left where the target wants {wanted}",
                left=left,
                wanted=wanted,
            )
            return Reason(ReasonCode.UPLOAD_DEADLINE_PASSED, sentence)
    return None


def first_violated(
    desired: DesiredCertificate, observed: Observation, now: datetime
) -> Reason | None:
    """Return the first rule's reason to issue a certificate, or `None` when all are kept."""
    version = observed.current
    if version is None:
        return MISSING
    if version.revocation is not None:
        return version.revocation.why
    current = version.certificate
    asked = (
        must_match_names(desired, current)
        or must_match_key_type(desired, current)
        or must_have_come(desired, observed.remembered.ordered, now)
    )
    if asked is not None or is_just_issued(version, now):
        return asked
    return (
        must_not_be_due(observed, version, now)
        or must_be_deployable(current, observed.targets, now)
        or must_outlive_rollback(observed, version, now)
    )


def is_just_issued(version: Version, now: datetime) -> bool:
    """Return whether the certificate is too new to be followed by another one."""
    was_new = version.saved_at - version.certificate.not_before <= BACKDATED
    return was_new and version.saved_at <= now < version.saved_at + LEAST_GAP

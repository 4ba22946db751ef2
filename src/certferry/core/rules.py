"""The rules a lineage's current certificate must keep. Read from top to bottom, the list at the
end is the answer to "why is a certificate issued?".
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from certferry.core import at_once, issue_reasons, renewal
from certferry.core.certificate import Certificate
from certferry.core.desired import DesiredCertificate
from certferry.core.lineage import Version
from certferry.core.observed import Observation, ObservedTarget
from certferry.core.ordered import Ordered
from certferry.core.reasons import Reason
from certferry.core.rollbacks import must_outlive_rollback

ORDER_LIFETIME = timedelta(days=7)
"""How long an order can be gone on with at Let's Encrypt."""

LEAST_GAP = timedelta(hours=1)
"""Between two certificates of a lineage whose wish is the same: a CA, a target or a clock that is
wrong leads to one an hour at most."""

BACKDATED = timedelta(days=2)
"""How long before it was issued a certificate may begin: an hour at Let's Encrypt, to the last
midnight at others. One that is older was adopted, and not issued just now."""


def must_match_names(desired: DesiredCertificate, current: Certificate) -> Reason | None:
    """The certificate carries exactly the names that were asked for."""
    same = set(current.names) == set(desired.names)
    return None if same else issue_reasons.names_changed(desired, current)


def must_match_key_type(desired: DesiredCertificate, current: Certificate) -> Reason | None:
    """The certificate's key is of the kind that was asked for."""
    same = current.key_type == desired.key_type
    return None if same else issue_reasons.key_type_changed(desired, current)


def must_have_come(
    desired: DesiredCertificate, ordered: Ordered | None, now: datetime
) -> Reason | None:
    """What was ordered has come: a renewal on demand is finished by the run after the one that was
    stopped in it. An order for other names or another kind of key counts for nothing.
    """
    if ordered is None or not ordered.is_for(desired) or now >= ordered.at + ORDER_LIFETIME:
        return None
    return issue_reasons.not_issued_yet(ordered.at)


def must_not_be_due(observed: Observation, version: Version, now: datetime) -> Reason | None:
    """The certificate has enough of its lifetime left, and what signed it is valid."""
    if version.has_expired_issuer(now):
        return issue_reasons.issuer_expired(version, now)
    moment = renewal.renew_at(version.certificate, version.window)
    if moment <= now and version.window is not None:
        moment = at_once.renew_at(observed, version)
    return issue_reasons.renewal_due(version, now) if moment <= now else None


def must_be_deployable(
    current: Certificate, targets: Iterable[ObservedTarget], now: datetime
) -> Reason | None:
    """The certificate can still be uploaded wherever it is missing.

    A new one is only ordered where it would be accepted: a CA whose certificates are too short
    for the target from the first day is a matter for safety, not for more orders.
    """
    left = current.remaining(now)
    for target in targets:
        wanted = target.rules.min_remaining
        is_missing = bool(target.domains) and target.remote_of(current.fingerprint) is None
        if is_missing and left < wanted <= current.lifetime:
            return issue_reasons.upload_deadline_passed(left, wanted)
    return None


def first_violated(
    desired: DesiredCertificate, observed: Observation, now: datetime
) -> Reason | None:
    """Give the first rule's reason to issue a certificate, or `None` when all are kept."""
    version = observed.current
    if version is None:
        return issue_reasons.MISSING
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
    """Tell whether the certificate is too new to be followed by another one."""
    was_new = version.saved_at - version.certificate.not_before <= BACKDATED
    return was_new and version.saved_at <= now < version.saved_at + LEAST_GAP

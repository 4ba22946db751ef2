"""The rules a lineage's current certificate must keep. Read from top to bottom, the list at the
end is the answer to "why is a certificate issued?".
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from certferry.core import renewal
from certferry.core.certificate import Certificate
from certferry.core.desired import DesiredCertificate
from certferry.core.foreign_words import quoted
from certferry.core.lineage import Version
from certferry.core.observed import Observation, ObservedTarget
from certferry.core.ordered import Ordered
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.renewal import RenewalWindow
from certferry.core.rollbacks import must_outlive_rollback
from certferry.text import Text

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
    if set(current.names) == set(desired.names):
        return None
    return Reason(
        ReasonCode.NAMES_CHANGED,
        Text(
            "the certificate is for {had}; asked for: {wanted}",
            had=current.names,
            wanted=desired.names,
        ),
    )


def must_match_key_type(desired: DesiredCertificate, current: Certificate) -> Reason | None:
    """The certificate's key is of the kind that was asked for."""
    if current.key_type == desired.key_type:
        return None
    return Reason(
        ReasonCode.KEY_TYPE_CHANGED,
        Text(
            "the key is {had}; asked for: {wanted}",
            had=current.key_type,
            wanted=desired.key_type.value,
        ),
    )


def must_not_be_due(version: Version, now: datetime) -> Reason | None:
    """The certificate has enough of its lifetime left."""
    current = version.certificate
    if not renewal.is_due(current, now, version.window):
        return None
    window = renewal.believed(current, version.window)
    if window is not None:
        return Reason(ReasonCode.RENEWAL_DUE, window_in_words(window))
    return Reason(
        ReasonCode.RENEWAL_DUE,
        Text(
            "renewal due ({left} left of {lifetime})",
            left=current.remaining(now),
            lifetime=current.lifetime,
        ),
    )


def window_in_words(window: RenewalWindow) -> Text:
    """Say when the CA wants a certificate replaced, and where it says why."""
    said = Text(
        "the CA asks for renewal between {start} and {end}", start=window.start, end=window.end
    )
    return (
        said if window.page is None else Text("{said}: {page}", said=said, page=quoted(window.page))
    )


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
            return Reason(
                ReasonCode.UPLOAD_DEADLINE_PASSED,
                Text(
                    "it is not uploaded yet, and {left} are left where the target wants {wanted}",
                    left=left,
                    wanted=wanted,
                ),
            )
    return None


def must_have_come(
    desired: DesiredCertificate, ordered: Ordered | None, now: datetime
) -> Reason | None:
    """What was ordered has come: a renewal on demand is finished by the run after the one that was
    stopped in it. An order for other names or another kind of key counts for nothing.
    """
    if ordered is None or not ordered.is_for(desired) or now >= ordered.at + ORDER_LIFETIME:
        return None
    sentence = Text("ordered at {moment}; the CA has not issued it yet", moment=ordered.at)
    return Reason(ReasonCode.ORDERED, sentence)


def first_violated(
    desired: DesiredCertificate, observed: Observation, now: datetime
) -> Reason | None:
    """Give the first rule's reason to issue a certificate, or `None` when all are kept."""
    version = observed.current
    if version is None:
        return Reason(ReasonCode.MISSING, Text("there is no certificate yet"))
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
        must_not_be_due(version, now)
        or must_be_deployable(current, observed.targets, now)
        or must_outlive_rollback(observed, version, now)
    )


def is_just_issued(version: Version, now: datetime) -> bool:
    """Tell whether the certificate is too new to be followed by another one."""
    was_new = version.saved_at - version.certificate.not_before <= BACKDATED
    return was_new and version.saved_at <= now < version.saved_at + LEAST_GAP

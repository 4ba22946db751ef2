"""The rules a lineage's current certificate must keep. Read from top to bottom, the list at the
end is the answer to "why is a certificate issued?".
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from certferry.core import renewal
from certferry.core.desired import DesiredCertificate
from certferry.core.observed import Observation, ObservedTarget
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.rollbacks import must_outlive_rollback
from certferry.text import Text

ORDER_LIFETIME = timedelta(days=7)
"""How long an order can be gone on with at Let's Encrypt."""

Rule = Callable[[DesiredCertificate, Observation, datetime], Reason | None]


def must_exist(desired: DesiredCertificate, observed: Observation, now: datetime) -> Reason | None:
    """There is a certificate."""
    del desired, now
    if observed.current is not None:
        return None
    return Reason(ReasonCode.MISSING, Text("there is no certificate yet"))


def must_match_names(
    desired: DesiredCertificate, observed: Observation, now: datetime
) -> Reason | None:
    """The certificate carries exactly the names that were asked for."""
    del now
    current = observed.current
    if current is None or set(current.certificate.names) == set(desired.names):
        return None
    return Reason(
        ReasonCode.NAMES_CHANGED,
        Text(
            "the certificate is for {had}; asked for: {wanted}",
            had=current.certificate.names,
            wanted=desired.names,
        ),
    )


def must_match_key_type(
    desired: DesiredCertificate, observed: Observation, now: datetime
) -> Reason | None:
    """The certificate's key is of the kind that was asked for."""
    del now
    current = observed.current
    if current is None or current.certificate.key_type == desired.key_type:
        return None
    return Reason(
        ReasonCode.KEY_TYPE_CHANGED,
        Text(
            "the key is {had}; asked for: {wanted}",
            had=current.certificate.key_type,
            wanted=desired.key_type.value,
        ),
    )


def must_not_be_due(
    desired: DesiredCertificate, observed: Observation, now: datetime
) -> Reason | None:
    """The certificate has enough of its lifetime left."""
    del desired
    current = observed.current
    if current is None or not renewal.is_due(current.certificate, now, current.window):
        return None
    return Reason(
        ReasonCode.RENEWAL_DUE,
        Text(
            "renewal due ({left} left of {lifetime})",
            left=current.certificate.remaining(now),
            lifetime=current.certificate.lifetime,
        ),
    )


def must_be_deployable(
    desired: DesiredCertificate, observed: Observation, now: datetime
) -> Reason | None:
    """The certificate can still be uploaded wherever it is missing.

    A new one is only ordered where it would be accepted: a CA whose certificates are too short
    for the target from the first day is a matter for safety, not for more orders.
    """
    del desired
    current = observed.current
    if current is None:
        return None
    for target in observed.targets:
        wanted = target.rules.min_remaining
        too_late = current.certificate.remaining(now) < wanted <= current.certificate.lifetime
        if too_late and _is_missing(current.certificate.fingerprint, target):
            return Reason(
                ReasonCode.UPLOAD_DEADLINE_PASSED,
                Text(
                    "it is not uploaded yet, and {left} are left where the target wants {wanted}",
                    left=current.certificate.remaining(now),
                    wanted=wanted,
                ),
            )
    return None


def must_have_come(
    desired: DesiredCertificate, observed: Observation, now: datetime
) -> Reason | None:
    """What was ordered has come: a renewal on demand is finished by the run after the one that
    was stopped in it.
    """
    del desired
    ordered_at = observed.ordered_at
    if ordered_at is None or now >= ordered_at + ORDER_LIFETIME:
        return None
    sentence = Text("it was ordered at {moment}, and has not come yet", moment=ordered_at)
    return Reason(ReasonCode.ORDERED, sentence)


def _is_missing(fingerprint: str, target: ObservedTarget) -> bool:
    return bool(target.domains) and target.remote_of(fingerprint) is None


RULES: tuple[Rule, ...] = (
    must_exist,
    must_match_names,
    must_match_key_type,
    must_not_be_due,
    must_be_deployable,
    must_have_come,
    must_outlive_rollback,
)


def first_violated(
    desired: DesiredCertificate, observed: Observation, now: datetime
) -> Reason | None:
    """Give the first rule's reason to issue a certificate, or `None` when all are kept."""
    found = (rule(desired, observed, now) for rule in RULES)
    return next((reason for reason in found if reason is not None), None)

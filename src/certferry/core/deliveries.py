"""What must be delivered to a receiver, and why. A receiver has no edges: it has a certificate, or
it has not, and nothing is left to verify.
"""

from __future__ import annotations

from certferry.core.certificate import FULLCHAIN
from certferry.core.change import CERTIFICATE, Change
from certferry.core.delivery import Delivery, FileDelivery
from certferry.core.desired import DesiredDeployment, HttpsWish, Kind
from certferry.core.lineage import Version
from certferry.core.observed import ObservedDomain, ObservedTarget
from certferry.core.plan import Rollout
from certferry.core.policies import Retirement
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.steps import Deploy
from certferry.text import Text

NEW_CERTIFICATE = Reason(ReasonCode.NEW_CERTIFICATE, Text("a new certificate is coming"))


def plan_delivery(
    label: str, target: ObservedTarget, domain: ObservedDomain, coming: Version | None
) -> Rollout:
    """Plan one receiver. `coming=None` stands for the certificate that is about to be issued."""
    reason = why_deliver(target, domain, coming)
    if reason is None:
        return Rollout(label, domain.domain, ())
    changes = _changes(domain, coming)
    fingerprint = None if coming is None else coming.certificate.fingerprint
    step = Deploy(
        label, domain.domain, HttpsWish(), reason, changes, domain.kind, fingerprint=fingerprint
    )
    return Rollout(label, domain.domain, (step,))


def why_deliver(
    target: ObservedTarget, domain: ObservedDomain, coming: Version | None
) -> Reason | None:
    """Say why a receiver is to get a certificate, `None` when nothing is left to do."""
    if coming is None:
        return NEW_CERTIFICATE
    if domain.bound is None:
        return Reason(ReasonCode.NOT_DELIVERED, Text("it has not been delivered yet"))
    if domain.bound == coming.certificate.fingerprint:
        if _change_of_issuers(domain, coming):
            sentence = Text("it was delivered with other issuer certificates")
            return Reason(ReasonCode.DELIVERED_PREVIOUS, sentence)
        return None if domain.drift is None else domain.drift.reason
    if target.fingerprint_of(domain.bound) is not None:
        return Reason(ReasonCode.DELIVERED_PREVIOUS, Text("an earlier certificate was delivered"))
    return Reason(ReasonCode.HOLDS_FOREIGN, Text("the certificate there was not delivered for it"))


def _changes(domain: ObservedDomain, coming: Version | None) -> tuple[Change, ...]:
    after = None if coming is None else coming.certificate.fingerprint
    drift = () if domain.drift is None else domain.drift.changes
    if coming is not None and domain.bound == after:
        return (*_change_of_issuers(domain, coming), *drift)
    return (Change(CERTIFICATE, domain.bound, after),)


def _change_of_issuers(domain: ObservedDomain, coming: Version) -> tuple[Change, ...]:
    """The same leaf may be there with other issuers. What is not known is no difference."""
    held, wanted = domain.fullchain_digest, coming.fullchain_digest
    if held is None or wanted is None or held == wanted:
        return ()
    return (Change(FULLCHAIN, held, wanted),)


def delivered(delivery: Delivery) -> DesiredDeployment:
    """Give the deployment to a receiver. There is nothing to retire there: a new certificate takes
    the old one's place.
    """
    if isinstance(delivery, FileDelivery):
        kind, name = Kind.FILES, delivery.directory
    else:
        kind, name = Kind.COMMAND, delivery.label
    return DesiredDeployment(kind.value, (name,), kind, retire=Retirement.NEVER, delivery=delivery)

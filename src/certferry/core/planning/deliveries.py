"""What must be delivered to a receiver, and why. A receiver has no edges: it has a certificate, or
it has not, and nothing is left to verify.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from certferry.core.certificates.certificate import FULLCHAIN
from certferry.core.certificates.lineage import Version
from certferry.core.certificates.renewal import is_overdue
from certferry.core.desired.certificate import (
    Delivery,
    DesiredCertificate,
    DesiredDeployment,
    DesiredHttps,
    FileDelivery,
    Kind,
    Retirement,
)
from certferry.core.observed.observation import (
    CERTIFICATE,
    Change,
    Observation,
    ObservedDomain,
    ObservedTarget,
)
from certferry.core.planning.plan import Obstacle, Rollout
from certferry.core.planning.rules import issuer_expired
from certferry.core.planning.steps import Deploy
from certferry.core.reasons import Reason, ReasonCode
from certferry.errors import CertificateError
from certferry.text import Text


def why_adopt(desired: DesiredCertificate, observed: Observation) -> Reason | None:
    """Say why what the files hold is to be adopted, `None` when the certificate in force is the one
    that they hold, with the same issuers. Its maker decides when it is renewed, for which names.
    """
    offered, current = desired.offered, observed.current
    if offered is None or desired.files is None:
        return None
    path = desired.files.fullchain
    if current is None or current.certificate.fingerprint != offered.fingerprint:
        unknown = Text("{path} holds a certificate that is not known yet", path=path)
        return Reason(ReasonCode.FILES_CHANGED, unknown)
    if current.fullchain_digest in {None, desired.offered_fullchain}:
        return None
    other = Text("{path} holds other issuer certificates for the same leaf", path=path)
    return Reason(ReasonCode.FILES_CHANGED, other)


def known_already(desired: DesiredCertificate, observed: Observation) -> Version | None:
    """Return the version in force when all that is to be adopted are other issuers for its leaf:
    it stays in force wherever the difference does not show.
    """
    offered, current = desired.offered, observed.current
    if offered is None or current is None:
        return None
    if current.certificate.fingerprint != offered.fingerprint:
        return None
    return replace(
        current,
        fullchain_digest=desired.offered_fullchain,
        issuer_not_after=desired.offered_issuer_end,
    )


def overdue(desired: DesiredCertificate, observed: Observation, now: datetime) -> Reason | None:
    """Say that the files should have been renewed long ago. It is only told: the client that made
    the certificate renews it.
    """
    current = observed.current
    if desired.files is None or current is None or observed.is_owned_elsewhere:
        return None
    certificate, path = current.certificate, desired.files.fullchain
    unsigned = issuer_expired(current, now)
    if unsigned is not None:
        message = Text("{path}: {problem}", path=path, problem=unsigned.message)
        return Reason(unsigned.code, message)
    if not is_overdue(certificate, now):
        return None
    end = certificate.not_after
    if end <= now:
        message = Text("{path}: not renewed, and expired at {moment}", path=path, moment=end)
    else:
        message = Text("{path}: not renewed yet, and expires at {moment}", path=path, moment=end)
    return Reason(ReasonCode.OVERDUE, message)


def overdue_obstacles(
    desired: DesiredCertificate, observed: Observation, now: datetime, rollouts: Iterable[Rollout]
) -> tuple[Obstacle, ...]:
    """Tell of a certificate that its client does not renew while there is time: nothing of ours can
    help it. Of one that has expired, safety tells where it is to be deployed.
    """
    reason = overdue(desired, observed, now)
    if reason is None:
        return ()
    current = observed.current
    is_over = current is not None and (
        current.certificate.not_after <= now or reason.code is ReasonCode.ISSUER_EXPIRED
    )
    if is_over and any(rollout.deploy for rollout in rollouts):
        return ()
    hint = Text(
        "find out why its client no longer renews it; the next run deploys the renewed files"
    )
    return (Obstacle(None, None, CertificateError(reason.message, hint=hint)),)


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
        label, domain.domain, DesiredHttps(), reason, changes, domain.kind, fingerprint=fingerprint
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

"""Certificates that another client makes: when what its files hold is adopted, and when to warn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from certferry.core.desired import DesiredCertificate
from certferry.core.issue_reasons import issuer_expired
from certferry.core.lineage import Version
from certferry.core.observed import Observation
from certferry.core.overdue import is_overdue
from certferry.core.plan import Obstacle, Rollout
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
    if desired.files is None or current is None or observed.is_ceded:
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

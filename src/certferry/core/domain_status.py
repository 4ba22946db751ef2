"""How one domain stands at its target, in the words of docs/reference/json.md."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from certferry.core import unmatched
from certferry.core.abbreviations import short
from certferry.core.deliveries import why_deliver
from certferry.core.desired import DesiredDeployment, Kind
from certferry.core.drift import drift_of
from certferry.core.https_changes import in_sentences, setting_changes
from certferry.core.lineage import Version, version_for
from certferry.core.observed import (
    DomainState,
    ObservedDomain,
    ObservedTarget,
    Served,
    is_served,
)
from certferry.core.reasons import ReasonCode
from certferry.core.rollbacks import in_words
from certferry.core.stuck import stuck_error, stuck_since
from certferry.core.trouble import LastFailure, Trouble
from certferry.errors import CertferryError
from certferry.text import Text

WHOLE_ACCOUNT = "*"
"""Stands for the domains of an account that could not be asked which they are, or of which none is
left to serve.
"""


_WHO_CHANGED_IT = Text(
    "find out who changed it; `certferry plan` tells whether the next run sets it right"
)


class Standing(StrEnum):
    """How one domain stands."""

    VERIFIED = "verified"
    PROPAGATING = "propagating"
    PROCESSING = "processing"
    BOUND = "bound"
    PENDING = "pending"
    DRIFTED = "drifted"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class DomainStatus:
    """One domain at one target. `served` says of each address whether it presents the certificate
    with this `fingerprint`, which the domain is to serve until `not_after`, with a valid name and
    chain. `is_uploaded`: it is at the target already. `ticket` is what to send to the target's
    support.
    """

    target: str
    kind: Kind
    domain: str
    standing: Standing
    remote_id: str | None = None
    upload_deadline: datetime | None = None
    served: tuple[Served, ...] = ()
    problem: Trouble | None = None
    fingerprint: str | None = None
    ticket: tuple[Text, ...] = ()
    not_after: datetime | None = None
    last_failure: LastFailure | None = None
    is_uploaded: bool = False


def domains_of(
    deployment: DesiredDeployment,
    target: ObservedTarget,
    versions: tuple[Version, ...],
    now: datetime,
    timeout: timedelta,
) -> tuple[DomainStatus, ...]:
    """Judge the domains of one deployment."""
    if target.failure is not None:
        named = (*(deployment.domains or ()), *deployment.globs) or (WHOLE_ACCOUNT,)
        return tuple(_unknown(deployment, name, target.failure) for name in named)
    found = (
        _with_ticket(
            _rolled_back(
                _domain(deployment, target, domain, version_for(domain.withdrawn, versions, now)),
                domain,
                versions,
            ),
            domain,
            now,
            timeout,
        )
        for domain in target.domains
    )
    in_vain = unmatched.obstacles(deployment, target)
    return (*found, *(_unknown(deployment, pattern, error) for pattern, error in in_vain))


def _unknown(deployment: DesiredDeployment, name: str, error: CertferryError) -> DomainStatus:
    return DomainStatus(
        deployment.target, deployment.kind, name, Standing.UNKNOWN, problem=Trouble.of(error)
    )


def _with_ticket(
    status: DomainStatus, domain: ObservedDomain, now: datetime, timeout: timedelta
) -> DomainStatus:
    since = stuck_since(domain, now, timeout)
    if since is None or status.fingerprint is None:
        return status
    place = (status.target, domain)
    error = stuck_error(*place, since, now, served=status.served, fingerprint=status.fingerprint)
    return replace(status, problem=status.problem or Trouble.of(error), ticket=error.ticket)


def _rolled_back(
    status: DomainStatus, domain: ObservedDomain, versions: tuple[Version, ...]
) -> DomainStatus:
    """Say of a domain in order that it serves the previous certificate on purpose: the lineage's
    row tells of the newest.
    """
    is_back = (
        status.standing is Standing.VERIFIED
        and versions[0].certificate.fingerprint in domain.withdrawn
    )
    served = next((v for v in versions if v.certificate.fingerprint == status.fingerprint), None)
    if not is_back or served is None:
        return status
    return replace(status, problem=Trouble(ReasonCode.ROLLED_BACK.value, in_words(served)))


def _domain(
    deployment: DesiredDeployment,
    target: ObservedTarget,
    domain: ObservedDomain,
    current: Version | None,
) -> DomainStatus:
    deadline = None
    if current is not None and not domain.kind.is_receiver:
        deadline = target.rules.upload_deadline(current.certificate)
    standing = _standing(deployment, target, domain, current)
    return DomainStatus(
        target=deployment.target,
        kind=domain.kind,
        domain=domain.domain,
        standing=standing,
        remote_id=domain.bound,
        upload_deadline=deadline,
        served=target.served.get(domain.domain, ()),
        problem=_problem(domain) or _what_has_drifted(deployment, target, domain, standing),
        fingerprint=None if current is None else current.certificate.fingerprint,
        not_after=None if current is None else current.certificate.not_after,
        is_uploaded=current is not None
        and target.remote_of(current.certificate.fingerprint) is not None,
    )


def _problem(domain: ObservedDomain) -> Trouble | None:
    if domain.problem is not None:
        return Trouble.of(domain.problem)
    return None if domain.drift is None else Trouble.because(domain.drift.reason)


def _what_has_drifted(
    deployment: DesiredDeployment,
    target: ObservedTarget,
    domain: ObservedDomain,
    standing: Standing,
) -> Trouble | None:
    if standing is Standing.DRIFTED and domain.kind.is_receiver and domain.bound is None:
        message = Text("the delivered certificate is gone; the next run delivers it again")
        return Trouble(ReasonCode.DELIVERY_DRIFTED.value, message)
    drift = None if standing is Standing.VERIFIED else drift_of(deployment, target, domain, None)
    if drift is not None and drift.certificate:
        message = Text(
            "changed outside certferry: {id} is bound",
            id=short(domain.bound) if domain.bound else Text("nothing"),
        )
        return Trouble("drifted", message, _WHO_CHANGED_IT)
    changes = setting_changes(deployment.https, domain)
    if standing is not Standing.DRIFTED or not changes:
        return None
    message = Text("settings differ from the file: {changes}", changes=in_sentences(changes))
    return Trouble(ReasonCode.SETTINGS_DRIFTED.value, message, _WHO_CHANGED_IT)


def _standing(
    deployment: DesiredDeployment,
    target: ObservedTarget,
    domain: ObservedDomain,
    current: Version | None,
) -> Standing:
    if domain.state is DomainState.UNAVAILABLE:
        return Standing.UNKNOWN
    if domain.state is DomainState.PROCESSING:
        return Standing.PROCESSING
    bound = target.fingerprint_of(domain.bound)
    if current is not None and bound == current.certificate.fingerprint:
        return _standing_when_bound(deployment, target, domain, current)
    if domain.state is DomainState.FAILED:
        return Standing.FAILED
    if drift_of(deployment, target, domain, current):
        return Standing.DRIFTED
    foreign = domain.bound is not None and bound is None
    if current is None:
        return Standing.PENDING
    if foreign and target.remote_of(current.certificate.fingerprint):
        return Standing.DRIFTED
    return _standing_before_it_came(domain, current)


def _standing_before_it_came(domain: ObservedDomain, current: Version) -> Standing:
    """Tell a certificate that is to come from one that was refused, and from one that came and is
    gone.
    """
    last = domain.last
    if last is None or last.fingerprint != current.certificate.fingerprint:
        return Standing.PENDING
    if last.failed_at is not None and last.verified_at is None:
        return Standing.FAILED
    gone = domain.kind.is_receiver and domain.bound is None and last.verified_at is not None
    return Standing.DRIFTED if gone else Standing.PENDING


def _standing_when_bound(
    deployment: DesiredDeployment, target: ObservedTarget, domain: ObservedDomain, current: Version
) -> Standing:
    if domain.kind.is_receiver:
        is_in_order = why_deliver(target, domain, current) is None
        return Standing.VERIFIED if is_in_order else Standing.DRIFTED
    addresses = target.served.get(domain.domain, ())
    if setting_changes(deployment.https, domain):
        return Standing.DRIFTED
    if is_served(addresses, current.certificate.fingerprint):
        return Standing.VERIFIED
    answered = any(address.answered for address in addresses)
    return Standing.PROPAGATING if answered else Standing.BOUND

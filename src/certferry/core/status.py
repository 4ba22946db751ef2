"""How a lineage and its domains stand, in the words of the contract."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from certferry.core import rules, unmatched
from certferry.core.certificate_state import CertificateState, state_of
from certferry.core.deliveries import why_deliver
from certferry.core.desired import DesiredCertificate, DesiredDeployment, Kind
from certferry.core.drift import drift_of
from certferry.core.due import VERIFY_TIMEOUT
from certferry.core.ferried import overdue, why_adopt
from certferry.core.lineage import Version
from certferry.core.observed import (
    DomainState,
    Observation,
    ObservedDomain,
    ObservedTarget,
    Served,
    is_served,
)
from certferry.core.reasons import Reason
from certferry.core.renewal import RenewalWindow, believed, renew_at
from certferry.core.rollbacks import in_words, version_for
from certferry.core.settings import in_sentences, setting_changes
from certferry.core.stuck import stuck_error, stuck_since
from certferry.errors import CertferryError
from certferry.text import Text

WHOLE_ACCOUNT = "*"
"""Stands for the domains of an account that could not be asked which they are, or of which none is
left to serve.
"""


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
    with this `fingerprint`, which the domain is to serve, with a valid name and chain. `ticket` is
    what to send to the target's support.
    """

    target: str
    kind: Kind
    domain: str
    standing: Standing
    remote_id: str | None = None
    upload_deadline: datetime | None = None
    served: tuple[Served, ...] = ()
    problem: Text | None = None
    fingerprint: str | None = None
    ticket: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True)
class LineageStatus:
    """One lineage: its version in force, when it is renewed and why, its domains. `window` is the
    CA's own for it, where that decides.
    """

    lineage: str
    names: tuple[str, ...]
    version: Version | None
    renew_at: datetime | None
    reason: Reason | None
    domains: tuple[DomainStatus, ...]
    ceded: tuple[tuple[str, tuple[str, ...]], ...] = ()
    notices: tuple[tuple[str, CertferryError], ...] = ()
    """What could not be read at a target beside its domains, and what is excluded in vain."""
    window: RenewalWindow | None = None
    state: CertificateState = CertificateState.MISSING

    @property
    def ok(self) -> bool:
        """Whether no domain's change failed, and each could be looked at. What is merely on its way
        is in order.
        """
        return not {d.standing for d in self.domains} & {Standing.FAILED, Standing.UNKNOWN}


def status_of(
    desired: DesiredCertificate,
    observed: Observation,
    now: datetime,
    timeout: timedelta = VERIFY_TIMEOUT,
) -> LineageStatus:
    """Judge what was observed. `reason` is why a certificate would be issued now, if it would, or
    why another client's should have been renewed by now. A target that is at a change for longer
    than `timeout` is stuck.
    """
    current = observed.current
    reason = _reason(desired, observed, now)
    return LineageStatus(
        lineage=desired.lineage,
        names=desired.names,
        version=current,
        renew_at=None if desired.files else _renew_at(current),
        reason=reason,
        state=state_of(current, reason, now),
        domains=tuple(
            status
            for deployment, target in zip(desired.deployments, observed.targets, strict=True)
            for status in _domains(deployment, target, observed.versions, now, timeout)
        ),
        ceded=observed.ceded,
        notices=tuple(
            (target.label, error)
            for deployment, target in zip(desired.deployments, observed.targets, strict=True)
            for error in (*target.unread, *unmatched.remarks(deployment, target))
        ),
        window=None if desired.files or current is None else _window(current),
    )


def _window(current: Version) -> RenewalWindow | None:
    return believed(current.certificate, current.window)


def _reason(desired: DesiredCertificate, observed: Observation, now: datetime) -> Reason | None:
    if observed.is_ceded:  # no certificate is ordered that has nothing to serve
        return None
    if desired.files is not None:
        return why_adopt(desired, observed) or overdue(desired, observed, now)
    return rules.first_violated(desired, observed, now)


def _renew_at(current: Version | None) -> datetime | None:
    return None if current is None else renew_at(current.certificate, current.window)


def _domains(
    deployment: DesiredDeployment,
    target: ObservedTarget,
    versions: tuple[Version, ...],
    now: datetime,
    timeout: timedelta,
) -> tuple[DomainStatus, ...]:
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
        deployment.target, deployment.kind, name, Standing.UNKNOWN, problem=error.message
    )


def _with_ticket(
    status: DomainStatus, domain: ObservedDomain, now: datetime, timeout: timedelta
) -> DomainStatus:
    since = stuck_since(domain, now, timeout)
    if since is None or status.fingerprint is None:
        return status
    error = stuck_error(domain, since, now, served=status.served, fingerprint=status.fingerprint)
    return replace(status, problem=status.problem or error.message, ticket=error.ticket)


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
    return replace(status, problem=in_words(served))


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
    )


def _problem(domain: ObservedDomain) -> Text | None:
    if domain.problem is not None:
        return domain.problem.message
    return None if domain.drift is None else domain.drift.reason.message


def _what_has_drifted(
    deployment: DesiredDeployment,
    target: ObservedTarget,
    domain: ObservedDomain,
    standing: Standing,
) -> Text | None:
    if standing is not Standing.VERIFIED and drift_of(deployment, target, domain, None).certificate:
        return Text("changed outside certferry: {id} is bound", id=domain.bound or "—")
    changes = setting_changes(deployment.https, domain)
    if standing is not Standing.DRIFTED or not changes:
        return None
    return Text("settings differ from the file: {changes}", changes=in_sentences(changes))


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
    brought = current is not None and target.remote_of(current.certificate.fingerprint)
    return Standing.DRIFTED if foreign and brought else Standing.PENDING


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

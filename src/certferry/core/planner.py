"""Write down the difference between what is wanted and what was found. Pure: the same wish,
world and moment give the same plan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from certferry.core import rules, strangers
from certferry.core.deliveries import NEW_CERTIFICATE, plan_delivery
from certferry.core.desired import DesiredCertificate, DesiredDeployment, Retirement
from certferry.core.due import Times, due_of
from certferry.core.lineage import Version
from certferry.core.observed import (
    DomainState,
    Observation,
    ObservedDomain,
    ObservedTarget,
    RemoteCertificate,
    is_served,
)
from certferry.core.plan import (
    Action,
    Change,
    Deploy,
    Issue,
    Obstacle,
    Plan,
    Retire,
    Rollout,
    Verify,
)
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.settings import UNKNOWN, setting_changes
from certferry.errors import CertificateError, TargetRejected
from certferry.text import Text


class Issuing(StrEnum):
    """Whether a certificate may be ordered: when a rule asks for it, in any case, or not now."""

    IF_DUE = "if-due"
    ALWAYS = "always"
    NEVER = "never"


def make_plan(
    desired: DesiredCertificate,
    observed: Observation,
    times: Times,
    issuing: Issuing = Issuing.IF_DUE,
) -> Plan:
    """Plan one lineage, as of a moment in a run."""
    now = times.now
    issue = _issue(desired, observed, times, issuing)
    coming = observed.current if issue is None else _known_already(desired, observed)
    parts = [
        _plan_target(deployment, target, coming, None if issue else times)
        for deployment, target in zip(desired.deployments, observed.targets, strict=True)
    ]
    return Plan(
        lineage=desired.lineage,
        names=desired.names,
        issue=issue,
        rollouts=tuple(rollout for part in parts for rollout in part.rollouts),
        retirements=(
            *_retirements(desired, observed, now, issuing=coming is None),
            *strangers.retirements(desired, observed, now),
        ),
        unchanged=tuple(place for part in parts for place in part.unchanged),
        obstacles=(
            *_overdue(desired, observed, now, parts),
            *(obstacle for part in parts for obstacle in part.obstacles),
        ),
        ceded=observed.ceded,
        notices=_notices(observed),
    )


def _notices(observed: Observation) -> tuple[Obstacle, ...]:
    """Tell once of each thing at a target that could not be read."""
    found = (Obstacle(t.label, None, error) for t in observed.targets for error in t.unread)
    return tuple(dict.fromkeys(found))


def _overdue(
    desired: DesiredCertificate, observed: Observation, now: datetime, parts: list[_TargetPlan]
) -> tuple[Obstacle, ...]:
    """Nothing of ours can help a certificate that its client does not renew, so it is told while
    there is time. Of one that has expired, safety tells where it is to be deployed.
    """
    reason = rules.overdue(desired, observed, now)
    if reason is None:
        return ()
    expired = observed.current is not None and observed.current.certificate.not_after <= now
    if expired and any(rollout.deploy for part in parts for rollout in part.rollouts):
        return ()
    hint = Text("see why its client renews it no more; the next run ferries what it makes")
    return (Obstacle(None, None, CertificateError(reason.message, hint=hint)),)


def _issue(
    desired: DesiredCertificate, observed: Observation, times: Times, issuing: Issuing
) -> Issue | None:
    tried_at = observed.issue_tried_at
    # One try in a run: whatever the CA gave, more orders would not make it better.
    if issuing is Issuing.NEVER or (tried_at is not None and tried_at >= times.begun):
        return None
    ferried = desired.files is not None
    reason = rules.first_violated(desired, observed, times.now)
    if reason is None and issuing is Issuing.ALWAYS and not ferried:
        reason = Reason(ReasonCode.REQUESTED, Text("a new certificate was asked for"))
    if reason is None:
        return None
    action = Action.ADOPT if ferried else Action.ISSUE
    return Issue(desired.names, desired.key_type, reason, action)


def _known_already(desired: DesiredCertificate, observed: Observation) -> Version | None:
    """Give the version in force when all that is to be adopted are other issuers for its leaf: it
    stays in force wherever nobody sees the difference.
    """
    offered, current = desired.offered, observed.current
    if offered is None or current is None:
        return None
    if current.certificate.fingerprint != offered.fingerprint:
        return None
    return replace(current, fullchain_digest=desired.offered_fullchain)


@dataclass(frozen=True, slots=True)
class _TargetPlan:
    rollouts: tuple[Rollout, ...] = ()
    unchanged: tuple[tuple[str, str], ...] = ()
    obstacles: tuple[Obstacle, ...] = ()


def _plan_target(
    deployment: DesiredDeployment,
    target: ObservedTarget,
    coming: Version | None,
    times: Times | None,
) -> _TargetPlan:
    """Plan one deployment. `coming=None` stands for the certificate that is about to be issued;
    until it has come, nothing else has a time.
    """
    if target.failure is not None:
        return _TargetPlan(obstacles=(Obstacle(deployment.target, None, target.failure),))
    if target.is_ceded:
        return _TargetPlan()
    if not target.domains:
        return _TargetPlan(obstacles=(_nothing_to_serve(deployment),))
    usable = [d for d in target.domains if d.state is not DomainState.UNAVAILABLE]
    rollouts = [
        _with_due(_rollout(deployment, target, domain, coming), target, domain, coming, times)
        for domain in usable
    ]
    return _TargetPlan(
        rollouts=tuple(rollout for rollout in rollouts if rollout.steps),
        unchanged=tuple((r.target, r.domain) for r in rollouts if not r.steps),
        obstacles=tuple(
            _unavailable(deployment, domain) for domain in target.domains if domain not in usable
        ),
    )


def _with_due(
    rollout: Rollout,
    target: ObservedTarget,
    domain: ObservedDomain,
    coming: Version | None,
    times: Times | None,
) -> Rollout:
    """Say when the first step is due."""
    if not rollout.steps or coming is None or times is None:
        return rollout
    first, *later = rollout.steps
    due = due_of(
        rollout,
        domain,
        target.served.get(domain.domain, ()),
        fingerprint=coming.certificate.fingerprint,
        times=times,
    )
    return replace(rollout, steps=(replace(first, due=due), *later))


def _rollout(
    deployment: DesiredDeployment,
    target: ObservedTarget,
    domain: ObservedDomain,
    coming: Version | None,
) -> Rollout:
    if domain.kind.is_receiver:
        return plan_delivery(deployment.target, target, domain, coming)
    deploy = _deploy(deployment, target, domain, coming)
    verify = Verify(deployment.target, domain.domain, _not_seen(domain), domain.kind)
    if deploy is not None:
        return Rollout(deployment.target, domain.domain, (deploy, verify))
    if coming is not None and _is_verified(target, domain, coming):
        return Rollout(deployment.target, domain.domain, ())
    return Rollout(deployment.target, domain.domain, (verify,))


def _is_verified(target: ObservedTarget, domain: ObservedDomain, version: Version) -> bool:
    """Done means served, and the target at rest: a change under way may still end otherwise."""
    addresses = target.served.get(domain.domain, ())
    at_rest = domain.state is not DomainState.PROCESSING
    return at_rest and is_served(addresses, version.certificate.fingerprint)


def _deploy(
    deployment: DesiredDeployment,
    target: ObservedTarget,
    domain: ObservedDomain,
    coming: Version | None,
) -> Deploy | None:
    changes = setting_changes(deployment.https, domain)
    reason = _reason_to_deploy(target, domain, coming, changes)
    if reason is None:
        return None
    if reason.code is not ReasonCode.SETTINGS_DRIFTED:
        changes = (_certificate_change(target, domain, coming), *changes)
    return Deploy(deployment.target, domain.domain, deployment.https, reason, changes, domain.kind)


def _reason_to_deploy(
    target: ObservedTarget,
    domain: ObservedDomain,
    coming: Version | None,
    changes: tuple[Change, ...],
) -> Reason | None:
    if domain.bound is None and domain.binding_hidden:
        return Reason(
            ReasonCode.BINDING_UNKNOWN, Text("the target does not tell which certificate is bound")
        )
    if domain.bound is None:
        return Reason(ReasonCode.HTTPS_OFF, Text("HTTPS is off"))
    if coming is None:
        return NEW_CERTIFICATE
    bound = target.fingerprint_of(domain.bound)
    if bound == coming.certificate.fingerprint and not _is_undone(target, domain, coming):
        return _drift(changes)
    if domain.state is DomainState.FAILED and domain.problem is not None:
        sentence = Text("the last change failed: {problem}", problem=domain.problem.message)
        return Reason(ReasonCode.CHANGE_FAILED, sentence)
    if bound is not None:
        return Reason(ReasonCode.SERVES_PREVIOUS, Text("an earlier certificate is bound"))
    sentence = Text("what is bound was not uploaded for it ({id})", id=domain.bound)
    return Reason(ReasonCode.SERVES_FOREIGN, sentence)


def _is_undone(target: ObservedTarget, domain: ObservedDomain, version: Version) -> bool:
    """Tell whether the target names our certificate, failed to bring it out, and does not serve
    it. One that is served everywhere has failed at something else.
    """
    addresses = target.served.get(domain.domain, ())
    failed = domain.state is DomainState.FAILED and domain.problem is not None
    return failed and not is_served(addresses, version.certificate.fingerprint)


def _drift(changes: tuple[Change, ...]) -> Reason | None:
    if not changes:
        return None
    return Reason(ReasonCode.SETTINGS_DRIFTED, Text("settings differ from the file"))


def _certificate_change(
    target: ObservedTarget, domain: ObservedDomain, coming: Version | None
) -> Change:
    bound = target.fingerprint_of(domain.bound)
    before = bound[:16] if bound else (domain.bound or _nothing(domain))
    after = "…" if coming is None else coming.certificate.fingerprint[:16]
    return Change("certificate", before, after)


def _nothing(domain: ObservedDomain) -> str:
    return UNKNOWN.template if domain.binding_hidden else "—"


def _not_seen(domain: ObservedDomain) -> Reason:
    if domain.state is DomainState.PROCESSING:
        return Reason(ReasonCode.NOT_SEEN, Text("the target is carrying out a change"))
    return Reason(ReasonCode.NOT_SEEN, Text("not yet seen at every address"))


def _nothing_to_serve(deployment: DesiredDeployment) -> Obstacle:
    error = TargetRejected(
        Text("no domain of the account {target} is covered", target=deployment.target),
        hint=Text("add the domain at the target first, or name it under `domains`"),
    )
    return Obstacle(deployment.target, None, error)


def _unavailable(deployment: DesiredDeployment, domain: ObservedDomain) -> Obstacle:
    error = domain.problem or TargetRejected(
        Text(
            "{domain} cannot be changed now, and the target does not say why", domain=domain.domain
        )
    )
    return Obstacle(deployment.target, domain.domain, error)


def _retirements(
    desired: DesiredCertificate, observed: Observation, now: datetime, *, issuing: bool
) -> tuple[Retire, ...]:
    """List what of ours has had its time. The newest superseded certificate stays until it
    expires, so that a rollback has something to go back to.
    """
    kept = _kept_fingerprints(observed.versions, now, issuing=issuing)
    # By place, since one account may stand in several deployments.
    retired = {
        (deployment.target, remote.remote_id): _retire(deployment, remote, now)
        for deployment, target in zip(desired.deployments, observed.targets, strict=True)
        if deployment.retire is not Retirement.NEVER and not target.remotes_hidden
        for remote in target.remotes
        if remote.fingerprint not in kept and not _is_said_to_be_used(remote, now)
    }
    return tuple(retired.values())


def _kept_fingerprints(
    versions: tuple[Version, ...], now: datetime, *, issuing: bool
) -> frozenset[str]:
    current, previous = (0, 0) if issuing else (1, 1)
    in_force = versions[:current]
    fallback = [v for v in versions[previous : previous + 1] if v.certificate.not_after > now]
    return frozenset(v.certificate.fingerprint for v in (*in_force, *fallback))


def _is_said_to_be_used(remote: RemoteCertificate, now: datetime) -> bool:
    return remote.in_use_until is not None and now < remote.in_use_until


def _retire(deployment: DesiredDeployment, remote: RemoteCertificate, now: datetime) -> Retire:
    return Retire(
        deployment.target,
        remote.remote_id,
        remote.label,
        Reason(ReasonCode.SUPERSEDED, Text("superseded")),
        not_after=remote.not_after,
        left=remote.not_after - now,
        again=remote.in_use_until is not None,
    )

"""The way of a certificate to each domain of a target: what it takes, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace

from certferry.core.choice import why_new
from certferry.core.deliveries import NEW_CERTIFICATE, plan_delivery
from certferry.core.desired import DesiredDeployment
from certferry.core.due import Times, due_of, due_unread, open_record
from certferry.core.lineage import Version
from certferry.core.observed import DomainState, ObservedDomain, ObservedTarget, is_served
from certferry.core.plan import Blocked, Change, Deploy, Obstacle, Rollout, Verify
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.settings import UNKNOWN, changes_unasked, setting_changes
from certferry.errors import CertferryError, TargetRejected
from certferry.text import Text

_SEEN = Reason(ReasonCode.NOT_SEEN, Text("served by every address, which is not noted down yet"))
_UNREAD = Reason(ReasonCode.NOT_SEEN, Text("under way at a target that cannot be read now"))


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """What must change at the target of one deployment."""

    rollouts: tuple[Rollout, ...] = ()
    unchanged: tuple[tuple[str, str], ...] = ()
    obstacles: tuple[Obstacle, ...] = ()


def plan_target(
    deployment: DesiredDeployment,
    target: ObservedTarget,
    coming: Version | None,
    times: Times | None,
) -> TargetPlan:
    """Plan one deployment. `coming=None` stands for the certificate that is about to be issued;
    until it has come, nothing else has a time.
    """
    if target.failure is not None:
        return _unreadable(deployment, target, target.failure, times)
    if target.is_ceded:
        return TargetPlan()
    if not target.domains:
        in_vain = target.unmatched or target.excluded  # says more: see `core.unmatched`
        return TargetPlan(obstacles=() if in_vain else (_nothing_to_serve(deployment),))
    usable = [d for d in target.domains if d.state is not DomainState.UNAVAILABLE]
    rollouts = [
        _with_due(
            _rollout(deployment, target, domain, coming, times), target, domain, coming, times
        )
        for domain in usable
    ]
    return TargetPlan(
        rollouts=tuple(rollout for rollout in rollouts if rollout.steps),
        unchanged=tuple((r.target, r.domain) for r in rollouts if not r.steps),
        obstacles=tuple(
            _unavailable(deployment, domain) for domain in target.domains if domain not in usable
        ),
    )


def _unreadable(
    deployment: DesiredDeployment,
    target: ObservedTarget,
    failure: CertferryError,
    times: Times | None,
) -> TargetPlan:
    """Look again for what is under way, while there is time: it goes on without us."""
    obstacle = Obstacle(deployment.target, None, failure)
    if times is None or not target.under_way:
        return TargetPlan(obstacles=(obstacle,))
    looks = [
        Verify(deployment.target, record.domain, _UNREAD, due=due_unread(record, failure, times))
        for record in target.under_way
    ]
    # What this run began is told at its domains; else the target itself stands in the way.
    begun_here = any(times.in_this_run(record.asked_at) for record in target.under_way)
    return TargetPlan(
        tuple(Rollout(look.target, look.domain, (look,), unread=True) for look in looks),
        obstacles=() if begun_here else (obstacle,),
    )


def _with_due(
    rollout: Rollout,
    target: ObservedTarget,
    domain: ObservedDomain,
    coming: Version | None,
    times: Times | None,
) -> Rollout:
    """Say when the first step is due. Without a certificate there is nothing to bring anywhere."""
    if not rollout.steps or times is None:
        return rollout
    first, *later = rollout.steps
    if coming is None:
        return replace(rollout, steps=(replace(first, due=Blocked()), *later))
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
    times: Times | None,
) -> Rollout:
    place = (deployment.target, domain.domain)
    if domain.kind.is_receiver:
        return plan_delivery(deployment.target, target, domain, coming)
    deploy = _deploy(deployment, target, domain, coming)
    if deploy is not None and times is not None and _is_new(target, domain, times):
        deploy = replace(deploy, reason=why_new(deployment, domain, deploy.reason))
    verify = Verify(*place, _not_seen(domain), kind=domain.kind)
    if deploy is not None:
        return Rollout(*place, (deploy, verify))
    if coming is None or not _is_verified(target, domain, coming):
        return Rollout(*place, (verify,))
    first_seen = times is not None and open_record(
        domain, coming.certificate.fingerprint, times.now
    )
    return Rollout(*place, (_seen(verify, domain),) if first_seen else ())


def _is_new(target: ObservedTarget, domain: ObservedDomain, times: Times) -> bool:
    """Tell whether a domain comes to others that were seen served before this run."""
    seen = (other.last.verified_at for other in target.domains if other.last is not None)
    is_later = any(moment is not None and not times.in_this_run(moment) for moment in seen)
    return is_later and domain.last is None


def _seen(verify: Verify, domain: ObservedDomain) -> Verify:
    """Say what is to be written down of a certificate that is served at last."""
    last = domain.last
    changes: tuple[Change, ...] = ()
    if last is not None and last.settings_before is not None:
        changes = changes_unasked(last.settings_before, last.sent, domain.https)
    return replace(verify, reason=_SEEN, changes=changes)


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

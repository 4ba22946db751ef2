"""The planner: every step that brings one lineage from the observed to the declared state.

`make_plan` begins with the order (`renewal`), goes on with the rollout of each domain, and ends
with the removals. The same input always gives the same plan.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from msgspec import Struct

from certferry.core.certificates.certificate import FULLCHAIN, short
from certferry.core.certificates.lineage import Version, version_for
from certferry.core.certificates.names import WILDCARD, closeness
from certferry.core.desired import certificate
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.observed import observation
from certferry.core.observed.observation import Observation
from certferry.core.observed.records import RolloutRecord
from certferry.core.planning import plan as plans
from certferry.core.planning.choice import choice_findings, is_found, searches, why_new
from certferry.core.planning.drift import Drift, changes_unasked, drift_of, setting_changes
from certferry.core.planning.limits import longest_pause, rejection_pause
from certferry.core.planning.removals import in_one_run, superseded, unused
from certferry.core.planning.renewal import Issuing, overdue, plan_issue, why_order
from certferry.core.planning.rollbacks import BACK, plan_rollback, rolled_back
from certferry.core.planning.timing import Times, open_record, wait_or_fail, waiting_since, when_of
from certferry.core.reasons import Reason, ReasonCode, applying
from certferry.errors import CertferryError, CertificateError, TargetRejected
from certferry.text import Text
from certferry.values import replace


class Supply(Struct, frozen=True):
    """The certificates available to domains."""

    version: Version | None  #: The version to serve; `None` while still to be issued.
    versions: tuple[Version, ...]  #: The stored versions, newest first.
    times: Times  #: The moments and limits of the plan.
    is_coming: bool = False  #: Whether an order comes first; then no step has a time yet.

    def version_for(self, withdrawn: frozenset[str]) -> Version | None:
        """Return the version for a domain, or `None`. If `version` is withdrawn, this is an earlier
        version.
        """
        if self.version is None or self.version.fingerprint not in withdrawn:
            return self.version
        return version_for(withdrawn, self.versions, self.times.now)


def make_plan(
    desired: DesiredCertificate,
    observed: Observation,
    times: Times,
    issuing: Issuing = Issuing.IF_DUE,
) -> plans.Plan:
    """Return the plan of one lineage at the moment `times.now` of a run."""
    if times.keeps_pauses:
        times = replace(times, longest_pause=longest_pause(observed.versions, times.now))
    issue = plan_issue(desired, observed, times, issuing)
    supply = _supply(desired, observed, times, is_coming=issue is not None and issue.when is None)
    parts = [
        plan_target(deployment, target, supply)
        for deployment, target in zip(desired.deployments, observed.targets, strict=True)
    ]
    rollouts = tuple(rollout for part in parts for rollout in part.rollouts)
    unchanged = tuple(place for part in parts for place in part.unchanged)
    retirements, later = _retirements(desired, observed, supply)
    return plans.Plan(
        lineage=desired.lineage,
        names=desired.names,
        issue=issue,
        rollouts=rollouts,
        retirements=retirements,
        retire_later=tuple(sorted(later.items())),
        unchanged=unchanged,
        findings=(
            *_overdue(desired, observed, supply, deploys=any(step.deploy for step in rollouts)),
            *_rejected(desired, observed, times, issue),
            *_choices(desired, observed),
            *(finding for part in parts for finding in part.findings),
        ),
        owned_elsewhere=observed.owned_elsewhere,
        clean=_clean(desired, observed),
        drifts=tuple(drift for part in parts for drift in part.drifts),
        rolled_back=tuple(rolled_back(unchanged, observed)) if observed.has_withdrawn else (),
    )


def _supply(
    desired: DesiredCertificate, observed: Observation, times: Times, *, is_coming: bool
) -> Supply:
    """Return the supply. Before a new leaf comes, `version` is `None`. If only other issuers come
    for the same leaf, `version` stays, with the new issuers.
    """
    current = observed.current
    if is_coming:
        offered = desired.offered
        if offered is None or current is None or current.fingerprint != offered.fingerprint:
            current = None
        else:
            current = replace(
                current,
                fullchain_digest=desired.offered_fullchain,
                issuer_not_after=desired.offered_issuer_end,
            )
    return Supply(current, observed.versions, times, is_coming)


def _choices(desired: DesiredCertificate, observed: Observation) -> Iterable[plans.PlanFinding]:
    is_plain = all(t.domains and not (t.unread or t.left_out) for t in observed.targets)
    if is_plain and not any(deployment.has_patterns for deployment in desired.deployments):
        return ()  # as in most runs
    return choice_findings(desired, observed)


def _retirements(
    desired: DesiredCertificate, observed: Observation, supply: Supply
) -> tuple[tuple[plans.Retire, ...], Counter[str]]:
    current, times = supply.version, supply.times
    in_force = None if current is None else current.fingerprint
    copies = (remote for target in observed.targets for remote in target.remotes)
    has_others = any(target.others for target in observed.targets)
    if not has_others and all(copy.fingerprint == in_force for copy in copies):
        return (), Counter()  # as in most runs
    ours = superseded(desired, observed, times.now, issuing=current is None)
    return in_one_run((*ours, *unused(desired, observed, times)))


def _clean(desired: DesiredCertificate, observed: Observation) -> plans.Clean | None:
    # If another client makes the certificate by now, no account is declared for the records.
    if desired.files is not None or not observed.remembered.has_challenge_records:
        return None
    sentence = Text("an earlier run left challenge records in DNS")
    return plans.Clean(Reason(ReasonCode.LEFT_BEHIND, sentence))


def _overdue(
    desired: DesiredCertificate, observed: Observation, supply: Supply, *, deploys: bool
) -> Iterator[plans.PlanFinding]:
    """Report an overdue certificate of another client. An expired certificate is left to safety if
    a domain needs a deployment, because safety reports the refused deployment.
    """
    now, current = supply.times.now, observed.current
    reason = overdue(desired, observed, now)
    if reason is None or current is None:
        return
    has_expired = current.certificate.not_after <= now or current.has_expired_issuer(now)
    if has_expired and deploys:
        return
    hint = Text(
        "run the client's renewal by hand on this host, and read its error; the next run deploys"
        " the renewed files"
    )
    yield plans.PlanFinding.of(plans.Weight.BLOCKED, CertificateError(reason.message, hint=hint))


def _rejected(
    desired: DesiredCertificate, observed: Observation, times: Times, issue: plans.Issue | None
) -> Iterator[plans.PlanFinding]:
    """Report the pause after the CA sent a wrong certificate, if the pause holds an order back. A
    wrong certificate of this run is reported elsewhere.
    """
    rejected_at = observed.remembered.rejected_at
    if rejected_at is None or rejected_at >= times.begun or desired.files is not None:
        return
    error = rejection_pause(rejected_at, times.now)
    is_ordered = issue is not None and issue.when is None
    if error is None or is_ordered or not why_order(desired, observed, times.now):
        return
    yield plans.PlanFinding.of(plans.Weight.BLOCKED, error.about(desired.lineage))


# --- The rollout of each domain

BINDING_UNKNOWN = Reason(
    ReasonCode.BINDING_UNKNOWN, Text("the target does not show which certificate the domain has")
)
HTTPS_OFF = Reason(ReasonCode.HTTPS_OFF, Text("HTTPS is off → will be turned on"))
SERVES_PREVIOUS = Reason(ReasonCode.SERVES_PREVIOUS, Text("the domain has an old certificate"))
SETTINGS_DRIFTED = Reason(ReasonCode.SETTINGS_DRIFTED, Text("settings differ from the file"))
NEW_CERTIFICATE = Reason(ReasonCode.NEW_CERTIFICATE, Text("a new certificate is coming"))

NOT_SEEN = Reason(ReasonCode.NOT_SEEN, Text("not yet seen at every address"))
NOT_RECORDED = Reason(ReasonCode.NOT_SEEN, Text("served by every address; not recorded yet"))


class TargetPlan(Struct, frozen=True):
    """The plan for the target of one deployment. The fields become parts of the `Plan`."""

    rollouts: tuple[plans.Rollout, ...] = ()  #: The domains with steps.
    unchanged: tuple[tuple[str, str], ...] = ()  #: (target, domain) of domains as declared.
    findings: tuple[plans.PlanFinding, ...] = ()  #: Problems that the plan cannot solve.
    drifts: tuple[plans.Drifted, ...] = ()  #: Changes of other tools that stay.


def plan_target(
    deployment: certificate.DesiredDeployment, target: observation.ObservedTarget, supply: Supply
) -> TargetPlan:
    """Return the plan of one deployment at the observed target."""
    if target.failure is not None:
        return _unreadable(deployment, target, target.failure, supply)
    cases = [
        _Case(deployment, target, domain, supply, supply.version_for(domain.withdrawn))
        for domain in target.domains
        if domain.state is not observation.DomainState.UNAVAILABLE
    ]
    planned = [_plan_domain(case) for case in cases]
    return TargetPlan(
        rollouts=tuple(rollout for rollout, _ in planned if rollout.steps),
        unchanged=tuple(
            (rollout.target, rollout.domain)
            for rollout, drifted in planned
            if not rollout.steps and not drifted
        ),
        findings=tuple(
            _unavailable(deployment, domain)
            for domain in target.domains
            if domain.state is observation.DomainState.UNAVAILABLE
        ),
        drifts=tuple(drifted for _, drifted in planned if drifted is not None),
    )


_UNREAD = Reason(
    ReasonCode.NOT_SEEN, Text("change in progress at a target that cannot be read right now")
)


def _unreadable(
    deployment: certificate.DesiredDeployment,
    target: observation.ObservedTarget,
    failure: CertferryError,
    supply: Supply,
) -> TargetPlan:
    """Plan a wait for each rollout in progress at an unreadable target, because the target goes on
    with the changes. Without such a rollout, or if an order comes first, report only the failure.
    """
    finding = plans.PlanFinding.of(plans.Weight.BLOCKED, failure, deployment.target)
    times, in_progress = supply.times, target.in_progress
    if supply.is_coming or not in_progress:
        return TargetPlan(findings=(finding,))
    moments: list[plans.When] = [
        wait_or_fail(failure, waiting_since(record, times), times)
        if failure.retry.allowed
        else plans.TimedOut(failure)
        for record in in_progress
    ]
    rollouts = tuple(
        plans.Rollout(
            deployment.target,
            record.domain,
            (plans.Verify(deployment.target, record.domain, _UNREAD, when=when),),
            unread=True,
        )
        for record, when in zip(in_progress, moments, strict=True)
    )
    # If a rollout began in this run, the failure is reported at the domains; if not, at the target.
    begun_here = any(times.in_this_run(record.asked_at) for record in in_progress)
    return TargetPlan(rollouts, findings=() if begun_here else (finding,))


def _unavailable(
    deployment: certificate.DesiredDeployment, domain: observation.ObservedDomain
) -> plans.PlanFinding:
    error = domain.problem or TargetRejected(
        Text(
            "{domain} cannot be changed right now, and the target gives no reason",
            domain=domain.domain,
        )
    )
    return plans.PlanFinding.of(plans.Weight.BLOCKED, error, deployment.target, domain.domain)


class _Case(Struct, frozen=True):
    """A domain to plan, with the deployment, the target and the supply."""

    deployment: certificate.DesiredDeployment  #: The deployment to which the domain belongs.
    target: observation.ObservedTarget  #: The observed target.
    domain: observation.ObservedDomain  #: The observed domain.
    supply: Supply  #: The certificates available.
    version: Version | None  #: The version to serve; `None` while still to be issued.

    @property
    def place(self) -> tuple[str, str]:
        """The account's label and the domain."""
        return self.deployment.target, self.domain.domain

    @property
    def fingerprint(self) -> str | None:
        """The version's fingerprint."""
        return None if self.version is None else self.version.fingerprint

    @property
    def served(self) -> tuple[observation.Served, ...]:
        """The certificates presented by the domain's addresses."""
        return self.target.served.get(self.domain.domain, ())

    @property
    def is_served(self) -> bool:
        """Whether every address that answers presents the version (`observation.is_served`)."""
        return self.fingerprint is not None and observation.is_served(self.served, self.fingerprint)

    def setting_changes(self, https: certificate.DesiredHttps) -> observation.Changes:
        """Return the domain's settings that differ from `https`."""
        return () if https == certificate.DesiredHttps() else setting_changes(https, self.domain)


def _plan_domain(case: _Case) -> tuple[plans.Rollout, plans.Drifted | None]:
    """Return the domain's rollout, and another tool's change if the change stays."""
    deployment = case.deployment
    if case.domain.kind.is_receiver:
        return _with_when(_delivery(case), case), None
    drift = _drift(case)
    if drift is None or deployment.drift is certificate.DriftPolicy.REPAIR:
        rollout = _rollout(case, deployment.https, repair=drift is not None)
        return _with_when(rollout, case), None
    if drift.certificate:
        changes = (_certificate_change(case),)
        return plans.Rollout(*case.place, ()), plans.Drifted(*case.place, deployment.drift, changes)
    rollout = _rollout(case, drift.without(deployment.https), left=drift.settings)
    return _with_when(rollout, case), plans.Drifted(*case.place, deployment.drift, drift.settings)


def _drift(case: _Case) -> Drift | None:
    """Return another tool's changes at the domain, or `None` without any."""
    bound = case.target.fingerprint_of(case.domain.bound)
    is_bound = bound is not None and bound == case.fingerprint
    if case.domain.last is None:
        return None
    if is_bound and not case.setting_changes(case.deployment.https):
        return None
    return drift_of(case.deployment, case.target, case.domain, case.version)


def _rollout(
    case: _Case,
    https: certificate.DesiredHttps,
    *,
    repair: bool = False,
    left: observation.Changes = (),
) -> plans.Rollout:
    deploy = _deploy(case, https, repair=repair, left=left)
    if deploy is not None:
        return plans.Rollout(*case.place, (deploy, _verify(case)))
    record = None
    if case.fingerprint is not None and not case.supply.is_coming:
        record = open_record(case.domain, case.fingerprint, case.supply.times.now)
    # A served certificate counts only once the target is at rest, because an open change may fail.
    if not case.is_served or case.domain.state is observation.DomainState.PROCESSING:
        return plans.Rollout(*case.place, (_rollback(case, record) or _verify(case),))
    if record is None:
        return plans.Rollout(*case.place, ())
    changes: observation.Changes = ()
    if record.settings_before not in {None, case.domain.https}:
        changes = changes_unasked(record.settings_before, record.sent, case.domain.https)
    verify = replace(_verify(case), reason=NOT_RECORDED, changes=changes)
    return plans.Rollout(*case.place, (verify,))


def _verify(case: _Case) -> plans.Verify:
    kind, fingerprint = case.domain.kind, case.fingerprint
    return plans.Verify(*case.place, _not_seen(case), kind=kind, fingerprint=fingerprint)


def _rollback(case: _Case, record: RolloutRecord | None) -> plans.Rollback | None:
    if record is None or case.deployment.on_failure is not certificate.OnFailure.ROLLBACK:
        return None
    previous = case.supply.version_for(case.domain.withdrawn | {record.fingerprint})
    now = case.supply.times.now
    return plan_rollback(case.deployment, case.target, case.domain, record, previous, now)


def _with_when(rollout: plans.Rollout, case: _Case) -> plans.Rollout:
    if not rollout.steps or case.supply.is_coming:
        return rollout
    first, *later = rollout.steps
    if isinstance(first, plans.Rollback):
        return rollout
    if case.fingerprint is None:
        return replace(rollout, steps=(replace(first, when=plans.NotReady()), *later))
    times = replace(case.supply.times, usual=case.target.rules.usual_change)
    when = when_of(rollout, case.domain, case.served, fingerprint=case.fingerprint, times=times)
    return replace(rollout, steps=(replace(first, when=when), *later))


def _deploy(
    case: _Case, https: certificate.DesiredHttps, *, repair: bool, left: observation.Changes
) -> plans.Deploy | None:
    changes = case.setting_changes(https)
    reason = _why_deploy(case, changes)
    if reason is None:
        return None
    if reason.code is not ReasonCode.SETTINGS_DRIFTED:
        changes = (_certificate_change(case), *changes)
    comes_later = case.domain.last is None and any(d.last for d in case.target.domains)
    if comes_later and not case.supply.is_coming:
        reason = why_new(case.deployment, case.target, case.domain, reason, case.supply.times)
    upload_by = None
    if case.version is not None and case.target.remote_of(case.version.fingerprint) is None:
        upload_by = case.target.rules.upload_deadline(case.version.certificate)
    return plans.Deploy(
        *case.place,
        https,
        reason,
        changes,
        case.domain.kind,
        fingerprint=case.fingerprint,
        repair=repair,
        left=left,
        upload_by=upload_by,
    )


def _why_deploy(case: _Case, changes: observation.Changes) -> Reason | None:
    domain = case.domain
    if domain.bound is None:
        return BINDING_UNKNOWN if domain.binding_hidden else HTTPS_OFF
    if case.fingerprint is None:
        return NEW_CERTIFICATE
    bound = case.target.fingerprint_of(domain.bound)
    failure = domain.problem if domain.state is observation.DomainState.FAILED else None
    # If every address serves the certificate, the failure is about another setting.
    if bound == case.fingerprint and (failure is None or case.is_served):
        return SETTINGS_DRIFTED if changes else None
    if failure is not None:
        sentence = Text("the last change failed: {problem}", problem=failure.message)
        return Reason(ReasonCode.CHANGE_FAILED, sentence)
    if bound in domain.withdrawn:
        return BACK
    if bound is not None:
        return SERVES_PREVIOUS
    remote_id = short(domain.bound)
    sentence = Text(
        "the domain has another certificate ({id}), which certferry did not upload for the domain",
        id=remote_id,
    )
    return Reason(ReasonCode.SERVES_FOREIGN, sentence)


def _certificate_change(case: _Case) -> observation.Change:
    bound = case.domain.bound
    return observation.Change(
        observation.CERTIFICATE,
        case.target.fingerprint_of(bound),
        case.fingerprint,
        untold=case.domain.binding_hidden,
        remote_id=bound,
    )


def _not_seen(case: _Case) -> Reason:
    if case.domain.state is not observation.DomainState.PROCESSING:
        return NOT_SEEN
    usual = case.target.rules.usual_change
    return Reason(ReasonCode.NOT_SEEN, applying(case.deployment.target, usual))


def _delivery(case: _Case) -> plans.Rollout:
    reason = why_deliver(case.target, case.domain, case.version)
    if reason is None:
        return plans.Rollout(*case.place, ())
    changes: observation.Changes = (
        observation.Change(observation.CERTIFICATE, case.domain.bound, case.fingerprint),
    )
    if case.version is not None and case.domain.bound == case.fingerprint:
        drift = () if case.domain.drift is None else case.domain.drift.changes
        changes = (*_change_of_issuers(case.domain, case.version), *drift)
    step = plans.Deploy(
        *case.place,
        certificate.DesiredHttps(),
        reason,
        changes,
        case.domain.kind,
        fingerprint=case.fingerprint,
    )
    return plans.Rollout(*case.place, (step,))


def why_deliver(
    target: observation.ObservedTarget, domain: observation.ObservedDomain, version: Version | None
) -> Reason | None:
    """Return why a receiver needs a version, or `None` if the receiver has the version. `version`
    is `None` while the version is still to be issued.
    """
    if version is None:
        return NEW_CERTIFICATE
    if domain.bound is None:
        return Reason(ReasonCode.NOT_DELIVERED, Text("the certificate has not been delivered yet"))
    if domain.bound == version.fingerprint:
        if _change_of_issuers(domain, version):
            sentence = Text("delivered earlier with other issuer certificates")
            return Reason(ReasonCode.DELIVERED_PREVIOUS, sentence)
        return None if domain.drift is None else domain.drift.reason
    if target.fingerprint_of(domain.bound) is not None:
        return Reason(ReasonCode.DELIVERED_PREVIOUS, Text("an earlier certificate was delivered"))
    return Reason(ReasonCode.HOLDS_FOREIGN, Text("another certificate was delivered there"))


def _change_of_issuers(domain: observation.ObservedDomain, version: Version) -> observation.Changes:
    """Return the change if the receiver has the version's leaf with other issuers. An unknown
    digest counts as equal.
    """
    held, wanted = domain.fullchain_digest, version.fullchain_digest
    if held is None or wanted is None or held == wanted:
        return ()
    return (observation.Change(FULLCHAIN, held, wanted),)


class _Claim(NamedTuple):
    """A deployment that may serve a domain."""

    lineage: str  #: The lineage of the deployment.
    deployment: certificate.DesiredDeployment  #: The deployment.


class Claims:
    """Decides which declared certificate serves a domain, quickly even for thousands of
    certificates. A claim is a deployment that names, covers or matches a domain; at most one claim
    owns a domain.

    `elsewhere` maps (target, domain) to a lineage that only other hosts' files declare.
    """

    def __init__(
        self,
        declared: Iterable[certificate.DesiredCertificate] = (),
        elsewhere: Mapping[tuple[str, str], str] = MappingProxyType({}),
    ) -> None:
        all_declared = tuple(declared)
        self.lineages = frozenset(desired.lineage for desired in all_declared)
        self._elsewhere = elsewhere
        self._named: defaultdict[tuple[str, str], list[_Claim]] = defaultdict(list)
        self._covering: defaultdict[tuple[str, str], list[_Claim]] = defaultdict(list)
        for desired in all_declared:
            for deployment in desired.deployments:
                claim, target = _Claim(desired.lineage, deployment), deployment.target
                for domain in deployment.domains or ():
                    self._named[target, domain].append(claim)
                for name in desired.names if searches(deployment) else ():
                    self._covering[target, name].append(claim)

    def owns(
        self,
        lineage: str,
        deployment: certificate.DesiredDeployment,
        domain: str,
        kind: certificate.Kind,
    ) -> bool:
        """Return whether a deployment may serve a domain of this kind: the deployment owns the
        domain, or no deployment owns the domain.
        """
        owner = self._owner(deployment.target, domain, kind)
        return owner is None or owner == (lineage, deployment)

    def owner(self, target: str, domain: str, kind: certificate.Kind) -> str | None:
        """Return the lineage whose claim owns a domain; `None` for an unclaimed domain."""
        owner = self._owner(target, domain, kind)
        return None if owner is None else owner.lineage

    def _owner(self, target: str, domain: str, kind: certificate.Kind) -> _Claim | None:
        """Return the first claim that names a domain. Otherwise return another host's claim.
        Otherwise return the claim whose names and patterns fit the domain most closely, or `None`.
        """
        for claim in self._named.get((target, domain), ()):
            if claim.deployment.kind.is_about(kind):
                return claim
        if (target, domain) in self._elsewhere:
            deployment = certificate.DesiredDeployment(target)
            return _Claim(self._elsewhere[target, domain], deployment)
        _, _, parent = domain.partition(".")
        exact_first = (
            *self._covering.get((target, domain), ()),
            *self._covering.get((target, WILDCARD + parent), ()),
        )
        about = [claim for claim in exact_first if claim.deployment.kind.is_about(kind)]
        if not any(claim.deployment.has_patterns for claim in about):
            return next(iter(about), None)
        finding = (claim for claim in about if is_found(claim.deployment, domain))
        return max(finding, key=lambda c: closeness(c.deployment.globs, domain), default=None)

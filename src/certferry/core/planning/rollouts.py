"""The way of a certificate to each domain of a target: what it takes, and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from certferry.core.certificates.certificate import short
from certferry.core.certificates.lineage import Version
from certferry.core.certificates.names import WILDCARD
from certferry.core.desired.certificate import (
    DesiredCertificate,
    DesiredDeployment,
    DesiredHttps,
    DriftPolicy,
    Kind,
    OnFailure,
)
from certferry.core.observed.observation import (
    CERTIFICATE,
    Change,
    DomainState,
    ObservedDomain,
    ObservedTarget,
    Served,
    is_served,
)
from certferry.core.observed.records import RolloutRecord
from certferry.core.planning.choice import closest, unavailable, unreadable, why_new
from certferry.core.planning.drift import Drift, Drifted, changes_unasked, drift_of, setting_changes
from certferry.core.planning.due import Times, due_of, open_record
from certferry.core.planning.plan import Obstacle, Rollout
from certferry.core.planning.rollbacks import BACK, plan_rollback
from certferry.core.planning.rollouts import NEW_CERTIFICATE, plan_delivery
from certferry.core.planning.steps import Blocked, Deploy, Rollback, Verify
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.waiting import applying
from certferry.errors import CertferryError
from certferry.text import Text

BINDING_UNKNOWN = Reason(
    ReasonCode.BINDING_UNKNOWN, Text("the target does not tell which certificate is bound")
)
HTTPS_OFF = Reason(ReasonCode.HTTPS_OFF, Text("HTTPS is off → will be turned on"))
SERVES_PREVIOUS = Reason(ReasonCode.SERVES_PREVIOUS, Text("an earlier certificate is bound"))
SETTINGS_DRIFTED = Reason(ReasonCode.SETTINGS_DRIFTED, Text("settings differ from the file"))

NOT_SEEN = Reason(ReasonCode.NOT_SEEN, Text("not yet seen at every address"))
NOT_RECORDED = Reason(ReasonCode.NOT_SEEN, Text("served by every address; not recorded yet"))


def change_failed(problem: CertferryError) -> Reason:
    """The target could not carry out the last change."""
    sentence = Text("the last change failed: {problem}", problem=problem.message)
    return Reason(ReasonCode.CHANGE_FAILED, sentence)


def serves_foreign(remote_id: str) -> Reason:
    """A certificate is bound that is none of the lineage's."""
    sentence = Text("the bound certificate was not uploaded for it ({id})", id=short(remote_id))
    return Reason(ReasonCode.SERVES_FOREIGN, sentence)


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """What must change at the target of one deployment."""

    rollouts: tuple[Rollout, ...] = ()
    unchanged: tuple[tuple[str, str], ...] = ()
    obstacles: tuple[Obstacle, ...] = ()
    drifts: tuple[Drifted, ...] = ()


Choice = Callable[[frozenset[str]], Version | None]
"""Gives the certificate that a domain is to serve, without those that were withdrawn there; `None`
while it is about to be issued: until it has come, nothing else has a time.
"""


def plan_target(
    deployment: DesiredDeployment, target: ObservedTarget, choice: Choice, times: Times | None
) -> TargetPlan:
    """Plan one deployment."""
    if target.failure is not None:
        rollouts, obstacles = unreadable(deployment, target, target.failure, times)
        return TargetPlan(rollouts, obstacles=obstacles)
    if not target.domains:  # told by `core.planning.choice`
        return TargetPlan()
    usable = [d for d in target.domains if d.state is not DomainState.UNAVAILABLE]
    parts = [_DomainPlanner(deployment, target, domain, choice, times).plan() for domain in usable]
    planned = [rollout for rollout, _ in parts]
    drifts = tuple(drifted for _, drifted in parts if drifted is not None)
    drifted = {drift.domain for drift in drifts}
    return TargetPlan(
        rollouts=tuple(rollout for rollout in planned if rollout.steps),
        unchanged=tuple(
            (r.target, r.domain) for r in planned if not r.steps and r.domain not in drifted
        ),
        obstacles=tuple(
            unavailable(deployment, domain) for domain in target.domains if domain not in usable
        ),
        drifts=drifts,
    )


class _DomainPlanner:
    """Plans one domain."""

    def __init__(
        self,
        deployment: DesiredDeployment,
        target: ObservedTarget,
        domain: ObservedDomain,
        choice: Choice,
        times: Times | None,
    ) -> None:
        self._deployment = deployment
        self._target = target
        self._domain = domain
        self._choice = choice
        self._version = version = choice(domain.withdrawn)
        self._fingerprint = None if version is None else version.certificate.fingerprint
        self._times = times
        self._place = (deployment.target, domain.domain)
        drift = self._drift()
        self._is_repaired = drift is not None and deployment.drift is DriftPolicy.REPAIR
        self._left = None if self._is_repaired else drift

    def plan(self) -> tuple[Rollout, Drifted | None]:
        """Return the domain's rollout, and what another tool changed there and is left."""
        if self._domain.kind.is_receiver:
            label = self._deployment.target
            return self._with_due(
                plan_delivery(label, self._target, self._domain, self._version)
            ), None
        if self._left is None:
            return self._with_due(self._rollout(self._deployment.https)), None
        if self._left.certificate:
            return Rollout(*self._place, ()), self._left_as_found((self._certificate_change(),))
        rollout = self._rollout(self._left.without(self._deployment.https))
        return self._with_due(rollout), self._left_as_found(self._left.settings)

    def _drift(self) -> Drift | None:
        """Return what another tool changed: nothing where all is as declared, or new."""
        bound = self._target.fingerprint_of(self._domain.bound)
        is_bound = bound is not None and bound == self._fingerprint
        is_as_declared = is_bound and not self._setting_changes(self._deployment.https)
        if is_as_declared or self._domain.last is None:
            return None
        return drift_of(self._deployment, self._target, self._domain, self._version)

    def _left_as_found(self, changes: tuple[Change, ...]) -> Drifted:
        return Drifted(*self._place, self._deployment.drift, changes)

    def _rollout(self, https: DesiredHttps) -> Rollout:
        """Plan what the domain needs."""
        deploy = self._deploy(https)
        verify = Verify(
            *self._place,
            self._not_seen(),
            kind=self._domain.kind,
            fingerprint=self._fingerprint,
        )
        if deploy is not None:
            return Rollout(*self._place, (deploy, verify))
        record = self._open_record()
        if self._fingerprint is None or not self._is_verified(self._fingerprint):
            withdrawn = self._withdrawn(record)
            return Rollout(*self._place, (verify,) if withdrawn is None else (withdrawn,))
        return Rollout(*self._place, () if record is None else (self._seen(verify),))

    def _open_record(self) -> RolloutRecord | None:
        if self._fingerprint is None or self._times is None:
            return None
        return open_record(self._domain, self._fingerprint, self._times.now)

    def _withdrawn(self, record: RolloutRecord | None) -> Rollback | None:
        if self._times is None or self._deployment.on_failure is not OnFailure.ROLLBACK:
            return None
        chosen = set() if self._fingerprint is None else {self._fingerprint}
        previous = self._choice(self._domain.withdrawn | chosen)
        return plan_rollback(
            self._deployment, self._target, self._domain, record, previous, self._times.now
        )

    def _with_due(self, rollout: Rollout) -> Rollout:
        """Say when the first step is due. Without a certificate there is nothing to bring there."""
        if not rollout.steps or self._times is None:
            return rollout
        first, *later = rollout.steps
        if isinstance(first, Rollback):
            return rollout
        if self._fingerprint is None:
            return replace(rollout, steps=(replace(first, due=Blocked()), *later))
        due = due_of(
            rollout,
            self._domain,
            self._served,
            fingerprint=self._fingerprint,
            times=replace(self._times, usual=self._target.rules.usual_change),
        )
        return replace(rollout, steps=(replace(first, due=due), *later))

    @property
    def _served(self) -> tuple[Served, ...]:
        return self._target.served.get(self._domain.domain, ())

    def _seen(self, verify: Verify) -> Verify:
        """Say what is to be written down of a certificate that is served at last."""
        last = self._domain.last
        changes: tuple[Change, ...] = ()
        if last is not None and last.settings_before not in {None, self._domain.https}:
            changes = changes_unasked(last.settings_before, last.sent, self._domain.https)
        return replace(verify, reason=NOT_RECORDED, changes=changes)

    def _is_verified(self, fingerprint: str) -> bool:
        """Done means served, and the target at rest: a change under way may still end otherwise."""
        at_rest = self._domain.state is not DomainState.PROCESSING
        return at_rest and is_served(self._served, fingerprint)

    def _deploy(self, https: DesiredHttps) -> Deploy | None:
        changes = self._setting_changes(https)
        reason = self._reason_to_deploy(changes)
        if reason is None:
            return None
        if reason.code is not ReasonCode.SETTINGS_DRIFTED:
            changes = (self._certificate_change(), *changes)
        comes_later = self._domain.last is None and any(d.last for d in self._target.domains)
        if comes_later and self._times is not None:
            reason = why_new(self._deployment, self._target, self._domain, reason, self._times)
        return Deploy(
            *self._place,
            https,
            reason,
            changes,
            self._domain.kind,
            fingerprint=self._fingerprint,
            repair=self._is_repaired,
            left=() if self._left is None else self._left.settings,
            upload_by=self._upload_by(),
        )

    def _setting_changes(self, https: DesiredHttps) -> tuple[Change, ...]:
        """List where the domain's other settings differ; most files wish nothing of them."""
        return () if https == DesiredHttps() else setting_changes(https, self._domain)

    def _upload_by(self) -> datetime | None:
        if self._version is None:
            return None
        certificate = self._version.certificate
        if self._target.remote_of(certificate.fingerprint) is not None:
            return None
        return self._target.rules.upload_deadline(certificate)

    def _reason_to_deploy(self, changes: tuple[Change, ...]) -> Reason | None:
        domain, fingerprint = self._domain, self._fingerprint
        if domain.bound is None and domain.binding_hidden:
            return BINDING_UNKNOWN
        if domain.bound is None:
            return HTTPS_OFF
        if fingerprint is None:
            return NEW_CERTIFICATE
        bound = self._target.fingerprint_of(domain.bound)
        if bound == fingerprint and not self._is_undone(fingerprint):
            return SETTINGS_DRIFTED if changes else None
        if domain.state is DomainState.FAILED and domain.problem is not None:
            return change_failed(domain.problem)
        if bound in domain.withdrawn:
            return BACK
        if bound is not None:
            return SERVES_PREVIOUS
        return serves_foreign(domain.bound)

    def _is_undone(self, fingerprint: str) -> bool:
        """Tell whether the target names our certificate, failed to bring it out, and does not serve
        it. One that is served everywhere has failed at something else.
        """
        failed = self._domain.state is DomainState.FAILED and self._domain.problem is not None
        return failed and not is_served(self._served, fingerprint)

    def _certificate_change(self) -> Change:
        bound = self._domain.bound
        return Change(
            CERTIFICATE,
            self._target.fingerprint_of(bound),
            self._fingerprint,
            untold=self._domain.binding_hidden,
            remote_id=bound,
        )

    def _not_seen(self) -> Reason:
        if self._domain.state is DomainState.PROCESSING:
            usual = self._target.rules.usual_change
            return Reason(ReasonCode.NOT_SEEN, applying(self._place[0], usual))
        return NOT_SEEN


class _Claim(NamedTuple):
    lineage: str
    deployment: DesiredDeployment


class Claims:
    """What all the declared certificates lay claim to, whichever of them a run is for.

    The names of ferried certificates must have been filled in. To find an owner takes the same
    time with one certificate as with thousands.
    """

    def __init__(self, declared: Iterable[DesiredCertificate] = ()) -> None:
        certificates = tuple(declared)
        self.lineages = frozenset(desired.lineage for desired in certificates)
        self._named: defaultdict[tuple[str, str], list[_Claim]] = defaultdict(list)
        self._covering: defaultdict[tuple[str, str], list[_Claim]] = defaultdict(list)
        for desired in certificates:
            for deployment in desired.deployments:
                self._add(desired, deployment)

    def owns(self, lineage: str, deployment: DesiredDeployment, domain: str, kind: Kind) -> bool:
        """Tell whether this deployment is the one to serve a domain that is such at its target."""
        owner = self._owner(deployment.target, domain, kind)
        return owner is None or owner == (lineage, deployment)

    def owner(self, target: str, domain: str, kind: Kind) -> str | None:
        """Give the lineage that is to serve a domain, `None` when none has a claim."""
        owner = self._owner(target, domain, kind)
        return None if owner is None else owner.lineage

    def _add(self, desired: DesiredCertificate, deployment: DesiredDeployment) -> None:
        claim = _Claim(desired.lineage, deployment)
        if deployment.domains is None or deployment.globs:
            for name in desired.names:
                self._covering[deployment.target, name].append(claim)
        for domain in deployment.domains or ():
            self._named[deployment.target, domain].append(claim)

    def _owner(self, target: str, domain: str, kind: Kind) -> _Claim | None:
        for claim in self._named.get((target, domain), ()):
            if claim.deployment.kind.is_about(kind):
                return claim
        _, _, parent = domain.partition(".")
        exact_first = (
            *self._covering.get((target, domain), ()),
            *self._covering.get((target, WILDCARD + parent), ()),
        )
        about = [claim for claim in exact_first if claim.deployment.kind.is_about(kind)]
        if any(claim.deployment.has_patterns for claim in about):
            return closest(about, domain)
        return next(iter(about), None)

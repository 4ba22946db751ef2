"""What must change for one lineage, as a value, and when each step is due."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from certferry.core.certificates.certificate import KeyType
from certferry.core.desired.certificate import Authority, DesiredHttps, DriftPolicy, Kind
from certferry.core.observed.observation import Changes, Observation, in_one_line
from certferry.core.reasons import Reason, Waiting
from certferry.errors import CertferryError, DeclarationOutdated, Problem, Severity
from certferry.text import Text


class Action(StrEnum):
    """The kinds of step."""

    ISSUE = "issue"
    ADOPT = "adopt"
    DEPLOY = "deploy"
    VERIFY = "verify"
    ROLLBACK = "rollback"
    RETIRE = "retire"
    CLEAN = "clean"


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The run does not wait any longer: the change failed, or takes too long (`error`)."""

    error: CertferryError


@dataclass(frozen=True, slots=True)
class TriedInThisRun:
    """The step failed at this moment, in this run or in another one since this one began."""

    at: datetime


@dataclass(frozen=True, slots=True)
class HeldUntil:
    """The step failed before, or the CA would refuse the order (`error`): not before a moment."""

    until: datetime
    error: CertferryError | None = None


@dataclass(frozen=True, slots=True)
class NotReady:
    """What the step needs is missing: a certificate, or the arrival of another one."""


NotInThisRun = TimedOut | TriedInThisRun | HeldUntil | NotReady

Due = Waiting | NotInThisRun | None
"""When a step is due: `None` now, after the steps before it; after a moment; not in this run."""


@dataclass(frozen=True, slots=True)
class Issue:
    """Order a certificate, or adopt one (`action`), at `authorities` in turn; see `dns_persist`."""

    names: tuple[str, ...]
    key_type: KeyType
    reason: Reason
    action: Action = Action.ISSUE
    due: Due = None
    authorities: tuple[Authority, ...] = ()
    standing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Deploy:
    """Bind a certificate to a domain, after an upload, by `upload_by`, where needed. `fingerprint`
    is `None` before it is issued; a `repair` undoes what another tool changed, `left` stays so.
    """

    target: str
    domain: str
    https: DesiredHttps
    reason: Reason
    changes: Changes = ()
    kind: Kind = Kind.AUTO
    action: Action = Action.DEPLOY
    due: Due = None
    fingerprint: str | None = None
    repair: bool = False
    upload_by: datetime | None = None
    left: Changes = ()


@dataclass(frozen=True, slots=True)
class Verify:
    """Store that every address presents the certificate; `changes` came along unasked."""

    target: str
    domain: str
    reason: Reason
    changes: Changes = ()
    kind: Kind = Kind.AUTO
    action: Action = Action.VERIFY
    due: Due = None
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Rollback:
    """Withdraw a certificate for good, so that the previous one is bound again to a domain."""

    target: str
    domain: str
    reason: Reason
    fingerprint: str
    previous_until: datetime
    kind: Kind = Kind.AUTO
    action: Action = Action.ROLLBACK
    due: Due = None


@dataclass(frozen=True, slots=True)
class Retire:
    """Remove a superseded copy, or an unused `unmanaged` one; `again`: it was refused before."""

    target: str
    remote_id: str
    label: str
    reason: Reason
    not_after: datetime | None = None
    left: timedelta | None = None
    unmanaged: bool = False
    again: bool = False
    action: Action = Action.RETIRE
    due: Due = None


@dataclass(frozen=True, slots=True)
class Clean:
    """Remove challenge records that an earlier run left in DNS."""

    reason: Reason
    action: Action = Action.CLEAN


Step = Issue | Deploy | Verify | Rollback | Retire | Clean


@dataclass(frozen=True, slots=True)
class Rollout:
    """The way of the certificate to one domain. `unread`: its target cannot be read now."""

    target: str
    domain: str
    steps: tuple[Deploy | Verify | Rollback, ...]
    unread: bool = False

    @property
    def due(self) -> Due:
        """When its first step is due."""
        return self.steps[0].due if self.steps else None

    @property
    def is_seen(self) -> bool:
        """Whether the certificate was seen served, which is only to be stored."""
        return self.due is None and all(isinstance(step, Verify) for step in self.steps)

    @property
    def deploy(self) -> Deploy | None:
        """Its deployment, where one is needed."""
        return next((step for step in self.steps if isinstance(step, Deploy)), None)


class Weight(StrEnum):
    """How a finding weighs, from a blocked domain to one that is switched off and not named."""

    BLOCKED = "blocked"
    REFUSED = "refused"
    UNREAD = "unread"
    UNMATCHED = "in_vain"
    SKIPPED = "skipped"

    @property
    def severity(self) -> Severity:
        """Its place on the scale of all problems."""
        if self is Weight.SKIPPED:
            return Severity.NOTICE
        return Severity.ERROR if self in {Weight.BLOCKED, Weight.REFUSED} else Severity.WARNING


@dataclass(frozen=True, slots=True)
class PlanFinding:
    """What a plan found and does not change, such as a frozen domain, or a refused `step`. Without
    a `domain` it is about the deployment, without a `target` about the certificate.
    """

    weight: Weight
    problem: Problem
    target: str | None = None
    domain: str | None = None
    error: CertferryError | None = None
    step: Deploy | None = None

    @classmethod
    def of(
        cls,
        weight: Weight,
        error: CertferryError,
        target: str | None = None,
        domain: str | None = None,
    ) -> PlanFinding:
        """Return an error as a finding."""
        problem = Problem(error.code, error.message, error.hint, weight.severity)
        return cls(weight, problem, target, domain, error)

    @classmethod
    def refused(cls, step: Deploy, reason: Reason, hint: Text) -> PlanFinding:
        """Return why safety refuses a deployment, and what to do instead."""
        problem = Problem(reason.code.value, reason.message, hint)
        return cls(Weight.REFUSED, problem, step.target, step.domain, step=step)


@dataclass(frozen=True, slots=True)
class Drifted:
    """A domain that another tool changed, and that stays like that (`policy`)."""

    target: str
    domain: str
    policy: DriftPolicy
    changes: Changes


@dataclass(frozen=True, slots=True)
class RolledBack:
    """A domain that serves the previous certificate on purpose, in words."""

    target: str
    domain: str
    words: Text


@dataclass(frozen=True, slots=True)
class Plan:
    """What must change for one lineage; `unchanged` holds (target, domain) of what is as declared,
    `findings` what cannot be made so. Retirements of a target wait for its rollouts; `retire_later`
    counts those of later runs. At `owned_elsewhere` other lineages serve all. `drifts` stay as they
    were found, `rolled_back` domains serve the previous certificate on purpose.
    """

    lineage: str
    names: tuple[str, ...]
    issue: Issue | None = None
    rollouts: tuple[Rollout, ...] = ()
    retirements: tuple[Retire, ...] = ()
    unchanged: tuple[tuple[str, str], ...] = ()
    findings: tuple[PlanFinding, ...] = ()
    owned_elsewhere: tuple[tuple[str, tuple[str, ...]], ...] = ()
    clean: Clean | None = None
    drifts: tuple[Drifted, ...] = ()
    rolled_back: tuple[RolledBack, ...] = ()
    retire_later: tuple[tuple[str, int], ...] = ()

    @property
    def issue_now(self) -> Issue | None:
        """The order or adoption to carry out now."""
        return self.issue if self.issue is not None and self.issue.due is None else None

    @property
    def issue_later(self) -> Issue | None:
        """An order that is needed, and not made before a moment."""
        is_held = self.issue is not None and isinstance(self.issue.due, HeldUntil)
        return self.issue if is_held else None

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every step, in the order it is carried out."""
        rolled_out = (step for rollout in self.rollouts for step in rollout.steps)
        found = (self.issue_now, *rolled_out, *self.retirements, self.clean)
        return tuple(step for step in found if step is not None)

    @property
    def ready(self) -> tuple[Step, ...]:
        """The steps to carry out now, in their order."""
        if self.issue_now is not None:
            return (self.issue_now,)  # all that follows depends on what it brings
        # A retirement waits until its successor was seen wherever its target is to serve it.
        unseen = {rollout.target for rollout in self.rollouts if not rollout.is_seen}
        found = (
            *(rollout.steps[0] for rollout in self.rollouts if rollout.due is None),
            *(r for r in self.retirements if r.due is None and r.target not in unseen),
            self.clean,
        )
        return tuple(step for step in found if step is not None)

    @property
    def pending(self) -> tuple[Step, ...]:
        """The steps that change something: none that is tried again, or only stored."""
        seen = {rollout.steps[0] for rollout in self.rollouts if rollout.is_seen}
        again = {step for step in self.retirements if step.again}
        return tuple(step for step in self.steps if step not in seen | again)

    @property
    def timed_out(self) -> tuple[Rollout, ...]:
        """The rollouts that a run would not go on with: what they wait for takes too long."""
        return tuple(one for one in self.rollouts if isinstance(one.due, TimedOut))

    def having(self, *weights: Weight) -> tuple[PlanFinding, ...]:
        """Return the findings of these weights."""
        return tuple(one for one in self.findings if one.weight in weights)

    @property
    def is_outdated(self) -> bool:
        """Whether the certificate is left to hosts whose declaration is newer."""
        return any(one.problem.code == DeclarationOutdated.code for one in self.findings)

    @property
    def is_empty(self) -> bool:
        """Whether no change is pending; findings may still stand."""
        return not self.pending

    @property
    def is_settled(self) -> bool:
        """Whether the world is as declared."""
        bad = self.having(Weight.BLOCKED, Weight.REFUSED)
        return self.is_empty and not bad and self.issue_later is None


Doubt = tuple[str, str, str]
"""A target, a domain or `""`, and what is doubtful about it."""


def doubts_in(plan: Plan, observed: Observation) -> frozenset[Doubt]:
    """Return what another run may explain: new drift, waits that timed out, unknown copies."""
    if not (plan.rollouts or plan.retirements or plan.findings or plan.drifts):
        return frozenset()  # as in nearly every pass
    timed_out = (
        (rollout.target, rollout.domain, rollout.steps[0].fingerprint or "")
        for rollout in plan.timed_out
        if not rollout.unread
    )
    known = {(upload.target, upload.remote_id) for upload in observed.remembered.uploads}
    removed = (step for step in plan.ready if isinstance(step, Retire) and not step.unmanaged)
    unknown = (
        (step.target, "", step.remote_id)
        for step in removed
        if (step.target, step.remote_id) not in known
    )
    return frozenset((*_changed(plan, observed), *timed_out, *unknown))


def _changed(plan: Plan, observed: Observation) -> Iterator[Doubt]:
    deploys = (rollout.deploy for rollout in plan.rollouts)
    refused = (finding.step for finding in plan.findings)
    repairs = (step for step in (*deploys, *refused) if step is not None and step.repair)
    found = [(step.target, step.domain, step.changes) for step in repairs]
    found += ((drift.target, drift.domain, drift.changes) for drift in plan.drifts)
    for target, domain, changes in found:
        last, said = observed.locate(target, domain)[1].last, in_one_line(changes)
        if last is None or last.drift != said:
            yield target, domain, said

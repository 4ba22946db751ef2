"""Refuse what a target would refuse, or what would break a site, before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from certferry.core import safety_words as words
from certferry.core.certificate import covered_by
from certferry.core.desired import DesiredCertificate
from certferry.core.full_account import refuse_upload
from certferry.core.lineage import Version
from certferry.core.observed import Observation, ObservedTarget
from certferry.core.older_state import refuse_older
from certferry.core.plan import Plan, Refusal
from certferry.core.policies import DriftPolicy
from certferry.core.reasons import ReasonCode
from certferry.core.repairs import refuse_fought_over
from certferry.core.steps import Deploy


@dataclass(frozen=True, slots=True)
class _Case:
    """One deployment before it is carried out. `found=None`: the certificate is yet to come."""

    step: Deploy
    desired: DesiredCertificate
    observed: Observation
    found: Version | None
    now: datetime

    @property
    def version(self) -> Version:
        """The version that is to be deployed, once it has come."""
        if self.found is None:
            raise LookupError(self.desired.lineage)
        return self.found

    @property
    def target(self) -> ObservedTarget:
        """The target as it was found."""
        return self.observed.target_of(self.step.target, self.step.domain)

    @property
    def is_uploaded(self) -> bool:
        """Whether it lies at the target already: then it is only bound, which no rule forbids."""
        return self.target.remote_of(self.version.certificate.fingerprint) is not None


_Check = Callable[[_Case], Refusal | None]


def without_refused(
    plan: Plan, desired: DesiredCertificate, observed: Observation, now: datetime
) -> Plan:
    """Take every refused deployment, and what follows from it, out of the plan and say why. Nothing
    of ours is retired at a target where something stands in the way: its successor is not seen
    there. What is unused goes all the same where that is what makes room.
    """
    deployments = (rollout.deploy for rollout in plan.rollouts)
    cases = (
        _Case(step, desired, observed, _version(step, plan, observed), now)
        for step in deployments
        if step
    )
    refusals = tuple(refusal for refusal in map(_refusal, cases) if refusal is not None)
    refused = {(refusal.step.target, refusal.step.domain) for refusal in refusals}
    full = {r.step.target for r in refusals if r.reason.code is ReasonCode.ACCOUNT_FULL}
    others = {r.step.target for r in refusals if r.reason.code is not ReasonCode.ACCOUNT_FULL}
    blocked = {obstacle.target for obstacle in plan.obstacles} | others
    blocked |= {drift.target for drift in plan.drifts if drift.policy is DriftPolicy.WARN}
    obstructed = blocked | full
    if not refusals and not obstructed:
        return plan  # as in most runs
    return replace(
        plan,
        rollouts=tuple(r for r in plan.rollouts if (r.target, r.domain) not in refused),
        refusals=refusals,
        retirements=tuple(
            r for r in plan.retirements if r.target not in (blocked if r.unmanaged else obstructed)
        ),
        retire_later=tuple(one for one in plan.retire_later if one[0] not in obstructed),
    )


def _version(step: Deploy, plan: Plan, observed: Observation) -> Version | None:
    return None if plan.issue else observed.version(step.fingerprint)


def _refusal(case: _Case) -> Refusal | None:
    checks = CHECKS if case.found is not None else CHECKS_BEFORE_IT_COMES
    is_receiver = case.step.kind.is_receiver
    found = (check(case) for check in checks if not is_receiver or check in CHECKS_FOR_RECEIVERS)
    return next((refusal for refusal in found if refusal is not None), None)


def refuse_older_state(case: _Case) -> Refusal | None:
    """The state is not older than the world."""
    is_older = any(target.unremembered for target in case.observed.targets)
    return refuse_older(case.step, case.desired, case.observed) if is_older else None


def refuse_uncovered_name(case: _Case) -> Refusal | None:
    """The certificate covers the domain."""
    is_covered = covered_by(case.desired.names, case.step.domain)
    return None if is_covered else words.name_not_covered(case.step, case.desired)


def refuse_foreign_key(case: _Case) -> Refusal | None:
    """The private key belongs to the certificate."""
    is_own = case.version.key_matches
    return None if is_own else words.key_mismatch(case.step, case.desired)


def refuse_incomplete_chain(case: _Case) -> Refusal | None:
    """The issuer certificates are there, in order."""
    is_complete = case.version.chain_complete
    return None if is_complete else words.chain_incomplete(case.step, case.desired)


def refuse_revoked(case: _Case) -> Refusal | None:
    """The certificate was not revoked."""
    revocation = case.version.revocation
    return None if revocation is None else words.revoked(case.step, case.desired, revocation)


def refuse_expired(case: _Case) -> Refusal | None:
    """It is valid still, and what signed it: what is there may be, even if this is not renewed."""
    version, now = case.version, case.now
    is_over = version.certificate.not_after <= now or version.has_expired_issuer(now)
    return words.expired(case.step, case.desired, version, now) if is_over else None


def refuse_too_little_life(case: _Case) -> Refusal | None:
    """The target would accept an upload: long enough until the certificate ends."""
    left, wanted = case.version.certificate.remaining(case.now), case.target.rules.min_remaining
    if case.is_uploaded or left >= wanted:
        return None
    return words.too_little_life(case.step, case.desired, left=left, wanted=wanted)


def refuse_no_common_name(case: _Case) -> Refusal | None:
    """The certificate has a common name, where the target asks for one."""
    certificate, rules = case.version.certificate, case.target.rules
    if case.is_uploaded:
        return None
    # What another client made is tried: whether the target refuses it is not known.
    is_ours = case.desired.files is None
    if is_ours and rules.needs_common_name and not certificate.common_name:
        return words.common_name_missing(case.step)
    return None


def refuse_full_account(case: _Case) -> Refusal | None:
    """The account takes one certificate more, where this one is not there yet."""
    quota = case.target.quota
    is_full = quota is not None and quota.is_full(case.now)
    return refuse_upload(case.step, case.desired, case.observed) if is_full else None


def refuse_endless_repair(case: _Case) -> Refusal | None:
    """The domain was not set right over and over: another tool changes it as well."""
    # The last repair may be under way still.
    is_due = case.step.repair and case.step.due is None
    return refuse_fought_over(case.step, case.observed, case.now) if is_due else None


CHECKS: tuple[_Check, ...] = (
    refuse_older_state,
    refuse_uncovered_name,
    refuse_foreign_key,
    refuse_incomplete_chain,
    refuse_revoked,
    refuse_expired,
    refuse_too_little_life,
    refuse_no_common_name,
    refuse_full_account,
    refuse_endless_repair,
)

CHECKS_BEFORE_IT_COMES = (refuse_uncovered_name, refuse_full_account, refuse_endless_repair)
"""What can be said while the certificate is yet to be issued."""

CHECKS_FOR_RECEIVERS: tuple[_Check, ...] = (
    refuse_older_state,
    refuse_foreign_key,
    refuse_incomplete_chain,
    refuse_revoked,
    refuse_expired,
)
"""What takes a certificate whole has no name that it must cover."""

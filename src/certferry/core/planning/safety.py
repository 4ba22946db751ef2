"""Safety: refuse deployments that a target would refuse, or that would break a site."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from msgspec import Struct

from certferry.core.certificates.certificate import covered_by
from certferry.core.certificates.lineage import Version, is_owner
from certferry.core.desired.certificate import DesiredCertificate, DriftPolicy
from certferry.core.findings import Code, error, warning
from certferry.core.observed.observation import Observation, ObservedTarget
from certferry.core.planning.drift import next_repair, recent
from certferry.core.planning.plan import Deploy, Plan, PlanFinding, Weight
from certferry.core.planning.renewal import expired_issuer
from certferry.core.reasons import Reason, ReasonCode
from certferry.errors import Problem
from certferry.text import Text
from certferry.values import replace

TIGHT = timedelta(days=7)
"""`judge_at_target` warns if a new certificate can be uploaded for less than this time: for the
lifetime minus the validity that the target requires. Runs may fail for a week, as over a holiday.
"""

_RENEWED = Text("run `certferry sync --renew {lineage}`")
_RENEWED_ELSEWHERE = Text(
    "have the certificate's client issue it again; certferry only deploys {lineage}"
)
_COMMON_NAME = Text("use a profile with a common name (`classic`)")
_NO_COMMON_NAME = Text("{target} refuses certificates without a common name")
_LIVE_LONGER = Text(
    "use a profile or CA whose certificates live longer, or set `min_remaining_days` of the"
    " account {target} if the target accepts shorter lifetimes"
)

_KEY_MISMATCH = Reason(
    ReasonCode.KEY_MISMATCH, Text("the private key does not belong to the certificate")
)
_CHAIN_INCOMPLETE = Reason(
    ReasonCode.CHAIN_INCOMPLETE,
    Text("the chain is incomplete: the leaf is not followed by its issuer certificates"),
)


def _expired(version: Version, now: datetime) -> Iterator[Reason]:
    """Yield a reason if the certificate has expired, and a reason if the issuer has expired."""
    not_after = version.certificate.not_after
    if not_after <= now:
        sentence = Text("the certificate expired at {moment}", moment=not_after)
        yield Reason(ReasonCode.EXPIRED, sentence)
    unsigned = expired_issuer(version, now)
    if unsigned is not None:
        yield unsigned


def judge_version(
    desired: DesiredCertificate, version: Version, now: datetime
) -> Iterator[Problem]:
    """Yield the problems of a version that do not depend on a target: key, chain, expiry."""
    lineage = desired.lineage
    fix = (_RENEWED_ELSEWHERE if desired.files else _RENEWED).filled(lineage=lineage)
    wrong = (
        None if version.key_matches else _KEY_MISMATCH,
        None if version.chain_complete else _CHAIN_INCOMPLETE,
        *_expired(version, now),
    )
    for reason in filter(None, wrong):
        yield error(Code(reason.code.value), lineage, reason.message, fix)


def judge_at_target(
    desired: DesiredCertificate, version: Version, target: ObservedTarget
) -> Iterator[Problem]:
    """Yield the problems that a target has with every certificate like this version: no common
    name, or a lifetime that leaves no or little time for an upload.
    """
    lineage, certificate, rules = desired.lineage, version.certificate, target.rules
    if rules.needs_common_name and not certificate.common_name:
        message = _NO_COMMON_NAME.filled(target=target.label)
        yield error(Code.COMMON_NAME_MISSING, lineage, message, _COMMON_NAME)
    lifetime, window = certificate.lifetime, certificate.lifetime - rules.min_remaining
    fix = _LIVE_LONGER.filled(target=target.label)
    if window <= timedelta(0) and rules.min_remaining:
        message = Text(
            "certificates of this kind live {lifetime}, but {target} requires {wanted} left"
        ).filled(lifetime=lifetime, target=target.label, wanted=rules.min_remaining)
        yield error(Code.LIFETIME_TOO_SHORT, lineage, message, fix)
    elif window < TIGHT and rules.min_remaining:
        message = Text(
            "certificates of this kind live {lifetime}, with {window} of it to upload them to"
            " {target}",
            lifetime=lifetime,
            window=window,
            target=target.label,
        )
        yield warning(Code.LIFETIME_TIGHT, lineage, message, fix)


class _Case(Struct, frozen=True):
    """A deployment to check."""

    step: Deploy  #: The deployment.
    desired: DesiredCertificate  #: The declaration.
    observed: Observation  #: The observation.
    issued: Version | None  #: The version to deploy; `None` while still to be issued.
    now: datetime  #: The moment of the check.

    @property
    def version(self) -> Version:
        """The version to deploy. Raises `LookupError` before the certificate is issued."""
        if self.issued is None:
            raise LookupError(self.desired.lineage)
        return self.issued

    @property
    def target(self) -> ObservedTarget:
        """The observed target."""
        return self.observed.locate(self.step.target, self.step.domain)[0]

    @property
    def is_uploaded(self) -> bool:
        """Whether the target has a copy. If so, the step only binds the copy, and the target's
        rules for uploads do not apply.
        """
        return self.target.remote_of(self.version.fingerprint) is not None

    @property
    def another_one(self) -> Text:
        """The advice for a problem that only another certificate solves."""
        if self.desired.files is not None:
            return Text(
                "renew the certificate with its client; the present certificate stays until then"
            )
        return Text(
            "the next run tries to issue a certificate again; `certferry history {lineage}` shows"
            " the reason of the failure. The present certificate stays until then",
            lineage=self.desired.lineage,
        )


Refusal = tuple[Reason, Text] | None
"""Why a deployment is refused, with the advice; `None` if a check finds no fault. The docstring of
each check says what the check demands.
"""

_Check = Callable[[_Case], Refusal]


def without_refused(
    plan: Plan, desired: DesiredCertificate, observed: Observation, now: datetime
) -> Plan:
    """Return the plan without refused deployments, with a finding for each. Removals are left out
    at targets with a refused deployment, a blocked finding, or drift under `drift = "warn"`. At a
    full account the removals of unused copies stay, because they make room.
    """
    refusals: list[PlanFinding] = []
    for step in filter(None, (rollout.deploy for rollout in plan.rollouts)):
        version = None if plan.issue_now else observed.version(step.fingerprint)
        refusal = _refusal(_Case(step, desired, observed, version, now))
        if refusal is not None:
            refusals.append(PlanFinding.refused(step, *refusal))
    refused = {(refusal.target, refusal.domain) for refusal in refusals}
    full = {r.target for r in refusals if r.problem.code == ReasonCode.ACCOUNT_FULL}
    blocked = {r.target for r in refusals if r.problem.code != ReasonCode.ACCOUNT_FULL}
    blocked |= {finding.target for finding in plan.having(Weight.BLOCKED)}
    blocked |= {drift.target for drift in plan.drifts if drift.policy is DriftPolicy.WARN}
    obstructed = blocked | full
    if not refusals and not obstructed:
        return plan  # as in most runs
    return replace(
        plan,
        rollouts=tuple(r for r in plan.rollouts if (r.target, r.domain) not in refused),
        findings=(*plan.findings, *refusals),
        retirements=tuple(
            r for r in plan.retirements if r.target not in (blocked if r.unmanaged else obstructed)
        ),
        retire_later=tuple(left for left in plan.retire_later if left[0] not in obstructed),
    )


def _refusal(case: _Case) -> Refusal:
    skipped = NOT_FOR_RECEIVERS if case.step.kind.is_receiver else frozenset[_Check]()
    if case.issued is None:
        skipped |= frozenset(CHECKS) - CHECKS_BEFORE_IT_COMES
    refusals = (check(case) for check in CHECKS if check not in skipped)
    return next(filter(None, refusals), None)


def state_is_not_older(case: _Case) -> Refusal:
    """No target has a copy with the lineage's label (`is_owner`) that is newer than every version
    in the state. Certificates of another client pass.
    """
    lineage = case.desired.lineage
    begins = [version.certificate.not_before for version in case.observed.versions]
    newer = [
        (other.not_before, other)
        for target in case.observed.targets
        for other in target.unremembered
        if other.not_before is not None
        and is_owner(lineage, other.label)
        and all(other.not_before > begin for begin in begins)
    ]
    if case.desired.files is not None or not newer:
        return None
    begin, newest = max(newer, key=lambda pair: pair[0])
    sentence = Text(
        "{label}, valid from {moment}, is already there and newer than every certificate in"
        " the state"
    ).filled(label=newest.label, moment=begin)
    hint = Text(
        "the state is an older copy, or another host has a certificate under the same name: put"
        " the newest state back, or run `certferry sync --renew {lineage}` for a still newer"
        " certificate",
        lineage=lineage,
    )
    return Reason(ReasonCode.STATE_OLDER, sentence), hint


def domain_is_covered(case: _Case) -> Refusal:
    """The declared names cover the domain."""
    domain, desired = case.step.domain, case.desired
    if covered_by(desired.names, domain):
        return None
    sentence = Text("{domain} is not covered by {names}", domain=domain, names=desired.names)
    hint = Text("add {domain} to the names of {lineage}, or remove it from `domains`").filled(
        domain=domain, lineage=desired.lineage
    )
    return Reason(ReasonCode.NAME_NOT_COVERED, sentence), hint


def key_belongs(case: _Case) -> Refusal:
    """The private key belongs to the certificate."""
    lineage = case.desired.lineage
    hint = Text("run `certferry sync --renew {lineage}` for a new pair", lineage=lineage)
    return None if case.version.key_matches else (_KEY_MISMATCH, hint)


def chain_is_complete(case: _Case) -> Refusal:
    """The issuer certificates are complete and in the right order."""
    hint = Text(
        "run `certferry sync --renew {lineage}` for a new certificate with its chain",
        lineage=case.desired.lineage,
    )
    return None if case.version.chain_complete else (_CHAIN_INCOMPLETE, hint)


def is_not_revoked(case: _Case) -> Refusal:
    """The certificate is not revoked, and no revocation was begun."""
    revocation = case.version.revocation
    return None if revocation is None else (revocation.why, case.another_one)


def has_not_expired(case: _Case) -> Refusal:
    """Neither the certificate nor the issuer has expired."""
    reason = next(_expired(case.version, case.now), None)
    return None if reason is None else (reason, case.another_one)


def lives_long_enough(case: _Case) -> Refusal:
    """The target has a copy, or would accept an upload by the time left until expiry."""
    left, wanted = case.version.certificate.remaining(case.now), case.target.rules.min_remaining
    if case.is_uploaded or left >= wanted:
        return None
    target = case.step.target
    sentence = Text(
        "{left} left, but {target} accepts only certificates with at least {wanted} left"
    ).filled(left=left, target=target, wanted=wanted)
    hint = _LIVE_LONGER.filled(target=target)
    if case.desired.files is not None:
        hint = Text("renew the certificate with its client; the next run deploys the files")
    return Reason(ReasonCode.TOO_LITTLE_LIFE, sentence), hint


def has_common_name(case: _Case) -> Refusal:
    """The certificate has a common name, if the target demands a common name at upload."""
    is_needed = case.target.rules.needs_common_name and not case.version.certificate.common_name
    # Certificates of another client are tried, because the target may take them after all.
    if not is_needed or case.is_uploaded or case.desired.files is not None:
        return None
    sentence = _NO_COMMON_NAME.filled(target=case.step.target)
    return Reason(ReasonCode.COMMON_NAME_MISSING, sentence), _COMMON_NAME


_NEEDED = 2
"""How many versions are still needed: the version in force, and the previous version as a way back.
"""


def account_has_room(case: _Case) -> Refusal:
    """The account does not count as full, or already has a copy of this certificate."""
    target, step = case.target, case.step
    quota = target.quota
    if quota is None or not quota.is_full(case.now):
        return None
    if step.fingerprint and target.remote_of(step.fingerprint) is not None:
        return None
    needed = {version.fingerprint for version in case.observed.versions[:_NEEDED]}
    sentence = Text(
        "{target} holds {held} certificates, and refused the last upload because the account"
        " was full, at {most}"
    ).filled(target=step.target, held=quota.held, most=quota.most)
    hint = Text(
        'remove unused certificates in the target\'s console, set retire = "all-unused" to have'
        " certferry remove them, or ask the target's support to raise the quota; then run:"
        " certferry sync --quota-raised. Superseded certificates of {lineage} there: {count}."
        " certferry tries again after {moment}",
        lineage=case.desired.lineage,
        count=sum(remote.fingerprint not in needed for remote in target.remotes),
        moment=quota.until,
    )
    return Reason(ReasonCode.ACCOUNT_FULL, sentence), hint


def is_not_fought_over(case: _Case) -> Refusal:
    """The step repairs no drift, or the domain was repaired rarely (`drift.PER_DAY`). Frequent
    repairs show that another tool changes the domain again and again.
    """
    step = case.step
    # The last repair may still be in progress.
    if not step.repair or step.when is not None:
        return None
    last = case.observed.locate(step.target, step.domain)[1].last
    repairs = () if last is None else last.repairs
    after = next_repair(repairs, case.now)
    if after is None:
        return None
    sentence = Text(
        "certferry repaired {domain} at {moments}, and the domain has changed again: another"
        " tool changes it"
    ).filled(domain=step.domain, moments=list(recent(repairs, case.now)))
    hint = Text(
        'stop the other tool, or write drift = "warn" into the deployment; certferry repairs the'
        " domain again after {moment}",
        moment=after,
    )
    return Reason(ReasonCode.FOUGHT_OVER, sentence), hint


CHECKS: tuple[_Check, ...] = (
    state_is_not_older,
    domain_is_covered,
    key_belongs,
    chain_is_complete,
    is_not_revoked,
    has_not_expired,
    lives_long_enough,
    has_common_name,
    account_has_room,
    is_not_fought_over,
)

CHECKS_BEFORE_IT_COMES: frozenset[_Check] = frozenset(
    (domain_is_covered, account_has_room, is_not_fought_over)
)
"""The checks possible before the certificate is issued."""

NOT_FOR_RECEIVERS = CHECKS_BEFORE_IT_COMES | {lives_long_enough, has_common_name}
"""The checks that do not apply to receivers, which have neither domains nor rules."""

"""Refuse what a target would refuse, or what would break a site, before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from certferry.core.certificates.certificate import covered_by
from certferry.core.certificates.lineage import Revocation, Version, is_owner
from certferry.core.desired.certificate import DesiredCertificate, DriftPolicy
from certferry.core.findings import Code, error, warning
from certferry.core.observed.observation import Observation, ObservedTarget
from certferry.core.observed.records import OtherCertificate
from certferry.core.planning import rules as issue_reasons
from certferry.core.planning.plan import Plan, Refusal
from certferry.core.planning.repairs import refuse_fought_over
from certferry.core.planning.rules import issuer_expired
from certferry.core.planning.steps import Deploy
from certferry.core.reasons import Reason, ReasonCode
from certferry.problem import Problem
from certferry.text import Text

TIGHT = timedelta(days=7)
"""A run that fails for this long, over a holiday, should still find a way to upload."""

_RENEWED = Text("run `certferry sync --renew {lineage}`")
_RENEWED_ELSEWHERE = Text("have its own client issue it again; certferry only deploys {lineage}")


def judge_version(
    desired: DesiredCertificate, version: Version, now: datetime
) -> Iterator[Problem]:
    """Judge the version in force by itself."""
    lineage = desired.lineage
    fix = (_RENEWED if desired.files is None else _RENEWED_ELSEWHERE).filled(lineage=lineage)
    if not version.key_matches:
        said = Text("the private key does not belong to the certificate")
        yield error(Code.KEY_MISMATCH, lineage, said, fix)
    if not version.chain_complete:
        said = Text("the chain is incomplete: the leaf is not followed by its issuer certificates")
        yield error(Code.CHAIN_INCOMPLETE, lineage, said, fix)
    if version.certificate.not_after <= now:
        said = Text("the certificate expired at {moment}", moment=version.certificate.not_after)
        yield error(Code.EXPIRED, lineage, said, fix)
    unsigned = issuer_expired(version, now)
    if unsigned is not None:
        yield error(Code.ISSUER_EXPIRED, lineage, unsigned.message, fix)


def judge_at_target(
    desired: DesiredCertificate, version: Version, target: ObservedTarget
) -> Iterator[Problem]:
    """Judge certificates like this one by what a target takes: the common name, and how long after
    its beginning one can be uploaded.
    """
    lineage, certificate, rules = desired.lineage, version.certificate, target.rules
    if rules.needs_common_name and not certificate.common_name:
        said = Text("{target} refuses certificates without a common name", target=target.label)
        fix = Text("use a profile that sets one (`classic`)")
        yield error(Code.COMMON_NAME_MISSING, lineage, said, fix)
    if rules.min_remaining:
        window = rules.upload_deadline(certificate) - certificate.not_before
        yield from _life(lineage, version, target, window)


def _life(
    lineage: str, version: Version, target: ObservedTarget, window: timedelta
) -> Iterator[Problem]:
    """Tell when the time between the issuance and the last upload is too little."""
    lifetime = version.certificate.lifetime
    fix = Text(
        "use a profile or CA whose certificates live longer, or set `min_remaining_days` of the"
        " account {target} if it takes shorter ones",
        target=target.label,
    )
    if window <= timedelta(0):
        said = Text(
            "certificates like this live {lifetime}, and {target} takes those with {wanted} left",
            lifetime=lifetime,
            target=target.label,
            wanted=target.rules.min_remaining,
        )
        yield error(Code.LIFETIME_TOO_SHORT, lineage, said, fix)
    elif window < TIGHT:
        said = Text(
            "certificates like this live {lifetime}, of which {window} are left to upload them to"
            " {target}",
            lifetime=lifetime,
            window=window,
            target=target.label,
        )
        yield warning(Code.LIFETIME_TIGHT, lineage, said, fix)


def name_not_covered(step: Deploy, desired: DesiredCertificate) -> Refusal:
    """The certificate does not cover the domain."""
    sentence = Text("{domain} is not covered by {names}", domain=step.domain, names=desired.names)
    hint = Text(
        "add {domain} to the names of {lineage}, or take it out of `domains`",
        domain=step.domain,
        lineage=desired.lineage,
    )
    return _refused(step, ReasonCode.NAME_NOT_COVERED, sentence, hint)


def key_mismatch(step: Deploy, desired: DesiredCertificate) -> Refusal:
    """The private key is another certificate's."""
    sentence = Text("the private key does not belong to the certificate")
    hint = Text("run `certferry sync --renew {lineage}` for a new pair", lineage=desired.lineage)
    return _refused(step, ReasonCode.KEY_MISMATCH, sentence, hint)


def chain_incomplete(step: Deploy, desired: DesiredCertificate) -> Refusal:
    """Issuer certificates are missing, or stand in another order."""
    sentence = Text("the chain is incomplete: the leaf is not followed by its issuer certificates")
    hint = Text(
        "run `certferry sync --renew {lineage}` for a new certificate with its chain",
        lineage=desired.lineage,
    )
    return _refused(step, ReasonCode.CHAIN_INCOMPLETE, sentence, hint)


def revoked(step: Deploy, desired: DesiredCertificate, revocation: Revocation) -> Refusal:
    """The certificate was revoked."""
    return Refusal(step, revocation.why, _another_one(desired))


def expired(
    step: Deploy, desired: DesiredCertificate, version: Version, now: datetime
) -> Refusal | None:
    """The certificate, or what signed it, is not valid any more; `None` where both are."""
    not_after = version.certificate.not_after
    reason = issue_reasons.issuer_expired(version, now)
    if not_after <= now:
        sentence = Text("the certificate expired at {moment}", moment=not_after)
        reason = Reason(ReasonCode.EXPIRED, sentence)
    return None if reason is None else Refusal(step, reason, _another_one(desired))


def too_little_life(
    step: Deploy, desired: DesiredCertificate, *, left: timedelta, wanted: timedelta
) -> Refusal:
    """The certificate ends too soon for the target to take it."""
    sentence = Text(
        "{left} left, and {target} takes certificates with at least {wanted}",
        left=left,
        target=step.target,
        wanted=wanted,
    )
    hint = Text(
        "use a profile or CA whose certificates live longer, or set `min_remaining_days` of the"
        " account {target} if it takes shorter ones",
        target=step.target,
    )
    if desired.files is not None:
        hint = Text("renew it with its own client; the next run deploys the files")
    return _refused(step, ReasonCode.TOO_LITTLE_LIFE, sentence, hint)


def common_name_missing(step: Deploy) -> Refusal:
    """The target asks for a common name, and the certificate has none."""
    sentence = Text("{target} refuses certificates without a common name", target=step.target)
    hint = Text("use a profile that sets one (`classic`)")
    return _refused(step, ReasonCode.COMMON_NAME_MISSING, sentence, hint)


def _refused(step: Deploy, code: ReasonCode, sentence: Text, hint: Text) -> Refusal:
    return Refusal(step, Reason(code, sentence), hint)


def _another_one(desired: DesiredCertificate) -> Text:
    if desired.files is not None:
        return Text("renew it with its own client; the present certificate stays until then")
    return Text(
        "the next run tries again to issue one; `certferry history {lineage}` tells why"
        " there is none. The present certificate stays until then",
        lineage=desired.lineage,
    )


def refuse_older(
    step: Deploy, desired: DesiredCertificate, observed: Observation
) -> Refusal | None:
    """Refuse to deploy the version in force where something newer of the lineage is at a target. Of
    a ferried certificate the files tell which is to be served, and not the state.
    """
    newer = _newest_unremembered(desired.lineage, observed)
    if newer is None or desired.files is not None:
        return None
    reason = Reason(
        ReasonCode.STATE_OLDER,
        Text(
            "{label}, valid from {moment}, is there already and newer than what the state knows",
            label=newer.label,
            moment=newer.not_before,
        ),
    )
    hint = Text(
        "the state is an older copy, or another host has this certificate under the same name: put"
        " the newest state back, or run `certferry sync --renew {lineage}` for one that is newer"
        " still",
        lineage=desired.lineage,
    )
    return Refusal(step, reason, hint)


def _newest_unremembered(lineage: str, observed: Observation) -> OtherCertificate | None:
    """Return the newest of what carries the lineage's mark at a target and was issued after every
    version that the state knows. A name that is cut in the mark may be another lineage's as well.
    """
    remembered = [version.certificate.not_before for version in observed.versions]
    found = [
        (other.not_before, other)
        for target in observed.targets
        for other in target.unremembered
        if other.not_before is not None
        and is_owner(lineage, other.label)
        and all(other.not_before > begin for begin in remembered)
    ]
    return max(found, key=lambda pair: pair[0])[1] if found else None


_NEEDED = 2
"""Versions that are not superseded: the one in force, and the one before it to go back to."""


def refuse_upload(
    step: Deploy, desired: DesiredCertificate, observed: Observation
) -> Refusal | None:
    """Refuse a deployment to a full account, unless its certificate lies there already. One that is
    yet to be issued (no `fingerprint`) does not.
    """
    target = observed.target_of(step.target, step.domain)
    quota, fingerprint = target.quota, step.fingerprint
    if quota is None or (fingerprint and target.remote_of(fingerprint) is not None):
        return None
    needed = {version.certificate.fingerprint for version in observed.versions[:_NEEDED]}
    sentence = Text(
        "{target} holds {held} certificates, and refused one more when it held {most}",
        target=step.target,
        held=quota.held,
        most=quota.most,
    )
    hint = Text(
        'remove unused ones in its console, set retire = "all-unused" to have that done, or ask'
        " its support for more; superseded ones of {lineage} there: {count}. It is tried again"
        " after {moment}",
        lineage=desired.lineage,
        count=sum(remote.fingerprint not in needed for remote in target.remotes),
        moment=quota.until,
    )
    return Refusal(step, Reason(ReasonCode.ACCOUNT_FULL, sentence), hint)


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
    return None if is_covered else name_not_covered(case.step, case.desired)


def refuse_foreign_key(case: _Case) -> Refusal | None:
    """The private key belongs to the certificate."""
    is_own = case.version.key_matches
    return None if is_own else key_mismatch(case.step, case.desired)


def refuse_incomplete_chain(case: _Case) -> Refusal | None:
    """The issuer certificates are there, in order."""
    is_complete = case.version.chain_complete
    return None if is_complete else chain_incomplete(case.step, case.desired)


def refuse_revoked(case: _Case) -> Refusal | None:
    """The certificate was not revoked."""
    revocation = case.version.revocation
    return None if revocation is None else revoked(case.step, case.desired, revocation)


def refuse_expired(case: _Case) -> Refusal | None:
    """It is valid still, and what signed it: what is there may be, even if this is not renewed."""
    version, now = case.version, case.now
    is_over = version.certificate.not_after <= now or version.has_expired_issuer(now)
    return expired(case.step, case.desired, version, now) if is_over else None


def refuse_too_little_life(case: _Case) -> Refusal | None:
    """The target would accept an upload: long enough until the certificate ends."""
    left, wanted = case.version.certificate.remaining(case.now), case.target.rules.min_remaining
    if case.is_uploaded or left >= wanted:
        return None
    return too_little_life(case.step, case.desired, left=left, wanted=wanted)


def refuse_no_common_name(case: _Case) -> Refusal | None:
    """The certificate has a common name, where the target asks for one."""
    certificate, rules = case.version.certificate, case.target.rules
    if case.is_uploaded:
        return None
    # What another client made is tried: whether the target refuses it is not known.
    is_ours = case.desired.files is None
    if is_ours and rules.needs_common_name and not certificate.common_name:
        return common_name_missing(case.step)
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

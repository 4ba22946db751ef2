"""Compare what is declared with what was found, and plan the difference. Pure: the same
declaration, world and moment give the same plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum

from certferry.core.certificates.renewal import is_overdue
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.observed.observation import Observation
from certferry.core.planning import rules
from certferry.core.planning.choice import choice_findings
from certferry.core.planning.due import Times
from certferry.core.planning.pauses import authorities_now, longest_pause, paused_until
from certferry.core.planning.plan import Plan, PlanFinding, Rollout, Weight
from certferry.core.planning.removals import in_one_run, superseded, unused
from certferry.core.planning.rollbacks import rolled_back
from certferry.core.planning.rollouts import Supply, plan_target
from certferry.core.planning.steps import (
    Action,
    Clean,
    HeldUntil,
    Issue,
    NotInThisRun,
    Retire,
    TriedInThisRun,
)
from certferry.core.reasons import Reason, ReasonCode
from certferry.errors import CertificateError, CertificateRejected, Retry
from certferry.text import LINEAGE, Text


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
    if times.keeps_pauses:
        times = replace(times, longest_pause=longest_pause(observed.versions, times.now))
    issue = _issue(desired, observed, times, issuing)
    supply = _supply(desired, observed, times, is_coming=issue is not None and issue.due is None)
    parts = [
        plan_target(deployment, target, supply)
        for deployment, target in zip(desired.deployments, observed.targets, strict=True)
    ]
    rollouts = tuple(rollout for part in parts for rollout in part.rollouts)
    unchanged = tuple(place for part in parts for place in part.unchanged)
    retirements, later = _retirements(desired, observed, supply)
    return Plan(
        lineage=desired.lineage,
        names=desired.names,
        issue=issue,
        rollouts=rollouts,
        retirements=retirements,
        retire_later=tuple(sorted(later.items())),
        unchanged=unchanged,
        findings=(
            *_overdue(desired, observed, times.now, rollouts),
            *_rejected(desired, observed, times, issue),
            *_choice_findings(desired, observed),
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
    """Return which certificate domains are to serve. Where only other issuers for the leaf in force
    are adopted, it stays in force wherever the difference does not show.
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


def _choice_findings(desired: DesiredCertificate, observed: Observation) -> Iterable[PlanFinding]:
    is_plain = all(one.domains and not (one.unread or one.left_out) for one in observed.targets)
    if is_plain and not any(deployment.has_patterns for deployment in desired.deployments):
        return ()  # as in most runs
    return choice_findings(desired, observed)


def _retirements(
    desired: DesiredCertificate, observed: Observation, supply: Supply
) -> tuple[tuple[Retire, ...], Counter[str]]:
    current, times = supply.version, supply.times
    in_force = None if current is None else current.fingerprint
    copies = (remote for target in observed.targets for remote in target.remotes)
    has_others = any(target.others for target in observed.targets)
    if not has_others and all(copy.fingerprint == in_force for copy in copies):
        return (), Counter()  # as in most runs
    ours = superseded(desired, observed, times.now, issuing=current is None)
    return in_one_run((*ours, *unused(desired, observed, times)))


def _clean(desired: DesiredCertificate, observed: Observation) -> Clean | None:
    # Those of a lineage that is imported by now belong to no account: see `challenge_cleanup`.
    if desired.files is not None or not observed.remembered.has_challenge_records:
        return None
    sentence = Text("an earlier run left challenge records in DNS")
    return Clean(Reason(ReasonCode.LEFT_BEHIND, sentence))


# whether a certificate is issued or adopted


def _issue(
    desired: DesiredCertificate, observed: Observation, times: Times, issuing: Issuing
) -> Issue | None:
    reason = None if issuing is Issuing.NEVER else _why_issue(desired, observed, times.now, issuing)
    if reason is None:
        return None
    action = Action.ISSUE if desired.files is None else Action.ADOPT
    due, current = _due(observed, times, issuing), observed.current
    has_come = current is not None and times.in_this_run(current.saved_at)
    if isinstance(due, TriedInThisRun) and has_come:
        return None
    authorities = desired.issuance.authorities
    if len(authorities) > 1:
        authorities = authorities_now(authorities, observed, times.now)
    return Issue(desired.names, desired.key_type, reason, action, due, authorities)


def _why_issue(
    desired: DesiredCertificate, observed: Observation, now: datetime, issuing: Issuing
) -> Reason | None:
    if desired.files is not None:
        return why_adopt(desired, observed)
    rejected_at = observed.remembered.rejected_at
    if issuing is Issuing.IF_DUE and rejected_at is not None and retry_pause(rejected_at, now):
        return None
    reason = rules.first_violated(desired, observed, now)
    if reason is None and issuing is Issuing.ALWAYS:
        reason = Reason(ReasonCode.REQUESTED, Text("a new certificate was asked for"))
    return reason


def _due(observed: Observation, times: Times, issuing: Issuing) -> NotInThisRun | None:
    """Allow one attempt per run; repeating the order would not help."""
    tried_at = observed.remembered.issue_tried_at
    if tried_at is not None and times.in_this_run(tried_at):
        return TriedInThisRun(tried_at)
    if not times.keeps_pauses or issuing is not Issuing.IF_DUE:
        return None
    until = paused_until(tried_at, observed.remembered.issue_tries, times.now, times.longest_pause)
    return None if until is None else HeldUntil(until)


ANEW_AFTER = timedelta(days=1)
"""How long after a rejected certificate nothing is ordered: the CA counts each as issued (Let's
Encrypt allows five of the same names in a week)."""


def retry_pause(rejected_at: datetime, now: datetime) -> CertificateRejected | None:
    """Return why nothing is ordered now, `None` when it may be."""
    # A moment in the future was written by a clock that was ahead.
    if not rejected_at <= now < rejected_at + ANEW_AFTER:
        return None
    return CertificateRejected(
        Text(
            "nothing is ordered before {moment}: at {past} the CA gave a certificate that was not"
            " ordered",
            moment=rejected_at + ANEW_AFTER,
            past=rejected_at,
        ),
        hint=Text(
            "`certferry history {lineage}` tells what was wrong;"
            " `certferry sync --renew {lineage}` orders now",
            lineage=LINEAGE,
        ),
        retry=Retry.at(rejected_at + ANEW_AFTER),
    )


def _rejected(
    desired: DesiredCertificate, observed: Observation, times: Times, issue: Issue | None
) -> Iterator[PlanFinding]:
    """Report that nothing is ordered after a rejected certificate, unless this run has done so."""
    rejected_at = observed.remembered.rejected_at
    if rejected_at is None or rejected_at >= times.begun or desired.files is not None:
        return
    error = retry_pause(rejected_at, times.now)
    is_ordered = issue is not None and issue.due is None
    if error is None or is_ordered or not rules.first_violated(desired, observed, times.now):
        return
    yield PlanFinding.of(Weight.BLOCKED, error.about(desired.lineage))


# certificates that another client makes


def why_adopt(desired: DesiredCertificate, observed: Observation) -> Reason | None:
    """Return why what the files hold is to be adopted, `None` when the certificate in force is the
    one that they hold, with the same issuers. Its maker decides when it is renewed, and for which
    names.
    """
    offered, current = desired.offered, observed.current
    if offered is None or desired.files is None:
        return None
    path = desired.files.fullchain
    if current is None or current.fingerprint != offered.fingerprint:
        unknown = Text("{path} holds a certificate that is not known yet", path=path)
        return Reason(ReasonCode.FILES_CHANGED, unknown)
    if current.fullchain_digest in {None, desired.offered_fullchain}:
        return None
    other = Text("{path} holds other issuer certificates for the same leaf", path=path)
    return Reason(ReasonCode.FILES_CHANGED, other)


def overdue(desired: DesiredCertificate, observed: Observation, now: datetime) -> Reason | None:
    """Return that the files should have been renewed long ago. It is only reported: the client that
    made the certificate renews it.
    """
    current = observed.current
    if desired.files is None or current is None or observed.is_owned_elsewhere:
        return None
    path, end = desired.files.fullchain, current.certificate.not_after
    unsigned = rules.issuer_expired(current, now)
    if unsigned is not None:
        message = Text("{path}: {problem}", path=path, problem=unsigned.message)
        return Reason(unsigned.code, message)
    if not is_overdue(current.certificate, now):
        return None
    if end <= now:
        message = Text("{path}: not renewed, and expired at {moment}", path=path, moment=end)
    else:
        message = Text("{path}: not renewed yet, and expires at {moment}", path=path, moment=end)
    return Reason(ReasonCode.OVERDUE, message)


def _overdue(
    desired: DesiredCertificate, observed: Observation, now: datetime, rollouts: tuple[Rollout, ...]
) -> Iterator[PlanFinding]:
    """Report an overdue certificate of another client: nothing of ours can help it. Where one that
    has expired is to be deployed, safety reports it.
    """
    reason, current = overdue(desired, observed, now), observed.current
    if reason is None or current is None:
        return
    has_expired = current.certificate.not_after <= now or current.has_expired_issuer(now)
    if has_expired and any(rollout.deploy for rollout in rollouts):
        return
    hint = Text(
        "find out why its client no longer renews it; the next run deploys the renewed files"
    )
    yield PlanFinding.of(Weight.BLOCKED, CertificateError(reason.message, hint=hint))

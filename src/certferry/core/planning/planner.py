"""Plan the difference between declared and found: always the same for the same input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum

from certferry.core.certificates.certificate import (
    Certificate,
    RenewalWindow,
    is_overdue,
    plausible_window,
    renew_at,
    same_names,
)
from certferry.core.certificates.lineage import Version
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.observed.observation import Observation, ObservedTarget
from certferry.core.observed.records import Ordered
from certferry.core.planning import plan as plans
from certferry.core.planning.choice import choice_findings
from certferry.core.planning.due import Times
from certferry.core.planning.limits import authorities_now, longest_pause, paused_until
from certferry.core.planning.removals import in_one_run, superseded, unused
from certferry.core.planning.rollbacks import must_outlive_rollback, rolled_back
from certferry.core.planning.rollouts import Supply, plan_target
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.redaction import quoted
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
) -> plans.Plan:
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
    return plans.Plan(
        lineage=desired.lineage,
        names=desired.names,
        issue=issue,
        rollouts=rollouts,
        retirements=retirements,
        retire_later=tuple(sorted(later.items())),
        unchanged=unchanged,
        findings=(
            *_overdue(desired, observed, times.now, deploys=any(one.deploy for one in rollouts)),
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
    """Return the certificate to serve; with other issuers alone, the one in force stays so."""
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
    is_plain = all(one.domains and not (one.unread or one.left_out) for one in observed.targets)
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
    # Those of a lineage that is imported by now belong to no account: see `challenge_cleanup`.
    if desired.files is not None or not observed.remembered.has_challenge_records:
        return None
    sentence = Text("an earlier run left challenge records in DNS")
    return plans.Clean(Reason(ReasonCode.LEFT_BEHIND, sentence))


# whether a certificate is issued or adopted


def _issue(
    desired: DesiredCertificate, observed: Observation, times: Times, issuing: Issuing
) -> plans.Issue | None:
    reason = None if issuing is Issuing.NEVER else _why_issue(desired, observed, times.now, issuing)
    if reason is None:
        return None
    action = plans.Action.ISSUE if desired.files is None else plans.Action.ADOPT
    due, current = _due(observed, times, issuing), observed.current
    has_come = current is not None and times.in_this_run(current.saved_at)
    if isinstance(due, plans.TriedInThisRun) and has_come:
        return None
    authorities = desired.issuance.authorities
    if len(authorities) > 1:
        authorities = authorities_now(authorities, observed, times.now)
    return plans.Issue(desired.names, desired.key_type, reason, action, due, authorities)


def _why_issue(
    desired: DesiredCertificate, observed: Observation, now: datetime, issuing: Issuing
) -> Reason | None:
    if desired.files is not None:
        return why_adopt(desired, observed)
    rejected_at = observed.remembered.rejected_at
    if issuing is Issuing.IF_DUE and rejected_at is not None and retry_pause(rejected_at, now):
        return None
    reason = first_violated(desired, observed, now)
    if reason is None and issuing is Issuing.ALWAYS:
        reason = Reason(ReasonCode.REQUESTED, Text("a new certificate was asked for"))
    return reason


def _due(observed: Observation, times: Times, issuing: Issuing) -> plans.NotInThisRun | None:
    """Allow one attempt per run; repeating the order would not help."""
    tried_at = observed.remembered.issue_tried_at
    if tried_at is not None and times.in_this_run(tried_at):
        return plans.TriedInThisRun(tried_at)
    if not times.keeps_pauses or issuing is not Issuing.IF_DUE:
        return None
    until = paused_until(tried_at, observed.remembered.issue_tries, times.now, times.longest_pause)
    return None if until is None else plans.HeldUntil(until)


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
    desired: DesiredCertificate, observed: Observation, times: Times, issue: plans.Issue | None
) -> Iterator[plans.PlanFinding]:
    """Report that nothing is ordered after a rejected certificate, unless this run has done so."""
    rejected_at = observed.remembered.rejected_at
    if rejected_at is None or rejected_at >= times.begun or desired.files is not None:
        return
    error = retry_pause(rejected_at, times.now)
    is_ordered = issue is not None and issue.due is None
    if error is None or is_ordered or not first_violated(desired, observed, times.now):
        return
    yield plans.PlanFinding.of(plans.Weight.BLOCKED, error.about(desired.lineage))


# certificates that another client makes


def why_adopt(desired: DesiredCertificate, observed: Observation) -> Reason | None:
    """Return why to adopt the certificate in the files; `None` if it is in force."""
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
    """Return that another client should have renewed the files. It is only reported."""
    current = observed.current
    if desired.files is None or current is None or observed.is_owned_elsewhere:
        return None
    path, end = desired.files.fullchain, current.certificate.not_after
    unsigned = issuer_expired(current, now)
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
    desired: DesiredCertificate, observed: Observation, now: datetime, *, deploys: bool
) -> Iterator[plans.PlanFinding]:
    """Report an overdue certificate of another client, unless safety refuses to deploy it."""
    reason, current = overdue(desired, observed, now), observed.current
    if reason is None or current is None:
        return
    has_expired = current.certificate.not_after <= now or current.has_expired_issuer(now)
    if has_expired and deploys:
        return
    hint = Text(
        "find out why its client no longer renews it; the next run deploys the renewed files"
    )
    yield plans.PlanFinding.of(plans.Weight.BLOCKED, CertificateError(reason.message, hint=hint))


MISSING = Reason(ReasonCode.MISSING, Text("there is no certificate yet"))

ORDER_LIFETIME = timedelta(days=7)
"""How long an order stays open at Let's Encrypt."""

GAP = timedelta(days=1)
"""Between two certificates of a lineage which both came because the CA's window had passed: a CA
that says so of every certificate gets one order a day."""

LEAST_GAP = timedelta(hours=1)
"""Between two certificates of a lineage for which the same is declared: a CA, a target or a clock
that is wrong leads to one an hour at most."""

BACKDATED = timedelta(days=2)
"""How long before it was issued a certificate may begin: an hour at Let's Encrypt, to the last
midnight at others. One that is older was adopted, and not issued just now."""


def must_match_names(desired: DesiredCertificate, current: Certificate) -> Reason | None:
    """The certificate carries exactly the names that were asked for."""
    if same_names(current.names, desired.names):
        return None
    sentence = Text(
        "the certificate is for {had}; asked for: {wanted}", had=current.names, wanted=desired.names
    )
    return Reason(ReasonCode.NAMES_CHANGED, sentence)


def must_match_key_type(desired: DesiredCertificate, current: Certificate) -> Reason | None:
    """The certificate's key is of the kind that was asked for."""
    if current.key_type == desired.key_type:
        return None
    sentence = Text(
        "the key is {had}; asked for: {wanted}", had=current.key_type, wanted=desired.key_type.value
    )
    return Reason(ReasonCode.KEY_TYPE_CHANGED, sentence)


def must_have_come(
    desired: DesiredCertificate, ordered: Ordered | None, now: datetime
) -> Reason | None:
    """A pending order must be completed: the next run finishes an interrupted `--renew`."""
    if ordered is None or not ordered.is_for(desired) or now >= ordered.at + ORDER_LIFETIME:
        return None
    sentence = Text("ordered at {moment}; the CA has not issued it yet", moment=ordered.at)
    return Reason(ReasonCode.ORDERED, sentence)


def must_not_be_due(observed: Observation, version: Version, now: datetime) -> Reason | None:
    """The certificate has enough of its lifetime left, and what signed it is valid."""
    if version.has_expired_issuer(now):
        return issuer_expired(version, now)
    current = version.certificate
    moment = renew_at(current, version.window)
    if moment <= now and version.window is not None:
        moment = due_at(version, next(iter(observed.versions[1:]), None))
    if now < moment:
        return None
    window = plausible_window(current, version.window)
    if window is not None:
        return Reason(ReasonCode.RENEWAL_DUE, window_in_words(window))
    sentence = Text("renewal due ({left} left of {lifetime})").filled(
        left=current.remaining(now), lifetime=current.lifetime
    )
    return Reason(ReasonCode.RENEWAL_DUE, sentence)


def window_in_words(window: RenewalWindow) -> Text:
    """Return when the CA wants a certificate replaced, and where it explains why."""
    said = Text(
        "the CA asks for renewal between {start} and {end}", start=window.start, end=window.end
    )
    if window.page is None:
        return said
    return Text("{said}: {page}", said=said, page=quoted(window.page))


def issuer_expired(version: Version, now: datetime) -> Reason | None:
    """Return that what signed it is not valid any more: clients refuse the chain."""
    if version.issuer_not_after is None or not version.has_expired_issuer(now):
        return None
    sentence = Text("{issuer}, which signed the certificate, expired at {moment}").filled(
        issuer=quoted(version.certificate.issuer), moment=version.issuer_not_after
    )
    return Reason(ReasonCode.ISSUER_EXPIRED, sentence)


def due_at(version: Version, before: Version | None) -> datetime:
    """Return when the version in force is due; one that came late in the window of the one `before`
    is not at once.
    """
    moment = renew_at(version.certificate, version.window)
    window = None if before is None else plausible_window(before.certificate, before.window)
    if window is None or window.end > version.saved_at:
        return moment
    return max(moment, min(version.saved_at + GAP, renew_at(version.certificate)))


def must_be_deployable(
    current: Certificate, targets: Iterable[ObservedTarget], now: datetime
) -> Reason | None:
    """It can still be uploaded where it is missing, if a new one could be."""
    left = current.remaining(now)
    for target in targets:
        wanted = target.rules.min_remaining
        is_missing = bool(target.domains) and target.remote_of(current.fingerprint) is None
        if is_missing and left < wanted <= current.lifetime:
            sentence = Text(
                "it is not uploaded yet, and {left} are left where the target wants {wanted}"
            ).filled(left=left, wanted=wanted)
            return Reason(ReasonCode.UPLOAD_DEADLINE_PASSED, sentence)
    return None


def first_violated(
    desired: DesiredCertificate, observed: Observation, now: datetime
) -> Reason | None:
    """Return the first rule's reason to issue a certificate, or `None` when all are kept."""
    version = observed.current
    if version is None:
        return MISSING
    if version.revocation is not None:
        return version.revocation.why
    current = version.certificate
    asked = (
        must_match_names(desired, current)
        or must_match_key_type(desired, current)
        or must_have_come(desired, observed.remembered.ordered, now)
    )
    if asked is not None or is_just_issued(version, now):
        return asked
    return (
        must_not_be_due(observed, version, now)
        or must_be_deployable(current, observed.targets, now)
        or must_outlive_rollback(observed, version, now)
    )


def is_just_issued(version: Version, now: datetime) -> bool:
    """Return whether the certificate is too new to be followed by another one."""
    was_new = version.saved_at - version.certificate.not_before <= BACKDATED
    return was_new and version.saved_at <= now < version.saved_at + LEAST_GAP

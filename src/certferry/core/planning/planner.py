"""Write down the difference between what is wanted and what was found. Pure: the same wish,
world and moment give the same plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum

from certferry.core.certificates.lineage import Version, version_for
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.observed.observation import Observation
from certferry.core.planning import choice as unmatched
from certferry.core.planning import removals as unmanaged
from certferry.core.planning import rules
from certferry.core.planning.deliveries import known_already, overdue_obstacles, why_adopt
from certferry.core.planning.due import Times
from certferry.core.planning.pauses import authorities_now, longest_pause, paused_until
from certferry.core.planning.plan import Obstacle, Plan, Rollout
from certferry.core.planning.removals import in_one_run, superseded
from certferry.core.planning.rollbacks import rolled_back
from certferry.core.planning.rollouts import Choice, plan_target
from certferry.core.planning.steps import Action, Blocked, Clean, Issue, Retire
from certferry.core.reasons import Reason, ReasonCode
from certferry.errors import CertificateRejected, Retry
from certferry.text import LINEAGE, Text

ANEW_AFTER = timedelta(days=1)
"""The CA counts each such certificate as issued (Let's Encrypt allows five of the same names in a
week)."""


def rate_limit_hold(rejected_at: datetime, now: datetime) -> CertificateRejected | None:
    """Tell why nothing is ordered now, `None` when it may be."""
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


def obstacles(
    desired: DesiredCertificate, observed: Observation, rejected_at: datetime, times: Times
) -> Iterator[Obstacle]:
    """Tell that a certificate is wanted and not ordered, unless this run has told why already."""
    error = rate_limit_hold(rejected_at, times.now)
    if error is None or rejected_at >= times.begun:
        return
    if rules.first_violated(desired, observed, times.now) is not None:
        yield Obstacle(None, None, error.about(desired.lineage))


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
    if times.keeps_pauses:
        times = replace(times, longest_pause=longest_pause(observed.versions, now))
    needed = _issue(desired, observed, times, issuing)
    issue = None if needed is None or needed.due is not None else needed
    coming = observed.current if issue is None else None
    if issue is not None and desired.files is not None:
        coming = known_already(desired, observed)
    choice = _choice(coming, observed, now)
    parts = [
        plan_target(deployment, target, choice, None if issue else times)
        for deployment, target in zip(desired.deployments, observed.targets, strict=True)
    ]
    rollouts = tuple(rollout for part in parts for rollout in part.rollouts)
    unchanged = tuple(place for part in parts for place in part.unchanged)
    in_vain, remarks = _patterns_in_vain(desired, observed)
    has_left_out = any(target.left_out for target in observed.targets)
    at_targets = (obstacle for part in parts for obstacle in part.obstacles)
    obstacles = (*_late(desired, observed, times, issue, rollouts), *in_vain, *at_targets)
    retirements, later = _retirements(desired, observed, times, issuing=coming is None)
    return Plan(
        lineage=desired.lineage,
        names=desired.names,
        issue=issue,
        rollouts=rollouts,
        retirements=retirements,
        retire_later=tuple(sorted(later.items())),
        unchanged=unchanged,
        obstacles=obstacles,
        owned_elsewhere=observed.owned_elsewhere,
        notices=_notices(observed),
        remarks=remarks,
        left_out=tuple(unmatched.left_out(observed)) if has_left_out else (),
        clean=_clean(desired, observed),
        issue_not_now=needed if _failed_since(observed, times, needed) else None,
        drifts=tuple(drift for part in parts for drift in part.drifts),
        rolled_back=tuple(rolled_back(unchanged, observed)) if observed.has_withdrawn else (),
    )


def _patterns_in_vain(
    desired: DesiredCertificate, observed: Observation
) -> tuple[tuple[Obstacle, ...], tuple[Obstacle, ...]]:
    has_patterns = any(deployment.has_patterns for deployment in desired.deployments)
    if not has_patterns and all(target.domains for target in observed.targets):
        return (), ()
    return unmatched.told(desired, observed)


def _late(
    desired: DesiredCertificate,
    observed: Observation,
    times: Times,
    issue: Issue | None,
    rollouts: tuple[Rollout, ...],
) -> Iterable[Obstacle]:
    """Tell of a certificate that does not come: from its client, or since a CA gave a wrong one."""
    if desired.files is not None:
        return overdue_obstacles(desired, observed, times.now, rollouts)
    if issue is None and observed.remembered.rejected_at is not None:
        return obstacles(desired, observed, observed.remembered.rejected_at, times)
    return ()


def _choice(coming: Version | None, observed: Observation, now: datetime) -> Choice:
    """Say which certificate a domain is to serve: what is coming, unless it was withdrawn there;
    then the one before it.
    """

    def version(withdrawn: frozenset[str]) -> Version | None:
        if coming is None or coming.certificate.fingerprint not in withdrawn:
            return coming
        return version_for(withdrawn, observed.versions, now)

    return version


def _retirements(
    desired: DesiredCertificate, observed: Observation, times: Times, *, issuing: bool
) -> tuple[tuple[Retire, ...], Counter[str]]:
    current = None if issuing else observed.current
    in_force = current and current.certificate.fingerprint
    copies = (remote for target in observed.targets for remote in target.remotes)
    ours: tuple[Retire, ...] = ()
    if any(copy.fingerprint != in_force for copy in copies):
        ours = superseded(desired, observed, times.now, issuing=issuing)
    if any(target.others for target in observed.targets):
        ours = (*ours, *unmanaged.retirements(desired, observed, times))
    return in_one_run(ours) if ours else ((), Counter())


def _clean(desired: DesiredCertificate, observed: Observation) -> Clean | None:
    # Those of a lineage that is ferried by now belong to no account: see `challenge_cleanup`.
    if desired.files is not None or not observed.remembered.has_challenge_records:
        return None
    sentence = Text("an earlier run left challenge records in DNS")
    return Clean(Reason(ReasonCode.LEFT_BEHIND, sentence))


def _notices(observed: Observation) -> tuple[Obstacle, ...]:
    """Tell once of each thing at a target that could not be read."""
    found = (Obstacle(t.label, None, error) for t in observed.targets for error in t.unread)
    return tuple(dict.fromkeys(found))


def _failed_since(observed: Observation, times: Times, needed: Issue | None) -> bool:
    """Tell whether what is needed was tried since the run began, and brought nothing, or is left
    alone after an earlier failure.
    """
    if needed is None or needed.due is None:
        return False
    if isinstance(needed.due, Blocked) and needed.due.until is not None:
        return True
    current = observed.current
    return current is None or not times.in_this_run(current.saved_at)


def _issue(
    desired: DesiredCertificate, observed: Observation, times: Times, issuing: Issuing
) -> Issue | None:
    reason = None if issuing is Issuing.NEVER else _why_issue(desired, observed, times.now, issuing)
    if reason is None:
        return None
    action = Action.ISSUE if desired.files is None else Action.ADOPT
    due = _due(observed, times, issuing)
    authorities = desired.issuance.authorities
    if len(authorities) > 1:
        authorities = authorities_now(authorities, observed, times.now)
    return Issue(desired.names, desired.key_type, reason, action, due, authorities)


def _why_issue(
    desired: DesiredCertificate, observed: Observation, now: datetime, issuing: Issuing
) -> Reason | None:
    if desired.files is not None:
        return why_adopt(desired, observed)
    if issuing is Issuing.IF_DUE and _is_held_back(observed, now):
        return None
    reason = rules.first_violated(desired, observed, now)
    if reason is None and issuing is Issuing.ALWAYS:
        reason = Reason(ReasonCode.REQUESTED, Text("a new certificate was asked for"))
    return reason


def _due(observed: Observation, times: Times, issuing: Issuing) -> Blocked | None:
    """Allow one try in a run: whatever the CA gave, more orders would not make it better."""
    tried_at = observed.remembered.issue_tried_at
    if tried_at is not None and times.in_this_run(tried_at):
        return Blocked(tried_at=tried_at)
    if not times.keeps_pauses or issuing is not Issuing.IF_DUE:
        return None
    until = paused_until(tried_at, observed.remembered.issue_tries, times.now, times.longest_pause)
    return None if until is None else Blocked(until=until)


def _is_held_back(observed: Observation, now: datetime) -> bool:
    rejected_at = observed.remembered.rejected_at
    return rejected_at is not None and rate_limit_hold(rejected_at, now) is not None

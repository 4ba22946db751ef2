"""When a rollout's next step is carried out: now, after a moment, or in a later run."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Self

from msgspec import Struct

from certferry.core.observed import observation
from certferry.core.observed.records import LAG, RolloutRecord
from certferry.core.planning.limits import PAUSES, paused_until
from certferry.core.planning.plan import Deploy, HeldUntil, Rollout, TimedOut, TriedInThisRun, When
from certferry.core.planning.problems import (
    not_served,
    processing,
    stuck_error,
    stuck_since,
    without_effect,
)
from certferry.core.planning.rollbacks import until_confirmed
from certferry.core.reasons import Usual, Waiting, applying, wait_for
from certferry.errors import CertferryError, DeployError
from certferry.text import Text
from certferry.values import replace

VERIFY_TIMEOUT = timedelta(hours=1)  # how long the rollout of one domain may take by default


class Times(Struct, frozen=True):
    """The moments and limits by which a plan decides about waiting."""

    now: datetime  #: The moment of the plan.
    begun: datetime  #: When the run began.
    timeout: timedelta = VERIFY_TIMEOUT  #: How long the rollout of one domain may take.
    keeps_pauses: bool = False  #: Whether the run respects pauses after failures.
    longest_pause: timedelta = PAUSES[-1]  #: The longest pause after failures (`limits`).
    usual: Usual | None = None  #: How long a change at the target usually takes.

    def in_this_run(self, moment: datetime) -> bool:
        """Return whether a moment lies in this run. A moment more than `LAG` ahead comes from a
        wrong clock and does not count.
        """
        return self.begun <= moment <= self.now + LAG

    @classmethod
    def at(cls, now: datetime) -> Self:
        """Return the times of a run beginning now."""
        return cls(now, now)


def open_record(
    domain: observation.ObservedDomain, fingerprint: str, now: datetime
) -> RolloutRecord | None:
    """Return the domain's record if the rollout of this certificate is in progress, else `None`."""
    last = domain.last
    # A beginning in the future came from a clock running ahead, so the record does not count.
    if last is None or last.fingerprint != fingerprint or last.started_at > now:
        return None
    return None if last.verified_at is not None else last


def when_of(
    rollout: Rollout,
    domain: observation.ObservedDomain,
    served: observation.Addresses,
    fingerprint: str,
    times: Times,
) -> When:
    """Return when to carry out the rollout's first step for the certificate `fingerprint`."""
    last = open_record(domain, fingerprint, times.now)
    when = _when_by_itself(rollout, domain, served, fingerprint, last, times)
    if when is not None or rollout.deploy is None or last is None or not times.keeps_pauses:
        return when
    tried_at, longest = last.failed_at or last.accepted_at, times.longest_pause
    until = paused_until(tried_at, last.tries, times.now, longest)
    return None if until is None else HeldUntil(until)


def _when_by_itself(
    rollout: Rollout,
    domain: observation.ObservedDomain,
    served: observation.Addresses,
    fingerprint: str,
    last: RolloutRecord | None,
    times: Times,
) -> When:
    since = _seen_since(domain, fingerprint, times) if last is None else waiting_since(last, times)
    failed = _failed_here(domain, fingerprint, times)
    if domain.kind.is_receiver:
        return failed
    if domain.state is observation.DomainState.PROCESSING:
        stuck = stuck_since(domain, times.now, times.timeout)
        if stuck is None:
            return wait_or_fail(processing(rollout.target, since, times.usual), since, times)
        case = (rollout.target, domain, stuck, times.now)
        return TimedOut(stuck_error(*case, served=served, fingerprint=fingerprint))
    if rollout.deploy is None:
        if observation.is_served(served, fingerprint):
            return None
        when = wait_or_fail(not_served(served, fingerprint, since), since, times)
        if isinstance(when, TimedOut) and last is not None:
            return until_confirmed(last, domain, served, times.now) or when
        return when
    if failed is not None or last is None or last.accepted_at is None:
        return failed
    return _after_acceptance(rollout.deploy, domain, last, last.accepted_at, times)


def waiting_since(record: RolloutRecord, times: Times) -> datetime:
    """Return since when a run waits for a domain: since the target accepted the change. Before
    that, since the rollout began, or since this run began if later.
    """
    return record.accepted_at or max(record.started_at, times.begun)


def _seen_since(domain: observation.ObservedDomain, fingerprint: str, times: Times) -> datetime:
    """Return since when this run waits for a domain without an open record: since the certificate
    was seen served, or since the run began if later. Return `now` for a certificate never seen.
    """
    seen = domain.seen_at(fingerprint)
    return times.now if seen is None else min(max(seen, times.begun), times.now)


def _after_acceptance(
    deploy: Deploy,
    domain: observation.ObservedDomain,
    last: RolloutRecord,
    accepted_at: datetime,
    times: Times,
) -> When:
    """Return when to ask the target again for an accepted change that has no effect yet.

    If the change failed or timed out, the run in which the target accepted the change ends the step
    (`TimedOut`). A later run asks again now (`None`). Before that, the step waits.
    """
    in_this_run = accepted_at >= times.begun
    # Reads may lag behind writes. Within `LAG`, a failure that was there before the change does not
    # count as a failure of the change.
    is_news = str(domain.problem) != last.problem_before or times.now - accepted_at >= LAG
    if domain.state is observation.DomainState.FAILED and is_news:
        error = domain.problem or DeployError(Text("the target could not carry out the change"))
        return TimedOut(error) if in_this_run else None
    when = wait_or_fail(without_effect(deploy, domain, accepted_at), accepted_at, times)
    if isinstance(when, TimedOut):
        return when if in_this_run else None
    if times.now - accepted_at < LAG:
        return replace(when, why=applying(deploy.target, times.usual))
    return when


def _failed_here(
    domain: observation.ObservedDomain, fingerprint: str, times: Times
) -> TriedInThisRun | None:
    last = domain.last
    if last is None or last.fingerprint != fingerprint or last.failed_at is None:
        return None
    return TriedInThisRun(last.failed_at) if times.in_this_run(last.failed_at) else None


def wait_or_fail(problem: CertferryError, since: datetime, times: Times) -> Waiting | TimedOut:
    """Return a wait that names the problem as the cause. Once the timeout, counted from `since`, is
    over, return the problem as the failure.
    """
    deadline = since + times.timeout
    if times.now >= deadline:
        return TimedOut(problem)
    return wait_for(problem.message, since, times.now, deadline, times.usual)

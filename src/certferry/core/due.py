"""When a rollout's next step is due: now, after a moment, or no more in this run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self

from certferry.core.edge_refusals import until_confirmed
from certferry.core.not_in_force import not_served, processing, without_effect
from certferry.core.observed import DomainState, ObservedDomain, Served, is_served
from certferry.core.pauses import PAUSES, paused_until
from certferry.core.plan import Rollout
from certferry.core.progress import Usual
from certferry.core.rollout_record import LAG, RolloutRecord
from certferry.core.steps import Blocked, Deploy, Due
from certferry.core.stuck import stuck_error, stuck_since
from certferry.core.waiting import Waiting, applying, wait_for
from certferry.errors import CertferryError, DeployError
from certferry.text import Text

VERIFY_TIMEOUT = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Times:
    """This moment, when the run began, and how long a domain may take to serve what is bound. A
    scheduled run `keeps_pauses` after a failure, none longer than the `longest_pause`. `usual` is
    how long a change takes at the target most times, where that is known.
    """

    now: datetime
    begun: datetime
    timeout: timedelta = VERIFY_TIMEOUT
    keeps_pauses: bool = False
    longest_pause: timedelta = PAUSES[-1]
    usual: Usual | None = None

    def in_this_run(self, moment: datetime) -> bool:
        """Tell whether something stored happened since the run began. A moment in the future was
        written by a clock that was ahead; a step back of a moment within a run is none.
        """
        return self.begun <= moment <= self.now + LAG

    @classmethod
    def at(cls, now: datetime) -> Self:
        """Give those of a run that begins now."""
        return cls(now, now)


def open_record(domain: ObservedDomain, fingerprint: str, now: datetime) -> RolloutRecord | None:
    """Return what is remembered of bringing this certificate to the domain, `None` when it has to
    be begun: for a new certificate, and where one that was served is served no more.
    """
    last = domain.last
    # A start in the future was written by a clock that was ahead.
    if last is None or last.fingerprint != fingerprint or last.started_at > now:
        return None
    return None if last.verified_at is not None else last


def due_of(
    rollout: Rollout,
    domain: ObservedDomain,
    served: tuple[Served, ...],
    *,
    fingerprint: str,
    times: Times,
) -> Due:
    """Return when the rollout's first step is due. `fingerprint` is the certificate's that is to be
    served.
    """
    last = open_record(domain, fingerprint, times.now)
    due = _due_by_itself(rollout, domain, served, fingerprint, last, times)
    if due is not None or rollout.deploy is None or last is None or not times.keeps_pauses:
        return due
    tried_at, longest = last.failed_at or last.accepted_at, times.longest_pause
    until = paused_until(tried_at, last.tries, times.now, longest)
    return None if until is None else Blocked(until=until)


def _due_by_itself(
    rollout: Rollout,
    domain: ObservedDomain,
    served: tuple[Served, ...],
    fingerprint: str,
    last: RolloutRecord | None,
    times: Times,
) -> Due:
    since = _seen_since(domain, fingerprint, times) if last is None else waiting_since(last, times)
    failed_at = _failed_in_this_run(domain, fingerprint, times)
    if domain.kind.is_receiver:
        return None if failed_at is None else Blocked(tried_at=failed_at)
    if domain.state is DomainState.PROCESSING:
        stuck = stuck_since(domain, times.now, times.timeout)
        if stuck is not None:
            place = (rollout.target, domain)
            return Blocked(
                stuck_error(*place, stuck, times.now, served=served, fingerprint=fingerprint)
            )
        return wait_in_time(processing(rollout.target, since, times.usual), since, times)
    if rollout.deploy is None:
        if is_served(served, fingerprint):
            return None
        due = wait_in_time(not_served(served, fingerprint, since), since, times)
        if isinstance(due, Blocked) and last is not None and last.worked_before:
            due = until_confirmed(last, domain, served, due, times.now)
        return due
    if failed_at is not None:
        return Blocked(tried_at=failed_at)
    if last is None or last.accepted_at is None:
        return None
    return _after_acceptance(rollout.deploy, domain, last, last.accepted_at, times)


def waiting_since(record: RolloutRecord, times: Times) -> datetime:
    """Return since when a run waits for a domain: the change was taken, or this run had to wait."""
    return record.accepted_at or max(record.started_at, times.begun)


def _seen_since(domain: ObservedDomain, fingerprint: str, times: Times) -> datetime:
    """Return since when a domain without an open record is waited for: one that was seen before,
    since this run has begun or has seen it.
    """
    seen = domain.seen_at(fingerprint)
    return times.now if seen is None else min(max(seen, times.begun), times.now)


def _after_acceptance(
    deploy: Deploy, domain: ObservedDomain, last: RolloutRecord, accepted_at: datetime, times: Times
) -> Due:
    """Judge a change that the target took and that is not to be seen. It is asked for once in a
    run; a later run asks again when it has failed, or its time is over.
    """
    in_this_run = accepted_at >= times.begun
    # Reads may lag behind writes: a failure that was told before the change is no news.
    is_news = str(domain.problem) != last.problem_before or times.now - accepted_at >= LAG
    if domain.state is DomainState.FAILED and is_news:
        error = domain.problem or DeployError(Text("the target could not carry out the change"))
        return Blocked(error) if in_this_run else None
    due = wait_in_time(without_effect(deploy, domain, accepted_at), accepted_at, times)
    if isinstance(due, Waiting) and times.now - accepted_at < LAG:
        due = replace(due, why=applying(deploy.target, times.usual))
    return due if in_this_run or not isinstance(due, Blocked) else None


def _failed_in_this_run(domain: ObservedDomain, fingerprint: str, times: Times) -> datetime | None:
    last = domain.last
    if last is None or last.fingerprint != fingerprint or last.failed_at is None:
        return None
    return last.failed_at if times.in_this_run(last.failed_at) else None


def wait_in_time(error: CertferryError, since: datetime, times: Times) -> Waiting | Blocked:
    """Wait while there is time; afterwards it has failed. Only a CDN is waited for like this."""
    deadline = since + times.timeout
    if times.now >= deadline:
        return Blocked(error)
    return wait_for(error.message, since, times.now, deadline, times.usual)

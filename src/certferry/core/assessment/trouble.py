"""What is wrong with a certificate or a domain, and what became of the last try to mend it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self

from certferry.core.assessment.notices import Notice, Subject, Topic
from certferry.core.observed.observation import Observation, ObservedDomain, ObservedTarget
from certferry.core.observed.records import RolloutRecord
from certferry.core.planning.plan import Plan
from certferry.core.planning.steps import HeldUntil
from certferry.core.reasons import Reason
from certferry.errors import CertferryError, Reported
from certferry.text import Text


def unreadable(
    label: str, error: CertferryError, records: Iterable[RolloutRecord], current: str | None
) -> ObservedTarget:
    """Return a target that cannot be read, with what is under way there of the certificate in
    force; `current` is its fingerprint.
    """
    in_progress = tuple(
        record for record in records if _is_open(record) and record.fingerprint == current
    )
    return ObservedTarget(label, failure=error, in_progress=in_progress)


def _is_open(record: RolloutRecord) -> bool:
    return record.verified_at is None and record.failed_at is None


def without_found(observed: Observation) -> Observation:
    """Leave under way only what no other deployment of the account has found."""
    targets = (
        replace(
            target,
            in_progress=tuple(
                record
                for record in target.in_progress
                if observed.find(target.label, record.domain) is None
            ),
        )
        for target in observed.targets
    )
    return replace(observed, targets=tuple(targets))


Troubles = Mapping[Subject, Notice]
"""The trouble that runs have left, by what it is about."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A code for programs, a sentence and advice for people."""

    code: str
    message: Text
    hint: Text | None = None

    @classmethod
    def of(cls, error: Reported) -> Self:
        """Return what an error tells."""
        return cls(error.code, error.message, error.hint)

    @classmethod
    def because(cls, reason: Reason) -> Self:
        """Return what a reason tells."""
        return cls(reason.code.value, reason.message)


@dataclass(frozen=True, slots=True)
class LastFailure:
    """What the last try ended in, and when that was; `since` when tries have failed. Scheduled runs
    try again after `again_at`, where that is not at once.
    """

    trouble: Trouble
    since: datetime
    at: datetime
    again_at: datetime | None = None


def troubles_in(notices: Sequence[Notice]) -> dict[Subject, Notice]:
    """Return the trouble among what stands."""
    return {one.subject: one for one in notices if one.topic is Topic.TROUBLE}


def troubles_of_runs(notices: Sequence[Notice]) -> tuple[Notice, ...]:
    """Return the trouble of runs themselves, the heartbeat and the metrics, among what stands. What
    is wrong with a channel of notifications is told of the channel.
    """
    return tuple(
        one
        for one in notices
        if one.topic is Topic.TROUBLE and not one.subject.lineage and one.code != "channel_refused"
    )


def failure_of_lineage(
    lineage: str, troubles: Troubles, observed: Observation, plan: Plan
) -> LastFailure | None:
    """Return what the last try to have a certificate ended in, where none has succeeded since."""
    notice = troubles.get(Subject(lineage))
    if notice is None:
        return None
    due = None if plan.issue is None else plan.issue.due
    until = due.until if isinstance(due, HeldUntil) else None
    return _failure(notice, observed.remembered.issue_tried_at, until)


def failure_at_domain(
    subject: Subject, troubles: Troubles, domain: ObservedDomain | None, plan: Plan
) -> LastFailure | None:
    """Return what the last try to bring a certificate to a domain ended in; of a whole target,
    where that is what failed.
    """
    notice = troubles.get(subject) or troubles.get(Subject(subject.lineage, subject.target))
    if notice is None:
        return None
    place = (subject.target, subject.domain)
    dues = (one.due for one in plan.rollouts if (one.target, one.domain) == place)
    untils = (due.until for due in dues if isinstance(due, HeldUntil))
    tried_at = None if domain is None or domain.last is None else domain.last.failed_at
    return _failure(notice, tried_at, next(untils, None))


def _failure(notice: Notice, tried_at: datetime | None, again_at: datetime | None) -> LastFailure:
    trouble = Trouble(notice.code, notice.message, notice.hint)
    at = notice.since if tried_at is None else max(tried_at, notice.since)
    return LastFailure(trouble, notice.since, at, again_at)

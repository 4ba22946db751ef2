"""Notices for operators: those that stand now, and those that each channel was sent."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from certferry.core.certificates.lineage import Version
from certferry.core.certificates.renewal import is_overdue
from certferry.core.planning.pauses import WITHOUT_ANY
from certferry.core.planning.report import CODE, LineageReport, Outcome, StepOutcome, SyncReport
from certferry.core.planning.steps import Action
from certferry.errors import CertferryError
from certferry.problem import Problem
from certferry.text import Text


class Topic(StrEnum):
    """What a message is about. The words are those of `on` and of the events in JSON."""

    TROUBLE = "trouble"
    RECOVERED = "recovered"
    RENEWED = "renewed"
    DEPLOYED = "deployed"
    DEADLINE = "deadline"
    FOUND = "found"


USUAL = (Topic.TROUBLE, Topic.RECOVERED)
"""What a channel is sent, unless its table says otherwise."""


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """A certificate, a target of it, a domain there: each empty where it is about the whole. With
    none of them it is the run itself; with a `channel` alone, a channel of notifications.
    """

    lineage: str = ""
    target: str = ""
    domain: str = ""
    channel: str = ""


OF_ALL = Subject()
Key = tuple[Topic, Subject]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that stands, since a moment: trouble that is not over, or an event of the last day,
    whose `problem` says what happened. Until the `deadline` the old certificate still works.
    """

    topic: Topic
    subject: Subject
    since: datetime
    problem: Problem
    deadline: datetime | None = None

    @property
    def key(self) -> Key:
        """What identifies it: there is one at a time."""
        return (self.topic, self.subject)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A channel was sent, `at` a moment, the notice that stands since another."""

    topic: Topic
    subject: Subject
    since: datetime
    at: datetime
    code: str = ""

    @property
    def key(self) -> Key:
        """The notice's."""
        return (self.topic, self.subject)


@dataclass(frozen=True, slots=True)
class ChannelState:
    """What is stored of a channel: what it has been sent, and when it was `sent` its last messages;
    nothing is sent before `again_at`. `refusal` is what its service last answered where it took no
    message, with the moment since when it takes none.
    """

    deliveries: tuple[Delivery, ...] = ()
    sent: tuple[datetime, ...] = ()
    again_at: datetime | None = None
    refusal: Problem | None = None


REFUSED = "channel_refused"
"""The code of a channel that takes no messages."""

KEPT = timedelta(days=1)
"""How long an event is kept for a channel that takes no message. Trouble stays until it is over."""

_IN_ORDER = frozenset({Outcome.DONE, Outcome.UNCHANGED})
_BAD = frozenset({Outcome.FAILED, Outcome.REFUSED})
_GO_ON = frozenset({Topic.TROUBLE, Topic.FOUND})

Notices = tuple[Notice, ...]


def noticed(
    report: SyncReport,
    before: Notices,
    now: datetime,
    *,
    versions: Mapping[str, Sequence[Version]],
    declared: Collection[str],
) -> Notices:
    """Return the notices that stand after a run. `versions` are those of the report's lineages,
    newest first; of what is not `declared` any more, nothing stands.

    A run that was stopped changes nothing: it has not seen everything.
    """
    if not report.complete:
        return before
    reports = {lineage.lineage: lineage for lineage in report.lineages}
    known = {*declared, *reports}
    kept = [one for one in before if _stands(one, reports, known, now)]
    if report.undeclared is None:
        kept += [one for one in before if one.problem.code == CODE and one not in kept]
    found = [
        notice
        for lineage in report.lineages
        if lineage.lineage in versions or not _is_quiet(lineage)
        for notice in _of_lineage(lineage, versions.get(lineage.lineage, ()), now)
    ]
    found += [
        Notice(
            Topic.TROUBLE,
            Subject(one.lineage),
            now,
            Problem(CODE, one.problem.message, one.problem.hint),
        )
        for one in report.undeclared or ()
    ]
    return _merged(kept, found, before)


def failed_run(error: CertferryError, before: Notices, now: datetime) -> Notices:
    """Return the notices that stand after a run that an error ended before it had a report."""
    return _merged(before, [Notice(Topic.TROUBLE, OF_ALL, now, error.problem())], before)


def of_channel(channel: str, problem: Problem | None, before: Notices, now: datetime) -> Notices:
    """Return the notices that stand after a channel took a message, or a monitor a run's end, or
    did not for a `problem`.
    """
    subject = Subject(channel=channel)
    if problem is None:
        return tuple(one for one in before if one.subject != subject)
    return _merged(before, [Notice(Topic.TROUBLE, subject, now, problem)], before)


def refused(channel: str, answer: Text) -> Problem:
    """Return what is wrong with a channel that takes no messages."""
    return Problem(
        REFUSED,
        Text("{channel} takes no messages: {problem}", channel=channel, problem=answer),
        Text("run `certferry notify test {channel}` after fixing it", channel=channel),
    )


def without_channels(before: Notices, known: Collection[str]) -> Notices:
    """Return the notices without those of channels that the file does not have any more."""
    return tuple(one for one in before if one.subject.channel in {"", *known})


def _merged(kept: Iterable[Notice], found: Iterable[Notice], before: Iterable[Notice]) -> Notices:
    """Put what was found in the place of what is kept. What goes on since `before` keeps its
    beginning.
    """
    begun = {one.key: one.since for one in before if one.topic in _GO_ON}
    notices = {one.key: one for one in kept}
    notices |= {one.key: replace(one, since=begun.get(one.key, one.since)) for one in found}
    return tuple(notices.values())


def _stands(
    notice: Notice, reports: Mapping[str, LineageReport], known: Collection[str], now: datetime
) -> bool:
    """Whether a notice of an earlier run still stands, whatever this one found."""
    subject = notice.subject
    if subject.channel:
        return True
    if subject.lineage not in known:  # nor does the trouble of a run: this one has a report
        return False
    report = reports.get(subject.lineage)
    match notice.topic:
        case Topic.TROUBLE:
            return report is None or any(_hides(step, subject) for step in _unresolved(report))
        case Topic.RENEWED | Topic.DEPLOYED:
            return now - notice.since < KEPT
        case _:
            return report is None


def _unresolved(report: LineageReport) -> Iterator[StepOutcome]:
    return (step for step in report.outcomes if step.outcome not in _IN_ORDER and not step.notice)


def _hides(step: StepOutcome, subject: Subject) -> bool:
    """Whether a step that has not ended well leaves open whether the trouble is over."""
    if step.target is None:
        return True
    if step.target != subject.target:
        return False  # the certificate came; what its targets do is trouble of their own
    if step.domain is None:
        return step.action is None or not subject.domain
    return step.domain == subject.domain or not subject.domain


def _is_quiet(report: LineageReport) -> bool:
    """Whether all is as it was: so it is in most runs, which are to be quick."""
    return all(step.outcome is Outcome.UNCHANGED and step.hint is None for step in report.outcomes)


def _of_lineage(
    report: LineageReport, versions: Sequence[Version], now: datetime
) -> Iterator[Notice]:
    troubles: set[Subject] = set()
    for step in report.outcomes:
        subject = _subject(report, step)
        if subject not in troubles and (
            step.outcome in _BAD or _waits_too_long(step, versions, now)
        ):
            troubles.add(subject)
            yield _notice(Topic.TROUBLE, report, step, now, _time_left(step, versions, now))
    yield from _done(report, now)
    for step in report.outcomes:
        if _is_a_finding(step):
            yield _notice(Topic.FOUND, report, step, now)
    if versions and is_overdue(versions[0].certificate, now):
        yield _deadline(report.lineage, versions[0])


def _waits_too_long(step: StepOutcome, versions: Sequence[Version], now: datetime) -> bool:
    """Whether an order waits for the CA until a moment at which the renewal is overdue; or, where
    no certificate is of use, for longer than a CA may fail before another one is asked.
    """
    until = step.held_until
    if until is None:
        return False
    if not versions or versions[0].revocation is not None:
        return until - now > WITHOUT_ANY
    return is_overdue(versions[0].certificate, until)


def _time_left(step: StepOutcome, versions: Sequence[Version], now: datetime) -> datetime | None:
    """Return the moment until which what is served now works. Where a certificate could not be
    issued, that is the newest one; where it could not be deployed, the one before it.
    """
    served = versions[:1] if step.target is None else versions[1:2]
    ends = [version.certificate.not_after for version in served]
    return next((end for end in ends if end > now), None)


def _done(report: LineageReport, now: datetime) -> Iterator[Notice]:
    """Return the certificates that came, and the places that have them: seen there where there is
    something to be seen.
    """
    verified = {(s.target, s.domain) for s in report.outcomes if s.action is Action.VERIFY}
    for step in report.outcomes:
        if step.outcome is not Outcome.DONE:
            continue
        if step.action in {Action.ISSUE, Action.ADOPT}:
            yield _notice(Topic.RENEWED, report, step, now)
        if step.action is Action.VERIFY or (
            step.action is Action.DEPLOY and (step.target, step.domain) not in verified
        ):
            yield _notice(Topic.DEPLOYED, report, step, now)


def _is_a_finding(step: StepOutcome) -> bool:
    """Whether something was found that another person should know: an account that cannot be read
    in part, or what another tool changed and the file leaves like that.
    """
    left = step.action is Action.DEPLOY and step.outcome is Outcome.UNCHANGED
    return step.notice or (left and step.hint is not None)


def _deadline(lineage: str, version: Version) -> Notice:
    end = version.certificate.not_after
    problem = Problem(
        "overdue",
        Text("the certificate ends at {end} and is not renewed", end=end),
        Text("see with `certferry status {lineage}` what holds it up", lineage=lineage),
    )
    return Notice(Topic.DEADLINE, Subject(lineage), version.saved_at, problem, end)


def _subject(report: LineageReport, step: StepOutcome) -> Subject:
    return Subject(report.lineage, step.target or "", step.domain or "")


def _notice(
    topic: Topic,
    report: LineageReport,
    step: StepOutcome,
    now: datetime,
    deadline: datetime | None = None,
) -> Notice:
    usual = topic.value if step.outcome in _IN_ORDER else step.outcome.value
    problem = Problem(step.code or usual, step.detail, step.hint)
    return Notice(topic, _subject(report, step), now, problem, deadline)

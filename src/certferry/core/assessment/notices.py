"""Notices for operators: those that stand now, and those that each channel was told."""

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
"""What a channel is told of, unless its table says otherwise."""


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """A certificate, a target of it, a domain there: each empty where it is about the whole. With
    none of them it is the run itself; with a `channel` alone, a channel of notifications.
    """

    lineage: str = ""
    target: str = ""
    domain: str = ""
    channel: str = ""


Key = tuple[Topic, Subject]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that stands, since a moment: trouble that is not over, or an event of the last day.

    `code` is stable, `message` says what happened and `hint` what to do. Until the `deadline`,
    where there is one, the old certificate still works.
    """

    topic: Topic
    subject: Subject
    since: datetime
    code: str
    message: Text
    hint: Text | None = None
    deadline: datetime | None = None

    @property
    def key(self) -> Key:
        """What identifies it: there is one at a time."""
        return (self.topic, self.subject)


@dataclass(frozen=True, slots=True)
class Told:
    """A channel was told `at` a moment of the notice that stands since another."""

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
    """What is remembered of a channel: what it was `told`, and when it was `sent` its last
    messages; nothing is sent before `again_at`. `problem` is what its service last answered where
    it took no message, since `refused_since`.
    """

    told: tuple[Told, ...] = ()
    sent: tuple[datetime, ...] = ()
    again_at: datetime | None = None
    refused_since: datetime | None = None
    problem: Text | None = None
    hint: Text | None = None


@dataclass(frozen=True, slots=True)
class News:
    """One thing to tell. `again` is trouble that was told before and is not over."""

    topic: Topic
    subject: Subject
    since: datetime
    code: str
    message: Text
    hint: Text | None = None
    deadline: datetime | None = None
    again: bool = False

    @property
    def key(self) -> Key:
        """The notice's, which what is over does not have any more."""
        topic = Topic.TROUBLE if self.topic is Topic.RECOVERED else self.topic
        return (topic, self.subject)


KEPT = timedelta(days=1)
"""How long an event is kept for a channel that takes no message. Trouble stays until it is over."""

_IN_ORDER = frozenset({Outcome.DONE, Outcome.UNCHANGED})
_BAD = frozenset({Outcome.FAILED, Outcome.REFUSED})
_GO_ON = frozenset({Topic.TROUBLE, Topic.FOUND})
_RUN = Subject()

Notices = tuple[Notice, ...]


@dataclass(frozen=True, slots=True)
class Missed:
    """What a monitor was not told: why, and what to do."""

    problem: Text
    hint: Text


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

    A run that was stopped tells nothing: it has not seen everything.
    """
    if not report.complete:
        return before
    reports = {lineage.lineage: lineage for lineage in report.lineages}
    wanted = {*declared, *reports}
    kept = [one for one in before if _stands(one, reports, wanted, now)]
    if report.undeclared is None:
        kept += [one for one in before if one.code == CODE and one not in kept]
    found = [
        notice
        for lineage in report.lineages
        if lineage.lineage in versions or not _is_quiet(lineage)
        for notice in _of_lineage(lineage, versions.get(lineage.lineage, ()), now)
    ]
    found += [
        Notice(Topic.TROUBLE, Subject(one.lineage), now, CODE, one.message, one.hint)
        for one in report.undeclared or ()
    ]
    return _merged(kept, found, before)


def failed_run(error: CertferryError, before: Notices, now: datetime) -> Notices:
    """Return the notices that stand after a run that an error ended before it had a report."""
    trouble = Notice(Topic.TROUBLE, _RUN, now, error.code, error.message, error.hint)
    return _merged(before, [trouble], before)


def answered(channel: str, problem: Text | None, before: Notices, now: datetime) -> Notices:
    """Return the notices that stand after a channel took a message, or did not for a `problem`."""
    subject = Subject(channel=channel)
    if problem is None:
        return tuple(one for one in before if one.subject != subject)
    message = Text("{channel} takes no messages: {problem}", channel=channel, problem=problem)
    hint = Text("run `certferry notify test {channel}` when it is put right", channel=channel)
    refused = Notice(Topic.TROUBLE, subject, now, "channel_refused", message, hint)
    return _merged(before, [refused], before)


def monitored(
    name: str, code: str, missed: Missed | None, before: Notices, now: datetime
) -> Notices:
    """Return the notices that stand after a run told a monitor of itself, or could not."""
    subject = Subject(channel=name)
    if missed is None:
        return tuple(one for one in before if one.subject != subject)
    trouble = Notice(Topic.TROUBLE, subject, now, code, missed.problem, missed.hint)
    return _merged(before, [trouble], before)


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
    notice: Notice, reports: Mapping[str, LineageReport], wanted: Collection[str], now: datetime
) -> bool:
    """Tell whether a notice of an earlier run still stands, whatever this one found."""
    subject = notice.subject
    if subject.channel:
        return True
    if subject == _RUN:
        return False  # this run has a report
    if subject.lineage not in wanted:
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
    """Tell whether a step that has not ended well leaves open whether the trouble is over."""
    if step.target is None:
        return True
    if not subject.target:
        return False  # the certificate came; what its targets do is trouble of their own
    if step.target != subject.target:
        return False
    if step.domain is None:
        return step.action is None or not subject.domain
    return step.domain == subject.domain or not subject.domain


def _is_quiet(report: LineageReport) -> bool:
    """Tell whether all is as it was: so it is in most runs, which are to be quick."""
    return all(step.outcome is Outcome.UNCHANGED and step.hint is None for step in report.outcomes)


def _of_lineage(
    report: LineageReport, versions: Sequence[Version], now: datetime
) -> Iterator[Notice]:
    yield from _troubles(report, versions, now)
    yield from _done(report, now)
    for step in report.outcomes:
        if _is_a_finding(step):
            yield _notice(Topic.FOUND, report, step, now)
    if versions and is_overdue(versions[0].certificate, now):
        yield _deadline(report.lineage, versions[0])


def _troubles(
    report: LineageReport, versions: Sequence[Version], now: datetime
) -> Iterator[Notice]:
    told: set[Subject] = set()
    for step in report.outcomes:
        if step.outcome not in _BAD and not _waits_too_long(step, versions, now):
            continue
        notice = _notice(Topic.TROUBLE, report, step, now, _time_left(step, versions, now))
        if notice.subject not in told:
            told.add(notice.subject)
            yield notice


def _waits_too_long(step: StepOutcome, versions: Sequence[Version], now: datetime) -> bool:
    """Tell whether an order is held back until a moment at which the renewal is overdue; or, where
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
    """Tell of certificates that came, and of places that have them: seen there where there is
    something to be seen.
    """
    verified = {(s.target, s.domain) for s in report.outcomes if s.action is Action.VERIFY}
    for step in report.outcomes:
        if step.outcome is not Outcome.DONE:
            continue
        if step.action in {Action.ISSUE, Action.ADOPT}:
            yield _notice(Topic.RENEWED, report, step, now)
        is_last = step.action is Action.VERIFY or (
            step.action is Action.DEPLOY and (step.target, step.domain) not in verified
        )
        if is_last:
            yield _notice(Topic.DEPLOYED, report, step, now)


def _is_a_finding(step: StepOutcome) -> bool:
    """Tell whether something was found that another person should know: an account that cannot be
    read in part, or what another tool changed and the file leaves like that.
    """
    left = step.action is Action.DEPLOY and step.outcome is Outcome.UNCHANGED
    return step.notice or (left and step.hint is not None)


def _deadline(lineage: str, version: Version) -> Notice:
    certificate = version.certificate
    return Notice(
        Topic.DEADLINE,
        Subject(lineage),
        version.saved_at,
        "overdue",
        Text("the certificate ends at {end} and is not renewed", end=certificate.not_after),
        Text("see with `certferry status {lineage}` what holds it up", lineage=lineage),
        certificate.not_after,
    )


def _notice(
    topic: Topic,
    report: LineageReport,
    step: StepOutcome,
    now: datetime,
    deadline: datetime | None = None,
) -> Notice:
    subject = Subject(report.lineage, step.target or "", step.domain or "")
    usual = topic.value if step.outcome in _IN_ORDER else step.outcome.value
    code = step.code or usual
    return Notice(topic, subject, now, code, step.detail, step.hint, deadline)

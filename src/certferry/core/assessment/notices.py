"""Notices for operators: the notices that stand after a run, and the records of sent notices."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct, field

from certferry.core.certificates.certificate import is_overdue
from certferry.core.certificates.lineage import Version, Versions
from certferry.core.desired.certificate import Kind
from certferry.core.planning.limits import WITHOUT_ANY
from certferry.core.planning.plan import Action
from certferry.core.planning.report import (
    UNDECLARED,
    LineageReport,
    Outcome,
    StepOutcome,
    SyncReport,
)
from certferry.errors import CertferryError, DeclarationOutdated, Problem
from certferry.text import Text
from certferry.values import replace


class Topic(StrEnum):
    """The topic of a message, in the words of the setting `on` and of the events in JSON."""

    TROUBLE = "trouble"  #: A failure or a refusal.
    RECOVERED = "recovered"  #: The end of a trouble.
    RENEWED = "renewed"  #: A new certificate.
    DEPLOYED = "deployed"  #: A place that has a new certificate.
    DEADLINE = "deadline"  #: A certificate whose renewal is overdue.
    FOUND = "found"  #: A part of a target that was not read, or drift that stays.


USUAL = (Topic.TROUBLE, Topic.RECOVERED)
"""The topics of a channel without the setting `on`."""


class Subject(Struct, frozen=True, order=True):
    """The subject of a notice. With all fields empty, the run as a whole is the subject.

    Further examples: `Subject("shop")` is a certificate, `Subject("shop", "cdn")` the certificate
    at a target, `Subject(channel="ding")` a channel.
    """

    lineage: str = ""  #: The lineage's name.
    target: str = ""  #: The account's name.
    domain: str = ""  #: The domain's name.
    channel: str = ""  #: The name of a channel or of a monitor.
    #: The host concerned, if hosts share the state. With `lineage`, only the certificate's
    #: receivers or declaration on that host are meant.
    host: str = ""
    #: The identity of a certificate in public logs (`core.observed.public_logs`). `domain` is then
    #: the registered domain.
    logged: str = ""
    #: The name of the `[[watch]]`, if the subject is a watched host. `domain` is then the host,
    #: with the port if it is not 443.
    watch: str = ""


OF_ALL = Subject()
Key = tuple[Topic, Subject]


class Notice(Struct, frozen=True):
    """A fact for operators. A notice of an event, such as a new certificate, stands for `KEPT`. Any
    other notice stands until the fact is over.
    """

    topic: Topic  #: The topic of the fact.
    subject: Subject  #: The subject of the fact.
    #: When the fact began.
    since: datetime
    problem: Problem  #: The fact in words, with a code and a hint.
    #: When the certificate that is served now ends, if that moment matters.
    deadline: datetime | None = None

    @property
    def key(self) -> Key:
        """The notice's identity: at most one notice stands for a key."""
        return (self.topic, self.subject)


class SentNotice(Struct, frozen=True):
    """The record of a notice sent to a channel."""

    topic: Topic  #: The topic of the notice.
    subject: Subject  #: The subject of the notice.
    #: The beginning of the notice.
    since: datetime
    #: When the notice was sent.
    at: datetime
    #: The code of the notice's problem.
    code: str = ""

    @property
    def key(self) -> Key:
        """The key of the notice."""
        return (self.topic, self.subject)


class ChannelState(Struct, frozen=True):
    """The stored records of a channel."""

    sent_notices: tuple[SentNotice, ...] = ()  #: The records of sent notices.
    #: When the last messages were sent; at most `dispatch.AT_ONCE` moments.
    sent: tuple[datetime, ...] = ()
    #: Until when the service asked certferry to wait.
    again_at: datetime | None = None
    #: Why the service refuses messages.
    refusal: Problem | None = None


REFUSED = "channel_refused"
"""The code of the problem of a channel that refuses messages."""

KEPT = timedelta(days=1)
"""How long a notice of an event stands. A channel that refused a message in this time gets the
notice from a later run.
"""

_IN_ORDER = frozenset({Outcome.DONE, Outcome.UNCHANGED})
_BAD = frozenset({Outcome.FAILED, Outcome.REFUSED})
_GO_ON = frozenset({Topic.TROUBLE, Topic.FOUND})

Notices = tuple[Notice, ...]


def noticed(
    report: SyncReport,
    before: Notices,
    now: datetime,
    *,
    versions: Mapping[str, Versions],
    declared: Collection[str],
    host: str = "",
) -> Notices:
    """Return the notices that stand after a run.

    `declared` are all declared lineages, even those that the run did not cover. `versions` are
    newest first. If hosts share the state, `host` is this host, and notices of other hosts stay.
    After a stopped run, the notices stay as they were.
    """
    if not report.complete:
        return before  # a run that was stopped has not seen everything
    reports = {lineage.lineage: lineage for lineage in report.lineages}
    names = {*declared, *reports}
    kept = [
        notice
        for notice in before
        if notice.subject.host not in {"", host} or _stands(notice, reports, names, now)
    ]
    if report.undeclared is None:
        kept += [
            notice for notice in before if notice.problem.code == UNDECLARED and notice not in kept
        ]
    new = [
        _at_host(notice, host)
        for lineage in report.lineages
        if lineage.lineage in versions or not _is_quiet(lineage)
        for notice in _of_lineage(lineage, versions.get(lineage.lineage, ()), now)
    ]
    for certificate in report.undeclared or ():
        problem = Problem(UNDECLARED, certificate.problem.message, certificate.problem.hint)
        new.append(Notice(Topic.TROUBLE, Subject(certificate.lineage), now, problem))
    return _merged(kept, new, before)


def _at_host(notice: Notice, host: str) -> Notice:
    """Add the host to a notice about a receiver or an outdated declaration, because each host has
    receivers and declarations of its own.
    """
    is_own = Kind(notice.subject.target).is_receiver
    if not host or not (is_own or notice.problem.code == DeclarationOutdated.code):
        return notice
    return replace(notice, subject=replace(notice.subject, host=host))


def failed_run(error: CertferryError, before: Notices, now: datetime, *, host: str = "") -> Notices:
    """Return the notices that stand after an error ended a run before the run had a report.

    `host` is the host of the run if hosts share the state.
    """
    notice = Notice(Topic.TROUBLE, Subject(host=host), now, error.problem())
    return _merged(before, [notice], before)


def of_channel(
    channel: str, problem: Problem | None, before: Notices, now: datetime, *, host: str = ""
) -> Notices:
    """Return the notices after a message to a channel, or a ping to a monitor.

    `problem` is the failure, `None` for success. `host` is the sender if hosts share the state.
    """
    subject = Subject(channel=channel, host=host)
    if problem is None:
        return tuple(notice for notice in before if notice.subject != subject)
    return _merged(before, [Notice(Topic.TROUBLE, subject, now, problem)], before)


def refused(channel: str, answer: Text, fix: Text | None = None) -> Problem:
    """Return the problem of a channel that refuses messages; `answer` is the service's reason, and
    `fix` the advice of the service's adapter.
    """
    hint = Text("after fixing the channel, send a test message: `certferry notify test {channel}`")
    if fix is not None:
        hint = Text("{fix}; then send a test message: `certferry notify test {channel}`", fix=fix)
    hint = hint.filled(**hint.values, channel=channel)
    message = Text("channel {channel} accepts no messages: {problem}")
    return Problem(REFUSED, message.filled(channel=channel, problem=answer), hint)


def without_channels(before: Notices, channels: Collection[str], host: str = "") -> Notices:
    """Return the notices without those about channels removed from this host's file.

    Notices of other hosts stay, because each host has a file of its own.
    """
    ours = {"", host}
    return tuple(
        notice
        for notice in before
        if notice.subject.channel in {"", *channels} or notice.subject.host not in ours
    )


def _merged(kept: Iterable[Notice], new: Iterable[Notice], before: Iterable[Notice]) -> Notices:
    """Return the kept notices and the new notices; a new notice replaces a kept notice of the same
    key. Trouble and findings that go on keep their `since`.
    """
    begun = {notice.key: notice.since for notice in before if notice.topic in _GO_ON}
    notices = {notice.key: notice for notice in kept}
    notices |= {
        notice.key: replace(notice, since=begun.get(notice.key, notice.since)) for notice in new
    }
    return tuple(notices.values())


def _stands(
    notice: Notice, reports: Mapping[str, LineageReport], names: Collection[str], now: datetime
) -> bool:
    """Return whether a notice of an earlier run stands if this run makes no notice with the same
    key.
    """
    subject = notice.subject
    if subject.channel:
        return True
    # also trouble of a whole run: the trouble is over, because this run has a report
    if subject.lineage not in names:
        return False
    report = reports.get(subject.lineage)
    match notice.topic:
        case Topic.TROUBLE:
            return report is None or any(_hides(step, subject) for step in report.outcomes)
        case Topic.RENEWED | Topic.DEPLOYED:
            return now - notice.since < KEPT
        case _:
            return report is None


def _hides(step: StepOutcome, subject: Subject) -> bool:
    """Return whether this step leaves open whether an earlier trouble about `subject` is over. The
    step itself made no notice about `subject`.
    """
    if step.outcome in _IN_ORDER or step.notice:
        return False
    if step.target is None:
        return True
    if step.target != subject.target:
        return False  # a failure at another target has a notice of its own
    if step.domain is None:
        return step.action is None or not subject.domain
    return step.domain == subject.domain or not subject.domain


def _is_quiet(report: LineageReport) -> bool:
    """Return whether nothing changed, as in most runs. Then `noticed` skips the lineage if the
    caller gave no versions.
    """
    return all(step.outcome is Outcome.UNCHANGED and step.hint is None for step in report.outcomes)


def _of_lineage(report: LineageReport, versions: Versions, now: datetime) -> Iterator[Notice]:
    troubles: dict[Subject, Notice] = {}
    for step in report.outcomes:
        if step.outcome in _BAD or _waits_too_long(step, versions, now):
            end = end_of_served(step, [version.certificate.not_after for version in versions])
            left = end if end is not None and end > now else None
            trouble = _notice(Topic.TROUBLE, report.lineage, step, now, left)
            troubles.setdefault(trouble.subject, trouble)
    yield from troubles.values()
    yield from _done(report, now)
    yield from (
        _notice(Topic.FOUND, report.lineage, s, now) for s in report.outcomes if _is_a_finding(s)
    )
    if versions and is_overdue(versions[0].certificate, now):
        yield _deadline(report.lineage, versions[0])


def _waits_too_long(step: StepOutcome, versions: Versions, now: datetime) -> bool:
    """Return whether the step is an order held so long that the renewal will be overdue. Without a
    certificate, or with a revoked certificate, return whether the order is held for more than
    `WITHOUT_ANY`.
    """
    until = step.held_until
    if until is None:
        return False
    if not versions or versions[0].revocation is not None:
        return until - now > WITHOUT_ANY
    return is_overdue(versions[0].certificate, until)


def end_of_served(step: StepOutcome, ends: Sequence[datetime]) -> datetime | None:
    """Return when the certificate ends that is probably served after a failed step; `None` if
    unknown. `ends` are the ends of the stored certificates, the newest first.
    """
    # If issuing failed, the newest version is served; if deploying failed, the version before.
    return next(iter(ends[:1] if step.target is None else ends[1:2]), None)


def _done(report: LineageReport, now: datetime) -> Iterator[Notice]:
    """Yield notices about new certificates, and about places that have a new certificate.

    A domain has the certificate once verified; a receiver without a `VERIFY`, once delivered.
    """
    verified = {(s.target, s.domain) for s in report.outcomes if s.action is Action.VERIFY}
    for step in report.having(Outcome.DONE):
        is_unverified = (step.target, step.domain) not in verified
        if step.action in {Action.ISSUE, Action.ADOPT}:
            yield _notice(Topic.RENEWED, report.lineage, step, now)
        if step.action is Action.VERIFY or (step.action is Action.DEPLOY and is_unverified):
            yield _notice(Topic.DEPLOYED, report.lineage, step, now)


def _is_a_finding(step: StepOutcome) -> bool:
    """Return whether a person should know of the step's fact: an unread part of a target, other
    information, or drift under `drift = "warn"`.
    """
    left = step.action is Action.DEPLOY and step.outcome is Outcome.UNCHANGED
    # A domain switched off is skipped in every run, so a skip is no news.
    return (step.notice and not step.left) or (left and step.hint is not None)


def _deadline(lineage: str, version: Version) -> Notice:
    end = version.certificate.not_after
    problem = Problem(
        "overdue",
        Text("the certificate ends at {end} and is not renewed", end=end),
        Text("to see the cause: `certferry status {lineage}`", lineage=lineage),
    )
    return Notice(Topic.DEADLINE, Subject(lineage), version.saved_at, problem, end)


def _notice(
    topic: Topic, lineage: str, step: StepOutcome, now: datetime, deadline: datetime | None = None
) -> Notice:
    usual = topic.value if step.outcome in _IN_ORDER else step.outcome.value
    problem = Problem(step.code or usual, step.detail, step.hint)
    subject = Subject(lineage, step.target or "", step.domain or "")
    return Notice(topic, subject, now, problem, deadline)


CUT = "…"


class Message(Struct, frozen=True):
    """A message to a channel."""

    title: str  #: The first line.
    #: The paragraphs, the most important first.
    paragraphs: tuple[str, ...]
    #: The message for programs, by docs/reference/schema/event.json.
    event: Mapping[str, object] = field(default_factory=dict)

    def body(self, most_bytes: int) -> str:
        """Return the paragraphs that fit in `most_bytes` of UTF-8, with `CUT` if some are left out.

        If even the first paragraph is too long, return the beginning of the paragraphs and `CUT`.
        """
        whole = "\n\n".join(self.paragraphs)
        if _size(whole) <= most_bytes:
            return whole
        kept: list[str] = []
        for paragraph in self.paragraphs:
            if _size("\n\n".join([*kept, paragraph, CUT])) > most_bytes:
                break
            kept.append(paragraph)
        if kept:
            return "\n\n".join([*kept, CUT])
        return shortened(whole, most_bytes)

    def text(self, most_bytes: int) -> str:
        """Return title and paragraphs in `most_bytes` of UTF-8; the title has at most half."""
        title = shortened(self.title, most_bytes // 2)
        return f"{title}\n\n{self.body(most_bytes - _size(title) - 2)}"


def shortened(words: str, most_bytes: int) -> str:
    """Return words of at most `most_bytes` in UTF-8 as they are. Cut longer words between
    characters, and add `CUT`.
    """
    raw = words.encode()
    if len(raw) <= most_bytes:
        return words
    room = max(most_bytes - _size(CUT), 0)
    return raw[:room].decode(errors="ignore").rstrip() + CUT


def _size(words: str) -> int:
    return len(words.encode())

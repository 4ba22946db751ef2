"""Notices for operators: those that stand now, and those that each channel is sent, which are the
difference to its deliveries.

A delivery is stored before it is sent, and taken back when the service did not take it. A run that
is killed in between leaves it stored: nothing is sent twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from certferry.core.certificates.certificate import is_overdue
from certferry.core.certificates.lineage import Version, Versions
from certferry.core.desired.certificate import Kind
from certferry.core.planning.limits import NEAR, WITHOUT_ANY
from certferry.core.planning.plan import Action
from certferry.core.planning.report import CODE, LineageReport, Outcome, StepOutcome, SyncReport
from certferry.errors import CertferryError, DeclarationOutdated, OrderPostponed, Problem
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
    """A certificate, a target of it, a domain there, or a `channel`; with none, the run itself. Of
    hosts that share a state, one `host`, or what of a certificate is that host's alone.
    """

    lineage: str = ""
    target: str = ""
    domain: str = ""
    channel: str = ""
    host: str = ""


OF_ALL = Subject()
Key = tuple[Topic, Subject]


@dataclass(frozen=True, slots=True)
class Notice:
    """What stands since a moment, as `problem` says; the old one works until the `deadline`."""

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
    """What a channel was sent, and when; `refusal` is why its service takes no message."""

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
    versions: Mapping[str, Versions],
    declared: Collection[str],
    host: str = "",
) -> Notices:
    """Return the notices that stand after a run of what is `declared`. `versions`: newest first.
    Where others share the state, `host` is this one: it ends none of theirs.
    """
    if not report.complete:
        return before  # a run that was stopped has not seen everything
    reports = {lineage.lineage: lineage for lineage in report.lineages}
    known = {*declared, *reports}
    kept = [
        one
        for one in before
        if one.subject.host not in {"", host} or _stands(one, reports, known, now)
    ]
    if report.undeclared is None:
        kept += [one for one in before if one.problem.code == CODE and one not in kept]
    found = [
        _at_host(notice, host)
        for lineage in report.lineages
        if lineage.lineage in versions or not _is_quiet(lineage)
        for notice in _of_lineage(lineage, versions.get(lineage.lineage, ()), now)
    ]
    for one in report.undeclared or ():
        problem = Problem(CODE, one.problem.message, one.problem.hint)
        found.append(Notice(Topic.TROUBLE, Subject(one.lineage), now, problem))
    return _merged(kept, found, before)


def _at_host(notice: Notice, host: str) -> Notice:
    """Return a notice as this host's, where other hosts have a like part of the certificate."""
    is_own = Kind(notice.subject.target).is_receiver
    if not host or not (is_own or notice.problem.code == DeclarationOutdated.code):
        return notice
    return replace(notice, subject=replace(notice.subject, host=host))


def failed_run(error: CertferryError, before: Notices, now: datetime, *, host: str = "") -> Notices:
    """Return the notices that stand after a run that an error ended before it had a report; where
    others share the state, it was a run of `host`.
    """
    notice = Notice(Topic.TROUBLE, Subject(host=host), now, error.problem())
    return _merged(before, [notice], before)


def of_channel(
    channel: str, problem: Problem | None, before: Notices, now: datetime, *, host: str = ""
) -> Notices:
    """Return the notices after a channel, or a monitor, took what it was sent, or did not; where
    others share the state, of `host`.
    """
    subject = Subject(channel=channel, host=host)
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


def without_channels(before: Notices, known: Collection[str], host: str = "") -> Notices:
    """Return the notices without those of channels that the file does not have any more; those of
    other hosts than this `host` are about their files.
    """
    ours = {"", host}
    return tuple(
        one for one in before if one.subject.channel in {"", *known} or one.subject.host not in ours
    )


def _merged(kept: Iterable[Notice], found: Iterable[Notice], before: Iterable[Notice]) -> Notices:
    """Put what was found in the place of what is kept. What goes on keeps its beginning."""
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
            return report is None or any(_hides(step, subject) for step in report.outcomes)
        case Topic.RENEWED | Topic.DEPLOYED:
            return now - notice.since < KEPT
        case _:
            return report is None


def _hides(step: StepOutcome, subject: Subject) -> bool:
    """Whether a step that has not ended well leaves open whether the trouble is over."""
    if step.outcome in _IN_ORDER or step.notice:
        return False
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


def _of_lineage(report: LineageReport, versions: Versions, now: datetime) -> Iterator[Notice]:
    troubles: dict[Subject, Notice] = {}
    for step in report.outcomes:
        if step.outcome in _BAD or _waits_too_long(step, versions, now):
            left = _time_left(step, versions, now)
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
    """Whether an order waits until the renewal is overdue, or too long for a first one."""
    until = step.held_until
    if until is None:
        return False
    if not versions or versions[0].revocation is not None:
        return until - now > WITHOUT_ANY
    return is_overdue(versions[0].certificate, until)


def _time_left(step: StepOutcome, versions: Versions, now: datetime) -> datetime | None:
    """Return the moment until which what is served now works."""
    # Without a new certificate it is the newest one; without its deployment, the one before it.
    served = versions[:1] if step.target is None else versions[1:2]
    ends = [version.certificate.not_after for version in served]
    return next((end for end in ends if end > now), None)


def _done(report: LineageReport, now: datetime) -> Iterator[Notice]:
    """Return the certificates that came, and the places that have them: seen there, if possible."""
    verified = {(s.target, s.domain) for s in report.outcomes if s.action is Action.VERIFY}
    for step in report.having(Outcome.DONE):
        is_unverified = (step.target, step.domain) not in verified
        if step.action in {Action.ISSUE, Action.ADOPT}:
            yield _notice(Topic.RENEWED, report.lineage, step, now)
        if step.action is Action.VERIFY or (step.action is Action.DEPLOY and is_unverified):
            yield _notice(Topic.DEPLOYED, report.lineage, step, now)


def _is_a_finding(step: StepOutcome) -> bool:
    """Whether a person should know: something is unread, or another tool's change stays."""
    left = step.action is Action.DEPLOY and step.outcome is Outcome.UNCHANGED
    # A domain that is switched off is skipped for as long as it is: it is no news.
    return (step.notice and not step.left) or (left and step.hint is not None)


def _deadline(lineage: str, version: Version) -> Notice:
    end = version.certificate.not_after
    problem = Problem(
        "overdue",
        Text("the certificate ends at {end} and is not renewed", end=end),
        Text("see with `certferry status {lineage}` what holds it up", lineage=lineage),
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


@dataclass(frozen=True, slots=True)
class Message:
    """A title, paragraphs by importance, and `event` (docs/reference/schema/event.json)."""

    title: str
    paragraphs: tuple[str, ...]
    event: Mapping[str, object] = field(default_factory=dict)

    def body(self, most_bytes: int) -> str:
        """Return the paragraphs that fit in so many bytes of UTF-8, with a mark where some lack."""
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
        """Return title and paragraphs in so many bytes of UTF-8, above all the title."""
        title = shortened(self.title, most_bytes // 2)
        return f"{title}\n\n{self.body(most_bytes - _size(title) - 2)}"


def shortened(words: str, most_bytes: int) -> str:
    """Cut words to so many bytes of UTF-8, never within a character, and show that they are cut."""
    raw = words.encode()
    if len(raw) <= most_bytes:
        return words
    room = max(most_bytes - _size(CUT), 0)
    return raw[:room].decode(errors="ignore").rstrip() + CUT


def _size(words: str) -> int:
    return len(words.encode())


A_DAY = timedelta(hours=23)
"""After which trouble is sent again: a run once a day is not on time to the second."""
NEAR_AGAIN = timedelta(hours=6)
"""Near the deadline it is sent more often, by what runs there are."""

AT_ONCE = 5
"""Messages that a channel may be sent in as many minutes. DingTalk, Feishu and WeCom take twenty a
minute or more (docs/facts/receivers.md §1)."""
MINUTE = timedelta(minutes=1)

LONGEST_REST = timedelta(days=2)
"""The longest that a channel's service may ask for: those that send no more today mean tomorrow."""

CROWDED = (0, 30)
"""Minutes at whose beginning all the world sends: Feishu refuses then (11232)."""
CROWD = timedelta(seconds=4)

_ORDER = (
    Topic.TROUBLE,
    Topic.DEADLINE,
    Topic.RECOVERED,
    Topic.FOUND,
    Topic.RENEWED,
    Topic.DEPLOYED,
)


@dataclass(frozen=True, slots=True)
class Notification:
    """One notice for a channel. `again` is trouble that it was sent before and that is not over."""

    notice: Notice
    again: bool = False


@dataclass(frozen=True, slots=True)
class Dispatch:
    """What a channel is sent by this run alone, and what is stored of it meanwhile."""

    notifications: tuple[Notification, ...]
    state: ChannelState


def dispatch(
    name: str, notices: Sequence[Notice], state: ChannelState, on: Collection[Topic], now: datetime
) -> Dispatch:
    """Claim for this run what a channel that takes the topics `on` is to be sent now."""
    due = tuple(_due(name, notices, state.deliveries, on, now))
    known = _without_past(state.deliveries, notices, on)
    if not due or not may_be_sent(state, now):
        return Dispatch((), replace(state, deliveries=known))
    after = {one.key: one for one in known}
    for notice in (one.notice for one in due):
        if notice.topic is Topic.RECOVERED:
            after.pop(_delivered_as(notice), None)
        else:
            after[notice.key] = Delivery(*notice.key, notice.since, now, notice.problem.code)
    sent = (*state.sent, now)[-AT_ONCE:]
    return Dispatch(due, replace(state, deliveries=tuple(after.values()), sent=sent))


def having(delivery: Delivery, state: ChannelState) -> ChannelState:
    """Return what is stored of a channel, with something more that it was sent."""
    is_known = delivery.key in {one.key for one in state.deliveries}
    return state if is_known else replace(state, deliveries=(*state.deliveries, delivery))


def taken_back(
    sent: Iterable[Notification], before: ChannelState, state: ChannelState
) -> ChannelState:
    """Return the state without what a channel did not take, so that a later run sends it."""
    were = {one.key: one for one in before.deliveries}
    are = {one.key: one for one in state.deliveries}
    for key in (_delivered_as(one.notice) for one in sent):
        are.pop(key, None)
        if key in were:
            are[key] = were[key]
    return replace(state, deliveries=tuple(are.values()))


def _delivered_as(notice: Notice) -> Key:
    """The key of a delivery: what is over was sent as trouble."""
    topic = Topic.TROUBLE if notice.topic is Topic.RECOVERED else notice.topic
    return (topic, notice.subject)


def may_be_sent(state: ChannelState, now: datetime) -> bool:
    """Whether a channel's service did not ask to wait, and it was sent few messages. A moment far
    ahead is of a wrong clock.
    """
    if state.again_at is not None and now < state.again_at <= now + LONGEST_REST:
        return False
    return len([one for one in state.sent if abs(now - one) < AT_ONCE * MINUTE]) < AT_ONCE


def until_quiet(now: datetime) -> timedelta:
    """Return how long to wait until the crowd of the full and the half hour is over."""
    if now.minute not in CROWDED:
        return timedelta(0)
    passed = timedelta(seconds=now.second, microseconds=now.microsecond)
    return max(CROWD - passed, timedelta(0))


def again_after(notice: Notice, now: datetime) -> timedelta | None:
    """Return after how long trouble is sent again, `None` for never."""
    if notice.deadline is not None and notice.deadline - now <= NEAR:
        return NEAR_AGAIN
    # An order that waits for the CA was sent with its moment: nothing is to be done before.
    return None if notice.problem.code == OrderPostponed.code else A_DAY


def _due(
    name: str,
    notices: Sequence[Notice],
    deliveries: Sequence[Delivery],
    topics: Collection[Topic],
    now: datetime,
) -> list[Notification]:
    before = {one.key: one for one in deliveries}
    # A channel cannot be sent its own trouble.
    standing = {one.key: one for one in notices if one.subject.channel != name}
    due = [
        Notification(notice, again=key in before and before[key].since == notice.since)
        for key, notice in standing.items()
        if not _was_sent(notice, before.get(key), now)
    ]
    for one in deliveries:
        if one.topic is Topic.TROUBLE and one.key not in standing:
            message = Text("in order again; the trouble began at {since}", since=one.since)
            over = Problem(one.code, message)
            due.append(Notification(Notice(Topic.RECOVERED, one.subject, one.since, over)))
    taken = [one for one in due if one.notice.topic in topics]
    return sorted(taken, key=lambda one: (_ORDER.index(one.notice.topic), one.notice.subject))


def _was_sent(notice: Notice, delivery: Delivery | None, now: datetime) -> bool:
    """Whether a channel knows a notice, and need not be sent it again yet."""
    if delivery is None or delivery.since != notice.since:
        return False
    pause = again_after(notice, now) if notice.topic is Topic.TROUBLE else None
    return pause is None or now - delivery.at < pause


def _without_past(
    deliveries: Sequence[Delivery], notices: Sequence[Notice], topics: Collection[Topic]
) -> tuple[Delivery, ...]:
    """Leave out what stands no more, but for trouble whose end is still to be sent."""
    standing = {one.key for one in notices}
    awaited = Topic.RECOVERED in topics
    return tuple(
        one for one in deliveries if one.key in standing or (awaited and one.topic is Topic.TROUBLE)
    )

"""The messages to each channel: new notices, reminders and recoveries.

All trouble of one cause is sent together, at first and in each reminder. A certificate with later
trouble of the same cause waits for the next reminder, unless the certificate ends earlier than the
others, or no reminder follows.

Before sending a message, a run stores a `SentNotice` for each trouble, and deletes the `SentNotice`
of each trouble that is over. If the service refuses the message, the run puts the earlier records
back. A run killed in between leaves the new records, so the message is lost rather than sent twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from certferry.core.assessment.causes import causes_of
from certferry.core.assessment.health import Concern
from certferry.core.assessment.notices import ChannelState, Key, Notice, SentNotice, Topic
from certferry.core.assessment.transparency import FOREIGN
from certferry.core.planning.limits import NEAR
from certferry.errors import OrderPostponed, Problem
from certferry.text import Text
from certferry.values import replace

A_DAY = timedelta(hours=23)
"""The time after which trouble is sent again. The time is shorter than a day, because two daily
runs may be some minutes less than a day apart.
"""
NEAR_AGAIN = timedelta(hours=6)
"""The time after which trouble near the deadline is sent again, if a run comes by then."""

AT_ONCE = 5
"""The most messages to a channel in `AT_ONCE` minutes. Services for messages accept twenty a
minute or more (docs/facts/receivers.md §1)."""
MINUTE = timedelta(minutes=1)

LONGEST_REST = timedelta(days=2)
"""The longest wait accepted from a service. With a used-up daily quota, services ask for a wait
until tomorrow.
"""

CROWDED = (0, 30)
"""The minutes of an hour at the beginning of which timers all over the world send, so services
refuse messages.
"""
CROWD = timedelta(seconds=4)  # how long services refuse messages in these minutes

_NEVER = datetime.max.replace(tzinfo=UTC)

_ORDER = (
    Topic.TROUBLE,
    Topic.DEADLINE,
    Topic.RECOVERED,
    Topic.FOUND,
    Topic.RENEWED,
    Topic.DEPLOYED,
)


class Notification(Struct, frozen=True):
    """A notice to be sent to a channel."""

    notice: Notice  #: The notice.
    #: Whether the channel was sent the same trouble before.
    again: bool = False


class Dispatch(Struct, frozen=True):
    """The notifications that a run sends to a channel."""

    notifications: tuple[Notification, ...]  #: The notifications to send in one message.
    #: The records to store before sending, so another run does not send the notifications again.
    state: ChannelState


def dispatch(
    name: str, notices: Sequence[Notice], state: ChannelState, on: Collection[Topic], now: datetime
) -> Dispatch:
    """Return the notifications for the channel `name` with the topics `on`, and the channel's
    records to store before sending. There are no notifications while `may_be_sent` is false.
    """
    to_send = tuple(_to_send(name, notices, state.sent_notices, on, now))
    sent_notices = _without_past(state.sent_notices, notices, on)
    if not to_send or not may_be_sent(state, now):
        return Dispatch((), replace(state, sent_notices=sent_notices))
    after = {sent_notice.key: sent_notice for sent_notice in sent_notices}
    for notice in (notification.notice for notification in to_send):
        if notice.topic is Topic.RECOVERED:
            after.pop(_sent_as(notice), None)
        else:
            after[notice.key] = SentNotice(*notice.key, notice.since, now, notice.problem.code)
    sent = (*state.sent, now)[-AT_ONCE:]
    return Dispatch(to_send, replace(state, sent_notices=tuple(after.values()), sent=sent))


def having(sent_notice: SentNotice, state: ChannelState) -> ChannelState:
    """Return the channel's records with one more record. Return the records unchanged if one has
    the same key.
    """
    is_known = sent_notice.key in {stored.key for stored in state.sent_notices}
    return state if is_known else replace(state, sent_notices=(*state.sent_notices, sent_notice))


def taken_back(
    sent: Iterable[Notification], before: ChannelState, state: ChannelState
) -> ChannelState:
    """Return the `state` of a channel after the service refused the notifications in `sent`. The
    notices have the records of `before` again, so a later run sends the notifications.
    """
    were = {sent_notice.key: sent_notice for sent_notice in before.sent_notices}
    are = {sent_notice.key: sent_notice for sent_notice in state.sent_notices}
    for key in (_sent_as(notification.notice) for notification in sent):
        are.pop(key, None)
        if key in were:
            are[key] = were[key]
    return replace(state, sent_notices=tuple(are.values()))


def _sent_as(notice: Notice) -> Key:
    """Return the key of the `SentNotice` for a notice. A recovery has the key of the trouble."""
    topic = Topic.TROUBLE if notice.topic is Topic.RECOVERED else notice.topic
    return (topic, notice.subject)


def may_be_sent(state: ChannelState, now: datetime) -> bool:
    """Return whether a channel may be sent a message now.

    The service may have asked to wait, or `AT_ONCE` messages may have been sent in the last
    `AT_ONCE` minutes. A wait longer than `LONGEST_REST` comes from a wrong clock and is ignored.
    """
    if state.again_at is not None and now < state.again_at <= now + LONGEST_REST:
        return False
    return len([moment for moment in state.sent if abs(now - moment) < AT_ONCE * MINUTE]) < AT_ONCE


def until_quiet(now: datetime) -> timedelta:
    """Return how long services still refuse messages at this full or half hour; zero at other
    times.
    """
    if now.minute not in CROWDED:
        return timedelta(0)
    passed = timedelta(seconds=now.second, microseconds=now.microsecond)
    return max(CROWD - passed, timedelta(0))


def again_after(notice: Notice, now: datetime) -> timedelta | None:
    """Return the time after which trouble is sent again; `None` for never."""
    if notice.deadline is not None and notice.deadline - now <= NEAR:
        return NEAR_AGAIN
    # The first message about a postponed order has the moment of the next order. Until then,
    # operators can only wait. A certificate in public logs stays until the operator decides.
    return None if notice.problem.code in {OrderPostponed.code, FOREIGN} else A_DAY


def _to_send(
    name: str,
    notices: Sequence[Notice],
    sent_notices: Sequence[SentNotice],
    topics: Collection[Topic],
    now: datetime,
) -> list[Notification]:
    before = {sent_notice.key: sent_notice for sent_notice in sent_notices}
    # A channel that refuses messages is trouble for the other channels to report.
    standing = {notice.key: notice for notice in notices if notice.subject.channel != name}
    to_send = [
        Notification(notice)
        for notice in standing.values()
        if not _is_trouble(notice) and _sent_at(notice, before) is None
    ]
    for members in by_cause(filter(_is_trouble, standing.values())):
        to_send += _of_cause(members, before, now)
    for sent in sent_notices:
        if sent.topic is Topic.TROUBLE and sent.key not in standing:
            message = Text("in order again; needed attention since {since}", since=sent.since)
            over = Problem(sent.code, message)
            to_send.append(Notification(Notice(Topic.RECOVERED, sent.subject, sent.since, over)))
    taken = [notification for notification in to_send if notification.notice.topic in topics]
    return sorted(
        taken,
        key=lambda notification: (
            _ORDER.index(notification.notice.topic),
            notification.notice.subject,
        ),
    )


def by_cause(troubles: Iterable[Notice]) -> Iterator[list[Notice]]:
    """Yield the trouble of each cause, the worst cause first. Within a cause, the cause's own
    trouble comes before its consequences, sorted by urgency.
    """
    notices = {notice.subject: notice for notice in troubles}
    concerns = (Concern(each.problem, each.subject, each.deadline) for each in notices.values())
    for cause in causes_of(concerns):
        yield [notices[concern.subject] for concern in cause.everything]


def paragraphs(notifications: Sequence[Notification]) -> Iterator[list[Notification]]:
    """Yield the notifications for each paragraph of a message.

    Trouble is grouped by cause. Recoveries are grouped by code, target, channel and host, and
    recoveries of certificates stay apart from all others. Other notices are grouped by message and
    hint.
    """
    by_key = {notification.notice.key: notification for notification in notifications}
    for members in by_cause(filter(_is_trouble, (each.notice for each in notifications))):
        yield [by_key[notice.key] for notice in members]
    others = defaultdict[tuple[Hashable, ...], list[Notification]](list)
    for notification in notifications:
        notice = notification.notice
        problem, about = notice.problem, notice.subject
        if notice.topic is Topic.RECOVERED:
            of_cause = (problem.code, about.target, about.channel, about.host, not about.lineage)
            others[notice.topic, *of_cause].append(notification)
        elif not _is_trouble(notice):
            others[notice.topic, problem.message, problem.hint].append(notification)
    yield from others.values()


def _is_trouble(notice: Notice) -> bool:
    return notice.topic is Topic.TROUBLE


def _of_cause(
    members: Sequence[Notice], before: Mapping[Key, SentNotice], now: datetime
) -> Iterator[Notification]:
    """Yield the notifications of a cause. If a reminder is due, these are all. Otherwise these are
    the new troubles that cannot wait for the next reminder.
    """
    sent = {notice: moment for notice in members if (moment := _sent_at(notice, before))}
    rests = [rest for notice in members if (rest := again_after(notice, now)) is not None]
    if sent and rests and now - max(sent.values()) >= min(rests):
        yield from (Notification(notice, again=notice in sent) for notice in members)
        return
    # A notice sent with another code was about another cause.
    codes = {"", members[0].problem.code}
    of_this_cause = [notice for notice in sent if before[notice.key].code in codes]
    new = [notice for notice in members if notice not in sent]
    if not of_this_cause or not rests or _first_end(new) < _first_end(of_this_cause):
        yield from map(Notification, new)


def _first_end(notices: Iterable[Notice]) -> datetime:
    deadlines = (notice.deadline for notice in notices if notice.deadline is not None)
    return min(deadlines, default=_NEVER)


def _sent_at(notice: Notice, before: Mapping[Key, SentNotice]) -> datetime | None:
    """Return when a channel was sent this notice; `None` if the channel was not sent the notice. An
    earlier notice with the same key began at another moment, and does not count.
    """
    sent = before.get(notice.key)
    return None if sent is None or sent.since != notice.since else sent.at


def _without_past(
    sent_notices: Sequence[SentNotice], notices: Sequence[Notice], topics: Collection[Topic]
) -> tuple[SentNotice, ...]:
    """Return the records of standing notices, and of trouble with a recovery still to send."""
    standing = {notice.key for notice in notices}
    awaited = Topic.RECOVERED in topics
    return tuple(
        sent_notice
        for sent_notice in sent_notices
        if sent_notice.key in standing or (awaited and sent_notice.topic is Topic.TROUBLE)
    )

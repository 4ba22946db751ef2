"""The notifications of a channel: the difference between the notices that stand and its deliveries.

A delivery is stored before it is sent, and taken back when the service did not take it. A run that
is killed in between leaves it stored: nothing is sent twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from certferry.core.assessment.notices import ChannelState, Delivery, Key, Notice, Topic
from certferry.core.planning.pauses import NEAR
from certferry.errors import OrderHeldBack
from certferry.problem import Problem
from certferry.text import Text

CUT = "…"


@dataclass(frozen=True, slots=True)
class Message:
    """A title of one line, paragraphs with the most important first, and the same for programs:
    `event`, a document as docs/reference/schema/event.json has it.
    """

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
"""Messages that a channel may be sent in as many minutes: one a minute, but what is fixed by hand
is sent at once. DingTalk, Feishu and WeCom take twenty a minute or more
(docs/facts/receivers.md §1)."""
MINUTE = timedelta(minutes=1)

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
    name: str,
    notices: Sequence[Notice],
    state: ChannelState,
    topics: Collection[Topic],
    now: datetime,
) -> Dispatch:
    """Claim for this run what a channel is to be sent now: nothing where it may not be sent
    anything yet. `topics` are those that it takes.
    """
    due = tuple(_due(name, notices, state.deliveries, topics, now))
    known = _without_past(state.deliveries, notices, topics)
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
    if delivery.key in {one.key for one in state.deliveries}:
        return state
    return replace(state, deliveries=(*state.deliveries, delivery))


def taken_back(
    sent: Iterable[Notification], before: ChannelState, state: ChannelState
) -> ChannelState:
    """Return what is stored of a channel that did not take what was claimed for it: as it was
    `before`, so that a later run sends it.
    """
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
    """Whether a channel may be sent a message: its service did not ask to wait, and it was sent
    few.
    """
    if state.again_at is not None and now < state.again_at:
        return False
    return len([one for one in state.sent if now - one < AT_ONCE * MINUTE]) < AT_ONCE


def until_quiet(now: datetime) -> timedelta:
    """Return how long to wait until the crowd of the full and the half hour is over."""
    if now.minute not in CROWDED:
        return timedelta(0)
    passed = timedelta(seconds=now.second, microseconds=now.microsecond)
    return max(CROWD - passed, timedelta(0))


def again_after(notice: Notice, now: datetime) -> timedelta | None:
    """Return after how long trouble is sent again; `None` for an order that waits for the CA, while
    the deadline is not near: until when was said, and there is nothing to do before.
    """
    if notice.deadline is not None and notice.deadline - now <= NEAR:
        return NEAR_AGAIN
    return None if notice.problem.code == OrderHeldBack.code else A_DAY


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

"""The news for a channel: the difference between the notices that stand and those it was told.

What is told is written down before it is sent, and taken back when the service did not take it. A
run that is killed in between leaves it written down: nothing is told twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from certferry.core.assessment.notices import ChannelState, Key, News, Notice, Told, Topic
from certferry.core.planning.pauses import NEAR
from certferry.errors import OrderHeldBack
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
"""After which trouble is told again: a run once a day is not on time to the second."""
NEAR_AGAIN = timedelta(hours=6)
"""Near the deadline it is told more often, by what runs there are."""

AT_ONCE = 5
"""Messages that a channel may be sent in as many minutes: one a minute, but what is put right by
hand is told at once. DingTalk, Feishu and WeCom take twenty a minute or more
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
class Claim:
    """What a channel is told by this run alone, and what is remembered while it is sent."""

    news: tuple[News, ...]
    state: ChannelState


def claim(
    name: str,
    notices: Sequence[Notice],
    state: ChannelState,
    topics: Collection[Topic],
    now: datetime,
) -> Claim:
    """Claim what a channel is to be told now: nothing where it may not be sent anything yet."""
    due = tuple(_due(name, notices, state.told, topics, now))
    told = _forgotten(state.told, notices, topics)
    if not due or not may_be_sent(state, now):
        return Claim((), replace(state, told=told))
    after = {one.key: one for one in told}
    for news in due:
        if news.topic is Topic.RECOVERED:
            after.pop(news.key, None)
        else:
            after[news.key] = Told(*news.key, news.since, now, news.code)
    sent = (*state.sent, now)[-AT_ONCE:]
    return Claim(due, replace(state, told=tuple(after.values()), sent=sent))


def having(told: Told, state: ChannelState) -> ChannelState:
    """Return what is remembered of a channel, with something more that it was told."""
    if told.key in {one.key for one in state.told}:
        return state
    return replace(state, told=(*state.told, told))


def taken_back(news: Iterable[News], before: ChannelState, state: ChannelState) -> ChannelState:
    """Give what is remembered of a channel that did not take what was claimed for it: as it was
    `before`, so that a later run tells it.
    """
    were = {one.key: one for one in before.told}
    are = {one.key: one for one in state.told}
    for one in news:
        are.pop(one.key, None)
        if one.key in were:
            are[one.key] = were[one.key]
    return replace(state, told=tuple(are.values()))


def may_be_sent(state: ChannelState, now: datetime) -> bool:
    """Tell whether a channel may be sent a message: its service did not ask for patience, and it
    was sent few.
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
    """Return after how long trouble is told again; `None` for an order that is held back, while the
    deadline is not near: until when was told, and there is nothing to do before.
    """
    if notice.deadline is not None and notice.deadline - now <= NEAR:
        return NEAR_AGAIN
    return None if notice.code == OrderHeldBack.code else A_DAY


def _due(
    name: str,
    notices: Sequence[Notice],
    told: Sequence[Told],
    topics: Collection[Topic],
    now: datetime,
) -> list[News]:
    before = {one.key: one for one in told}
    # A channel cannot be told of itself.
    standing = [one for one in notices if one.subject.channel != name]
    news = [n for one in standing for n in _of_notice(one, before.get(one.key), now)]
    news += _over(told, {one.key for one in standing})
    wanted = [one for one in news if one.topic in topics]
    return sorted(wanted, key=lambda one: (_ORDER.index(one.topic), one.subject))


def _of_notice(notice: Notice, told: Told | None, now: datetime) -> Iterator[News]:
    goes_on = told is not None and told.since == notice.since
    if told is not None and goes_on:
        if notice.topic is not Topic.TROUBLE:
            return
        pause = again_after(notice, now)
        if pause is None or now - told.at < pause:
            return
    yield News(
        notice.topic,
        notice.subject,
        notice.since,
        notice.code,
        notice.message,
        notice.hint,
        notice.deadline,
        again=goes_on,
    )


def _over(told: Sequence[Told], standing: Collection[Key]) -> Iterator[News]:
    for one in told:
        if one.topic is Topic.TROUBLE and one.key not in standing:
            message = Text("in order again; the trouble began at {since}", since=one.since)
            yield News(Topic.RECOVERED, one.subject, one.since, one.code, message)


def _forgotten(
    told: Sequence[Told], notices: Sequence[Notice], topics: Collection[Topic]
) -> tuple[Told, ...]:
    """Forget what stands no more, but for trouble whose end is still to be told."""
    standing = {one.key for one in notices}
    awaited = Topic.RECOVERED in topics
    return tuple(
        one for one in told if one.key in standing or (awaited and one.topic is Topic.TROUBLE)
    )

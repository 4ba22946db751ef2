"""What a channel is told: each beginning, each end, and a reminder a day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from certferry.core.assessment.notices import USUAL, ChannelState, Notice, Subject, Topic
from certferry.core.assessment.notifications import (
    A_DAY,
    AT_ONCE,
    MINUTE,
    NEAR_AGAIN,
    Dispatch,
    Notification,
    dispatch,
    may_be_sent,
    taken_back,
    until_quiet,
)
from certferry.errors import OrderHeldBack
from certferry.problem import Problem
from certferry.text import Text
from tests.core.strategies import NOW

SUBJECTS = [Subject("img"), Subject("img", "qiniu", "a.example.com"), Subject(channel="boss")]
DENIED = Problem("dns_access_denied", Text("no"), Text("do"))
HOUR = timedelta(hours=1)
ALL = tuple(Topic)


def trouble(
    subject: Subject = SUBJECTS[0], since: datetime = NOW, deadline: datetime | None = None
) -> Notice:
    """Trouble that stands."""
    return Notice(Topic.TROUBLE, subject, since, DENIED, deadline)


def told(found: Dispatch) -> list[tuple[Topic, Subject]]:
    """What a channel is told, and of what."""
    return [one.notice.key for one in found.notifications]


def test_trouble_is_told_once_reminded_of_daily_and_its_end_once() -> None:
    """The story of a wrong key: begins, five runs later nothing, a day later again, over."""
    began = dispatch("ops", [trouble()], ChannelState(), USUAL, NOW)
    soon = dispatch("ops", [trouble()], began.state, USUAL, NOW + HOUR)
    later = dispatch("ops", [trouble()], soon.state, USUAL, NOW + A_DAY)
    over = dispatch("ops", [], later.state, USUAL, NOW + A_DAY + HOUR)
    after = dispatch("ops", [], over.state, USUAL, NOW + A_DAY + HOUR)

    assert [(Topic.TROUBLE, SUBJECTS[0])] == told(began) == told(later)
    assert [False, True] == [began.notifications[0].again, later.notifications[0].again]
    assert [] == told(soon)
    assert [(Topic.RECOVERED, SUBJECTS[0])] == told(over)
    assert NOW == over.notifications[0].notice.since
    assert [] == told(after)


def test_trouble_near_its_deadline_is_told_more_often() -> None:
    """Every six hours, where the old certificate ends within three days."""
    near = trouble(deadline=NOW + timedelta(days=2))
    far = trouble(SUBJECTS[1], deadline=NOW + timedelta(days=20))

    first = dispatch("ops", [near, far], ChannelState(), USUAL, NOW)
    second = dispatch("ops", [near, far], first.state, USUAL, NOW + NEAR_AGAIN)

    assert [near.key, far.key] == told(first)
    assert [near.key] == told(second)


def test_order_that_is_held_back_is_told_once_and_again_near_the_deadline() -> None:
    """Until when was told, and there is nothing to do before; its end is told as any."""
    held = replace(trouble(), problem=replace(DENIED, code=OrderHeldBack.code))
    near = replace(held, deadline=NOW + timedelta(days=4))

    first = dispatch("ops", [held], ChannelState(), USUAL, NOW)
    later = dispatch("ops", [held], first.state, USUAL, NOW + 5 * A_DAY)
    days = [dispatch("ops", [near], first.state, USUAL, NOW + n * A_DAY) for n in (1, 2)]

    assert [held.key] == told(first)
    assert [] == told(later)
    assert [[], [near.key]] == list(map(told, days))
    assert [(Topic.RECOVERED, held.subject)] == told(dispatch("ops", [], later.state, USUAL, NOW))


def test_trouble_that_begins_anew_is_told_anew() -> None:
    """Also where no run came between its end and the new beginning."""
    first = dispatch("ops", [trouble()], ChannelState(), USUAL, NOW)
    anew = dispatch("ops", [trouble(since=NOW + HOUR)], first.state, USUAL, NOW + HOUR)

    assert [False] == [one.again for one in anew.notifications]


def test_a_channel_is_told_what_its_table_wishes() -> None:
    """An event that it wishes once; the end of trouble only where it wishes that."""
    renewed = Notice(Topic.RENEWED, SUBJECTS[0], NOW, Problem("renewed", Text("issued")))
    wishes = (Topic.TROUBLE, Topic.RENEWED)

    first = dispatch("ops", [trouble(), renewed], ChannelState(), wishes, NOW)
    again = dispatch("ops", [renewed], first.state, wishes, NOW + A_DAY)
    newer = dispatch("ops", [replace(renewed, since=NOW + HOUR)], again.state, wishes, NOW + A_DAY)

    assert [Topic.TROUBLE, Topic.RENEWED] == [one.notice.topic for one in first.notifications]
    assert () == again.notifications
    assert [renewed.key] == [one.key for one in again.state.deliveries]
    assert [Topic.RENEWED] == [one.notice.topic for one in newer.notifications]
    assert () == dispatch("ops", [renewed], ChannelState(), USUAL, NOW).notifications


def test_a_channel_is_not_told_of_itself() -> None:
    """The others are told that it takes no messages."""
    refused = trouble(Subject(channel="boss"))

    assert () == dispatch("boss", [refused], ChannelState(), USUAL, NOW).notifications
    assert 1 == len(dispatch("ops", [refused], ChannelState(), USUAL, NOW).notifications)


def test_news_that_were_not_taken_are_told_by_a_later_run() -> None:
    """An end, a beginning and a reminder come again as they were."""
    first = dispatch("ops", [trouble(), trouble(SUBJECTS[1])], ChannelState(), USUAL, NOW)
    now = NOW + A_DAY
    second = dispatch("ops", [trouble(), trouble(SUBJECTS[2])], first.state, USUAL, now)
    back = taken_back(second.notifications, first.state, second.state)
    third = dispatch("ops", [trouble(), trouble(SUBJECTS[2])], back, USUAL, now + HOUR)

    assert second.notifications == third.notifications
    assert {Topic.TROUBLE, Topic.RECOVERED} == {one.notice.topic for one in third.notifications}


def test_a_channel_is_sent_one_message_a_minute_on_average() -> None:
    """After five at once it waits, and is told all of it then."""
    state = ChannelState()
    for number in range(AT_ONCE):
        state = dispatch("ops", [trouble(since=NOW + number * MINUTE / 9)], state, USUAL, NOW).state

    held = dispatch("ops", [trouble(since=NOW + HOUR)], state, USUAL, NOW + MINUTE)
    later = dispatch("ops", [trouble(since=NOW + HOUR)], held.state, USUAL, NOW + AT_ONCE * MINUTE)

    assert () == held.notifications
    assert 1 == len(later.notifications)


def test_a_service_that_asks_for_patience_gets_it() -> None:
    """Until the moment that it named."""
    state = ChannelState(again_at=NOW + HOUR)

    assert not may_be_sent(state, NOW + HOUR - timedelta(microseconds=1))
    assert may_be_sent(state, NOW + HOUR)


moments = st.timedeltas(timedelta(0), timedelta(days=400)).map(lambda passed: NOW + passed)


@given(now=moments)
def test_nothing_is_sent_as_the_hour_or_its_half_begins(now: datetime) -> None:
    """Waiting is short, and leads out of the crowd."""
    wait = until_quiet(now)
    then = now + wait

    assert timedelta(0) <= wait <= timedelta(seconds=4)
    assert then.minute not in {0, 30} or then.second >= 4
    assert (wait == timedelta(0)) or now.minute in {0, 30}


@given(
    runs=st.lists(
        st.tuples(
            st.sets(st.sampled_from(SUBJECTS)),  # what is in trouble then
            st.sampled_from(["sent", "refused", "killed"]),
            st.integers(1, 40),  # hours until the next run
        ),
        max_size=12,
    )
)
def test_any_story_is_told_without_a_word_twice(
    runs: Sequence[tuple[set[Subject], str, int]],
) -> None:
    """Whatever happens in whichever run: a beginning is received at most once, an end at most once
    and only after its beginning was claimed, and nothing is received twice within six hours.
    """
    state, now = ChannelState(), NOW
    standing: dict[Subject, Notice] = {}
    received: list[tuple[datetime, Notification]] = []
    for subjects, fate, hours in runs:
        standing = {one: standing.get(one, trouble(one, now)) for one in subjects}
        found = dispatch("ops", list(standing.values()), state, USUAL, now)
        refused = fate == "refused"
        state = taken_back(found.notifications, state, found.state) if refused else found.state
        if fate == "sent":
            received += [(now, one) for one in found.notifications]
        now += timedelta(hours=hours)

    prefixes = [(one.notice.subject, one.notice.since) for _, one in received if not one.again]
    ends = [one for one in prefixes if prefixes.count(one) > 2]
    assert [] == ends  # one beginning and one end for each trouble
    by_topic = [(*n.notice.key, n.notice.since) for _, n in received if not n.again]
    assert len(by_topic) == len(set(by_topic))
    for at, one in received:
        same = [then for then, other in received if replace(other, again=False) == one]
        assert all(at == then or abs(at - then) >= A_DAY for then in same)


@given(subjects=st.sets(st.sampled_from(SUBJECTS)))
def test_what_is_over_is_forgotten(subjects: set[Subject]) -> None:
    """A channel that was told of the end remembers nothing of it."""
    first = dispatch("ops", [trouble(one) for one in subjects], ChannelState(), ALL, NOW)
    last = dispatch("ops", [], first.state, ALL, NOW + HOUR)

    assert subjects == {one.notice.subject for one in last.notifications}
    assert () == last.state.deliveries

"""What a channel is told: each beginning, each end, and a reminder a day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from certferry.core.assessment.news import (
    A_DAY,
    AT_ONCE,
    MINUTE,
    NEAR_AGAIN,
    Claim,
    claim,
    may_be_sent,
    taken_back,
    until_quiet,
)
from certferry.core.assessment.notices import USUAL, ChannelState, News, Notice, Subject, Topic
from certferry.errors import OrderHeldBack
from certferry.text import Text
from tests.core.strategies import NOW

SUBJECTS = [Subject("img"), Subject("img", "qiniu", "a.example.com"), Subject(channel="boss")]
HOUR = timedelta(hours=1)
ALL = tuple(Topic)


def trouble(
    subject: Subject = SUBJECTS[0], since: datetime = NOW, deadline: datetime | None = None
) -> Notice:
    """Trouble that stands."""
    return Notice(
        Topic.TROUBLE, subject, since, "dns_access_denied", Text("no"), Text("do"), deadline
    )


def told(found: Claim) -> list[tuple[Topic, Subject]]:
    """What a channel is told, and of what."""
    return [(one.topic, one.subject) for one in found.news]


def test_trouble_is_told_once_reminded_of_daily_and_its_end_once() -> None:
    """The story of a wrong key: begins, five runs later nothing, a day later again, over."""
    began = claim("ops", [trouble()], ChannelState(), USUAL, NOW)
    soon = claim("ops", [trouble()], began.state, USUAL, NOW + HOUR)
    later = claim("ops", [trouble()], soon.state, USUAL, NOW + A_DAY)
    over = claim("ops", [], later.state, USUAL, NOW + A_DAY + HOUR)
    after = claim("ops", [], over.state, USUAL, NOW + A_DAY + HOUR)

    assert [(Topic.TROUBLE, SUBJECTS[0])] == told(began) == told(later)
    assert [False, True] == [began.news[0].again, later.news[0].again]
    assert [] == told(soon)
    assert [(Topic.RECOVERED, SUBJECTS[0])] == told(over)
    assert NOW == over.news[0].since
    assert [] == told(after)


def test_trouble_near_its_deadline_is_told_more_often() -> None:
    """Every six hours, where the old certificate ends within three days."""
    near = trouble(deadline=NOW + timedelta(days=2))
    far = trouble(SUBJECTS[1], deadline=NOW + timedelta(days=20))

    first = claim("ops", [near, far], ChannelState(), USUAL, NOW)
    second = claim("ops", [near, far], first.state, USUAL, NOW + NEAR_AGAIN)

    assert [near.key, far.key] == told(first)
    assert [near.key] == told(second)


def test_order_that_is_held_back_is_told_once_and_again_near_the_deadline() -> None:
    """Until when was told, and there is nothing to do before; its end is told as any."""
    held = replace(trouble(), code=OrderHeldBack.code)
    near = replace(held, deadline=NOW + timedelta(days=4))

    first = claim("ops", [held], ChannelState(), USUAL, NOW)
    later = claim("ops", [held], first.state, USUAL, NOW + 5 * A_DAY)
    days = [claim("ops", [near], first.state, USUAL, NOW + n * A_DAY) for n in (1, 2)]

    assert [held.key] == told(first)
    assert [] == told(later)
    assert [[], [near.key]] == list(map(told, days))
    assert [(Topic.RECOVERED, held.subject)] == told(claim("ops", [], later.state, USUAL, NOW))


def test_trouble_that_begins_anew_is_told_anew() -> None:
    """Also where no run came between its end and the new beginning."""
    first = claim("ops", [trouble()], ChannelState(), USUAL, NOW)
    anew = claim("ops", [trouble(since=NOW + HOUR)], first.state, USUAL, NOW + HOUR)

    assert [False] == [one.again for one in anew.news]


def test_a_channel_is_told_what_its_table_wishes() -> None:
    """An event that it wishes once; the end of trouble only where it wishes that."""
    renewed = Notice(Topic.RENEWED, SUBJECTS[0], NOW, "renewed", Text("issued"))
    wishes = (Topic.TROUBLE, Topic.RENEWED)

    first = claim("ops", [trouble(), renewed], ChannelState(), wishes, NOW)
    again = claim("ops", [renewed], first.state, wishes, NOW + A_DAY)
    newer = claim("ops", [replace(renewed, since=NOW + HOUR)], again.state, wishes, NOW + A_DAY)

    assert [Topic.TROUBLE, Topic.RENEWED] == [one.topic for one in first.news]
    assert () == again.news
    assert [renewed.key] == [one.key for one in again.state.told]
    assert [Topic.RENEWED] == [one.topic for one in newer.news]
    assert () == claim("ops", [renewed], ChannelState(), USUAL, NOW).news


def test_a_channel_is_not_told_of_itself() -> None:
    """The others are told that it takes no messages."""
    refused = trouble(Subject(channel="boss"))

    assert () == claim("boss", [refused], ChannelState(), USUAL, NOW).news
    assert 1 == len(claim("ops", [refused], ChannelState(), USUAL, NOW).news)


def test_news_that_were_not_taken_are_told_by_a_later_run() -> None:
    """An end, a beginning and a reminder come again as they were."""
    first = claim("ops", [trouble(), trouble(SUBJECTS[1])], ChannelState(), USUAL, NOW)
    now = NOW + A_DAY
    second = claim("ops", [trouble(), trouble(SUBJECTS[2])], first.state, USUAL, now)
    back = taken_back(second.news, first.state, second.state)
    third = claim("ops", [trouble(), trouble(SUBJECTS[2])], back, USUAL, now + HOUR)

    assert second.news == third.news
    assert {Topic.TROUBLE, Topic.RECOVERED} == {one.topic for one in third.news}


def test_a_channel_is_sent_one_message_a_minute_on_average() -> None:
    """After five at once it waits, and is told all of it then."""
    state = ChannelState()
    for number in range(AT_ONCE):
        state = claim("ops", [trouble(since=NOW + number * MINUTE / 9)], state, USUAL, NOW).state

    held = claim("ops", [trouble(since=NOW + HOUR)], state, USUAL, NOW + MINUTE)
    later = claim("ops", [trouble(since=NOW + HOUR)], held.state, USUAL, NOW + AT_ONCE * MINUTE)

    assert () == held.news
    assert 1 == len(later.news)


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
    received: list[tuple[datetime, News]] = []
    for subjects, fate, hours in runs:
        standing = {one: standing.get(one, trouble(one, now)) for one in subjects}
        found = claim("ops", list(standing.values()), state, USUAL, now)
        refused = fate == "refused"
        state = taken_back(found.news, state, found.state) if refused else found.state
        if fate == "sent":
            received += [(now, one) for one in found.news]
        now += timedelta(hours=hours)

    prefixes = [(one.subject, one.since) for _, one in received if not one.again]
    ends = [one for one in prefixes if prefixes.count(one) > 2]
    assert [] == ends  # one beginning and one end for each trouble
    by_topic = [(n.topic, n.subject, n.since) for _, n in received if not n.again]
    assert len(by_topic) == len(set(by_topic))
    for at, one in received:
        same = [then for then, other in received if replace(other, again=False) == one]
        assert all(at == then or abs(at - then) >= A_DAY for then in same)


@given(subjects=st.sets(st.sampled_from(SUBJECTS)))
def test_what_is_over_is_forgotten(subjects: set[Subject]) -> None:
    """A channel that was told of the end remembers nothing of it."""
    first = claim("ops", [trouble(one) for one in subjects], ChannelState(), ALL, NOW)
    last = claim("ops", [], first.state, ALL, NOW + HOUR)

    assert subjects == {one.subject for one in last.news}
    assert () == last.state.told

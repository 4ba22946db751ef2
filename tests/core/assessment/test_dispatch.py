"""What a channel is sent of the standing notices, when, and once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from certferry.core.assessment.dispatch import (
    A_DAY,
    AT_ONCE,
    MINUTE,
    NEAR_AGAIN,
    Dispatch,
    Notification,
    by_cause,
    dispatch,
    may_be_sent,
    paragraphs,
    taken_back,
    until_quiet,
)
from certferry.core.assessment.notices import (
    USUAL,
    ChannelState,
    Notice,
    SentNotice,
    Subject,
    Topic,
)
from certferry.errors import OrderPostponed, Problem
from certferry.text import Quoted, Text
from certferry.values import replace
from tests.core.strategies import NOW

# --- What a channel is sent: each beginning, each end, and a reminder a day


SUBJECTS = [Subject("img"), Subject("img", "qiniu", "a.example.com"), Subject(channel="boss")]
DENIED = Problem("dns_access_denied", Text("no"), Text("do"))
HOUR = timedelta(hours=1)
ALL = tuple(Topic)


def trouble(
    subject: Subject = SUBJECTS[0], since: datetime = NOW, deadline: datetime | None = None
) -> Notice:
    return Notice(Topic.TROUBLE, subject, since, DENIED, deadline)


def sent(found: Dispatch) -> list[tuple[Topic, Subject]]:
    """What a channel is sent, and of what."""
    return [one.notice.key for one in found.notifications]


def test_trouble_is_reported_once_reminded_of_daily_and_its_end_once() -> None:
    """The story of a wrong key: begins, five runs later nothing, a day later again, over."""
    began = dispatch("ops", [trouble()], ChannelState(), USUAL, NOW)
    soon = dispatch("ops", [trouble()], began.state, USUAL, NOW + HOUR)
    later = dispatch("ops", [trouble()], soon.state, USUAL, NOW + A_DAY)
    over = dispatch("ops", [], later.state, USUAL, NOW + A_DAY + HOUR)
    after = dispatch("ops", [], over.state, USUAL, NOW + A_DAY + HOUR)

    assert [(Topic.TROUBLE, SUBJECTS[0])] == sent(began) == sent(later)
    assert [False, True] == [began.notifications[0].again, later.notifications[0].again]
    assert [] == sent(soon)
    assert [(Topic.RECOVERED, SUBJECTS[0])] == sent(over)
    assert NOW == over.notifications[0].notice.since
    assert [] == sent(after)


def test_trouble_near_its_deadline_is_reported_more_often() -> None:
    """Every six hours, where the old certificate ends within three days."""
    near = trouble(deadline=NOW + timedelta(days=2))
    far = trouble(SUBJECTS[1], deadline=NOW + timedelta(days=20))

    first = dispatch("ops", [near, far], ChannelState(), USUAL, NOW)
    second = dispatch("ops", [near, far], first.state, USUAL, NOW + NEAR_AGAIN)

    assert [near.key, far.key] == sent(first)
    assert [near.key] == sent(second)


def test_order_that_is_postponed_is_reported_once_and_again_near_the_deadline() -> None:
    """Until when was sent, and there is nothing to do before; its end is sent as any."""
    held = replace(trouble(), problem=replace(DENIED, code=OrderPostponed.code))
    near = replace(held, deadline=NOW + timedelta(days=4))

    first = dispatch("ops", [held], ChannelState(), USUAL, NOW)
    later = dispatch("ops", [held], first.state, USUAL, NOW + 5 * A_DAY)
    days = [dispatch("ops", [near], first.state, USUAL, NOW + n * A_DAY) for n in (1, 2)]

    assert [held.key] == sent(first)
    assert [] == sent(later)
    assert [[], [near.key]] == list(map(sent, days))
    assert [(Topic.RECOVERED, held.subject)] == sent(dispatch("ops", [], later.state, USUAL, NOW))


def test_trouble_that_begins_anew_is_reported_anew() -> None:
    """Also where no run came between its end and the new beginning."""
    first = dispatch("ops", [trouble()], ChannelState(), USUAL, NOW)
    anew = dispatch("ops", [trouble(since=NOW + HOUR)], first.state, USUAL, NOW + HOUR)

    assert [False] == [one.again for one in anew.notifications]


def test_a_channel_is_reported_what_its_table_asks_for() -> None:
    """An event that it asks for once; the end of trouble only where it asks for that."""
    renewed = Notice(Topic.RENEWED, SUBJECTS[0], NOW, Problem("renewed", Text("issued")))
    topics = (Topic.TROUBLE, Topic.RENEWED)

    first = dispatch("ops", [trouble(), renewed], ChannelState(), topics, NOW)
    again = dispatch("ops", [renewed], first.state, topics, NOW + A_DAY)
    newer = dispatch("ops", [replace(renewed, since=NOW + HOUR)], again.state, topics, NOW + A_DAY)

    assert [Topic.TROUBLE, Topic.RENEWED] == [one.notice.topic for one in first.notifications]
    assert () == again.notifications
    assert [renewed.key] == [one.key for one in again.state.sent_notices]
    assert [Topic.RENEWED] == [one.notice.topic for one in newer.notifications]
    assert () == dispatch("ops", [renewed], ChannelState(), USUAL, NOW).notifications


def test_a_channel_is_not_reported_of_itself() -> None:
    """The others are sent that it takes no messages."""
    refused = trouble(Subject(channel="boss"))

    assert () == dispatch("boss", [refused], ChannelState(), USUAL, NOW).notifications
    assert 1 == len(dispatch("ops", [refused], ChannelState(), USUAL, NOW).notifications)


def test_news_that_were_not_taken_are_reported_by_a_later_run() -> None:
    """An end, a beginning and a reminder come again as they were."""
    first = dispatch("ops", [trouble(), trouble(SUBJECTS[1])], ChannelState(), USUAL, NOW)
    now = NOW + A_DAY
    second = dispatch("ops", [trouble(), trouble(SUBJECTS[2])], first.state, USUAL, now)
    back = taken_back(second.notifications, first.state, second.state)
    third = dispatch("ops", [trouble(), trouble(SUBJECTS[2])], back, USUAL, now + HOUR)

    assert second.notifications == third.notifications
    assert {Topic.TROUBLE, Topic.RECOVERED} == {one.notice.topic for one in third.notifications}


def test_a_channel_is_sent_one_message_a_minute_on_average() -> None:
    """After five at once it waits, and is sent all of it then."""
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


@given(st.timedeltas(timedelta(days=3), timedelta(days=4000)))
def test_a_clock_that_was_ahead_silences_no_channel(ahead: timedelta) -> None:
    """Neither by the moment that its service named, nor by messages that it was sent."""
    state = ChannelState(again_at=NOW + ahead, sent=(NOW + ahead,) * AT_ONCE)

    assert may_be_sent(state, NOW)


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
def test_any_story_is_reported_without_a_word_twice(
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
    """A channel that was sent the end remembers nothing of it."""
    first = dispatch("ops", [trouble(one) for one in subjects], ChannelState(), ALL, NOW)
    last = dispatch("ops", [], first.state, ALL, NOW + HOUR)

    assert subjects == {one.notice.subject for one in last.notifications}
    assert () == last.state.sent_notices


# --- One message for each cause


ACCOUNTS = st.sampled_from(["qiniu", "second"])
PLACES = st.builds(Subject, st.sampled_from([f"m{n}" for n in range(5)]), ACCOUNTS)
KINDS = st.sampled_from(["target_access_denied", "target_rejected", OrderPostponed.code])


@st.composite
def troubles(draw: st.DrawFn, *, since: datetime = NOW) -> dict[Subject, Notice]:
    """Return trouble at some places, by subject; some have deadlines."""
    notices = {}
    for subject in draw(st.sets(PLACES)):
        problem = Problem(draw(KINDS), Text("no: {answer}", answer=Quoted(subject.lineage)))
        days = draw(st.none() | st.integers(4, 60))
        deadline = None if days is None else NOW + timedelta(days=days)
        notices[subject] = Notice(Topic.TROUBLE, subject, since, problem, deadline)
    return notices


def test_certificate_that_joins_a_cause_waits_for_the_reminder() -> None:
    """The reminder names all; only an earlier end is sent at once."""
    first = trouble(Subject("m1"), deadline=NOW + timedelta(days=20))
    later = trouble(Subject("m2"), NOW + HOUR, NOW + timedelta(days=30))
    earlier = trouble(Subject("m3"), NOW + HOUR, NOW + timedelta(days=10))

    began = dispatch("ops", [first], ChannelState(), USUAL, NOW)
    joined = dispatch("ops", [first, later], began.state, USUAL, NOW + HOUR)
    nearer = dispatch("ops", [first, later, earlier], began.state, USUAL, NOW + HOUR)
    reminder = dispatch("ops", [first, later], joined.state, USUAL, NOW + A_DAY)

    assert [[first.key], []] == [sent(began), sent(joined)]
    assert [later.key, earlier.key] == sent(nearer)
    assert [(first.key, True), (later.key, False)] == [
        (one.notice.key, one.again) for one in reminder.notifications
    ]


def test_end_of_trouble_that_was_not_sent_is_not_sent() -> None:
    """A certificate that joined a cause and recovered before the reminder is no news."""
    first, joined = trouble(Subject("m1")), trouble(Subject("m2"), NOW + HOUR)
    began = dispatch("ops", [first], ChannelState(), USUAL, NOW)
    quiet = dispatch("ops", [first, joined], began.state, USUAL, NOW + HOUR)

    assert [] == sent(dispatch("ops", [first], quiet.state, USUAL, NOW + 2 * HOUR))
    assert [joined.key, (Topic.RECOVERED, first.subject)] == sent(
        dispatch("ops", [joined], quiet.state, USUAL, NOW + 2 * HOUR)
    )


def test_certificate_with_another_failure_than_before_hides_no_new_cause() -> None:
    """The certificate was sent for another reason, so the cause of both is new to the channel."""
    before = trouble(Subject("m1"))
    began = dispatch("ops", [before], ChannelState(), USUAL, NOW)
    limited = Problem("rate_limited", Text("too many orders"))
    both = [replace(before, problem=limited), replace(trouble(Subject("m2")), problem=limited)]

    assert [both[1].key] == sent(dispatch("ops", both, began.state, USUAL, NOW + HOUR))


@given(troubles())
def test_every_trouble_is_in_exactly_one_paragraph(notices: dict[Subject, Notice]) -> None:
    """The paragraphs are the causes, and the first notice has the first deadline of its kind."""
    due = dispatch("ops", list(notices.values()), ChannelState(), USUAL, NOW).notifications

    written = list(paragraphs(due))

    assert Counter(map(repr, due)) == Counter(repr(one) for group in written for one in group)
    assert {one.notice for one in due} == set(notices.values())
    keys = [(group[0].notice.problem.code, group[0].notice.subject.target) for group in written]
    assert len(keys) == len(set(keys))


@given(troubles(), st.lists(st.integers(0, 5), min_size=40, max_size=40), st.sampled_from([0, 1]))
def test_records_of_an_earlier_certferry_are_kept(
    notices: dict[Subject, Notice], hours: list[int], codes: int
) -> None:
    """Each notice has a record and a moment of its own, in old rows without a code: nothing is sent
    twice, and the reminder comes within a day of the last moment.
    """
    standing = list(notices.values())
    records = tuple(
        SentNotice(*notice.key, notice.since, NOW - passed * HOUR, notice.problem.code * codes)
        for notice, passed in zip(standing, hours, strict=False)
    )
    state = ChannelState(records)

    assert () == dispatch("ops", standing, state, USUAL, NOW).notifications
    due = dispatch("ops", standing, state, USUAL, NOW + A_DAY).notifications
    assert all(one.again for one in due)
    repeated = {notice for notice in standing if notice.problem.code != OrderPostponed.code}
    assert repeated <= {one.notice for one in due}


@given(st.lists(st.tuples(troubles(), st.sampled_from(["sent", "refused"])), max_size=12))
def test_no_trouble_and_no_deadline_is_lost(
    runs: Sequence[tuple[dict[Subject, Notice], str]],
) -> None:
    """After each message that the channel took, the channel knows of every cause, with a deadline
    that is as early as any in the cause. No trouble is sent twice within six hours.
    """
    state, now = ChannelState(), NOW
    standing: dict[Subject, Notice] = {}
    received: dict[tuple[object, ...], datetime] = {}
    for notices, fate in runs:
        standing = {
            subject: replace(
                notice,
                since=standing.get(subject, replace(notice, since=now)).since,
                deadline=standing.get(subject, notice).deadline,
            )
            for subject, notice in notices.items()
        }
        found = dispatch("ops", list(standing.values()), state, USUAL, now)
        if fate == "refused" and found.notifications:
            state = taken_back(found.notifications, state, found.state)
        else:
            state = found.state
            for notice in (one.notice for one in found.notifications):
                beginning = (notice.key, notice.since, notice.problem.code)
                assert now - received.get(beginning, NOW - A_DAY) >= NEAR_AGAIN
                received[beginning] = now
            must_be_known(list(standing.values()), {(key, since) for key, since, _ in received})
        now += 5 * HOUR


def must_be_known(standing: Sequence[Notice], received: set[tuple[object, object]]) -> None:
    """Raise `AssertionError` if a channel knows nothing of a cause, or only of later deadlines."""
    never = NOW + timedelta(days=1000)
    for members in by_cause(standing):
        known = [notice for notice in members if (notice.key, notice.since) in received]
        assert known
        earliest = min(notice.deadline or never for notice in known)
        assert all(earliest <= (notice.deadline or never) for notice in members)

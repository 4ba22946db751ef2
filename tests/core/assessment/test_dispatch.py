"""The notices that a channel is sent, their moments, and their repetition."""

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

# --- Notices of a channel: each beginning, each end, and a reminder a day


SUBJECTS = [Subject("img"), Subject("img", "qiniu", "a.example.com"), Subject(channel="boss")]
DENIED = Problem("dns_access_denied", Text("no"), Text("do"))
HOUR = timedelta(hours=1)
ALL = tuple(Topic)


def trouble(
    subject: Subject = SUBJECTS[0], since: datetime = NOW, deadline: datetime | None = None
) -> Notice:
    return Notice(Topic.TROUBLE, subject, since, DENIED, deadline)


def sent(dispatched: Dispatch) -> list[tuple[Topic, Subject]]:
    """Return topic and subject of each notice for the channel."""
    return [notification.notice.key for notification in dispatched.notifications]


def test_trouble_is_reported_once_reminded_of_daily_and_its_end_once() -> None:
    """A refused key is reported as the trouble begins, again a day later, and as it ends; runs
    between report nothing.
    """
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
    """In the last three days of the old certificate, reminders come every six hours."""
    near = trouble(deadline=NOW + timedelta(days=2))
    far = trouble(SUBJECTS[1], deadline=NOW + timedelta(days=20))

    first = dispatch("ops", [near, far], ChannelState(), USUAL, NOW)
    second = dispatch("ops", [near, far], first.state, USUAL, NOW + NEAR_AGAIN)

    assert [near.key, far.key] == sent(first)
    assert [near.key] == sent(second)


def test_order_that_is_postponed_is_reported_once_and_again_near_the_deadline() -> None:
    """The first notice names the moment of the order, so reminders begin near the deadline. The end
    is reported as usual.
    """
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
    """The second beginning is reported also if no run came between."""
    first = dispatch("ops", [trouble()], ChannelState(), USUAL, NOW)
    anew = dispatch("ops", [trouble(since=NOW + HOUR)], first.state, USUAL, NOW + HOUR)

    assert [False] == [notification.again for notification in anew.notifications]


def test_channel_with_chosen_topics() -> None:
    """A chosen event is reported once; ends of trouble are reported only if chosen."""
    renewed = Notice(Topic.RENEWED, SUBJECTS[0], NOW, Problem("renewed", Text("issued")))
    topics = (Topic.TROUBLE, Topic.RENEWED)

    first = dispatch("ops", [trouble(), renewed], ChannelState(), topics, NOW)
    again = dispatch("ops", [renewed], first.state, topics, NOW + A_DAY)
    newer = dispatch("ops", [replace(renewed, since=NOW + HOUR)], again.state, topics, NOW + A_DAY)

    assert [Topic.TROUBLE, Topic.RENEWED] == [
        notification.notice.topic for notification in first.notifications
    ]
    assert () == again.notifications
    assert [renewed.key] == [notice.key for notice in again.state.sent_notices]
    assert [Topic.RENEWED] == [notification.notice.topic for notification in newer.notifications]
    assert () == dispatch("ops", [renewed], ChannelState(), USUAL, NOW).notifications


def test_channel_that_refuses_messages_is_reported_to_other_channels() -> None:
    """The channel itself is sent nothing about its own trouble."""
    refused = trouble(Subject(channel="boss"))

    assert () == dispatch("boss", [refused], ChannelState(), USUAL, NOW).notifications
    assert 1 == len(dispatch("ops", [refused], ChannelState(), USUAL, NOW).notifications)


def test_refused_notices_are_sent_by_a_later_run() -> None:
    """A beginning, an end and a reminder come again unchanged."""
    first = dispatch("ops", [trouble(), trouble(SUBJECTS[1])], ChannelState(), USUAL, NOW)
    now = NOW + A_DAY
    second = dispatch("ops", [trouble(), trouble(SUBJECTS[2])], first.state, USUAL, now)
    back = taken_back(second.notifications, first.state, second.state)
    third = dispatch("ops", [trouble(), trouble(SUBJECTS[2])], back, USUAL, now + HOUR)

    assert second.notifications == third.notifications
    assert {Topic.TROUBLE, Topic.RECOVERED} == {
        notification.notice.topic for notification in third.notifications
    }


def test_channel_is_sent_a_message_a_minute_on_average() -> None:
    """After five messages in a row the channel waits, and then is sent all news."""
    state = ChannelState()
    for number in range(AT_ONCE):
        state = dispatch("ops", [trouble(since=NOW + number * MINUTE / 9)], state, USUAL, NOW).state

    held = dispatch("ops", [trouble(since=NOW + HOUR)], state, USUAL, NOW + MINUTE)
    later = dispatch("ops", [trouble(since=NOW + HOUR)], held.state, USUAL, NOW + AT_ONCE * MINUTE)

    assert () == held.notifications
    assert 1 == len(later.notifications)


def test_service_that_asks_for_a_delay() -> None:
    """The channel is sent nothing until the moment that the service named."""
    state = ChannelState(again_at=NOW + HOUR)

    assert not may_be_sent(state, NOW + HOUR - timedelta(microseconds=1))
    assert may_be_sent(state, NOW + HOUR)


@given(st.timedeltas(timedelta(days=3), timedelta(days=4000)))
def test_clock_that_was_ahead_silences_no_channel(ahead: timedelta) -> None:
    """Moments in the future, of the service or of earlier messages, are ignored."""
    state = ChannelState(again_at=NOW + ahead, sent=(NOW + ahead,) * AT_ONCE)

    assert may_be_sent(state, NOW)


moments = st.timedeltas(timedelta(0), timedelta(days=400)).map(lambda passed: NOW + passed)


@given(now=moments)
def test_messages_avoid_the_full_and_the_half_hour(now: datetime) -> None:
    """A wait of at most four seconds avoids the moment at which other programs send."""
    wait = until_quiet(now)
    then = now + wait

    assert timedelta(0) <= wait <= timedelta(seconds=4)
    assert then.minute not in {0, 30} or then.second >= 4
    assert (wait == timedelta(0)) or now.minute in {0, 30}


@given(
    runs=st.lists(
        st.tuples(
            st.sets(st.sampled_from(SUBJECTS)),  # the subjects with trouble
            st.sampled_from(["sent", "refused", "killed"]),
            st.integers(1, 40),  # hours until the next run
        ),
        max_size=12,
    )
)
def test_any_sequence_of_runs_repeats_no_notice(
    runs: Sequence[tuple[set[Subject], str, int]],
) -> None:
    """A beginning is received at most once, an end at most once and only after its beginning, and
    the same notice at most once in six hours.
    """
    state, now = ChannelState(), NOW
    standing: dict[Subject, Notice] = {}
    received: list[tuple[datetime, Notification]] = []
    for subjects, fate, hours in runs:
        standing = {subject: standing.get(subject, trouble(subject, now)) for subject in subjects}
        dispatched = dispatch("ops", list(standing.values()), state, USUAL, now)
        refused = fate == "refused"
        state = (
            taken_back(dispatched.notifications, state, dispatched.state)
            if refused
            else dispatched.state
        )
        if fate == "sent":
            received += [(now, notification) for notification in dispatched.notifications]
        now += timedelta(hours=hours)

    prefixes = [
        (notification.notice.subject, notification.notice.since)
        for _, notification in received
        if not notification.again
    ]
    ends = [prefix for prefix in prefixes if prefixes.count(prefix) > 2]
    assert [] == ends  # each trouble has a beginning and an end
    by_topic = [(*n.notice.key, n.notice.since) for _, n in received if not n.again]
    assert len(by_topic) == len(set(by_topic))
    for at, notification in received:
        same = [then for then, other in received if replace(other, again=False) == notification]
        assert all(at == then or abs(at - then) >= A_DAY for then in same)


@given(subjects=st.sets(st.sampled_from(SUBJECTS)))
def test_trouble_that_is_over_is_forgotten(subjects: set[Subject]) -> None:
    """After the end was sent, the channel's state has no notice of the trouble."""
    first = dispatch("ops", [trouble(subject) for subject in subjects], ChannelState(), ALL, NOW)
    last = dispatch("ops", [], first.state, ALL, NOW + HOUR)

    assert subjects == {notification.notice.subject for notification in last.notifications}
    assert () == last.state.sent_notices


# --- A single message for each cause


ACCOUNTS = st.sampled_from(["qiniu", "second"])
PLACES = st.builds(Subject, st.sampled_from([f"m{n}" for n in range(5)]), ACCOUNTS)
KINDS = st.sampled_from(["target_access_denied", "target_rejected", OrderPostponed.code])


@st.composite
def troubles(draw: st.DrawFn, *, since: datetime = NOW) -> dict[Subject, Notice]:
    """Draw trouble at some places, by subject; some have deadlines."""
    notices = {}
    for subject in draw(st.sets(PLACES)):
        problem = Problem(draw(KINDS), Text("no: {answer}", answer=Quoted(subject.lineage)))
        days = draw(st.none() | st.integers(4, 60))
        deadline = None if days is None else NOW + timedelta(days=days)
        notices[subject] = Notice(Topic.TROUBLE, subject, since, problem, deadline)
    return notices


def test_certificate_that_joins_a_cause_waits_for_the_reminder() -> None:
    """The reminder names all certificates; only an earlier deadline is sent at once."""
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
        (notification.notice.key, notification.again) for notification in reminder.notifications
    ]


def test_end_of_trouble_that_was_never_sent() -> None:
    """A certificate that joined a cause and recovered before the reminder is left out."""
    first, joined = trouble(Subject("m1")), trouble(Subject("m2"), NOW + HOUR)
    began = dispatch("ops", [first], ChannelState(), USUAL, NOW)
    quiet = dispatch("ops", [first, joined], began.state, USUAL, NOW + HOUR)

    assert [] == sent(dispatch("ops", [first], quiet.state, USUAL, NOW + 2 * HOUR))
    assert [joined.key, (Topic.RECOVERED, first.subject)] == sent(
        dispatch("ops", [joined], quiet.state, USUAL, NOW + 2 * HOUR)
    )


def test_certificate_with_another_failure_than_before() -> None:
    """The channel knows the certificate for another reason, so the new cause is reported."""
    before = trouble(Subject("m1"))
    began = dispatch("ops", [before], ChannelState(), USUAL, NOW)
    limited = Problem("rate_limited", Text("too many orders"))
    failing = [replace(before, problem=limited), replace(trouble(Subject("m2")), problem=limited)]

    assert [failing[1].key] == sent(dispatch("ops", failing, began.state, USUAL, NOW + HOUR))


@given(troubles())
def test_every_trouble_is_in_exactly_one_paragraph(notices: dict[Subject, Notice]) -> None:
    """Each paragraph is a cause, and begins with the notice of the earliest deadline."""
    due = dispatch("ops", list(notices.values()), ChannelState(), USUAL, NOW).notifications

    grouped = list(paragraphs(due))

    assert Counter(map(repr, due)) == Counter(
        repr(notification) for group in grouped for notification in group
    )
    assert {notification.notice for notification in due} == set(notices.values())
    keys = [(group[0].notice.problem.code, group[0].notice.subject.target) for group in grouped]
    assert len(keys) == len(set(keys))


@given(troubles(), st.lists(st.integers(0, 5), min_size=40, max_size=40), st.sampled_from([0, 1]))
def test_records_of_an_earlier_certferry(
    notices: dict[Subject, Notice], hours: list[int], codes: int
) -> None:
    """In old rows each notice has its own moment and no code: nothing is sent twice, and the
    reminder comes within a day of the last moment.
    """
    standing = list(notices.values())
    records = tuple(
        SentNotice(*notice.key, notice.since, NOW - passed * HOUR, notice.problem.code * codes)
        for notice, passed in zip(standing, hours, strict=False)
    )
    state = ChannelState(records)

    assert () == dispatch("ops", standing, state, USUAL, NOW).notifications
    due = dispatch("ops", standing, state, USUAL, NOW + A_DAY).notifications
    assert all(notification.again for notification in due)
    repeated = {notice for notice in standing if notice.problem.code != OrderPostponed.code}
    assert repeated <= {notification.notice for notification in due}


@given(st.lists(st.tuples(troubles(), st.sampled_from(["sent", "refused"])), max_size=12))
def test_no_trouble_and_no_deadline_is_lost(
    runs: Sequence[tuple[dict[Subject, Notice], str]],
) -> None:
    """The channel has received every cause of the accepted messages, with the earliest deadline of
    each. Trouble is repeated after six hours at the earliest.
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
        dispatched = dispatch("ops", list(standing.values()), state, USUAL, now)
        if fate == "refused" and dispatched.notifications:
            state = taken_back(dispatched.notifications, state, dispatched.state)
        else:
            state = dispatched.state
            for notice in (notification.notice for notification in dispatched.notifications):
                beginning = (notice.key, notice.since, notice.problem.code)
                assert now - received.get(beginning, NOW - A_DAY) >= NEAR_AGAIN
                received[beginning] = now
            must_be_known(list(standing.values()), {(key, since) for key, since, _ in received})
        now += 5 * HOUR


def must_be_known(standing: Sequence[Notice], received: set[tuple[object, object]]) -> None:
    """Raise `AssertionError` for a cause that the channel has not received or has with a later
    deadline.
    """
    never = NOW + timedelta(days=1000)
    for members in by_cause(standing):
        received_notices = [notice for notice in members if (notice.key, notice.since) in received]
        assert received_notices
        earliest = min(notice.deadline or never for notice in received_notices)
        assert all(earliest <= (notice.deadline or never) for notice in members)

"""The hourly limit of requests, under any sequence of arrivals, notes and clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from certferry.adapters.dnspod.dns import CLOCKS_APART, HOUR, Rate, Turn, rate_of, take_turn
from tests.core.strategies import NOW

DNSPOD = rate_of(3600)
NO_WAIT = timedelta(0)

gaps = st.timedeltas(timedelta(0), timedelta(minutes=40))
arrivals = st.lists(st.tuples(gaps, st.integers(1, 1500)), min_size=1, max_size=6)
"""Groups of simultaneous requests, each a gap after the last request of the previous group."""


def note_of(moment: datetime) -> str:
    return moment.isoformat()


def is_given(rate: Rate, note: str, moment: datetime) -> bool:
    return take_turn(rate, note, moment).wait == NO_WAIT


class Account:
    """An account's note and the times of its requests, on a clock that lags by `late`."""

    def __init__(self, rate: Rate, note: str | None = None) -> None:
        self.rate = rate
        self.note = note
        self.time = NOW
        self.late = timedelta(0)
        self.sent: list[datetime] = []

    def ask(self) -> timedelta:
        """Ask for a turn now, and return the wait."""
        turn = take_turn(self.rate, self.note, self.time - self.late)
        self.note = turn.note
        return turn.wait

    def send(self) -> None:
        while (wait := self.ask()) > NO_WAIT:
            self.time += wait
        self.sent.append(self.time)

    def most_in_an_hour(self) -> int:
        """Count the requests of the fullest hour, including both ends."""
        most = first = 0
        for last, moment in enumerate(self.sent):
            while moment - self.sent[first] > HOUR:
                first += 1
            most = max(most, last - first + 1)
        return most


# --- Number of requests


@given(arrivals)
@example([(timedelta(0), 4000)])
@example([(timedelta(0), 1), (timedelta(minutes=20), 1500), (timedelta(0), 1500)])
def test_no_hour_has_more_than_3600_requests(groups: list[tuple[timedelta, int]]) -> None:
    """The limit holds for any arrivals, also for 4,000 requests at once."""
    account = Account(DNSPOD)
    for gap, requests in groups:
        account.time += gap
        for _ in range(requests):
            account.send()

    assert account.most_in_an_hour() <= 3600


@given(st.integers(1, 500), arrivals)
def test_no_hour_has_more_requests_than_it_may(
    requests: int, groups: list[tuple[timedelta, int]]
) -> None:
    """The limit holds for any number. Both ends belong to the hour."""
    account = Account(rate_of(requests))
    for gap, count in groups:
        account.time += gap
        for _ in range(count % 200):
            account.send()

    # At a rate of one request an hour, two requests stand at the two ends.
    assert account.most_in_an_hour() <= max(requests, 2)


def test_the_whole_hour_can_be_used() -> None:
    """A run that never pauses sends 3,600 requests in its first hour."""
    account = Account(DNSPOD)
    for _ in range(3600):
        account.send()

    assert NOW + HOUR >= account.sent[-1]
    assert 3600 == account.most_in_an_hour()


def test_a_burst_passes_without_waiting() -> None:
    """Six hundred requests go at once, and each further request waits for an interval."""
    account = Account(DNSPOD)
    waits = [account.ask() for _ in range(600)]

    assert {NO_WAIT} == set(waits)
    assert timedelta(seconds=1.2) == account.ask() == account.ask()
    account.time += timedelta(seconds=1.2)
    assert [NO_WAIT, timedelta(seconds=1.2)] == [account.ask(), account.ask()]


def test_a_burst_is_restored_after_a_pause() -> None:
    """Twelve minutes restore a whole burst, and a longer pause restores no more."""
    account = Account(DNSPOD)
    for pause in (timedelta(0), timedelta(minutes=12), timedelta(days=300)):
        account.time += pause
        waits = [account.ask() for _ in range(601)]
        assert {NO_WAIT} == set(waits[:600])
        assert waits[600] > NO_WAIT


@pytest.mark.parametrize(
    ("requests", "burst", "interval"),
    [
        (3600, 600, timedelta(seconds=1.2)),
        (60, 10, timedelta(seconds=72)),
        (7, 1, timedelta(minutes=10)),
        (1, 1, timedelta(hours=1)),
        (3_600_000_000, 600_000_000, timedelta(microseconds=2)),
        (10**30, 600_000_000, timedelta(microseconds=2)),
    ],
)
def test_a_sixth_may_go_at_once(requests: int, burst: int, interval: timedelta) -> None:
    """The other requests follow evenly, and the total fits the hour that the burst began."""
    assert Rate(burst, interval) == rate_of(requests)


# --- Malformed and implausible notes


@given(st.integers(1, 10_000), st.text() | st.datetimes().map(str) | st.none())
@example(3600, "0001-01-01T00:00:00+14:00")
@example(3600, "9999-12-31T23:59:59-14:00")
@example(3600, "2026-11-24T12:00:00")
@example(3600, "-")
def test_any_note_delays_within_the_bound(requests: int, note: str | None) -> None:
    """Any note delays a turn by at most an interval and the tolerated difference between clocks."""
    rate = rate_of(requests)
    turn = take_turn(rate, note, NOW)

    assert turn.wait <= rate.interval + CLOCKS_APART
    assert not turn.wait or is_given(rate, turn.note, NOW + turn.wait)


@given(st.datetimes(timezones=st.just(UTC)))
def test_any_moment_in_a_note_delays_within_the_bound(moment: datetime) -> None:
    """The clock may have shown any time when the note was written."""
    turn = take_turn(DNSPOD, note_of(moment), NOW)

    assert turn.wait <= DNSPOD.interval + CLOCKS_APART
    assert not turn.wait or is_given(DNSPOD, turn.note, NOW + turn.wait)


@pytest.mark.parametrize("note", ["", "spent", "1764000000", note_of(NOW + timedelta(days=9))])
def test_implausible_note_counts_as_a_burst_just_sent(note: str) -> None:
    """The number of sent requests is unknown, so the account continues at its even pace."""
    turn = take_turn(DNSPOD, note, NOW)

    assert Turn(timedelta(seconds=1.2), note_of(NOW + timedelta(minutes=12))) == turn


def test_a_clock_slightly_behind_is_trusted() -> None:
    """Two hosts share the note: the host with the later clock must keep the other host's turns."""
    note = note_of(NOW + timedelta(minutes=12, seconds=30))

    assert Turn(timedelta(seconds=31.2), note) == take_turn(DNSPOD, note, NOW)


@given(arrivals, st.lists(st.timedeltas(timedelta(0), timedelta(days=1)), min_size=6, max_size=6))
def test_a_clock_set_back_keeps_the_limit(
    groups: list[tuple[timedelta, int]], steps: list[timedelta]
) -> None:
    """The clock is set back before each group, and the limit still holds for every real hour."""
    account = Account(DNSPOD)
    for (gap, requests), step in zip(groups, steps, strict=False):
        account.time += gap
        account.late += step
        for _ in range(requests):
            account.send()

    assert account.most_in_an_hour() <= 3600

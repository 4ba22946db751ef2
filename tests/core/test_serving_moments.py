"""The moments of runs in a long-lived process."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from certferry.core.schedule import last_scheduled, moments_of, next_scheduled

HOSTS = st.text(min_size=1, max_size=20)
ZONES = st.integers(-12, 14).map(lambda hours: timezone(timedelta(hours=hours)))
MOMENTS = st.datetimes(max_value=datetime(2100, 1, 1), timezones=ZONES)  # noqa: DTZ001 - hypothesis adds a zone


@given(HOSTS)
def test_restart_keeps_the_moments_of_runs(host: str) -> None:
    """The moments lie half a day apart, the first at night, both after the first minute of an
    hour.
    """
    first, second = moments_of(host)

    assert moments_of(host) == (first, second)
    assert first.hour < 6
    assert second == first.replace(hour=first.hour + 12)
    assert first.minute > 0


def test_hosts_run_at_different_moments() -> None:
    """Among a hundred hosts hardly two share a second."""
    assert len({moments_of(f"web-{number}") for number in range(100)}) > 95


@given(HOSTS, MOMENTS)
def test_last_moment_is_less_than_half_a_day_ago(host: str, now: datetime) -> None:
    """There is no other moment between the last and now."""
    moments = moments_of(host)
    scheduled = last_scheduled(moments, now)

    assert timedelta(0) <= now - scheduled < timedelta(hours=12)
    assert scheduled.time() in moments
    assert last_scheduled(moments, scheduled) == scheduled
    following = next_scheduled(moments, now)
    assert now < following <= now + timedelta(hours=12)
    assert last_scheduled(moments, following) == following
    assert scheduled.astimezone(UTC) == scheduled

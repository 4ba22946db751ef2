"""Pacing: never more requests in a second than a service allows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.adapters.http.client import Pacer
from certferry.errors import Interrupted
from tests.adapters.waits import Waits


class Moment:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        """Give the time."""
        return self.now

    def pause(self, seconds: float) -> None:
        """Let time pass at once."""
        self.now += seconds


@given(per_second=st.integers(1, 50), idle=st.lists(st.floats(0, 3), min_size=2, max_size=40))
def test_any_two_requests_are_an_interval_apart(per_second: int, idle: list[float]) -> None:
    """However unevenly requests come, they leave evenly spaced, and none waits without need."""
    moment = Moment()
    pacer = Pacer(per_second, clock=moment.clock, pause=moment.pause)
    left: list[float] = []
    for seconds in idle:
        moment.now += seconds
        came = moment.now
        pacer.wait()
        earliest = left[-1] + 1 / per_second if left else 0.0
        left.append(moment.now)
        assert pytest.approx(max(came, earliest)) == moment.now


def test_many_threads_share_one_pace() -> None:
    """Twenty threads that ask at once are each given a moment of their own."""
    waits = Waits()
    pacer = Pacer(10, clock=lambda: 0.0, pause=waits)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: pacer.wait(), range(20)))

    assert pytest.approx([n / 10 for n in range(1, 20)]) == sorted(waits.seconds)


def test_a_stopped_run_is_not_held() -> None:
    """What the pause raises passes."""

    def stop(seconds: float) -> None:
        raise Interrupted("stopped")

    pacer = Pacer(1, clock=lambda: 0.0, pause=stop)
    pacer.wait()

    with pytest.raises(Interrupted):
        pacer.wait()

"""Observations in the background: once for all visitors, again when old, and again after a
change.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from certferry.console.observing import AT_ONCE, FRESH, Observer
from certferry.core.events import Begun, LineageEnded
from certferry.errors import DnsUnavailable
from certferry.text import Text
from tests.support.waiting import eventually

NOON = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


class World:
    """An observed world, with a clock set by the test."""

    def __init__(self) -> None:
        self.at = NOON
        self.asked = 0
        self.fails = False
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.observer = Observer(lambda: self.at)

    def ask(self) -> int:
        """Return how often the world was asked."""
        self.asked += 1
        asked, fails = self.asked, self.fails
        self.may_answer.wait(10)
        if fails:
            raise DnsUnavailable(Text("no answer"))
        return asked

    def reader(self) -> Callable[[], int | None]:
        """Return a function that waits for the end of the observation, and returns the last
        result.
        """

        def settled_value() -> int | None:
            assert eventually(lambda: not self.observer.latest("it", self.ask).is_being_observed)
            return self.observer.latest("it", self.ask).value

        return settled_value


def test_many_requests_share_an_observation() -> None:
    """Requests during an observation share the observation. An old result, or a request for a new
    result, starts another observation.
    """
    world = World()
    value = world.reader()
    world.may_answer.clear()
    assert all(world.observer.latest("it", world.ask).is_being_observed for _ in range(10))
    world.may_answer.set()
    assert 1 == value()

    world.at += FRESH
    assert 1 == value()
    world.at += timedelta(seconds=1)
    assert 2 == value()
    world.observer.latest("it", world.ask, anew=True)
    assert 3 == value()


def test_failed_observation_keeps_the_last_result() -> None:
    """The last result and its time stay, and further requests do not repeat the failed
    observation.
    """
    world = World()
    value = world.reader()
    assert 1 == value()
    world.at, world.fails = NOON + 2 * FRESH, True

    assert 1 == value()
    result = [world.observer.latest("it", world.ask) for _ in range(5)][-1]
    assert result.problem is not None
    assert (NOON, 2) == (result.at, world.asked)


def test_observation_begun_before_a_change_is_repeated() -> None:
    """A plan begun before the end of a run may describe the world before the run."""
    world = World()
    value = world.reader()
    world.may_answer.clear()
    world.observer.latest("it", world.ask)
    world.observer.forget()
    world.may_answer.set()

    assert 2 == value()
    world.observer.forget()
    assert 3 == value()


def test_outdated_result_is_shown_until_the_next_result() -> None:
    """The old result stays until the new result, because the plan of a thousand certificates takes
    minutes.
    """
    world = World()
    value = world.reader()
    assert 1 == value()
    world.may_answer.clear()
    world.observer.outdate()

    result = world.observer.latest("it", world.ask)
    assert (1, True) == (result.value, result.is_being_observed)
    world.may_answer.set()
    assert 2 == value()


def test_progress_of_an_observation_is_counted() -> None:
    """Progress is counted during the observation, and reset at the end."""
    world = World()
    world.may_answer.clear()
    world.observer.latest("it", world.ask)
    count = world.observer.counter("it")
    for event in (Begun(3), LineageEnded("a"), Begun(2), LineageEnded("b")):
        count(event)

    result = world.observer.known("it")
    assert (1, 2) == (result.done, result.count)
    world.may_answer.set()
    assert eventually(lambda: not world.observer.known("it").is_being_observed)
    assert (0, 0) == (world.observer.known("it").done, world.observer.known("it").count)


def test_many_observations_start_few_threads() -> None:
    """Few observations run at once, and all observations end."""
    world, kinds = World(), range(20 * AT_ONCE)
    world.may_answer.clear()
    for kind in kinds:
        assert world.observer.latest(kind, world.ask).is_being_observed
    assert eventually(lambda: world.asked == AT_ONCE)
    world.may_answer.set()

    assert eventually(lambda: all(world.observer.known(kind).value for kind in kinds))
    assert len(kinds) == world.asked

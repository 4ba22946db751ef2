"""What is observed for pages in the background: once for all, not for ever, and never stale."""

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
    """What is observed, by a clock that a test sets."""

    def __init__(self) -> None:
        self.at = NOON
        self.asked = 0
        self.fails = False
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.observer = Observer(lambda: self.at)

    def ask(self) -> int:
        """Return how often it was asked."""
        self.asked += 1
        asked, fails = self.asked, self.fails
        self.may_answer.wait(10)
        if fails:
            raise DnsUnavailable(Text("no answer"))
        return asked

    def found(self) -> Callable[[], int | None]:
        """Return what waits until nothing is being observed, and returns what is known."""

        def known() -> int | None:
            assert eventually(lambda: not self.observer.latest("it", self.ask).is_being_observed)
            return self.observer.latest("it", self.ask).value

        return known


def test_what_many_ask_for_is_observed_once() -> None:
    """Also while it is observed; and again when it is old, or wanted anew."""
    world = World()
    known = world.found()
    world.may_answer.clear()
    assert all(world.observer.latest("it", world.ask).is_being_observed for _ in range(10))
    world.may_answer.set()
    assert 1 == known()

    world.at += FRESH
    assert 1 == known()
    world.at += timedelta(seconds=1)
    assert 2 == known()
    world.observer.latest("it", world.ask, anew=True)
    assert 3 == known()


def test_a_failure_keeps_what_was_found_and_when() -> None:
    """And is not tried again by every page that asks."""
    world = World()
    known = world.found()
    assert 1 == known()
    world.at, world.fails = NOON + 2 * FRESH, True

    assert 1 == known()
    found = [world.observer.latest("it", world.ask) for _ in range(5)][-1]
    assert found.problem is not None
    assert (NOON, 2) == (found.at, world.asked)


def test_what_began_before_a_change_is_observed_once_more() -> None:
    """A plan that was begun before a run ended may be of the world before it."""
    world = World()
    known = world.found()
    world.may_answer.clear()
    world.observer.latest("it", world.ask)
    world.observer.forget()
    world.may_answer.set()

    assert 2 == known()
    world.observer.forget()
    assert 3 == known()


def test_what_a_run_has_changed_is_shown_until_it_is_observed_anew() -> None:
    """With its age: what a thousand certificates are planned to get takes minutes to find."""
    world = World()
    known = world.found()
    assert 1 == known()
    world.may_answer.clear()
    world.observer.outdate()

    found = world.observer.latest("it", world.ask)
    assert (1, True) == (found.value, found.is_being_observed)
    world.may_answer.set()
    assert 2 == known()


def test_how_far_it_is_can_be_counted() -> None:
    """While it goes on, and nothing of it stays."""
    world = World()
    world.may_answer.clear()
    world.observer.latest("it", world.ask)
    count = world.observer.counter("it")
    for event in (Begun(3), LineageEnded("a"), Begun(2), LineageEnded("b")):
        count(event)

    found = world.observer.known("it")
    assert (1, 2) == (found.done, found.count)
    world.may_answer.set()
    assert eventually(lambda: not world.observer.known("it").is_being_observed)
    assert (0, 0) == (world.observer.known("it").done, world.observer.known("it").count)


def test_a_thousand_pages_start_no_thousand_threads() -> None:
    """A few are observed at a time, and each of them in the end."""
    world, kinds = World(), range(20 * AT_ONCE)
    world.may_answer.clear()
    for kind in kinds:
        assert world.observer.latest(kind, world.ask).is_being_observed
    assert eventually(lambda: world.asked == AT_ONCE)
    world.may_answer.set()

    assert eventually(lambda: all(world.observer.known(kind).value for kind in kinds))
    assert len(kinds) == world.asked

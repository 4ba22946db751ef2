"""Surveys that the process of the console makes by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from certferry.console.observing import Found
from certferry.console.surveying import APART, Surveys
from certferry.errors import DatabaseUnavailable
from certferry.text import Text

NOON = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class World:
    """A process with a clock, whose surveys end at once."""

    def __init__(self) -> None:
        self.at = NOON
        self.known: Found[object] = Found()
        self.last_run: datetime | None = None
        self.is_running = self.fails = False
        self.surveys = Surveys(
            lambda: self.known, self.survey, self.end_of_run, lambda: self.is_running, self.now
        )

    def now(self) -> datetime:
        return self.at

    def end_of_run(self) -> datetime | None:
        if self.fails:
            raise DatabaseUnavailable(Text("no answer"))
        return self.last_run

    def survey(self) -> None:
        self.known = Found("survey", self.at)

    def is_begun(self, after: timedelta) -> bool:
        """Return whether a survey begins after this time."""
        self.at += after
        return self.surveys.begin_if_due()


def test_survey_at_the_start_and_after_runs() -> None:
    """The first survey comes at once, without an operator. Later surveys come only after a run, and
    `APART`, however many runs end.
    """
    world = World()
    assert world.is_begun(timedelta(0))
    assert not world.is_begun(10 * APART), "no run has ended since"

    world.last_run = world.at
    assert world.is_begun(MINUTE)
    world.last_run = world.at + MINUTE
    assert not world.is_begun(2 * MINUTE)
    assert world.is_begun(APART)


def test_failed_survey_is_not_repeated_soon() -> None:
    """An account that refuses everything is asked no more often than any other account."""
    world = World()
    assert world.is_begun(timedelta(0))
    world.known = Found()

    assert not world.is_begun(APART - MINUTE)
    assert world.is_begun(MINUTE)


def test_survey_waits_for_a_run_and_for_discover() -> None:
    """A run in progress, and a survey that an operator has begun, come first."""
    world = World()
    world.is_running = True
    assert not world.is_begun(MINUTE)
    world.is_running, world.known = False, Found(since=NOON)
    assert not world.is_begun(MINUTE)
    world.known = Found("of an operator", world.at)
    assert not world.is_begun(MINUTE)


def test_other_settings_are_surveyed_at_once() -> None:
    """After the settings are read again, the survey of the earlier settings is gone."""
    world = World()
    assert world.is_begun(timedelta(0))
    world.known = Found()
    world.surveys.forget()

    assert world.is_begun(MINUTE)


def test_clock_that_was_set_back() -> None:
    """A start in the future does not hold up the surveys."""
    world = World()
    assert world.is_begun(timedelta(0))
    world.known = Found()

    assert world.is_begun(-MINUTE)


def test_state_that_does_not_answer() -> None:
    """No survey begins, and none is counted as begun."""
    world = World()
    world.fails = True
    with pytest.raises(DatabaseUnavailable):
        world.is_begun(MINUTE)
    world.fails = False

    assert world.is_begun(MINUTE)

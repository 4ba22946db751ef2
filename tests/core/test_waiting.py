"""The pause until the next look at a pending change."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.reasons import FIRST, LONGEST, wait_for
from certferry.text import Text
from tests.core.strategies import NOW

WHY = Text("something")
ages = st.timedeltas(timedelta(0), timedelta(days=2))


@given(ages)
def test_pause_is_bounded_on_both_sides(age: timedelta) -> None:
    """The pause starts short, grows with age, and stays below two minutes."""
    waiting = wait_for(WHY, NOW - age, NOW)

    assert FIRST <= waiting.until - NOW <= LONGEST


@given(ages, ages)
def test_older_waits_look_no_more_often(younger: timedelta, older: timedelta) -> None:
    """The pause grows with the age of the wait."""
    younger, older = sorted((younger, older))

    assert wait_for(WHY, NOW - younger, NOW).until <= wait_for(WHY, NOW - older, NOW).until


@given(ages, ages)
def test_last_look_is_at_the_deadline(age: timedelta, left: timedelta) -> None:
    """The last look comes at the deadline, and no wait ends long before."""
    deadline = NOW + left

    assert wait_for(WHY, NOW - age, NOW, deadline).until <= deadline


@given(ages, ages)
def test_change_is_noticed_soon_after(began: timedelta, happened: timedelta) -> None:
    """The change is noticed within a tenth of the wait and a second, for any moment of joining."""
    began, happened = sorted((began, happened))
    moment = NOW + began
    while moment < NOW + happened:
        moment = wait_for(WHY, NOW, moment).until

    assert moment - (NOW + happened) <= happened / 10 + timedelta(seconds=1)


def test_short_change_is_noticed_at_once() -> None:
    """A change of two seconds is noticed within the third second."""
    moment = NOW
    while moment < NOW + timedelta(seconds=2):
        moment = wait_for(WHY, NOW, moment).until

    assert moment <= NOW + timedelta(seconds=3)


@pytest.mark.parametrize(
    ("change", "least", "most"),
    [(timedelta(minutes=10), 50, 60), (timedelta(hours=1), 80, 90)],
    ids=["ten minutes", "an hour"],
)
def test_change_takes_few_looks(change: timedelta, least: int, most: int) -> None:
    """A change at a CDN (8 to 15 minutes) takes about sixty looks, a change of an hour about
    ninety.
    """
    looks, moment = 0, NOW
    while moment < NOW + change:
        moment = wait_for(WHY, NOW, moment).until
        looks += 1

    assert least <= looks <= most

"""How long until the next look."""

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
    """It starts short, grows with age, and never exceeds two minutes."""
    waiting = wait_for(WHY, NOW - age, NOW)

    assert FIRST <= waiting.until - NOW <= LONGEST


@given(ages, ages)
def test_older_waits_look_no_more_often(younger: timedelta, older: timedelta) -> None:
    """The pause never shrinks as the wait goes on."""
    younger, older = sorted((younger, older))

    assert wait_for(WHY, NOW - younger, NOW).until <= wait_for(WHY, NOW - older, NOW).until


@given(ages, ages)
def test_last_look_is_at_the_deadline(age: timedelta, left: timedelta) -> None:
    """Nothing is looked at for the last time long before it is given up."""
    deadline = NOW + left

    assert wait_for(WHY, NOW - age, NOW, deadline).until <= deadline


@given(ages, ages)
def test_what_happens_is_seen_soon_after(began: timedelta, happened: timedelta) -> None:
    """At most a tenth of the wait, and a second, after it has happened, whenever the wait was
    joined.
    """
    began, happened = sorted((began, happened))
    moment = NOW + began
    while moment < NOW + happened:
        moment = wait_for(WHY, NOW, moment).until

    assert moment - (NOW + happened) <= happened / 10 + timedelta(seconds=1)


def test_a_short_change_is_seen_at_once() -> None:
    """What takes two seconds is seen within the next one."""
    moment = NOW
    while moment < NOW + timedelta(seconds=2):
        moment = wait_for(WHY, NOW, moment).until

    assert moment <= NOW + timedelta(seconds=3)


@pytest.mark.parametrize(
    ("change", "least", "most"),
    [(timedelta(minutes=10), 50, 60), (timedelta(hours=1), 80, 90)],
    ids=["ten minutes", "an hour"],
)
def test_a_change_takes_few_looks(change: timedelta, least: int, most: int) -> None:
    """One at a CDN (8 to 15 minutes) costs about sixty, one that takes an hour some ninety."""
    looks, moment = 0, NOW
    while moment < NOW + change:
        moment = wait_for(WHY, NOW, moment).until
        looks += 1

    assert least <= looks <= most

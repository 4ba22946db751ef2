"""How long until the next look."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from certferry.core.waiting import FIRST, LONGEST, wait_for
from certferry.text import Text
from tests.core.strategies import NOW

WHY = Text("something")
ages = st.timedeltas(timedelta(0), timedelta(days=2))


@given(ages)
def test_pause_is_bounded_on_both_sides(age: timedelta) -> None:
    """It starts short, grows with age, and never exceeds a minute."""
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


def test_an_hour_takes_few_looks() -> None:
    """A change that takes an hour costs about as many requests as minutes."""
    looks, moment = 0, NOW
    while moment < NOW + timedelta(hours=1):
        moment = wait_for(WHY, NOW, moment).until
        looks += 1

    assert 60 <= looks <= 90

"""How long nothing is ordered after a certificate that was not ordered."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certferry.core.planning.planner import ANEW_AFTER, retry_pause
from tests.core.strategies import NOW


@pytest.mark.parametrize(
    ("since", "held"),
    [
        (timedelta(0), True),
        (ANEW_AFTER - timedelta(seconds=1), True),
        (ANEW_AFTER, False),
        (timedelta(seconds=-1), False),
    ],
)
def test_nothing_is_ordered_for_a_day(since: timedelta, *, held: bool) -> None:
    """It is told until when; what a clock that was ahead wrote down holds nothing back."""
    error = retry_pause(NOW - since, NOW)

    assert held is (error is not None)
    if error is not None:
        assert error.retry.after == NOW - since + ANEW_AFTER

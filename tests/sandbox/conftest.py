"""The clock of the stand-ins that keep zones."""

from __future__ import annotations

import pytest

from tests.support.manual_clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    """The zones' clock, which tests move."""
    return ManualClock()

"""The clock of stand-ins with zones."""

from __future__ import annotations

import pytest

from tests.support.manual_clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    """Return the zones' clock, which tests move."""
    return ManualClock()

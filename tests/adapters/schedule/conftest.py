"""A crontab that tests may write."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.adapters.schedule.crontab_owner import CrontabOwner, crontab_owner


@pytest.fixture
def owner() -> Iterator[CrontabOwner]:
    """A user without a crontab."""
    with crontab_owner() as owner:
        yield owner

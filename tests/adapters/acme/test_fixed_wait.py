"""A wait in the place of every look, for hosts that may ask no question."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certferry.adapters.acme.propagation import FixedWait
from certferry.errors import Interrupted
from certferry.text import Text
from tests.adapters.acme.name_servers import NAME, START, Reports, one
from tests.adapters.waits import Waits


def test_time_passes_and_nothing_is_asked() -> None:
    """There is nothing it could ask with: neither resolvers nor a port."""
    waits, reports = Waits(), Reports()

    FixedWait(timedelta(seconds=120), waits, lambda: START).wait(one(), reports)

    assert 120 == waits.clock()
    assert ["waiting 2 minutes for the challenge to appear, without checking"] == reports.sentences
    assert {(START, START + timedelta(seconds=120))} == reports.moments


def test_challenge_is_written_at_its_own_name() -> None:
    """No CNAME can be seen."""
    wait = FixedWait(timedelta(seconds=1), Waits(), lambda: START)

    assert NAME == wait.follow(NAME)
    assert wait.wildcard_alias(NAME) is None


def test_stopped_run_stops_waiting() -> None:
    """What the pause raises comes through."""

    def pause(seconds: float) -> None:
        raise Interrupted(Text("stopped"))

    with pytest.raises(Interrupted):
        FixedWait(timedelta(seconds=120), pause, lambda: START).wait(one(), Reports())

"""A session that outlives its runs, as a service has one: each run begins afresh."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from certferry.config.load import load
from certferry.core.events import Event, StepEnded
from certferry.reconcile.visits import Patience
from certferry.wiring.session import Session, open_session
from certferry.wiring.settings import ADAPTERS
from certferry_sandbox.faults import Fault
from tests.acceptance.host import Host


class Stopper:
    """Stops the run when the first step has ended, once."""

    def __init__(self) -> None:
        self.is_set = False

    def __call__(self, event: Event) -> None:
        """See `ports.progress.Progress`."""
        if self.is_set and isinstance(event, StepEnded):
            self.is_set = False
            raise KeyboardInterrupt


@pytest.fixture
def stopper() -> Stopper:
    """A listener that stops a run when it is told to."""
    return Stopper()


@pytest.fixture
def session(host: Host, stopper: Stopper) -> Iterator[Session]:
    """A session on the host, in this very process."""
    settings = load(host.config, {**os.environ, **host.world.environment}, ADAPTERS)
    with open_session(settings, progress=stopper) as opened:
        yield opened


def test_keys_that_were_refused_are_right_in_the_next_run(host: Host, session: Session) -> None:
    """Nothing that a service refused is remembered beyond the run."""
    bad_token = Fault.status(401, b'{"code":401,"error":"bad token"}')
    host.world.qiniu.api.faults.add(bad_token, times=None)
    refused = session.reconciler().sync(session.certificates, Patience())
    host.world.qiniu.api.faults.clear()

    report = session.reconciler().sync(session.certificates, Patience())

    assert not refused.ok
    assert report.ok, report


def test_a_stop_is_followed_by_another_start(session: Session, stopper: Stopper) -> None:
    """A run that was stopped stops none that begins after it."""
    stopper.is_set = True
    stopped = session.reconciler().sync(session.certificates, Patience())

    report = session.reconciler().sync(session.certificates, Patience())

    assert not stopped.complete
    assert report.complete
    assert report.ok, report

"""One process makes several runs, as a server does: each begins afresh, and each is stopped by
itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from certferry.config.load import load
from certferry.core.events import Event, StepEnded
from certferry.core.planning.report import SyncReport
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.run import Run
from certferry.reconcile.work_queue import WaitLimit
from certferry.wiring.settings import ADAPTERS
from certferry.wiring.workspace import Workspace
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
def workspace(host: Host) -> Iterator[Workspace]:
    """A workspace on the host, in this very process."""
    settings = load(host.config, {**os.environ, **host.world.environment}, ADAPTERS)
    with Workspace(settings) as opened:
        yield opened


def synced(workspace: Workspace, run: Run) -> SyncReport:
    """Make a run."""
    return Reconciler(workspace.connect(run)).sync(workspace.certificates, WaitLimit())


def test_keys_that_were_refused_are_right_in_the_next_run(host: Host, workspace: Workspace) -> None:
    """Nothing that a service refused is remembered beyond the run."""
    bad_token = Fault.status(401, b'{"code":401,"error":"bad token"}')
    host.world.qiniu.api.faults.add(bad_token, times=None)
    refused = synced(workspace, Run())
    host.world.qiniu.api.faults.clear()

    report = synced(workspace, Run())

    assert not refused.ok
    assert report.ok, report


def test_a_stop_is_followed_by_another_start(workspace: Workspace) -> None:
    """A run that was stopped stops none that begins after it."""
    stopper = Stopper()
    stopper.is_set = True
    stopped = synced(workspace, Run(progress=stopper))

    report = synced(workspace, Run())

    assert not stopped.complete
    assert report.complete
    assert report.ok, report

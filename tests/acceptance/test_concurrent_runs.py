"""Runs side by side: of several processes, and several in one."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from certferry.config.load import load
from certferry.core.events import Event, StepEnded
from certferry.core.observed.records import HistoryEntry
from certferry.core.planning.report import SyncReport
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.run import Run, WaitLimit
from certferry.wiring.settings import ADAPTERS
from certferry.wiring.workspace import Workspace
from certferry_sandbox.faults import Fault
from certferry_sandbox.world import World
from tests.acceptance.host import LONGEST_RUN, Host, certificate
from tests.acceptance.requests_made import RequestsMade
from tests.support.tiers import long, thorough

# --- Several runs on one state at once, as processes: each knows what another has just done


PROCESSES = 4
ROUNDS = 20
SHARES = 4
"""The rounds are shared out to so many tests, which run in parallel."""
WHAT_MISLED = ("has not taken effect", "another tool", "drift found")


@pytest.fixture
def slow(world: World) -> Iterator[World]:
    """The world, in which a name server is behind: an order takes its time, under its lease."""
    behind = world.dns.servers[1]
    lag, behind.lag = behind.lag, 0.5
    yield world
    behind.lag = lag


@pytest.fixture
def slow_host(slow: World, tmp_path: Path, new_name: Callable[[], str]) -> Host:
    """A machine whose certificate is served at two domains, and that waits ten seconds for one."""
    names = new_name(), new_name()
    for name in names:
        slow.add_http_domain(name)
    slow_host = Host(slow, tmp_path, certificate(*names, name="img"))
    slow_host.rewrite("[verify]", "[verify]\ntimeout = 10")
    assert 0 == slow_host.run("sync").code
    return slow_host


@thorough
@long
@pytest.mark.parametrize("share", range(SHARES))
def test_four_runs_at_once(slow_host: Host, share: int) -> None:
    """One renews, and the others begin while it is at work. Each ends well and calls nothing drift;
    together they write to the CDN what one run would have written. What went wrong can be tried
    again with the seed that is told.
    """
    begun = time.monotonic()
    assert 0 == slow_host.run("sync", "--renew", "img").code
    usual = time.monotonic() - begun
    for number in range(ROUNDS // SHARES):
        seed = f"{share}/{number}/{os.urandom(4).hex()}"
        moments = random.Random(seed)  # noqa: S311 - when a test begins a run is no secret
        before, reported_before = RequestsMade.of(slow_host.world), len(history(slow_host))

        runs = at_once(slow_host, sorted(moments.uniform(0, usual) for _ in range(PROCESSES - 1)))

        for code, out, err in runs:
            assert 0 == code, (seed, out, err)
            assert json.loads(out)["ok"], seed
            assert not [words for words in WHAT_MISLED if words in out + err], (seed, out, err)
        left = RequestsMade.of(slow_host.world) - before
        events = Counter(entry.event for entry in history(slow_host)[reported_before:])
        assert {"issued": 1, "uploaded": 1, "deployed": 2, "verified": 2, "retired": 1} == events, (
            seed,
            runs,
        )
        assert (1, 4) == (left.qiniu_uploads, left.qiniu_writes), seed


def at_once(slow_host: Host, moments: list[float]) -> list[tuple[int, str, str]]:
    """Renew, begin another run at each moment after that, and return what all ended with."""
    with ExitStack() as beside:
        first = beside.enter_context(slow_host.begin("sync", "--renew", "img", "--json"))
        others, begun = [], time.monotonic()
        for moment in moments:
            with suppress(subprocess.TimeoutExpired):
                first.wait(max(begun + moment - time.monotonic(), 0))
            others.append(beside.enter_context(slow_host.begin("sync", "--json")))
        ended = [(run, *run.communicate(timeout=LONGEST_RUN)) for run in (first, *others)]
        return [(run.returncode, out, err) for run, out, err in ended]


def history(slow_host: Host) -> list[HistoryEntry]:
    """What has happened so far, oldest first."""
    with slow_host.remembering() as store:
        return list(store.history("img", 10_000))[::-1]


# --- One process makes several runs, as a server does: each begins afresh, and each is stopped
# by itself


class Stopper:
    """Stops the run when the first step has ended, once."""

    def __init__(self) -> None:
        self.is_set = False

    def __call__(self, event: Event) -> None:
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

"""Concurrent runs: several processes, and several runs in one process."""

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

# --- Several processes run on one state at once: each run knows the latest work of the others


PROCESSES = 4
ROUNDS = 20
SHARES = 4
"""The number of parallel tests that share the rounds."""
MISLEADING_WORDS = ("has not taken effect", "another tool", "drift found")


@pytest.fixture
def slow(world: World) -> Iterator[World]:
    """Return the world with a slow name server, so that an order takes its time under its lease."""
    behind = world.dns.servers[1]
    lag, behind.lag = behind.lag, 0.5
    yield world
    behind.lag = lag


@pytest.fixture
def slow_host(slow: World, tmp_path: Path, new_name: Callable[[], str]) -> Host:
    """A machine whose certificate is served at two domains, with a patience of ten seconds."""
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
    """A run renews, and the others begin during its work. Every run succeeds and reports no drift;
    together the runs write to the CDN as much as a single run. A failure can be repeated with the
    printed seed.
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
            assert not [words for words in MISLEADING_WORDS if words in out + err], (seed, out, err)
        left = RequestsMade.of(slow_host.world) - before
        events = Counter(entry.event for entry in history(slow_host)[reported_before:])
        assert {"issued": 1, "uploaded": 1, "deployed": 2, "verified": 2, "retired": 1} == events, (
            seed,
            runs,
        )
        assert (1, 4) == (left.qiniu_uploads, left.qiniu_writes), seed


def at_once(slow_host: Host, moments: list[float]) -> list[tuple[int, str, str]]:
    """Renew, begin another run at each moment, and return the exit codes and the outputs of all
    runs.
    """
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
    """Return the history, oldest first."""
    with slow_host.remembering() as store:
        return list(store.history("img", 10_000))[::-1]


# --- Several runs in a process, as in a server: each run begins afresh, and a stop ends a single
# run


class Stopper:
    """A listener that stops the run at the end of the first step, once."""

    def __init__(self) -> None:
        self.is_set = False

    def __call__(self, event: Event) -> None:
        if self.is_set and isinstance(event, StepEnded):
            self.is_set = False
            raise KeyboardInterrupt


@pytest.fixture
def workspace(host: Host) -> Iterator[Workspace]:
    """Open a workspace on the host, in the test's process."""
    settings = load(host.config, {**os.environ, **host.world.environment}, ADAPTERS)
    with Workspace(settings) as opened:
        yield opened


def synced(workspace: Workspace, run: Run) -> SyncReport:
    return Reconciler(workspace.connect(run)).sync(workspace.certificates, WaitLimit())


def test_keys_that_were_refused_are_right_in_the_next_run(host: Host, workspace: Workspace) -> None:
    """A run forgets the refusals of the run before."""
    bad_token = Fault.status(401, b'{"code":401,"error":"bad token"}')
    host.world.qiniu.api.faults.add(bad_token, times=None)
    refused = synced(workspace, Run())
    host.world.qiniu.api.faults.clear()

    report = synced(workspace, Run())

    assert not refused.ok
    assert report.ok, report


def test_a_stop_is_followed_by_another_start(workspace: Workspace) -> None:
    """A stop ends the current run only."""
    stopper = Stopper()
    stopper.is_set = True
    stopped = synced(workspace, Run(progress=stopper))

    report = synced(workspace, Run())

    assert not stopped.complete
    assert report.complete
    assert report.ok, report

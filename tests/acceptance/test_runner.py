"""Concurrent runs in a process, as in the console: with one workspace, on a file and on a shared
state.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from certferry.config.load import load
from certferry.core.observed.stored_runs import RunEvent, RunKind, RunSource, RunState, StoredRun
from certferry.core.planning.digest import digest_of_plans
from certferry.errors import ConfigError, StateUnavailable
from certferry.reconcile.reads import plans_of
from certferry.reconcile.run import Run
from certferry.wiring.runner import Runner
from certferry.wiring.settings import ADAPTERS
from certferry.wiring.workspace import Workspace
from certferry_sandbox.faults import Fault
from certferry_sandbox.world import World
from tests.acceptance.host import Host, certificate
from tests.support.postgresql import KEY, Postgresql
from tests.support.tiers import thorough
from tests.support.waiting import eventually

either = pytest.mark.parametrize("host", ["sqlite", "postgresql"], indirect=True)
"""The test is in the gate with both kinds of state."""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=thorough)])
def host(
    request: pytest.FixtureRequest, world: World, tmp_path: Path, new_name: Callable[[], str]
) -> Host:
    """A machine with two certificates, on either kind of state."""
    names = [new_name(), new_name()]
    for name in names:
        world.add_http_domain(name)
    made = Host(world, tmp_path, "".join(certificate(name) for name in names))
    if request.param == "postgresql":
        postgresql: Postgresql = request.getfixturevalue("postgresql")
        made.share(postgresql.url(postgresql.new_state()), KEY)
    return made


@pytest.fixture
def workspace(host: Host) -> Iterator[Workspace]:
    environ = {**os.environ, **host.world.environment}
    with Workspace(load(host.config, environ, ADAPTERS)) as opened:
        yield opened


@pytest.fixture
def runner(workspace: Workspace) -> Iterator[Runner]:
    made = Runner(lambda: workspace)
    yield made
    assert made.stop_all()


def names_of(workspace: Workspace) -> list[str]:
    return [desired.lineage for desired in workspace.certificates]


def started(runner: Runner, *names: str, **more: Any) -> StoredRun:
    options = {"who": "anna", "source": RunSource.CONSOLE, **more}
    return runner.start(options.pop("kind", RunKind.SYNC), names, **options)


def ended(runner: Runner, workspace: Workspace, run: StoredRun) -> tuple[RunState, list[RunEvent]]:
    """Wait for the end of a run, and return its standing and its events."""
    runner.wait_for(run.id)
    after = workspace.state.stored_run(run.id)
    assert after is not None
    return after.state, list(workspace.state.run_events(run.id))


def test_run_has_the_name_of_its_user(runner: Runner, workspace: Workspace) -> None:
    """The row and the history have the user's name, and the run works like a run at a terminal."""
    run = started(runner)

    assert (RunState.RUNNING, "anna", RunSource.CONSOLE) == (run.state, run.who, run.source)
    state, events = ended(runner, workspace, run)
    assert RunState.DONE is state
    assert {*names_of(workspace)} == {event.lineage for event in events}
    assert [*range(1, len(events) + 1)] == [event.number for event in events]
    assert {"anna"} == {entry.who for entry in workspace.state.history(None, 10)}
    last = workspace.state.last_run()
    assert last is not None
    assert last.succeeded_at is not None


@either
def test_one_request_starts_one_run(runner: Runner, workspace: Workspace, world: World) -> None:
    """A form that is sent eight times at once starts one run; another form starts another run."""
    name, _ = names_of(workspace)
    before = len(world.qiniu.certificates.stored())
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: started(runner, name, request="form-1"), range(8)))
    first = runs[0]

    assert {first.id} == {run.id for run in runs}
    assert RunState.DONE is ended(runner, workspace, first)[0]
    assert first.id == started(runner, name, request="form-1").id
    other = started(runner, name, request="form-2")
    assert other.id != first.id
    assert RunState.DONE is ended(runner, workspace, other)[0]
    assert before + 1 == len(world.qiniu.certificates.stored())


@either
def test_runs_go_on_side_by_side(runner: Runner, workspace: Workspace) -> None:
    """Each run is for its own certificate; a run for all certificates waits for both."""
    first, other = names_of(workspace)

    runs = [started(runner, first), started(runner, other), started(runner)]

    assert [RunState.DONE] * 3 == [ended(runner, workspace, run)[0] for run in runs]
    assert [(first,), (other,), ()] == [run.names for run in runs]
    assert [1, 1] == [len(workspace.state.versions(name)) for name in (first, other)]


def test_run_that_fails_at_once(runner: Runner, workspace: Workspace, host: Host) -> None:
    """The stored run contains the sentence that a terminal would print."""
    host.rewrite('secret_key = "', 'secret_key = "env:NOT_THERE" # "')
    wrong = load(host.config, {**os.environ, **host.world.environment}, ADAPTERS)
    with Workspace(wrong) as changed:
        failing = Runner(lambda: changed)
        run = started(failing)
        state, [event] = ended(failing, workspace, run)

    assert RunState.FAILED is state
    assert ("config", "failed", "") == (event.event, event.outcome, event.lineage)
    assert "NOT_THERE" in str(event.text)


def test_plan_that_was_shown(runner: Runner, workspace: Workspace) -> None:
    """The confirmed plan is carried out; after a change of the plan the run fails at once."""
    ports = workspace.connect(Run(), declares=False)
    digest = digest_of_plans(plans_of(ports, workspace.certificates))

    first, second = (ended(runner, workspace, started(runner, plan=digest)) for _ in range(2))

    assert RunState.DONE is first[0]
    state, [event] = second
    assert (RunState.FAILED, "plan_changed") == (state, event.event)


def test_renewal_and_rollback(runner: Runner, workspace: Workspace) -> None:
    """The actions apply to the named certificate alone."""
    first, other = names_of(workspace)
    kinds = (RunKind.SYNC, RunKind.RENEW, RunKind.ROLLBACK)

    states = [
        ended(runner, workspace, started(runner, *names, kind=kind))[0]
        for kind, names in zip(kinds, [(), (first,), (first,)], strict=True)
    ]

    assert [RunState.DONE] * 3 == states
    assert [2, 1] == [len(workspace.state.versions(name)) for name in (first, other)]
    assert workspace.state.remembered(first).withdrawals


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (RunKind.SYNC, ["nothing.example.org"]),
        (RunKind.RENEW, []),
        (RunKind.ROLLBACK, []),
    ],
)
def test_names_that_mean_nothing(
    runner: Runner, workspace: Workspace, kind: RunKind, names: list[str]
) -> None:
    """The request is refused before a run begins."""
    with pytest.raises(ConfigError):
        started(runner, *names, kind=kind)

    assert () == workspace.state.stored_runs(10)


def test_more_runs_than_may_go_on_at_once(
    runner: Runner, workspace: Workspace, world: World
) -> None:
    """A run beyond the limit is refused and leaves no row; after a run's end another begins."""
    runner.most = 1
    gate = threading.Event()
    for service in world.qiniu.services:
        service.faults.add(Fault.held_until(gate), on="POST /sslcert")
    name, other = names_of(workspace)
    first = started(runner, name)
    with pytest.raises(StateUnavailable):
        started(runner, other)
    assert [first.id] == [run.id for run in workspace.state.stored_runs(10)]
    gate.set()

    assert RunState.DONE is ended(runner, workspace, first)[0]
    assert eventually(lambda: not runner.stop(first.id))
    assert RunState.DONE is ended(runner, workspace, started(runner, other))[0]


def test_runs_that_are_stopped(runner: Runner, workspace: Workspace, world: World) -> None:
    """One run is stopped by its number, then all runs for the end of the process. Each run reaches
    a safe point in time and gives its lease back; later requests are refused.
    """
    for service in world.qiniu.services:
        service.faults.add(Fault.delay(2), on="POST /sslcert", times=None)
    first, other = names_of(workspace)
    runs = [started(runner, first), started(runner, other)]
    assert eventually(lambda: all(workspace.state.versions(name) for name in (first, other)))

    assert runner.stop(runs[0].id)
    begun = time.monotonic()
    assert runner.stop_all()

    assert time.monotonic() - begun < 10
    assert [RunState.STOPPED] * 2 == [ended(runner, workspace, run)[0] for run in runs]
    assert not runner.stop(runs[0].id)
    for name in (first, other):
        workspace.state.release(workspace.state.acquire(name, workspace.state.now()))
    with pytest.raises(StateUnavailable):
        started(runner)

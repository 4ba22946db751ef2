"""Two runs at once: what the other one has just done is known, and is no other tool's change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from certferry.core.desired.certificate import DriftPolicy
from certferry.core.observed.observation import ObservedTarget
from certferry.core.planning.report import LineageReport, Outcome
from certferry.core.planning.steps import Action
from certferry.ports.target import Scope
from certferry.reconcile.reconciler import LineageReconciler
from certferry.reconcile.run import Ports
from tests.reconcile.model import ModelWorld, issuing_of
from tests.reconcile.one_lineage import IMG, outcome, synced

SHORT = timedelta(seconds=10)
A_MOMENT = timedelta(seconds=1)


class Listed:
    """A target that tells what it has listed once, until a look wants it anew."""

    def __init__(self, target: Any) -> None:
        self._target = target
        self._listed: ObservedTarget | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def observe(self, scope: Scope) -> ObservedTarget:
        """Look once, and then only where that is asked for."""
        if self._listed is None or scope.anew:
            self._listed = self._target.observe(scope)
        return self._listed


class Overtaken:
    """The state, while another run is at work just after its first reading."""

    def __init__(self, state: Any, other_run: Callable[[], object]) -> None:
        self._state = state
        self._other_run: Callable[[], object] | None = other_run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    def remembered(self, lineage: str) -> Any:
        """Read, and let the other run work."""
        found = self._state.remembered(lineage)
        other_run, self._other_run = self._other_run, None
        if other_run is not None:
            other_run()
        return found


def begun(world: ModelWorld, **changed: Any) -> LineageReconciler:
    """Begin a run, in a process that lists what is at the target once."""
    world.alive.add("run")
    ports: Ports = world.ports("run")
    targets: Any = {"qiniu": Listed(world.cdn)}
    return LineageReconciler(world.wish(), replace(ports, **{"targets": targets, **changed}))


def renewed(world: ModelWorld) -> None:
    """Let another run renew the certificate, to its end."""
    report = world.run(world.wish(), renew=True)
    assert report is not None
    assert report.ok


def ended(world: ModelWorld, run: LineageReconciler) -> LineageReport:
    """Visit to the end."""
    world.visit_to_the_end(run)
    return run.report()


def events(world: ModelWorld) -> list[str]:
    """What the history says, oldest first."""
    return [entry.event for entry in world.state.history("img", 100)][::-1]


def test_renewal_by_another_run_is_no_drift(world: ModelWorld) -> None:
    """This run has listed the domain before: what it finds in the state is the other run's work,
    and it looks anew before it says that another tool did it.
    """
    synced(world)
    run = begun(world)
    run.reconcile()  # lists what is there
    renewed(world)
    before = world.cdn.writes, events(world)

    report = ended(world, run)

    assert report.ok
    assert before == (world.cdn.writes, events(world))
    assert "drift found" not in events(world)


def test_renewal_between_state_and_target_is_no_drift(world: ModelWorld) -> None:
    """The state was read before the other run, the target after it."""
    synced(world)
    state: Any = Overtaken(world.ports("run").state, lambda: renewed(world))
    run = begun(world, state=state)

    report = ended(world, run)

    assert report.is_unchanged
    assert "drift found" not in events(world)


@pytest.mark.parametrize("policy", [DriftPolicy.WARN, DriftPolicy.IGNORE])
def test_renewal_by_another_run_is_not_told_as_left(world: ModelWorld, policy: DriftPolicy) -> None:
    """Also where drift is left as it is: nothing of it is told or kept."""
    synced(world)
    run = begun(world)
    (deployment,) = run.desired.deployments
    run.desired = replace(run.desired, deployments=(replace(deployment, drift=policy),))
    run.reconcile()
    renewed(world)

    report = ended(world, run)

    assert [Outcome.UNCHANGED] == [step.outcome for step in report.outcomes]
    assert "drift found" not in events(world)
    (record,) = world.state.remembered("img").rollouts
    assert None is record.drift


def test_change_that_another_run_began_is_waited_for(world: ModelWorld) -> None:
    """While the target is at the other run's change, nothing is called drift, and no repair is
    counted: twice in a day, and this run would say that another tool sets the domain.
    """
    synced(world)
    run = begun(world)
    run.reconcile()
    world.alive.add("other")
    other = LineageReconciler(world.wish(), world.ports("other"), issuing_of(renew=True))
    other.reconcile()

    report = ended(world, run)

    assert report.ok
    assert 2 == world.cdn.writes
    assert "drift found" not in events(world)
    (record,) = world.state.remembered("img").rollouts
    assert () == record.repairs


def test_change_that_was_in_time_is_not_told_as_failed(world: ModelWorld) -> None:
    """The time is over by what was listed before; a new look shows that it was enough."""
    world = ModelWorld(processing=A_MOMENT, lags=(timedelta(0),))
    world.cdn.add_domain(IMG)
    synced(world)
    renewing = LineageReconciler(world.wish(), world.ports("other"), issuing_of(renew=True))
    world.alive.add("other")
    run = begun(world, verify_timeout=SHORT)
    renewing.reconcile()
    run.reconcile()  # lists the change while the target is at it
    world.pass_time(SHORT)

    report = ended(world, run)

    assert report.ok, report


def test_change_that_takes_too_long_has_failed(world: ModelWorld) -> None:
    """A new look shows the same: it is told, in the same visit."""
    run = begun(world, verify_timeout=SHORT)
    run.reconcile()
    world.pass_time(SHORT)

    assert None is run.reconcile()

    told = outcome(run.report(), Action.DEPLOY, IMG)
    assert Outcome.FAILED is told.outcome


def test_short_time_out_of_domains_is_none_of_orders(world: ModelWorld) -> None:
    """Another run orders a certificate for some minutes: with a time-out of ten seconds for
    domains, this one waits for it all the same.
    """
    world.alive.add("other")
    held = world.state.seen_by("other").acquire("img", world.now())
    run = begun(world, verify_timeout=SHORT)
    run.reconcile()
    world.pass_time(timedelta(minutes=5))

    waiting = run.reconcile()

    assert waiting is not None
    assert [Outcome.WAITING] == [step.outcome for step in run.report().outcomes]
    world.state.seen_by("other").release(held)


def test_copy_that_another_run_removed_is_not_removed_again(world: ModelWorld) -> None:
    """It is in the list that this run had before, and in the state no more."""
    synced(world)
    world.pass_time(timedelta(days=1))
    renewed(world)
    run = begun(world)
    run.reconcile()  # lists two copies
    world.pass_time(timedelta(days=1))
    renewed(world)
    assert 1 == world.cdn.removals
    told = events(world)

    report = ended(world, run)

    assert report.ok
    assert not [step for step in report.outcomes if step.action is Action.RETIRE]
    assert told == events(world)

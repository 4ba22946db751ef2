"""Another run is at work on the lineage, or this one is stopped: who holds the lease writes."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.planning.report import Outcome
from certferry.core.planning.steps import Retire, Verify
from certferry.core.reasons import Reason, ReasonCode
from certferry.errors import (
    Interrupted,
    LeaseLost,
)
from certferry.ports.state import Lease
from certferry.reconcile.apply import carry_out
from certferry.reconcile.observe import observe
from certferry.reconcile.reconciler import LineageReconciler
from certferry.reconcile.run import StepContext
from certferry.text import Text
from certferry_sandbox.testing.interruptions import Altered
from tests.reconcile.model import START, ModelWorld, issuing_of
from tests.reconcile.one_lineage import IMG, OTHER, one_visit, synced


def test_lease_of_another_run_is_waited_for(world: ModelWorld) -> None:
    """Another run is at work: this one waits, and then finds nothing left to do."""
    world.alive.add("another")
    held = world.state.seen_by("another").acquire("img", world.now())

    report = one_visit(world)

    assert [Outcome.WAITING] == [step.outcome for step in report.outcomes]
    assert 0 == world.issuer.issued
    world.state.seen_by("another").release(held)
    assert synced(world).ok


def test_lease_that_is_lost_while_issuing_is_no_failed_issue(world: ModelWorld) -> None:
    """Another run has taken over and goes on with the order: this one waits for it."""

    class Slow:
        def __getattr__(self, method: str) -> object:
            return getattr(world.issuer, method)

        def issue(self, *arguments: object) -> CertificateBundle:
            bundle = world.issuer.issue(*arguments)  # type: ignore[arg-type]  # passed on
            world.alive.discard("run")
            world.state.seen_by("another").acquire("img", world.now())
            world.alive.update({"run", "another"})
            return bundle

    world.alive.add("run")
    ports = replace(world.ports("run"), issuer=Slow())  # type: ignore[arg-type]  # by name
    run = LineageReconciler(world.wish(), ports)

    run.reconcile()

    assert [Outcome.WAITING] == [step.outcome for step in run.report().outcomes]
    assert not [e for e in world.state.history("img", 10) if "failed" in e.event]


def test_lease_that_never_comes_free_ends_the_wait(world: ModelWorld) -> None:
    """After the verify timeout it is trouble: a run that hangs must not look like one at work, and
    later runs must not pile up.
    """
    world.alive.add("another")
    world.state.seen_by("another").acquire("img", world.now())
    world.alive.add("run")
    run = LineageReconciler(world.wish(), world.ports("run"))

    world.visit_to_the_end(run)

    [step] = run.report().outcomes
    assert Outcome.FAILED is step.outcome
    assert "did not end in the 1 hour that this run has waited" in str(step.detail)
    assert "pgrep" in str(step.hint)
    assert world.clock - START <= timedelta(hours=2)


def test_lease_that_is_held_when_a_run_is_old_is_waited_for(world: ModelWorld) -> None:
    """The time-out counts from when the lease was first refused: this run has waited for a CDN for
    longer than that, and not for the other run.
    """
    world.alive.add("run")
    run = LineageReconciler(world.wish(), world.ports("run"))
    world.pass_time(timedelta(hours=3))
    world.alive.add("another")
    held = world.state.seen_by("another").acquire("img", world.now())

    run.reconcile()

    assert [Outcome.WAITING] == [step.outcome for step in run.report().outcomes]
    world.state.seen_by("another").release(held)
    world.visit_to_the_end(run)
    assert run.report().ok


def test_lease_is_not_needed_to_look(world: ModelWorld) -> None:
    """A run with nothing to do takes no lease, so it never disturbs one that works."""
    synced(world)
    world.alive.add("another")
    world.state.seen_by("another").acquire("img", world.now())

    assert one_visit(world).is_unchanged


def test_without_a_lease_no_target_is_written_to(world: ModelWorld) -> None:
    """Whatever the plan says: no step is carried out."""
    synced(world)
    world.pass_time(timedelta(days=1))
    for _ in range(2):
        world.run(world.wish(), renew=True)
        world.pass_time(timedelta(days=1))
    world.cdn.add_domain(OTHER)
    ports = world.ports("run")
    plan = world.plan(world.wish())
    assert plan.rollouts
    observed = observe(world.wish(), ports)
    [target] = observed.targets
    reason = Reason(ReasonCode.SUPERSEDED, Text("superseded"))
    retirements = [Retire("qiniu", r.remote_id, r.label, reason) for r in target.remotes]
    assert retirements
    visit = StepContext(world.wish(), observed, ports, lease=None)
    before = world.cdn.writes, world.cdn.removals, world.cdn.uploads

    for step in (*plan.steps, *retirements):
        if not isinstance(step, Verify):
            with pytest.raises(LeaseLost):
                list(carry_out([step], visit))

    assert before == (world.cdn.writes, world.cdn.removals, world.cdn.uploads)


def test_stopped_run_says_so_and_gives_its_lease_back(world: ModelWorld) -> None:
    """Interrupted in the middle: told as skipped, and another run can begin at once."""

    class Stopped:
        def rate_limit_hold(self, *_: object, **__: object) -> None:
            return None

        def issue(self, *_: object) -> object:
            raise Interrupted(Text("stopped"))

    ports = replace(world.ports("run"), issuer=Stopped())  # type: ignore[arg-type]  # only `issue` is called
    world.alive.add("run")
    run = LineageReconciler(world.wish(), ports)
    with pytest.raises(Interrupted):
        run.reconcile()

    assert [Outcome.SKIPPED] == [step.outcome for step in run.report().outcomes]
    assert synced(world).ok


@pytest.mark.parametrize("method", ["upload", "bind", "retire"])
def test_stop_passes_through_every_step(method: str) -> None:
    """Whatever it was at, a stopped run ends at once, and the next one finishes."""
    world = ModelWorld()
    world.cdn.add_domain(IMG)
    if method == "retire":
        for _ in range(2):
            world.run(world.wish(), renew=True)
            world.pass_time(timedelta(days=1))

    class Run:
        def __getattr__(self, name: str) -> object:
            if name == method:
                raise Interrupted(Text("stopped"))
            return getattr(world.cdn, name)

    ports = replace(world.ports("run"), targets={"qiniu": Run()})  # type: ignore[dict-item]  # by name
    world.alive.add("run")
    run = LineageReconciler(world.wish(), ports, issuing_of(renew=method == "retire"))
    with pytest.raises(Interrupted):
        world.visit_to_the_end(run)
    world.alive.discard("run")

    assert synced(world).ok
    assert [] == world.cdn.broken


def test_run_that_was_overtaken_writes_to_no_target(world: ModelWorld) -> None:
    """Its lease was lost while it uploaded: the newer certificate of the other run stays bound."""

    class Slow:
        def __getattr__(self, name: str) -> object:
            return getattr(world.cdn, name)

        def upload(self, *arguments: object) -> str:
            remote_id = world.cdn.upload(*arguments)  # type: ignore[arg-type]  # passed on
            world.alive.discard("slow")
            other = world.run(world.wish(), renew=True)
            assert other is not None
            assert other.ok
            return remote_id

    world.alive.add("slow")
    ports = replace(world.ports("slow"), targets={"qiniu": Slow()})  # type: ignore[dict-item]  # by name
    run = LineageReconciler(world.wish(), ports)
    writes = world.cdn.writes
    run.reconcile()

    assert 1 == world.cdn.writes - writes
    newest = world.state.versions("img")[0].certificate.fingerprint
    assert {newest} == {address.fingerprint for address in world.cdn.served([IMG])[IMG]}


def test_another_run_that_finishes_first_leaves_nothing_to_do(world: ModelWorld) -> None:
    """Between looking and getting the lease the work was done: it is not done twice."""
    ports = world.ports("late")
    world.alive.add("late")

    def acquire(lineage: str, now: datetime) -> Lease:
        assert world.run(world.wish()) is not None
        return ports.state.acquire(lineage, now)

    late: Any = Altered(ports.state, acquire=acquire)
    run = LineageReconciler(world.wish(), replace(ports, state=late))
    world.visit_to_the_end(run)

    assert run.report().ok
    assert (1, 1, 1) == (world.issuer.issued, world.cdn.uploads, world.cdn.writes)

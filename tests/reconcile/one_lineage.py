"""Runs of a single lineage on a CDN with one domain."""

from __future__ import annotations

from certferry.core.planning.plan import Action
from certferry.core.planning.report import LineageReport, StepOutcome
from certferry.reconcile.reconciler import LineageReconciler
from certferry.reconcile.run import Ports
from certferry.values import replace
from tests.reconcile.model import ModelWorld

IMG = "img.example.com"
OTHER = "a.img.example.com"


def complete_run(world: ModelWorld) -> LineageReport:
    """Run for the default declaration to the end, and return the report: the fixture world's only
    domain serves its certificate, unless the test broke a port before.
    """
    report = world.run(world.desired())
    assert report is not None
    return report


def outcome(report: LineageReport, action: Action, domain: str | None = None) -> StepOutcome:
    """Return the only outcome of an action, at a domain if one is given."""
    (step,) = (o for o in report.outcomes if o.action is action and o.domain == domain)
    return step


def one_pass(world: ModelWorld, **ports: object) -> LineageReport:
    """Make one pass, with some ports replaced, and return the report so far."""
    ours: Ports = replace(world.ports("run"), **ports)  # type: ignore[arg-type]  # a test's shorthand
    world.alive.add("run")
    run = LineageReconciler(world.desired(), ours)
    run.reconcile()
    return run.report()

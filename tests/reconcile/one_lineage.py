"""One lineage on a CDN with one domain, and how to run it."""

from __future__ import annotations

from dataclasses import replace

from certferry.core.planning.report import LineageReport, StepOutcome
from certferry.core.planning.steps import Action
from certferry.reconcile.doors import Doors
from certferry.reconcile.lineage_run import LineageRun
from tests.reconcile.model import ModelWorld

IMG = "img.example.com"
OTHER = "a.img.example.com"


def synced(world: ModelWorld) -> LineageReport:
    """Run to the end."""
    report = world.run(world.wish())
    assert report is not None
    return report


def outcome(report: LineageReport, action: Action, domain: str | None = None) -> StepOutcome:
    """The outcome of one step."""
    (found,) = (o for o in report.outcomes if o.action is action and o.domain == domain)
    return found


def one_visit(world: ModelWorld, **doors: object) -> LineageReport:
    """Visit once, with some doors replaced, and tell how it stands."""
    ours: Doors = replace(world.doors("run"), **doors)  # type: ignore[arg-type]  # a test's shorthand
    world.alive.add("run")
    run = LineageRun(world.wish(), ours)
    run.visit()
    return run.report()

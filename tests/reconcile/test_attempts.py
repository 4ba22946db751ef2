"""Failed and refused attempts in the history: those that no step stores itself."""

from __future__ import annotations

from datetime import timedelta
from typing import cast

from certferry.core.events import Event, Happened
from certferry.core.observed.observation import ObservedTarget
from certferry.core.planning.report import LineageReport, Outcome, StepOutcome, SyncReport
from certferry.errors import PlanRefused, TargetAccessDenied
from certferry.ports.target import DeployTarget, Scope
from certferry.reconcile.attempts import record_attempts
from certferry.reconcile.run import history_keeper
from certferry.text import Quoted, Text
from tests.reconcile.model import ModelWorld
from tests.reconcile.one_lineage import IMG, complete_run, one_pass

REFUSED = TargetAccessDenied(Text("{account} refuses the key of {domain}", account="q", domain=IMG))


class _RefusesTheKey:
    """A target that refuses the key of the account."""

    def observe(self, scope: Scope) -> ObservedTarget:
        del scope
        raise REFUSED


def history(world: ModelWorld) -> list[tuple[str, str]]:
    """Return each entry's event and problem, the newest first."""
    return [
        (entry.event, str(entry.facts.get("problem", "")))
        for entry in world.state.history("img", 50)
    ]


def attempt(world: ModelWorld, **ports: object) -> None:
    """Make a pass of a run, and store its attempts as the end of a run does."""
    keep = history_keeper(world.state, world.now, "tester")
    record_attempts(SyncReport((one_pass(world, **ports),)), world.state, world.now(), keep)


def test_refused_key_is_in_the_history(world: ModelWorld) -> None:
    """Once a day, and again after a success in between."""
    refusing = {"qiniu": cast("DeployTarget", _RefusesTheKey())}
    attempt(world, targets=refusing)
    world.pass_time(timedelta(hours=12))
    attempt(world, targets=refusing)
    assert ("failed", str(REFUSED)) == history(world)[0]
    assert 1 == history(world).count(("failed", str(REFUSED)))

    world.pass_time(timedelta(hours=12))
    attempt(world, targets=refusing)
    assert 2 == history(world).count(("failed", str(REFUSED)))

    complete_run(world)
    attempt(world, targets=refusing)
    assert 3 == history(world).count(("failed", str(REFUSED)))


def test_quoted_words_are_not_kept_for_ever(world: ModelWorld) -> None:
    """The sentence is stored as a sentence, with a mark in place of a service's words."""
    refused = PlanRefused(Text("not now: {words}", words=Quoted("secret words")))
    outcomes = (StepOutcome.of(None, refused, Outcome.REFUSED),)
    report = SyncReport((LineageReport("img", None, outcomes),))
    events: list[Event] = []

    record_attempts(report, world.state, world.now(), events.append)

    problem = Text("not now: {words}", words="…")
    assert [Happened("img", "refused", {"problem": problem})] == events

"""How often the engine asks the state: a thousand waiting domains share one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from certferry.reconcile.reconciler import LineageReconciler
from tests.reconcile.company import Counted
from tests.reconcile.model import ModelWorld
from tests.reconcile.one_lineage import IMG

MOST_PER_VISIT = 1.5
"""Version 0.1 made 231 calls in 34 visits. What is left is mostly the one reading at each visit."""


def test_a_life_of_visits_asks_the_state_seldom() -> None:
    """From nothing to an edge verified, with a change that takes forty minutes."""
    world = ModelWorld(processing=timedelta(minutes=40))
    world.cdn.add_domain(IMG)
    world.alive.add("run")
    ports = world.ports("run")
    state: Any = Counted(ports.state)
    visits = 0

    class Run(LineageReconciler):
        def reconcile(self) -> Any:
            nonlocal visits
            visits += 1
            return super().reconcile()

    run = Run(world.wish(), replace(ports, state=state))
    world.visit_to_the_end(run)

    assert run.report().ok
    assert visits >= 30
    assert state.calls.total() <= MOST_PER_VISIT * visits, state.calls

"""How many certificates one run removes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from certferry.core.steps import Retire
from certferry.text import Text

MOST_SUPERSEDED, MOST_UNMANAGED = 20, 50
"""Copies that one run removes: of a lineage, and of what nothing uses in an account. It is few of
each day's; a mistake that removes everything would be noticed before it has."""


def in_one_run(steps: Iterable[Retire]) -> tuple[tuple[Retire, ...], Counter[str]]:
    """Return what one run may remove, and how many are left to later runs at each target. What was
    tried in vain before comes last: else it would keep what can be removed from its turn.
    """
    chosen: list[Retire] = []
    left: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    for step in sorted(steps, key=lambda step: step.again):
        whose, most = allowance(step)
        taken[whose] += 1
        if taken[whose] <= most:
            chosen.append(step)
        else:
            left[step.target] += 1
    return tuple(chosen), left


def allowance(step: Retire) -> tuple[str, int]:
    """Return what a step counts against, and how many of these a run may remove. What is unmanaged
    belongs to its account, whichever lineage removes it.
    """
    return (step.target, MOST_UNMANAGED) if step.unmanaged else ("", MOST_SUPERSEDED)


def left_to_later_runs(count: int) -> Text:
    """Say that a run removes only so many."""
    return Text("certificates that later runs remove: {count}", count=count)

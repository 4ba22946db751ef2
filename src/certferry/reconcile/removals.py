"""How many certificates a run has removed, over all its lineages and their visits."""

from __future__ import annotations

import threading

from certferry.core.removal_limits import allowance
from certferry.core.steps import Retire
from certferry.reconcile.visit import Visit

_lock = threading.Lock()
"""Lineages are visited side by side."""


def may_remove(step: Retire, visit: Visit) -> bool:
    """Count a removal that is about to be tried; tell whether the run may."""
    whose, most = allowance(step)
    key = ("", whose) if step.unmanaged else (visit.lineage, whose)
    with _lock:
        visit.removed[key] += 1
        return visit.removed[key] <= most

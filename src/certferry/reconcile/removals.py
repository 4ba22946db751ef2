"""How many certificates a run has removed, over all its lineages and their visits."""

from __future__ import annotations

import threading
from collections import Counter

from certferry.core.plan import Retire
from certferry.core.retirements import allowance


class Removals:
    """Counts for one run what `core.retirements` allows to each. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: Counter[tuple[str, str]] = Counter()

    def take(self, lineage: str, step: Retire) -> bool:
        """Count a removal that is about to be tried; tell whether it may be."""
        whose, most = allowance(step)
        key = ("", whose) if step.unmanaged else (lineage, whose)
        with self._lock:
            self._taken[key] += 1
            return self._taken[key] <= most

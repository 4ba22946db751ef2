"""Drift that is left as it was found: the history is told once of it, and of its end."""

from __future__ import annotations

from dataclasses import replace

from certferry.core.observed.records import RolloutRecord
from certferry.core.planning.drift import Drifted, in_one_line
from certferry.reconcile.visit import Visit


def note_drift(drifted: Drifted, visit: Visit) -> None:
    """Tell the history once of a drift that is left as it is."""
    _, domain = visit.observed.locate(drifted.target, drifted.domain)
    found, last = in_one_line(drifted.changes), domain.last
    if last is None or last.drift == found:
        return
    if visit.doors.state.replace_rollout(last, replace(last, drift=found)):
        visit.tell("drift found", target=drifted.target, domain=drifted.domain, found=found)


def note_end_of_drift(last: RolloutRecord, visit: Visit) -> None:
    """Tell that a domain is as declared again; `last` is what is remembered of it."""
    if visit.doors.state.replace_rollout(last, replace(last, drift=None)):
        visit.tell("drift over", target=last.target, domain=last.domain)

"""What pages and the API show of plans and of domains as they stand now: observed once for all who
ask, by the functions whose findings the commands print.
"""

from __future__ import annotations

from collections.abc import Sequence

from certferry.console.observing import Found
from certferry.console.site import Site
from certferry.core.planning.plan import Plan
from certferry.reconcile.run import Run
from certferry.reconcile.status import plans_of
from certferry.wiring.recorded import recorded
from certferry.wiring.workspace import Overview, overview

# The workspace in force is asked, so that these share the pace of each account with the runs.


def plans(
    site: Site, lineage: str | None = None, *, renew: bool = False, anew: bool = False
) -> Found[Sequence[Plan]]:
    """Return what `sync` would do, for all certificates or for one; with `renew` as there."""

    def observe() -> Sequence[Plan]:
        workspace = site.workspace()
        meant = [one for one in workspace.certificates if lineage in {None, one.lineage}]
        return plans_of(workspace.connect(Run(), declares=False), meant, renew=renew)

    return site.observer.latest(("plan", lineage, renew), observe, anew=anew)


def standings(site: Site, *, anew: bool = False) -> Found[Overview]:
    """Return how each certificate and each domain stands."""

    def observe() -> Overview:
        workspace = site.workspace()
        state = workspace.state
        known = recorded(workspace.settings, state, state.now())
        return overview(workspace, Run(), known)

    return site.observer.latest("status", observe, anew=anew)

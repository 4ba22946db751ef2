"""Keep what a run has left, for `status`, for monitoring and for what is told: when it ended, and
what is in trouble since.
"""

from __future__ import annotations

import logging

from certferry.core.notice import Notice
from certferry.core.noticed import has_news, noticed
from certferry.core.report import SyncReport
from certferry.errors import StateError
from certferry.reconcile.doors import Doors
from certferry.text import Text

_log = logging.getLogger(__name__)


def keep_end(report: SyncReport, doors: Doors) -> None:
    """Keep when a run ended and what it has left; that it cannot be kept fails nothing."""
    try:
        doors.state.save_run(doors.now(), succeeded=report.has_succeeded)
        _keep_troubles(report, doors)
    except StateError as error:
        _log.warning(Text("could not record the end of the run: {problem}", problem=error.message))


def _keep_troubles(report: SyncReport, doors: Doors) -> None:
    """Keep what stands now. A run that finds nothing to do only reads."""
    state, now = doors.state, doors.now()
    before = state.notices()
    if not before and not has_news(report):
        return
    versions = {one.lineage: state.versions(one.lineage) for one in report.lineages if not one.ok}

    def change(before: tuple[Notice, ...]) -> tuple[Notice, ...]:
        return noticed(report, before, now, versions=versions, declared=doors.claims.lineages)

    if set(change(before)) != set(before):
        state.update_notices(change)

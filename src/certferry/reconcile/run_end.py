"""Keep what a run has left of trouble, for `status`, where no channel is told."""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import datetime

from certferry.core.notice import Notice
from certferry.core.noticed import has_news, noticed
from certferry.core.report import SyncReport
from certferry.errors import StateError
from certferry.ports.state import StateStore
from certferry.text import Text

_log = logging.getLogger(__name__)


def keep_troubles(
    report: SyncReport, state: StateStore, now: datetime, *, declared: Collection[str]
) -> None:
    """Keep what stands after a run; that it cannot be kept fails nothing. A run that finds nothing
    to do only reads. Of what is not `declared` any more, nothing stands.
    """
    try:
        before = state.notices()
        if before or has_news(report):
            _keep(report, state, before, now, declared)
    except StateError as error:
        _log.warning(Text("could not record what the run left: {problem}", problem=error.message))


def _keep(
    report: SyncReport,
    state: StateStore,
    before: tuple[Notice, ...],
    now: datetime,
    declared: Collection[str],
) -> None:
    failed = [one.lineage for one in report.lineages if not one.ok]
    versions = {lineage: state.versions(lineage) for lineage in failed}

    def change(stood: tuple[Notice, ...]) -> tuple[Notice, ...]:
        return noticed(report, stood, now, versions=versions, declared=declared)

    if set(change(before)) != set(before):
        state.update_notices(change)

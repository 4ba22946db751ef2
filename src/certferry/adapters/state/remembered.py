"""All that is remembered of one lineage, read at one moment."""

from __future__ import annotations

from certferry.adapters.state.acme import IssueTries
from certferry.adapters.state.columns import to_moment
from certferry.adapters.state.database import Database
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.targets import Rollouts, Uploads
from certferry.adapters.state.versions import Versions
from certferry.core.remembered import Remembered


class Lineages:
    """What every table with a lineage in it says of one."""

    def __init__(self, database: Database, sealing: Sealing) -> None:
        self._database = database
        self._versions = Versions(database, sealing)
        self._tries = IssueTries(database)
        self._uploads = Uploads(database, sealing)
        self._rollouts = Rollouts(database)

    def remembered(self, lineage: str) -> Remembered:
        """All that is remembered of a lineage; nothing is unsealed."""
        with self._database.snapshot():
            orders = self._database.rows(
                "SELECT created_at FROM acme_order WHERE lineage = ?", lineage
            )
            records = self._database.rows(
                "SELECT 1 FROM challenge_record WHERE lineage = ? LIMIT 1", lineage
            )
            return Remembered(
                self._versions.versions(lineage),
                next((to_moment(created_at) for (created_at,) in orders), None),
                *self._tries.last(lineage),
                self._uploads.of_lineage(lineage),
                self._rollouts.rollouts(lineage),
                bool(records),
            )

"""All that the state holds of one lineage, read at one moment."""

from __future__ import annotations

from certferry.adapters.state.columns import (
    to_moment,
    to_names,
    to_optional_key_type,
    to_optional_moment,
)
from certferry.adapters.state.database import Database
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.targets import Rollouts, Uploads, Withdrawals
from certferry.adapters.state.versions import Versions
from certferry.core.ordered import Ordered
from certferry.core.remembered import Remembered

# One question instead of three: each costs more than its answer, with many threads at it.
_MOMENTS = (
    "SELECT (SELECT created_at FROM acme_order WHERE lineage = ?),"
    " (SELECT names FROM acme_order WHERE lineage = ?),"
    " (SELECT key_type FROM acme_order WHERE lineage = ?),"
    " (SELECT tried_at FROM issue_try WHERE lineage = ?),"
    " (SELECT rejected_at FROM issue_try WHERE lineage = ?),"
    " (SELECT tries FROM issue_try WHERE lineage = ?),"
    " (SELECT failing_since FROM issue_try WHERE lineage = ?),"
    " EXISTS (SELECT 1 FROM challenge_record WHERE lineage = ?),"
    " EXISTS (SELECT 1 FROM withdrawal WHERE lineage = ?)"
)


class Lineages:
    """What every table with a lineage in it says of one."""

    def __init__(self, database: Database, sealing: Sealing) -> None:
        self._database = database
        self._versions = Versions(database, sealing)
        self._uploads = Uploads(database, sealing)
        self._rollouts = Rollouts(database)
        self._withdrawals = Withdrawals(database)

    def remembered(self, lineage: str) -> Remembered:
        """All that is remembered of a lineage; nothing is unsealed."""
        with self._database.snapshot():
            [row] = self._database.rows(_MOMENTS, *[lineage] * 9)
            *order, tried_at, rejected_at, tries, failing_since, has_records, has_withdrawals = row
            return Remembered(
                self._versions.versions(lineage),
                _ordered(*order),
                to_optional_moment(tried_at),
                to_optional_moment(rejected_at),
                self._uploads.of_lineage(lineage),
                self._rollouts.of_lineage(lineage),
                bool(has_records),
                self._withdrawals.withdrawals(lineage) if has_withdrawals else (),
                tries or 0,
                to_optional_moment(failing_since),
            )


def _ordered(at: str | None, names: str | None, key_type: str | None) -> Ordered | None:
    if at is None or names is None:
        return None
    return Ordered(to_moment(at), to_names(names), to_optional_key_type(key_type))

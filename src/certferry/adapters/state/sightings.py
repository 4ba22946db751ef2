"""What every place of a certificate was last seen to have."""

from __future__ import annotations

from collections.abc import Callable

from certferry.adapters.state.columns import from_moment, to_moment
from certferry.adapters.state.database import Database
from certferry.core.sighting import Sighting


class Sightings:
    """Rows by lineage, target and domain."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def sightings(self) -> tuple[Sighting, ...]:
        """See `StateStore.sightings`."""
        rows = self._database.rows(
            "SELECT lineage, target, domain, served, since, fingerprint FROM sighting"
            " ORDER BY lineage, target, domain"
        )
        return tuple(
            Sighting(lineage, target, domain, bool(served), to_moment(since), fingerprint)
            for lineage, target, domain, served, since, fingerprint in rows
        )

    def update_sightings(
        self, change: Callable[[tuple[Sighting, ...]], tuple[Sighting, ...]]
    ) -> tuple[Sighting, ...]:
        """See `StateStore.update_sightings`."""
        with self._database.transaction(serializable=True) as connection:
            before = {one.place: one for one in self.sightings()}
            after = {one.place: one for one in change(tuple(before.values()))}
            for place in before.keys() - after.keys():
                connection.execute(
                    "DELETE FROM sighting WHERE lineage = ? AND target = ? AND domain = ?", place
                )
            for place, one in after.items():
                if before.get(place) != one:
                    connection.execute(
                        "INSERT INTO sighting (lineage, target, domain, served, since, fingerprint)"
                        " VALUES (?, ?, ?, ?, ?, ?)"
                        " ON CONFLICT (lineage, target, domain) DO UPDATE SET"
                        " served = excluded.served, since = excluded.since,"
                        " fingerprint = excluded.fingerprint",
                        (*place, int(one.served), from_moment(one.since), one.fingerprint),
                    )
        return tuple(after[place] for place in sorted(after))

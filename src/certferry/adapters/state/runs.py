"""When the last run ended, and the last in which nothing failed."""

from __future__ import annotations

from datetime import datetime

from certferry.adapters.state.columns import from_moment, to_moment, to_optional_moment
from certferry.adapters.state.database import Database
from certferry.core.history import LastRun


class Runs:
    """One row: what came before the last run is in the history."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save_run(self, ended_at: datetime, *, succeeded: bool) -> None:
        """Keep when a run ended, and whether nothing failed in it."""
        moment = from_moment(ended_at)
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO last_run (id, ended_at, succeeded_at) VALUES (1, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET ended_at = excluded.ended_at,"
                " succeeded_at = COALESCE(excluded.succeeded_at, last_run.succeeded_at)",
                (moment, moment if succeeded else None),
            )

    def last_run(self) -> LastRun | None:
        """When the last run ended, `None` before the first."""
        for ended_at, succeeded_at in self._database.rows(
            "SELECT ended_at, succeeded_at FROM last_run"
        ):
            return LastRun(to_moment(ended_at), to_optional_moment(succeeded_at))
        return None

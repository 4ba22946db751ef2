"""What happened, for ever: the schema itself refuses to change or remove a row."""

from __future__ import annotations

from certferry.adapters.state.columns import from_facts, from_moment, to_facts, to_moment
from certferry.adapters.state.database import Database
from certferry.core.history import HistoryEntry


class History:
    """Entries in the order in which they were appended."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append_history(self, entry: HistoryEntry) -> None:
        """Write down what happened. Never changed, never removed."""
        with self._database.transaction(serializable=True) as connection:
            connection.execute(
                "INSERT INTO history (number, at, lineage, event, who, facts)"
                " SELECT COALESCE(MAX(number), 0) + 1, ?, ?, ?, ?, ? FROM history",
                (
                    from_moment(entry.at),
                    entry.lineage,
                    entry.event,
                    entry.who,
                    from_facts(entry.facts),
                ),
            )

    def history(self, lineage: str | None, limit: int) -> tuple[HistoryEntry, ...]:
        """What happened, newest first, of one lineage or of all."""
        columns = "SELECT at, lineage, event, who, facts FROM history"
        order = "ORDER BY number DESC LIMIT ?"
        rows = (
            self._database.rows(f"{columns} {order}", limit)
            if lineage is None
            else self._database.rows(f"{columns} WHERE lineage = ? {order}", lineage, limit)
        )
        return tuple(
            HistoryEntry(to_moment(at), of_lineage, event, who, to_facts(facts))
            for at, of_lineage, event, who, facts in rows
        )

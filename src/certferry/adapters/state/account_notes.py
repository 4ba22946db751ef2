"""What adapters remember of accounts between runs."""

from __future__ import annotations

from certferry.adapters.state.database import Database
from certferry.ports.account_memory import Edit


class AccountNotes:
    """Short texts by account and name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def account_note(self, account: str, name: str) -> str | None:
        """Return what a note says, `None` where there is none."""
        rows = self._database.rows(
            "SELECT text FROM account_note WHERE account = ? AND name = ?", account, name
        )
        return next((str(text) for (text,) in rows), None)

    def update_account_note(self, account: str, name: str, change: Edit) -> str | None:
        """Change a note in one transaction, and return what it says now."""
        with self._database.transaction(serializable=True) as connection:
            before = self.account_note(account, name)
            after = change(before)
            if after is None:
                connection.execute(
                    "DELETE FROM account_note WHERE account = ? AND name = ?", (account, name)
                )
            elif after != before:
                connection.execute(
                    "INSERT INTO account_note (account, name, text) VALUES (?, ?, ?)"
                    " ON CONFLICT (account, name) DO UPDATE SET text = excluded.text",
                    (account, name, after),
                )
        return after
